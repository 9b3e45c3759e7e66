//! The whole database of a plan, written into a file and proven on the way.
//!
//! Files are applied oldest first, each read once from front to back, so that its whole-file checksum is verified;
//! the rolling checksum is carried along (8 bytes a page) and compared after each file, so that the file that does
//! not fit is the one that is named. One input is open at a time; memory does not grow with what is written.

use super::files::Entry;
use super::plan::{Plan, PlanError};
use base::{Checksum, DiskFile, Pgno, Txid};
use ltx::{Decoder, Header, Rolling, Sequential};
use std::io;
use std::path::PathBuf;

/// Bytes of neighbouring pages that are collected before they are written.
const RUN_BYTES: usize = 256 * 1024;

/// A database written to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Imaged {
    /// The position it is at.
    pub txid: Txid,
    /// Its rolling checksum, computed from what was written.
    pub checksum: Checksum,
    /// Bytes in a page.
    pub page_size: u32,
    /// Pages.
    pub pages: u32,
}

/// Why a database could not be written. What is in the output file is not to be used.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A file is damaged, and marked as such: make a new plan, which avoids it.
    #[error("{path} is damaged: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file could not be read now. Try again.
    #[error("{path}: {cause}")]
    Unavailable {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        cause: io::Error,
    },
    /// No files lead there.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The plan starts from a database that is there already, not from nothing.
    #[error("the plan starts after TXID {0}: it holds changes, not a database")]
    NotWhole(Txid),
    /// The output could not be written: make room, or choose another place.
    #[error("cannot write the database: {0}")]
    Output(#[source] io::Error),
}

impl From<super::ReadError> for ImageError {
    fn from(error: super::ReadError) -> ImageError {
        match error {
            super::ReadError::Damaged { path, reason } => ImageError::Damaged { path, reason },
            super::ReadError::Unavailable { path, cause } => ImageError::Unavailable { path, cause },
        }
    }
}

impl Plan {
    /// Writes the whole database into an empty file. `progress` is told bytes read and bytes in all.
    pub fn image(
        &self,
        out: &dyn DiskFile,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Imaged, ImageError> {
        let snapshot = self.files.first().is_some_and(|(_, header)| header.is_snapshot());
        if self.from != Txid::ZERO && !snapshot {
            return Err(ImageError::NotWhole(self.from));
        }
        let total = self.bytes();
        let mut done = 0;
        let mut canvas = Canvas { out, sums: Vec::new(), rolling: Rolling::default(), run: Run::default() };
        progress(0, total);
        for (entry, header) in &self.files {
            self.apply(entry, header, &mut canvas)?;
            done += entry.bytes;
            progress(done, total);
        }
        let header = self.header();
        let len = u64::from(header.commit) * u64::from(header.page_size);
        out.set_len(len).map_err(ImageError::Output)?;
        Ok(Imaged {
            txid: header.max_txid,
            checksum: canvas.rolling.value(),
            page_size: header.page_size,
            pages: header.commit,
        })
    }

    fn apply(&self, entry: &Entry, header: &Header, canvas: &mut Canvas<'_>) -> Result<(), ImageError> {
        let blame = |error| self.inner.unusable(entry, entry.blame(error));
        let file = entry.open(&*self.inner.disk).map_err(|why| self.inner.unusable(entry, why))?;
        let source = Sequential::new(file).map_err(|cause| blame(cause.into()))?;
        let mut decoder = Decoder::new(source).map_err(blame)?;
        entry.accept(decoder.header()).map_err(|why| self.inner.unusable(entry, why))?;
        let mut page = vec![0; header.page_size as usize];
        while let Some(pgno) = decoder.next_page(&mut page).map_err(blame)? {
            canvas.put(pgno, &page).map_err(ImageError::Output)?;
        }
        decoder.finish().map_err(blame)?;
        canvas.cut(header.commit, header.page_size).map_err(ImageError::Output)?;
        let (stored, computed) = (header.checksum_after, canvas.rolling.value());
        if stored != Checksum::NONE && stored != computed {
            entry.mark_damaged(format_args!("the database has checksum {computed} after it, not {stored}"));
            return Err(self.inner.unusable(entry, super::Unusable::Damaged).into());
        }
        Ok(())
    }
}

/// The database as far as it is written.
struct Canvas<'a> {
    out: &'a dyn DiskFile,
    /// The checksum of each page; zero for one that is not there.
    sums: Vec<u64>,
    rolling: Rolling,
    run: Run,
}

/// Neighbouring pages on their way to the file.
#[derive(Default)]
struct Run {
    offset: u64,
    bytes: Vec<u8>,
}

impl Canvas<'_> {
    fn put(&mut self, pgno: Pgno, page: &[u8]) -> io::Result<()> {
        let at = pgno.0 as usize - 1;
        if self.sums.len() <= at {
            self.sums.resize(at + 1, 0);
        }
        let sum = ltx::page_checksum(pgno, page);
        self.rolling.toggle(Checksum(self.sums[at]));
        self.rolling.toggle(sum);
        self.sums[at] = sum.0;
        let offset = at as u64 * page.len() as u64;
        if offset != self.run.offset + self.run.bytes.len() as u64 || self.run.bytes.len() >= RUN_BYTES {
            self.flush()?;
            self.run.offset = offset;
        }
        self.run.bytes.extend_from_slice(page);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.run.bytes.is_empty() {
            self.out.write_at(&self.run.bytes, self.run.offset)?;
            self.run.bytes.clear();
        }
        Ok(())
    }

    /// Ends a file: the database has this many pages now.
    fn cut(&mut self, commit: u32, page_size: u32) -> io::Result<()> {
        self.flush()?;
        for gone in self.sums.drain(self.sums.len().min(commit as usize)..) {
            self.rolling.toggle(Checksum(gone));
        }
        let len = u64::from(commit) * u64::from(page_size);
        if self.out.len()? > len { self.out.set_len(len) } else { Ok(()) }
    }
}
