//! Looking at what a node and its app stand on: before anything starts, and again while they run.
//!
//! ```text
//!  configuration ─► Plan ─► asks ══ `stead probe`, a process of its own ══► facts ─► judge ─► Report
//!  environment, fstab, ports ─────────────────────────────────────────────────────────▲
//! ```
//! Only the process in the middle touches paths: it can become the app's user for a moment, and a file system that
//! does not answer hangs it and not the node. Everything that judges is pure. Nothing here opens a database, writes
//! where databases lie, follows a link to change something, or changes more than the one directory it was asked for.

use base::Clock;
use std::path::PathBuf;

mod ask;
mod bucket;
mod code;
mod cure;
mod environment;
pub mod facts;
mod finding;
mod helper;
mod judge;
pub mod limits;
mod modes;
mod mounts;
mod plan;
mod port;
mod program;
mod raw;
mod space;
mod walk;

pub use bucket::BucketPlan;
pub use code::Code;
pub use environment::Environment;
pub use finding::{Check, Finding, Report, Severity, plain};
pub use helper::serve as serve_probe;
pub use plan::{Context, DirectoryPlan, Plan, of as plan};
pub use port::{Holder, holder};

/// How far a look may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Changes nothing, also not for a moment: what runs every few seconds.
    Quietly,
    /// Tries to write, and makes directories whose entry says `create`.
    Thoroughly,
    /// The same, and sets owner and mode of the directories that are named.
    Mending,
}

/// Looks, with the help of this very program.
#[derive(Clone, Debug)]
pub struct Preflight {
    program: PathBuf,
}

impl Default for Preflight {
    fn default() -> Preflight {
        // By this name it is the same build even when the file has been replaced.
        Preflight { program: PathBuf::from("/proc/self/exe") }
    }
}

impl Preflight {
    /// Looks at everything in the plan.
    pub fn look(&self, plan: &Plan, how: How, clock: &dyn Clock) -> Report {
        let mut checks = environment::check(&plan.environment, &plan.machine);
        checks.extend(plan.user_check());
        checks.extend(port::check(plan));
        let mounts = mounts::Mounts::read();
        let subjects = plan.subjects(how);
        let asks: Vec<_> = subjects.iter().map(|subject| subject.ask.clone()).collect();
        let answers = ask::ask(&self.program, &asks, clock);
        for (subject, answer) in subjects.iter().zip(answers) {
            checks.push(judge::judge(subject, &answer, plan, &mounts));
        }
        if how != How::Quietly {
            checks.extend(bucket::check(plan));
        }
        Report { checks }
    }
}
