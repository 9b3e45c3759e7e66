//! `make soak` for a few seconds: the same writers, the same verification.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a soak ends where something is not as it must be")]
#![allow(clippy::disallowed_methods, reason = "a soak looks from outside")]

#[path = "../benches/soak/rig.rs"]
mod rig;

use rig::{kill, load, stores, supervise};
use std::time::Duration;

// semantics: no-refused-write, readers-free, foreign-checkpoint, cut, export-equal
#[test]
fn checkpoints_under_load_hold_what_was_acknowledged_and_nothing_later() {
    load::run(load::Load { seconds: 8, restore_every: Duration::from_millis(1500), seed: 1 });
}

// semantics: kill, no-full-copy
#[test]
fn kills_lose_nothing_that_was_acknowledged() {
    kill::run(kill::Kill { rounds: 6, seed: 1 });
}

// semantics: kill, frozen, one-copy
#[test]
fn however_it_ends_the_app_runs_once_and_nothing_of_it_is_left() {
    supervise::run(supervise::Supervise { rounds: 12, seed: 3, lanes: 3, hold_bounds: false });
}

// semantics: another-machine, taken-over
#[test]
fn what_was_called_stored_comes_back_from_a_store_that_failed_in_every_way() {
    stores::run(stores::Stores { rounds: 1, seconds: 8, races: 1, seed: 1 });
}
