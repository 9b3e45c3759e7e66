//! Names and places: which file belongs to which database, and where its history and state lie.

use super::discover::BESIDE;
use super::slot::Slot;
use super::{Entry, Shared};
use crate::history::{History, HistoryError};
use crate::live::Place;
use base::{DatabasePath, Incarnation, Txid, disk};
use std::path::{Path, PathBuf};
use std::sync::Arc;

impl Shared {
    /// The file of a database.
    pub(super) fn file_of(&self, path: &DatabasePath) -> PathBuf {
        self.settings.home.join(path.as_str())
    }

    /// The name of the database that a file is, where an entry covers it.
    pub(super) fn name_of(&self, file: &Path) -> Option<DatabasePath> {
        let below = file.strip_prefix(&self.settings.home).ok()?;
        let path = DatabasePath::parse(below.to_str()?).ok()?;
        self.is_named(&path).then(|| path.clone()).or_else(|| self.matches(below).then_some(path))
    }

    /// Named by a `path` entry.
    pub(super) fn is_named(&self, path: &DatabasePath) -> bool {
        self.settings
            .entries
            .iter()
            .any(|entry| matches!(entry, Entry::File { path: named, .. } if named == path))
    }

    /// Matched by a pattern; `below` is relative to the home.
    pub(super) fn matches(&self, below: &Path) -> bool {
        let name = below.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if BESIDE.iter().chain(&[".tmp"]).any(|suffix| name.ends_with(suffix)) {
            return false;
        }
        // What was moved out of the way of a database that came back is nobody's database.
        if name.contains(super::ASIDE) {
            return false;
        }
        self.patterns.iter().any(|(dir, glob)| below.strip_prefix(dir).is_ok_and(|rest| glob.is_match(rest)))
    }

    /// Where one incarnation of a database lies.
    pub(super) fn place(&self, path: &DatabasePath, incarnation: Incarnation) -> Place {
        Place {
            path: path.clone(),
            file: self.file_of(path),
            incarnation,
            state: self.settings.home.join(".stead/databases").join(path.as_str()),
        }
    }

    /// The history of one incarnation, opened; what its slot had open of it is given up.
    pub(super) fn open_history(
        &self,
        path: &DatabasePath,
        incarnation: Incarnation,
    ) -> Result<Arc<History>, HistoryError> {
        let local = self.take_local_base(path, incarnation);
        let stored = self.stored(path, incarnation)?;
        History::open(Arc::clone(&self.settings.machine.disk), local, stored).map(Arc::new)
    }

    /// Where the local part of a history lies, once nobody keeps it any more.
    fn take_local_base(&self, path: &DatabasePath, incarnation: Incarnation) -> PathBuf {
        let local = crate::history::local_base(&self.file_of(path), incarnation);
        let open = self.slot(path).and_then(|slot| slot.history());
        if let Some(open) = open.filter(|open| open.base() == local) {
            open.give_up();
        }
        local
    }

    /// The history of one incarnation, where it leads to a position: without the store where that is away and the local
    /// part is enough.
    pub(super) fn open_history_to(
        &self,
        path: &DatabasePath,
        incarnation: Incarnation,
        txid: Txid,
    ) -> Result<Arc<History>, HistoryError> {
        let whole = self.open_history(path, incarnation);
        let Err(error) = &whole else { return whole };
        if !error.of_store || txid == Txid::ZERO {
            return whole;
        }
        let local = self.open_local_history(path, incarnation)?;
        if local.plan(txid).is_ok() { Ok(local) } else { whole }
    }

    /// The local part of the history of one incarnation.
    pub(super) fn open_local_history(
        &self,
        path: &DatabasePath,
        incarnation: Incarnation,
    ) -> Result<Arc<History>, HistoryError> {
        let local = crate::history::local_base(&self.file_of(path), incarnation);
        History::open(Arc::clone(&self.settings.machine.disk), local, None).map(Arc::new)
    }

    /// The history of a database that is there: without the store where that is away.
    pub(super) fn open_history_here(
        &self,
        slot: &Slot,
        incarnation: Incarnation,
    ) -> Result<Arc<History>, HistoryError> {
        // A store that is known to be away is asked by those that send alone.
        if !self.store_is_away() {
            match self.open_history(&slot.path, incarnation) {
                Err(error) if error.of_store => {
                    tracing::error!(event = "store away", path = %slot.path, %error, "tried again");
                }
                whole => return whole,
            }
        }
        let local = self.take_local_base(&slot.path, incarnation);
        History::open_apart(Arc::clone(&self.settings.machine.disk), local).map(Arc::new)
    }

    /// Makes names in the directory of a database durable.
    pub(super) fn sync_parent(&self, file: &Path) -> std::io::Result<()> {
        self.settings.machine.disk.sync_dir(disk::parent(file))
    }
}
