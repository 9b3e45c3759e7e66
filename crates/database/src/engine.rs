//! All databases of a volume, followed by a fixed number of threads.
//!
//! ```text
//! inotify thread ──▶ schedule ──▶ workers: Look (one database) · Tick (seal to one cut, note the vector)
//!                       ▲                   Discover (files that came and went) · Keep (merge, thin)
//!                       ├── when to look again
//!                       └────────────── ──▶ senders: Send (one database) · SendLedger · List (the manifest)
//! ```
//!
//! A slot's lock is held while something acts on that database; whoever needs several takes them in name order.
//! `show` is separate, so that a status never waits for a seal.

mod check;
mod cookies;
mod create;
mod cut;
mod discover;
mod ending;
mod former;
mod incarnations;
mod keep;
mod ledger_copy;
mod listed;
mod outgrown;
mod outlived;
mod owner;
mod pace;
mod place;
mod polled;
mod reached;
mod schedule;
mod send;
mod settings;
mod slot;
mod stored;
mod tenure;
mod threads;
mod turn;
mod watch;

pub use check::{Check, CheckError};
pub use cut::{Cut, CutError};
pub(crate) use discover::remove_beside;
pub use ledger_copy::LEDGER_PATH;
pub use settings::{CHECKPOINT_FRAMES, Entry, Notice, Notify, Settings, StartError, StoreSettings};
pub use slot::{DatabaseInfo, Trouble};
pub use stored::{CONFIGURATION_BYTES_MAX, CONFIGURATION_KEY, StoreInfo, StoreState};
pub(crate) use tenure::rights_had;
pub use tenure::{LAST_STORE, OWNER_LOOK_EVERY, last_store};
pub use turn::{Change, ChangeKind, HistoryProblem, TurnError, Unfinished};

use crate::bucket::Bucket;
pub use crate::history::Retention;
use crate::history::{History, HistoryError};
use crate::ledger::Ledger;
use crate::live::{Limits, Live, SealError, Wake};
use base::{Clock, DatabasePath, Incarnation, Position, disk};
use schedule::{Lane, Next, Schedule, Task};
use slot::{Slot, State};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;
use watch::{Noticed, Watch};

/// Threads that look, seal and merge. One may be busy with a page diff, one with history: the rest go on.
const WORKERS: usize = 4;
/// How long a directory must be quiet before it is looked at.
const SETTLE: Duration = Duration::from_millis(20);
/// How long a clean stop waits for a file that has just come to be ready.
const JOIN_AT_STOP: Duration = Duration::from_secs(1);
/// Vectors are noted at most this often, however eager the seals are.
const VECTOR_EVERY: Duration = Duration::from_secs(1);
/// A quick look is taken without waking another thread where nothing else is due for so long.
const ALONE_FOR: Duration = Duration::from_millis(20);
/// What the name of a file is given that was moved out of the way of a database that came back.
const ASIDE: &str = ".stead-aside";
/// What the older file is called that a database on its way back begins with; it goes when that has its place. No
/// pattern takes it for a database, as its name has the one above in it.
pub(crate) const OLDER: &str = ".stead-aside-older";
/// How soon a database that could not be looked at is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The engine. Dropping it stops the threads without a clean end; [`Engine::stop`] is the clean one.
#[derive(Debug)]
pub struct Engine {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// Those that speak with the store; one may be in a request that takes its time.
    senders: Vec<JoinHandle<()>>,
}

struct Shared {
    settings: Settings,
    patterns: Vec<(PathBuf, globset::GlobMatcher)>,
    ledger: Arc<Ledger>,
    /// None once the run has ended.
    notify: RwLock<Option<Notify>>,
    over: outlived::Over,
    slots: RwLock<BTreeMap<DatabasePath, Arc<Slot>>>,
    schedule: Mutex<Schedule>,
    wake: Condvar,
    wake_sender: Condvar,
    watch: Watch,
    polled: Mutex<BTreeMap<PathBuf, polled::Polled>>,
    last_vector: Mutex<BTreeMap<DatabasePath, Position>>,
    turning: Mutex<()>,
    thin_at: Mutex<Duration>,
    /// When the thinning began that last found history over its local limit; `None` once one finds it within.
    over_limit: Mutex<Option<Duration>>,
    /// What the ledger's news were when history was last thinned.
    thinned_by: AtomicU64,
    /// The store, once it is this run's.
    bucket: RwLock<Option<Arc<Bucket>>>,
    /// Held while the store is taken.
    taking: Mutex<()>,
    /// What is known of the store as a whole.
    store: Mutex<stored::Known>,
    /// When (boot time) something that an application committed was last seen.
    written_at: Mutex<Duration>,
    /// Held from when a list is made until the manifest has it.
    listing: Mutex<()>,
    /// What was sent and waits for a list.
    unlisted: Mutex<listed::Unlisted>,
    /// A clean stop could not seal everything: whoever has only the store lacks something.
    left_behind: AtomicBool,
    /// Histories that nobody follows.
    former: former::Former,
    /// Where histories end in the store that nobody follows now.
    resting: Mutex<reached::Resting>,
    /// The ledger, as it is sent to the store.
    copy: Mutex<ledger_copy::Copy>,
    /// A turn that has begun and not ended.
    open_turn: Mutex<Option<turn::OpenTurn>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Engine {
    /// Brings missing databases back, creates the configured ones, joins them, finishes a restore that a crash
    /// interrupted, and starts to follow.
    pub fn start(settings: Settings, ledger: Arc<Ledger>, notify: Notify) -> Result<Engine, StartError> {
        let shared = Arc::new(Shared::new(settings, ledger, notify)?);
        Shared::take_store_in_time(&shared)?;
        // What still waits for the store must not take it from whoever tries again.
        let mut engine = Engine::begin(Arc::clone(&shared)).inspect_err(|_| shared.be_over())?;
        let watch = engine.spawn("stead-watch", Shared::watch_files)?;
        engine.threads.push(watch);
        for _ in 0..WORKERS {
            let worker = engine.spawn("stead-worker", |shared| shared.work(Lane::Here))?;
            engine.threads.push(worker);
        }
        let senders = if engine.shared.settings.store.is_some() { send::SENDERS } else { 0 };
        for _ in 0..senders {
            let sender = engine.spawn("stead-store", |shared| shared.work(Lane::Store))?;
            engine.senders.push(sender);
        }
        Ok(engine)
    }

    /// Like [`Engine::start`], but without threads: whoever holds it calls [`Engine::step`]. One seed can so replay a
    /// whole machine.
    pub fn stepped(settings: Settings, ledger: Arc<Ledger>, notify: Notify) -> Result<Engine, StartError> {
        let shared = Arc::new(Shared::new(settings, ledger, notify)?);
        shared.take_store()?;
        Engine::begin(shared)
    }

    fn begin(shared: Arc<Shared>) -> Result<Engine, StartError> {
        shared.prepare()?;
        shared.finish_interrupted()?;
        shared.ask(Task::Discover, Duration::ZERO);
        shared.ask(Task::Keep, Duration::ZERO);
        if shared.settings.store.is_some() {
            shared.ask(Task::SendFormer, Duration::ZERO);
            shared.ask(Task::SendLedger, Duration::ZERO);
        }
        Ok(Engine { shared, threads: Vec::new(), senders: Vec::new() })
    }

    /// Does the next thing that is due. `Err`: nothing is; how long until something will be.
    pub fn step(&self) -> Result<(), Option<Duration>> {
        let now = self.shared.now();
        let next = self.shared.queue().next_of_all(now);
        match next {
            Next::Run(task) => {
                let again = self.shared.run(&task);
                self.shared.queue().done(&task, again);
                Ok(())
            }
            Next::Wait(time) => Err(time),
            Next::Stop => Err(None),
        }
    }

    /// Says that files may have come or gone, as the watch does: for whoever steps the engine on a machine without one.
    pub fn files_changed(&self) {
        self.shared.ask(Task::Discover, self.shared.now());
    }

    fn spawn(&self, name: &str, body: fn(&Shared)) -> Result<JoinHandle<()>, StartError> {
        let shared = Arc::clone(&self.shared);
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || body(&shared))
            .map_err(|source| StartError::Path { path: PathBuf::from(name), source })
    }

    /// What is known of every database.
    pub fn databases(&self) -> Vec<DatabaseInfo> {
        self.shared.slots().into_iter().map(|slot| slot.info()).collect()
    }

    /// Databases that could not be sent for so long that the ledger, and so the checkpoints, went to the store without them.
    pub fn unsendable(&self) -> Vec<DatabasePath> {
        let slots = self.shared.slots().into_iter();
        slots.filter(|slot| self.shared.is_unsendable(slot)).map(|slot| slot.path.clone()).collect()
    }

    /// Whether a file is one of the volume's databases.
    pub fn covers(&self, file: &Path) -> bool {
        self.shared.name_of(file).is_some()
    }

    /// A database's history.
    pub fn history(&self, path: &DatabasePath) -> Option<Arc<History>> {
        self.shared.slot(path)?.history()
    }

    /// The history of one file that lived under a path.
    pub fn history_at(
        &self,
        path: &DatabasePath,
        incarnation: Incarnation,
    ) -> Result<Arc<History>, HistoryError> {
        let info = self.shared.slot(path).map(|slot| (slot.info(), slot.history()));
        match info {
            Some((info, Some(history))) if info.position.is_some_and(|at| at.incarnation == incarnation) => {
                Ok(history)
            }
            _ => self.shared.open_history(path, incarnation),
        }
    }

    /// Where history needs more than its local limit for what checkpoints hold: when (boot time) the thinning began that
    /// found it so. A checkpoint removed since then has not been reckoned with.
    pub fn over_limit(&self) -> Option<Duration> {
        *self.shared.over_limit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Boot time now, for ages of what [`DatabaseInfo`] shows.
    pub fn clock(&self) -> &dyn Clock {
        &*self.shared.settings.machine.clock
    }

    /// A clean stop: everything captured and sealed, the connections closed, the store given what it lacks.
    pub fn stop(mut self) {
        self.shared.end_threads();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so; the others' databases still deserve a clean end.
            let _ = thread.join();
        }
        self.shared.join_what_came(JOIN_AT_STOP);
        for slot in self.shared.slots() {
            let mut state = slot.lock();
            let left = match std::mem::replace(&mut *state, State::Waiting) {
                State::Live(live) => live.leave().map_err(|error| {
                    tracing::error!(event = "unclean stop", path = %slot.path, %error, "the next start compares pages");
                }),
                State::Waiting if slot.is_there() => Err(()),
                State::Waiting => Ok(()),
            };
            if left.is_err() {
                self.shared.left_behind.store(true, Ordering::SeqCst);
            }
        }
        ending::send_the_rest(&self.shared, std::mem::take(&mut self.senders));
        self.shared.leave_ledger();
        self.shared.be_over();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shared.end_threads();
        for thread in self.threads.drain(..).chain(self.senders.drain(..)) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn new(mut settings: Settings, ledger: Arc<Ledger>, notify: Notify) -> Result<Shared, StartError> {
        let over = outlived::Over::default();
        if let Some(store) = &mut settings.store {
            let objects = Arc::clone(&store.objects);
            store.objects = Arc::new(outlived::UntilOver { objects, over: over.clone() });
        }
        let mut patterns = Vec::new();
        for entry in &settings.entries {
            if let Entry::Pattern { dir, pattern } = entry {
                let glob =
                    globset::GlobBuilder::new(pattern).literal_separator(true).build().map_err(|error| {
                        StartError::Pattern { pattern: pattern.clone(), reason: error.to_string() }
                    })?;
                patterns.push((dir.clone(), glob.compile_matcher()));
            }
        }
        let watch =
            Watch::new().map_err(|source| StartError::Path { path: PathBuf::from("inotify"), source })?;
        Ok(Shared {
            settings,
            patterns,
            ledger,
            notify: RwLock::new(Some(notify)),
            over,
            slots: RwLock::default(),
            schedule: Mutex::default(),
            wake: Condvar::new(),
            wake_sender: Condvar::new(),
            watch,
            polled: Mutex::default(),
            last_vector: Mutex::default(),
            turning: Mutex::default(),
            thin_at: Mutex::default(),
            over_limit: Mutex::default(),
            thinned_by: AtomicU64::new(0),
            bucket: RwLock::default(),
            taking: Mutex::default(),
            store: Mutex::default(),
            written_at: Mutex::default(),
            listing: Mutex::default(),
            unlisted: Mutex::default(),
            left_behind: AtomicBool::new(false),
            former: former::Former::default(),
            resting: Mutex::default(),
            copy: Mutex::default(),
            open_turn: Mutex::default(),
        })
    }

    fn slots(&self) -> Vec<Arc<Slot>> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn slot(&self, path: &DatabasePath) -> Option<Arc<Slot>> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner).get(path).cloned()
    }

    fn limits(&self) -> Limits {
        Limits {
            sync_interval: self.settings.sync_interval,
            wal_limit_bytes: self.settings.wal_limit_bytes,
            checkpoint_frames: self.settings.checkpoint_frames,
            epoch: self.epoch(),
        }
    }

    fn now(&self) -> Duration {
        self.settings.machine.clock.boottime()
    }

    fn tell(&self, path: &DatabasePath, what: &'static str, message: String) {
        tracing::info!(event = "database", path = %path, what, message);
        self.notice(Notice::Database { path: path.clone(), what, message });
    }

    fn watch_files(&self) {
        let result = self.watch.run(|noticed| match noticed {
            Noticed::Log(path) => {
                if let Some(slot) = self.slot(&path) {
                    slot.stir();
                }
                self.ask(Task::Look(path), Duration::ZERO);
            }
            Noticed::Directory(_) => self.ask(Task::Discover, self.now() + SETTLE),
            Noticed::Lost => {
                self.ask(Task::Discover, Duration::ZERO);
                for slot in self.slots() {
                    self.ask(Task::Look(slot.path.clone()), Duration::ZERO);
                }
            }
        });
        if let Err(error) = result {
            tracing::error!(event = "watch failed", %error, "files that come and go are not noticed");
        }
    }

    fn look(&self, slot: &Slot) -> Option<Duration> {
        let mut state = slot.lock();
        let State::Live(live) = &mut *state else {
            self.unpoll_directory(slot);
            return None;
        };
        let before = live.position().txid;
        let first = cookies::Before::of(live);
        if slot.take_stirred() {
            live.stir();
        }
        let result = live.service();
        let again = match self.after_service(slot, live, result) {
            Some(Wake::At(at)) => Some(at),
            Some(Wake::OnChange) => self.arm(slot, live),
            None => Some(self.now() + RETRY_AFTER),
        };
        if live.writes_fast() || live.is_busy() && self.polls_directory(slot) {
            self.poll_directory(slot);
        } else {
            self.unpoll_directory(slot);
        }
        slot.show_live(live);
        self.note_cookie(slot, live, first);
        let interval = self.settings.sync_interval;
        if live.dirty_since().is_some() || live.position().txid != before {
            if before > base::Txid::ZERO {
                *self.written_at() = self.now();
            }
            let wait = match (live.sealing_fails(), interval.is_zero()) {
                (true, _) => RETRY_AFTER.max(interval),
                (false, true) => VECTOR_EVERY,
                (false, false) => interval,
            };
            self.ask(Task::Tick, self.now() + wait);
        }
        if live.position().txid != before {
            self.was_sealed(&slot.path);
        }
        again
    }

    /// Keeps what is shown of a database's trouble true; `None`: it failed.
    fn after_service(&self, slot: &Slot, live: &Live, result: Result<Wake, SealError>) -> Option<Wake> {
        match result {
            Ok(wake) => {
                if live.difference_due().is_none() && !live.sealing_fails() {
                    slot.show(|info| {
                        info.trouble.take_if(|trouble| SEAL_TROUBLES.contains(&trouble.code)).map_or((), drop)
                    });
                }
                Some(wake)
            }
            Err(error) => {
                let trouble = seal_trouble(&error);
                let mut known = false;
                slot.show(|info| {
                    known = info.trouble.as_ref().is_some_and(|was| was.code == trouble.code);
                    info.trouble = Some(trouble);
                });
                if !known {
                    tracing::error!(event = "seal failed", path = %slot.path, %error, "tried again each second");
                }
                if matches!(error, SealError::PageSize { .. }) {
                    self.ask(Task::Discover, Duration::ZERO);
                }
                None
            }
        }
    }

    /// Watches the log, then looks once more: a commit between the last look and the watch must not be missed.
    fn arm(&self, slot: &Slot, live: &mut Live) -> Option<Duration> {
        let log = disk::sibling(&slot.file, "-wal");
        if let Err(error) = self.watch.log_once(&slot.path, &log) {
            tracing::debug!(path = %slot.path, %error, "no watch on the log; it is looked at each second");
            return Some(self.now() + RETRY_AFTER);
        }
        // A commit that reached the log before the watch has shown in the index by the time its lock is free; one that
        // reaches it later is noticed.
        if live.writer().is_some() {
            return Some(self.now() + SETTLE);
        }
        match live.index() {
            Some(index) if index.end == live.captured() => None,
            _ => Some(self.now()),
        }
    }
}

/// Troubles that the next seal that succeeds ends.
const SEAL_TROUBLES: [&str; 2] = ["disk_full", "seal_failed"];

fn seal_trouble(error: &SealError) -> Trouble {
    if error.disk_full() {
        return Trouble {
            code: "disk_full",
            message: format!("the disk is full: {error}"),
            hint: "free space on the disk that holds the home; sealing goes on by itself".into(),
        };
    }
    Trouble {
        code: "seal_failed",
        message: error.to_string(),
        hint: "what is committed stays in the database; sealing is tried again each second".into(),
    }
}
