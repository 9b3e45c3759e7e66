//! How long history keeps which moments: every constant of thinning in one place.
//!
//! ```text
//! age      what can be restored        files
//! < 5 min  every seal                  level 0 (and level 1 as soon as a window of 30 s is over)
//! < 1 h    the last of every 30 s      level 1
//! < 1 day  the last of every 5 min     level 2
//! < keep   the last of every hour      level 3
//! beyond   what a checkpoint holds     one file from one held position to the next, above a snapshot
//! ```
//! Windows are aligned to 1970 and each size divides the next, so that what survives one step survives as the last of
//! the window it is in. Vectors are thinned by the same table (`ledger`), histories never across a position that a
//! remaining vector holds.

use base::{Timestamp, Txid};
use std::time::Duration;

/// How long every single seal can be restored.
pub const FINEST_KEPT: Duration = Duration::from_secs(5 * 60);

/// From which age on which window leaves one moment; ascending.
const STEPS: [Step; 3] = [
    Step { from_age: FINEST_KEPT, window: Duration::from_secs(30) },
    Step { from_age: Duration::from_secs(3600), window: Duration::from_secs(5 * 60) },
    Step { from_age: Duration::from_secs(24 * 3600), window: Duration::from_secs(3600) },
];

/// The level of the coarsest windows, and of what is merged beyond them.
pub const COARSEST_LEVEL: u8 = STEPS.len() as u8;

/// The level of full snapshots (Litestream's).
pub const SNAPSHOT_LEVEL: u8 = 9;

/// The most files that one merge reads: bounds descriptors (one each) and memory (a buffer and a page each).
pub const MERGE_INPUTS_MAX: usize = 128;

/// Files since the last snapshot add up to at least this before another snapshot is worth it.
pub const SNAPSHOT_AFTER_BYTES_MIN: u64 = 64 << 20;

/// What outlived `keep` is folded into the base once the oldest of it did by this part of `keep`: a tenth.
pub const FOLD_LAG_DIVISOR: u32 = 10;

/// Parts of the local limit, in quarters, up to which snapshots are made for speed alone.
pub const SNAPSHOT_LIMIT_QUARTERS: u64 = 3;

struct Step {
    from_age: Duration,
    window: Duration,
}

/// What is kept of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// How long moments can be restored that no checkpoint holds.
    pub keep: Duration,
    /// The most bytes of history on this machine. A planner is given the share of one history; see [`shares`].
    pub local_bytes: u64,
}

impl Default for Retention {
    fn default() -> Retention {
        Retention { keep: Duration::from_secs(30 * 24 * 3600), local_bytes: 10 << 30 }
    }
}

/// Positions of one incarnation that a history is asked to keep restorable; both ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holds {
    /// Held by checkpoints, the undo point or a restore under way: kept whatever it costs.
    pub pinned: Vec<Txid>,
    /// Held by vectors that are still noted: kept until `keep` is over or the local limit is reached.
    pub noted: Vec<Txid>,
}

impl Holds {
    /// Whether a position is held at all.
    pub(super) fn has(&self, txid: Txid) -> bool {
        self.pinned.binary_search(&txid).is_ok() || self.noted.binary_search(&txid).is_ok()
    }
}

/// The window that a moment of this age is in, and its size in milliseconds: of each, only the last moment is kept.
///
/// Moments younger than [`FINEST_KEPT`] are put into the smallest window, the one they will be in.
pub fn bucket(at: Timestamp, now: Timestamp) -> (i64, i64) {
    let age = now.0.saturating_sub(at.0);
    let step = STEPS.iter().rev().find(|step| age >= millis(step.from_age)).unwrap_or(&STEPS[0]);
    let window = millis(step.window);
    (window, at.0.div_euclid(window))
}

/// The end of the window into which a file of this level is to be merged, and from when on: milliseconds since 1970.
///
/// Level 0 is merged as soon as its window is over (and stays until [`FINEST_KEPT`]); the others when they are due.
pub(super) fn merge_window(level: u8, at: Timestamp) -> Option<(i64, i64)> {
    let step = STEPS.get(usize::from(level))?;
    let window = millis(step.window);
    let end = (at.0.div_euclid(window) + 1).saturating_mul(window);
    let due = if level == 0 { end } else { end.saturating_add(millis(step.from_age)) };
    Some((end, due))
}

/// What each history may have of the local limit, from what each uses: while there is room, its own and an even part
/// of the rest; else the large ones are cut to one size and the small ones left alone.
///
/// The shares never add up to more than the limit.
pub fn shares(used: &[u64], limit: u64) -> Vec<u64> {
    let mut order: Vec<usize> = (0..used.len()).collect();
    order.sort_by_key(|at| used[*at]);
    let (mut left, mut shares) = (limit, vec![0; used.len()]);
    for (done, at) in order.iter().enumerate() {
        let even = left / (used.len() - done) as u64;
        shares[*at] = used[*at].min(even);
        left -= shares[*at];
    }
    let slack = left / used.len().max(1) as u64;
    shares.iter().map(|share| share.saturating_add(slack)).collect()
}

/// Milliseconds, as times are counted here.
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_local_limit_is_shared_so_that_small_histories_lose_nothing() {
        for (used, limit, shared) in [
            (&[][..], 10, &[][..]),
            (&[4], 10, &[10]),
            (&[40], 10, &[10]),
            (&[2, 4], 10, &[4, 6]),
            (&[2, 100, 50], 30, &[2, 14, 14]),
            (&[10, 10, 10], 0, &[0, 0, 0]),
            (&[u64::MAX / 2, 1], u64::MAX, &[u64::MAX / 2 + u64::MAX / 4, u64::MAX / 4 + 1]),
        ] {
            let found = shares(used, limit);
            assert_eq!(found, shared, "{used:?} of {limit}");
            assert!(found.iter().sum::<u64>() <= limit);
        }
    }
}
