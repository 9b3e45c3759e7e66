//! A store that is not the one that a home had, and one that was taken over while nothing was sent there.

use super::lost::{another, entries, taken_over};
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
    let (engine, _ledger, told) = stepped_with(world, clock, Retention::default());
    (engine, told)
}

/// The same that keeps so much of history.
pub(super) fn stepped_with(
    world: &World,
    clock: &SimClock,
    retention: Retention,
) -> (Engine, Arc<Ledger>, Told) {
    let machine = Machine { clock: Arc::new(clock.clone()), ..Machine::real() };
    let ledger = Arc::new(Ledger::open(&world.home.join(".stead/ledger.sqlite"), None).unwrap());
    let told = Told::default();
    let notices = Arc::clone(&told);
    let notify = move |notice: Notice| notices.lock().unwrap().push(format!("{notice:?}"));
    let entries = vec![Entry::File { path: path(NAME), schema: None }];
    let settings = Settings { retention, ..world.settings(machine, entries) };
    (Engine::stepped(settings, Arc::clone(&ledger), Arc::new(notify)).unwrap(), ledger, told)
}

/// Lets time pass, and the engine do what is due; when something is due next.
pub(super) fn rest(engine: &Engine, clock: &SimClock, limit: Duration) -> Option<Duration> {
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

/// A node that sends, its store, and what it was told.
struct Sending {
    world: World,
    clock: SimClock,
    engine: Engine,
    told: Told,
    app: Connection,
}

impl Sending {
    fn start() -> Sending {
        let world = World::with_store();
        let clock = SimClock::new(base::Timestamp(1_795_255_200_000));
        let (engine, told) = stepped(&world, &clock);
        let app = world.app("database.sqlite");
        app.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x)").unwrap();
        let sending = Sending { world, clock, engine, told, app };
        sending.commit(3);
        assert!(stored(&sending.engine));
        sending
    }

    /// A row every 5 s.
    fn commit(&self, rows: usize) {
        for _ in 0..rows {
            self.app.execute("INSERT INTO t VALUES(1)", ()).unwrap();
            self.engine.sync();
            rest(&self.engine, &self.clock, Duration::from_secs(5));
        }
    }

    fn store(&self) -> &Path {
        self.world.store.as_ref().unwrap()
    }

    fn was_told(&self, what: &str) -> bool {
        self.told.lock().unwrap().iter().any(|line| line.contains("StoreAway") && line.contains(what))
    }
}

#[test]
fn what_befalls_a_store_under_a_node_that_sends_is_told_within_a_minute_and_ends_when_it_is_mended() {
    for (harm, told) in [
        ("emptied", "manifest is missing"),
        ("manifest damaged", "manifest: it is"),
        ("manifest gone", "manifest is missing"),
        ("an older one in its place", "is at epoch 0"),
    ] {
        let sending = Sending::start();
        let (store, manifest) = (sending.store(), sending.store().join(store::MANIFEST_KEY));
        let kept = sending.world.home.join("kept");
        std::fs::create_dir(&kept).unwrap();
        copy_all(store, &kept);
        match harm {
            "emptied" => {
                for entry in std::fs::read_dir(store).unwrap() {
                    std::fs::remove_dir_all(entry.unwrap().path()).unwrap();
                }
            }
            "manifest gone" => std::fs::remove_file(&manifest).unwrap(),
            "manifest damaged" => std::fs::write(&manifest, b"damaged").unwrap(),
            _ => {
                let mut older = store::Manifest::decode(&std::fs::read(&manifest).unwrap()).unwrap();
                (older.epoch, older.run) = (base::Epoch(0), 1);
                std::fs::write(&manifest, older.encode()).unwrap();
            }
        }
        sending.commit(13);
        assert!(sending.was_told(""), "{harm}: {:?}", sending.told.lock().unwrap());
        let why = away(&sending.engine).unwrap_or_else(|| panic!("{harm}"));
        assert!(why.contains(told), "{harm}: {why}");
        assert!(!stored(&sending.engine), "{harm}");
        copy_all(&kept, store);
        sending.commit(2);
        assert!(matches!(sending.engine.store().unwrap().state, StoreState::Held), "{harm}");
        assert!(stored(&sending.engine), "{harm}");
        sending.engine.stop();
        let heir = another(&sending.world);
        taken_over(&heir);
        let (engine, _ledger, _) = heir.start_on(Machine::real(), entries(), 1 << 30);
        assert_eq!(count(&heir.app("database.sqlite")), 18, "{harm}");
        engine.stop();
    }
}

#[test]
fn a_home_that_has_had_its_store_starts_while_the_manifest_is_damaged() {
    let sending = Sending::start();
    let Sending { world, clock, engine, app, .. } = sending;
    engine.stop();
    let manifest = world.store.as_ref().unwrap().join(store::MANIFEST_KEY);
    let good = std::fs::read(&manifest).unwrap();
    std::fs::write(&manifest, b"damaged").unwrap();
    let (engine, _told) = stepped(&world, &clock);
    app.execute("INSERT INTO t VALUES(1)", ()).unwrap();
    engine.sync();
    rest(&engine, &clock, Duration::from_secs(10));
    assert!(away(&engine).is_some_and(|why| why.contains("manifest: it is")), "{:?}", engine.store());
    std::fs::write(&manifest, good).unwrap();
    rest(&engine, &clock, Duration::from_secs(10));
    assert!(stored(&engine));
    engine.stop();
}

#[test]
fn a_former_version_of_the_manifest_is_an_older_store_until_a_restart() {
    let sending = Sending::start();
    let manifest = sending.store().join(store::MANIFEST_KEY);
    let former = std::fs::read(&manifest).unwrap();
    let sequence = || store::Manifest::decode(&std::fs::read(&manifest).unwrap()).unwrap().sequence;
    let before = sequence();
    sending.commit(100);
    let newest = std::fs::read(&manifest).unwrap();
    assert!(sequence() > before, "seals are merged, and listed");
    std::fs::write(&manifest, &former).unwrap();
    sending.commit(20);
    let why = away(&sending.engine).unwrap();
    assert!(why.contains("is an older version"), "{why}");
    assert_eq!(std::fs::read(&manifest).unwrap(), former, "what else is older is not known");
    std::fs::write(&manifest, newest).unwrap();
    sending.commit(1);
    assert!(stored(&sending.engine) && away(&sending.engine).is_none());
    std::fs::write(&manifest, &former).unwrap();
    sending.commit(20);
    let Sending { world, clock, engine, .. } = sending;
    engine.stop();
    let (engine, _told) = stepped(&world, &clock);
    rest(&engine, &clock, Duration::from_secs(60));
    assert!(stored(&engine));
    engine.stop();
    let heir = another(&world);
    taken_over(&heir);
    let (engine, _ledger, _) = heir.start_on(Machine::real(), entries(), 1 << 30);
    assert_eq!(count(&heir.app("database.sqlite")), 144);
    engine.stop();
}

#[test]
fn a_directory_that_was_mounted_anew_is_gone_on_with() {
    let sending = Sending::start();
    let away = sending.store().with_extension("away");
    std::fs::rename(sending.store(), &away).unwrap();
    std::fs::create_dir(sending.store()).unwrap();
    sending.commit(2);
    assert!(sending.was_told("Gone"), "{:?}", sending.told.lock().unwrap());
    assert_eq!(std::fs::read_dir(sending.store()).unwrap().count(), 0, "nothing is written beside the mount");
    // The same contents, another directory.
    copy_all(&away, sending.store());
    sending.commit(2);
    assert!(matches!(sending.engine.store().unwrap().state, StoreState::Held));
    assert!(stored(&sending.engine));
    sending.engine.stop();
}

fn copy_all(from: &Path, to: &Path) {
    let from = from.join(".");
    assert!(std::process::Command::new("cp").arg("-a").args([&from, to]).status().unwrap().success());
}
