//! The one clock: wall time for people, boot time (it counts suspend) for everything that must not jump.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// Wall time in milliseconds since 1970, UTC. Shown and stored; never used to measure. RFC 3339 in JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// RFC 3339 in UTC with milliseconds, `2026-11-21T10:00:00.000Z`.
    pub fn rfc3339(self) -> String {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(time) => format!("{time:.3}"),
            Err(_) => format!("@{}ms", self.0),
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let time: jiff::Timestamp = text.parse().map_err(serde::de::Error::custom)?;
        Ok(Timestamp(time.as_millisecond()))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339())
    }
}

/// Where time comes from.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Wall time. It may jump.
    fn now(&self) -> Timestamp;
    /// Time since boot, suspend included (CLOCK_BOOTTIME). It never goes back.
    fn boottime(&self) -> Duration;
    /// Waits.
    fn sleep(&self, how_long: Duration);
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        Timestamp(time.tv_sec * 1000 + time.tv_nsec / 1_000_000)
    }

    fn boottime(&self) -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
    }

    #[allow(clippy::disallowed_methods, reason = "the one place that sleeps")]
    fn sleep(&self, how_long: Duration) {
        std::thread::sleep(how_long);
    }
}
