//! What is done beside following: copies for the store, merging and thinning, the ledger's own log.

use super::Shared;
use super::slot::{Slot, Trouble};
use crate::bucket::{Bucket, BucketError};
use crate::history::{History, Retention, ShipError, parse_local, retention, store_key};
use crate::live::JoinError;
use base::{Incarnation, Txid};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use store::StoredFile;

/// The trouble of a history that needs more than its local limit for what checkpoints hold.
const HISTORY_OVER_LIMIT: &str = "history_over_limit";
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
        if !self.send(While::Running) {
            soonest(self.now() + STORE_RETRY);
        }
        if !thin_now && self.slots().iter().any(|slot| slot.history().is_some()) {
            soonest(thin_at);
        }
        if thin_now {
            if self.thin_all() | self.thin_ledger() {
                soonest(self.now() + THIN_EVERY);
            }
            self.tidy_ledger();
            self.remember_owners();
            if !self.list_what_changed(Changed::Anything) {
                soonest(self.now() + STORE_RETRY);
            }
        }
        again
    }

    /// Sends what the store lacks; `false`: it has to be tried again.
    fn send(&self, how: While) -> bool {
        if self.settings.store.is_none() || self.store_is_refused() {
            return true;
        }
        if self.try_take_store().is_err() {
            return self.store_is_refused();
        }
        let Some(bucket) = self.bucket() else { return false };
        // An object that is to go must be gone before one of its name can be sent again.
        if let Err(error) = bucket.sweep() {
            self.store_failed(&error);
            return false;
        }
        // It names nothing but what is sealed already, and is sent after that.
        let noted = self.seal_ledger();
        let mut all = true;
        for slot in self.slots() {
            // Each would wait for what does not answer; whoever ends sends by itself.
            let passing = !all && self.store_is_away();
            if passing || self.store_is_refused() || (how == While::Running && self.queue().stopping) {
                return false;
            }
            if slot.store_away() && !self.find_store(&slot) {
                all = false;
                continue;
            }
            all &= self.ship_former(&bucket, &slot);
            let Some(history) = slot.history() else { continue };
            all &= self.ship(&bucket, &slot, &history);
        }
        // Whoever has lost all but the store must find what the ledger names.
        all &= self.list_what_changed(Changed::Unfound);
        all = all && self.ship_ledger(&bucket, noted) && self.send_configuration(&bucket);
        all &= self.list_what_changed(Changed::Unfound);
        if all {
            self.store_answers();
        }
        all
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

    /// Ships everything, as at a clean stop, and says so.
    pub(super) fn ship_to_the_end(&self) {
        let sent = self.send(While::Ending) && self.list_what_changed(Changed::Anything);
        let Some(bucket) = self.bucket().filter(|_| sent && !self.store_is_refused()) else { return };
        if let Err(error) = bucket.release() {
            tracing::warn!(event = "store not released", %error, "what it has is there");
        }
    }

    /// Lists in the manifest what merges and thinning changed; then what no list names any more goes.
    fn list_what_changed(&self, what: Changed) -> bool {
        let Some(bucket) = self.bucket().filter(|_| !self.store_is_refused()) else { return true };
        // The ledger that is there may name what history can do without by now.
        let may_shed = self.ledger_is_sent();
        let mut listings = BTreeMap::new();
        let mut shed = Vec::new();
        let mut listed = Vec::new();
        let followed = |slot: Arc<Slot>| {
            let history = slot.history().filter(|_| !slot.store_away())?;
            let incarnation = still_followed(&slot, &history)?;
            Some((store_key(&slot.path, incarnation), history, Some(slot)))
        };
        let ledger = self.ledger_history().map(|(key, history)| (key, history, None));
        for (key, history, slot) in self.slots().into_iter().filter_map(followed).chain(ledger) {
            if what == Changed::Unfound && bucket.knows(&key) && history.is_found() {
                continue;
            }
            if may_shed {
                shed.extend(history.shed());
            }
            let Some(listing) = history.listing().filter(|listing| !listing.is_empty()) else { continue };
            if !bucket.lists(&key, &listing) {
                listings.insert(key, listing.clone());
                listed.push((slot, history, listing));
            } else if !history.is_found() {
                // By a write whose answer was lost.
                now_listed(slot.as_deref(), &history, &listing);
            }
        }
        if listings.is_empty() && shed.is_empty() {
            return true;
        }
        let done = bucket.publish(listings, shed).and_then(|()| {
            listed.iter().for_each(|(slot, history, listing)| now_listed(slot.as_deref(), history, listing));
            bucket.sweep()
        });
        if let Err(error) = &done {
            self.store_failed(error);
        }
        done.is_ok()
    }

    /// Sends what the store lacks of files that lived under a name before, and lists it.
    fn ship_former(&self, bucket: &Bucket, slot: &Slot) -> bool {
        let mut left = Vec::new();
        for history in slot.take_former() {
            let sent = match history.ship() {
                Ok(_) => self.list_former(bucket, slot, &history),
                Err(error) => {
                    self.not_shipped(bucket, &history, &error);
                    false
                }
            };
            if !sent {
                left.push(history);
            }
        }
        let all = left.is_empty();
        slot.set_former(left);
        all
    }

    fn list_former(&self, bucket: &Bucket, slot: &Slot, history: &History) -> bool {
        let name = history.base().file_name().and_then(|name| name.to_str()).and_then(parse_local);
        let (Some((_, incarnation)), Some(listing)) = (name, history.listing()) else { return true };
        let key = store_key(&slot.path, incarnation);
        if listing.is_empty() || bucket.lists(&key, &listing) {
            return true;
        }
        let listed = bucket.publish(BTreeMap::from([(key, listing)]), Vec::new());
        if let Err(error) = &listed {
            self.store_failed(error);
        }
        listed.is_ok()
    }

    /// Sends the ledger, after everything that it names.
    fn ship_ledger(&self, bucket: &Bucket, sealed: Result<(), JoinError>) -> bool {
        let found = sealed.map_err(|error| error.to_string());
        let found = found.and_then(|()| self.find_store_for_ledger().map_err(|error| error.to_string()));
        if let Err(error) = found {
            tracing::error!(event = "ledger not sent", error, "tried again");
            return false;
        }
        let Some((_, history)) = self.ledger_history() else { return true };
        match history.ship() {
            Ok(_) => true,
            Err(error) => {
                self.not_shipped(bucket, &history, &error);
                false
            }
        }
    }

    fn not_shipped(&self, bucket: &Bucket, history: &History, error: &ShipError) {
        match error {
            ShipError::Store(error) => self.store_failed(&BucketError::Store(error.clone())),
            // Whose is what is in the way?
            ShipError::Conflict { key, .. } => {
                let cleared = bucket.check().and_then(|()| Ok(history.clear_stale(*key, bucket.epoch())?));
                if let Err(error) = cleared {
                    self.store_failed(&error);
                }
            }
            ShipError::Unknown { .. } | ShipError::Io { .. } => {}
        }
    }

    fn ship(&self, bucket: &Bucket, slot: &Slot, history: &History) -> bool {
        match history.ship() {
            Ok(shipped) => {
                // Nobody finds a history that no manifest knows.
                let known = still_followed(slot, history)
                    .is_some_and(|incarnation| bucket.knows(&store_key(&slot.path, incarnation)));
                slot.show(|info| {
                    info.stored_txid = Some(if known { shipped.stored_txid } else { Txid::ZERO });
                    if info.trouble.as_ref().is_some_and(|was| was.code == STORE_FAILED) {
                        info.trouble = None;
                    }
                });
                true
            }
            Err(error) => {
                if !show_store_trouble(slot, &error.to_string()) {
                    tracing::error!(event = "store failed", path = %slot.path, %error);
                }
                self.not_shipped(bucket, history, &error);
                false
            }
        }
    }

    /// Merges and thins every history within what it may have of the local limit; whether more will be due.
    ///
    /// What one cannot give up is asked of the others, the largest first. The limit is exceeded once none can give up
    /// any more.
    fn thin_all(&self) -> bool {
        let found = self.slots().into_iter().filter_map(|slot| Some((slot.history()?, slot)));
        let all: Vec<(Arc<History>, Arc<Slot>)> = found.collect();
        let limit = self.settings.retention.local_bytes;
        let begun = self.now();
        let used: Vec<u64> = all.iter().map(|(history, _)| history.local_bytes()).collect();
        let shares = retention::shares(&used, limit);
        let thinned = all.iter().zip(shares).map(|((history, slot), share)| self.thin(slot, history, share));
        let mut thinned: Vec<Thinned> = thinned.collect();
        let mut total: u64 = all.iter().map(|(history, _)| history.local_bytes()).sum();
        let mut order: Vec<usize> = (0..all.len()).collect();
        order.sort_by_key(|at| std::cmp::Reverse(used[*at]));
        for at in order {
            let (history, slot) = &all[at];
            if total > limit && !thinned[at].stuck {
                let own = history.local_bytes();
                thinned[at] = self.thin(slot, history, own.saturating_sub(total - limit));
                total = total.saturating_sub(own).saturating_add(history.local_bytes());
            }
        }
        let over = total > limit && thinned.iter().all(|one| one.stuck);
        *self.over_limit.lock().unwrap_or_else(PoisonError::into_inner) = over.then_some(begun);
        all.iter().for_each(|(_, slot)| show_over_limit(slot, over));
        thinned.iter().any(|one| one.more)
    }

    /// Merges and thins one history to so many bytes, as far as that goes.
    fn thin(&self, slot: &Slot, history: &History, local_bytes: u64) -> Thinned {
        let Some(incarnation) = still_followed(slot, history) else {
            return Thinned { more: false, stuck: true };
        };
        let holds = match self.ledger.holds(&slot.path, incarnation) {
            Ok(holds) => holds,
            Err(error) => {
                tracing::warn!(event = "history not thinned", path = %slot.path, %error);
                return Thinned { more: true, stuck: false };
            }
        };
        let now = self.settings.machine.clock.now();
        let plan = history.thin(now, &holds, &Retention { local_bytes, ..self.settings.retention });
        match history.carry_out(&plan) {
            Ok(_) => Thinned { more: history.files().len() > 2, stuck: plan.over_limit },
            Err(error) => {
                tracing::warn!(event = "history not thinned", path = %slot.path, %error, "tried again later");
                Thinned { more: true, stuck: false }
            }
        }
    }
}

/// The manifest has a history so.
fn now_listed(slot: Option<&Slot>, history: &History, listing: &[StoredFile]) {
    history.was_listed(listing);
    if let Some(slot) = slot {
        slot.show(|info| info.stored_txid = Some(history.stored_txid()));
    }
}

/// The incarnation of a history, while its database is followed with it: whatever was opened since has its own catalogue
/// of the same files, and another incarnation is held by other checkpoints.
fn still_followed(slot: &Slot, history: &History) -> Option<Incarnation> {
    let now = slot.history().filter(|_| slot.info().position.is_some())?;
    let (_, incarnation) = parse_local(history.base().file_name()?.to_str()?)?;
    now.is_same(history).then_some(incarnation)
}

/// When it is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum While {
    /// The engine runs.
    Running,
    /// It ends.
    Ending,
}

/// For what the manifest is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Changed {
    /// For histories that it does not know, and for those that end with what only a list shows.
    Unfound,
    /// For whatever it does not have as it is.
    Anything,
}

/// What became of one history.
struct Thinned {
    /// There will be something to do later.
    more: bool,
    /// It has more than it may, and nothing that it could give up.
    stuck: bool,
}

fn show_over_limit(slot: &Slot, over: bool) {
    slot.show(|info| {
        let is_over = info.trouble.as_ref().is_some_and(|was| was.code == HISTORY_OVER_LIMIT);
        if over && info.trouble.is_none() {
            info.trouble = Some(Trouble {
                code: HISTORY_OVER_LIMIT,
                message:
                    "history needs more than retention.local although only what checkpoints hold is kept"
                        .into(),
                hint: "remove checkpoints (stead checkpoint remove ID) or raise retention.local".into(),
            });
        } else if !over && is_over {
            info.trouble = None;
        }
    });
}

/// Shows what the store says now, unless something else is wrong; whether it failed before.
pub(super) fn show_store_trouble(slot: &Slot, error: &str) -> bool {
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
