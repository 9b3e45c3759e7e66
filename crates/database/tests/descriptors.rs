//! POSIX locks belong to the process: closing any descriptor of a database or its `-shm` drops all of them. That is why
//! one module owns every descriptor of these files.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is not as it must be")]
#![allow(clippy::disallowed_methods, reason = "a test does what the engine must not do")]

use base::{DatabasePath, Epoch};
use database::history::Retention;
use database::ledger::Ledger;
use database::{Engine, Entry, Machine, Settings};
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// Whether another process may write to the database now.
fn may_write(database: &Path) -> bool {
    let script = "import sqlite3, sys\n\
                  c = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)\n\
                  try: c.execute('BEGIN IMMEDIATE'); print('written')\n\
                  except sqlite3.OperationalError as e: print(e)";
    match python(script, database).as_str() {
        "written" => true,
        "database is locked" => false,
        said => panic!("{said}"),
    }
}

/// The bytes of a database and its `-shm` that this process has locked, as another process sees them.
fn locked(database: &Path) -> String {
    let script = r"
import fcntl, os, struct, sys
def holder(fd, byte):
    ask = struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, byte, 1, 0)
    kind, _, _, _, pid = struct.unpack('hhqqi4x', fcntl.fcntl(fd, fcntl.F_GETLK, ask))
    return None if kind == fcntl.F_UNLCK else pid
found = []
for name, first, count in (('', 0x40000002, 1), ('-shm', 120, 9)):
    fd = os.open(sys.argv[1] + name, os.O_RDWR)
    found += ['%s%d' % (name, byte) for byte in range(first, first + count) if holder(fd, byte) == os.getppid()]
print(' '.join(found))
";
    python(script, database)
}

fn python(script: &str, database: &Path) -> String {
    let out = Command::new("python3").args(["-c", script]).arg(database).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

#[test]
fn closing_any_descriptor_of_a_live_database_drops_sqlites_locks() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.db");
    let conn = Connection::open(&file).unwrap();
    conn.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x); BEGIN IMMEDIATE").unwrap();
    assert!(!may_write(&file), "the write lock is held");
    drop(std::fs::File::open(dir.path().join("a.db-shm")).unwrap());
    assert!(may_write(&file), "it is gone, though the transaction is open");

    let before = locked(&file);
    assert!(before.contains("1073741826"), "{before}: the shared lock on the file");
    drop(std::fs::File::open(&file).unwrap());
    assert_eq!(locked(&file), "", "every lock is gone");
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if done() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("never: {what}");
}

fn start(home: &Path) -> Engine {
    let ledger = Ledger::open(&home.join(".stead/ledger.sqlite"), None).unwrap();
    let settings = Settings {
        home: home.to_owned(),
        entries: vec![Entry::Pattern { dir: PathBuf::from("data"), pattern: "*.db".into() }],
        sync_interval: Duration::from_millis(20),
        retention: Retention::default(),
        store: None,
        epoch: Epoch(1),
        app_user: None,
        wal_limit_bytes: 1 << 30,
        checkpoint_frames: database::engine::CHECKPOINT_FRAMES,
        machine: Machine::real(),
    };
    Engine::start(settings, Arc::new(ledger), Arc::new(|_| {})).unwrap()
}

/// The engine holds a read mark in the `-shm` and SQLite's shared lock on the file.
fn holds(file: &Path, after: &str) {
    let found = locked(file);
    assert!(found.contains("1073741826"), "after {after} only {found:?} is locked: the file is not");
    let marks = (123..128).any(|byte| found.contains(&format!("-shm{byte}")));
    assert!(marks, "after {after} only {found:?} is locked: no read mark");
}

#[test]
fn the_engine_never_loses_its_locks_by_what_it_does() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path();
    std::fs::create_dir_all(home.join("data")).unwrap();
    std::fs::create_dir_all(home.join(".stead")).unwrap();
    let (file, path) = (home.join("data/a.db"), DatabasePath::parse("data/a.db").unwrap());
    let write = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], timeout=5)\n\
                 c.executescript('PRAGMA journal_mode=WAL; CREATE TABLE IF NOT EXISTS t(x);\
                 INSERT INTO t VALUES(randomblob(9000))'); c.close()";
    python(write, &file);
    let engine = start(home);
    let limit = Duration::from_millis(500);
    until("joined", || engine.databases().iter().any(|info| info.position.is_some()));
    holds(&file, "joining");
    let first = engine.cut(limit).unwrap();
    for _ in 0..3 {
        python(write, &file);
        holds(&file, "a commit of another process");
    }
    let before = engine.cut(limit).unwrap();
    holds(&file, "a seal");
    assert!(engine.verify(&path).unwrap().problems.is_empty());
    holds(&file, "a check of everything");
    engine.files_changed();
    std::fs::write(home.join("data/other.db"), "no database at all").unwrap();
    until("looked at", || engine.databases().len() == 2);
    holds(&file, "a look at all files");
    assert!(engine.covers(&file));
    engine.validate(&first.vector).unwrap();
    holds(&file, "a rehearsed restore");
    engine.turn_back("first", &first.vector, limit, &mut |_| {}).unwrap();
    holds(&file, "a restore");
    engine.turn_back("before", &before.vector, limit, &mut |_| {}).unwrap();
    engine.sync();
    holds(&file, "an undone restore");
    until("emptied", || std::fs::metadata(home.join("data/a.db-wal")).unwrap().len() == 0);
    holds(&file, "letting go of the log");
    engine.stop();
    assert!(!home.join("data/a.db-shm").exists(), "and it gives them back");
}
