//! Files that come and go: joining, deletion, replacement, and what is missing at start.

use super::reached::still_followed;
use super::schedule::Task;
use super::slot::{Slot, State, Trouble};
use super::{Entry, Shared, StartError};
use crate::history::{History, make_dir};
use crate::live::{Beside, JoinError, Live};
use crate::recover::SCRATCH;
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

/// The trouble of a database that another process holds.
pub(super) const DATABASE_BUSY: &str = "database_busy";

/// What follows where joining failed.
const JOIN_AGAIN: &str = "it is tried again by itself; mend what failed";

/// Whether a file can be joined.
#[derive(Debug, PartialEq, Eq)]
enum Readiness {
    Missing,
    Empty,
    /// Somebody may still be writing it.
    Unsettled,
    Ready,
    Unfit(String),
    /// The disk failed, perhaps for a moment.
    Failed(String),
}

impl Readiness {
    /// Of a file that cannot be looked at: some reasons last until somebody changes them, which is noticed.
    fn unread(error: &io::Error) -> Readiness {
        match error.kind() {
            io::ErrorKind::NotFound => Readiness::Missing,
            io::ErrorKind::PermissionDenied => {
                Readiness::Unfit("it cannot be read: check its owner and mode".into())
            }
            _ => Readiness::Failed(format!("it cannot be read: {error}")),
        }
    }
}

impl Shared {
    /// Directories, files that are missing though history has them, configured files; then joins all.
    pub(super) fn prepare(&self) -> Result<(), StartError> {
        let disk = &*self.settings.machine.disk;
        let made = |path: PathBuf| make_dir(disk, &path).map_err(|source| StartError::Path { path, source });
        made(self.settings.home.join(".stead/databases"))?;
        let scratch = self.settings.home.join(SCRATCH);
        if let Err(error) = disk::remove_dir_all(disk, &scratch) {
            tracing::debug!(path = %scratch.display(), %error, "it stays, and does no harm");
        }
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
        let made = crate::history::make_local(&*self.settings.machine.disk, &base);
        made.map_err(|source| StartError::Path { path: base.clone(), source })?;
        self.slot_for(path).show(|info| info.history = base.display().to_string());
        Ok(())
    }

    /// Shows every name below a directory.
    pub(super) fn walk(&self, root: &Path, below: &Path, depth: usize, visit: &mut dyn FnMut(&Path, bool)) {
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
            self.watch_directory(dir);
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
        if let State::Live(live) = &mut *state {
            let look = || match self.settings.machine.disk.metadata(&slot.file) {
                Ok(at) => Ok(Some((at.device, at.inode))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            };
            let followed = Some((live.device(), live.inode()));
            let Ok(mut there) = look() else { return true };
            let is_broken = there == followed && slot.is_broken(live.place().incarnation);
            let is_moved = there == followed && !is_broken && self.is_moved(slot, live);
            if is_moved {
                // Its log may be gone because it is gone itself by now.
                let Ok(now) = look() else { return true };
                there = now;
            }
            match there {
                there if there != followed => self.lose(slot, &mut state, there.is_some()),
                _ if is_broken => self.end_broken(slot, &mut state),
                _ if is_moved => self.let_go(slot, &mut state),
                _ => return false,
            }
        }
        let was_to_be_joined = slot.is_there();
        let again = self.try_join(slot, &mut state);
        if was_to_be_joined && matches!(*state, State::Waiting) && !slot.is_there() {
            self.has_ended();
        }
        again
    }

    /// Whether the followed database must be joined anew although its file has its old name and inode.
    fn is_moved(&self, slot: &Slot, live: &mut Live) -> bool {
        if live.is_displaced() {
            return true;
        }
        if live.is_overwritten() {
            if live.others().is_none() {
                return true;
            }
            live.doubt("its file was written by something other than SQLite");
            self.ask(Task::Look(slot.path.clone()), Duration::ZERO);
            return false;
        }
        // Whoever had it open may have closed it.
        if let Err(error) = live.empty_log() {
            tracing::debug!(path = %slot.path, %error, "the log stays as long as it is");
        }
        false
    }

    /// The files are not, or not only, those that are followed: seals what there is, to join anew.
    fn let_go(&self, slot: &Slot, state: &mut State) {
        let State::Live(live) = std::mem::replace(state, State::Waiting) else { return };
        self.abandon(slot, *live);
        let message = "it, its -wal or its -shm was written, moved or removed by something other than SQLite; it is \
                       joined anew and compared with what was sealed";
        self.tell(&slot.path, "displaced", message.into());
        slot.show_waiting("waiting", None);
    }

    fn abandon(&self, slot: &Slot, live: Live) {
        slot.set_left_behind(Some(live.beside()));
        if let Err(error) = live.abandon() {
            tracing::error!(event = "tail lost", path = %slot.path, %error, "what was not sealed went with the file");
        }
    }

    /// Its history cannot be continued: it is joined anew, whole, as another incarnation.
    fn end_broken(&self, slot: &Slot, state: &mut State) {
        let State::Live(live) = std::mem::replace(state, State::Waiting) else { return };
        if let Err(error) = live.abandon() {
            tracing::warn!(event = "tail not sealed", path = %slot.path, %error, "the next incarnation has it");
        }
        slot.show_waiting("waiting", None);
    }

    /// Sees whether history still leads to its end, once something of it may have been found damaged.
    pub(super) fn see_whether_broken(&self, slot: &Slot, history: &History) {
        // What a store may have that is away is not known.
        let Some(incarnation) = still_followed(slot, history).filter(|_| !history.store_away()) else {
            return;
        };
        if let Some(reason) = history.broken() {
            slot.set_broken(incarnation, reason);
            self.ask(Task::Discover, self.now());
        }
    }

    /// Removes the log of a file that is gone, before SQLite would mix it into the one that came in its place. `false`:
    /// somebody still has it open.
    fn remove_left_behind(&self, slot: &Slot) -> bool {
        let Some(left) = slot.left_behind() else { return true };
        let disk = &*self.settings.machine.disk;
        let kernel = &*self.settings.machine.kernel;
        let now = Beside::of(disk, &slot.file);
        let log = disk::sibling(&slot.file, "-wal");
        if left.log.is_some() && left.log == now.log {
            // No connection of this process is on it, so this look at the locks drops none.
            let holder = kernel.locks(&slot.file).ok().and_then(|locks| locks.others());
            let pid = holder.map(|holder| holder.0).or_else(|| kernel.openers(&log).first().copied());
            if let Some(pid) = pid {
                slot.show_waiting("waiting", Some(left_behind_trouble(pid)));
                return false;
            }
            let removed = ["-wal", "-shm"]
                .iter()
                .try_for_each(|suffix| disk::remove_if_there(disk, &disk::sibling(&slot.file, suffix)));
            if let Err(error) = removed.and_then(|()| self.sync_parent(&slot.file)) {
                tracing::error!(event = "old log stays", path = %slot.path, %error, "tried again");
                return false;
            }
        }
        slot.set_left_behind(None);
        true
    }

    /// The followed database that a file is another name of.
    fn same_file(&self, slot: &Slot) -> Option<DatabasePath> {
        let at = self.settings.machine.disk.metadata(&slot.file).ok()?;
        let same =
            |other: &Arc<Slot>| other.path != slot.path && other.identity() == Some((at.device, at.inode));
        self.slots().iter().find(|other| same(other)).map(|other| other.path.clone())
    }

    /// The file is gone or another one: seals what the followed one still has, and lets it go.
    fn lose(&self, slot: &Slot, state: &mut State, replaced: bool) {
        let State::Live(live) = std::mem::replace(state, State::Waiting) else { return };
        let incarnation = live.place().incarnation;
        self.abandon(slot, *live);
        self.place(&slot.path, incarnation).forget(&*self.settings.machine.disk);
        if let Err(error) = self.ledger.record_deleted(&slot.path) {
            tracing::error!(event = "ledger failed", path = %slot.path, %error);
        }
        let what = if replaced { "replaced" } else { "deleted" };
        self.tell(&slot.path, what, format!("the file was {what}; its history stays"));
        slot.show_waiting("missing", None);
        self.has_ended();
        self.ask(Task::Tick, self.now());
    }

    fn try_join(&self, slot: &Slot, state: &mut State) -> bool {
        if !self.remove_left_behind(slot) {
            return true;
        }
        // Opening and closing it would drop the locks that SQLite holds for us on the one that is followed.
        if let Some(other) = self.same_file(slot) {
            slot.show_waiting("failed", Some(same_file_trouble(&slot.path, &other)));
            return true;
        }
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
            Readiness::Failed(message) => {
                let hint = JOIN_AGAIN.into();
                slot.show_waiting("waiting", Some(Trouble { code: "join_failed", message, hint }));
                true
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
                let another = slot.history().is_some_and(|was| was.base() != live.history().base());
                slot.show(|info| info.trouble = None);
                slot.show_live(&live);
                self.remember_owner(&slot.path);
                *state = State::Live(Box::new(live));
                if another {
                    self.has_ended();
                }
                self.ask(Task::Look(slot.path.clone()), Duration::ZERO);
                // The store may lack what was sealed before, and the ledger this moment.
                self.was_sealed(&slot.path);
                false
            }
            Err(JoinError::Unfit(message)) => {
                self.unfit(slot, message);
                false
            }
            Err(error) => {
                let (code, hint) = if matches!(error, JoinError::Busy(_)) {
                    let hint =
                        "it is tried again; end the process that holds the database, or its transaction";
                    (DATABASE_BUSY, hint)
                } else {
                    ("join_failed", JOIN_AGAIN)
                };
                let trouble = Trouble { code, message: error.to_string(), hint: hint.into() };
                slot.show_waiting("waiting", Some(trouble));
                true
            }
        }
    }

    /// Refuses a database that another user may have linked here, by its name, one beside it, or a directory on the way.
    fn refuse_planted(&self, file: &Path) -> io::Result<()> {
        let disk = &*self.settings.machine.disk;
        for name in ["", "-wal", "-shm", "-journal"] {
            disk.refuse_planted(&disk::sibling(file, name))?;
        }
        let above = file.ancestors().skip(1).take_while(|dir| **dir != *self.settings.home);
        above.into_iter().try_for_each(|dir| disk.refuse_planted(dir))
    }

    /// Looks at a file that no connection of this process has open.
    ///
    /// `copied_in`: it has been seen for so long that writes to it are those of an application.
    fn readiness(&self, file: &Path, copied_in: bool) -> Readiness {
        let machine = &self.settings.machine;
        if let Err(error) = self.refuse_planted(file) {
            return Readiness::Unfit(format!("it is not followed: {error}"));
        }
        let at = match machine.disk.metadata(file) {
            Ok(at) => at,
            Err(error) => return Readiness::unread(&error),
        };
        if !at.is_file {
            let what = if at.is_dir { "a directory" } else { "a pipe, a socket or a device" };
            return Readiness::Unfit(format!("it is {what}"));
        }
        let open = match machine.disk.open(file, Open::Read) {
            Ok(open) => open,
            Err(error) => return Readiness::unread(&error),
        };
        let wal = machine.disk.metadata(&disk::sibling(file, "-wal")).map_or(0, |at| at.len);
        if at.len == 0 {
            return if wal == 0 { Readiness::Empty } else { Readiness::Unsettled };
        }
        let mut head = [0; HEADER_BYTES];
        match open.read_exact_at(&mut head, 0) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Readiness::Unfit(format!("it has {} bytes: too short for a SQLite database", at.len));
            }
            Err(error) => return Readiness::unread(&error),
        }
        drop(open);
        // Once more: it may have grown before the header was read.
        let at = match machine.disk.metadata(file) {
            Ok(at) => at,
            Err(error) => return Readiness::unread(&error),
        };
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

fn left_behind_trouble(pid: u32) -> Trouble {
    Trouble {
        code: "replaced_while_open",
        message: format!(
            "its file was moved away or replaced while process {pid} has the old one open: SQLite would mix the old \
             file's write-ahead log into the new one"
        ),
        hint: "end that process; the new file is followed then, and the old one's history stays".into(),
    }
}

fn same_file_trouble(path: &DatabasePath, other: &DatabasePath) -> Trouble {
    Trouble {
        code: "same_file",
        message: format!("it is another name (a link) of {other}, which is followed"),
        hint: format!("remove the link, or take {path} out of `databases`"),
    }
}

/// What SQLite keeps beside a database.
pub(super) const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Removes what SQLite keeps beside a database.
pub(crate) fn remove_beside(disk: &dyn base::Disk, file: &Path) -> io::Result<()> {
    BESIDE.iter().try_for_each(|suffix| disk::remove_if_there(disk, &disk::sibling(file, suffix)))
}
