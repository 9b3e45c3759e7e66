//! Turning the whole volume to another moment, in place.
//!
//! ```text
//! validate ──> stop_app ──> [engine: lock, capture, apply, verify] ──> start_app
//!    │ history damaged: nothing     │ held by others: nothing changed, the app starts again
//!    │ has happened yet             │ not begun (a seal failed): the same
//!    │                              │ failed: rolled back, the app stays stopped, issue
//!    │                              │ unfinished (disk full): neither; tried again, the app may not start meanwhile
//! ```
//! One restore at a time. The app is started again only where it should have been running before; the catalogue is
//! read before anything stops, and the engine has checked every page it will need by then.

use crate::control::{
    DatabaseChange, RestoreError, RestoreRequest, Restored, State, Step, Target, milliseconds,
};
use crate::node::lifetime::HeldDown;
use crate::node::parts::Databases;
use crate::node::{Core, actions, lock};
use base::{Clock, Timestamp};
use database::engine::{Change, ChangeKind, HistoryProblem, TurnError, Unfinished};
use database::ledger::Vector;
use serde_json::json;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long a restore waits for the write locks of processes outside, before it says who holds them.
pub const LOCK_LIMIT: Duration = Duration::from_secs(10);
/// Vectors tried for one point in time, newest first, before the history is called damaged.
pub const VECTORS_TRIED: usize = 1000;

/// How far clocks of clients may be ahead, milliseconds: a time beyond that is still to come.
pub const AHEAD_MAX_MS: i64 = 1000;

/// A target found: its name, its moment, its positions, and what turning to it changes.
pub(crate) struct Resolved {
    pub(crate) name: String,
    pub(crate) as_of: Timestamp,
    pub(crate) vector: Vector,
    pub(crate) changes: Vec<Change>,
}

impl Core {
    /// Turns the volume, or says what that would change.
    pub(crate) fn restore(&self, request: &RestoreRequest) -> Result<Restored, RestoreError> {
        if self.config().is_none() {
            return Err(RestoreError::Unconfigured);
        }
        self.may_restore()?;
        self.refuse_to_come(&request.target)?;
        let _running = Running::begin(&self.restoring).ok_or(RestoreError::Running)?;
        let _turn = lock(&self.turn);
        // Whoever had the turn may have given the right to write away.
        self.may_restore()?;
        let Some(databases) = self.databases() else {
            return Err(not_begun("the databases are not up: see `stead status`"));
        };
        if !request.dry_run {
            databases.settle().map_err(unfinished)?;
        }
        let mut steps = Steps::new(&*self.setup.machine.clock);
        if request.dry_run {
            // A restore would begin at the last commit, so what is compared must reach up to it.
            steps.begin("seal");
            databases.sync();
        }
        steps.begin("validate");
        let resolved = self.resolve(&request.target, &*databases)?;
        if request.dry_run {
            return Ok(steps.restored(resolved.name, true, resolved.as_of, self.shown(resolved.changes)));
        }
        self.tell("restore", json!({ "target": resolved.name, "state": "running" }));
        tracing::info!(event = "restore begun", to = resolved.name, as_of = %resolved.as_of);
        let outcome = self.turn_back(&*databases, &resolved, &mut steps);
        match outcome {
            Ok(changes) => {
                let restored = steps.restored(resolved.name, false, resolved.as_of, self.shown(changes));
                tracing::info!(event = "restored", to = restored.target, ms = restored.ms);
                self.tell(
                    "restore",
                    json!({ "target": restored.target, "state": "done", "ms": restored.ms }),
                );
                Ok(restored)
            }
            Err(error) => {
                tracing::error!(event = "restore failed", %error, to = resolved.name);
                let told = json!({ "target": resolved.name, "state": "failed", "reason": error.to_string() });
                self.tell("restore", told);
                Err(error)
            }
        }
    }

    fn may_restore(&self) -> Result<(), RestoreError> {
        match self.state() {
            State::Replica => Err(RestoreError::NotPrimary("it has released the right to write".to_owned())),
            _ => Ok(()),
        }
    }

    /// What is to come cannot be turned to, and the app would be stopped for nothing.
    fn refuse_to_come(&self, target: &Target) -> Result<(), RestoreError> {
        let now = self.now();
        match target {
            Target::Time(time) if time.0 > now.0.saturating_add(AHEAD_MAX_MS) => {
                Err(RestoreError::ToCome(*time, now))
            }
            _ => Ok(()),
        }
    }

    /// Stops the app, turns the databases, starts the app. The caller holds `turn`.
    fn turn_back(
        &self,
        databases: &dyn Databases,
        resolved: &Resolved,
        steps: &mut Steps<'_>,
    ) -> Result<Vec<Change>, RestoreError> {
        steps.begin("stop_app");
        if !self.stop_app("a restore") {
            // Nothing was changed, so nothing speaks against the app: at the latest the next start of the node starts it.
            self.start_app_if_wanted();
            return Err(RestoreError::AppNotStopped);
        }
        let _no_writers = self.writers.close("a restore turns the databases");
        let turned = databases.turn_back(&resolved.name, &resolved.vector, LOCK_LIMIT, &mut |step| {
            steps.begin(step);
        });
        let error = match turned {
            Ok(changes) => {
                self.clear("app", actions::RESTORE_FAILED);
                if matches!(self.held_down(), Some(HeldDown::Restore(_))) {
                    self.release_hold();
                }
                steps.begin("start_app");
                self.start_app_if_wanted();
                return Ok(changes);
            }
            Err(error) => error,
        };
        match error {
            TurnError::Running => {
                self.start_app_if_wanted();
                Err(RestoreError::Running)
            }
            TurnError::Held { path, pids, reason } => {
                self.start_app_if_wanted();
                Err(RestoreError::Held { path, reason, pids })
            }
            TurnError::History(problem) => {
                self.start_app_if_wanted();
                Err(RestoreError::History { path: problem.path, reason: problem.reason })
            }
            TurnError::NotBegun { reason, disk_full } => {
                self.start_app_if_wanted();
                Err(RestoreError::NotBegun { reason, disk_full })
            }
            TurnError::Failed { reason, disk_full } => {
                self.keep_down(&reason);
                Err(RestoreError::Failed { reason, disk_full })
            }
            TurnError::Unfinished(open) => {
                self.hold_for_restore(&open.reason);
                lock(&self.parts).restore_open = Some(open.clone());
                self.alarm.ring();
                Err(unfinished(open))
            }
        }
    }

    /// Keeps the app down after a failure, with the reason where everybody sees it.
    fn keep_down(&self, reason: &str) {
        self.raise(actions::restore_issue(reason));
        self.hold_for_restore(reason);
    }

    fn hold_for_restore(&self, reason: &str) {
        if self.held_down() == Some(HeldDown::Maintenance) {
            // Somebody stopped it, and no restore that succeeds later takes that back.
            return;
        }
        if let Err(error) = self.hold_down(HeldDown::Restore(reason.to_owned())) {
            tracing::error!(event = "app stop not kept", %error, "app.stopped was not written: the app starts at the next start of the node");
        }
    }

    /// Notes how a restore ended that had not ended before: in this run, or in the one before. One that is done after all
    /// holds the app down no longer. The caller holds `turn`.
    pub(crate) fn note_restore_end(&self) {
        if let Some(open) = self.databases().and_then(|databases| databases.unfinished()) {
            lock(&self.parts).restore_open = Some(open);
            return;
        }
        let open = lock(&self.parts).restore_open.clone();
        let held = self.held_down();
        let reason = match (&held, &open) {
            (Some(HeldDown::Restore(reason)), _) => reason.clone(),
            (_, Some(open)) => open.reason.clone(),
            (_, None) => return,
        };
        let done = self.setup.ledger.last_restore_is_done().unwrap_or_else(|error| {
            tracing::error!(
                event = "ledger failed", %error,
                "how the last restore ended is not known: the app stays as it is"
            );
            false
        });
        if done {
            tracing::info!(event = "restore finished", reason, "the restore that was not finished is done");
            self.clear("app", actions::RESTORE_FAILED);
            if matches!(held, Some(HeldDown::Restore(_))) {
                self.release_hold();
            }
            if let Some(open) = open {
                self.tell("restore", json!({ "target": open.name, "state": "done" }));
            }
        } else if held.is_some() {
            self.raise(actions::restore_issue(&reason));
        }
        lock(&self.parts).restore_open = None;
    }

    fn shown(&self, changes: Vec<Change>) -> Vec<DatabaseChange> {
        changes.into_iter().map(|change| shown(change, self.setup.home.root())).collect()
    }

    fn resolve(&self, target: &Target, databases: &dyn Databases) -> Result<Resolved, RestoreError> {
        let ledger = &self.setup.ledger;
        match target {
            Target::Checkpoint(id) => {
                let stored = ledger.checkpoint(id.as_str()).map_err(not_begun)?;
                let stored = stored.ok_or_else(|| RestoreError::NotFound(id.clone()))?;
                checked(id.to_string(), stored.created, stored.vector, databases)
            }
            Target::Undo => {
                let undo = ledger.last_undo().map_err(not_begun)?;
                let vector = undo.ok_or_else(|| {
                    RestoreError::NothingThere(
                        "there is nothing to undo: no restore has been made".to_owned(),
                    )
                })?;
                checked("undo".to_owned(), self.moment_of(&vector), vector, databases)
            }
            Target::Time(time) => self.resolve_time(*time, databases),
        }
    }

    /// The newest moment not later whose histories are whole: thinning leaves moments that a database can no longer
    /// be turned to, and an older one that all can is wanted then.
    fn resolve_time(&self, time: Timestamp, databases: &dyn Databases) -> Result<Resolved, RestoreError> {
        let (mut tried, mut changes, mut newest_problem) = (0, None, None);
        let found = self.setup.ledger.find_vector(time, &mut |_, vector| {
            tried += 1;
            match databases.validate(vector) {
                Ok(found) => changes = Some(found),
                Err(problem) => drop(newest_problem.get_or_insert(problem)),
            }
            changes.is_some() || tried == VECTORS_TRIED
        });
        match (found.map_err(not_begun)?, changes, newest_problem) {
            (Some((as_of, vector)), Some(changes), _) => {
                Ok(Resolved { name: time.rfc3339(), as_of, vector, changes })
            }
            (_, _, Some(problem)) => Err(history_error(problem)),
            _ => Err(RestoreError::NothingThere(format!("nothing that is kept reaches back to {time}"))),
        }
    }

    /// When the volume stood as the undo point says, as far as it was noted.
    fn moment_of(&self, vector: &Vector) -> Timestamp {
        let mut tried = 0;
        let found = self.setup.ledger.find_vector(self.now(), &mut |_, noted| {
            tried += 1;
            noted == vector || tried == VECTORS_TRIED
        });
        match found {
            Ok(Some((at, noted))) if noted == *vector => at,
            _ => self.now(),
        }
    }
}

fn checked(
    name: String,
    as_of: Timestamp,
    vector: Vector,
    databases: &dyn Databases,
) -> Result<Resolved, RestoreError> {
    let changes = databases.validate(&vector).map_err(history_error)?;
    Ok(Resolved { name, as_of, vector, changes })
}

fn not_begun(reason: impl ToString) -> RestoreError {
    RestoreError::NotBegun { reason: reason.to_string(), disk_full: false }
}

fn unfinished(open: Unfinished) -> RestoreError {
    RestoreError::Unfinished { disk_full: open.disk_full, reason: open.to_string() }
}

fn history_error(problem: HistoryProblem) -> RestoreError {
    RestoreError::History { path: problem.path, reason: problem.reason }
}

/// The mark that a restore runs, taken back when dropped.
struct Running<'a>(&'a AtomicBool);

impl<'a> Running<'a> {
    fn begin(flag: &'a AtomicBool) -> Option<Running<'a>> {
        // Made only when it is ours: a mark that is dropped is taken back.
        (!flag.swap(true, Ordering::SeqCst)).then(|| Running(flag))
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

/// The steps of a restore and how long each took, on the boot clock.
struct Steps<'a> {
    clock: &'a dyn Clock,
    begun: Duration,
    done: Vec<Step>,
    current: Option<(&'static str, Duration)>,
}

impl<'a> Steps<'a> {
    fn new(clock: &'a dyn Clock) -> Steps<'a> {
        Steps { clock, begun: clock.boottime(), done: Vec::new(), current: None }
    }

    /// Ends the step before and begins this one.
    fn begin(&mut self, step: &'static str) {
        let now = self.clock.boottime();
        if let Some((before, since)) = self.current.replace((step, now)) {
            self.done.push(Step { step: before, ms: milliseconds(now - since) });
        }
    }

    fn restored(
        &mut self,
        target: String,
        dry_run: bool,
        as_of: Timestamp,
        databases: Vec<DatabaseChange>,
    ) -> Restored {
        let now = self.clock.boottime();
        if let Some((last, since)) = self.current.take() {
            self.done.push(Step { step: last, ms: milliseconds(now - since) });
        }
        Restored {
            target,
            dry_run,
            as_of,
            databases,
            steps: std::mem::take(&mut self.done),
            ms: milliseconds(now - self.begun),
        }
    }
}

fn shown(change: Change, root: &Path) -> DatabaseChange {
    let kind = match change.kind {
        ChangeKind::Unchanged => "unchanged",
        ChangeKind::TurnedBack => "turned_back",
        ChangeKind::Removed => "removed",
        ChangeKind::Recreated => "recreated",
        ChangeKind::Replaced => "replaced",
    };
    let aside = change.aside.map(|aside| aside.strip_prefix(root).unwrap_or(&aside).display().to_string());
    let Change { path, from, to, pages, .. } = change;
    DatabaseChange { path, change: kind, from, to, pages, aside }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_restores_cannot_run_at_once() {
        let flag = AtomicBool::new(false);
        let first = Running::begin(&flag).unwrap();
        for _ in 0..2 {
            assert!(Running::begin(&flag).is_none(), "a refused restore must not end the one that runs");
        }
        drop(first);
        assert!(Running::begin(&flag).is_some());
    }
}
