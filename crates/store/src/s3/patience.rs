//! How often, and for how long, a request is sent again within one call.
//!
//! Pauses grow and are random from nothing up (full jitter), so that many nodes do not come back at the same moment.
//! The budget is small: whoever called tries again later.

use base::{Random, SystemRandom};
use std::time::Duration;
use tokio::time::Instant;

/// Tries of one request within one call.
pub const TRIES_MAX: u32 = 6;
/// How long after the beginning of a call a request may still be sent again.
pub const RETRY_BUDGET: Duration = Duration::from_secs(10);
/// The longest pause before the second try; it doubles.
pub const PAUSE_FIRST: Duration = Duration::from_millis(200);
/// The longest pause before any try.
pub const PAUSE_MAX: Duration = Duration::from_secs(2);

/// The tries of one call.
#[derive(Debug)]
pub(super) struct Patience {
    began: Instant,
    tries: u32,
}

impl Patience {
    pub fn new() -> Patience {
        Patience { began: Instant::now(), tries: 1 }
    }

    /// Whether one more request, of any kind, is within the budget.
    pub fn is_left(&self) -> bool {
        self.began.elapsed() < RETRY_BUDGET
    }

    /// Waits and says yes, or says at once that it is enough.
    pub async fn again(&mut self) -> bool {
        let pause = pause(self.tries, SystemRandom.next_u64());
        if self.tries >= TRIES_MAX || self.began.elapsed() + pause >= RETRY_BUDGET {
            return false;
        }
        self.tries += 1;
        tokio::time::sleep(pause).await;
        true
    }
}

fn pause(tries: u32, random: u64) -> Duration {
    let most = PAUSE_FIRST.saturating_mul(1 << (tries - 1).min(16)).min(PAUSE_MAX);
    let most_us = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(random % (most_us + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_limit_and_begin_at_nothing() {
        for tries in 1..=TRIES_MAX {
            assert_eq!(pause(tries, 0), Duration::ZERO);
            let most = (PAUSE_FIRST * 2_u32.pow(tries - 1)).min(PAUSE_MAX);
            let most_us = u64::try_from(most.as_micros()).unwrap();
            assert_eq!(pause(tries, most_us), most);
            assert_eq!(pause(tries, most_us + 1), Duration::ZERO);
        }
    }
}
