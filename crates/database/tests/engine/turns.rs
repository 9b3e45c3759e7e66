//! A store that takes its time with one database, or with everything.

use super::*;
use base::sim::SimClock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use store::{Around, Asked, Objects, StoreError};

const SLOW: &str = "data/slow.db";

/// A directory that takes and gives objects below one key only while a gate is open.
#[derive(Debug)]
struct Gated {
    inner: store::Directory,
    below: &'static str,
    open: Mutex<bool>,
    changed: Condvar,
    waiting: AtomicUsize,
}

impl Gated {
    fn of(world: &World, below: &'static str) -> Arc<Gated> {
        let inner = store::Directory::new(Arc::new(LocalDisk), world.store.clone().unwrap());
        let (open, changed, waiting) = Default::default();
        Arc::new(Gated { inner, below, open, changed, waiting })
    }

    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.changed.notify_all();
    }
}

impl Around for Gated {
    fn inner(&self) -> &dyn Objects {
        &self.inner
    }

    fn pass(&self, asked: Asked<'_>) -> Result<(), StoreError> {
        let (Asked::Write(key) | Asked::Read(key)) = asked;
        if key.is_some_and(|key| key.as_str().starts_with(self.below)) {
            self.waiting.fetch_add(1, Ordering::SeqCst);
            let open = self.open.lock().unwrap();
            drop(self.changed.wait_while(open, |open| !*open).unwrap());
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
        Ok(())
    }
}

fn start(world: &World, objects: &Arc<Gated>, stop_timeout: Duration) -> Engine {
    let objects: Arc<dyn Objects> = Arc::clone(objects) as Arc<dyn Objects>;
    let settings = world
        .settings(Machine::real(), vec![Entry::Pattern { dir: "data".into(), pattern: "**/*.db".into() }]);
    let store = settings.store.clone().unwrap();
    let store = StoreSettings { objects, stop_timeout: Some(stop_timeout), ..store };
    let ledger = Arc::new(Ledger::open(&world.home.join(".stead/ledger.sqlite"), None).unwrap());
    Engine::start(Settings { store: Some(store), ..settings }, ledger, Arc::new(|_| {})).unwrap()
}

fn stored(engine: &Engine, name: &str) -> bool {
    let found = engine.databases().into_iter().find(|info| info.path == path(name));
    found.is_some_and(|info| info.position.is_some() && info.stored_txid == info.position.map(|at| at.txid))
}

/// How many seals of a database lie in the store.
fn sent(world: &World, name: &str) -> usize {
    let seals = std::fs::read_dir(world.store.as_ref().unwrap().join(name).join("ltx/0"));
    seals.map_or(0, Iterator::count)
}

#[test]
fn a_database_that_takes_long_to_send_keeps_no_other_waiting() {
    let world = World::with_store();
    let gate = Gated::of(&world, SLOW);
    let engine = start(&world, &gate, Duration::from_secs(30));
    let (slow, quick) = (world.app("slow.db"), world.app("quick.db"));
    for app in [&slow, &quick] {
        app.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1)").unwrap();
    }
    until("followed", || followed(&engine, SLOW) && followed(&engine, "data/quick.db"));
    for _ in 0..3 {
        let before = sent(&world, "data/quick.db");
        quick.execute_batch("INSERT INTO t VALUES(2)").unwrap();
        until("the quick one is sent", || sent(&world, "data/quick.db") > before);
    }
    assert_eq!(sent(&world, SLOW), 0);
    gate.open();
    until("all is there", || stored(&engine, SLOW) && stored(&engine, "data/quick.db"));
    drop((slow, quick));
    engine.stop();
}

#[test]
fn a_stop_waits_no_longer_for_a_request_than_it_may() {
    let world = World::with_store();
    let gate = Gated::of(&world, SLOW);
    let engine = start(&world, &gate, Duration::from_millis(300));
    let app = world.app("slow.db");
    app.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1)").unwrap();
    until("followed", || followed(&engine, SLOW));
    engine.sync();
    drop(app);
    // Nobody opens the gate: it would not end otherwise.
    engine.stop();
    assert_eq!(sent(&world, SLOW), 0);
    gate.open();
    until("what was under way ends by itself", || sent(&world, SLOW) > 0);
}

#[test]
fn a_stop_does_not_wait_for_whoever_asks_for_the_ledger() {
    let world = World::with_store();
    let engine = world.start();
    let app = world.app("database.sqlite");
    app.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1)").unwrap();
    until("followed", || followed(&engine, NAME));
    engine.stop();
    drop(app);
    let gate = Gated::of(&world, database::engine::LEDGER_PATH);
    let engine = start(&world, &gate, Duration::from_millis(300));
    until("asked", || gate.waiting.load(Ordering::SeqCst) > 0);
    let stopping = std::thread::spawn(move || engine.stop());
    until("stopped", || stopping.is_finished());
    gate.open();
    until("what was under way ends by itself", || gate.waiting.load(Ordering::SeqCst) == 0);
}

/// How many manifests were written, and the histories that the last one lists.
fn manifests(world: &World) -> (u64, Vec<String>) {
    let root = world.store.clone().unwrap();
    let objects = store::Directory::new(Arc::new(LocalDisk), root);
    let (manifest, _) = database::bucket::read(&objects).unwrap().unwrap();
    let listed = manifest.histories.iter().filter(|(_, files)| !files.is_empty());
    (manifest.sequence, listed.map(|(key, _)| key.clone()).collect())
}

#[test]
fn databases_that_are_sent_at_one_time_are_listed_by_one_manifest() {
    const DATABASES: usize = 20;
    let world = World::with_store();
    std::fs::create_dir_all(world.home.join("data")).unwrap();
    let apps: Vec<Connection> = (0..DATABASES).map(|at| world.app(&format!("{at:02}.db"))).collect();
    for app in &apps {
        app.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1)").unwrap();
    }
    let clock = SimClock::new(base::Timestamp(1_795_255_200_000));
    let machine = Machine { clock: Arc::new(clock.clone()), ..Machine::real() };
    let ledger = Arc::new(Ledger::open(&world.home.join(".stead/ledger.sqlite"), None).unwrap());
    let entries = vec![Entry::Pattern { dir: "data".into(), pattern: "*.db".into() }];
    let engine = Engine::stepped(world.settings(machine, entries), ledger, Arc::new(|_| {})).unwrap();
    let rest = || {
        let until = base::Clock::boottime(&clock) + Duration::from_secs(20);
        loop {
            match engine.step() {
                Ok(()) => {}
                Err(Some(wait)) if base::Clock::boottime(&clock) + wait <= until => clock.advance(wait),
                Err(_) => return,
            }
        }
    };
    let whole = || {
        engine.databases().iter().filter(|info| info.stored_txid == info.position.map(|at| at.txid)).count()
    };

    let (before, _) = manifests(&world);
    rest();
    assert_eq!(whole(), DATABASES);
    let (first, listed) = manifests(&world);
    assert_eq!(listed.len(), DATABASES + 1, "the ledger too: {listed:?}");
    // All databases; the ledger.
    assert_eq!(first - before, 2);

    // What is merged while the store is away goes there, and is found only by a list.
    let store = world.store.clone().unwrap();
    let away = store.with_extension("away");
    std::fs::rename(&store, &away).unwrap();
    for _ in 0..6 {
        for app in &apps {
            app.execute_batch("INSERT INTO t VALUES(2)").unwrap();
        }
        engine.sync();
        rest();
    }
    assert_eq!(whole(), 0);
    std::fs::rename(&away, &store).unwrap();
    rest();
    assert_eq!(whole(), DATABASES);
    let (last, _) = manifests(&world);
    assert!(last - first < DATABASES as u64 / 2, "{} manifests", last - first);
}
