//! The database engine on a simulated machine: seeded worlds, and a crash at every step of what it does.
//!
//! ```text
//! drive (what happens) ─▶ world (engine, crashes) ─▶ machine (disk, clock, kernel, with turns for others)
//!                             │   └─▶ app (processes with SQLite) ─▶ content (rows)
//!                             └─▶ checks (what must hold) ─▶ model (states, and which may be lost)
//! ```
//! `STEAD_SIM_SEEDS=10000 cargo test --release -p database --test simulation` runs as many worlds;
//! `STEAD_SIM_SEED=7` runs that one; `STEAD_SIM_LOG=1` shows every request to the store where a world fails.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod app;
mod checks;
mod content;
mod damage;
mod drive;
mod edges;
mod examine;
mod files;
mod fleet;
mod held;
mod line;
mod machine;
mod model;
mod races;
mod regressions;
mod reports;
mod scripts;
mod storm;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};

/// Worlds in an ordinary run.
const SEEDS: u64 = 16;

/// Worlds with a bucket in an ordinary run.
const STORMS: u64 = 60;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs so many worlds, or those that the environment asks for, on all processors.
fn worlds(count: u64, run: fn(u64)) {
    if let Some(seed) = number("STEAD_SIM_SEED") {
        return run(seed);
    }
    let next = AtomicU64::new(number("STEAD_SIM_FROM").unwrap_or(0));
    let end = next.load(Ordering::Relaxed) + number("STEAD_SIM_SEEDS").unwrap_or(count);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    run(seed);
                }
            });
        }
    });
}

// semantics: every-commit, no-full-copy, cut, durable, whole, undo, power
#[test]
fn whatever_happens_nothing_acknowledged_is_lost() {
    worlds(SEEDS, drive::run);
}

#[test]
fn whatever_befalls_store_and_machines_what_was_called_stored_comes_back() {
    worlds(STORMS, storm::run);
}
