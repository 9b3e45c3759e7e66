//! What survives a power loss, and what does not.

use super::super::{Gone, Process, SimDisk, SimRandom};
use super::{get, machine, put};
use crate::disk::{Disk, Open, write_atomic};
use std::collections::BTreeSet;
use std::path::Path;

/// What a path holds after a power loss, over many seeds.
fn outcomes(arrange: impl Fn(&SimDisk), path: &str) -> BTreeSet<Option<Vec<u8>>> {
    let outcome = |seed| {
        let disk = machine();
        arrange(&disk);
        disk.crash_power(&SimRandom::new(seed));
        get(&disk, path)
    };
    (0..100).map(outcome).collect()
}

fn some(bytes: &[u8]) -> Option<Vec<u8>> {
    Some(bytes.to_vec())
}

fn path(text: &str) -> &Path {
    Path::new(text)
}

#[test]
fn a_synced_file_in_an_unsynced_directory_may_vanish() {
    let written = |disk: &SimDisk| put(disk, "/data/f", b"x").sync().unwrap();
    assert_eq!(outcomes(written, "/data/f"), BTreeSet::from([None, some(b"x")]));
}

#[test]
fn an_unsynced_file_in_a_synced_directory_may_be_empty() {
    let named = |disk: &SimDisk| {
        put(disk, "/data/f", b"x");
        disk.sync_dir(path("/data")).unwrap();
    };
    assert_eq!(outcomes(named, "/data/f"), BTreeSet::from([some(b""), some(b"\0"), some(b"x")]));
}

#[test]
fn a_rename_is_undone_unless_its_directory_was_synced() {
    let renamed = |disk: &SimDisk| {
        put(disk, "/data/f", b"old").sync().unwrap();
        put(disk, "/data/f.tmp", b"new").sync().unwrap();
        disk.sync_dir(path("/data")).unwrap();
        disk.rename(path("/data/f.tmp"), path("/data/f")).unwrap();
    };
    assert_eq!(outcomes(renamed, "/data/f"), BTreeSet::from([some(b"old"), some(b"new")]));
    let synced = |disk: &SimDisk| {
        renamed(disk);
        disk.sync_dir(path("/data")).unwrap();
    };
    assert_eq!(outcomes(synced, "/data/f"), BTreeSet::from([some(b"new")]));
}

#[test]
fn a_removed_file_may_come_back_until_its_directory_was_synced() {
    let removed = |disk: &SimDisk| {
        put(disk, "/data/f", b"x").sync().unwrap();
        disk.sync_dir(path("/data")).unwrap();
        disk.remove_file(path("/data/f")).unwrap();
    };
    assert_eq!(outcomes(removed, "/data/f"), BTreeSet::from([None, some(b"x")]));
    let synced = |disk: &SimDisk| {
        removed(disk);
        disk.sync_dir(path("/data")).unwrap();
    };
    assert_eq!(outcomes(synced, "/data/f"), BTreeSet::from([None]));
}

#[test]
fn names_survive_in_the_order_they_were_made() {
    for seed in 0..100 {
        let disk = machine();
        for name in ["a", "b", "c", "d"] {
            put(&disk, &format!("/data/{name}"), b"").sync().unwrap();
        }
        disk.crash_power(&SimRandom::new(seed));
        let left: Vec<_> =
            disk.read_dir(path("/data")).unwrap().into_iter().map(|entry| entry.name).collect();
        assert!(["a", "b", "c", "d"].starts_with(&left.iter().map(String::as_str).collect::<Vec<_>>()));
    }
}

#[test]
fn a_move_between_directories_never_loses_the_file() {
    for (seed, sync) in
        (0..200u64).flat_map(|seed| [(seed, None), (seed, Some("/data/a")), (seed, Some("/data/b"))])
    {
        let disk = machine();
        disk.create_dir_all(path("/data/a")).unwrap();
        disk.create_dir_all(path("/data/b")).unwrap();
        put(&disk, "/data/a/f", b"x").sync().unwrap();
        for dir in ["/data", "/data/a", "/data/b"] {
            disk.sync_dir(path(dir)).unwrap();
        }
        disk.rename(path("/data/a/f"), path("/data/b/f")).unwrap();
        if let Some(dir) = sync {
            disk.sync_dir(path(dir)).unwrap();
        }
        disk.crash_power(&SimRandom::new(seed));
        let (old, new) = (get(&disk, "/data/a/f"), get(&disk, "/data/b/f"));
        assert!(old.is_some() || new.is_some());
        assert!(sync.is_none() || new.is_some(), "either sync makes the new name durable");
        assert!(sync != Some("/data/a") || old.is_none());
    }
}

#[test]
fn a_moved_directory_is_in_one_place() {
    for seed in 0..200 {
        let disk = machine();
        disk.create_dir_all(path("/data/a/d")).unwrap();
        disk.create_dir_all(path("/data/b")).unwrap();
        for dir in ["/data", "/data/a", "/data/b"] {
            disk.sync_dir(path(dir)).unwrap();
        }
        disk.rename(path("/data/a/d"), path("/data/b/d")).unwrap();
        disk.crash_power(&SimRandom::new(seed));
        let places = ["/data/a/d", "/data/b/d"].map(|place| disk.metadata(path(place)).is_ok());
        assert_eq!(places.iter().filter(|there| **there).count(), 1);
    }
}

#[test]
fn an_atomic_write_is_old_or_new_at_every_step_and_stays_once_acknowledged() {
    let before = || {
        let disk = machine();
        write_atomic(&disk, path("/data/f"), b"old", false).unwrap();
        disk
    };
    let counted = before();
    let first = counted.steps() + 1;
    write_atomic(&counted, path("/data/f"), b"new", false).unwrap();
    for (step, seed) in (first..=counted.steps() + 1).flat_map(|step| (0..30).map(move |seed| (step, seed))) {
        let disk = before();
        disk.halt_at_step(step);
        let acknowledged = write_atomic(&disk, path("/data/f"), b"new", false);
        if let Err(error) = &acknowledged {
            assert_eq!(Gone::of(error), Some(Gone::Machine));
        }
        disk.crash_power(&SimRandom::new(seed));
        let left = get(&disk, "/data/f").unwrap();
        assert!(left == b"new" || (acknowledged.is_err() && left == b"old"), "step {step}: {left:?}");
    }
}

#[test]
fn a_process_crash_keeps_every_byte_and_kills_only_its_handles() {
    let disk = machine();
    let mine = put(&disk, "/data/f", b"x");
    let theirs = Process(2).run(|| disk.open(path("/data/f"), Open::Read)).unwrap();
    assert_eq!(disk.opened_by(path("/data/f")), BTreeSet::from([Process(1), Process(2)]));
    disk.crash_process(Process(1));
    assert_eq!(Gone::of(&mine.len().unwrap_err()), Some(Gone::Handle));
    assert_eq!(Gone::of(&mine.write_at(b"y", 0).unwrap_err()), Some(Gone::Handle));
    assert_eq!(theirs.len().unwrap(), 1);
    assert_eq!(get(&disk, "/data/f"), some(b"x"));
    disk.crash_processes();
    assert_eq!(Gone::of(&theirs.len().unwrap_err()), Some(Gone::Handle));
}

#[test]
fn a_modification_time_may_be_forgotten() {
    let modified = |disk: &SimDisk| disk.metadata(path("/data/f")).unwrap().modified_ns;
    let seen: BTreeSet<i128> = (0..50)
        .map(|seed| {
            let disk = machine();
            let file = put(&disk, "/data/f", b"x");
            file.sync().unwrap();
            disk.sync_dir(path("/data")).unwrap();
            file.set_modified(1_000).unwrap();
            assert_eq!(modified(&disk), 1_000_000_000);
            disk.crash_power(&SimRandom::new(seed));
            modified(&disk)
        })
        .collect();
    assert_eq!(seen.len(), 2);
}

#[test]
fn one_seed_has_one_outcome() {
    let run = || {
        let disk = machine();
        for n in 0..40u8 {
            put(&disk, &format!("/data/{n}"), &vec![n; usize::from(n) * 100]);
        }
        disk.crash_power(&SimRandom::new(9));
        let names = disk.read_dir(path("/data")).unwrap();
        names.into_iter().map(|entry| get(&disk, &format!("/data/{}", entry.name))).collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}
