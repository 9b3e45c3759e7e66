//! What is done beside following: merging and thinning, the ledger's own log.

use super::Shared;
use super::reached::still_followed;
use super::schedule::Task;
use super::slot::Slot;
use crate::history::{History, Retention, retention};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

/// How often history is merged and thinned while databases change.
const THIN_EVERY: Duration = Duration::from_secs(30);
/// How soon a restore that could not be finished is gone on with.
const SETTLE_RETRY: Duration = Duration::from_secs(5);

impl Shared {
    /// Merges and thins what is due. When to come back.
    pub(super) fn keep(&self) -> Option<Duration> {
        let mut again = None;
        let mut soonest = |at: Duration| again = Some(again.map_or(at, |was: Duration| was.min(at)));
        if let Err(open) = self.settle() {
            tracing::error!(event = "restore not finished", %open, "tried again");
            soonest(self.now() + SETTLE_RETRY);
        }
        let thin_at = self.next_thinning();
        if self.now() < thin_at {
            if self.slots().iter().any(|slot| slot.history().is_some()) {
                soonest(thin_at);
            }
            return again;
        }
        // What goes by what the ledger says now goes from the store once that has this ledger.
        self.thinned_by.store(self.ledger.news(), Ordering::SeqCst);
        if self.thin_all() | self.thin_ledger() {
            soonest(self.now() + THIN_EVERY);
        }
        self.tidy_ledger();
        self.remember_owners();
        if self.settings.store.is_some() {
            self.ask(Task::List, self.now());
            self.ledger_changed();
        }
        again
    }

    /// When history is next thinned; that moment, once reached, moves on.
    fn next_thinning(&self) -> Duration {
        let mut at = self.thin_at();
        let was = *at;
        if self.now() >= was {
            *at = self.now() + THIN_EVERY;
        }
        was
    }

    pub(super) fn thin_at(&self) -> MutexGuard<'_, Duration> {
        self.thin_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tidy_ledger(&self) {
        let now = self.settings.machine.clock.now();
        let tidied = self.ledger.thin_vectors(now, self.settings.retention.keep).map(|_| ());
        if let Err(error) = tidied.and_then(|()| self.ledger.maintain()) {
            tracing::warn!(event = "ledger not maintained", %error, "it grows until this succeeds");
        }
    }

    /// Merges and thins every history within what it may have of the local limit; whether more will be due.
    ///
    /// What one cannot give up is asked of the others, the largest first. The limit is exceeded once none can give up
    /// any more.
    fn thin_all(&self) -> bool {
        // What a slot has of a file that is gone is a former history.
        let found = self.slots().into_iter().filter_map(|slot| {
            let history = slot.history().filter(|history| still_followed(&slot, history).is_some())?;
            Some((history, slot))
        });
        let all: Vec<(Arc<History>, Arc<Slot>)> = found.collect();
        let begun = self.now();
        let used: Vec<u64> = all.iter().map(|(history, _)| history.local_bytes()).collect();
        let limit = self.settings.retention.local_bytes;
        let limit = limit.saturating_sub(self.look_at_former(used.iter().sum(), limit));
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
        thinned.iter().any(|one| one.more)
    }

    /// Merges and thins one history to so many bytes, as far as that goes.
    fn thin(&self, slot: &Slot, history: &History, local_bytes: u64) -> Thinned {
        let Some(incarnation) = still_followed(slot, history) else {
            return Thinned { more: false, stuck: true };
        };
        if history.is_apart() {
            // What it could give up shows when the store is back: no checkpoint goes for it meanwhile.
            return Thinned { more: true, stuck: false };
        }
        let holds = match self.ledger.holds(&slot.path, incarnation) {
            Ok(holds) => holds,
            Err(error) => {
                tracing::warn!(event = "history not thinned", path = %slot.path, %error);
                return Thinned { more: true, stuck: false };
            }
        };
        let now = self.settings.machine.clock.now();
        let plan = history.thin(now, &holds, &Retention { local_bytes, ..self.settings.retention });
        let done = history.carry_out(&plan);
        self.see_whether_broken(slot, history);
        match done {
            Ok(_) => Thinned { more: history.files().len() > 2, stuck: plan.over_limit },
            Err(error) => {
                tracing::warn!(event = "history not thinned", path = %slot.path, %error, "tried again later");
                Thinned { more: true, stuck: false }
            }
        }
    }
}

/// What became of one history.
struct Thinned {
    /// There will be something to do later.
    more: bool,
    /// It has more than it may, and nothing that it could give up.
    stuck: bool,
}
