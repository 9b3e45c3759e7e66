//! Whether an app keeps ending by itself: a pure count.
//!
//! [`CRASHES`] ends within [`WINDOW`] are a loop. It is over when the app has run for [`WINDOW`], or when somebody stops
//! or starts it. Times are on the boot clock.

use std::collections::VecDeque;
use std::time::Duration;

/// So many ends within [`WINDOW`] are a crash loop: with the shortest pauses that is half a minute of trying.
pub const CRASHES: usize = 5;
/// The time in which ends are counted, and the run after which all is well again.
pub const WINDOW: Duration = Duration::from_secs(600);

/// The ends of an app, counted.
#[derive(Clone, Debug, Default)]
pub struct Crashes {
    ends: VecDeque<Duration>,
    /// How many there were, once they are a loop.
    looping: Option<usize>,
    since: Option<Duration>,
}

impl Crashes {
    /// It runs.
    pub fn started(&mut self, now: Duration) {
        self.since = Some(now);
    }

    /// It has ended by itself, or could not be started.
    pub fn ended(&mut self, now: Duration) {
        self.step(now);
        self.since = None;
        if let Some(count) = &mut self.looping {
            *count += 1;
            return;
        }
        self.ends.push_back(now);
        while self.ends.front().is_some_and(|end| *end + WINDOW < now) {
            self.ends.pop_front();
        }
        self.looping = Some(self.ends.len()).filter(|count| *count >= CRASHES);
    }

    /// Somebody has stopped or started it.
    pub fn reset(&mut self) {
        *self = Crashes::default();
    }

    /// Time has passed; true where the loop is over.
    pub fn step(&mut self, now: Duration) -> bool {
        let calm = self.since.is_some_and(|since| since + WINDOW <= now);
        let over = calm && self.looping.is_some();
        if over {
            self.ends.clear();
            self.looping = None;
        }
        over
    }

    /// How often it has ended since the loop began, where there is one.
    pub fn looping(&self) -> Option<usize> {
        self.looping
    }

    /// When to step again.
    pub fn wake_at(&self) -> Option<Duration> {
        self.since.filter(|_| self.looping.is_some()).map(|since| since + WINDOW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn five_ends_within_ten_minutes_are_a_loop_until_it_runs_as_long() {
        let mut app = Crashes::default();
        for end in 1..=4 {
            app.started(s(end * 10));
            app.ended(s(end * 10));
            assert_eq!((app.looping(), app.wake_at()), (None, None));
        }
        app.ended(s(50));
        assert_eq!(app.looping(), Some(5));
        app.started(s(60));
        assert_eq!(app.wake_at(), Some(s(660)));
        assert!(!app.step(s(659)));
        app.ended(s(659));
        assert_eq!(app.looping(), Some(6), "it still is one");
        app.started(s(660));
        assert!(app.step(s(1260)));
        assert_eq!((app.looping(), app.wake_at()), (None, None));
    }

    #[test]
    fn ends_far_apart_are_none_and_a_start_by_hand_forgets_them() {
        let mut app = Crashes::default();
        for end in 1..=20 {
            app.ended(s(end * 200));
            assert_eq!(app.looping(), None, "{end}");
        }
        for _ in 0..5 {
            app.ended(s(4001));
        }
        assert!(app.looping().is_some());
        app.reset();
        app.ended(s(4002));
        assert_eq!(app.looping(), None);
    }
}
