//! Starting a process without waiting for it: fork, prepare, exec, and a pipe that tells what failed.
//!
//! The parent must not block: a program on a mount that hangs hangs its exec too. So [`launch`] returns at once, and
//! the pipe says later how it went: end of file where the program runs, a [`Failure`] where not.
//!
//! The only module of this crate with unsafe code. Between fork and exec the child only makes async-signal-safe calls
//! and allocates nothing: everything that it needs is built before.
#![allow(unsafe_code, reason = "fork, exec and what lies between have no safe form")]

use libc::{c_char, c_int};
use rustix::process::{Resource, Rlimit};
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::sync::OnceLock;

/// Where a program without a `/` is looked for when there is no PATH.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// What is to be started. Every process gets its own session, default signals and an empty signal mask.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The program: a path, or a name to be looked up in the PATH of `environment`.
    pub program: &'a OsStr,
    /// Its arguments, its own name first.
    pub arguments: Vec<OsString>,
    /// Its whole environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Where it runs; here where none.
    pub directory: Option<&'a Path>,
    /// User and group; unchanged where none.
    pub user: Option<(u32, u32)>,
    /// Its umask; unchanged where none.
    pub umask: Option<u32>,
    /// Standard input, output and error; unchanged where none.
    pub stdio: [Option<BorrowedFd<'a>>; 3],
    /// A descriptor that it inherits under the same number.
    pub keep: Option<BorrowedFd<'a>>,
    /// Kill it when the calling thread ends.
    pub die_with_parent: bool,
    /// What it and all its descendants have as their soft limit RLIMIT_LOCKS, to be found by; unchanged where none.
    pub mark: Option<u64>,
}

/// A process that is on its way.
#[derive(Debug)]
pub struct Launched {
    /// Its pid.
    pub pid: u32,
    /// Gives end of file when the program runs, or a [`Failure`]; non-blocking.
    pub outcome: OwnedFd,
}

/// What the child was at when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Its session, its descriptors, its signals.
    Setup,
    /// Becoming another user.
    User,
    /// Changing to its directory.
    Directory,
    /// Running the program.
    Exec,
}

/// Why a program does not run.
#[derive(Debug)]
pub struct Failure {
    /// What the child was at.
    pub stage: Stage,
    /// What the kernel said.
    pub error: io::Error,
}

impl Failure {
    /// As shells have it: 127 for a program that does not exist, 126 for anything else.
    pub fn code(&self) -> i32 {
        if self.stage == Stage::Exec && self.error.kind() == io::ErrorKind::NotFound { 127 } else { 126 }
    }
}

/// Bytes of a failure on the pipe: the stage, then errno.
const FAILURE_BYTES: usize = 5;

/// What [`outcome`] found.
#[derive(Debug)]
pub enum Outcome {
    /// Not known yet.
    Pending,
    /// The program runs.
    Running,
    /// It does not; the child has exited or is about to.
    Failed(Failure),
}

/// Asks the pipe of a launch how it went.
pub fn outcome(pipe: &OwnedFd) -> Outcome {
    let mut bytes = [0; FAILURE_BYTES];
    match rustix::io::read(pipe, &mut bytes) {
        // Written by one call, so it comes as a whole.
        Ok(FAILURE_BYTES) => {
            let [stage, errno @ ..] = bytes;
            let stage = match stage {
                1 => Stage::User,
                2 => Stage::Directory,
                3 => Stage::Exec,
                _ => Stage::Setup,
            };
            let error = io::Error::from_raw_os_error(i32::from_ne_bytes(errno));
            Outcome::Failed(Failure { stage, error })
        }
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Outcome::Pending,
        Ok(_) | Err(_) => Outcome::Running,
    }
}

/// Everything the child needs, as C has it.
struct Prepared {
    candidates: Vec<CString>,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    directory: Option<CString>,
}

/// Starts a process. An error means that there is none: out of processes, or a NUL byte in a text.
pub fn launch(what: &Launch<'_>) -> io::Result<Launched> {
    let prepared = prepare(what)?;
    let arguments = pointers(&prepared.arguments);
    // For a script without `#!`, as execvp(3) does it: /bin/sh SCRIPT ARG…
    let mut shell_arguments = pointers(&prepared.arguments);
    shell_arguments.insert(0, c"/bin/sh".as_ptr());
    let environment = pointers(&prepared.environment);
    let (outcome, report) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&outcome, true)?;
    let parent = rustix::process::getpid().as_raw_nonzero().get();
    let stdio = what.stdio.map(|fd| fd.map(|fd| fd.as_raw_fd()));
    let keep = what.keep.map(|fd| fd.as_raw_fd());
    let nice = rustix::process::getpriority_process(None).unwrap_or(0);
    // SAFETY: the child runs only `in_child`, which keeps to async-signal-safe calls and ends in exec or _exit.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            // SAFETY: in the child of fork; all pointers stay valid, they point into `prepared` and the vectors.
            let stage = unsafe {
                in_child(
                    what,
                    &prepared,
                    stdio,
                    keep,
                    (parent, nice),
                    &arguments,
                    &mut shell_arguments,
                    &environment,
                )
            };
            let errno = io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO).to_ne_bytes();
            let report_bytes = [stage as u8, errno[0], errno[1], errno[2], errno[3]];
            // SAFETY: plain system calls on a descriptor and a buffer of this frame.
            unsafe {
                libc::write(report.as_raw_fd(), report_bytes.as_ptr().cast(), FAILURE_BYTES);
                libc::_exit(127)
            }
        }
        pid => Ok(Launched { pid: pid.cast_unsigned(), outcome }),
    }
}

fn prepare(what: &Launch<'_>) -> io::Result<Prepared> {
    let c = |bytes: &[u8]| {
        CString::new(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a NUL byte in a text"))
    };
    let mut environment = Vec::with_capacity(what.environment.len());
    for (name, value) in &what.environment {
        environment.push(c(&[name.as_bytes(), b"=", value.as_bytes()].concat())?);
    }
    let program = what.program.as_bytes();
    let mut candidates = Vec::new();
    if program.contains(&b'/') {
        candidates.push(c(program)?);
    } else {
        let set = what.environment.iter().find(|(name, _)| name == "PATH");
        let path = set.map_or(OsStr::new(DEFAULT_PATH), |(_, value)| value);
        for dir in path.as_bytes().split(|b| *b == b':') {
            let dir = if dir.is_empty() { b".".as_slice() } else { dir };
            candidates.push(c(&[dir, b"/", program].concat())?);
        }
    }
    let directory = what.directory.map(|dir| c(dir.as_os_str().as_bytes())).transpose()?;
    let arguments = what.arguments.iter().map(|arg| c(arg.as_bytes())).collect::<io::Result<Vec<_>>>()?;
    Ok(Prepared { candidates, arguments, environment, directory })
}

fn pointers(texts: &[CString]) -> Vec<*const c_char> {
    texts.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
}

/// Returns the stage that failed, with errno set; does not return where the program runs.
///
/// # Safety
/// Only in the child of a fork; the pointer lists must end in null and point to live texts.
#[allow(clippy::too_many_arguments, reason = "all of it must exist before the fork")]
unsafe fn in_child(
    what: &Launch<'_>,
    prepared: &Prepared,
    stdio: [Option<RawFd>; 3],
    keep: Option<RawFd>,
    (parent, nice): (c_int, c_int),
    arguments: &[*const c_char],
    shell_arguments: &mut [*const c_char],
    environment: &[*const c_char],
) -> Stage {
    // SAFETY: every call here is async-signal-safe (signal-safety(7)) and gets valid arguments.
    unsafe {
        libc::setsid();
        // Where the caller goes first, its child would begin as one of no nice value at all.
        libc::setpriority(libc::PRIO_PROCESS, 0, nice);
        default_signals();
        for (target, source) in (0..).zip(stdio) {
            if source.is_some_and(|fd| libc::dup2(fd, target) < 0) {
                return Stage::Setup;
            }
        }
        if keep.is_some_and(|fd| libc::fcntl(fd, libc::F_SETFD, 0) < 0) {
            return Stage::Setup;
        }
        if let Some(umask) = what.umask {
            libc::umask(umask);
        }
        if let Some(mark) = what.mark {
            let maximum = rustix::process::getrlimit(Resource::Locks).maximum;
            // Where a lower one is imposed it goes without; the environment has the cookie too.
            let _ = rustix::process::setrlimit(Resource::Locks, Rlimit { current: Some(mark), maximum });
        }
        if what.user.is_some_and(|(uid, gid)| !become_user(uid, gid)) {
            return Stage::User;
        }
        if prepared.directory.as_ref().is_some_and(|dir| libc::chdir(dir.as_ptr()) < 0) {
            return Stage::Directory;
        }
        if what.die_with_parent {
            // After setuid, which clears it. Who is an orphan by now would never be told.
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) < 0 {
                return Stage::Setup;
            }
            if libc::getppid() != parent {
                libc::_exit(127);
            }
        }
        exec(&prepared.candidates, arguments, shell_arguments, environment)
    }
}

/// Becomes a user for good, and looks afterwards whether it did: a kernel, a sandbox or a missing capability that
/// changes less than was asked must not leave the app with more rights than it was given.
///
/// # Safety
/// As [`in_child`].
unsafe fn become_user(uid: libc::uid_t, gid: libc::gid_t) -> bool {
    // SAFETY: plain system calls; every pointer is to a variable of this frame, and the list has room for two.
    unsafe {
        let privileged = libc::geteuid() == 0;
        if privileged && libc::setgroups(1, &raw const gid) < 0
            || libc::setresgid(gid, gid, gid) < 0
            || libc::setresuid(uid, uid, uid) < 0
        {
            return false;
        }
        let (mut users, mut groups) = ([0; 3], [0; 3]);
        let [real, effective, saved] = &mut users;
        if libc::getresuid(real, effective, saved) < 0 {
            return false;
        }
        let [real, effective, saved] = &mut groups;
        if libc::getresgid(real, effective, saved) < 0 {
            return false;
        }
        let mut others: [libc::gid_t; 2] = [0; 2];
        let alone = !privileged || (libc::getgroups(2, others.as_mut_ptr()) == 1 && others[0] == gid);
        let became = users == [uid; 3] && groups == [gid; 3] && alone;
        if !became || (uid != 0 && libc::setuid(0) == 0) {
            *libc::__errno_location() = libc::EPERM;
            return false;
        }
        true
    }
}

/// Tries one candidate after the other, as execvp(3) does.
///
/// # Safety
/// As [`in_child`].
unsafe fn exec(
    candidates: &[CString],
    arguments: &[*const c_char],
    shell_arguments: &mut [*const c_char],
    environment: &[*const c_char],
) -> Stage {
    let mut denied = false;
    for candidate in candidates {
        // SAFETY: lists that end in null; errno is thread-local.
        let errno = unsafe {
            libc::execve(candidate.as_ptr(), arguments.as_ptr(), environment.as_ptr());
            *libc::__errno_location()
        };
        match errno {
            libc::ENOENT | libc::ENOTDIR => {}
            libc::EACCES => denied = true,
            libc::ENOEXEC => {
                if let Some(script) = shell_arguments.get_mut(1) {
                    *script = candidate.as_ptr();
                }
                // SAFETY: as above.
                unsafe {
                    libc::execve(c"/bin/sh".as_ptr(), shell_arguments.as_ptr(), environment.as_ptr());
                }
                return Stage::Exec;
            }
            _ => return Stage::Exec,
        }
    }
    // SAFETY: errno is thread-local.
    unsafe { *libc::__errno_location() = if denied { libc::EACCES } else { libc::ENOENT } };
    Stage::Exec
}

/// Ignored and blocked signals survive an exec; the app shall not inherit the supervisor's.
///
/// # Safety
/// Only in the child of a fork.
unsafe fn default_signals() {
    // SAFETY: zeroed is SIG_DFL with no flags and an empty mask; numbers that cannot be set are refused, harmlessly.
    unsafe {
        let default: libc::sigaction = std::mem::zeroed();
        for number in 1..=64 {
            libc::sigaction(number, &raw const default, ptr::null_mut());
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
    }
}

/// Takes a descriptor that the parent has left open under this number, and keeps it from being inherited further.
/// To be called once for a number.
pub fn adopt_descriptor(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl on a number that may be no descriptor gives an error, which is checked first.
    if number <= 2 || unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{number} is no open descriptor")));
    }
    // SAFETY: open, and by the parent's word nobody else's.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    rustix::io::fcntl_setfd(&descriptor, rustix::io::FdFlags::CLOEXEC)?;
    Ok(descriptor)
}

/// Has this thread run before all others that are not as urgent, where the system allows it (root does): an app that
/// takes every processor, or forks without end, must not keep whoever ends it from that. Children do not inherit it. Who
/// was given another way of being scheduled than the usual one keeps it.
pub fn go_first() {
    // SAFETY: a plain system call on a structure of this frame; a refusal changes nothing.
    unsafe {
        if libc::sched_getscheduler(0) != libc::SCHED_OTHER {
            return;
        }
        let mut least: libc::sched_param = std::mem::zeroed();
        least.sched_priority = libc::sched_get_priority_min(libc::SCHED_RR);
        libc::sched_setscheduler(0, libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, &raw const least);
    }
}

/// What [`exit_now`] does before the end.
static LAST_ACT: OnceLock<fn()> = OnceLock::new();

/// Sets what [`exit_now`] does before it ends this process, once: it must not take long.
pub fn set_last_act(act: fn()) {
    // Who comes second is a test.
    let _ = LAST_ACT.set(act);
}

/// Ends this process at once, with nothing run but the last act, and nothing else flushed.
pub fn exit_now(code: i32) -> ! {
    if let Some(act) = LAST_ACT.get() {
        act();
    }
    // SAFETY: takes a number and does not return.
    unsafe { libc::_exit(code) }
}
