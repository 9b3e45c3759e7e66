//! `make bench`: what Stead costs and how fast it is, both sides in one run on one disk.
//!
//! Each figure is printed with the other side's and their ratio, or with the bound it is held against. Nothing here
//! fails on a slow machine. `make bench ARGS="writers restore"` runs a selection; `--small` takes a tenth of the data.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a bench ends where something is not as it must be")]
#![allow(clippy::disallowed_methods, reason = "a bench measures from outside")]
#![allow(missing_docs, reason = "a program, not a library")]

#[path = "bench/capture.rs"]
mod capture;
#[path = "bench/cost.rs"]
mod cost;
#[path = "bench/fetch.rs"]
mod fetch;
#[path = "bench/node.rs"]
mod node;
#[path = "../../store/tests/s3/support.rs"]
mod servers;
#[path = "bench/turns.rs"]
mod turns;
#[path = "bench/writers.rs"]
mod writers;

use std::time::Duration;

/// What to run and how much.
pub struct Plan {
    names: Vec<String>,
    small: bool,
}

impl Plan {
    /// Megabytes of a large database.
    pub fn megabytes(&self, full: u64) -> u64 {
        if self.small { (full / 10).max(10) } else { full }
    }

    /// Whether the figures may be rough.
    pub fn is_small(&self) -> bool {
        self.small
    }

    fn wants(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|wanted| wanted == name)
    }
}

fn main() {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|first| first == "--writer") {
        return writers::write(&args[1..]);
    }
    let small = args.iter().any(|arg| arg == "--small");
    args.retain(|arg| !arg.starts_with("--"));
    let plan = Plan { names: args, small };
    type Part = fn(&Plan);
    let parts: [(&str, Part); 9] = [
        ("writers", writers::compare),
        ("capture", capture::bulk),
        ("seal", capture::latency),
        ("checkpoint", turns::checkpoint),
        ("restore", turns::restore),
        ("fetch", fetch::compare),
        ("start", node::start),
        ("idle", node::idle),
        ("cost", cost::cost),
    ];
    for (name, part) in parts {
        if plan.wants(name) {
            println!("\n## {name}");
            part(&plan);
        }
    }
}

/// The middle value.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The value that this part of all is not above.
pub fn percentile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * part) as usize]
}

/// Milliseconds.
pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
