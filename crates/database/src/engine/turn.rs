//! Turning the whole volume to a vector: a new transaction in each database, all of them or none.
//!
//! ```text
//! validate ─ (the node stops the app) ─ lock all ─ capture to the end ─ intent: undo and target vectors ─
//! write all ─ commit all, swap files ─ seal and verify ─ intent completed
//! ```
//! A crash after the intent is finished at the next start, or rolled back to the undo vector where it cannot be.

mod locks;

use super::discover::remove_if_there;
use super::schedule::Task;
use super::slot::{Slot, State};
use super::{Engine, Entry, Shared, StartError};
use crate::ledger::{IntentId, Vector};
use crate::live::{ApplyError, Live, Turned};
use base::{DatabasePath, Pgno, Position, disk};
use locks::unlock_all;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

/// How often pages are planned anew because a file was found damaged.
const REPLANS_MAX: usize = 16;

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
}

/// The history needed is missing or damaged; nothing was changed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct HistoryProblem {
    /// Which database.
    pub path: DatabasePath,
    /// Which file, and what is wrong.
    pub reason: String,
}

/// Why the volume was not turned. It stands as before.
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
    /// Something failed; what had been done was rolled back.
    #[error("{reason}")]
    Failed {
        /// What.
        reason: String,
        /// The disk is full.
        disk_full: bool,
    },
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
        let slots = self.shared.slots_with(target);
        let held: Held = slots.iter().map(|slot| (slot, slot.lock())).collect();
        held.iter()
            .filter_map(|(slot, state)| self.shared.plan_change(slot, state, target).transpose())
            .collect()
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
        self.shared.turn(name, target, limit, step, true)
    }
}

impl Shared {
    /// Finishes a restore that a crash interrupted, or rolls it back.
    pub(super) fn finish_interrupted(&self) -> Result<(), StartError> {
        let Some(intent) = self.ledger.open_intent()? else { return Ok(()) };
        let limit = Duration::from_secs(5);
        let finish = match self.turn(&intent.target_name, &intent.target, limit, &mut |_| {}, false) {
            Ok(_) => {
                self.ledger.complete_intent(intent.id)?;
                tracing::warn!(
                    event = "restore finished",
                    target = intent.target_name,
                    "a crash had interrupted it"
                );
                return Ok(());
            }
            Err(error) => error.to_string(),
        };
        match self.turn(&intent.target_name, &intent.undo, limit, &mut |_| {}, false) {
            Ok(_) => {
                self.ledger.abandon_intent(intent.id, &finish)?;
                tracing::error!(event = "restore rolled back", target = intent.target_name, reason = finish);
                Ok(())
            }
            Err(back) => {
                Err(StartError::Unfinished { name: intent.target_name, finish, back: back.to_string() })
            }
        }
    }

    fn slots_with(&self, target: &Vector) -> Vec<Arc<Slot>> {
        for path in target.keys() {
            self.slot_for(path);
        }
        self.slots()
    }

    /// What a turn does to one database; `None`: it is neither there nor in the target.
    fn plan_change(
        &self,
        slot: &Slot,
        state: &State,
        target: &Vector,
    ) -> Result<Option<Change>, HistoryProblem> {
        let problem = |reason: String| HistoryProblem { path: slot.path.clone(), reason };
        let to = target.get(&slot.path).copied();
        let change = |kind, from, pages| Some(Change { path: slot.path.clone(), kind, from, to, pages });
        let live = match state {
            State::Live(live) => Some(live),
            State::Waiting => None,
        };
        let from = live.map(|live| live.position());
        let Some(to) = to else { return Ok(live.and_then(|_| change(ChangeKind::Removed, from, 0))) };
        let Some(live) = live.filter(|live| live.position().incarnation == to.incarnation) else {
            let history =
                self.open_history(&slot.path, to.incarnation).map_err(|error| problem(error.to_string()))?;
            let plan = history.plan(to.txid).map_err(|error| problem(error.to_string()))?;
            let (found, wanted) = (plan.header().checksum_after, to.checksum);
            if found != wanted {
                return Err(problem(format!(
                    "txid {} of its history adds up to {found}, not {wanted}",
                    to.txid
                )));
            }
            let kind = if from.is_some() { ChangeKind::Replaced } else { ChangeKind::Recreated };
            return Ok(change(kind, from, u64::from(plan.header().commit)));
        };
        if live.position() == to {
            return Ok(change(ChangeKind::Unchanged, from, 0));
        }
        let (differing, sums) = replanning(|| {
            let (mut pages, candidates) = pages_of(live, to).map_err(ApplyError::History)?;
            live.differing(&mut pages, &candidates)
        })
        .map_err(|error| problem(error.to_string()))?;
        if sums.rolling() != to.checksum {
            let found = sums.rolling();
            return Err(problem(format!(
                "the pages at txid {} add up to {found}, not {}",
                to.txid, to.checksum
            )));
        }
        Ok(change(ChangeKind::TurnedBack, from, differing.len() as u64))
    }

    fn turn(
        &self,
        name: &str,
        target: &Vector,
        limit: Duration,
        step: &mut dyn FnMut(&'static str),
        with_intent: bool,
    ) -> Result<Vec<Change>, TurnError> {
        self.settle_intent()?;
        let slots = self.slots_with(target);
        let mut held: Held = slots.iter().map(|slot| (slot, slot.lock())).collect();
        step("lock");
        let prepared = self.lock_all(&mut held, limit).and_then(|()| {
            step("capture");
            self.capture_all(&mut held)?;
            self.plan_all(&held, target)
        });
        let changes = match prepared {
            Ok(changes) => changes,
            Err(error) => {
                unlock_all(&mut held);
                return Err(error);
            }
        };
        let undo = positions(&held);
        let intent = if with_intent {
            let begun = self.settings.machine.clock.now();
            match self.ledger.begin_intent(begun, name, &undo, target) {
                Ok(id) => Some(id),
                Err(error) => {
                    unlock_all(&mut held);
                    return Err(TurnError::Failed { reason: error.to_string(), disk_full: false });
                }
            }
        } else {
            None
        };
        let done = self.carry_out(&mut held, &changes, step);
        unlock_all(&mut held);
        if let Err(error) = done {
            let back = self.back_out(&mut held, &undo);
            if let (Some(id), Ok(())) = (intent, &back) {
                self.end_intent(id, Some(error.to_string()))?;
            }
            return Err(match back {
                Ok(()) => error,
                Err(back) => TurnError::Failed {
                    reason: format!("{error}; rolling back failed too, the next start tries again: {back}"),
                    disk_full: false,
                },
            });
        }
        if let Some(id) = intent {
            self.end_intent(id, None)?;
        }
        let cut = super::Cut { at: self.settings.machine.clock.now(), vector: positions(&held) };
        self.note(&cut);
        for (slot, _) in &held {
            self.ask(Task::Look(slot.path.clone()), Duration::ZERO);
        }
        self.ask(Task::Keep, self.now());
        Ok(changes)
    }

    /// Records how a turn ended. Where the ledger cannot (a full disk), that is tried again until it can: an intent that
    /// stays open would be carried out at the next start, over everything written since.
    fn end_intent(&self, id: IntentId, abandoned: Option<String>) -> Result<(), TurnError> {
        *self.open_end.lock().unwrap_or_else(PoisonError::into_inner) = Some((id, abandoned));
        self.settle_intent()
    }

    /// Records the end of a turn that could not be recorded when it came.
    pub(super) fn settle_intent(&self) -> Result<(), TurnError> {
        let mut open = self.open_end.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((id, abandoned)) = &*open else { return Ok(()) };
        let ended = match abandoned {
            None => self.ledger.complete_intent(*id),
            Some(reason) => self.ledger.abandon_intent(*id, reason),
        };
        ended.map_err(|error| TurnError::Failed {
            disk_full: error.is_disk_full(),
            reason: format!("the restore ended, but that could not be recorded; it is tried again: {error}"),
        })?;
        *open = None;
        Ok(())
    }

    /// Captures and seals to the end, under the write locks.
    fn capture_all(&self, held: &mut Held) -> Result<(), TurnError> {
        for (slot, state) in held.iter_mut() {
            let State::Live(live) = &mut **state else { continue };
            let sealed = match live.index() {
                Some(index) => live.seal_to(index.end),
                None => Ok(false),
            };
            let sealed =
                sealed.and_then(|whole| if whole { Ok(()) } else { live.seal_difference().map(|_| ()) });
            sealed.map_err(|error| failed(&slot.path, &ApplyError::Seal(error)))?;
            slot.show_live(live);
        }
        Ok(())
    }

    fn plan_all(&self, held: &Held, target: &Vector) -> Result<Vec<Change>, TurnError> {
        let mut changes = Vec::new();
        for (slot, state) in held {
            if matches!(**state, State::Waiting) && slot.is_there() {
                let pids = self.settings.machine.kernel.openers(&slot.file);
                let reason =
                    format!("it cannot be followed yet, and another process ({}) has it open", list(&pids));
                return Err(TurnError::Held { path: slot.path.clone(), pids, reason });
            }
            let Some(change) = self.plan_change(slot, state, target)? else { continue };
            let swapped = !matches!(change.kind, ChangeKind::Unchanged | ChangeKind::TurnedBack);
            let pids = if swapped { self.settings.machine.kernel.openers(&slot.file) } else { Vec::new() };
            if !pids.is_empty() {
                let reason =
                    format!("its file is to be swapped, and another process ({}) has it open", list(&pids));
                return Err(TurnError::Held { path: slot.path.clone(), pids, reason });
            }
            changes.push(change);
        }
        Ok(changes)
    }

    fn carry_out(
        &self,
        held: &mut Held,
        changes: &[Change],
        step: &mut dyn FnMut(&'static str),
    ) -> Result<(), TurnError> {
        step("apply");
        let by_path: BTreeMap<&DatabasePath, &Change> =
            changes.iter().map(|change| (&change.path, change)).collect();
        let mut turned: BTreeMap<DatabasePath, (Turned, u32)> = BTreeMap::new();
        for (slot, state) in held.iter_mut() {
            let (State::Live(live), Some(change)) = (&mut **state, by_path.get(&slot.path)) else { continue };
            if let (ChangeKind::TurnedBack, Some(to)) = (change.kind, change.to) {
                let written =
                    replanning(|| write_back(live, to)).map_err(|error| failed(&slot.path, &error))?;
                turned.insert(slot.path.clone(), written);
            }
        }
        for (slot, state) in held.iter_mut() {
            if let State::Live(live) = &mut **state
                && turned.contains_key(&slot.path)
            {
                live.commit().map_err(|error| failed(&slot.path, &error))?;
            }
        }
        for (slot, state) in held.iter_mut() {
            if let Some(change) = by_path.get(&slot.path) {
                self.swap(slot, state, change)?;
            }
        }
        step("verify");
        for (slot, state) in held.iter_mut() {
            if let (State::Live(live), Some((written, pages))) = (&mut **state, turned.get(&slot.path)) {
                live.seal_turn(*written, *pages).map_err(|error| failed(&slot.path, &error))?;
                slot.show_live(live);
            }
        }
        Ok(())
    }

    /// Removes the file, or puts another incarnation's in its place.
    fn swap(&self, slot: &Arc<Slot>, state: &mut State, change: &Change) -> Result<(), TurnError> {
        if matches!(change.kind, ChangeKind::Unchanged | ChangeKind::TurnedBack) {
            return Ok(());
        }
        let disk = &*self.settings.machine.disk;
        let io = |error: std::io::Error| TurnError::Failed {
            disk_full: matches!(error.kind(), std::io::ErrorKind::StorageFull),
            reason: format!("{}: {error}", slot.path),
        };
        if let State::Live(mut live) = std::mem::replace(state, State::Waiting) {
            live.unlock();
            let place = live.place().clone();
            drop(live);
            place.forget(disk);
        }
        if change.from.is_some() {
            self.ledger.record_deleted(&slot.path)?;
        }
        if let Some(to) = change.to {
            let back = self.bring_back(&slot.path, to.incarnation, Some(to.txid));
            back.map_err(|reason| HistoryProblem { path: slot.path.clone(), reason })?;
            self.ledger.record_returned(&slot.path, to.incarnation)?;
            self.join(slot, state);
            let State::Live(live) = state else {
                let reason = format!("{}: it was written but could not be joined", slot.path);
                return Err(TurnError::Failed { reason, disk_full: false });
            };
            live.seal_difference().map_err(|error| failed(&slot.path, &ApplyError::Seal(error)))?;
            if live.sums().rolling() != to.checksum {
                let (found, wanted) = (live.sums().rolling(), to.checksum);
                return Err(failed(&slot.path, &ApplyError::Checksum { found, wanted }));
            }
            slot.show_live(&*live);
            return Ok(());
        }
        for suffix in ["", "-wal", "-shm", "-journal"] {
            remove_if_there(disk, &disk::sibling(&slot.file, suffix)).map_err(io)?;
        }
        self.sync_parent(&slot.file).map_err(io)?;
        slot.show_waiting("missing", None);
        if slot.named {
            self.create_if_missing(&slot.path, self.schema_of(&slot.path).as_deref())
                .map_err(|error| TurnError::Failed { reason: error.to_string(), disk_full: false })?;
            slot.show_waiting("empty", None);
        }
        Ok(())
    }

    fn schema_of(&self, path: &DatabasePath) -> Option<std::path::PathBuf> {
        self.settings.entries.iter().find_map(|entry| match entry {
            Entry::File { path: named, schema } if named == path => schema.as_deref().map(Path::to_owned),
            _ => None,
        })
    }

    /// Turns to where everything stood before a turn that failed half-way.
    fn back_out(&self, held: &mut Held, undo: &Vector) -> Result<(), TurnError> {
        self.lock_all(held, Duration::from_secs(5))?;
        let done = self.capture_all(held).and_then(|()| {
            let changes = self.plan_all(held, undo)?;
            self.carry_out(held, &changes, &mut |_| {})
        });
        unlock_all(held);
        done
    }
}

/// A file found damaged is not used again, so another try may find another way to the same pages.
fn replanning<T>(mut work: impl FnMut() -> Result<T, ApplyError>) -> Result<T, ApplyError> {
    let mut last = work();
    for _ in 0..REPLANS_MAX {
        match last {
            Err(ApplyError::History(_)) => last = work(),
            done => return done,
        }
    }
    last
}

fn write_back(live: &mut Live, to: Position) -> Result<(Turned, u32), ApplyError> {
    let (mut pages, candidates) = pages_of(live, to).map_err(ApplyError::History)?;
    let count = pages.commit();
    Ok((live.turn(&mut pages, &candidates, to.checksum)?, count))
}

/// The pages at a position, and which of them may differ from what the database holds.
fn pages_of(live: &Live, to: Position) -> Result<(crate::history::PageReader, Vec<Pgno>), String> {
    let history = live.history();
    let now = live.position().txid;
    let candidates = history.changed(to.txid, now).map_err(|error| error.to_string())?;
    let plan = history.plan(to.txid).map_err(|error| error.to_string())?;
    Ok((plan.reader().map_err(|error| error.to_string())?, candidates))
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
        return HistoryProblem { path: path.clone(), reason: reason.clone() }.into();
    }
    TurnError::Failed { reason: format!("{path}: {error}"), disk_full: error.disk_full() }
}

fn list(pids: &[u32]) -> String {
    let shown: Vec<String> = pids.iter().map(|pid| format!("pid {pid}")).collect();
    if shown.is_empty() { "pid unknown".into() } else { shown.join(", ") }
}
