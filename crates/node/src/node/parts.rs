//! The two parts that a node drives, as it sees them: the databases and the app.
//!
//! They are traits so that the order of things (stop the app, turn back, start it again) can be tested without
//! either; the real ones are `database::Engine` and `app::Runner`.

use app::{AppStatus, LogLine, LogsError, Plan, RestartPolicy, Runner};
use base::{DatabasePath, Incarnation};
use database::engine::{
    Change, Check, CheckError, Cut, CutError, DatabaseInfo, Engine, HistoryProblem, Notify, Settings,
    StoreInfo, TurnError, Unfinished,
};
use database::history::{History, HistoryError};
use database::ledger::Vector;
use std::ops::Deref;
use std::path::Path;
use std::sync::{Arc, RwLockReadGuard};
use std::time::Duration;

/// The databases of a volume.
pub trait Databases: Send + Sync {
    /// Every database with its position.
    fn list(&self) -> Vec<DatabaseInfo>;
    /// Whether an entry of the configuration covers the file.
    fn covers(&self, path: &Path) -> bool;
    /// Seals to one cut of all databases.
    fn cut(&self, limit: Duration) -> Result<Cut, CutError>;
    /// What turning to a vector would change; an error where its history is not whole.
    fn validate(&self, target: &Vector) -> Result<Vec<Change>, HistoryProblem>;
    /// Turns all databases to a vector, or none.
    fn turn_back(
        &self,
        name: &str,
        target: &Vector,
        limit: Duration,
        step: &mut dyn FnMut(&'static str),
    ) -> Result<Vec<Change>, TurnError>;
    /// A restore that is neither done nor rolled back.
    fn unfinished(&self) -> Option<Unfinished> {
        None
    }
    /// Tries to end such a restore.
    fn settle(&self) -> Result<(), Unfinished> {
        Ok(())
    }
    /// The history of the incarnation in force.
    fn history(&self, path: &DatabasePath) -> Option<Arc<History>>;
    /// The history of one file that lived under a path.
    fn history_at(&self, path: &DatabasePath, incarnation: Incarnation)
    -> Result<Arc<History>, HistoryError>;
    /// Compares file and history with their checksums.
    fn verify(&self, path: &DatabasePath) -> Result<Check, CheckError>;
    /// Where history needs more than its local limit: when (boot time) the thinning began that found it so.
    fn over_limit(&self) -> Option<Duration> {
        None
    }
    /// How the store is; `None` without one.
    fn store(&self) -> Option<StoreInfo> {
        None
    }
    /// Has the store keep another configuration.
    fn keep_configuration(&self, _kept: serde_json::Value) {}
    /// Seals what is open now.
    fn sync(&self);
    /// A checkpoint came or went: the store should know soon.
    fn ledger_changed(&self) {}
    /// Seals to the end and lets everything go.
    fn stop(self: Box<Self>);
}

/// Brings the databases up, or says why not.
pub type StartDatabases = dyn Fn(Settings, Notify) -> Result<Box<dyn Databases>, String> + Send + Sync;

/// The databases, lent: they are not stopped while somebody has them.
pub(crate) struct Lent<'a>(RwLockReadGuard<'a, Option<Box<dyn Databases>>>);

impl<'a> Lent<'a> {
    /// Takes a share, if there is anything to share.
    pub(crate) fn new(guard: RwLockReadGuard<'a, Option<Box<dyn Databases>>>) -> Option<Lent<'a>> {
        guard.is_some().then_some(Lent(guard))
    }
}

impl Deref for Lent<'_> {
    type Target = dyn Databases;

    fn deref(&self) -> &Self::Target {
        self.0.as_deref().expect("invariant: looked at when it was made, and the guard was held since")
    }
}

/// The app.
pub trait App: Send + Sync {
    /// Starts it and keeps it running, or ends the node with it.
    fn start(&self, plan: Plan, restart: RestartPolicy, ends_with_app: bool);
    /// Stops it for good, confirmed.
    fn stop(&self, why: &str) -> Result<(), String>;
    /// How it is.
    fn status(&self) -> AppStatus;
    /// Its last lines.
    fn logs(&self, lines: usize, stream: Option<&str>) -> Result<Vec<LogLine>, LogsError>;
    /// Its processes.
    fn descendants(&self) -> Vec<u32>;
    /// Says how the node is, for whoever supervises it from outside.
    fn report(&self, _ready: bool, _text: &str) {}
}

impl Databases for Engine {
    fn list(&self) -> Vec<DatabaseInfo> {
        self.databases()
    }
    fn covers(&self, path: &Path) -> bool {
        Engine::covers(self, path)
    }
    fn cut(&self, limit: Duration) -> Result<Cut, CutError> {
        Engine::cut(self, limit)
    }
    fn validate(&self, target: &Vector) -> Result<Vec<Change>, HistoryProblem> {
        Engine::validate(self, target)
    }
    fn turn_back(
        &self,
        name: &str,
        target: &Vector,
        limit: Duration,
        step: &mut dyn FnMut(&'static str),
    ) -> Result<Vec<Change>, TurnError> {
        Engine::turn_back(self, name, target, limit, step)
    }
    fn unfinished(&self) -> Option<Unfinished> {
        Engine::unfinished(self)
    }
    fn settle(&self) -> Result<(), Unfinished> {
        Engine::settle(self)
    }
    fn history(&self, path: &DatabasePath) -> Option<Arc<History>> {
        Engine::history(self, path)
    }
    fn history_at(
        &self,
        path: &DatabasePath,
        incarnation: Incarnation,
    ) -> Result<Arc<History>, HistoryError> {
        Engine::history_at(self, path, incarnation)
    }
    fn verify(&self, path: &DatabasePath) -> Result<Check, CheckError> {
        Engine::verify(self, path)
    }
    fn over_limit(&self) -> Option<Duration> {
        Engine::over_limit(self)
    }
    fn store(&self) -> Option<StoreInfo> {
        Engine::store(self)
    }
    fn keep_configuration(&self, kept: serde_json::Value) {
        Engine::keep_configuration(self, kept);
    }
    fn sync(&self) {
        Engine::sync(self);
    }
    fn ledger_changed(&self) {
        Engine::ledger_changed(self);
    }
    fn stop(self: Box<Self>) {
        Engine::stop(*self);
    }
}

/// The app behind a supervisor.
pub struct Supervised {
    runner: Runner,
    on_end: Arc<dyn Fn(i32) + Send + Sync>,
}

impl Supervised {
    /// An app run by `runner`; `on_end` gets its code where the node is to end with it.
    pub fn new(runner: Runner, on_end: Arc<dyn Fn(i32) + Send + Sync>) -> Supervised {
        Supervised { runner, on_end }
    }
}

impl App for Supervised {
    fn start(&self, plan: Plan, restart: RestartPolicy, ends_with_app: bool) {
        self.runner.set_restart_policy(restart);
        if ends_with_app {
            let on_end = self.on_end.clone();
            self.runner.exit_when_app_ends(move |code| on_end(code));
        } else {
            self.runner.stay_when_app_ends();
        }
        self.runner.start(plan);
    }
    fn stop(&self, why: &str) -> Result<(), String> {
        self.runner.stop(why).map_err(|error| error.to_string())
    }
    fn status(&self) -> AppStatus {
        self.runner.status()
    }
    fn logs(&self, lines: usize, stream: Option<&str>) -> Result<Vec<LogLine>, LogsError> {
        self.runner.logs(lines, stream)
    }
    fn descendants(&self) -> Vec<u32> {
        self.runner.descendants()
    }
    fn report(&self, ready: bool, text: &str) {
        self.runner.report(ready, text);
    }
}
