//! How fast a large file is sent while the application writes: as fast as leaves it the processor.
//!
//! A server on the same machine, and what is done to send, may take all processors. So between pieces it is looked how
//! long anything has waited for one; where that is more than its share, the next rest is twice as long, else half.

use super::Shared;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

/// The application counts as writing this long after a commit was seen.
const BUSY_FOR: Duration = Duration::from_millis(500);
/// The part of the time, in percent, that something may have waited for a processor.
const WAITED_PERCENT_MAX: u128 = 10;
/// The first rest.
const REST_MIN: Duration = Duration::from_millis(20);
/// The longest rest: some 20 MB a second are sent however busy the machine is.
const REST_MAX: Duration = Duration::from_millis(150);
/// The same within a file that is larger than what an application commits in a second: a first upload, mostly, which
/// nobody waits for. Some 8 MB a second are sent.
const LARGE_WAITED_PERCENT_MAX: u128 = 4;
const LARGE_REST_MAX: Duration = Duration::from_millis(500);
/// A file of more bytes than this is such a large one.
const LARGE_BYTES: u64 = 128 << 20;

/// The pace of one file.
#[derive(Debug, Default)]
pub(super) struct Pace {
    last: Option<Look>,
    rest: Duration,
}

/// What was seen between two pieces.
#[derive(Clone, Copy, Debug)]
struct Look {
    /// Boot time.
    now: Duration,
    /// How long altogether something has waited for a processor.
    waited: Duration,
}

impl Pace {
    /// How long to rest now, within a file of so many bytes. `None`: nobody is in the way, or that is not known.
    fn rest(&mut self, look: Option<Look>, bytes: u64) -> Option<Duration> {
        let Some(look) = look else {
            *self = Pace::default();
            return None;
        };
        let last = self.last.replace(look)?;
        let waited = look.waited.saturating_sub(last.waited).as_micros();
        let (percent, longest) = match bytes > LARGE_BYTES {
            true => (LARGE_WAITED_PERCENT_MAX, LARGE_REST_MAX),
            false => (WAITED_PERCENT_MAX, REST_MAX),
        };
        let contended = waited * 100 > look.now.saturating_sub(last.now).as_micros() * percent;
        self.rest = match contended {
            true => (self.rest * 2).clamp(REST_MIN, longest),
            false => self.rest / 2,
        };
        (self.rest >= REST_MIN).then_some(self.rest)
    }
}

impl Shared {
    /// While the application writes, it comes first. `bytes`: of the file that is sent.
    pub(super) fn let_others_work(&self, pace: &mut Pace, bytes: u64) {
        let machine = &self.settings.machine;
        let now = self.now();
        let busy = now.saturating_sub(*self.written_at()) < BUSY_FOR;
        let waited = machine.kernel.waited_for_processor().filter(|_| busy && !self.queue().stopping);
        if let Some(rest) = pace.rest(waited.map(|waited| Look { now, waited }), bytes) {
            machine.clock.sleep(rest);
        }
    }

    /// When (boot time) something that an application committed was last seen.
    pub(super) fn written_at(&self) -> MutexGuard<'_, Duration> {
        self.written_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn look(now: u64, waited: u64) -> Option<Look> {
        Some(Look { now: ms(now), waited: ms(waited) })
    }

    #[test]
    fn it_slows_down_while_others_wait_and_speeds_up_when_nobody_does() {
        let mut pace = Pace::default();
        assert_eq!(pace.rest(look(0, 5), 1), None, "nothing is known yet");
        assert_eq!(pace.rest(look(100, 30), 1), Some(ms(20)));
        assert_eq!(pace.rest(look(200, 60), 1), Some(ms(40)));
        assert_eq!(pace.rest(look(300, 62), 1), Some(ms(20)), "2 % are nobody's trouble");
        assert_eq!(pace.rest(look(400, 62), 1), None);
        for at in 5..20 {
            pace.rest(look(at * 100, at * 50), 1);
        }
        assert_eq!(pace.rest(look(2000, 2000), 1), Some(REST_MAX));
        assert_eq!(pace.rest(look(2100, 2100), LARGE_BYTES + 1), Some(REST_MAX * 2));
        assert_eq!(pace.rest(look(2200, 2200), LARGE_BYTES + 1), Some(LARGE_REST_MAX));
        assert_eq!(pace.rest(None, 1), None, "nobody writes");
        assert_eq!(pace.rest(look(3000, 3000), 1), None, "it begins anew");
    }
}
