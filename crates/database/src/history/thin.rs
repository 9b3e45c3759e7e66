//! What to merge and what to remove: pure. Files, time and holds go in, a plan comes out.
//!
//! ```text
//! level 0 ─30 s─▶ 1 ─5 min, after 1 h─▶ 2 ─1 h, after 1 day─▶ 3 ─older than keep─▶ base (level 9), or one file
//!                                                                                  from pin to pin
//! ```
//! - A merge covers neighbouring files of one level and window, and never passes a held position. A window with a
//!   single file costs no copy: the file moves up.
//! - A file may go when a merged file of the same place covers it, and no held position lies where only it leads.
//! - A snapshot is made where the files since the last one have grown larger than it: restores stay short.
//! - At the local limit (`limit`): copies that the store has too, the oldest unpinned history, finer moments.
//!
//! Each call does what is due now; what it leaves for the next one is only delay.

mod limit;
#[cfg(test)]
mod tests;

use super::files::FileKey;
use super::plan::{Candidate, Links, Lookup, Route, fits, search};
use super::retention::{
    COARSEST_LEVEL, FINEST_KEPT, FOLD_LAG_DIVISOR, Holds, MERGE_INPUTS_MAX, Retention,
    SNAPSHOT_AFTER_BYTES_MIN, SNAPSHOT_LEVEL, SNAPSHOT_LIMIT_QUARTERS, merge_window, millis,
};
use base::{Checksum, Timestamp, Txid};
use std::collections::{BTreeMap, BTreeSet};

/// A file as the planner sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ThinFile {
    pub key: FileKey,
    /// When its last TXID was sealed.
    pub sealed: Timestamp,
    pub bytes: u64,
    pub local: bool,
    pub stored: bool,
    /// The databases before and after it, as far as its header tells.
    pub links: Links,
}

/// Files to become one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merge {
    /// The files, oldest first.
    pub inputs: Vec<FileKey>,
    /// The file that they become.
    pub output: FileKey,
}

/// A file to get another level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// The file.
    pub from: FileKey,
    /// Its new name.
    pub to: FileKey,
}

/// What thinning is to do, in this order: merges, moves, removals; those in the store last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThinPlan {
    /// Files to become one.
    pub merges: Vec<Merge>,
    /// Files to get another level.
    pub moves: Vec<Move>,
    /// Local copies that can go.
    pub remove_local: Vec<FileKey>,
    /// Those of them that can go only once a merge of this plan has their TXIDs.
    pub(super) merged_away: BTreeSet<FileKey>,
    /// Copies in the store that can go.
    pub remove_stored: Vec<FileKey>,
    /// The local limit is exceeded, and nothing that may be given up is left: drop automatic checkpoints.
    pub over_limit: bool,
    /// What must still be restorable afterwards.
    pub(super) pinned: Vec<Txid>,
}

impl ThinPlan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        let ThinPlan { merges, moves, remove_local, remove_stored, .. } = self;
        merges.is_empty() && moves.is_empty() && remove_local.is_empty() && remove_stored.is_empty()
    }
}

/// Plans what is due.
pub(super) fn plan(files: &[ThinFile], now: Timestamp, holds: &Holds, retention: &Retention) -> ThinPlan {
    let mut thinning = Thinning::new(files, now, holds, retention);
    thinning.place_base();
    for level in 0..COARSEST_LEVEL {
        thinning.merge_level(level);
    }
    thinning.fold();
    thinning.snapshot();
    thinning.remove_covered();
    limit::relieve(&mut thinning);
    thinning.plan
}

/// The state of one planning.
struct Thinning<'a> {
    files: &'a [ThinFile],
    now: Timestamp,
    holds: &'a Holds,
    retention: &'a Retention,
    /// What was sealed before this has outlived `keep`.
    cutoff: Timestamp,
    /// Files that a merge or move of this plan takes; each is taken once.
    taken: BTreeSet<FileKey>,
    keys: BTreeMap<FileKey, usize>,
    covers: Covers,
    plan: ThinPlan,
}

impl<'a> Thinning<'a> {
    fn new(
        files: &'a [ThinFile],
        now: Timestamp,
        holds: &'a Holds,
        retention: &'a Retention,
    ) -> Thinning<'a> {
        let cutoff = Timestamp(now.0.saturating_sub(millis(retention.keep)));
        let plan = ThinPlan { pinned: holds.pinned.clone(), ..ThinPlan::default() };
        let keys = files.iter().enumerate().map(|(at, file)| (file.key, at)).collect();
        let covers = Covers::new(files.iter().copied());
        Thinning { files, now, holds, retention, cutoff, taken: BTreeSet::new(), keys, covers, plan }
    }

    fn age_ms(&self, file: &ThinFile) -> i64 {
        self.now.0.saturating_sub(file.sealed.0)
    }

    /// The first file of a history holds everything, at level 0: it becomes the base without being copied.
    fn place_base(&mut self) {
        let based = self.files.iter().any(|file| file.key.level == SNAPSHOT_LEVEL && file.key.is_snapshot());
        if based {
            return;
        }
        let snapshots = self.files.iter().filter(|file| file.key.is_snapshot());
        if let Some(first) = snapshots.min_by_key(|file| (file.key.max, file.key.level)) {
            self.move_to(first.key, SNAPSHOT_LEVEL);
        }
    }

    fn move_to(&mut self, from: FileKey, level: u8) {
        let to = FileKey { level, ..from };
        if !self.keys.contains_key(&to) && self.taken.insert(from) {
            self.plan.moves.push(Move { from, to });
        }
    }

    /// Merges the files of one level whose windows are over into the next level.
    fn merge_level(&mut self, level: u8) {
        let mut run: Vec<&ThinFile> = Vec::new();
        let mut window = None;
        for file in self.files.iter().filter(|file| file.key.level == level && !file.key.is_snapshot()) {
            let due = merge_window(level, file.sealed).filter(|(_, due)| *due <= self.now.0);
            let due = due.filter(|_| !self.covered_above(file) && !self.taken.contains(&file.key));
            let end = due.map(|(end, _)| end);
            let joins = run.last().is_some_and(|last| {
                let next = last.key.max.next() == file.key.min
                    && fits(last.links, last.key.max, file.key.min, file.links);
                end == window && next && !self.holds.has(last.key.max)
            });
            if !joins || run.len() == MERGE_INPUTS_MAX {
                self.end_run(level, &run);
                run.clear();
            }
            if end.is_some() {
                run.push(file);
                window = end;
            }
        }
        self.end_run(level, &run);
    }

    fn end_run(&mut self, level: u8, run: &[&ThinFile]) {
        match run {
            [] => {}
            // A level-0 file stays for the time in which every seal can be restored.
            [single] if level == 0 && self.age_ms(single) < millis(FINEST_KEPT) => {}
            [single] => self.move_to(single.key, level + 1),
            [first, .., last] => {
                let output = FileKey { level: level + 1, min: first.key.min, max: last.key.max };
                self.merge(run.iter().map(|file| file.key).collect(), output);
            }
        }
    }

    fn merge(&mut self, inputs: Vec<FileKey>, output: FileKey) {
        let free = !self.keys.contains_key(&output);
        if free && inputs.iter().all(|key| !self.taken.contains(key)) {
            self.taken.extend(inputs.iter().copied());
            self.plan.merges.push(Merge { inputs, output });
        }
    }

    fn covered_above(&self, file: &ThinFile) -> bool {
        self.covers.over(file).any(|by| by.key.level > file.key.level && !by.key.is_snapshot())
    }

    /// Folds what outlived `keep`: into the base as far as no pin is in the way, else into one file from pin to pin.
    fn fold(&mut self) {
        let lag = millis(self.retention.keep) / i64::from(FOLD_LAG_DIVISOR);
        let aged = |file: &&ThinFile| file.sealed < self.cutoff && !file.key.is_snapshot();
        let oldest = self.files.iter().filter(aged).map(|file| file.sealed).min();
        let Some(_) = oldest.filter(|oldest| oldest.0 < self.cutoff.0.saturating_sub(lag)) else { return };
        let Some(upto) = self.files.iter().filter(aged).map(|file| file.key.max).max() else { return };
        let Some(chain) = self.chain(upto, true) else { return };
        let segments = self.segments(&chain);
        for segment in segments.into_iter().filter(|segment| segment.len() > 1) {
            self.merge_segment(&segment);
        }
    }

    /// Files that lead to a position, oldest first; from the oldest base, or from the newest snapshot.
    fn chain(&self, upto: Txid, from_oldest: bool) -> Option<Vec<ThinFile>> {
        let oldest =
            self.files.iter().filter(|file| file.key.is_snapshot()).map(|file| file.key.max).min()?;
        let usable: Vec<ThinFile> = self
            .files
            .iter()
            .filter(|file| !(from_oldest && file.key.is_snapshot() && file.key.max != oldest))
            .copied()
            .collect();
        let candidate = |file: &ThinFile| Candidate {
            level: file.key.level,
            min: file.key.min,
            max: file.key.max,
            local: file.local,
        };
        let candidates: Vec<Candidate> = usable.iter().map(candidate).collect();
        let route = Route { from: Txid::ZERO, to: upto, exact: false };
        let mut probe = |at: usize| Some(usable[at].links);
        let found = search(&Lookup::new(&candidates), route, &mut probe, &mut BTreeSet::new()).ok()?;
        Some(found.into_iter().map(|at| usable[at]).collect())
    }

    /// Cuts a chain after every file that ends at a pin, and around every file that passes one (pinned after it was
    /// made): what leads to that pin is beside the chain, and starts from what lies before the file.
    fn segments(&self, chain: &[ThinFile]) -> Vec<Vec<ThinFile>> {
        let mut segments = vec![Vec::new()];
        for file in chain {
            if !file.key.is_snapshot() && self.pinned_within(file, file.key.max) {
                segments.extend([vec![*file], Vec::new()]);
                continue;
            }
            let pinned = |txid: &Txid| self.holds.pinned.binary_search(txid).is_ok();
            if let Some(segment) = segments.last_mut() {
                segment.push(*file);
            }
            if pinned(&file.key.max) {
                segments.push(Vec::new());
            }
        }
        segments
    }

    /// Merges neighbouring files into one, as many as one merge takes; the next call goes on from there.
    fn merge_segment(&mut self, segment: &[ThinFile]) {
        let inputs = &segment[..segment.len().min(MERGE_INPUTS_MAX)];
        let [first, .., last] = inputs else { return };
        let level = if first.key.is_snapshot() { SNAPSHOT_LEVEL } else { COARSEST_LEVEL };
        let output = FileKey { level, min: first.key.min, max: last.key.max };
        self.merge(inputs.iter().map(|file| file.key).collect(), output);
    }

    /// Makes a snapshot where the files since the last one have outgrown it.
    fn snapshot(&mut self) {
        let settled = |file: &&ThinFile| file.key.level > 0 && !self.taken.contains(&file.key);
        let Some(upto) = self.files.iter().filter(settled).map(|file| file.key.max).max() else { return };
        let Some(chain) = self.chain(upto, false) else { return };
        let Some((base, after)) = chain.split_first() else { return };
        let grown: u64 = after.iter().map(|file| file.bytes).sum();
        let room = self.retention.local_bytes / 4 * SNAPSHOT_LIMIT_QUARTERS;
        let local: u64 = self.files.iter().filter(|file| file.local).map(|file| file.bytes).sum();
        let fits = local.saturating_add(base.bytes).saturating_add(grown) <= room;
        if grown > base.bytes.max(SNAPSHOT_AFTER_BYTES_MIN) && fits {
            let free = chain.iter().all(|file| !self.taken.contains(&file.key));
            if free {
                self.merge_segment(&chain);
            }
        }
    }

    /// Removes what a merged file covers: in the store only by what the store has; here by what is here or there (it
    /// is only there when the local limit took it from here).
    fn remove_covered(&mut self) {
        let moved: BTreeSet<FileKey> = self.plan.moves.iter().map(|one| one.from).collect();
        let made = Covers::new(self.outputs().into_iter());
        for file in self.files.iter().filter(|file| !moved.contains(&file.key)) {
            let there = || self.covers.over(file).filter(|by| self.replaces(by, file));
            // The same file under another name is no reason to have it in the store only.
            let here = |by: &ThinFile| by.local || (by.key.min, by.key.max) != (file.key.min, file.key.max);
            let stored = file.stored && there().any(|by| by.stored);
            if file.local && there().any(here) {
                self.plan.remove_local.push(file.key);
            } else if file.local && made.over(file).any(|by| self.replaces(by, file)) {
                self.plan.remove_local.push(file.key);
                self.plan.merged_away.insert(file.key);
            }
            if stored {
                self.plan.remove_stored.push(file.key);
            }
        }
    }

    /// The files that this plan's merges will make, on this machine.
    fn outputs(&self) -> Vec<ThinFile> {
        let output = |merge: &Merge| {
            let inputs = merge.inputs.iter().filter_map(|key| self.keys.get(key));
            let sealed = inputs.map(|at| self.files[*at].sealed).max().unwrap_or(self.now);
            let links = Links { page_size: 0, before: Checksum::NONE, after: Checksum::NONE };
            ThinFile { key: merge.output, sealed, bytes: 0, local: true, stored: false, links }
        };
        self.plan.merges.iter().map(output).collect()
    }

    /// Whether a file makes another, whose TXIDs it has too, unnecessary.
    fn replaces(&self, by: &ThinFile, file: &ThinFile) -> bool {
        let same_range = by.key.max == file.key.max && by.key.min == file.key.min;
        if same_range && by.key.level <= file.key.level {
            return false;
        }
        if by.key.is_snapshot() && !same_range {
            // What lies before a snapshot is history of its own, until it has outlived `keep`.
            return by.sealed < self.cutoff && !self.pinned_within(file, by.key.max);
        }
        let kept_ms = if file.key.level == 0 && !file.key.is_snapshot() { millis(FINEST_KEPT) } else { 0 };
        if self.age_ms(file) < kept_ms {
            return false;
        }
        let noted = by.sealed >= self.cutoff && within(&self.holds.noted, file, by.key.max);
        !noted && !self.pinned_within(file, by.key.max)
    }

    fn pinned_within(&self, file: &ThinFile, upto: Txid) -> bool {
        within(&self.holds.pinned, file, upto)
    }
}

/// Merged files by level, so that those that cover a file are found without looking at all.
struct Covers {
    levels: Vec<Vec<Cover>>,
}

struct Cover {
    file: ThinFile,
    /// The furthest that this file or one before it on its level reaches.
    reach: Txid,
}

impl Covers {
    fn new(files: impl Iterator<Item = ThinFile>) -> Covers {
        let mut levels: BTreeMap<u8, Vec<ThinFile>> = BTreeMap::new();
        // A single seal covers nothing but itself.
        for file in files.filter(|file| file.key.level > 0) {
            levels.entry(file.key.level).or_default().push(file);
        }
        let row = |mut level: Vec<ThinFile>| {
            level.sort_by_key(|file| (file.key.min, file.key.max));
            let mut reach = Txid::ZERO;
            let cover = |file: ThinFile| {
                reach = reach.max(file.key.max);
                Cover { file, reach }
            };
            level.into_iter().map(cover).collect()
        };
        Covers { levels: levels.into_values().map(row).collect() }
    }

    /// The files that have all TXIDs of a file, other than itself.
    fn over<'a>(&'a self, file: &'a ThinFile) -> impl Iterator<Item = &'a ThinFile> {
        self.levels.iter().flat_map(move |level| {
            let end = level.partition_point(|cover| cover.file.key.min <= file.key.min);
            let reaching = level[..end].iter().rev().take_while(move |cover| cover.reach >= file.key.max);
            let covers = move |by: &&ThinFile| by.key.max >= file.key.max && by.key != file.key;
            reaching.map(|cover| &cover.file).filter(covers)
        })
    }
}

/// Whether a held position lies where a file may be needed to get there: from its start (a snapshot: from its end)
/// to before the end of what would replace it.
fn within(held: &[Txid], file: &ThinFile, upto: Txid) -> bool {
    let from = if file.key.is_snapshot() { file.key.max } else { file.key.min };
    let first = held.partition_point(|txid| *txid < from);
    held.get(first).is_some_and(|txid| *txid < upto)
}
