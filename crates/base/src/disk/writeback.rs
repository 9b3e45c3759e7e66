//! Asking the kernel to begin writing: the one call for it has no safe wrapper.
#![allow(unsafe_code, reason = "sync_file_range exists in libc only")]

use std::fs::File;
use std::ops::Range;
use std::os::fd::AsRawFd;

/// Begins to write these bytes of a file and does not wait for them. A hint: what fails here fails at the sync.
pub(super) fn begin(file: &File, bytes: Range<u64>) {
    let (Ok(offset), Ok(len)) = (i64::try_from(bytes.start), i64::try_from(bytes.end - bytes.start)) else {
        return;
    };
    // SAFETY: the descriptor is open while `file` is borrowed; the call takes no pointers.
    unsafe { libc::sync_file_range(file.as_raw_fd(), offset, len, libc::SYNC_FILE_RANGE_WRITE) };
}
