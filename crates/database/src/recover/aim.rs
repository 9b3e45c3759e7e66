//! Where the databases are to come up when the engine starts, once their histories are ended.
//!
//! | what lies in the home | where the start leads |
//! |---|---|
//! | nothing, or older files | to the newest moment that is common to all and recent, else each to its own end |
//! | a file as the store has it last | the same, unless that would turn the file back: each stays at its own end then |
//! | more than the store had, or a file that holds something else | nothing is turned back: the app saw that last |
//!
//! It is led there by an intent in the ledger, which the start carries out.

use super::older::Stays;
use super::{Ended, RecoverError};
use crate::common::{End, NEWEST_MOMENT, Newest, newest_moment};
use crate::ledger::{Ledger, Vector};
use base::{DatabasePath, Position, Timestamp};
use std::collections::BTreeMap;

/// What the home has of the databases.
#[derive(Default)]
pub(super) struct AtHome {
    /// It had more of one than the store, which was sent.
    pub had_more: bool,
    /// Files that stay as they are.
    pub stays: BTreeMap<DatabasePath, Stays>,
}

impl AtHome {
    /// Whether it has what the app saw last.
    pub fn has_newest(&self) -> bool {
        self.had_more || self.has_other()
    }

    /// Whether a file holds something that the store does not have.
    fn has_other(&self) -> bool {
        self.stays.values().any(|stays| *stays == Stays::AsNewest)
    }
}

/// Where the histories were ended, and what lies in the home.
pub(super) struct Ends<'a> {
    pub found: &'a BTreeMap<DatabasePath, Ended>,
    /// Each database at its own end.
    pub positions: &'a Vector,
    pub at_home: &'a AtHome,
}

impl Ends<'_> {
    /// An intent that the ledger has open is carried out by the start. Where the databases went on after it, it was done,
    /// and only the ledger that says so was never sent.
    pub fn settle_intent(&self, ledger: &Ledger) -> Result<(), RecoverError> {
        let Some(intent) = ledger.open_intent()? else { return Ok(()) };
        if intent.target_name == NEWEST_MOMENT {
            if self.at_home.has_newest() {
                ledger.abandon_intent(intent.id, "the home has its databases as they were last")?;
            }
            return Ok(());
        }
        let went_on = self.positions.iter().any(|(path, at)| {
            let is_of = |vector: &Vector| vector.get(path).is_some_and(|known| is_same(known, at));
            !is_of(&intent.undo) && !is_of(&intent.target)
        });
        if went_on || self.at_home.has_other() {
            tracing::warn!(
                event = "restore was done",
                target = intent.target_name,
                "the databases went on after it"
            );
            ledger.complete_intent(intent.id)?;
        }
        Ok(())
    }

    /// Records where the start is to lead; whether the databases stay apart, at no common moment.
    pub fn aim(&self, ledger: &Ledger, now: Timestamp) -> Result<bool, RecoverError> {
        let some_come_back = self.at_home.stays.len() < self.found.len();
        if self.at_home.has_newest() {
            return Ok(!self.at_home.had_more && some_come_back);
        }
        if self.found.len() < 2 || ledger.open_intent()?.is_some() {
            return Ok(false);
        }
        let Newest::Moment(mut moment) = self.newest_moment(ledger)? else { return Ok(true) };
        for (path, at) in self.positions {
            moment.entry(path.clone()).or_insert(*at);
        }
        let mut elsewhere =
            self.positions.iter().filter(|(path, at)| !is_same(&moment[*path], at)).peekable();
        if elsewhere.peek().is_none() {
            return Ok(false);
        }
        if elsewhere.any(|(path, _)| self.at_home.stays.contains_key(path)) {
            return Ok(some_come_back);
        }
        ledger.begin_intent(now, NEWEST_MOMENT, self.positions, &moment)?;
        Ok(false)
    }

    fn newest_moment(&self, ledger: &Ledger) -> Result<Newest, RecoverError> {
        let end = |ended: &Ended| {
            let last = &ended.last.header;
            End { incarnation: ended.incarnation, txid: last.max_txid, sealed: last.timestamp }
        };
        let ends = self.found.iter().map(|(path, ended)| (path.clone(), end(ended))).collect();
        let known = ledger.paths()?.into_iter();
        let deleted = known.filter(|(_, known)| known.deleted).map(|(path, _)| path).collect();
        let has =
            &mut |path: &DatabasePath, at: &Position| self.found.get(path).is_some_and(|ended| ended.has(at));
        Ok(newest_moment(ledger, ledger.newest_moment()?.as_ref(), &ends, &deleted, has)?)
    }
}

/// Whether a database has the same contents at both.
fn is_same(one: &Position, other: &Position) -> bool {
    (one.incarnation, one.checksum) == (other.incarnation, other.checksum)
}
