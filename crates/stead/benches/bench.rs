//! `make bench`: what Stead costs and how fast it is, both sides in one run on one disk.
//!
//! Each figure is printed with the other side's and their ratio, or with the bound it is held against. Nothing here
//! fails on a slow machine.
//!
//! `make bench ARGS="writers restore"` runs a selection of:
//!
//! | part | shows |
//! |---|---|
//! | `writers` | commits a second with Stead beside the writer and without |
//! | `capture`, `seal` | pages a second into history; a commit's way to its sealed file |
//! | `checkpoint`, `restore` | both at several sizes |
//! | `fetch` | a restore from a store, beside Litestream's |
//! | `stored` | a commit's way into a store, beside Litestream's; requests of a busy node and of an idle one |
//! | `upload` | the first upload of a database beside a plain copy, and what a writer notices of it |
//! | `start`, `idle`, `cost` | what a node takes to start, and takes while nothing happens |
//!
//! `--small` takes a tenth of the data, `--mb N` that many megabytes instead of each part's own number, and
//! `--idle SECONDS` is how long `stored` watches an idle node (60).
#![allow(clippy::unwrap_used, clippy::panic, reason = "a bench ends where something is not as it must be")]
#![allow(clippy::disallowed_methods, reason = "a bench measures from outside")]
#![allow(missing_docs, reason = "a program, not a library")]

#[path = "bench/capture.rs"]
mod capture;
#[path = "bench/cost.rs"]
mod cost;
#[path = "bench/fetch.rs"]
mod fetch;
#[path = "bench/litestream.rs"]
mod litestream;
#[path = "bench/node.rs"]
mod node;
#[path = "../../store/tests/s3/proxy.rs"]
mod proxy;
#[path = "../../store/tests/s3/support.rs"]
mod servers;
#[path = "bench/stored.rs"]
mod stored;
#[path = "bench/turns.rs"]
mod turns;
#[path = "bench/upload.rs"]
mod upload;
#[path = "bench/writers.rs"]
mod writers;

use std::time::Duration;

/// What to run and how much.
pub struct Plan {
    names: Vec<String>,
    small: bool,
    megabytes: Option<u64>,
    idle: Duration,
}

/// How long an idle node is watched, unless it is said.
const IDLE_SECONDS: u64 = 60;

impl Plan {
    /// Megabytes of a large database.
    pub fn megabytes(&self, full: u64) -> u64 {
        self.megabytes.unwrap_or(if self.small { (full / 10).max(10) } else { full })
    }

    /// How often something is done and timed.
    pub fn times(&self, full: usize) -> usize {
        if self.small { full.div_ceil(10) } else { full }
    }

    /// How long an idle node is watched for requests.
    pub fn idle(&self) -> Duration {
        self.idle
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
    let megabytes = number(&mut args, "--mb");
    let idle = Duration::from_secs(number(&mut args, "--idle").unwrap_or(IDLE_SECONDS));
    let small = args.iter().any(|arg| arg == "--small");
    args.retain(|arg| !arg.starts_with("--"));
    let plan = Plan { names: args, small, megabytes, idle };
    type Part = fn(&Plan);
    let parts: [(&str, Part); 11] = [
        ("writers", writers::compare),
        ("capture", capture::bulk),
        ("seal", capture::latency),
        ("checkpoint", turns::checkpoint),
        ("restore", turns::restore),
        ("fetch", fetch::compare),
        ("stored", stored::measure),
        ("upload", upload::compare),
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

/// The number behind an option; both are taken out.
fn number(args: &mut Vec<String>, option: &str) -> Option<u64> {
    let at = args.iter().position(|arg| arg == option)?;
    let value = args.get(at + 1).and_then(|value| value.parse().ok());
    let value = value.unwrap_or_else(|| panic!("{option} needs a whole number"));
    args.drain(at..at + 2);
    Some(value)
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
