//! The app: one main process and whatever it has brought about.
//!
//! ```text
//!  launched ──exec──▶ running ──┬─ main process ends ─▶ sweeping the rest ─┬─▶ nobody left: Ended
//!     └─ exec fails: Failed     └─ end() ─▶ asked ─▶ killed ──────────────┘
//! ```
//! Ending asks the main process's group and session first, since it knows best how to end its own children; what is
//! left after it is asked in its turn, then killed. *Nobody left* is what a look at all processes says, never a guess.

use super::escalation::{Due, Escalation};
use super::limits::{LEFTOVER_GRACE, NOTICES_PAUSE, NOTICES_SHARE};
use super::manager::is_the_managers;
use super::notify_socket::{Notice, NotifySocket};
use super::output::Output;
use super::probe::Probe;
use app::processes::{self, Cookie, Found, Process};
use app::protocol::{
    APP_COOKIE_VARIABLE, DESCRIPTOR_VARIABLE, Ending, NODE_COOKIE_VARIABLE, NOTIFY_VARIABLE,
    PROBE_COOKIE_VARIABLE, Spec, ToNode,
};
use app::signal;
use app::spawn::{self, Failure, Launch, Outcome, Stage};
use base::SystemRandom;
use rustix::fs::{Mode, OFlags};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

#[cfg(test)]
mod tests;

/// A started app.
#[derive(Debug)]
pub struct AppProcess {
    run: u64,
    main: u32,
    spec: Spec,
    outcome: Option<OwnedFd>,
    failure: Option<Failure>,
    main_gone: bool,
    /// Who is the main process when this one has ended, by the app's word.
    successor: Option<u32>,
    escalation: Option<Escalation>,
    lapse: Option<String>,
    fault: Option<String>,
    asked: BTreeSet<u32>,
    killed: BTreeSet<u32>,
    notify: Option<NotifySocket>,
    /// Until then notices wait.
    deaf_until: Duration,
    probe: Option<Probe>,
}

/// Who belongs to the app: those below the supervisor but not below these, and those with the cookie. An orphan whose
/// origin nobody knows any more counts as the app's: better one process too many ended than one left to write.
#[derive(Clone, Copy, Debug)]
pub struct Family<'a> {
    /// The node, and what was our child before we began.
    pub except: &'a [u32],
    /// What the app's processes carry.
    pub cookie: &'a Cookie,
}

impl Family<'_> {
    /// Those below us: all of them, unless somebody else has started one in the app's name. Strangers are not searched.
    pub fn below(&self) -> io::Result<Vec<Process>> {
        Ok(processes::below(&processes::all()?, std::process::id(), self.except))
    }

    /// All living processes of the app.
    pub fn members(&self) -> io::Result<Found> {
        processes::descendants(std::process::id(), self.except, self.cookie)
    }

    /// The same, killed as they are found.
    fn kill(&self) -> io::Result<Found> {
        processes::kill_descendants(std::process::id(), self.except, self.cookie)
    }
}

impl AppProcess {
    /// Starts the app; whether its program runs is known later.
    pub fn launch(run: u64, spec: Spec, cookie: &Cookie, output: &mut Output) -> Result<AppProcess, ToNode> {
        let refused = |error: String| ToNode::Failed { run, code: 126, error };
        let Some(program) = spec.command.first().filter(|program| !program.is_empty()) else {
            return Err(refused("the app's command is empty".into()));
        };
        if signal::from_number(spec.stop_signal).is_none() {
            return Err(refused(format!("{} is no stop signal", spec.stop_signal)));
        }
        let notify = spec.notify.then(|| NotifySocket::open(cookie, spec.user)).transpose();
        let notify = notify.map_err(|error| refused(format!("no socket for NOTIFY_SOCKET: {error}")))?;
        let socket = notify.as_ref().map(NotifySocket::path);
        let launched = (|| {
            let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
            let [stdout, stderr] = output.open()?;
            spawn::launch(&Launch {
                program: OsStr::new(program),
                arguments: spec.command.iter().map(OsString::from).collect(),
                environment: environment(&spec, cookie, socket.map(|path| (NOTIFY_VARIABLE, path.into()))),
                directory: Some(&spec.directory),
                user: spec.user,
                umask: spec.umask,
                stdio: [Some(null.as_fd()), Some(stdout.as_fd()), Some(stderr.as_fd())],
                keep: None,
                die_with_parent: true,
                mark: Some(cookie.mark()),
            })
        })();
        let launched = launched.map_err(|error: io::Error| refused(format!("`{program}`: {error}")))?;
        Ok(AppProcess { outcome: Some(launched.outcome), notify, ..AppProcess::of(run, launched.pid, spec) })
    }

    /// One that runs, and of which nothing is known yet.
    fn of(run: u64, main: u32, spec: Spec) -> AppProcess {
        AppProcess {
            run,
            main,
            spec,
            outcome: None,
            failure: None,
            main_gone: false,
            successor: None,
            escalation: None,
            lapse: None,
            fault: None,
            asked: BTreeSet::new(),
            killed: BTreeSet::new(),
            notify: None,
            deaf_until: Duration::ZERO,
            probe: None,
        }
    }

    /// The pid of the main process, while it lives.
    pub fn main(&self) -> Option<u32> {
        (!self.main_gone).then_some(self.main)
    }

    /// How long it may take to stop.
    pub fn stop_timeout(&self) -> Duration {
        self.spec.stop_timeout
    }

    /// It is being ended.
    pub fn ending(&self) -> bool {
        self.escalation.is_some()
    }

    /// When what is left of it is killed, where it is being ended.
    pub fn kill_at(&self) -> Option<Duration> {
        self.escalation.map(|escalation| escalation.kill_at())
    }

    /// The pipe that says whether the program runs.
    pub fn outcome(&self) -> Option<&OwnedFd> {
        self.outcome.as_ref()
    }

    /// Asks that pipe.
    pub fn check_outcome(&mut self) -> Option<ToNode> {
        match spawn::outcome(self.outcome.as_ref()?) {
            Outcome::Pending => None,
            Outcome::Running => {
                self.outcome = None;
                Some(ToNode::Started { run: self.run, pid: self.main })
            }
            Outcome::Failed(failure) => {
                // Told when the child has been buried, so that the next start finds nothing in its way.
                self.outcome = None;
                self.failure = Some(failure);
                None
            }
        }
    }

    /// The main process has ended.
    pub fn main_ended(&mut self, now: Duration, ending: Ending) -> Vec<ToNode> {
        let mut news: Vec<ToNode> = self.check_outcome().into_iter().collect();
        if let Some(pid) = self.take_successor() {
            self.main = pid;
            news.push(ToNode::Succeeded { run: self.run, pid });
            return news;
        }
        self.main_gone = true;
        if self.failure.is_none() {
            news.push(ToNode::Exited { run: self.run, ending });
        }
        // An end that has begun has its time already: who was asked for it may need longer than the main process.
        if self.escalation.is_none() {
            self.end_by(now + self.spec.stop_timeout.min(LEFTOVER_GRACE));
        }
        news
    }

    /// Only a process of the app that is our child by now, since nobody else's end would be told to us.
    fn take_successor(&mut self) -> Option<u32> {
        let pid = self.successor.take().filter(|_| self.failure.is_none() && !self.ending())?;
        let process = Process::find(pid).ok().flatten()?;
        (process.alive && process.parent == std::process::id()).then_some(pid)
    }

    /// A child has ended: what is left may be nothing.
    pub fn someone_ended(&mut self) {
        if let Some(escalation) = &mut self.escalation {
            escalation.look_now();
        }
    }

    /// Runs a command as the app is run, to ask whether it is ready; the refusal where that cannot be.
    pub fn ask(
        &mut self,
        now: Duration,
        run: u64,
        command: &[String],
        limit: Duration,
        cookie: &Cookie,
    ) -> Option<ToNode> {
        let refused = |why: &str| Some(ToNode::Probed { run, complaint: Some(why.to_owned()) });
        let Some(program) = command.first() else { return refused("it has no words") };
        if run != self.run || self.ending() || self.main_gone {
            return refused("the app does not run");
        }
        if self.probe.is_some() {
            return refused("it is being asked already");
        }
        let mark = Cookie::random(&SystemRandom);
        let launched = (|| {
            let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
            spawn::launch(&Launch {
                program: OsStr::new(program),
                arguments: command.iter().map(OsString::from).collect(),
                environment: environment(
                    &self.spec,
                    cookie,
                    Some((PROBE_COOKIE_VARIABLE, mark.as_str().into())),
                ),
                directory: Some(&self.spec.directory),
                user: self.spec.user,
                umask: self.spec.umask,
                stdio: [Some(null.as_fd()), Some(null.as_fd()), Some(null.as_fd())],
                keep: None,
                die_with_parent: true,
                mark: Some(cookie.mark()),
            })
        })();
        match launched {
            Ok(launched) => self.probe = Some(Probe::new(run, launched, mark, now, limit)),
            Err(error) => return refused(&format!("cannot be run: {error}")),
        }
        None
    }

    /// A child has ended, which may be the question's process.
    pub fn question_ended(&mut self, pid: u32, ending: Ending) {
        if let Some(probe) = &mut self.probe {
            probe.ended(pid, ending);
        }
    }

    /// What the app has said on its socket since the last look.
    pub fn notices(&mut self, now: Duration, family: Family<'_>) -> Vec<ToNode> {
        let Some(socket) = &self.notify else { return Vec::new() };
        let said = socket.take(NOTICES_SHARE);
        if said.is_empty() {
            return Vec::new();
        }
        let known = family.members().map(|found| found.living).unwrap_or_default();
        let is_app = |pid| known.iter().any(|process| process.pid == pid);
        let good: Vec<Notice> = said.iter().filter_map(|said| socket.judge(said, is_app)).collect();
        if good.len() < said.len() {
            // A stranger must not have us look at all processes without end.
            self.deaf_until = now + NOTICES_PAUSE;
        }
        let mut news = Vec::new();
        for notice in good {
            if let Some(pid) = notice.main {
                self.successor = Some(pid).filter(|pid| *pid != self.main && is_app(*pid));
            }
            news.push(ToNode::Notified {
                run: self.run,
                ready: notice.ready,
                status: notice.status.or_else(|| notice.stopping.then(|| "stopping".to_owned())),
                extend: notice.extend,
            });
        }
        news
    }

    /// Notices are not taken for a moment.
    pub fn is_deaf(&self, now: Duration) -> bool {
        self.notify.is_some() && now < self.deaf_until
    }

    /// Becomes readable when the app says something; none for the moment in which that is not taken.
    pub fn notify_descriptor(&self, now: Duration) -> Option<&OwnedFd> {
        self.notify.as_ref().filter(|_| !self.is_deaf(now)).map(NotifySocket::descriptor)
    }

    /// Asks the app to end, and kills what is left then. `lapse`: nobody has asked for it.
    pub fn end(&mut self, kill_at: Duration, lapse: Option<&str>) {
        if self.escalation.is_none() {
            self.lapse = lapse.map(str::to_owned);
            self.ask_main();
        }
        self.end_by(kill_at);
    }

    /// Kills all of it now, for what it did.
    pub fn condemn(&mut self, now: Duration, fault: String) {
        self.fault = Some(fault);
        self.end_by(now);
    }

    /// Kills what is left then, where the end has begun.
    pub fn hasten(&mut self, kill_at: Duration) {
        if let Some(escalation) = &mut self.escalation {
            escalation.hasten(kill_at);
        }
    }

    fn end_by(&mut self, kill_at: Duration) {
        self.escalation.get_or_insert_with(|| Escalation::new(kill_at)).hasten(kill_at);
    }

    /// The group and the session of the main process, stopped ones woken.
    fn ask_main(&mut self) {
        let Some(main) = processes::raw_pid(self.main).filter(|_| !self.main_gone) else {
            return;
        };
        let ask = signal::from_number(self.spec.stop_signal).unwrap_or(Signal::TERM);
        for signal in [ask, Signal::CONT] {
            // Before its setsid there is no group yet. A failure shows in what is left.
            if rustix::process::kill_process_group(main, signal).is_err() {
                let _ = rustix::process::kill_process(main, signal);
            }
        }
        self.asked.insert(self.main);
        for process in processes::all().unwrap_or_default() {
            if process.session == self.main && process.pid != self.main {
                self.asked.insert(process.pid);
                let group = processes::raw_pid(process.pid).map(|pid| rustix::process::getpgid(Some(pid)));
                if group != Some(Ok(main)) {
                    let _ = process.send(ask).and_then(|_| process.send(Signal::CONT));
                }
            }
        }
    }

    /// Passes a signal on to the main process.
    pub fn forward(&self, number: i32) {
        if let (Some(pid), Some(signal)) = (self.main(), signal::from_number(number)) {
            // Who has just ended does not need it.
            let _ = processes::raw_pid(pid).map(|pid| rustix::process::kill_process(pid, signal));
        }
    }

    /// What has become of the question, once nothing is left of its process.
    pub fn answer(&mut self, now: Duration) -> Option<ToNode> {
        let answer = self.probe.as_mut()?.step(now)?;
        self.probe = None;
        Some(answer)
    }

    /// Does what is due; the last message of an app is `Ended` or `Failed`, and then it is gone.
    pub fn step(&mut self, now: Duration, family: Family<'_>) -> Option<ToNode> {
        let due = self.escalation.as_mut()?.step(now, self.main_gone);
        if due == Due::Nothing {
            return None;
        }
        if due != Due::Ask && !self.main_gone {
            // All of the group at one moment: a race against a fork bomb is won here.
            let _ = processes::raw_pid(self.main)
                .map(|main| rustix::process::kill_process_group(main, Signal::KILL));
        }
        let look = if due == Due::Ask { family.members() } else { family.kill() };
        let Ok(Found { living: left, certainly_none }) = look else {
            return None;
        };
        if certainly_none && self.main_gone {
            return Some(self.farewell());
        }
        for process in &left {
            if due == Due::Ask {
                if self.asked.insert(process.pid) {
                    let ask = signal::from_number(self.spec.stop_signal).unwrap_or(Signal::TERM);
                    let _ = process.send(ask).and_then(|_| process.send(Signal::CONT));
                }
            } else {
                self.killed.insert(process.pid);
            }
        }
        let pids = || left.iter().map(|process| process.pid).collect();
        (due == Due::Report).then(|| ToNode::Stuck { run: self.run, pids: pids() })
    }

    fn farewell(&mut self) -> ToNode {
        match self.failure.take() {
            Some(failure) => {
                let error = explain(&self.spec, &failure);
                ToNode::Failed { run: self.run, code: failure.code(), error }
            }
            None => ToNode::Ended {
                run: self.run,
                killed: u32::try_from(self.killed.len()).unwrap_or(u32::MAX),
                lapse: self.lapse.take(),
                fault: self.fault.take(),
            },
        }
    }

    /// When to step again.
    pub fn wake_at(&self, now: Duration) -> Option<Duration> {
        let deaf = self.is_deaf(now).then_some(self.deaf_until);
        let escalation = self.escalation.map(|escalation| escalation.wake_at(self.main_gone));
        let probe = self.probe.as_ref().and_then(Probe::wake_at);
        [escalation, probe, deaf].into_iter().flatten().min()
    }
}

/// Whether this was an app's last message.
pub fn is_farewell(message: &ToNode) -> bool {
    matches!(message, ToNode::Ended { .. } | ToNode::Failed { .. })
}

/// What the app or a question to it inherits; `extra` is a variable of the supervisor's own.
fn environment(spec: &Spec, cookie: &Cookie, extra: Option<(&str, OsString)>) -> Vec<(OsString, OsString)> {
    let ours = [
        DESCRIPTOR_VARIABLE,
        NODE_COOKIE_VARIABLE,
        APP_COOKIE_VARIABLE,
        PROBE_COOKIE_VARIABLE,
        NOTIFY_VARIABLE,
    ];
    let left_out = |name: &OsStr| {
        ours.iter().any(|own| name == *own)
            || spec.clear_env_of.iter().any(|cleared| name == cleared.as_str())
            || spec.env.iter().any(|(set, _)| name == set.as_str())
    };
    let mut all: Vec<(OsString, OsString)> =
        std::env::vars_os().filter(|(name, _)| !left_out(name) && !is_the_managers(name)).collect();
    // Where Stead does not listen itself, whoever configured the app may name another socket.
    let foreign = |name: &str| name == NOTIFY_VARIABLE && !spec.notify;
    let set = spec.env.iter().filter(|(name, _)| foreign(name) || !ours.contains(&name.as_str()));
    all.extend(set.map(|(name, value)| (name.into(), value.into())));
    all.push((APP_COOKIE_VARIABLE.into(), cookie.as_str().into()));
    all.extend(extra.map(|(name, value)| (name.into(), value)));
    all
}

fn explain(spec: &Spec, failure: &Failure) -> String {
    let program = spec.command.first().map_or("", String::as_str);
    let error = &failure.error;
    match failure.stage {
        Stage::Exec if failure.code() == 127 && program.contains('/') => {
            format!("`{program}` does not exist, or the interpreter that it names does not")
        }
        Stage::Exec if failure.code() == 127 => format!("`{program}` was not found in PATH"),
        Stage::Exec => format!("`{program}` cannot be run: {error}"),
        Stage::Directory => {
            format!("`{program}` cannot be run in `{}`: {error}", spec.directory.display())
        }
        Stage::User => {
            let (uid, gid) = spec.user.unwrap_or_default();
            format!("`{program}` cannot be run as user {uid}, group {gid}: {error}")
        }
        Stage::Setup => format!("`{program}` cannot be prepared: {error}"),
    }
}
