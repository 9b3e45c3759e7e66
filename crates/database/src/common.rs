//! The moment that a store alone would bring a volume of several databases to: the newest one at which it has them all.
//!
//! Whoever sends says with it how far the store leads, whoever brings the volume up goes there: both by the same rule, so
//! that nothing is called stored that would not come back.

use crate::ledger::{Ledger, LedgerError, Vector};
use base::{DatabasePath, Incarnation, Position, Timestamp, Txid};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How far the last common moment may lie before the last seal. Beyond that each database goes to its own end: one that
/// cannot be sent, or databases that are never still together, must not cost the others more than this.
pub const COMMON_MOMENT_AGE_MAX: Duration = Duration::from_secs(30);

/// What an intent to go there is called.
pub(crate) const NEWEST_MOMENT: &str = "the newest moment of all databases that the store has";

/// Where the store's part of a history ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub incarnation: Incarnation,
    pub txid: Txid,
    /// When that was committed.
    pub sealed: Timestamp,
}

/// Where a volume would come up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Newest {
    /// Every database where this moment has it, those that it does not have at their own end.
    Moment(Vector),
    /// Each at its own end: there is but one, or no common moment that is recent enough.
    Ends,
}

/// The newest moment, of those up to one that the store's ledger has, at which it has every database.
///
/// `deleted`: databases that are not asked for any more; `has`: whether the store leads to a position.
pub(crate) fn newest_moment(
    ledger: &Ledger,
    upto: Option<&(Timestamp, Vector)>,
    ends: &BTreeMap<DatabasePath, End>,
    deleted: &BTreeSet<DatabasePath>,
    has: &mut dyn FnMut(&DatabasePath, &Position) -> bool,
) -> Result<Newest, LedgerError> {
    let (Some((noted, newest)), Some(last)) = (upto, ends.values().map(|end| end.sealed).max()) else {
        return Ok(Newest::Ends);
    };
    if ends.len() < 2 {
        return Ok(Newest::Ends);
    }
    let mut has_all =
        |vector: &Vector| vector.iter().all(|(path, at)| deleted.contains(path) || has(path, at));
    let found = if is_recent(*noted, last) && has_all(newest) {
        Some((*noted, newest.clone()))
    } else {
        // The order of time ends where none is recent any more.
        ledger.find_vector(*noted, &mut |at, vector| !is_recent(at, last) || has_all(vector))?
    };
    let found = found.filter(|(at, _)| is_recent(*at, last)).map(|(_, mut vector)| {
        vector.retain(|path, _| !deleted.contains(path));
        vector
    });
    Ok(found.filter(|vector| !vector.is_empty()).map_or(Newest::Ends, Newest::Moment))
}

fn is_recent(moment: Timestamp, last_seal: Timestamp) -> bool {
    last_seal.0.saturating_sub(moment.0) <= crate::history::retention::millis(COMMON_MOMENT_AGE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Checksum;

    const NOW: i64 = 1_700_000_000_000;

    fn path(name: &str) -> DatabasePath {
        DatabasePath::parse(name).unwrap()
    }

    fn at(txid: u64) -> Position {
        Position { incarnation: Incarnation(1), txid: Txid(txid), checksum: Checksum(Checksum::FLAG | txid) }
    }

    fn vector(one: u64, other: u64) -> Vector {
        Vector::from([(path("data/a.db"), at(one)), (path("data/b.db"), at(other))])
    }

    /// In moments that were noted before it was deleted.
    const GONE: &str = "data/gone.db";

    /// Notes these vectors, the seconds ago that they were; where the volume comes up with these ends.
    fn choose(noted: &[(i64, u64, u64)], one: u64, other: u64) -> Newest {
        let noted = noted.iter().map(|(ago, one, other)| (*ago, vector(*one, *other)));
        choose_of(noted.collect(), one, other)
    }

    fn choose_of(noted: Vec<(i64, Vector)>, one: u64, other: u64) -> Newest {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&dir.path().join("ledger.sqlite"), None).unwrap();
        for (ago, vector) in noted {
            ledger.note_vector(Timestamp(NOW - ago * 1000), &vector).unwrap();
        }
        let end = |txid| End { incarnation: Incarnation(1), txid: Txid(txid), sealed: Timestamp(NOW) };
        let ends = BTreeMap::from([(path("data/a.db"), end(one)), (path("data/b.db"), end(other))]);
        let newest = ledger.newest_moment().unwrap();
        let has =
            &mut |path: &DatabasePath, at: &Position| ends.get(path).is_some_and(|end| at.txid <= end.txid);
        newest_moment(&ledger, newest.as_ref(), &ends, &BTreeSet::from([path(GONE)]), has).unwrap()
    }

    #[test]
    fn what_was_deleted_since_is_not_waited_for() {
        let mut with_it = vector(3, 9);
        with_it.insert(path(GONE), at(4));
        assert_eq!(choose_of(vec![(2, vector(1, 1)), (1, with_it)], 3, 9), Newest::Moment(vector(3, 9)));
    }

    #[test]
    fn the_newest_moment_counts_that_the_store_has_whole() {
        let noted = [(3, 1, 1), (2, 2, 5), (1, 3, 9)];
        assert_eq!(choose(&noted, 3, 9), Newest::Moment(vector(3, 9)));
        assert_eq!(choose(&noted, 2, 9), Newest::Moment(vector(2, 5)), "the first lacks its last seal");
        assert_eq!(choose(&noted, 1, 9), Newest::Moment(vector(1, 1)));
    }

    #[test]
    fn one_that_is_not_sent_does_not_hold_the_others_back_for_long() {
        let noted = [(3600, 1, 1), (2, 2, 5), (1, 3, 9)];
        assert_eq!(choose(&noted, 1, 9), Newest::Ends, "the last moment of both is an hour old");
        assert_eq!(choose(&[(29, 1, 1)], 1, 9), Newest::Moment(vector(1, 1)));
        assert_eq!(choose(&[(31, 1, 1)], 1, 9), Newest::Ends, "nobody noted a moment since");
        assert_eq!(choose(&[], 1, 9), Newest::Ends);
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_hide_the_newest_moment() {
        let noted = [(0, 1, 1), (20, 2, 5)];
        assert_eq!(choose(&noted, 2, 5), Newest::Moment(vector(2, 5)));
    }
}
