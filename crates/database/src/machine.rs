//! What the engine stands on: disk, clock, randomness, SQLite's file layer and the kernel's answers about processes.

use base::{Clock, Disk, LocalDisk, Random, SystemClock, SystemRandom};
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A machine, real or simulated.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Stead's own files.
    pub disk: Arc<dyn Disk>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// The name of the SQLite VFS that databases are opened with; `None` is SQLite's own.
    pub vfs: Option<String>,
    /// Who holds what.
    pub kernel: Arc<dyn Kernel>,
}

impl Machine {
    /// This machine.
    pub fn real() -> Machine {
        Machine {
            disk: Arc::new(LocalDisk),
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
            vfs: None,
            kernel: Arc::new(crate::probe::Linux),
        }
    }
}

/// Questions that only the kernel can answer.
pub trait Kernel: Send + Sync + fmt::Debug {
    /// A view of the locks on a database's `-shm`. It must be dropped after the last connection to that database:
    /// dropping it drops every lock of this process there.
    fn locks(&self, database: &Path) -> io::Result<Box<dyn Locks>>;
    /// Changes with every boot, so that a power loss can be told from a crash of the process.
    fn boot_id(&self) -> String;
    /// Other processes that have the file open.
    fn openers(&self, path: &Path) -> Vec<u32>;
    /// How long altogether, since some moment, anything that was ready to run has waited for a processor; `None` where
    /// the kernel does not count that.
    fn waited_for_processor(&self) -> Option<Duration> {
        None
    }
}

/// Locks of other processes on one database.
pub trait Locks: Send + Sync + fmt::Debug {
    /// Who else holds the write lock.
    fn writer(&self) -> Option<Holder>;
    /// Who else runs a WAL checkpoint.
    fn checkpointer(&self) -> Option<Holder>;
    /// Who else has the database open in WAL mode.
    fn others(&self) -> Option<Holder>;
}

/// A process that holds a lock; 0 where the kernel cannot say which (another pid namespace).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder(pub u32);
