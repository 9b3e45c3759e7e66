//! Linux's answers: lock holders by `F_GETLK`, boot id and open files by `/proc`.
//!
//! The private descriptor of a `-shm` is opened after the engine's first connection has read (that connection builds
//! the file) and closed after its last one: closing it drops every lock of the process on the file.
#![allow(unsafe_code, reason = "fcntl locks have no safe wrapper that reports the holder")]

use crate::machine::{Holder, Kernel, Locks};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// The first of SQLite's eight lock bytes in a `-shm`: the write lock; the next one is the WAL checkpoint's.
const WRITE_LOCK_BYTE: i64 = 120;
const CHECKPOINT_LOCK_BYTE: i64 = 121;
/// Shared by everybody who has the `-shm` open (SQLite calls it the dead man's switch).
const OPEN_LOCK_BYTE: i64 = 128;

/// This machine's kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct Linux;

impl Kernel for Linux {
    fn locks(&self, database: &Path) -> io::Result<Box<dyn Locks>> {
        let path = base::disk::sibling(database, "-shm");
        let fd = rustix::fs::open(
            &path,
            rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )?;
        Ok(Box::new(ShmLocks(fd)))
    }

    fn boot_id(&self) -> String {
        let id = base::disk::read(&base::LocalDisk, Path::new("/proc/sys/kernel/random/boot_id"), 100);
        // Files in /proc report no length.
        match id {
            Ok(bytes) if !bytes.is_empty() => String::from_utf8_lossy(&bytes).trim().to_owned(),
            _ => read_proc("/proc/sys/kernel/random/boot_id"),
        }
    }

    fn openers(&self, path: &Path) -> Vec<u32> {
        openers(path)
    }

    fn waited_for_processor(&self) -> Option<Duration> {
        stalled(&read_proc("/proc/pressure/cpu"))
    }
}

/// The time of the line `some avg10=… avg60=… avg300=… total=MICROSECONDS`.
fn stalled(pressure: &str) -> Option<Duration> {
    let some = pressure.lines().find_map(|line| line.strip_prefix("some "))?;
    let total = some.split_whitespace().find_map(|field| field.strip_prefix("total="))?;
    total.parse().ok().map(Duration::from_micros)
}

fn read_proc(path: &str) -> String {
    let mut buffer = [0; 128];
    let read = rustix::fs::open(
        path,
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .and_then(|fd| rustix::io::read(&fd, &mut buffer));
    match read {
        Ok(len) => String::from_utf8_lossy(&buffer[..len]).trim().to_owned(),
        Err(_) => String::new(),
    }
}

#[derive(Debug)]
struct ShmLocks(OwnedFd);

impl ShmLocks {
    fn holder(&self, byte: i64) -> Option<Holder> {
        let mut lock = libc::flock {
            l_type: i16::try_from(libc::F_WRLCK).unwrap_or(1),
            l_whence: i16::try_from(libc::SEEK_SET).unwrap_or(0),
            l_start: byte,
            l_len: 1,
            l_pid: 0,
        };
        // SAFETY: the descriptor is open and `lock` is a valid flock; F_GETLK takes no lock.
        let code = unsafe { libc::fcntl(self.0.as_raw_fd(), libc::F_GETLK, &mut lock) };
        if code != 0 || i32::from(lock.l_type) == libc::F_UNLCK {
            return None;
        }
        Some(Holder(u32::try_from(lock.l_pid).unwrap_or(0)))
    }
}

impl Locks for ShmLocks {
    fn writer(&self) -> Option<Holder> {
        self.holder(WRITE_LOCK_BYTE)
    }

    fn checkpointer(&self) -> Option<Holder> {
        self.holder(CHECKPOINT_LOCK_BYTE)
    }

    fn others(&self) -> Option<Holder> {
        self.holder(OPEN_LOCK_BYTE)
    }
}

/// Other processes that have a file open, by device and inode. Processes of other users are seen only by root.
#[allow(clippy::disallowed_methods, reason = "walks /proc, where no database lies")]
fn openers(path: &Path) -> Vec<u32> {
    let Ok(wanted) = std::fs::metadata(path) else { return Vec::new() };
    let own = std::process::id();
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let mut pids: Vec<u32> = processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != own)
        .filter(|pid| {
            let Ok(open) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
            open.flatten().any(|fd| {
                std::fs::metadata(fd.path())
                    .is_ok_and(|at| at.ino() == wanted.ino() && at.dev() == wanted.dev())
            })
        })
        .collect();
    pids.sort_unstable();
    pids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_account_of_waiting_is_read() {
        let text = "some avg10=23.23 avg60=23.58 avg300=33.73 total=34274084623\nfull avg10=0.00 total=7";
        assert_eq!(stalled(text), Some(Duration::from_micros(34_274_084_623)));
        assert_eq!((stalled(""), stalled("some total=x")), (None, None));
    }

    #[test]
    fn the_boot_id_is_there_and_stays() {
        let id = Linux.boot_id();
        assert_eq!(id.len(), 36, "{id}");
        assert_eq!(id, Linux.boot_id());
    }

    #[test]
    fn another_process_with_the_file_open_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("held");
        let mut child = std::process::Command::new("sh")
            .arg("-c")
            .arg("exec 9>\"$0\"; echo open; exec sleep 30")
            .arg(&path)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line)
            .unwrap();
        assert_eq!(Linux.openers(&path), [child.id()]);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(Linux.openers(&path), [0u32; 0]);
    }
}
