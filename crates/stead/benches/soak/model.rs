//! What a database must and may hold at a moment, given what its writer wrote down and what was restored.
//!
//! A restore throws away what it found and begins with its target's rows. Rows that were under way while it ran may
//! have been committed before it locked (then they are gone) or after it let go (then they are there).

use super::journal::{Journal, Nanos};
use std::collections::BTreeSet;

/// The rows of one database, as far as they are known.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// These are there.
    pub must: BTreeSet<i64>,
    /// None but these are there.
    pub may: BTreeSet<i64>,
}

impl Known {
    /// Exactly these.
    pub fn exactly(rows: BTreeSet<i64>) -> Known {
        Known { must: rows.clone(), may: rows }
    }

    /// What is known where one of two holds.
    pub fn or(&self, other: &Known) -> Known {
        Known { must: &self.must & &other.must, may: &self.may | &other.may }
    }

    /// What contradicts it, in a sentence.
    pub fn contradiction(&self, found: &BTreeSet<i64>) -> Option<String> {
        let missing: Vec<i64> = self.must.difference(found).copied().collect();
        let surplus: Vec<i64> = found.difference(&self.may).copied().collect();
        let sample = |rows: &[i64]| rows.iter().take(8).copied().collect::<Vec<i64>>();
        (!missing.is_empty() || !surplus.is_empty()).then(|| {
            format!(
                "{} rows missing {:?}, {} that may not be there {:?}, of {}",
                missing.len(),
                sample(&missing),
                surplus.len(),
                sample(&surplus),
                found.len()
            )
        })
    }
}

/// A restore that took place.
#[derive(Clone, Debug)]
pub struct Turn {
    /// Before its request.
    pub from: Nanos,
    /// After its reply.
    pub to: Nanos,
    /// What the database held then.
    pub base: Known,
}

/// What is known of a moment that lies somewhere from `from` to `to`. `turn` is the last restore before it.
pub fn known(journal: &Journal, turn: Option<&Turn>, from: Nanos, to: Nanos) -> Known {
    let (mut known, turned_from, turned_to) = match turn {
        Some(turn) => (turn.base.clone(), turn.from, turn.to),
        None => (Known::default(), Nanos::MIN, Nanos::MIN),
    };
    for (id, row) in &journal.rows {
        if row.begun >= turned_to && row.acked.is_some_and(|at| at <= from) {
            known.must.insert(*id);
        }
        let outlived_the_turn = row.acked.is_none_or(|at| at > turned_from);
        if row.refused.is_none() && row.begun < to && outlived_the_turn {
            known.may.insert(*id);
        }
    }
    known
}
