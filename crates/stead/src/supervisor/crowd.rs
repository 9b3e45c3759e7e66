//! How many processes the app has: when to count them. Pure.
//!
//! Counting reads all of `/proc`, so it is done only where the whole machine has more tasks than one app may have
//! processes, and again when there are many more than at the last count, or after a while.

use super::limits::{CROWD_EVERY, CROWD_GROWTH, CROWD_PATIENCE, PROCESSES_MAX};
use std::time::Duration;

/// The most bytes of `/proc/loadavg`.
pub const LINE_LIMIT: usize = 256;

/// What is known of the machine's tasks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Crowd {
    asked_at: Option<Duration>,
    counted: Option<(Duration, usize)>,
}

impl Crowd {
    /// Whether it is time to ask how many tasks there are.
    pub fn asks(&mut self, now: Duration) -> bool {
        let due = self.asked_at.is_none_or(|at| now >= at + CROWD_EVERY);
        if due {
            self.asked_at = Some(now);
        }
        due
    }

    /// Whether the app's processes are to be counted now.
    pub fn counts(&mut self, now: Duration, tasks: usize) -> bool {
        let news = self
            .counted
            .is_none_or(|(at, before)| tasks >= before + CROWD_GROWTH || now >= at + CROWD_PATIENCE);
        let due = tasks > PROCESSES_MAX && news;
        if due {
            self.counted = Some((now, tasks));
        } else if tasks <= PROCESSES_MAX {
            self.counted = None;
        }
        due
    }
}

/// The machine's tasks, from `/proc/loadavg` (proc_loadavg(5)): `0.20 0.18 0.12 1/80 11206`.
pub fn tasks(loadavg: &[u8]) -> Option<usize> {
    str::from_utf8(loadavg).ok()?.split_ascii_whitespace().nth(3)?.split_once('/')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_machine_with_few_tasks_is_never_searched() {
        let mut crowd = Crowd::default();
        assert!(crowd.asks(SECOND) && !crowd.asks(SECOND) && crowd.asks(SECOND * 2));
        assert!(!crowd.counts(SECOND, PROCESSES_MAX));
    }

    #[test]
    fn a_machine_with_many_is_searched_when_they_grow_and_now_and_then() {
        let mut crowd = Crowd::default();
        let many = PROCESSES_MAX + 1;
        assert!(crowd.counts(SECOND, many));
        assert!(!crowd.counts(SECOND * 2, many + CROWD_GROWTH - 1));
        assert!(crowd.counts(SECOND * 3, many + CROWD_GROWTH));
        assert!(!crowd.counts(SECOND * 4, many));
        assert!(crowd.counts(SECOND * 3 + CROWD_PATIENCE, many));
        assert!(!crowd.counts(SECOND * 100, 10));
        assert!(crowd.counts(SECOND * 101, many), "it has come again");
    }

    #[test]
    fn the_kernels_line_is_understood() {
        assert_eq!(tasks(b"0.20 0.18 0.12 1/80 11206\n"), Some(80));
        assert_eq!(tasks(b""), None);
    }
}
