//! Thinning on real files.

use super::*;

#[test]
fn windows_are_merged_and_their_single_seals_go_after_five_minutes() {
    let mut world = World::new(false);
    for n in 0..60u8 {
        world.seal(&[(u32::from(n) % 7 + 1, n)], 8);
        world.pass(Duration::from_secs(1));
    }
    world.pass(Duration::from_secs(30));
    world.thin(&[], &Retention::default());
    assert!((1..=60).all(|txid| world.history.restorable().contains(&Txid(txid))));
    assert!(world.names(&world.local()).iter().any(|name| name.starts_with("1/")));
    world.assert_restores(33);
    world.pass(Duration::from_secs(400));
    while !world.thin(&[], &Retention::default()).0.is_empty() {}
    let names = world.names(&world.local());
    assert!(names.len() <= 5 && !names.iter().any(|name| name.starts_with("0/")), "{names:?}");
    world.assert_restores(60);
    world.reopen();
    assert_eq!(world.history.last().unwrap().header.max_txid, Txid(60));
    world.assert_restores(60);
}

// semantics: thinning-spares
#[test]
fn a_pinned_position_outlives_everything() {
    let mut world = World::new(true);
    for n in 0..40u8 {
        world.seal(&[(u32::from(n) % 7 + 1, n)], 8);
        world.pass(Duration::from_secs(5));
    }
    let retention = Retention { keep: Duration::from_secs(24 * 3600), ..Retention::default() };
    for _ in 0..200 {
        world.pass(Duration::from_secs(3600));
        world.history.ship().unwrap();
        world.thin(&[7, 23], &retention);
    }
    [7, 23, 40].into_iter().for_each(|txid| world.assert_restores(txid));
    let (local, stored) = (world.names(&world.local()), world.names(&world.store()));
    assert!(local.len() <= 4 && stored.len() <= 4, "{local:?} {stored:?}");
    // Released, they go, and the base moves up.
    for _ in 0..8 {
        world.history.ship().unwrap();
        world.thin(&[], &retention);
    }
    assert_eq!(world.names(&world.local()).len(), 1);
    base::disk::remove_dir_all(&LocalDisk, &world.local()).unwrap();
    world.reopen();
    world.assert_restores(40);
}

#[test]
fn at_the_local_limit_old_moments_go_but_pins_and_the_end_stay() {
    let mut world = World::new(false);
    for n in 0..120u8 {
        world.seal(&[(u32::from(n) % 90 + 1, n), (u32::from(n) % 80 + 2, n)], 100);
        world.pass(Duration::from_secs(60));
    }
    world.pass(Duration::from_secs(600));
    let roomy = Retention::default();
    while !world.thin(&[50], &roomy).0.is_empty() {}
    let before = world.history.local_bytes();
    let tight = Retention { local_bytes: before / 2, ..roomy };
    let mut over = true;
    for _ in 0..50 {
        let (plan, _) = world.thin(&[50], &tight);
        over = plan.over_limit;
        if plan.is_empty() {
            break;
        }
    }
    assert!(
        !over && world.history.local_bytes() <= before / 2,
        "{} of {before}",
        world.history.local_bytes()
    );
    [50, 120].into_iter().for_each(|txid| world.assert_restores(txid));
    // What cannot be: pins and the end alone exceed it.
    let impossible = Retention { local_bytes: 100, ..roomy };
    let over = (0..50).any(|_| world.thin(&[50], &impossible).0.over_limit);
    assert!(over);
    [50, 120].into_iter().for_each(|txid| world.assert_restores(txid));
}

#[test]
fn at_the_local_limit_copies_that_the_store_has_go_first() {
    let mut world = World::new(true);
    for n in 0..20u8 {
        world.seal(&[(u32::from(n) + 1, n)], 30);
        world.pass(Duration::from_secs(1));
    }
    let tight = Retention { local_bytes: 500, ..Retention::default() };
    for _ in 0..3 {
        world.history.ship().unwrap();
        let (plan, _) = world.thin(&[], &tight);
        assert!(!plan.over_limit, "{plan:?}");
    }
    assert!(world.history.local_bytes() <= 500, "{}", world.history.local_bytes());
    (1..=20).for_each(|txid| world.assert_restores(txid));
}

#[test]
fn what_a_reader_needs_stays_until_it_is_done() {
    let mut world = World::new(false);
    for n in 1..=9 {
        world.seal(&[(2, n)], 4);
    }
    let reader = world.history.plan(Txid(5)).unwrap().reader().unwrap();
    world.pass(Duration::from_secs(3600));
    let done = world.thin(&[], &Retention::default()).1;
    assert!(done.in_use > 0);
    let mut page = vec![0; PAGE as usize];
    assert!(reader.read(Pgno(2), &mut page).unwrap());
    assert_eq!(page, world.states[5][&2]);
    drop(reader);
    while !world.thin(&[], &Retention::default()).0.is_empty() {}
    assert!(world.names(&world.local()).iter().all(|name| !name.starts_with("0/")));
    world.assert_restores(9);
}

#[test]
fn local_history_stays_small_while_the_store_fails() {
    let mut world = World::new(true);
    let tight = Retention { local_bytes: 500, ..Retention::default() };
    for n in 0..20u8 {
        world.seal(&[(u32::from(n) + 1, n)], 30);
        world.pass(Duration::from_secs(20));
    }
    world.history.ship().unwrap();
    world.thin(&[], &tight);
    // What the next merges need is there only, and cannot be read.
    let ltx = world.store().join("ltx");
    let away = world.store().join("away");
    LocalDisk.rename(&ltx, &away).unwrap();
    LocalDisk.open(&ltx, Open::CreateNew).unwrap();
    let mut failed = 0;
    for n in 0..60u8 {
        world.seal(&[(u32::from(n) % 7 + 1, n)], 30);
        world.pass(Duration::from_secs(120));
        assert!(world.history.ship().is_err());
        let plan = world.history.thin(world.now, &Holds::default(), &Retention::default());
        failed += u32::from(world.history.carry_out(&plan).is_err());
    }
    assert!(failed > 10, "the store was not needed: {failed}");
    let local = world.names(&world.local());
    let singles = local.iter().filter(|name| name.starts_with("0/")).count();
    assert!(singles < 20, "{local:?}");
    LocalDisk.remove_file(&ltx).unwrap();
    LocalDisk.rename(&away, &ltx).unwrap();
    world.reopen();
    world.history.ship().unwrap();
    world.assert_restores(80);
}

#[test]
fn a_file_in_use_here_moves_nowhere() {
    let mut world = World::new(true);
    world.seal(&[], 4);
    world.history.ship().unwrap();
    let plan = world.history.plan(Txid(1)).unwrap();
    world.pass(Duration::from_secs(3600));
    for _ in 0..3 {
        world.thin(&[], &Retention::default());
        let [local, stored] = keys(&world);
        assert_eq!(local.len(), 1, "the local copy stays: {local:?}");
        assert_eq!(local, stored);
    }
    drop(plan);
    world.thin(&[], &Retention::default());
    let [local, stored] = keys(&world);
    assert!(local == stored && local[0].level == 9, "{local:?} {stored:?}");
    assert_eq!(
        world.names(&world.store()),
        ["0/0000000000000001-0000000000000001.ltx"],
        "objects never move"
    );
}

#[test]
fn a_file_under_another_name_in_the_store_does_not_replace_the_one_here() {
    let mut world = World::new(true);
    world.seal(&[], 4);
    world.history.ship().unwrap();
    let base = world.store().join("ltx/9");
    LocalDisk.create_dir_all(&base).unwrap();
    let name = "0000000000000001-0000000000000001.ltx";
    LocalDisk.rename(&world.store().join("ltx/0").join(name), &base.join(name)).unwrap();
    world.reopen();
    world.pass(Duration::from_secs(3600));
    world.thin(&[], &Retention::default());
    assert_eq!(world.names(&world.local()).len(), 1, "history must not depend on the store");
}

#[test]
fn a_removal_that_would_lose_a_pin_is_refused() {
    let mut world = World::new(false);
    for n in 1..=3 {
        world.seal(&[(2, n)], 4);
    }
    let key = |txid| FileKey { level: 0, min: Txid(txid), max: Txid(txid) };
    let wrong = ThinPlan { remove_local: vec![key(2)], pinned: vec![Txid(2)], ..ThinPlan::default() };
    assert!(matches!(world.history.carry_out(&wrong), Err(ThinError::Unsafe { lost: Txid(2), .. })));
    let wrong = ThinPlan { remove_local: vec![key(3)], ..ThinPlan::default() };
    assert!(matches!(world.history.carry_out(&wrong), Err(ThinError::Unsafe { lost: Txid(3), .. })));
    assert_eq!(world.names(&world.local()).len(), 3);
}

/// The files here and in the store, as thinning sees them.
/// A snapshot goes before what lies before it, which is history of its own.
#[test]
fn what_lies_before_a_snapshot_is_lacking_until_it_is_sent() {
    let mut world = World::new(true);
    let inputs = [world.seal(&[], 3).key, world.seal(&[(2, 2)], 3).key].to_vec();
    let output = FileKey { level: SNAPSHOT_LEVEL, min: Txid(1), max: Txid(2) };
    world
        .history
        .carry_out(&ThinPlan { merges: vec![Merge { inputs, output }], ..ThinPlan::default() })
        .unwrap();
    assert!(world.history.lacks_in_store(Txid(1)));
    let one = Terms { is_over: &|| true, rest: &|_| (), bucket: None };
    let shipped = world.history.ship_under(&one).unwrap();
    assert_eq!((shipped.files, shipped.stored_txid, shipped.more), (1, Txid(0), true));
    world.list();
    assert_eq!((world.history.stored_txid(), world.history.is_stored(Txid(1))), (Txid(2), false));
    assert!(world.history.lacks_in_store(Txid(1)) && world.history.lacks_in_store(Txid(2)));
    assert!(world.history.ship_under(&one).unwrap().more);
    assert!(world.history.awaits_list() && !world.history.is_stored(Txid(1)));
    world.list();
    assert!(world.history.is_stored(Txid(1)) && !world.history.awaits_list());
    assert!(!world.history.lacks_in_store(Txid(2)), "the rest leads nowhere else");
    assert!(world.history.lacks_in_store(Txid(3)));
}

fn keys(world: &World) -> [Vec<FileKey>; 2] {
    [Place::Local, Place::Store].map(|place| {
        let files = world.history.files();
        files.iter().filter(|file| file.place == place).map(|file| file.key).collect()
    })
}
