//! What the store lacks of a history, as far as it lies here: the fewest files that go on from what is stored.

use super::History;
use super::files::{Entry, Place};
use base::Timestamp;
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
