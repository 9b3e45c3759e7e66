//! Writing a file: header, pages in ascending order, index, trailer.
//!
//! What a reader would refuse is refused here first: the header's fields, pages out of order or out of range, a
//! snapshot that lacks a page or whose pages do not add up to the header's checksum.
//!
//! A file of many pages is packed by two threads; its bytes, and the writes that they come in, are the same.

use crate::checksum::{Crc, Rolling, page_checksum};
use crate::error::{EncodeError, PageProblem};
use crate::frame::{Compressor, FLAGS_LZ4_FRAME, header as frame_header};
use crate::header::Header;
use crate::index::Index;
use crate::limits::{FRAME_HEADER_BYTES, OUTPUT_BUFFER_BYTES, PACK_BESIDE_PAGES_MIN, frame_bytes_max};
use crate::pack::{Packed, Packing};
use crate::varint;
use base::{Checksum, Pgno};
use std::fmt;
use std::io::Write;
use std::sync::LazyLock;

/// What a file came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Bytes in the file.
    pub bytes: u64,
    /// The checksum in its trailer.
    pub file_checksum: u64,
}

/// Writes one file. Memory: one buffer and about four bytes per page; a few MiB more where two threads pack.
pub struct Encoder<W: Write> {
    writer: W,
    header: Header,
    crc: Crc,
    index: Index,
    compressor: Compressor,
    /// Set where another thread helps to pack.
    packing: Option<Packing>,
    pending: Vec<u8>,
    written: u64,
    sum: Rolling,
    /// The last page that was given, packed or not.
    last_pgno: u32,
    page_count: usize,
}

impl<W: Write> Encoder<W> {
    /// Starts a file.
    pub fn new(writer: W, header: Header) -> Result<Self, EncodeError> {
        header.check().map_err(EncodeError::Header)?;
        let bytes = header.encode();
        let mut crc = Crc::new();
        crc.update(&bytes);
        let mut pending =
            Vec::with_capacity(OUTPUT_BUFFER_BYTES + 2 * frame_bytes_max(header.page_size) as usize);
        pending.extend_from_slice(&bytes);
        Ok(Encoder {
            writer,
            header,
            crc,
            index: Index::new(),
            compressor: Compressor::new(),
            packing: None,
            pending,
            written: 0,
            sum: Rolling::default(),
            last_pgno: 0,
            page_count: 0,
        })
    }

    /// The header as it was given.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Pages written so far.
    pub fn page_count(&self) -> usize {
        self.page_count
    }

    /// Says how many pages will come, before the first: many are packed by two threads where the machine has two cores.
    pub fn expect_pages(&mut self, pages: usize) {
        static TWO_CORES: LazyLock<bool> =
            LazyLock::new(|| std::thread::available_parallelism().is_ok_and(|cores| cores.get() >= 2));
        if pages >= PACK_BESIDE_PAGES_MIN && *TWO_CORES {
            self.pack_beside();
        }
    }

    /// Lets another thread help; there being none to have is fine.
    fn pack_beside(&mut self) {
        debug_assert_eq!(self.page_count, 0);
        self.packing = Packing::start(self.header.page_size as usize).ok();
    }

    /// Writes the next page: page numbers rise, the lock page is left out, a snapshot has all others.
    pub fn page(&mut self, pgno: Pgno, page: &[u8]) -> Result<(), EncodeError> {
        self.pack(pgno, page, None)
    }

    /// Writes the next page, which must have this [`page_checksum`]. That it has not may also be said by a later call.
    pub fn announced_page(&mut self, pgno: Pgno, page: &[u8], sum: Checksum) -> Result<(), EncodeError> {
        self.pack(pgno, page, Some(sum))
    }

    fn pack(&mut self, pgno: Pgno, page: &[u8], announced: Option<Checksum>) -> Result<(), EncodeError> {
        self.accept(pgno, page)?;
        if let Some(packing) = &mut self.packing {
            return if packing.put(pgno, page, announced) { self.hand_over() } else { Ok(()) };
        }
        let sum = match announced {
            Some(_) => page_checksum(pgno, page),
            None => self.sum_of(pgno, page),
        };
        check_announced(pgno, sum, announced)?;
        let from = self.pending.len();
        self.compressor.append(&mut self.pending, pgno.0, page);
        self.account(pgno, page, sum, from)
    }

    /// Writes the next page with a body that is an LZ4 frame of it already, content checksum included.
    pub(crate) fn packed_page(&mut self, pgno: Pgno, page: &[u8], body: &[u8]) -> Result<(), EncodeError> {
        debug_assert!(self.packing.is_none());
        self.accept(pgno, page)?;
        let from = self.pending.len();
        self.pending.extend_from_slice(&frame_header(pgno.0, FLAGS_LZ4_FRAME));
        self.pending.extend_from_slice(body);
        self.account(pgno, page, self.sum_of(pgno, page), from)
    }

    fn hand_over(&mut self) -> Result<(), EncodeError> {
        if let Some(packing) = &mut self.packing {
            packing.hand_over()?;
            self.append_packed(false)?;
        }
        if let Some(packing) = &mut self.packing {
            packing.refill();
        }
        Ok(())
    }

    /// Appends the batches that are packed, or all of them.
    fn append_packed(&mut self, all: bool) -> Result<(), EncodeError> {
        let Some(mut packing) = self.packing.take() else { return Ok(()) };
        while let Some(batch) = packing.take(all)? {
            for packed in batch.packed() {
                self.append(&packing, packed)?;
            }
            packing.give_back(batch);
        }
        self.packing = Some(packing);
        Ok(())
    }

    fn append(&mut self, packing: &Packing, page: Packed<'_>) -> Result<(), EncodeError> {
        check_announced(page.pgno, page.sum, page.announced)?;
        self.pending.extend_from_slice(page.frame);
        self.crc.update(&page.frame[..FRAME_HEADER_BYTES]);
        self.crc.update_by_part(packing.advance(), page.part);
        self.note_frame(page.pgno, page.frame.len(), page.sum)
    }

    /// Ends the file and flushes the writer.
    pub fn finish(mut self) -> Result<(W, Finished), EncodeError> {
        if let Some(packing) = &mut self.packing {
            packing.hand_over()?;
            self.append_packed(true)?;
        }
        if self.index.len() != self.page_count {
            // A page was refused or could not be written, and the caller went on.
            let pgno = next_of_whole(self.index.last_pgno(), self.header.lock_page());
            return Err(EncodeError::Page { pgno, problem: PageProblem::Missing });
        }
        if self.header.is_snapshot() {
            self.check_whole()?;
        }
        self.checked(&[0; FRAME_HEADER_BYTES]);
        let index = std::mem::replace(&mut self.index, Index::new());
        let index_at = self.written + self.pending.len() as u64;
        let mut entry = Vec::with_capacity(3 * varint::BYTES_MAX);
        for (pgno, frame) in &index {
            entry.clear();
            varint::put(&mut entry, u64::from(pgno.0));
            varint::put(&mut entry, frame.offset);
            varint::put(&mut entry, u64::from(frame.size));
            self.checked(&entry);
            self.flush_whole()?;
        }
        self.checked(&[0]);
        let index_bytes = self.written + self.pending.len() as u64 - index_at;
        self.checked(&index_bytes.to_be_bytes());
        self.checked(&Checksum::NONE.0.to_be_bytes());
        let file_checksum = self.crc.flagged();
        self.pending.extend_from_slice(&file_checksum.to_be_bytes());
        self.flush(self.pending.len())?;
        self.writer.flush()?;
        Ok((self.writer, Finished { bytes: self.written, file_checksum }))
    }

    /// Takes a page where it may come next.
    fn accept(&mut self, pgno: Pgno, page: &[u8]) -> Result<(), EncodeError> {
        let bad = |problem| Err(EncodeError::Page { pgno: pgno.0, problem });
        let previous = self.last_pgno;
        let lock_page = self.header.lock_page();
        if page.len() != self.header.page_size as usize {
            return bad(PageProblem::PageLength);
        }
        if pgno.0 <= previous {
            return bad(PageProblem::OutOfOrder { previous });
        }
        if pgno == lock_page {
            return bad(PageProblem::LockPage);
        }
        if pgno.0 > self.header.commit {
            return bad(PageProblem::BeyondCommit { commit: self.header.commit });
        }
        let expected = next_of_whole(previous, lock_page);
        if self.header.is_snapshot() && pgno.0 != expected {
            return Err(EncodeError::Page { pgno: expected, problem: PageProblem::Missing });
        }
        self.last_pgno = pgno.0;
        self.page_count += 1;
        Ok(())
    }

    /// A page's checksum where the file's header depends on it.
    fn sum_of(&self, pgno: Pgno, page: &[u8]) -> Checksum {
        let wanted = self.header.is_snapshot() && self.header.checksum_after != Checksum::NONE;
        if wanted { page_checksum(pgno, page) } else { Checksum::NONE }
    }

    /// Takes note of the frame that lies in `pending` from this place on.
    fn account(&mut self, pgno: Pgno, page: &[u8], sum: Checksum, from: usize) -> Result<(), EncodeError> {
        self.crc.update(&self.pending[from..from + FRAME_HEADER_BYTES]);
        self.crc.update(page);
        self.note_frame(pgno, self.pending.len() - from, sum)
    }

    /// Takes note of a frame that `pending` ends with.
    fn note_frame(&mut self, pgno: Pgno, bytes: usize, sum: Checksum) -> Result<(), EncodeError> {
        self.index.push(pgno.0, bytes as u32);
        debug_assert_eq!(self.index.end(), self.written + self.pending.len() as u64);
        self.sum.toggle(sum);
        self.flush_whole()
    }

    fn check_whole(&self) -> Result<(), EncodeError> {
        if self.index.len() != self.header.whole_page_count() as usize {
            let pgno = next_of_whole(self.index.last_pgno(), self.header.lock_page());
            return Err(EncodeError::Page { pgno, problem: PageProblem::Missing });
        }
        let stored = self.header.checksum_after;
        let computed = self.sum.value();
        if stored != Checksum::NONE && stored != computed {
            return Err(EncodeError::DatabaseChecksum { stored, computed });
        }
        Ok(())
    }

    /// Appends bytes that the file checksum covers.
    fn checked(&mut self, bytes: &[u8]) {
        self.crc.update(bytes);
        self.pending.extend_from_slice(bytes);
    }

    /// Hands pending bytes on, in whole buffers: a file written in aligned pieces costs the kernel less.
    fn flush_whole(&mut self) -> Result<(), EncodeError> {
        let rest = self.pending.len() % OUTPUT_BUFFER_BYTES;
        let whole = self.pending.len() - rest;
        if whole > 0 {
            self.flush(whole)?;
        }
        Ok(())
    }

    fn flush(&mut self, bytes: usize) -> Result<(), EncodeError> {
        self.writer.write_all(&self.pending[..bytes])?;
        self.written += bytes as u64;
        self.pending.drain(..bytes);
        Ok(())
    }
}

/// A page must be the one that was announced.
fn check_announced(pgno: Pgno, now: Checksum, announced: Option<Checksum>) -> Result<(), EncodeError> {
    match announced {
        Some(was) if was != now => {
            Err(EncodeError::Page { pgno: pgno.0, problem: PageProblem::Changed { now, was } })
        }
        _ => Ok(()),
    }
}

impl<W: Write> fmt::Debug for Encoder<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").field("header", &self.header).field("pages", &self.index.len()).finish()
    }
}

/// The page that follows in a file that holds every page.
pub(crate) fn next_of_whole(previous: u32, lock_page: Pgno) -> u32 {
    let next = previous.saturating_add(1);
    if next == lock_page.0 { next + 1 } else { next }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::{Epoch, Timestamp, Txid};

    const PAGES: u32 = 1000;

    fn header(min_txid: u64, checksum_after: Checksum) -> Header {
        let txid = Txid(min_txid);
        Header {
            page_size: 4096,
            commit: PAGES,
            min_txid: txid,
            max_txid: txid,
            timestamp: Timestamp(0),
            wal_offset: 0,
            wal_size: 0,
            wal_salt1: 0,
            wal_salt2: 0,
            epoch: Epoch(1),
            checksum_after,
            checksum_before: Checksum::NONE,
            wal_frame_checksum: 0,
        }
    }

    /// Every third page is noise, the others shrink, each to another size.
    fn some_page(pgno: u32) -> Vec<u8> {
        let mut seed = u64::from(pgno) << 7 | 1;
        let distinct = if pgno.is_multiple_of(3) { 4096 } else { pgno as usize % 4096 };
        let noise = |_| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 40) as u8
        };
        let mut page: Vec<u8> = (0..distinct).map(noise).collect();
        page.resize(4096, pgno as u8);
        page
    }

    /// Keeps the writes apart.
    #[derive(Default)]
    struct Writes(Vec<Vec<u8>>);

    impl Write for Writes {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.push(bytes.to_vec());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn written(header: Header, beside: bool, pages: &[u32]) -> Result<(Writes, Finished), EncodeError> {
        let mut encoder = Encoder::new(Writes::default(), header)?;
        if beside {
            encoder.pack_beside();
            assert!(encoder.packing.is_some());
        }
        for pgno in pages {
            let page = some_page(*pgno);
            encoder.announced_page(Pgno(*pgno), &page, page_checksum(Pgno(*pgno), &page))?;
        }
        assert_eq!(encoder.page_count(), pages.len());
        encoder.finish()
    }

    #[test]
    fn two_threads_make_the_same_writes_as_one() {
        let all: Vec<u32> = (1..=PAGES).collect();
        let mut sum = Rolling::default();
        all.iter().for_each(|pgno| sum.toggle(page_checksum(Pgno(*pgno), &some_page(*pgno))));
        let some: Vec<u32> = all.iter().copied().filter(|pgno| pgno % 7 != 2).collect();
        let none = Checksum::NONE;
        for (header, pages) in [
            (header(1, sum.value()), &all[..]),
            (header(1, none), &all),
            (header(2, none), &all),
            (header(2, none), &some),
            (header(2, none), &all[..64]),
            (header(2, none), &all[200..201]),
            (header(2, none), &[]),
        ] {
            let (alone, finished) = written(header, false, pages).unwrap();
            for _ in 0..3 {
                let (beside, also) = written(header, true, pages).unwrap();
                assert!(alone.0 == beside.0, "{} pages", pages.len());
                assert_eq!(finished, also);
            }
        }
        let wrong = header(1, Checksum(Checksum::FLAG | 5));
        assert!(matches!(written(wrong, true, &all), Err(EncodeError::DatabaseChecksum { .. })));
        let problem = written(header(2, none), true, &[5, 4]).err();
        assert!(matches!(problem, Some(EncodeError::Page { pgno: 4, .. })), "{problem:?}");
    }

    #[test]
    fn a_page_other_than_announced_ends_the_file_whoever_packs_it() {
        for beside in [false, true] {
            let mut encoder = Encoder::new(Vec::new(), header(2, Checksum::NONE)).unwrap();
            if beside {
                encoder.pack_beside();
            }
            let mut refused = None;
            for pgno in (1..=PAGES).map(Pgno) {
                let sum = page_checksum(pgno, &some_page(pgno.0));
                let changed = some_page(if pgno.0 == 70 { 71 } else { pgno.0 });
                refused = refused.or(encoder.announced_page(pgno, &changed, sum).err());
            }
            let Some(EncodeError::Page { pgno: 70, problem: PageProblem::Changed { now, was } }) = refused
            else {
                unreachable!("{refused:?}");
            };
            assert_ne!(now, was);
            assert!(encoder.finish().is_err(), "a file without page 70 is not finished");
        }
    }

    #[test]
    fn a_writer_that_fails_ends_the_file() {
        struct Full(usize);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0 = self.0.checked_sub(1).ok_or(std::io::ErrorKind::StorageFull)?;
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        for beside in [false, true] {
            let mut encoder = Encoder::new(Full(2), header(2, Checksum::NONE)).unwrap();
            if beside {
                encoder.pack_beside();
            }
            let failed = (1..=PAGES).find_map(|pgno| encoder.page(Pgno(pgno), &some_page(pgno)).err());
            let failed = failed.or_else(|| encoder.finish().err());
            assert!(
                matches!(failed, Some(EncodeError::Io(cause)) if cause.kind() == std::io::ErrorKind::StorageFull)
            );
        }
    }

    #[test]
    fn a_snapshot_steps_over_the_lock_page() {
        const PAGE_SIZE: u32 = 65_536;
        let header = Header { page_size: PAGE_SIZE, commit: 16_386, ..header(1, Checksum::NONE) };
        assert_eq!((header.lock_page(), header.whole_page_count()), (Pgno(16_385), 16_385));
        let page = vec![0; PAGE_SIZE as usize];
        let mut frame = Vec::new();
        Compressor::new().append(&mut frame, 1, &page);
        let body = &frame[FRAME_HEADER_BYTES..];
        let mut encoder = Encoder::new(Vec::new(), header).unwrap();
        for pgno in (1..=16_384).chain([16_386]) {
            encoder.packed_page(Pgno(pgno), &page, body).unwrap();
        }
        let (bytes, _) = encoder.finish().unwrap();
        let (_, index) = Index::read(&bytes).unwrap();
        assert_eq!(index.len(), 16_385);
        assert_eq!(index.find(Pgno(16_385)), None);
        let frame = index.find(Pgno(16_386)).unwrap();
        let mut read = vec![1; PAGE_SIZE as usize];
        crate::read_page(&bytes, frame, Pgno(16_386), PAGE_SIZE, &mut read).unwrap();
        assert_eq!(read, page);
    }
}
