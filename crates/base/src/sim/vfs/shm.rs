#![allow(unsafe_code, reason = "the methods of a SQLite file are C functions")]
//! The methods of a wal-index: real shared memory, simulated locks.

use super::open_file::behind;
use crate::sim::locks::Asked;
use libsqlite3_sys as ffi;
use std::ffi::{c_int, c_void};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

// SAFETY (all functions below): called by SQLite with a file that xOpen filled, and out-pointers that may be written;
// see `behind`.

pub(super) unsafe extern "C" fn map(
    file: *mut ffi::sqlite3_file,
    region: c_int,
    bytes: c_int,
    extend: c_int,
    out: *mut *mut c_void,
) -> c_int {
    // SAFETY: see the head.
    let open = unsafe { behind(file) };
    let mapped =
        open.disk.machine.state().shm_map(open.file.id, region as usize, bytes as usize, extend != 0);
    let (address, code) = match mapped {
        Ok(Some(mapping)) => {
            let address = mapping.address();
            if !open.mappings.iter().any(|known| Arc::ptr_eq(known, &mapping)) {
                open.mappings.push(mapping);
            }
            (address, ffi::SQLITE_OK)
        }
        Ok(None) => (std::ptr::null_mut(), ffi::SQLITE_OK),
        Err(error) => (std::ptr::null_mut(), open.code(&error, ffi::SQLITE_IOERR_SHMSIZE)),
    };
    // SAFETY: see the head.
    unsafe { *out = address };
    code
}

pub(super) unsafe extern "C" fn lock(
    file: *mut ffi::sqlite3_file,
    offset: c_int,
    count: c_int,
    flags: c_int,
) -> c_int {
    // SAFETY: see the head.
    let open = unsafe { behind(file) };
    let mask = ((1u16 << count) - 1) << offset;
    let mut state = open.disk.machine.state();
    if flags & ffi::SQLITE_SHM_UNLOCK != 0 {
        // What a crash or a halt has taken needs no unlocking.
        let _ = state.handles.shm_unlock(open.file.id, mask);
        return ffi::SQLITE_OK;
    }
    if state.handle(open.file.id).is_err() {
        return ffi::SQLITE_IOERR;
    }
    match state.handles.shm_lock(open.file.id, mask, flags & ffi::SQLITE_SHM_EXCLUSIVE != 0) {
        Some(Asked::Granted) => ffi::SQLITE_OK,
        Some(Asked::Busy) => ffi::SQLITE_BUSY,
        None => ffi::SQLITE_IOERR_SHMLOCK,
    }
}

pub(super) unsafe extern "C" fn barrier(file: *mut ffi::sqlite3_file) {
    fence(Ordering::SeqCst);
    // SAFETY: see the head. The mutex orders this with everything else on the machine.
    drop(unsafe { behind(file) }.disk.machine.state());
}

pub(super) unsafe extern "C" fn unmap(file: *mut ffi::sqlite3_file, delete: c_int) -> c_int {
    // SAFETY: see the head.
    let open = unsafe { behind(file) };
    // As in os_unix.c, a file that is not there to be removed is no failure.
    let _ = open.disk.machine.state().shm_unmap(open.file.id, delete != 0);
    open.mappings.clear();
    ffi::SQLITE_OK
}
