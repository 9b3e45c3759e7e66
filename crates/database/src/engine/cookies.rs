//! The schema cookies that each incarnation has had: a database that is turned back goes above all of them.
//!
//! The cookie is looked at when a seal changed the first page, and costs the ledger a write only when it is a new
//! highest one. It need not be durable by itself: a cookie that only a power loss knows of no connection remembers, and
//! what was sealed is in history.

use super::Shared;
use super::slot::Slot;
use crate::ledger::LedgerError;
use crate::live::Live;
use base::{Checksum, Incarnation, Pgno};

/// The first page whose cookie was looked at last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FirstPage {
    incarnation: Incarnation,
    sum: Option<Checksum>,
}

/// A database before a seal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    first: Option<Checksum>,
    /// A page diff is due: what lies there may be another file, whose cookies count anew.
    compared: bool,
}

impl Before {
    /// How it is now.
    pub fn of(live: &Live) -> Before {
        Before { first: live.sums().get(Pgno::ONE), compared: live.difference_due().is_some() }
    }
}

impl Shared {
    /// Notes the schema cookie after a seal.
    pub(super) fn note_cookie(&self, slot: &Slot, live: &Live, before: Before) {
        let incarnation = live.position().incarnation;
        let first = FirstPage { incarnation, sum: live.sums().get(Pgno::ONE) };
        if first.sum.is_none() || slot.first_page() == Some(first) {
            return;
        }
        let noted = live.cookie().map_err(|error| error.to_string()).and_then(|now| {
            let highest = self.highest_noted(slot, live).map_err(|error| error.to_string())?;
            let replaced = before.compared && before.first.is_some() && before.first != first.sum;
            let cookie = if replaced && now <= highest { highest.wrapping_add(1) } else { now };
            self.ledger.note_cookie(&slot.path, incarnation, cookie).map_err(|error| error.to_string())
        });
        match noted {
            Ok(()) => slot.set_first_page(first),
            Err(error) => {
                tracing::debug!(path = %slot.path, error, "its schema cookie is noted after the next seal");
            }
        }
    }

    /// The highest schema cookie of a followed database; zero where none was noted.
    pub(super) fn highest_noted(&self, slot: &Slot, live: &Live) -> Result<u32, LedgerError> {
        Ok(self.ledger.highest_cookie(&slot.path, live.position().incarnation)?.unwrap_or(0))
    }
}
