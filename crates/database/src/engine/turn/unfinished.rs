//! A turn that has begun: what it has touched, and how it ends when it fails half-way.
//!
//! ```text
//! begun ──► carried out ─────────────► end to be recorded ──► ended
//!   │ failed                                ▲
//!   └──► to be taken back ──► taken back ───┘
//! ```
//! Until it has ended, the databases may stand at no common moment, and a start would carry the intent out over
//! whatever was written since. So nothing that builds on them goes on: no turn, no checkpoint, no noted moment, no app.
//! What did not succeed (a full disk, mostly) is tried again: by the keeper, and by whoever asks for one of those.

use super::{Held, HistoryProblem, TurnError, positions};
use crate::common::NEWEST_MOMENT;
use crate::engine::slot::State;
use crate::engine::{Engine, Shared, StartError};
use crate::ledger::{Intent, IntentId, Vector};
use base::{DatabasePath, disk};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

/// How long the locks are waited for when a turn that failed is taken back.
pub(super) const TAKE_BACK_LIMIT: Duration = Duration::from_secs(5);
/// How long when that is tried again: others wait for the databases meanwhile.
const RETRY_LIMIT: Duration = Duration::from_millis(500);
/// With less free space than this whatever fails is taken to fail for lack of space.
const NO_ROOM_BYTES: u64 = 64 << 10;

/// A restore that has begun and not ended: neither done nor taken back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the restore to `{name}` is not finished, and is tried again: {reason}")]
pub struct Unfinished {
    /// What it aims at.
    pub name: String,
    /// What is in the way.
    pub reason: String,
    /// The disk is full.
    pub disk_full: bool,
}

/// A turn that has begun and not ended.
#[derive(Debug)]
pub(in crate::engine) struct OpenTurn {
    id: IntentId,
    name: String,
    undo: Vector,
    target: Vector,
    /// Databases that may stand elsewhere than before.
    touched: BTreeSet<DatabasePath>,
    /// What was moved out of the way: from where to where.
    aside: Vec<(PathBuf, PathBuf)>,
    left: Left,
    /// Why it goes on; `None` while it is carried out.
    trouble: Option<(String, bool)>,
}

/// What is left to do.
#[derive(Clone, Debug)]
enum Left {
    /// To take it back, for this reason.
    TakeBack(String),
    /// To record that it is done, or that it was taken back for a reason.
    Record(Option<String>),
}

impl Engine {
    /// The restore that has begun and neither succeeded nor been taken back, if there is one.
    pub fn unfinished(&self) -> Option<Unfinished> {
        self.shared.unfinished()
    }

    /// Tries to end a restore that is not finished. Checkpoints, restores and the app wait for that.
    pub fn settle(&self) -> Result<(), Unfinished> {
        self.shared.settle()
    }
}

impl Shared {
    fn open_turn(&self) -> MutexGuard<'_, Option<OpenTurn>> {
        self.open_turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The restore that has failed half-way and is not taken back yet.
    pub(in crate::engine) fn unfinished(&self) -> Option<Unfinished> {
        let open = self.open_turn();
        let open = open.as_ref()?;
        let (reason, disk_full) = open.trouble.clone()?;
        Some(Unfinished { name: open.name.clone(), reason, disk_full })
    }

    /// A turn begins, its intent being recorded.
    pub(super) fn open(&self, id: IntentId, name: &str, undo: &Vector, target: &Vector) {
        *self.open_turn() = Some(OpenTurn {
            id,
            name: name.to_owned(),
            undo: undo.clone(),
            target: target.clone(),
            touched: BTreeSet::new(),
            aside: Vec::new(),
            left: Left::TakeBack("it was interrupted".into()),
            trouble: None,
        });
    }

    /// A database is about to be committed, removed or written anew.
    pub(super) fn touch(&self, path: &DatabasePath) {
        if let Some(open) = &mut *self.open_turn() {
            open.touched.insert(path.clone());
        }
    }

    /// A file was moved out of the way.
    pub(super) fn moved_aside(&self, from: PathBuf, to: PathBuf) {
        if let Some(open) = &mut *self.open_turn() {
            open.aside.push((from, to));
        }
    }

    /// The turn is done, or everything is as before, for a reason: recorded as soon as the ledger takes it.
    pub(super) fn end(&self, abandoned: Option<String>) -> Result<(), Unfinished> {
        if let Some(open) = &mut *self.open_turn() {
            open.left = Left::Record(abandoned);
        }
        self.record()
    }

    fn record(&self) -> Result<(), Unfinished> {
        let mut slot = self.open_turn();
        let Some(open) = &mut *slot else { return Ok(()) };
        let Left::Record(abandoned) = &open.left else { return Ok(()) };
        let recorded = match abandoned {
            None => self.ledger.complete_intent(open.id),
            Some(reason) => self.ledger.abandon_intent(open.id, reason),
        };
        if let Err(error) = recorded {
            let how = if abandoned.is_some() { "was rolled back" } else { "is done" };
            let reason = format!("it {how}, but that could not be recorded: {error}");
            let disk_full = error.is_disk_full() || self.no_room();
            open.trouble = Some((reason.clone(), disk_full));
            return Err(Unfinished { name: open.name.clone(), reason, disk_full });
        }
        *slot = None;
        drop(slot);
        // What the store has says that the turn is under way.
        self.ledger_changed();
        Ok(())
    }

    /// Takes a turn back that failed half-way, the locks still held; what it failed with and how it stands then.
    pub(super) fn take_back(&self, held: &mut Held, error: TurnError) -> TurnError {
        if let Some(open) = &mut *self.open_turn() {
            open.left = Left::TakeBack(error.to_string());
        }
        let disk_full = error.disk_full();
        match self.take_back_held(held, TAKE_BACK_LIMIT) {
            Ok(()) => match self.end(Some(error.to_string())) {
                Ok(()) => error,
                Err(open) => open.into(),
            },
            Err(back) => {
                let reason = format!("{error}; rolling back failed too: {back}");
                self.still_open(reason, disk_full || back.disk_full()).into()
            }
        }
    }

    fn still_open(&self, reason: String, disk_full: bool) -> Unfinished {
        let disk_full = disk_full || self.no_room();
        let mut open = self.open_turn();
        let name = open.as_ref().map(|open| open.name.clone()).unwrap_or_default();
        if let Some(open) = &mut *open {
            open.trouble = Some((reason.clone(), disk_full));
        }
        Unfinished { name, reason, disk_full }
    }

    /// Tries to end a restore that is not finished.
    pub(in crate::engine) fn settle(&self) -> Result<(), Unfinished> {
        let Some(open) = self.unfinished() else { return Ok(()) };
        // One that runs, or is being tried again, is waited for by nobody.
        let Ok(_alone) = self.turning.try_lock() else { return Err(open) };
        self.settle_alone()
    }

    /// The same for whoever has `turning`.
    pub(super) fn settle_alone(&self) -> Result<(), Unfinished> {
        let (left, undo, target) = match &*self.open_turn() {
            Some(open) => (open.left.clone(), open.undo.clone(), open.target.clone()),
            None => return Ok(()),
        };
        let Left::TakeBack(why) = left else { return self.record() };
        let mut slots = self.slots_with(&undo);
        slots.retain(|slot| !self.has_no_part(&slot.path));
        let mut held: Held = slots.iter().map(|slot| (slot, slot.lock())).collect();
        let Err(back) = self.take_back_held(&mut held, RETRY_LIMIT) else {
            tracing::warn!(event = "restore rolled back", reason = why);
            return self.end(Some(why));
        };
        if let TurnError::History(HistoryProblem { away: false, .. }) = back {
            // What was there cannot be had any more; what was wanted may be.
            drop(held);
            if self.turn_all(&target).is_ok() {
                tracing::warn!(event = "restore finished", reason = why);
                return self.end(None);
            }
        }
        Err(self.still_open(format!("{why}; rolling back failed too: {back}"), back.disk_full()))
    }

    /// Turns what was touched to where it stood before; whatever else was written meanwhile stays.
    fn take_back_held(&self, held: &mut Held, limit: Duration) -> Result<(), TurnError> {
        let (undo, touched) = match &*self.open_turn() {
            Some(open) => (open.undo.clone(), open.touched.clone()),
            None => return Ok(()),
        };
        for (slot, state) in held.iter_mut() {
            // What is not committed is undone by letting go; the lock of what is committed stays.
            if let (State::Live(live), false) = (&mut **state, touched.contains(&slot.path)) {
                live.unlock();
            }
        }
        if !touched.is_empty() {
            let done = self.lock_all(held, limit).and_then(|()| {
                self.capture_all(held)?;
                let mut vector = positions(held);
                for path in &touched {
                    match undo.get(path) {
                        Some(at) => vector.insert(path.clone(), *at),
                        None => vector.remove(path),
                    };
                }
                let mut changes = self.plan_all(held, &vector)?;
                self.carry_out(held, &mut changes, &mut |_| {})
            });
            super::unlock_all(held);
            done?;
        }
        self.all_is_back()
    }

    /// The databases stand where they stood: so do the ledger, and what was moved out of the way.
    fn all_is_back(&self) -> Result<(), TurnError> {
        let (undo, touched) = match &*self.open_turn() {
            Some(open) => (open.undo.clone(), open.touched.clone()),
            None => return Ok(()),
        };
        for path in touched.iter().filter(|path| !undo.contains_key(*path)) {
            if self.ledger.current(path)?.is_some_and(|known| !known.deleted) {
                self.ledger.record_deleted(path)?;
            }
        }
        self.move_back();
        Ok(())
    }

    /// Puts back what was moved out of the way, where nothing else has come.
    fn move_back(&self) {
        let aside = self.open_turn().as_mut().map(|open| std::mem::take(&mut open.aside)).unwrap_or_default();
        for (from, to) in aside.into_iter().rev() {
            let disk = &*self.settings.machine.disk;
            if let Err(error) = disk.rename_new(&to, &from).and_then(|()| disk.sync_dir(disk::parent(&from)))
            {
                tracing::warn!(event = "file not moved back", path = %to.display(), %error);
            }
        }
    }

    /// Finishes a restore that a crash interrupted, or takes it back; what can be neither now is tried again.
    pub(in crate::engine) fn finish_interrupted(&self) -> Result<(), StartError> {
        let Some(Intent { id, target_name, undo, target, .. }) = self.ledger.open_intent()? else {
            return Ok(());
        };
        self.open(id, &target_name, &undo, &target);
        for path in undo.keys().chain(target.keys()) {
            self.touch(path);
        }
        for slot in self.slots().iter().filter(|slot| !self.has_no_part(&slot.path)) {
            self.touch(&slot.path);
        }
        let finish = match self.turn_all(&target) {
            Ok(()) => {
                tracing::warn!(
                    event = "restore finished",
                    target = target_name,
                    "a crash had interrupted it"
                );
                self.log_open(self.end(None));
                return Ok(());
            }
            Err(error) => error,
        };
        match self.turn_all(&undo).and_then(|()| self.all_is_back()) {
            Ok(()) => {
                let reason = finish.to_string();
                tracing::error!(event = "restore rolled back", target = target_name, reason);
                self.log_open(self.end(Some(reason)));
            }
            Err(back) => {
                let disk_full = finish.disk_full() || back.disk_full();
                let reason =
                    format!("a crash interrupted it; finishing it: {finish}; rolling it back: {back}");
                self.log_open(Err(self.still_open(reason, disk_full)));
            }
        }
        Ok(())
    }

    fn log_open(&self, ended: Result<(), Unfinished>) {
        if let Err(open) = ended {
            tracing::error!(event = "restore not finished", %open, "no app, checkpoint or restore until it is");
        }
    }

    /// Turns all databases to a vector, of an intent that is recorded already.
    fn turn_all(&self, target: &Vector) -> Result<(), TurnError> {
        let (stays, slots): (Vec<_>, Vec<_>) =
            self.slots_with(target).into_iter().partition(|slot| self.has_no_part(&slot.path));
        let mut held: Held = slots.iter().map(|slot| (slot, slot.lock())).collect();
        let done = self.lock_all(&mut held, TAKE_BACK_LIMIT).and_then(|()| {
            self.capture_all(&mut held)?;
            let mut changes = self.plan_all(&held, target)?;
            self.carry_out(&mut held, &mut changes, &mut |_| {})
        });
        super::unlock_all(&mut held);
        done?;
        if stays.is_empty() {
            self.note_turned(&held);
        }
        Ok(())
    }

    /// Whether a database has no part in the turn: what lies in the home of a volume that comes up from a store, and the
    /// store does not have, stays as it is.
    fn has_no_part(&self, path: &DatabasePath) -> bool {
        let open = self.open_turn();
        let open = open.as_ref().filter(|open| open.name == NEWEST_MOMENT);
        open.is_some_and(|open| !open.undo.contains_key(path) && !open.target.contains_key(path))
    }

    fn no_room(&self) -> bool {
        let free = self.settings.machine.disk.free_bytes(&self.settings.home);
        free.is_ok_and(|free| free < NO_ROOM_BYTES)
    }
}
