//! A home that was turned back, and went on without its store.

#![allow(clippy::disallowed_methods, reason = "files are put back by somebody else")]

use super::*;
use std::path::Path;

fn copy(from: &Path, to: &Path) {
    for level in std::fs::read_dir(from.join("ltx")).unwrap() {
        let level = level.unwrap();
        let into = to.join("ltx").join(level.file_name());
        std::fs::create_dir_all(&into).unwrap();
        for file in std::fs::read_dir(level.path()).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), into.join(file.file_name())).unwrap();
        }
    }
}

/// Four seals in the store, and a home as it was after the second.
fn turned_back() -> World {
    let mut world = World::new(true);
    let kept = tempfile::tempdir().unwrap();
    (1..=2).for_each(|n| drop(world.seal(&[(n, 1)], 3)));
    copy(&world.local(), kept.path());
    (1..=2).for_each(|n| drop(world.seal(&[(n, 2)], 3)));
    world.history.ship().unwrap();
    world.list();
    base::disk::remove_dir_all(&LocalDisk, &world.local()).unwrap();
    copy(kept.path(), &world.local());
    world.states.truncate(3);
    world.history = open(&world.disk, &world.root, false).unwrap();
    world
}

/// Sends everything as the engine does, then comes up from the store alone.
fn assert_store_has_all(world: &mut World) {
    assert!(world.history.has_orphans());
    world.list();
    world.history.ship().unwrap();
    assert!(!world.history.has_orphans());
    world.list();
    assert_eq!(world.history.stored_txid(), Txid(world.states.len() as u64 - 1));
    base::disk::remove_dir_all(&LocalDisk, &world.local()).unwrap();
    world.reopen();
    assert!(world.history.parted().is_none());
    (1..world.states.len()).for_each(|txid| world.assert_restores(txid));
}

fn aside(world: &World) -> Vec<String> {
    let names = std::fs::read_dir(world.store().join("aside")).unwrap();
    let mut names: Vec<_> = names.map(|name| name.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_another_history_has_under_the_same_names_is_never_taken_for_ours() {
    let mut world = turned_back();
    (1..=3).for_each(|n| drop(world.seal(&[(n, 3)], 3)));
    world.history.attach_store(&find(&world.disk, &world.root).unwrap()).unwrap();
    assert_eq!(world.history.parted(), Some(&Parted { common: Txid(2), stored: Txid(4) }));
    assert_eq!(world.history.stored_txid(), Txid(2), "its third is not ours");
    (1..=5).for_each(|txid| world.assert_restores(txid));
    assert_store_has_all(&mut world);
    let third = "0-0000000000000003-0000000000000003.ltx";
    let fourth = "0-0000000000000004-0000000000000004.ltx";
    assert_eq!(aside(&world), [third, fourth], "nothing is lost");
}

#[test]
fn a_store_that_is_ahead_of_a_home_that_went_on_is_no_continuation_of_it() {
    let mut world = turned_back();
    world.history.attach_store(&find(&world.disk, &world.root).unwrap()).unwrap();
    assert_eq!(world.history.parted(), Some(&Parted { common: Txid(2), stored: Txid(4) }));
    assert_eq!(world.history.stored_txid(), Txid(2));
    world.seal(&[(1, 9)], 3);
    assert_store_has_all(&mut world);
}

#[test]
fn both_are_compared_when_they_are_opened_together_too() {
    let mut world = turned_back();
    (1..=3).for_each(|n| drop(world.seal(&[(n, 3)], 3)));
    world.reopen();
    assert_eq!(world.history.parted(), Some(&Parted { common: Txid(2), stored: Txid(4) }));
    assert_eq!(world.history.last().unwrap().header.max_txid, Txid(5));
    assert_store_has_all(&mut world);
}

#[test]
fn a_history_that_the_store_has_more_of_is_one_history() {
    let mut world = turned_back();
    world.reopen();
    assert!(world.history.parted().is_none());
    assert_eq!(world.history.last().unwrap().header.max_txid, Txid(4));
}

#[test]
fn files_merged_differently_are_compared_where_both_show_the_database() {
    let mut world = World::new(true);
    (1..=3).for_each(|n| drop(world.seal(&[(n, 1)], 3)));
    world.history.ship().unwrap();
    world.list();
    // The store alone has the first two as they were; here they are one file, and one more follows.
    world.pass(Duration::from_secs(120));
    world.seal(&[(1, 7)], 3);
    world.thin(&[], &Retention::default());
    world.reopen();
    assert!(world.history.parted().is_none());
    (3..=4).for_each(|txid| world.assert_restores(txid));
}

#[test]
fn a_damaged_object_stays_in_the_list_until_another_has_what_it_held() {
    let mut world = World::new(true);
    (1..=2).for_each(|n| drop(world.seal(&[(n, 1)], 3)));
    world.history.ship().unwrap();
    world.list();
    let listed = world.history.listing().unwrap();
    base::disk::remove_dir_all(&LocalDisk, &world.local()).unwrap();
    world.reopen();
    spoil(&world.store().join("ltx/0/0000000000000002-0000000000000002.ltx"));
    let second = world.history.files().into_iter().find(|file| file.key.min == Txid(2)).unwrap();
    assert!(world.history.examine(&second).is_some());
    assert_eq!(world.history.listing().unwrap(), listed);
}

#[test]
fn a_seal_behind_the_end_of_the_list_counts_once_it_is_listed() {
    let mut world = World::new(true);
    (1..=3).for_each(|n| drop(world.seal(&[(n, 1)], 3)));
    let second = world.local().join("ltx/0/0000000000000002-0000000000000002.ltx");
    let hidden = world.root.join("hidden");
    std::fs::rename(&second, &hidden).unwrap();
    let history = open(&world.disk, &world.root, true).unwrap();
    history.ship().unwrap();
    // A list that has the third and not the second: whoever looks asks for the fourth.
    history.was_listed(&history.listing().unwrap());
    assert_eq!(history.stored_txid(), Txid(1));
    std::fs::rename(&hidden, &second).unwrap();
    let stored = Stored { listed_upto: Some(Txid(3)), ..find(&world.disk, &world.root).unwrap() };
    let history = History::open(world.disk.clone(), world.local(), Some(stored)).unwrap();
    history.ship().unwrap();
    assert_eq!((history.stored_txid(), history.awaits_list()), (Txid(1), true));
    history.was_listed(&history.listing().unwrap());
    assert_eq!((history.stored_txid(), history.awaits_list()), (Txid(3), false));
}

#[test]
fn where_somebody_else_wrote_and_merged_nobody_is_sure_that_both_are_one_history() {
    let mut world = World::new(true);
    let kept = tempfile::tempdir().unwrap();
    (1..=2).for_each(|n| drop(world.seal(&[(n, 1)], 3)));
    copy(&world.local(), kept.path());
    world.epoch = base::Epoch(2);
    (1..=3).for_each(|n| drop(world.seal(&[(n, 2)], 3)));
    world.history.ship().unwrap();
    world.list();
    let as_it_was = |world: &mut World| {
        base::disk::remove_dir_all(&LocalDisk, &world.local()).unwrap();
        copy(kept.path(), &world.local());
        world.reopen();
    };
    as_it_was(&mut world);
    assert_eq!(world.history.may_have_parted(), None, "the store shows what is here");

    for _ in 0..3 {
        world.pass(Duration::from_secs(24 * 3600));
        world.thin(&[], &Retention::default());
        world.history.ship().unwrap();
        world.list();
    }
    as_it_was(&mut world);
    assert_eq!(world.history.parted(), None);
    let parted = Parted { common: Txid(1), stored: Txid(5) };
    assert_eq!(world.history.may_have_parted(), Some(parted));
}
