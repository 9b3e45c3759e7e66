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

/// How long it waits for what it names, at most. Time in which nobody looked does not count.
const LEDGER_WAIT_MAX: Duration = Duration::from_secs(600);

/// How long what was sealed of it waits for what it names.
#[derive(Clone, Copy, Debug)]
struct Unsent {
    waited: Duration,
    /// When (boot time) somebody looked last.
    looked_at: Duration,
}

/// What is kept of its history: only its end is ever asked for.
const KEPT: Retention = Retention { keep: Duration::from_secs(3600), local_bytes: 64 << 20 };

/// What the ledger says as it was sealed.
#[derive(Debug)]
pub(super) struct Says {
    /// What [`Ledger::news`] said.
    news: u64,
    /// Its newest moment.
    pub moment: Option<(Timestamp, Vector)>,
    /// The databases that it knows.
    pub databases: Vec<(DatabasePath, Known)>,
}

/// The ledger as it is followed.
#[derive(Debug, Default)]
pub(super) struct Copy {
    live: Option<Box<Live>>,
    /// As it was sealed last.
    sealed: Option<Arc<Says>>,
    /// As the store has it; `None`: nothing was sent in this run.
    sent: Option<Arc<Says>>,
    /// The store lacks what was sealed.
    unsent: Option<Unsent>,
    /// The incarnation that ended as its history could not be continued.
    ended: Option<Incarnation>,
}

impl Shared {
    fn copy(&self) -> MutexGuard<'_, Copy> {
        self.copy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Seals what is new in the ledger. What was sealed and is not sent yet comes first, unless it is to be sealed `anew`:
    /// a moment that is always the newest would always wait for what it names.
    pub(super) fn seal_ledger(&self, anew: bool) -> Result<(), JoinError> {
        // Whoever is stuck in a request at a stop is left behind, and the ledger is the next run's.
        if self.is_over() {
            return Ok(());
        }
        let news = self.ledger.news();
        let mut copy = self.copy();
        self.end_broken_ledger(&mut copy);
        let waits = copy.unsent.is_some() && !anew;
        if copy.sealed.as_ref().is_some_and(|sealed| waits || sealed.news == news) {
            return Ok(());
        }
        if copy.live.is_none() {
            // Nobody else joins it meanwhile: one thread at a time sends it.
            let ended = copy.ended;
            drop(copy);
            let live = self.join_ledger(ended)?;
            if self.is_over() {
                return Ok(());
            }
            copy = self.copy();
            copy.live = Some(Box::new(live));
        }
        // Before the seal: what is noted meanwhile may be in it or not.
        let failed = |error: LedgerError| JoinError::Failed(error.to_string());
        let moment = self.ledger.newest_moment().map_err(failed)?;
        let databases = self.ledger.paths().map_err(failed)?;
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
        copy.sealed = Some(Arc::new(Says { news, moment, databases }));
        copy.unsent.get_or_insert_with(|| Unsent { waited: Duration::ZERO, looked_at: self.now() });
        Ok(())
    }

    /// Where its history cannot be continued, it is followed as another incarnation.
    fn end_broken_ledger(&self, copy: &mut Copy) {
        let Some(reason) = copy.live.as_ref().and_then(|live| live.history().broken()) else { return };
        let Some(live) = copy.live.take() else { return };
        tracing::error!(
            event = "history damaged",
            path = LEDGER_PATH,
            reason,
            "followed as another incarnation"
        );
        let place = live.place().clone();
        // What it had not sealed is in the file, which is sealed whole.
        let _ = live.abandon();
        place.forget(&*self.settings.machine.disk);
        copy.ended = Some(place.incarnation);
        copy.sealed = None;
    }

    /// What the store lacks of the ledger.
    pub(super) fn unsent_ledger(&self) -> Option<Arc<Says>> {
        let copy = self.copy();
        copy.unsent?;
        copy.sealed.clone()
    }

    /// It waits on, and somebody looks again every so often; `false`: it has waited for long enough.
    pub(super) fn ledger_may_wait(&self, every: Duration) -> bool {
        let now = self.now();
        let Some(unsent) = &mut self.copy().unsent else { return false };
        unsent.waited += now.saturating_sub(unsent.looked_at).min(every * 2);
        unsent.looked_at = now;
        unsent.waited < LEDGER_WAIT_MAX
    }

    /// The store has the ledger as it was sealed last; whether that is all that it says.
    pub(super) fn ledger_was_sent(&self) -> bool {
        let mut copy = self.copy();
        copy.sent = copy.sealed.clone();
        copy.unsent = None;
        copy.sent.as_ref().is_some_and(|sent| sent.news == self.ledger.news())
    }

    /// Whether the store has the ledger with everything that was new in it when it said this.
    pub(super) fn ledger_is_sent(&self, news: u64) -> bool {
        self.sent_ledger().is_some_and(|sent| sent.news >= news)
    }

    /// What the store's ledger says; `None`: it was not sent yet.
    pub(super) fn sent_ledger(&self) -> Option<Arc<Says>> {
        self.copy().sent.clone()
    }

    /// The history of the ledger, once it is followed.
    pub(super) fn ledger_history(&self) -> Option<(String, Arc<History>)> {
        let copy = self.copy();
        let live = copy.live.as_ref().filter(|live| !live.history().store_away())?;
        Some((store_key(&path(), live.place().incarnation), Arc::clone(live.history())))
    }

    /// Goes on with the store, where the ledger's history was opened without it.
    pub(super) fn find_store_for_ledger(&self) -> Result<(), HistoryError> {
        let away = match &*self.copy() {
            Copy { live: Some(live), .. } if live.history().store_away() => Arc::clone(live.history()),
            _ => return Ok(()),
        };
        let Some(incarnation) = away.incarnation() else { return Ok(()) };
        if let Some(stored) = self.stored(&path(), incarnation)? {
            away.attach_store(&stored)?;
        }
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

    /// Follows the ledger. What is asked of the store may take long.
    fn join_ledger(&self, ended: Option<Incarnation>) -> Result<Live, JoinError> {
        let file = self.settings.home.join(LEDGER_PATH);
        let after = ended.map_or(Incarnation(1), |ended| Incarnation(ended.0 + 1));
        let mut incarnation = self.ledger_incarnation(&file).max(after);
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
            let history = self.open_ledger_history(&file, incarnation)?;
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

    fn open_ledger_history(&self, file: &Path, incarnation: Incarnation) -> Result<Arc<History>, JoinError> {
        let disk = || Arc::clone(&self.settings.machine.disk);
        let base = local_base(file, incarnation);
        let whole =
            self.stored(&path(), incarnation).and_then(|stored| History::open(disk(), base.clone(), stored));
        let opened = match whole {
            Err(error) if error.of_store => History::open_apart(disk(), base),
            whole => whole,
        };
        opened.map(Arc::new).map_err(|error| JoinError::Failed(error.to_string()))
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
