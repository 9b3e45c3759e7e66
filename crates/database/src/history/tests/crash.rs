//! The machine dies at every step of sealing, shipping and thinning.

use super::*;
use base::sim::{Op, SimClock, SimDisk, SimRandom};

const SEALS: u8 = 7;
const ENOSPC: i32 = 28;

fn machine() -> SimDisk {
    let disk = SimDisk::new(SimClock::new(Timestamp(START_MS)), SimRandom::new(1));
    disk.create_dir_all(Path::new("/home/store")).unwrap();
    for dir in ["/", "/home", "/home/store"] {
        disk.sync_dir(Path::new(dir)).unwrap();
    }
    disk
}

/// A day of a database, as far as the machine lets it: `None` where not even the history could be opened.
fn live_a_day(disk: &SimDisk) -> Option<World> {
    let mut world = World::on(Arc::new(disk.clone()), PathBuf::from("/home"), true).ok()?;
    let retention = Retention { keep: Duration::from_secs(3600), ..Retention::default() };
    for n in 1..=SEALS {
        let size = if n == 4 { 3 } else { 6 };
        if world.try_seal(&[(u32::from(n) % 5 + 1, n)], size).is_err() {
            break;
        }
        world.pass(Duration::from_secs(if n < 4 { 9 } else { 500 }));
        let _ = world.history.ship();
        let holds = Holds { pinned: vec![Txid(2)], noted: Vec::new() };
        let plan = world.history.thin(world.now, &holds, &retention);
        let _ = world.history.carry_out(&plan);
        if n == 6 {
            world.pass(Duration::from_secs(20_000));
        }
    }
    Some(world)
}

/// Everything that was acknowledged is there, whole; at most the seal under way besides.
fn assert_nothing_lost(mut world: World) {
    world.reopen();
    let acknowledged = world.states.len() as u64 - 1;
    let last = world.history.last().map_or(0, |last| last.header.max_txid.0);
    assert!(last == acknowledged || last == acknowledged + 1, "{last}, {acknowledged} acknowledged");
    if last > acknowledged {
        let pending = world.pending.take();
        world.states.extend(pending);
    }
    let restorable = world.history.restorable();
    assert!(acknowledged < 2 || restorable.contains(&Txid(2)), "the pin is lost");
    restorable.iter().for_each(|txid| world.assert_restores(txid.0 as usize));
    assert!(world.history.damaged().is_empty());
    // Life goes on.
    world.seal(&[(1, 99)], 6);
    world.history.ship().unwrap();
    assert_eq!(world.history.stored_txid().0, last + 1);
    for _ in 0..3 {
        world.thin(&[2], &Retention::default());
    }
    world.assert_restores(world.states.len() - 1);
    assert!(!world.names(&world.local()).iter().any(|name| name.ends_with(".tmp")));
}

fn at_every_step(crash: impl Fn(&SimDisk, u64)) {
    let whole = machine();
    let first = whole.steps() + 1;
    let world = live_a_day(&whole).unwrap();
    assert_eq!(world.states.len(), usize::from(SEALS) + 1);
    assert!(world.names(&world.local()).iter().any(|name| name.starts_with("9/")));
    let last = whole.steps();
    assert!(last - first > 120, "{} steps are too few to mean anything", last - first);
    for step in first..=last {
        let disk = machine();
        disk.halt_at_step(step);
        let world = live_a_day(&disk);
        crash(&disk, step);
        match world {
            Some(world) => assert_nothing_lost(world),
            None => {
                let world = World::on(Arc::new(disk.clone()), PathBuf::from("/home"), true).unwrap();
                assert_nothing_lost(world);
            }
        }
    }
}

#[test]
fn a_power_loss_at_any_step_loses_nothing_acknowledged() {
    for seed in 0..4 {
        at_every_step(|disk, step| disk.crash_power(&SimRandom::new(seed * 7919 + step)));
    }
}

#[test]
fn a_killed_process_at_any_step_loses_nothing_acknowledged() {
    at_every_step(|disk, _| disk.crash_processes());
}

#[test]
fn a_full_disk_fails_the_seal_and_the_next_one_succeeds() {
    for op in [Op::Create, Op::Write, Op::Sync, Op::Rename, Op::SyncDir] {
        let disk = machine();
        let mut world = World::on(Arc::new(disk.clone()), PathBuf::from("/home"), false).unwrap();
        world.seal(&[], 6);
        disk.fail_nth(op, 1, ENOSPC);
        let error = world.try_seal(&[(2, 2)], 6).unwrap_err();
        assert!(error.is_disk_full(), "{op:?}: {error}");
        assert_eq!(world.names(&world.local()).len(), 1, "{op:?}");
        world.seal(&[(2, 3)], 6);
        world.assert_restores(2);
    }
}

/// Whoever set a file aside may have died before its new name was durable, and opening syncs what it left.
#[test]
fn what_was_set_aside_is_durable_before_anything_else() {
    let disk = machine();
    let mut world = World::on(Arc::new(disk.clone()), PathBuf::from("/home"), false).unwrap();
    world.seal(&[], 4);
    disk.create_dir_all(&world.local().join("aside")).unwrap();
    disk.fail_each(Op::SyncDir, "aside", EIO);
    disk.fail_each(Op::SyncDir, "ltx/0", ENOSPC);
    let error = World::on(Arc::new(disk.clone()), PathBuf::from("/home"), false).err().unwrap();
    assert_eq!(error.cause.raw_os_error(), Some(EIO));
}

#[test]
fn what_is_shipped_after_a_kill_outlives_the_power() {
    for step in 1.. {
        let disk = machine();
        let mut world = World::on(Arc::new(disk.clone()), PathBuf::from("/home"), true).unwrap();
        world.seal(&[], 4);
        disk.halt_at_step(disk.steps() + step);
        if world.history.ship().is_ok() {
            assert!(step > 10, "{step} steps are too few to mean anything");
            break;
        }
        disk.crash_processes();
        world.reopen();
        world.history.ship().unwrap();
        assert_eq!(world.history.stored_txid(), Txid(1));
        disk.crash_power(&SimRandom::new(step));
        world.reopen();
        assert_eq!(world.history.stored_txid(), Txid(1), "killed at step {step}");
    }
}

const EIO: i32 = 5;

/// A history with a file that moved to a directory that cannot be synced.
fn half_moved(disk: &SimDisk, to: &str) -> World {
    let mut world = World::on(Arc::new(disk.clone()), PathBuf::from("/home"), true).unwrap();
    (1..=3).for_each(|n| drop(world.seal(&[(2, n)], 4)));
    world.history.ship().unwrap();
    world.pass(Duration::from_secs(100));
    world.thin(&[], &Retention::default());
    world.history.ship().unwrap();
    world.pass(Duration::from_secs(7200));
    (4..=5).for_each(|n| drop(world.seal(&[(2, n)], 4)));
    disk.fail_each(Op::SyncDir, to, EIO);
    let plan = world.history.thin(world.now, &Holds::default(), &Retention::default());
    assert_eq!((plan.merges.len(), plan.moves.len()), (0, 1), "{plan:?}");
    assert!(world.history.carry_out(&plan).is_err());
    world
}

/// To sync the directory that a file left would be to lose it with the power.
#[test]
fn a_merge_waits_until_a_move_is_durable() {
    let disk = machine();
    let mut world = half_moved(&disk, "app.db-litestream/ltx/2");
    world.pass(Duration::from_secs(60));
    let plan = world.history.thin(world.now, &Holds::default(), &Retention::default());
    let merged = plan.merges[0].output.relative();
    assert!(world.history.carry_out(&plan).is_err());
    assert!(disk.metadata(&world.local().join(&merged)).is_err(), "its directory was synced");
    disk.clear_failures();
    world.history.carry_out(&plan).unwrap();
    disk.metadata(&world.local().join(&merged)).unwrap();
}

// semantics: cost
#[test]
fn a_seal_costs_two_syncs() {
    let disk = machine();
    let mut world = World::on(Arc::new(disk.clone()), PathBuf::from("/home"), false).unwrap();
    world.seal(&[], 6);
    disk.fail_nth(Op::Sync, 2, ENOSPC);
    disk.fail_nth(Op::SyncDir, 2, ENOSPC);
    world.seal(&[(2, 2)], 6);
    disk.clear_failures();
}
