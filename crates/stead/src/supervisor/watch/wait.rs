//! What a round waits for: the next moment at which time demands something, and every descriptor that may bring news.

use super::super::app_process::AppProcess;
use super::super::limits::FLUSH_LIMIT;
use super::Watch;
use base::{Clock, SystemClock};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::time::{Itimerspec, TimerfdTimerFlags};
use std::time::Duration;

impl Watch {
    /// The next moment at which time alone demands something.
    fn wake_at(&self, now: Duration) -> Option<Duration> {
        let app = self.app.as_ref().and_then(|app| app.wake_at(now));
        let node = self.node.as_ref().filter(|_| self.condemned.is_none()).and_then(|node| match &self.app {
            // It is killed by the deadline anyway.
            Some(app) if app.kill_at().is_some_and(|at| at <= node.app_deadline().max(now)) => None,
            Some(_) => Some(node.app_warning()),
            None => Some(self.forced_at.map_or(node.silent_at(), |at| at.min(node.silent_at()))),
        });
        let launch = self.launch_at.filter(|_| self.app.is_none());
        [app, node, launch, self.manager.wake_at()].into_iter().flatten().min()
    }

    /// Waits; `now` is when the round began.
    pub(super) fn wait(&self, now: Duration) {
        let mut timer =
            Itimerspec { it_interval: timespec(Duration::ZERO), it_value: timespec(Duration::ZERO) };
        if let Some(at) = self.wake_at(now) {
            // Zero would disarm it.
            timer.it_value = timespec(at.max(Duration::from_nanos(1)));
        }
        let armed = rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &timer);
        // It takes every absolute time; if it did not, looking once a second would still keep the promises.
        let limit = armed.is_err().then(|| timespec(Duration::from_secs(1)));
        let limit = if self.more_dead { Some(timespec(Duration::ZERO)) } else { limit };
        let mut polled = vec![PollFd::new(&self.signals.descriptor, PollFlags::IN)];
        polled.push(PollFd::new(&self.timer, PollFlags::IN));
        if let Some(node) = &self.node {
            polled.extend(node.outcome().map(|outcome| PollFd::new(outcome, PollFlags::IN)));
            if let Some((socket, writing)) = node.socket() {
                let writing = if writing { PollFlags::OUT } else { PollFlags::empty() };
                polled.push(PollFd::new(socket, PollFlags::IN | writing));
            }
        }
        let outcome = self.app.as_ref().and_then(AppProcess::outcome);
        polled.extend(outcome.map(|outcome| PollFd::new(outcome, PollFlags::IN)));
        let notify = self.app.as_ref().and_then(|app| app.notify_descriptor(now));
        polled.extend(notify.map(|notify| PollFd::new(notify, PollFlags::IN)));
        polled.extend(self.output.sources().map(|source| PollFd::new(source, PollFlags::IN)));
        let sinks = self.output.sinks().filter_map(|sink| sink.wants());
        polled.extend(sinks.map(|sink| PollFd::new(sink, PollFlags::OUT)));
        // EINTR cannot come, all signals are blocked; if it did, a round too many does no harm.
        let _ = rustix::event::poll(&mut polled, limit.as_ref());
    }

    /// Gives whoever reads our output a last moment to take it.
    pub(super) fn flush(&mut self) {
        let deadline = SystemClock.boottime() + FLUSH_LIMIT;
        loop {
            self.output.pump();
            let left = deadline.saturating_sub(SystemClock.boottime());
            let mut waiting: Vec<PollFd<'_>> = self
                .output
                .sinks()
                .filter_map(|sink| sink.wants())
                .map(|sink| PollFd::new(sink, PollFlags::OUT))
                .collect();
            if waiting.is_empty() || left.is_zero() {
                return;
            }
            let _ = rustix::event::poll(&mut waiting, Some(&timespec(left)));
        }
    }
}

fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    }
}
