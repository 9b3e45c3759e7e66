use super::*;
use proptest::prelude::*;

fn file(level: u8, min: u64, max: u64) -> StoredFile {
    StoredFile {
        level,
        named_level: 0,
        min: Txid(min),
        max: Txid(max),
        bytes: 4321,
        page_size: 4096,
        commit: 7,
        sealed: Timestamp(1_700_000_000_000 + max.cast_signed()),
        epoch: Epoch(3),
        before: Checksum(1 << 63 | min),
        after: Checksum(1 << 63 | (max + 1)),
    }
}

fn sample() -> Manifest {
    Manifest {
        epoch: Epoch(3),
        sequence: 17,
        written: Timestamp(1_700_000_000_123),
        owner: 0x1122_3344_5566_7788,
        run: 42,
        released: true,
        node: "node-a".to_owned(),
        volume: "notes".to_owned(),
        histories: [
            ("data/a.db".to_owned(), vec![file(9, 1, 1), file(1, 2, 30), file(0, 31, 31)]),
            (".stead/ledger".to_owned(), Vec::new()),
        ]
        .into(),
        doomed: vec![Key::new("data/a.db/0000/x.ltx")],
    }
}

/// The bytes that `docs/formats/manifest.md` explains.
#[test]
fn its_bytes_stay_what_they_are() {
    let hex: String = sample().encode().iter().map(|byte| format!("{byte:02x}")).collect();
    insta::assert_snapshot!(hex);
    assert_eq!(Manifest::decode(&sample().encode()), Ok(sample()));
}

#[test]
fn a_file_in_the_middle_of_a_history_takes_little() {
    let long: Vec<StoredFile> = (2..1002).map(|n| file(0, n, n)).collect();
    let manifest = Manifest { histories: [("a".to_owned(), long)].into(), ..Manifest::default() };
    let bytes = manifest.encode().len();
    assert!(bytes < 1000 * 20, "{bytes} bytes for 1,000 files");
}

#[test]
fn what_is_no_manifest_is_refused_with_its_reason() {
    assert_eq!(Manifest::decode(b""), Err(BadManifest::Foreign));
    assert_eq!(Manifest::decode(b"<html>"), Err(BadManifest::Foreign));
    assert_eq!(Manifest::decode(b"StMf\0"), Err(BadManifest::Damaged("it ends early")));
    let mut newer = sample().encode();
    newer[5] = 9;
    assert_eq!(Manifest::decode(&newer), Err(BadManifest::Newer { found: 9 }));
}

proptest! {
    #[test]
    fn whatever_is_written_is_read_again(
        files in prop::collection::vec((0u8..10, 0u8..10, 1u64..u64::MAX / 2, 0u64..1 << 40, any::<(u64, u32, u32, i64, u64)>()), 0..8),
        numbers in any::<(u64, u64, i64, u64, bool)>(),
        name in "[a-zA-Z0-9/@%ü .-]{0,20}",
    ) {
        let files = files.into_iter().map(|(level, named_level, min, more, (sum, page_size, commit, sealed, epoch))| StoredFile {
            level, named_level, min: Txid(min), max: Txid(min + more), bytes: more, page_size, commit,
            sealed: Timestamp(sealed), epoch: Epoch(epoch), before: Checksum(!sum), after: Checksum(sum),
        });
        let (epoch, run, written, owner, released) = numbers;
        let manifest = Manifest {
            epoch: Epoch(epoch), sequence: run, written: Timestamp(written), owner, run, released,
            node: name.clone(), volume: name.clone(), histories: [(name, files.collect())].into(), doomed: Vec::new(),
        };
        prop_assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest));
    }

    #[test]
    fn a_changed_bit_is_noticed(at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut bytes = sample().encode();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(Manifest::decode(&bytes).is_err());
    }

    #[test]
    fn nothing_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = [b"StMf\0\x01".to_vec(), bytes].concat();
        let sum = sum(&bytes);
        bytes.extend_from_slice(&sum.to_be_bytes());
        let _ = Manifest::decode(&bytes);
    }
}
