//! Which file lives under a path: the numbers of incarnations, and the histories that say so where the ledger does not.
//!
//! The ledger decides. Where it has no row (it was lost with the home) the histories here and in the store are all there
//! is: the one sealed last is taken to be the database, and no number that has history is given out again. Whether a
//! database had been deleted on purpose, histories do not say: it comes back.
//!
//! A history that ends before a position that is known to have been sealed is not continued: the same numbers would be
//! given to other contents. The file goes on as another incarnation, and the trouble names what is missing.

use super::create::BroughtBack;
use super::slot::{Slot, Trouble};
use super::{Entry, Shared, StartError};
use crate::history::{History, HistoryError, Parted, has_files, local_base, named, parse_local};
use crate::ledger::LedgerError;
use crate::live::{Found, JoinError, Joined, Live};
use base::{DatabasePath, Incarnation, Timestamp, Txid, disk};
use std::collections::BTreeSet;
use std::path::Path;

/// Directories of history that are looked at for one path, at most.
const INCARNATIONS_MAX: usize = 10_000;

/// The trouble of a history that could not be continued.
pub(super) const HISTORY_DAMAGED: &str = "history_damaged";
/// The trouble of a history of which the store had another end.
const HISTORY_PARTED: &str = "history_parted";
/// The trouble of a database that somebody wrote to after it had lost what was sealed.
const WRITTEN_SINCE_LOSS: &str = "written_since_loss";

fn ledger_failed(error: LedgerError) -> JoinError {
    JoinError::Failed(format!("ledger: {error}"))
}

impl Shared {
    /// Databases that the ledger, a local history or the store know of.
    pub(super) fn expected(&self) -> Result<Vec<DatabasePath>, StartError> {
        let known = self.ledger.paths()?;
        let mut paths: BTreeSet<DatabasePath> =
            known.iter().filter(|(_, known)| !known.deleted).map(|(path, _)| path.clone()).collect();
        let mut found = BTreeSet::new();
        self.walk_histories(&mut found);
        found.extend(self.stored_histories().into_iter().map(|(path, _)| path));
        paths.extend(found.into_iter().filter(|path| !known.iter().any(|(known, _)| known == path)));
        Ok(paths
            .into_iter()
            .filter(|path| self.is_named(path) || self.matches(Path::new(path.as_str())))
            .collect())
    }

    /// Names of databases that have history on this machine.
    fn walk_histories(&self, found: &mut BTreeSet<DatabasePath>) {
        let root = &self.settings.home;
        for entry in &self.settings.entries {
            match entry {
                Entry::File { path, .. } => {
                    if !self.list_incarnations(&root.join(path.as_str())).is_empty() {
                        found.insert(path.clone());
                    }
                }
                Entry::Pattern { dir, .. } => self.walk(root, dir, 0, &mut |below, is_dir| {
                    let name = below.file_name().and_then(|name| name.to_str());
                    let Some((name, _)) = name.filter(|_| is_dir).and_then(parse_local) else { return };
                    let path = below.with_file_name(name);
                    if let Some(path) = path.to_str().and_then(|path| DatabasePath::parse(path).ok())
                        && has_files(&*self.settings.machine.disk, &root.join(below))
                    {
                        found.insert(path);
                    }
                }),
            }
        }
    }

    /// Every incarnation of every database that has history on this machine.
    pub(super) fn local_histories(&self) -> Vec<(DatabasePath, Incarnation)> {
        let mut paths = BTreeSet::new();
        self.walk_histories(&mut paths);
        let incarnations = |path: DatabasePath| {
            let numbers = self.list_incarnations(&self.file_of(&path));
            numbers.into_iter().map(move |number| (path.clone(), number))
        };
        paths.into_iter().flat_map(incarnations).collect()
    }

    /// The incarnations of a path that have files of history, here or in the store.
    fn incarnations_of(&self, path: &DatabasePath) -> BTreeSet<Incarnation> {
        let mut found = self.list_incarnations(&self.file_of(path));
        let stored = self.stored_histories().into_iter();
        found.extend(stored.filter(|(stored, _)| stored == path).map(|(_, number)| number));
        found
    }

    fn list_incarnations(&self, beside: &Path) -> BTreeSet<Incarnation> {
        let dir = disk::parent(beside);
        let wanted = beside.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let entries = self.settings.machine.disk.read_dir(dir).unwrap_or_default();
        let ours =
            |name: &str| parse_local(name).filter(|(name, _)| name == wanted).map(|(_, number)| number);
        let with_files = entries.into_iter().filter_map(|entry| {
            let number = ours(&entry.name)?;
            has_files(&*self.settings.machine.disk, &dir.join(&entry.name)).then_some(number)
        });
        with_files.take(INCARNATIONS_MAX).collect()
    }

    /// Takes a path that the ledger does not know for what the histories say; `None`: there are none that can be used.
    ///
    /// `whole`: the store must answer.
    fn adopt(&self, path: &DatabasePath, whole: bool) -> Result<Option<Incarnation>, AdoptError> {
        let mut newest: Option<(Timestamp, Incarnation)> = None;
        let mut highest = None;
        for number in self.incarnations_of(path) {
            highest = Some(number);
            let history = match self.open_history(path, number) {
                Err(error) if whole => return Err(error.into()),
                Err(_) => self.open_local_history(path, number)?,
                Ok(history) => history,
            };
            newest = newest.max(history.last().map(|last| (last.header.timestamp, number)));
        }
        let Some(highest) = highest else { return Ok(None) };
        let chosen = newest.map(|(_, number)| number);
        self.ledger.adopt_incarnation(path, chosen.unwrap_or(highest), highest)?;
        Ok(chosen)
    }

    /// A number for a new file: none that has history already, of which the ledger may not know.
    fn begin_incarnation(&self, path: &DatabasePath) -> Result<Incarnation, LedgerError> {
        let taken = self.incarnations_of(path);
        loop {
            let number = self.ledger.begin_incarnation(path)?;
            if !taken.contains(&number) {
                return Ok(number);
            }
        }
    }

    /// Brings a database back whose file is missing at start.
    pub(super) fn bring_back_if_missing(&self, path: &DatabasePath) -> Result<(), StartError> {
        if self.settings.machine.disk.metadata(&self.file_of(path)).is_ok() {
            return Ok(());
        }
        let refused = |reason: String| StartError::NotBroughtBack { path: path.clone(), reason };
        let incarnation = match self.ledger.current(path)? {
            Some(known) => known.incarnation,
            None => match self.adopt(path, true) {
                Ok(Some(found)) => found,
                Ok(None) => self.ledger.current(path)?.map_or(Incarnation(1), |known| known.incarnation),
                Err(error) => return Err(refused(error.to_string())),
            },
        };
        let back = self.bring_back(path, incarnation);
        match back.map_err(|error| refused(error.reason))? {
            Some(BroughtBack { txid, .. }) => {
                self.ledger.record_returned(path, incarnation)?;
                let message = format!("it was missing and came back from history at txid {txid}");
                self.tell(path, "returned", message);
            }
            None if self.sealed_upto(path, incarnation)? > Txid::ZERO => {
                return Err(refused("the ledger knows of it, and its history is gone".to_owned()));
            }
            None => {}
        }
        Ok(())
    }

    /// The furthest position that is known to have been sealed, whatever history still holds.
    pub(super) fn sealed_upto(
        &self,
        path: &DatabasePath,
        incarnation: Incarnation,
    ) -> Result<Txid, LedgerError> {
        let named = self.ledger.named_upto(path, incarnation)?;
        let left = self.place(path, incarnation).attached(&*self.settings.machine.disk);
        let left = left.filter(|left| left.incarnation == incarnation).and_then(|left| left.clean);
        Ok(left.map_or(named, |(_, at)| named.max(at)))
    }

    /// Joins the file as the incarnation that it is; as another one where its history cannot be continued.
    pub(super) fn join_incarnation(&self, slot: &Slot) -> Result<Live, JoinError> {
        let path = &slot.path;
        let known = self.ledger.current(path).map_err(ledger_failed)?;
        let known = match known {
            Some(known) => (!known.deleted).then_some(known.incarnation),
            None => self.adopt(path, false).map_err(|error| JoinError::Failed(error.to_string()))?,
        };
        let mut incarnation = match known {
            Some(number) => number,
            None => self.begin_incarnation(path).map_err(ledger_failed)?,
        };
        for _ in 0..2 {
            let joined = match slot.take_broken(incarnation) {
                Some(reason) => Err(JoinError::Damaged(reason)),
                None => self.join_as(slot, incarnation),
            };
            match joined {
                Ok(joined) => {
                    self.tell_joined(slot, &joined);
                    return Ok(joined.live);
                }
                Err(JoinError::OtherIncarnation { .. }) => {}
                Err(JoinError::Damaged(reason)) => self.tell_damaged(slot, incarnation, &reason),
                Err(error) => return Err(error),
            }
            self.place(path, incarnation).forget(&*self.settings.machine.disk);
            self.ledger.record_deleted(path).map_err(ledger_failed)?;
            self.has_ended();
            incarnation = self.begin_incarnation(path).map_err(ledger_failed)?;
        }
        self.join_as(slot, incarnation).map(|joined| joined.live)
    }

    fn join_as(&self, slot: &Slot, incarnation: Incarnation) -> Result<Joined, JoinError> {
        let history = self
            .open_history_here(slot, incarnation)
            .map_err(|error| JoinError::Failed(error.to_string()))?;
        self.tell_parted(slot, &history);
        let sealed = self.sealed_upto(&slot.path, incarnation).map_err(ledger_failed)?;
        let end = history.last().map_or(Txid::ZERO, |last| last.header.max_txid);
        if end < sealed {
            let (base, damaged) = (history.base().display(), named(&history.damaged()));
            return Err(JoinError::Damaged(format!(
                "{base} ends at txid {end}, and txid {sealed} was sealed{damaged}"
            )));
        }
        let place = self.place(&slot.path, incarnation);
        Live::join(place, history, self.settings.machine.clone(), self.limits())
    }

    /// Tells that the store had another history under the same name.
    pub(super) fn tell_parted(&self, slot: &Slot, history: &History) {
        let Some(Parted { common, stored }) = history.parted() else { return };
        let message = format!(
            "the store has other transactions after txid {common}, up to {stored}: of a copy of this home, or from before \
             it was turned back; this home's go on, the others are set aside there"
        );
        self.tell(&slot.path, "parted", message.clone());
        let aside =
            self.settings.store.as_ref().map_or_else(String::new, |store| store.objects.url().to_owned());
        let hint =
            format!("what was set aside lies below {aside}, in the `aside` directory of {}", slot.path);
        slot.set_lasting(Some(Trouble { code: HISTORY_PARTED, message, hint }));
    }

    fn tell_damaged(&self, slot: &Slot, incarnation: Incarnation, reason: &str) {
        let message = format!(
            "the history of incarnation {} cannot be continued; the database is followed as a new one: {reason}",
            incarnation.0
        );
        tracing::error!(event = "history damaged", path = %slot.path, reason, "followed as another incarnation");
        self.tell(&slot.path, "failed", message.clone());
        let copy = self.stored_at(&slot.path, incarnation);
        let copy = copy.unwrap_or_else(|| local_base(&slot.file, incarnation).display().to_string());
        let hint = format!(
            "checkpoints from before need the files of {}: put good copies there, or make new checkpoints",
            copy
        );
        slot.set_lasting(Some(Trouble { code: HISTORY_DAMAGED, message, hint }));
    }

    fn tell_joined(&self, slot: &Slot, joined: &Joined) {
        match joined.found {
            Some(Found::RolledForward { since, last }) => {
                let message =
                    format!("it had lost what was sealed after txid {since}; rolled forward to txid {last}");
                self.tell(&slot.path, "rolled_forward", message);
            }
            Some(Found::KeptAsWritten { since, last }) => self.tell_kept(slot, since, last),
            None => {}
        }
        let live = &joined.live;
        let how = match live.difference_due() {
            Some(why) => format!("followed from txid {}; pages are compared: {why}", live.position().txid),
            None => format!("followed from txid {}", live.position().txid),
        };
        self.tell(&slot.path, "joined", how);
    }

    fn tell_kept(&self, slot: &Slot, since: Txid, last: Txid) {
        let message = format!(
            "it had lost what was sealed after txid {since}, and was written to before Stead started; it stays as \
             it was found and becomes txid {}; as it was before the loss it is txid {last}",
            last.next()
        );
        let hint =
            format!("compare: stead db export {} FILE --txid {last} is the state before the loss", slot.path);
        self.tell(&slot.path, "kept", message.clone());
        slot.set_lasting(Some(Trouble { code: WRITTEN_SINCE_LOSS, message, hint }));
    }
}

/// Why histories did not say which file lives under a path: tried again.
#[derive(Debug, thiserror::Error)]
enum AdoptError {
    #[error(transparent)]
    History(#[from] HistoryError),
    #[error("ledger: {0}")]
    Ledger(#[from] LedgerError),
}
