//! A configured or discovered database, followed or not, and what is shown of it.

use super::cookies::FirstPage;
use crate::history::History;
use crate::live::{Beside, Live};
use base::{DatabasePath, Incarnation, Position, Timestamp, Txid};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Why a database is not well, in words for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// A stable word.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What mends it.
    pub hint: String,
}

/// What is shown of a database.
#[derive(Clone, Debug)]
pub struct DatabaseInfo {
    /// Its name.
    pub path: DatabasePath,
    /// `wal`, `empty`, `waiting`, `failed`, `missing`.
    pub mode: &'static str,
    /// The last seal; `None` while it is not followed.
    pub position: Option<Position>,
    /// Pages at the last seal.
    pub pages: u32,
    /// Bytes a page; 0 while unknown.
    pub page_size: u32,
    /// The last seal in the store; `None` without a store.
    pub stored_txid: Option<Txid>,
    /// Since when (boot time) something is committed and not sealed.
    pub dirty_since: Option<Duration>,
    /// Where its history lies.
    pub history: String,
    /// When it was last sealed.
    pub sealed_at: Option<Timestamp>,
    /// What is wrong.
    pub trouble: Option<Trouble>,
}

/// How far a database has come.
#[derive(Debug)]
pub enum State {
    /// Nothing to follow yet: no file, an empty one, one that is being copied in.
    Waiting,
    /// Followed.
    Live(Box<Live>),
}

/// One database.
#[derive(Debug)]
pub struct Slot {
    /// Its name.
    pub path: DatabasePath,
    /// Its file.
    pub file: PathBuf,
    /// Named by a `path` entry: it is created, and created again when a restore removes it.
    pub named: bool,
    state: Mutex<State>,
    info: Mutex<DatabaseInfo>,
    history: Mutex<Option<Arc<History>>>,
    /// What stays wrong for as long as the node runs.
    lasting: Mutex<Option<Trouble>>,
    /// The incarnation whose history can no longer be continued, and why.
    broken: Mutex<Option<(Incarnation, String)>>,
    unsettled_since: Mutex<Option<Duration>>,
    /// Since when (boot time) it cannot be sent, and how often that was tried.
    failing: Mutex<Option<(Duration, u32)>>,
    stirred: AtomicBool,
    /// What lies beside a file that is no longer followed and may not be mixed into another.
    left_behind: Mutex<Option<Beside>>,
    /// Whose schema cookie was noted last.
    first_page: Mutex<Option<FirstPage>>,
    /// File system and inode of the file that is followed.
    identity: Mutex<Option<(u64, u64)>>,
}

impl Slot {
    /// One that is not followed yet.
    pub fn new(path: DatabasePath, file: PathBuf, named: bool) -> Slot {
        let info = DatabaseInfo {
            path: path.clone(),
            mode: "missing",
            position: None,
            pages: 0,
            page_size: 0,
            stored_txid: None,
            dirty_since: None,
            history: String::new(),
            sealed_at: None,
            trouble: None,
        };
        Slot {
            path,
            file,
            named,
            state: Mutex::new(State::Waiting),
            info: Mutex::new(info),
            history: Mutex::new(None),
            lasting: Mutex::new(None),
            broken: Mutex::new(None),
            unsettled_since: Mutex::new(None),
            failing: Mutex::new(None),
            stirred: AtomicBool::new(false),
            left_behind: Mutex::new(None),
            first_page: Mutex::new(None),
            identity: Mutex::new(None),
        }
    }

    /// Somebody writes to its log; the commit shows in the log's index only later.
    pub fn stir(&self) {
        self.stirred.store(true, Ordering::SeqCst);
    }

    /// Whether somebody began to write since this was last asked.
    pub fn take_stirred(&self) -> bool {
        self.stirred.swap(false, Ordering::SeqCst)
    }

    /// A file lies there that is to be followed and is not yet.
    pub fn is_there(&self) -> bool {
        self.info().mode == "waiting"
    }

    /// What lies beside a file that was let go.
    pub fn left_behind(&self) -> Option<Beside> {
        *self.left_behind.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers what lies beside a file that is let go; `None`: it has been dealt with.
    pub fn set_left_behind(&self, beside: Option<Beside>) {
        *self.left_behind.lock().unwrap_or_else(PoisonError::into_inner) = beside;
    }

    /// The first page whose schema cookie was noted last.
    pub(super) fn first_page(&self) -> Option<FirstPage> {
        *self.first_page.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The schema cookie of this first page is noted.
    pub(super) fn set_first_page(&self, first: FirstPage) {
        *self.first_page.lock().unwrap_or_else(PoisonError::into_inner) = Some(first);
    }

    /// File system and inode of the file, while it is followed.
    pub fn identity(&self) -> Option<(u64, u64)> {
        *self.identity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its state, for whoever acts on it.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its state, where nobody acts on it now.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, State>> {
        self.state.try_lock().ok()
    }

    /// How long it has been neither joined nor plainly nothing to join.
    pub fn unsettled_for(&self, now: Duration) -> Duration {
        let mut since = self.unsettled_since.lock().unwrap_or_else(PoisonError::into_inner);
        now.saturating_sub(*since.get_or_insert(now))
    }

    /// It is joined, or there is nothing to join.
    pub fn settled(&self) {
        *self.unsettled_since.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The store was given what it lacked of it, or may be again.
    pub fn was_sent(&self) {
        *self.failing.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The store was not given what it lacks of it.
    pub fn was_not_sent(&self, now: Duration) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        failing.get_or_insert((now, 0)).1 += 1;
    }

    /// Whether it has not been sent for so long, though that was tried so often.
    pub fn fails_for(&self, time: Duration, tries: u32, now: Duration) -> bool {
        let failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        failing.is_some_and(|(since, failed)| now >= since + time && failed >= tries)
    }

    /// What is shown; never waits for work on the database.
    pub fn info(&self) -> DatabaseInfo {
        let mut info = self.info.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if info.trouble.is_none() {
            info.trouble.clone_from(&self.lasting.lock().unwrap_or_else(PoisonError::into_inner));
        }
        info
    }

    /// Where it stands, while it is followed.
    pub fn position(&self) -> Option<Position> {
        self.info.lock().unwrap_or_else(PoisonError::into_inner).position
    }

    /// Something is wrong that no later success ends; shown where nothing else is.
    pub fn set_lasting(&self, trouble: Option<Trouble>) {
        *self.lasting.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// What was wrong is no more.
    pub fn end_lasting(&self, code: &str) {
        let mut lasting = self.lasting.lock().unwrap_or_else(PoisonError::into_inner);
        if lasting.as_ref().is_some_and(|trouble| trouble.code == code) {
            *lasting = None;
        }
    }

    /// The history of this incarnation cannot be continued.
    pub fn set_broken(&self, incarnation: Incarnation, reason: String) {
        *self.broken.lock().unwrap_or_else(PoisonError::into_inner) = Some((incarnation, reason));
    }

    /// Whether the history of this incarnation cannot be continued.
    pub fn is_broken(&self, incarnation: Incarnation) -> bool {
        let broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        broken.as_ref().is_some_and(|(broken, _)| *broken == incarnation)
    }

    /// Why the history of this incarnation cannot be continued; whoever asks sees to it that another begins.
    pub fn take_broken(&self, incarnation: Incarnation) -> Option<String> {
        let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        broken.take_if(|(broken, _)| *broken == incarnation).map(|(_, reason)| reason)
    }

    /// Its history, if it has ever been followed.
    pub fn history(&self) -> Option<Arc<History>> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes what is shown.
    pub fn show(&self, change: impl FnOnce(&mut DatabaseInfo)) {
        change(&mut self.info.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Shows a followed database as it is.
    pub fn show_live(&self, live: &Live) {
        let now = Some(Arc::clone(live.history()));
        let was = std::mem::replace(&mut *self.history.lock().unwrap_or_else(PoisonError::into_inner), now);
        if was.is_some_and(|was| was.base() != live.history().base()) {
            // What the store has of the file that lived here says nothing of this one.
            let stored = live.history().has_store().then(|| live.history().stored_txid());
            self.show(|info| info.stored_txid = stored);
        }
        *self.identity.lock().unwrap_or_else(PoisonError::into_inner) = Some((live.device(), live.inode()));
        self.show(|info| {
            let position = live.position();
            let (pages, page_size) = live.size();
            info.mode = "wal";
            info.position = Some(position);
            (info.pages, info.page_size) = (pages, page_size);
            info.dirty_since = live.dirty_since();
            info.history = live.history().base().display().to_string();
        });
    }

    /// Shows one that is not followed.
    pub fn show_waiting(&self, mode: &'static str, trouble: Option<Trouble>) {
        *self.identity.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.show(|info| {
            info.mode = mode;
            info.dirty_since = None;
            info.trouble = trouble;
            if mode != "failed" {
                info.position = None;
            }
        });
    }
}
