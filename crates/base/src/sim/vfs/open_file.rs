#![allow(unsafe_code, reason = "SQLite hands files over as raw pointers")]
//! What lies behind a `sqlite3_file` of this VFS.

use crate::disk::DiskFile;
use crate::sim::disk::SimDisk;
use crate::sim::file::SimFile;
use crate::sim::memory::Mapping;
use crate::sim::process::Process;
use crate::sim::script::Gone;
use libsqlite3_sys as ffi;
use std::ffi::{CString, c_int};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// As SQLite allocates it: `szOsFile` bytes.
#[repr(C)]
pub(super) struct Slot {
    pub(super) base: ffi::sqlite3_file,
    pub(super) file: *mut OpenFile,
}

pub(super) struct OpenFile {
    pub(super) disk: SimDisk,
    pub(super) file: SimFile,
    /// Empty for a file without a name.
    pub(super) path: PathBuf,
    pub(super) process: Process,
    pub(super) vfs_name: CString,
    /// A new journal: the first sync also syncs its directory.
    pub(super) sync_dir: bool,
    pub(super) persist_wal: bool,
    pub(super) powersafe: bool,
    pub(super) last_errno: c_int,
    /// Keeps what SQLite points into; the machine may have cut it off already.
    pub(super) mappings: Vec<Arc<Mapping>>,
}

impl OpenFile {
    /// SQLite's code for a failure: a full disk and a dead machine have their own, the rest is named by the call.
    pub(super) fn code(&mut self, error: &io::Error, call: c_int) -> c_int {
        self.last_errno = error.raw_os_error().unwrap_or(libc::EIO);
        match (Gone::of(error), error.raw_os_error()) {
            (Some(_), _) => ffi::SQLITE_IOERR,
            (None, Some(libc::ENOSPC)) if call == ffi::SQLITE_IOERR_WRITE => ffi::SQLITE_FULL,
            _ => call,
        }
    }

    /// `SQLITE_OK`, or the code of the failure.
    pub(super) fn done(&mut self, result: io::Result<()>, call: c_int) -> c_int {
        match result {
            Ok(()) => ffi::SQLITE_OK,
            Err(error) => self.code(&error, call),
        }
    }

    pub(super) fn alive(&self) -> bool {
        self.file.len().is_ok()
    }
}

/// The open file behind SQLite's pointer.
///
/// # Safety
/// `file` is one that this VFS's xOpen filled and xClose has not seen; SQLite calls one method of a file at a time.
pub(super) unsafe fn behind<'a>(file: *mut ffi::sqlite3_file) -> &'a mut OpenFile {
    let slot = file.cast::<Slot>();
    // SAFETY: by the contract above the slot was filled by xOpen with a box that lives until xClose, and nobody else
    // uses it during this call.
    unsafe { &mut *(*slot).file }
}
