//! Thinning carried out on this machine: merges first, each durable before anything goes, then moves, then removals.
//! In the store, files only rise to another level here; what can go there goes once no list has it ([`History::shed`]).
//!
//! A crash at any point leaves files that overlap, never a gap. Every input is verified to its end while it is
//! merged, the order of their database checksums too, and a snapshot must add up to its own. Before anything is
//! removed, what the plan pins and the end of history must still be reachable without it; a file that a plan or
//! reader in use needs is left for the next time.

use super::files::{Entry, FileKey, Place, TMP_SUFFIX, level_dir};
use super::seal::Sink;
use super::thin::{self, Merge, Move, ThinFile, ThinPlan};
use super::{History, Holds, Inner, Retention, Unusable, plan};
use base::{Open, Timestamp, Txid};
use ltx::{Decoder, EncodeError, MergeError, Sequential};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLockReadGuard};

/// What thinning did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CarriedOut {
    /// Merged files made.
    pub merged: u64,
    /// Bytes of local files that went.
    pub removed_bytes: u64,
    /// Files that should have gone, but are in use; the next time they will.
    pub in_use: u64,
}

/// What kept thinning from doing everything. Nothing is lost; plan again.
#[derive(Debug, thiserror::Error)]
pub enum ThinError {
    /// A file is damaged, and marked as such: the next plan avoids it.
    #[error("cannot merge into {output}: {reason}")]
    Merge {
        /// The file that was to be made.
        output: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The file system failed; on a full disk try again when there is space.
    #[error("{path}: {cause}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        cause: io::Error,
    },
    /// The files were opened anew meanwhile: whoever did that merges and removes them.
    #[error("the history in {base} was opened anew")]
    GivenUp {
        /// Its directory.
        base: PathBuf,
    },
    /// A removal would have lost a position that must stay: nothing was removed. A bug; report it.
    #[error("removing files from {base} would lose TXID {lost}: nothing was removed")]
    Unsafe {
        /// The history's directory.
        base: PathBuf,
        /// A position that would be lost.
        lost: Txid,
    },
}

impl ThinError {
    /// Whether the disk is full: there is hope once there is space.
    pub fn is_disk_full(&self) -> bool {
        let ThinError::Io { cause, .. } = self else { return false };
        base::disk::is_full(cause)
    }
}

impl History {
    /// Plans what is due now. Pure but for the headers it reads.
    pub fn thin(&self, now: Timestamp, holds: &Holds, retention: &Retention) -> ThinPlan {
        let mut files: BTreeMap<FileKey, ThinFile> = BTreeMap::new();
        for entry in self.inner.usable(None) {
            let Ok(header) = entry.header(&*self.inner.disk) else { continue };
            let file = files.entry(entry.key).or_insert(ThinFile {
                key: entry.key,
                sealed: header.timestamp,
                bytes: entry.bytes,
                local: false,
                stored: false,
                links: plan::links(&header),
            });
            match entry.place {
                Place::Local => file.local = true,
                // What no list has yet is found by nobody after a crash.
                Place::Store => file.stored = entry.is_findable(),
            }
        }
        let files: Vec<ThinFile> = files.into_values().collect();
        thin::plan(&files, now, holds, retention)
    }

    /// Carries a plan out, as far as it goes: what fails holds nothing up but what depends on it, so that local history
    /// stays small while the store fails. The first failure is returned.
    pub fn carry_out(&self, plan: &ThinPlan) -> Result<CarriedOut, ThinError> {
        let inner = &self.inner;
        let mut done = CarriedOut::default();
        let mut failures = Vec::new();
        let mut unmade = Vec::new();
        for merge in &plan.merges {
            match inner.merge(merge) {
                Ok(()) => done.merged += 1,
                Err(error) => {
                    unmade.push(merge.output);
                    failures.push(error);
                }
            }
        }
        failures.extend(plan.moves.iter().filter_map(|one| inner.move_file(one).err()));
        let plan = without(plan, &unmade);
        if let Err(error) = inner.check_removals(&plan) {
            failures.push(error);
        } else {
            failures.extend(inner.remove(&plan.remove_local, &mut done));
            plan.moves.iter().for_each(|one| inner.raise(one));
            inner.lock().spare.clone_from(&plan.remove_stored);
        }
        failures.into_iter().next().map_or(Ok(done), Err)
    }
}

impl Inner {
    fn merge(&self, merge: &Merge) -> Result<(), ThinError> {
        let path = self.local.join(merge.output.relative());
        let io = |cause| ThinError::Io { path: path.clone(), cause };
        let dir = self.local.join(level_dir(merge.output.level));
        super::make_dir(&*self.disk, &dir).map_err(io)?;
        let beside = base::disk::sibling(&path, TMP_SUFFIX);
        let written = self.write_merged(merge, &beside, &path);
        let named = written.and_then(|written| {
            let _settled = self.settle_move().map_err(io)?;
            let _upkeep = self.upkeep()?;
            self.disk.rename(&beside, &path).and_then(|()| self.disk.sync_dir(&dir)).map_err(io)?;
            Ok(written)
        });
        let (bytes, header) = named.inspect_err(|_| {
            // The file beside must not stay; the first error is the one to report.
            let _ = self.disk.remove_file(&beside);
        })?;
        self.lock().insert(Entry::written(path, bytes, merge.output.level, &header));
        Ok(())
    }

    fn write_merged(
        &self,
        merge: &Merge,
        beside: &Path,
        path: &Path,
    ) -> Result<(u64, ltx::Header), ThinError> {
        let failed = |reason: String| ThinError::Merge { output: path.to_owned(), reason };
        let io = |cause| ThinError::Io { path: path.to_owned(), cause };
        let mut entries = Vec::with_capacity(merge.inputs.len());
        let mut decoders = Vec::with_capacity(merge.inputs.len());
        for key in &merge.inputs {
            let entry = self.copy_of(*key).ok_or_else(|| failed(format!("{key} is gone")))?;
            let unusable = |why| match why {
                Unusable::Damaged => failed(format!("{} is damaged", entry.path.display())),
                Unusable::Unavailable(cause) => ThinError::Io { path: entry.path.clone(), cause },
            };
            let file = entry.open(&*self.disk).map_err(unusable)?;
            let source = Sequential::new(file).map_err(|cause| unusable(Unusable::Unavailable(cause)))?;
            decoders.push(Decoder::new(source).map_err(|error| unusable(entry.blame(error)))?);
            entries.push(entry);
        }
        let headers: Vec<ltx::Header> = decoders.iter().map(|decoder| *decoder.header()).collect();
        let header = ltx::merged_header(&headers).map_err(|error| failed(error.to_string()))?;
        let file = self.disk.open(beside, Open::Create { private: false }).map_err(io)?;
        let (sink, finished) = match ltx::merge(decoders, Sink::new(file)) {
            Ok(merged) => merged,
            Err(MergeError::Output(EncodeError::Io(cause))) => return Err(io(cause)),
            Err(MergeError::Input { input, source }) => {
                let entry = &entries[input];
                let reason = format!("{}: {source}", entry.path.display());
                return Err(match entry.blame(source) {
                    Unusable::Unavailable(cause) => ThinError::Io { path: entry.path.clone(), cause },
                    Unusable::Damaged => failed(reason),
                });
            }
            Err(error) => return Err(failed(error.to_string())),
        };
        sink.file.set_modified(header.timestamp.0).and_then(|()| sink.file.sync()).map_err(io)?;
        Ok((finished.bytes, header))
    }

    /// The copy of a file to read: the local one where it is sound.
    fn copy_of(&self, key: FileKey) -> Option<Arc<Entry>> {
        let files = self.lock();
        let sound = |place| files.entries.get(&(key, place)).filter(|entry| entry.damage().is_none());
        sound(Place::Local).or_else(|| sound(Place::Store)).cloned()
    }

    /// Gives the copy on this machine another level. One that is in use keeps its name until the next time.
    fn move_file(&self, one: &Move) -> Result<(), ThinError> {
        let from = (one.from, Place::Local);
        if !self.lock().entries.contains_key(&from) {
            return Ok(());
        }
        let to = self.local.join(one.to.relative());
        let io = |cause| ThinError::Io { path: to.clone(), cause };
        let dir = base::disk::parent(&to);
        let _upkeep = self.upkeep()?;
        self.clear(one.to)?;
        let mut unsettled = self.settle_move().map_err(io)?;
        super::make_dir(&*self.disk, dir).map_err(io)?;
        let mut files = self.lock();
        let entry = files.entries.get(&from).filter(|entry| Arc::strong_count(entry) == 1);
        let Some(entry) = entry.cloned() else { return Ok(()) };
        self.disk.rename_new(&entry.path, &to).map_err(io)?;
        // It lies there from now on, durably or not: should the disk lose the rename, it has the old name again.
        *unsettled = Some(dir.to_owned());
        files.entries.remove(&from);
        files.insert(Entry::local(one.to, to.clone(), entry.bytes));
        drop(files);
        self.disk.sync_dir(dir).map_err(io)?;
        *unsettled = None;
        self.disk.sync_dir(base::disk::parent(&entry.path)).map_err(io)
    }

    /// Has the object count for another level, once the copy on this machine does: under two levels, each would pass for
    /// what replaces the other.
    fn raise(&self, one: &Move) {
        let mut files = self.lock();
        let stays = files.entries.contains_key(&(one.from, Place::Local));
        let taken = files.entries.contains_key(&(one.to, Place::Store));
        let entry = files.entries.get(&(one.from, Place::Store)).filter(|_| !stays && !taken);
        let Some(risen) = entry.and_then(|entry| entry.risen(one.to)) else { return };
        files.entries.remove(&(one.from, Place::Store));
        files.insert(risen);
        if files.orphans.remove(&one.from) {
            files.orphans.insert(one.to);
        }
    }

    /// The right to change names of files, for one step.
    fn upkeep(&self) -> Result<RwLockReadGuard<'_, bool>, ThinError> {
        let given_up = self.given_up.read().unwrap_or_else(PoisonError::into_inner);
        if *given_up { Err(ThinError::GivenUp { base: self.local.clone() }) } else { Ok(given_up) }
    }

    /// Sets a damaged file aside whose name is needed.
    fn clear(&self, key: FileKey) -> Result<(), ThinError> {
        let in_the_way = self.lock().entries.get(&(key, Place::Local)).cloned();
        let Some(entry) = in_the_way.filter(|entry| entry.damage().is_some()) else { return Ok(()) };
        let path = entry.path.clone();
        let cleared = self.settle_move().and_then(|_settled| self.set_aside_here(vec![entry]));
        cleared.map_err(|cause| ThinError::Io { path, cause })
    }

    /// Takes a copy out of the catalogue, unless somebody works with it.
    pub(super) fn take_unused(&self, key: FileKey, place: Place) -> Option<Arc<Entry>> {
        let mut files = self.lock();
        let unused = files.entries.get(&(key, place)).is_some_and(|entry| Arc::strong_count(entry) == 1);
        if unused { files.entries.remove(&(key, place)) } else { None }
    }

    /// Pins and the end of history must be reachable without what is to go; the second look, after the planner's.
    fn check_removals(&self, plan: &ThinPlan) -> Result<(), ThinError> {
        let local: BTreeSet<&FileKey> = plan.remove_local.iter().collect();
        let stored: BTreeSet<&FileKey> = plan.remove_stored.iter().collect();
        let usable = self.usable(None);
        let goes = |entry: &Entry| match entry.place {
            Place::Local => local.contains(&entry.key),
            Place::Store => stored.contains(&entry.key),
        };
        let before = plan::reachable(usable.iter().map(|entry| entry.key.txids()));
        let staying = usable.iter().filter(|entry| !goes(entry));
        let after = plan::reachable(staying.map(|entry| entry.key.txids()));
        let must = plan.pinned.iter().chain(before.last()).filter(|txid| before.contains(txid));
        match must.copied().find(|txid| !after.contains(txid)) {
            Some(lost) => Err(ThinError::Unsafe { base: self.local.clone(), lost }),
            None => Ok(()),
        }
    }

    /// Removes copies; what cannot go stays, and does not hold up the others. Not synced: one that comes back after a
    /// power loss goes again.
    fn remove(&self, keys: &[FileKey], done: &mut CarriedOut) -> Option<ThinError> {
        let mut failed = None;
        for key in keys {
            let _upkeep = match self.upkeep() {
                Ok(upkeep) => upkeep,
                Err(error) => return Some(error),
            };
            let Some(entry) = self.take_unused(*key, Place::Local) else {
                done.in_use += u64::from(self.lock().entries.contains_key(&(*key, Place::Local)));
                continue;
            };
            match self.disk.remove_file(&entry.path) {
                Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                    failed.get_or_insert(ThinError::Io { path: entry.path.clone(), cause });
                    self.lock().entries.insert((*key, Place::Local), entry);
                }
                _ => done.removed_bytes += entry.bytes,
            }
        }
        failed
    }
}

/// The plan without the removals that wait for a merge which failed.
fn without(plan: &ThinPlan, unmade: &[FileKey]) -> ThinPlan {
    let mut plan = plan.clone();
    let lacking = |key: &FileKey| unmade.iter().any(|output| output.min <= key.min && output.max >= key.max);
    plan.remove_local.retain(|key| !(plan.merged_away.contains(key) && lacking(key)));
    plan
}
