//! A process between two programs: execve(2) has taken its old environment, and the new one is not there yet.
//!
//! For that moment its environment reads as empty, and it would pass for one that has none. `/proc/PID/stat` tells them
//! apart: it has memory, as no kernel thread and no zombie has, and its environment has no place yet. So it is looked at
//! again, by one look at many processes not more often than [`LOOKS_MAX`]: a program that hangs on its way in must not
//! hold up a supervisor. For an even shorter moment the place is there and has no bytes, as `env -i` leaves it: that is
//! believed when it is seen twice.

use super::{Process, STAT_LIMIT, read_file, there};
use base::{Clock, SystemClock};
use std::cell::Cell;
use std::io;
use std::time::Duration;

/// How often, at most, one look at many processes looks again at those that are between two programs.
const LOOKS_MAX: u32 = 30;
/// Before it does: whoever looks may have a priority that leaves nobody else a turn. With [`LOOKS_MAX`] this is what such
/// processes cost one look, in all.
const PAUSE: Duration = Duration::from_millis(1);
/// Where a line of stat has the size of the memory, counted from the state.
const MEMORY: usize = 20;
/// Where it has the beginning and the end of the environment.
const ENVIRONMENT: [usize; 2] = [47, 48];

/// How long one look at many processes goes on looking at those that are between two programs.
#[derive(Debug)]
pub struct Patience {
    left: Cell<u32>,
}

impl Patience {
    /// What one look has.
    pub fn of_one_look() -> Patience {
        Patience { left: Cell::new(LOOKS_MAX) }
    }

    /// Whether a process whose environment reads as empty is to be looked at again; then a moment has passed. `before`:
    /// how it was at the look before.
    pub(super) fn looks_again(
        &self,
        process: &Process,
        before: Option<Environment>,
    ) -> io::Result<Option<Environment>> {
        let stat = there(read_file(&format!("/proc/{}/stat", process.pid), STAT_LIMIT))?;
        let Some(left) = self.left.get().checked_sub(1) else { return Ok(None) };
        let now = stat.and_then(|bytes| environment(&bytes));
        if now.is_none() || (now == before && now == Some(Environment::Empty)) {
            return Ok(None);
        }
        self.left.set(left);
        SystemClock.sleep(PAUSE);
        Ok(now)
    }
}

/// What a line of stat says of the environment of a process for which it read as empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Environment {
    /// It is not there yet, or has come since.
    Coming,
    /// It has no bytes: none was given, or the first is about to come.
    Empty,
}

/// `None`: it has no memory, and so no environment.
fn environment(stat: &[u8]) -> Option<Environment> {
    let text = String::from_utf8_lossy(stat);
    let (_, tail) = text.rsplit_once(')')?;
    let fields: Vec<&str> = tail.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
    let [Some(begin), Some(end)] = ENVIRONMENT.map(number) else { return None };
    let is_empty = end > 0 && begin == end;
    let has_memory = number(MEMORY).is_some_and(|bytes| bytes > 0);
    has_memory.then_some(if is_empty { Environment::Empty } else { Environment::Coming })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::processes::Cookie;
    use crate::protocol::NODE_COOKIE_VARIABLE;
    use std::os::unix::fs::PermissionsExt;

    fn stat(memory: u64, begin: u64, end: u64) -> String {
        let mut fields = ["0"; 50].map(str::to_owned);
        fields[0] = "R".to_owned();
        fields[MEMORY] = memory.to_string();
        fields[ENVIRONMENT[0]] = begin.to_string();
        fields[ENVIRONMENT[1]] = end.to_string();
        format!("42 (a) b) {}\n", fields.join(" "))
    }

    #[test]
    fn who_has_memory_and_no_place_for_an_environment_is_between_two_programs() {
        let found = |memory, begin, end| environment(stat(memory, begin, end).as_bytes());
        assert_eq!(found(4096, 0, 0), Some(Environment::Coming), "it is on its way");
        assert_eq!(found(4096, 100, 200), Some(Environment::Coming), "it has come meanwhile");
        assert_eq!(found(4096, 100, 100), Some(Environment::Empty), "env -i, or on its way");
        assert_eq!(found(0, 0, 0), None, "a kernel thread, a zombie");
        assert_eq!((environment(b"42 (a) R 1 2"), environment(b"")), (None, None));
    }

    #[test]
    fn who_stays_between_two_programs_is_waited_for_only_so_often() {
        let own = Process::find(std::process::id()).unwrap().unwrap();
        let patience = Patience::of_one_look();
        // Its own environment is there, so that each look says that it has come.
        let looks =
            (0..LOOKS_MAX * 2).filter(|_| patience.looks_again(&own, None).unwrap().is_some()).count();
        assert_eq!(looks, LOOKS_MAX as usize);
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "a child of the test, no SQLite file near")]
    fn who_has_no_environment_is_looked_at_twice() {
        let mut child = std::process::Command::new("sleep").arg("60").env_clear().spawn().unwrap();
        let process = Process::find(child.id()).unwrap().unwrap();
        let patience = Patience::of_one_look();
        let (mut looks, mut before) = (0, None);
        while let Some(now) = patience.looks_again(&process, before).unwrap() {
            (looks, before) = (looks + u32::from(now == Environment::Empty), Some(now));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(looks, 1, "the second one is believed");
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "a child of the test, no SQLite file near")]
    fn a_process_that_starts_one_program_after_another_is_known_at_every_look() {
        const TIMES: u32 = 3000;
        let cookie = Cookie::random(&base::SystemRandom);
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("again");
        std::fs::write(&program, "#!/bin/sh\nexec \"$0\"\n").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = std::process::Command::new(&program);
        let mut child = command.env(NODE_COOKIE_VARIABLE, cookie.as_str()).spawn().unwrap();
        let process = Process::find(child.id()).unwrap().unwrap();
        // On a machine with more to do, it may be kept from its way for longer than a look lasts.
        let patience = || Patience { left: Cell::new(100 * LOOKS_MAX) };
        let known = |_: &u32| process.carries(NODE_COOKIE_VARIABLE, &cookie, &patience()).unwrap();
        let found = (0..TIMES).filter(known).count();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found, TIMES as usize);
    }
}
