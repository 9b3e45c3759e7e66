//! What is left of the tree when the power goes, and what a sync of a directory saves from that.

use super::names::{Ino, MoveId, NameChange};
use super::random::SimRandom;
use super::tree::{Node, Tree};
use std::collections::{BTreeMap, BTreeSet};

/// How many changes of each directory survive.
type Kept = BTreeMap<Ino, usize>;

impl Tree {
    /// Makes all names of a directory durable, and the other half of each move where the file would be lost otherwise.
    pub(super) fn sync_dir(&mut self, dir: Ino) {
        let count = self.names(dir).map_or(0, |names| names.pending().len());
        let kept = self.close(Kept::from([(dir, count)]));
        self.persist(&kept);
        if let Ok(inode) = self.get_mut(dir) {
            inode.durable_times = inode.times;
        }
    }

    /// Forgets, by the seed, what was not synced.
    pub(super) fn lose_power(&mut self, random: &SimRandom) {
        let mut kept = Kept::new();
        for (ino, inode) in &self.inodes {
            if let Node::Directory(names) = &inode.node {
                let all = names.pending().len() as u64;
                let count = match random.below(4) {
                    0 => 0,
                    1 => all,
                    _ => random.below(all + 1),
                };
                kept.insert(*ino, count as usize);
            }
        }
        let kept = self.close(kept);
        self.persist(&kept);
        for inode in self.inodes.values_mut() {
            if inode.times != inode.durable_times && random.below(2) == 0 {
                inode.times = inode.durable_times;
            }
            inode.durable_times = inode.times;
            match &mut inode.node {
                Node::Directory(names) => names.forget_pending(),
                Node::File(contents) => contents.lose_power(random),
                Node::Memory(_) => inode.node = Node::File(super::contents::Contents::default()),
            }
        }
        self.relink();
    }

    /// Extends the kept changes until no move loses its file, and no directory is in two places.
    fn close(&self, mut kept: Kept) -> Kept {
        loop {
            let mut more = Vec::new();
            for (dir, count) in &kept {
                let Ok(names) = self.names(*dir) else { continue };
                more.extend(names.pending()[..*count].iter().filter_map(|change| match change {
                    NameChange::MovedOut { id, other, .. }
                    | NameChange::MovedIn { id, other, whole: true, .. } => self.through(*other, *id),
                    _ => None,
                }));
            }
            let mut grown = false;
            for (dir, needed) in more {
                let count = kept.entry(dir).or_default();
                grown |= *count < needed;
                *count = needed.max(*count);
            }
            if !grown {
                return kept;
            }
        }
    }

    /// The changes of a directory up to and with one half of a move, where that is still pending.
    fn through(&self, dir: Ino, wanted: MoveId) -> Option<(Ino, usize)> {
        let half = |change: &NameChange| match change {
            NameChange::MovedIn { id, .. } | NameChange::MovedOut { id, .. } => *id == wanted,
            _ => false,
        };
        Some((dir, self.names(dir).ok()?.pending().iter().position(half)? + 1))
    }

    fn persist(&mut self, kept: &Kept) {
        for (dir, count) in kept {
            if let Ok(names) = self.names_mut(*dir) {
                names.persist(*count);
            }
        }
    }

    /// Finds out again what a name stands for.
    fn relink(&mut self) {
        let mut linked = BTreeSet::new();
        let mut todo = vec![super::tree::ROOT];
        while let Some(ino) = todo.pop() {
            if linked.insert(ino)
                && let Ok(names) = self.names(ino)
            {
                todo.extend(names.live().values());
            }
        }
        self.inodes.retain(|ino, _| linked.contains(ino));
        self.inodes.values_mut().for_each(|inode| inode.linked = true);
    }
}
