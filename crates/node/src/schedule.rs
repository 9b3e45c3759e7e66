//! When the next automatic checkpoint is due, and which automatic ones have had their time. Pure.
//!
//! The last automatic checkpoint is in the ledger, so the rhythm survives a restart of the node. Wall time may jump:
//! a last checkpoint in the future counts as made now.

use crate::control::{Checkpoint, CheckpointId};
use base::Timestamp;
use std::time::Duration;

/// The wait after an attempt that failed, before the next; the rhythm itself is longer as a rule.
pub const RETRY: Duration = Duration::from_secs(60);

/// How long until the next automatic checkpoint: zero where it is due. `since` is when the rhythm began, for a
/// catalogue that has no automatic checkpoint yet.
pub fn wait(last: Option<Timestamp>, since: Timestamp, now: Timestamp, every: Duration) -> Duration {
    let from = match last {
        Some(last) if last <= now => last,
        Some(_) => now,
        None => since.min(now),
    };
    let passed = Duration::from_millis(u64::try_from(now.0 - from.0).unwrap_or(0));
    every.saturating_sub(passed)
}

/// The newest automatic checkpoint.
pub fn last_automatic(catalogue: &[Checkpoint]) -> Option<Timestamp> {
    catalogue.iter().filter(|c| c.automatic).map(|c| c.created).max()
}

/// The automatic checkpoints beyond the newest `keep`; named ones are never among them.
pub fn outlived(catalogue: &[Checkpoint], keep: usize) -> Vec<CheckpointId> {
    let mut automatic: Vec<&Checkpoint> = catalogue.iter().filter(|c| c.automatic).collect();
    automatic.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| b.id.cmp(&a.id)));
    automatic.into_iter().skip(keep).map(|c| c.id.clone()).collect()
}

/// The automatic checkpoint that goes first where room is needed; the newest one stays.
pub fn oldest_automatic(catalogue: &[Checkpoint]) -> Option<CheckpointId> {
    outlived(catalogue, 1).pop()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn checkpoint(id: &str, created: i64, automatic: bool) -> Checkpoint {
        Checkpoint {
            id: CheckpointId::parse(id).unwrap(),
            created: Timestamp(created),
            comment: None,
            automatic,
            databases: Default::default(),
        }
    }

    #[test]
    fn the_rhythm_survives_a_restart() {
        let (last, now) = (Timestamp(0), Timestamp(2_400_000));
        assert_eq!(wait(Some(last), now, now, HOUR), Duration::from_secs(1200));
        assert_eq!(wait(Some(last), now, Timestamp(9_000_000), HOUR), Duration::ZERO);
    }

    #[test]
    fn the_first_one_is_due_one_interval_after_the_start() {
        assert_eq!(wait(None, Timestamp(1000), Timestamp(1000), HOUR), HOUR);
        assert_eq!(wait(None, Timestamp(1000), Timestamp(3_601_000), HOUR), Duration::ZERO);
    }

    #[test]
    fn a_clock_that_jumped_back_does_not_stop_the_rhythm() {
        assert_eq!(wait(Some(Timestamp(i64::MAX)), Timestamp(5), Timestamp(10), HOUR), HOUR);
        assert_eq!(wait(None, Timestamp(1_000_000), Timestamp(10), HOUR), HOUR);
    }

    #[test]
    fn only_automatic_checkpoints_are_outlived() {
        let all = [
            checkpoint("named", 1, false),
            checkpoint("a1", 2, true),
            checkpoint("a2", 3, true),
            checkpoint("a3", 4, true),
        ];
        let gone: Vec<String> = outlived(&all, 2).iter().map(ToString::to_string).collect();
        assert_eq!(gone, ["a1"]);
        assert_eq!(last_automatic(&all), Some(Timestamp(4)));
        assert!(outlived(&all, 5).is_empty());
        assert_eq!(outlived(&all, 0).len(), 3);
        assert_eq!(oldest_automatic(&all).map(|id| id.to_string()), Some("a1".into()));
        assert_eq!(oldest_automatic(&all[..2]), None, "the newest stays");
    }
}
