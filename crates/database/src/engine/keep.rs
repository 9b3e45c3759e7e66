//! What is done beside following: copies for the store, merging and thinning, the ledger's own log.

use super::Shared;
use super::slot::{Slot, State, Trouble};
use crate::history::History;
use std::sync::PoisonError;
use std::time::Duration;

/// The trouble of a history that needs more than its local limit for what checkpoints hold.
pub const HISTORY_OVER_LIMIT: &str = "history_over_limit";
/// The trouble of a store that lacks the last seals.
const STORE_FAILED: &str = "store_failed";
/// How often history is merged and thinned while databases change.
const THIN_EVERY: Duration = Duration::from_secs(30);
/// How soon a store that failed is tried again.
const STORE_RETRY: Duration = Duration::from_secs(5);

impl Shared {
    /// Ships what the store lacks, merges and thins what is due. When to come back.
    pub(super) fn keep(&self) -> Option<Duration> {
        let mut again = None;
        let mut soonest = |at: Duration| again = Some(again.map_or(at, |was: Duration| was.min(at)));
        if let Err(open) = self.settle() {
            tracing::error!(event = "restore not finished", %open, "tried again");
            soonest(self.now() + STORE_RETRY);
        }
        let thin_at = self.next_thinning();
        let thin_now = self.now() >= thin_at;
        for slot in self.slots() {
            if slot.store_away() && !self.find_store(&slot) {
                soonest(self.now() + STORE_RETRY);
            }
            let Some(history) = slot.history() else { continue };
            if !self.ship(&slot, &history) {
                soonest(self.now() + STORE_RETRY);
            }
            if !thin_now {
                soonest(thin_at);
            } else if self.thin(&slot, &history) {
                soonest(self.now() + THIN_EVERY);
            }
        }
        if thin_now {
            self.tidy_ledger();
            self.remember_owners();
        }
        again
    }

    /// When history is next thinned; that moment, once reached, moves on.
    fn next_thinning(&self) -> Duration {
        let mut at = self.thin_at.lock().unwrap_or_else(PoisonError::into_inner);
        let was = *at;
        if self.now() >= was {
            *at = self.now() + THIN_EVERY;
        }
        was
    }

    fn tidy_ledger(&self) {
        let now = self.settings.machine.clock.now();
        let tidied = self.ledger.thin_vectors(now, self.settings.retention.keep).map(|_| ());
        if let Err(error) = tidied.and_then(|()| self.ledger.maintain()) {
            tracing::warn!(event = "ledger not maintained", %error, "it grows until this succeeds");
        }
    }

    /// Ships everything, as at a clean stop.
    pub(super) fn ship_all(&self) {
        for slot in self.slots() {
            if let Some(history) = slot.history() {
                self.ship(&slot, &history);
            }
        }
    }

    /// Opens a history with the store again, if that is back.
    fn find_store(&self, slot: &Slot) -> bool {
        let mut state = slot.lock();
        let State::Live(live) = &mut *state else { return true };
        let opened = self.open_history(&slot.path, live.place().incarnation);
        match opened {
            Ok(history) => {
                slot.replace_history(live, history);
                slot.set_store_away(false);
                // What was missing here may be there.
                slot.set_lasting(None);
                true
            }
            Err(error) => {
                show_store_trouble(slot, &error.to_string());
                false
            }
        }
    }

    fn ship(&self, slot: &Slot, history: &History) -> bool {
        if slot.store_away() {
            return true;
        }
        match history.ship() {
            Ok(shipped) => {
                slot.show(|info| {
                    info.stored_txid = self.settings.store.is_some().then_some(shipped.stored_txid);
                    if info.trouble.as_ref().is_some_and(|was| was.code == STORE_FAILED) {
                        info.trouble = None;
                    }
                });
                true
            }
            Err(error) => {
                let known = show_store_trouble(slot, &error.to_string());
                if !known {
                    tracing::error!(event = "store failed", path = %slot.path, %error);
                }
                false
            }
        }
    }

    /// Merges and thins; whether more will be due.
    fn thin(&self, slot: &Slot, history: &History) -> bool {
        let Some(position) = slot.info().position else { return false };
        let holds = match self.ledger.holds(&slot.path, position.incarnation) {
            Ok(holds) => holds,
            Err(error) => {
                tracing::warn!(event = "history not thinned", path = %slot.path, %error);
                return true;
            }
        };
        let now = self.settings.machine.clock.now();
        let plan = history.thin(now, &holds, &self.settings.retention);
        let over = plan.over_limit;
        slot.show(|info| {
            let is_over = info.trouble.as_ref().is_some_and(|was| was.code == HISTORY_OVER_LIMIT);
            if over && info.trouble.is_none() {
                info.trouble = Some(Trouble {
                    code: HISTORY_OVER_LIMIT,
                    message: "its history needs more than retention.local although only what checkpoints hold is kept"
                        .into(),
                    hint: "remove checkpoints (stead checkpoint remove ID) or raise retention.local".into(),
                });
            } else if !over && is_over {
                info.trouble = None;
            }
        });
        match history.carry_out(&plan) {
            Ok(_) => history.files().len() > 2,
            Err(error) => {
                tracing::warn!(event = "history not thinned", path = %slot.path, %error, "tried again later");
                true
            }
        }
    }
}

/// Shows what the store says now, unless something else is wrong; whether it failed before.
fn show_store_trouble(slot: &Slot, error: &str) -> bool {
    let mut known = false;
    slot.show(|info| {
        known = info.trouble.as_ref().is_some_and(|was| was.code == STORE_FAILED);
        if known || info.trouble.is_none() {
            info.trouble = Some(store_trouble(error));
        }
    });
    known
}

fn store_trouble(error: &str) -> Trouble {
    Trouble {
        code: STORE_FAILED,
        message: format!("the store lacks the last seals: {error}"),
        hint: "mend the store; what it lacks is kept here and sent by itself".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_says_what_is_wrong_now_and_not_what_was() {
        let path = base::DatabasePath::parse("data/a.db").expect("a path");
        let slot = Slot::new(path, "/data/a.db".into(), true);
        assert!(!show_store_trouble(&slot, "away"));
        assert!(show_store_trouble(&slot, "full"), "it is not news that it fails");
        let message = slot.info().trouble.map(|trouble| trouble.message).unwrap_or_default();
        assert!(message.ends_with("full"), "{message}");
        slot.show(|info| info.trouble.iter_mut().for_each(|trouble| trouble.code = "disk_full"));
        assert!(!show_store_trouble(&slot, "away"));
        assert_eq!(slot.info().trouble.map(|trouble| trouble.code), Some("disk_full"), "it is worse");
    }
}
