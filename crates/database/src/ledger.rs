//! The ledger: the one database that is never turned back.
//!
//! It holds which incarnation lives under each path, the checkpoints, the vectors noted at each seal interval, the
//! restore intents and the highest schema cookies. One connection behind a mutex; SQLite in WAL mode. What must
//! survive a power loss (checkpoints, intents, incarnations) commits with `synchronous=FULL`, which is one fsync of
//! the WAL; the rest with `NORMAL`, which is none. So that no commit runs a WAL checkpoint on the way,
//! [`Ledger::maintain`] does that, at a moment of the caller's choosing.
//!
//! A vector is stored as stays: a database *stays* at a position from one moment until another, so a moment costs
//! what changed since the one before, and a checkpoint is a row that names a moment. Layout: `docs/formats/ledger.md`.

mod checkpoints;
mod incarnations;
mod intents;
mod schema;
#[cfg(test)]
mod tests;
mod vectors;

pub use checkpoints::{Checkpoint, InsertError};
pub use incarnations::Known;
pub use intents::{Intent, IntentError, IntentId};

use crate::machine::Locks;
use crate::sqlite::run;
use base::{DatabasePath, Position};
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The positions of all databases at one cut.
pub type Vector = BTreeMap<DatabasePath, Position>;

/// How long a look from outside (a `sqlite3` shell on the ledger) may keep a commit waiting.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// WAL pages at which a commit runs a WAL checkpoint after all, because nobody called [`Ledger::maintain`]: 16 MiB.
const WAL_PAGES_LIMIT: u32 = 4096;

/// Statements kept compiled: more than the ledger has.
const STATEMENTS_CACHED: usize = 64;

/// The ledger of one node.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    state: Mutex<State>,
    /// Rises with every write that says something new.
    news: AtomicU64,
    /// A view of its locks. It is closed after its connection: closing it drops every lock of the process.
    kept: Mutex<Option<Arc<dyn Locks>>>,
}

#[derive(Debug)]
struct State {
    connection: Connection,
    durability: Durability,
    /// The vector noted last; `None` where it must be read again.
    newest: Option<Vector>,
}

/// What a commit survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Durability {
    /// A crash of the process. A power loss may take it, in order, never in part.
    Process,
    /// A power loss.
    Power,
}

/// Why the ledger did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Written by a newer Stead: start that one.
    #[error("{path} has ledger format {found}, this version knows up to {known}: start a newer version")]
    Newer {
        /// The ledger's file.
        path: PathBuf,
        /// The format it has.
        found: i64,
        /// The newest format known here.
        known: i64,
    },
    /// A SQLite database, but none of ours: look at what lies there.
    #[error("{path} is no ledger: its application id is {found:#x}")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Its application id.
        found: i64,
    },
    /// A row that makes no sense: the file was changed from outside, or is damaged.
    #[error("the ledger {path} holds a row that makes no sense: {what}")]
    Damaged {
        /// The ledger's file.
        path: PathBuf,
        /// Which row, and why.
        what: String,
    },
    /// SQLite failed. Nothing was changed, except that a failed commit may have become durable all the same.
    #[error("the ledger {path}: {cause}")]
    Sqlite {
        /// The ledger's file.
        path: PathBuf,
        /// What SQLite said.
        cause: rusqlite::Error,
    },
}

impl LedgerError {
    /// Whether the disk is full: the same call succeeds when there is space again.
    pub fn is_disk_full(&self) -> bool {
        let LedgerError::Sqlite { cause, .. } = self else { return false };
        cause.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
    }
}

/// What goes wrong inside a transaction; the path is added at the edge.
#[derive(Debug)]
enum Trouble {
    Sqlite(rusqlite::Error),
    Row(String),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Trouble {
        Trouble::Sqlite(error)
    }
}

impl Ledger {
    /// Opens the ledger, and makes it where it is missing; `vfs` names another SQLite VFS than the default.
    ///
    /// The directory must exist.
    pub fn open(path: &Path, vfs: Option<&str>) -> Result<Ledger, LedgerError> {
        let sqlite = |cause| LedgerError::Sqlite { path: path.to_owned(), cause };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = match vfs {
            Some(vfs) => Connection::open_with_flags_and_vfs(path, flags, vfs),
            None => Connection::open_with_flags(path, flags),
        }
        .map_err(sqlite)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
        connection.busy_timeout(BUSY_TIMEOUT).map_err(sqlite)?;
        schema::prepare(&connection, path)?;
        connection.pragma_update(None, "wal_autocheckpoint", WAL_PAGES_LIMIT).map_err(sqlite)?;
        connection.pragma_update(None, "synchronous", "NORMAL").map_err(sqlite)?;
        // What a killed process had written and not synced is there, and would be lost with the power: it must be durable
        // before anything is done because of it.
        run(&connection, "PRAGMA wal_checkpoint(PASSIVE)").map_err(sqlite)?;
        let state = State { connection, durability: Durability::Process, newest: None };
        let ledger = Ledger {
            path: path.to_owned(),
            state: Mutex::new(state),
            news: AtomicU64::new(1),
            kept: Mutex::default(),
        };
        // A first note finds its predecessor in memory, and a damaged ledger is found now rather than later.
        ledger.read(|connection, newest| {
            *newest = Some(vectors::newest(connection)?);
            Ok(())
        })?;
        Ok(ledger)
    }

    /// Writes the WAL back into the file, and starts it anew. Call it now and then, when nobody waits for a commit.
    pub fn maintain(&self) -> Result<(), LedgerError> {
        {
            let state = self.lock();
            let checkpointed = state.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
            checkpointed.map_err(|cause| self.sqlite(cause))?;
        }
        // The first commit into a WAL that starts anew syncs the WAL's header besides. Let it be this one.
        self.tidy(Durability::Process, |tx, _| {
            tx.prepare_cached("UPDATE maintained SET times = times + 1")?.execute([])?;
            Ok(())
        })
    }

    /// Whether nothing was ever recorded in it.
    pub fn is_blank(&self) -> Result<bool, LedgerError> {
        Ok(self.paths()?.is_empty() && self.checkpoint_count()? == 0 && self.newest_moment()?.is_none())
    }

    /// A number that rises with every write that says something new: not with what only forgets or tidies up.
    pub fn news(&self) -> u64 {
        self.news.load(Ordering::SeqCst)
    }

    /// What was read before may not hold any more: its file was written to from beside.
    pub fn reread(&self) {
        self.lock().newest = None;
    }

    /// A view of its locks, made once and kept as long as it lives.
    pub(crate) fn locks(
        &self,
        make: impl FnOnce() -> std::io::Result<Box<dyn Locks>>,
    ) -> std::io::Result<Arc<dyn Locks>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(locks) = &*kept {
            return Ok(Arc::clone(locks));
        }
        let locks: Arc<dyn Locks> = Arc::from(make()?);
        *kept = Some(Arc::clone(&locks));
        Ok(locks)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic inside a transaction rolled it back while unwinding; what was cached is read again.
        self.state.lock().unwrap_or_else(|poisoned| {
            let mut state = PoisonError::into_inner(poisoned);
            state.newest = None;
            state
        })
    }

    fn sqlite(&self, cause: rusqlite::Error) -> LedgerError {
        LedgerError::Sqlite { path: self.path.clone(), cause }
    }

    fn trouble(&self, trouble: Trouble) -> LedgerError {
        match trouble {
            Trouble::Sqlite(cause) => self.sqlite(cause),
            Trouble::Row(what) => LedgerError::Damaged { path: self.path.clone(), what },
        }
    }

    /// Reads, in as many statements as it takes; nobody else writes meanwhile.
    fn read<T>(
        &self,
        work: impl FnOnce(&Connection, &mut Option<Vector>) -> Result<T, Trouble>,
    ) -> Result<T, LedgerError> {
        let mut state = self.lock();
        let State { connection, newest, .. } = &mut *state;
        work(connection, newest).map_err(|trouble| self.trouble(trouble))
    }

    /// One transaction: all of it or nothing.
    fn write<T>(
        &self,
        durability: Durability,
        work: impl FnOnce(&Transaction<'_>, &mut Option<Vector>) -> Result<T, Trouble>,
    ) -> Result<T, LedgerError> {
        let done = self.tidy(durability, work);
        self.news.fetch_add(1, Ordering::SeqCst);
        done
    }

    /// One transaction that says nothing new.
    fn tidy<T>(
        &self,
        durability: Durability,
        work: impl FnOnce(&Transaction<'_>, &mut Option<Vector>) -> Result<T, Trouble>,
    ) -> Result<T, LedgerError> {
        let mut state = self.lock();
        state.write(durability, work).map_err(|trouble| self.trouble(trouble))
    }
}

impl State {
    fn write<T>(
        &mut self,
        durability: Durability,
        work: impl FnOnce(&Transaction<'_>, &mut Option<Vector>) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        if self.durability != durability {
            let level = match durability {
                Durability::Process => "NORMAL",
                Durability::Power => "FULL",
            };
            self.connection.pragma_update(None, "synchronous", level)?;
            self.durability = durability;
        }
        let done = (|| {
            let tx = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = work(&tx, &mut self.newest)?;
            tx.commit()?;
            Ok(value)
        })();
        if done.is_err() {
            self.newest = None;
        }
        done
    }
}
