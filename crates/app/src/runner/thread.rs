//! The thread behind a [`Runner`](super::Runner): feeds the policy machine and carries out its effects.

use super::{AppState, AppStatus, Command, LastExit, Shared, StopError};
use crate::policy::{Effect, Input, Phase, Policy, RestartPolicy};
use crate::protocol::{Ending, Spec, ToNode, ToSupervisor};
use crate::signal;
use base::Timestamp;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};

pub(super) struct Thread {
    shared: Arc<Shared>,
    policy: Policy,
    spec: Option<Spec>,
    waiting: Vec<SyncSender<Result<(), StopError>>>,
    started: Option<Timestamp>,
    last_exit: Option<LastExit>,
    error: Option<String>,
}

impl Thread {
    pub(super) fn new(shared: Arc<Shared>, policy: RestartPolicy) -> Thread {
        Thread {
            shared,
            policy: Policy::new(policy),
            spec: None,
            waiting: Vec::new(),
            started: None,
            last_exit: None,
            error: None,
        }
    }

    pub(super) fn serve(mut self, commands: &Receiver<Command>) {
        loop {
            let command = match self.policy.wake_at() {
                None => commands.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => commands.recv_timeout(at.saturating_sub(self.shared.clock.boottime())),
            };
            match command {
                Ok(command) => self.take(command),
                Err(RecvTimeoutError::Timeout) => self.step(Input::Tick, "the pause is over".into()),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Start(spec) => {
                self.spec = Some(*spec);
                self.step(Input::Want, "asked to start".into());
            }
            Command::Stop { why, reply } => {
                self.waiting.push(reply);
                self.step(Input::Halt, why);
            }
            Command::Restart(policy) => self.policy.set_restart(policy),
            Command::EndWithApp(on) => self.policy.set_end_with_app(on),
            Command::Heard(message) => self.hear(message),
        }
    }

    fn hear(&mut self, message: ToNode) {
        match message {
            ToNode::Started { run, pid } if run == self.policy.run() => {
                self.started = Some(self.shared.clock.now());
                self.error = None;
                self.step(Input::Started { pid }, format!("runs as pid {pid}"));
            }
            ToNode::Failed { run, code, error } if run == self.policy.run() => self.failed(code, error),
            ToNode::Exited { run, ending } if run == self.policy.run() => {
                let Ending { code, signal } = ending;
                self.last_exit = Some(LastExit { code, signal, time: self.shared.clock.now() });
                self.step(Input::Exited { ending }, shown(ending));
            }
            ToNode::Ended { run, killed, lapse } if run == self.policy.run() => {
                let lapsed = lapse.is_some();
                if lapsed {
                    self.error.clone_from(&lapse);
                }
                let mut reason = lapse.unwrap_or_else(|| "no process of it is left".into());
                if killed > 0 {
                    reason.push_str(&format!(" ({killed} killed)"));
                }
                self.step(Input::Ended { lapsed }, reason);
            }
            ToNode::Stuck { run, pids } if run == self.policy.run() => {
                tracing::error!("processes of the app withstand SIGKILL: {pids:?}");
                self.error = Some(StopError::Stuck { pids: pids.clone() }.to_string());
                self.publish("processes withstand SIGKILL".into());
                self.release(&Err(StopError::Stuck { pids }));
            }
            // About a run that is over.
            _ => {}
        }
    }

    fn failed(&mut self, code: i32, error: String) {
        self.last_exit = Some(LastExit { code: Some(code), signal: None, time: self.shared.clock.now() });
        self.error = Some(error.clone());
        self.step(Input::Failed { code }, error);
    }

    /// Feeds the machine; effects may bring about further inputs at once.
    fn step(&mut self, input: Input, reason: String) {
        let mut inputs = VecDeque::from([(input, reason)]);
        while let Some((input, reason)) = inputs.pop_front() {
            let before = self.policy.phase();
            let effects = self.policy.step(self.shared.clock.boottime(), &input);
            if self.policy.phase() != before {
                self.publish(reason);
            }
            for effect in effects {
                inputs.extend(self.carry_out(effect));
            }
        }
    }

    fn carry_out(&mut self, effect: Effect) -> Option<(Input, String)> {
        match effect {
            Effect::Launch { run } => {
                let sent = match &self.spec {
                    Some(spec) => self.shared.link.send(&ToSupervisor::Start { run, spec: spec.clone() }),
                    None => Err(std::io::Error::other("nothing to start")),
                };
                let error = format!("the app cannot be started: {}", sent.err()?);
                self.error = Some(error.clone());
                Some((Input::Failed { code: 126 }, error))
            }
            Effect::End { run } => {
                if let Err(error) = self.shared.link.send(&ToSupervisor::Stop { run }) {
                    self.release(&Err(StopError::NoSupervisor(error.to_string())));
                }
                None
            }
            Effect::Confirm => {
                self.release(&Ok(()));
                None
            }
            Effect::Finish { code } => {
                self.shared.finish(code);
                None
            }
        }
    }

    fn release(&mut self, result: &Result<(), StopError>) {
        for waiter in self.waiting.drain(..) {
            // One that has gone does not need the answer.
            let _ = waiter.send(result.clone());
        }
    }

    fn publish(&self, reason: String) {
        let (state, pid) = match self.policy.phase() {
            Phase::None => (AppState::None, None),
            Phase::Launching => (AppState::Starting, None),
            Phase::Running { pid, .. } => (AppState::Running, Some(pid)),
            Phase::Sweeping { .. } | Phase::Waiting { .. } => (AppState::Backoff, None),
            Phase::Stopping => (AppState::Stopping, None),
            Phase::Stopped => (AppState::Stopped, None),
        };
        let status = AppStatus {
            state,
            pid,
            started: pid.and(self.started),
            restarts: self.policy.restarts(),
            last_exit: self.last_exit,
            error: self.error.clone(),
        };
        self.shared.publish(status, reason);
    }
}

fn shown(ending: Ending) -> String {
    match (ending.code, ending.signal) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(number)) => format!("ended by {}", signal::name(number)),
        (None, None) => "ended".into(),
    }
}
