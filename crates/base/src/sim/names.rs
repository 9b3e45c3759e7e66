//! A directory on two sides: the names that programs see, and those that a power loss leaves.
//!
//! Changes between two syncs of the directory are kept in order; a power loss keeps the first few of them. A move
//! between directories is one change in each, tied by a number (see `power`): a file may then show under both names,
//! but is never lost; a directory moves whole or not at all.

use std::collections::{BTreeMap, BTreeSet};

/// Names an inode for good; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ino(pub(super) u64);

/// Ties the two halves of a move between directories.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MoveId(pub(super) u64);

#[derive(Clone, Debug)]
pub(super) enum NameChange {
    Set { name: String, ino: Ino },
    Remove { name: String },
    Rename { from: String, to: String, ino: Ino },
    MovedIn { id: MoveId, name: String, ino: Ino, other: Ino, whole: bool },
    MovedOut { id: MoveId, name: String, other: Ino },
}

#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    live: BTreeMap<String, Ino>,
    durable: BTreeMap<String, Ino>,
    pending: Vec<NameChange>,
}

impl Names {
    pub(super) fn get(&self, name: &str) -> Option<Ino> {
        self.live.get(name).copied()
    }

    pub(super) fn live(&self) -> &BTreeMap<String, Ino> {
        &self.live
    }

    pub(super) fn pending(&self) -> &[NameChange] {
        &self.pending
    }

    pub(super) fn change(&mut self, change: NameChange) {
        apply(&mut self.live, &change);
        self.pending.push(change);
    }

    /// Makes the first `count` changes durable.
    pub(super) fn persist(&mut self, count: usize) {
        for change in self.pending.drain(..count) {
            apply(&mut self.durable, &change);
        }
    }

    /// What is durable becomes what is seen.
    pub(super) fn forget_pending(&mut self) {
        self.pending.clear();
        self.live = self.durable.clone();
    }

    /// Every inode that a name stands for, or may stand for after a power loss.
    pub(super) fn reachable(&self, into: &mut BTreeSet<Ino>) {
        into.extend(self.live.values());
        into.extend(self.durable.values());
        into.extend(self.pending.iter().filter_map(|change| match change {
            NameChange::Set { ino, .. }
            | NameChange::Rename { ino, .. }
            | NameChange::MovedIn { ino, .. } => Some(*ino),
            NameChange::Remove { .. } | NameChange::MovedOut { .. } => None,
        }));
    }
}

fn apply(names: &mut BTreeMap<String, Ino>, change: &NameChange) {
    match change {
        NameChange::Set { name, ino } | NameChange::MovedIn { name, ino, .. } => {
            names.insert(name.clone(), *ino);
        }
        NameChange::Remove { name } | NameChange::MovedOut { name, .. } => {
            names.remove(name);
        }
        NameChange::Rename { from, to, ino } => {
            names.remove(from);
            names.insert(to.clone(), *ino);
        }
    }
}
