//! The simulated disk as a SQLite VFS.
//!
//! It does what `os_unix.c` does, call for call where a crash could tell the difference: one write per xWrite, the
//! directory of a new journal or WAL synced with its first xSync, xDelete with or without a directory sync, the
//! `-shm` file emptied by whoever opens it first, a pending lock left behind by a failed exclusive one. It has no
//! memory-mapped I/O.
//!
//! A connection belongs to the simulated process that opened it: [`SimVfs::as_process`], or `?process=7` in its URI.
//! Its journal and WAL follow it. After a crash every call on an old connection answers SQLITE_IOERR; drop it before or
//! after, it touches nothing any more.
//!
//! ```text
//!   registry (xOpen, xDelete, xAccess, …) ─ open file ─┬─ io (xRead, xWrite, xSync, xLock, …)
//!                                                      └─ shm (xShmMap, xShmLock, …)
//! ```

mod io;
mod open_file;
mod registry;
mod shm;

use super::disk::SimDisk;
use super::process::Process;

/// A registered VFS. SQLite finds it by name until this is dropped; connections that are open then stay usable.
#[derive(Debug)]
pub struct SimVfs {
    registered: registry::Registered,
}

/// Why a VFS could not be registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// Another VFS has this name, or it contains a zero byte: choose another.
    #[error("`{0}` cannot be the name of a VFS: it is taken, or no C string")]
    Name(String),
    /// SQLite refused; the code is its own.
    #[error("SQLite does not register the VFS: result code {0}")]
    Refused(i32),
}

impl SimVfs {
    /// Lets SQLite open files of this disk: `file:/data/app.db?vfs=NAME`.
    pub fn register(disk: &SimDisk, name: &str) -> Result<SimVfs, RegisterError> {
        Ok(SimVfs { registered: registry::register(disk, name)? })
    }

    /// The name that connections ask for.
    pub fn name(&self) -> &str {
        self.registered.name()
    }

    /// Opens what it opens as another simulated process.
    pub fn as_process<T>(process: Process, act: impl FnOnce() -> T) -> T {
        process.run(act)
    }
}

/// Restarts SQLite's own generator (WAL salts, `random()`) from a seed other than 0.
///
/// SQLite has one generator for the whole process and takes no VFS's randomness once it runs, so that files are equal
/// byte by byte only where one test at a time uses SQLite.
pub fn seed_sqlite(seed: u32) {
    registry::seed(seed);
}
