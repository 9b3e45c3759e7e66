//! What SQLite promises, tried on this disk: the power goes at every single step of a run of commits.

use super::super::{SimDisk, SimRandom, SimVfs};
use super::{connect, machine, vfs};
use rusqlite::Connection;

const COMMITS: u32 = 12;

/// Commits numbers in pairs, as long as the machine lets it; how many commits were acknowledged.
fn commit_all(vfs: &SimVfs, pragmas: &str) -> u32 {
    let run = || -> rusqlite::Result<Connection> {
        let db = connect(vfs)?;
        db.execute_batch(pragmas)?;
        db.execute_batch("CREATE TABLE IF NOT EXISTS t(n, size); CREATE TABLE IF NOT EXISTS u(n, filling)")?;
        Ok(db)
    };
    let Ok(db) = run() else { return 0 };
    for n in 1..=COMMITS {
        let size = (n * 2741) % 9000;
        let text = format!(
            "BEGIN; INSERT INTO t VALUES ({n}, {size}); INSERT INTO u VALUES ({n}, zeroblob({size})); COMMIT"
        );
        if db.execute_batch(&text).is_err() {
            return n - 1;
        }
    }
    COMMITS
}

/// How many commits are there; every one whole, none missing before the last.
fn commits_left(vfs: &SimVfs) -> u32 {
    let db = connect(vfs).unwrap();
    let ok: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(ok, "ok");
    let tables: u32 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).unwrap();
    if tables < 2 {
        return 0;
    }
    let query =
        "SELECT count(*), coalesce(max(n), 0), sum(length(filling) <> size) FROM t LEFT JOIN u USING (n)";
    let (count, last, torn): (u32, u32, Option<u32>) =
        db.query_row(query, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
    assert_eq!((count, torn.unwrap_or(0)), (last, 0));
    count
}

/// Loses the power at every step, over some seeds; tells (acknowledged, left) each time.
fn lose_power_at_every_step(pragmas: &str, seeds: u64, check: impl Fn(u32, u32)) {
    let counted = machine();
    let first = counted.steps() + 1;
    assert_eq!(commit_all(&vfs(&counted), pragmas), COMMITS);
    let last = counted.steps();
    assert!(last - first > 40, "{} steps are too few to mean anything", last - first);
    for step in first..=last + 1 {
        for seed in 0..seeds {
            let disk: SimDisk = machine();
            let vfs = vfs(&disk);
            disk.halt_at_step(step);
            let acknowledged = commit_all(&vfs, pragmas);
            disk.crash_power(&SimRandom::new(seed * 7919 + step));
            let left = commits_left(&vfs);
            check(acknowledged, left);
            // What was recovered can be written to.
            assert_eq!(commit_all(&vfs, "PRAGMA synchronous=FULL"), COMMITS);
        }
    }
}

#[test]
fn in_wal_full_every_acknowledged_commit_outlives_the_power() {
    let pragmas = "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=6";
    lose_power_at_every_step(pragmas, 4, |acknowledged, left| {
        assert!(left == acknowledged || left == acknowledged + 1, "{left} of {acknowledged}");
    });
}

#[test]
fn in_wal_normal_a_power_loss_takes_commits_from_the_end_only() {
    let pragmas = "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=12";
    let lost = std::cell::Cell::new(0);
    lose_power_at_every_step(pragmas, 4, |acknowledged, left| {
        assert!(left <= acknowledged + 1, "{left} of {acknowledged}");
        lost.set(lost.get() + u32::from(left < acknowledged));
    });
    assert!(lost.get() > 0, "a disk that forgets takes some");
}

#[test]
fn in_rollback_mode_every_acknowledged_commit_outlives_the_power() {
    for mode in ["DELETE", "TRUNCATE", "PERSIST"] {
        let pragmas = format!("PRAGMA journal_mode={mode}; PRAGMA synchronous=EXTRA");
        lose_power_at_every_step(&pragmas, 2, |acknowledged, left| {
            assert!(left == acknowledged || left == acknowledged + 1, "{left} of {acknowledged}");
        });
    }
}

/// Whether the database is still one.
fn is_sound(vfs: &SimVfs) -> bool {
    let check = || connect(vfs)?.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0));
    check().is_ok_and(|answer| answer == "ok")
}

#[test]
fn without_syncs_the_power_loss_does_damage() {
    let pragmas = "PRAGMA journal_mode=DELETE; PRAGMA synchronous=OFF; PRAGMA cache_size=3";
    let damaged = |seed: u64| {
        let disk = machine();
        let vfs = vfs(&disk);
        disk.halt_at_step(disk.steps() + 60 + seed);
        commit_all(&vfs, pragmas);
        disk.crash_power(&SimRandom::new(seed));
        !is_sound(&vfs)
    };
    assert!((0..40).any(damaged), "a disk on which nothing breaks proves nothing");
}
