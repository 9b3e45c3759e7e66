//! What the store lacks is sent by threads of its own: a database at a time each, in turns, so that a large one keeps no
//! other waiting; then the ledger, after what it names.
//!
//! ```text
//! sealed ──▶ Send (what the store lacks of one database) ──▶ ListSent (where it needs a list) ──▶ SendLedger ──▶ shown
//! thinned ─▶ List (the manifest follows, what no list names goes)
//! ```
//! While the store is away one task after the other asks whether it is back; the rest wait for that. A list is made for
//! many at once (`listed.rs`). A clean stop sends what is left (`ending.rs`); how far the store leads then is told by
//! `reached.rs`.

use super::pace::Pace;
use super::reached::still_followed;
use super::schedule::Task;
use super::slot::{Slot, Trouble};
use super::tenure::OWNER_LOOK_WHILE_SENDING;
use super::{Shared, VECTOR_EVERY, ledger_copy};
use crate::bucket::{Bucket, BucketError};
use crate::history::{History, ShipError, Terms, store_key};
use base::DatabasePath;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use store::ErrorKind;

/// Threads that send. One may be busy with a large database: the others' seals go on.
pub const SENDERS: usize = 4;
/// How long one database is sent before it is another's turn.
const TURN: Duration = Duration::from_secs(1);
/// How soon a store that failed is tried again.
pub(super) const STORE_RETRY: Duration = Duration::from_secs(5);
/// A database that has failed to be sent for so long, and so often, keeps the ledger waiting no more.
const UNSENDABLE_AFTER: Duration = Duration::from_secs(60);
const UNSENDABLE_TRIES: u32 = 5;
/// The trouble of a store that lacks the last seals.
const STORE_FAILED: &str = "store_failed";

/// It has to be tried again, and why is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// The store did not do what it was asked.
    Store,
    /// Something else is wrong: the store may be well.
    Elsewhere,
}

impl Shared {
    /// Something of a database is sealed that the store lacks.
    pub(super) fn was_sealed(&self, path: &DatabasePath) {
        if self.settings.store.is_some() {
            self.ask(Task::Send(path.clone()), self.now());
        }
        let at = (*self.thin_at()).max(self.now());
        self.ask(Task::Keep, at);
        // However it came to be sealed, the ledger knows of a moment that has it soon.
        self.ask(Task::Tick, self.now() + VECTOR_EVERY);
    }

    /// The ledger says something new.
    pub(super) fn ledger_changed(&self) {
        if self.settings.store.is_some() {
            self.ask(Task::SendLedger, self.now());
        }
    }

    /// What is to be sent is asked for: the store is back.
    pub(super) fn send_all(&self) {
        for slot in self.slots() {
            self.ask(Task::Send(slot.path.clone()), self.now());
        }
        self.ledger_changed();
    }

    /// Sends what the store lacks of a database. When to come back.
    pub(super) fn send(&self, path: &DatabasePath) -> Option<Duration> {
        let slot = self.slot(path)?;
        self.in_turn(&Task::Send(path.clone()), |bucket| {
            let until = self.now() + TURN;
            let over = || self.now() >= until || self.queue().stopping;
            let sent = self.send_database(bucket, &slot, &over);
            let listed = self.list_in_time(bucket);
            self.ask(Task::SendLedger, self.now());
            let more = sent?;
            listed.map(|()| more.then(|| self.now()))
        })
    }

    /// Sends the ledger, once the store has what it names; the configuration; and asks a store that was away. When to
    /// come back.
    pub(super) fn send_ledger(&self) -> Option<Duration> {
        let bucket = match self.take_turn() {
            Ok(bucket) => bucket,
            Err(again) => return again,
        };
        if let Err(error) = self.seal_ledger(false) {
            tracing::error!(event = "ledger not sent", %error, "tried again");
            return Some(self.now() + STORE_RETRY);
        }
        if let Some(again) = self.ledger_waits(&bucket) {
            // It may wait for one that something else keeps from being sent.
            self.tried(&Task::SendLedger, self.asked_whether_back(&bucket).err());
            self.show_stored(&bucket);
            return Some(again);
        }
        let sent = self.list_sent(&bucket).and_then(|()| self.ship_ledger(&bucket));
        let sent = sent.and_then(|()| self.keep_configuration(&bucket));
        let sent = sent.and_then(|()| self.asked_whether_back(&bucket));
        let (asked_again, answers) = self.ask_whose_store();
        let failed = sent.err().or((!answers).then_some(Failed::Store));
        self.tried(&Task::SendLedger, failed);
        self.show_stored(&bucket);
        if failed.is_none() { asked_again } else { self.may_try_again() }
    }

    /// Lists in the manifest what was sent and needs that. When to come back.
    pub(super) fn list_what_was_sent(&self) -> Option<Duration> {
        self.in_turn(&Task::ListSent, |bucket| self.list_sent(bucket).map(|()| None))
    }

    /// Lists in the manifest what merges and thinning changed. When to come back.
    pub(super) fn list(&self) -> Option<Duration> {
        self.in_turn(&Task::List, |bucket| {
            let all = self.list_what_changed(bucket);
            self.show_stored(bucket);
            Ok(if all? { None } else { self.may_try_again() })
        })
    }

    /// Does a task, once it may ask the store. When to come back.
    pub(super) fn in_turn(
        &self,
        task: &Task,
        act: impl FnOnce(&Bucket) -> Result<Option<Duration>, Failed>,
    ) -> Option<Duration> {
        let bucket = match self.take_turn() {
            Ok(bucket) => bucket,
            Err(again) => return again,
        };
        let done = act(&bucket);
        self.tried(task, done.as_ref().err().copied());
        done.unwrap_or_else(|_| self.may_try_again())
    }

    /// When what failed is tried again; `None` where the store may not be written to any more.
    fn may_try_again(&self) -> Option<Duration> {
        (!self.store_is_refused()).then(|| self.now() + STORE_RETRY)
    }

    /// The store, if it is this task's turn to ask it. `Err`: when to come back, if ever.
    fn take_turn(&self) -> Result<Arc<Bucket>, Option<Duration>> {
        if self.store_is_refused() {
            return Err(None);
        }
        if let Some(later) = self.waits_for_store() {
            return Err(Some(later));
        }
        if self.try_take_store().is_err() {
            return Err(self.may_try_again());
        }
        let bucket = self.bucket().ok_or(None)?;
        // An object that is to go must be gone before one of its name can be sent again.
        let limit = if self.store_is_away() { Duration::ZERO } else { OWNER_LOOK_WHILE_SENDING };
        match bucket.check_after(limit).and_then(|()| bucket.sweep()) {
            Ok(_) => Ok(bucket),
            Err(error) => {
                self.store_failed(&error);
                Err(self.may_try_again())
            }
        }
    }

    /// A store that was away, and that nobody lacks anything of, is asked whether it is back.
    fn asked_whether_back(&self, bucket: &Bucket) -> Result<(), Failed> {
        if !self.store_is_away() {
            return Ok(());
        }
        bucket.check().map_err(|error| {
            self.store_failed(&error);
            Failed::Store
        })
    }

    /// Sends a database until it is another's turn; whether there is more.
    pub(super) fn send_database(
        &self,
        bucket: &Bucket,
        slot: &Slot,
        over: &dyn Fn() -> bool,
    ) -> Result<bool, Failed> {
        // Whoever follows it no more leaves it to those who send what nobody follows.
        let Some(history) = slot.history().filter(|_| slot.position().is_some()) else { return Ok(false) };
        if history.store_away() && !self.find_store(slot, &history) {
            slot.was_not_sent(self.now());
            return Err(Failed::Store);
        }
        let Some(incarnation) = history.incarnation() else { return Ok(false) };
        let key = store_key(&slot.path, incarnation);
        match self.ship_history(bucket, &slot.path, &history, over) {
            Ok(more) => {
                slot.was_sent();
                if !more {
                    // One that is damaged is not sent.
                    self.see_whether_broken(slot, &history);
                }
                if lacks_list(bucket, &key, &history) {
                    self.list_with_others(&slot.path, incarnation, &history);
                } else {
                    clear_store_trouble(slot);
                }
                Ok(more)
            }
            Err(error) => {
                slot.was_not_sent(self.now());
                let failed = self.not_sent(&error);
                if self.store_is_refused() {
                    return Err(failed);
                }
                let alone = if self.is_unsendable(slot) { "; checkpoints are sent without it" } else { "" };
                let hint = match &error {
                    ShipError::Io { .. } => DISK_HINT,
                    ShipError::Conflict { .. } => CONFLICT_HINT,
                    ShipError::Store(error) => error.kind.hint(),
                    ShipError::Bucket(error) => store_hint(error),
                    ShipError::Unknown { .. } => STORE_HINT,
                };
                let known = show_store_trouble(slot, &format!("{error}{alone}"), hint);
                if !known {
                    tracing::error!(event = "store failed", path = %slot.path, %error);
                }
                Err(failed)
            }
        }
    }

    /// Sends what the store lacks of a history, and lists it where whoever looks there would find too little; whether
    /// there is more.
    pub(super) fn send_history(
        &self,
        bucket: &Bucket,
        path: &DatabasePath,
        history: &History,
        over: &dyn Fn() -> bool,
    ) -> Result<bool, ShipError> {
        let Some(incarnation) = history.incarnation() else { return Ok(false) };
        let more = self.ship_history(bucket, path, history, over)?;
        if lacks_list(bucket, &store_key(path, incarnation), history) {
            self.list_alone(bucket, path, history, Vec::new())?;
        }
        Ok(more)
    }

    /// Sends what the store lacks of a history; whether there is more. An abandoned end of it in the store goes first.
    fn ship_history(
        &self,
        bucket: &Bucket,
        path: &DatabasePath,
        history: &History,
        over: &dyn Fn() -> bool,
    ) -> Result<bool, ShipError> {
        let Some(incarnation) = history.incarnation() else { return Ok(false) };
        let key = store_key(path, incarnation);
        if history.has_orphans() && bucket.knows(&key) {
            let orphans = history.copy_orphans_aside()?;
            self.list_alone(bucket, path, history, orphans.clone())?;
            bucket.sweep()?;
            history.forget_orphans(&orphans);
        }
        let pace = RefCell::new(Pace::default());
        let rest = |bytes| self.let_others_work(&mut pace.borrow_mut(), bytes);
        let terms = Terms { is_over: over, rest: &rest, bucket: Some(bucket) };
        let shipped = loop {
            match history.ship_under(&terms) {
                Err(ShipError::Conflict { path, key }) => {
                    // Whose is what is in the way?
                    bucket.check()?;
                    if !history.clear_stale(bucket, key)? {
                        return Err(ShipError::Conflict { path, key });
                    }
                }
                shipped => break shipped?,
            }
        };
        if shipped.files > 0 {
            self.moved_in_store(&key);
        }
        Ok(shipped.more)
    }

    /// When to look again whether the store has what the ledger names; `None`: it has, or who lacks it keeps nobody
    /// waiting.
    fn ledger_waits(&self, bucket: &Bucket) -> Option<Duration> {
        let says = self.unsent_ledger()?;
        let (_, moment) = says.moment.as_ref()?;
        let lacks = |slot: &Arc<Slot>| {
            moment.get(&slot.path).zip(slot.history()).is_some_and(|(named, history)| {
                let same = still_followed(slot, &history) == Some(named.incarnation);
                let is_known = || bucket.knows(&store_key(&slot.path, named.incarnation));
                same && (history.lacks_in_store(named.txid) || !is_known())
            })
        };
        // A database that cannot be sent must not keep the checkpoints of the others here.
        let may_come = |slot: &Arc<Slot>| !self.is_unsendable(slot);
        if self.former_are_tried() && !self.slots().iter().any(|slot| lacks(slot) && may_come(slot)) {
            return None;
        }
        let waits = self.store_is_away() || self.ledger_may_wait(STORE_RETRY);
        waits.then(|| self.now() + STORE_RETRY)
    }

    /// Whether nobody waits for a database to be sent any more.
    pub(super) fn is_unsendable(&self, slot: &Slot) -> bool {
        slot.fails_for(UNSENDABLE_AFTER, UNSENDABLE_TRIES, self.now())
    }

    pub(super) fn ship_ledger(&self, bucket: &Bucket) -> Result<(), Failed> {
        if let Err(error) = self.find_store_for_ledger() {
            tracing::error!(event = "ledger not sent", %error, "tried again");
            return Err(Failed::Store);
        }
        let Some((_, history)) = self.ledger_history() else { return Ok(()) };
        match self.send_history(bucket, &ledger_copy::path(), &history, &|| false) {
            Ok(_) if history.broken().is_some() => {
                // It is sealed anew, whole.
                self.ask(Task::SendLedger, self.now());
                Ok(())
            }
            Ok(_) => {
                if !self.ledger_was_sent() {
                    self.ask(Task::SendLedger, self.now());
                }
                Ok(())
            }
            Err(error) => Err(self.not_sent(&error)),
        }
    }

    pub(super) fn not_sent(&self, error: &ShipError) -> Failed {
        let of_store = match error {
            // Of one database, not of the store.
            ShipError::Store(error) if error.kind == ErrorKind::Name => return Failed::Elsewhere,
            ShipError::Store(error) => BucketError::Store(error.clone()),
            ShipError::Bucket(error) => error.clone(),
            ShipError::Unknown { .. } => return Failed::Store,
            ShipError::Io { .. } | ShipError::Conflict { .. } => return Failed::Elsewhere,
        };
        self.store_failed(&of_store);
        Failed::Store
    }

    /// Lists what is not listed as it is; then what no list names any more goes, once the ledger names it no more either:
    /// whether it does.
    pub(super) fn list_what_changed(&self, bucket: &Bucket) -> Result<bool, Failed> {
        // The ledger that is there may name what history can do without by now.
        let may_shed = self.ledger_is_sent(self.thinned_by.load(Ordering::SeqCst));
        let _listing = self.listing();
        let mut listings = BTreeMap::new();
        let mut shed = Vec::new();
        let mut listed = Vec::new();
        let followed = |slot: Arc<Slot>| {
            let history = slot.history().filter(|history| !history.store_away())?;
            let incarnation = still_followed(&slot, &history)?;
            Some((store_key(&slot.path, incarnation), history))
        };
        for (key, history) in self.slots().into_iter().filter_map(followed).chain(self.ledger_history()) {
            if may_shed {
                shed.extend(history.shed());
            }
            let Some(listing) = history.listing().filter(|listing| !listing.is_empty()) else { continue };
            if !bucket.lists(&key, &listing) {
                listings.insert(key, listing.clone());
                listed.push((history, listing));
            } else if history.awaits_list() {
                // By a write whose answer was lost.
                history.was_listed(&listing);
            }
        }
        if listings.is_empty() && shed.is_empty() {
            return Ok(may_shed);
        }
        let done = bucket.publish(listings, shed).and_then(|()| {
            listed.iter().for_each(|(history, listing)| history.was_listed(listing));
            bucket.sweep()
        });
        done.map(|_| may_shed).map_err(|error| {
            self.store_failed(&error);
            Failed::Store
        })
    }
}

/// Whether whoever looks into the store would find less of a history than is there.
fn lacks_list(bucket: &Bucket, key: &str, history: &History) -> bool {
    history.has_store() && (!bucket.knows(key) || history.awaits_list())
}

/// What mends a store that lacks the last seals.
pub(super) const STORE_HINT: &str = "mend the store; what it lacks is kept here and sent by itself";
/// What mends a disk that does not give them.
const DISK_HINT: &str = "mend the disk that holds this file; what the store lacks is sent by itself";

/// What is in the way in the store.
const CONFLICT_HINT: &str = "if another node writes to this store, stop it; else move what lies there away: what is \
                             lacking is sent by itself";

/// What mends a store that was asked for more than a seal.
pub(super) fn store_hint(error: &BucketError) -> &'static str {
    match error {
        BucketError::Store(error) => error.kind.hint(),
        _ => STORE_HINT,
    }
}

/// Shows what the store says now, unless something else is wrong; whether it failed before.
pub(super) fn show_store_trouble(slot: &Slot, error: &str, hint: &str) -> bool {
    let mut known = false;
    slot.show(|info| {
        known = info.trouble.as_ref().is_some_and(|was| was.code == STORE_FAILED);
        if known || info.trouble.is_none() {
            info.trouble = Some(store_trouble(error, hint));
        }
    });
    known
}

/// The store has what it lacked.
pub(super) fn clear_store_trouble(slot: &Slot) {
    slot.show(|info| {
        if info.trouble.as_ref().is_some_and(|was| was.code == STORE_FAILED) {
            info.trouble = None;
        }
    });
}

fn store_trouble(error: &str, hint: &str) -> Trouble {
    Trouble {
        code: STORE_FAILED,
        message: format!("the store lacks the last seals: {error}"),
        hint: hint.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_says_what_is_wrong_now_and_not_what_was() {
        let path = base::DatabasePath::parse("data/a.db").expect("a path");
        let slot = Slot::new(path, "/data/a.db".into(), true);
        assert!(!show_store_trouble(&slot, "away", STORE_HINT));
        assert!(show_store_trouble(&slot, "full", STORE_HINT), "it is not news that it fails");
        let message = slot.info().trouble.map(|trouble| trouble.message).unwrap_or_default();
        assert!(message.ends_with("full"), "{message}");
        slot.show(|info| info.trouble.iter_mut().for_each(|trouble| trouble.code = "disk_full"));
        assert!(!show_store_trouble(&slot, "away", STORE_HINT));
        assert_eq!(slot.info().trouble.map(|trouble| trouble.code), Some("disk_full"), "it is worse");
    }
}
