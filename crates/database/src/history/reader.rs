//! Single pages of a plan, without building the database.
//!
//! The base (the oldest file) keeps its own compact index, about 4 bytes a page. The pages of the files above it are
//! merged into one sorted table of where the newest version lies, so that a page costs two searches however many
//! files there are. A page that an intermediate file cut off (the database was shorter then) is not taken from an
//! older one. At most [`OPEN_FILES_MAX`] descriptors are held.

use super::files::{Entry, Unusable};
use super::plan::Plan;
use base::{Checksum, DiskFile, Pgno};
use ltx::{DecodeError, Frame, Index};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Descriptors that one reader holds at most.
const OPEN_FILES_MAX: usize = 32;

/// Entries beyond which the table is sorted and freed of older versions before more is added.
const TABLE_SLACK: usize = 4096;

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
    base: Index,
    /// Pages above this in the base were cut off later.
    base_limit: u32,
    table: Vec<Spot>,
    open: Mutex<Vec<(usize, Arc<dyn DiskFile>)>>,
}

/// Where the newest version of a page lies.
#[derive(Clone, Copy, Debug)]
struct Spot {
    pgno: u32,
    file: u32,
    frame: Frame,
}

impl Plan {
    /// Opens the plan for single pages: reads every file's index.
    pub fn reader(&self) -> Result<PageReader, ReadError> {
        let mut table = Table::default();
        let mut limit = u32::MAX;
        let mut base = None;
        for (at, (entry, header)) in self.files.iter().enumerate().rev() {
            limit = limit.min(header.commit);
            let index = self.index(entry)?;
            if at == 0 {
                base = Some(index);
                break;
            }
            let file = u32::try_from(at).unwrap_or(u32::MAX);
            for (pgno, frame) in index.iter().take_while(|(pgno, _)| pgno.0 <= limit) {
                table.spots.push(Spot { pgno: pgno.0, file, frame });
            }
            table.settle(TABLE_SLACK);
        }
        table.settle(0);
        table.spots.shrink_to_fit();
        let base = base.expect("invariant: a plan has at least one file");
        Ok(PageReader {
            plan: self.clone(),
            base,
            base_limit: limit,
            table: table.spots,
            open: Mutex::default(),
        })
    }

    /// Every page in any of the files, ascending.
    pub(super) fn pages(&self) -> Result<Vec<Pgno>, ReadError> {
        let mut pages: Vec<Pgno> = Vec::new();
        let mut settled = 0;
        for (entry, _) in &self.files {
            pages.extend(self.index(entry)?.iter().map(|(pgno, _)| pgno));
            if pages.len() > 2 * settled + TABLE_SLACK {
                pages.sort_unstable();
                pages.dedup();
                settled = pages.len();
            }
        }
        pages.sort_unstable();
        pages.dedup();
        Ok(pages)
    }

    fn index(&self, entry: &Entry) -> Result<Index, ReadError> {
        let disk = &*self.inner.disk;
        let read = entry.open(disk).and_then(|file| Index::read(&file).map_err(|error| entry.blame(error)));
        let (header, index) = read.map_err(|why| self.inner.unusable(entry, why))?;
        entry.accept(&header).map_err(|why| self.inner.unusable(entry, why))?;
        Ok(index)
    }
}

/// The table while it is filled, newest file first.
#[derive(Default)]
struct Table {
    spots: Vec<Spot>,
    settled: usize,
}

impl Table {
    /// Sorts and drops older versions, once it has doubled and grown by the slack.
    fn settle(&mut self, slack: usize) {
        if self.spots.len() > 2 * self.settled + slack || slack == 0 {
            self.spots.sort_unstable_by_key(|spot| (spot.pgno, std::cmp::Reverse(spot.file)));
            self.spots.dedup_by_key(|spot| spot.pgno);
            self.settled = self.spots.len();
        }
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
        let Some((file, frame)) = self.find(pgno) else { return Ok(false) };
        let (entry, header) = &self.plan.files[file];
        let read = self.file(file).and_then(|source| {
            let read = ltx::read_page(&source, frame, pgno, header.page_size, out);
            read.map_err(|error| match error {
                // The caller's mistake, not the file's.
                DecodeError::Buffer(_) => Unusable::Unavailable(io::Error::other(error.to_string())),
                error => entry.blame(error),
            })
        });
        read.map_err(|why| self.plan.inner.unusable(entry, why))?;
        Ok(true)
    }

    fn find(&self, pgno: Pgno) -> Option<(usize, Frame)> {
        if let Ok(at) = self.table.binary_search_by_key(&pgno.0, |spot| spot.pgno) {
            let spot = self.table[at];
            return Some((spot.file as usize, spot.frame));
        }
        let frame = self.base.find(pgno).filter(|_| pgno.0 <= self.base_limit)?;
        Some((0, frame))
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
