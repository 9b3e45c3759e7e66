//! Queries that write, known while they run, so that nothing of the node waits for a person's statement.
//!
//! ```text
//!   query ──enter──▶ under way ──statements, seal──▶ gone
//!                        ▲ its process is killed
//!   restore, release, end ──close──▶ none under way, none begins ──dropped──▶ open
//! ```
//! They are writers beside the app, and end where the app is stopped: before the databases are turned, before the right
//! to write is given away, and with the node. Everything else goes on beside them, as beside the app.

use super::lock;
use crate::query::Stop;
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Writers {
    inside: Mutex<Inside>,
    gone: Condvar,
}

#[derive(Debug, Default)]
struct Inside {
    /// Why none may begin.
    closed: Option<&'static str>,
    under_way: BTreeMap<u64, Arc<Stop>>,
    begun: u64,
}

/// One that is under way until this is dropped.
#[derive(Debug)]
pub(crate) struct UnderWay<'a> {
    writers: &'a Writers,
    number: u64,
    pub(crate) stop: Arc<Stop>,
}

/// None is under way and none begins until this is dropped.
#[derive(Debug)]
pub(crate) struct Closed<'a>(&'a Writers);

impl Writers {
    /// One begins, or the reason why it may not.
    pub(crate) fn enter(&self) -> Result<UnderWay<'_>, &'static str> {
        let mut inside = lock(&self.inside);
        if let Some(why) = inside.closed {
            return Err(why);
        }
        let (number, stop) = (inside.begun, Arc::<Stop>::default());
        inside.begun += 1;
        inside.under_way.insert(number, stop.clone());
        Ok(UnderWay { writers: self, number, stop })
    }

    /// Ends those that are under way and lets none begin. For one at a time: whoever holds the node's `turn`.
    pub(crate) fn close(&self, why: &'static str) -> Closed<'_> {
        let mut inside = lock(&self.inside);
        inside.closed = Some(why);
        inside.under_way.values().for_each(|stop| stop.now());
        let none = |inside: &mut Inside| !inside.under_way.is_empty();
        drop(self.gone.wait_while(inside, none).unwrap_or_else(PoisonError::into_inner));
        Closed(self)
    }

    /// Why none may go on, while it is closed.
    pub(crate) fn closed(&self) -> Option<&'static str> {
        lock(&self.inside).closed
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        lock(&self.writers.inside).under_way.remove(&self.number);
        self.writers.gone.notify_all();
    }
}

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        lock(&self.0.inside).closed = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn who_closes_waits_until_none_is_under_way_and_lets_none_begin() {
        let writers = Writers::default();
        let (first, second) = (writers.enter().unwrap(), writers.enter().unwrap());
        let (told, closed) = channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let closed = writers.close("a restore begins");
                told.send(writers.enter().unwrap_err()).unwrap();
                drop(closed);
            });
            while writers.closed().is_none() {
                std::thread::yield_now();
            }
            drop(first);
            assert!(closed.try_recv().is_err(), "one is still under way");
            drop(second);
            assert_eq!(closed.recv().unwrap(), "a restore begins");
        });
        assert!(writers.enter().is_ok() && writers.closed().is_none());
    }
}
