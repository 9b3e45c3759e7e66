//! Damaged, missing and foreign files: named, avoided, never used.

use super::*;

// semantics: damage-named
#[test]
fn a_damaged_file_is_avoided_where_the_store_has_it() {
    let mut world = World::new(true);
    world.seal(&[], 4);
    let second = world.seal(&[(2, 2)], 4);
    world.seal(&[(3, 3)], 4);
    world.history.ship().unwrap();
    spoil(&second.path);
    world.reopen();
    (1..=3).for_each(|txid| world.assert_restores(txid));
    let damaged = world.history.damaged();
    assert_eq!(damaged.iter().map(|file| &file.path).collect::<Vec<_>>(), [&second.path]);
}

#[test]
fn a_damaged_file_without_another_copy_is_named_and_never_used() {
    let mut world = World::new(false);
    world.seal(&[], 4);
    let second = world.seal(&[(2, 2)], 4);
    world.seal(&[(3, 3)], 4);
    spoil(&second.path);
    let out = LocalDisk.open(&world.local().join("image"), Open::CreateNew).unwrap();
    let error = world.history.image(Txid(3), &*out, &mut |_, _| {}).unwrap_err();
    assert!(matches!(error, ImageError::Plan(PlanError::Missing { reached: Txid(1), .. })), "{error}");
    assert!(error.to_string().contains("0000000000000002-0000000000000002.ltx"), "{error}");
    world.assert_restores(1);
}

// semantics: checked
#[test]
fn every_kind_of_damage_is_found() {
    /// Bytes kept of the file, or taken off its end where negative; what is then written there, or over its start.
    struct Damage(i64, &'static [u8], bool);
    let damages = [
        Damage(-7, b"", false),
        Damage(20, b"", false),
        Damage(0, b"", true),
        Damage(-1_000_000, b"", false),
        Damage(i64::MAX, b"JUNK", true),
        Damage(i64::MAX, b"x", false),
    ];
    for (kind, Damage(keep, bytes, at_start)) in damages.into_iter().enumerate() {
        let mut world = World::new(false);
        world.seal(&[], 4);
        let second = world.seal(&[(2, 2)], 4);
        let file = LocalDisk.open(&second.path, Open::Write).unwrap();
        let len = i64::try_from(second.bytes).unwrap();
        let kept = if keep < 0 { (len + keep).max(0) } else { keep.min(len) }.cast_unsigned();
        file.set_len(kept).unwrap();
        file.write_at(bytes, if at_start { 0 } else { kept }).unwrap();
        world.reopen();
        let out = LocalDisk.open(&world.local().join("image"), Open::CreateNew).unwrap();
        let error = world.history.image(Txid(2), &*out, &mut |_, _| {}).unwrap_err();
        assert!(error.to_string().contains("0000000000000002"), "{kind}: {error}");
        let Err(error) = world.history.plan(Txid(2)).map(|plan| plan.reader().unwrap()) else {
            panic!("damage {kind} was read");
        };
        assert!(matches!(error, PlanError::Missing { .. }), "{kind}: {error}");
    }
}

#[test]
fn history_goes_on_before_a_damaged_end_and_sets_the_rest_aside() {
    let mut world = World::new(true);
    world.seal(&[], 4);
    let second = world.seal(&[(2, 2)], 4);
    world.seal(&[(3, 3)], 4);
    world.history.ship().unwrap();
    for path in [second.path.clone(), world.store().join(second.key.relative())] {
        LocalDisk.open(&path, Open::Write).unwrap().set_len(20).unwrap();
    }
    world.reopen();
    assert_eq!(world.history.last().unwrap().header.max_txid, Txid(1));
    assert_eq!(world.history.damaged().len(), 2);
    world.states.truncate(2);
    world.seal(&[(2, 8)], 4);
    world.seal(&[(3, 8)], 4);
    (1..=3).for_each(|txid| world.assert_restores(txid));
    world.history.ship().unwrap();
    for base in [world.local(), world.store()] {
        assert_eq!(LocalDisk.read_dir(&base.join("aside")).unwrap().len(), 2, "{}", base.display());
    }
    base::disk::remove_dir_all(&LocalDisk, &world.local()).unwrap();
    world.reopen();
    (1..=3).for_each(|txid| world.assert_restores(txid));
}

#[test]
fn files_of_another_history_are_not_mixed_in() {
    let mut world = World::new(false);
    world.seal(&[], 4);
    world.seal(&[(2, 2)], 4);
    let mut other = World::new(false);
    other.seal(&[(1, 50)], 4);
    other.seal(&[(2, 50)], 4);
    let third = other.seal(&[(3, 50)], 4);
    let bytes = base::disk::read(&LocalDisk, &third.path, 1 << 20).unwrap();
    let foreign = world.local().join(third.key.relative());
    LocalDisk.open(&foreign, Open::CreateNew).unwrap().write_at(&bytes, 0).unwrap();
    world.reopen();
    assert_eq!(world.history.last().unwrap().header.max_txid, Txid(2));
    assert!(matches!(world.history.plan(Txid(3)), Err(PlanError::Missing { reached: Txid(2), .. })));
}

#[test]
fn a_damaged_copy_in_the_store_is_replaced_by_a_good_one() {
    let mut world = World::new(true);
    world.seal(&[], 4);
    world.history.ship().unwrap();
    let copy = world.store().join("ltx/0/0000000000000001-0000000000000001.ltx");
    LocalDisk.open(&copy, Open::Write).unwrap().set_len(50).unwrap();
    world.reopen();
    assert_eq!(world.history.stored_txid(), Txid(0));
    assert_eq!(world.history.ship().unwrap().stored_txid, Txid(1));
    world.seal(&[(2, 2)], 4);
    base::disk::remove_dir_all(&LocalDisk, &world.local()).unwrap();
    world.reopen();
    world.assert_restores(1);
}

#[test]
fn a_damaged_file_is_never_shipped() {
    let mut world = World::new(true);
    world.seal(&[], 4);
    let second = world.seal(&[(2, 2)], 4);
    spoil(&second.path);
    let shipped = world.history.ship().unwrap();
    assert_eq!((shipped.files, shipped.stored_txid), (1, Txid(1)));
    assert_eq!(world.names(&world.store()).len(), 1);
}

#[test]
fn a_damaged_input_stops_a_merge_and_removes_nothing() {
    let mut world = World::new(false);
    let mut second = None;
    for n in 1..=6 {
        let info = world.seal(&[(2, n)], 4);
        second = second.or((n == 3).then_some(info));
    }
    world.pass(Duration::from_secs(3600));
    let holds = Holds::default();
    let plan = world.history.thin(world.now, &holds, &Retention::default());
    let second = second.unwrap();
    let file = LocalDisk.open(&second.path, Open::Write).unwrap();
    file.write_at(b"?", file.len().unwrap() - 1).unwrap();
    let before = world.names(&world.local());
    assert!(matches!(world.history.carry_out(&plan), Err(ThinError::Merge { .. })));
    let after = world.names(&world.local());
    assert_eq!(after.len(), before.len());
    assert!(before.iter().filter(|name| !name.ends_with("1.ltx")).all(|name| after.contains(name)));
    assert_eq!(world.history.damaged().len(), 1);
    let next = world.history.thin(world.now, &holds, &Retention::default());
    world.history.carry_out(&next).unwrap();
    world.assert_restores(2);
}

#[test]
fn a_file_that_was_taken_away_stops_no_seal() {
    let mut world = World::new(false);
    world.seal(&[], 4);
    let second = world.seal(&[(2, 2)], 4);
    let third = world.seal(&[(3, 3)], 4);
    LocalDisk.open(&second.path, Open::Write).unwrap().set_len(20).unwrap();
    world.reopen();
    LocalDisk.remove_file(&third.path).unwrap();
    world.states.truncate(2);
    world.seal(&[(2, 8)], 4);
    world.assert_restores(2);
}

#[test]
fn a_damaged_file_does_not_keep_its_name_from_another() {
    let mut world = World::new(false);
    world.seal(&[], 4);
    let base = "ltx/9/0000000000000001-0000000000000001.ltx";
    LocalDisk.create_dir_all(&world.local().join("ltx/9")).unwrap();
    LocalDisk.open(&world.local().join(base), Open::CreateNew).unwrap().write_at(b"not one", 0).unwrap();
    world.reopen();
    world.thin(&[], &Retention::default());
    assert_eq!(world.names(&world.local()), ["9/0000000000000001-0000000000000001.ltx"]);
    assert_eq!(LocalDisk.read_dir(&world.local().join("aside")).unwrap().len(), 1);
    world.assert_restores(1);
    world.reopen();
    assert!(world.history.damaged().is_empty());
    world.assert_restores(1);
}

#[test]
fn a_store_that_is_not_mounted_for_a_while_is_not_damaged() {
    let mut world = World::new(true);
    world.seal(&[], 4);
    world.seal(&[(2, 2)], 4);
    world.history.ship().unwrap();
    base::disk::remove_dir_all(&LocalDisk, &world.local()).unwrap();
    world.reopen();
    let (mounted, away) = (world.root.join("store"), world.root.join("away"));
    LocalDisk.rename(&mounted, &away).unwrap();
    let out = LocalDisk.open(&world.root.join("image"), Open::CreateNew).unwrap();
    world.history.image(Txid(2), &*out, &mut |_, _| {}).unwrap_err();
    assert!(world.history.plan(Txid(2)).unwrap().reader().is_err());
    LocalDisk.rename(&away, &mounted).unwrap();
    assert!(world.history.damaged().is_empty());
    (1..=2).for_each(|txid| world.assert_restores(txid));
}
