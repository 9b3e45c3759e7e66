//! The loop: waits for whatever comes first, and sees that the promises of the supervisor hold.
//!
//! Each round takes signals and exits, then what the node says, then output, then what the time demands. Time is the
//! boot clock, also for the timer: a machine that was suspended finds its deadlines passed at once.

use super::answers::Answers;
use super::app_process::{AppProcess, Family, is_farewell};
use super::crowd::{self, Crowd};
use super::leftovers::Claim;
use super::limits::{BURIALS_SHARE, PROCESSES_MAX, SHORT_GRACE, SHORT_NODE_GRACE};
use super::manager::{Manager, NodeLife};
use super::node_process::{NodeProcess, Program};
use super::output::Output;
use super::signals::{self, Signals};
use super::verdict::{Circumstances, Pauses, Verdict, judge};
use app::processes;
use app::protocol::{Ending, ToNode, ToSupervisor, VERSION};
use app::signal;
use base::{Clock, SystemClock};
use rustix::time::{TimerfdClockId, TimerfdFlags};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

mod wait;

/// What is said of an app that was ended because nobody said that it may run on.
const LAPSED: &str = "the node did not say in time that the app may run on";

/// Everything the supervisor knows.
#[derive(Debug)]
pub struct Watch {
    claim: Claim,
    program: Program,
    signals: Signals,
    timer: OwnedFd,
    output: Output,
    answers: Answers,
    manager: Manager,
    /// Children from before: whoever called exec left them, and they are nobody's app.
    inherited: Vec<u32>,
    node: Option<NodeProcess>,
    app: Option<AppProcess>,
    /// What runs is a command that prepares the app.
    prepares: bool,
    crowd: Crowd,
    pauses: Pauses,
    launch_at: Option<Duration>,
    launches: u32,
    previous: Option<String>,
    /// There may be more dead children than had their turn.
    more_dead: bool,
    /// Why the node is being killed.
    condemned: Option<String>,
    draining: bool,
    told_to_drain: bool,
    /// When a node that drains too long is killed.
    forced_at: Option<Duration>,
    exit: Option<u8>,
}

impl Watch {
    /// Takes the signals, becomes the parent of all orphans below, and plans the first node.
    pub fn begin(claim: Claim, program: Program, now: Duration) -> io::Result<Watch> {
        let signals = Signals::block()?;
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        let own = std::process::id();
        let inherited = processes::all()?.iter().filter(|p| p.parent == own).map(|p| p.pid).collect();
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = rustix::time::timerfd_create(TimerfdClockId::Boottime, flags)?;
        let previous = (claim.ended > 0)
            .then(|| format!("{} processes left over from a former run were killed", claim.ended));
        let output = Output::new(&claim.place, &claim.cookie);
        Ok(Watch {
            claim,
            program,
            signals,
            timer,
            output,
            answers: Answers::default(),
            manager: Manager::from_environment(),
            inherited,
            node: None,
            app: None,
            prepares: false,
            crowd: Crowd::default(),
            pauses: Pauses::default(),
            launch_at: Some(now),
            launches: 0,
            previous,
            more_dead: false,
            condemned: None,
            draining: false,
            told_to_drain: false,
            forced_at: None,
            exit: None,
        })
    }

    /// Goes on until everything has ended; returns the exit code.
    pub fn serve(mut self) -> u8 {
        if let Some(previous) = &self.previous {
            self.output.say("node before ended", previous);
        }
        loop {
            let now = SystemClock.boottime();
            // Before the dead are buried: the sender of a notice may be among them.
            if self.app.as_ref().is_some_and(|app| !app.is_deaf(now)) {
                self.take_notices(now);
            }
            self.take_signals(now);
            self.take_outcomes();
            self.take_messages(now);
            self.output.pump();
            self.keep_promises(now);
            self.tell_manager(now);
            if let Some(code) = self.exit
                && self.node.is_none()
                && self.app.is_none()
            {
                self.flush();
                return code;
            }
            self.wait(now);
        }
    }

    fn take_signals(&mut self, now: Duration) {
        while let Some(number) = self.signals.take_one() {
            match number {
                // Several exits may come as one signal, and some came before the first: looked for below.
                libc::SIGCHLD => {}
                libc::SIGTERM | libc::SIGINT => self.terminate(now),
                other => {
                    if let Some(app) = self.app.as_ref().filter(|_| !self.prepares) {
                        app.forward(other);
                    }
                }
            }
        }
        self.more_dead = true;
        for _ in 0..BURIALS_SHARE {
            let Some((pid, ending)) = signals::peek_dead() else {
                self.more_dead = false;
                break;
            };
            self.child_ended(now, pid, ending);
            signals::bury(pid);
        }
    }

    fn take_notices(&mut self, now: Duration) {
        let except = self.except();
        let family = Family { except: &except, cookie: &self.claim.cookie };
        let said = self.app.as_mut().map(|app| app.notices(now, family)).unwrap_or_default();
        for message in said {
            tell(&mut self.node, &message);
        }
    }

    fn child_ended(&mut self, now: Duration, pid: u32, ending: Ending) {
        if self.app.as_ref().is_some_and(|app| app.main() == Some(pid)) {
            // It may have named its successor with its last breath.
            self.take_notices(now);
        }
        if let Some(app) = &mut self.app {
            app.question_ended(pid, ending);
            if app.main() == Some(pid) {
                for message in app.main_ended(now, ending) {
                    tell(&mut self.node, &message);
                }
            }
            app.someone_ended();
        }
        if self.node.as_ref().is_some_and(|node| node.pid == pid) {
            // Its last messages may hold its final word.
            self.take_messages(now);
            if let Some(node) = self.node.take() {
                self.node_ended(now, node, ending);
            }
        }
        self.inherited.retain(|inherited| *inherited != pid);
    }

    fn node_ended(&mut self, now: Duration, mut node: NodeProcess, ending: Ending) {
        let how = match ending {
            Ending { code: Some(code), .. } => format!("exited with code {code}"),
            Ending { signal, .. } => format!("was ended by {}", signal::name(signal.unwrap_or(0))),
        };
        let mut text = format!("the node (pid {}) {how}", node.pid);
        let condemned = self.condemned.take();
        if let Some(why) = &condemned {
            text = format!("{text} ({why})");
        }
        if let Some(app) = &mut self.app {
            text.push_str("; the app is stopped");
            let until = node.app_deadline().max(now);
            app.end(until.min(now + app.stop_timeout()), None);
            app.hasten(until);
        }
        self.answers.forget();
        self.end_what_a_node_left();
        self.note_outcome(&mut node);
        if self.exit.is_none() {
            let forced = self.forced_at.is_some();
            let case = Circumstances { ending, final_word: node.final_word, draining: self.draining, forced };
            match judge(case) {
                Verdict::Exit(code) => self.exit = Some(code),
                Verdict::Restart => {
                    let pause = self.pauses.after(now.saturating_sub(node.started));
                    self.launch_at = Some(now + pause);
                    text.push_str(&format!("; the next one starts in {} s", pause.as_secs()));
                }
            }
        }
        if condemned.is_some() || self.exit.is_none_or(|code| code != 0) {
            self.output.say("node ended", &text);
        }
        self.previous = Some(text);
    }

    /// The first time: drain. The second time: hurry.
    fn terminate(&mut self, now: Duration) {
        self.launch_at = None;
        if self.node.is_none() {
            self.exit.get_or_insert(0);
        }
        if !self.draining {
            self.draining = true;
            return;
        }
        self.forced_at.get_or_insert(now + SHORT_NODE_GRACE);
        if let Some(app) = &mut self.app {
            app.end(now + SHORT_GRACE, None);
        }
    }

    fn take_outcomes(&mut self) {
        if let Some(mut node) = self.node.take() {
            self.note_outcome(&mut node);
            self.node = Some(node);
        }
        if let Some(message) = self.app.as_mut().and_then(AppProcess::check_outcome) {
            tell(&mut self.node, &message);
        }
    }

    fn note_outcome(&mut self, node: &mut NodeProcess) {
        if let Some(error) = node.check_outcome() {
            self.output.say("node not started", &format!("the node could not be started: {error}"));
            self.exit = Some(super::SYSTEM);
        }
    }

    fn take_messages(&mut self, now: Duration) {
        let welcome = ToNode::Welcome {
            version: VERSION,
            cookie: self.claim.cookie.to_string(),
            restarts: self.launches.saturating_sub(1),
            previous: self.previous.clone(),
        };
        let Some(node) = &mut self.node else {
            return;
        };
        node.flush();
        let messages = node.listen(now, &welcome);
        if self.draining && node.greeted() && !self.told_to_drain {
            self.told_to_drain = true;
            node.say(&ToNode::Terminate);
        }
        for message in messages {
            self.obey(now, message);
        }
        self.give_answers();
    }

    fn give_answers(&mut self) {
        while let Some(node) = self.node.as_mut().filter(|node| node.has_room())
            && let Some(message) = self.answers.next(&self.output)
        {
            node.say(&message);
        }
    }

    fn obey(&mut self, now: Duration, message: ToSupervisor) {
        match message {
            ToSupervisor::Start { run, spec, prepares } => {
                let lapsed = self.node.as_ref().is_none_or(|node| now >= node.app_warning());
                let error = match &self.app {
                    Some(_) => "processes of the run before are still being ended".to_owned(),
                    None if lapsed => LAPSED.to_owned(),
                    None => match AppProcess::launch(run, spec, &self.claim.cookie, &mut self.output) {
                        Ok(app) => {
                            self.app = Some(app);
                            self.prepares = prepares;
                            return;
                        }
                        Err(refusal) => return tell(&mut self.node, &refusal),
                    },
                };
                tell(&mut self.node, &ToNode::Failed { run, code: 126, error });
            }
            ToSupervisor::Stop { run } => match &mut self.app {
                Some(app) if app.ending() => {}
                Some(app) => app.end(now + app.stop_timeout(), None),
                None => tell(&mut self.node, &ToNode::Ended { run, killed: 0, lapse: None, fault: None }),
            },
            ToSupervisor::Probe { run, command, limit } => {
                let refused = || ToNode::Probed { run, complaint: Some("the app does not run".into()) };
                let answer = match &mut self.app {
                    Some(app) => app.ask(now, run, &command, limit, &self.claim.cookie),
                    None => Some(refused()),
                };
                if let Some(answer) = answer {
                    tell(&mut self.node, &answer);
                }
            }
            ToSupervisor::Condition { ready, text } => self.manager.hear(ready, &text),
            ToSupervisor::Logs { request, lines, stream } => {
                self.answers.take(request, lines, stream, &self.output);
            }
            // One that does not read gets no answer: this one is of no use later.
            ToSupervisor::Pids { .. } if self.node.as_ref().is_some_and(|node| !node.has_room()) => {}
            ToSupervisor::Pids { request } => {
                let found = self.app.as_ref().map(|_| self.below()).unwrap_or_default();
                let pids = found.iter().map(|process| process.pid).collect();
                tell(&mut self.node, &ToNode::Pids { request, pids });
            }
            ToSupervisor::Log { json } => self.output.json = json,
            // Dealt with where they are read.
            ToSupervisor::Hello { .. } | ToSupervisor::Beat { .. } | ToSupervisor::FinalWord { .. } => {}
        }
    }

    /// A node that is about to exit for good, or that everything ends with, makes the whole end.
    fn tell_manager(&mut self, now: Duration) {
        let node = self.node.as_ref();
        if self.draining || self.exit.is_some() || node.is_some_and(|node| node.final_word.is_some()) {
            self.manager.stopping();
        }
        let life = match node {
            Some(node) if now < node.silent_at() => NodeLife::Beats,
            Some(_) => NodeLife::Hangs,
            None => NodeLife::Ended,
        };
        self.manager.step(now, life);
    }

    fn except(&self) -> Vec<u32> {
        self.inherited.iter().copied().chain(self.node.as_ref().map(|node| node.pid)).collect()
    }

    fn below(&self) -> Vec<processes::Process> {
        Family { except: &self.except(), cookie: &self.claim.cookie }.below().unwrap_or_default()
    }

    /// Ends an app that forks without end. The node's beats see to it that the time for this comes.
    fn count_crowd(&mut self, now: Duration) {
        if self.app.as_ref().is_none_or(AppProcess::ending) || !self.crowd.asks(now) {
            return;
        }
        let tasks = processes::read_file("/proc/loadavg", crowd::LINE_LIMIT);
        let tasks = tasks.ok().and_then(|line| crowd::tasks(&line)).unwrap_or_default();
        if !self.crowd.counts(now, tasks) {
            return;
        }
        let count = self.below().len();
        if count > PROCESSES_MAX
            && let Some(app) = &mut self.app
        {
            let fault = format!("it had {count} processes; an app may have {PROCESSES_MAX}");
            self.output.say("app stopped", &format!("the app is killed: {fault}"));
            app.condemn(now, fault);
        }
    }

    fn keep_promises(&mut self, now: Duration) {
        self.count_crowd(now);
        if let (Some(fault), Some(app)) =
            (self.node.as_ref().and_then(|node| node.fault.clone()), &mut self.app)
            && !app.ending()
        {
            self.output.say("app stopped", &format!("the app is stopped, and then the node killed: {fault}"));
            app.end(now + app.stop_timeout(), None);
        }
        if let (Some(node), Some(app)) = (&self.node, &mut self.app)
            && now >= node.app_warning()
        {
            let deadline = node.app_deadline().max(now);
            if !app.ending() {
                self.output.say("app stopped", &format!("the app is stopped: {LAPSED}"));
                app.end(deadline.min(now + app.stop_timeout()), Some(LAPSED));
            }
            app.hasten(deadline);
        }
        let except = self.except();
        if let Some(app) = &mut self.app {
            let family = Family { except: &except, cookie: &self.claim.cookie };
            if let Some(answer) = app.answer(now) {
                tell(&mut self.node, &answer);
            }
            if let Some(message) = app.step(now, family) {
                if is_farewell(&message) {
                    self.app = None;
                    self.output.close();
                }
                tell(&mut self.node, &message);
            }
        }
        self.judge_node(now);
        if self.launch_at.is_some_and(|at| at <= now) && self.app.is_none() && self.exit.is_none() {
            self.launch(now);
        }
    }

    /// Kills a node that is frozen, out of its mind, or out of time, once nothing of the app is left.
    fn judge_node(&mut self, now: Duration) {
        let Some(node) = self.node.as_ref().filter(|_| self.app.is_none() && self.condemned.is_none()) else {
            return;
        };
        let why = if let Some(fault) = &node.fault {
            Some(fault.clone())
        } else if now >= node.silent_at() {
            Some("it was frozen".into())
        } else if self.forced_at.is_some_and(|at| now >= at) {
            Some("a second signal ended it: what the store lacks is sent by the next start".into())
        } else {
            None
        };
        if let Some(why) = why {
            node.kill();
            self.condemned = Some(why);
        }
    }

    /// Helpers of a node that has ended. They may hang on a file system; nobody waits for them.
    fn end_what_a_node_left(&self) {
        // Where they cannot be seen now, they are at the next look.
        let _ = processes::kill_left_by_node(std::process::id(), &self.except(), &self.claim.cookie);
    }

    fn launch(&mut self, now: Duration) {
        self.launch_at = None;
        self.end_what_a_node_left();
        match NodeProcess::launch(&self.program, &self.claim.cookie, now) {
            Ok(node) => {
                self.launches = self.launches.saturating_add(1);
                self.node = Some(node);
            }
            Err(error) => {
                let pause = self.pauses.after(Duration::ZERO);
                self.output.say(
                    "node not started",
                    &format!("no process for the node: {error}; again in {} s", pause.as_secs()),
                );
                self.launch_at = Some(now + pause);
            }
        }
    }
}

fn tell(node: &mut Option<NodeProcess>, message: &ToNode) {
    if let Some(node) = node {
        node.say(message);
    }
}
