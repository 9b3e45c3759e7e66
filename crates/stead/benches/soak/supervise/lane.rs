//! One home with its node, and what is done to it round after round.

use super::super::Dice;
use super::super::journal::now;
use super::super::node::{Node, signal, until};
use super::figures::Times;
use super::watched::{Watched, all_of, until_ended};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// `app.stop_timeout` of every app.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);
/// How long all may take to be dead, beyond the time that the app is given.
const SLACK: Duration = Duration::from_secs(1);
/// How long the app may run without a word from its node.
const BEAT_HORIZON: Duration = Duration::from_secs(10);
/// A node that crashed this often under one supervisor is slow to come back; the supervisor is started anew instead.
const CRASHES_PER_SUPERVISOR: u32 = 2;

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    NodeKilled,
    SupervisorKilled,
    NodeFrozen,
    AppKilled,
    Term,
}

impl Event {
    fn choose(dice: &mut Dice) -> Event {
        match dice.below(20) {
            0..=6 => Event::NodeKilled,
            7..=11 => Event::SupervisorKilled,
            12..=13 => Event::NodeFrozen,
            14..=16 => Event::AppKilled,
            _ => Event::Term,
        }
    }

    /// When the app must have been asked to end, where that is promised.
    pub fn asked_bound(self) -> Option<Duration> {
        match self {
            Event::NodeKilled => Some(Duration::from_millis(100)),
            Event::NodeFrozen => Some(BEAT_HORIZON),
            _ => None,
        }
    }

    /// When all must be dead: the app's time is its timeout, or, of a silent node, the rest of the deadline.
    pub fn dead_bound(self) -> Duration {
        match self {
            Event::NodeFrozen => BEAT_HORIZON + SLACK,
            _ => STOP_TIMEOUT + SLACK,
        }
    }
}

impl std::fmt::Display for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Event::NodeKilled => "kill -9 of the node",
            Event::SupervisorKilled => "kill -9 of the supervisor",
            Event::NodeFrozen => "SIGSTOP of the node",
            Event::AppKilled => "kill -9 of the app",
            Event::Term => "SIGTERM",
        })
    }
}

/// How the app is started, and what it is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum App {
    Plain,
    Stripped,
    Sudo,
    Double,
    Stubborn,
    Stopped,
}

impl App {
    fn choose(dice: &mut Dice) -> App {
        const ALL: [App; 6] =
            [App::Plain, App::Stripped, App::Sudo, App::Double, App::Stubborn, App::Stopped];
        ALL[dice.below(ALL.len())]
    }

    fn name(self) -> &'static str {
        match self {
            App::Plain => "plain",
            App::Stripped => "through env -i setsid",
            App::Sudo => "through sudo",
            App::Double => "double-forking",
            App::Stubborn => "ignoring TERM",
            App::Stopped => "stopped",
        }
    }

    fn command(self, lone: &Path, dir: &Path, round: u64) -> Vec<String> {
        let (before, kind): (&[&str], _) = match self {
            App::Plain | App::Stopped => (&[], "plain"),
            App::Stripped => (&["env", "-i", "setsid", "--wait"], "plain"),
            App::Sudo => (&["sudo", "-n", "--"], "plain"),
            App::Double => (&[], "double"),
            App::Stubborn => (&[], "stubborn"),
        };
        let lone =
            [lone.display().to_string(), dir.display().to_string(), round.to_string(), kind.to_owned()];
        before.iter().map(|word| (*word).to_owned()).chain(lone).collect()
    }

    /// How many processes note that they have begun.
    fn notes(self) -> usize {
        if self == App::Double { 2 } else { 1 }
    }
}

/// A line of the journal.
#[derive(Clone, Copy, Debug)]
struct Line {
    what: char,
    pid: u32,
    at: i64,
}

pub struct Lane {
    dir: PathBuf,
    lone: PathBuf,
    dice: Dice,
    node: Option<Node>,
    configured: bool,
    crashes: u32,
}

impl Lane {
    /// A home with a node in it.
    pub fn begin(dir: &Path, lone: &Path, seed: u64) -> Lane {
        std::fs::create_dir_all(dir).unwrap();
        let mut lane = Lane {
            dir: dir.to_owned(),
            lone: lone.to_owned(),
            dice: Dice::new(seed),
            node: None,
            configured: false,
            crashes: 0,
        };
        lane.start();
        lane
    }

    /// Ends it; nothing is left.
    pub fn end(mut self) {
        let node = self.node.take().unwrap();
        assert!(node.stop().success(), "it did not end well");
        let left = all_of(&self.dir);
        assert!(left.is_empty(), "left after a clean stop: {left:?}");
    }

    fn start(&mut self) {
        self.crashes = 0;
        self.node = Some(Node::start(&self.dir.join("home"), &self.dir.join("node.log")));
        self.node().until_it_answers();
    }

    fn node(&self) -> &Node {
        self.node.as_ref().unwrap()
    }

    /// One round.
    pub fn round(&mut self, round: u64) -> Times {
        let (app, event) = (App::choose(&mut self.dice), Event::choose(&mut self.dice));
        let context = format!("round {round}, {event}, an app {}, in {}", app.name(), self.dir.display());
        if self.crashes >= CRASHES_PER_SUPERVISOR {
            assert!(self.node.take().unwrap().stop().success(), "{context}: it did not end well");
            self.start();
        }
        self.configure(app, round, &context);
        std::thread::sleep(Duration::from_millis(self.dice.below(300) as u64));
        let all = all_of(&self.dir);
        let before: Vec<Watched> = all
            .into_iter()
            .filter(|process| process.is_apps() || event == Event::SupervisorKilled && process.is_node())
            .collect();
        if app == App::Stopped {
            before.iter().filter(|process| process.is_apps()).for_each(|process| signal(process.pid, "STOP"));
        }
        let (happened, begun) = (now(), Instant::now());
        self.happen(event);
        until_ended(&before, &context);
        let dead = begun.elapsed();
        self.recover(event, app, round, happened, &context);
        let well = begun.elapsed();
        let asked = self.lines(round).into_iter().find(|line| line.what == 't' && line.at >= happened);
        let asked = asked.map(|line| Duration::from_nanos((line.at - happened).unsigned_abs()));
        Times { event, app: app.name(), asked, dead, well }
    }

    /// The node runs this app, and nothing else of the app's runs.
    fn configure(&mut self, app: App, round: u64, context: &str) {
        let config = json!({
            "name": "soak",
            "app": {
                "command": app.command(&self.lone, &self.dir, round),
                "restart_delay": "10ms",
                "stop_timeout": format!("{}ms", STOP_TIMEOUT.as_millis()),
            },
        });
        let method = if self.configured { "PUT" } else { "POST" };
        self.node().ok(method, "/config", &config.to_string());
        self.configured = true;
        self.until_runs(app, round, 0, context);
    }

    /// Waits until a copy that began after a moment runs, and the node knows it.
    fn until_runs(&self, app: App, round: u64, since: i64, context: &str) {
        let begun =
            || self.lines(round).iter().filter(|line| "be".contains(line.what) && line.at > since).count();
        until(&format!("{context}: the app runs"), || begun() >= app.notes());
        until(&format!("{context}: the node has it running"), || {
            let answer = self.node().json("GET", "/status", "");
            answer.is_ok_and(|(_, status)| {
                status["process"]["state"] == "running" && status["state"] == "primary"
            })
        });
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::NodeKilled => signal(self.node().node().unwrap(), "KILL"),
            Event::SupervisorKilled => signal(self.node().supervisor(), "KILL"),
            Event::NodeFrozen => signal(self.node().node().unwrap(), "STOP"),
            Event::AppKilled => {
                let status: Value = self.node().ok("GET", "/status", "");
                signal(status["process"]["pid"].as_u64().unwrap() as u32, "KILL");
            }
            Event::Term => signal(self.node().supervisor(), "TERM"),
        }
    }

    /// Another copy runs, and nothing of the one before.
    fn recover(&mut self, event: Event, app: App, round: u64, happened: i64, context: &str) {
        match event {
            Event::SupervisorKilled | Event::Term => {
                let mut node = self.node.take().unwrap();
                until(&format!("{context}: the supervisor is gone"), || node.has_ended());
                let left: Vec<Watched> = all_of(&self.dir);
                assert!(left.is_empty(), "{context}: left: {left:?}");
                self.start();
            }
            Event::NodeKilled | Event::NodeFrozen => self.crashes += 1,
            Event::AppKilled => {}
        }
        self.until_runs(app, round, happened, context);
        let lines = self.lines(round);
        let copies: Vec<&Line> = lines.iter().filter(|line| line.what == 'v').collect();
        assert!(copies.is_empty(), "{context}: two copies at once: {copies:?}");
        let known = |pid| lines.iter().any(|line| line.pid == pid && line.at > happened);
        let apps =
            all_of(&self.dir).into_iter().filter(|process| process.line.starts_with(&self.lone_path()));
        let strangers: Vec<Watched> = apps.filter(|process| !known(process.pid)).collect();
        assert!(strangers.is_empty(), "{context}: left of the run before: {strangers:?}");
    }

    fn lone_path(&self) -> String {
        self.lone.display().to_string()
    }

    /// The lines of a round.
    fn lines(&self, round: u64) -> Vec<Line> {
        let text = std::fs::read_to_string(self.dir.join("journal")).unwrap_or_default();
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let line = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let number = |at: usize| words[at].parse::<i64>().unwrap();
            (number(1) == round as i64).then(|| Line {
                what: words[0].chars().next().unwrap(),
                pid: number(2) as u32,
                at: number(3),
            })
        };
        whole.filter_map(line).collect()
    }
}
