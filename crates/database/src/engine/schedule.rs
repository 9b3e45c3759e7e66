//! What is to be done when, for a fixed number of threads. Pure but for the lock around it.
//!
//! A task never runs twice at once: one that is asked for while it runs is due again when it ends. What waits for a store
//! has a lane of its own, with its own threads: nothing else waits for that.

use base::DatabasePath;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Task {
    /// Look at one database.
    Look(DatabasePath),
    /// Seal everything to one cut.
    Tick,
    /// See which files are there.
    Discover,
    /// Merge and thin history.
    Keep,
    /// Send what the store lacks of one database.
    Send(DatabasePath),
    /// List in the store what was sent and needs that.
    ListSent,
    /// Send the ledger, and see to the store itself.
    SendLedger,
    /// Send what the store lacks of files that lived under a name before this start.
    SendFormer,
    /// List in the store what merges and thinning changed.
    List,
}

/// Whose tasks they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// The workers'.
    Here,
    /// Those of the threads that speak with the store.
    Store,
}

impl Task {
    /// Who does it.
    pub fn lane(&self) -> Lane {
        match self {
            Task::Look(_) | Task::Tick | Task::Discover | Task::Keep => Lane::Here,
            Task::Send(_) | Task::ListSent | Task::SendLedger | Task::SendFormer | Task::List => Lane::Store,
        }
    }
}

/// The tasks and when they are due (boot time).
#[derive(Debug, Default)]
pub struct Schedule {
    due: BTreeMap<Task, Duration>,
    order: [BTreeSet<(Duration, Task)>; 2],
    running: BTreeMap<Task, Option<Duration>>,
    /// No task starts any more.
    pub stopping: bool,
}

/// What a thread is to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// This.
    Run(Task),
    /// Wait, at most this long; `None`: until told.
    Wait(Option<Duration>),
    /// End.
    Stop,
}

impl Schedule {
    /// Asks for a task at a time; the earlier of two wishes counts. Whether a thread of its lane should be woken.
    pub fn ask(&mut self, task: Task, at: Duration) -> bool {
        if let Some(again) = self.running.get_mut(&task) {
            *again = Some(again.map_or(at, |was| was.min(at)));
            return false;
        }
        let order = &mut self.order[task.lane() as usize];
        if let Some(was) = self.due.get(&task) {
            if *was <= at {
                return false;
            }
            order.remove(&(*was, task.clone()));
        }
        let earliest = order.first().is_none_or(|(first, _)| at < *first);
        self.due.insert(task.clone(), at);
        order.insert((at, task));
        earliest
    }

    /// What is to be done now in a lane.
    pub fn next(&mut self, lane: Lane, now: Duration) -> Next {
        if self.stopping {
            return Next::Stop;
        }
        let order = &mut self.order[lane as usize];
        match order.first() {
            Some((at, _)) if *at <= now => {
                let (_, task) = order.pop_first().expect("invariant: it was just seen");
                self.due.remove(&task);
                self.running.insert(task.clone(), None);
                Next::Run(task)
            }
            Some((at, _)) => Next::Wait(Some(*at - now)),
            None => Next::Wait(None),
        }
    }

    /// What is to be done now in any lane.
    pub fn next_of_all(&mut self, now: Duration) -> Next {
        let first = |lane: Lane| self.order[lane as usize].first().map(|(at, _)| *at);
        let lane = match (first(Lane::Here), first(Lane::Store)) {
            (Some(here), Some(store)) if store < here => Lane::Store,
            (None, Some(_)) => Lane::Store,
            _ => Lane::Here,
        };
        self.next(lane, now)
    }

    /// Whether anything is due in a lane by then.
    pub fn due_within(&self, lane: Lane, now: Duration, time: Duration) -> bool {
        self.order[lane as usize].first().is_some_and(|(at, _)| *at <= now + time)
    }

    /// A task has ended; it may be wanted again. Whether a thread of its lane should be woken.
    pub fn done(&mut self, task: &Task, again: Option<Duration>) -> bool {
        let asked = self.running.remove(task).flatten();
        let at = match (asked, again) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        at.is_some_and(|at| self.ask(task.clone(), at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn the_earliest_runs_first_and_never_twice_at_once() {
        let mut schedule = Schedule::default();
        assert!(schedule.ask(Task::Tick, ms(20)));
        assert!(schedule.ask(Task::Keep, ms(10)));
        assert!(!schedule.ask(Task::Keep, ms(15)), "the earlier wish stands");
        assert_eq!(schedule.next(Lane::Here, ms(5)), Next::Wait(Some(ms(5))));
        assert_eq!(schedule.next(Lane::Here, ms(30)), Next::Run(Task::Keep));
        assert!(!schedule.ask(Task::Keep, ms(31)), "it runs");
        assert_eq!(schedule.next(Lane::Here, ms(30)), Next::Run(Task::Tick));
        assert_eq!(schedule.next(Lane::Here, ms(40)), Next::Wait(None));
        schedule.ask(Task::Discover, ms(60));
        assert!(
            schedule.due_within(Lane::Here, ms(40), ms(20))
                && !schedule.due_within(Lane::Here, ms(40), ms(19))
        );
        assert_eq!(schedule.next(Lane::Here, ms(60)), Next::Run(Task::Discover));
        schedule.done(&Task::Keep, Some(ms(50)));
        schedule.done(&Task::Tick, None);
        assert_eq!(schedule.next(Lane::Here, ms(40)), Next::Run(Task::Keep), "asked for while it ran");
    }

    #[test]
    fn what_waits_for_the_store_keeps_nothing_else_waiting() {
        let mut schedule = Schedule::default();
        schedule.ask(Task::SendLedger, ms(1));
        assert!(schedule.ask(Task::Tick, ms(2)), "the first of its lane");
        assert_eq!(schedule.next(Lane::Here, ms(5)), Next::Run(Task::Tick));
        assert_eq!(schedule.next(Lane::Here, ms(5)), Next::Wait(None));
        assert_eq!(schedule.next_of_all(ms(5)), Next::Run(Task::SendLedger));
    }

    #[test]
    fn a_stop_ends_everything() {
        let mut schedule = Schedule::default();
        schedule.ask(Task::Discover, ms(0));
        schedule.stopping = true;
        assert_eq!(schedule.next(Lane::Here, ms(1)), Next::Stop);
    }
}
