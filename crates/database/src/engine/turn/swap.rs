//! Files that come or go in a turn: removed, brought back, or replaced by another incarnation.
//!
//! Only a file that history holds to its last transaction may go. Whatever else lies at the place of a database that
//! comes back is moved aside, under a name that the change tells.

use super::{Change, ChangeKind, HistoryProblem, TurnError, failed};
use crate::engine::create::{BringBackError, There, Written, aside_name};
use crate::engine::discover::{BESIDE, remove_beside};
use crate::engine::slot::{Slot, State};
use crate::engine::{Entry, Shared};
use crate::live::ApplyError;
use base::{DatabasePath, Position, disk};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

impl Shared {
    /// Removes the file, or puts another incarnation's in its place.
    pub(super) fn swap(
        &self,
        slot: &Arc<Slot>,
        state: &mut State,
        change: &mut Change,
    ) -> Result<(), TurnError> {
        if matches!(change.kind, ChangeKind::Unchanged | ChangeKind::TurnedBack) {
            return Ok(());
        }
        self.touch(&slot.path);
        let disk = &*self.settings.machine.disk;
        // What takes long is done while the file is locked.
        let written = change.to.map(|to| self.write_beside(&slot.path, to.incarnation, to.txid));
        let written = written.transpose().map_err(|error| not_brought_back(&slot.path, error))?;
        let followed = match &*state {
            State::Live(live) => Some((live.device(), live.inode())),
            State::Waiting => None,
        };
        let unknown = self.is_unknown(slot, followed);
        if let Err(error) = self.last_look(slot, change) {
            written.into_iter().for_each(|written| self.discard(&written));
            return Err(error);
        }
        if let State::Live(mut live) = std::mem::replace(state, State::Waiting) {
            live.unlock();
            let place = live.place().clone();
            drop(live);
            place.forget(disk);
        }
        change.aside = None;
        if unknown {
            change.aside = Some(self.move_aside(slot).map_err(|error| io_failed(&slot.path, &error))?);
        }
        if let (Some(to), Some(written)) = (change.to, written) {
            let there = if change.from.is_some() && !unknown { There::Sealed } else { There::Nothing };
            return self.swap_in(slot, state, to, written, there);
        }
        let removed = remove_all(disk, &slot.file).and_then(|()| self.sync_parent(&slot.file));
        removed.map_err(|error| io_failed(&slot.path, &error))?;
        slot.show_waiting("missing", None);
        self.has_ended();
        if slot.named {
            self.create_if_missing(&slot.path, self.schema_of(&slot.path).as_deref()).map_err(|error| {
                let disk_full =
                    matches!(&error, crate::engine::StartError::Path { source, .. } if disk::is_full(source));
                TurnError::Failed { reason: error.to_string(), disk_full }
            })?;
            slot.show_waiting("empty", None);
        }
        Ok(())
    }

    /// Records that a file goes, and looks directly before it does whether somebody has opened it since it was planned.
    fn last_look(&self, slot: &Slot, change: &Change) -> Result<(), TurnError> {
        let Some(from) = change.from else { return self.nobody_has_it_open(slot) };
        self.ledger.record_deleted(&slot.path)?;
        let nobody = self.nobody_has_it_open(slot);
        if nobody.is_err() {
            self.ledger.record_returned(&slot.path, from.incarnation)?;
        }
        nobody
    }

    /// Brings a database back as it was, and follows it. Where that fails, the file is gone again: history has it.
    fn swap_in(
        &self,
        slot: &Arc<Slot>,
        state: &mut State,
        to: Position,
        written: Written,
        there: There,
    ) -> Result<(), TurnError> {
        let disk = &*self.settings.machine.disk;
        if there == There::Nothing {
            // An empty file, if there is one; whatever had something in it was moved.
            let removed = remove_all(disk, &slot.file);
            removed.map_err(|error| io_failed(&slot.path, &error))?;
        }
        let back = self.put_in_place(&written, there);
        let back = back.map_err(|error| not_brought_back(&slot.path, error))?;
        let done = (|| {
            self.ledger.record_returned(&slot.path, to.incarnation)?;
            self.join(slot, state);
            let State::Live(live) = state else {
                let why = slot.info().trouble.map(|trouble| trouble.message).unwrap_or_default();
                let reason = format!("{}: it was written but could not be joined: {why}", slot.path);
                return Err(TurnError::Failed { reason, disk_full: false });
            };
            live.seal_difference().map_err(|error| failed(&slot.path, &ApplyError::Seal(error)))?;
            let (found, wanted) = (live.sums().rolling(), back.checksum);
            if found != wanted {
                return Err(failed(&slot.path, &ApplyError::Checksum { found, wanted }));
            }
            // Nobody writes before the turn is over.
            live.lock().map_err(|error| failed(&slot.path, &error))?;
            slot.show_live(&*live);
            Ok(())
        })();
        if done.is_err() && matches!(state, State::Waiting) {
            if let Err(error) = remove_all(disk, &slot.file) {
                tracing::warn!(event = "leftover stays", path = %slot.path, %error, "a half-restored file");
            }
            slot.show_waiting("missing", None);
        }
        done
    }

    /// Whether what lies in the place of a database is nothing that history holds.
    /// `followed`: file system and inode of the file that is followed.
    pub(super) fn is_unknown(&self, slot: &Slot, followed: Option<(u64, u64)>) -> bool {
        let disk = &*self.settings.machine.disk;
        let Ok(there) = disk.metadata(&slot.file) else { return false };
        match followed {
            Some(followed) => (there.device, there.inode) != followed,
            None => {
                let holds = |suffix: &str| {
                    disk.metadata(&disk::sibling(&slot.file, suffix)).is_ok_and(|at| at.len > 0)
                };
                there.is_dir || there.len > 0 || holds("-wal") || holds("-journal")
            }
        }
    }

    /// Moves what lies in the place of a database out of the way, with what SQLite may keep beside it.
    fn move_aside(&self, slot: &Slot) -> io::Result<PathBuf> {
        let disk = &*self.settings.machine.disk;
        let to = aside_name(disk, &slot.file);
        disk.rename_new(&slot.file, &to)?;
        self.moved_aside(slot.file.clone(), to.clone());
        for suffix in BESIDE {
            let (from, to) = (disk::sibling(&slot.file, suffix), disk::sibling(&to, suffix));
            match disk.rename_new(&from, &to) {
                Ok(()) => self.moved_aside(from, to),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        self.sync_parent(&slot.file)?;
        let message =
            format!("what lay in its place is no database that history holds: moved to {}", to.display());
        self.tell(&slot.path, "moved_aside", message);
        Ok(to)
    }

    fn schema_of(&self, path: &DatabasePath) -> Option<PathBuf> {
        self.settings.entries.iter().find_map(|entry| match entry {
            Entry::File { path: named, schema } if named == path => schema.as_deref().map(Path::to_owned),
            _ => None,
        })
    }
}

fn remove_all(disk: &dyn base::Disk, file: &Path) -> io::Result<()> {
    disk::remove_if_there(disk, file)?;
    remove_beside(disk, file)
}

fn io_failed(path: &DatabasePath, error: &io::Error) -> TurnError {
    TurnError::Failed { disk_full: disk::is_full(error), reason: format!("{path}: {error}") }
}

fn not_brought_back(path: &DatabasePath, error: BringBackError) -> TurnError {
    let BringBackError { reason, disk_full, damaged } = error;
    if damaged {
        return HistoryProblem { path: path.clone(), reason, away: false }.into();
    }
    TurnError::Failed { reason: format!("{path}: {reason}"), disk_full }
}
