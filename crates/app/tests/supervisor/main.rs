//! The supervisor with real processes: this program plays the supervisor, a small node, and the tests.
//!
//! `main supervise HOME [BEATS]` is the real supervisor, whose node is `main node HOME [BEATS]`: it obeys commands on a
//! socket in the home (see [`fake_node`]). Without arguments of these kinds it runs the tests, without the usual
//! harness, because a supervisor must be the only thread of its process.
//!
//! It lies here, below the binary that the supervisor belongs to, so that it is built with nothing but what a
//! supervisor may know: this crate and `base`, no configuration, database or HTTP.
#![allow(clippy::disallowed_methods, reason = "tests watch real files and real time")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod ends;
mod fake_node;
mod output;
mod restarts;
mod stage;
mod stops;

/// The real one, not a copy. Its own unit tests come along and are not run here.
#[allow(dead_code, reason = "this program is no unit test")]
#[path = "../../../stead/src"]
mod binary {
    pub mod supervisor;
}

use binary::supervisor;
use libtest_mimic::{Arguments, Trial};
use std::ffi::OsString;
use std::path::Path;

fn main() {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    match arguments.get(1).and_then(|role| role.to_str()) {
        Some("supervise") => {
            let node =
                [arguments[0].clone(), "node".into()].into_iter().chain(arguments[2..].iter().cloned());
            let path = std::env::var_os("TEST_NODE").unwrap_or_else(|| "/proc/self/exe".into());
            let program = supervisor::Program { path: path.into(), arguments: node.collect() };
            let code = supervisor::run_program(Path::new(&arguments[2]), program);
            std::process::exit(code.into());
        }
        Some("node") => fake_node::play(&arguments[2..]),
        _ => {
            let trials = |tests: &[stage::Test]| -> Vec<Trial> {
                let trial = |&(name, test): &stage::Test| {
                    Trial::test(name, move || {
                        test();
                        Ok(())
                    })
                };
                tests.iter().map(trial).collect()
            };
            let mut options = Arguments::from_args();
            // They wait more than they work.
            options.test_threads = options.test_threads.or(Some(8));
            let tests = [stops::TESTS, restarts::TESTS, ends::TESTS, output::TESTS].concat();
            libtest_mimic::run(&options, trials(&tests)).exit_if_failed();
            options.test_threads = Some(1);
            libtest_mimic::run(&options, trials(stops::STORMS)).exit();
        }
    }
}
