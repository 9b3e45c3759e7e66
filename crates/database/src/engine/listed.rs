//! What was sent and is found only by a list: one manifest lists it together with what others send meanwhile.
//!
//! After an outage every database may wait for a list, and a manifest takes as long to be written for one as for all of
//! them. The ledger comes after the manifest that lists what it names, and a stop ends after it.

use super::Shared;
use super::schedule::Task;
use super::send::{Failed, clear_store_trouble, show_store_trouble, store_hint};
use crate::bucket::{Bucket, BucketError};
use crate::history::{History, store_key};
use base::{DatabasePath, Incarnation};
use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;
use store::Key;

/// How long what was sent waits for others to be listed with it.
const LISTED_WITHIN: Duration = Duration::from_secs(1);

/// Histories of which the store has more than a list says.
#[derive(Debug, Default)]
pub(super) struct Unlisted {
    /// Since when (boot time) the first of them waits.
    since: Option<Duration>,
    histories: BTreeMap<(DatabasePath, Incarnation), Arc<History>>,
}

impl Shared {
    fn unlisted(&self) -> MutexGuard<'_, Unlisted> {
        self.unlisted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Held from when a list is made until the manifest has it: one that was made before another is never written after
    /// it.
    pub(super) fn listing(&self) -> MutexGuard<'_, ()> {
        self.listing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists a history at once; objects that it names no more go.
    pub(super) fn list_alone(
        &self,
        bucket: &Bucket,
        path: &DatabasePath,
        history: &History,
        shed: Vec<Key>,
    ) -> Result<(), BucketError> {
        let Some(incarnation) = history.incarnation() else { return Ok(()) };
        let key = store_key(path, incarnation);
        let _listing = self.listing();
        if self.was_opened_anew(path, history) {
            return Ok(());
        }
        bucket.list(&key, history, shed)
    }

    /// Whether a database is followed with the same files, opened anew: they are listed as it knows them, once sent.
    fn was_opened_anew(&self, path: &DatabasePath, history: &History) -> bool {
        let followed = self.slot(path).filter(|slot| slot.position().is_some());
        let now = followed.and_then(|slot| slot.history());
        let anew = now.is_some_and(|now| now.base() == history.base() && !now.is_same(history));
        if anew {
            self.ask(Task::Send(path.clone()), self.now());
        }
        anew
    }

    /// Has a history listed by the next [`Shared::list_sent`].
    pub(super) fn list_with_others(&self, path: &DatabasePath, which: Incarnation, history: &Arc<History>) {
        let mut unlisted = self.unlisted();
        unlisted.since.get_or_insert_with(|| self.now());
        unlisted.histories.insert((path.clone(), which), Arc::clone(history));
    }

    /// Lists what waits for it, where it has waited long enough; else that is due after what others are to send now.
    pub(super) fn list_in_time(&self, bucket: &Bucket) -> Result<(), Failed> {
        let Some(since) = self.unlisted().since else { return Ok(()) };
        // Nobody who could send waits for a list that is being written.
        if self.now() < since + LISTED_WITHIN || self.listing.try_lock().is_err() {
            self.ask(Task::ListSent, self.now());
            return Ok(());
        }
        self.list_sent(bucket)
    }

    /// Lists all that waits for it; what fails waits on.
    pub(super) fn list_sent(&self, bucket: &Bucket) -> Result<(), Failed> {
        let _listing = self.listing();
        let Unlisted { since, histories } = std::mem::take(&mut *self.unlisted());
        if histories.is_empty() {
            return Ok(());
        }
        let (mut listings, mut listed) = (BTreeMap::new(), Vec::new());
        for ((path, which), history) in &histories {
            if self.was_opened_anew(path, history) {
                continue;
            }
            let (key, listing) = (store_key(path, *which), history.listing().unwrap_or_default());
            if listing.is_empty() {
                continue;
            }
            // It may have been listed by a write whose answer was lost.
            if !bucket.lists_just(&key, &listing) {
                listings.insert(key, listing.clone());
            }
            listed.push((path, history, listing));
        }
        let done = if listings.is_empty() { Ok(()) } else { bucket.publish(listings, Vec::new()) };
        if let Err(error) = done {
            for slot in listed.iter().filter_map(|(path, ..)| self.slot(path)) {
                show_store_trouble(&slot, &error.to_string(), store_hint(&error));
            }
            let mut unlisted = self.unlisted();
            unlisted.since = since;
            for (of, history) in histories {
                unlisted.histories.entry(of).or_insert(history);
            }
            drop(unlisted);
            self.store_failed(&error);
            return Err(Failed::Store);
        }
        for (path, history, listing) in listed {
            history.was_listed(&listing);
            self.slot(path).iter().for_each(|slot| clear_store_trouble(slot));
        }
        self.ask(Task::SendLedger, self.now());
        Ok(())
    }
}
