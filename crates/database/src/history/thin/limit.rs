//! What to give up when local history has reached its limit, in this order, each only as far as needed:
//!
//! 1. local copies of what the store has too, oldest first (never the end of history);
//! 2. what a merged file covers, even where a noted (not pinned) moment needs it;
//! 3. the oldest snapshot with all that builds on it, up to the next snapshot, where no pin lies between;
//! 4. snapshots that are there for speed alone;
//! 5. moments between pins: the oldest files become one, or part of the base.
//!
//! Nothing left to give up is `over_limit`. Pins, the end of history and the last five minutes are never touched.

use super::{ThinFile, Thinning, within};
use crate::history::files::FileKey;
use crate::history::retention::{FINEST_KEPT, SNAPSHOT_LEVEL};
use base::Txid;
use std::collections::BTreeSet;

/// Plans relief where what stays would still exceed the limit.
pub(super) fn relieve(thinning: &mut Thinning<'_>) {
    let limit = thinning.retention.local_bytes;
    let going: BTreeSet<FileKey> = thinning.plan.remove_local.iter().copied().collect();
    let stays = |file: &&ThinFile| file.local && !going.contains(&file.key);
    let staying: u64 = thinning.files.iter().filter(stays).map(|file| file.bytes).sum();
    let Some(excess) = staying.checked_sub(limit).filter(|excess| *excess > 0) else { return };
    let mut relief = Relief { excess, going };
    let steps = [drop_stored, drop_covered, drop_oldest_generation, drop_spare_snapshots];
    for step in steps {
        step(thinning, &mut relief);
        if relief.excess == 0 {
            return;
        }
    }
    let relieved = relief.excess < excess;
    let coarsened = coarsen(thinning, relief.excess);
    // A base that is only now put into its place can be given up next time.
    let placing = thinning.plan.moves.iter().any(|one| one.to.level == SNAPSHOT_LEVEL);
    thinning.plan.over_limit = !(relieved || coarsened || placing);
}

struct Relief {
    excess: u64,
    going: BTreeSet<FileKey>,
}

impl Relief {
    fn give_up(&mut self, thinning: &mut Thinning<'_>, file: &ThinFile) {
        if file.local && self.going.insert(file.key) {
            thinning.plan.remove_local.push(file.key);
            self.excess = self.excess.saturating_sub(file.bytes);
        }
    }

    fn may(&self, thinning: &Thinning<'_>, file: &ThinFile) -> bool {
        file.local && !self.going.contains(&file.key) && !thinning.taken.contains(&file.key)
    }
}

fn end_of_history(thinning: &Thinning<'_>) -> Txid {
    thinning.files.iter().map(|file| file.key.max).max().unwrap_or(Txid::ZERO)
}

fn oldest_first(thinning: &Thinning<'_>) -> Vec<ThinFile> {
    let mut files = thinning.files.to_vec();
    files.sort_by_key(|file| (file.key.max, file.key.level));
    files
}

fn drop_stored(thinning: &mut Thinning<'_>, relief: &mut Relief) {
    let end = end_of_history(thinning);
    for file in oldest_first(thinning) {
        let spare = file.stored && file.key.max < end && relief.may(thinning, &file);
        if relief.excess > 0 && spare && !thinning.plan.remove_stored.contains(&file.key) {
            relief.give_up(thinning, &file);
        }
    }
}

fn drop_covered(thinning: &mut Thinning<'_>, relief: &mut Relief) {
    for file in oldest_first(thinning) {
        if relief.excess == 0 {
            return;
        }
        let covered = thinning.covers.over(&file).any(|by| {
            (by.stored || (by.local && !relief.going.contains(&by.key)))
                && (!by.key.is_snapshot() && by.key.level >= file.key.level)
                && !within(&thinning.holds.pinned, &file, by.key.max)
        });
        if covered && relief.may(thinning, &file) && !recent(thinning, &file) {
            relief.give_up(thinning, &file);
        }
    }
}

fn recent(thinning: &Thinning<'_>, file: &ThinFile) -> bool {
    thinning.age_ms(file) < super::millis(FINEST_KEPT)
}

/// Snapshots in order of where they end, as far as they stay.
fn snapshots(thinning: &Thinning<'_>, relief: &Relief) -> Vec<ThinFile> {
    let staying = |file: &ThinFile| file.key.is_snapshot() && !relief.going.contains(&file.key);
    oldest_first(thinning).into_iter().filter(staying).collect()
}

fn drop_oldest_generation(thinning: &mut Thinning<'_>, relief: &mut Relief) {
    while relief.excess > 0 {
        let [oldest, next, ..] = snapshots(thinning, relief)[..] else { return };
        let pinned = within(&thinning.holds.pinned, &oldest, next.key.max);
        let files = oldest_first(thinning);
        let generation = files.iter().filter(|file| file.key.max <= next.key.max && file.key != next.key);
        let generation: Vec<&ThinFile> =
            generation.filter(|file| !relief.going.contains(&file.key)).collect();
        if pinned
            || generation.iter().any(|file| thinning.taken.contains(&file.key) || recent(thinning, file))
        {
            return;
        }
        let before = relief.excess;
        for file in generation {
            relief.give_up(thinning, file);
            // Only in the store: it stays there, and with it the snapshot that would be found again below.
            relief.going.insert(file.key);
        }
        if relief.excess == before {
            return;
        }
    }
}

/// A snapshot goes only if the files around it still lead everywhere without it.
fn drop_spare_snapshots(thinning: &mut Thinning<'_>, relief: &mut Relief) {
    let reach = |without: &BTreeSet<FileKey>| {
        let staying = thinning.files.iter().filter(|file| !without.contains(&file.key));
        crate::history::plan::reachable(staying.map(|file| file.key.txids()))
    };
    let mut spare = Vec::new();
    let mut excess = relief.excess;
    let mut going = relief.going.clone();
    for snapshot in snapshots(thinning, relief).into_iter().skip(1) {
        if excess == 0 {
            break;
        }
        let before = reach(&going);
        going.insert(snapshot.key);
        if relief.may(thinning, &snapshot) && reach(&going) == before {
            excess = excess.saturating_sub(snapshot.bytes);
            spare.push(snapshot);
        } else {
            going.remove(&snapshot.key);
        }
    }
    for snapshot in spare {
        relief.give_up(thinning, &snapshot);
    }
}

/// Merges the oldest files between two pins; the inputs go with it. `false` where nothing is left to merge, `true`
/// also where a merge of this plan is at these files already.
fn coarsen(thinning: &mut Thinning<'_>, excess: u64) -> bool {
    let settled = |file: &&ThinFile| file.key.level > 0 && !recent(thinning, file);
    let Some(upto) = thinning.files.iter().filter(settled).map(|file| file.key.max).max() else {
        return false;
    };
    let Some(chain) = thinning.chain(upto, true) else { return false };
    let segments = thinning.segments(&chain);
    let Some(segment) = segments.into_iter().find(|segment| segment.len() > 1) else { return false };
    let mut freed = 0;
    let mut count = 0;
    // The first file is what the others go into; its own size comes back.
    for file in &segment {
        freed += if count == 0 { 0 } else { file.bytes };
        count += 1;
        if freed > excess && count > 1 {
            break;
        }
    }
    let inputs = &segment[..count];
    if inputs.iter().any(|file| thinning.taken.contains(&file.key)) {
        return true;
    }
    let merges = thinning.plan.merges.len();
    thinning.merge_segment(inputs);
    let Some(merge) = thinning.plan.merges.get(merges) else { return false };
    let going: Vec<FileKey> = merge.inputs.clone();
    let local = |key: &FileKey| thinning.keys.get(key).is_some_and(|at| thinning.files[*at].local);
    let new = going.into_iter().filter(|key| local(key) && !thinning.plan.remove_local.contains(key));
    let new: Vec<FileKey> = new.collect();
    thinning.plan.merged_away.extend(new.iter().copied());
    thinning.plan.remove_local.extend(new);
    true
}
