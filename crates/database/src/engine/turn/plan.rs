//! What a turn would do to each database: pages compared, files that come and go, and who is in the way.

use super::{Change, ChangeKind, Held, HistoryProblem, TurnError, list};
use crate::engine::Shared;
use crate::engine::create::aside_name;
use crate::engine::slot::{Slot, State};
use crate::history::PageReader;
use crate::ledger::Vector;
use crate::live::{ApplyError, Differing, Live};
use base::Position;

/// How often pages are planned anew because a file was found damaged.
const REPLANS_MAX: usize = 16;

/// A change, and the pages that were found to differ as it was planned.
#[derive(Debug)]
pub(super) struct Planned {
    pub change: Change,
    pub found: Option<Differing>,
}

impl Shared {
    /// What a turn does to one database; `None`: it is neither there nor in the target.
    pub(super) fn plan_change(
        &self,
        slot: &Slot,
        state: &State,
        target: &Vector,
    ) -> Result<Option<Planned>, HistoryProblem> {
        let problem = |reason: String| HistoryProblem { path: slot.path.clone(), reason };
        let to = target.get(&slot.path).copied();
        let live = match state {
            State::Live(live) => Some(&**live),
            State::Waiting => None,
        };
        let from = live.map(|live| live.position());
        let change = |kind, from, pages| {
            let swapped = !matches!(kind, ChangeKind::Unchanged | ChangeKind::TurnedBack);
            let unknown = swapped && self.is_unknown(slot, live);
            let aside = unknown.then(|| aside_name(&*self.settings.machine.disk, &slot.file));
            let change = Change { path: slot.path.clone(), kind, from, to, pages, aside };
            Some(Planned { change, found: None })
        };
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
        let found = replanning(|| {
            let mut pages = pages_at(live, to).map_err(ApplyError::History)?;
            differing(live, to, &mut pages)
        })
        .map_err(|error| problem(error.to_string()))?;
        if found.checksum() != to.checksum {
            let (txid, found, wanted) = (to.txid, found.checksum(), to.checksum);
            return Err(problem(format!("the pages at txid {txid} add up to {found}, not {wanted}")));
        }
        let planned = change(ChangeKind::TurnedBack, from, found.count());
        Ok(planned.map(|planned| Planned { found: Some(found), ..planned }))
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
            let Some(planned) = self.plan_change(slot, state, target)? else { continue };
            let swapped = !matches!(planned.change.kind, ChangeKind::Unchanged | ChangeKind::TurnedBack);
            let pids = if swapped { self.settings.machine.kernel.openers(&slot.file) } else { Vec::new() };
            if !pids.is_empty() {
                let reason =
                    format!("its file is to be swapped, and another process ({}) has it open", list(&pids));
                return Err(TurnError::Held { path: slot.path.clone(), pids, reason });
            }
            changes.push(planned);
        }
        Ok(changes)
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
pub(super) fn pages_at(live: &Live, to: Position) -> Result<PageReader, String> {
    let plan = live.history().plan(to.txid).map_err(|error| error.to_string())?;
    plan.reader().map_err(|error| error.to_string())
}

/// Which of them differ from what the database holds.
pub(super) fn differing(live: &Live, to: Position, pages: &mut PageReader) -> Result<Differing, ApplyError> {
    let candidates = live.history().changed(to.txid, live.position().txid);
    live.differing(pages, &candidates.map_err(|error| ApplyError::History(error.to_string()))?)
}
