//! A simulated object store: one bucket in memory that several simulated machines share, and all that goes wrong on
//! the way to it.
//!
//! ```text
//!   machine "a" ── SimStore ─┐   outages, script, chance     contents: whole objects,
//!                            ├──▶ (faults) ───────────────▶  written where a condition holds
//!   machine "b" ── SimStore ─┘        journal: every call, what came of it, counted
//! ```
//!
//! What is won is there and is read at once; listings may be old or lack objects. A write whose outcome is unknown may
//! arrive later, after other calls. One seed and one order of calls give one journal; threads bring their own order.
//! A machine whose disk has halted sends nothing any more.

mod contents;
mod faults;
mod journal;
mod store;

pub use faults::{Chances, Fault, Rule, Verb};
pub use journal::Traffic;
pub use store::SimStore;

use crate::{ErrorKind, Key};
use base::sim::{SimDisk, SimRandom};
use contents::{Condition, Contents};
use faults::Faults;
use journal::Journal;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The bucket, as a test holds it in its hand. A clone is the same bucket.
#[derive(Clone, Debug)]
pub struct SimBucket {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    contents: Contents,
    faults: Faults,
    journal: Journal,
    random: SimRandom,
    /// Writes that are still on their way, and how many calls before they arrive.
    late: Vec<(u64, LateWrite)>,
}

#[derive(Debug)]
struct LateWrite {
    machine: String,
    verb: Verb,
    key: Key,
    bytes: Arc<[u8]>,
    condition: Condition,
}

impl SimBucket {
    /// An empty bucket; the random stream decides what is left to chance.
    pub fn new(random: SimRandom) -> SimBucket {
        SimBucket::of(Contents::default(), random)
    }

    fn of(contents: Contents, random: SimRandom) -> SimBucket {
        let (faults, journal) = (Faults::default(), Journal::default());
        let state = State { contents, faults, journal, random, late: Vec::new() };
        SimBucket { state: Arc::new(Mutex::new(state)) }
    }

    /// The store as one machine sees it. Delays move the machine's clock.
    pub fn store_of(&self, name: &str, machine: &SimDisk) -> SimStore {
        SimStore::new(self.clone(), name, machine)
    }

    /// A bucket of its own with the same objects, where nothing goes wrong: to look at what could be restored now.
    pub fn calm_copy(&self) -> SimBucket {
        SimBucket::of(self.state().contents.clone(), SimRandom::new(0))
    }

    /// Adds a fault to the script. The oldest that is due is taken.
    pub fn script(&self, rule: Rule) {
        self.state().faults.script(rule);
    }

    /// Leaves faults to chance.
    pub fn set_chances(&self, chances: Chances) {
        self.state().faults.set_chances(chances);
    }

    /// Fails every call in a time, counted from the boot of the machine that asks; of one machine, or of all.
    pub fn outage(&self, machine: Option<&str>, when: Range<Duration>, kind: ErrorKind) {
        self.state().faults.outage(machine, when, kind);
    }

    /// Takes back the script, the outages and the chances. Late writes stay on their way.
    pub fn clear_faults(&self) {
        self.state().faults = Faults::default();
    }

    /// Lets every write that is on its way arrive.
    pub fn land_late_writes(&self) {
        self.state().land(u64::MAX);
    }

    /// Every call so far and what came of it, a line each.
    pub fn log(&self) -> Vec<String> {
        self.state().journal.lines().to_vec()
    }

    /// What was asked so far, by one machine or by all.
    pub fn traffic(&self, machine: Option<&str>) -> Traffic {
        self.state().journal.traffic(machine)
    }

    /// The keys of all objects.
    pub fn keys(&self) -> Vec<Key> {
        self.state().contents.keys()
    }

    /// An object's bytes.
    pub fn object(&self, key: &Key) -> Option<Vec<u8>> {
        self.state().contents.whole(key)
    }

    /// Writes an object over whatever is there, as somebody else's tool does.
    pub fn put(&self, key: &Key, bytes: &[u8]) {
        self.state().contents.put(key, bytes);
    }

    /// Turns bits of one stored byte over; the store does not notice. Whether there is such a byte.
    pub fn flip(&self, key: &Key, offset: usize, bits: u8) -> bool {
        let mut hit = false;
        self.state().contents.rot(key, |bytes| {
            if let Some(byte) = bytes.get_mut(offset) {
                *byte ^= bits;
                hit = bits != 0;
            }
        });
        hit
    }

    /// Cuts an object off; the store does not notice. Whether there is one.
    pub fn truncate(&self, key: &Key, len: usize) -> bool {
        self.state().contents.rot(key, |bytes| bytes.truncate(len))
    }

    /// Exchanges the contents of two objects. Whether there are both.
    pub fn swap(&self, one: &Key, other: &Key) -> bool {
        let contents = &mut self.state().contents;
        let (Some(first), Some(second)) = (contents.whole(one), contents.whole(other)) else { return false };
        contents.put(one, &second);
        contents.put(other, &first);
        true
    }

    /// Takes an object away. Whether there was one.
    pub fn take_away(&self, key: &Key) -> bool {
        self.state().contents.remove(key)
    }

    /// Takes all objects away.
    pub fn empty(&self) {
        let contents = &mut self.state().contents;
        for key in contents.keys() {
            contents.remove(&key);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// So many calls go by: what is due arrives.
    fn land(&mut self, calls: u64) {
        self.late.iter_mut().for_each(|(left, _)| *left = left.saturating_sub(calls));
        for (_, late) in self.late.extract_if(.., |(left, _)| *left == 0) {
            let outcome = self.contents.write(&late.key, &late.bytes, &late.condition);
            self.journal.note_late(&late.machine, late.verb, &late.key, &outcome);
        }
    }

    fn shuffle<T>(&self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let chosen = self.random.below(last as u64 + 1);
            items.swap(last, usize::try_from(chosen).unwrap_or(last));
        }
    }
}

#[cfg(test)]
mod tests;
