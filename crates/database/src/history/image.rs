//! The whole database of a plan, written into a file and proven.
//!
//! By its pages (`fill.rs`) where history says what the database adds up to. Where that does not come out, and in
//! histories of others, which do not say it: file by file, oldest first, each read once from front to back, so that its
//! whole-file checksum is verified; the rolling checksum is carried along and compared after each file, so that the file
//! that does not fit is the one that is named.

use super::files::Entry;
use super::fill::{Filled, Run};
use super::plan::{Plan, PlanError};
use super::sources::Sources;
use crate::sums::Sums;
use base::{Checksum, DiskFile, Pgno, Txid};
use ltx::{Decoder, Header, Sequential};
use std::io;
use std::path::PathBuf;

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

impl ImageError {
    /// Whether another try may succeed without anybody's doing.
    pub fn is_passing(&self) -> bool {
        matches!(self, ImageError::Unavailable { .. } | ImageError::Plan(PlanError::Unavailable { .. }))
    }
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
        self.image_with_sums(out, &mut |Filled { done, total }, _| progress(done, total))
            .map(|(image, _)| image)
    }

    /// The same, with the checksum of every page; `each` is told of those that are written, as far as they are known.
    pub(super) fn image_with_sums(
        &self,
        out: &dyn DiskFile,
        each: &mut dyn FnMut(Filled, &Sums),
    ) -> Result<(Imaged, Sums), ImageError> {
        let snapshot = self.files.first().is_some_and(|(_, header)| header.is_snapshot());
        if self.from != Txid::ZERO && !snapshot {
            return Err(ImageError::NotWhole(self.from));
        }
        if self.header().checksum_after != Checksum::NONE {
            let mut sums = Sums::new(self.header().page_size);
            if self.fill(&Sources::load(self)?, out, &mut sums, each)? {
                return Ok((self.imaged(&sums), sums));
            }
            out.set_len(0).map_err(ImageError::Output)?;
        }
        let sums = self.apply_all(out, each)?;
        Ok((self.imaged(&sums), sums))
    }

    /// What a file holds that has pages with these checksums.
    pub(super) fn imaged(&self, sums: &Sums) -> Imaged {
        let header = self.header();
        Imaged {
            txid: header.max_txid,
            checksum: sums.rolling(),
            page_size: header.page_size,
            pages: header.commit,
        }
    }

    fn apply_all(&self, out: &dyn DiskFile, each: &mut dyn FnMut(Filled, &Sums)) -> Result<Sums, ImageError> {
        let header = self.header();
        let mut filled = Filled { done: 0, total: self.bytes() };
        let mut canvas = Canvas { out, sums: Sums::new(header.page_size), run: Run::default() };
        each(filled, &canvas.sums);
        for (entry, header) in &self.files {
            self.apply(entry, header, &mut canvas)?;
            filled.done += entry.bytes;
            each(filled, &canvas.sums);
        }
        let len = u64::from(header.commit) * u64::from(header.page_size);
        out.set_len(len).map_err(ImageError::Output)?;
        Ok(canvas.sums)
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
        let (stored, computed) = (header.checksum_after, canvas.sums.rolling());
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
    sums: Sums,
    run: Run,
}

impl Canvas<'_> {
    fn put(&mut self, pgno: Pgno, page: &[u8]) -> io::Result<()> {
        self.sums.set(pgno, ltx::page_checksum(pgno, page));
        self.run.page(self.out, pgno, page.len())?.copy_from_slice(page);
        Ok(())
    }

    /// Ends a file: the database has this many pages now.
    fn cut(&mut self, commit: u32, page_size: u32) -> io::Result<()> {
        self.run.flush(self.out)?;
        self.sums.resize(commit);
        let len = u64::from(commit) * u64::from(page_size);
        if self.out.len()? > len { self.out.set_len(len) } else { Ok(()) }
    }
}
