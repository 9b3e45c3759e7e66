//! SQLite in several simulated processes on one database.

use super::super::{Process, SimClock, SimRandom, SimVfs};
use super::{connect, get, machine, vfs};
use crate::clock::Clock;
use crate::disk::Disk;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::path::Path;
use std::time::Duration;

const APP: Process = Process(2);

fn database() -> &'static Path {
    Path::new("/data/app.db")
}

fn busy(result: rusqlite::Result<()>) -> bool {
    result.unwrap_err().sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
}

fn count(db: &Connection) -> u32 {
    db.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
}

#[test]
fn in_wal_mode_one_process_writes_and_the_other_reads_its_snapshot() {
    let disk = machine();
    let vfs = vfs(&disk);
    let node = connect(&vfs).unwrap();
    node.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x)").unwrap();
    let app = SimVfs::as_process(APP, || connect(&vfs)).unwrap();

    app.execute_batch("BEGIN IMMEDIATE; INSERT INTO t VALUES (1)").unwrap();
    assert!(busy(node.execute_batch("BEGIN IMMEDIATE")));
    assert_eq!(count(&node), 0);
    assert_eq!(disk.lock_holder(database(), 0, Process::FIRST), Some(APP));
    assert_eq!(disk.lock_holder(database(), 0, APP), None, "one's own lock is none");
    node.execute_batch("BEGIN").unwrap();
    assert_eq!(count(&node), 0);
    app.execute_batch("COMMIT").unwrap();
    assert_eq!((count(&node), count(&app)), (0, 1), "the reader keeps its snapshot");
    assert_eq!(disk.lock_holder(database(), 0, Process::FIRST), None);
    let marks: Vec<u8> = (3..8).filter(|mark| disk.lock_holder(database(), *mark, APP).is_some()).collect();
    assert_eq!(marks.len(), 1, "the reader holds one mark");
    node.execute_batch("COMMIT").unwrap();
    assert_eq!(count(&node), 1);
    assert_eq!(disk.lock_holder(database(), 8, Process::FIRST), Some(APP), "it has the wal-index open");
}

#[test]
fn in_rollback_mode_writer_and_reader_exclude_each_other() {
    let disk = machine();
    let vfs = vfs(&disk);
    let node = connect(&vfs).unwrap();
    node.execute_batch("CREATE TABLE t(x)").unwrap();
    let app = SimVfs::as_process(APP, || connect(&vfs)).unwrap();

    app.execute_batch("BEGIN IMMEDIATE; INSERT INTO t VALUES (1)").unwrap();
    assert!(busy(node.execute_batch("BEGIN IMMEDIATE")));
    node.execute_batch("BEGIN").unwrap();
    assert_eq!(count(&node), 0);
    assert!(busy(app.execute_batch("COMMIT")), "a reader is in the way");
    let late = connect(&vfs).unwrap();
    assert!(
        busy(late.query_row("SELECT count(*) FROM t", [], |_| Ok(()))),
        "a pending lock keeps new readers out"
    );
    node.execute_batch("COMMIT").unwrap();
    app.execute_batch("COMMIT").unwrap();
    assert_eq!((count(&node), count(&late)), (1, 1));
}

#[test]
fn a_killed_process_leaves_its_locks_and_its_commits_but_not_its_transaction() {
    let disk = machine();
    let vfs = vfs(&disk);
    let node = connect(&vfs).unwrap();
    node.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x)").unwrap();
    let app = SimVfs::as_process(APP, || connect(&vfs)).unwrap();
    app.execute_batch("PRAGMA cache_spill=1; PRAGMA cache_size=5; INSERT INTO t VALUES (1); BEGIN IMMEDIATE")
        .unwrap();
    for _ in 0..50 {
        app.execute("INSERT INTO t VALUES (zeroblob(3000))", []).unwrap();
    }
    assert!(busy(node.execute_batch("BEGIN IMMEDIATE")));
    disk.crash_process(APP);
    assert_eq!(disk.lock_holder(database(), 0, Process::FIRST), None);
    assert_eq!(count(&node), 1);
    node.execute_batch("INSERT INTO t VALUES (2)").unwrap();
    drop(app);
    assert_eq!(count(&node), 2);
    let ok: String = node.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(ok, "ok");
}

#[test]
fn a_hot_journal_of_a_killed_process_is_rolled_back() {
    let disk = machine();
    let vfs = vfs(&disk);
    let app = SimVfs::as_process(APP, || connect(&vfs)).unwrap();
    app.execute_batch("PRAGMA cache_size=5; CREATE TABLE t(x); INSERT INTO t VALUES (1); BEGIN IMMEDIATE")
        .unwrap();
    for _ in 0..50 {
        app.execute("INSERT INTO t VALUES (zeroblob(3000))", []).unwrap();
    }
    assert!(get(&disk, "/data/app.db-journal").is_some_and(|bytes| !bytes.is_empty()));
    disk.crash_process(APP);
    let node = connect(&vfs).unwrap();
    assert_eq!(count(&node), 1);
    drop(app);
    assert_eq!(count(&node), 1);
    assert_eq!(get(&disk, "/data/app.db-journal"), None);
}

#[test]
fn the_last_to_close_removes_wal_and_wal_index_and_the_disk_sees_it() {
    let disk = machine();
    let vfs = vfs(&disk);
    let node = connect(&vfs).unwrap();
    node.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x)").unwrap();
    let app = SimVfs::as_process(APP, || connect(&vfs)).unwrap();
    assert_eq!(count(&app), 0);
    let names = || disk.read_dir(Path::new("/data")).unwrap().into_iter().map(|e| e.name).collect::<Vec<_>>();
    assert_eq!(names(), ["app.db", "app.db-shm", "app.db-wal"]);
    assert_eq!(&get(&disk, "/data/app.db-wal").unwrap()[..3], &[0x37, 0x7f, 0x06]);
    let index = get(&disk, "/data/app.db-shm").unwrap();
    assert_eq!(index.len(), 32 * 1024);
    assert_eq!(index[..48], index[48..96], "both copies of the wal-index header");
    drop(node);
    assert_eq!(names().len(), 3, "the other process still has it open");
    drop(app);
    assert_eq!(names(), ["app.db"]);
    assert_eq!(&get(&disk, "/data/app.db").unwrap()[..15], b"SQLite format 3");
}

#[test]
fn the_wal_index_outlives_a_process_but_not_the_power() {
    let disk = machine();
    let vfs = vfs(&disk);
    let app = SimVfs::as_process(APP, || connect(&vfs)).unwrap();
    app.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x)").unwrap();
    disk.crash_process(APP);
    assert_eq!(get(&disk, "/data/app.db-shm").unwrap().len(), 32 * 1024);
    disk.sync_dir(Path::new("/data")).unwrap();
    disk.crash_power(&SimRandom::new(5));
    assert_eq!(get(&disk, "/data/app.db-shm").unwrap(), b"");
}

#[test]
fn a_uri_names_the_process_of_a_connection() {
    let disk = machine();
    let vfs = vfs(&disk);
    let uri = format!("file:/data/app.db?vfs={}&process=7", vfs.name());
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_URI;
    let db = Connection::open_with_flags(uri, flags).unwrap();
    db.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x); BEGIN IMMEDIATE").unwrap();
    assert_eq!(disk.lock_holder(database(), 0, Process::FIRST), Some(Process(7)));
    assert_eq!(disk.opened_by(Path::new("/data/app.db-wal")), [Process(7)].into());
}

#[test]
fn sqlite_lives_in_simulated_time() {
    let disk = machine();
    let vfs = vfs(&disk);
    let (one, two) = (connect(&vfs).unwrap(), connect(&vfs).unwrap());
    let now: String = one.query_row("SELECT datetime('now')", [], |row| row.get(0)).unwrap();
    assert_eq!(now, "2026-01-01 00:00:00");
    one.execute_batch("CREATE TABLE t(x); BEGIN IMMEDIATE").unwrap();
    two.busy_timeout(Duration::from_secs(60)).unwrap();
    assert!(busy(two.execute_batch("BEGIN IMMEDIATE")));
    let waited = disk.clock().boottime();
    assert!(waited >= Duration::from_secs(59), "waiting moved the simulated clock: {waited:?}");
    assert_eq!(disk.clock().now().0 - SimClock::default().now().0, waited.as_millis() as i64);
}

#[test]
fn a_name_is_registered_once_and_free_again_later() {
    let disk = machine();
    let first = SimVfs::register(&disk, "sim-once").unwrap();
    assert!(SimVfs::register(&disk, "sim-once").is_err());
    let db = connect(&first).unwrap();
    drop(first);
    db.execute_batch("CREATE TABLE t(x)").unwrap();
    drop(SimVfs::register(&disk, "sim-once").unwrap());
}

#[test]
fn threads_of_two_processes_write_in_turn() {
    const EACH: u32 = 150;
    let disk = machine();
    let vfs = vfs(&disk);
    let first = connect(&vfs).unwrap();
    first.execute_batch("PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=10; CREATE TABLE t(x)").unwrap();
    std::thread::scope(|scope| {
        for process in [Process(1), Process(2), Process(3)] {
            let vfs = &vfs;
            scope.spawn(move || {
                let db = SimVfs::as_process(process, || connect(vfs)).unwrap();
                for _ in 0..EACH {
                    while let Err(error) = db.execute("INSERT INTO t VALUES (zeroblob(500))", []) {
                        // The latter is what SQLite says of a log that others start over again and again.
                        let again = [ErrorCode::DatabaseBusy, ErrorCode::FileLockingProtocolFailed];
                        assert!(
                            error.sqlite_error_code().is_some_and(|code| again.contains(&code)),
                            "{error}"
                        );
                        std::thread::yield_now();
                    }
                }
            });
        }
    });
    assert_eq!(count(&first), 3 * EACH);
    let ok: String = first.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(ok, "ok");
}

#[test]
fn a_long_wal_has_an_index_of_several_regions_and_is_cut_by_a_wal_checkpoint() {
    let disk = machine();
    let vfs = vfs(&disk);
    let node = connect(&vfs).unwrap();
    node.execute_batch("PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; CREATE TABLE t(x)").unwrap();
    let app = SimVfs::as_process(APP, || connect(&vfs)).unwrap();
    assert_eq!(count(&app), 0);
    node.execute("INSERT INTO t VALUES (zeroblob(40000000))", []).unwrap();
    assert!(disk.metadata(Path::new("/data/app.db-shm")).unwrap().len > 64 * 1024);
    let bytes: u32 = app.query_row("SELECT length(x) FROM t", [], |row| row.get(0)).unwrap();
    assert_eq!(bytes, 40_000_000);
    let busy: u32 = app.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).unwrap();
    assert_eq!((busy, disk.metadata(Path::new("/data/app.db-wal")).unwrap().len), (0, 0));
    assert_eq!(count(&node), 1);
}

#[test]
fn temporary_files_have_no_names_and_take_no_room_once_closed() {
    let disk = machine();
    let vfs = vfs(&disk);
    let db = connect(&vfs).unwrap();
    db.execute_batch("CREATE TABLE t(x); PRAGMA temp_store=FILE; PRAGMA temp.cache_size=5").unwrap();
    let before = disk.used_bytes();
    db.execute_batch(
        "CREATE TEMP TABLE big AS WITH n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 500)
         SELECT i, zeroblob(2000) AS filling FROM n ORDER BY i DESC",
    )
    .unwrap();
    assert!(disk.used_bytes() > before + 500_000, "it was written to the disk");
    assert_eq!(disk.read_dir(Path::new("/data")).unwrap().len(), 1);
    drop(db);
    assert_eq!(disk.used_bytes(), before);
}

#[test]
fn one_transaction_over_two_attached_databases_goes_through_a_super_journal() {
    let disk = machine();
    let vfs = vfs(&disk);
    let db = connect(&vfs).unwrap();
    db.execute_batch(
        "CREATE TABLE t(x); ATTACH '/data/other.db' AS other; CREATE TABLE other.t(x);
         BEGIN; INSERT INTO t VALUES (1); INSERT INTO other.t VALUES (1); COMMIT",
    )
    .unwrap();
    assert_eq!(count(&db), 1);
    let names: Vec<_> =
        disk.read_dir(Path::new("/data")).unwrap().into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["app.db", "other.db"]);
}
