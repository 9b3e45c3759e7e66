//! Two histories under one name: of a home that was turned back or copied, and went on without its store.
//!
//! Both parts are one history up to where they show the same database at the same TXID. Where they show another one
//! further on, what the store has beyond that is out of use, as an abandoned end is: it is moved aside, and what was sealed
//! here is sent.

use super::files::{Entry, Place};
use super::{Files, History, HistoryError, Inner, Stored};
use base::{Checksum, Epoch, Txid};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How a store's part was found to be another history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parted {
    /// The last TXID that both have in common; zero if none.
    pub common: Txid,
    /// The last one that the store had.
    pub stored: Txid,
}

/// What the files of one place show of the database: its checksum at a TXID.
type Shown = BTreeMap<Txid, Vec<Arc<Entry>>>;

impl History {
    /// Goes on with a store: one that was away when this was opened. Seals need not wait for that.
    pub fn attach_store(&self, stored: &Stored) -> Result<(), HistoryError> {
        self.inner.take_stored(stored);
        self.inner.apart.store(false, Ordering::SeqCst);
        self.inner.part(Some(self.last().map_or(Txid::ZERO, |last| last.header.max_txid)));
        self.inner.find_stored()?;
        self.inner.store_away.store(false, Ordering::SeqCst);
        Ok(())
    }

    /// Where the store's part turned out to be another history, if it did.
    pub fn parted(&self) -> Option<&Parted> {
        self.inner.parted.get()
    }

    /// Where it is not sure that what is here is a part of what the store has, though somebody else has written there since:
    /// what was merged may hide where they part.
    pub fn may_have_parted(&self) -> Option<Parted> {
        let (local, stored) = {
            let files = self.inner.lock();
            (shown(&files, Place::Local), shown(&files, Place::Store))
        };
        let ((here, ours), (there, theirs)) = (self.inner.end_of(&local)?, self.inner.end_of(&stored)?);
        let same = |txid: Txid| {
            let checksum = |shown: &Shown| {
                shown.get(&txid)?.iter().find_map(|entry| self.inner.checksum_at(entry, txid))
            };
            checksum(&local).is_some_and(|here| checksum(&stored) == Some(here))
        };
        if theirs <= ours || same(here.min(there)) {
            return None;
        }
        let common = local.keys().rev().copied().find(|txid| same(*txid)).unwrap_or(Txid::ZERO);
        Some(Parted { common, stored: there })
    }
}

impl Inner {
    /// The last TXID that files show, and under which right to write the file that ends there was sealed.
    fn end_of(&self, shown: &Shown) -> Option<(Txid, Epoch)> {
        let (end, entries) = shown.last_key_value()?;
        let epoch = |entry: &Arc<Entry>| match entry.place {
            Place::Local => entry.header(&*self.disk).ok().map(|header| header.epoch),
            Place::Store => entry.known_header().map(|header| header.epoch),
        };
        Some((*end, entries.iter().filter_map(epoch).max().unwrap_or_default()))
    }

    /// Puts out of use what is another history in the store.
    ///
    /// `last`: where this run stands already. What the store has beyond that was not known when it went on from there.
    pub(super) fn part(&self, last: Option<Txid>) {
        let (local, stored) = {
            let files = self.lock();
            (shown(&files, Place::Local), shown(&files, Place::Store))
        };
        let common = self.parts_after(&local, &stored);
        let common = match (common, last) {
            (Some(common), Some(last)) => common.min(last),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => return,
        };
        let mut files = self.lock();
        let beyond = |entry: &&Arc<Entry>| entry.place == Place::Store && entry.key.max > common;
        let beyond: Vec<_> = files.all().filter(beyond).map(|entry| entry.key).collect();
        let Some(stored) = beyond.iter().map(|key| key.max).max() else { return };
        files.orphans.extend(beyond);
        drop(files);
        tracing::error!(
            event = "history parted",
            file = %self.local.display(),
            common = common.0,
            stored = stored.0,
            "what the store has beyond is another history, and is set aside there"
        );
        let _ = self.parted.set(Parted { common, stored });
    }

    /// The last TXID at which both show the same database, where they show another one later; `None`: they do not.
    fn parts_after(&self, local: &Shown, stored: &Shown) -> Option<Txid> {
        let mut parted = false;
        for (txid, here) in local.iter().rev() {
            let Some(there) = stored.get(txid) else { continue };
            let checksum =
                |entries: &[Arc<Entry>]| entries.iter().find_map(|entry| self.checksum_at(entry, *txid));
            match (checksum(here), checksum(there)) {
                (Some(here), Some(there)) if here == there => return parted.then_some(*txid),
                (Some(_), Some(_)) => parted = true,
                // What cannot be read, or says nothing, is no proof either way.
                _ => {}
            }
        }
        parted.then_some(Txid::ZERO)
    }

    /// The checksum of the database before or after a file.
    fn checksum_at(&self, entry: &Entry, txid: Txid) -> Option<Checksum> {
        let header = match entry.place {
            Place::Local => entry.header(&*self.disk).ok()?,
            Place::Store => entry.known_header()?,
        };
        let found = if entry.key.max == txid { header.checksum_after } else { header.checksum_before };
        (found != Checksum::NONE).then_some(found)
    }
}

fn shown(files: &Files, place: Place) -> Shown {
    let mut shown = Shown::new();
    for entry in files.all().filter(|entry| entry.place == place && entry.damage().is_none()) {
        for txid in [entry.key.min.previous(), entry.key.max].into_iter().filter(|txid| *txid > Txid::ZERO) {
            shown.entry(txid).or_default().push(Arc::clone(entry));
        }
    }
    shown
}
