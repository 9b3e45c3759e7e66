//! What a home without a ledger has already of the histories that it is to get from a store.
//!
//! | here | what becomes of it |
//! |---|---|
//! | no more than the store has | it is of use, and nothing is sent |
//! | all that the store has, and more | that is sent before the history is ended, and counts |
//! | something else than the store has, from some TXID on | nothing is done, and the store stays whose it is |
//!
//! What is here of a history that the store does not list is in nobody's way: the engine follows and sends it.

use super::RecoverError;
use crate::bucket::{self, Bucket};
use crate::engine::LEDGER_PATH;
use crate::history::{
    FileKey, History, Parted, Remote, ShipError, Stored, Terms, has_files, local_base, make_dir,
    parse_store_key,
};
use crate::machine::Machine;
use base::{DatabasePath, Incarnation, Txid, disk};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use store::{Key, Manifest, Objects};

/// There once a home had more of a database than the store, until the volume is up.
const HAD_MORE: &str = ".stead/recover/had-more";

/// How often what is here is sent anew after something was in the way.
const SEND_TRIES: u32 = 100;

/// A history that goes on one way in a home, and another way in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Whose.
    pub path: DatabasePath,
    /// Where the home's lies.
    pub base: PathBuf,
    /// Where the home's ends.
    pub here: Txid,
    /// Where they part, and where the store's ends.
    pub parted: Parted,
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Split { path, here, parted: Parted { common, stored }, .. } = self;
        write!(
            f,
            "after txid {common} {path} goes on up to {here} in this home, and otherwise up to {stored} in the store"
        )
    }
}

/// Looks whether a home has anything that a store would have to give up, or the home itself. The store is only read.
///
/// `found`: its manifest.
pub fn look(
    home: &Path,
    objects: &Arc<dyn Objects>,
    found: Option<&Manifest>,
    machine: &Machine,
) -> Result<(), RecoverError> {
    let mut splits = Vec::new();
    for (key, listed) in bucket::listed(objects, found)? {
        let Some((path, base)) = lies_here(home, machine, &key) else { continue };
        let remote = Remote { objects: Arc::clone(objects), base: Key::new(key) };
        let stored = remote.follow_without(listed, found.map_or(&[], |found| &found.doomed))?;
        let history = History::open(Arc::clone(&machine.disk), base, Some(stored))?;
        splits.extend(split(path, &history));
    }
    if splits.is_empty() { Ok(()) } else { Err(RecoverError::Parted(splits)) }
}

/// Whether anything of a database was sent that the store had not, now or by a try before.
pub(super) fn had_more(home: &Path, machine: &Machine) -> bool {
    machine.disk.metadata(&home.join(HAD_MORE)).is_ok()
}

/// Notes it before the first file goes: another try finds all of it in the store.
fn note_more(home: &Path, machine: &Machine) -> Result<(), RecoverError> {
    let (disk, path) = (&*machine.disk, home.join(HAD_MORE));
    let noted =
        make_dir(disk, disk::parent(&path)).and_then(|()| disk::write_atomic(disk, &path, b"", false));
    noted.map_err(|cause| RecoverError::Disk { path, cause })
}

/// Sends what a home has of a history after all that the store has.
pub(super) fn send(home: &Path, bucket: &Bucket, machine: &Machine, key: &str) -> Result<(), RecoverError> {
    let Some((path, base)) = lies_here(home, machine, key).filter(|_| bucket.knows(key)) else {
        return Ok(());
    };
    for tries in 1.. {
        let stored = bucket.stored(key)?;
        let history = History::open(Arc::clone(&machine.disk), base.clone(), Some(stored))?;
        if let Some(split) = split(path.clone(), &history) {
            return Err(RecoverError::Parted(vec![split]));
        }
        let (stored, here) = (history.stored_txid(), end_of(&history));
        if here <= stored {
            return Ok(());
        }
        if path.as_str() != LEDGER_PATH {
            note_more(home, machine)?;
        }
        match history.ship_under(&Terms::of(bucket)) {
            Ok(_) => {
                if history.awaits_list() {
                    bucket.list(key, &history, Vec::new())?;
                }
                let (stored, here) = (stored.0, here.0);
                tracing::info!(event = "history sent", %path, stored, here, "this home had more than the store");
                return Ok(());
            }
            // The former owner's, from a moment ago, is a part of history: the next look finds it. Any other is none.
            Err(ShipError::Conflict { key: object, .. }) if tries < SEND_TRIES => {
                if !has(&bucket.stored(key)?, object) {
                    history.clear_stale(bucket, object)?;
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    unreachable!("the last try returns")
}

/// Sends what is damaged in the store after a position, where the home has it whole; whether that was anything.
pub(super) fn mend(
    home: &Path,
    bucket: &Bucket,
    machine: &Machine,
    key: &str,
    whole: Txid,
) -> Result<bool, RecoverError> {
    let Some((_, base)) = lies_here(home, machine, key) else { return Ok(false) };
    let history = History::open(Arc::clone(&machine.disk), base, Some(bucket.stored(key)?))?;
    history.prove_after(whole)?;
    let sent = history.ship_under(&Terms::of(bucket))?;
    if history.awaits_list() {
        bucket.list(key, &history, Vec::new())?;
    }
    Ok(sent.files > 0)
}

fn has(stored: &Stored, object: FileKey) -> bool {
    stored
        .files
        .iter()
        .any(|file| (file.named_level, file.min, file.max) == (object.level, object.min, object.max))
}

/// The database and the directory of a history of which the home has files.
fn lies_here(home: &Path, machine: &Machine, key: &str) -> Option<(DatabasePath, PathBuf)> {
    let (path, incarnation): (DatabasePath, Incarnation) = parse_store_key(key)?;
    let base = local_base(&home.join(path.as_str()), incarnation);
    has_files(&*machine.disk, &base).then_some((path, base))
}

fn split(path: DatabasePath, history: &History) -> Option<Split> {
    let parted = history.parted().cloned().or_else(|| history.may_have_parted())?;
    Some(Split { path, base: history.base().to_owned(), here: end_of(history), parted })
}

fn end_of(history: &History) -> Txid {
    history.last().map_or(Txid::ZERO, |last| last.header.max_txid)
}
