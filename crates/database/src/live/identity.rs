//! Whether the files by which a database is followed are still its own.
//!
//! SQLite ties a log to its database by name only. So a log is emptied as soon as nobody else has the database open:
//! whoever then moves another file into its place, or copies one over it, finds no old frames beside it. What happens
//! to the files under Stead's hands all the same is noticed by inode, length and times, and answered by joining anew.

use super::rotate::busy_is_none;
use super::state::Look;
use super::{Live, SealError};
use crate::machine::Holder;
use crate::wal::WalPosition;
use base::{Disk, disk};
use std::path::Path;

/// The files beside a database, as its connections opened them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beside {
    /// The log's inode.
    pub log: Option<u64>,
    /// The inode of the log's index.
    pub index: Option<u64>,
}

impl Beside {
    /// Those that lie beside a database now.
    pub fn of(disk: &dyn Disk, database: &Path) -> Beside {
        let inode = |suffix| disk.metadata(&disk::sibling(database, suffix)).ok().map(|at| at.inode);
        Beside { log: inode("-wal"), index: inode("-shm") }
    }
}

/// How the file looked when everything was in it and nobody had anything to add.
#[derive(Clone, Debug)]
pub(super) struct Rest {
    end: WalPosition,
    look: Look,
}

impl Live {
    /// The files beside it that its connections use.
    pub fn beside(&self) -> Beside {
        self.beside
    }

    /// Who else has it open.
    pub fn others(&self) -> Option<Holder> {
        self.locks.others()
    }

    /// Whether what lies beside its file is not what its connections have open.
    pub fn is_displaced(&self) -> bool {
        let now = Beside::of(&*self.machine.disk, &self.place.file);
        let moved = |ours: Option<u64>, there| ours.is_some() && ours != there;
        moved(self.beside.log, now.log) || moved(self.beside.index, now.index)
    }

    /// Whether its file was written although nothing was committed.
    pub fn is_overwritten(&mut self) -> bool {
        if self.rest.is_none() {
            return false;
        }
        let Some(index) = self.peek() else { return false };
        let Some(rest) = self.rest.as_ref().filter(|rest| rest.end == index.end) else { return false };
        self.place.look(&*self.machine.disk).is_ok_and(|look| !look.same_contents(&rest.look))
    }

    /// The file may hold anything: it is compared, page by page.
    pub fn doubt(&mut self, why: &str) {
        for reader in [self.marks.held(), self.marks.idle()] {
            // What SQLite remembers of pages would hide the change; where it cannot forget, the next start compares.
            let _ = reader.sql().execute_batch("PRAGMA shrink_memory");
        }
        self.rest = None;
        self.broke(why);
    }

    /// Remembers how the file looks while everything is in it.
    pub(super) fn note_rest(&mut self) {
        let at = self.log.at();
        if !self.log_is_free() || self.rest.as_ref().is_some_and(|rest| rest.end == at) {
            return;
        }
        self.rest = self.place.look(&*self.machine.disk).ok().map(|look| Rest { end: at, look });
    }

    /// Empties a log that nobody else uses and that holds nothing new.
    pub fn empty_log(&mut self) -> Result<(), SealError> {
        let log = disk::sibling(&self.place.file, "-wal");
        let is_long = || self.machine.disk.metadata(&log).is_ok_and(|at| at.len > 0);
        if self.log_is_free() && self.locks.others().is_none() && is_long() {
            busy_is_none(self.worker.checkpoint_truncate())?;
        }
        Ok(())
    }
}
