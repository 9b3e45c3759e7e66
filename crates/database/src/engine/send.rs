//! What the store lacks is sent by threads of its own: a database at a time each, in turns, so that a large one keeps no
//! other waiting; then the ledger, after what it names.
//!
//! ```text
//! sealed ──▶ Send (what the store lacks of one database, a new history is listed) ──▶ SendLedger ──▶ shown as stored
//! thinned ─▶ List (the manifest follows, what no list names goes)
//! ```
//! While the store is away one task after the other asks whether it is back; the rest wait for that.

use super::reached::still_followed;
use super::schedule::Task;
use super::slot::{Slot, Trouble};
use super::{Shared, VECTOR_EVERY, ledger_copy};
use crate::bucket::{Bucket, BucketError};
use crate::common::COMMON_MOMENT_AGE_MAX;
use crate::history::{History, ShipError, parse_local, store_key};
use base::{DatabasePath, Incarnation};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Threads that send. One may be busy with a large database: the others' seals go on.
pub const SENDERS: usize = 4;
/// How long one database is sent before it is another's turn.
const TURN: Duration = Duration::from_secs(1);
/// How soon a store that failed is tried again.
pub(super) const STORE_RETRY: Duration = Duration::from_secs(5);
/// How often a stop looks whether the threads that send have ended.
const LOOK_AT_END: Duration = Duration::from_millis(5);
/// The trouble of a store that lacks the last seals.
const STORE_FAILED: &str = "store_failed";

/// It has to be tried again, and why is told.
struct Failed;

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
        let task = Task::Send(path.clone());
        let bucket = match self.take_turn() {
            Ok(bucket) => bucket,
            Err(again) => return again,
        };
        let until = self.now() + TURN;
        let sent = self.send_database(&bucket, &slot, &|| self.now() >= until || self.queue().stopping);
        self.ask(Task::SendLedger, self.now());
        self.tried(&task, sent.is_ok());
        match sent {
            Ok(more) => more.then(|| self.now()),
            Err(Failed) => self.may_try_again(),
        }
    }

    /// Sends the ledger, once the store has what it names; the configuration; and asks a store that was away. When to
    /// come back.
    pub(super) fn send_ledger(&self) -> Option<Duration> {
        let bucket = match self.take_turn() {
            Ok(bucket) => bucket,
            Err(again) => return again,
        };
        if let Err(error) = self.seal_ledger() {
            tracing::error!(event = "ledger not sent", %error, "tried again");
            return Some(self.now() + STORE_RETRY);
        }
        if let Some(again) = self.ledger_waits(&bucket) {
            self.show_stored(&bucket);
            return Some(again);
        }
        let sent = self.ship_ledger(&bucket).and_then(|()| self.send_configuration(&bucket));
        let sent = sent.and_then(|()| self.asked_whether_back(&bucket));
        let (asked_again, answers) = self.ask_whose_store();
        let done = sent.is_ok() && answers;
        self.tried(&Task::SendLedger, done);
        self.show_stored(&bucket);
        if done { asked_again } else { self.may_try_again() }
    }

    /// Lists in the manifest what merges and thinning changed. When to come back.
    pub(super) fn list(&self) -> Option<Duration> {
        let bucket = match self.take_turn() {
            Ok(bucket) => bucket,
            Err(again) => return again,
        };
        let listed = self.list_what_changed(&bucket);
        self.tried(&Task::List, listed.is_ok());
        self.show_stored(&bucket);
        if matches!(listed, Ok(true)) { None } else { self.may_try_again() }
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
        match bucket.sweep() {
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
            Failed
        })
    }

    /// Sends a database until it is another's turn; whether there is more.
    fn send_database(&self, bucket: &Bucket, slot: &Slot, over: &dyn Fn() -> bool) -> Result<bool, Failed> {
        if slot.store_away() && !self.find_store(slot) {
            return Err(Failed);
        }
        let live = slot.history().map_or(Ok(false), |history| self.send_live(bucket, slot, &history, over));
        // One that cannot be sent does not keep the file that lives there now waiting.
        let former = self.send_former(bucket, slot, over);
        Ok(live? | former?)
    }

    fn send_live(
        &self,
        bucket: &Bucket,
        slot: &Slot,
        history: &History,
        over: &dyn Fn() -> bool,
    ) -> Result<bool, Failed> {
        match self.send_history(bucket, &slot.path, history, over) {
            Ok(more) => {
                slot.show(|info| {
                    if info.trouble.as_ref().is_some_and(|was| was.code == STORE_FAILED) {
                        info.trouble = None;
                    }
                });
                Ok(more)
            }
            Err(error) => {
                if !show_store_trouble(slot, &error.to_string()) {
                    tracing::error!(event = "store failed", path = %slot.path, %error);
                }
                self.not_sent(bucket, history, &error);
                Err(Failed)
            }
        }
    }

    /// Sends what the store lacks of files that lived under a name before; whether there is more.
    fn send_former(&self, bucket: &Bucket, slot: &Slot, over: &dyn Fn() -> bool) -> Result<bool, Failed> {
        let (mut left, mut failed) = (Vec::new(), false);
        for history in slot.take_former() {
            match self.send_history(bucket, &slot.path, &history, over) {
                Ok(false) => {}
                Ok(true) => left.push(history),
                Err(error) => {
                    tracing::warn!(event = "former history not sent", path = %slot.path, %error, "tried again");
                    self.not_sent(bucket, &history, &error);
                    left.push(history);
                    failed = true;
                }
            }
        }
        let more = !left.is_empty();
        slot.set_former(left);
        if failed { Err(Failed) } else { Ok(more) }
    }

    /// Sends what the store lacks of a history, and lists it where whoever looks there would find too little; whether
    /// there is more. What is an abandoned end of it in the store is in no list when it goes.
    fn send_history(
        &self,
        bucket: &Bucket,
        path: &DatabasePath,
        history: &History,
        over: &dyn Fn() -> bool,
    ) -> Result<bool, ShipError> {
        let name = history.base().file_name().and_then(|name| name.to_str()).and_then(parse_local);
        let Some((_, incarnation)) = name else { return Ok(false) };
        let key = store_key(path, incarnation);
        let list = || {
            // One that was made before another is never written after it.
            let _listing = self.listing();
            let listing = history.listing().unwrap_or_default();
            // It may have been listed by a write whose answer was lost.
            if !bucket.lists_just(&key, &listing) {
                bucket.publish(BTreeMap::from([(key.clone(), listing.clone())]), Vec::new())?;
            }
            history.was_listed(&listing);
            Ok::<_, ShipError>(())
        };
        if history.has_orphans() && bucket.knows(&key) {
            list()?;
        }
        let shipped = history.ship_until(over)?;
        if shipped.files > 0 {
            self.moved_in_store(&key);
        }
        if history.has_store() && (!bucket.knows(&key) || history.awaits_list()) {
            list()?;
        }
        Ok(shipped.more)
    }

    /// Sends what a former run left unsent of files that had lived under a name, or were deleted: checkpoints may hold it.
    /// When to come back.
    pub(super) fn send_former_incarnations(&self) -> Option<Duration> {
        let bucket = match self.take_turn() {
            Ok(bucket) => bucket,
            Err(again) => return again,
        };
        let sent = self.find_former(&bucket);
        self.tried(&Task::SendFormer, sent.is_ok());
        if sent.is_err() {
            return self.may_try_again();
        }
        self.former_sent.store(true, Ordering::SeqCst);
        self.ask(Task::SendLedger, self.now());
        None
    }

    fn find_former(&self, bucket: &Bucket) -> Result<(), Failed> {
        for (path, incarnation) in self.local_histories() {
            let followed = self.slot(&path).and_then(|slot| slot.info().position);
            let current = self.ledger.current(&path).ok().flatten().filter(|known| !known.deleted);
            let lives = |known: Incarnation| known == incarnation;
            if followed.is_some_and(|at| lives(at.incarnation))
                || current.is_some_and(|known| lives(known.incarnation))
            {
                continue;
            }
            let told = |error: &dyn std::fmt::Display| {
                tracing::warn!(event = "former history not sent", %path, incarnation = incarnation.0, %error, "tried again");
                Failed
            };
            let history = match self.open_history(&path, incarnation) {
                Ok(history) => history,
                Err(error) if error.of_store => return Err(told(&error)),
                // A disk that fails here says so wherever that matters.
                Err(error) => {
                    told(&error);
                    continue;
                }
            };
            let over = || self.queue().stopping;
            match self.send_history(bucket, &path, &history, &over) {
                Ok(false) => {}
                Ok(true) => return Err(Failed),
                Err(error) => {
                    self.not_sent(bucket, &history, &error);
                    return Err(told(&error));
                }
            }
        }
        Ok(())
    }

    /// When the ledger has waited long enough for what it names; `None`: all that is there, or nobody sends it.
    fn ledger_waits(&self, bucket: &Bucket) -> Option<Duration> {
        let (since, moment) = self.unsent_moment()?;
        let lacks = |slot: &Arc<Slot>| {
            moment.get(&slot.path).zip(slot.history()).is_some_and(|(named, history)| {
                let same = still_followed(slot, &history) == Some(named.incarnation);
                let is_known = || bucket.knows(&store_key(&slot.path, named.incarnation));
                same && (history.stored_txid() < named.txid || !is_known())
            })
        };
        let former =
            || !self.former_sent.load(Ordering::SeqCst) || self.slots().iter().any(|slot| slot.has_former());
        if !former() && !self.slots().iter().any(lacks) {
            return None;
        }
        if self.store_is_away() {
            return Some(self.now() + STORE_RETRY);
        }
        // A database that cannot be sent must not keep the checkpoints of the others here.
        let until = since + COMMON_MOMENT_AGE_MAX;
        (self.now() < until).then_some(until)
    }

    fn ship_ledger(&self, bucket: &Bucket) -> Result<(), Failed> {
        if let Err(error) = self.find_store_for_ledger() {
            tracing::error!(event = "ledger not sent", %error, "tried again");
            return Err(Failed);
        }
        let Some((_, history)) = self.ledger_history() else { return Ok(()) };
        match self.send_history(bucket, &ledger_copy::path(), &history, &|| false) {
            Ok(_) => {
                self.ledger_was_sent();
                Ok(())
            }
            Err(error) => {
                self.not_sent(bucket, &history, &error);
                Err(Failed)
            }
        }
    }

    fn send_configuration(&self, bucket: &Bucket) -> Result<(), Failed> {
        if self.keep_configuration(bucket) { Ok(()) } else { Err(Failed) }
    }

    fn not_sent(&self, bucket: &Bucket, history: &History, error: &ShipError) {
        match error {
            ShipError::Store(error) => self.store_failed(&BucketError::Store(error.clone())),
            ShipError::Bucket(error) => self.store_failed(error),
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

    /// Lists what is not listed as it is; then what no list names any more goes, once the ledger names it no more either:
    /// whether it does.
    fn list_what_changed(&self, bucket: &Bucket) -> Result<bool, Failed> {
        // The ledger that is there may name what history can do without by now.
        let may_shed = self.ledger_is_sent(self.thinned_by.load(Ordering::SeqCst));
        let _listing = self.listing();
        let mut listings = BTreeMap::new();
        let mut shed = Vec::new();
        let mut listed = Vec::new();
        let followed = |slot: Arc<Slot>| {
            let history = slot.history().filter(|_| !slot.store_away())?;
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
            Failed
        })
    }

    /// Held from when a list is made until the manifest has it.
    fn listing(&self) -> MutexGuard<'_, ()> {
        self.listing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends everything, as at a clean stop, and says in the store that all is there.
    fn send_to_the_end(&self) -> Result<(), Failed> {
        self.try_take_store().map_err(|_| Failed)?;
        let bucket = self.bucket().filter(|_| !self.store_is_refused()).ok_or(Failed)?;
        self.seal_ledger().map_err(|error| {
            tracing::error!(event = "ledger not sent", %error);
            Failed
        })?;
        let mut all = !self.left_behind.load(Ordering::SeqCst);
        if !self.former_sent.load(Ordering::SeqCst) {
            all &= self.find_former(&bucket).is_ok();
        }
        for slot in self.slots() {
            all &= self.send_database(&bucket, &slot, &|| false).is_ok();
            if self.store_is_refused() || (!all && self.store_is_away()) {
                return Err(Failed);
            }
        }
        self.ship_ledger(&bucket)?;
        self.send_configuration(&bucket)?;
        self.list_what_changed(&bucket)?;
        self.show_stored(&bucket);
        if !all {
            return Err(Failed);
        }
        if let Err(error) = bucket.release() {
            tracing::warn!(event = "store not released", %error, "what it has is there");
        }
        Ok(())
    }
}

/// Gives the store what it lacks, for as long as a stop may take in all; whoever is stuck in a request is left behind.
pub(super) fn send_the_rest(shared: &Arc<Shared>, senders: Vec<JoinHandle<()>>) {
    let Some(settings) = &shared.settings.store else { return };
    let Some(limit) = settings.stop_timeout else {
        senders.into_iter().for_each(|sender| drop(sender.join()));
        // What it lacks is told, and sent at the next start.
        let _ = shared.send_to_the_end();
        return;
    };
    let until = shared.now() + limit;
    let late = || {
        tracing::warn!(
            event = "store not sent all",
            seconds = limit.as_secs(),
            "the next start of this home sends the rest"
        )
    };
    while !senders.iter().all(JoinHandle::is_finished) {
        if shared.now() >= until {
            return late();
        }
        shared.settings.machine.clock.sleep(LOOK_AT_END);
    }
    let (done, ended) = std::sync::mpsc::channel();
    let rest = Arc::clone(shared);
    let sending = std::thread::Builder::new().name("stead-store-end".to_owned()).spawn(move || {
        let _ = rest.send_to_the_end();
        // Whoever waited may have stopped waiting.
        let _ = done.send(());
    });
    match sending {
        Ok(_) if ended.recv_timeout(until.saturating_sub(shared.now())).is_ok() => {}
        Ok(_) => late(),
        Err(error) => tracing::error!(event = "no thread", name = "the rest for the store", %error),
    }
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
