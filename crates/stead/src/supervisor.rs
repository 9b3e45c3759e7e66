//! The supervisor: the small parent process of a node and its app.
//!
//! ```text
//!            signals, exits           ┌──────────── watch: one thread, one poll ────────────┐
//!  the outside ─────────────────────▶ │ node_process   beats, messages, exits → verdict     │
//!            own stdout, stderr       │ app_process    launch, escalation, nobody left      │
//!              ◀──────────────────────│ output, sink   pipes → lines → kept, passed on      │
//!                                     └──────────────────────────────────────────────────────┘
//! ```
//! It keeps three promises whatever happens to the node: the app does not run longer than the node has said it may; two
//! runs of the app never overlap; nothing of the app outlives the supervisor's own orderly end. It is fit to be
//! PID 1: it reaps everything, forwards signals, and never waits for anything but its poll. No async runtime, no
//! further thread, nothing that grows without a limit. It does not know configurations, databases or HTTP.
//!
//! Killed itself, it leaves the rest to others: the app's main process dies with it, the node ends the app's other
//! processes and itself, and what may still be left is ended at the next start ([`leftovers`]).

use std::ffi::OsString;
use std::path::{Path, PathBuf};

mod answers;
mod app_process;
mod crowd;
mod datagram;
mod escalation;
mod leftovers;
mod limits;
mod manager;
mod node_process;
mod notify_socket;
mod output;
mod probe;
mod signals;
mod sink;
mod verdict;
mod watch;

pub use node_process::Program;

use base::{Clock, SystemClock};
use leftovers::ClaimError;
use std::io::Write;

/// A path, permission or other problem of the system.
const SYSTEM: u8 = 71;
/// Try again later.
const TEMPORARY: u8 = 75;

/// Runs this binary as `stead node ARG…` for the home, and its app, until they end; returns the exit code.
pub fn run(home: &Path, node_args: Vec<OsString>) -> u8 {
    let own_name = std::env::args_os().next().unwrap_or_else(|| "stead".into());
    let arguments = [own_name, "node".into()].into_iter().chain(node_args).collect();
    // By this name it is the same build even when the file has been replaced.
    run_program(home, Program { path: PathBuf::from("/proc/self/exe"), arguments })
}

/// Runs any program as the node; returns the exit code. To be called on the only thread of the process.
pub fn run_program(home: &Path, program: Program) -> u8 {
    app::spawn::go_first();
    let claim = match leftovers::claim(home) {
        Ok(claim) => claim,
        Err(error) => return refuse(&error),
    };
    match watch::Watch::begin(claim, program, SystemClock.boottime()) {
        Ok(watch) => watch.serve(),
        Err(error) => {
            complain("the supervisor cannot start", &error.to_string(), "look at `cause`");
            SYSTEM
        }
    }
}

fn refuse(error: &ClaimError) -> u8 {
    let (code, hint) = match error {
        ClaimError::Held { .. } => (TEMPORARY, "stop it, or name another home with --home"),
        ClaimError::Left(_) => {
            (TEMPORARY, "see what these processes wait for; a hanging file system, most likely")
        }
        ClaimError::Io { .. } => (SYSTEM, "make the home a directory that this user may write to"),
    };
    complain("the node cannot start here", &error.to_string(), hint);
    code
}

fn complain(what: &str, why: &str, hint: &str) {
    let text = format!("error: {what}\ncause: {why}\nhint: {hint}\n");
    // Nobody to tell if standard error is gone; the exit code says it too.
    let _ = std::io::stderr().write_all(text.as_bytes());
}
