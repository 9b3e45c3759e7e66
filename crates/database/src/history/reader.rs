//! Single pages of a plan, without building the database.
//!
//! At most [`OPEN_FILES_MAX`] descriptors are held.

use super::fetch::Spot;
use super::files::Unusable;
use super::plan::Plan;
use super::sources::Sources;
use base::{Checksum, DiskFile, Pgno};
use ltx::DecodeError;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Descriptors that one reader holds at most.
const OPEN_FILES_MAX: usize = 32;

/// Why pages of a plan cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file is damaged and marked as such: make a new plan, which avoids it.
    #[error("{path} is damaged: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file could not be read now; it may be fine. Try again.
    #[error("{path}: {cause}")]
    Unavailable {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        cause: io::Error,
    },
}

/// Reads single pages of the database as a plan leaves it.
#[derive(Debug)]
pub struct PageReader {
    plan: Plan,
    sources: Sources,
    open: Mutex<Vec<(usize, Arc<dyn DiskFile>)>>,
}

impl Plan {
    /// Opens the plan for single pages: reads every file's index.
    pub fn reader(&self) -> Result<PageReader, ReadError> {
        Ok(PageReader { plan: self.clone(), sources: Sources::load(self)?, open: Mutex::default() })
    }

    /// One page, found without more indexes than that takes; `None` where no file has it.
    pub(super) fn newest(&self, pgno: Pgno) -> Result<Option<Vec<u8>>, ReadError> {
        let disk = &*self.inner.disk;
        for ((entry, header), limit) in self.files.iter().zip(self.limits()).rev() {
            if pgno.0 > limit {
                return Ok(None);
            }
            let unusable = |why| self.inner.unusable(entry, why);
            let (index, whole) = entry.index(disk).map_err(unusable)?;
            let Some(frame) = index.find(pgno) else { continue };
            let mut bytes = vec![0; frame.size as usize];
            match whole.as_deref().and_then(|whole| whole.get(frame.offset as usize..)?.get(..bytes.len())) {
                Some(there) => bytes.copy_from_slice(there),
                None => entry.read_exact(disk, &mut bytes, frame.offset).map_err(unusable)?,
            }
            let mut page = vec![0; header.page_size as usize];
            let unpacked = ltx::unpack_page(&bytes, pgno, &mut page);
            unpacked.map_err(|error| unusable(entry.blame(error)))?;
            return Ok(Some(page));
        }
        Ok(None)
    }
}

impl PageReader {
    /// Bytes in a page.
    pub fn page_size(&self) -> u32 {
        self.plan.header().page_size
    }

    /// Pages in the database.
    pub fn commit(&self) -> u32 {
        self.plan.header().commit
    }

    /// The rolling checksum of the database; [`Checksum::NONE`] in histories of others.
    pub fn checksum(&self) -> Checksum {
        self.plan.header().checksum_after
    }

    /// The plan that is read.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Reads the newest version of a page into a buffer of one page; `false` where no file has the page.
    ///
    /// Checked: page number and the page's own checksum, not the file's. Whoever needs more adds the pages up.
    pub fn read(&self, pgno: Pgno, out: &mut [u8]) -> Result<bool, ReadError> {
        let Some(Spot { file, frame, .. }) = self.sources.find(pgno) else { return Ok(false) };
        let (entry, header) = &self.plan.files[file];
        let blame = |error| match error {
            // The caller's mistake, not the file's.
            DecodeError::Buffer(_) => Unusable::Unavailable(io::Error::other(error.to_string())),
            error => entry.blame(error),
        };
        let read = match self.sources.kept(file) {
            Some(whole) => ltx::read_page(&whole, frame, pgno, header.page_size, out).map_err(blame),
            None => self.file(file).and_then(|source| {
                ltx::read_page(&source, frame, pgno, header.page_size, out).map_err(blame)
            }),
        };
        read.map_err(|why| self.plan.inner.unusable(entry, why))?;
        Ok(true)
    }

    fn file(&self, at: usize) -> Result<Arc<dyn DiskFile>, Unusable> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, file)) = open.iter().find(|(held, _)| *held == at) {
            return Ok(file.clone());
        }
        let file: Arc<dyn DiskFile> = self.plan.files[at].0.open(&*self.plan.inner.disk)?.into();
        if open.len() >= OPEN_FILES_MAX {
            open.remove(0);
        }
        open.push((at, file.clone()));
        Ok(file)
    }
}
