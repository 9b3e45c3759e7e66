//! The pages of a plan written into a file: read by several threads at once, each page checked, the whole proven.
//!
//! ```text
//! Sources ─▶ Reads (pieces of files) ─┬▶ thread: read, unpack, sum, write ─┬▶ caller: sums, progress
//!                                     └▶ thread: …                         ┘
//! ```
//!
//! Each page is fetched once, in its newest version, and goes straight to its place. What is proven in the end is the
//! database: the checksums of all its pages must add up to what its history says. Memory does not grow with it, but for
//! the checksums (8 bytes a page) and the indexes.

use super::at_once::at_once;
use super::fetch::{READ_BYTES_MAX, Read, Reads, Spot};
use super::image::ImageError;
use super::plan::Plan;
use super::sources::Sources;
use crate::sums::Sums;
use base::{Checksum, DiskFile, Pgno};
use std::io;

/// Bytes of neighbouring pages that are collected before they are written.
const RUN_BYTES: usize = 256 * 1024;

/// How far a file is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Filled {
    /// Bytes that have been read.
    pub done: u64,
    /// Bytes to be read in all.
    pub total: u64,
}

/// What a thread has done: a piece's pages with their checksums.
struct Written {
    sums: Vec<(Pgno, Checksum)>,
    bytes: u64,
}

impl Plan {
    /// Writes the pages that `sums` does not have yet. Whether the database adds up then.
    ///
    /// `each` is told how far it is, with the checksums of what is written.
    pub(super) fn fill(
        &self,
        sources: &Sources,
        out: &dyn DiskFile,
        sums: &mut Sums,
        each: &mut dyn FnMut(Filled, &Sums),
    ) -> Result<bool, ImageError> {
        let header = *self.header();
        let known: Vec<bool> = (1..=sums.pages()).map(|pgno| sums.get(Pgno(pgno)).is_some()).collect();
        let is_missing = |spot: &Spot| {
            let at = spot.pgno.0 as usize - 1;
            spot.pgno.0 <= header.commit && !known.get(at).copied().unwrap_or(false)
        };
        let reads = || Reads::of(sources.newest().filter(is_missing));
        let (mut pieces, mut filled) = (0, Filled { done: 0, total: 0 });
        for read in reads() {
            pieces += 1;
            filled.total += read.wanted_bytes();
        }
        each(filled, sums);
        let fetch = || {
            let mut thread = Thread { plan: self, sources, out, piece: Vec::new(), run: Run::default() };
            move |read: Read| thread.fetch(&read)
        };
        at_once(self.readers().min(pieces), reads(), fetch, |written: Written| {
            for (pgno, sum) in written.sums {
                sums.set(pgno, sum);
            }
            filled.done += written.bytes;
            each(filled, sums);
            Ok(())
        })?;
        if !known.is_empty() {
            self.empty_holes(out, sums).map_err(ImageError::Output)?;
        }
        sums.resize(header.commit);
        let len = u64::from(header.commit) * u64::from(header.page_size);
        out.set_len(len).map_err(ImageError::Output)?;
        Ok(sums.rolling() == header.checksum_after)
    }

    /// A page that no file has was never written: what an older copy has in its place does not count.
    fn empty_holes(&self, out: &dyn DiskFile, sums: &Sums) -> io::Result<()> {
        let header = self.header();
        let page = vec![0; header.page_size as usize];
        let mut holes = (1..=header.commit)
            .map(Pgno)
            .filter(|pgno| *pgno != header.lock_page() && sums.get(*pgno).is_none());
        holes.try_for_each(|hole| out.write_at(&page, u64::from(hole.0 - 1) * page.len() as u64))
    }
}

/// What one thread works with.
struct Thread<'a> {
    plan: &'a Plan,
    sources: &'a Sources,
    out: &'a dyn DiskFile,
    piece: Vec<u8>,
    run: Run,
}

/// Neighbouring pages on their way to the file.
#[derive(Default)]
pub(super) struct Run {
    offset: u64,
    bytes: Vec<u8>,
}

impl Thread<'_> {
    fn fetch(&mut self, read: &Read) -> Result<Written, ImageError> {
        debug_assert!(read.bytes as u64 <= READ_BYTES_MAX);
        let Thread { plan, sources, out, piece, run } = self;
        let (entry, header) = &plan.files[read.file];
        let unusable = |why| plan.inner.unusable(entry, why);
        let from = usize::try_from(read.from).unwrap_or(usize::MAX);
        let bytes = match sources.kept(read.file).and_then(|whole| whole.get(from..from + read.bytes)) {
            Some(bytes) => bytes,
            None => {
                piece.resize(read.bytes, 0);
                entry.read_exact(&*plan.inner.disk, piece, read.from).map_err(unusable)?;
                piece
            }
        };
        let page_bytes = header.page_size as usize;
        let mut sums = Vec::with_capacity(read.pages.len());
        for (pgno, frame) in &read.pages {
            let at = usize::try_from(frame.offset - read.from).unwrap_or(usize::MAX);
            let page = run.page(*out, *pgno, page_bytes).map_err(ImageError::Output)?;
            ltx::unpack_page(&bytes[at..at + frame.size as usize], *pgno, page)
                .map_err(|error| unusable(entry.blame(error)))?;
            sums.push((*pgno, ltx::page_checksum(*pgno, page)));
        }
        // What the caller is told is in the file.
        run.flush(*out).map_err(ImageError::Output)?;
        Ok(Written { sums, bytes: read.wanted_bytes() })
    }
}

impl Run {
    /// Room for a page; what it does not continue is written first.
    pub(super) fn page(
        &mut self,
        out: &dyn DiskFile,
        pgno: Pgno,
        page_bytes: usize,
    ) -> io::Result<&mut [u8]> {
        let offset = u64::from(pgno.0 - 1) * page_bytes as u64;
        let end = self.bytes.len();
        if offset != self.offset + end as u64 || end >= RUN_BYTES {
            self.flush(out)?;
            self.offset = offset;
        }
        let end = self.bytes.len();
        self.bytes.resize(end + page_bytes, 0);
        Ok(&mut self.bytes[end..])
    }

    /// Writes what is there.
    pub(super) fn flush(&mut self, out: &dyn DiskFile) -> io::Result<()> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        out.write_at(&self.bytes, self.offset)?;
        if self.bytes.len() >= RUN_BYTES {
            // What comes later will not change it, and the sync at the end has less to wait for.
            out.begin_sync(self.offset..self.offset + self.bytes.len() as u64);
        }
        self.bytes.clear();
        Ok(())
    }
}
