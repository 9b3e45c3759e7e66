//! A machine that is lost, and another that goes on from the store alone; two that write to one store.

use super::*;
use database::engine::{Cut, LEDGER_PATH, StoreState};
use database::ledger::Checkpoint;
use database::recover::recover;

pub(super) const OTHER: &str = "data/other.db";

/// A world of another machine that has the same store, and nothing else.
pub(super) fn another(world: &World) -> World {
    World { store: world.store.clone(), id: 8, ..World::new() }
}

pub(super) fn taken_over(world: &World) -> database::recover::Recovered {
    let settings = settings_of(world.store.as_ref().unwrap(), world.id, Claim::TakeOver);
    recover(&world.home, &settings, &Machine::real()).unwrap()
}

/// Whether the store alone leads to what a database is at now.
pub(super) fn stored(engine: &Engine, name: &str) -> bool {
    let found = engine.databases().into_iter().find(|info| info.path == path(name));
    found.is_some_and(|info| {
        info.position.is_some()
            && info.stored_txid == info.position.map(|at| at.txid)
            && info.dirty_since.is_none()
    })
}

/// Another machine that goes on from the store alone.
pub(super) fn went_on(world: &World) -> (World, Engine, Arc<Ledger>) {
    let heir = another(world);
    taken_over(&heir);
    let (engine, ledger, _) = heir.start_on(Machine::real(), entries(), 1 << 30);
    (heir, engine, ledger)
}

pub(super) fn entries() -> Vec<Entry> {
    vec![
        Entry::File { path: path(NAME), schema: None },
        Entry::Pattern { dir: "data".into(), pattern: "**/*.db".into() },
    ]
}

/// An application's database with one row, which the store has.
pub(super) fn sent_row(world: &World, engine: &Engine) -> Connection {
    let app = world.app("database.sqlite");
    app.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1)").unwrap();
    until("followed", || followed(engine, NAME));
    engine.sync();
    until("sent", || stored(engine, NAME));
    app
}

/// Two applications' databases, `NAME` and `OTHER`, of which the store has all, and a ledger that says so.
pub(super) fn two_sent(world: &World, engine: &Engine) -> [Connection; 2] {
    let apps = [world.app("database.sqlite"), world.app("other.db")];
    for app in &apps {
        app.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1)").unwrap();
    }
    until("followed", || followed(engine, NAME) && followed(engine, OTHER));
    engine.sync();
    until("sent", || stored(engine, NAME) && stored(engine, OTHER));
    // What the ledger says when it comes for the second time was noted after it had come for the first.
    let ledgers = || sent_seals(world, LEDGER_PATH).pop();
    for _ in 0..2 {
        let before = ledgers();
        for app in &apps {
            app.execute_batch("INSERT INTO t VALUES(1)").unwrap();
        }
        engine.cut(LIMIT).unwrap();
        until("the ledger is sent", || ledgers() > before);
        until("sent", || stored(engine, NAME) && stored(engine, OTHER));
    }
    apps
}

/// Somebody else's object in the store, with the name of the next seal.
pub(super) fn put_in_the_way(world: &World, name: &str) -> PathBuf {
    let last = sent_seals(world, name).pop().unwrap();
    let hex = &last.file_name().unwrap().to_str().unwrap()[..16];
    let next = format!("{:016x}", u64::from_str_radix(hex, 16).unwrap() + 1);
    let object = last.with_file_name(format!("{next}-{next}.ltx"));
    std::fs::write(&object, b"in the way").unwrap();
    object
}

/// A run that ends cleanly once the store has one row.
fn sent_and_stopped(world: &World) {
    let (engine, _ledger, _) = world.start_on(Machine::real(), entries(), 1 << 30);
    drop(sent_row(world, &engine));
    engine.stop();
}

/// Makes a checkpoint.
pub(super) fn check_point(engine: &Engine, ledger: &Ledger, id: &str) -> Cut {
    let cut = engine.cut(LIMIT).unwrap();
    let (id, created) = (id.to_owned(), cut.at);
    let checkpoint = Checkpoint { id, created, comment: None, automatic: false, vector: cut.vector.clone() };
    ledger.insert_checkpoint(&checkpoint).unwrap();
    cut
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
    let cut = check_point(&engine, &ledger, "before");
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
    let app = sent_row(&world, &engine);

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

/// It finds the ends that the other has put there, and they change nothing: no seal of its own follows them.
// semantics: taken-over
#[test]
fn whoever_looks_into_its_store_only_after_that_was_taken_over_adds_nothing() {
    let world = World::with_store();
    sent_and_stopped(&world);
    let ledger = Arc::new(Ledger::open(&world.home.join(LEDGER_PATH), None).unwrap());
    // Nothing else is sent that could tell it.
    let settings = world.settings(Machine::real(), Vec::new());
    let engine = Engine::stepped(settings, Arc::clone(&ledger), Arc::new(|_| {})).unwrap();
    taken_over(&another(&world));
    let ended = sent_seals(&world, LEDGER_PATH);
    check_point(&engine, &ledger, "late");
    let refused = || matches!(engine.store().unwrap().state, StoreState::Refused { .. });
    until("told", || engine.step().is_err() && refused());
    assert_eq!(sent_seals(&world, LEDGER_PATH), ended);
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
pub(super) fn sent_seals(world: &World, name: &str) -> Vec<PathBuf> {
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
        let app = sent_row(&world, &engine);
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
    let [first, second] = two_sent(&world, &engine);
    put_in_the_way(&world, OTHER);
    // A moment at which only one of the two was written is none that the store has.
    for app in [&second, &first] {
        app.execute_batch("INSERT INTO t VALUES(2)").unwrap();
    }
    let cut = check_point(&engine, &ledger, "both");
    let info = |name: &str| engine.databases().into_iter().find(|info| info.path == path(name)).unwrap();
    until("said", || info(OTHER).trouble.is_some_and(|trouble| trouble.code == "store_failed"));
    // The moment that both had: what the first has in the store beyond it would not come back.
    let txid = cut.vector[&path(NAME)].txid;
    assert!(info(NAME).stored_txid.unwrap() < txid, "{:?}", info(NAME));
    // Nor does it make an outage last.
    let away = Away::take(&world);
    until("away", || matches!(engine.store().unwrap().state, StoreState::Away { .. }));
    away.bring_back();
    until("back", || matches!(engine.store().unwrap().state, StoreState::Held));
    drop((first, second));
    engine.stop();
    drop(ledger);

    let world = another(&world);
    let found = taken_over(&world);
    assert!(!found.apart);
    // The checkpoint holds what was never sent.
    let lost: Vec<_> = found.lost.iter().map(|lost| (&lost.path, lost.last)).collect();
    assert_eq!(lost, [(&path(OTHER), cut.vector[&path(OTHER)].txid)]);
    let (engine, ledger, _) = world.start_on(Machine::real(), entries(), 1 << 30);
    assert!(ledger.checkpoint("both").unwrap().is_some());
    assert_eq!((count(&world.app("database.sqlite")), count(&world.app("other.db"))), (3, 3));
    engine.stop();
}

/// The store is not there for a while, as a disk that is not mounted.
pub(super) struct Away(PathBuf);

impl Away {
    pub(super) fn take(world: &World) -> Away {
        let store = world.store.clone().unwrap();
        std::fs::rename(&store, store.with_extension("away")).unwrap();
        std::fs::write(&store, "no directory").unwrap();
        Away(store)
    }

    pub(super) fn bring_back(self) {
        std::fs::remove_file(&self.0).unwrap();
        std::fs::rename(self.0.with_extension("away"), &self.0).unwrap();
    }
}

// semantics: another-machine
#[test]
fn a_machine_that_came_up_from_a_store_goes_on_with_its_history_while_that_is_away() {
    let world = World::with_store();
    sent_and_stopped(&world);

    let (world, engine, _ledger) = went_on(&world);
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
    sent_and_stopped(&world);
    let away = Away::take(&world);
    let (engine, ledger, _) = world.start_on(Machine::real(), entries(), 1 << 30);
    let other = world.app("other.db");
    other.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1)").unwrap();
    until("followed", || followed(&engine, OTHER));
    check_point(&engine, &ledger, "gone");
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

    let (world, engine, ledger) = went_on(&world);
    let kept = ledger.checkpoint("gone").unwrap().unwrap();
    engine.turn_back("gone", &kept.vector, Duration::from_secs(10), &mut |_| {}).unwrap();
    assert_eq!(count(&world.app("other.db")), 1);
    engine.stop();
}

// semantics: another-machine
#[test]
fn a_file_that_came_and_went_while_the_store_was_away_is_sent_when_that_is_back() {
    let world = World::with_store();
    let (engine, ledger, _) = world.start_on(Machine::real(), entries(), 1 << 30);
    let first = sent_row(&world, &engine);
    let away = Away::take(&world);
    for id in ["deleted", "replaced"] {
        let other = world.app("other.db");
        other.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x)").unwrap();
        other.execute("INSERT INTO t VALUES(?)", [id]).unwrap();
        until("followed", || followed(&engine, OTHER));
        check_point(&engine, &ledger, id);
        drop(other);
        remove(&world.home.join(OTHER));
        until("deleted", || !followed(&engine, OTHER));
    }
    away.bring_back();
    let again = format!("{OTHER}@2");
    until("sent", || !sent_seals_or_none(&world, OTHER).is_empty());
    until("sent", || !sent_seals_or_none(&world, &again).is_empty());
    drop(first);
    engine.stop();
    drop(ledger);

    let (world, engine, ledger) = went_on(&world);
    for id in ["replaced", "deleted"] {
        let kept = ledger.checkpoint(id).unwrap().unwrap();
        engine.turn_back(id, &kept.vector, Duration::from_secs(10), &mut |_| {}).unwrap();
        let was: String = world.app("other.db").query_row("SELECT x FROM t", [], |row| row.get(0)).unwrap();
        assert_eq!(was, id);
    }
    engine.stop();
}

/// What it had committed since the last seal is sealed when it is gone.
#[test]
fn the_last_seal_of_a_file_that_goes_is_sent() {
    let world = World::with_store();
    let (engine, _ledger, _) = world.start_on(Machine::real(), entries(), 1 << 30);
    let first = sent_row(&world, &engine);
    for _ in 0..5 {
        let other = world.app("other.db");
        other.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x)").unwrap();
        until("followed", || followed(&engine, OTHER));
        let history = engine.databases().into_iter().find(|info| info.path == path(OTHER)).unwrap().history;
        other.execute_batch("INSERT INTO t VALUES(1)").unwrap();
        remove(&world.home.join(OTHER));
        drop(other);
        until("deleted", || !followed(&engine, OTHER));
        let name = Path::new(&history).strip_prefix(&world.home).unwrap().to_str().unwrap();
        let name = name.strip_suffix("-litestream").unwrap().to_owned();
        let here = std::fs::read_dir(Path::new(&history).join("ltx/0")).unwrap().count();
        until("sent", || sent_seals_or_none(&world, &name).len() == here);
    }
    drop(first);
    engine.stop();
}

/// The seals of its history are of a later right to write than those of the new store.
#[test]
fn a_home_that_changes_its_store_sends_all_to_the_new_one_and_goes_on() {
    let mut world = World::with_store();
    for _ in 0..3 {
        let (engine, _ledger, _) = world.start_on(Machine::real(), entries(), 1 << 30);
        drop(sent_again(&world, &engine));
        engine.stop();
    }
    let other = world.store.take().unwrap().with_extension("other");
    std::fs::create_dir(&other).unwrap();
    world.store = Some(other);
    for _ in 0..2 {
        let (engine, _ledger, _) = world.start_on(Machine::real(), entries(), 1 << 30);
        drop(sent_again(&world, &engine));
        assert!(matches!(engine.store().unwrap().state, StoreState::Held));
        engine.stop();
    }
    let (world, engine, _ledger) = went_on(&world);
    assert_eq!(count(&world.app("database.sqlite")), 5);
    engine.stop();
}

/// One more row in the application's database, which the store has.
fn sent_again(world: &World, engine: &Engine) -> Connection {
    let app = world.app("database.sqlite");
    app.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE IF NOT EXISTS t(x); INSERT INTO t VALUES(1)")
        .unwrap();
    until("followed", || followed(engine, NAME));
    engine.sync();
    until("sent", || stored(engine, NAME));
    app
}

// semantics: another-machine
#[test]
fn what_was_sealed_of_a_file_that_was_emptied_since_is_sent() {
    let world = World::with_store();
    let (engine, ledger, _) = world.start_on(Machine::real(), entries(), 1 << 30);
    let first = sent_row(&world, &engine);
    drop(first);
    let away = Away::take(&world);
    let other = world.app("other.db");
    other.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1)").unwrap();
    until("followed", || followed(&engine, OTHER));
    check_point(&engine, &ledger, "whole");
    drop(other);
    engine.stop();
    drop(ledger);
    let file = world.home.join(OTHER);
    remove(&file);
    std::fs::write(&file, "").unwrap();
    let (engine, ledger, _) = world.start_on(Machine::real(), entries(), 1 << 30);
    away.bring_back();
    until("sent", || !sent_seals_or_none(&world, OTHER).is_empty());
    engine.stop();
    drop(ledger);

    let (world, engine, ledger) = went_on(&world);
    let kept = ledger.checkpoint("whole").unwrap().unwrap();
    engine.turn_back("whole", &kept.vector, Duration::from_secs(10), &mut |_| {}).unwrap();
    assert_eq!(count(&world.app("other.db")), 1);
    engine.stop();
}

/// It keeps neither the others nor the checkpoints here.
#[test]
fn a_former_file_that_the_disk_does_not_give_is_told_and_the_rest_goes_on() {
    let world = World::with_store();
    let (engine, ledger, _) = world.start_on(Machine::real(), entries(), 1 << 30);
    let first = sent_row(&world, &engine);
    let away = Away::take(&world);
    let other = world.app("other.db");
    other.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1)").unwrap();
    until("followed", || followed(&engine, OTHER));
    engine.sync();
    drop(other);
    let history = engine.databases().into_iter().find(|info| info.path == path(OTHER)).unwrap().history;
    remove(&world.home.join(OTHER));
    until("deleted", || !followed(&engine, OTHER));
    let seals = Path::new(&history).join("ltx/0");
    for seal in std::fs::read_dir(&seals).unwrap().map(|entry| entry.unwrap().path()) {
        std::fs::remove_file(&seal).unwrap();
        // What nobody can read.
        std::os::unix::fs::symlink(&seal, &seal).unwrap();
    }
    first.execute_batch("INSERT INTO t VALUES(2)").unwrap();
    check_point(&engine, &ledger, "after");
    let since = std::time::Instant::now();
    away.bring_back();
    let trouble = || {
        let info = engine.databases().into_iter().find(|info| info.path == path(OTHER)).unwrap();
        info.trouble.map(|trouble| trouble.code)
    };
    until("told", || trouble() == Some("former_not_sent"));
    until("sent", || stored(&engine, NAME));
    assert!(since.elapsed() < Duration::from_secs(25), "the ledger does not wait for what will not come");
    drop(first);
    engine.stop();
    drop(ledger);
    let store = settings_of(world.store.as_ref().unwrap(), world.id, Claim::Own);
    let (manifest, _) = database::bucket::read(&*store.objects).unwrap().unwrap();
    assert!(!manifest.released, "it lacks what the disk did not give");
}

fn sent_seals_or_none(world: &World, name: &str) -> Vec<PathBuf> {
    let there = world.store.as_ref().unwrap().join(name).join("ltx/0").exists();
    if there { sent_seals(world, name) } else { Vec::new() }
}

/// A file that nobody can remove.
struct Stuck(PathBuf);

impl Stuck {
    fn make(file: PathBuf) -> Stuck {
        change_attribute("+i", &file);
        Stuck(file)
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        change_attribute("-i", &self.0);
    }
}

fn change_attribute(change: &str, file: &Path) {
    assert!(std::process::Command::new("chattr").arg(change).arg(file).status().unwrap().success());
}

/// A home that was put back to an earlier copy and has gone on from that, while its store has gone on otherwise.
fn put_back() -> World {
    let world = World::with_store();
    sent_and_stopped(&world);
    let earlier = world.home.with_extension("earlier");
    copy_dir(&world.home, &earlier);
    let (engine, _ledger, _) = world.start_on(Machine::real(), entries(), 1 << 30);
    world.app("database.sqlite").execute_batch("INSERT INTO t VALUES(20), (21)").unwrap();
    engine.sync();
    until("sent", || stored(&engine, NAME));
    engine.stop();

    std::fs::remove_dir_all(&world.home).unwrap();
    std::fs::rename(&earlier, &world.home).unwrap();
    let away = Away::take(&world);
    let (engine, _ledger, _) = world.start_on(Machine::real(), entries(), 1 << 30);
    world.app("database.sqlite").execute_batch("INSERT INTO t VALUES(30)").unwrap();
    engine.sync();
    engine.stop();
    away.bring_back();
    world
}

/// Its name is in the manifest as one that is to go.
// semantics: another-machine
#[test]
fn what_a_home_sends_in_the_place_of_what_it_gave_up_is_there_for_its_heir() {
    let world = put_back();
    let (engine, _ledger, _) = world.start_on(Machine::real(), entries(), 1 << 30);
    until("sent", || stored(&engine, NAME));
    drop(engine);
    let (world, engine, _ledger) = went_on(&world);
    assert_eq!(count(&world.app("database.sqlite")), 2);
    engine.stop();
}

// semantics: another-machine
#[test]
fn what_a_home_that_was_turned_back_gives_up_in_the_store_does_not_come_back_where_it_dies_half_way() {
    let world = put_back();
    let given_up = Stuck::make(sent_seals(&world, NAME).pop().unwrap());
    let (engine, ledger, told) = world.start_on(Machine::real(), entries(), 1 << 30);
    until("parted", || {
        told.lock().unwrap().iter().any(|line| line.contains("the store has other transactions"))
    });
    let failed = || {
        engine
            .databases()
            .iter()
            .any(|info| info.trouble.as_ref().is_some_and(|it| it.code == "store_failed"))
    };
    until("it cannot go", failed);
    engine.stop();
    drop((ledger, given_up));

    let (world, engine, _ledger) = went_on(&world);
    assert_eq!(count(&world.app("database.sqlite")), 1, "neither what was given up nor what was never sent");
    engine.stop();
}

fn copy_dir(from: &Path, to: &Path) {
    assert!(std::process::Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}
