//! Threads whose request outlives the stop of their run, while the same node runs again.

use super::*;
use database::engine::StoreState;
use std::sync::{Condvar, Weak};
use store::{Around, Asked, ErrorKind, Objects, StoreError};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Open,
    Broken,
    /// Requests wait on their way.
    Held,
}

/// The way to a store.
#[derive(Debug)]
struct Road {
    way: Mutex<(Way, usize)>,
    changed: Condvar,
}

impl Road {
    fn pass(&self, url: &str) -> Result<(), StoreError> {
        let mut way = self.way.lock().unwrap();
        way.1 += 1;
        way = self.changed.wait_while(way, |way| way.0 == Way::Held).unwrap();
        way.1 -= 1;
        match way.0 {
            Way::Broken => Err(StoreError::new(ErrorKind::Unreachable, url, None, "no way leads there")),
            _ => Ok(()),
        }
    }

    fn set(&self, to: Way) {
        self.way.lock().unwrap().0 = to;
        self.changed.notify_all();
    }

    fn someone_waits(&self) -> bool {
        let way = self.way.lock().unwrap();
        way.0 == Way::Held && way.1 > 0
    }
}

#[derive(Debug)]
struct Far {
    road: Arc<Road>,
    inner: Arc<dyn Objects>,
}

impl Around for Far {
    fn inner(&self) -> &dyn Objects {
        &*self.inner
    }
    fn pass(&self, _asked: Asked<'_>) -> Result<(), StoreError> {
        self.road.pass(self.url())
    }
}

/// A run over a way, whose stop does not wait for it; what it said, the way, and what tells when its last thread is gone.
fn run_over(world: &World, way: Way) -> (Engine, Told, Arc<Road>, Weak<Far>) {
    let road = Arc::new(Road { way: Mutex::new((way, 0)), changed: Condvar::new() });
    let settings = world.settings(Machine::real(), entries());
    let store = settings.store.unwrap();
    let far = Arc::new(Far { road: Arc::clone(&road), inner: store.objects });
    let gone = Arc::downgrade(&far);
    let stop_timeout = Some(Duration::from_millis(50));
    let store = Some(StoreSettings { objects: far, stop_timeout, ..store });
    let told = Told::default();
    let notices = Arc::clone(&told);
    let notify = move |notice: Notice| notices.lock().unwrap().push(format!("{notice:?}"));
    let ledger = Arc::new(Ledger::open(&world.home.join(".stead/ledger.sqlite"), None).unwrap());
    let settings = Settings { store, ..world.settings(Machine::real(), entries()) };
    (Engine::start(settings, ledger, Arc::new(notify)).unwrap(), told, road, gone)
}

fn entries() -> Vec<Entry> {
    vec![
        Entry::File { path: path(NAME), schema: None },
        Entry::Pattern { dir: "data".into(), pattern: "**/*.db".into() },
    ]
}

fn stored(engine: &Engine, name: &str) -> bool {
    let found = engine.databases().into_iter().find(|info| info.path == path(name));
    found.is_some_and(|info| {
        info.dirty_since.is_none()
            && info.position.is_some()
            && info.stored_txid == info.position.map(|at| at.txid)
    })
}

fn is_held(engine: &Engine) -> bool {
    matches!(engine.store().unwrap().state, StoreState::Held)
}

#[test]
fn a_run_that_has_ended_does_not_take_the_store_from_its_successor() {
    let world = World::with_store();
    let (engine, told, road, gone) = run_over(&world, Way::Broken);
    let app = world.app("database.sqlite");
    app.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1)").unwrap();
    until("followed", || followed(&engine, NAME));
    road.set(Way::Held);
    until("it asks for the store", || road.someone_waits());
    engine.stop();

    let successor = world.start();
    until("all is sent", || stored(&successor, NAME));
    let epoch = successor.store().unwrap().epoch;
    road.set(Way::Open);
    until("the former run is gone", || gone.upgrade().is_none());
    let there = store::Directory::new(Arc::new(LocalDisk), world.store.clone().unwrap());
    let (manifest, _) = database::bucket::read(&there).unwrap().unwrap();
    assert_eq!(Some(manifest.epoch), epoch, "it is the successor's");
    app.execute("INSERT INTO t VALUES(2)", ()).unwrap();
    let txid = successor.cut(LIMIT).unwrap().vector[&path(NAME)].txid;
    until("it goes on", || successor.databases()[0].stored_txid >= Some(txid));
    let told = told.lock().unwrap().clone();
    assert!(told.iter().all(|line| !line.contains("StoreBack")), "{told:?}");
    successor.stop();
}

#[test]
fn a_run_that_has_ended_does_not_tell_that_its_successor_has_the_store() {
    let world = World::with_store();
    let (engine, told, road, gone) = run_over(&world, Way::Open);
    until("it has the store", || is_held(&engine) && engine.store().unwrap().epoch.is_some());
    road.set(Way::Held);
    // One that no list knows: after it was sent, the manifest is to be written.
    let app = world.app("other.db");
    app.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1)").unwrap();
    until("it is on its way", || followed(&engine, "data/other.db") && road.someone_waits());
    engine.stop();

    let successor = world.start();
    until("all is sent", || stored(&successor, "data/other.db"));
    road.set(Way::Open);
    until("the former run is gone", || gone.upgrade().is_none());
    let told = told.lock().unwrap().clone();
    assert!(told.iter().all(|line| !line.contains("StoreRefused")), "{told:?}");
    assert!(is_held(&successor), "{:?}", successor.store());
    successor.stop();
}
