//! The ledger, followed as a database is, so that the store has it: checkpoints and vectors outlive the machine.
//!
//! It is sealed when it holds something new (not when it was only thinned), just before what it names is sent, and it is
//! sent after all of that: nothing in the store names what is not there. Without a store nobody follows it.

use super::Shared;
use crate::history::{History, HistoryError, Holds, Retention, local_base, parse_local, store_key};
use crate::ledger::{Known, Ledger, LedgerError, Vector};
use crate::live::{JoinError, Live, Place};
use crate::machine::{Holder, Kernel, Locks, Machine};
use base::{DatabasePath, Incarnation, Timestamp, disk};
use std::io;
use std::path::Path;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

/// Where the ledger lies, from the home; its history in the store has the same key.
pub const LEDGER_PATH: &str = ".stead/ledger.sqlite";

/// What is kept of its history: only its end is ever asked for.
const KEPT: Retention = Retention { keep: Duration::from_secs(3600), local_bytes: 64 << 20 };

/// What the store's ledger knows: its newest moment, and its databases.
pub(super) type Sent = (Option<(Timestamp, Vector)>, Vec<(DatabasePath, Known)>);

/// The ledger as it is followed.
#[derive(Debug, Default)]
pub(super) struct Copy {
    live: Option<Box<Live>>,
    /// What [`Ledger::news`] said when it was sealed last.
    sealed: Option<u64>,
    /// The newest moment that is in it then, and the one that the store has.
    moment: Option<(Timestamp, Vector)>,
    /// The databases that it knows then.
    known: Vec<(DatabasePath, Known)>,
    /// Since when (boot time) the store lacks what was sealed.
    unsent_since: Option<Duration>,
    sent_moment: Option<(Timestamp, Vector)>,
    sent_known: Vec<(DatabasePath, Known)>,
    /// What [`Ledger::news`] said of what the store has; `None`: nothing was sent in this run.
    sent: Option<u64>,
    /// Its history was opened without the store.
    store_away: bool,
}

impl Shared {
    fn copy(&self) -> MutexGuard<'_, Copy> {
        self.copy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Seals what is new in the ledger.
    pub(super) fn seal_ledger(&self) -> Result<(), JoinError> {
        let news = self.ledger.news();
        let mut copy = self.copy();
        if copy.sealed == Some(news) {
            return Ok(());
        }
        if copy.live.is_none() {
            copy.live = Some(Box::new(self.join_ledger(&mut copy.store_away)?));
        }
        // Before the seal: what is noted meanwhile may be in it or not.
        let failed = |error: LedgerError| JoinError::Failed(error.to_string());
        let (moment, known) =
            (self.ledger.newest_moment().map_err(failed)?, self.ledger.paths().map_err(failed)?);
        let Some(live) = copy.live.as_mut() else { return Ok(()) };
        live.set_epoch(self.epoch());
        live.stir();
        live.service()?;
        let end = live.index().map(|index| index.end);
        let sealed = match end {
            Some(end) => live.seal_to(end)?,
            None => false,
        };
        if !sealed {
            live.seal_difference()?;
        }
        copy.sealed = Some(news);
        (copy.moment, copy.known) = (moment, known);
        copy.unsent_since.get_or_insert_with(|| self.now());
        Ok(())
    }

    /// The newest moment in what the store lacks of the ledger, and since when (boot time) it lacks any.
    pub(super) fn unsent_moment(&self) -> Option<(Duration, Vector)> {
        let copy = self.copy();
        let (_, vector) = copy.moment.clone()?;
        Some((copy.unsent_since?, vector))
    }

    /// The store is back: what it lacks of the ledger waits from now on for what that names.
    pub(super) fn ledger_waits_anew(&self) {
        let mut copy = self.copy();
        copy.unsent_since = copy.unsent_since.map(|_| self.now());
    }

    /// The store has the ledger as it was sealed last.
    pub(super) fn ledger_was_sent(&self) {
        let mut copy = self.copy();
        copy.sent_moment = copy.moment.clone();
        copy.sent_known = copy.known.clone();
        copy.unsent_since = None;
        copy.sent = copy.sealed;
    }

    /// Whether the store has the ledger with everything that was new in it when it said this.
    pub(super) fn ledger_is_sent(&self, news: u64) -> bool {
        self.copy().sent >= Some(news)
    }

    /// What the store's ledger knows; `None`: it was not sent yet.
    pub(super) fn sent_ledger(&self) -> Option<Sent> {
        let copy = self.copy();
        copy.sent.is_some().then(|| (copy.sent_moment.clone(), copy.sent_known.clone()))
    }

    /// The history of the ledger, once it is followed.
    pub(super) fn ledger_history(&self) -> Option<(String, Arc<History>)> {
        let copy = self.copy();
        let live = copy.live.as_ref().filter(|_| !copy.store_away)?;
        Some((store_key(&path(), live.place().incarnation), Arc::clone(live.history())))
    }

    /// Goes on with the store, where the ledger's history was opened without it.
    pub(super) fn find_store_for_ledger(&self) -> Result<(), HistoryError> {
        let mut copy = self.copy();
        let Copy { live: Some(live), store_away: true, .. } = &*copy else { return Ok(()) };
        if let Some(stored) = self.stored(&path(), live.place().incarnation)? {
            live.history().attach_store(&stored)?;
        }
        copy.store_away = false;
        Ok(())
    }

    /// Merges and thins what the ledger has of history; whether more will be due.
    pub(super) fn thin_ledger(&self) -> bool {
        let Some((_, history)) = self.ledger_history() else { return false };
        if history.is_apart() {
            return true;
        }
        let now = self.settings.machine.clock.now();
        let plan = history.thin(now, &Holds::default(), &KEPT);
        if let Err(error) = history.carry_out(&plan) {
            tracing::warn!(event = "history not thinned", path = LEDGER_PATH, %error, "tried again later");
        }
        history.files().len() > 2
    }

    /// A clean end: sealed, and what makes the next start quick is noted.
    pub(super) fn leave_ledger(&self) {
        let Some(live) = self.copy().live.take() else { return };
        if let Err(error) = live.leave() {
            tracing::warn!(event = "unclean stop", path = LEDGER_PATH, %error, "the next start compares pages");
        }
    }

    fn join_ledger(&self, store_away: &mut bool) -> Result<Live, JoinError> {
        let file = self.settings.home.join(LEDGER_PATH);
        let mut incarnation = self.ledger_incarnation(&file);
        let machine = Machine {
            kernel: Arc::new(Lasting {
                kernel: Arc::clone(&self.settings.machine.kernel),
                ledger: Arc::clone(&self.ledger),
            }),
            ..self.settings.machine.clone()
        };
        loop {
            let place = Place {
                path: path(),
                file: file.clone(),
                incarnation,
                state: self.settings.home.join(".stead/databases").join(LEDGER_PATH),
            };
            let (history, away) = self.open_ledger_history(&file, incarnation)?;
            *store_away = away;
            match Live::join(place.clone(), history, machine.clone(), self.limits()) {
                Ok(joined) => {
                    // What it had lost with the power may be back.
                    self.ledger.reread();
                    return Ok(joined.live);
                }
                Err(JoinError::OtherIncarnation { .. } | JoinError::Damaged(_)) => {
                    tracing::error!(
                        event = "history damaged",
                        path = LEDGER_PATH,
                        "followed as another incarnation"
                    );
                    place.forget(&*machine.disk);
                    incarnation = Incarnation(incarnation.0 + 1);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn open_ledger_history(
        &self,
        file: &Path,
        incarnation: Incarnation,
    ) -> Result<(Arc<History>, bool), JoinError> {
        let disk = || Arc::clone(&self.settings.machine.disk);
        let base = local_base(file, incarnation);
        let whole =
            self.stored(&path(), incarnation).and_then(|stored| History::open(disk(), base.clone(), stored));
        let opened = match whole {
            Err(error) if error.of_store => History::open_apart(disk(), base).map(|history| (history, true)),
            whole => whole.map(|history| (history, false)),
        };
        let opened = opened.map(|(history, away)| (Arc::new(history), away));
        opened.map_err(|error| JoinError::Failed(error.to_string()))
    }

    /// The newest one that has history.
    fn ledger_incarnation(&self, file: &Path) -> Incarnation {
        let stored = self.all_stored_histories().into_iter().filter(|(stored, _)| *stored == path());
        let local = self.settings.machine.disk.read_dir(disk::parent(file)).unwrap_or_default();
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let local = local.iter().filter_map(|entry| parse_local(&entry.name)).filter(|(of, _)| of == name);
        let found = stored.map(|(_, number)| number).chain(local.map(|(_, number)| number));
        found.max().unwrap_or(Incarnation(1))
    }
}

pub(super) fn path() -> DatabasePath {
    DatabasePath::parse(LEDGER_PATH).expect("invariant: a plain relative path")
}

/// Locks that are looked at through a descriptor which stays as long as the ledger's own connection: to close it would
/// drop that one's locks.
#[derive(Debug)]
struct Lasting {
    kernel: Arc<dyn Kernel>,
    ledger: Arc<Ledger>,
}

impl Kernel for Lasting {
    fn locks(&self, database: &Path) -> io::Result<Box<dyn Locks>> {
        let locks = self.ledger.locks(|| self.kernel.locks(database))?;
        Ok(Box::new(Kept(locks)))
    }
    fn boot_id(&self) -> String {
        self.kernel.boot_id()
    }
    fn openers(&self, path: &Path) -> Vec<u32> {
        self.kernel.openers(path)
    }
}

#[derive(Debug)]
struct Kept(Arc<dyn Locks>);

impl Locks for Kept {
    fn writer(&self) -> Option<Holder> {
        self.0.writer()
    }
    fn checkpointer(&self) -> Option<Holder> {
        self.0.checkpointer()
    }
    fn others(&self) -> Option<Holder> {
        self.0.others()
    }
}
