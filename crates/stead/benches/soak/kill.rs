//! `soak kill`: node, supervisor and app are killed at random moments under load, alone and together.
//!
//! After each: nothing that was acknowledged is missing from the database or from history, the first seal holds only
//! pages that differ, nothing of the former run is left, and everything is healthy again. Now and then a restore runs
//! when the kill comes: it took place in all databases or in none.

mod first_seal;
pub mod left;

use super::journal::{Journal, Nanos, now};
use super::load::sound_rows;
use super::model::{Known, Turn, known};
use super::node::{Node, signal, until};
use super::writers::{Desk, Outside, create};
use super::{Dice, Scratch};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The databases: the app's, and that of a writer outside.
const DATABASES: [(&str, &str); 2] = [("data/app.db", "app"), ("data/out.db", "out")];
/// Processes that were killed this often by one supervisor are slow to come back; it is started anew instead.
const KILLS_PER_SUPERVISOR: u32 = 2;

/// Some rows in a journal.
const SOME_ROWS_BYTES: u64 = 500;
/// Seconds between two rows, so that databases stay small over hundreds of rounds.
const PACE: &str = "0.03";

/// How often, and from which seed.
#[derive(Clone, Copy, Debug)]
pub struct Kill {
    /// Rounds.
    pub rounds: u64,
    /// The seed.
    pub seed: u64,
}

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Victims {
    supervisor: bool,
    node: bool,
    app: bool,
}

impl Victims {
    /// All seven choices come round.
    fn choose(round: u64) -> Victims {
        let bits = round % 7 + 1;
        Victims { supervisor: bits & 4 != 0, node: bits & 1 != 0, app: bits & 2 != 0 }
    }
}

impl std::fmt::Display for Victims {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all = [(self.supervisor, "supervisor"), (self.node, "node"), (self.app, "app")];
        let names: Vec<&str> = all.iter().filter(|(is, _)| *is).map(|(_, name)| *name).collect();
        f.write_str(&names.join(" + "))
    }
}

/// The rows of each database.
type Rows = BTreeMap<&'static str, BTreeSet<i64>>;
type Turns = BTreeMap<&'static str, Turn>;

struct Run {
    desk: Desk,
    home: PathBuf,
    log: PathBuf,
    node: Option<Node>,
    outside: Outside,
    dice: Dice,
    kills: u32,
    /// The last checkpoint, and what it held.
    held: Option<(String, Rows)>,
    turns: Option<Turns>,
    figures: Figures,
}

#[derive(Debug, Default)]
struct Figures {
    rounds: BTreeMap<Victims, u32>,
    recovery_ms: Vec<f64>,
    restores_done: u32,
    restores_not_done: u32,
    clean_stops: u32,
    first_seals: u32,
    first_seal_pages: u64,
    differing_pages: u64,
    database_pages: u64,
}

/// Runs it; panics where anything is not as promised.
pub fn run(kill: Kill) {
    let dir = Scratch::new("kill");
    let (home, desk) = (dir.path().join("home"), Desk::new(dir.path(), PACE));
    for (path, _) in DATABASES {
        create(&home.join(path));
    }
    let log = dir.path().join("node.log");
    let node = Node::start(&home, &log);
    node.until_it_answers();
    let config = json!({
        "name": "soak",
        "databases": [{ "dir": "data", "pattern": "**/*.db" }],
        "app": {
            "command": desk.command("app", "app", &[home.join("data/app.db")]),
            "restart_delay": "10ms",
            "env": { "SOAK_PACE": PACE },
        },
    });
    node.ok("POST", "/config", &config.to_string());
    let outside = desk.spawn("plain", "out", &[home.join("data/out.db")]);
    let mut run = Run {
        desk,
        home,
        log,
        node: Some(node),
        outside,
        dice: Dice::new(kill.seed),
        kills: 0,
        held: None,
        turns: None,
        figures: Figures::default(),
    };
    for round in 0..kill.rounds {
        run.round(round);
    }
    run.stop_cleanly();
    run.figures.print();
    dir.done();
}

impl Run {
    fn node(&self) -> &Node {
        self.node.as_ref().unwrap()
    }

    fn journal(&self, name: &str) -> Journal {
        Journal::read(&self.desk.journal(name))
    }

    fn round(&mut self, round: u64) {
        let victims = Victims::choose(round);
        self.node().until_healthy();
        self.until_both_write();
        let pause = Duration::from_millis(self.dice.below(900) as u64);
        let restoring = self.held.is_some() && self.dice.below(4) == 0;
        let before = left::processes_of(&self.home);
        let (killed_at, restored_from) = self.kill_under_load(victims, pause, restoring);
        let recovery = Instant::now();
        self.recover(victims);
        self.figures.recovery_ms.push(recovery.elapsed().as_secs_f64() * 1000.0);
        self.until_both_write();
        let context =
            format!("round {round}, {victims:?}, restore from {restored_from:?}, killed at {killed_at}");
        left::none_of(&before, victims.supervisor, victims.node, &context);
        self.hold(restored_from, &context);
        if victims.node || victims.supervisor {
            self.hold_first_seal(killed_at, &context);
        }
        if round % 5 == 4 {
            self.verify(&context);
        }
        self.outside.assert_alive();
        *self.figures.rounds.entry(victims).or_default() += 1;
        self.kills = if victims.supervisor { 0 } else { self.kills + 1 };
        if self.kills >= KILLS_PER_SUPERVISOR {
            self.stop_cleanly();
            self.start();
        }
    }

    fn start(&mut self) {
        self.kills = 0;
        self.node = Some(Node::start(&self.home, &self.log));
        self.node().until_healthy();
    }

    fn stop_cleanly(&mut self) {
        let node = self.node.take().unwrap();
        node.until_healthy();
        assert!(node.stop().success(), "it did not end well");
        let left = left::processes_of(&self.home);
        assert!(left.is_empty(), "left after a clean stop: {left:?}");
        self.figures.clean_stops += 1;
    }

    fn until_both_write(&self) {
        let length = |name: &str| std::fs::metadata(self.desk.journal(name)).map_or(0, |at| at.len());
        for (_, name) in DATABASES {
            let before = length(name);
            until("both write", || length(name) > before + SOME_ROWS_BYTES);
        }
    }

    /// Checkpoints run, perhaps a restore too, and then it is over. When that was, and when the restore began.
    fn kill_under_load(
        &mut self,
        victims: Victims,
        pause: Duration,
        restoring: bool,
    ) -> (Nanos, Option<Nanos>) {
        let over = AtomicBool::new(false);
        let until_kill = self.dice.below(600) as u64;
        let node = self.node();
        let app = node.ok("GET", "/status", "")["process"]["pid"].as_u64().unwrap() as u32;
        let pids = [
            victims.supervisor.then(|| node.supervisor()),
            victims.node.then(|| node.node().unwrap()),
            victims.app.then_some(app),
        ];
        let target = self.held.as_ref().map(|(id, _)| json!({ "id": id }).to_string());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    let _ = node.request("POST", "/checkpoint", "{}");
                    std::thread::sleep(Duration::from_millis(30));
                }
            });
            std::thread::sleep(pause);
            let restored_from = restoring.then(now);
            if let (true, Some(body)) = (restoring, target) {
                scope.spawn(move || node.request("POST", "/restore", &body));
                std::thread::sleep(Duration::from_millis(until_kill));
            }
            let killed_at = now();
            pids.into_iter().flatten().for_each(|pid| signal(pid, "KILL"));
            over.store(true, Ordering::SeqCst);
            (killed_at, restored_from)
        })
    }

    fn recover(&mut self, victims: Victims) {
        if victims.supervisor {
            let mut node = self.node.take().unwrap();
            until("the supervisor is gone", || node.has_ended());
            if !victims.node && self.dice.below(2) == 0 {
                // Without its supervisor the node ends everything; without both, the next start does.
                let home = self.home.clone();
                until("node and app end without a supervisor", || left::processes_of(&home).is_empty());
            }
            self.start();
        } else {
            std::thread::sleep(Duration::from_millis(20));
        }
        self.node().until_healthy();
    }

    /// Everything acknowledged is in the files and in the newest seal.
    fn hold(&mut self, restored_from: Option<Nanos>, context: &str) {
        let settled = now();
        let journals: BTreeMap<&str, Journal> = DATABASES.map(|(_, name)| (name, self.journal(name))).into();
        let from = now();
        let made = self.node().ok("POST", "/checkpoint", "{}");
        let to = now();
        let late: BTreeMap<&str, Journal> = DATABASES.map(|(_, name)| (name, self.journal(name))).into();
        let found: Rows =
            DATABASES.map(|(path, _)| (path, self.image_rows(path, &made["databases"][path]))).into();
        let of = |turns: Option<&Turns>, path: &str, name: &str| {
            known(&late[name], turns.and_then(|turns| turns.get(path)), from, to)
        };
        let complaints = |turns: Option<&Turns>| -> Vec<String> {
            let all = DATABASES.into_iter();
            all.filter_map(|(path, name)| {
                let wrong = of(turns, path, name).contradiction(&found[path])?;
                Some(format!("{path}: {wrong}"))
            })
            .collect()
        };
        let without = complaints(self.turns.as_ref());
        let turned = restored_from.map(|from| self.turned(from, settled));
        let with = turned.as_ref().map(|turns| complaints(Some(turns)));
        match (without.is_empty(), with) {
            (true, Some(_)) => self.figures.restores_not_done += 1,
            (true, None) => {}
            (false, Some(with)) if with.is_empty() => {
                self.figures.restores_done += 1;
                self.turns = turned;
            }
            (_, with) => panic!("{context}: not restored: {without:?}; restored: {with:?}"),
        }
        for (path, name) in DATABASES {
            self.hold_live(path, &journals[name], from, context);
        }
        self.held = Some((made["id"].as_str().unwrap().to_owned(), found));
    }

    fn turned(&self, from: Nanos, to: Nanos) -> Turns {
        let (_, rows) = self.held.as_ref().unwrap();
        let turn = |(path, rows): (&&'static str, &BTreeSet<i64>)| {
            (*path, Turn { from, to, base: Known::exactly(rows.clone()) })
        };
        rows.iter().map(turn).collect()
    }

    /// The file itself, read while everybody writes to it.
    fn hold_live(&self, path: &str, journal: &Journal, from: Nanos, context: &str) {
        let wanted = known(journal, self.turns.as_ref().and_then(|turns| turns.get(path)), from, from).must;
        let found = sound_rows(&self.home.join(path), path);
        let missing: Vec<&i64> = wanted.difference(&found).take(8).collect();
        assert!(missing.is_empty(), "{context}: {path} itself lacks {missing:?}");
    }

    fn image_rows(&self, path: &str, position: &Value) -> BTreeSet<i64> {
        let file = self.desk.dir.join("image.db");
        std::fs::write(&file, self.node().image(path, position["txid"].as_u64().unwrap())).unwrap();
        let rows = sound_rows(&file, path);
        std::fs::remove_file(&file).unwrap();
        rows
    }

    fn verify(&self, context: &str) {
        for (path, _) in DATABASES {
            let verified = self.node().ok("POST", &format!("/databases/{path}"), r#"{"action":"verify"}"#);
            assert_eq!(verified["ok"], true, "{context}: {verified}");
        }
    }

    fn hold_first_seal(&mut self, killed_at: Nanos, context: &str) {
        for (path, _) in DATABASES {
            let Some(seal) = first_seal::after(self.node(), path, killed_at) else { continue };
            assert!(seal.pages <= seal.differing, "{context}: {path}: {seal:?}");
            self.figures.first_seals += 1;
            self.figures.first_seal_pages += seal.pages;
            self.figures.differing_pages += seal.differing;
            self.figures.database_pages += seal.database;
        }
    }
}

impl Figures {
    fn print(&self) {
        for (victims, rounds) in &self.rounds {
            println!("{rounds} times {victims}");
        }
        let mut times = self.recovery_ms.clone();
        times.sort_by(f64::total_cmp);
        let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
        println!("healthy again after p50 {:.0} ms, p99 {:.0} ms, max {:.0} ms", at(0.5), at(0.99), at(1.0));
        let (done, not) = (self.restores_done, self.restores_not_done);
        println!("restores that were killed: {done} took place, {not} did not, none by half");
        println!(
            "{} first seals: {} pages, {} differ, of {}",
            self.first_seals, self.first_seal_pages, self.differing_pages, self.database_pages
        );
        println!("{} clean stops; nothing acknowledged was lost, nothing was left over", self.clean_stops);
    }
}
