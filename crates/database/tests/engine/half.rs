//! A home that lost its ledger, with databases that are still there, and a store that has them at no common moment.

use super::lost::{OTHER, entries, put_in_the_way, sent_seals, stored, taken_over, two_sent};
use super::*;
use database::engine::LEDGER_PATH;

/// A home that died with a store that has a row more of one database than at the last moment of both, and that lost its
/// `.stead` and its histories.
fn without_ledger() -> World {
    let world = World::with_store();
    let (engine, _ledger, _) = world.start_on(Machine::real(), entries(), 1 << 30);
    let [first, second] = two_sent(&world, &engine);
    let in_the_way = put_in_the_way(&world, OTHER);
    for app in [&first, &second] {
        app.execute_batch("INSERT INTO t VALUES(2)").unwrap();
    }
    let cut = engine.cut(LIMIT).unwrap();
    let last = |name: &str| sent_seals(&world, name).pop().unwrap();
    let name_of = |txid: base::Txid| format!("{:016x}-{:016x}.ltx", txid.0, txid.0);
    until("the first is sent", || last(NAME).ends_with(name_of(cut.vector[&path(NAME)].txid)));
    drop((first, second, engine));
    std::fs::remove_file(&in_the_way).unwrap();
    std::fs::remove_dir_all(world.home.join(".stead")).unwrap();
    std::fs::create_dir(world.home.join(".stead")).unwrap();
    for name in [NAME, OTHER] {
        std::fs::remove_dir_all(world.home.join(format!("{name}-litestream"))).unwrap();
    }
    world
}

// semantics: half-a-home
#[test]
fn databases_that_are_still_there_are_not_turned_back_to_a_moment_of_the_store() {
    let world = without_ledger();
    let found = taken_over(&world);
    assert!(found.ledger && !found.apart, "{found:?}");
    let (engine, _ledger, _) = world.start_on(Machine::real(), entries(), 1 << 30);
    assert_eq!((count(&world.app("database.sqlite")), count(&world.app("other.db"))), (4, 4));
    until("all of it is sent", || stored(&engine, NAME) && stored(&engine, OTHER));
    verify(&engine, NAME);
    verify(&engine, OTHER);
    engine.stop();
}

// semantics: half-a-home
#[test]
fn a_database_that_only_the_home_has_stays_while_the_others_come_back_from_the_store() {
    let world = without_ledger();
    remove(&world.home.join(NAME));
    remove(&world.home.join(OTHER));
    for (name, mode) in [("third.db", "WAL"), ("fourth.db", "DELETE")] {
        let app = world.app(name);
        app.pragma_update(None, "journal_mode", mode).unwrap();
        app.execute_batch("CREATE TABLE t(x); INSERT INTO t VALUES(1), (2)").unwrap();
    }
    let found = taken_over(&world);
    assert!(found.ledger && !found.apart, "{found:?}");
    let (engine, _ledger, _) = world.start_on(Machine::real(), entries(), 1 << 30);
    assert_eq!((count(&world.app("database.sqlite")), count(&world.app("other.db"))), (3, 3));
    assert_eq!((count(&world.app("third.db")), count(&world.app("fourth.db"))), (2, 2));
    let all = [NAME, OTHER, "data/third.db", "data/fourth.db"];
    until("all of it is sent", || all.iter().all(|name| stored(&engine, name)));
    engine.stop();
}

/// The ledger that the store has names a file of which nothing was sent, and lacks the one that has lived there since.
// semantics: another-machine
#[test]
fn a_file_comes_back_that_the_ledger_of_the_store_takes_for_its_predecessor() {
    let world = World::with_store();
    let objects = settings_of(world.store.as_ref().unwrap(), world.id, Claim::Own).objects;
    let manifest = || database::bucket::read(&*objects).unwrap().unwrap();
    let mut earlier = None;
    for text in ["first", "second"] {
        let (engine, _ledger, _) = world.start_on(Machine::real(), entries(), 1 << 30);
        remove(&world.home.join(OTHER));
        until("gone", || !followed(&engine, OTHER));
        let app = world.app("other.db");
        app.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x)").unwrap();
        app.execute("INSERT INTO t VALUES(?)", [text]).unwrap();
        until("followed", || followed(&engine, OTHER));
        drop(app);
        engine.stop();
        earlier.get_or_insert_with(|| {
            (manifest().0.histories[LEDGER_PATH].clone(), sent_seals(&world, LEDGER_PATH))
        });
    }
    let (ledger, seals) = earlier.unwrap();
    let (mut now, tag) = manifest();
    now.histories.insert(LEDGER_PATH.to_owned(), ledger);
    now.histories.remove(OTHER).unwrap();
    let key = store::Key::new(store::MANIFEST_KEY);
    let written = objects.replace(&key, &now.encode(), &tag).unwrap();
    assert!(matches!(written, store::Outcome::Won(_)));
    let later = |seal: &&PathBuf| !seals.contains(seal);
    sent_seals(&world, LEDGER_PATH).iter().filter(later).for_each(|seal| std::fs::remove_file(seal).unwrap());

    let heir = super::lost::another(&world);
    let found = taken_over(&heir);
    assert_eq!(found.databases[&path(OTHER)].incarnation.0, 2, "{found:?}");
    let (engine, _ledger, _) = heir.start_on(Machine::real(), entries(), 1 << 30);
    let app = heir.app("other.db");
    let text: String = app.query_row("SELECT x FROM t", [], |row| row.get(0)).unwrap();
    assert_eq!(text, "second");
    engine.stop();
}

/// The home has a good copy of what is damaged at the end of what the store lists.
// semantics: half-a-home
#[test]
fn a_home_that_lost_its_ledger_mends_the_end_of_its_store() {
    for harm in ["gone", "truncated", "flipped"] {
        let world = World::with_store();
        let (engine, _ledger, _) = world.start_on(Machine::real(), entries(), 1 << 30);
        drop(super::lost::sent_row(&world, &engine));
        engine.stop();
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(world.home.join(format!("{LEDGER_PATH}{suffix}")));
        }
        let last = sent_seals(&world, NAME).pop().unwrap();
        let mut bytes = std::fs::read(&last).unwrap();
        let half = bytes.len() / 2;
        match harm {
            "gone" => std::fs::remove_file(&last).unwrap(),
            "truncated" => std::fs::write(&last, &bytes[..half]).unwrap(),
            _ => {
                bytes[half] ^= 0x10;
                std::fs::write(&last, bytes).unwrap();
            }
        }
        let found = taken_over(&world);
        assert!(found.lost.is_empty(), "{harm}: {found:?}");
        let (heir, engine, _ledger) = super::lost::went_on(&world);
        verify(&engine, NAME);
        assert_eq!(count(&heir.app("database.sqlite")), 1, "{harm}");
        engine.stop();
    }
}

/// The ledger of the store says that a restore is under way: it was done where the databases went on after it.
// semantics: another-machine
#[test]
fn a_restore_that_was_done_is_not_carried_out_anew_on_another_machine() {
    let world = World::with_store();
    let (engine, _ledger, _) = world.start_on(Machine::real(), entries(), 1 << 30);
    let app = super::lost::sent_row(&world, &engine);
    let first = engine.cut(LIMIT).unwrap().vector;
    app.execute_batch("INSERT INTO t VALUES(2)").unwrap();
    let second = engine.cut(LIMIT).unwrap().vector;
    app.execute_batch("INSERT INTO t VALUES(3)").unwrap();
    drop(app);
    engine.stop();

    let heir = super::lost::another(&world);
    for (was_done, rows) in [(true, 3), (false, 1)] {
        let found = taken_over(&heir);
        let ledger = Ledger::open(&heir.home.join(LEDGER_PATH), None).unwrap();
        let undo = if was_done { second.clone() } else { found.databases };
        ledger.begin_intent(base::Timestamp(1), "first", &undo, &first).unwrap();
        drop(ledger);
        taken_over(&heir);
        let (engine, ledger, _) = heir.start_on(Machine::real(), entries(), 1 << 30);
        assert_eq!(count(&heir.app("database.sqlite")), rows);
        assert!(ledger.open_intent().unwrap().is_none());
        engine.stop();
    }
}
