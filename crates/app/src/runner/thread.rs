//! The thread behind a [`Runner`](super::Runner): feeds the policy machine and carries out its effects.

use super::{
    AppState, AppStatus, Command, LastExit, Plan, Preparation, PreparationFailure, Shared, StopError,
};
use crate::crashes::Crashes;
use crate::policy::{Effect, Input, Part, Phase, Policy, RestartPolicy};
use crate::probe;
use crate::protocol::{Ending, Spec, ToNode, ToSupervisor};
use crate::readiness::{Due, Question, Readiness};
use crate::signal;
use base::Timestamp;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender};
use std::time::Duration;

pub(super) struct Thread {
    shared: Arc<Shared>,
    /// The way back into the queue, for answers.
    queue: Sender<Command>,
    policy: Policy,
    /// Of the app that runs, where there is something to find out.
    readiness: Option<Readiness>,
    crashes: Crashes,
    says: Option<String>,
    plan: Option<Plan>,
    waiting: Vec<SyncSender<Result<(), StopError>>>,
    started: Option<Timestamp>,
    last_exit: Option<LastExit>,
    before_failure: Option<PreparationFailure>,
    error: Option<String>,
}

impl Thread {
    pub(super) fn new(shared: Arc<Shared>, policy: RestartPolicy, queue: Sender<Command>) -> Thread {
        Thread {
            shared,
            queue,
            readiness: None,
            crashes: Crashes::default(),
            says: None,
            policy: Policy::new(policy),
            plan: None,
            waiting: Vec::new(),
            started: None,
            last_exit: None,
            before_failure: None,
            error: None,
        }
    }

    pub(super) fn serve(mut self, commands: &Receiver<Command>) {
        loop {
            let ready = self.readiness.as_ref().and_then(Readiness::wake_at);
            let command =
                match [self.policy.wake_at(), ready, self.crashes.wake_at()].into_iter().flatten().min() {
                    None => commands.recv().map_err(|_| RecvTimeoutError::Disconnected),
                    Some(at) => commands.recv_timeout(at.saturating_sub(self.shared.clock.boottime())),
                };
            match command {
                Ok(command) => self.take(command),
                Err(RecvTimeoutError::Timeout) => {
                    self.step(Input::Tick, "the pause is over".into());
                    self.look_at_readiness();
                    if self.crashes.step(self.shared.clock.boottime()) {
                        self.publish("it has run for so long that it is well again".into());
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Start(plan) => {
                if plan.before_due {
                    self.policy.prepare(plan.before.len());
                    self.before_failure = None;
                }
                self.plan = Some(*plan);
                let looping = self.crashes.looping().is_some();
                self.crashes.reset();
                if looping {
                    self.publish("it is started by hand".into());
                }
                self.step(Input::Want, "asked to start".into());
            }
            Command::Stop { why, reply } => {
                self.waiting.push(reply);
                self.crashes.reset();
                self.step(Input::Halt, why);
            }
            Command::Restart(policy) => self.policy.set_restart(policy),
            Command::EndWithApp(on) => self.policy.set_end_with_app(on),
            Command::Answered { run, answer } if run == self.policy.run() => self.answered(answer),
            // About a run that is over.
            Command::Answered { .. } => {}
            Command::Heard(message) => self.hear(message),
        }
    }

    fn hear(&mut self, message: ToNode) {
        match message {
            ToNode::Started { run, pid } if run == self.policy.run() => {
                self.started = Some(self.shared.clock.now());
                self.error = None;
                self.begin_readiness();
                if self.policy.part() == Part::App {
                    self.crashes.started(self.shared.clock.boottime());
                }
                self.step(Input::Started { pid }, self.named(&format!("runs as pid {pid}")));
                self.look_at_readiness();
            }
            ToNode::Succeeded { run, pid } if run == self.policy.run() => {
                self.step(Input::Succeeded { pid }, format!("its main process is pid {pid} from now on"));
            }
            ToNode::Failed { run, code, error } if run == self.policy.run() => self.failed(code, error),
            ToNode::Exited { run, ending } if run == self.policy.run() => {
                self.ended(ending);
                self.step(Input::Exited { ending }, self.named(&shown(ending)));
            }
            ToNode::Ended { run, killed, lapse, fault } if run == self.policy.run() => {
                let lapsed = lapse.is_some();
                if !lapsed && matches!(self.policy.phase(), Phase::Sweeping { .. }) {
                    self.crashed();
                }
                if let Some(why) = &lapse {
                    self.error.clone_from(&lapse);
                    self.preparation_failed(why, 126);
                }
                if let Some(why) = &fault {
                    self.error.clone_from(&fault);
                    self.preparation_failed(why, 126);
                }
                let mut reason = lapse.or(fault).unwrap_or_else(|| "no process of it is left".into());
                if killed > 0 {
                    reason.push_str(&format!(" ({killed} killed)"));
                }
                self.step(Input::Ended { lapsed }, reason);
            }
            ToNode::Stuck { run, pids } if run == self.policy.run() => {
                tracing::error!(event = "app not stopped", ?pids, "these processes withstand SIGKILL");
                self.error = Some(StopError::Stuck { pids: pids.clone() }.to_string());
                self.publish("processes withstand SIGKILL".into());
                self.release(&Err(StopError::Stuck { pids }));
            }
            ToNode::Probed { run, complaint } if run == self.policy.run() => {
                self.answered(complaint.map_or(Ok(()), Err));
            }
            ToNode::Notified { run, ready, status, extend } if run == self.policy.run() => {
                self.notified(ready, status, extend);
            }
            // About a run that is over.
            _ => {}
        }
    }

    fn begin_readiness(&mut self) {
        let when = self.plan.as_ref().and_then(|plan| plan.ready.clone());
        let now = self.shared.clock.boottime();
        self.readiness =
            when.filter(|_| self.policy.part() == Part::App).map(|when| Readiness::begin(when, now));
        self.says = None;
    }

    fn look_at_readiness(&mut self) {
        if !matches!(self.policy.phase(), Phase::Running { .. }) {
            self.readiness = None;
        }
        let now = self.shared.clock.boottime();
        let due = self.readiness.as_mut().map(|readiness| readiness.step(now)).unwrap_or_default();
        for what in due {
            match what {
                Due::Ask => self.ask(),
                Due::Overdue => self.publish("it is not ready in time".into()),
            }
        }
    }

    fn ask(&mut self) {
        let Some(question) = self.readiness.as_ref().map(|readiness| readiness.question().clone()) else {
            return;
        };
        let run = self.policy.run();
        let sent = match question {
            Question::Command { words: command } => {
                self.shared.link.send(&ToSupervisor::Probe { run, command, limit: probe::PROBE_LIMIT })
            }
            question => {
                let queue = self.queue.clone();
                // Nobody waits for an answer that comes when the node has ended.
                let ask = move || drop(queue.send(Command::Answered { run, answer: probe::ask(&question) }));
                std::thread::Builder::new().name("probe".into()).spawn(ask).map(drop)
            }
        };
        if let Err(error) = sent {
            self.answered(Err(format!("it cannot be asked: {error}")));
        }
    }

    fn answered(&mut self, answer: Result<(), String>) {
        let now = self.shared.clock.boottime();
        let Some(readiness) = &mut self.readiness else { return };
        readiness.answered(now, answer);
        self.readiness_changed();
    }

    fn notified(&mut self, ready: bool, status: Option<String>, extend: Option<Duration>) {
        let now = self.shared.clock.boottime();
        if let Some(readiness) = &mut self.readiness {
            if let Some(text) = &status {
                readiness.described(text);
            }
            if let Some(by) = extend {
                readiness.extend(now, by);
            }
            if ready {
                readiness.declared();
            }
        }
        self.says = status.or(self.says.take());
        self.readiness_changed();
    }

    /// Everybody is told when it has become ready; in between only the status changes.
    fn readiness_changed(&mut self) {
        let status = self.status();
        let became_ready = status.ready && !self.shared.status().ready;
        if became_ready {
            self.shared.publish(status, "it is ready".into());
        } else {
            self.shared.keep(status);
        }
    }

    fn failed(&mut self, code: i32, error: String) {
        self.preparation_failed(&error, code);
        if self.policy.part() == Part::App {
            self.last_exit = Some(LastExit { code: Some(code), signal: None, time: self.shared.clock.now() });
        }
        if self.policy.phase() == Phase::Launching {
            self.crashed();
        }
        self.error = Some(error.clone());
        self.step(Input::Failed { code }, error);
    }

    /// Something that was launched has ended by itself; of the app that is counted.
    fn crashed(&mut self) {
        if self.policy.part() == Part::App {
            self.crashes.ended(self.shared.clock.boottime());
        }
    }

    fn ended(&mut self, ending: Ending) {
        let Ending { code, signal } = ending;
        if self.policy.part() == Part::App {
            self.last_exit = Some(LastExit { code, signal, time: self.shared.clock.now() });
        } else if code != Some(0) {
            self.preparation_failed(&shown(ending), ending.shell_code());
        }
    }

    /// Notes why the command before the app failed that was launched last; a stop is no failure.
    fn preparation_failed(&mut self, why: &str, code: i32) {
        let Part::Before(index) = self.policy.part() else { return };
        if self.policy.phase() != Phase::Stopping {
            let command = self.words(Part::Before(index));
            self.before_failure = Some(PreparationFailure { index, command, why: why.to_owned(), code });
        }
    }

    /// The words of a command of the plan.
    fn words(&self, part: Part) -> Vec<String> {
        let Some(plan) = &self.plan else { return Vec::new() };
        match part {
            Part::App => plan.spec.command.clone(),
            Part::Before(index) => plan.before.get(index).cloned().unwrap_or_default(),
        }
    }

    /// A reason, with the command it is about where that is not the app.
    fn named(&self, reason: &str) -> String {
        match self.policy.part() {
            Part::App => reason.to_owned(),
            Part::Before(index) => format!("app.before[{index}] {reason}"),
        }
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
            Effect::Launch { run, part } => {
                if self.before_failure.as_ref().is_some_and(|failure| part != Part::Before(failure.index)) {
                    self.before_failure = None;
                }
                let sent = match &self.plan {
                    Some(plan) => {
                        let notify = part == Part::App && plan.spec.notify;
                        let spec = Spec { command: self.words(part), notify, ..plan.spec.clone() };
                        self.shared.link.send(&ToSupervisor::Start { run, spec, prepares: part != Part::App })
                    }
                    None => Err(std::io::Error::other("nothing to start")),
                };
                let error = format!("the app cannot be started: {}", sent.err()?);
                self.preparation_failed(&error, 126);
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

    /// The command before the app that is under way.
    fn preparation(&self) -> Option<Preparation> {
        let Part::Before(index) = self.policy.part() else { return None };
        let pid = match self.policy.phase() {
            Phase::None | Phase::Stopped => return None,
            Phase::Running { pid, .. } => Some(pid),
            _ => None,
        };
        let of = self.plan.as_ref().map_or(0, |plan| plan.before.len());
        Some(Preparation { index, of, command: self.words(Part::Before(index)), pid })
    }

    fn publish(&mut self, reason: String) {
        if self.policy.phase() == Phase::Stopped {
            self.before_failure = None;
        }
        if !matches!(self.policy.phase(), Phase::Running { .. }) {
            self.readiness = None;
            self.says = None;
        }
        let status = self.status();
        self.shared.publish(status, reason);
    }

    fn status(&self) -> AppStatus {
        let before = self.preparation();
        let (state, pid) = match self.policy.phase() {
            Phase::None => (AppState::None, None),
            Phase::Launching => (AppState::Starting, None),
            Phase::Running { .. } if before.is_some() => (AppState::Starting, None),
            Phase::Running { pid, .. } => (AppState::Running, Some(pid)),
            Phase::Sweeping { .. } | Phase::Waiting { .. } => (AppState::Backoff, None),
            Phase::Stopping => (AppState::Stopping, None),
            Phase::Stopped => (AppState::Stopped, None),
        };
        let readiness = self.readiness.as_ref();
        AppStatus {
            state,
            pid,
            started: pid.and(self.started),
            restarts: self.policy.restarts(),
            last_exit: self.last_exit,
            before,
            before_failure: self.before_failure.clone(),
            ready: state == AppState::Running && readiness.is_none_or(Readiness::is_ready),
            waits_for: readiness.and_then(Readiness::waits_for),
            overdue: readiness.and_then(Readiness::overdue),
            crash_loop: self.crashes.looping(),
            says: self.says.clone(),
            error: self.error.clone(),
        }
    }
}

fn shown(ending: Ending) -> String {
    match (ending.code, ending.signal) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(number)) => format!("ended by {}", signal::name(number)),
        (None, None) => "ended".into(),
    }
}
