//! The history of one incarnation: LTX files beside the database, and their copies in a store.
//!
//! ```text
//! seal ──begin/publish──▶ ltx/0 ──merge──▶ ltx/1, 2, 3 ──fold──▶ ltx/9       thin (pure) → carry_out
//!                           └──────────── ship ────────────▶ store
//! plan(target) ──▶ fewest files ──▶ PageReader (single pages) · image, restore (the whole database)
//!                                   fetch (pure): which bytes of which files, each page once, neighbours together
//! ```
//! - A file appears whole and durable, or not at all (`*.tmp`, sync, rename, sync of the directory); new files are
//!   durable before those that they replace go.
//! - A file found damaged is named, marked and avoided: another level or the other place may have what it held.
//! - Nothing is removed that a pinned position, or a plan still in use, needs.
//!
//! One thread seals; any number plan and read; thinning and shipping may run beside them, each in one thread.
//! Layout: `docs/formats/history.md`.

mod apart;
mod at_once;
mod broken;
mod compact;
mod examine;
mod fetch;
mod files;
mod fill;
mod image;
mod parted;
mod place;
mod plan;
mod reader;
mod remote;
mod restore;
pub mod retention;
mod seal;
mod ship;
mod sources;
#[cfg(test)]
mod tests;
mod thin;
mod unsent;

pub(crate) use broken::named;
pub use compact::{CarriedOut, ThinError};
pub(crate) use files::has_files;
pub use files::{FileInfo, FileKey, Place};
pub use image::{ImageError, Imaged};
pub use parted::Parted;
pub use place::{local_base, parse_local, parse_store, parse_store_key, store_key};
pub use plan::{Plan, PlanError};
pub use reader::{PageReader, ReadError};
pub use remote::{Remote, Stored};
pub use restore::{Restored, abandon, begin_with, beside};
pub use retention::{Holds, Retention, SNAPSHOT_LEVEL};
pub use seal::{LevelZero, SealError};
pub use ship::{ShipError, Shipped, Terms};
pub use thin::{Merge, Move, ThinPlan};
pub use unsent::Unsent;

use base::{Disk, DiskFile, Incarnation, Pgno, Timestamp, Txid};
use files::{Entry, Unusable};
use ltx::Header;
use plan::Route;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

/// How often a plan is made anew because a file of the former one turned out to be damaged.
const REPLANS_MAX: usize = 64;

/// The history of one incarnation of a database.
#[derive(Clone, Debug)]
pub struct History {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    disk: Arc<dyn Disk>,
    local: PathBuf,
    /// Set once its files are in the catalogue.
    store: OnceLock<Remote>,
    files: Mutex<Files>,
    /// The directory that a file was moved to, while its name there is not durable. Locked while a directory that files
    /// move from is synced.
    unsettled: Mutex<Option<PathBuf>>,
    /// Nothing is merged, moved or removed any more.
    given_up: RwLock<bool>,
    /// It was opened without the store that it goes to.
    store_away: AtomicBool,
    /// It begins in a store that is away.
    apart: AtomicBool,
    /// The store's part turned out to be another history from somewhere on.
    parted: OnceLock<Parted>,
}

/// What is where.
#[derive(Debug, Default)]
struct Files {
    entries: BTreeMap<(FileKey, Place), Arc<Entry>>,
    /// No file reaches further, nor did one that is gone.
    reach: Txid,
    last: Option<SealedFile>,
    /// How far the store alone leads, and when that was committed.
    stored: (Txid, Timestamp),
    /// Copies in the store that belong to an abandoned end of history: out of use, moved aside by the next `ship`.
    orphans: BTreeSet<FileKey>,
    /// Those of them that `aside/` in the store has.
    copied_aside: BTreeSet<FileKey>,
    /// Copies in the store that thinning can do without.
    spare: Vec<FileKey>,
    /// Where the list of the store's part ends: a seal up to here is found only if it is listed. `None`: there is no list,
    /// and nothing is found.
    listed_upto: Option<Txid>,
}

/// The file that a history ends with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedFile {
    /// The file.
    pub file: FileInfo,
    /// What it says of itself.
    pub header: Header,
}

/// A range of TXIDs, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Txids {
    first: Txid,
    last: Txid,
}

impl fmt::Display for Txids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TXID {} to {}", self.first, self.last)
    }
}

/// A history that cannot be opened. The caller must mend the path, or wait for the store.
#[derive(Debug, thiserror::Error)]
#[error("the history in {path} cannot be opened: {cause}")]
pub struct HistoryError {
    /// The place that failed.
    pub path: PathBuf,
    /// What the file system, or the store, said.
    pub cause: io::Error,
    /// Whether it is the store that failed.
    pub of_store: bool,
}

impl History {
    /// Opens a history: lists both places, removes unfinished files, finds where it ends.
    ///
    /// `local` is its base ([`local_base`]), made where it is missing; `store` what was found in the store.
    pub fn open(disk: Arc<dyn Disk>, local: PathBuf, store: Option<Stored>) -> Result<History, HistoryError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |cause| HistoryError { path, cause, of_store: false }
        };
        make_local(&*disk, &local).map_err(failed(&local))?;
        files::remove_leftovers(&*disk, &local).map_err(failed(&local))?;
        let found = files::list(&*disk, &local).map_err(failed(&local))?;
        files::settle_dirs(&*disk, &local).map_err(failed(&local))?;
        files::settle_names(&*disk, &local).map_err(failed(&local))?;
        let mut files = Files::default();
        files.extend(found);
        let inner = Arc::new(Inner {
            disk,
            local,
            store: OnceLock::new(),
            files: Mutex::new(files),
            unsettled: Mutex::default(),
            given_up: RwLock::default(),
            store_away: AtomicBool::new(false),
            apart: AtomicBool::new(false),
            parted: OnceLock::new(),
        });
        if let Some(stored) = &store {
            inner.take_stored(stored);
            inner.part(None);
        }
        let last = inner.find_last(None)?;
        inner.lock().last = last;
        if store.is_some() {
            inner.find_stored()?;
        }
        Ok(History { inner })
    }

    /// From now on nothing is merged, moved or removed through it: the same files are opened anew, with a catalogue of
    /// their own. Waits for a step that is under way on this machine's disk.
    pub fn give_up(&self) {
        *self.inner.given_up.write().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// Whether both are one: not only of the same files, but with the same catalogue of them.
    pub fn is_same(&self, other: &History) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Whether it goes to a store as well.
    pub fn has_store(&self) -> bool {
        self.inner.store.get().is_some()
    }

    /// The directory of the local files.
    pub fn base(&self) -> &Path {
        &self.inner.local
    }

    /// The incarnation whose history it is, as its directory says; `None` for a directory of another name.
    pub fn incarnation(&self) -> Option<Incarnation> {
        let (_, incarnation) = parse_local(self.base().file_name()?.to_str()?)?;
        Some(incarnation)
    }

    /// The file that history ends with: the furthest that can be restored.
    pub fn last(&self) -> Option<SealedFile> {
        self.inner.lock().last.clone()
    }

    /// The furthest position that can be restored from the store alone; zero where nothing can.
    pub fn stored_txid(&self) -> Txid {
        self.inner.lock().stored.0
    }

    /// Whether the store alone leads to a TXID, by the names of its files.
    pub fn is_stored(&self, txid: Txid) -> bool {
        txid == self.stored_txid() || self.stored_positions().contains(&txid)
    }

    /// The positions that the store alone leads to, by the names of its files.
    fn stored_positions(&self) -> BTreeSet<Txid> {
        plan::reachable(self.inner.usable(Some(Place::Store)).iter().map(|entry| entry.key.txids()))
    }

    /// When what the store ends with was committed.
    pub fn stored_at(&self) -> Timestamp {
        self.inner.lock().stored.1
    }

    /// Every copy of every file, by level and TXIDs.
    pub fn files(&self) -> Vec<FileInfo> {
        self.inner.lock().all().map(|entry| entry.info()).collect()
    }

    /// Bytes of all local files.
    pub fn local_bytes(&self) -> u64 {
        self.inner.lock().all().filter(|entry| entry.place == Place::Local).map(|entry| entry.bytes).sum()
    }

    /// The header of a file; `None` where it is gone, damaged or out of reach.
    pub fn header(&self, file: &FileInfo) -> Option<Header> {
        let entry = self.inner.lock().entries.get(&(file.key, file.place)).cloned()?;
        entry.header(&*self.inner.disk).ok()
    }

    /// The positions that files lead to, by their names; a damaged file may show only when it is read.
    pub fn restorable(&self) -> BTreeSet<Txid> {
        plan::reachable(self.inner.usable(None).iter().map(|entry| entry.key.txids()))
    }

    /// The fewest files that hold the database as it was at a position.
    pub fn plan(&self, target: Txid) -> Result<Plan, PlanError> {
        self.inner.plan(Route { from: Txid::ZERO, to: target, exact: false }, None)
    }

    /// The fewest files that lead from one position to a later one.
    pub fn plan_range(&self, after: Txid, upto: Txid) -> Result<Plan, PlanError> {
        self.inner.plan(Route { from: after, to: upto, exact: false }, None)
    }

    /// One page as it was last; `None` where the database does not have it.
    pub fn last_page(&self, pgno: Pgno) -> Result<Option<Vec<u8>>, PlanError> {
        let last = self.last().map_or(Txid::ZERO, |last| last.header.max_txid);
        self.replanning(|| self.plan(last), |plan| plan.newest(pgno))
    }

    /// Every page that may differ between two positions, ascending, from indexes alone.
    ///
    /// Pages that the database had at `after` and no longer has at `upto` are in it only if they were written
    /// between: compare the page counts. Where files were merged beyond `after` it has more pages, never fewer.
    pub fn changed(&self, after: Txid, upto: Txid) -> Result<Vec<Pgno>, PlanError> {
        if after >= upto {
            return Ok(Vec::new());
        }
        self.replanning(|| self.plan_range(after, upto), |plan| plan.pages())
    }

    /// Writes the database as it was at a position into an empty file, and verifies it: every page's checksum, and the
    /// database's own. A damaged file is avoided where another holds the same.
    ///
    /// `progress` is told bytes read and bytes in all. The file is not synced.
    pub fn image(
        &self,
        target: Txid,
        out: &dyn DiskFile,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Imaged, ImageError> {
        let mut replans = 0;
        loop {
            out.set_len(0).map_err(ImageError::Output)?;
            match self.plan(target)?.image(out, progress) {
                Err(ImageError::Damaged { .. }) if replans < REPLANS_MAX => replans += 1,
                done => return done,
            }
        }
    }

    /// Does something with a plan; where a file of it is found damaged, with the next best plan.
    fn replanning<T>(
        &self,
        make: impl Fn() -> Result<Plan, PlanError>,
        work: impl Fn(&Plan) -> Result<T, ReadError>,
    ) -> Result<T, PlanError> {
        let mut replans = 0;
        loop {
            let plan = make()?;
            match work(&plan) {
                Ok(done) => return Ok(done),
                Err(ReadError::Damaged { .. }) if replans < REPLANS_MAX => replans += 1,
                Err(ReadError::Damaged { path, reason }) => {
                    return Err(PlanError::Unavailable { path, cause: io::Error::other(reason) });
                }
                Err(ReadError::Unavailable { path, cause }) => {
                    return Err(PlanError::Unavailable { path, cause });
                }
            }
        }
    }
}

impl Inner {
    /// Takes what a store has into the catalogue, once.
    fn take_stored(&self, stored: &Stored) {
        let mut files = self.lock();
        if self.store.set(stored.remote.clone()).is_ok() {
            files.extend(stored.entries());
            files.listed_upto = stored.listed_upto;
        }
    }

    /// Finds how far the store alone leads.
    fn find_stored(self: &Arc<Inner>) -> Result<(), HistoryError> {
        let last = self.find_last(Some(Place::Store))?;
        self.lock().stored =
            last.map_or_else(Default::default, |last| (last.header.max_txid, last.header.timestamp));
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Files> {
        // Every change of the catalogue is one insertion or removal; a panic leaves none half done.
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a move durable that the disk failed half-way: to sync the directory that a file has left would else be to
    /// lose the file with the power. Whoever is going to sync one keeps the lock meanwhile.
    fn settle_move(&self) -> io::Result<MutexGuard<'_, Option<PathBuf>>> {
        let mut unsettled = self.unsettled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(dir) = &*unsettled {
            self.disk.sync_dir(dir)?;
            *unsettled = None;
        }
        Ok(unsettled)
    }

    /// The copies that are not known to be damaged; of one place only those that whoever looks there finds.
    fn usable(&self, only: Option<Place>) -> Vec<Arc<Entry>> {
        let files = self.lock();
        let wanted = |entry: &&Arc<Entry>| {
            let orphan = entry.place == Place::Store && files.orphans.contains(&entry.key);
            let wanted = only.is_none_or(|place| place == entry.place && files.is_findable(entry));
            entry.damage().is_none() && !orphan && wanted
        };
        files.entries.values().filter(wanted).cloned().collect()
    }

    /// The furthest position that can be restored, and the file that ends there.
    ///
    /// A file that cannot be read *now* is an error: taking it for damaged would end history before it.
    fn find_last(self: &Arc<Inner>, only: Option<Place>) -> Result<Option<SealedFile>, HistoryError> {
        loop {
            let usable = self.usable(only);
            for end in plan::reachable(usable.iter().map(|entry| entry.key.txids())).into_iter().rev() {
                let route = Route { from: Txid::ZERO, to: end, exact: false };
                let way = match self.way(&usable, route) {
                    Ok(way) => way,
                    Err(PlanError::Missing { .. }) => continue,
                    Err(PlanError::Unavailable { path, cause }) => return Err(self.not_found(path, cause)),
                };
                let Some(entry) = way.last().map(|at| &usable[*at]) else { continue };
                // A list does not know what the file says of the log; whoever only asks how far it leads need not either.
                let header = match only {
                    Some(_) => entry.header(&*self.disk),
                    None => entry.read_header(&*self.disk),
                };
                match header {
                    Ok(header) => return Ok(Some(SealedFile { file: entry.info(), header })),
                    Err(Unusable::Damaged) => {}
                    Err(Unusable::Unavailable(cause)) => {
                        return Err(self.not_found(entry.path.clone(), cause));
                    }
                }
            }
            // Headers read on the way may have shown damage, which changes where names lead.
            if self.usable(only).len() == usable.len() {
                return Ok(None);
            }
        }
    }

    fn not_found(&self, path: PathBuf, cause: io::Error) -> HistoryError {
        let of_store = !path.starts_with(&self.local);
        HistoryError { path, cause, of_store }
    }

    fn unusable(&self, entry: &Entry, why: Unusable) -> ReadError {
        let path = entry.path.clone();
        match why {
            Unusable::Damaged => {
                ReadError::Damaged { path, reason: entry.damage().unwrap_or("damaged").to_owned() }
            }
            Unusable::Unavailable(cause) => ReadError::Unavailable { path, cause },
        }
    }
}

impl Files {
    fn all(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries.values()
    }

    fn in_store(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries.iter().filter(|((_, place), _)| *place == Place::Store).map(|(_, entry)| entry)
    }

    fn extend(&mut self, found: Vec<Entry>) {
        found.into_iter().for_each(|entry| drop(self.insert(entry)));
    }

    /// Whether whoever looks for a copy finds it: one in the store is listed, or a seal beyond the list's end, whose name
    /// can be asked for.
    fn is_findable(&self, entry: &Entry) -> bool {
        let beyond = self.listed_upto.is_some_and(|end| entry.key.min > end);
        entry.is_listed() || (entry.named().level == 0 && beyond)
    }

    fn insert(&mut self, entry: Entry) -> Arc<Entry> {
        let entry = Arc::new(entry);
        self.reach = self.reach.max(entry.key.max);
        self.entries.insert((entry.key, entry.place), entry.clone());
        entry
    }
}

/// Makes the directories of a local history. It holds what the database holds, so only its owner may look into a new one;
/// a name on the way that another user may have planted is refused.
pub(crate) fn make_local(disk: &dyn Disk, local: &Path) -> io::Result<()> {
    const OWNER_ONLY: u32 = 0o700;
    let levels = (0..=SNAPSHOT_LEVEL).map(|level| local.join(files::level_dir(level)));
    for dir in [local.to_owned(), local.join(files::LTX_DIR)].into_iter().chain(levels) {
        disk.refuse_planted(&dir)?;
    }
    let new = disk.metadata(local).is_err();
    make_dir(disk, local)?;
    // A disk without owners has no modes either.
    if new && let Ok(owner) = disk.owner(local) {
        disk.give(local, base::disk::Owner { mode: owner.mode & OWNER_ONLY, ..owner })?;
    }
    make_dir(disk, &local.join(files::level_dir(0)))
}

/// Makes a directory, and the names of the new ones on the way durable.
pub(crate) fn make_dir(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.metadata(path) {
        Ok(found) if found.is_dir => return Ok(()),
        Ok(_) => return Err(io::ErrorKind::NotADirectory.into()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Err(_) => {}
    }
    let above = base::disk::parent(path);
    if above != path {
        make_dir(disk, above)?;
    }
    disk.create_dir_all(path)?;
    let synced = disk.sync_dir(above);
    if synced.is_err() {
        // Not known to be durable, so it must not be there: who finds it builds on it.
        let _ = disk.remove_dir(path);
    }
    synced
}
