//! Afterwards: every checkpoint exported and held against the journals, restores taken into account.

use super::super::journal::{Journal, Nanos};
use super::super::model::{Known, Turn, known};
use super::{DATABASES, Events, Made, Restored, Run, Target, churn};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// How exactly a moment named by the node is known.
const MOMENT_SLACK: Nanos = 200_000_000;

/// The rows of each database; the numbers of the databases that came under the load are rows of `churn`.
type Rows = BTreeMap<&'static str, BTreeSet<i64>>;
/// A restore, seen by every database.
type Turns = BTreeMap<&'static str, Turn>;

struct Judge<'a> {
    run: &'a Run,
    journals: BTreeMap<&'static str, Journal>,
    turns: Vec<(&'a Restored, Turns)>,
    targets: BTreeMap<String, Rows>,
    /// Restores that were refused.
    held: Vec<(Nanos, Nanos)>,
}

/// Every name that rows are kept under, and its journal.
fn names() -> impl Iterator<Item = (&'static str, &'static str)> {
    DATABASES.into_iter().chain([(churn::JOURNAL, churn::JOURNAL)])
}

/// Holds everything against the journals and prints the figures.
pub fn verify(run: &Run) {
    let events = run.events.lock().unwrap();
    let journals: BTreeMap<_, _> = names().map(|(_, name)| (name, run.journal(name))).collect();
    let held = events.held.iter().map(|(from, to, _)| (*from, *to)).collect();
    let mut judge = Judge { run, journals, turns: Vec::new(), targets: BTreeMap::new(), held };
    let mut restored = events.restored.iter().peekable();
    for made in &events.made {
        while let Some(turn) = restored.next_if(|turn| turn.to <= made.to) {
            judge.take_turn(turn);
        }
        // One that runs now: what it turned to was exported before.
        let under_way = restored.peek().filter(|turn| turn.from < made.to).copied();
        judge.hold(made, under_way);
    }
    for (path, _) in DATABASES {
        let verified = run.node.ok("POST", &format!("/databases/{path}"), r#"{"action":"verify"}"#);
        assert_eq!(verified["ok"], true, "{verified}");
    }
    judge.no_timeout_needed();
    judge.print(&events);
}

impl<'a> Judge<'a> {
    /// Between which moments a checkpoint was made, and what is known of it if these restores were the last.
    fn expect(&self, turns: Option<&Turns>, from: Nanos, to: Nanos) -> BTreeMap<&'static str, Known> {
        let of = |(path, name)| {
            (path, known(&self.journals[name], turns.and_then(|turns| turns.get(path)), from, to))
        };
        names().map(of).collect()
    }

    fn take_turn(&mut self, restored: &'a Restored) {
        let turns = self.turn_of(restored);
        self.turns.push((restored, turns));
    }

    fn turn_of(&self, restored: &Restored) -> Turns {
        let bases: BTreeMap<&'static str, Known> = match &restored.target {
            Target::Checkpoint(id) => {
                let rows = &self.targets[id];
                rows.iter().map(|(path, rows)| (*path, Known::exactly(rows.clone()))).collect()
            }
            Target::Undo => {
                let (undone, _) = self.turns.last().unwrap();
                let before = self.turns.iter().rev().nth(1).map(|(_, turns)| turns);
                self.expect(before, undone.from, undone.to)
            }
            Target::Time(moment) => self.around(*moment),
        };
        let turn = |(path, base)| (path, Turn { from: restored.from, to: restored.to, base });
        bases.into_iter().map(turn).collect()
    }

    /// What is known of a moment that the node named. A restore that ran then may have been over or not.
    fn around(&self, moment: Nanos) -> BTreeMap<&'static str, Known> {
        let (from, to) = (moment - MOMENT_SLACK, moment + 2_000_000);
        let mut known: Option<BTreeMap<&'static str, Known>> = None;
        for (turn, turns) in self.turns.iter().rev().filter(|(turn, _)| turn.from <= to) {
            let this = self.expect(Some(turns), from, to);
            known = Some(known.map_or(this.clone(), |known| either(&known, &this)));
            if turn.to <= from {
                return known.unwrap_or(this);
            }
        }
        let first = self.expect(None, from, to);
        known.map_or(first.clone(), |known| either(&known, &first))
    }

    /// One checkpoint against the journals.
    fn hold(&mut self, made: &Made, under_way: Option<&Restored>) {
        let found = self.export(made);
        let overlapped = self.turns.last().filter(|(turn, _)| turn.to > made.from);
        let settled = self.turns.iter().rev().find(|(turn, _)| turn.to <= made.from).map(|(_, turns)| turns);
        let mut variants = vec![self.expect(settled, made.from, made.to)];
        if let Some((_, turns)) = overlapped {
            variants.push(self.expect(Some(turns), made.from, made.to));
        }
        if let Some(restored) = under_way {
            variants.push(self.expect(Some(&self.turn_of(restored)), made.from, made.to));
        }
        let complaints: Vec<String> =
            variants.iter().map(|expected| contradictions(expected, &found)).collect();
        let last = self.turns.last().map(|(turn, _)| turn);
        assert!(
            complaints.iter().any(String::is_empty),
            "checkpoint {made:?} after {last:?} does not hold what it must: {complaints:#?}"
        );
        self.targets.insert(made.id.clone(), found);
    }

    /// `stead checkpoint export`: every database of it, sound, with the invariant over two.
    fn export(&self, made: &Made) -> Rows {
        let dir = self.run.desk.dir.join("export");
        let out = Command::new(super::super::stead())
            .args(["checkpoint", "export", &made.id])
            .arg(&dir)
            .arg("--home")
            .arg(self.run.node.home())
            .output()
            .unwrap();
        assert!(out.status.success(), "export {made:?}: {}", String::from_utf8_lossy(&out.stderr));
        let mut rows: Rows = names().map(|(path, _)| (path, BTreeSet::new())).collect();
        for path in made.vector.keys() {
            if churn::number(path).is_some() && !has_entries(&dir.join(path)) {
                // Seen between the change to WAL mode and the table: it is not there yet.
                continue;
            }
            let found = sound_rows(&dir.join(path), path);
            if let Some(number) = churn::number(path) {
                assert_eq!(found.len() as i64, churn::ROWS, "{path} in {}", made.id);
                rows.get_mut(churn::JOURNAL).unwrap().insert(number);
            } else {
                *rows.get_mut(path.as_str()).unwrap() = found;
            }
        }
        let sums = ["data/left.db", "data/right.db"].map(|path| total(&dir.join(path)));
        assert_eq!(sums[0], sums[1], "{}: the two attached databases disagree", made.id);
        assert_eq!(rows["data/left.db"], rows["data/right.db"], "{}: rows of one transaction", made.id);
        std::fs::remove_dir_all(&dir).unwrap();
        rows
    }

    /// A writer without a busy timeout saw "database is locked" during restores only.
    fn no_timeout_needed(&self) {
        for (id, row) in &self.journals["lone"].rows {
            let Some((at, reason)) = &row.refused else { continue };
            let mut windows =
                self.turns.iter().map(|(turn, _)| (turn.from, turn.to)).chain(self.held.iter().copied());
            let excused = windows.any(|(from, to)| from <= *at && row.begun <= to);
            assert!(excused, "row {id} of the lone writer was refused outside a restore at {at}: {reason}");
        }
    }

    fn print(&self, events: &Events) {
        let mut took: Vec<f64> = events.made.iter().map(|made| (made.to - made.from) as f64 / 1e6).collect();
        took.sort_by(f64::total_cmp);
        let at = |part: f64| took[((took.len() - 1) as f64 * part) as usize];
        println!(
            "checkpoints: {} exported, all sound and exact; {} refused",
            took.len(),
            events.refused.len()
        );
        println!(
            "  p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms, the request included",
            at(0.5),
            at(0.99),
            at(1.0)
        );
        println!("restores: {} done, {} refused", events.restored.len(), events.held.len());
        let reasons: BTreeSet<&String> =
            events.refused.iter().chain(events.held.iter().map(|(_, _, reason)| reason)).collect();
        reasons.iter().for_each(|reason| println!("  refused: {reason}"));
        for (path, name) in names() {
            let journal = &self.journals[name];
            let refused = journal.rows.values().filter(|row| row.refused.is_some()).count();
            println!(
                "  {path}: {} rows acknowledged, {refused} refused, longest stall {:.0} ms, {:.0} ms outside restores",
                journal.acked(),
                journal.longest_stall_ms(),
                self.stall_outside_ms(journal)
            );
        }
        let truncate = self.run.journal("truncate");
        let (done, all) = (truncate.acked(), truncate.rows.len());
        println!(
            "wal_checkpoint(TRUNCATE): {done} of {all} done, longest {:.0} ms",
            truncate.longest_stall_ms()
        );
        for (turn, _) in &self.turns {
            let took = (turn.to - turn.from) as f64 / 1e6;
            println!("restore to {:?}: {took:.0} ms, {:.0?}", turn.target, turn.steps);
        }
    }

    fn stall_outside_ms(&self, journal: &Journal) -> f64 {
        let outside = journal.rows.values().filter_map(|row| {
            let acked = row.acked?;
            let touched = self.turns.iter().any(|(turn, _)| turn.from <= acked && row.begun <= turn.to);
            (!touched).then_some(acked - row.begun)
        });
        outside.max().unwrap_or(0) as f64 / 1e6
    }
}

fn either(
    a: &BTreeMap<&'static str, Known>,
    b: &BTreeMap<&'static str, Known>,
) -> BTreeMap<&'static str, Known> {
    a.iter().map(|(path, known)| (*path, known.or(&b[path]))).collect()
}

fn contradictions(expected: &BTreeMap<&'static str, Known>, found: &Rows) -> String {
    let lines: Vec<String> = expected
        .iter()
        .filter_map(|(path, known)| Some(format!("{path}: {}", known.contradiction(&found[path])?)))
        .collect();
    lines.join("; ")
}

/// The ids in a database that SQLite finds sound.
pub fn sound_rows(file: &Path, path: &str) -> BTreeSet<i64> {
    let conn = rusqlite::Connection::open(file).unwrap();
    let verdict: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok", "{path}");
    let mut statement = conn.prepare("SELECT id FROM entries").unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

fn has_entries(file: &Path) -> bool {
    let conn = rusqlite::Connection::open(file).unwrap();
    conn.prepare("SELECT id FROM entries").is_ok()
}

fn total(file: &Path) -> i64 {
    let conn = rusqlite::Connection::open(file).unwrap();
    conn.query_row("SELECT coalesce(sum(data), 0) FROM entries", [], |row| row.get(0)).unwrap()
}
