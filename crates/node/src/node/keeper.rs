//! The node's one thread of its own: automatic checkpoints, retries, the scan for uncovered databases.
//!
//! It sleeps until the next of these is due, or until somebody rings; nothing is due more often than every ten
//! seconds. Paths are looked at by a thread of their own, since a file system may hang.

use super::lifetime::RETRY;
use super::{Core, lock, uncovered};
use crate::control::State;
use crate::preflight::limits::LOOK_AT_REST_EVERY;
use crate::schedule;
use base::Timestamp;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often the files that the app has open are looked at.
pub const SCAN_EVERY: Duration = Duration::from_secs(10);
/// The least time between two such scans, however often status is asked.
pub const SCAN_AT_MOST_EVERY: Duration = Duration::from_secs(1);
/// The longest sleep, so that a jump of the wall clock moves the schedule by no more.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// The shortest sleep, whatever is due: a task that fails at once must not spin.
const SHORTEST_SLEEP: Duration = Duration::from_millis(100);

/// Wakes the keeper.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    rung: Mutex<Bell>,
    bell: Condvar,
}

#[derive(Debug, Default)]
struct Bell {
    rung: bool,
    end: bool,
}

impl Alarm {
    /// Something changed: look again.
    pub(crate) fn ring(&self) {
        lock(&self.rung).rung = true;
        self.bell.notify_one();
    }

    /// The thread is to end.
    pub(crate) fn end(&self) {
        lock(&self.rung).end = true;
        self.bell.notify_one();
    }

    /// Waits; true once the thread is to end.
    fn wait(&self, how_long: Duration) -> bool {
        let bell = lock(&self.rung);
        let (mut bell, _) = self
            .bell
            .wait_timeout_while(bell, how_long, |bell| !bell.rung && !bell.end)
            .unwrap_or_else(PoisonError::into_inner);
        bell.rung = false;
        bell.end
    }
}

/// Starts the thread; a system that gives none is logged, and the node works without schedules.
pub(crate) fn spawn(core: Arc<Core>) -> Option<JoinHandle<()>> {
    let thread = std::thread::Builder::new().name("node-keeper".to_owned());
    match thread.spawn(move || run(&core)) {
        Ok(handle) => Some(handle),
        Err(error) => {
            tracing::error!(event = "no thread", name = "schedules and retries", %error);
            None
        }
    }
}

/// What the thread remembers between two rounds.
struct Rhythm {
    /// When the schedule of checkpoints began: with the configuration.
    since: Option<Timestamp>,
    /// After a failure, when the next attempt may be made (boot clock).
    not_before: Duration,
}

fn run(core: &Core) {
    let mut rhythm = Rhythm { since: None, not_before: Duration::ZERO };
    let mut sleep = Duration::ZERO;
    while !core.alarm.wait(sleep) {
        core.retry();
        core.step_down();
        core.start_waiting_app();
        core.explain_crash_loop();
        core.look_again(LOOK_AT_REST_EVERY);
        let mut next = LONGEST_SLEEP;
        if core.awaits_restore() {
            next = RETRY;
        }
        if let Some(due_in) = core.automatic_checkpoint(&mut rhythm) {
            next = next.min(due_in);
        }
        core.make_room();
        if let Some(due_in) = core.scan_on_schedule() {
            next = next.min(due_in);
        }
        if let Some((at, _)) = lock(&core.parts).retry {
            next = next.min(at.saturating_sub(core.setup.machine.clock.boottime()));
        }
        sleep = next.max(SHORTEST_SLEEP);
    }
}

impl Core {
    /// Makes an automatic checkpoint when one is due and thins the old ones; how long until the next.
    fn automatic_checkpoint(&self, rhythm: &mut Rhythm) -> Option<Duration> {
        let Some(plan) = self.config().and_then(|config| super::settings::checkpoints(&config)) else {
            rhythm.since = None;
            return None;
        };
        if !self.databases_are_up() || self.restoring.load(Ordering::SeqCst) {
            return Some(schedule::RETRY);
        }
        let (now, boot) = (self.now(), self.setup.machine.clock.boottime());
        if boot < rhythm.not_before {
            return Some(rhythm.not_before - boot);
        }
        let since = *rhythm.since.get_or_insert(now);
        let Ok(catalogue) = self.checkpoints() else { return Some(schedule::RETRY) };
        let wait = schedule::wait(schedule::last_automatic(&catalogue), since, now, plan.every);
        if !wait.is_zero() {
            return Some(wait);
        }
        if let Err(error) = self.checkpoint(None, None, true) {
            tracing::warn!(event = "checkpoint failed", %error, "an automatic one; it is tried again");
            rhythm.not_before = boot + schedule::RETRY.min(plan.every);
            return Some(schedule::RETRY.min(plan.every));
        }
        for id in schedule::outlived(&self.checkpoints().unwrap_or_default(), plan.keep) {
            if let Err(error) = self.remove_checkpoint(&id) {
                tracing::warn!(event = "checkpoint not removed", %error, %id);
            }
        }
        Some(plan.every)
    }

    /// At the local limit of history the oldest automatic checkpoint goes; named ones never do. The next one goes only
    /// when a thinning has found that this was not enough.
    pub(super) fn make_room(&self) {
        let Some(found) = self.databases_at_once().and_then(|databases| databases.over_limit()) else {
            return;
        };
        {
            let mut made_room = lock(&self.made_room);
            if made_room.is_some_and(|last| found <= last) {
                return;
            }
            *made_room = Some(self.setup.machine.clock.boottime());
        }
        let Some(id) = schedule::oldest_automatic(&self.checkpoints().unwrap_or_default()) else { return };
        match self.remove_checkpoint(&id) {
            Ok(()) => tracing::warn!(event = "checkpoint removed", %id, "history is over retention.local"),
            Err(error) => tracing::warn!(event = "checkpoint not removed", %error, %id),
        }
    }

    /// Scans while an app runs; how long until the next scan.
    fn scan_on_schedule(&self) -> Option<Duration> {
        if self.state() != State::Primary || self.setup.app.status().pid.is_none() {
            return None;
        }
        let boot = self.setup.machine.clock.boottime();
        let last = *lock(&self.scanned);
        match last {
            Some(last) if boot < last + SCAN_EVERY => Some(last + SCAN_EVERY - boot),
            _ => {
                self.scan_uncovered(Duration::ZERO);
                Some(SCAN_EVERY)
            }
        }
    }

    /// Whether the last look for such databases is no longer recent.
    pub(crate) fn scan_is_due(&self, at_most_every: Duration) -> bool {
        let boot = self.setup.machine.clock.boottime();
        lock(&self.scanned).is_none_or(|last| boot >= last + at_most_every)
    }

    /// Looks for databases that the app has open outside the configuration, unless the last look is recent.
    pub(crate) fn scan_uncovered(&self, at_most_every: Duration) {
        if !self.scan_is_due(at_most_every) {
            return;
        }
        *lock(&self.scanned) = Some(self.setup.machine.clock.boottime());
        let Some(databases) = self.databases_at_once() else { return };
        let home = &self.setup.home;
        let found = uncovered::open_databases(home.disk(), &self.setup.app.descendants())
            .into_iter()
            .filter(|(path, _)| !databases.covers(path) && !path.starts_with(home.private()))
            .take(uncovered::DATABASES_REPORTED)
            .map(|(path, pid)| uncovered::issue(home.root(), &path, pid))
            .collect();
        self.replace_issues("database", Some(uncovered::CODE), found, false);
    }
}
