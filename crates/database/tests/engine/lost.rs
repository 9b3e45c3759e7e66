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

/// The seals of a database that lie in the store.
fn sent_seals(world: &World, name: &str) -> Vec<PathBuf> {
    let mut seals: Vec<PathBuf> = std::fs::read_dir(world.store.as_ref().unwrap().join(name).join("ltx/0"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    seals.sort();
    seals
}

// semantics: another-machine
#[test]
fn a_last_seal_that_is_damaged_in_the_store_is_set_aside_and_what_was_before_it_comes_back() {
    for harm in ["truncated", "flipped", "emptied"] {
        let world = World::with_store();
        let (engine, _ledger, _) = world.start_on(Machine::real(), entries(), 1 << 30);
        let app = world.app("database.sqlite");
        app.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1)").unwrap();
        until("followed", || followed(&engine, NAME));
        engine.sync();
        until("sent", || stored(&engine, NAME));
        app.execute_batch("INSERT INTO t VALUES(2)").unwrap();
        engine.sync();
        until("sent", || stored(&engine, NAME));
        drop(app);
        drop(engine);
        let last = sent_seals(&world, NAME).pop().unwrap();
        let bytes = std::fs::read(&last).unwrap();
        match harm {
            "truncated" => std::fs::write(&last, &bytes[..bytes.len() / 2]).unwrap(),
            "emptied" => std::fs::write(&last, b"").unwrap(),
            _ => {
                let mut bytes = bytes.clone();
                let at = bytes.len() / 2;
                bytes[at] ^= 0x10;
                std::fs::write(&last, bytes).unwrap();
            }
        }
        let world = another(&world);
        let found = taken_over(&world);
        assert_eq!(found.lost.len(), 1, "{harm}: {found:?}");
        assert_eq!(found.lost[0].last, found.lost[0].whole.next(), "{harm}: {found:?}");
        let (engine, _ledger, _) = world.start_on(Machine::real(), entries(), 1 << 30);
        assert_eq!(count(&world.app("database.sqlite")), 1, "{harm}");
        engine.stop();
        let aside = world.store.as_ref().unwrap().join(NAME).join("aside");
        assert!(std::fs::read_dir(&aside).unwrap().any(|kept| {
            let kept = kept.unwrap().path();
            std::fs::read(&kept).unwrap().len() <= bytes.len()
        }));
    }
}

// semantics: another-machine
#[test]
fn one_database_that_cannot_be_sent_does_not_keep_the_checkpoints_of_the_others_here() {
    let world = World::with_store();
    let (engine, ledger, _) = world.start_on(Machine::real(), entries(), 1 << 30);
    let (first, second) = (world.app("database.sqlite"), world.app("other.db"));
    for app in [&first, &second] {
        app.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1)").unwrap();
    }
    until("followed", || followed(&engine, NAME) && followed(&engine, OTHER));
    engine.sync();
    until("sent", || stored(&engine, NAME) && stored(&engine, OTHER));
    let last = sent_seals(&world, OTHER).pop().unwrap();
    let hex = last.file_name().unwrap().to_str().unwrap()[..16].to_owned();
    let next = format!("{:016x}", u64::from_str_radix(&hex, 16).unwrap() + 1);
    // Somebody else's, with the name of the next one.
    std::fs::write(last.with_file_name(format!("{next}-{next}.ltx")), b"in the way").unwrap();
    for app in [&first, &second] {
        app.execute_batch("INSERT INTO t VALUES(2)").unwrap();
    }
    let cut = engine.cut(LIMIT).unwrap();
    let (id, created) = ("both".to_owned(), cut.at);
    let checkpoint = Checkpoint { id, created, comment: None, automatic: false, vector: cut.vector.clone() };
    ledger.insert_checkpoint(&checkpoint).unwrap();
    let info = |name: &str| engine.databases().into_iter().find(|info| info.path == path(name)).unwrap();
    until("said", || info(OTHER).trouble.is_some_and(|trouble| trouble.code == "store_failed"));
    // The moment that both had: what the first has in the store beyond it would not come back.
    let txid = cut.vector[&path(NAME)].txid;
    assert!(info(NAME).stored_txid.unwrap() < txid, "{:?}", info(NAME));
    drop((first, second));
    engine.stop();
    drop(ledger);

    let world = another(&world);
    assert!(!taken_over(&world).apart);
    let (engine, ledger, _) = world.start_on(Machine::real(), entries(), 1 << 30);
    assert!(ledger.checkpoint("both").unwrap().is_some());
    assert_eq!((count(&world.app("database.sqlite")), count(&world.app("other.db"))), (1, 1));
    engine.stop();
}

/// The store is not there for a while, as a disk that is not mounted.
struct Away(PathBuf);

impl Away {
    fn take(world: &World) -> Away {
        let store = world.store.clone().unwrap();
        std::fs::rename(&store, store.with_extension("away")).unwrap();
        std::fs::write(&store, "no directory").unwrap();
        Away(store)
    }

    fn bring_back(self) {
        std::fs::remove_file(&self.0).unwrap();
        std::fs::rename(self.0.with_extension("away"), &self.0).unwrap();
    }
}

// semantics: another-machine
#[test]
fn a_machine_that_came_up_from_a_store_goes_on_with_its_history_while_that_is_away() {
    let world = World::with_store();
    let (engine, _ledger, _) = world.start_on(Machine::real(), entries(), 1 << 30);
    let app = world.app("database.sqlite");
    app.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1)").unwrap();
    until("followed", || followed(&engine, NAME));
    engine.sync();
    until("sent", || stored(&engine, NAME));
    drop(app);
    engine.stop();

    let world = another(&world);
    taken_over(&world);
    let (engine, _ledger, _) = world.start_on(Machine::real(), entries(), 1 << 30);
    until("stored", || stored(&engine, NAME));
    engine.stop();
    let away = Away::take(&world);
    let (engine, _ledger, _) = world.start_on(Machine::real(), entries(), 1 << 30);
    let app = world.app("database.sqlite");
    app.execute_batch("INSERT INTO t VALUES(2)").unwrap();
    drop(app);
    engine.sync();
    let position = || engine.databases().into_iter().find(|info| info.path == path(NAME)).unwrap().position;
    assert_eq!(position().unwrap().incarnation.0, 1, "it is the same database");
    assert_eq!(count(&world.app("database.sqlite")), 2);
    engine.stop();
    away.bring_back();
    let (engine, _ledger, _) = world.start_on(Machine::real(), entries(), 1 << 30);
    until("stored", || stored(&engine, NAME));
    engine.stop();

    let world = World { id: 9, ..another(&world) };
    taken_over(&world);
    let (engine, _ledger, _) = world.start_on(Machine::real(), entries(), 1 << 30);
    assert_eq!(count(&world.app("database.sqlite")), 2);
    engine.stop();
}

// semantics: another-machine
#[test]
fn what_a_former_file_had_unsent_is_sent_by_the_next_start() {
    let world = World::with_store();
    let (engine, ledger, _) = world.start_on(Machine::real(), entries(), 1 << 30);
    let first = world.app("database.sqlite");
    first.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1)").unwrap();
    until("followed", || followed(&engine, NAME));
    engine.sync();
    until("sent", || stored(&engine, NAME));
    drop(first);
    engine.stop();
    drop(ledger);
    let away = Away::take(&world);
    let (engine, ledger, _) = world.start_on(Machine::real(), entries(), 1 << 30);
    let other = world.app("other.db");
    other.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1)").unwrap();
    until("followed", || followed(&engine, OTHER));
    let cut = engine.cut(LIMIT).unwrap();
    let (id, created) = ("gone".to_owned(), cut.at);
    let checkpoint = Checkpoint { id, created, comment: None, automatic: false, vector: cut.vector.clone() };
    ledger.insert_checkpoint(&checkpoint).unwrap();
    drop(other);
    remove(&world.home.join(OTHER));
    until("deleted", || !followed(&engine, OTHER));
    engine.stop();
    drop(ledger);
    away.bring_back();
    let (engine, ledger, _) = world.start_on(Machine::real(), entries(), 1 << 30);
    until("sent", || !sent_seals_or_none(&world, OTHER).is_empty() && stored(&engine, NAME));
    engine.stop();
    drop(ledger);

    let world = another(&world);
    taken_over(&world);
    let (engine, ledger, _) = world.start_on(Machine::real(), entries(), 1 << 30);
    let kept = ledger.checkpoint("gone").unwrap().unwrap();
    engine.turn_back("gone", &kept.vector, Duration::from_secs(10), &mut |_| {}).unwrap();
    assert_eq!(count(&world.app("other.db")), 1);
    engine.stop();
}

fn sent_seals_or_none(world: &World, name: &str) -> Vec<PathBuf> {
    let there = world.store.as_ref().unwrap().join(name).join("ltx/0").exists();
    if there { sent_seals(world, name) } else { Vec::new() }
}
