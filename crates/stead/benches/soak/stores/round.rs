//! A round: full-speed writes while the store fails in every way, then the machine is lost and the store alone remains.

use super::super::Dice;
use super::super::node::until;
use super::servers::Kind;
use super::site::{DATABASES, Party, REST, Site};
use super::told::{Made, Told, last_noted};
use super::trouble::Trouble;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What happened in all rounds.
#[derive(Debug, Default)]
pub struct Figures {
    rounds: u64,
    written: i64,
    found: i64,
    told: i64,
    outages: BTreeMap<Trouble, u64>,
    checkpoints: usize,
    back_ms: Vec<f64>,
    up_ms: Vec<f64>,
    fell: u64,
}

/// Runs one; panics where anything is not as promised.
pub fn run(number: u64, seconds: u64, kind: Kind, dir: &Path, dice: &mut Dice, figures: &mut Figures) {
    let mut site = Site::new(kind, dir);
    let party = site.found("writer");
    let (mut back, mut outages) = (Vec::new(), Vec::new());
    let (last, mut told) = watched(&party, || {
        let end = Instant::now() + Duration::from_secs(seconds);
        trouble(&mut site, &party, end, dice, &mut outages, &mut back)
    });
    let exact = rows_told(&party, &told);
    if let Some(status) = party.status() {
        told.take_status(&status);
    }
    let journal = party.journal().to_owned();
    party.kill();
    // One more may be committed and not noted.
    let written = last_noted(&journal) + 1;
    if let Some(last) = last {
        last.end(&mut site.server, &site.way);
    }
    std::fs::remove_dir_all(site.home("writer")).unwrap();

    let began = Instant::now();
    let heir = site.heir(REST);
    heir.node.until_healthy();
    let up_ms = began.elapsed().as_secs_f64() * 1000.0;
    let found = heir.rows();
    println!(
        "round {number}, {kind:?}: {} rows a database, stored to {:?} as told (seals {:?}), found {found:?}; \
         outages {outages:?}, back after {:.1} s at most; killed during {last:?}; up after {up_ms:.0} ms",
        written - 1,
        DATABASES.map(|path| exact[path]),
        told.highest.values().collect::<Vec<_>>(),
        back.iter().copied().fold(0.0, f64::max) / 1000.0,
    );
    for path in DATABASES {
        let (least, is) = (exact[path], found[path]);
        assert!(least > 0, "{path}: nothing was called stored, so nothing is proven");
        assert!(
            least <= is && is <= written,
            "{path}: 1 to {least} of {written} were stored, and {is} are there"
        );
    }
    let checkpoints = hold_checkpoints(&heir, &told, dice);
    heir.kill();
    figures.rounds += 1;
    figures.written += written - 1;
    figures.found += found.values().min().unwrap();
    figures.told += exact.values().min().unwrap();
    figures.checkpoints += checkpoints;
    figures.fell += told.fell;
    figures.back_ms.extend(back);
    figures.up_ms.push(up_ms);
    outages.into_iter().chain(last).for_each(|trouble| *figures.outages.entry(trouble).or_default() += 1);
}

/// Does something while status is looked at and checkpoints are made: what that returned, and what was told.
pub fn watched<T>(party: &Party, act: impl FnOnce() -> T) -> (T, Told) {
    struct Ends<'a>(&'a AtomicBool);
    impl Drop for Ends<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let (told, over) = (Mutex::default(), AtomicBool::new(false));
    let done = std::thread::scope(|scope| {
        // Also where what is done panics: the scope waits for the other thread.
        let _ends = Ends(&over);
        scope.spawn(|| party.watch(&told, &over));
        act()
    });
    (done, told.into_inner().unwrap())
}

/// One trouble after another, with calm between. The one that is not over at the end, if any.
fn trouble(
    site: &mut Site,
    party: &Party,
    end: Instant,
    dice: &mut Dice,
    past: &mut Vec<Trouble>,
    back_ms: &mut Vec<f64>,
) -> Option<Trouble> {
    loop {
        std::thread::sleep(Duration::from_millis(300 + dice.below(2500) as u64));
        if Instant::now() >= end {
            return None;
        }
        let trouble = Trouble::any(dice);
        trouble.begin(&mut site.server, &site.way, dice);
        std::thread::sleep(Duration::from_millis(300 + dice.below(6000) as u64));
        if Instant::now() >= end && dice.below(2) == 0 {
            return Some(trouble);
        }
        trouble.end(&mut site.server, &site.way);
        past.push(trouble);
        let began = Instant::now();
        // Whatever is called stored after this moment was sent after it.
        let goal = party.checkpoint();
        until(&format!("the store has what was committed before {trouble:?} was over"), || {
            party.status().is_some_and(|status| has(&status, &goal))
        });
        back_ms.push(began.elapsed().as_secs_f64() * 1000.0);
    }
}

/// Whether a status calls all of a checkpoint stored.
pub fn has(status: &Value, made: &Value) -> bool {
    status["databases"].as_array().unwrap().iter().all(|database| {
        let goal = &made["databases"][database["path"].as_str().unwrap()]["txid"];
        database["stored_txid"].as_u64() >= goal.as_u64()
    })
}

/// Rows 1 to these were called stored: by the checkpoints, and by the node's own image of what it called stored.
fn rows_told(party: &Party, told: &Told) -> BTreeMap<&'static str, i64> {
    DATABASES
        .map(|path| {
            let covered = told.rows(path);
            let highest = told.highest.get(path).copied().unwrap_or(0);
            let Some(exact) = party.rows_at(path, highest) else { return (path, covered) };
            assert!(exact >= covered, "{path} had {exact} rows at {highest}, which covers {covered}");
            (path, exact)
        })
        .into()
}

/// Every checkpoint that was called stored is listed and has its rows; one of them is restored.
fn hold_checkpoints(heir: &Party, told: &Told, dice: &mut Dice) -> usize {
    let listed = heir.node.ok("GET", "/checkpoint", "");
    let listed: Vec<&str> =
        listed["checkpoints"].as_array().unwrap().iter().map(|made| made["id"].as_str().unwrap()).collect();
    let stored: Vec<&Made> = told.stored().collect();
    for made in &stored {
        assert!(
            listed.contains(&made.id.as_str()),
            "{made:?} was called stored and is not listed: {listed:?}"
        );
    }
    if stored.is_empty() {
        return 0;
    }
    let made = stored[dice.below(stored.len())];
    heir.node.ok("POST", "/restore", &json!({ "id": made.id }).to_string());
    heir.node.until_healthy();
    for (path, rows) in heir.rows() {
        assert!(rows >= made.rows, "{path} has {rows} rows after a restore to {made:?}");
    }
    stored.len()
}

impl Figures {
    /// All of it.
    pub fn print(&self) {
        if self.rounds == 0 {
            return;
        }
        println!(
            "{} rounds: {} rows in each database, {} called stored, {} found, none missing; {} checkpoints stored, all found",
            self.rounds, self.written, self.told, self.found, self.checkpoints
        );
        println!("  outages: {:?}; status told less than before {} times", self.outages, self.fell);
        for (what, times) in [("back in step", &self.back_ms), ("up from the store", &self.up_ms)] {
            let mut times = times.clone();
            times.sort_by(f64::total_cmp);
            let (Some(longest), median) = (times.last(), times.get(times.len() / 2)) else { continue };
            println!("  {what} after p50 {:.0} ms, max {longest:.0} ms", median.unwrap_or(longest));
        }
    }
}
