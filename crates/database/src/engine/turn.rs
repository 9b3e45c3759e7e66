//! Turning the whole volume to a vector: a new transaction in each database, all of them or none.
//!
//! ```text
//! validate ─ (the node stops the app) ─ lock all ─ capture to the end ─ intent: undo and target vectors ─
//! write all ─ commit all, swap files ─ seal and verify ─ intent completed
//! ```
//! A crash after the intent is finished at the next start, or rolled back to the undo vector where it cannot be. What
//! fails without a crash is rolled back at once, or as soon as that can be done ([`Unfinished`]).

mod locks;
mod plan;
mod swap;
mod unfinished;

pub(in crate::engine) use unfinished::OpenTurn;
pub use unfinished::Unfinished;

use super::cookies::Before;
use super::schedule::Task;
use super::slot::{Slot, State};
use super::{Engine, Shared};
use crate::ledger::{IntentError, IntentId, Vector};
use crate::live::{ApplyError, Turned};
use base::{DatabasePath, Position};
use locks::unlock_all;
use plan::{Planned, Seen, replanning, write_back};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

/// What a turn does to a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It stands where the target has it.
    Unchanged,
    /// Pages are written back.
    TurnedBack,
    /// The target does not have it.
    Removed,
    /// It was deleted and comes back.
    Recreated,
    /// Another incarnation lives there; the target's comes back.
    Replaced,
}

/// A database and what a turn does to it.
#[derive(Clone, Debug)]
pub struct Change {
    /// Which.
    pub path: DatabasePath,
    /// What.
    pub kind: ChangeKind,
    /// Where it stands.
    pub from: Option<Position>,
    /// Where the target has it.
    pub to: Option<Position>,
    /// Pages to write.
    pub pages: u64,
    /// What history does not hold lies in its place, and is moved to here.
    pub aside: Option<PathBuf>,
}

/// The history needed is missing or damaged; nothing was changed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct HistoryProblem {
    /// Which database.
    pub path: DatabasePath,
    /// Which file, and what is wrong.
    pub reason: String,
    /// It may be had again: a store that does not answer now.
    pub away: bool,
}

/// Why the volume was not turned. It stands as before, but for [`TurnError::Unfinished`].
#[derive(Debug, thiserror::Error)]
pub enum TurnError {
    /// Another turn runs.
    #[error("another restore is running")]
    Running,
    /// Processes hold a database: end them.
    #[error("{path}: {reason}")]
    Held {
        /// Which.
        path: DatabasePath,
        /// Who.
        pids: Vec<u32>,
        /// In words.
        reason: String,
    },
    /// The history needed is missing or damaged.
    #[error(transparent)]
    History(#[from] HistoryProblem),
    /// Something failed before anything had begun.
    #[error("{reason}")]
    NotBegun {
        /// What.
        reason: String,
        /// The disk is full.
        disk_full: bool,
    },
    /// Something failed; what had been done was rolled back.
    #[error("{reason}")]
    Failed {
        /// What.
        reason: String,
        /// The disk is full.
        disk_full: bool,
    },
    /// This turn or one before is neither done nor rolled back: nothing else goes on until it is, which is tried again.
    #[error(transparent)]
    Unfinished(#[from] Unfinished),
}

impl TurnError {
    /// Whether the disk is full.
    pub fn disk_full(&self) -> bool {
        match self {
            TurnError::NotBegun { disk_full, .. } | TurnError::Failed { disk_full, .. } => *disk_full,
            TurnError::Unfinished(open) => open.disk_full,
            TurnError::Running | TurnError::Held { .. } | TurnError::History(_) => false,
        }
    }

    /// Of a turn that has no intent yet.
    fn not_begun(self) -> TurnError {
        match self {
            TurnError::Failed { reason, disk_full } => TurnError::NotBegun { reason, disk_full },
            other => other,
        }
    }
}

impl From<crate::ledger::LedgerError> for TurnError {
    fn from(error: crate::ledger::LedgerError) -> Self {
        TurnError::Failed { disk_full: error.is_disk_full(), reason: format!("ledger: {error}") }
    }
}

type Held<'a> = Vec<(&'a Arc<Slot>, MutexGuard<'a, State>)>;

impl Engine {
    /// What a turn to this vector would change; reads every page that it would need.
    pub fn validate(&self, target: &Vector) -> Result<Vec<Change>, HistoryProblem> {
        let look = |slot: &Slot| match &*slot.lock() {
            State::Live(live) => Some(Seen::of(live).into_owned()),
            State::Waiting => None,
        };
        let slots = self.shared.slots_with(target);
        // Capture goes on meanwhile: each is locked for a look only, and its pages are read afterwards.
        let plan = |slot: &Arc<Slot>| self.shared.plan_change(slot, look(slot).as_ref(), target).transpose();
        slots.iter().filter_map(plan).map(|planned| planned.map(|planned| planned.change)).collect()
    }

    /// Turns all databases to a vector. The app is stopped by then. `step` is told each step as it begins.
    ///
    /// A database whose file has just come is joined first, so that it goes into history before it goes.
    pub fn turn_back(
        &self,
        name: &str,
        target: &Vector,
        limit: Duration,
        step: &mut dyn FnMut(&'static str),
    ) -> Result<Vec<Change>, TurnError> {
        let Ok(_alone) = self.shared.turning.try_lock() else { return Err(TurnError::Running) };
        self.shared.join_what_came(limit);
        self.shared.turn(name, target, limit, step)
    }
}

impl Shared {
    fn slots_with(&self, target: &Vector) -> Vec<Arc<Slot>> {
        for path in target.keys() {
            self.slot_for(path);
        }
        self.slots()
    }

    fn turn(
        &self,
        name: &str,
        target: &Vector,
        limit: Duration,
        step: &mut dyn FnMut(&'static str),
    ) -> Result<Vec<Change>, TurnError> {
        self.settle_alone()?;
        let slots = self.slots_with(target);
        let mut held: Held = slots.iter().map(|slot| (slot, slot.lock())).collect();
        step("capture");
        capture_unlocked(&mut held).map_err(TurnError::not_begun)?;
        step("lock");
        let planned = self.lock_all(&mut held, limit).and_then(|()| {
            self.capture_all(&mut held)?;
            self.plan_all(&held, target)
        });
        let begun = planned.map_err(TurnError::not_begun).and_then(|changes| {
            let undo = positions(&held);
            let id = self.begin_intent(name, &undo, target)?;
            self.open(id, name, &undo, target);
            Ok(changes)
        });
        let mut changes = match begun {
            Ok(changes) => changes,
            Err(error) => {
                unlock_all(&mut held);
                return Err(error);
            }
        };
        let done = match self.carry_out(&mut held, &mut changes, step) {
            Ok(()) => self.end(None).map_err(TurnError::from),
            Err(error) => Err(self.take_back(&mut held, error)),
        };
        unlock_all(&mut held);
        if done.is_ok() {
            self.note_turned(&held);
        }
        for (slot, _) in &held {
            self.ask(Task::Look(slot.path.clone()), Duration::ZERO);
            self.was_sealed(&slot.path);
        }
        self.ask(Task::Keep, self.now());
        done.map(|()| changes.into_iter().map(|planned| planned.change).collect())
    }

    fn begin_intent(&self, name: &str, undo: &Vector, target: &Vector) -> Result<IntentId, TurnError> {
        let begun = self.settings.machine.clock.now();
        self.ledger.begin_intent(begun, name, undo, target).map_err(|error| match error {
            IntentError::Ledger(error) => error.into(),
            IntentError::Open(name) => {
                let reason = "the ledger has it open".to_owned();
                Unfinished { name, reason, disk_full: false }.into()
            }
        })
    }

    /// The moment that a turn made, noted like any other.
    fn note_turned(&self, held: &Held) {
        self.note(&super::Cut { at: self.settings.machine.clock.now(), vector: positions(held) });
    }

    /// Captures and seals to the end, under the write locks.
    fn capture_all(&self, held: &mut Held) -> Result<(), TurnError> {
        for (slot, state) in held.iter_mut() {
            let State::Live(live) = &mut **state else { continue };
            let first = Before::of(live);
            let sealed = match live.index() {
                Some(index) => live.seal_to(index.end),
                None => Ok(false),
            };
            let sealed =
                sealed.and_then(|whole| if whole { Ok(()) } else { live.seal_difference().map(|_| ()) });
            sealed.map_err(|error| failed(&slot.path, &ApplyError::Seal(error)))?;
            slot.show_live(live);
            self.note_cookie(slot, live, first);
        }
        Ok(())
    }

    fn carry_out(
        &self,
        held: &mut Held,
        changes: &mut [Planned],
        step: &mut dyn FnMut(&'static str),
    ) -> Result<(), TurnError> {
        step("apply");
        let mut by_path: BTreeMap<DatabasePath, &mut Planned> =
            changes.iter_mut().map(|planned| (planned.change.path.clone(), planned)).collect();
        let mut turned: BTreeMap<DatabasePath, (Turned, u32)> = BTreeMap::new();
        for (slot, state) in held.iter_mut() {
            let (State::Live(live), Some(planned)) = (&mut **state, by_path.get_mut(&slot.path)) else {
                continue;
            };
            if let (ChangeKind::TurnedBack, Some(to)) = (planned.change.kind, planned.change.to) {
                let highest = self.highest_noted(slot, live)?;
                let found = &mut planned.found;
                let written = replanning(|| write_back(live, to, highest, found.take()))
                    .map_err(|error| failed(&slot.path, &error))?;
                turned.insert(slot.path.clone(), written);
            }
        }
        for (slot, state) in held.iter_mut() {
            if let State::Live(live) = &mut **state
                && turned.contains_key(&slot.path)
            {
                self.touch(&slot.path);
                live.commit().map_err(|error| failed(&slot.path, &error))?;
                // Locked again until all is done: what others write in between would be turned back where that fails.
                live.lock().map_err(|error| failed(&slot.path, &error))?;
            }
        }
        for (slot, state) in held.iter_mut() {
            if let Some(planned) = by_path.get_mut(&slot.path) {
                self.swap(slot, state, &mut planned.change)?;
            }
        }
        step("verify");
        for (slot, state) in held.iter_mut() {
            if let (State::Live(live), Some((written, pages))) = (&mut **state, turned.get(&slot.path)) {
                let first = Before::of(live);
                live.seal_turn(*written, *pages).map_err(|error| failed(&slot.path, &error))?;
                slot.show_live(live);
                self.note_cookie(slot, live, first);
            }
        }
        Ok(())
    }
}

/// Seals what is open before the locks are taken: whoever writes meanwhile waits for the rest only.
fn capture_unlocked(held: &mut Held) -> Result<(), TurnError> {
    for (slot, state) in held.iter_mut() {
        let State::Live(live) = &mut **state else { continue };
        if let Some(index) = live.index() {
            live.seal_to(index.end).map_err(|error| failed(&slot.path, &ApplyError::Seal(error)))?;
        }
    }
    Ok(())
}

fn positions(held: &Held) -> Vector {
    held.iter()
        .filter_map(|(slot, state)| match &**state {
            State::Live(live) => Some((slot.path.clone(), live.position())),
            State::Waiting => None,
        })
        .collect()
}

fn failed(path: &DatabasePath, error: &ApplyError) -> TurnError {
    if let ApplyError::History(reason) = error {
        return HistoryProblem { path: path.clone(), reason: reason.clone(), away: false }.into();
    }
    TurnError::Failed { reason: format!("{path}: {error}"), disk_full: error.disk_full() }
}

fn list(pids: &[u32]) -> String {
    let shown: Vec<String> = pids.iter().map(|pid| format!("pid {pid}")).collect();
    if shown.is_empty() { "pid unknown".into() } else { shown.join(", ") }
}
