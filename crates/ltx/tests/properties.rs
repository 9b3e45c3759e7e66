//! What must hold for every file: identity, detection of damage, merging as a model does it, no panic on any bytes.
#![allow(clippy::unwrap_used, reason = "a failure is the test's verdict")]

use base::{Checksum, Epoch, Pgno, Timestamp, Txid};
use ltx::{
    DecodeError, Decoder, EncodeError, Encoder, Header, Index, IndexProblem, MergeError, PageProblem,
    Rolling, Trailer, merge, page_checksum, read_page,
};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use proptest::sample::Index as Pick;
use std::collections::BTreeMap;

type Pages = BTreeMap<u32, Vec<u8>>;

fn header(page_size: u32, commit: u32, min: u64, max: u64) -> Header {
    Header {
        page_size,
        commit,
        min_txid: Txid(min),
        max_txid: Txid(max),
        timestamp: Timestamp(1_700_000_000_000 + max.cast_signed()),
        wal_offset: 32,
        wal_size: 4120,
        wal_salt1: 7,
        wal_salt2: 8,
        epoch: Epoch(3),
        checksum_after: Checksum::NONE,
        checksum_before: Checksum::NONE,
        wal_frame_checksum: 0xdead_beef,
    }
}

fn encode(header: Header, pages: &Pages) -> Result<Vec<u8>, EncodeError> {
    let mut encoder = Encoder::new(Vec::new(), header)?;
    for (pgno, page) in pages {
        encoder.page(Pgno(*pgno), page)?;
    }
    let (bytes, finished) = encoder.finish()?;
    assert_eq!(finished.bytes, bytes.len() as u64);
    assert_eq!(finished.file_checksum.to_be_bytes(), bytes[bytes.len() - 8..]);
    Ok(bytes)
}

fn decode(bytes: &[u8]) -> Result<(Header, Pages, Trailer), DecodeError> {
    let mut decoder = Decoder::new(bytes)?;
    let header = *decoder.header();
    let mut page = vec![0; header.page_size as usize];
    let mut pages = Pages::new();
    while let Some(pgno) = decoder.next_page(&mut page)? {
        pages.insert(pgno.0, page.clone());
    }
    Ok((header, pages, decoder.finish()?))
}

/// A page of one of the kinds that databases are made of: zeroes, text, noise, half of each.
fn page(page_size: u32, kind: u8, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut noise = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    let text = format!("row {seed} of a table, ");
    (0..page_size as usize)
        .map(|at| match kind % 4 {
            0 => 0,
            1 => text.as_bytes()[at % text.len()],
            2 => noise(),
            _ if at < page_size as usize / 2 => noise(),
            _ => 0x20,
        })
        .collect()
}

fn page_sizes() -> impl Strategy<Value = u32> {
    (9u32..=16).prop_map(|bits| 1 << bits)
}

/// A page size, the pages after the commit, and some of them with contents.
fn some_pages() -> impl Strategy<Value = (u32, u32, Pages)> {
    (page_sizes(), 1u32..60)
        .prop_flat_map(|(page_size, commit)| {
            let pages = btree_set(1..=commit, 0..=commit.min(20) as usize);
            (Just(page_size), Just(commit), pages, any::<u8>(), any::<u64>())
        })
        .prop_map(|(page_size, commit, pgnos, kind, seed)| {
            let of = |pgno: u32| page(page_size, kind.wrapping_add(pgno as u8), seed ^ u64::from(pgno));
            (page_size, commit, pgnos.into_iter().map(|pgno| (pgno, of(pgno))).collect())
        })
}

fn sum(pages: &Pages) -> Checksum {
    let mut rolling = Rolling::default();
    pages.iter().for_each(|(pgno, page)| rolling.toggle(page_checksum(Pgno(*pgno), page)));
    rolling.value()
}

/// One seal of a model database: new size, pages overwritten.
#[derive(Clone, Debug)]
struct Seal {
    commit: u32,
    touched: Vec<Pick>,
    seed: u64,
    kind: u8,
}

fn seals() -> impl Strategy<Value = Vec<Seal>> {
    let seal = (1u32..24, vec(any::<Pick>(), 0..5), any::<u64>(), any::<u8>())
        .prop_map(|(commit, touched, seed, kind)| Seal { commit, touched, seed, kind });
    vec(seal, 1..10)
}

/// The file of each seal and the database after each.
fn play(page_size: u32, seals: &[Seal]) -> Vec<(Vec<u8>, Pages)> {
    let mut database = Pages::new();
    let mut out: Vec<(Vec<u8>, Pages)> = Vec::new();
    for (txid, seal) in (1..).zip(seals) {
        let before = sum(&database);
        let grown = database.len() as u32 + 1..=seal.commit;
        let touched = seal.touched.iter().map(|pick| pick.index(seal.commit as usize) as u32 + 1);
        let written: Pages = grown
            .chain(touched)
            .map(|pgno| (pgno, page(page_size, seal.kind, seal.seed ^ u64::from(pgno))))
            .collect();
        database.extend(written.clone());
        database.retain(|pgno, _| *pgno <= seal.commit);
        let mut header = header(page_size, seal.commit, txid, txid);
        header.checksum_before = before;
        header.checksum_after = sum(&database);
        out.push((encode(header, &written).unwrap(), database.clone()));
    }
    out
}

fn merged(files: &[&[u8]]) -> Vec<u8> {
    let inputs = files.iter().map(|file| Decoder::new(*file).unwrap()).collect();
    merge(inputs, Vec::new()).unwrap().0
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn what_is_encoded_is_decoded_again((page_size, commit, pages) in some_pages(), txid in 2u64..u64::MAX) {
        let header = header(page_size, commit, txid, txid);
        let bytes = encode(header, &pages).unwrap();
        let (same_header, same_pages, trailer) = decode(&bytes).unwrap();
        prop_assert_eq!(header, same_header);
        prop_assert_eq!(&pages, &same_pages);
        prop_assert_eq!(trailer.bytes, bytes.len() as u64);
        prop_assert_eq!(trailer.pages as usize, pages.len());
    }

    #[test]
    fn random_reads_through_the_index_equal_the_stream((page_size, commit, pages) in some_pages()) {
        let bytes = encode(header(page_size, commit, 2, 9), &pages).unwrap();
        let (_, index) = Index::read(&bytes).unwrap();
        prop_assert_eq!(index.len(), pages.len());
        prop_assert!(index.iter().map(|(pgno, _)| pgno.0).eq(pages.keys().copied()));
        let mut out = vec![0; page_size as usize];
        for pgno in 0..=commit + 1 {
            let found = index.find(Pgno(pgno));
            prop_assert_eq!(found.is_some(), pages.contains_key(&pgno));
            let Some(frame) = found else { continue };
            read_page(&bytes, frame, Pgno(pgno), page_size, &mut out).unwrap();
            prop_assert_eq!(&out, &pages[&pgno]);
            let elsewhere = read_page(&bytes, frame, Pgno(pgno + 1), page_size, &mut out);
            prop_assert!(elsewhere.is_err());
        }
    }

    #[test]
    fn merging_equals_applying_in_order(seals in seals(), bits in 9u32..13, cut in any::<Pick>()) {
        let files = play(1 << bits, &seals);
        let all: Vec<&[u8]> = files.iter().map(|(bytes, _)| bytes.as_slice()).collect();
        let at_once = merged(&all);
        let (header, pages, _) = decode(&at_once).unwrap();
        let expected = &files[files.len() - 1].1;
        prop_assert_eq!(&pages, expected);
        prop_assert_eq!(header.commit as usize, expected.len());
        prop_assert_eq!(header.checksum_after, sum(expected));
        prop_assert_eq!((header.min_txid, header.max_txid), (Txid(1), Txid(files.len() as u64)));

        let cut = cut.index(files.len());
        if cut > 0 {
            let halves = [merged(&all[..cut]), merged(&all[cut..])];
            let again = merged(&[halves[0].as_slice(), halves[1].as_slice()]);
            prop_assert_eq!(again, at_once);
        }
    }

    #[test]
    fn an_overlap_of_ranges_does_not_change_the_result(seals in seals(), from in any::<Pick>()) {
        let files = play(512, &seals);
        let all: Vec<&[u8]> = files.iter().map(|(bytes, _)| bytes.as_slice()).collect();
        let from = from.index(files.len());
        prop_assume!(from > 0 && files.len() > from + 1);
        let early = merged(&all[..=from]);
        let late = merged(&all[from..]);
        let (_, pages, _) = decode(&merged(&[early.as_slice(), late.as_slice()])).unwrap();
        prop_assert_eq!(&pages, &files[files.len() - 1].1);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..600), page_bits in 9u32..17) {
        let _ = decode(&bytes);
        let _ = Index::read(&bytes);
        let mut page = vec![0; 1 << page_bits];
        let frame = ltx::Frame { offset: 0, size: bytes.len() as u32 };
        let _ = read_page(&bytes, frame, Pgno(1), 1 << page_bits, &mut page);
        let mut behind_a_header = header(1 << page_bits, 40, 2, 2).encode().to_vec();
        behind_a_header.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0x04, 0x22, 0x4d, 0x18, 0x64, 0x40, 0xa7]);
        behind_a_header.extend_from_slice(&bytes);
        let _ = decode(&behind_a_header);
        let _ = Index::read(&behind_a_header);
    }

    #[test]
    fn a_file_with_some_bytes_replaced_never_passes(
        (page_size, commit, pages) in some_pages(),
        replaced in vec((any::<Pick>(), any::<u8>()), 1..8),
    ) {
        let bytes = encode(header(page_size, commit, 2, 2), &pages).unwrap();
        let mut other = bytes.clone();
        for (at, byte) in replaced {
            let at = at.index(bytes.len());
            other[at] = byte;
        }
        let _ = Index::read(&other);
        if let Ok((header, same_pages, _)) = decode(&other) {
            // LZ4 can say the same in several ways.
            prop_assert_eq!(&header.encode()[..], &bytes[..100]);
            prop_assert_eq!(same_pages, pages);
        }
    }
}

/// Every flip must fail, or (where LZ4 can say the same in several ways) decode to the very same file.
fn assert_flips_are_seen(bytes: &[u8]) -> usize {
    let original = decode(bytes).unwrap();
    let mut other = bytes.to_vec();
    let mut harmless = 0;
    for bit in 0..bytes.len() * 8 {
        other[bit / 8] ^= 1 << (bit % 8);
        if let Ok(decoded) = decode(&other) {
            assert_eq!(decoded, original, "bit {bit}");
            harmless += 1;
        }
        other[bit / 8] ^= 1 << (bit % 8);
    }
    harmless
}

// semantics: checked
#[test]
fn every_bit_flip_is_seen() {
    let noise: Pages = (1..=4).map(|pgno| (pgno, page(512, 2, u64::from(pgno)))).collect();
    let mut whole = header(512, 4, 1, 5);
    whole.checksum_after = sum(&noise);
    assert_eq!(assert_flips_are_seen(&encode(whole, &noise).unwrap()), 0);
    let text: Pages = (1..=4).map(|pgno| (pgno, page(1024, pgno as u8, 77))).collect();
    let bytes = encode(header(1024, 4, 2, 2), &text).unwrap();
    assert!(assert_flips_are_seen(&bytes) * 500 < bytes.len() * 8);
}

// semantics: checked
#[test]
fn every_truncation_and_every_byte_more_is_seen() {
    let pages: Pages = (1..=40).map(|pgno| (pgno, page(512, pgno as u8, 5))).collect();
    let mut bytes = encode(header(512, 40, 1, 1), &pages).unwrap();
    for len in 0..bytes.len() {
        assert!(matches!(decode(&bytes[..len]), Err(DecodeError::Truncated)), "cut at {len}");
        assert!(Index::read(&bytes[..len].to_vec()).is_err(), "cut at {len}");
    }
    bytes.push(0);
    assert!(matches!(decode(&bytes), Err(DecodeError::TrailingBytes)));
    assert!(Index::read(&bytes).is_err());
}

#[test]
fn a_page_that_does_not_shrink_is_stored_as_it_is() {
    let pages = Pages::from([(1, page(4096, 2, 9))]);
    let bytes = encode(header(4096, 1, 2, 2), &pages).unwrap();
    assert!(bytes.windows(4096).any(|part| part == pages[&1]));
    assert_eq!(bytes[113..117], (4096u32 | 1 << 31).to_le_bytes());
}

#[test]
fn a_snapshot_lacks_no_page_and_adds_up() {
    let pages: Pages = (1..=3).map(|pgno| (pgno, page(512, 1, u64::from(pgno)))).collect();
    let missing = |pgno, result| match result {
        Err(EncodeError::Page { pgno: found, problem: PageProblem::Missing }) => assert_eq!(found, pgno),
        other => panic!("{other:?}"),
    };
    missing(4, encode(header(512, 4, 1, 1), &pages));
    let mut gap = pages.clone();
    gap.remove(&2);
    missing(2, encode(header(512, 3, 1, 1), &gap));
    missing(1, encode(header(512, 3, 1, 1), &Pages::new()));

    let mut wrong = header(512, 3, 1, 1);
    wrong.checksum_after = Checksum(sum(&pages).0 ^ 1);
    assert!(matches!(encode(wrong, &pages), Err(EncodeError::DatabaseChecksum { .. })));

    // The same, from a writer that did not look.
    let mut bytes = encode(Header { checksum_after: sum(&pages), ..wrong }, &pages).unwrap();
    assert!(decode(&bytes).is_ok());
    bytes[..100].copy_from_slice(&wrong.encode());
    reseal(&mut bytes, &pages);
    assert!(matches!(decode(&bytes), Err(DecodeError::DatabaseChecksum { .. })));
}

#[test]
fn an_index_that_differs_from_the_pages_is_seen_under_a_right_checksum() {
    let pages: Pages = (1..=3).map(|pgno| (pgno, page(512, 1, u64::from(pgno)))).collect();
    let sealed = encode(header(512, 9, 2, 2), &pages).unwrap();
    let mut same = sealed.clone();
    reseal(&mut same, &pages);
    assert_eq!(same, sealed);
    for at in index_start(&sealed)..sealed.len() - 16 {
        let mut bytes = sealed.clone();
        bytes[at] ^= 4;
        reseal(&mut bytes, &pages);
        assert!(matches!(decode(&bytes), Err(DecodeError::Index(_))), "byte {at}");
        // A wrong page number that fits the order shows when the page is read.
        let reads_all = Index::read(&bytes).and_then(|(_, index)| {
            index.iter().try_for_each(|(pgno, frame)| read_page(&bytes, frame, pgno, 512, &mut [0; 512]))
        });
        assert!(reads_all.is_err(), "byte {at}");
    }
}

fn index_start(sealed: &[u8]) -> usize {
    let end = sealed.len() - 24;
    end - usize::from(sealed[end + 7])
}

/// Gives a file that was tampered with the checksum that its writer would have given it.
fn reseal(bytes: &mut [u8], pages: &Pages) {
    let (_, index) = Index::read(&encode(header(512, 9, 2, 2), pages).unwrap()).unwrap();
    let mut crc = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64GoIso);
    crc.update(&bytes[..100]);
    let mut end = 100;
    for (pgno, frame) in &index {
        crc.update(&bytes[frame.offset as usize..frame.offset as usize + 6]);
        crc.update(&pages[&pgno.0]);
        end = frame.offset as usize + frame.size as usize;
    }
    let len = bytes.len();
    crc.update(&bytes[end..len - 8]);
    bytes[len - 8..].copy_from_slice(&(crc.finalize() | 1 << 63).to_be_bytes());
}

#[test]
fn pages_come_in_order_within_the_commit_and_without_the_lock_page() {
    let full = page(65_536, 1, 1);
    let mut encoder = Encoder::new(Vec::new(), header(65_536, 20_000, 2, 2)).unwrap();
    let problem = |result: Result<(), EncodeError>| match result {
        Err(EncodeError::Page { problem, .. }) => problem,
        other => panic!("{other:?}"),
    };
    encoder.page(Pgno(16_384), &full).unwrap();
    assert_eq!(problem(encoder.page(Pgno(16_384), &full)), PageProblem::OutOfOrder { previous: 16_384 });
    assert_eq!(problem(encoder.page(Pgno(16_385), &full)), PageProblem::LockPage);
    assert_eq!(problem(encoder.page(Pgno(16_386), &full[1..])), PageProblem::PageLength);
    encoder.page(Pgno(16_386), &full).unwrap();
    assert_eq!(problem(encoder.page(Pgno(20_001), &full)), PageProblem::BeyondCommit { commit: 20_000 });
    let bytes = encoder.finish().unwrap().0;
    assert_eq!(decode(&bytes).unwrap().1.len(), 2);
}

#[test]
fn lengths_are_not_believed() {
    let page = |rest: &[u8]| {
        let mut bytes = header(4096, 9, 2, 2).encode().to_vec();
        bytes.extend_from_slice(rest);
        match decode(&bytes) {
            Err(DecodeError::Page { problem, .. }) => problem,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(page(&[0, 0, 0, 1, 0, 1, 0xff, 0xff, 0xff, 0xff]), PageProblem::FrameLength);
    let lz4 = [0, 0, 0, 1, 0, 0, 0x04, 0x22, 0x4d, 0x18, 0x64, 0x40, 0xa7];
    assert_eq!(page(&[&lz4[..], &[0xff, 0xff, 0xff, 0x7f]].concat()), PageProblem::FrameLength);
    assert_eq!(page(&[&lz4[..], &[0xff, 0xff, 0xff, 0xff]].concat()), PageProblem::FrameLength);
    assert_eq!(page(&[0, 0, 0, 1, 0, 2]), PageProblem::Flags(2));

    let mut bytes = encode(header(512, 2, 2, 2), &Pages::new()).unwrap();
    let length_at = bytes.len() - 24;
    bytes[length_at..length_at + 8].fill(0xff);
    assert!(matches!(Index::read(&bytes), Err(DecodeError::Index(IndexProblem::Length))));
}

#[test]
fn other_kinds_of_file_are_named() {
    let mut bytes = header(512, 2, 2, 2).encode();
    bytes[7] = 1;
    assert!(matches!(Header::decode(&bytes), Err(DecodeError::VersionOne)));
    assert!(DecodeError::VersionOne.to_string().contains("LiteFS"));
    assert!(matches!(Header::decode(b"SQLite format 3\0"), Err(DecodeError::Magic)));
    assert!(matches!(decode(b"SQLite format 3\0"), Err(DecodeError::Magic)));
}

#[test]
fn files_that_do_not_continue_each_other_are_not_merged() {
    let pages = Pages::from([(1, page(512, 1, 1))]);
    let file = |min, max, before, after| {
        let mut header = header(512, 1, min, max);
        header.checksum_before = Checksum(before);
        header.checksum_after = Checksum(after);
        encode(header, &pages).unwrap()
    };
    let merge = |files: &[Vec<u8>]| {
        let inputs = files.iter().map(|file| Decoder::new(file.as_slice()).unwrap()).collect();
        merge(inputs, Vec::new()).map(|(bytes, _)| bytes)
    };
    assert!(merge(&[file(2, 3, 0, 9), file(4, 4, 9, 11)]).is_ok());
    assert!(merge(&[file(2, 3, 0, 9), file(4, 4, 0, 11)]).is_ok(), "Litestream knows no checksums");
    assert!(matches!(merge(&[]), Err(MergeError::NoInput)));
    let gap = merge(&[file(2, 3, 0, 9), file(5, 5, 9, 11)]);
    assert!(matches!(gap, Err(MergeError::NotContiguous { input: 1 })));
    let backwards = merge(&[file(2, 3, 0, 9), file(2, 3, 0, 9)]);
    assert!(matches!(backwards, Err(MergeError::NotContiguous { input: 1 })));
    let foreign = merge(&[file(2, 3, 0, 9), file(4, 4, 10, 11)]);
    assert!(matches!(foreign, Err(MergeError::Chain { input: 1, .. })));
    let mut damaged = file(4, 4, 9, 11);
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    let damaged = merge(&[file(2, 3, 0, 9), damaged]);
    assert!(matches!(damaged, Err(MergeError::Input { input: 1, source: DecodeError::FileChecksum { .. } })));
}
