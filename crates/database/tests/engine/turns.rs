//! A store that takes its time with one database, or with everything.

use super::*;
use std::sync::{Condvar, Mutex};
use store::{About, Fill, Key, Layout, Listed, Objects, Outcome, Piece, StoreError, Tag};

const SLOW: &str = "data/slow.db";

/// A directory that takes objects below one key only while a gate is open.
#[derive(Debug)]
struct Gated {
    inner: store::Directory,
    below: &'static str,
    open: Mutex<bool>,
    changed: Condvar,
}

impl Gated {
    fn of(world: &World, below: &'static str) -> Arc<Gated> {
        let inner = store::Directory::new(Arc::new(LocalDisk), world.store.clone().unwrap());
        Arc::new(Gated { inner, below, open: Mutex::new(false), changed: Condvar::new() })
    }

    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.changed.notify_all();
    }
}

impl Objects for Gated {
    fn url(&self) -> &str {
        self.inner.url()
    }

    fn layout(&self) -> Layout {
        self.inner.layout()
    }

    fn create(&self, key: &Key, about: About, fill: &mut Fill<'_>) -> Result<Outcome, StoreError> {
        if key.as_str().starts_with(self.below) {
            let open = self.open.lock().unwrap();
            drop(self.changed.wait_while(open, |open| !*open).unwrap());
        }
        self.inner.create(key, about, fill)
    }

    fn replace(&self, key: &Key, bytes: &[u8], was: &Tag) -> Result<Outcome, StoreError> {
        self.inner.replace(key, bytes, was)
    }

    fn read(&self, key: &Key, from: u64, bytes_max: usize) -> Result<Option<Piece>, StoreError> {
        self.inner.read(key, from, bytes_max)
    }

    fn remove(&self, keys: &[Key]) -> Result<(), StoreError> {
        self.inner.remove(keys)
    }

    fn list(
        &self,
        below: Option<&Key>,
        each: &mut dyn FnMut(Listed) -> std::ops::ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.inner.list(below, each)
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
