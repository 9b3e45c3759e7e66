//! Turns that something gets in the way of: a process that comes late, damage, a store that is away.

use super::*;
use base::{Clock, Disk, DiskFile, LocalDisk, Open, SystemClock, disk};
use database::machine::{Kernel, Locks};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const LATE: &str = "data/late.db";

/// A kernel that shows a stranger with the file open from the given look on.
#[derive(Debug)]
struct LateComer {
    real: Machine,
    looks: AtomicUsize,
    comes_at: usize,
}

impl Kernel for LateComer {
    fn locks(&self, database: &Path) -> io::Result<Box<dyn Locks>> {
        self.real.kernel.locks(database)
    }

    fn boot_id(&self) -> String {
        self.real.kernel.boot_id()
    }

    fn openers(&self, path: &Path) -> Vec<u32> {
        let look = self.looks.fetch_add(usize::from(path.ends_with("late.db")), Ordering::SeqCst);
        if path.ends_with("late.db") && look >= self.comes_at { vec![4242] } else { Vec::new() }
    }
}

// semantics: held-refused
#[test]
fn a_file_that_somebody_opens_while_the_turn_is_prepared_is_not_swapped() {
    let world = World::new();
    let engine = world.start();
    let app = world.app("database.sqlite");
    app.execute_batch("CREATE TABLE t(x); INSERT INTO t VALUES(1)").unwrap();
    until("joined", || followed(&engine, NAME));
    let before = engine.cut(LIMIT).unwrap();
    engine.stop();

    let real = Machine::real();
    let kernel = LateComer { real: real.clone(), looks: AtomicUsize::new(0), comes_at: 1 };
    let machine = Machine { kernel: Arc::new(kernel), ..real };
    let (engine, ledger, _) = world.start_on(machine, entries(), 1 << 30);
    let late = world.app("late.db");
    late.execute_batch("CREATE TABLE t(x); INSERT INTO t VALUES(7)").unwrap();
    until("joined", || followed(&engine, LATE));
    let refused = engine.turn_back("before", &before.vector, LIMIT, &mut |_| {}).unwrap_err();
    assert!(refused.to_string().contains("4242"), "{refused}");
    assert_eq!(engine.unfinished(), None);
    assert_eq!(count(&late), 1, "what it wrote is there");
    assert!(ledger.current(&path(LATE)).unwrap().is_some_and(|known| !known.deleted));
    late.execute_batch("INSERT INTO t VALUES(8)").unwrap();
    engine.cut(LIMIT).unwrap();
    verify(&engine, LATE);
    engine.stop();
}

fn entries() -> Vec<Entry> {
    vec![
        Entry::File { path: path(NAME), schema: None },
        Entry::Pattern { dir: "data".into(), pattern: "**/*.db".into() },
    ]
}

/// The newest file of a level of the default database's history.
fn newest_ltx(world: &World, level: u32) -> PathBuf {
    let dir = world.home.join(format!("{NAME}-litestream/ltx/{level}"));
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    names.max().unwrap()
}

fn cut_in_half(file: &Path) {
    let bytes = std::fs::read(file).unwrap();
    std::fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
}

#[test]
fn damage_after_the_target_does_not_refuse_it() {
    let (world, engine, _, first) = cut_of_one();
    let app = world.app("database.sqlite");
    app.execute_batch("CREATE TABLE z(x); INSERT INTO t VALUES(2)").unwrap();
    engine.cut(LIMIT).unwrap();
    cut_in_half(&newest_ltx(&world, 0));

    assert_eq!(engine.validate(&first.vector).unwrap()[0].kind, ChangeKind::TurnedBack);
    engine.turn_back("first", &first.vector, LIMIT, &mut |_| {}).unwrap();
    assert_eq!(count(&app), 1);
    let tables: i64 = app.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).unwrap();
    assert_eq!(tables, 1);
    engine.stop();
}

#[test]
fn damage_after_the_target_does_not_keep_a_deleted_database_from_coming_back() {
    let (world, engine, file, first) = cut_of_one();
    let app = world.app("database.sqlite");
    app.execute_batch("CREATE TABLE z(x)").unwrap();
    engine.cut(LIMIT).unwrap();
    let had: i64 = app.query_row("PRAGMA schema_version", [], |row| row.get(0)).unwrap();
    drop(app);
    remove(&file);
    until("lost", || !followed(&engine, NAME));
    cut_in_half(&newest_ltx(&world, 0));

    engine.turn_back("first", &first.vector, LIMIT, &mut |_| {}).unwrap();
    let app = world.app("database.sqlite");
    assert_eq!(count(&app), 1);
    let now: i64 = app.query_row("PRAGMA schema_version", [], |row| row.get(0)).unwrap();
    assert!(now > had, "{now} after {had}");
    engine.stop();
}

/// A disk that keeps one thread waiting before it reads history.
#[derive(Debug, Default)]
struct Gate {
    closed: AtomicBool,
    waiting: AtomicBool,
    /// A database that goes as soon as somebody has seen that it is there.
    goes: Mutex<Option<PathBuf>>,
}

impl Disk for Gate {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>> {
        let waits = std::thread::current().name() == Some("waits");
        while waits && path.extension().is_some_and(|it| it == "ltx") && self.closed.load(Ordering::SeqCst) {
            self.waiting.store(true, Ordering::SeqCst);
            SystemClock.sleep(Duration::from_millis(1));
        }
        LocalDisk.open(path, how)
    }

    fn metadata(&self, path: &Path) -> io::Result<disk::Metadata> {
        let found = LocalDisk.metadata(path);
        if let Some(file) = self.goes.lock().unwrap().take_if(|file| file == path) {
            remove(&file);
        }
        found
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<disk::Entry>> {
        LocalDisk.read_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        LocalDisk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        LocalDisk.remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        LocalDisk.remove_dir(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        LocalDisk.create_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        LocalDisk.sync_dir(path)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        LocalDisk.free_bytes(path)
    }
}

#[test]
fn capture_goes_on_while_a_restore_is_validated() {
    let world = World::new();
    let gate = Arc::new(Gate::default());
    let machine = Machine { disk: gate.clone(), ..Machine::real() };
    let engine = world.start_on(machine, entries(), 1 << 30).0;
    let app = world.app("database.sqlite");
    app.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1)").unwrap();
    until("joined", || followed(&engine, NAME));
    let first = engine.cut(LIMIT).unwrap();
    app.execute_batch("INSERT INTO t VALUES(2)").unwrap();
    engine.cut(LIMIT).unwrap();

    gate.closed.store(true, Ordering::SeqCst);
    let changes = std::thread::scope(|scope| {
        let validating = std::thread::Builder::new().name("waits".into());
        let validating = validating.spawn_scoped(scope, || engine.validate(&first.vector)).unwrap();
        until("reads history", || gate.waiting.load(Ordering::SeqCst));
        app.execute_batch("INSERT INTO t VALUES(3)").unwrap();
        let later = engine.cut(LIMIT).map(|cut| cut.vector[&path(NAME)].txid);
        gate.closed.store(false, Ordering::SeqCst);
        assert!(later.unwrap() > first.vector[&path(NAME)].txid);
        validating.join().unwrap().unwrap()
    });
    assert_eq!(changes[0].kind, ChangeKind::TurnedBack);
    engine.stop();
}

/// Its log goes with it: nothing was written, moved or removed under it by something other than SQLite.
#[test]
fn a_file_that_goes_while_it_is_looked_at_is_deleted() {
    let world = World::new();
    let gate = Arc::new(Gate::default());
    let machine = Machine { disk: gate.clone(), ..Machine::real() };
    let ledger = Arc::new(Ledger::open(&world.home.join(".stead/ledger.sqlite"), None).unwrap());
    std::fs::create_dir(world.home.join("data")).unwrap();
    let app = world.app("database.sqlite");
    app.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1)").unwrap();
    let engine =
        Engine::stepped(world.settings(machine, entries()), Arc::clone(&ledger), Arc::new(|_| {})).unwrap();
    until("joined", || engine.step().is_err() && followed(&engine, NAME));
    drop(app);
    *gate.goes.lock().unwrap() = Some(world.home.join(NAME));
    engine.files_changed();
    until("noticed", || engine.step().is_err() && !followed(&engine, NAME));
    assert!(ledger.current(&path(NAME)).unwrap().unwrap().deleted);
}

#[test]
fn a_restore_that_is_rolled_back_at_start_leaves_a_deleted_database_deleted() {
    const DEEP: &str = "data/deep/one.db";
    let world = World::new();
    std::fs::create_dir_all(world.home.join("data/deep")).unwrap();
    let (engine, ledger, _) = world.start_on(Machine::real(), entries(), 1 << 30);
    let app = world.app("deep/one.db");
    app.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1)").unwrap();
    until("joined", || followed(&engine, DEEP));
    let target = engine.cut(LIMIT).unwrap().vector;
    drop(app);
    std::fs::remove_file(world.home.join(DEEP)).unwrap();
    until("lost", || ledger.current(&path(DEEP)).unwrap().is_some_and(|known| known.deleted));
    let undo = engine.cut(LIMIT).unwrap().vector;
    assert!(!undo.contains_key(&path(DEEP)));
    engine.stop();

    // The crash; and the database can be written back, but not be followed.
    ledger.begin_intent(SystemClock.now(), "target", &undo, &target).unwrap();
    let state = world.home.join(".stead/databases/data/deep");
    std::fs::remove_dir_all(&state).unwrap();
    std::fs::write(&state, "in the way").unwrap();
    let (engine, ledger, _) = world.start_on(Machine::real(), entries(), 1 << 30);
    assert_eq!(engine.unfinished(), None, "it was rolled back");
    assert!(ledger.current(&path(DEEP)).unwrap().is_some_and(|known| known.deleted));
    assert!(!world.home.join(DEEP).exists());
    engine.stop();
}

#[test]
fn a_missing_database_comes_back_from_here_while_the_store_is_away() {
    let world = World::with_store();
    let file = world.home.join(NAME);
    let engine = world.start();
    let app = world.app("database.sqlite");
    app.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1)").unwrap();
    until("joined", || followed(&engine, NAME));
    let cut = engine.cut(LIMIT).unwrap();
    drop(app);
    engine.stop();
    remove(&file);
    let store = world.store.clone().unwrap();
    std::fs::rename(&store, store.with_extension("away")).unwrap();
    std::fs::write(&store, "no directory").unwrap();

    let engine = world.start();
    until("joined", || followed(&engine, NAME));
    assert_eq!(count(&world.app("database.sqlite")), 1);
    // Deleted, and brought back by a restore.
    remove(&file);
    until("lost", || !followed(&engine, NAME));
    engine.turn_back("there", &cut.vector, LIMIT, &mut |_| {}).unwrap();
    assert_eq!(count(&world.app("database.sqlite")), 1);
    engine.stop();
}
