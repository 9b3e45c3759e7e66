//! The engine on real files: follow, cut, turn back, start again.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is not as it must be")]
#![allow(clippy::disallowed_methods, reason = "a test reads and damages files as an outsider would")]

use base::{DatabasePath, Epoch, LocalDisk};
use database::engine::ChangeKind;
use database::history::Retention;
use database::ledger::Ledger;
use database::{Claim, Engine, Entry, Machine, Notice, Owner, Settings, StoreSettings};
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[path = "engine/broken.rs"]
mod broken;
#[path = "engine/displaced.rs"]
mod displaced;
#[path = "engine/doubt.rs"]
mod doubt;
#[path = "engine/half.rs"]
mod half;
#[path = "engine/hindered.rs"]
mod hindered;
#[path = "engine/loose.rs"]
mod loose;
#[path = "engine/lost.rs"]
mod lost;
#[path = "engine/older.rs"]
mod older;
#[path = "engine/outgrown.rs"]
mod outgrown;
#[path = "engine/outlived.rs"]
mod outlived;
#[path = "engine/restored.rs"]
mod restored;
#[path = "engine/tenure.rs"]
mod tenure;
#[path = "engine/turns.rs"]
mod turns;

/// What the engine said, in words.
type Told = Arc<Mutex<Vec<String>>>;

const LIMIT: Duration = Duration::from_millis(500);
/// The default database.
const NAME: &str = "data/database.sqlite";

struct World {
    _dir: tempfile::TempDir,
    home: PathBuf,
    store: Option<PathBuf>,
    /// Who the node is, for the store.
    id: u64,
}

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        std::fs::create_dir_all(home.join(".stead")).unwrap();
        World { _dir: dir, home, store: None, id: 7 }
    }

    fn with_store() -> World {
        let mut world = World::new();
        let store = world.home.parent().unwrap().join("store");
        std::fs::create_dir_all(&store).unwrap();
        world.store = Some(store);
        world
    }

    fn start(&self) -> Engine {
        self.start_with(vec![
            Entry::File { path: path("data/database.sqlite"), schema: None },
            Entry::Pattern { dir: "data".into(), pattern: "**/*.db".into() },
        ])
    }

    fn start_with(&self, entries: Vec<Entry>) -> Engine {
        self.start_limited(entries, 1 << 30)
    }

    fn start_limited(&self, entries: Vec<Entry>, wal_limit_bytes: u64) -> Engine {
        self.start_on(Machine::real(), entries, wal_limit_bytes).0
    }

    fn start_on(
        &self,
        machine: Machine,
        entries: Vec<Entry>,
        wal_limit_bytes: u64,
    ) -> (Engine, Arc<Ledger>, Told) {
        let ledger = Arc::new(Ledger::open(&self.home.join(".stead/ledger.sqlite"), None).unwrap());
        let settings = Settings { wal_limit_bytes, ..self.settings(machine, entries) };
        let told = Told::default();
        let notices = Arc::clone(&told);
        let notify = move |notice| {
            notices.lock().unwrap().push(match notice {
                Notice::Database { path, what, message } => format!("{path} {what}: {message}"),
                Notice::StoreAway { error } => format!("store away: {error}"),
                Notice::StoreBack { after } => format!("store back: {after:?}"),
                Notice::StoreRefused { error } => format!("store refused: {error}"),
            });
        };
        (Engine::start(settings, Arc::clone(&ledger), Arc::new(notify)).unwrap(), ledger, told)
    }

    fn settings(&self, machine: Machine, entries: Vec<Entry>) -> Settings {
        Settings {
            home: self.home.clone(),
            entries,
            sync_interval: Duration::from_millis(50),
            retention: Retention::default(),
            store: self.store.as_ref().map(|root| settings_of(root, self.id, Claim::Own)),
            epoch: Epoch(1),
            wal_limit_bytes: 1 << 30,
            checkpoint_frames: database::engine::CHECKPOINT_FRAMES,
            app_user: None,
            machine,
        }
    }

    fn app(&self, name: &str) -> Connection {
        let conn = Connection::open(self.home.join("data").join(name)).unwrap();
        conn.busy_timeout(Duration::from_secs(5)).unwrap();
        conn
    }
}

/// A directory as the store of a node.
fn settings_of(root: &Path, id: u64, claim: Claim) -> StoreSettings {
    let objects = Arc::new(store::Directory::new(Arc::new(LocalDisk), root.to_owned()));
    let run = base::Random::next_u64(&base::SystemRandom);
    let owner = Owner { id, run, node: format!("node-{id}"), volume: "test".to_owned() };
    StoreSettings { objects, owner, claim, stop_timeout: Some(Duration::from_secs(30)), configuration: None }
}

fn path(text: &str) -> DatabasePath {
    DatabasePath::parse(text).unwrap()
}

/// Nobody has the file open any more, and it goes with what lies beside it.
fn remove(file: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let mut name = file.as_os_str().to_owned();
        name.push(suffix);
        let _ = std::fs::remove_file(name);
    }
}

/// A world whose database is in a cut with one row.
fn cut_of_one() -> (World, Engine, PathBuf, database::engine::Cut) {
    let world = World::new();
    let engine = world.start();
    let app = world.app("database.sqlite");
    app.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1)").unwrap();
    until("joined", || followed(&engine, NAME));
    let cut = engine.cut(LIMIT).unwrap();
    drop(app);
    let file = world.home.join(NAME);
    (world, engine, file, cut)
}

fn count(conn: &Connection) -> i64 {
    conn.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
}

/// Does something when it goes.
struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    // A machine with more to do than this takes its time.
    for _ in 0..12_000 {
        if done() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("never: {what}");
}

fn followed(engine: &Engine, name: &str) -> bool {
    engine
        .databases()
        .iter()
        .any(|info| info.path == path(name) && info.mode == "wal" && info.position.is_some())
}

fn verify(engine: &Engine, name: &str) {
    let check = engine.verify(&path(name)).unwrap();
    assert_eq!(check.problems, Vec::<String>::new(), "{name}");
}

#[test]
fn what_the_app_commits_is_sealed_and_turned_back() {
    let world = World::new();
    let engine = world.start();
    assert!(world.home.join("data/database.sqlite").exists(), "the default database is there");
    let app = world.app("database.sqlite");
    app.execute_batch("CREATE TABLE t(x); INSERT INTO t VALUES(1)").unwrap();
    until("joined", || followed(&engine, "data/database.sqlite"));
    let first = engine.cut(LIMIT).unwrap();
    for n in 0..500 {
        app.execute("INSERT INTO t VALUES(?1)", [n]).unwrap();
    }
    let second = engine.cut(LIMIT).unwrap();
    assert_ne!(first.vector, second.vector);
    verify(&engine, "data/database.sqlite");
    assert!(
        engine.validate(&second.vector).unwrap().iter().all(|change| change.kind == ChangeKind::Unchanged)
    );

    engine.turn_back("first", &first.vector, LIMIT, &mut |_| {}).unwrap();
    assert_eq!(count(&app), 1);
    verify(&engine, "data/database.sqlite");
    engine.turn_back("undo", &second.vector, LIMIT, &mut |_| {}).unwrap();
    assert_eq!(count(&app), 501);
    let check: String = app.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    engine.stop();
}

// semantics: created-since, undo
#[test]
fn databases_made_since_go_and_deleted_ones_come_back() {
    let world = World::new();
    let engine = world.start();
    let one = world.app("one.db");
    one.execute_batch("CREATE TABLE t(x); INSERT INTO t VALUES(1)").unwrap();
    until("joined", || followed(&engine, "data/one.db"));
    let before = engine.cut(LIMIT).unwrap();

    drop(one);
    std::fs::remove_file(world.home.join("data/one.db")).unwrap();
    for suffix in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(world.home.join(format!("data/one.db{suffix}")));
    }
    let two = world.app("two.db");
    two.execute_batch("CREATE TABLE t(x); INSERT INTO t VALUES(2), (3)").unwrap();
    until("two joined", || followed(&engine, "data/two.db"));
    until("one lost", || !followed(&engine, "data/one.db"));
    drop(two);
    let after = engine.cut(LIMIT).unwrap();
    assert_eq!(after.vector.keys().map(DatabasePath::as_str).collect::<Vec<_>>(), ["data/two.db"]);

    let changes = engine.turn_back("before", &before.vector, LIMIT, &mut |_| {}).unwrap();
    let kinds: Vec<_> = changes.iter().map(|change| (change.path.as_str(), change.kind)).collect();
    assert_eq!(kinds, [("data/one.db", ChangeKind::Recreated), ("data/two.db", ChangeKind::Removed)]);
    assert_eq!(count(&world.app("one.db")), 1);
    assert!(!world.home.join("data/two.db").exists());

    engine.turn_back("undo", &after.vector, LIMIT, &mut |_| {}).unwrap();
    assert!(!world.home.join("data/one.db").exists());
    assert_eq!(count(&world.app("two.db")), 2);
    verify(&engine, "data/two.db");
    engine.stop();
}

// semantics: no-full-copy
#[test]
fn a_clean_start_compares_nothing_and_an_unclean_one_misses_nothing() {
    let world = World::new();
    let engine = world.start();
    let app = world.app("database.sqlite");
    app.execute_batch("CREATE TABLE t(x); INSERT INTO t VALUES(1)").unwrap();
    until("joined", || followed(&engine, "data/database.sqlite"));
    drop(app);
    let cut = engine.cut(LIMIT).unwrap();
    engine.stop();
    assert!(!world.home.join("data/database.sqlite-wal").exists(), "a clean stop leaves one file");

    let engine = world.start();
    assert_eq!(engine.cut(LIMIT).unwrap().vector, cut.vector);
    engine.stop();

    // Behind Stead's back.
    world.app("database.sqlite").execute_batch("INSERT INTO t VALUES(2), (3)").unwrap();
    let engine = world.start();
    let found = engine.cut(LIMIT).unwrap();
    let position = found.vector[&path("data/database.sqlite")];
    assert_eq!(position.txid.0, cut.vector[&path("data/database.sqlite")].txid.0 + 1);
    verify(&engine, "data/database.sqlite");
    engine.turn_back("cut", &cut.vector, LIMIT, &mut |_| {}).unwrap();
    assert_eq!(count(&world.app("database.sqlite")), 1);
    engine.stop();
}

#[test]
fn lost_data_comes_back_from_the_store_before_anything_starts() {
    let world = World::with_store();
    let engine = world.start();
    let app = world.app("deep.db");
    app.execute_batch("CREATE TABLE t(x); INSERT INTO t VALUES(1), (2), (3)").unwrap();
    until("joined", || followed(&engine, "data/deep.db"));
    engine.cut(LIMIT).unwrap();
    drop(app);
    engine.stop();
    std::fs::remove_dir_all(world.home.join("data")).unwrap();
    let engine = world.start();
    assert_eq!(count(&world.app("deep.db")), 3);
    engine.stop();
    // The whole home, ledger and all.
    std::fs::remove_dir_all(&world.home).unwrap();
    std::fs::create_dir_all(world.home.join(".stead")).unwrap();
    let engine = world.start();
    assert_eq!(count(&world.app("deep.db")), 3);
    verify(&engine, "data/deep.db");
    engine.stop();
}

// semantics: wal-bounded
#[test]
fn a_log_that_grows_is_let_go() {
    let world = World::new();
    let engine = world.start();
    let app = world.app("database.sqlite");
    app.execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; CREATE TABLE t(x)").unwrap();
    until("joined", || followed(&engine, "data/database.sqlite"));
    let wal = world.home.join("data/database.sqlite-wal");
    let mut longest = 0;
    for n in 0..300 {
        app.execute("INSERT INTO t VALUES(randomblob(60000))", []).unwrap();
        if n % 50 == 0 {
            std::thread::sleep(Duration::from_millis(400));
            longest = longest.max(std::fs::metadata(&wal).unwrap().len());
        }
    }
    assert!(longest < 15 << 20, "{longest} bytes of log for 18 MB written");
    verify(&engine, "data/database.sqlite");
    engine.stop();
}

#[test]
fn a_log_past_its_limit_is_let_go_even_while_nothing_can_be_sealed() {
    let world = World::new();
    let file = Entry::File { path: path("data/database.sqlite"), schema: None };
    let engine = world.start_limited(vec![file], 4 << 20);
    let app = world.app("database.sqlite");
    app.execute_batch("PRAGMA synchronous=OFF; CREATE TABLE t(x)").unwrap();
    until("joined", || followed(&engine, "data/database.sqlite"));
    app.execute("INSERT INTO t VALUES(1)", []).unwrap();
    engine.cut(LIMIT).unwrap();
    let level0 = world.home.join("data/database.sqlite-litestream/ltx/0");
    std::fs::rename(&level0, level0.with_extension("away")).unwrap();
    std::fs::write(&level0, "in the way").unwrap();
    let salts = || std::fs::read(world.home.join("data/database.sqlite-wal")).unwrap()[16..24].to_vec();
    let before = salts();
    let mut written = 0;
    while salts() == before || written < 10 {
        assert!(written < 200, "the log was never let go");
        app.execute("INSERT INTO t VALUES(randomblob(1000000))", []).unwrap();
        std::thread::sleep(Duration::from_millis(30));
        written += 1;
    }
    assert!(engine.databases()[0].trouble.is_some(), "it says that nothing is sealed");
    std::fs::remove_file(&level0).unwrap();
    std::fs::rename(level0.with_extension("away"), &level0).unwrap();
    until("sealed again", || engine.cut(LIMIT).is_ok());
    verify(&engine, "data/database.sqlite");
    engine.stop();
}

// semantics: foreign-checkpoint
#[test]
fn another_process_may_truncate_the_log_at_any_time() {
    let world = World::new();
    let engine = world.start();
    let script = r"
import sqlite3, sys, time
c = sqlite3.connect(sys.argv[1], timeout=5, isolation_level=None)
c.execute('PRAGMA journal_mode=WAL')
c.execute('CREATE TABLE t(x)')
refused = []
for n in range(300):
    c.execute('INSERT INTO t VALUES(?)', (n,))
    if n % 3 == 0:
        started = time.monotonic()
        busy = c.execute('PRAGMA wal_checkpoint(TRUNCATE)').fetchone()[0]
        if busy:
            refused.append(f'row {n} after {time.monotonic() - started:.3f} s')
print(refused)
";
    let out = std::process::Command::new("python3")
        .args(["-c", script])
        .arg(world.home.join("data/database.sqlite"))
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(String::from_utf8_lossy(&out.stdout).trim(), "[]", "every TRUNCATE went through");
    until("joined", || followed(&engine, "data/database.sqlite"));
    verify(&engine, "data/database.sqlite");
    let cut = engine.cut(LIMIT).unwrap();
    let history = engine.history(&path("data/database.sqlite")).unwrap();
    let out = world.home.join("out.db");
    let file = base::Disk::open(&base::LocalDisk, &out, base::Open::CreateNew).unwrap();
    history.image(cut.vector[&path("data/database.sqlite")].txid, &*file, &mut |_, _| {}).unwrap();
    assert_eq!(count(&Connection::open(&out).unwrap()), 300);
    engine.stop();
}

#[test]
fn a_log_index_that_a_dying_writer_left_half_written_is_rebuilt() {
    let world = World::new();
    let engine = world.start();
    let app = world.app("database.sqlite");
    app.execute_batch("CREATE TABLE t(x); INSERT INTO t VALUES(1)").unwrap();
    until("joined", || followed(&engine, "data/database.sqlite"));
    engine.cut(LIMIT).unwrap();
    app.execute("INSERT INTO t VALUES(2)", []).unwrap();
    // Another process, since closing the file here would drop this process's locks on it.
    let script = "import sys; f = open(sys.argv[1], 'r+b'); f.seek(8); f.write(bytes(4))";
    let done = std::process::Command::new("python3")
        .args(["-c", script])
        .arg(world.home.join("data/database.sqlite-shm"))
        .status()
        .unwrap();
    assert!(done.success());
    let cut = engine.cut(LIMIT).unwrap();
    assert_eq!(cut.vector.len(), 1, "{cut:?}");
    verify(&engine, "data/database.sqlite");
    engine.stop();
}

/// While a database is written fast, its directory is looked at and not watched.
#[test]
fn files_that_come_and_go_beside_a_busy_database_are_noticed() {
    let world = World::new();
    let engine = world.start();
    let app = world.app("database.sqlite");
    app.execute_batch("PRAGMA synchronous=OFF; CREATE TABLE t(x)").unwrap();
    until("joined", || followed(&engine, "data/database.sqlite"));
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let done = &done;
        // Also if what is waited for never comes.
        let end = OnDrop(|| done.store(true, std::sync::atomic::Ordering::Relaxed));
        let writer = scope.spawn(move || {
            let mut rows = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                app.execute("INSERT INTO t VALUES(1)", []).unwrap();
                rows += 1;
            }
            rows
        });
        std::thread::sleep(Duration::from_millis(300));
        for name in ["one.db", "two.db"] {
            let path = format!("data/{name}");
            let other = world.app(name);
            other.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x)").unwrap();
            until("a new database is followed", || followed(&engine, &path));
            drop(other);
            std::fs::remove_file(world.home.join(&path)).unwrap();
            until("its end is noticed", || !followed(&engine, &path));
        }
        drop(end);
        assert!(writer.join().unwrap() > 1000, "it was written fast");
    });
    let app = world.app("database.sqlite");
    for _ in 0..15 {
        app.execute("INSERT INTO t VALUES(1)", []).unwrap();
        std::thread::sleep(Duration::from_millis(100));
    }
    let other = world.app("three.db");
    other.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x)").unwrap();
    for _ in 0..10 {
        app.execute("INSERT INTO t VALUES(1)", []).unwrap();
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(followed(&engine, "data/three.db"), "also while it is busy and no longer written fast");
    std::thread::sleep(Duration::from_millis(500));
    let late = world.app("late.db");
    late.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x)").unwrap();
    until("the directory is watched again", || followed(&engine, "data/late.db"));
    verify(&engine, "data/database.sqlite");
    engine.stop();
}

#[test]
fn what_is_no_database_is_named_and_left_alone() {
    let world = World::new();
    std::fs::create_dir_all(world.home.join("data")).unwrap();
    for (name, bytes) in [
        ("text.db", b"just some text, longer than a hundred bytes ".repeat(9)),
        ("short.db", b"SQLite".to_vec()),
    ] {
        std::fs::write(world.home.join("data").join(name), bytes).unwrap();
    }
    // Whoever opens a pipe waits for somebody at its other end.
    let pipe = world.home.join("data/pipe.db");
    assert!(std::process::Command::new("mkfifo").arg(pipe).status().unwrap().success());
    let engine = world.start();
    for name in ["data/text.db", "data/short.db", "data/pipe.db"] {
        let info = engine.databases().into_iter().find(|info| info.path == path(name)).unwrap();
        assert_eq!(info.mode, "failed");
        assert_eq!(info.trouble.unwrap().code, "not_a_database");
    }
    assert!(engine.cut(LIMIT).unwrap().vector.is_empty());
    engine.stop();
    assert_eq!(std::fs::read(world.home.join("data/short.db")).unwrap(), b"SQLite");
}

// semantics: damage-named
#[test]
fn a_damaged_history_is_refused_and_nothing_changes() {
    let world = World::new();
    let engine = world.start();
    let app = world.app("database.sqlite");
    app.execute_batch("CREATE TABLE t(x); INSERT INTO t VALUES(1)").unwrap();
    until("joined", || followed(&engine, "data/database.sqlite"));
    let first = engine.cut(LIMIT).unwrap();
    app.execute_batch("INSERT INTO t VALUES(2)").unwrap();
    engine.cut(LIMIT).unwrap();
    let history = engine.history(&path("data/database.sqlite")).unwrap();
    for file in history.files().iter().filter(|file| file.key.min.0 == 1) {
        damage(&file.path);
    }
    let problem = engine.validate(&first.vector).unwrap_err();
    assert!(problem.reason.contains("0000000000000001-0000000000000001.ltx"), "{}", problem.reason);
    assert!(engine.turn_back("first", &first.vector, LIMIT, &mut |_| {}).is_err());
    assert_eq!(count(&app), 2);
    engine.stop();
}

fn damage(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    let index = bytes.len() - 60;
    for byte in &mut bytes[110..index] {
        *byte ^= 0x55;
    }
    std::fs::write(file, bytes).unwrap();
}
