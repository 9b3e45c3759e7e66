//! Histories of files that lived under a name before, or that cannot be followed now: checkpoints may hold them, so the
//! store is given what it lacks of them.

use super::Shared;
use super::outgrown::Outgrown;
use super::schedule::Task;
use super::send::{Failed, STORE_RETRY};
use super::slot::{Slot, Trouble};
use crate::bucket::Bucket;
use crate::history::{History, HistoryError, ShipError};
use base::{DatabasePath, Incarnation};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use store::ErrorKind;

/// How soon one is tried again that is refused for its own sake.
const REFUSED_RETRY: Duration = Duration::from_secs(60);
/// The trouble of such a one.
const FORMER_NOT_SENT: &str = "former_not_sent";

/// A file that could not be joined for so long is taken for one that nobody follows.
const UNFOLLOWED_AFTER: Duration = Duration::from_secs(60);

/// Whether somebody follows the file of a history.
enum Follows {
    Somebody,
    /// It is there, and about to be joined.
    Soon,
    Nobody,
}

/// How often somebody found that there may be such a history, and how much of that was seen to.
#[derive(Debug)]
pub(super) struct Former {
    found: AtomicU64,
    /// All were sent but those that are refused for their own sake.
    tried: AtomicU64,
    sent: AtomicU64,
    /// What becomes of those that have outlived their use.
    pub(super) outgrown: Mutex<Outgrown>,
}

impl Default for Former {
    /// A former run may have left some.
    fn default() -> Former {
        let (tried, sent, outgrown) = Default::default();
        Former { found: AtomicU64::new(1), tried, sent, outgrown }
    }
}

impl Shared {
    /// A history is not, or no longer, that of a file that is followed.
    pub(super) fn has_ended(&self) {
        if self.settings.store.is_some() {
            self.former.found.fetch_add(1, Ordering::SeqCst);
            self.ask(Task::SendFormer, self.now());
        }
    }

    /// Whether the store has all of them but those that are refused for their own sake: nothing waits for these.
    pub(super) fn former_are_tried(&self) -> bool {
        self.former.tried.load(Ordering::SeqCst) >= self.former.found.load(Ordering::SeqCst)
    }

    /// Whether the store has all of them.
    pub(super) fn former_are_sent(&self) -> bool {
        self.former.sent.load(Ordering::SeqCst) >= self.former.found.load(Ordering::SeqCst)
    }

    /// Sends what the store lacks of them. When to come back.
    pub(super) fn send_former(&self) -> Option<Duration> {
        self.in_turn(&Task::SendFormer, |bucket| {
            let all = self.former_are_sent() || self.send_all_former(bucket, &|| self.queue().stopping)?;
            let gone = self.let_outgrown_go(Some(bucket));
            self.ask(Task::SendLedger, self.now());
            let soon = (!gone).then(|| self.now() + STORE_RETRY);
            Ok(soon.or_else(|| (!all).then(|| self.now() + REFUSED_RETRY)))
        })
    }

    /// Sends all of them that can be sent; whether that is everything.
    pub(super) fn send_all_former(&self, bucket: &Bucket, over: &dyn Fn() -> bool) -> Result<bool, Failed> {
        let found = self.former.found.load(Ordering::SeqCst);
        let (mut all, mut failed) = (true, None);
        for (path, incarnation) in self.local_histories() {
            let slot = self.slot(&path);
            match self.who_follows(&path, slot.as_deref(), incarnation) {
                Follows::Somebody => continue,
                Follows::Soon => {
                    all = false;
                    continue;
                }
                Follows::Nobody => {}
            }
            match self.send_one_former(bucket, &path, slot.as_deref(), incarnation, over) {
                Ok(()) => {}
                Err(Some(which)) => {
                    failed = Some(which);
                    // Another may be taken.
                    if which == Failed::Store && bucket.check().is_err() {
                        return Err(which);
                    }
                }
                Err(None) => all = false,
            }
        }
        failed.map_or(Ok(()), Err)?;
        self.former.tried.fetch_max(found, Ordering::SeqCst);
        if all {
            self.slots().iter().for_each(|slot| slot.end_lasting(FORMER_NOT_SENT));
            self.former.sent.fetch_max(found, Ordering::SeqCst);
        }
        Ok(all)
    }

    /// `Err(None)`: it is refused for its own sake, by this machine's disk or by the store.
    fn send_one_former(
        &self,
        bucket: &Bucket,
        path: &DatabasePath,
        slot: Option<&Slot>,
        incarnation: Incarnation,
        over: &dyn Fn() -> bool,
    ) -> Result<(), Option<Failed>> {
        let told = |error: &dyn std::fmt::Display| {
            tracing::warn!(event = "former history not sent", %path, incarnation = incarnation.0, %error, "tried again");
        };
        let refused = |error: &dyn std::fmt::Display, cure| {
            told(error);
            slot.iter().for_each(|slot| slot.set_lasting(Some(trouble(incarnation, error, cure))));
            Err(None)
        };
        let history = match self.former_history(path, slot, incarnation) {
            Ok(history) => history,
            Err(error) if error.of_store => {
                told(&error);
                return Err(Some(Failed::Store));
            }
            Err(error) => return refused(&error, DISK_CURE),
        };
        match self.send_history(bucket, path, &history, over) {
            Ok(false) => Ok(()),
            Ok(true) => Err(Some(Failed::Elsewhere)),
            Err(error @ ShipError::Io { .. }) => refused(&error, DISK_CURE),
            Err(error @ ShipError::Conflict { .. }) => refused(&error, CONFLICT_CURE),
            Err(ShipError::Store(error)) if error.kind == ErrorKind::Name => {
                refused(&error, "no checkpoint that holds that file can be had on another machine")
            }
            Err(error) => {
                told(&error);
                Err(Some(self.not_sent(&error)))
            }
        }
    }

    /// Who follows the file of a history, and so sends it.
    fn who_follows(&self, path: &DatabasePath, slot: Option<&Slot>, which: Incarnation) -> Follows {
        let Some(slot) = slot else { return Follows::Nobody };
        if slot.position().is_some_and(|at| at.incarnation == which) {
            return Follows::Somebody;
        }
        let known = self.ledger.current(path).ok().flatten().filter(|known| !known.deleted);
        let soon = slot.is_there() && slot.unsettled_for(self.now()) < UNFOLLOWED_AFTER;
        let current = known.is_some_and(|known| known.incarnation == which);
        if current && soon { Follows::Soon } else { Follows::Nobody }
    }

    /// As whoever followed it last had it open: two that send one history would each have a list of their own.
    fn former_history(
        &self,
        path: &DatabasePath,
        slot: Option<&Slot>,
        which: Incarnation,
    ) -> Result<Arc<History>, HistoryError> {
        let left = slot.and_then(Slot::history).filter(|history| history.incarnation() == Some(which));
        match left.filter(|history| !history.store_away()) {
            Some(history) => Ok(history),
            None => self.open_history(path, which),
        }
    }
}

const DISK_CURE: &str = "mend the disk, or put good copies there; checkpoints that hold that file need them on another \
                         machine";
const CONFLICT_CURE: &str = "move what lies there in the store; checkpoints that hold that file need its own seals on \
                             another machine";

fn trouble(incarnation: Incarnation, error: &dyn std::fmt::Display, cure: &str) -> Trouble {
    let number = incarnation.0;
    Trouble {
        code: FORMER_NOT_SENT,
        message: format!(
            "the store lacks seals of incarnation {number}, a file that lived under this name before: {error}"
        ),
        hint: cure.to_owned(),
    }
}
