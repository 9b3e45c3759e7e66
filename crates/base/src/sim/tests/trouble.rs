//! A full disk, failing operations, a dead machine.

use super::super::{Gone, Op, SimRandom};
use super::{connect, get, machine, put, vfs};
use crate::disk::{Disk, Open};
use rusqlite::ErrorCode;
use std::io::ErrorKind;
use std::path::Path;

#[test]
fn a_full_disk_takes_what_fits_and_refuses_the_rest() {
    let disk = machine();
    disk.set_capacity(1000);
    let file = put(&disk, "/data/f", &[1; 600]);
    assert_eq!(disk.free_bytes(Path::new("/data")).unwrap(), 400);
    let full = file.write_at(&[2; 600], 600).unwrap_err();
    assert_eq!((full.kind(), full.raw_os_error()), (ErrorKind::StorageFull, Some(libc::ENOSPC)));
    assert_eq!((file.len().unwrap(), disk.free_bytes(Path::new("/")).unwrap()), (1000, 0));
    assert_eq!(file.set_len(1001).unwrap_err().kind(), ErrorKind::StorageFull);
    file.write_at(&[3; 600], 0).unwrap();
    disk.remove_file(Path::new("/data/f")).unwrap();
    assert_eq!(disk.used_bytes(), 1000, "an open file keeps its room");
    drop(file);
    assert_eq!(disk.used_bytes(), 0);
}

#[test]
fn scripted_failures_hit_the_operation_they_name() {
    let disk = machine();
    disk.fail_nth(Op::Write, 2, libc::EIO);
    let file = disk.open(Path::new("/data/f"), Open::CreateNew).unwrap();
    file.write_at(b"1", 0).unwrap();
    assert_eq!(file.write_at(b"2", 1).unwrap_err().raw_os_error(), Some(libc::EIO));
    file.write_at(b"3", 1).unwrap();
    assert_eq!(get(&disk, "/data/f").unwrap(), b"13");

    disk.fail_sync("/f", libc::EIO);
    put(&disk, "/data/g", b"").sync().unwrap();
    for _ in 0..3 {
        assert_eq!(file.sync().unwrap_err().raw_os_error(), Some(libc::EIO));
    }
    disk.clear_failures();
    file.sync().unwrap();

    disk.fail_nth(Op::Rename, 1, libc::EACCES);
    assert!(disk.rename(Path::new("/data/f"), Path::new("/data/h")).is_err());
    disk.fail_nth(Op::SyncDir, 1, libc::EIO);
    assert!(disk.sync_dir(Path::new("/data")).is_err());
    disk.sync_dir(Path::new("/data")).unwrap();
}

#[test]
fn a_halted_machine_answers_nothing_until_it_is_started_again() {
    let disk = machine();
    let file = put(&disk, "/data/f", b"x");
    file.sync().unwrap();
    disk.sync_dir(Path::new("/data")).unwrap();
    disk.halt_at_step(disk.steps() + 2);
    file.write_at(b"y", 1).unwrap();
    assert_eq!(Gone::of(&file.write_at(b"z", 2).unwrap_err()), Some(Gone::Machine));
    let mut buffer = [0];
    assert!(file.read_at(&mut buffer, 0).is_err());
    assert!(disk.metadata(Path::new("/data/f")).is_err());
    assert!(disk.open(Path::new("/data/f"), Open::Read).is_err());
    assert!(disk.read_dir(Path::new("/data")).is_err());
    disk.crash_power(&SimRandom::new(1));
    assert_eq!(get(&disk, "/data/f").unwrap()[0], b'x');
    assert_eq!(Gone::of(&file.len().unwrap_err()), Some(Gone::Handle));
}

#[test]
fn sqlite_reports_a_full_disk_and_keeps_what_was_committed() {
    let disk = machine();
    let vfs = vfs(&disk);
    let db = connect(&vfs).unwrap();
    db.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES (zeroblob(1000))")
        .unwrap();
    disk.set_capacity(disk.used_bytes() + 20_000);
    let full = db.execute("INSERT INTO t VALUES (zeroblob(100000))", []).unwrap_err();
    assert_eq!(full.sqlite_error_code(), Some(ErrorCode::DiskFull));
    let rows: u32 = db.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 1);
    disk.set_capacity(u64::MAX);
    db.execute("INSERT INTO t VALUES (zeroblob(100000))", []).unwrap();
    let ok: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(ok, "ok");
}

#[test]
fn sqlite_reports_a_failing_sync() {
    let disk = machine();
    let vfs = vfs(&disk);
    let db = connect(&vfs).unwrap();
    db.execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE t(x)").unwrap();
    disk.fail_sync("-wal", libc::EIO);
    let failed = db.execute("INSERT INTO t VALUES (1)", []).unwrap_err();
    assert_eq!(failed.sqlite_error_code(), Some(ErrorCode::SystemIoFailure));
    disk.clear_failures();
    db.execute("INSERT INTO t VALUES (2)", []).unwrap();
}

#[test]
fn after_a_crash_every_call_on_an_old_connection_is_an_io_error() {
    for power in [false, true] {
        let disk = machine();
        let vfs = vfs(&disk);
        let db = connect(&vfs).unwrap();
        db.execute_batch(
            "PRAGMA journal_mode=WAL; CREATE TABLE t(x); BEGIN IMMEDIATE; INSERT INTO t VALUES (1)",
        )
        .unwrap();
        if power {
            disk.crash_power(&SimRandom::new(3))
        } else {
            disk.crash_processes()
        }
        let gone = db.execute_batch("COMMIT").unwrap_err();
        assert_eq!(gone.sqlite_error_code(), Some(ErrorCode::SystemIoFailure));
        assert!(db.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, u32>(0)).is_err());
        let next = connect(&vfs).unwrap();
        next.execute_batch("CREATE TABLE IF NOT EXISTS t(x); INSERT INTO t VALUES (2)").unwrap();
        drop(db);
        let rows: u32 = next.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 1, "what was dropped late changes nothing");
        let ok: String = next.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(ok, "ok");
    }
}

#[test]
fn dropping_a_dead_connection_leaves_the_journal_of_a_living_one() {
    let disk = machine();
    let vfs = vfs(&disk);
    let filling = |db: &rusqlite::Connection| {
        db.execute_batch("PRAGMA cache_size=5; CREATE TABLE IF NOT EXISTS t(x); BEGIN IMMEDIATE").unwrap();
        for _ in 0..50 {
            db.execute("INSERT INTO t VALUES (zeroblob(3000))", []).unwrap();
        }
    };
    let dead = connect(&vfs).unwrap();
    filling(&dead);
    disk.crash_processes();
    let alive = connect(&vfs).unwrap();
    filling(&alive);
    drop(dead);
    assert!(get(&disk, "/data/app.db-journal").is_some_and(|bytes| !bytes.is_empty()));
    alive.execute_batch("ROLLBACK").unwrap();
    let rows: u32 = alive.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 0);
}

#[test]
fn a_database_whose_name_was_taken_away_is_read_only() {
    let disk = machine();
    let vfs = vfs(&disk);
    let db = connect(&vfs).unwrap();
    db.execute_batch("CREATE TABLE t(x)").unwrap();
    disk.rename(Path::new("/data/app.db"), Path::new("/data/gone.db")).unwrap();
    let moved = db.execute("INSERT INTO t VALUES (1)", []).unwrap_err();
    assert_eq!(moved.sqlite_error_code(), Some(ErrorCode::ReadOnly));
}
