//! A clock that stands still until somebody moves it. Sleeping moves it.

use crate::clock::{Clock, Timestamp};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A clock moved by hand. A clone is the same clock.
#[derive(Clone, Debug)]
pub struct SimClock {
    time: Arc<Mutex<Time>>,
}

#[derive(Clone, Copy, Debug)]
struct Time {
    /// Nanoseconds since 1970.
    wall_ns: i128,
    boot: Duration,
}

impl SimClock {
    /// A machine that has just booted at this wall time.
    pub fn new(start: Timestamp) -> SimClock {
        let time = Time { wall_ns: i128::from(start.0) * 1_000_000, boot: Duration::ZERO };
        SimClock { time: Arc::new(Mutex::new(time)) }
    }

    /// Lets time pass, on both clocks.
    pub fn advance(&self, how_long: Duration) {
        self.with(|time| {
            time.wall_ns += i128::try_from(how_long.as_nanos()).unwrap_or(0);
            time.boot += how_long;
        });
    }

    /// Sets the wall clock, forth or back, as an operator or NTP does. Boot time is untouched.
    pub fn set_wall(&self, now: Timestamp) {
        self.with(|time| time.wall_ns = i128::from(now.0) * 1_000_000);
    }

    /// Wall time in nanoseconds since 1970.
    pub fn wall_ns(&self) -> i128 {
        self.with(|time| time.wall_ns)
    }

    fn with<T>(&self, act: impl FnOnce(&mut Time) -> T) -> T {
        act(&mut self.time.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Default for SimClock {
    /// 2026-01-01T00:00:00Z.
    fn default() -> SimClock {
        SimClock::new(Timestamp(1_767_225_600_000))
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        Timestamp(i64::try_from(self.wall_ns().div_euclid(1_000_000)).unwrap_or(i64::MAX))
    }

    fn boottime(&self) -> Duration {
        self.with(|time| time.boot)
    }

    fn sleep(&self, how_long: Duration) {
        self.advance(how_long);
        // Whoever is waited for gets a turn on the real processor.
        std::thread::yield_now();
    }
}
