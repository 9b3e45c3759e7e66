//! From asking to killing: a pure schedule.
//!
//! ```text
//!  asked ───────────── kill_at ── every pause: kill what is left ── kill_at + KILL_CONFIRM: report who withstands ──▶
//! ```
//! It ends when nothing is left, which only a look at the processes can tell.

use super::limits::{KILL_CONFIRM, KILL_PAUSE, SWEEP_PAUSE};
use std::time::Duration;

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing yet: the main process has time.
    Nothing,
    /// Look who is left, and ask those who were not asked.
    Ask,
    /// Look who is left, and kill them.
    Kill,
    /// The same, and report them: they withstand it.
    Report,
}

/// When to kill, and when to look.
#[derive(Clone, Copy, Debug)]
pub struct Escalation {
    kill_at: Duration,
    report_at: Duration,
    look_at: Duration,
    looked_at: Option<Duration>,
}

impl Escalation {
    /// Asked now, killed then.
    pub fn new(kill_at: Duration) -> Escalation {
        Escalation { kill_at, report_at: kill_at + KILL_CONFIRM, look_at: Duration::ZERO, looked_at: None }
    }

    /// When what is left is killed.
    pub fn kill_at(&self) -> Duration {
        self.kill_at
    }

    /// Killed then at the latest.
    pub fn hasten(&mut self, kill_at: Duration) {
        if kill_at < self.kill_at {
            self.kill_at = kill_at;
            self.report_at = kill_at + KILL_CONFIRM;
            self.look_at = self.look_at.min(kill_at);
        }
    }

    /// Something has ended: look at once, but where thousands end not after each of them.
    pub fn look_now(&mut self) {
        let soonest = self.looked_at.map_or(Duration::ZERO, |at| at + KILL_PAUSE);
        self.look_at = self.look_at.min(soonest);
    }

    /// What is due now; `main_gone`: the main process has ended.
    pub fn step(&mut self, now: Duration, main_gone: bool) -> Due {
        let killing = now >= self.kill_at;
        if now < self.look_at || (!killing && !main_gone) {
            return Due::Nothing;
        }
        self.looked_at = Some(now);
        self.look_at = now + if killing { KILL_PAUSE } else { SWEEP_PAUSE };
        if killing && now >= self.report_at {
            self.report_at = now + KILL_CONFIRM;
            return Due::Report;
        }
        if killing { Due::Kill } else { Due::Ask }
    }

    /// When to step again.
    pub fn wake_at(&self, main_gone: bool) -> Duration {
        if main_gone || self.look_at >= self.kill_at { self.look_at } else { self.kill_at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_main_process_has_its_time_then_all_are_killed_until_none_is_left() {
        let mut escalation = Escalation::new(ms(1000));
        assert_eq!(escalation.step(ms(0), false), Due::Nothing);
        assert_eq!(escalation.wake_at(false), ms(1000));
        assert_eq!(escalation.step(ms(1000), false), Due::Kill);
        assert_eq!(escalation.wake_at(false), ms(1010));
        assert_eq!(escalation.step(ms(1005), false), Due::Nothing);
        assert_eq!(escalation.step(ms(1010), false), Due::Kill);
        assert_eq!(escalation.step(ms(11_000), true), Due::Report);
        assert_eq!(escalation.step(ms(11_010), true), Due::Kill);
        assert_eq!(escalation.step(ms(21_000), true), Due::Report);
    }

    #[test]
    fn what_outlives_the_main_process_is_asked_first() {
        let mut escalation = Escalation::new(ms(90_000));
        assert_eq!(escalation.step(ms(10), true), Due::Ask);
        assert_eq!(escalation.step(ms(20), true), Due::Nothing);
        escalation.look_now();
        assert_eq!(escalation.step(ms(19), true), Due::Nothing, "not after each of many ends");
        assert_eq!(escalation.step(ms(20), true), Due::Ask);
        escalation.hasten(ms(50));
        assert_eq!(escalation.wake_at(true), ms(50));
        assert_eq!(escalation.step(ms(50), true), Due::Kill);
        escalation.hasten(ms(70));
        assert_eq!(escalation.step(ms(60), true), Due::Kill, "hastening never gives more time");
    }
}
