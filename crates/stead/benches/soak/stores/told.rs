//! What status told of the store, and which rows that covers.
//!
//! The writer notes a row after its commit, so what is noted before a checkpoint is asked for is acknowledged before its
//! request, and the checkpoint holds it (semantics: `cut`). TXIDs of a history only grow. So once status tells of a
//! database that it is stored up to the checkpoint's TXID, or beyond, it has told that all of these rows are stored.
//! What was told at any time counts, whatever is told later.

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// A checkpoint, and the rows that were noted before it was asked for.
#[derive(Clone, Debug)]
pub struct Made {
    /// Its id.
    pub id: String,
    /// The rows are 1 to this one.
    pub rows: i64,
    /// Where each database was.
    pub txids: BTreeMap<String, u64>,
    /// Whether one status called all of it stored.
    pub stored: bool,
}

/// All that was told of one node's store.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Checkpoints, oldest first.
    pub made: Vec<Made>,
    /// The highest `stored_txid` of each database.
    pub highest: BTreeMap<String, u64>,
    /// How often status was read.
    pub samples: u64,
    /// How often less was told than before.
    pub fell: u64,
}

impl Told {
    /// Takes the answer to a checkpoint that was asked for when these rows were noted.
    pub fn take_checkpoint(&mut self, rows: i64, answer: &Value) {
        let txids = answer["databases"].as_object().unwrap().iter();
        let txids = txids.map(|(path, at)| (path.clone(), at["txid"].as_u64().unwrap())).collect();
        let id = answer["id"].as_str().unwrap().to_owned();
        self.made.push(Made { id, rows, txids, stored: false });
    }

    /// Takes a status.
    pub fn take_status(&mut self, status: &Value) {
        self.samples += 1;
        let mut now = BTreeMap::new();
        for database in status["databases"].as_array().unwrap() {
            let Some(txid) = database["stored_txid"].as_u64() else { continue };
            let path = database["path"].as_str().unwrap().to_owned();
            let highest = self.highest.entry(path.clone()).or_default();
            self.fell += u64::from(txid < *highest);
            *highest = txid.max(*highest);
            now.insert(path, txid);
        }
        for made in &mut self.made {
            made.stored |= made.txids.iter().all(|(path, txid)| now.get(path) >= Some(txid));
        }
    }

    /// Rows 1 to this one of a database were called stored.
    pub fn rows(&self, path: &str) -> i64 {
        let highest = self.highest.get(path).copied().unwrap_or(0);
        let covered = self.made.iter().filter(|made| made.txids.get(path).is_some_and(|at| *at <= highest));
        covered.map(|made| made.rows).max().unwrap_or(0)
    }

    /// The checkpoints that were called stored.
    pub fn stored(&self) -> impl DoubleEndedIterator<Item = &Made> {
        self.made.iter().filter(|made| made.stored)
    }
}

/// The last row that a writer has noted: read from the journal's end, since it grows fast.
pub fn last_noted(journal: &Path) -> i64 {
    use std::io::{Read, Seek, SeekFrom};
    const END_BYTES: u64 = 4096;
    let Ok(mut file) = std::fs::File::open(journal) else { return 0 };
    let length = file.metadata().unwrap().len();
    file.seek(SeekFrom::Start(length.saturating_sub(END_BYTES))).unwrap();
    let mut end = String::new();
    file.read_to_string(&mut end).unwrap();
    let mut whole = end.split_inclusive('\n').filter(|line| line.ends_with('\n')).rev();
    let last = whole.find_map(|line| line.strip_prefix("a ")?.split(' ').next()?.parse().ok());
    last.unwrap_or(0)
}
