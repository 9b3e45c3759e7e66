//! A node without an engine and without a supervisor: both write what they are told into one journal.

use crate::config::{Config, Log, Overrides};
use crate::home::Home;
use crate::node::parts::{App, Databases};
use crate::node::{Node, Setup};
use crate::preflight::Report;
use app::{AppState, AppStatus, LogLine, LogsError, Plan, RestartPolicy};
use base::{Checksum, Clock, DatabasePath, Incarnation, LocalDisk, Position, Timestamp, Txid};
use database::Machine;
use database::engine::{
    Change, ChangeKind, Check, CheckError, Cut, CutError, DatabaseInfo, HistoryProblem, TurnError, Unfinished,
};
use database::history::{History, HistoryError};
use database::ledger::{Ledger, Vector};
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A clock that stands until it is moved; wall and boot time move together.
#[derive(Debug)]
pub struct StandingClock(AtomicI64);

impl StandingClock {
    pub fn pass(&self, how_long: Duration) {
        self.0.fetch_add(how_long.as_millis() as i64, Ordering::SeqCst);
    }
}

impl Clock for StandingClock {
    fn now(&self) -> Timestamp {
        Timestamp(1_795_255_200_000 + self.0.load(Ordering::SeqCst))
    }
    fn boottime(&self) -> Duration {
        Duration::from_millis(1_000_000 + self.0.load(Ordering::SeqCst) as u64)
    }
    fn sleep(&self, how_long: Duration) {
        self.pass(how_long);
    }
}

type Turn = Box<dyn Fn() -> Result<(), TurnError> + Send + Sync>;

/// What the fakes share.
pub struct World {
    pub journal: Mutex<Vec<String>>,
    pub clock: Arc<StandingClock>,
    pub ledger: Arc<Ledger>,
    /// The position of the one database.
    pub txid: Mutex<u64>,
    /// How turning back ends.
    pub turn: Mutex<Turn>,
    /// TXIDs that are no longer in the history.
    pub lost: Mutex<Vec<u64>>,
    /// The restore that is neither done nor rolled back.
    pub open: Mutex<Option<Unfinished>>,
    /// When the thinning began that found history over its limit.
    pub over_limit: Mutex<Option<Duration>>,
    /// Why the databases do not start.
    pub broken: Mutex<Option<String>>,
    /// What a look at the machine finds.
    pub machine: Mutex<Report>,
    pub status: Mutex<AppStatus>,
    /// How the app was last started.
    pub plan: Mutex<Option<Plan>>,
}

impl World {
    pub fn note(&self, line: impl Into<String>) {
        self.journal.lock().unwrap().push(line.into());
    }

    /// What was done since the last look.
    pub fn done(&self) -> Vec<String> {
        std::mem::take(&mut self.journal.lock().unwrap())
    }

    pub fn fail_turns(&self, make: impl Fn() -> TurnError + Send + Sync + 'static) {
        *self.turn.lock().unwrap() = Box::new(move || Err(make()));
    }

    pub fn app_state(&self) -> AppState {
        self.status.lock().unwrap().state
    }

    pub fn vector(&self, txid: u64) -> Vector {
        let position = Position {
            incarnation: Incarnation(1),
            txid: Txid(txid),
            checksum: Checksum(Checksum::FLAG | txid),
        };
        Vector::from([(path(), position)])
    }
}

pub fn path() -> DatabasePath {
    DatabasePath::parse("data/database.sqlite").unwrap()
}

struct FakeDatabases(Arc<World>);

impl FakeDatabases {
    fn change(&self, target: &Vector) -> Result<Vec<Change>, HistoryProblem> {
        let to = target.get(&path()).copied();
        match to {
            Some(to) if self.0.lost.lock().unwrap().contains(&to.txid.0) => {
                Err(HistoryProblem { path: path(), reason: format!("TXID {} is gone", to.txid), away: false })
            }
            _ => Ok(vec![Change {
                path: path(),
                kind: ChangeKind::TurnedBack,
                from: None,
                to,
                pages: 1,
                aside: None,
            }]),
        }
    }
}

impl Databases for FakeDatabases {
    fn list(&self) -> Vec<DatabaseInfo> {
        Vec::new()
    }
    fn covers(&self, _: &Path) -> bool {
        true
    }
    fn cut(&self, _: Duration) -> Result<Cut, CutError> {
        self.0.note("cut");
        let txid = *self.0.txid.lock().unwrap();
        Ok(Cut { at: self.0.clock.now(), vector: self.0.vector(txid) })
    }
    fn validate(&self, target: &Vector) -> Result<Vec<Change>, HistoryProblem> {
        self.0.note("validate");
        self.change(target)
    }
    fn turn_back(
        &self,
        name: &str,
        target: &Vector,
        _: Duration,
        step: &mut dyn FnMut(&'static str),
    ) -> Result<Vec<Change>, TurnError> {
        step("lock");
        self.0.note(format!("turn back to {name}"));
        (self.0.turn.lock().unwrap())()?;
        step("apply");
        self.0.clock.pass(Duration::from_millis(5));
        Ok(self.change(target).unwrap())
    }
    fn unfinished(&self) -> Option<Unfinished> {
        self.0.open.lock().unwrap().clone()
    }
    fn settle(&self) -> Result<(), Unfinished> {
        self.unfinished().map_or(Ok(()), Err)
    }
    fn history(&self, _: &DatabasePath) -> Option<Arc<History>> {
        None
    }
    fn history_at(&self, path: &DatabasePath, _: Incarnation) -> Result<Arc<History>, HistoryError> {
        Err(HistoryError {
            path: path.as_str().into(),
            cause: std::io::ErrorKind::NotFound.into(),
            of_store: false,
        })
    }
    fn verify(&self, _: &DatabasePath) -> Result<Check, CheckError> {
        unreachable!("no test verifies a database that is not there")
    }
    fn over_limit(&self) -> Option<Duration> {
        *self.0.over_limit.lock().unwrap()
    }
    fn sync(&self) {
        self.0.note("seal");
    }
    fn stop(self: Box<Self>) {
        self.0.note("stop databases");
    }
}

struct FakeApp(Arc<World>);

impl App for FakeApp {
    fn start(&self, plan: Plan, _: RestartPolicy, _: bool) {
        let before: Vec<&str> =
            plan.before.iter().filter(|_| plan.before_due).map(|words| words[0].as_str()).collect();
        let start: Vec<&str> = before.into_iter().chain([plan.spec.command[0].as_str()]).collect();
        self.0.note(format!("start {}", start.join(", ")));
        self.0.status.lock().unwrap().state = AppState::Running;
        *self.0.plan.lock().unwrap() = Some(plan);
    }
    fn stop(&self, _: &str) -> Result<(), String> {
        self.0.note("stop app");
        self.0.status.lock().unwrap().state = AppState::Stopped;
        Ok(())
    }
    fn status(&self) -> AppStatus {
        self.0.status.lock().unwrap().clone()
    }
    fn logs(&self, _: usize, _: Option<&str>) -> Result<Vec<LogLine>, LogsError> {
        Ok(Vec::new())
    }
    fn descendants(&self) -> Vec<u32> {
        Vec::new()
    }
}

/// A world with nothing in it yet, in a home below `dir`.
pub fn world(dir: &tempfile::TempDir) -> Arc<World> {
    let home = Home::open(Arc::new(LocalDisk), dir.path()).unwrap();
    Arc::new(World {
        journal: Mutex::default(),
        clock: Arc::new(StandingClock(AtomicI64::new(0))),
        ledger: Arc::new(Ledger::open(&home.ledger(), None).unwrap()),
        txid: Mutex::new(1),
        turn: Mutex::new(Box::new(|| Ok(()))),
        lost: Mutex::default(),
        open: Mutex::default(),
        over_limit: Mutex::default(),
        broken: Mutex::default(),
        machine: Mutex::default(),
        status: Mutex::default(),
        plan: Mutex::default(),
    })
}

/// A node that waits for its configuration.
pub fn node(dir: &tempfile::TempDir, world: &Arc<World>) -> Node {
    node_with(dir, world, Overrides::default())
}

/// The same, started with flags.
pub fn node_with(dir: &tempfile::TempDir, world: &Arc<World>, flags: Overrides) -> Node {
    let machine = Machine { clock: world.clock.clone(), ..Machine::real() };
    let home = Home::open(Arc::new(LocalDisk), dir.path()).unwrap();
    let identity = home.identity(&*machine.random, world.clock.now()).unwrap();
    let started = world.clone();
    Node::new(Setup {
        home,
        identity,
        name: "node-a".to_owned(),
        version: "0.0.0",
        ledger: world.ledger.clone(),
        machine,
        app: Arc::new(FakeApp(world.clone())),
        start_databases: Box::new(move |_, _| match &*started.broken.lock().unwrap() {
            Some(reason) => Err(reason.clone()),
            None => {
                started.note("start databases");
                Ok(Box::new(FakeDatabases(started.clone())))
            }
        }),
        api_url: "http://127.0.0.1:8080".to_owned(),
        logging: Box::new(|_: &Log| {}),
        listening: flags.listen.as_deref().unwrap_or("127.0.0.1:8080").parse().unwrap(),
        flags,
        app_user: None,
        app_umask: None,
        look: Box::new({
            let world = world.clone();
            move |_, _| world.machine.lock().unwrap().clone()
        }),
    })
}

pub fn config(text: &str) -> Config {
    Config::from_json(text.as_bytes()).unwrap()
}

/// A volume with an app.
pub fn with_app() -> Config {
    config(r#"{"name":"notes","app":{"command":["./app"]}}"#)
}
