//! A crash and a power loss at every persistence step of one act, from the same state each time.

use crate::app::{PAIR, SHARED};
use crate::world::{Crash, Saved, Setup, World};
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
        store: false,
        wal_limit_bytes: 1 << 30,
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
    let stored = Setup { store: true, local_bytes: 20_000, ..setup() };
    at_every_step_of(&[Crash::Power], &stored, many_seals, |world| world.pass(Duration::from_millis(100)));
}
