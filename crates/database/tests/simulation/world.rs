//! One machine from its first boot on: the engine, the applications, the crashes, and what must be true after each.

use crate::app::Apps;
use crate::line::{Doom, Line};
use crate::machine::{Meanwhile, NODE, SharedClock, SharedDisk, SharedKernel};
use crate::model::Moment;
use crate::reports::Reports;
use base::sim::{SimClock, SimDisk, SimRandom, SimVfs};
use base::{Clock, DatabasePath, Disk, Epoch, Incarnation, Random, Txid};
use database::history::Retention;
use database::ledger::{Ledger, Vector};
use database::{Claim, Engine, Entry, Machine, Notice, Owner, Settings, StoreSettings};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use store::Objects;
use store::sim::SimBucket;

pub const HOME: &str = "/stead-simulation/home";
const STORE: &str = "/stead-simulation/store";

/// How the trace begins that says that an engine may not write to its store any more.
pub const REFUSED: &str = "store refused";

/// What dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The engine's process.
    Engine,
    /// Every process.
    Processes,
    /// The machine.
    Power,
}

/// Where history is kept besides the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    Nowhere,
    /// On another part of the same disk.
    Directory,
    /// In a simulated bucket, which outlives the machine.
    Bucket,
}

/// How a world is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    pub apps: u32,
    pub sync_interval: Duration,
    pub keep: Duration,
    pub local_bytes: u64,
    pub store: Kept,
    pub wal_limit_bytes: u64,
    pub checkpoint_frames: u32,
    /// A machine that has lost its store goes on for a while before it sends anything that tells it so.
    pub former_sends_on: bool,
}

/// A checkpoint, as it must be.
#[derive(Clone, Debug)]
pub struct Saved {
    pub vector: Vector,
    pub moment: Moment,
}

pub struct World {
    pub seed: u64,
    pub random: SimRandom,
    pub disk: SimDisk,
    pub clock: SimClock,
    pub apps: Rc<RefCell<Apps>>,
    pub setup: Setup,
    pub vfs: SimVfs,
    /// The bucket, where history is kept in one.
    pub bucket: Option<SimBucket>,
    /// The machine's number, from 1: what it is called, and its identity.
    pub number: u64,
    /// Under which condition the next start takes the store.
    pub claim: Claim,
    /// When the machine dies at a request.
    pub doom: Doom,
    /// What engines have said.
    pub reports: Reports,
    /// The store may fail now.
    pub storm: bool,
    /// A machine that had the store before, and lives on.
    pub former: Option<Box<World>>,
    boots: Arc<AtomicU64>,
    booted: Duration,
    pub engine: Option<Engine>,
    pub ledger: Option<Arc<Ledger>>,
    notices: Arc<Mutex<Vec<String>>>,
    pub saved: BTreeMap<String, Saved>,
    /// A checkpoint whose insertion failed, or was interrupted.
    pub unsure: BTreeMap<String, Saved>,
    /// Checkpoints that were removed.
    pub removed: BTreeSet<String>,
    /// Those of them that another machine's ledger may still have.
    pub may_return: BTreeSet<String>,
    /// Checkpoints that came back without a database that could not be sent.
    pub broken: BTreeSet<String>,
    /// A turn that failed or was interrupted: from where to where.
    pub turning: Option<(Moment, Moment)>,
    /// What the last turn's undo vector must lead to.
    pub undo: Option<Moment>,
    pub names: u64,
    /// Starts may be interrupted too.
    pub restless: bool,
    /// The model is up to date: not so between a crash and the look at what it left.
    pub certain: bool,
    /// Seals seen of each database.
    seals: BTreeMap<String, (Incarnation, Txid)>,
    /// Starts of engines, on all machines.
    runs: Rc<Cell<u64>>,
}

pub fn unused_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("world-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

impl World {
    /// A fresh machine, not started.
    pub fn new(seed: u64, setup: Setup) -> World {
        let random = SimRandom::new(seed);
        let clock = SimClock::default();
        let mut world = World::on(seed, &random, &clock, setup, 1);
        world.bucket = (world.setup.store == Kept::Bucket)
            .then(|| SimBucket::new(SimRandom::new(world.random.next_u64())));
        world
    }

    /// Another machine, empty and not started, with the same bucket.
    pub fn heir(&self) -> World {
        let mut heir = World::on(self.seed, &self.random, &self.clock, self.setup.clone(), self.number + 1);
        heir.bucket.clone_from(&self.bucket);
        heir.names = self.names;
        heir.runs = Rc::clone(&self.runs);
        heir
    }

    fn on(seed: u64, random: &SimRandom, clock: &SimClock, setup: Setup, number: u64) -> World {
        let (random, clock) = (random.clone(), clock.clone());
        let disk = SimDisk::new(clock.clone(), SimRandom::new(random.next_u64()));
        for dir in [HOME, STORE] {
            disk.create_dir_all(&Path::new(dir).join(".stead")).unwrap();
            disk.create_dir_all(&Path::new(dir).join("data")).unwrap();
        }
        for dir in ["/", "/stead-simulation", HOME, STORE] {
            disk.sync_dir(Path::new(dir)).unwrap();
        }
        let vfs = SimVfs::register(&disk, &unused_name()).unwrap();
        let app_random = SimRandom::new(random.next_u64());
        let apps = Apps::new(&disk, Path::new(HOME), vfs.name(), app_random, setup.apps);
        World {
            seed,
            random,
            disk,
            clock,
            apps: Rc::new(RefCell::new(apps)),
            setup,
            vfs,
            bucket: None,
            number,
            claim: Claim::Own,
            doom: Doom::never(),
            reports: Reports::default(),
            storm: false,
            former: None,
            boots: Arc::default(),
            booted: Duration::ZERO,
            engine: None,
            ledger: None,
            notices: Arc::default(),
            saved: BTreeMap::new(),
            unsure: BTreeMap::new(),
            removed: BTreeSet::new(),
            may_return: BTreeSet::new(),
            broken: BTreeSet::new(),
            turning: None,
            undo: None,
            names: 0,
            restless: true,
            certain: true,
            seals: BTreeMap::new(),
            runs: Rc::default(),
        }
    }

    /// The store, as a process that has just started knows it.
    pub fn store(&self) -> Option<Arc<dyn Objects>> {
        if let Some(bucket) = &self.bucket {
            let store = bucket.store_of(&self.name(), &self.disk);
            return Some(Arc::new(Line { store, disk: self.disk.clone(), doom: self.doom.clone() }));
        }
        let disk: Arc<dyn Disk> = Arc::new(SharedDisk(self.disk.clone()));
        (self.setup.store == Kept::Directory)
            .then(|| Arc::new(store::Directory::new(disk, STORE.into())) as Arc<dyn Objects>)
    }

    /// The store, as whoever looks at it finds it without any trouble on the way.
    pub fn calm_store(&self) -> Option<Arc<dyn Objects>> {
        match &self.bucket {
            Some(bucket) => Some(Arc::new(bucket.calm_copy().store_of("looker", &self.disk))),
            None => self.store(),
        }
    }

    /// What the machine is called.
    pub fn name(&self) -> String {
        format!("machine-{}", self.number)
    }

    /// As whom, and under which condition, the store is taken.
    pub fn store_settings(&self, claim: Claim) -> Option<StoreSettings> {
        self.runs.set(self.runs.get() + 1);
        let owner =
            Owner { id: self.number, run: self.runs.get(), node: self.name(), volume: "test".to_owned() };
        let objects = self.store()?;
        Some(StoreSettings { objects, owner, claim, stop_timeout: None, configuration: None })
    }

    /// What the engine runs on.
    pub fn machine(&self) -> Machine {
        Machine {
            disk: Arc::new(SharedDisk(self.disk.clone())),
            clock: Arc::new(SharedClock { clock: self.clock.clone(), booted: self.booted }),
            random: Arc::new(self.random.clone()),
            vfs: Some(self.vfs.name().to_owned()),
            kernel: Arc::new(SharedKernel { disk: self.disk.clone(), boots: self.boots.clone() }),
        }
    }

    pub fn note(&self, text: impl Into<String>) {
        let mut apps = self.apps.borrow_mut();
        let notices = std::mem::take(&mut *self.notices.lock().unwrap_or_else(PoisonError::into_inner));
        apps.trace.extend(notices);
        apps.note(text);
    }

    pub fn chance(&self, percent: u64) -> bool {
        self.random.below(100) < percent
    }

    pub fn halted(&self) -> bool {
        self.disk.metadata(Path::new("/")).is_err()
    }

    fn settings(&self) -> Settings {
        let path = |text| DatabasePath::parse(text).unwrap();
        Settings {
            home: HOME.into(),
            entries: vec![
                Entry::File { path: path("data/main.sqlite"), schema: None },
                Entry::Pattern { dir: "data".into(), pattern: "**/*.db".into() },
            ],
            sync_interval: self.setup.sync_interval,
            retention: Retention { keep: self.setup.keep, local_bytes: self.setup.local_bytes },
            store: self.store_settings(self.claim),
            epoch: Epoch(1),
            wal_limit_bytes: self.setup.wal_limit_bytes,
            checkpoint_frames: self.setup.checkpoint_frames,
            app_user: None,
            machine: self.machine(),
        }
    }

    /// Starts the engine; an error only where the machine halted or is broken on purpose.
    pub fn try_start(&mut self) -> Result<(), String> {
        self.note("start");
        let ledger = Ledger::open(&Path::new(HOME).join(".stead/ledger.sqlite"), Some(self.vfs.name()))
            .map_err(|error| format!("ledger: {error}"))?;
        let ledger = Arc::new(ledger);
        let notices = Arc::clone(&self.notices);
        let notify = move |notice| {
            let text = match notice {
                Notice::Database { path, what, message } => format!("  {path} {what}: {message}"),
                Notice::StoreAway { error } => format!("  store away: {error}"),
                Notice::StoreBack { after } => format!("  store back: {after:?}"),
                Notice::StoreRefused { error } => format!("  {REFUSED}: {error}"),
            };
            notices.lock().unwrap_or_else(PoisonError::into_inner).push(text);
        };
        self.seals.clear();
        let engine = Engine::stepped(self.settings(), Arc::clone(&ledger), Arc::new(notify))
            .map_err(|error| error.to_string())?;
        self.engine = Some(engine);
        self.ledger = Some(ledger);
        self.remember_seals();
        Ok(())
    }

    fn remember_seals(&mut self) {
        let Some(engine) = &self.engine else { return };
        for info in engine.databases() {
            if let Some(at) = info.position {
                self.seals.insert(info.path.as_str().to_owned(), (at.incarnation, at.txid));
            }
        }
    }

    /// Lets the engine do something, others acting meanwhile or not; what it seals is safe from then on.
    pub fn with_engine<T>(&mut self, others: bool, act: impl FnOnce(&Engine) -> T) -> T {
        let engine = self.engine.as_ref().expect("invariant: it runs");
        let (lengths, unnoticed) = {
            let apps = self.apps.borrow();
            (apps.model.lengths(), apps.model.unnoticed.clone())
        };
        let done = {
            let _turns = others.then(|| {
                let (apps, random) = (Rc::clone(&self.apps), self.random.clone());
                Meanwhile::others(move || {
                    if random.below(100) < 12 {
                        apps.borrow_mut().act();
                    }
                })
            });
            act(engine)
        };
        let mut apps = self.apps.borrow_mut();
        let shown = engine.databases();
        self.reports.hear(&shown, engine.unsendable());
        for info in shown {
            let name = info.path.as_str().to_owned();
            let Some(at) = info.position.map(|at| (at.incarnation, at.txid)) else { continue };
            let was = self.seals.insert(name.clone(), at);
            let certain = self.certain && !unnoticed.contains(&name) && !apps.model.unnoticed.contains(&name);
            if let (true, Some(count), true) = (was != Some(at), lengths.get(&name), certain) {
                apps.model.sealed(&name, *count);
            }
        }
        done
    }

    /// One step of the engine; `false` when nothing is due.
    pub fn step(&mut self, others: bool) -> bool {
        self.with_engine(others, |engine| engine.step()).is_ok()
    }

    /// Lets time pass, and the engine do what is due.
    pub fn pass(&mut self, time: Duration) {
        let until = self.clock.boottime() + time;
        let steps = 10_000 + time.as_secs() * 1000;
        for _ in 0..steps {
            if self.halted() {
                return;
            }
            match self.with_engine(false, |engine| engine.step()) {
                Ok(()) => {}
                Err(wait) => {
                    let now = self.clock.boottime();
                    if now >= until {
                        return;
                    }
                    let wait = wait.unwrap_or(time).max(Duration::from_micros(50));
                    self.clock.advance(wait.min(until - now));
                }
            }
        }
        panic!("the engine never rests: {steps} steps in {time:?}");
    }

    /// Shows the engine the files that came and went.
    pub fn notice(&mut self) {
        if self.apps.borrow().model.unnoticed.is_empty() {
            return;
        }
        self.with_engine(false, |engine| engine.files_changed());
        self.pass(Duration::from_millis(400));
        if !self.halted() && !self.apps.borrow().faulty {
            self.apps.borrow_mut().model.unnoticed.clear();
        }
    }

    /// Something dies; what was broken on purpose is whole again. Nothing runs afterwards but, perhaps, applications.
    pub fn crash(&mut self, crash: Crash) {
        self.note(format!("crash: {crash:?} at step {}", self.disk.steps()));
        match crash {
            Crash::Engine => self.disk.crash_process(NODE),
            Crash::Processes => self.disk.crash_processes(),
            Crash::Power => {
                self.disk.crash_power(&self.random);
                self.boots.fetch_add(1, Ordering::Relaxed);
                self.clock.advance(Duration::from_secs(20));
                self.booted = self.clock.boottime();
            }
        }
        self.disk.clear_failures();
        self.disk.set_capacity(u64::MAX);
        self.disk.halt_at_step(u64::MAX);
        self.doom.forget();
        self.engine = None;
        self.ledger = None;
        self.certain = false;
        if crash != Crash::Engine {
            self.apps.borrow_mut().close_all();
        }
        self.apps.borrow_mut().faulty = false;
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let notices = std::mem::take(&mut *self.notices.lock().unwrap_or_else(PoisonError::into_inner));
            if let Ok(mut apps) = self.apps.try_borrow_mut() {
                apps.trace.extend(notices);
                let skipped = apps.trace.len().saturating_sub(60);
                for line in &apps.trace[skipped..] {
                    eprintln!("    {line}");
                }
            }
            if crate::number("STEAD_SIM_LOG").is_some()
                && let Some(bucket) = &self.bucket
            {
                bucket.log().iter().for_each(|line| eprintln!("    {line}"));
            }
            eprintln!("seed {} failed: STEAD_SIM_SEED={}", self.seed, self.seed);
        }
    }
}
