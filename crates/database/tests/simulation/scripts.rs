//! A crash and a power loss at every persistence step of one act, from the same state each time.

use crate::app::{PAIR, SHARED};
use crate::world::{Crash, Kept, Saved, Setup, World};
use database::engine::TurnError;
use database::ledger::Checkpoint;
use std::time::Duration;

/// Worlds for each act in an ordinary run; a long run takes some more.
const SEEDS: u64 = 1;
const SEEDS_MAX: u64 = 5;

pub fn setup() -> Setup {
    Setup {
        apps: 1,
        sync_interval: Duration::from_millis(200),
        keep: Duration::from_secs(3600),
        local_bytes: 10 << 30,
        store: Kept::Nowhere,
        wal_limit_bytes: 1 << 30,
        checkpoint_frames: 12,
        former_sends_on: false,
    }
}

/// A world with two databases in balance, a third one, a checkpoint, and something that is not sealed yet.
pub fn lived_in(seed: u64, setup: Setup) -> World {
    let mut world = World::new(seed, setup);
    world.restless = false;
    world.restart(None);
    for name in [PAIR[0], PAIR[1], SHARED] {
        world.apps().commit_to(name, false);
    }
    world.notice();
    world.apps().transfer_once();
    world.checkpoint(false);
    world.pass(Duration::from_secs(3));
    for full in [true, false] {
        world.apps().commit_to(PAIR[0], full);
        world.apps().commit_to(SHARED, !full);
    }
    world.apps().transfer_once();
    world
}

/// Does the act as often as it has steps, and dies at another one each time.
fn at_every_step(setup: &Setup, prepare: fn(&mut World), act: fn(&mut World)) {
    at_every_step_of(&[Crash::Processes, Crash::Power], setup, prepare, act);
}

fn at_every_step_of(crashes: &[Crash], setup: &Setup, prepare: fn(&mut World), act: fn(&mut World)) {
    for seed in 0..crate::number("STEAD_SIM_SEEDS").map_or(SEEDS, |seeds| seeds.clamp(SEEDS, SEEDS_MAX)) {
        let prepared = || {
            let mut world = lived_in(seed, setup.clone());
            prepare(&mut world);
            world
        };
        let mut world = prepared();
        let first = world.disk.steps() + 1;
        act(&mut world);
        let last = world.disk.steps();
        assert!(last >= first, "the act leaves no trace");
        for &crash in crashes {
            for step in first..=last {
                let mut world = prepared();
                world.note(format!("{crash:?} at step {step} of {first} to {last}"));
                world.disk.halt_at_step(step);
                world.apps().faulty = true;
                act(&mut world);
                assert!(world.halted(), "the same seed takes other steps");
                world.fall(crash);
                world.check_all();
            }
        }
    }
}

fn nothing(_: &mut World) {}

/// A cut and its row, without looking at it before the next start.
fn checkpoint_now(world: &mut World) {
    let moment = world.apps().model.moment();
    let Ok(cut) = world.with_engine(false, |engine| engine.cut(Duration::from_millis(50))) else { return };
    let saved = Saved { vector: cut.vector.clone(), moment };
    let checkpoint = Checkpoint {
        id: "second".into(),
        created: cut.at,
        comment: None,
        automatic: false,
        vector: cut.vector,
    };
    let ledger = world.ledger.as_ref().expect("invariant: it runs");
    match ledger.insert_checkpoint(&checkpoint) {
        Ok(()) => world.saved.insert(checkpoint.id, saved),
        Err(_) => world.unsure.insert(checkpoint.id, saved),
    };
}

fn no_application(world: &mut World) {
    world.apps().close_all();
    world.pass(Duration::from_secs(3));
}

fn turn_to_the_checkpoint(world: &mut World) {
    let (id, saved) = world.saved.first_key_value().map(|(id, saved)| (id.clone(), saved.clone())).unwrap();
    world.turn_now(&id, &saved.vector, &saved.moment);
}

/// Seals over some minutes, ready to be merged.
fn many_seals(world: &mut World) {
    for _ in 0..5 {
        world.apps().commit_to(PAIR[0], false);
        world.with_engine(false, |engine| engine.sync());
        world.clock.advance(Duration::from_secs(12));
    }
    world.apps().close_all();
    world.clock.advance(Duration::from_secs(400));
}

#[test]
fn a_commit_survives_a_crash_at_every_step() {
    at_every_step(&setup(), nothing, |world| world.apps().commit_to(PAIR[0], true));
    at_every_step(&setup(), nothing, |world| world.apps().commit_to(PAIR[0], false));
    at_every_step(&setup(), nothing, |world| world.apps().transfer_once());
}

#[test]
fn a_seal_survives_a_crash_at_every_step() {
    at_every_step(&setup(), nothing, |world| world.with_engine(false, |engine| engine.sync()));
}

#[test]
fn a_checkpoint_survives_a_crash_at_every_step() {
    at_every_step(&setup(), nothing, checkpoint_now);
}

#[test]
fn a_restore_survives_a_crash_at_every_step() {
    at_every_step(&setup(), no_application, turn_to_the_checkpoint);
}

#[test]
fn a_merge_survives_a_crash_at_every_step() {
    at_every_step(&setup(), many_seals, |world| world.pass(Duration::from_millis(100)));
    let stored = Setup { store: Kept::Directory, local_bytes: 20_000, ..setup() };
    at_every_step_of(&[Crash::Power], &stored, many_seals, |world| world.pass(Duration::from_millis(100)));
}

/// A restore for which there is room for this much more, until there is room again.
fn turn_with_room_for(free_bytes: u64) -> bool {
    let mut world = lived_in(7, setup());
    no_application(&mut world);
    let (id, saved) = world.saved.first_key_value().map(|(id, saved)| (id.clone(), saved.clone())).unwrap();
    let before = world.apps().model.moment();
    world.note(format!("room for {free_bytes} bytes"));
    world.apps().faulty = true;
    world.disk.set_capacity(world.disk.used_bytes() + free_bytes);
    let limit = Duration::from_millis(500);
    let turned = world.with_engine(false, |engine| engine.turn_back(&id, &saved.vector, limit, &mut |_| {}));
    let open = world.with_engine(false, |engine| engine.unfinished());
    match &turned {
        Ok(_) => {
            world.apps().model.turned(&saved.moment);
            world.undo = Some(before.clone());
        }
        Err(error) => assert!(error.disk_full(), "{error}"),
    }
    if let Some(open) = &open {
        assert!(matches!(turned, Err(TurnError::Unfinished(_))) && open.disk_full, "{open}");
        let noted = |world: &World| world.ledger.as_ref().unwrap().newest_vector().unwrap();
        let newest = noted(&world);
        world.with_engine(false, |engine| {
            engine.cut(limit).expect_err("no checkpoint of what stands at no moment");
            engine.sync();
            if engine.settle().is_err() {
                engine
                    .turn_back(&id, &saved.vector, limit, &mut |_| {})
                    .expect_err("no restore over another");
            }
        });
        assert_eq!(noted(&world), newest, "a moment was noted that there never was");
        // All that was missing may have been the record that it is done.
        world.turning = Some((before, saved.moment.clone()));
    }
    world.disk.set_capacity(u64::MAX);
    world.pass(Duration::from_secs(9));
    assert_eq!(world.with_engine(false, |engine| engine.unfinished()), None, "it ends when there is room");
    world.apps().faulty = false;
    world.check_files(None);
    world.check_all();

    // What is written from now on stays, whatever the next start finds in the ledger.
    for name in [PAIR[0], SHARED] {
        world.apps().commit_to(name, false);
    }
    world.fall(Crash::Processes);
    world.check_all();
    no_application(&mut world);
    let undone = world.apps().model.moment();
    world.turn(&id, &saved.vector, &saved.moment, false);
    assert_ne!(undone, saved.moment);
    world.check_all();
    open.is_some()
}

// semantics: unfinished-waits, disk-full
#[test]
fn a_restore_that_a_full_disk_stops_half_way_ends_when_there_is_room() {
    let unfinished = (0..60).filter(|step| turn_with_room_for(step * 1500)).count();
    assert!(unfinished > 0, "no restore was stopped half-way");
}

// semantics: disk-full
#[test]
fn a_restore_whose_capture_finds_no_room_has_not_begun() {
    let mut world = lived_in(7, setup());
    no_application(&mut world);
    let (id, saved) = world.saved.first_key_value().map(|(id, saved)| (id.clone(), saved.clone())).unwrap();
    world.apps().commit_to(PAIR[0], false);
    world.apps().close_all();
    world.apps().faulty = true;
    world.disk.set_capacity(world.disk.used_bytes());
    let limit = Duration::from_millis(500);
    let turned = world.with_engine(false, |engine| engine.turn_back(&id, &saved.vector, limit, &mut |_| {}));

    assert!(matches!(turned, Err(TurnError::NotBegun { disk_full: true, .. })), "{turned:?}");
    assert_eq!(world.with_engine(false, |engine| engine.unfinished()), None);
    assert_eq!(world.ledger.as_ref().unwrap().open_intent().unwrap(), None);
    world.disk.set_capacity(u64::MAX);
    world.apps().faulty = false;
    world.check_all();
    world.turn(&id, &saved.vector, &saved.moment, false);
    world.check_all();
}
