//! One cut over all databases, without a lock: every log's index is read, then who writes, then every index again.
//!
//! Unchanged means that there was a moment at which all of them stood so. Only one thing can be half done at such a
//! moment: a commit over attached databases, in which one process holds the write lock of two. An open, uncommitted
//! transaction does not matter.

use super::cookies::Before;
use super::discover::DATABASE_BUSY;
use super::schedule::Task;
use super::slot::{Slot, State};
use super::{Engine, Shared};
use crate::ledger::Vector;
use crate::live::{Live, SealError};
use crate::sqlite::WalIndex;
use base::{DatabasePath, Position, Timestamp};
use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a look at all indexes is repeated for a seal that can do without a common moment.
const OPTIMISTIC_FOR: Duration = Duration::from_millis(20);
/// How long it is repeated for a checkpoint before locks are tried: a commit over attached databases that waits for a
/// slow disk must be over by then, since a writer without a busy timeout fails where it meets one of those locks.
const PATIENT_FOR: Duration = Duration::from_secs(1);
/// For so long the looks follow one another without a pause.
const EAGER_FOR: Duration = Duration::from_millis(2);
/// Between two looks after that.
const LOOK_PAUSE: Duration = Duration::from_micros(200);
/// How long all write locks may be held together, at most.
const LOCKED_FOR: Duration = Duration::from_millis(1);

/// All databases at one moment, sealed.
#[derive(Clone, Debug)]
pub struct Cut {
    /// When.
    pub at: Timestamp,
    /// Where each stands.
    pub vector: Vector,
}

/// Why there is no cut.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct CutError {
    /// The database in the way.
    pub path: DatabasePath,
    /// The process in the way.
    pub pid: Option<u32>,
    /// What it does, or what failed.
    pub reason: String,
    /// The disk is full.
    pub disk_full: bool,
}

/// What a cut is made of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Over {
    /// Every database that is there; one that cannot be followed is in the way.
    All,
    /// Those that are followed; the others stand where they were sealed last.
    Followed,
}

type Held<'a> = Vec<(&'a Arc<Slot>, MutexGuard<'a, State>)>;

impl Engine {
    /// Seals all databases at one moment. It is on disk when this returns.
    ///
    /// A database whose file has just come is joined first, if that takes no longer than the limit.
    pub fn cut(&self, limit: Duration) -> Result<Cut, CutError> {
        self.shared.join_what_came(limit);
        self.shared.cut(limit)
    }

    /// Seals what is open, each database by itself if there is no common moment.
    pub fn sync(&self) {
        self.shared.tick();
    }

    /// The ledger has something that the store should have soon: a checkpoint came or went.
    pub fn ledger_changed(&self) {
        self.shared.ledger_changed();
    }
}

impl Shared {
    /// Seals everything to one cut and notes the vector.
    pub(super) fn tick(&self) {
        match self.cut_over(OPTIMISTIC_FOR, Over::Followed) {
            Ok(cut) => self.note(&cut),
            Err(error) => {
                tracing::debug!(%error, "no common cut; each database is sealed by itself");
                for slot in self.slots() {
                    if let State::Live(live) = &mut *slot.lock() {
                        self.seal_one(&slot, live);
                    }
                }
                // How far the store leads is told by moments.
                self.ask(Task::Tick, self.now() + super::VECTOR_EVERY);
            }
        }
    }

    fn seal_one(&self, slot: &Slot, live: &mut Live) {
        let before = live.position().txid;
        let first = Before::of(live);
        let sealed = match live.index() {
            Some(index) => live.seal_to(index.end).map(|_| ()),
            None => Ok(()),
        };
        // A failure is shown, and tried again at the database's next look.
        if let Err(error) = sealed {
            slot.show(|info| info.trouble = Some(super::seal_trouble(&error)));
        }
        slot.show_live(live);
        self.note_cookie(slot, live, first);
        if live.position().txid != before {
            self.was_sealed(&slot.path);
        }
    }

    pub(super) fn note(&self, cut: &Cut) {
        let mut last = self.last_vector.lock().unwrap_or_else(PoisonError::into_inner);
        if *last == cut.vector {
            return;
        }
        match self.ledger.note_vector(cut.at, &cut.vector) {
            Ok(()) => {
                *last = cut.vector.clone();
                // The store has it only once it has this moment.
                self.ledger_changed();
            }
            Err(error) => {
                tracing::error!(event = "vector not noted", %error, "this moment cannot be restored by time");
                // How far the store leads is told by moments.
                self.ask(Task::Tick, self.now() + super::VECTOR_EVERY);
            }
        }
    }

    pub(super) fn cut(&self, limit: Duration) -> Result<Cut, CutError> {
        self.cut_over(limit, Over::All)
    }

    fn cut_over(&self, limit: Duration, over: Over) -> Result<Cut, CutError> {
        let slots = self.slots();
        let mut held: Held = slots.iter().map(|slot| (slot, slot.lock())).collect();
        if let (Some(open), Some(slot)) = (self.unfinished(), slots.first()) {
            // Its end would be no moment that ever was.
            let disk_full = open.disk_full;
            return Err(CutError { disk_full, ..in_the_way(slot, None, &open.to_string()) });
        }
        let waiting: Vec<&Arc<Slot>> = held
            .iter()
            .filter(|(slot, state)| matches!(**state, State::Waiting) && slot.is_there())
            .map(|(slot, _)| *slot)
            .collect();
        let mut vector = match (over, waiting.first()) {
            (Over::All, Some(slot)) => return Err(self.not_followed(slot)),
            (Over::Followed, Some(_)) => self.last_known(&waiting),
            (_, None) => BTreeMap::new(),
        };
        held.retain(|(_, state)| matches!(**state, State::Live(_)));
        let shown: BTreeMap<DatabasePath, Option<Position>> =
            held.iter().map(|(slot, _)| (slot.path.clone(), slot.position())).collect();
        let ends = self.agree(&mut held, limit)?;
        let at = self.settings.machine.clock.now();
        for (slot, state) in &mut held {
            let State::Live(live) = &mut **state else { continue };
            let first = Before::of(live);
            let sealed = match ends.get(&slot.path) {
                Some(index) => live.seal_to(index.end),
                None => Ok(true),
            };
            if let Err(error) = &sealed {
                slot.show(|info| info.trouble = Some(super::seal_trouble(error)));
            }
            slot.show_live(live);
            self.note_cookie(slot, live, first);
            match sealed {
                Ok(true) => {}
                Ok(false) => {
                    return Err(in_the_way(slot, None, "its write-ahead log broke; it is being compared"));
                }
                Err(error) => return Err(failed(slot, &error)),
            }
            if shown.get(&slot.path) != Some(&Some(live.position())) {
                self.ask(Task::Look(slot.path.clone()), Duration::ZERO);
                self.was_sealed(&slot.path);
            }
            vector.insert(slot.path.clone(), live.position());
        }
        Ok(Cut { at, vector })
    }

    /// Why a database that is there cannot be in a cut.
    pub(super) fn not_followed(&self, slot: &Slot) -> CutError {
        let why = slot.info().trouble.map(|it| it.message);
        let why = why.unwrap_or_else(|| "it is being written for the first time".to_owned());
        let pid = self.in_its_way(slot).first().copied();
        in_the_way(slot, pid, &format!("it cannot be followed yet: {why}"))
    }

    /// The processes that keep a database from being followed: none where something else does.
    pub(super) fn in_its_way(&self, slot: &Slot) -> Vec<u32> {
        let held = slot.info().trouble.is_none_or(|trouble| trouble.code == DATABASE_BUSY);
        if held { self.settings.machine.kernel.openers(&slot.file) } else { Vec::new() }
    }

    /// Where databases stood last that are there and cannot be followed now.
    fn last_known(&self, waiting: &[&Arc<Slot>]) -> Vector {
        let noted = self.ledger.newest_vector().unwrap_or_default();
        let position = |slot: &Arc<Slot>| {
            let known = self.ledger.current(&slot.path).ok()??;
            let at = noted.get(&slot.path).filter(|at| at.incarnation == known.incarnation)?;
            (!known.deleted).then(|| (slot.path.clone(), *at))
        };
        waiting.iter().filter_map(|slot| position(slot)).collect()
    }

    /// A moment at which all logs ended as returned.
    fn agree(&self, held: &mut Held, limit: Duration) -> Result<BTreeMap<DatabasePath, WalIndex>, CutError> {
        for (slot, state) in held.iter_mut() {
            let State::Live(live) = &mut **state else { continue };
            // What keeps it from being marked is met again by the looks below.
            if live.hold().is_ok() && live.difference_due().is_some() {
                let first = Before::of(live);
                live.seal_difference().map_err(|error| failed(slot, &error))?;
                self.note_cookie(slot, live, first);
            }
        }
        let started = self.now();
        let patience = limit.min(PATIENT_FOR);
        let mut last;
        loop {
            match look_twice(held) {
                Ok(ends) => return Ok(ends),
                Err(error) => last = error,
            }
            let waited = self.now().saturating_sub(started);
            if waited >= patience {
                break;
            }
            if waited >= EAGER_FOR {
                self.settings.machine.clock.sleep(LOOK_PAUSE);
            }
        }
        let until = self.now() + limit.saturating_sub(patience);
        while self.now() < until {
            match self.look_locked(held) {
                Ok(ends) => return Ok(ends),
                Err(error) => last = error,
            }
            self.settings.machine.clock.sleep(LOCKED_FOR);
        }
        Err(last)
    }

    /// The fallback: every write lock in name order, each only if it is free, all given back within a millisecond.
    fn look_locked(&self, held: &mut Held) -> Result<BTreeMap<DatabasePath, WalIndex>, CutError> {
        let started = self.now();
        let mut result = Ok(());
        for (slot, state) in held.iter_mut() {
            let State::Live(live) = &mut **state else { continue };
            result = match live.lock() {
                Ok(true) if self.now().saturating_sub(started) <= LOCKED_FOR => Ok(()),
                Ok(true) => Err(in_the_way(slot, None, "taking all write locks took too long")),
                Ok(false) => Err(in_the_way(slot, writer(live), "another process writes to it")),
                Err(error) => Err(in_the_way(slot, None, &error.to_string())),
            };
            if result.is_err() {
                break;
            }
        }
        let ends = result.and_then(|()| indexes(held));
        for (_, state) in held.iter_mut() {
            if let State::Live(live) = &mut **state {
                live.unlock();
            }
        }
        ends
    }
}

/// The optimistic look.
fn look_twice(held: &mut Held) -> Result<BTreeMap<DatabasePath, WalIndex>, CutError> {
    let first = indexes(held)?;
    if held.len() < 2 {
        return Ok(first);
    }
    let mut writers: BTreeMap<u32, &Arc<Slot>> = BTreeMap::new();
    for (slot, state) in held.iter() {
        let State::Live(live) = &**state else { continue };
        if let Some(pid) = writer(live)
            && writers.insert(pid, slot).is_some()
        {
            let pid = (pid != 0).then_some(pid);
            return Err(in_the_way(slot, pid, "one process writes to two databases at once"));
        }
    }
    let second = indexes(held)?;
    for (slot, _) in held.iter() {
        let same = |at: &WalIndex| (at.end, at.change);
        if first.get(&slot.path).map(same) != second.get(&slot.path).map(same) {
            return Err(in_the_way(slot, None, "it is being written to without a pause"));
        }
    }
    Ok(second)
}

fn indexes(held: &mut Held) -> Result<BTreeMap<DatabasePath, WalIndex>, CutError> {
    let mut ends = BTreeMap::new();
    for (slot, state) in held.iter_mut() {
        let State::Live(live) = &mut **state else { continue };
        let index = live.index().ok_or_else(|| in_the_way(slot, None, "a commit is being written"))?;
        ends.insert(slot.path.clone(), index);
    }
    Ok(ends)
}

fn writer(live: &Live) -> Option<u32> {
    live.writer().map(|holder| holder.0)
}

fn in_the_way(slot: &Slot, pid: Option<u32>, reason: &str) -> CutError {
    CutError { path: slot.path.clone(), pid, reason: reason.to_owned(), disk_full: false }
}

fn failed(slot: &Slot, error: &SealError) -> CutError {
    CutError { path: slot.path.clone(), pid: None, reason: error.to_string(), disk_full: error.disk_full() }
}
