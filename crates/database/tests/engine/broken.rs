//! A file of history that was damaged before the store had it: nothing that comes later depends on it.

use super::lost::{Away, check_point, entries, sent_row, stored, went_on};
use super::*;
use base::Incarnation;
use database::history::local_base;

/// The local seals of a history.
fn local_seals(history: &Path) -> Vec<PathBuf> {
    let seals = std::fs::read_dir(history.join("ltx/0")).unwrap().map(|entry| entry.unwrap().path());
    let mut seals: Vec<PathBuf> =
        seals.filter(|path| path.extension().is_some_and(|ext| ext == "ltx")).collect();
    seals.sort();
    seals
}

fn flip(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 0x10;
    std::fs::write(file, bytes).unwrap();
}

#[test]
fn a_seal_that_was_damaged_before_it_was_sent_begins_another_incarnation() {
    let world = World::with_store();
    let (engine, _ledger, told) = world.start_on(Machine::real(), entries(), 1 << 30);
    let app = sent_row(&world, &engine);
    let info = || engine.databases().into_iter().find(|info| info.path == path(NAME)).unwrap();

    let away = Away::take(&world);
    app.execute_batch("INSERT INTO t VALUES(2)").unwrap();
    engine.sync();
    let damaged = local_seals(Path::new(&info().history)).pop().unwrap();
    flip(&damaged);
    app.execute_batch("INSERT INTO t VALUES(3)").unwrap();
    engine.sync();
    away.bring_back();
    until("followed anew", || info().position.is_some_and(|at| at.incarnation.0 == 2));
    until("sent", || stored(&engine, NAME));
    let named = damaged.file_name().unwrap().to_str().unwrap();
    let told =
        told.lock().unwrap().iter().any(|line| line.contains("cannot be continued") && line.contains(named));
    assert!(told, "the damaged file is named");
    assert_eq!(info().trouble.map(|trouble| trouble.code), Some("history_damaged"));
    app.execute_batch("INSERT INTO t VALUES(4)").unwrap();
    engine.sync();
    until("sent", || stored(&engine, NAME));
    drop(app);
    engine.stop();

    let (world, engine, _ledger) = went_on(&world);
    assert_eq!(count(&world.app("database.sqlite")), 4);
    engine.stop();
}

#[test]
fn a_ledger_whose_seal_was_damaged_before_it_was_sent_is_sent_whole() {
    let world = World::with_store();
    let (engine, ledger, _) = world.start_on(Machine::real(), entries(), 1 << 30);
    let app = sent_row(&world, &engine);
    drop(app);
    let history = local_base(&world.home.join(".stead/ledger.sqlite"), Incarnation(1));
    let before = local_seals(&history).pop();
    let away = Away::take(&world);
    check_point(&engine, &ledger, "first");
    engine.stop();
    drop(ledger);
    let sealed = local_seals(&history).pop();
    assert!(sealed > before, "a stop seals the ledger");
    flip(&sealed.unwrap());
    away.bring_back();
    let (engine, ledger, _) = world.start_on(Machine::real(), entries(), 1 << 30);
    until("sent", || stored(&engine, NAME));
    check_point(&engine, &ledger, "second");
    engine.stop();
    drop(ledger);

    let (_world, engine, ledger) = went_on(&world);
    for id in ["first", "second"] {
        assert!(ledger.checkpoint(id).unwrap().is_some(), "{id}");
    }
    engine.stop();
}

#[test]
fn a_store_is_not_let_go_whose_last_seal_was_damaged_before_it_was_sent() {
    let world = World::with_store();
    let (engine, ledger, _) = world.start_on(Machine::real(), entries(), 1 << 30);
    let app = sent_row(&world, &engine);
    let history = engine.databases().into_iter().find(|info| info.path == path(NAME)).unwrap().history;
    let away = Away::take(&world);
    app.execute_batch("INSERT INTO t VALUES(2)").unwrap();
    engine.sync();
    drop(app);
    flip(&local_seals(Path::new(&history)).pop().unwrap());
    away.bring_back();
    engine.stop();
    drop(ledger);
    let store = settings_of(world.store.as_ref().unwrap(), world.id, Claim::Own);
    let (manifest, _) = database::bucket::read(&*store.objects).unwrap().unwrap();
    assert!(!manifest.released, "it lacks the last row");
}
