//! SQLite's locks, held by handles: the five levels on a database file and the eight on its wal-index.
//!
//! The levels follow `unixLock` of SQLite's `os_unix.c` as it behaves between processes; handles of one process exclude
//! each other just the same.

use super::memory::{Mapping, Memory};
use super::names::Ino;
use super::process::Process;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// How strong a lock on a database file is (https://sqlite.org/lockingv3.html).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    #[default]
    None,
    Shared,
    Reserved,
    Pending,
    Exclusive,
}

/// Whether a lock was had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Granted,
    Busy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HandleId(pub(super) u64);

/// An open file.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) ino: Ino,
    pub(super) path: PathBuf,
    pub(super) process: Process,
    pub(super) writable: bool,
    pub(super) level: Level,
    pub(super) shm: Option<Shm>,
}

/// A handle's part in a wal-index.
#[derive(Debug)]
pub(super) struct Shm {
    pub(super) ino: Ino,
    pub(super) memory: Arc<Memory>,
    pub(super) mappings: Vec<Arc<Mapping>>,
    pub(super) shared: u16,
    pub(super) exclusive: u16,
}

/// All open files of a machine.
#[derive(Debug, Default)]
pub(super) struct Handles {
    open: BTreeMap<HandleId, Handle>,
    last: u64,
}

impl Handles {
    pub(super) fn add(&mut self, handle: Handle) -> HandleId {
        self.last += 1;
        self.open.insert(HandleId(self.last), handle);
        HandleId(self.last)
    }

    pub(super) fn get(&self, id: HandleId) -> Option<&Handle> {
        self.open.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: HandleId) -> Option<&mut Handle> {
        self.open.get_mut(&id)
    }

    pub(super) fn remove(&mut self, id: HandleId) -> Option<Handle> {
        self.open.remove(&id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Handle> {
        self.open.values()
    }

    /// Drops the handles that a crash takes, and cuts their memory off.
    pub(super) fn crash(&mut self, taken: impl Fn(&Handle) -> bool) {
        for (_, handle) in self.open.extract_if(.., |_, handle| taken(handle)) {
            handle.shm.iter().flat_map(|shm| &shm.mappings).for_each(|mapping| mapping.detach());
        }
    }

    /// Raises the lock of a handle. A request for `Exclusive` that fails may leave `Pending` behind, as in SQLite.
    pub(super) fn lock(&mut self, id: HandleId, wanted: Level) -> Option<Asked> {
        let (ino, held) = self.get(id).map(|handle| (handle.ino, handle.level))?;
        if held >= wanted {
            return Some(Asked::Granted);
        }
        let others = self.open.iter().filter(|(other, handle)| **other != id && handle.ino == ino);
        let strongest = others.map(|(_, handle)| handle.level).max().unwrap_or_default();
        let (level, asked) = match wanted {
            Level::Shared if strongest < Level::Pending => (wanted, Asked::Granted),
            Level::Reserved if strongest < Level::Reserved => (wanted, Asked::Granted),
            Level::Pending | Level::Exclusive if strongest == Level::None => (wanted, Asked::Granted),
            Level::Pending | Level::Exclusive if held >= Level::Reserved => (Level::Pending, Asked::Busy),
            _ => (held, Asked::Busy),
        };
        self.open.get_mut(&id)?.level = level;
        Some(asked)
    }

    /// Lowers the lock of a handle.
    pub(super) fn unlock(&mut self, id: HandleId, level: Level) -> Option<()> {
        let handle = self.open.get_mut(&id)?;
        handle.level = handle.level.min(level);
        Some(())
    }

    /// Whether anyone has the right to write next.
    pub(super) fn reserved(&self, id: HandleId) -> Option<bool> {
        let ino = self.get(id)?.ino;
        Some(self.iter().any(|handle| handle.ino == ino && handle.level >= Level::Reserved))
    }

    /// Takes wal-index locks: bits of `mask`.
    pub(super) fn shm_lock(&mut self, id: HandleId, mask: u16, exclusive: bool) -> Option<Asked> {
        let ino = self.get(id)?.shm.as_ref()?.ino;
        let others = self.open.iter().filter(|(other, _)| **other != id).filter_map(|(_, handle)| {
            let shm = handle.shm.as_ref().filter(|shm| shm.ino == ino)?;
            Some(if exclusive { shm.shared | shm.exclusive } else { shm.exclusive })
        });
        if others.fold(0, |all, held| all | held) & mask != 0 {
            return Some(Asked::Busy);
        }
        let shm = self.get_mut(id)?.shm.as_mut()?;
        if exclusive {
            shm.exclusive |= mask
        } else {
            shm.shared |= mask
        }
        Some(Asked::Granted)
    }

    /// Lets wal-index locks go.
    pub(super) fn shm_unlock(&mut self, id: HandleId, mask: u16) -> Option<()> {
        let shm = self.get_mut(id)?.shm.as_mut()?;
        shm.shared &= !mask;
        shm.exclusive &= !mask;
        Some(())
    }

    /// The process other than `me` that holds a wal-index lock of a database. Lock 8 is held by whoever has it open.
    pub(super) fn shm_holder(&self, database: Ino, index: u8, me: Process) -> Option<Process> {
        let held = |handle: &&Handle| {
            let on_it = handle.ino == database && handle.process != me;
            let locks = |shm: &Shm| index == 8 || (shm.shared | shm.exclusive) >> index & 1 == 1;
            on_it && handle.shm.as_ref().is_some_and(locks)
        };
        self.iter().find(held).map(|handle| handle.process)
    }
}
