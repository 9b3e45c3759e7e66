//! The bucket as one machine sees it: each call is counted, meets its fault, and is done whole or not at all.

use super::contents::{self, Condition};
use super::faults::{Call, Fault, Verb};
use super::{LateWrite, SimBucket, State};
use crate::options::REQUEST_TIMEOUT;
use crate::{About, ErrorKind, Fill, Key, Layout, Listed, Objects, Outcome, Piece, StoreError, Tag};
use base::sim::SimDisk;
use base::{Clock, Disk};
use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, MutexGuard};

const URL: &str = "sim://bucket";

/// Of so many objects a gappy listing leaves out one.
const GAP_EVERY: u64 = 4;

/// A simulated bucket, as one machine sees it. A clone is the same machine's.
#[derive(Clone)]
pub struct SimStore {
    bucket: SimBucket,
    name: String,
    pub(super) machine: SimDisk,
}

impl SimStore {
    pub(super) fn new(bucket: SimBucket, name: &str, machine: &SimDisk) -> SimStore {
        SimStore { bucket, name: name.to_owned(), machine: machine.clone() }
    }

    /// The bucket behind it.
    pub fn bucket(&self) -> &SimBucket {
        &self.bucket
    }

    fn call<'a>(&'a self, verb: Verb, key: Option<&'a Key>) -> Call<'a> {
        Call { machine: &self.name, verb, key }
    }

    /// Counts a call, and says what befalls it; the machine's time has passed then.
    fn begin(&self, call: &Call<'_>) -> Result<(MutexGuard<'_, State>, Option<Fault>), StoreError> {
        if let Err(gone) = self.machine.metadata(Path::new("/")) {
            return Err(StoreError::new(ErrorKind::Unreachable, URL, call.key, gone.to_string()));
        }
        let clock = self.machine.clock();
        let mut state = self.bucket.state();
        state.land(1);
        state.journal.count(call);
        let State { faults, random, .. } = &mut *state;
        let fault = faults.befalls(call, clock.boottime(), random);
        match fault {
            Some(Fault::Slow(delay)) => clock.advance(delay),
            Some(fault) if fault.is_silent() => clock.advance(REQUEST_TIMEOUT),
            _ => {}
        }
        Ok((state, fault))
    }

    /// Notes what the caller was told.
    fn end(&self, state: &mut State, call: &Call<'_>, fault: Option<Fault>, what: &str) {
        state.journal.note(self.machine.clock().boottime(), call, fault, what);
    }

    fn write(
        &self,
        call: &Call<'_>,
        key: &Key,
        condition: Condition,
        content: &mut dyn FnMut() -> Result<Vec<u8>, StoreError>,
    ) -> Result<Outcome, StoreError> {
        let mut bytes: Arc<[u8]> = content()?.into();
        let (mut state, fault) = self.begin(call)?;
        if fault == Some(Fault::Again) {
            // Whoever makes the content may ask the store meanwhile.
            drop(state);
            let again: Arc<[u8]> = content()?.into();
            if again != bytes {
                return Err(StoreError::new(
                    ErrorKind::Content,
                    URL,
                    Some(key),
                    "it is another the second time",
                ));
            }
            bytes = again;
            state = self.bucket.state();
        }
        state.journal.sent(&self.name, bytes.len());
        let what = format!("{} bytes {}", bytes.len(), contents::tag(&bytes).0);
        let (truth, told) = match fault {
            Some(Fault::Error(kind)) => (None, Err(failed(call, kind))),
            Some(Fault::Conflict | Fault::RequestLost) => (None, Ok(Outcome::Unknown)),
            Some(Fault::Late(calls)) => {
                let (machine, verb, key) = (self.name.clone(), call.verb, key.clone());
                state.late.push((calls, LateWrite { machine, verb, key, bytes, condition }));
                (None, Ok(Outcome::Unknown))
            }
            Some(Fault::ReplyLost) => {
                (Some(state.contents.write(key, &bytes, &condition)), Ok(Outcome::Unknown))
            }
            _ => {
                let outcome = state.contents.write(key, &bytes, &condition);
                (Some(outcome.clone()), Ok(outcome))
            }
        };
        let truth = truth.map_or("not done".to_owned(), |truth| format!("{truth:?}"));
        self.end(&mut state, call, fault, &format!("{what}: {truth}"));
        told
    }
}

fn failed(call: &Call<'_>, kind: ErrorKind) -> StoreError {
    StoreError::new(kind, URL, call.key, format!("simulated: {}", kind.code()))
}

/// What keeps a call that changes nothing from its answer.
fn unanswered(call: &Call<'_>, fault: Option<Fault>) -> Result<(), StoreError> {
    match fault {
        Some(Fault::Error(kind)) => Err(failed(call, kind)),
        Some(fault) if fault.is_silent() => Err(failed(call, ErrorKind::Timeout)),
        _ => Ok(()),
    }
}

impl fmt::Debug for SimStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimStore({})", self.name)
    }
}

impl Objects for SimStore {
    fn url(&self) -> &str {
        URL
    }

    fn layout(&self) -> Layout {
        Layout::Flat
    }

    fn create(&self, key: &Key, _about: About, fill: &mut Fill<'_>) -> Result<Outcome, StoreError> {
        let call = self.call(Verb::Create, Some(key));
        self.write(&call, key, Condition::Absent, &mut || {
            let mut bytes = Vec::new();
            let failed = |why: String| StoreError::new(ErrorKind::Content, URL, Some(key), why);
            fill(&mut bytes).map_err(|cause| failed(cause.to_string()))?;
            Ok(bytes)
        })
    }

    fn replace(&self, key: &Key, bytes: &[u8], was: &Tag) -> Result<Outcome, StoreError> {
        let call = self.call(Verb::Replace, Some(key));
        self.write(&call, key, Condition::Is(was.clone()), &mut || Ok(bytes.to_vec()))
    }

    fn read(&self, key: &Key, from: u64, bytes_max: usize) -> Result<Option<Piece>, StoreError> {
        let call = self.call(Verb::Read, Some(key));
        let (mut state, fault) = self.begin(&call)?;
        let told = unanswered(&call, fault).map(|()| state.contents.read(key, from, bytes_max));
        if let Ok(Some(piece)) = &told {
            state.journal.fetched(&self.name, piece.bytes.len());
        }
        self.end(&mut state, &call, fault, &format!("{bytes_max} bytes from {from}: {}", Told(&told)));
        told
    }

    fn remove(&self, keys: &[Key]) -> Result<(), StoreError> {
        let call = self.call(Verb::Remove, keys.first());
        let (mut state, fault) = self.begin(&call)?;
        let told = unanswered(&call, fault);
        let count = match fault {
            Some(Fault::ReplyLost) => state.random.below(keys.len() as u64 + 1),
            _ if told.is_err() => 0,
            _ => keys.len() as u64,
        };
        for key in keys.iter().take(usize::try_from(count).unwrap_or(usize::MAX)) {
            state.contents.remove(key);
        }
        self.end(&mut state, &call, fault, &format!("{} keys: {count} done", keys.len()));
        told
    }

    fn list(
        &self,
        below: Option<&Key>,
        each: &mut dyn FnMut(Listed) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let call = self.call(Verb::List, below);
        let shown = {
            let (mut state, fault) = self.begin(&call)?;
            let told = unanswered(&call, fault).map(|()| {
                let changes_ago = if let Some(Fault::OldListing(changes)) = fault { changes } else { 0 };
                let mut shown = state.contents.list(below, changes_ago);
                if fault == Some(Fault::GappyListing) {
                    shown.retain(|_| state.random.below(GAP_EVERY) > 0);
                }
                state.shuffle(&mut shown);
                shown
            });
            let count = told.as_ref().map_or(0, Vec::len);
            self.end(&mut state, &call, fault, &format!("{count} objects"));
            told?
        };
        for one in shown {
            if each(one).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// What was read, in the log.
struct Told<'a>(&'a Result<Option<Piece>, StoreError>);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Ok(Some(piece)) => write!(f, "{} of {} bytes {}", piece.bytes.len(), piece.len, piece.tag.0),
            Ok(None) => f.write_str("none"),
            Err(error) => f.write_str(error.kind.code()),
        }
    }
}
