//! The simulated machine: a disk that forgets what was not synced, a clock that is moved by hand, seeded randomness.
//!
//! ```text
//!   Disk / DiskFile (disk, file)      SQLite (vfs)
//!              \                        /
//!               machine: one mutex, one state
//!      tree ─ names (directories) ─ contents (files) ─ pages
//!      locks (file and wal-index)   memory (wal-index)   script (steps, failures)
//!              power: what is left after a power loss
//! ```
//!
//! Both doors lead to the same inodes, so what SQLite writes is what [`crate::Disk`] reads. Every state has a live and
//! a durable side; [`SimDisk::crash_power`] decides by a seed which of the changes between them survive. One seed and
//! one order of calls give one outcome; several threads bring their own order.

mod clock;
mod contents;
mod disk;
mod file;
mod locks;
mod machine;
mod memory;
mod names;
mod pages;
mod power;
mod process;
mod random;
mod script;
mod tree;
pub mod vfs;

#[cfg(test)]
mod tests;

pub use clock::SimClock;
pub use disk::SimDisk;
pub use process::Process;
pub use random::SimRandom;
pub use script::{Gone, Op};
pub use vfs::SimVfs;
