//! What a node can be asked: the one interface between the node and everything that speaks to it.
//!
//! `api` turns HTTP into these calls and their answers into JSON; it holds no state of its own. Each error enum says
//! what the caller must do; the HTTP status is `api`'s table.

use crate::config::Config;
use crate::preflight::Report;
use base::{Checksum, DatabasePath, Position, Timestamp, Txid};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

mod ask;
mod status;
pub use app::LogsError;
pub use ask::*;
pub use status::*;

/// The name of a checkpoint: `^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct CheckpointId(String);

/// A text that cannot name a checkpoint. The caller must choose another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no checkpoint id: 1 to 128 letters, digits, `.`, `_` and `-`, the first a letter or digit")]
pub struct BadCheckpointId(pub String);

impl CheckpointId {
    /// Checks and takes a name.
    pub fn parse(text: &str) -> Result<CheckpointId, BadCheckpointId> {
        let mut bytes = text.bytes();
        let head = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
        let rest = bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if head && rest && text.len() <= 128 {
            Ok(CheckpointId(text.to_owned()))
        } else {
            Err(BadCheckpointId(text.chars().take(140).collect()))
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CheckpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A checkpoint as the catalogue has it.
#[derive(Clone, Debug, Serialize)]
pub struct Checkpoint {
    /// Its name.
    pub id: CheckpointId,
    /// When the cut was made.
    pub created: Timestamp,
    /// What its maker wrote.
    pub comment: Option<String>,
    /// Made on a schedule; such checkpoints are thinned by `checkpoints.keep`.
    pub automatic: bool,
    /// The positions of all databases at the cut.
    pub databases: BTreeMap<DatabasePath, Position>,
}

/// A duration as answers show it: milliseconds, exact to the microsecond.
pub fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1_000_000.0).round() / 1000.0
}

/// The answer to a new checkpoint.
#[derive(Clone, Debug, Serialize)]
pub struct CheckpointMade {
    /// The checkpoint.
    #[serde(flatten)]
    pub checkpoint: Checkpoint,
    /// How long it took, milliseconds.
    pub ms: f64,
}

/// Why no checkpoint was made.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Configure the node first (400).
    #[error("this node is not configured")]
    Unconfigured,
    /// Choose another name, or remove the old one (409).
    #[error("checkpoint `{0}` exists")]
    Taken(CheckpointId),
    /// There is none of that name (404).
    #[error("there is no checkpoint `{0}`")]
    NotFound(CheckpointId),
    /// Try again when the restore is done; nothing was waited for (503).
    #[error("a restore is under way, and no checkpoint can be made before it is done")]
    Restoring,
    /// Try again; `pid` was in the way (503).
    #[error("no common cut of all databases within {limit_ms} ms: {reason}")]
    NoCut {
        /// The limit that passed.
        limit_ms: u64,
        /// Which database, and which process was writing.
        reason: String,
        /// The process in the way, where known.
        pid: Option<u32>,
    },
    /// A restore is neither done nor rolled back; it is tried again by itself (503, 507 for a full disk).
    #[error("no checkpoint can be made: {reason}")]
    Unfinished {
        /// Which restore, and what is in its way.
        reason: String,
        /// The disk is full.
        disk_full: bool,
    },
    /// Nothing was recorded; the reason says what to mend, a full disk for instance (500, 507 for a full disk).
    #[error("the checkpoint could not be recorded: {reason}")]
    Failed {
        /// What went wrong.
        reason: String,
        /// The disk is full.
        disk_full: bool,
    },
}

/// What a restore aims at.
#[derive(Clone, Debug)]
pub enum Target {
    /// A checkpoint.
    Checkpoint(CheckpointId),
    /// The newest moment kept that is not later.
    Time(Timestamp),
    /// The state before the last restore.
    Undo,
}

/// A restore, asked for.
#[derive(Clone, Debug)]
pub struct RestoreRequest {
    /// Where to.
    pub target: Target,
    /// Only say what would change.
    pub dry_run: bool,
}

/// What a restore does to one database.
#[derive(Clone, Debug, Serialize)]
pub struct DatabaseChange {
    /// Which.
    pub path: DatabasePath,
    /// `unchanged`, `turned_back`, `removed`, `recreated` or `replaced`.
    pub change: &'static str,
    /// Where it stood.
    pub from: Option<Position>,
    /// Where the target has it.
    pub to: Option<Position>,
    /// Pages written (or to be written).
    pub pages: u64,
    /// Where a file is moved that lay in the database's place and that history does not hold, relative to the home.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aside: Option<String>,
}

/// The answer to a restore.
#[derive(Clone, Debug, Serialize)]
pub struct Restored {
    /// What it aimed at: a checkpoint id, a time or `undo`.
    pub target: String,
    /// Nothing was changed.
    pub dry_run: bool,
    /// The moment the volume now shows.
    pub as_of: Timestamp,
    /// Per database.
    pub databases: Vec<DatabaseChange>,
    /// How long each step took, milliseconds, in order.
    pub steps: Vec<Step>,
    /// All of it, milliseconds.
    pub ms: f64,
}

/// A step and its duration.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// `seal`, `validate`, `stop_app`, `lock`, `capture`, `apply`, `verify`, `start_app`…
    pub step: &'static str,
    /// Milliseconds.
    pub ms: f64,
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Configure the node first (400).
    #[error("this node is not configured")]
    Unconfigured,
    /// There is no such checkpoint (404).
    #[error("there is no checkpoint `{0}`")]
    NotFound(CheckpointId),
    /// Nothing kept reaches back that far, or nothing to undo (404).
    #[error("{0}")]
    NothingThere(String),
    /// Choose a time that has been (400); the second is when this one was asked for.
    #[error("{0} is still to come: by this machine's clock it is {1}")]
    ToCome(Timestamp, Timestamp),
    /// This node may not write: promote it first (409).
    #[error("this node may not write: {0}")]
    NotPrimary(String),
    /// Another restore or checkpoint removal runs; wait for it (409).
    #[error("a restore is already running")]
    Running,
    /// End the processes that hold a database (409).
    #[error("{path} is held by another process: {reason}")]
    Held {
        /// Which database.
        path: DatabasePath,
        /// Who, in words.
        reason: String,
        /// The pids.
        pids: Vec<u32>,
    },
    /// The history needed is damaged or missing; nothing was changed and the app runs on (500).
    #[error("{path}: the history needed is damaged: {reason}")]
    History {
        /// Which database.
        path: DatabasePath,
        /// Which file, and what is wrong with it.
        reason: String,
    },
    /// The app could not be stopped; nothing was changed (500).
    #[error("the app could not be stopped, so nothing was restored")]
    AppNotStopped,
    /// It failed before it had begun: nothing was changed, and the app runs as before (500, 507 for a full disk).
    #[error("nothing was restored: {reason}")]
    NotBegun {
        /// What went wrong.
        reason: String,
        /// The disk is full.
        disk_full: bool,
    },
    /// This restore or one before is neither done nor rolled back, which is tried again by itself; the app stays stopped
    /// (503, 507 for a full disk).
    #[error("{reason}")]
    Unfinished {
        /// Which restore, and what is in its way.
        reason: String,
        /// The disk is full.
        disk_full: bool,
    },
    /// It failed half-way and was rolled back; the app stays stopped (500, 507 for a full disk).
    #[error("the restore failed and was rolled back, the app stays stopped: {reason}")]
    Failed {
        /// What went wrong.
        reason: String,
        /// The disk is full.
        disk_full: bool,
    },
}

/// Why a configuration was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ConfigureError {
    /// `PUT` changes a running node, `DELETE` forgets its configuration (400).
    #[error("this node is already configured")]
    AlreadyConfigured,
    /// There is none to change or forget (404).
    #[error("this node is not configured")]
    Unconfigured,
    /// It could not be saved; nothing was started (500).
    #[error("the configuration could not be saved: {0}")]
    NotSaved(String),
}

/// What became of a changed configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reconfigured {
    /// The keys that changed and are read only when the node starts.
    pub after_restart: Vec<&'static str>,
    /// The keys whose values were not taken, since a flag of `stead run` says otherwise.
    pub kept_by_flags: Vec<&'static str>,
}

/// What to do with the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AppAction {
    /// Start it, also after a maintenance stop.
    Start,
    /// Stop it; it stays stopped.
    Stop,
    /// Stop, then start.
    Restart,
}

/// Why an action was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ActionError {
    /// Configure the node first (400).
    #[error("this node is not configured")]
    Unconfigured,
    /// Not now; the reason says why and what would help (409).
    #[error("{0}")]
    NotNow(String),
    /// A restore is neither done nor rolled back; it is tried again by itself (503, 507 for a full disk).
    #[error("the app may not run yet: {reason}")]
    Unfinished {
        /// Which restore, and what is in its way.
        reason: String,
        /// The disk is full.
        disk_full: bool,
    },
    /// It was tried and failed (500).
    #[error("{0}")]
    Failed(String),
}

/// A file of a database's history.
#[derive(Clone, Debug, Serialize)]
pub struct HistoryFile {
    /// 0 for sealed batches, 1 to 8 merged, 9 a snapshot.
    pub level: u8,
    /// The first seal in it.
    pub min_txid: Txid,
    /// The last.
    pub max_txid: Txid,
    /// When the last was sealed.
    pub created: Timestamp,
    /// Bytes on disk.
    pub bytes: u64,
    /// Pages in the database after it.
    pub commit: u32,
    /// The rolling checksum after it.
    pub checksum: Checksum,
}

/// The answer to a verification of one database.
#[derive(Clone, Debug, Serialize)]
pub struct Verified {
    /// Which.
    pub path: DatabasePath,
    /// All of it adds up.
    pub ok: bool,
    /// The position that was verified.
    pub position: Option<Position>,
    /// Pages compared.
    pub pages: u64,
    /// History files read and checked.
    pub files: u64,
    /// What does not add up.
    pub problems: Vec<String>,
}

/// Why a database could not be read, verified or exported.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// Configure the node first (400).
    #[error("this node is not configured")]
    Unconfigured,
    /// No such database (404).
    #[error("there is no database `{0}` here")]
    NotFound(String),
    /// No such moment in its history (404).
    #[error("{0}")]
    NothingThere(String),
    /// Its history is damaged (500).
    #[error("{0}")]
    Damaged(String),
    /// It could not be done (500).
    #[error("{0}")]
    Failed(String),
}

/// Which moment of a database is wanted.
#[derive(Clone, Debug)]
pub enum Moment {
    /// The last seal, after sealing what is open.
    Now,
    /// A seal.
    Txid(Txid),
    /// The newest seal not later.
    Time(Timestamp),
    /// Where a checkpoint has it, also when another file lives there now.
    Checkpoint(CheckpointId),
}

/// One line of the app's output.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LogLine {
    /// When it came.
    pub time: Timestamp,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// Its text; bytes that are not UTF-8 are replaced.
    pub text: String,
}

/// Something that happened, for `GET /events`.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    /// `state`, `checkpoint`, `restore`, `role`, `app`, `database`, `issue`.
    pub event: &'static str,
    /// When.
    pub time: Timestamp,
    /// What, as an object.
    pub data: serde_json::Value,
}

/// A node, as those who speak to it see it. Every call may block; none does so for longer than its named limit.
pub trait Control: Send + Sync {
    /// Everything on one screen.
    fn status(&self) -> Status;
    /// The same, where nothing has to be read or waited for: a question that is asked all the time needs no thread.
    fn status_at_once(&self) -> Option<Status>;
    /// The configuration, secrets included: redact before showing.
    fn config(&self) -> Option<Arc<Config>>;
    /// Takes a first configuration, saves it and starts what it names.
    fn configure(&self, config: Config) -> Result<Status, ConfigureError>;
    /// Changes a running node.
    fn reconfigure(&self, config: Config) -> Result<Reconfigured, ConfigureError>;
    /// Stops everything and forgets the configuration, never the data.
    fn forget(&self) -> Result<(), ConfigureError>;

    /// Makes a checkpoint; without an id, one is made from the time.
    fn checkpoint(
        &self,
        id: Option<CheckpointId>,
        comment: Option<String>,
    ) -> Result<CheckpointMade, CheckpointError>;
    /// All of them, newest first.
    fn checkpoints(&self) -> Result<Vec<Checkpoint>, CheckpointError>;
    /// Removes one from the catalogue.
    fn remove_checkpoint(&self, id: &CheckpointId) -> Result<(), CheckpointError>;
    /// Turns the whole volume to another moment.
    fn restore(&self, request: RestoreRequest) -> Result<Restored, RestoreError>;

    /// Stops the app and gives the right to write away.
    fn release_lease(&self) -> Result<(), ActionError>;
    /// Takes the right to write.
    fn promote(&self) -> Result<(), ActionError>;
    /// Starts or stops the app.
    fn app(&self, action: AppAction) -> Result<(), ActionError>;

    /// The history files of a database, oldest first.
    fn history(&self, path: &DatabasePath) -> Result<Vec<HistoryFile>, DatabaseError>;
    /// Compares the live database and its whole history with their checksums.
    fn verify(&self, path: &DatabasePath) -> Result<Verified, DatabaseError>;
    /// Writes the database as it was into a new file in `tmp/` of the home, which the caller removes.
    fn export(&self, path: &DatabasePath, moment: Moment) -> Result<std::path::PathBuf, DatabaseError>;
    /// Runs SQL on a database, within the limits of `database::query`.
    fn ask(&self, path: &DatabasePath, question: Question) -> Result<Asked, AskError>;
    /// The moments of the node's life, oldest first.
    fn transitions(&self) -> Vec<Transition>;
    /// The app's last lines, oldest first; `stream` is `stdout`, `stderr` or both.
    fn logs(&self, lines: usize, stream: Option<&str>) -> Result<Vec<LogLine>, LogsError>;
    /// What is measured beside the status.
    fn measured(&self) -> Measured;
    /// Events from now on; a reader that falls behind by more than the queue's limit is cut off.
    fn events(&self) -> Receiver<Event>;
    /// What the last look at paths, room and programs found; nothing where none was made.
    fn looked(&self) -> Option<Looked> {
        None
    }
}

/// What the last look at the machine found.
#[derive(Clone, Debug)]
pub struct Looked {
    /// What was found.
    pub report: Arc<Report>,
    /// How long ago.
    pub age: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_have_three_decimals_at_most() {
        for (nanos, shown) in
            [(0, "0.0"), (5_277_560, "5.278"), (547_791, "0.548"), (400, "0.0"), (61_000_000_499, "61000.0")]
        {
            assert_eq!(serde_json::to_string(&milliseconds(Duration::from_nanos(nanos))).unwrap(), shown);
        }
    }

    #[test]
    fn a_checkpoint_id_is_a_plain_name() {
        for good in ["a", "0", "test1", "2026-11-21T10.00_x", &"a".repeat(128)] {
            assert_eq!(CheckpointId::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "../x", ".hidden", "-x", "a/b", "a b", "ä", "a\0", &"a".repeat(129)] {
            assert!(CheckpointId::parse(bad).is_err(), "{bad}");
        }
    }
}
