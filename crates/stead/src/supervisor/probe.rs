//! A command that asks whether the app is ready: run as the app is, within a limit, leaving nothing behind.
//!
//! ```text
//!  launched ──▶ running ── it ends, or is killed at its limit ──▶ sweeping: kill what it left ──▶ Probed
//! ```
//! It has a session and a mark of its own, by which what it leaves is told from the app's processes. It is a process of
//! the app all the same: nothing of the app is left only when it is gone too.

use super::limits::{KILL_PAUSE, PROBE_LOOKS};
use app::processes::{self, Cookie, Patience};
use app::protocol::{Ending, PROBE_COOKIE_VARIABLE, ToNode};
use app::signal;
use app::spawn::{self, Launched, Outcome};
use rustix::process::Signal;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// A command on its way.
#[derive(Debug)]
pub struct Probe {
    run: u64,
    pid: u32,
    mark: Cookie,
    outcome: Option<OwnedFd>,
    kill_at: Duration,
    limit: Duration,
    timed_out: bool,
    answer: Option<Option<String>>,
    look_at: Duration,
    empty_looks: u32,
}

impl Probe {
    /// What was started just now, for a run of the app.
    pub fn new(run: u64, launched: Launched, mark: Cookie, now: Duration, limit: Duration) -> Probe {
        Probe {
            run,
            pid: launched.pid,
            mark,
            outcome: Some(launched.outcome),
            kill_at: now + limit,
            limit,
            timed_out: false,
            answer: None,
            look_at: Duration::ZERO,
            empty_looks: 0,
        }
    }

    /// A child has ended, which may be this one.
    pub fn ended(&mut self, pid: u32, ending: Ending) {
        if pid != self.pid || self.answer.is_some() {
            return;
        }
        let failure = match self.outcome.take().map(|pipe| spawn::outcome(&pipe)) {
            Some(Outcome::Failed(failure)) => Some(format!("cannot be run: {}", failure.error)),
            _ => None,
        };
        let complaint = match ending {
            _ if failure.is_some() => failure,
            _ if self.timed_out => Some(format!("did not end within {} s", self.limit.as_secs())),
            Ending { code: Some(0), .. } => None,
            Ending { code: Some(code), .. } => Some(format!("exited with code {code}")),
            Ending { signal, .. } => Some(format!("was ended by {}", signal::name(signal.unwrap_or(0)))),
        };
        self.answer = Some(complaint);
    }

    /// Does what is due; the answer once nothing is left of it.
    pub fn step(&mut self, now: Duration) -> Option<ToNode> {
        let Some(answer) = &self.answer else {
            if now >= self.kill_at && !self.timed_out {
                self.timed_out = true;
                if let Some(pid) = processes::raw_pid(self.pid) {
                    // Not buried, so the number is its own, and its group's once it has called setsid.
                    let _ = rustix::process::kill_process_group(pid, Signal::KILL);
                    let _ = rustix::process::kill_process(pid, Signal::KILL);
                }
            }
            return None;
        };
        if now < self.look_at {
            return None;
        }
        self.look_at = now + KILL_PAUSE;
        let Ok(all) = processes::all() else { return None };
        let (mut found, patience) = (false, Patience::of_one_look());
        for process in all.iter().filter(|process| process.alive) {
            let of_it = if process.session == self.pid {
                Ok(true)
            } else {
                process.carries(PROBE_COOKIE_VARIABLE, &self.mark, &patience)
            };
            // Whom one cannot look at may be of it.
            found |= of_it.as_ref().map_or(true, |of_it| *of_it);
            if of_it.is_ok_and(|of_it| of_it) {
                // Who withstands it is the app's, and is reported with the app's end.
                let _ = process.send(Signal::KILL);
            }
        }
        self.empty_looks = if found { 0 } else { self.empty_looks + 1 };
        (self.empty_looks >= PROBE_LOOKS).then(|| ToNode::Probed { run: self.run, complaint: answer.clone() })
    }

    /// When to step again.
    pub fn wake_at(&self) -> Option<Duration> {
        match self.answer {
            Some(_) => Some(self.look_at),
            None if self.timed_out => None,
            None => Some(self.kill_at),
        }
    }
}
