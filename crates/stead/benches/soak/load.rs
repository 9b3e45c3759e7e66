//! `soak load`: outside processes write for a while, in every way that could be in Stead's way, while checkpoints and
//! restores run; then every checkpoint is exported and held against what the writers wrote down.

mod churn;
mod verify;

pub use verify::sound_rows;

use super::journal::{Journal, Nanos, now};
use super::node::{Node, until};
use super::writers::{Cli, Desk, Outside, create};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The databases, and whose journal tells what is in each.
pub const DATABASES: [(&str, &str); 6] = [
    ("data/app.db", "app"),
    ("data/one.db", "one"),
    ("data/deep/two.db", "two"),
    ("data/lone.db", "lone"),
    ("data/left.db", "pair"),
    ("data/right.db", "pair"),
];
/// Between two checkpoints.
const CHECKPOINT_EVERY: Duration = Duration::from_millis(200);

/// How long and how hard.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Of writing.
    pub seconds: u64,
    /// Between two restores.
    pub restore_every: Duration,
    /// The seed of what is random.
    pub seed: u64,
}

/// A checkpoint that was answered with 200.
#[derive(Clone, Debug)]
pub struct Made {
    /// Its id.
    pub id: String,
    /// Before the request.
    pub from: Nanos,
    /// After the reply.
    pub to: Nanos,
    /// The positions, by path.
    pub vector: serde_json::Map<String, Value>,
}

/// Where a restore went.
#[derive(Clone, Debug)]
pub enum Target {
    /// A checkpoint.
    Checkpoint(String),
    /// A moment, as the reply named it.
    Time(Nanos),
    /// Before the last restore.
    Undo,
}

/// A restore that was answered with 200.
#[derive(Clone, Debug)]
pub struct Restored {
    /// Before the request.
    pub from: Nanos,
    /// After the reply.
    pub to: Nanos,
    /// Where it went.
    pub target: Target,
    /// Each step of it and its milliseconds, as the node said.
    pub steps: Vec<(String, f64)>,
}

/// What happened.
#[derive(Debug, Default)]
pub struct Events {
    /// Checkpoints, in the order of their requests.
    pub made: Vec<Made>,
    /// Restores, likewise.
    pub restored: Vec<Restored>,
    /// Checkpoints that were refused, and why.
    pub refused: Vec<String>,
    /// Restores that were refused: before the request, after the reply, and why.
    pub held: Vec<(Nanos, Nanos, String)>,
}

/// One run.
pub struct Run {
    /// The node.
    pub node: Node,
    /// The writers' place.
    pub desk: Desk,
    /// What was asked.
    pub load: Load,
    /// What happened.
    pub events: Mutex<Events>,
    over: AtomicBool,
}

/// Runs it; panics where anything is not as promised.
pub fn run(load: Load) {
    let dir = super::Scratch::new("load");
    let (home, desk) = (dir.path().join("home"), Desk::new(dir.path(), "0.002"));
    for (path, _) in DATABASES {
        create(&home.join(path));
    }
    let node = Node::start(&home, &dir.path().join("node.log"));
    node.until_it_answers();
    let config = json!({
        "name": "soak",
        "databases": [{ "dir": "data", "pattern": "**/*.db" }],
        "app": { "command": desk.command("app", "app", &[home.join("data/app.db")]) },
    });
    node.ok("POST", "/config", &config.to_string());
    node.until_healthy();
    let run = Run { node, desk, load, events: Mutex::default(), over: AtomicBool::new(false) };
    run.write();
    verify::verify(&run);
    assert!(run.node.stop().success(), "the node did not end well");
    dir.done();
}

impl Run {
    fn file(&self, path: &str) -> PathBuf {
        self.node.home().join(path)
    }

    /// The journal of a database's writer.
    pub fn journal(&self, name: &str) -> Journal {
        Journal::read(&self.desk.journal(name))
    }

    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::SeqCst)
    }

    fn write(&self) {
        // Against the order of names: whoever waits for one while it holds the other would be stuck with the pair.
        let pair = [self.file("data/right.db"), self.file("data/left.db")];
        let lone = [self.file("data/lone.db")];
        let truncated: Vec<PathBuf> =
            DATABASES.iter().filter(|(_, name)| *name != "lone").map(|(path, _)| self.file(path)).collect();
        let one = [self.file("data/one.db")];
        let mut outside = [
            self.desk.spawn("plain", "one", &one),
            self.desk.spawn("lone", "lone", &lone),
            self.desk.spawn("pair", "pair", &pair),
            self.desk.spawn("reader", "reader", &one),
            self.desk.spawn("truncate", "truncate", &truncated),
        ];
        let two =
            Cli::spawn(&self.file("data/deep/two.db"), &self.desk.journal("two"), Duration::from_millis(2));
        for (_, name) in DATABASES {
            until("every writer writes", || self.journal(name).acked() > 0);
        }
        until("there is a first checkpoint", || {
            self.checkpoint("first");
            !self.events.lock().unwrap().made.is_empty()
        });
        std::thread::scope(|scope| {
            scope.spawn(|| self.ending(|| self.make_checkpoints()));
            scope.spawn(|| self.ending(|| self.restore_now_and_then()));
            scope.spawn(|| self.ending(|| churn::create_now_and_then(self)));
            self.ending(|| self.watch(&mut outside));
        });
        two.stop();
        drop(outside);
        self.node.ok("POST", "/app", r#"{"action":"stop"}"#);
        self.checkpoint("last");
    }

    /// Whoever fails ends it for all.
    fn ending(&self, work: impl FnOnce()) {
        struct End<'a>(&'a AtomicBool);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let _end = End(&self.over);
        work();
    }

    fn watch(&self, outside: &mut [Outside]) {
        let started = Instant::now();
        while self.goes_on() && started.elapsed() < Duration::from_secs(self.load.seconds) {
            outside.iter_mut().for_each(Outside::assert_alive);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn make_checkpoints(&self) {
        let mut number = 0;
        while self.goes_on() {
            number += 1;
            self.checkpoint(&format!("c{number}"));
            std::thread::sleep(CHECKPOINT_EVERY);
        }
    }

    fn checkpoint(&self, id: &str) {
        let from = now();
        let (status, answer) =
            self.node.json("POST", "/checkpoint", &json!({ "id": id }).to_string()).unwrap();
        let to = now();
        let mut events = self.events.lock().unwrap();
        if status == 200 {
            let vector = answer["databases"].as_object().unwrap().clone();
            events.made.push(Made { id: id.to_owned(), from, to, vector });
        } else {
            assert!(matches!(status, 409 | 503), "checkpoint: {status} {answer}");
            events.refused.push(answer["error"]["message"].to_string());
        }
    }

    fn restore_now_and_then(&self) {
        let mut random = super::Dice::new(self.load.seed);
        let mut number = 0;
        let mut next = Instant::now() + self.load.restore_every;
        while self.goes_on() {
            if Instant::now() < next {
                std::thread::sleep(Duration::from_millis(20));
                continue;
            }
            let (target, body) = self.choose(number, &mut random);
            if self.restore(target, &body) {
                number += 1;
                next = Instant::now() + self.load.restore_every;
            } else {
                next = Instant::now() + Duration::from_millis(200);
            }
        }
    }

    fn choose(&self, number: u32, random: &mut super::Dice) -> (Target, Value) {
        match number % 4 {
            2 => (Target::Undo, json!({ "undo": true })),
            3 => {
                let time = (now() - 1_500_000_000) / 1_000_000;
                (Target::Time(0), json!({ "time": time }))
            }
            _ => {
                let events = self.events.lock().unwrap();
                let id = events.made[random.below(events.made.len())].id.clone();
                let body = json!({ "id": id });
                (Target::Checkpoint(id), body)
            }
        }
    }

    /// Whether it was done; a process that happens to hold a database may be in its way.
    fn restore(&self, target: Target, body: &Value) -> bool {
        let from = now();
        let (status, answer) = self.node.json("POST", "/restore", &body.to_string()).unwrap();
        let to = now();
        let mut events = self.events.lock().unwrap();
        if status == 409 {
            events.held.push((from, to, answer["error"]["message"].to_string()));
            return false;
        }
        assert_eq!(status, 200, "restore {body}: {answer}");
        let target = match target {
            Target::Time(_) => Target::Time(moment(&answer["as_of"])),
            other => other,
        };
        let steps = answer["steps"].as_array().unwrap().iter();
        let steps =
            steps.map(|step| (step["step"].as_str().unwrap().to_owned(), step["ms"].as_f64().unwrap()));
        let steps = steps.collect();
        events.restored.push(Restored { from, to, target, steps });
        true
    }
}

/// A time of the API.
pub fn moment(value: &Value) -> Nanos {
    serde_json::from_value::<base::Timestamp>(value.clone()).unwrap().0 * 1_000_000
}
