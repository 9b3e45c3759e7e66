//! A history whose beginning lies in a store that is away: what is sealed goes on here.
//!
//! A machine that came up from a store, or gave the beginning up at its local limit, has only the end. Nothing can be
//! restored from that alone, and nothing is merged or removed until the store is back; whoever follows the database needs
//! no more than its end, if the checksums that were saved lead to it.

use super::files::{Place, Unusable};
use super::{History, HistoryError, SealedFile};
use base::{Disk, Txid};
use std::cmp::Reverse;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl History {
    /// Opens what lies here of a history while its store is away: it ends with the file that reaches furthest, whether
    /// others here lead to it or not.
    pub fn open_apart(disk: Arc<dyn Disk>, local: PathBuf) -> Result<History, HistoryError> {
        let history = History::open(disk, local, None)?;
        let inner = &history.inner;
        inner.store_away.store(true, Ordering::SeqCst);
        let reached = history.last().map_or(Txid::ZERO, |last| last.header.max_txid);
        let mut beyond = inner.usable(Some(Place::Local));
        beyond.retain(|entry| entry.key.max > reached);
        beyond.sort_by_key(|entry| Reverse((entry.key.max, Reverse(entry.key.level))));
        for entry in beyond {
            match entry.read_header(&*inner.disk) {
                Ok(header) => {
                    inner.lock().last = Some(SealedFile { file: entry.info(), header });
                    inner.apart.store(true, Ordering::SeqCst);
                    break;
                }
                Err(Unusable::Damaged) => {}
                Err(Unusable::Unavailable(cause)) => return Err(inner.not_found(entry.path.clone(), cause)),
            }
        }
        Ok(history)
    }

    /// Whether it goes to a store that was away when it was opened, and that it was not given since.
    pub fn store_away(&self) -> bool {
        self.inner.store_away.load(Ordering::SeqCst)
    }

    /// Whether its beginning is in a store that is not there yet.
    pub fn is_apart(&self) -> bool {
        self.inner.apart.load(Ordering::SeqCst)
    }
}
