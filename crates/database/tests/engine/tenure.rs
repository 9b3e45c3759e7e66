//! A store that is not the one that a home had, and one that was taken over while nothing was sent there.

use super::*;
use base::sim::SimClock;
use database::engine::{LAST_STORE, OWNER_LOOK_EVERY, StoreState};
use database::recover::recover;

/// What is wrong with the store, if anything is.
fn away(engine: &Engine) -> Option<String> {
    match engine.store().unwrap().state {
        StoreState::Away { error, .. } => Some(error.to_string()),
        StoreState::Held | StoreState::Refused { .. } => None,
    }
}

fn stored(engine: &Engine) -> bool {
    let found = engine.databases().into_iter().find(|info| info.path == path(NAME));
    found.is_some_and(|info| {
        info.position.is_some()
            && info.stored_txid == info.position.map(|at| at.txid)
            && followed(engine, NAME)
    })
}

/// A home with rows in a store, stopped.
fn begun(rows: usize) -> (World, Connection) {
    let world = World::with_store();
    let app = write(&world, rows);
    (world, app)
}

/// A run of the engine that sends so many further rows.
fn write(world: &World, rows: usize) -> Connection {
    let engine = world.start();
    let app = world.app("database.sqlite");
    app.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE IF NOT EXISTS t(x)").unwrap();
    until("followed", || followed(&engine, NAME));
    for _ in 0..rows {
        app.execute("INSERT INTO t VALUES(1)", ()).unwrap();
    }
    engine.sync();
    until("sent", || stored(&engine));
    engine.stop();
    app
}

fn files(dir: &Path) -> usize {
    std::fs::read_dir(dir).unwrap().count()
}

// semantics: store-is-the-same
#[test]
fn an_empty_store_is_not_begun_anew_and_goes_on_when_it_is_back() {
    let (world, app) = begun(3);
    let store = world.store.clone().unwrap();
    let unmounted = store.with_extension("unmounted");
    std::fs::rename(&store, &unmounted).unwrap();
    std::fs::create_dir(&store).unwrap();

    let engine = world.start();
    let told = away(&engine).unwrap();
    assert!(told.contains("has no .stead/manifest, and this node had it last under epoch 1"), "{told}");
    until("followed", || followed(&engine, NAME));
    app.execute("INSERT INTO t VALUES(2)", ()).unwrap();
    engine.sync();
    assert_eq!(files(&store), 0, "nothing is begun there");

    std::fs::remove_dir(&store).unwrap();
    std::fs::rename(&unmounted, &store).unwrap();
    until("it is back", || away(&engine).is_none() && stored(&engine));
    let info = engine.store().unwrap();
    assert_eq!((info.outages, info.epoch), (1, Some(Epoch(2))));
    engine.stop();
    drop(app);
    let heir = World { store: world.store.clone(), id: 8, ..World::new() };
    let settings = settings_of(heir.store.as_ref().unwrap(), heir.id, Claim::TakeOver);
    recover(&heir.home, &settings, &Machine::real()).unwrap();
    let engine = heir.start();
    assert_eq!(count(&heir.app("database.sqlite")), 4);
    engine.stop();
}

#[test]
fn a_store_that_was_put_back_to_an_older_state_is_not_gone_on_with() {
    let (world, app) = begun(1);
    let store = world.store.clone().unwrap();
    let older = store.with_extension("older");
    std::process::Command::new("cp").arg("-a").arg(&store).arg(&older).status().unwrap();
    drop((write(&world, 1), app));
    std::fs::remove_dir_all(&store).unwrap();
    std::fs::rename(&older, &store).unwrap();
    let engine = world.start();
    let told = away(&engine).unwrap();
    assert!(told.contains("is at epoch 1, and this node had it last under epoch 2"), "{told}");
    engine.stop();
}

#[test]
fn a_new_store_is_begun_where_that_is_wanted() {
    let (mut world, app) = begun(3);
    let store = world.store.clone().unwrap();
    std::fs::remove_dir_all(&store).unwrap();
    std::fs::create_dir(&store).unwrap();
    std::fs::remove_file(world.home.join(LAST_STORE)).unwrap();
    let engine = world.start();
    until("all of it is sent", || stored(&engine));
    engine.stop();

    let other = store.with_extension("other");
    std::fs::create_dir(&other).unwrap();
    world.store = Some(other);
    let engine = world.start();
    until("another one is nobody's yet", || stored(&engine));
    let info = engine.store().unwrap();
    assert_eq!(info.epoch, Some(Epoch(2)), "above every right that the seals of the home have");
    engine.stop();
    assert_eq!(count(&app), 3);
}

/// An engine without threads, and what it says.
fn stepped(world: &World, clock: &SimClock) -> (Engine, Told) {
    let machine = Machine { clock: Arc::new(clock.clone()), ..Machine::real() };
    let ledger = Arc::new(Ledger::open(&world.home.join(".stead/ledger.sqlite"), None).unwrap());
    let told = Told::default();
    let notices = Arc::clone(&told);
    let notify = move |notice: Notice| notices.lock().unwrap().push(format!("{notice:?}"));
    let entries = vec![Entry::File { path: path(NAME), schema: None }];
    (Engine::stepped(world.settings(machine, entries), ledger, Arc::new(notify)).unwrap(), told)
}

/// Lets time pass, and the engine do what is due; when something is due next.
fn rest(engine: &Engine, clock: &SimClock, limit: Duration) -> Option<Duration> {
    let until = base::Clock::boottime(clock) + limit;
    loop {
        let now = base::Clock::boottime(clock);
        match engine.step() {
            Ok(()) => {}
            Err(Some(wait)) if now + wait <= until => clock.advance(wait),
            Err(wait) => {
                clock.advance(until - now);
                return wait;
            }
        }
    }
}

/// The end that its successor has put there stays when history is merged: its name is that of the next seal.
// semantics: taken-over
#[test]
fn whoever_was_idle_calls_nothing_stored_after_its_history_was_ended() {
    let world = World::with_store();
    let clock = SimClock::new(base::Timestamp(1_795_255_200_000));
    let (engine, told) = stepped(&world, &clock);
    let app = world.app("database.sqlite");
    app.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x)").unwrap();
    let commit = |engine: &Engine, app: &Connection| {
        app.execute("INSERT INTO t VALUES(1)", ()).unwrap();
        engine.sync();
        rest(engine, &clock, Duration::from_secs(5));
    };
    (0..5).for_each(|_| commit(&engine, &app));
    assert!(stored(&engine));

    let heir = World { store: world.store.clone(), id: 8, ..World::new() };
    let settings = settings_of(heir.store.as_ref().unwrap(), heir.id, Claim::TakeOver);
    let machine = Machine { clock: Arc::new(clock.clone()), ..Machine::real() };
    recover(&heir.home, &settings, &machine).unwrap();
    let end = engine.databases()[0].position.unwrap().txid.next();
    let end =
        heir.store.as_ref().unwrap().join(NAME).join(format!("ltx/0/{:016x}-{:016x}.ltx", end.0, end.0));
    assert!(end.exists());
    let (their_engine, _told) = stepped(&heir, &clock);
    let their_app = heir.app("database.sqlite");
    let seals = |world: &World| files(&world.store.as_ref().unwrap().join(NAME).join("ltx/0"));
    commit(&their_engine, &their_app);
    let before = seals(&heir);
    (0..200).for_each(|_| commit(&their_engine, &their_app));
    assert!(seals(&heir) < before + 200, "seals are merged, and go");
    assert!(end.exists());

    assert!(told.lock().unwrap().iter().all(|line| !line.contains("StoreRefused")));
    commit(&engine, &app);
    assert!(!stored(&engine));
    let told = told.lock().unwrap().clone();
    assert!(told.iter().any(|line| line.contains("StoreRefused") && line.contains("node-8")), "{told:?}");
}

// semantics: taken-over-idle
#[test]
fn whoever_sends_nothing_asks_now_and_then_whose_the_store_is() {
    let world = World::with_store();
    let clock = SimClock::new(base::Timestamp(1_795_255_200_000));
    let (engine, told) = stepped(&world, &clock);
    let rest = |limit| rest(&engine, &clock, limit);
    let next = rest(OWNER_LOOK_EVERY / 2);
    assert!(next.is_some_and(|wait| wait <= OWNER_LOOK_EVERY), "{next:?}");

    let heir = World { store: world.store.clone(), id: 8, ..World::new() };
    let settings = settings_of(heir.store.as_ref().unwrap(), heir.id, Claim::TakeOver);
    recover(&heir.home, &settings, &Machine::real()).unwrap();
    assert!(told.lock().unwrap().iter().all(|line| !line.contains("StoreRefused")));
    rest(OWNER_LOOK_EVERY);
    let told = told.lock().unwrap().clone();
    assert!(told.iter().any(|line| line.contains("StoreRefused") && line.contains("node-8")), "{told:?}");
    assert!(matches!(engine.store().unwrap().state, StoreState::Refused { .. }));
}

#[test]
fn a_file_that_came_just_before_a_clean_stop_is_in_the_store_after_it() {
    let world = World::with_store();
    let (engine, _ledger, _) = world.start_on(Machine::real(), super::lost::entries(), 1 << 30);
    world
        .app("other.db")
        .execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1)")
        .unwrap();
    engine.stop();
    let store = settings_of(world.store.as_ref().unwrap(), world.id, Claim::Own);
    let (manifest, _) = database::bucket::read(&*store.objects).unwrap().unwrap();
    assert!(manifest.released && manifest.histories.keys().any(|key| key.starts_with("data/other.db")));
}

#[test]
fn a_store_that_is_emptied_under_a_node_that_sends_is_told_within_a_minute() {
    let world = World::with_store();
    let clock = SimClock::new(base::Timestamp(1_795_255_200_000));
    let (engine, told) = stepped(&world, &clock);
    let app = world.app("database.sqlite");
    app.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x)").unwrap();
    let commit = || {
        app.execute("INSERT INTO t VALUES(1)", ()).unwrap();
        engine.sync();
        rest(&engine, &clock, Duration::from_secs(5));
    };
    (0..3).for_each(|_| commit());
    assert!(stored(&engine));
    for entry in std::fs::read_dir(world.store.as_ref().unwrap()).unwrap() {
        std::fs::remove_dir_all(entry.unwrap().path()).unwrap();
    }
    (0..13).for_each(|_| commit());
    let told = told.lock().unwrap().clone();
    assert!(told.iter().any(|line| line.contains("StoreRefused") && line.contains("Missing")), "{told:?}");
    let info = &engine.databases()[0];
    assert!(info.trouble.is_none(), "nothing is promised for it: {:?}", info.trouble);
}
