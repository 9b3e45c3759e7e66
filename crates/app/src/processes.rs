//! Finding every process of the app: by descent, and by a cookie in its environment.
//!
//! Groups and sessions are left with one call of setsid(2), so neither finds everything. Descent does while the
//! supervisor lives, because it is a child subreaper: who loses its parent becomes the supervisor's child. The cookie
//! does when it does not. A program that overwrites its environment (for its title) is found by descent only.
//!
//! Everything comes from `/proc`. A process is a pid *and* its start time; a signal goes through a pidfd whose start
//! time has been compared, so that it never reaches a stranger that was given the pid in between.

use base::Random;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};
use std::fmt;
use std::io;

/// The most bytes of an environment that are searched.
const ENVIRONMENT_LIMIT: usize = 4 << 20;

/// What the processes of one run of the supervisor carry: 32 hex digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cookie(String);

impl Cookie {
    /// A new one.
    pub fn random(random: &dyn Random) -> Cookie {
        Cookie(format!("{:016x}{:016x}", random.next_u64(), random.next_u64()))
    }

    /// One that was noted before; nothing else is taken, since processes are ended on its account.
    pub fn parse(text: &str) -> Option<Cookie> {
        let good = text.len() == 32 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        good.then(|| Cookie(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

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
    /// Looks one up.
    pub fn find(pid: u32) -> Option<Process> {
        parse_stat(&read_file(&format!("/proc/{pid}/stat"), 4096).ok()?)
    }

    /// Sends a signal; false where the process is gone.
    pub fn send(&self, signal: Signal) -> io::Result<bool> {
        let Some(pid) = raw_pid(self.pid) else {
            return Ok(false);
        };
        let sent = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => {
                if Process::find(self.pid).is_none_or(|now| now.start_ticks != self.start_ticks) {
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

    /// Whether its environment has this variable with this value.
    pub fn carries(&self, variable: &str, cookie: &Cookie) -> bool {
        let wanted = format!("{variable}={cookie}");
        read_file(&format!("/proc/{}/environ", self.pid), ENVIRONMENT_LIMIT)
            .is_ok_and(|bytes| bytes.split(|b| *b == 0).any(|entry| entry == wanted.as_bytes()))
    }
}

/// All processes of this machine (or container) that can be seen.
pub fn all() -> io::Result<Vec<Process>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let proc = rustix::fs::open("/proc", flags, Mode::empty())?;
    let mut found = Vec::new();
    for entry in rustix::fs::Dir::read_from(&proc)? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().ok().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // One that ends between the listing and the look is no error.
        found.extend(Process::find(pid));
    }
    Ok(found)
}

/// Those below `root`, without the trees of `except`; `root` itself is not among them. Zombies are left out.
pub fn below(all: &[Process], root: u32, except: &[u32]) -> Vec<Process> {
    let mut found = Vec::new();
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        for process in all.iter().filter(|p| p.parent == parent && p.pid != parent) {
            if except.contains(&process.pid) {
                continue;
            }
            parents.push(process.pid);
            if process.alive {
                found.push(*process);
            }
        }
    }
    found
}

/// Those that carry the cookie in one of the variables, without this process. Zombies are left out.
pub fn carrying(all: &[Process], variables: &[&str], cookie: &Cookie) -> Vec<Process> {
    let own = std::process::id();
    all.iter()
        .filter(|p| p.alive && p.pid != own && variables.iter().any(|name| p.carries(name, cookie)))
        .copied()
        .collect()
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

/// Both, each once: the processes of the app. To be called by `root` itself, which must not reap meanwhile.
pub fn descendants(root: u32, except: &[u32], variable: &str, cookie: &Cookie) -> io::Result<Found> {
    let all = all()?;
    let mut living = below(&all, root, except);
    let others: Vec<Process> = all
        .iter()
        .filter(|p| p.pid != root && !except.contains(&p.pid) && !living.contains(p))
        .copied()
        .collect();
    living.extend(carrying(&others, &[variable], cookie));
    let childless = !all.iter().any(|p| p.parent == root && !except.contains(&p.pid));
    let certainly_none = childless && living.is_empty();
    Ok(Found { living, certainly_none })
}

/// A pid as the kernel's calls take it.
pub fn raw_pid(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

fn read_file(path: &str, limit: usize) -> io::Result<Vec<u8>> {
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
    Some(Process {
        pid,
        parent: fields.get(1)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        start_ticks: fields.get(19)?.parse().ok()?,
        alive: !matches!(state, "Z" | "X" | "x") || threads > 1,
    })
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
    fn a_zombie_counts_only_while_threads_of_it_live() {
        let dead = b"42 (x) Z 7 42 40 0 -1 4 0 0 0 0 1 2 0 0 20 0 1 0 987";
        let living = b"42 (x) Z 7 42 40 0 -1 4 0 0 0 0 1 2 0 0 20 0 2 0 987";
        assert!(!parse_stat(dead).unwrap().alive);
        assert!(parse_stat(living).unwrap().alive);
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
    fn a_cookie_is_32_hex_digits_and_nothing_else() {
        let cookie = Cookie::random(&base::SystemRandom);
        assert_eq!(Cookie::parse(cookie.as_str()), Some(cookie));
        for bad in ["", "x", &"A".repeat(32), &"0".repeat(31), &format!("{}\n", "0".repeat(32))] {
            assert_eq!(Cookie::parse(bad), None, "{bad}");
        }
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
        let found = descendants(std::process::id(), &[], "STEAD_COOKIE", &cookie).unwrap();
        assert!(!found.certainly_none);
        let own = *found.living.iter().find(|p| p.pid == child.id()).unwrap();
        assert!(carrying(&all().unwrap(), &["STEAD_COOKIE"], &cookie).contains(&own));
        let stranger = Process { start_ticks: own.start_ticks + 1, ..own };
        assert!(!stranger.send(Signal::KILL).unwrap());
        assert!(own.send(Signal::KILL).unwrap());
        child.wait().unwrap();
        assert!(!own.send(Signal::KILL).unwrap());
    }
}
