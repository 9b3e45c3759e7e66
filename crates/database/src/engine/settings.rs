//! What the engine is given, what it tells, and why it does not start.

use crate::bucket::{BucketError, Claim, Owner};
use crate::history::Retention;
use crate::machine::Machine;
use base::{DatabasePath, Epoch};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use store::Objects;

/// SQLite's own default: after a commit that leaves more frames in the log, the connection copies them.
pub const CHECKPOINT_FRAMES: u32 = 1000;

/// What a volume consists of and how it is kept.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The node's home; database paths are relative to it.
    pub home: PathBuf,
    /// Which files are databases.
    pub entries: Vec<Entry>,
    /// The most time a commit may wait for its seal.
    pub sync_interval: Duration,
    /// How long and how much history is kept.
    pub retention: Retention,
    /// The store.
    pub store: Option<StoreSettings>,
    /// The right to write, recorded in each file.
    pub epoch: Epoch,
    /// The log of a writer that never pauses is let go under a lock when it is longer than this.
    pub wal_limit_bytes: u64,
    /// How many frames an application's own WAL checkpoint usually finds in the log: [`CHECKPOINT_FRAMES`].
    pub checkpoint_frames: u32,
    /// As whom the app runs, where that is another than the node: what Stead makes for it belongs to it.
    pub app_user: Option<(u32, u32)>,
    /// What all of it runs on.
    pub machine: Machine,
}

/// Where history is kept besides this machine, and as whom.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// The store.
    pub objects: Arc<dyn Objects>,
    /// Who this node is.
    pub owner: Owner,
    /// Whether it may be taken from another node.
    pub claim: Claim,
    /// How long a clean stop goes on sending; without one, to the end.
    pub stop_timeout: Option<Duration>,
    /// What the store keeps of the node's configuration.
    pub configuration: Option<serde_json::Value>,
}

/// Which files are databases.
#[derive(Clone, Debug)]
pub enum Entry {
    /// This one; created when it is missing.
    File {
        /// Its name.
        path: DatabasePath,
        /// SQL that is run when the file is created.
        schema: Option<PathBuf>,
    },
    /// All below a directory whose names match.
    Pattern {
        /// Relative to the home.
        dir: PathBuf,
        /// A glob over the path below `dir`.
        pattern: String,
    },
}

/// Something worth telling.
#[derive(Clone, Debug)]
pub enum Notice {
    /// A database was joined, lost, came back or changed behind Stead's back.
    Database {
        /// Which.
        path: DatabasePath,
        /// What happened, in a word: `joined`, `deleted`, `replaced`, `returned`, `rolled_forward`,
        /// `kept`, `failed`.
        what: &'static str,
        /// In a sentence.
        message: String,
    },
    /// The store does not do what it is asked; what it lacks is kept here.
    StoreAway {
        /// Why.
        error: Arc<BucketError>,
    },
    /// It does again.
    StoreBack {
        /// How long it did not.
        after: Duration,
    },
    /// The store may not be written to any more: another node has taken it, or it holds something else.
    StoreRefused {
        /// Why.
        error: Arc<BucketError>,
    },
}

/// Tells the node what happened; must not call back into the engine.
pub type Notify = Arc<dyn Fn(Notice) + Send + Sync>;

/// Why the engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A pattern is no glob: mend the configuration.
    #[error("the pattern `{pattern}` is no glob: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// Why not.
        reason: String,
    },
    /// A directory or file could not be read or made: mend the path or its permissions.
    #[error("{path}: {source}")]
    Path {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A database is missing and cannot be brought back: mend its history, or put a copy of it there.
    #[error("{path} is missing and cannot be brought back: {reason}")]
    NotBroughtBack {
        /// Which.
        path: DatabasePath,
        /// Why not.
        reason: String,
    },
    /// The store may not be written to, or holds something else: see the error.
    #[error(transparent)]
    Store(#[from] BucketError),
    /// The ledger failed.
    #[error("ledger: {0}")]
    Ledger(#[from] crate::ledger::LedgerError),
}
