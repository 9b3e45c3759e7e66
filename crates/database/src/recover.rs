//! A volume brought to an empty home from a store alone.
//!
//! ```text
//! take the store over (epoch + 1) ─▶ end the ledger's history ─▶ end each database's ─▶ write the ledger
//!                                     └── a seal without a change, created only: whoever had the store before
//!                                         cannot add to it from then on, and what it added until then is kept
//! ```
//! The databases themselves come back when the engine starts: to the newest of each where there is one, else to the
//! newest moment that is common to all, by an intent in the ledger that the start carries out.

use crate::bucket::{Bucket, BucketError};
use crate::engine::{LEDGER_PATH, StoreSettings};
use crate::history::{
    FileKey, History, HistoryError, ImageError, PlanError, local_base, parse_store_key, store_key,
};
use crate::ledger::{IntentError, Ledger, LedgerError, Vector};
use crate::machine::Machine;
use base::{DatabasePath, Epoch, Incarnation, Open, Pgno, Position, disk};
use ltx::{EncodeError, Encoder, Header};
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use store::{Outcome, StoreError, StoredFile};

/// How often a history is tried to be ended while somebody else still adds to it.
const TRIES: u32 = 1000;
/// What an intent to go to the newest common moment is called.
const NEWEST_MOMENT: &str = "the newest moment of all databases that the store has";

/// What was found in the store.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// The right to write that was taken.
    pub epoch: Epoch,
    /// Where each database ends.
    pub databases: Vector,
    /// Whether the store had a ledger: checkpoints, and which databases there are.
    pub ledger: bool,
}

/// Why a volume was not brought up. What was written to the home does no harm; the same call goes on.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The store cannot be taken.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// A history cannot be opened.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// A history is damaged, or cannot be read now.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The disk failed.
    #[error("{path}: {cause}")]
    Disk {
        /// Which file.
        path: std::path::PathBuf,
        /// What it said.
        cause: io::Error,
    },
    /// The ledger that was brought back cannot be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Where to go could not be recorded there.
    #[error(transparent)]
    Intent(#[from] IntentError),
    /// A history could not be ended: somebody else keeps adding to it.
    #[error("{0} is still being written to by another node")]
    StillWritten(String),
    /// What ends a history could not be written.
    #[error("the end of {base} cannot be written: {cause}")]
    Encode {
        /// The history.
        base: String,
        /// Why not.
        cause: EncodeError,
    },
}

impl From<StoreError> for RecoverError {
    fn from(error: StoreError) -> RecoverError {
        RecoverError::Bucket(error.into())
    }
}

impl From<PlanError> for RecoverError {
    fn from(error: PlanError) -> RecoverError {
        RecoverError::Image(error.into())
    }
}

/// Takes the store and brings the ledger to a home that has none.
pub fn recover(home: &Path, store: &StoreSettings, machine: &Machine) -> Result<Recovered, RecoverError> {
    let bucket = Bucket::open(
        Arc::clone(&store.objects),
        store.owner.clone(),
        store.claim,
        Arc::clone(&machine.clock),
        &*machine.random,
    )?;
    let recovery = Recovery { home, bucket: &bucket, machine };
    let ledger = recovery.ledger()?;
    let mut found = Vector::new();
    for (path, incarnation) in recovery.databases(ledger.as_ref())? {
        if let Some(end) =
            recovery.end(&path, incarnation)?.and_then(|history| position(&history, incarnation))
        {
            found.insert(path, end);
        }
    }
    if let Some(ledger) = &ledger {
        for (path, incarnation) in recovery.unknown_to(ledger)? {
            recovery.end(&path, incarnation)?;
        }
        recovery.aim(ledger, &found)?;
    }
    Ok(Recovered { epoch: bucket.epoch(), databases: found, ledger: ledger.is_some() })
}

struct Recovery<'a> {
    home: &'a Path,
    bucket: &'a Bucket,
    machine: &'a Machine,
}

impl Recovery<'_> {
    /// The ledger, written from its history; `None`: the store has none.
    fn ledger(&self) -> Result<Option<Ledger>, RecoverError> {
        let file = self.home.join(LEDGER_PATH);
        let open = || Ok(Some(Ledger::open(&file, self.machine.vfs.as_deref())?));
        let histories = self.bucket.histories();
        let known = histories.iter().filter_map(|key| parse_store_key(key));
        let newest = known.filter(|(path, _)| path.as_str() == LEDGER_PATH).map(|(_, number)| number).max();
        let Some(incarnation) = newest else { return Ok(None) };
        let path = DatabasePath::parse(LEDGER_PATH).expect("invariant: a plain relative path");
        let Some(history) = self.end(&path, incarnation)? else { return Ok(None) };
        let disk = &*self.machine.disk;
        let failed = |cause| RecoverError::Disk { path: file.clone(), cause };
        if disk.metadata(&file).is_ok() {
            return open();
        }
        let beside = disk::sibling(&file, ".stead-restore.tmp");
        let out = disk.open(&beside, Open::Create { private: true }).map_err(failed)?;
        let last = history.last().map(|last| last.header.max_txid).unwrap_or_default();
        history.image(last, &*out, &mut |_, _| {})?;
        let written = out.sync().and_then(|()| disk.rename_new(&beside, &file));
        written.and_then(|()| disk.sync_dir(disk::parent(&file))).map_err(failed)?;
        open()
    }

    /// Which databases there are: those that the ledger knows, else those that have history.
    fn databases(&self, ledger: Option<&Ledger>) -> Result<Vec<(DatabasePath, Incarnation)>, RecoverError> {
        let stored = self.bucket.histories();
        let Some(ledger) = ledger else {
            let all = stored.iter().filter_map(|key| parse_store_key(key));
            return Ok(all.filter(|(path, _)| !path.as_str().starts_with(".stead/")).collect());
        };
        let known = ledger.paths()?.into_iter().filter(|(_, known)| !known.deleted);
        Ok(known.map(|(path, known)| (path, known.incarnation)).collect())
    }

    /// Databases that the store has and the ledger there does not know yet: the start takes them for what their histories
    /// say.
    fn unknown_to(&self, ledger: &Ledger) -> Result<Vec<(DatabasePath, Incarnation)>, RecoverError> {
        let known: BTreeSet<DatabasePath> = ledger.paths()?.into_iter().map(|(path, _)| path).collect();
        let stored = self.bucket.histories();
        let stored = stored.iter().filter_map(|key| parse_store_key(key));
        Ok(stored
            .filter(|(path, _)| !path.as_str().starts_with(".stead/") && !known.contains(path))
            .collect())
    }

    /// Ends a history with a seal of this right to write that changes nothing, so that nobody else can go on with it;
    /// `None`: there is nothing to end.
    fn end(&self, path: &DatabasePath, incarnation: Incarnation) -> Result<Option<History>, RecoverError> {
        let base = store_key(path, incarnation);
        for _ in 0..TRIES {
            let stored = self.bucket.stored(&base)?;
            if stored.files.is_empty() {
                return Ok(None);
            }
            let remote = stored.remote.clone();
            let local = local_base(&self.home.join(path.as_str()), incarnation);
            let history = History::open(Arc::clone(&self.machine.disk), local, Some(stored))?;
            let Some(last) = history.last() else { return Ok(Some(history)) };
            if last.header.epoch > self.bucket.epoch() {
                // Whoever took the store after this has ended it already.
                self.bucket.check()?;
            }
            if last.header.epoch == self.bucket.epoch() {
                return Ok(Some(history));
            }
            let Some(page) = history.last_page(Pgno::ONE)? else { return Ok(Some(history)) };
            let header = Header {
                min_txid: last.header.max_txid.next(),
                max_txid: last.header.max_txid.next(),
                timestamp: self.machine.clock.now(),
                wal_offset: 0,
                wal_size: 0,
                wal_salt1: 0,
                wal_salt2: 0,
                wal_frame_checksum: 0,
                epoch: self.bucket.epoch(),
                checksum_before: last.header.checksum_after,
                ..last.header
            };
            let bytes = seal_of_one(header, &page)
                .map_err(|cause| RecoverError::Encode { base: base.clone(), cause })?;
            let key = remote.seal_key(header.max_txid);
            match store::create_from(&*remote.objects, &key, header.timestamp, &bytes)? {
                Outcome::Won(_) | Outcome::Unknown => {}
                Outcome::Lost => {
                    let seal = FileKey { level: 0, min: header.min_txid, max: header.max_txid };
                    let goes_on = |there: StoredFile| there.before == header.checksum_before;
                    // Left by an owner from before, whose end of history was given up.
                    if !remote.look(seal)?.is_some_and(goes_on) {
                        history.clear_stale(seal, self.bucket.epoch())?;
                    }
                }
            }
        }
        Err(RecoverError::StillWritten(base))
    }

    /// Where several databases end at no common moment, the start is to go to the newest that they had.
    fn aim(&self, ledger: &Ledger, found: &Vector) -> Result<(), RecoverError> {
        let newest = ledger.newest_vector()?;
        let common = |path: &DatabasePath, at: &Position| {
            newest
                .get(path)
                .is_some_and(|noted| (noted.incarnation, noted.checksum) == (at.incarnation, at.checksum))
        };
        let apart = found.len() > 1 && !found.iter().all(|(path, at)| common(path, at));
        if apart && !newest.is_empty() && ledger.open_intent()?.is_none() {
            ledger.begin_intent(self.machine.clock.now(), NEWEST_MOMENT, found, &newest)?;
        }
        Ok(())
    }
}

fn position(history: &History, incarnation: Incarnation) -> Option<Position> {
    let last = history.last()?.header;
    Some(Position { incarnation, txid: last.max_txid, checksum: last.checksum_after })
}

fn seal_of_one(header: Header, page: &[u8]) -> Result<Vec<u8>, EncodeError> {
    let mut encoder = Encoder::new(Vec::new(), header)?;
    encoder.page(Pgno::ONE, page)?;
    Ok(encoder.finish()?.0)
}
