//! What is kept of files that lived under a name before: they count towards the local limit, and go once nothing holds them.
//!
//! | a former history that no checkpoint holds | what becomes of it |
//! |---|---|
//! | sealed last before `keep` | it goes, here and in the store |
//! | within `keep`, and history is over its local limit | its files here go, once the store has them; without a store for good |
//!
//! One that a checkpoint holds is thinned as any other where history is over its limit. The oldest go first.

use super::Shared;
use super::former::Former;
use crate::bucket::{Bucket, BucketError};
use crate::history::{History, Retention, local_base, retention, store_key};
use base::{DatabasePath, Incarnation, Timestamp, disk};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

/// Whose history it is.
pub(super) type Which = (DatabasePath, Incarnation);

/// What is known of a former history on this machine; it only changes where something here changes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    bytes: u64,
    sealed: Timestamp,
}

/// What is to become of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It goes, here and in the store.
    Goes,
    /// Its files here go.
    GoesHere,
    /// Files of it go, down to so many bytes.
    Thins(u64),
}

/// What there is to do, and what was seen.
#[derive(Debug, Default)]
pub(super) struct Outgrown {
    sizes: BTreeMap<Which, Size>,
    due: BTreeMap<Which, Fate>,
}

impl Former {
    fn outgrown(&self) -> MutexGuard<'_, Outgrown> {
        self.outgrown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another file was sent, merged or removed.
    fn forget_size(&self, which: &Which) {
        self.outgrown().sizes.remove(which);
    }

    /// Whether there is anything to do.
    pub(super) fn have_outgrown(&self) -> bool {
        !self.outgrown().due.is_empty()
    }
}

impl Shared {
    /// Looks what is to become of former histories, where the others use so many bytes; the bytes that they keep here.
    ///
    /// Without a store it is done at once, else by whoever sends.
    pub(super) fn look_at_former(&self, used: u64, limit: u64) -> u64 {
        let found = self.former_histories();
        let total: u64 = found.values().map(|size| size.bytes).sum();
        let mut excess = used.saturating_add(total).saturating_sub(limit);
        let mut oldest: Vec<(&Which, &Size)> = found.iter().collect();
        oldest.sort_by_key(|(_, size)| size.sealed);
        let cutoff = Timestamp(
            self.settings
                .machine
                .clock
                .now()
                .0
                .saturating_sub(retention::millis(self.settings.retention.keep)),
        );
        let mut due = BTreeMap::new();
        for (which, size) in oldest {
            let Ok(pins) = self.ledger.pins(&which.0, which.1) else { continue };
            let fate = match pins.is_empty() {
                true if size.sealed < cutoff => Fate::Goes,
                true if excess > 0 => Fate::GoesHere,
                false if excess > 0 => Fate::Thins(size.bytes.saturating_sub(excess)),
                _ => continue,
            };
            excess = excess.saturating_sub(size.bytes);
            due.insert(which.clone(), fate);
        }
        self.former.outgrown().due = due;
        if self.settings.store.is_none() {
            self.let_outgrown_go(None);
        } else if self.former.have_outgrown() {
            self.has_ended();
        }
        self.former_histories().values().map(|size| size.bytes).sum()
    }

    /// Does what is due. What fails is tried with the next look.
    pub(super) fn let_outgrown_go(&self, bucket: Option<&Bucket>) {
        let due = std::mem::take(&mut self.former.outgrown().due);
        for (which, fate) in due {
            let done = self.see_off(&which, fate, bucket);
            self.former.forget_size(&which);
            if let Err(error) = done {
                let (path, incarnation) = which;
                tracing::warn!(event = "history not thinned", %path, incarnation = incarnation.0, %error, "tried again later");
            }
        }
    }

    fn see_off(&self, which: &Which, fate: Fate, bucket: Option<&Bucket>) -> Result<(), String> {
        let (path, incarnation) = which;
        // It may have come back since, or a checkpoint may hold it.
        let pins = self.ledger.pins(path, *incarnation).map_err(|error| error.to_string())?;
        if !self.is_former(path, *incarnation) || (pins.is_empty() == matches!(fate, Fate::Thins(_))) {
            return Ok(());
        }
        let key = store_key(path, *incarnation);
        match fate {
            Fate::Goes => {
                if let Some(bucket) = bucket.filter(|bucket| bucket.knows(&key)) {
                    // What the ledger there names must be there.
                    if !self.ledger_is_sent(self.thinned_by.load(Ordering::SeqCst)) {
                        return Ok(());
                    }
                    self.unlist(bucket, path, *incarnation).map_err(|error| error.to_string())?;
                }
                self.remove_here(path, *incarnation)
            }
            Fate::GoesHere => {
                if let Some(bucket) = bucket {
                    let history = self.open_history(path, *incarnation).map_err(|error| error.to_string())?;
                    let last = history.last().map(|last| last.header.max_txid);
                    if !bucket.knows(&key) || last.is_some_and(|last| history.lacks_in_store(last)) {
                        return Ok(());
                    }
                }
                self.remove_here(path, *incarnation)
            }
            Fate::Thins(local_bytes) => {
                let history = self.open_history(path, *incarnation).map_err(|error| error.to_string())?;
                let holds = self.ledger.holds(path, *incarnation).map_err(|error| error.to_string())?;
                let now = self.settings.machine.clock.now();
                let plan = history.thin(now, &holds, &Retention { local_bytes, ..self.settings.retention });
                history.carry_out(&plan).map(drop).map_err(|error| error.to_string())
            }
        }
    }

    /// Takes a history out of the manifest; its objects go afterwards.
    fn unlist(
        &self,
        bucket: &Bucket,
        path: &DatabasePath,
        incarnation: Incarnation,
    ) -> Result<(), BucketError> {
        let key = store_key(path, incarnation);
        let stored = bucket.stored(&key)?;
        let objects = stored.files.iter().map(|file| stored.remote.listed_key(file)).collect();
        let _listing = self.listing();
        bucket.publish(BTreeMap::from([(key.clone(), Vec::new())]), objects)?;
        bucket.sweep()?;
        self.moved_in_store(&key);
        Ok(())
    }

    /// Removes what lies here of a history, the newest first: what is left half-way is a shorter one.
    fn remove_here(&self, path: &DatabasePath, incarnation: Incarnation) -> Result<(), String> {
        let disk = &*self.settings.machine.disk;
        let base = local_base(&self.file_of(path), incarnation);
        let history = History::open(Arc::clone(&self.settings.machine.disk), base.clone(), None);
        let mut files = history.map_err(|error| error.to_string())?.files();
        files.sort_by_key(|file| std::cmp::Reverse(file.key.max));
        let removed = files.iter().try_for_each(|file| disk::remove_if_there(disk, &file.path));
        tracing::info!(event = "former history removed", %path, incarnation = incarnation.0, "no checkpoint holds it");
        removed.and_then(|()| disk::remove_dir_all(disk, &base)).map_err(|error| error.to_string())
    }

    /// Every former history that lies here.
    fn former_histories(&self) -> BTreeMap<Which, Size> {
        let mut here = self.local_histories();
        here.retain(|(path, incarnation)| self.is_former(path, *incarnation));
        let mut known = std::mem::take(&mut self.former.outgrown().sizes);
        known.retain(|which, _| here.contains(which));
        for which in here {
            if !known.contains_key(&which) {
                known.extend(self.size_of(&which).map(|size| (which, size)));
            }
        }
        self.former.outgrown().sizes.clone_from(&known);
        known
    }

    fn size_of(&self, (path, incarnation): &Which) -> Option<Size> {
        let base = local_base(&self.file_of(path), *incarnation);
        let history = History::open(Arc::clone(&self.settings.machine.disk), base, None).ok()?;
        let header = |file| history.header(file).map(|header| header.timestamp);
        let sealed = history.files().iter().filter_map(header).max()?;
        Some(Size { bytes: history.local_bytes(), sealed })
    }

    /// Whether the ledger says that another file lives there now, or none.
    fn is_former(&self, path: &DatabasePath, which: Incarnation) -> bool {
        let known = self.ledger.current(path).ok().flatten();
        let ended = known
            .is_some_and(|known| which < known.incarnation || (which == known.incarnation && known.deleted));
        let followed =
            || self.slot(path).and_then(|slot| slot.position()).is_some_and(|at| at.incarnation == which);
        ended && !followed()
    }
}
