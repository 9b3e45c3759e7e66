//! `make soak`: real processes on a real node for as long as ARGS say, everything held against what they wrote down.
//!
//! ```text
//! make soak ARGS="load --seconds 60"
//! make soak ARGS="kill --rounds 200 --seed 7"
//! make soak ARGS="supervise --rounds 500 --lanes 4"
//! make soak ARGS="stores --rounds 50 --seconds 60 --races 20"
//! ```
//! Without a name all run. It ends at the first thing that is not as promised and leaves everything where it was.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a soak ends where something is not as it must be")]
#![allow(clippy::disallowed_methods, reason = "a soak looks from outside")]
#![allow(missing_docs, reason = "a program, not a library")]

#[path = "soak/rig.rs"]
mod rig;

use rig::{kill, load, stores, supervise};
use std::time::Duration;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let number = |flag: &str, default: u64| {
        let at = args.iter().position(|arg| arg == flag);
        at.map_or(default, |at| args[at + 1].parse().unwrap())
    };
    let named = |name: &str| args.iter().any(|arg| arg == name);
    let all = !["load", "kill", "supervise", "stores"].into_iter().any(named);
    let seed = number("--seed", u64::from(std::process::id()));
    if all || named("load") {
        let seconds = number("--seconds", 60);
        println!("\n## load: {seconds} s, seed {seed}");
        load::run(load::Load {
            seconds,
            restore_every: Duration::from_millis(number("--restore-every-ms", 10_000)),
            seed,
        });
    }
    if all || named("kill") {
        let rounds = number("--rounds", 200);
        println!("\n## kill: {rounds} rounds, seed {seed}");
        kill::run(kill::Kill { rounds, seed });
    }
    if all || named("supervise") {
        let (rounds, lanes) = (number("--rounds", 500), number("--lanes", 4));
        println!("\n## supervise: {rounds} rounds on {lanes} homes, seed {seed}");
        supervise::run(supervise::Supervise { rounds, seed, lanes, hold_bounds: true });
    }
    if all || named("stores") {
        let (rounds, seconds, races) = (number("--rounds", 3), number("--seconds", 60), number("--races", 6));
        println!("\n## stores: {rounds} rounds of {seconds} s, {races} races, seed {seed}");
        stores::run(stores::Stores { rounds, seconds, races, seed });
    }
}
