//! Processes that shall end: held by descriptors, so that none is taken for another.

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a process may take to end before the soak gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process that is watched.
#[derive(Debug)]
pub struct Watched {
    /// Its command line.
    pub line: String,
    /// Its pid.
    pub pid: u32,
    descriptor: OwnedFd,
}

/// The processes that have a directory in their command line: node, supervisor, app, and what started the app.
pub fn all_of(dir: &Path) -> Vec<Watched> {
    let dir = dir.display().to_string();
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let descriptor = rustix::process::pidfd_open(Pid::from_raw(pid as i32)?, PidfdFlags::empty()).ok()?;
        // Read after it is held, so that the line is this process's. A zombie has none.
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        line.contains(&dir).then_some(Watched { line, pid, descriptor })
    })
    .collect()
}

impl Watched {
    /// It is the app's.
    pub fn is_apps(&self) -> bool {
        self.line.contains("/lone ")
    }

    /// It is the node's own process.
    pub fn is_node(&self) -> bool {
        self.line.split(' ').nth(1) == Some("node")
    }

    fn has_ended(&self, wait: Duration) -> bool {
        let wait = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: wait.subsec_nanos().into() };
        rustix::event::poll(&mut [PollFd::new(&self.descriptor, PollFlags::IN)], Some(&wait)).unwrap() > 0
    }
}

/// Waits until all of them have ended; `context` says in which round.
pub fn until_ended(processes: &[Watched], context: &str) {
    let deadline = Instant::now() + PATIENCE;
    for process in processes {
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(process.has_ended(left), "{context}: {} ({}) does not end", process.line, process.pid);
    }
}
