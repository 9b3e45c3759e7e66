//! What a turn would do to each database: pages compared, files that come and go, and who is in the way.

use super::{Change, ChangeKind, Held, HistoryProblem, TurnError, list};
use crate::engine::Shared;
use crate::engine::create::aside_name;
use crate::engine::slot::{Slot, State};
use crate::history::{History, PageReader, PlanError};
use crate::ledger::Vector;
use crate::live::{ApplyError, Differing, Live, Pages, Turned};
use crate::sums::Sums;
use base::{Pgno, Position};
use std::borrow::Cow;
use std::sync::Arc;

/// How often pages are planned anew because a file was found damaged.
const REPLANS_MAX: usize = 16;

/// A change, and the pages that were found to differ as it was planned.
#[derive(Debug)]
pub(super) struct Planned {
    pub change: Change,
    pub found: Option<Differing>,
}

impl Planned {
    fn turned_back(mut self, found: Differing) -> Planned {
        self.change.pages = found.count();
        self.found = Some(found);
        self
    }
}

/// A database as it stood at one moment.
#[derive(Debug)]
pub(super) struct Seen<'a> {
    position: Position,
    sums: Cow<'a, Sums>,
    history: Arc<History>,
    /// File system and inode.
    pub file: (u64, u64),
}

impl<'a> Seen<'a> {
    /// As it is while its lock is held.
    pub fn of(live: &'a Live) -> Seen<'a> {
        let sums = Cow::Borrowed(live.sums());
        let file = (live.device(), live.inode());
        Seen { position: live.position(), sums, history: Arc::clone(live.history()), file }
    }

    /// For looking at it when its lock is given back.
    pub fn into_owned(self) -> Seen<'static> {
        Seen { sums: Cow::Owned(self.sums.into_owned()), ..self }
    }

    /// How it differs from what it was at a position.
    fn differing(&self, to: Position) -> Result<Differing, ApplyError> {
        let mut pages = pages_at(&self.history, to)?;
        // What was sealed after the look is compared too, in vain.
        let now = self.history.last().map_or(self.position.txid, |last| last.header.max_txid);
        let candidates = self.history.changed(to.txid, now).unwrap_or_else(|error| {
            tracing::warn!(event = "history damaged", %error, "every page is compared");
            (1..=pages.count()).map(Pgno).collect()
        });
        Differing::find(&self.sums, &mut pages, &candidates)
    }
}

impl Shared {
    /// What a turn does to one database; `None`: it is neither there nor in the target.
    pub(super) fn plan_change(
        &self,
        slot: &Slot,
        seen: Option<&Seen<'_>>,
        target: &Vector,
    ) -> Result<Option<Planned>, HistoryProblem> {
        let path = || slot.path.clone();
        let to = target.get(&slot.path).copied();
        let from = seen.map(|seen| seen.position);
        let change = |kind, from, pages| {
            let swapped = !matches!(kind, ChangeKind::Unchanged | ChangeKind::TurnedBack);
            let unknown = swapped && self.is_unknown(slot, seen.map(|seen| seen.file));
            let aside = unknown.then(|| aside_name(&*self.settings.machine.disk, &slot.file));
            Planned { change: Change { path: path(), kind, from, to, pages, aside }, found: None }
        };
        let Some(to) = to else { return Ok(seen.map(|_| change(ChangeKind::Removed, from, 0))) };
        let Some(seen) = seen.filter(|seen| seen.position.incarnation == to.incarnation) else {
            let history = self.open_history_to(&slot.path, to.incarnation, to.txid).map_err(|error| {
                let away = error.of_store;
                HistoryProblem { path: path(), reason: error.to_string(), away }
            })?;
            let plan = history.plan(to.txid).map_err(|error| {
                let away = matches!(error, PlanError::Unavailable { .. });
                HistoryProblem { path: path(), reason: error.to_string(), away }
            })?;
            let (found, wanted) = (plan.header().checksum_after, to.checksum);
            if found != wanted {
                let reason = format!("txid {} of its history adds up to {found}, not {wanted}", to.txid);
                return Err(HistoryProblem { path: path(), reason, away: false });
            }
            let kind = if from.is_some() { ChangeKind::Replaced } else { ChangeKind::Recreated };
            return Ok(Some(change(kind, from, u64::from(plan.header().commit))));
        };
        if seen.position == to {
            return Ok(Some(change(ChangeKind::Unchanged, from, 0)));
        }
        let found = replanning(|| seen.differing(to)).map_err(|error| HistoryProblem {
            path: path(),
            reason: error.to_string(),
            away: false,
        })?;
        if found.checksum() != to.checksum {
            let (txid, found, wanted) = (to.txid, found.checksum(), to.checksum);
            let reason = format!("the pages at txid {txid} add up to {found}, not {wanted}");
            return Err(HistoryProblem { path: path(), reason, away: false });
        }
        Ok(Some(change(ChangeKind::TurnedBack, from, 0).turned_back(found)))
    }

    pub(super) fn plan_all(&self, held: &Held, target: &Vector) -> Result<Vec<Planned>, TurnError> {
        let mut changes = Vec::new();
        for (slot, state) in held {
            if matches!(**state, State::Waiting) && slot.is_there() {
                let pids = self.in_its_way(slot);
                let reason = if pids.is_empty() {
                    self.not_followed(slot).reason
                } else {
                    format!("it cannot be followed yet, and another process ({}) has it open", list(&pids))
                };
                return Err(TurnError::Held { path: slot.path.clone(), pids, reason });
            }
            let seen = match &**state {
                State::Live(live) => Some(Seen::of(live)),
                State::Waiting => None,
            };
            let Some(planned) = self.plan_change(slot, seen.as_ref(), target)? else { continue };
            if !matches!(planned.change.kind, ChangeKind::Unchanged | ChangeKind::TurnedBack) {
                self.nobody_has_it_open(slot)?;
            }
            changes.push(planned);
        }
        Ok(changes)
    }

    /// A file that another process has open is not swapped: what that writes would be lost.
    pub(super) fn nobody_has_it_open(&self, slot: &Slot) -> Result<(), TurnError> {
        let pids = self.settings.machine.kernel.openers(&slot.file);
        if pids.is_empty() {
            return Ok(());
        }
        let reason = format!("its file is to be swapped, and another process ({}) has it open", list(&pids));
        Err(TurnError::Held { path: slot.path.clone(), pids, reason })
    }
}

/// A file found damaged is not used again, so another try may find another way to the same pages.
pub(super) fn replanning<T>(mut work: impl FnMut() -> Result<T, ApplyError>) -> Result<T, ApplyError> {
    let mut last = work();
    for _ in 0..REPLANS_MAX {
        match last {
            Err(ApplyError::History(_)) => last = work(),
            done => return done,
        }
    }
    last
}

/// The pages at a position.
fn pages_at(history: &History, to: Position) -> Result<PageReader, ApplyError> {
    let plan = history.plan(to.txid).map_err(|error| ApplyError::History(error.to_string()))?;
    plan.reader().map_err(|error| ApplyError::History(error.to_string()))
}

/// Writes what a database was at a position over what it is, under its lock; how many pages it has then.
///
/// `found`: how the two differ, where that is known.
pub(super) fn write_back(
    live: &mut Live,
    to: Position,
    highest: u32,
    found: Option<Differing>,
) -> Result<(Turned, u32), ApplyError> {
    let found = match found {
        Some(found) => found,
        None => Seen::of(live).differing(to)?,
    };
    let mut pages = pages_at(live.history(), to)?;
    let count = pages.count();
    Ok((live.turn(&mut pages, found, to.checksum, highest)?, count))
}
