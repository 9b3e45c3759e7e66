#![allow(unsafe_code, reason = "the methods of a SQLite file are C functions")]
//! The methods of an open file but for the wal-index.

use super::open_file::{OpenFile, Slot, behind};
use super::shm;
use crate::disk::{DiskFile, parent};
use crate::sim::locks::{Asked, Level};
use libsqlite3_sys as ffi;
use std::ffi::{CStr, c_char, c_int, c_void};

/// What `os_unix.c` says of every disk.
const SECTOR_BYTES: c_int = 4096;

pub(super) static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 3,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm::map),
    xShmLock: Some(shm::lock),
    xShmBarrier: Some(shm::barrier),
    xShmUnmap: Some(shm::unmap),
    xFetch: Some(fetch),
    xUnfetch: Some(unfetch),
};

// SAFETY (all functions below): called by SQLite with a file that xOpen filled, buffers of the stated length, and
// out-pointers that may be written; see `behind`.

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    let slot = file.cast::<Slot>();
    // SAFETY: xOpen put a box there; SQLite closes a file once.
    unsafe {
        drop(Box::from_raw((*slot).file));
        (*slot).file = std::ptr::null_mut();
        (*slot).base.pMethods = std::ptr::null();
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn read(
    file: *mut ffi::sqlite3_file,
    into: *mut c_void,
    count: c_int,
    offset: i64,
) -> c_int {
    // SAFETY: see the head; SQLite's buffers hold initialised bytes or are plain memory that is only written here.
    let (open, buffer) = unsafe {
        std::ptr::write_bytes(into.cast::<u8>(), 0, count as usize);
        (behind(file), std::slice::from_raw_parts_mut(into.cast::<u8>(), count as usize))
    };
    match open.file.read_at(buffer, offset as u64) {
        Ok(got) if got == buffer.len() => ffi::SQLITE_OK,
        Ok(_) => ffi::SQLITE_IOERR_SHORT_READ,
        Err(error) => open.code(&error, ffi::SQLITE_IOERR_READ),
    }
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    from: *const c_void,
    count: c_int,
    offset: i64,
) -> c_int {
    // SAFETY: see the head.
    let (open, bytes) =
        unsafe { (behind(file), std::slice::from_raw_parts(from.cast::<u8>(), count as usize)) };
    let written = open.file.write_at(bytes, offset as u64);
    open.done(written, ffi::SQLITE_IOERR_WRITE)
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, len: i64) -> c_int {
    // SAFETY: see the head.
    let open = unsafe { behind(file) };
    let cut = open.file.set_len(len as u64);
    open.done(cut, ffi::SQLITE_IOERR_TRUNCATE)
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, _flags: c_int) -> c_int {
    // SAFETY: see the head.
    let open = unsafe { behind(file) };
    let synced = open.file.sync();
    let code = open.done(synced, ffi::SQLITE_IOERR_FSYNC);
    if code != ffi::SQLITE_OK || !open.sync_dir {
        return code;
    }
    open.sync_dir = false;
    // As in os_unix.c, a directory that cannot be synced is no failure; a dead machine is.
    let _ = open.disk.sync_dir_unheard(parent(&open.path));
    if open.alive() { ffi::SQLITE_OK } else { ffi::SQLITE_IOERR }
}

unsafe extern "C" fn file_size(file: *mut ffi::sqlite3_file, size: *mut i64) -> c_int {
    // SAFETY: see the head.
    let open = unsafe { behind(file) };
    match open.file.len() {
        Ok(len) => {
            // SAFETY: see the head.
            unsafe { *size = len as i64 };
            ffi::SQLITE_OK
        }
        Err(error) => open.code(&error, ffi::SQLITE_IOERR_FSTAT),
    }
}

fn level(sqlite: c_int) -> Level {
    match sqlite {
        ffi::SQLITE_LOCK_NONE => Level::None,
        ffi::SQLITE_LOCK_SHARED => Level::Shared,
        ffi::SQLITE_LOCK_RESERVED => Level::Reserved,
        ffi::SQLITE_LOCK_PENDING => Level::Pending,
        _ => Level::Exclusive,
    }
}

unsafe extern "C" fn lock(file: *mut ffi::sqlite3_file, wanted: c_int) -> c_int {
    // SAFETY: see the head.
    let open = unsafe { behind(file) };
    let mut state = open.disk.machine.state();
    if state.handle(open.file.id).is_err() {
        return ffi::SQLITE_IOERR;
    }
    match state.handles.lock(open.file.id, level(wanted)) {
        Some(Asked::Granted) => ffi::SQLITE_OK,
        Some(Asked::Busy) => ffi::SQLITE_BUSY,
        None => ffi::SQLITE_IOERR,
    }
}

unsafe extern "C" fn unlock(file: *mut ffi::sqlite3_file, wanted: c_int) -> c_int {
    // SAFETY: see the head.
    let open = unsafe { behind(file) };
    match open.disk.machine.state().handles.unlock(open.file.id, level(wanted)) {
        Some(()) => ffi::SQLITE_OK,
        None => ffi::SQLITE_IOERR,
    }
}

unsafe extern "C" fn check_reserved_lock(file: *mut ffi::sqlite3_file, out: *mut c_int) -> c_int {
    // SAFETY: see the head.
    let open = unsafe { behind(file) };
    let state = open.disk.machine.state();
    match (state.handle(open.file.id), state.handles.reserved(open.file.id)) {
        (Ok(_), Some(reserved)) => {
            // SAFETY: see the head.
            unsafe { *out = c_int::from(reserved) };
            ffi::SQLITE_OK
        }
        _ => ffi::SQLITE_IOERR,
    }
}

/// Reads (below 0) or sets a switch, as `unixModeBit` does.
///
/// # Safety
/// `argument` points to an int.
unsafe fn switch(value: &mut bool, argument: *mut c_void) {
    let argument = argument.cast::<c_int>();
    // SAFETY: by the contract above.
    unsafe { if *argument < 0 { *argument = c_int::from(*value) } else { *value = *argument != 0 } }
}

unsafe extern "C" fn file_control(file: *mut ffi::sqlite3_file, op: c_int, argument: *mut c_void) -> c_int {
    // SAFETY: see the head; the type of the argument goes with the operation (https://sqlite.org/c3ref/c_fcntl_begin_atomic_write.html).
    unsafe {
        let open = behind(file);
        match op {
            ffi::SQLITE_FCNTL_LOCKSTATE => {
                let state = open.disk.machine.state();
                let held = state.handle(open.file.id).map_or(Level::None, |handle| handle.level);
                *argument.cast::<c_int>() = held as c_int;
            }
            ffi::SQLITE_FCNTL_LAST_ERRNO => *argument.cast::<c_int>() = open.last_errno,
            // Room is taken as it is written; there is no other unit of growth than the byte.
            ffi::SQLITE_FCNTL_SIZE_HINT | ffi::SQLITE_FCNTL_CHUNK_SIZE => {}
            ffi::SQLITE_FCNTL_PERSIST_WAL => switch(&mut open.persist_wal, argument),
            ffi::SQLITE_FCNTL_POWERSAFE_OVERWRITE => switch(&mut open.powersafe, argument),
            ffi::SQLITE_FCNTL_VFSNAME => *argument.cast::<*mut c_char>() = copy(&open.vfs_name),
            ffi::SQLITE_FCNTL_HAS_MOVED => *argument.cast::<c_int>() = c_int::from(has_moved(open)),
            ffi::SQLITE_FCNTL_EXTERNAL_READER => {
                let state = open.disk.machine.state();
                let ino = state.handle(open.file.id).map(|handle| handle.ino);
                let reads =
                    |index| ino.is_ok_and(|ino| state.handles.shm_holder(ino, index, open.process).is_some());
                *argument.cast::<c_int>() = c_int::from((3..8).any(reads));
            }
            // `PRAGMA mmap_size` answers 0 whatever was asked for.
            ffi::SQLITE_FCNTL_MMAP_SIZE => *argument.cast::<i64>() = 0,
            _ => return ffi::SQLITE_NOTFOUND,
        }
    }
    ffi::SQLITE_OK
}

/// A copy that SQLite may free.
fn copy(text: &CStr) -> *mut c_char {
    // SAFETY: both are C strings that live during the call.
    unsafe { ffi::sqlite3_mprintf(c"%s".as_ptr(), text.as_ptr()) }
}

/// Whether the name stands for another file, or for none.
fn has_moved(open: &OpenFile) -> bool {
    let state = open.disk.machine.state();
    let Ok(handle) = state.handle(open.file.id) else { return false };
    !open.path.as_os_str().is_empty() && state.tree.lookup(&open.path).ok() != Some(handle.ino)
}

unsafe extern "C" fn sector_size(_file: *mut ffi::sqlite3_file) -> c_int {
    SECTOR_BYTES
}

unsafe extern "C" fn device_characteristics(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: see the head.
    let powersafe = unsafe { behind(file) }.powersafe;
    let overwrite = if powersafe { ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE } else { 0 };
    ffi::SQLITE_IOCAP_SUBPAGE_READ | overwrite
}

unsafe extern "C" fn fetch(_: *mut ffi::sqlite3_file, _: i64, _: c_int, out: *mut *mut c_void) -> c_int {
    // SAFETY: see the head.
    unsafe { *out = std::ptr::null_mut() };
    ffi::SQLITE_OK
}

unsafe extern "C" fn unfetch(_: *mut ffi::sqlite3_file, _: i64, _: *mut c_void) -> c_int {
    ffi::SQLITE_OK
}
