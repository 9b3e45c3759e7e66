//! What is kept of files that lived under a name before: they count towards the local limit, and go once nothing holds them.
//!
//! | a former history | what becomes of it |
//! |---|---|
//! | no moment names it that is still kept, and it was sealed last before `keep` | it goes, here and in the store |
//! | no checkpoint holds it, and history is over its local limit | its files here go, once the store has them; without a store for good |
//! | a checkpoint holds it, and history is over its local limit | it is thinned as any other |
//!
//! The oldest go first. With a store, whoever sends does it.

use super::Shared;
use super::former::Former;
use super::schedule::Task;
use crate::bucket::{Bucket, BucketError};
use crate::history::{History, Retention, local_base, retention, store_key};
use base::{DatabasePath, Incarnation, Timestamp, disk};
use std::collections::{BTreeMap, BTreeSet};
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
    /// It goes, here and in the store, once the store's ledger is as new as this.
    Goes(u64),
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
    /// Those that had nothing more to give, at so many bytes.
    stuck: BTreeMap<Which, u64>,
}

impl Former {
    fn outgrown(&self) -> MutexGuard<'_, Outgrown> {
        self.outgrown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Looks what is to become of former histories, where the others use so many bytes; the bytes of those that stay here.
    ///
    /// Without a store it is done at once.
    pub(super) fn look_at_former(&self, used: u64, limit: u64) -> u64 {
        let found = self.former_histories();
        let total: u64 = found.values().map(|size| size.bytes).sum();
        let mut excess = used.saturating_add(total).saturating_sub(limit);
        let mut oldest: Vec<(&Which, &Size)> = found.iter().collect();
        oldest.sort_by_key(|(_, size)| size.sealed);
        let mut due = BTreeMap::new();
        for (which, size) in oldest {
            let Some(fate) = self.fate(which, *size, excess) else { continue };
            if !matches!(fate, Fate::Thins(_)) {
                excess = excess.saturating_sub(size.bytes);
            }
            due.insert(which.clone(), fate);
        }
        // What a store that is away has to be asked about stays for now.
        let goes = |which: &Which| {
            !self.store_is_away() && matches!(due.get(which), Some(Fate::Goes(_) | Fate::GoesHere))
        };
        let stays = found.iter().filter(|(which, _)| !goes(which)).map(|(_, size)| size.bytes).sum();
        let any = !due.is_empty();
        self.former.outgrown().due = due;
        if self.settings.store.is_none() {
            self.let_outgrown_go(None);
        } else if any {
            self.ask(Task::SendFormer, self.now());
        }
        stays
    }

    /// What is to become of one, where history is over its limit by so many bytes. What cannot be told stays.
    fn fate(&self, which: &Which, size: Size, excess: u64) -> Option<Fate> {
        let keep = retention::millis(self.settings.retention.keep);
        let is_old = size.sealed.0 < self.settings.machine.clock.now().0.saturating_sub(keep);
        if is_old && !self.ledger.is_named(&which.0, which.1).ok()? {
            return Some(Fate::Goes(self.ledger.news()));
        }
        if excess == 0 || size.bytes == 0 {
            return None;
        }
        if self.ledger.pins(&which.0, which.1).ok()?.is_empty() {
            return Some(Fate::GoesHere);
        }
        let is_stuck = self.former.outgrown().stuck.get(which) == Some(&size.bytes);
        (!is_stuck).then(|| Fate::Thins(size.bytes.saturating_sub(excess)))
    }

    /// Does what is due; whether that is everything. What fails is tried with the next look.
    pub(super) fn let_outgrown_go(&self, bucket: Option<&Bucket>) -> bool {
        let due = std::mem::take(&mut self.former.outgrown().due);
        let mut all = true;
        for (which, fate) in due {
            // A restore may bring it back.
            let done =
                self.turning.try_lock().map_or(Ok(false), |_turning| self.see_off(&which, fate, bucket));
            let mut outgrown = self.former.outgrown();
            outgrown.sizes.remove(&which);
            match done {
                Ok(true) => {}
                Ok(false) => {
                    all = false;
                    outgrown.due.entry(which).or_insert(fate);
                }
                Err(error) => {
                    drop(outgrown);
                    let (path, number) = (&which.0, which.1.0);
                    tracing::warn!(event = "history not thinned", %path, incarnation = number, %error, "tried again later");
                }
            }
        }
        all
    }

    /// Whether it is done: `false` where the store is to have something else before. The caller holds `turning`.
    fn see_off(&self, which: &Which, fate: Fate, bucket: Option<&Bucket>) -> Result<bool, String> {
        let (path, incarnation) = (&which.0, which.1);
        let failed = |error: &dyn std::fmt::Display| error.to_string();
        // It may have come back since, or something may hold it.
        let named = self.ledger.is_named(path, incarnation).map_err(|error| failed(&error))?;
        let pins = self.ledger.pins(path, incarnation).map_err(|error| failed(&error))?;
        if !self.is_former(path, incarnation) {
            return Ok(true);
        }
        let key = store_key(path, incarnation);
        match fate {
            Fate::Goes(_) if named => Ok(true),
            Fate::Goes(news) => {
                if let Some(bucket) = bucket.filter(|bucket| bucket.knows(&key)) {
                    // What the ledger there names must be there.
                    if !self.ledger_is_sent(news) {
                        return Ok(false);
                    }
                    self.unlist(bucket, path, incarnation).map_err(|error| failed(&error))?;
                }
                self.remove_here(path, incarnation).map(|()| true)
            }
            Fate::GoesHere | Fate::Thins(_) if pins.is_empty() != (fate == Fate::GoesHere) => Ok(true),
            Fate::GoesHere => {
                if let Some(bucket) = bucket {
                    let history = self.open_history(path, incarnation).map_err(|error| failed(&error))?;
                    let last = history.last().map(|last| last.header.max_txid);
                    if !bucket.knows(&key) || last.is_some_and(|last| history.lacks_in_store(last)) {
                        return Ok(true);
                    }
                }
                self.remove_here(path, incarnation).map(|()| true)
            }
            Fate::Thins(local_bytes) => {
                let history = self.open_history(path, incarnation).map_err(|error| failed(&error))?;
                let holds = self.ledger.holds(path, incarnation).map_err(|error| failed(&error))?;
                let now = self.settings.machine.clock.now();
                let plan = history.thin(now, &holds, &Retention { local_bytes, ..self.settings.retention });
                history.carry_out(&plan).map_err(|error| failed(&error))?;
                if plan.over_limit {
                    self.former.outgrown().stuck.insert(which.clone(), history.local_bytes());
                }
                Ok(true)
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
        if disk.metadata(&base).is_err() {
            return Ok(());
        }
        let history = History::open(Arc::clone(&self.settings.machine.disk), base.clone(), None);
        let mut files = history.map_err(|error| error.to_string())?.files();
        files.sort_by_key(|file| std::cmp::Reverse(file.key.max));
        let removed = files.iter().try_for_each(|file| disk::remove_if_there(disk, &file.path));
        tracing::info!(event = "former history removed", %path, incarnation = incarnation.0, "no checkpoint holds it");
        removed.and_then(|()| disk::remove_dir_all(disk, &base)).map_err(|error| error.to_string())
    }

    /// Every former history, here or in the store alone.
    fn former_histories(&self) -> BTreeMap<Which, Size> {
        let mut here: BTreeSet<Which> = self.local_histories().into_iter().collect();
        here.retain(|(path, incarnation)| self.is_former(path, *incarnation));
        let known = self.former.outgrown().sizes.clone();
        let mut found = BTreeMap::new();
        for which in &here {
            let size = known.get(which).copied().or_else(|| self.size_of(which));
            found.extend(size.map(|size| (which.clone(), size)));
        }
        let mut outgrown = self.former.outgrown();
        outgrown.sizes.clone_from(&found);
        outgrown.stuck.retain(|which, _| found.contains_key(which));
        drop(outgrown);
        let Some(bucket) = self.bucket() else { return found };
        for (path, incarnation) in self.stored_histories() {
            let sealed = bucket.sealed(&store_key(&path, incarnation));
            let which = (path, incarnation);
            if let Some(sealed) =
                sealed.filter(|_| !here.contains(&which) && self.is_former(&which.0, which.1))
            {
                found.insert(which, Size { bytes: 0, sealed });
            }
        }
        found
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
