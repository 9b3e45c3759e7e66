//! What every other crate stands on: identifiers, clock, disk, randomness, limits.
//!
//! Nothing here knows SQLite's meaning, HTTP or a terminal. Time, files and randomness are traits with a real
//! implementation and (feature `sim`) a simulated twin, so that one seed can replay a whole machine.

pub mod clock;
pub mod disk;
pub mod id;
pub mod proc;
pub mod random;
#[cfg(feature = "sim")]
pub mod sim;

pub use clock::{Clock, SystemClock, Timestamp};
pub use disk::{Disk, DiskFile, LocalDisk, Open};
pub use id::{Checksum, DatabasePath, Epoch, Incarnation, Pgno, Position, Txid};
pub use random::{Random, SystemRandom};
