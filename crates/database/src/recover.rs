//! A volume brought to an empty home from a store alone.
//!
//! ```text
//! take the store over (epoch + 1) ─▶ end the ledger's history ─▶ end each database's ─▶ write the ledger
//!                                     └── a seal without a change, created only: whoever had the store before
//!                                         cannot add to it from then on, and what it added until then is kept
//! ```
//! What the home has of these histories after all that the store has is sent before they are ended (`here`).
//!
//! The databases themselves come back when the engine starts (`aim`).
//!
//! Seals that follow a list and are damaged, or follow nothing, are set aside: history ends before them, and what is lost
//! is said.

mod aim;
mod here;
mod older;

pub use here::{Split, look};

use crate::bucket::{Bucket, BucketError, Rights};
use crate::engine::{LEDGER_PATH, StoreSettings, remove_beside, rights_had};
use crate::history::{
    self, FileKey, History, HistoryError, ImageError, PlanError, Remote, SealedFile, ShipError, local_base,
    make_local, parse_store_key, store_key,
};
use crate::ledger::{IntentError, Ledger, LedgerError, Vector};
use crate::machine::Machine;
use aim::{AtHome, Ends};
use base::{DatabasePath, Epoch, Incarnation, Open, Pgno, Position, Txid, disk};
use ltx::{EncodeError, Encoder, Header};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use store::{Outcome, StoreError, StoredFile};

/// How often a history is tried to be ended while somebody else still adds to it.
const TRIES: u32 = 1000;
/// Where histories are opened that have nothing on this machine; it goes when the engine starts.
pub(crate) const SCRATCH: &str = ".stead/recover";
/// The most bytes of a seal that ends a history: it has one page.
const END_BYTES_MAX: usize = 1 << 20;

/// What was found in the store.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// The right to write that was taken.
    pub epoch: Epoch,
    /// Where each database ends.
    pub databases: Vector,
    /// Whether the store had a ledger: checkpoints, and which databases there are.
    pub ledger: bool,
    /// What the store had called its own and cannot give back.
    pub lost: Vec<Lost>,
    /// Whether the databases come up each at its own end, although they end at no common moment.
    pub apart: bool,
}

/// Transactions at the end of a history that are damaged, or never arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Whose.
    pub path: DatabasePath,
    /// The last one that is whole.
    pub whole: Txid,
    /// The last one that is known of.
    pub last: Txid,
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
    /// The home has histories that go on otherwise in the store: move them away, or choose another store.
    #[error("{}", .0.iter().map(Split::to_string).collect::<Vec<_>>().join("; "))]
    Parted(Vec<Split>),
    /// What the home has beyond the store was not sent.
    #[error(transparent)]
    Ship(#[from] ShipError),
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
    /// What the manifest lists at the end of a history cannot be used: bring a good copy of the object back.
    #[error(
        "the end of {path} is damaged: it was stored up to txid {listed}, and is whole up to {whole}; {object} cannot be used"
    )]
    EndDamaged {
        /// Which database.
        path: DatabasePath,
        /// The last transaction that can be restored.
        whole: Txid,
        /// The last one that was stored.
        listed: Txid,
        /// An object that is damaged or missing.
        object: String,
    },
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
    // What a home had elsewhere, and what it had here is no matter: it asks for what is there.
    let had = Rights { here: None, ..rights_had(&*machine.disk, home, store.objects.url()) };
    let bucket = Bucket::open(
        Arc::clone(&store.objects),
        store.owner.clone(),
        store.claim,
        had,
        Arc::clone(&machine.clock),
        &*machine.random,
    )?;
    let mut recovery = Recovery { home, bucket: &bucket, machine, lost: Vec::new() };
    let ledger = recovery.ledger()?;
    let mut found = BTreeMap::new();
    let mut at_home = AtHome::default();
    for (path, incarnation) in recovery.databases(ledger.as_ref())? {
        let Some(history) = recovery.end(&path, incarnation)? else {
            if let Some(ledger) = &ledger {
                recovery.give_up(ledger, &path, incarnation)?;
            }
            continue;
        };
        if let Some(ledger) = &ledger {
            let end = history.last().map_or(Txid::ZERO, |last| last.header.max_txid);
            let named = ledger.named_upto(&path, incarnation)?;
            if named > end {
                recovery.was_not_sent(&path, end, named);
            }
        }
        let stays = older::begin_with_older(home, machine, &path, incarnation, &history);
        at_home.stays.extend(stays.map(|stays| (path.clone(), stays)));
        found.extend(history.last().map(|last| (path, Ended { incarnation, last, history })));
    }
    at_home.had_more = here::had_more(home, machine);
    let databases: Vector = found.iter().map(|(path, ended)| (path.clone(), ended.position())).collect();
    let ends = Ends { found: &found, positions: &databases, at_home: &at_home };
    let apart = match &ledger {
        Some(ledger) => {
            ends.settle_intent(ledger)?;
            ends.aim(ledger, machine.clock.now())?
        }
        None => !at_home.has_newest() && found.len() > 1,
    };
    if apart {
        tracing::warn!(
            event = "databases apart",
            "each comes up at its own end: they have no recent moment in common"
        );
    }
    Ok(Recovered { epoch: bucket.epoch(), databases, ledger: ledger.is_some(), lost: recovery.lost, apart })
}

/// A history that nobody adds to any more.
struct Ended {
    incarnation: Incarnation,
    history: History,
    last: SealedFile,
}

impl Ended {
    fn position(&self) -> Position {
        let last = &self.last.header;
        Position { incarnation: self.incarnation, txid: last.max_txid, checksum: last.checksum_after }
    }

    /// Whether it leads to a position.
    fn has(&self, at: &Position) -> bool {
        let plan =
            || self.history.plan(at.txid).is_ok_and(|plan| plan.header().checksum_after == at.checksum);
        self.incarnation == at.incarnation && plan()
    }
}

struct Recovery<'a> {
    home: &'a Path,
    bucket: &'a Bucket,
    machine: &'a Machine,
    lost: Vec<Lost>,
}

impl Recovery<'_> {
    /// The ledger, written from its history; `None`: the store has none.
    fn ledger(&mut self) -> Result<Option<Ledger>, RecoverError> {
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
        let beside = history::beside(&file);
        let out = disk.open(&beside, Open::Create { private: true }).map_err(failed)?;
        let last = history.last().map(|last| last.header.max_txid).unwrap_or_default();
        history.image(last, &*out, &mut |_, _| {})?;
        // What SQLite kept beside a ledger that is lost is none of this one's.
        let written = remove_beside(disk, &file)
            .and_then(|()| out.sync())
            .and_then(|()| disk.rename_new(&beside, &file));
        written.and_then(|()| disk.sync_dir(disk::parent(&file))).map_err(failed)?;
        open()
    }

    /// Takes it that a database is gone of which the store has nothing, though the ledger there names it: it was not sent
    /// in time.
    fn give_up(
        &mut self,
        ledger: &Ledger,
        path: &DatabasePath,
        incarnation: Incarnation,
    ) -> Result<(), RecoverError> {
        if self.is_here(path, incarnation) {
            return Ok(());
        }
        let named = ledger.newest_vector()?.get(path).copied();
        if let Some(named) = named.filter(|at| at.incarnation == incarnation) {
            ledger.record_deleted(path)?;
            self.was_not_sent(path, Txid::ZERO, named.txid);
        }
        Ok(())
    }

    /// What the store's ledger names beyond what the store has did not arrive there, and is lost with whoever had it.
    fn was_not_sent(&mut self, path: &DatabasePath, whole: Txid, last: Txid) {
        tracing::error!(
            event = "never sent",
            path = %path,
            whole = whole.0,
            last = last.0,
            "the store's ledger names more than it has of this database"
        );
        self.lost.push(Lost { path: path.clone(), whole, last });
    }

    /// Which databases there are: those that the ledger knows, and those that have history of which it does not know.
    fn databases(&self, ledger: Option<&Ledger>) -> Result<Vec<(DatabasePath, Incarnation)>, RecoverError> {
        let stored = self.bucket.histories();
        let all = stored.iter().filter_map(|key| parse_store_key(key));
        let all: Vec<_> = all.filter(|(path, _)| !path.as_str().starts_with(".stead/")).collect();
        let Some(ledger) = ledger else { return Ok(all) };
        let known: BTreeMap<_, _> = ledger.paths()?.into_iter().collect();
        let mut databases = Vec::new();
        for (path, known) in known.iter().filter(|(_, known)| !known.deleted) {
            let mut incarnation = known.incarnation;
            let newest = all.iter().filter(|(of, _)| of == path).map(|(_, number)| *number).max();
            let is_there = all.contains(&(path.clone(), incarnation)) || self.is_here(path, incarnation);
            if let Some(newer) = newest.filter(|newest| !is_there && *newest > incarnation) {
                // What the ledger names was never sent, and another file has lived there since.
                ledger.adopt_incarnation(path, newer, newer)?;
                incarnation = newer;
            }
            databases.push((path.clone(), incarnation));
        }
        databases.extend(all.into_iter().filter(|(path, _)| !known.contains_key(path)));
        Ok(databases)
    }

    /// Whether the home has files of a history.
    fn is_here(&self, path: &DatabasePath, incarnation: Incarnation) -> bool {
        let here = local_base(&self.home.join(path.as_str()), incarnation);
        history::has_files(&*self.machine.disk, &here)
    }

    /// Ends a history with a seal of this right to write that changes nothing, so that nobody else can go on with it;
    /// `None`: there is nothing to end.
    fn end(
        &mut self,
        path: &DatabasePath,
        incarnation: Incarnation,
    ) -> Result<Option<History>, RecoverError> {
        let base = store_key(path, incarnation);
        here::send(self.home, self.bucket, self.machine, &base)?;
        let mut proven = Txid::ZERO;
        // The end that was written last, or may have been.
        let mut written = None;
        let mut mended = false;
        for _ in 0..TRIES {
            let stored = self.bucket.stored(&base)?;
            if stored.files.is_empty() {
                return Ok(None);
            }
            let (remote, listed) = (stored.remote.clone(), stored.listed_upto.unwrap_or(Txid::ZERO));
            let tail: Vec<Txid> =
                stored.files.iter().map(|file| file.max).filter(|end| *end > listed).collect();
            // What lies in the home says nothing of what the store has.
            let nothing_local = self.home.join(SCRATCH).join(&base);
            let history = History::open(Arc::clone(&self.machine.disk), nothing_local, Some(stored))?;
            history.prove_after(proven.max(listed))?;
            let end = history.last().map_or(Txid::ZERO, |last| last.header.max_txid);
            let Some(last) = history.last().filter(|_| end >= listed) else {
                if !mended && here::mend(self.home, self.bucket, self.machine, &base, end)? {
                    mended = true;
                    continue;
                }
                let damaged = history.damaged().into_iter().next();
                return Err(RecoverError::EndDamaged {
                    path: path.clone(),
                    whole: end,
                    listed,
                    object: damaged.map_or(base, |file| file.path.display().to_string()),
                });
            };
            if last.header.epoch > self.bucket.epoch() {
                // Whoever took the store after this has ended it already.
                self.bucket.check()?;
            }
            proven = last.header.max_txid;
            let broken: Vec<Txid> = tail.into_iter().filter(|end| *end > proven).collect();
            if let Some(end) = broken.last() {
                self.set_aside(path, &remote, proven, &broken)?;
                self.lost.push(Lost { path: path.clone(), whole: proven, last: *end });
                continue;
            }
            if written == Some(proven) && last.header.epoch == self.bucket.epoch() {
                let local = local_base(&self.home.join(path.as_str()), incarnation);
                self.keep_end(&remote, &local, last.file.key)?;
                return Ok(Some(history));
            }
            let Some(page) = history.last_page(Pgno::ONE)? else { return Ok(Some(history)) };
            let header = Header {
                min_txid: last.header.max_txid.next(),
                max_txid: last.header.max_txid.next(),
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
            written = Some(header.max_txid);
            self.bucket.claim_name(&key)?;
            // Whatever is there now, the next look finds it.
            match store::create_from(&*remote.objects, &key, header.timestamp, &bytes)? {
                Outcome::Won(_) | Outcome::Unknown => {}
                Outcome::Lost => {
                    let seal = FileKey { level: 0, min: header.min_txid, max: header.max_txid };
                    let goes_on = |there: StoredFile| there.before == header.checksum_before;
                    // Left by an owner from before, whose end of history was given up.
                    if !remote.look(seal)?.is_some_and(goes_on) {
                        history.clear_stale(self.bucket, seal)?;
                    }
                }
            }
        }
        Err(RecoverError::StillWritten(base))
    }

    /// Keeps what ended a history here as well: a start without the store goes on after it.
    fn keep_end(&self, remote: &Remote, local: &Path, end: FileKey) -> Result<(), RecoverError> {
        let key = remote.key(end);
        let path = local.join(end.relative());
        let disk = &*self.machine.disk;
        if end.level != 0 || disk.metadata(&path).is_ok() {
            return Ok(());
        }
        let Some((bytes, _)) = store::read_whole(&*remote.objects, &key, END_BYTES_MAX)? else {
            return Ok(());
        };
        let written = make_local(disk, local).and_then(|()| disk::write_atomic(disk, &path, &bytes, false));
        written.map_err(|cause| RecoverError::Disk { path, cause })
    }

    /// Sets seals aside that are damaged, or follow nothing; the last first, so that what is left is without a gap.
    fn set_aside(
        &self,
        path: &DatabasePath,
        remote: &Remote,
        whole: Txid,
        broken: &[Txid],
    ) -> Result<(), RecoverError> {
        tracing::error!(
            event = "end of history damaged",
            path = %path,
            whole = whole.0,
            lost = broken.len(),
            "set aside in the store"
        );
        for txid in broken.iter().rev() {
            let file = FileKey { level: 0, min: *txid, max: *txid };
            let failed =
                |cause| RecoverError::Disk { path: remote.objects.shown(&remote.key(file)).into(), cause };
            remote.move_aside(file, Some(self.bucket), failed)?;
        }
        Ok(())
    }
}

fn seal_of_one(header: Header, page: &[u8]) -> Result<Vec<u8>, EncodeError> {
    let mut encoder = Encoder::new(Vec::new(), header)?;
    encoder.page(Pgno::ONE, page)?;
    Ok(encoder.finish()?.0)
}
