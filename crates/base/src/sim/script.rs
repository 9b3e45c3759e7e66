//! What is to go wrong, and when: scripted failures, and the step at which the machine dies.
//!
//! Every operation that changes what a disk may hold counts as one step, from 1. Reads, opens and locks count none, yet
//! they too fail on a dead machine.

use std::io;

/// A kind of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Opening a file that exists. No step.
    Open,
    /// Reading from a file. No step.
    Read,
    /// A new name: a file or a directory.
    Create,
    /// A write to a file.
    Write,
    /// A change of a file's length.
    Truncate,
    /// A sync of a file's contents.
    Sync,
    /// A rename.
    Rename,
    /// The removal of a name, of a file or a directory.
    Unlink,
    /// A sync of a directory's names.
    SyncDir,
    /// The same by SQLite after the first sync of a new journal or log. It takes no notice of a failure, and what it
    /// promised goes with the power then: nobody's fault but the disk's.
    SyncDirUnheard,
}

impl Op {
    fn is_step(self) -> bool {
        !matches!(self, Op::Open | Op::Read)
    }
}

/// Why nothing works any more. The caller is to give up, as a killed process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Gone {
    /// The step of [`super::SimDisk::halt_at_step`] was reached; nothing works before the next crash.
    #[error("the simulated machine has halted")]
    Machine,
    /// The handle was opened before a crash of its process or its machine.
    #[error("the handle was opened before a crash of its simulated process")]
    Handle,
}

impl Gone {
    /// The cause of an error, where it is this one.
    pub fn of(error: &io::Error) -> Option<Gone> {
        error.get_ref()?.downcast_ref::<Gone>().copied()
    }
}

impl From<Gone> for io::Error {
    fn from(gone: Gone) -> io::Error {
        io::Error::other(gone)
    }
}

#[derive(Debug)]
struct Failure {
    op: Op,
    /// Only names that end so.
    name_ends: String,
    /// Let this many pass first.
    skip: u64,
    /// Then fail this many.
    times: u64,
    errno: i32,
}

#[derive(Debug, Default)]
pub(super) struct Script {
    steps: u64,
    halt_at: Option<u64>,
    halted: bool,
    failures: Vec<Failure>,
}

impl Script {
    pub(super) fn steps(&self) -> u64 {
        self.steps
    }

    pub(super) fn halt_at(&mut self, step: u64) {
        self.halt_at = Some(step);
    }

    /// The machine runs again.
    pub(super) fn restart(&mut self) {
        self.halt_at = None;
        self.halted = false;
    }

    pub(super) fn fail(&mut self, op: Op, name_ends: &str, skip: u64, times: u64, errno: i32) {
        self.failures.push(Failure { op, name_ends: name_ends.to_owned(), skip, times, errno });
    }

    pub(super) fn clear(&mut self) {
        self.failures.clear();
    }

    /// Whether the machine is alive.
    pub(super) fn alive(&self) -> Result<(), Gone> {
        if self.halted { Err(Gone::Machine) } else { Ok(()) }
    }

    /// To be asked before each operation on a name: counts it, and fails it where that is scripted.
    pub(super) fn enter(&mut self, op: Op, name: &str) -> io::Result<()> {
        self.alive()?;
        if op.is_step() {
            self.steps += 1;
            self.halted = self.halt_at.is_some_and(|at| self.steps >= at);
            self.alive()?;
        }
        let due = |failure: &mut Failure| {
            if failure.op != op || failure.times == 0 || !name.ends_with(&failure.name_ends) {
                return false;
            }
            if failure.skip > 0 {
                failure.skip -= 1;
                return false;
            }
            failure.times -= 1;
            true
        };
        match self.failures.iter_mut().filter_map(|failure| due(failure).then_some(failure.errno)).next() {
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None => Ok(()),
        }
    }
}
