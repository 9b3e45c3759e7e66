//! Signals as a descriptor, and the dead as a list: the supervisor's two calls without a safe form.
//!
//! All signals of interest are blocked and read from a signalfd, so that the loop has one place to wait and nothing
//! is ever interrupted half-way. Blocking the terminal's stop signals also keeps a Ctrl-Z from freezing supervision.
#![allow(unsafe_code, reason = "signalfd(2), sigprocmask(2) and waitid(2) with its pid")]

use app::protocol::Ending;
use std::io;
use std::mem;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr;

/// Read from the descriptor.
const READ: [i32; 8] = [
    libc::SIGCHLD,
    libc::SIGTERM,
    libc::SIGINT,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGWINCH,
];
/// Blocked and never looked at.
const HELD: [i32; 4] = [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU, libc::SIGPIPE];
/// Bytes of one `signalfd_siginfo`; its first four are the signal's number.
const RECORD: usize = 128;

/// The signals of this process, as a descriptor.
#[derive(Debug)]
pub struct Signals {
    /// Becomes readable with a signal.
    pub descriptor: OwnedFd,
}

impl Signals {
    /// Blocks the signals for this thread, which must be the only one, and opens the descriptor.
    pub fn block() -> io::Result<Signals> {
        // SAFETY: the sets are initialised by sigemptyset; the descriptor is checked and owned by nobody else.
        unsafe {
            let mut read: libc::sigset_t = mem::zeroed();
            libc::sigemptyset(&raw mut read);
            for number in READ {
                libc::sigaddset(&raw mut read, number);
            }
            let mut blocked = read;
            for number in HELD {
                libc::sigaddset(&raw mut blocked, number);
            }
            if libc::sigprocmask(libc::SIG_BLOCK, &raw const blocked, ptr::null_mut()) < 0 {
                return Err(io::Error::last_os_error());
            }
            // Ignoring SIGCHLD would let the kernel swallow exits; whoever started us may have set that.
            let default: libc::sigaction = mem::zeroed();
            libc::sigaction(libc::SIGCHLD, &raw const default, ptr::null_mut());
            match libc::signalfd(-1, &raw const read, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
                -1 => Err(io::Error::last_os_error()),
                descriptor => Ok(Signals { descriptor: OwnedFd::from_raw_fd(descriptor) }),
            }
        }
    }

    /// The next signal that has come.
    pub fn take_one(&self) -> Option<i32> {
        let mut record = [0; RECORD];
        match rustix::io::read(&self.descriptor, &mut record) {
            Ok(RECORD) => {
                let [a, b, c, d, ..] = record;
                Some(i32::from_ne_bytes([a, b, c, d]))
            }
            _ => None,
        }
    }
}

/// A child that has ended and is still there as a zombie.
pub fn peek_dead() -> Option<(u32, Ending)> {
    // SAFETY: a zeroed siginfo_t is valid; si_pid and si_status are set where si_pid is not zero.
    unsafe {
        let mut info: libc::siginfo_t = mem::zeroed();
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        if libc::waitid(libc::P_ALL, 0, &raw mut info, flags) < 0 || info.si_pid() == 0 {
            return None;
        }
        let status = info.si_status();
        let ending = match info.si_code {
            libc::CLD_EXITED => Ending { code: Some(status), signal: None },
            _ => Ending { code: None, signal: Some(status) },
        };
        Some((info.si_pid().cast_unsigned(), ending))
    }
}

/// Lets a dead child go; from now on its pid may be given to another process.
pub fn bury(pid: u32) {
    if let Some(pid) = app::processes::raw_pid(pid) {
        // It was there a moment ago, and nobody else waits for our children.
        let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::NOHANG);
    }
}
