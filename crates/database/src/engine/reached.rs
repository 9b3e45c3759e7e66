//! How far the store alone leads, as it is shown: what would come back if this machine were lost now.

use super::Shared;
use super::slot::Slot;
use crate::bucket::Bucket;
use crate::common::{End, Newest, newest_moment};
use crate::history::{History, store_key};
use crate::ledger::LedgerError;
use base::{DatabasePath, Incarnation, Txid};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, MutexGuard, PoisonError};
use store::StoreError;

/// Ends of histories in the store that nobody follows now.
pub(super) type Resting = BTreeMap<String, Option<Rest>>;

/// Where a history ends in the store, and the TXIDs on the way.
#[derive(Clone, Debug)]
pub(super) struct Rest {
    end: End,
    reachable: BTreeSet<Txid>,
}

/// Why it is not known how far the store leads.
#[derive(Debug, thiserror::Error)]
enum Unknown {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("ledger: {0}")]
    Ledger(#[from] LedgerError),
}

impl Shared {
    /// Shows how far the store would bring each database. Where that cannot be told, what was shown stays.
    pub(super) fn show_stored(&self, bucket: &Bucket) {
        if let Err(error) = self.find_stored(bucket) {
            tracing::warn!(event = "store not looked at", %error, "how far it leads is shown as before");
        }
    }

    fn find_stored(&self, bucket: &Bucket) -> Result<(), Unknown> {
        // By what whoever takes over would know.
        let Some(sent) = self.sent_ledger() else { return Ok(()) };
        let (deleted, known): (Vec<_>, Vec<_>) = sent.databases.iter().partition(|(_, known)| known.deleted);
        let deleted = deleted.into_iter().map(|(path, _)| path.clone()).collect();
        let (mut ends, mut followed, mut resting) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for (path, known) in known {
            let incarnation = known.incarnation;
            let end = if let Some((slot, history)) = self.followed(path, incarnation) {
                let key = store_key(path, incarnation);
                // Its end there moves from now on.
                self.resting().remove(&key);
                // Nobody finds a history that no manifest knows.
                let (txid, sealed) = match bucket.knows(&key) {
                    true => (history.stored_txid(), history.stored_at()),
                    false => Default::default(),
                };
                followed.insert(path.clone(), (slot, history));
                End { incarnation, txid, sealed }
            } else {
                let Some(rest) = self.rests_at(bucket, path, incarnation)? else { continue };
                resting.insert(path.clone(), rest.reachable);
                rest.end
            };
            if end.txid > Txid::ZERO {
                ends.insert(path.clone(), end);
            }
        }
        let newest = newest_moment(&self.ledger, sent.moment.as_ref(), &ends, &deleted, &mut |path, at| {
            let same = ends.get(path).is_some_and(|end| end.incarnation == at.incarnation);
            let leads = || match followed.get(path) {
                Some((_, history)) => history.is_stored(at.txid),
                None => resting.get(path).is_some_and(|reachable| reachable.contains(&at.txid)),
            };
            same && leads()
        })?;
        for (path, (slot, _)) in &followed {
            let own = ends.get(path).map_or(Txid::ZERO, |end| end.txid);
            let stored = match &newest {
                Newest::Moment(vector) => vector.get(path).map_or(own, |at| at.txid),
                Newest::Ends => own,
            };
            slot.show(|info| info.stored_txid = Some(stored));
        }
        Ok(())
    }

    /// A database that is followed as this incarnation, with the store.
    fn followed(&self, path: &DatabasePath, which: Incarnation) -> Option<(Arc<Slot>, Arc<History>)> {
        let slot = self.slot(path)?;
        let history = slot.history().filter(|history| history.has_store() && !history.store_away())?;
        (still_followed(&slot, &history)? == which).then_some((slot, history))
    }

    /// Where a history ends to which nobody adds now; `None`: the store has nothing of it.
    fn rests_at(
        &self,
        bucket: &Bucket,
        path: &DatabasePath,
        which: Incarnation,
    ) -> Result<Option<Rest>, StoreError> {
        let key = store_key(path, which);
        if let Some(known) = self.resting().get(&key) {
            return Ok(known.clone());
        }
        let stored = bucket.stored(&key)?;
        let last = stored.files.iter().max_by_key(|file| file.max);
        let rest = last.map(|last| Rest {
            end: End { incarnation: which, txid: last.max, sealed: last.sealed },
            reachable: stored.reachable(),
        });
        self.resting().insert(key, rest.clone());
        Ok(rest)
    }

    /// A history has more in the store than before.
    pub(super) fn moved_in_store(&self, key: &str) {
        self.resting().remove(key);
    }

    fn resting(&self) -> MutexGuard<'_, Resting> {
        self.resting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The incarnation of a history, while its database is followed with it: whatever was opened since has its own catalogue
/// of the same files, and another incarnation is held by other checkpoints.
pub(super) fn still_followed(slot: &Slot, history: &History) -> Option<Incarnation> {
    let now = slot.history().filter(|_| slot.position().is_some())?;
    history.incarnation().filter(|_| now.is_same(history))
}
