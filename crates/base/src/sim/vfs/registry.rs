#![allow(unsafe_code, reason = "the methods of a SQLite VFS are C functions")]
//! The VFS itself: registration, and the methods that take a name.

use super::RegisterError;
use super::io::METHODS;
use super::open_file::{OpenFile, Slot, behind};
use crate::clock::Clock;
use crate::disk::{Disk, parent};
use crate::random::Random;
use crate::sim::disk::SimDisk;
use crate::sim::file::SimFile;
use crate::sim::machine::Access;
use crate::sim::process::Process;
use crate::sim::script::Gone;
use crate::sim::tree::parts;
use libsqlite3_sys as ffi;
use std::ffi::{CStr, CString, OsStr, c_char, c_int};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// As in os_unix.c: bytes of the longest path.
const PATH_BYTES_MAX: c_int = 512;
/// 1970 on SQLite's time scale: milliseconds since noon of the first Julian day.
const UNIX_EPOCH_JULIAN_MS: i64 = 210_866_760_000_000;
const DAY_MS: f64 = 86_400_000.0;

/// What `pAppData` points to.
struct Context {
    disk: SimDisk,
    name: CString,
}

#[derive(Debug)]
pub(super) struct Registered {
    name: String,
    vfs: *mut ffi::sqlite3_vfs,
}

// SAFETY: the pointer is only handed to sqlite3_vfs_unregister, which any thread may call.
unsafe impl Send for Registered {}
// SAFETY: as above.
unsafe impl Sync for Registered {}

impl Registered {
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        // SAFETY: registered by `register`. The structure itself is never freed: connections may still use it.
        let _ = unsafe { ffi::sqlite3_vfs_unregister(self.vfs) };
    }
}

pub(super) fn register(disk: &SimDisk, name: &str) -> Result<Registered, RegisterError> {
    let c_name = CString::new(name).map_err(|_| RegisterError::Name(name.to_owned()))?;
    // SAFETY: a C string that lives during the call; a null name asks for the default VFS.
    let (taken, default) =
        unsafe { (ffi::sqlite3_vfs_find(c_name.as_ptr()), ffi::sqlite3_vfs_find(std::ptr::null())) };
    if !taken.is_null() || name.is_empty() {
        return Err(RegisterError::Name(name.to_owned()));
    }
    // SAFETY: the default VFS, where there is one, stays registered and is only read.
    let default = unsafe { default.as_ref() };
    // Leaked, a few hundred bytes: connections may outlive the registration.
    let context = Box::leak(Box::new(Context { disk: disk.clone(), name: c_name }));
    let vfs = Box::leak(Box::new(ffi::sqlite3_vfs {
        iVersion: 2,
        szOsFile: size_of::<Slot>() as c_int,
        mxPathname: PATH_BYTES_MAX,
        pNext: std::ptr::null_mut(),
        zName: context.name.as_ptr(),
        pAppData: std::ptr::from_mut(context).cast(),
        xOpen: Some(open),
        xDelete: Some(delete),
        xAccess: Some(access),
        xFullPathname: Some(full_pathname),
        // Extensions are libraries of the real machine.
        xDlOpen: default.and_then(|vfs| vfs.xDlOpen),
        xDlError: default.and_then(|vfs| vfs.xDlError),
        xDlSym: default.and_then(|vfs| vfs.xDlSym),
        xDlClose: default.and_then(|vfs| vfs.xDlClose),
        xRandomness: Some(randomness),
        xSleep: Some(sleep),
        xCurrentTime: Some(current_time),
        xGetLastError: Some(get_last_error),
        xCurrentTimeInt64: Some(current_time_ms),
        xSetSystemCall: None,
        xGetSystemCall: None,
        xNextSystemCall: None,
    }));
    // SAFETY: a complete VFS that lives for ever.
    match unsafe { ffi::sqlite3_vfs_register(vfs, 0) } {
        ffi::SQLITE_OK => Ok(Registered { name: name.to_owned(), vfs }),
        code => Err(RegisterError::Refused(code)),
    }
}

pub(super) fn seed(seed: u32) {
    let database = std::ptr::null_mut::<ffi::sqlite3>();
    // SAFETY: the operation takes an unsigned int and a connection, which may be null.
    let _ = unsafe { ffi::sqlite3_test_control(ffi::SQLITE_TESTCTRL_PRNG_SEED, seed, database) };
}

// SAFETY (all functions below): called by SQLite with the VFS that `register` made, names that are C strings or null,
// and out-pointers that may be written.

unsafe fn context<'a>(vfs: *mut ffi::sqlite3_vfs) -> &'a Context {
    // SAFETY: see above; the context is never freed nor changed.
    unsafe { &*(*vfs).pAppData.cast::<Context>() }
}

unsafe fn path<'a>(name: *const c_char) -> &'a Path {
    // SAFETY: see above.
    Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(name) }.to_bytes()))
}

fn code(error: &io::Error, call: c_int) -> c_int {
    if Gone::of(error).is_some() { ffi::SQLITE_IOERR } else { call }
}

/// Whose file it is to be: a journal's or WAL's that of its database, a database's what the URI says, else the thread's.
unsafe fn owner(name: *const c_char, flags: c_int) -> Result<Process, Gone> {
    if name.is_null() {
        return Ok(Process::current());
    }
    if flags & (ffi::SQLITE_OPEN_WAL | ffi::SQLITE_OPEN_MAIN_JOURNAL) != 0 {
        // SAFETY: for these two kinds SQLite gives the database's own file, which this VFS opened.
        let database = unsafe { ffi::sqlite3_database_file_object(name) };
        // SAFETY: as above; a database that is not open (any more) has no methods.
        if !database.is_null() && std::ptr::eq(unsafe { (*database).pMethods }, &METHODS) {
            // SAFETY: it has this VFS's methods.
            let database = unsafe { behind(database) };
            return if database.alive() { Ok(database.process) } else { Err(Gone::Handle) };
        }
    }
    if flags & ffi::SQLITE_OPEN_MAIN_DB != 0 {
        // SAFETY: a name of this kind may be asked for parameters; 0 stands for none.
        let given = unsafe { ffi::sqlite3_uri_int64(name, c"process".as_ptr(), 0) };
        if let Ok(given @ 1..) = u32::try_from(given) {
            return Ok(Process(given));
        }
    }
    Ok(Process::current())
}

unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    let slot = file.cast::<Slot>();
    // SAFETY: see above; no methods means that SQLite never closes it.
    unsafe { (*slot).base.pMethods = std::ptr::null() };
    // SAFETY: see above.
    let opened = unsafe { open_file(context(vfs), name, flags) };
    match opened {
        Ok(opened) => {
            // SAFETY: see above; the slot has `szOsFile` bytes.
            unsafe {
                (*slot).file = Box::into_raw(Box::new(opened));
                (*slot).base.pMethods = &METHODS;
                if !out_flags.is_null() {
                    *out_flags = flags;
                }
            }
            ffi::SQLITE_OK
        }
        Err(error) => code(&error, ffi::SQLITE_CANTOPEN),
    }
}

unsafe fn open_file(context: &Context, name: *const c_char, flags: c_int) -> io::Result<OpenFile> {
    let has = |flag: c_int| flags & flag != 0;
    // SAFETY: the caller's.
    let process = unsafe { owner(name, flags)? };
    // SAFETY: the caller's.
    let path = if name.is_null() { PathBuf::new() } else { unsafe { path(name) }.to_owned() };
    let disk = context.disk.clone();
    let id = if name.is_null() {
        disk.machine.state().open_nameless(process)?
    } else {
        let access = Access {
            write: has(ffi::SQLITE_OPEN_READWRITE),
            create: has(ffi::SQLITE_OPEN_CREATE),
            exclusive: has(ffi::SQLITE_OPEN_EXCLUSIVE),
            truncate: false,
        };
        disk.machine.state().open(&path, access, process)?
    };
    let file = SimFile { machine: Arc::clone(&disk.machine), id };
    if has(ffi::SQLITE_OPEN_DELETEONCLOSE) && !name.is_null() {
        disk.remove_file(&path)?;
    }
    let journal = ffi::SQLITE_OPEN_WAL | ffi::SQLITE_OPEN_MAIN_JOURNAL | ffi::SQLITE_OPEN_SUPER_JOURNAL;
    Ok(OpenFile {
        file,
        path,
        process,
        vfs_name: context.name.clone(),
        sync_dir: has(ffi::SQLITE_OPEN_CREATE) && has(journal),
        persist_wal: false,
        powersafe: true,
        last_errno: 0,
        mappings: Vec::new(),
        disk,
    })
}

unsafe extern "C" fn delete(vfs: *mut ffi::sqlite3_vfs, name: *const c_char, sync_dir: c_int) -> c_int {
    // SAFETY: see above.
    let (disk, path) = unsafe { (&context(vfs).disk, path(name)) };
    match disk.remove_file(path) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return ffi::SQLITE_IOERR_DELETE_NOENT,
        Err(error) => return code(&error, ffi::SQLITE_IOERR_DELETE),
    }
    if sync_dir & 1 == 0 {
        return ffi::SQLITE_OK;
    }
    match disk.sync_dir(parent(path)) {
        Ok(()) => ffi::SQLITE_OK,
        Err(error) => code(&error, ffi::SQLITE_IOERR_DIR_FSYNC),
    }
}

unsafe extern "C" fn access(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: see above.
    let (disk, path) = unsafe { (&context(vfs).disk, path(name)) };
    let found = match disk.metadata(path) {
        // As in os_unix.c: an empty file counts as none where only its existence is asked for.
        Ok(found) => found.is_dir || found.len > 0 || flags != ffi::SQLITE_ACCESS_EXISTS,
        Err(error) if Gone::of(&error).is_some() => return ffi::SQLITE_IOERR_ACCESS,
        Err(_) => false,
    };
    // SAFETY: see above.
    unsafe { *out = c_int::from(found) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn full_pathname(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    room: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: see above.
    let Ok(parts) = parts(unsafe { path(name) }) else { return ffi::SQLITE_CANTOPEN };
    let full = format!("/{}", parts.join("/"));
    if parts.is_empty() || full.len() >= room as usize {
        return ffi::SQLITE_CANTOPEN;
    }
    // SAFETY: `out` has `room` bytes, more than the text and its zero.
    unsafe {
        std::ptr::copy_nonoverlapping(full.as_ptr(), out.cast::<u8>(), full.len());
        *out.add(full.len()) = 0;
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn randomness(vfs: *mut ffi::sqlite3_vfs, count: c_int, out: *mut c_char) -> c_int {
    // SAFETY: see above; plain memory of `count` bytes.
    let buffer = unsafe {
        std::ptr::write_bytes(out, 0, count as usize);
        std::slice::from_raw_parts_mut(out.cast::<u8>(), count as usize)
    };
    // SAFETY: see above.
    unsafe { context(vfs) }.disk.random().fill(buffer);
    count
}

unsafe extern "C" fn sleep(vfs: *mut ffi::sqlite3_vfs, microseconds: c_int) -> c_int {
    let time = Duration::from_micros(u64::try_from(microseconds).unwrap_or(0));
    // SAFETY: see above.
    unsafe { context(vfs) }.disk.clock().sleep(time);
    microseconds
}

unsafe extern "C" fn current_time_ms(vfs: *mut ffi::sqlite3_vfs, out: *mut i64) -> c_int {
    // SAFETY: see above.
    unsafe { *out = UNIX_EPOCH_JULIAN_MS + context(vfs).disk.clock().now().0 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn current_time(vfs: *mut ffi::sqlite3_vfs, out: *mut f64) -> c_int {
    // SAFETY: see above.
    unsafe { *out = (UNIX_EPOCH_JULIAN_MS + context(vfs).disk.clock().now().0) as f64 / DAY_MS };
    ffi::SQLITE_OK
}

unsafe extern "C" fn get_last_error(_: *mut ffi::sqlite3_vfs, _: c_int, _: *mut c_char) -> c_int {
    0
}
