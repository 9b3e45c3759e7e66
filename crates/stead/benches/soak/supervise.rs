//! `soak supervise`: node, supervisor and app are killed, frozen and asked to end, with apps that make that hard.
//!
//! ```text
//!  lanes: so many homes side by side, each with a node ── a round: an app ─▶ an event ─▶ all dead? ─▶ well again?
//! ```
//! After each round nothing of the run before is left, and no two copies of the app ever ran at once: each copy wants a
//! lock that lives as long as any process of a copy, and writes down where it did not get it (`lone.c`).

mod figures;
mod lane;
mod watched;

use super::Scratch;
use figures::Figures;
use lane::Lane;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

const LONE: &str = include_str!("lone.c");

/// How often, from which seed, on how many homes at once.
#[derive(Clone, Copy, Debug)]
pub struct Supervise {
    /// Rounds.
    pub rounds: u64,
    /// The seed.
    pub seed: u64,
    /// Homes side by side: a frozen node is waited for long.
    pub lanes: u64,
    /// Whether a time above its bound is a failure; on a machine that does other things it is not.
    pub hold_bounds: bool,
}

/// Runs it; panics where anything is not as promised.
pub fn run(supervise: Supervise) {
    let dir = Scratch::new("supervise");
    let lone = compile(&dir);
    let next = AtomicU64::new(0);
    let figures = Mutex::new(Figures::default());
    std::thread::scope(|scope| {
        for number in 0..supervise.lanes {
            let (dir, lone, next, figures) =
                (dir.path().join(format!("lane{number}")), &lone, &next, &figures);
            scope.spawn(move || {
                let mut lane = Lane::begin(&dir, lone, supervise.seed.wrapping_add(number << 32));
                loop {
                    let round = next.fetch_add(1, Ordering::SeqCst);
                    if round >= supervise.rounds {
                        break;
                    }
                    let times = lane.round(round);
                    figures.lock().unwrap().take(times);
                }
                lane.end();
            });
        }
    });
    let figures = figures.into_inner().unwrap();
    figures.print();
    let late = figures.late();
    assert!(!supervise.hold_bounds || late.is_empty(), "later than their bound: {late:#?}");
    dir.done();
}

fn compile(dir: &Scratch) -> PathBuf {
    let (code, program) = (dir.path().join("lone.c"), dir.path().join("lone"));
    std::fs::write(&code, LONE).unwrap();
    let built = std::process::Command::new("cc").arg("-O2").arg("-o").arg(&program).arg(&code).status();
    assert!(built.unwrap().success(), "lone.c");
    program
}
