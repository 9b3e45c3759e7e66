//! The threads that do what the schedule says, and how they are woken.

use super::schedule::{Lane, Next, Schedule, Task};
use super::slot::State;
use super::{ALONE_FOR, Shared};
use std::sync::{Condvar, MutexGuard, PoisonError};
use std::time::Duration;

impl Shared {
    pub(super) fn queue(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn ask(&self, task: Task, at: Duration) {
        let lane = task.lane();
        if self.queue().ask(task, at) {
            self.wake_of(lane).notify_one();
        }
    }

    fn wake_of(&self, lane: Lane) -> &Condvar {
        match lane {
            Lane::Here => &self.wake,
            Lane::Store => &self.wake_sender,
        }
    }

    pub(super) fn end_threads(&self) {
        self.queue().stopping = true;
        self.wake.notify_all();
        self.wake_sender.notify_all();
        self.watch.stop();
    }

    pub(super) fn work(&self, lane: Lane) {
        let wake = self.wake_of(lane);
        let mut queue = self.queue();
        loop {
            match queue.next(lane, self.now()) {
                Next::Stop => return,
                Next::Wait(None) => queue = wake.wait(queue).unwrap_or_else(PoisonError::into_inner),
                Next::Wait(Some(time)) => {
                    queue = wake.wait_timeout(queue, time).unwrap_or_else(PoisonError::into_inner).0;
                }
                Next::Run(task) => {
                    if queue.due_within(lane, self.now(), ALONE_FOR) || !self.is_quick(&task) {
                        // Another thread takes over the waiting.
                        wake.notify_one();
                    }
                    drop(queue);
                    let again = self.run(&task);
                    queue = self.queue();
                    queue.done(&task, again);
                }
            }
        }
    }

    /// Whether a task is done before it would matter that nobody waits for the next one. To wake a thread at each look
    /// at a busy database would disturb who writes to it.
    fn is_quick(&self, task: &Task) -> bool {
        let Task::Look(path) = task else { return false };
        self.slot(path).is_some_and(|slot| {
            slot.try_lock().is_some_and(|state| matches!(&*state, State::Live(live) if live.looks_quickly()))
        })
    }

    pub(super) fn run(&self, task: &Task) -> Option<Duration> {
        match task {
            Task::Look(path) => self.look(&*self.slot(path)?),
            Task::Tick => {
                self.tick();
                None
            }
            Task::Discover => self.discover(),
            Task::Keep => self.keep(),
            Task::Send(path) => self.send(path),
            Task::ListSent => self.list_what_was_sent(),
            Task::SendLedger => self.send_ledger(),
            Task::SendFormer => self.send_former(),
            Task::List => self.list(),
        }
    }
}
