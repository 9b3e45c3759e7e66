//! One seed is one world: the same run of SQLite and crashes leaves the same disk, byte by byte.
//!
//! Alone in its binary, because SQLite's own generator is one for the whole process.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, reason = "a test")]

use base::sim::{SimClock, SimDisk, SimRandom, SimVfs, vfs};
use base::{Disk, Random};
use rusqlite::{Connection, OpenFlags};
use std::path::Path;

/// Commits, power losses at steps of the seed's choice, and what is on the disk in the end.
fn world(seed: u64) -> Vec<(String, Vec<u8>)> {
    let choices = SimRandom::new(seed);
    vfs::seed_sqlite(choices.next_u64() as u32 | 1);
    let disk = SimDisk::new(SimClock::default(), SimRandom::new(seed));
    disk.create_dir_all(Path::new("/data")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    let vfs = SimVfs::register(&disk, "sim-replay").unwrap();
    for _ in 0..12 {
        disk.halt_at_step(disk.steps() + choices.below(120));
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        if let Ok(db) = Connection::open_with_flags_and_vfs("/data/app.db", flags, vfs.name()) {
            let prepared = db.execute_batch(
                "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=8; CREATE TABLE IF NOT EXISTS t(x, y)",
            );
            for _ in 0..if prepared.is_ok() { 30 } else { 0 } {
                if db.execute("INSERT INTO t VALUES (random(), randomblob(2000))", []).is_err() {
                    break;
                }
            }
        }
        disk.crash_power(&choices);
    }
    let entries = disk.read_dir(Path::new("/data")).unwrap();
    let contents = |name: &str| base::disk::read(&disk, &Path::new("/data").join(name), 1 << 30).unwrap();
    entries.into_iter().map(|entry| (entry.name.clone(), contents(&entry.name))).collect()
}

#[test]
fn the_same_seed_leaves_the_same_bytes_and_another_seed_others() {
    let worlds: Vec<_> = (1..=5).map(world).collect();
    assert!(worlds.iter().any(|files| files.iter().any(|(_, bytes)| bytes.len() > 50_000)));
    for (seed, first) in (1..=5).zip(&worlds) {
        assert!(*first == world(seed), "seed {seed} left another world");
    }
    assert!(worlds.windows(2).all(|pair| pair[0] != pair[1]));
}
