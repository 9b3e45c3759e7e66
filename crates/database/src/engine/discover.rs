//! Files that come and go: joining, deletion, replacement, and what is missing at start.

use super::schedule::Task;
use super::slot::{Slot, State, Trouble};
use super::{Entry, Shared, StartError};
use crate::history::make_dir;
use crate::live::{JoinError, Live};
use base::{DatabasePath, Incarnation, Open, disk};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// A file that was written to this recently may still be being copied in.
const COPIED_IN_AFTER: Duration = Duration::from_millis(100);
/// A rollback journal that stays this long without a change is left over from a crash; SQLite rolls it back.
const JOURNAL_STALE_AFTER: Duration = Duration::from_secs(5);
/// How soon a file that is not ready is looked at again by somebody who waits for it.
const LOOK_NEW: Duration = Duration::from_millis(20);
/// How soon a file that is not ready is looked at again.
const LOOK_WAITING: Duration = Duration::from_millis(250);
/// Directories below a pattern's directory that are walked, at most.
const DEPTH_MAX: usize = 32;
/// Bytes of SQLite's file header.
const HEADER_BYTES: usize = 100;

/// Whether a file can be joined.
#[derive(Debug, PartialEq, Eq)]
enum Readiness {
    Missing,
    Empty,
    /// Somebody may still be writing it.
    Unsettled,
    Ready,
    Unfit(String),
}

impl Shared {
    /// Directories, files that are missing though history has them, configured files; then joins all.
    pub(super) fn prepare(&self) -> Result<(), StartError> {
        let disk = &*self.settings.machine.disk;
        let made = |path: PathBuf| make_dir(disk, &path).map_err(|source| StartError::Path { path, source });
        made(self.settings.home.join(".stead/databases"))?;
        for entry in &self.settings.entries {
            match entry {
                Entry::File { path, .. } => made(disk::parent(&self.file_of(path)).to_owned())?,
                Entry::Pattern { dir, .. } => made(self.settings.home.join(dir))?,
            }
        }
        for path in self.expected()? {
            self.bring_back_if_missing(&path)?;
        }
        for entry in &self.settings.entries {
            if let Entry::File { path, schema } = entry {
                self.create_if_missing(path, schema.as_deref())?;
                self.show_history(path)?;
            }
        }
        self.discover();
        Ok(())
    }

    /// A configured database shows where its history will lie before anything is in it.
    fn show_history(&self, path: &DatabasePath) -> Result<(), StartError> {
        let incarnation = self.ledger.current(path)?.map_or(Incarnation(1), |known| known.incarnation);
        let base = crate::history::local_base(&self.file_of(path), incarnation);
        let made = make_dir(&*self.settings.machine.disk, &base.join("ltx/0"));
        made.map_err(|source| StartError::Path { path: base.clone(), source })?;
        self.slot_for(path).show(|info| info.history = base.display().to_string());
        Ok(())
    }

    /// Databases that the ledger or the store know of.
    fn expected(&self) -> Result<Vec<DatabasePath>, StartError> {
        let mut paths: Vec<DatabasePath> = self
            .ledger
            .paths()?
            .into_iter()
            .filter(|(_, known)| !known.deleted)
            .map(|(path, _)| path)
            .collect();
        let mut found = Vec::new();
        self.walk_histories(&self.settings.home, "-litestream", &mut found);
        if let Some(store) = &self.settings.store {
            self.walk_histories(store, "", &mut found);
        }
        for path in found {
            if self.ledger.current(&path)?.is_none() && !paths.contains(&path) {
                paths.push(path);
            }
        }
        paths.retain(|path| self.is_named(path) || self.matches(Path::new(path.as_str())));
        Ok(paths)
    }

    /// Names of databases whose first incarnation has history below a root.
    fn walk_histories(&self, root: &Path, suffix: &str, found: &mut Vec<DatabasePath>) {
        for entry in &self.settings.entries {
            match entry {
                Entry::File { path, .. } => {
                    let base = disk::sibling(&root.join(path.as_str()), suffix);
                    if self.settings.machine.disk.metadata(&base.join("ltx")).is_ok_and(|at| at.is_dir) {
                        found.push(path.clone());
                    }
                }
                Entry::Pattern { dir, .. } => self.walk(root, dir, 0, &mut |below, is_dir| {
                    let Some(name) = below.to_str().and_then(|name| name.strip_suffix(suffix)) else {
                        return;
                    };
                    let has_history =
                        is_dir && self.settings.machine.disk.metadata(&root.join(below).join("ltx")).is_ok();
                    if let (true, Ok(path)) = (has_history, DatabasePath::parse(name)) {
                        found.push(path);
                    }
                }),
            }
        }
    }

    fn walk(&self, root: &Path, below: &Path, depth: usize, visit: &mut dyn FnMut(&Path, bool)) {
        let Ok(entries) = self.settings.machine.disk.read_dir(&root.join(below)) else { return };
        for entry in entries {
            let name = below.join(&entry.name);
            visit(&name, entry.is_dir);
            let own = entry.name == "ltx" || entry.name.ends_with("-litestream") || entry.name == ".stead";
            if entry.is_dir && !own && depth < DEPTH_MAX {
                self.walk(root, &name, depth + 1, visit);
            }
        }
    }

    fn bring_back_if_missing(&self, path: &DatabasePath) -> Result<(), StartError> {
        let file = self.file_of(path);
        let disk = &*self.settings.machine.disk;
        if disk.metadata(&file).is_ok() {
            return Ok(());
        }
        let incarnation = self.ledger.current(path)?.map_or(Incarnation(1), |known| known.incarnation);
        match self.bring_back(path, incarnation, None) {
            Ok(None) => {
                let sealed =
                    self.ledger.newest_vector()?.get(path).is_some_and(|at| at.txid > base::Txid::ZERO);
                if sealed {
                    let reason = "the ledger knows of it, and its history is gone".to_owned();
                    return Err(StartError::NotBroughtBack { path: path.clone(), reason });
                }
            }
            Ok(Some(txid)) => {
                self.ledger.record_returned(path, incarnation)?;
                self.tell(
                    path,
                    "returned",
                    format!("it was missing and came back from history at txid {txid}"),
                );
            }
            Err(reason) => return Err(StartError::NotBroughtBack { path: path.clone(), reason }),
        }
        Ok(())
    }

    /// Writes a database from history; `None`: its history is empty.
    pub(super) fn bring_back(
        &self,
        path: &DatabasePath,
        incarnation: Incarnation,
        at: Option<base::Txid>,
    ) -> Result<Option<base::Txid>, String> {
        let disk = &*self.settings.machine.disk;
        let file = self.file_of(path);
        let history = self.open_history(path, incarnation).map_err(|error| error.to_string())?;
        let Some(last) = history.last() else {
            let damaged = history.damaged();
            return match damaged.first() {
                Some(bad) => {
                    Err(format!("{}: {}", bad.path.display(), bad.damage.as_deref().unwrap_or("damaged")))
                }
                None => Ok(None),
            };
        };
        let txid = at.unwrap_or(last.header.max_txid);
        let beside = disk::sibling(&file, ".stead-restore.tmp");
        let failed = |error: &dyn std::fmt::Display| {
            // The half-written copy must not stay; the first error is the one to report.
            let _ = disk.remove_file(&beside);
            error.to_string()
        };
        make_dir(disk, disk::parent(&file)).map_err(|error| failed(&error))?;
        let out = disk.open(&beside, Open::Create { private: false }).map_err(|error| failed(&error))?;
        history.image(txid, &*out, &mut |_, _| {}).map_err(|error| failed(&error))?;
        out.sync().map_err(|error| failed(&error))?;
        for suffix in ["-wal", "-shm", "-journal"] {
            remove_if_there(disk, &disk::sibling(&file, suffix)).map_err(|error| failed(&error))?;
        }
        disk.rename(&beside, &file).map_err(|error| failed(&error))?;
        self.sync_parent(&file).map_err(|error| error.to_string())?;
        self.place(path, incarnation).forget(disk);
        Ok(Some(txid))
    }

    /// An empty file, or one with the configured schema.
    pub(super) fn create_if_missing(
        &self,
        path: &DatabasePath,
        schema: Option<&Path>,
    ) -> Result<(), StartError> {
        let file = self.file_of(path);
        let disk = &*self.settings.machine.disk;
        let failed = |source| StartError::Path { path: file.clone(), source };
        if disk.metadata(&file).is_ok() {
            return Ok(());
        }
        make_dir(disk, disk::parent(&file)).map_err(failed)?;
        let Some(schema) = schema else {
            disk.open(&file, Open::CreateNew).map_err(failed)?;
            return self.sync_parent(&file).map_err(failed);
        };
        let sql = disk::read(disk, &self.settings.home.join(schema), 16 << 20)
            .map_err(|source| StartError::Path { path: self.settings.home.join(schema), source })?;
        let beside = disk::sibling(&file, ".stead-create.tmp");
        remove_if_there(disk, &beside).map_err(failed)?;
        let made = run_schema(&beside, &String::from_utf8_lossy(&sql), self.settings.machine.vfs.as_deref());
        if let Err(error) = made {
            let _ = remove_if_there(disk, &beside);
            return Err(StartError::Path {
                path: self.settings.home.join(schema),
                source: io::Error::other(format!("the schema failed: {error}")),
            });
        }
        disk.rename(&beside, &file).map_err(failed)?;
        self.sync_parent(&file).map_err(failed)
    }

    /// Looks at all files that entries cover. When to look again, where something is not settled.
    pub(super) fn discover(&self) -> Option<Duration> {
        let mut found: Vec<DatabasePath> = Vec::new();
        let mut directories: Vec<PathBuf> = Vec::new();
        for entry in &self.settings.entries {
            match entry {
                Entry::File { path, .. } => {
                    directories.push(disk::parent(&self.file_of(path)).to_owned());
                    found.push(path.clone());
                }
                Entry::Pattern { dir, .. } => {
                    directories.push(self.settings.home.join(dir));
                    self.walk(&self.settings.home, dir, 0, &mut |below, is_dir| {
                        if is_dir {
                            directories.push(self.settings.home.join(below));
                        } else if self.matches(below)
                            && let Some(path) = below.to_str().and_then(|name| DatabasePath::parse(name).ok())
                        {
                            found.push(path);
                        }
                    });
                }
            }
        }
        directories.sort();
        directories.dedup();
        for dir in directories.iter().filter(|dir| !dir.to_string_lossy().ends_with("-litestream")) {
            if let Err(error) = self.watch.directory(dir) {
                tracing::debug!(dir = %dir.display(), %error, "directory not watched");
            }
        }
        for path in found {
            self.slot_for(&path);
        }
        let mut again = None;
        for slot in self.slots() {
            if !self.check_file(&slot) {
                slot.settled();
                continue;
            }
            let soon = slot.unsettled_for(self.now()) < JOURNAL_STALE_AFTER * 2;
            let at = self.now() + if soon { LOOK_WAITING } else { LOOK_WAITING * 4 };
            again = Some(again.map_or(at, |was: Duration| was.min(at)));
        }
        again
    }

    /// Joins files that have just come, if that takes no longer than the limit. One that has been in the way for long
    /// is not waited for.
    pub(super) fn join_what_came(&self, limit: Duration) {
        let until = self.now() + limit;
        let unsettled = |at: Duration| at <= self.now() + LOOK_WAITING;
        while self.discover().is_some_and(unsettled) && self.now() < until {
            self.settings.machine.clock.sleep(LOOK_NEW);
        }
    }

    pub(super) fn slot_for(&self, path: &DatabasePath) -> Arc<Slot> {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        let make = || Arc::new(Slot::new(path.clone(), self.file_of(path), self.is_named(path)));
        Arc::clone(slots.entry(path.clone()).or_insert_with(make))
    }

    /// Whether the file must be looked at again soon.
    fn check_file(&self, slot: &Slot) -> bool {
        let mut state = slot.lock();
        if let State::Live(live) = &*state {
            let now = self.settings.machine.disk.metadata(&slot.file).map(|at| at.inode);
            match (now, live.inode()) {
                (Ok(inode), followed) if inode == followed => return false,
                (Err(error), _) if error.kind() != io::ErrorKind::NotFound => return true,
                (now, _) => self.lose(slot, &mut state, now.is_ok()),
            }
        }
        self.try_join(slot, &mut state)
    }

    /// The file is gone or another one: seals what the followed one still has, and lets it go.
    fn lose(&self, slot: &Slot, state: &mut State, replaced: bool) {
        let State::Live(live) = std::mem::replace(state, State::Waiting) else { return };
        let incarnation = live.place().incarnation;
        if let Err(error) = live.abandon() {
            tracing::error!(event = "tail lost", path = %slot.path, %error, "what was not sealed went with the file");
        }
        self.place(&slot.path, incarnation).forget(&*self.settings.machine.disk);
        if let Err(error) = self.ledger.record_deleted(&slot.path) {
            tracing::error!(event = "ledger failed", path = %slot.path, %error);
        }
        let what = if replaced { "replaced" } else { "deleted" };
        self.tell(&slot.path, what, format!("the file was {what}; its history stays"));
        slot.show_waiting("missing", None);
    }

    fn try_join(&self, slot: &Slot, state: &mut State) -> bool {
        let copied_in = slot.unsettled_for(self.now()) > COPIED_IN_AFTER * 20;
        match self.readiness(&slot.file, copied_in) {
            Readiness::Missing => {
                if slot.info().mode != "failed" {
                    slot.show_waiting("missing", None);
                }
                false
            }
            Readiness::Empty => {
                slot.show_waiting("empty", None);
                false
            }
            Readiness::Unsettled => {
                slot.show_waiting("waiting", None);
                true
            }
            Readiness::Unfit(message) => {
                self.unfit(slot, message);
                false
            }
            Readiness::Ready => self.join(slot, state),
        }
    }

    fn unfit(&self, slot: &Slot, message: String) {
        let hint = format!("replace {} by a SQLite database, or take it out of `databases`", slot.path);
        slot.show_waiting("failed", Some(Trouble { code: "not_a_database", message, hint }));
    }

    pub(super) fn join(&self, slot: &Slot, state: &mut State) -> bool {
        match self.join_incarnation(slot) {
            Ok(live) => {
                slot.show(|info| info.trouble = None);
                slot.show_live(&live);
                *state = State::Live(Box::new(live));
                self.ask(Task::Look(slot.path.clone()), Duration::ZERO);
                false
            }
            Err(JoinError::Unfit(message)) => {
                self.unfit(slot, message);
                false
            }
            Err(error) => {
                let code = if matches!(error, JoinError::Busy(_)) { "database_busy" } else { "join_failed" };
                let hint =
                    "it is tried again; end the process that holds the database, or its transaction".into();
                slot.show_waiting("waiting", Some(Trouble { code, message: error.to_string(), hint }));
                true
            }
        }
    }

    /// Joins the file as the incarnation that it is.
    fn join_incarnation(&self, slot: &Slot) -> Result<Live, JoinError> {
        let ledger = |error: crate::ledger::LedgerError| JoinError::Failed(format!("ledger: {error}"));
        let mut incarnation = match self.ledger.current(&slot.path).map_err(ledger)? {
            Some(known) if !known.deleted => known.incarnation,
            _ => self.ledger.begin_incarnation(&slot.path).map_err(ledger)?,
        };
        for _ in 0..2 {
            let history = self
                .open_history_here(slot, incarnation)
                .map_err(|error| JoinError::Failed(error.to_string()))?;
            let place = self.place(&slot.path, incarnation);
            match Live::join(place, history, self.settings.machine.clone(), self.limits()) {
                Ok(joined) => {
                    self.tell_joined(slot, &joined.live, joined.rolled_forward);
                    return Ok(joined.live);
                }
                Err(JoinError::OtherIncarnation { .. }) => {
                    self.place(&slot.path, incarnation).forget(&*self.settings.machine.disk);
                    self.ledger.record_deleted(&slot.path).map_err(ledger)?;
                    incarnation = self.ledger.begin_incarnation(&slot.path).map_err(ledger)?;
                }
                Err(error) => return Err(error),
            }
        }
        Err(JoinError::Failed("a new incarnation has history already".into()))
    }

    fn tell_joined(&self, slot: &Slot, live: &Live, rolled_forward: Option<(base::Txid, base::Txid)>) {
        if let Some((from, to)) = rolled_forward {
            let message =
                format!("it had lost what was sealed after txid {from}; rolled forward to txid {to}");
            self.tell(&slot.path, "rolled_forward", message);
        }
        let how = match live.difference_due() {
            Some(why) => format!("followed from txid {}; pages are compared: {why}", live.position().txid),
            None => format!("followed from txid {}", live.position().txid),
        };
        self.tell(&slot.path, "joined", how);
    }

    /// Looks at a file that no connection of this process has open.
    ///
    /// `copied_in`: it has been seen for so long that writes to it are those of an application.
    fn readiness(&self, file: &Path, copied_in: bool) -> Readiness {
        let machine = &self.settings.machine;
        let Ok(at) = machine.disk.metadata(file) else { return Readiness::Missing };
        if at.is_dir {
            return Readiness::Unfit("it is a directory".into());
        }
        let Ok(open) = machine.disk.open(file, Open::Read) else {
            return Readiness::Unfit("it cannot be read: check its owner and mode".into());
        };
        let wal = machine.disk.metadata(&disk::sibling(file, "-wal")).map_or(0, |at| at.len);
        if at.len == 0 {
            return if wal == 0 { Readiness::Empty } else { Readiness::Unsettled };
        }
        let mut head = [0; HEADER_BYTES];
        if open.read_exact_at(&mut head, 0).is_err() {
            return Readiness::Unfit(format!("it has {} bytes: too short for a SQLite database", at.len));
        }
        drop(open);
        // Once more: it may have grown before the header was read.
        let Ok(at) = machine.disk.metadata(file) else { return Readiness::Missing };
        let age = |at: &disk::Metadata| {
            Duration::from_nanos(
                u64::try_from(i128::from(machine.clock.now().0) * 1_000_000 - at.modified_ns).unwrap_or(0),
            )
        };
        if &head[..16] != b"SQLite format 3\0" {
            return Readiness::Unfit("it is not a SQLite database, or it is encrypted".into());
        }
        // What a journal holds is rolled back by SQLite: until then header and length need not agree.
        let journal = machine.disk.metadata(&disk::sibling(file, "-journal")).ok().filter(|at| at.len > 0);
        if journal.is_some_and(|journal| age(&journal) < JOURNAL_STALE_AFTER) {
            return Readiness::Unsettled;
        }
        let page_size = match u16::from_be_bytes([head[16], head[17]]) {
            1 => 65536,
            size => u64::from(size),
        };
        let pages = u64::from(u32::from_be_bytes([head[28], head[29], head[30], head[31]]));
        let counted = head[24..28] == head[92..96];
        if counted && wal == 0 && journal.is_none() && at.len < pages * page_size {
            if age(&at) < COPIED_IN_AFTER * 20 {
                return Readiness::Unsettled;
            }
            return Readiness::Unfit(format!("it is truncated: {} bytes of {}", at.len, pages * page_size));
        }
        if wal == 0 && age(&at) < COPIED_IN_AFTER && head[18] != 2 && !copied_in {
            return Readiness::Unsettled;
        }
        Readiness::Ready
    }
}

/// Removes a file; a missing one is fine.
pub(super) fn remove_if_there(disk: &dyn base::Disk, path: &Path) -> io::Result<()> {
    match disk.remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn run_schema(path: &Path, sql: &str, vfs: Option<&str>) -> rusqlite::Result<()> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE | rusqlite::OpenFlags::SQLITE_OPEN_CREATE;
    let conn = match vfs {
        Some(name) => rusqlite::Connection::open_with_flags_and_vfs(path, flags, name)?,
        None => rusqlite::Connection::open_with_flags(path, flags)?,
    };
    conn.execute_batch(sql)?;
    conn.execute_batch("PRAGMA journal_mode=WAL")?;
    conn.close().map_err(|(_, error)| error)
}
