//! Tests of the simulated machine: what it forgets, that it is like the real disk, and SQLite on it.

mod commits;
mod durability;
mod likeness;
mod processes;
mod trouble;

use super::{SimClock, SimDisk, SimRandom, SimVfs};
use crate::disk::{Disk, Open};
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

/// A fresh machine with a durable `/data`.
fn machine() -> SimDisk {
    let disk = SimDisk::new(SimClock::default(), SimRandom::new(1));
    disk.create_dir_all(Path::new("/data")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk
}

/// Registers the disk under a name of its own.
fn vfs(disk: &SimDisk) -> SimVfs {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("sim-test-{}", COUNT.fetch_add(1, Ordering::Relaxed));
    SimVfs::register(disk, &name).unwrap()
}

/// A connection to `/data/app.db`, which never waits.
fn connect(vfs: &SimVfs) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let connection = Connection::open_with_flags_and_vfs("/data/app.db", flags, vfs.name())?;
    connection.busy_timeout(std::time::Duration::ZERO)?;
    Ok(connection)
}

fn put(disk: &SimDisk, path: &str, bytes: &[u8]) -> Box<dyn crate::DiskFile> {
    let file = disk.open(Path::new(path), Open::Create { private: false }).unwrap();
    file.write_at(bytes, 0).unwrap();
    file
}

fn get(disk: &SimDisk, path: &str) -> Option<Vec<u8>> {
    crate::disk::read(disk, Path::new(path), 1 << 20).ok()
}
