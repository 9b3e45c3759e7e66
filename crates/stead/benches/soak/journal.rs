//! What a writer wrote down: each row, when it was asked for and when it was acknowledged.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds since 1970, on the clock that the writers use.
pub type Nanos = i64;

/// Now.
pub fn now() -> Nanos {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as Nanos
}

/// One row.
#[derive(Clone, Debug)]
pub struct Row {
    /// Before the request.
    pub begun: Nanos,
    /// After the acknowledgement.
    pub acked: Option<Nanos>,
    /// When it was refused, and why.
    pub refused: Option<(Nanos, String)>,
}

/// A writer's rows by id, and the pids it noted.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    /// The rows.
    pub rows: BTreeMap<i64, Row>,
    /// Its processes, oldest first.
    pub pids: Vec<u32>,
}

impl Journal {
    /// Reads what there is; a line that is still being written is left out.
    pub fn read(path: &Path) -> Journal {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let mut journal = Journal::default();
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            journal.take(line.trim_end());
        }
        journal
    }

    fn take(&mut self, line: &str) {
        let mut words = line.splitn(4, ' ');
        let mut word = || words.next().unwrap_or_default();
        let (what, number) = (word(), word().parse::<i64>().unwrap());
        let at: Nanos = word().parse().unwrap();
        match what {
            "b" => drop(self.rows.insert(number, Row { begun: at, acked: None, refused: None })),
            "a" => self.rows.get_mut(&number).unwrap().acked = Some(at),
            "x" => self.rows.get_mut(&number).unwrap().refused = Some((at, word().to_owned())),
            "p" => self.pids.push(number as u32),
            other => panic!("a journal line of kind {other}"),
        }
    }

    /// How many were acknowledged.
    pub fn acked(&self) -> usize {
        self.rows.values().filter(|row| row.acked.is_some()).count()
    }

    /// The longest time from request to acknowledgement, milliseconds.
    pub fn longest_stall_ms(&self) -> f64 {
        let times = self.rows.values().filter_map(|row| row.acked.map(|at| at - row.begun));
        times.max().unwrap_or(0) as f64 / 1e6
    }
}
