//! The node: one object that holds the parts together and answers for them.
//!
//! ```text
//!   api ──Control──> Node ──> life (state machine)      ──> events, transitions
//!                      ├────> Databases (engine)         ──> ledger, history
//!                      ├────> App (runner)               ──> supervisor
//!                      └────> keeper thread: checkpoints on schedule, retries, scan for uncovered databases
//! ```
//! `turn` serialises everything that starts or stops a part (configure, forget, restore, app actions, drain); reads,
//! queries and checkpoints do not take it. Lock order: `turn`, then any one of the others, never two of them at once.

use crate::config::{Config, Overrides};
use crate::control::{
    ActionError, AppAction, AskError, Asked, Checkpoint, CheckpointError, CheckpointId, CheckpointMade,
    Checkpoints, ConfigureError, Control, DatabaseError, Event, HistoryFile, Issue, LogLine, LogsError,
    Looked, Measured, Moment, Question, Reconfigured, RestoreError, RestoreRequest, Restored, State, Status,
    Transition, Verified,
};
use crate::home::{Home, Identity};
use crate::issues::Issues;
use crate::life::{Life, LifeEvent};
use crate::preflight::{How, Report};
use base::{DatabasePath, Timestamp};
use database::Machine;
use database::engine::{Notice, Notify};
use database::ledger::Ledger;
use events::Events;
use lifetime::Save;
use parts::{App, Databases, Lent, StartDatabases};
use serde_json::json;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::thread::JoinHandle;

pub(crate) mod actions;
mod databases;
pub mod events;
mod keeper;
pub(crate) mod lifetime;
mod looks;
mod ownership;
pub mod parts;
mod settings;
mod status;
pub(crate) mod storage;
mod uncovered;
mod writers;

/// Looks at what a configuration stands on.
pub type Look = dyn Fn(&Config, How) -> Report + Send + Sync;

/// What a node is made of.
pub struct Setup {
    /// Its home, locked by the caller for as long as the node lives.
    pub home: Home,
    /// Who it is.
    pub identity: Identity,
    /// What people call it: the machine's name.
    pub name: String,
    /// Stead's version.
    pub version: &'static str,
    /// The ledger, open.
    pub ledger: Arc<Ledger>,
    /// Clock, disk, randomness.
    pub machine: Machine,
    /// The app.
    pub app: Arc<dyn App>,
    /// Brings the databases up.
    pub start_databases: Box<StartDatabases>,
    /// The API's URL, for the app's `STEAD_NODE`.
    pub api_url: String,
    /// Makes the process log as a configuration says.
    pub logging: Box<dyn Fn(&crate::config::Log) + Send + Sync>,
    /// Where the API was asked to listen: a configuration that says otherwise needs a restart.
    pub listening: std::net::SocketAddr,
    /// What flags say; they lie over every configuration.
    pub flags: Overrides,
    /// The app's user and group where the configuration names none (`PUID`, `PGID`).
    pub app_user: Option<(u32, u32)>,
    /// The app's umask (`UMASK`).
    pub app_umask: Option<u32>,
    /// Looks at what a configuration stands on.
    pub look: Box<Look>,
}

/// A running node.
pub struct Node {
    core: Arc<Core>,
    keeper: Mutex<Option<JoinHandle<()>>>,
}

/// What the node's threads share.
pub(crate) struct Core {
    me: Weak<Core>,
    pub(crate) setup: Setup,
    pub(crate) turn: Mutex<()>,
    pub(crate) restoring: AtomicBool,
    /// How many queries run.
    pub(crate) queries: AtomicUsize,
    /// Those of them that write.
    pub(crate) writers: writers::Writers,
    pub(crate) issues: Issues,
    pub(crate) events: Events,
    life: Mutex<Life>,
    config: Mutex<Option<Arc<Config>>>,
    databases: RwLock<Option<Box<dyn Databases>>>,
    pub(crate) parts: Mutex<lifetime::PartStates>,
    pub(crate) held_down: Mutex<Option<lifetime::HeldDown>>,
    /// Why this node may not write any more: another has taken the store.
    pub(crate) fenced: Mutex<Option<String>>,
    pub(crate) alarm: keeper::Alarm,
    pub(crate) app_moved: Condvar,
    pub(crate) scanned: Mutex<Option<std::time::Duration>>,
    /// When (boot time) a checkpoint was last removed for its room.
    pub(crate) made_room: Mutex<Option<std::time::Duration>>,
    pub(crate) looks: looks::Looks,
    /// The catalogue in short, until it changes.
    pub(crate) catalogue: Mutex<Option<Checkpoints>>,
}

/// Locks, whatever a panicking holder left: every value behind these locks is valid at all times.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Node {
    /// A node that waits for its configuration; its one thread runs.
    pub fn new(setup: Setup) -> Node {
        let now = setup.machine.clock.now();
        let held_down = lifetime::read_held_down(&setup.home);
        databases::remove_leftovers(&setup.home);
        let core = Arc::new_cyclic(|me| Core {
            me: me.clone(),
            setup,
            turn: Mutex::default(),
            restoring: AtomicBool::new(false),
            queries: AtomicUsize::new(0),
            writers: writers::Writers::default(),
            issues: Issues::default(),
            fenced: Mutex::default(),
            events: Events::default(),
            life: Mutex::new(Life::new(now)),
            config: Mutex::default(),
            databases: RwLock::default(),
            parts: Mutex::default(),
            held_down: Mutex::new(held_down),
            alarm: keeper::Alarm::default(),
            app_moved: Condvar::new(),
            scanned: Mutex::default(),
            made_room: Mutex::default(),
            looks: looks::Looks::default(),
            catalogue: Mutex::default(),
        });
        core.rebuild_checkpoint_directories();
        let keeper = keeper::spawn(core.clone());
        Node { core, keeper: Mutex::new(keeper) }
    }

    /// Takes a configuration that needs nobody's leave any more (`tmp/config.json`, `--config`, flags), before the API
    /// answers. One that cannot be saved holds all the same, and is an issue. [`Node::begin`] starts what it names.
    pub fn accept(&self, config: Config, reason: &str) -> Result<(), ConfigureError> {
        let _turn = lock(&self.core.turn);
        self.core.accept(config, reason, Save::IfPossible)
    }

    /// Starts what the accepted configuration names; nothing where there is none. What keeps it from starting comes
    /// back; it is tried again by itself.
    pub fn begin(&self) -> Result<(), Arc<Report>> {
        let passed = {
            let _turn = lock(&self.core.turn);
            self.core.bring_up();
            self.core.looks.verdict()
        };
        self.core.report_condition();
        self.core.alarm.ring();
        passed
    }

    /// Raises an issue found before there was a node, and takes it as the reason for the state.
    pub fn explain(&self, issue: Issue) {
        lock(&self.core.life).explain(&issue.message);
        self.core.raise(issue);
    }

    /// What the app did, to be called by the runner's subscription; it does not wait.
    pub fn app_changed(&self, event: &::app::AppEvent) {
        self.core.app_changed(event);
    }

    /// Stops the app, seals to the end and stops every part; the process may end afterwards.
    pub fn drain(&self, reason: &str) {
        self.core.drain(reason);
        self.core.alarm.end();
        if let Some(keeper) = lock(&self.keeper).take()
            && keeper.join().is_err()
        {
            tracing::error!(event = "bug", "the keeper thread had ended with a panic");
        }
    }
}

impl Core {
    pub(crate) fn now(&self) -> Timestamp {
        self.setup.machine.clock.now()
    }

    pub(crate) fn state(&self) -> State {
        lock(&self.life).state()
    }

    pub(crate) fn config(&self) -> Option<Arc<Config>> {
        lock(&self.config).clone()
    }

    /// The databases while they are up. Not to be taken twice on one thread: a stop that waits would never begin.
    pub(crate) fn databases(&self) -> Option<Lent<'_>> {
        Lent::new(self.databases.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The databases, unless they are just starting or stopping.
    pub(crate) fn databases_at_once(&self) -> Option<Lent<'_>> {
        Lent::new(self.databases.try_read().ok()?)
    }

    pub(crate) fn databases_are_up(&self) -> bool {
        self.databases().is_some()
    }

    /// Puts other databases in place of those there are, once nobody has them any more.
    pub(crate) fn replace_databases(&self, with: Option<Box<dyn Databases>>) -> Option<Box<dyn Databases>> {
        std::mem::replace(&mut *self.databases.write().unwrap_or_else(PoisonError::into_inner), with)
    }

    /// Moves the node's life and tells everyone; an event without meaning is logged and changes nothing.
    pub(crate) fn step(&self, event: LifeEvent, reason: &str) -> bool {
        let moved = lock(&self.life).apply(event, reason, self.now());
        match moved {
            Ok(made) => {
                let (from, to) = (made.from.name(), made.to.name());
                tracing::info!(event = "state", from, to, "{reason}");
                let role = |state| matches!(state, State::Primary).then_some("primary");
                if role(made.from) != role(made.to) {
                    self.tell("role", json!({ "role": status::role(made.to), "reason": reason }));
                }
                self.tell("state", json!({ "from": made.from, "to": made.to, "reason": reason }));
                self.report_condition();
                true
            }
            Err(refused) => {
                tracing::debug!(%refused, "state unchanged");
                false
            }
        }
    }

    pub(crate) fn explain(&self, reason: &str) {
        lock(&self.life).explain(reason);
    }

    pub(crate) fn tell(&self, event: &'static str, data: serde_json::Value) {
        self.events.tell(event, self.now(), data);
    }

    pub(crate) fn raise(&self, issue: Issue) {
        if self.issues.raise(issue.clone()) {
            log(&issue);
            self.tell("issue", json!(issue));
        }
    }

    /// Makes these the issues of a component, or those of one code; what is new and what is gone is told. What is new
    /// may be in the log already.
    pub(crate) fn replace_issues(
        &self,
        component: &'static str,
        code: Option<&str>,
        now: Vec<Issue>,
        is_logged: bool,
    ) {
        let (new, gone) = self.issues.replace(component, code, now);
        for issue in new {
            if !is_logged {
                log(&issue);
            }
            self.tell("issue", json!(issue));
        }
        for Issue { code, path, .. } in gone {
            tracing::info!(event = "issue mended", code, component, path);
            self.tell(
                "issue",
                json!({ "code": code, "component": component, "path": path, "cleared": true }),
            );
        }
    }

    /// What the engine notices becomes an event.
    pub(crate) fn notify(&self) -> Notify {
        let me = self.me.clone();
        Arc::new(move |notice| {
            let Some(core) = me.upgrade() else { return };
            match notice {
                Notice::Database { path, what, message } => {
                    core.tell("database", json!({ "path": path, "what": what, "message": message }));
                }
                Notice::StoreAway { error } => core.store_away(&error),
                Notice::StoreBack { after } => core.store_back(after),
                Notice::StoreRefused { error } => core.store_refused(&error),
            }
        })
    }

    pub(crate) fn clear(&self, component: &'static str, code: &str) {
        if self.issues.clear(component, code) {
            tracing::info!(event = "issue mended", code, component);
            self.tell("issue", json!({ "code": code, "component": component, "cleared": true }));
        }
    }
}

fn log(issue: &Issue) {
    let Issue { code, path, hint, message, .. } = issue;
    tracing::warn!(event = "issue", code, path, hint, "{message}");
}

impl Control for Node {
    fn status(&self) -> Status {
        self.core.status()
    }
    fn status_at_once(&self) -> Option<Status> {
        self.core.status_at_once()
    }
    fn config(&self) -> Option<Arc<Config>> {
        self.core.config()
    }
    fn measured(&self) -> Measured {
        self.core.measured()
    }
    fn configure(&self, config: Config) -> Result<Status, ConfigureError> {
        self.core.configure(config, "a configuration was posted")
    }
    fn reconfigure(&self, config: Config) -> Result<Reconfigured, ConfigureError> {
        self.core.reconfigure(config)
    }
    fn forget(&self) -> Result<(), ConfigureError> {
        self.core.forget()
    }
    fn checkpoint(
        &self,
        id: Option<CheckpointId>,
        comment: Option<String>,
    ) -> Result<CheckpointMade, CheckpointError> {
        self.core.checkpoint(id, comment, false)
    }
    fn checkpoints(&self) -> Result<Vec<Checkpoint>, CheckpointError> {
        self.core.checkpoints()
    }
    fn remove_checkpoint(&self, id: &CheckpointId) -> Result<(), CheckpointError> {
        self.core.remove_checkpoint(id)
    }
    fn restore(&self, request: RestoreRequest) -> Result<Restored, RestoreError> {
        self.core.restore(&request)
    }
    fn release_lease(&self) -> Result<(), ActionError> {
        self.core.release_lease()
    }
    fn promote(&self) -> Result<(), ActionError> {
        self.core.promote()
    }
    fn app(&self, action: AppAction) -> Result<(), ActionError> {
        self.core.app_action(action)
    }
    fn history(&self, path: &DatabasePath) -> Result<Vec<HistoryFile>, DatabaseError> {
        self.core.history(path)
    }
    fn verify(&self, path: &DatabasePath) -> Result<Verified, DatabaseError> {
        self.core.verify(path)
    }
    fn export(&self, path: &DatabasePath, moment: Moment) -> Result<PathBuf, DatabaseError> {
        self.core.export(path, moment)
    }
    fn ask(&self, path: &DatabasePath, question: Question) -> Result<Asked, AskError> {
        self.core.ask(path, question)
    }
    fn transitions(&self) -> Vec<Transition> {
        lock(&self.core.life).transitions()
    }
    fn logs(&self, lines: usize, stream: Option<&str>) -> Result<Vec<LogLine>, LogsError> {
        self.core.logs(lines, stream)
    }
    fn events(&self) -> Receiver<Event> {
        self.core.events.subscribe()
    }
    fn looked(&self) -> Option<Looked> {
        self.core.looked()
    }
}

#[cfg(test)]
mod tests;
