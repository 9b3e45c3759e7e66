//! The write locks of all databases, taken together without ever waiting for one while others wait for us.

use super::{Held, TurnError, failed, list};
use crate::engine::Shared;
use crate::engine::slot::State;
use std::time::Duration;

/// How long locks already taken are held while the next one is waited for.
const LOCKS_HELD_FOR: Duration = Duration::from_millis(50);
/// Between two tries to take a lock.
const LOCK_PAUSE: Duration = Duration::from_millis(1);

impl Shared {
    /// Takes every write lock. Where one is not free for a while, all are given back and that one is waited for first,
    /// with nothing in hand: a process that holds it may itself be waiting for another (a commit over attached
    /// databases), and nobody else should have to wait for a long transaction.
    pub(super) fn lock_all(&self, held: &mut Held, limit: Duration) -> Result<(), TurnError> {
        let until = self.now() + limit;
        let mut order: Vec<usize> = (0..held.len()).collect();
        while let Some(taken) = self.lock_in(&order, held, until)? {
            let (slot, state) = &held[order[taken]];
            if self.now() >= until {
                let pids: Vec<u32> = match &**state {
                    State::Live(live) => live.writer().map(|holder| holder.0).into_iter().collect(),
                    State::Waiting => Vec::new(),
                };
                let reason =
                    format!("a transaction of another process ({}) holds its write lock", list(&pids));
                return Err(TurnError::Held { path: slot.path.clone(), pids, reason });
            }
            unlock_all(held);
            order[..=taken].rotate_right(1);
        }
        Ok(())
    }

    /// Takes the locks in this order; how many were taken before one was not to be had, if one was not.
    fn lock_in(&self, order: &[usize], held: &mut Held, until: Duration) -> Result<Option<usize>, TurnError> {
        for (taken, index) in order.iter().enumerate() {
            let (slot, state) = &mut held[*index];
            let State::Live(live) = &mut **state else { continue };
            let patient_until = if taken == 0 { until } else { until.min(self.now() + LOCKS_HELD_FOR) };
            while !live.lock().map_err(|error| failed(&slot.path, &error))? {
                if self.now() >= patient_until {
                    return Ok(Some(taken));
                }
                self.settings.machine.clock.sleep(LOCK_PAUSE);
            }
        }
        Ok(None)
    }
}

/// Gives every write lock back.
pub(super) fn unlock_all(held: &mut Held) {
    for (_, state) in held.iter_mut() {
        if let State::Live(live) = &mut **state {
            live.unlock();
        }
    }
}
