//! Finding every process of the app: by descent, by a cookie in its environment, and by two marks.
//!
//! Groups and sessions are left with one call of setsid(2), so neither finds everything. Descent does while the
//! supervisor lives, because it is a child subreaper: who loses its parent becomes the supervisor's child. The cookie
//! and the marks do when it does not. The cookie is lost with the environment (`env -i`). One mark is the limit
//! RLIMIT_LOCKS, which Linux has not looked at since 2.4 and every child and program inherits; `sudo` sets it anew where
//! PAM says so. The other is the name of the pipes for output, which `sudo` hands on.
//!
//! A process between two programs shows no environment, and is looked at again (`between`).
//!
//! Everything comes from `/proc`. A process is a pid *and* its start time; a signal goes through a pidfd whose start
//! time has been compared, so that it never reaches a stranger that was given the pid in between.
//!
//! A process that has gone, or that is another user's and hidden from us, is not there. Any other error of a look (no
//! descriptor, no memory) makes the whole look one: it must never pass for a look that found nobody.

use crate::protocol::{APP_COOKIE_VARIABLE, NODE_COOKIE_VARIABLE};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};
use std::collections::{BTreeMap, BTreeSet};
use std::io;

mod between;
mod cookie;
pub use between::Patience;
pub use cookie::Cookie;

/// The most bytes of `/proc/PID/stat`, which has about 300.
const STAT_LIMIT: usize = 4096;
/// The most bytes of an environment that are searched.
const ENVIRONMENT_LIMIT: usize = 4 << 20;
/// The most bytes of `/proc/PID/limits`, which has about 1,400.
const LIMITS_LIMIT: usize = 16 << 10;

/// A process, as `/proc/PID/stat` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its parent.
    pub parent: u32,
    /// Its session.
    pub session: u32,
    /// When it started, clock ticks since boot; with the pid this names it for good.
    pub start_ticks: u64,
    /// It still runs: neither a zombie nor about to be gone.
    pub alive: bool,
}

impl Process {
    /// Looks one up; none where it has gone.
    pub fn find(pid: u32) -> io::Result<Option<Process>> {
        let Some(bytes) = there(read_file(&format!("/proc/{pid}/stat"), STAT_LIMIT))? else {
            return Ok(None);
        };
        let unknown =
            || io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat is not understood"));
        parse_stat(&bytes).map(Some).ok_or_else(unknown)
    }

    /// Sends a signal; false where the process is gone.
    pub fn send(&self, signal: Signal) -> io::Result<bool> {
        let Some(pid) = raw_pid(self.pid) else {
            return Ok(false);
        };
        let sent = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => {
                if Process::find(self.pid)?.is_none_or(|now| now.start_ticks != self.start_ticks) {
                    return Ok(false);
                }
                rustix::process::pidfd_send_signal(&pidfd, signal)
            }
            // Sandboxes without pidfds: the pid is as good as it gets.
            Err(Errno::NOSYS | Errno::PERM) => rustix::process::kill_process(pid, signal),
            Err(error) => Err(error),
        };
        match sent {
            Ok(()) => Ok(true),
            Err(Errno::SRCH) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether its environment has this variable with this value. One that is between two programs is looked at again.
    pub fn carries(&self, variable: &str, cookie: &Cookie, patience: &Patience) -> io::Result<bool> {
        let wanted = format!("{variable}={cookie}");
        let mut before = None;
        loop {
            let environment = there(read_file(&format!("/proc/{}/environ", self.pid), ENVIRONMENT_LIMIT))?;
            let Some(bytes) = environment else { return Ok(false) };
            if bytes.is_empty() {
                before = patience.looks_again(self, before)?;
            }
            if !bytes.is_empty() || before.is_none() {
                return Ok(bytes.split(|b| *b == 0).any(|entry| entry == wanted.as_bytes()));
            }
        }
    }

    /// Whether it has the mark of this cookie.
    pub fn is_marked(&self, cookie: &Cookie) -> io::Result<bool> {
        let limits = there(read_file(&format!("/proc/{}/limits", self.pid), LIMITS_LIMIT))?;
        Ok(limits.is_some_and(|bytes| parse_mark(&bytes) == Some(cookie.mark())))
    }

    /// Whether it writes its output to a pipe of this cookie.
    pub fn writes_to(&self, cookie: &Cookie) -> io::Result<bool> {
        let name = cookie.pipe_name();
        for fd in [1, 2] {
            let link = rustix::fs::readlink(format!("/proc/{}/fd/{fd}", self.pid), Vec::new());
            let target = there(link.map_err(io::Error::from))?;
            if target.is_some_and(|target| target.to_string_lossy().contains(&name)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether it carries the cookie in one of the variables; where the app's is among them, the marks count as well.
    fn belongs(&self, variables: &[&str], cookie: &Cookie, patience: &Patience) -> io::Result<bool> {
        if variables.contains(&APP_COOKIE_VARIABLE) && (self.is_marked(cookie)? || self.writes_to(cookie)?) {
            return Ok(true);
        }
        for variable in variables {
            if self.carries(variable, cookie, patience)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a node has left it behind: it has the node's cookie and nothing of the app's. It is not the app's then,
    /// and nobody waits for it, even where it withstands SIGKILL on a file system that hangs.
    fn is_left_by_node(&self, cookie: &Cookie, patience: &Patience) -> io::Result<bool> {
        Ok(self.alive
            && !self.belongs(&[APP_COOKIE_VARIABLE], cookie, patience)?
            && self.carries(NODE_COOKIE_VARIABLE, cookie, patience)?)
    }
}

/// What a look at one process gave; nothing where it has gone, or may not be looked at.
fn there<T>(looked: io::Result<T>) -> io::Result<Option<T>> {
    match looked {
        Ok(found) => Ok(Some(found)),
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::NOENT | Errno::SRCH | Errno::ACCESS | Errno::PERM) => Ok(None),
            _ => Err(error),
        },
    }
}

/// All processes of this machine (or container) that can be seen.
pub fn all() -> io::Result<Vec<Process>> {
    let mut found = Vec::new();
    each(|process| {
        found.push(process);
        Ok(())
    })?;
    Ok(found)
}

/// Looks at one process after another, in the order of their pids. One that is started meanwhile has a higher pid than
/// its parent, unless the numbers began anew, and is looked at too. A look that fails does not keep the others from
/// theirs, and is the result.
fn each(look: impl FnMut(Process) -> io::Result<()>) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let proc = rustix::fs::open("/proc", flags, Mode::empty())?;
    let pids = rustix::fs::Dir::read_from(&proc)?.filter_map(|entry| match entry {
        Ok(entry) => entry.file_name().to_str().ok()?.parse().ok().map(Ok),
        Err(error) => Some(Err(error.into())),
    });
    each_of(pids, Process::find, look)
}

fn each_of(
    pids: impl Iterator<Item = io::Result<u32>>,
    find: impl Fn(u32) -> io::Result<Option<Process>>,
    mut look: impl FnMut(Process) -> io::Result<()>,
) -> io::Result<()> {
    let mut result = Ok(());
    for pid in pids {
        // One that ends between the listing and the look is no error.
        let looked = find(pid?).and_then(|process| process.map_or(Ok(()), &mut look));
        result = result.and(looked);
    }
    result
}

/// Those below `root`, without the trees of `except`; `root` itself is not among them. Zombies are left out.
pub fn below(all: &[Process], root: u32, except: &[u32]) -> Vec<Process> {
    let mut children: BTreeMap<u32, Vec<&Process>> = BTreeMap::new();
    for process in all.iter().filter(|p| p.pid != p.parent && !except.contains(&p.pid)) {
        children.entry(process.parent).or_default().push(process);
    }
    let mut found = Vec::new();
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        for process in children.remove(&parent).unwrap_or_default() {
            parents.push(process.pid);
            if process.alive {
                found.push(*process);
            }
        }
    }
    found
}

/// Those that carry the cookie in one of the variables, without this process. Zombies are left out.
pub fn carrying(all: &[Process], variables: &[&str], cookie: &Cookie) -> io::Result<Vec<Process>> {
    carrying_of(all, variables, cookie, &Patience::of_one_look())
}

fn carrying_of(
    all: &[Process],
    variables: &[&str],
    cookie: &Cookie,
    patience: &Patience,
) -> io::Result<Vec<Process>> {
    let own = std::process::id();
    let mut found = Vec::new();
    for process in all.iter().filter(|process| process.alive && process.pid != own) {
        if process.belongs(variables, cookie, patience)? {
            found.push(*process);
        }
    }
    Ok(found)
}

/// Kills those that carry the cookie in one of the variables, each as soon as it is seen; returns them.
pub fn kill_carrying(variables: &[&str], cookie: &Cookie) -> io::Result<Vec<Process>> {
    let (own, patience) = (std::process::id(), Patience::of_one_look());
    let mut living = Vec::new();
    each(|process| {
        if process.alive && process.pid != own && process.belongs(variables, cookie, &patience)? {
            // Who withstands it is there at the next look.
            let _ = process.send(Signal::KILL);
            living.push(process);
        }
        Ok(())
    })?;
    Ok(living)
}

/// Kills `root`'s children that a node has left behind.
pub fn kill_left_by_node(root: u32, except: &[u32], cookie: &Cookie) -> io::Result<()> {
    let patience = Patience::of_one_look();
    each(|process| {
        if process.parent == root
            && !except.contains(&process.pid)
            && process.is_left_by_node(cookie, &patience)?
        {
            // Who withstands it is not waited for.
            let _ = process.send(Signal::KILL);
        }
        Ok(())
    })
}

/// What a look for the processes of the app has found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Those that run.
    pub living: Vec<Process>,
    /// Nothing runs, for sure, in the root's tree. A process that forks and ends between the listing of `/proc` and
    /// the look at it hides its child; but then some child of the root is there as a zombie, since nobody but the
    /// root can reap it. So only a look that finds no child at all, dead or alive, proves that there was nothing.
    pub certainly_none: bool,
}

/// All, each once: the processes of the app. To be called by `root` itself, which must not reap meanwhile.
pub fn descendants(root: u32, except: &[u32], cookie: &Cookie) -> io::Result<Found> {
    let (mut all, patience) = (all()?, Patience::of_one_look());
    let mut left = Vec::new();
    for process in all.iter().filter(|p| p.parent == root && !except.contains(&p.pid)) {
        if process.is_left_by_node(cookie, &patience)? {
            left.push(process.pid);
        }
    }
    all.retain(|process| !left.contains(&process.pid));
    let mut living = below(&all, root, except);
    let known: BTreeSet<u32> = living.iter().map(|process| process.pid).collect();
    let others: Vec<Process> = all
        .iter()
        .filter(|p| p.pid != root && !except.contains(&p.pid) && !known.contains(&p.pid))
        .copied()
        .collect();
    living.extend(carrying_of(&others, &[APP_COOKIE_VARIABLE], cookie, &patience)?);
    let childless = !all.iter().any(|p| p.parent == root && !except.contains(&p.pid));
    let certainly_none = childless && living.is_empty();
    Ok(Found { living, certainly_none })
}

/// Kills the processes of the app, each as soon as it is seen: between a listing and the end of a list one that forks
/// as fast as it can would have brought about more than were killed. To be called as [`descendants`].
pub fn kill_descendants(root: u32, except: &[u32], cookie: &Cookie) -> io::Result<Found> {
    let mut family = BTreeSet::from([root]);
    let (mut childless, patience) = (true, Patience::of_one_look());
    let mut living = Vec::new();
    each(|process| {
        if process.pid == root || except.contains(&process.pid) {
            return Ok(());
        }
        let child = family.contains(&process.parent);
        if process.parent == root {
            // Killed in any case, and that at once; one that is about to be gone is known at the next look.
            let killed = process.alive && process.send(Signal::KILL).is_ok();
            if killed && process.is_left_by_node(cookie, &patience)? {
                return Ok(());
            }
            childless = false;
        }
        if child {
            family.insert(process.pid);
        }
        if !process.alive || !(child || process.belongs(&[APP_COOKIE_VARIABLE], cookie, &patience)?) {
            return Ok(());
        }
        family.insert(process.pid);
        // Who withstands it is there at the next look, and reported in the end.
        let _ = process.send(Signal::KILL);
        living.push(process);
        Ok(())
    })?;
    Ok(Found { certainly_none: childless && living.is_empty(), living })
}

/// A pid as the kernel's calls take it.
pub fn raw_pid(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// A file of `/proc`, up to a limit.
pub fn read_file(path: &str, limit: usize) -> io::Result<Vec<u8>> {
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    while bytes.len() < limit {
        match rustix::io::read(&file, &mut buffer) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(bytes)
}

/// Reads proc_pid_stat(5). The name in parentheses may itself hold spaces and parentheses.
fn parse_stat(bytes: &[u8]) -> Option<Process> {
    let text = String::from_utf8_lossy(bytes);
    let (head, tail) = text.rsplit_once(')')?;
    let pid = head.split_once(' ')?.0.parse().ok()?;
    let fields: Vec<&str> = tail.split_ascii_whitespace().collect();
    // A zombie whose other threads live on is a process that still runs.
    let threads: i64 = fields.get(17)?.parse().ok()?;
    let state = *fields.first()?;
    // -1 where it is just being reaped: it is in no session any more.
    let session: i64 = fields.get(3)?.parse().ok()?;
    Some(Process {
        pid,
        parent: fields.get(1)?.parse().ok()?,
        session: u32::try_from(session).unwrap_or(0),
        start_ticks: fields.get(19)?.parse().ok()?,
        alive: !matches!(state, "Z" | "X" | "x") || threads > 1,
    })
}

/// The soft limit on locks, as `/proc/PID/limits` has it; none where there is no limit.
fn parse_mark(limits: &[u8]) -> Option<u64> {
    let text = str::from_utf8(limits).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max file locks"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, parent: u32, alive: bool) -> Process {
        Process { pid, parent, session: 1, start_ticks: 1, alive }
    }

    #[test]
    fn a_name_may_hold_anything() {
        let line = b"42 (a) b (c) S 7 42 40 0 -1 4 0 0 0 0 1 2 0 0 20 0 3 0 987 1 2 3\n";
        let found = parse_stat(line).unwrap();
        assert_eq!(found, Process { pid: 42, parent: 7, session: 40, start_ticks: 987, alive: true });
        assert!(parse_stat(b"42 (short) S 1").is_none());
    }

    #[test]
    fn a_process_that_is_just_being_reaped_is_understood() {
        let line = b"42 (a) X 0 -1 -1 0 -1 4 0 0 0 0 0 0 0 0 20 0 0 0 987 0 0\n";
        let gone = Process { pid: 42, parent: 0, session: 0, start_ticks: 987, alive: false };
        assert_eq!(parse_stat(line), Some(gone));
    }

    #[test]
    fn a_zombie_counts_only_while_threads_of_it_live() {
        let dead = b"42 (x) Z 7 42 40 0 -1 4 0 0 0 0 1 2 0 0 20 0 1 0 987";
        let living = b"42 (x) Z 7 42 40 0 -1 4 0 0 0 0 1 2 0 0 20 0 2 0 987";
        assert!(!parse_stat(dead).unwrap().alive);
        assert!(parse_stat(living).unwrap().alive);
    }

    #[test]
    fn a_look_that_fails_is_no_look_that_found_nobody_and_the_others_are_looked_at_all_the_same() {
        let find = |pid| match pid {
            1 => Err(Errno::MFILE.into()),
            2 => Ok(None),
            pid => Ok(Some(process(pid, 1, true))),
        };
        let mut seen = Vec::new();
        let look = |process: Process| {
            seen.push(process.pid);
            if process.pid == 3 { Err(Errno::NOMEM.into()) } else { Ok(()) }
        };
        let error = each_of([1, 2, 3, 4].map(Ok).into_iter(), find, look).unwrap_err();
        assert_eq!((Errno::from_io_error(&error), seen), (Some(Errno::MFILE), vec![3, 4]));
        for gone in [Errno::NOENT, Errno::SRCH, Errno::ACCESS] {
            assert_eq!(there::<()>(Err(gone.into())).unwrap(), None);
        }
        for unknown in [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::IO] {
            assert!(there::<()>(Err(unknown.into())).is_err(), "{unknown}");
        }
    }

    #[test]
    fn descent_leaves_out_other_trees_and_zombies_but_not_their_children() {
        let all = [
            process(1, 0, true),
            process(10, 1, true),
            process(11, 10, true),
            process(20, 1, true),
            process(21, 20, false),
            process(22, 21, true),
            process(30, 99, true),
        ];
        let mut pids: Vec<u32> = below(&all, 1, &[10]).iter().map(|p| p.pid).collect();
        pids.sort_unstable();
        assert_eq!(pids, [20, 22]);
    }

    #[test]
    fn a_mark_is_the_soft_limit_on_locks_and_no_limit_is_none() {
        let limits = |soft: &str| {
            format!(
                "Limit                     Soft Limit           Hard Limit           Units     \n\
                 Max address space         unlimited            unlimited            bytes     \n\
                 Max file locks            {soft:<20} unlimited            locks     \n"
            )
        };
        assert_eq!(parse_mark(limits("1152921504606846975").as_bytes()), Some((1 << 60) - 1));
        assert_eq!(parse_mark(limits("unlimited").as_bytes()), None);
        assert_eq!(parse_mark(b""), None);
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "a child of the test, no SQLite file near")]
    fn what_a_node_has_left_is_not_the_apps_and_is_killed() {
        let cookie = Cookie::random(&base::SystemRandom);
        let child = |variables: &[&str]| {
            let mut command = std::process::Command::new("sleep");
            command.arg("60").envs(variables.iter().map(|name| (name, cookie.as_str()))).spawn().unwrap()
        };
        let mut left = child(&[NODE_COOKIE_VARIABLE]);
        let mut own = child(&[NODE_COOKIE_VARIABLE, APP_COOKIE_VARIABLE]);
        let root = std::process::id();
        let found = descendants(root, &[], &cookie).unwrap().living;
        let is_there = |pid| found.iter().any(|process| process.pid == pid);
        assert!(is_there(own.id()) && !is_there(left.id()));
        kill_left_by_node(root, &[], &cookie).unwrap();
        left.wait().unwrap();
        assert!(Process::find(own.id()).unwrap().unwrap().alive, "the app's is left alone");
        own.kill().unwrap();
        own.wait().unwrap();
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "a child of the test, no SQLite file near")]
    fn a_child_is_found_by_descent_and_by_cookie_and_is_told_from_its_successor() {
        let cookie = Cookie::random(&base::SystemRandom);
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .env("STEAD_COOKIE", cookie.as_str())
            .spawn()
            .unwrap();
        let found = descendants(std::process::id(), &[], &cookie).unwrap();
        assert!(!found.certainly_none);
        let own = *found.living.iter().find(|p| p.pid == child.id()).unwrap();
        assert!(carrying(&all().unwrap(), &["STEAD_COOKIE"], &cookie).unwrap().contains(&own));
        let stranger = Process { start_ticks: own.start_ticks + 1, ..own };
        assert!(!stranger.send(Signal::KILL).unwrap());
        assert!(own.send(Signal::KILL).unwrap());
        child.wait().unwrap();
        assert!(!own.send(Signal::KILL).unwrap());
    }
}
