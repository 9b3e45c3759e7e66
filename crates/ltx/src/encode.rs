//! Writing a file: header, pages in ascending order, index, trailer.
//!
//! What a reader would refuse is refused here first: the header's fields, pages out of order or out of range, a
//! snapshot that lacks a page or whose pages do not add up to the header's checksum.

use crate::checksum::{Crc, Rolling, page_checksum};
use crate::error::{EncodeError, PageProblem};
use crate::frame::{Compressor, FLAGS_LZ4_FRAME, header as frame_header};
use crate::header::Header;
use crate::index::Index;
use crate::limits::{FRAME_HEADER_BYTES, OUTPUT_BUFFER_BYTES, frame_bytes_max};
use crate::varint;
use base::{Checksum, Pgno};
use std::fmt;
use std::io::Write;

/// What a file came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Bytes in the file.
    pub bytes: u64,
    /// The checksum in its trailer.
    pub file_checksum: u64,
}

/// Writes one file. Memory: one buffer and about four bytes per page.
pub struct Encoder<W: Write> {
    writer: W,
    header: Header,
    crc: Crc,
    index: Index,
    compressor: Compressor,
    pending: Vec<u8>,
    written: u64,
    sum: Rolling,
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
            pending,
            written: 0,
            sum: Rolling::default(),
        })
    }

    /// The header as it was given.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Pages written so far.
    pub fn page_count(&self) -> usize {
        self.index.len()
    }

    /// Writes the next page: page numbers rise, the lock page is left out, a snapshot has all others.
    pub fn page(&mut self, pgno: Pgno, page: &[u8]) -> Result<(), EncodeError> {
        self.check_next(pgno, page)?;
        let from = self.pending.len();
        self.compressor.append(&mut self.pending, pgno.0, page);
        self.account(pgno, page, from)
    }

    /// Writes the next page with a body that is an LZ4 frame of it already, content checksum included.
    pub(crate) fn packed_page(&mut self, pgno: Pgno, page: &[u8], body: &[u8]) -> Result<(), EncodeError> {
        self.check_next(pgno, page)?;
        let from = self.pending.len();
        self.pending.extend_from_slice(&frame_header(pgno.0, FLAGS_LZ4_FRAME));
        self.pending.extend_from_slice(body);
        self.account(pgno, page, from)
    }

    /// Ends the file and flushes the writer.
    pub fn finish(mut self) -> Result<(W, Finished), EncodeError> {
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
            self.flush_from(OUTPUT_BUFFER_BYTES)?;
        }
        self.checked(&[0]);
        let index_bytes = self.written + self.pending.len() as u64 - index_at;
        self.checked(&index_bytes.to_be_bytes());
        self.checked(&Checksum::NONE.0.to_be_bytes());
        let file_checksum = self.crc.flagged();
        self.pending.extend_from_slice(&file_checksum.to_be_bytes());
        self.flush_from(0)?;
        self.writer.flush()?;
        Ok((self.writer, Finished { bytes: self.written, file_checksum }))
    }

    fn check_next(&self, pgno: Pgno, page: &[u8]) -> Result<(), EncodeError> {
        let bad = |problem| Err(EncodeError::Page { pgno: pgno.0, problem });
        let previous = self.index.last_pgno();
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
        Ok(())
    }

    /// Takes note of the frame that lies in `pending` from this place on.
    fn account(&mut self, pgno: Pgno, page: &[u8], from: usize) -> Result<(), EncodeError> {
        debug_assert_eq!(self.index.end(), self.written + from as u64);
        self.index.push(pgno.0, (self.pending.len() - from) as u32);
        self.crc.update(&self.pending[from..from + FRAME_HEADER_BYTES]);
        self.crc.update(page);
        if self.header.is_snapshot() && self.header.checksum_after != Checksum::NONE {
            self.sum.toggle(page_checksum(pgno, page));
        }
        self.flush_from(OUTPUT_BUFFER_BYTES)
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

    /// Hands the pending bytes on where there are this many.
    fn flush_from(&mut self, threshold: usize) -> Result<(), EncodeError> {
        if self.pending.len() >= threshold {
            self.writer.write_all(&self.pending)?;
            self.written += self.pending.len() as u64;
            self.pending.clear();
        }
        Ok(())
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

    #[test]
    fn a_snapshot_steps_over_the_lock_page() {
        const PAGE_SIZE: u32 = 65_536;
        let header = Header {
            page_size: PAGE_SIZE,
            commit: 16_386,
            min_txid: Txid(1),
            max_txid: Txid(1),
            timestamp: Timestamp(0),
            wal_offset: 0,
            wal_size: 0,
            wal_salt1: 0,
            wal_salt2: 0,
            epoch: Epoch(1),
            checksum_after: Checksum::NONE,
            checksum_before: Checksum::NONE,
            wal_frame_checksum: 0,
        };
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
