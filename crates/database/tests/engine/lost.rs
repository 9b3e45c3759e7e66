//! A machine that is lost, and another that goes on from the store alone; two that write to one store.

use super::*;
use database::ledger::Checkpoint;
use database::recover::recover;

const OTHER: &str = "data/other.db";

/// A world of another machine that has the same store, and nothing else.
fn another(world: &World) -> World {
    World { store: world.store.clone(), id: 8, ..World::new() }
}

fn taken_over(world: &World) -> database::recover::Recovered {
    let settings = settings_of(world.store.as_ref().unwrap(), world.id, Claim::TakeOver);
    recover(&world.home, &settings, &Machine::real()).unwrap()
}

/// Whether the store alone leads to what a database is at now.
fn stored(engine: &Engine, name: &str) -> bool {
    let found = engine.databases().into_iter().find(|info| info.path == path(name));
    found.is_some_and(|info| {
        info.position.is_some()
            && info.stored_txid == info.position.map(|at| at.txid)
            && info.dirty_since.is_none()
    })
}

fn entries() -> Vec<Entry> {
    vec![
        Entry::File { path: path(NAME), schema: None },
        Entry::Pattern { dir: "data".into(), pattern: "**/*.db".into() },
    ]
}

// semantics: another-machine
#[test]
fn a_lost_machine_comes_back_from_the_store_with_its_checkpoints() {
    let world = World::with_store();
    let (engine, ledger, _) = world.start_on(Machine::real(), entries(), 1 << 30);
    let (first, second) = (world.app("database.sqlite"), world.app("other.db"));
    for app in [&first, &second] {
        app.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1)").unwrap();
    }
    until("followed", || followed(&engine, NAME) && followed(&engine, OTHER));
    let cut = engine.cut(LIMIT).unwrap();
    let (id, created) = ("before".to_owned(), cut.at);
    let checkpoint = Checkpoint { id, created, comment: None, automatic: false, vector: cut.vector.clone() };
    ledger.insert_checkpoint(&checkpoint).unwrap();
    first.execute_batch("INSERT INTO t VALUES(2)").unwrap();
    engine.sync();
    until("sent", || stored(&engine, NAME) && stored(&engine, OTHER));
    drop((first, second));
    engine.stop();
    drop(ledger);

    let world = another(&world);
    let found = taken_over(&world);
    assert!(found.ledger && found.databases.len() == 2, "{found:?}");
    let (engine, ledger, _) = world.start_on(Machine::real(), entries(), 1 << 30);
    assert_eq!((count(&world.app("database.sqlite")), count(&world.app("other.db"))), (2, 1));
    let kept = ledger.checkpoint("before").unwrap().unwrap();
    assert_eq!(kept.vector, cut.vector);
    engine.turn_back("before", &kept.vector, Duration::from_secs(10), &mut |_| {}).unwrap();
    assert_eq!((count(&world.app("database.sqlite")), count(&world.app("other.db"))), (1, 1));
    engine.stop();
}

// semantics: taken-over
#[test]
fn whoever_had_the_store_before_is_told_and_adds_nothing() {
    let world = World::with_store();
    let (engine, _ledger, told) = world.start_on(Machine::real(), entries(), 1 << 30);
    let app = world.app("database.sqlite");
    app.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1)").unwrap();
    until("followed", || followed(&engine, NAME));
    engine.sync();
    until("sent", || stored(&engine, NAME));

    let second = another(&world);
    taken_over(&second);
    app.execute_batch("INSERT INTO t VALUES(2)").unwrap();
    engine.sync();
    until("told", || {
        told.lock().unwrap().iter().any(|line| line.contains("was taken over by node `node-8`"))
    });
    let (their_engine, _their_ledger, _) = second.start_on(Machine::real(), entries(), 1 << 30);
    assert_eq!(count(&second.app("database.sqlite")), 1, "what was never sent is not there");
    second.app("database.sqlite").execute_batch("INSERT INTO t VALUES(3), (4)").unwrap();
    their_engine.sync();
    until("sent", || stored(&their_engine, NAME));
    engine.stop();
    their_engine.stop();
    assert_eq!(count(&app), 2, "the first one's file is as it was");

    let third = World { id: 9, ..another(&world) };
    taken_over(&third);
    let (engine, _ledger, _) = third.start_on(Machine::real(), entries(), 1 << 30);
    assert_eq!(count(&third.app("database.sqlite")), 3);
    engine.stop();
}

// semantics: taken-over
#[test]
fn a_store_of_another_node_is_refused_with_its_name() {
    let world = World::with_store();
    world.start().stop();
    let second = another(&world);
    let ledger = Arc::new(Ledger::open(&second.home.join(".stead/ledger.sqlite"), None).unwrap());
    let refused = Engine::start(second.settings(Machine::real(), entries()), ledger, Arc::new(|_| {}));
    let refused = refused.err().unwrap().to_string();
    assert!(refused.contains("belongs to node `node-7`"), "{refused}");
}
