//! What the store lacks of a history, as far as it lies here: the fewest files that go on from what is stored.

use super::files::{Entry, FileKey, Place};
use super::{Files, History, plan};
use base::{Timestamp, Txid};
use std::cmp::Reverse;
use std::sync::Arc;

/// What a store lacks of one history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unsent {
    /// Seals.
    pub seals: u64,
    /// Bytes of the files here that hold them.
    pub bytes: u64,
    /// The moment of the oldest of these files.
    pub oldest: Option<Timestamp>,
}

impl History {
    /// What the store lacks of what is sealed; `None` where there is no store, or it is not known what it has.
    pub fn unsent(&self) -> Option<Unsent> {
        self.inner.store.get()?;
        let (stored, local) = {
            let files = self.inner.lock();
            let stored = files.stored.0;
            // Whoever goes on from what is stored needs no snapshot.
            let wanted = |entry: &&Arc<Entry>| {
                entry.place == Place::Local
                    && entry.key.max > stored
                    && entry.damage().is_none()
                    && (!entry.key.is_snapshot() || stored.0 == 0)
            };
            (stored, files.all().filter(wanted).cloned().collect::<Vec<_>>())
        };
        let fewest = fewest(local, stored.0);
        let first = fewest.first().and_then(|entry| entry.header(&*self.inner.disk).ok());
        Some(Unsent {
            seals: self.last().map_or(0, |last| last.header.max_txid.0.saturating_sub(stored.0)),
            bytes: fewest.iter().map(|entry| entry.bytes).sum(),
            oldest: first.map(|header| header.timestamp),
        })
    }

    /// Whether the home has anything to send that leads to a position up to this one, which the store does not lead to.
    pub fn lacks_in_store(&self, upto: Txid) -> bool {
        if self.stored_txid() < upto {
            return true;
        }
        let mut unsent = self.inner.unshipped();
        unsent.retain(|entry| entry.key.max <= upto && !self.inner.lock().is_covered_in_store(entry.key));
        !unsent.is_empty() && {
            let found = self.stored_positions();
            unsent.iter().any(|entry| !found.contains(&entry.key.max))
        }
    }

    /// Whether the store leads further, or to more on the way, once a list has what is there.
    pub fn awaits_list(&self) -> bool {
        let (stored, sound, hidden) = {
            let files = self.inner.lock();
            let is_sound = |entry: &Entry| entry.damage().is_none() && !files.orphans.contains(&entry.key);
            let sound = || files.in_store().filter(|entry| is_sound(entry));
            let stored = files.stored.0;
            let hidden = sound().filter(|entry| !files.is_findable(entry)).map(|entry| entry.key.max);
            let hidden: Vec<Txid> = hidden.filter(|end| !files.has_findable_end(*end)).collect();
            // Whoever asks after each seal has most often sent all there is.
            if hidden.is_empty() && !sound().any(|entry| entry.key.max > stored) {
                return false;
            }
            (stored, sound().map(|entry| entry.key.txids()).collect::<Vec<_>>(), hidden)
        };
        let leads = plan::reachable(sound);
        let further = leads.last().is_some_and(|end| *end > stored);
        further || {
            let mut more = hidden.into_iter().filter(|end| leads.contains(end)).peekable();
            more.peek().is_some() && {
                let found = self.stored_positions();
                more.any(|end| !found.contains(&end))
            }
        }
    }
}

impl Files {
    /// Whether a copy in the store that is found ends there.
    fn has_findable_end(&self, end: Txid) -> bool {
        let seal = FileKey { level: 0, min: end, max: end };
        let found = |entry: &Arc<Entry>| entry.key.max == end && self.is_findable(entry);
        self.entries.get(&(seal, Place::Store)).is_some_and(found) || self.in_store().any(found)
    }
}

/// The fewest files that lead on from a position, one after another.
fn fewest(mut files: Vec<Arc<Entry>>, from: u64) -> Vec<Arc<Entry>> {
    files.sort_by_key(|entry| (entry.key.min, Reverse(entry.key.max)));
    let mut files = files.into_iter().peekable();
    let (mut at, mut chosen) = (from, Vec::new());
    loop {
        let mut best: Option<Arc<Entry>> = None;
        while let Some(next) = files.next_if(|next| next.key.min.0 <= at + 1) {
            if best.as_ref().is_none_or(|best| next.key.max > best.key.max) {
                best = Some(next);
            }
        }
        match best {
            Some(best) if best.key.max.0 > at => {
                at = best.key.max.0;
                chosen.push(best);
            }
            _ => return chosen,
        }
    }
}
