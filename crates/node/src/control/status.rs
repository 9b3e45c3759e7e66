//! The shape of `GET /`: stable names that scripts hold on to.

use base::{Checksum, DatabasePath, Epoch, Timestamp, Txid};
use serde::Serialize;

/// Where a node is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Waits for `POST /config`.
    Unconfigured,
    /// Preflight, bringing databases back.
    Starting,
    /// Follows another node.
    Replica,
    /// May write.
    Primary,
    /// Stops.
    Draining,
    /// Has stopped.
    Stopped,
}

impl State {
    /// Its word, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            State::Unconfigured => "unconfigured",
            State::Starting => "starting",
            State::Replica => "replica",
            State::Primary => "primary",
            State::Draining => "draining",
            State::Stopped => "stopped",
        }
    }
}

/// A change of state, with its reason.
#[derive(Clone, Debug, Serialize)]
pub struct Transition {
    /// When.
    pub time: Timestamp,
    /// From which state.
    pub from: State,
    /// To which.
    pub to: State,
    /// Why.
    pub reason: String,
}

/// The whole status.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The volume's name; null while unconfigured.
    pub name: Option<String>,
    /// Stead's version.
    pub version: &'static str,
    /// The node's name.
    pub node: String,
    /// Where it is in its life.
    pub state: State,
    /// `primary`, `replica` or null.
    pub role: Option<&'static str>,
    /// Since when in this state.
    pub since: Timestamp,
    /// Why in this state.
    pub reason: String,
    /// Whether there is a configuration.
    pub configured: bool,
    /// The app's process.
    pub process: Process,
    /// The parts.
    pub components: Components,
    /// Every database.
    pub databases: Vec<DatabaseStatus>,
    /// The store; null without one, and while the databases are not up.
    pub store: Option<Store>,
    /// Who may write; null while unconfigured.
    pub lease: Option<Lease>,
    /// Followers.
    pub replicas: Vec<serde_json::Value>,
    /// The catalogue in short.
    pub checkpoints: Checkpoints,
    /// What is wrong, and what mends it.
    pub issues: Vec<Issue>,
}

/// The app's process.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Process {
    /// `none`, `starting`, `running`, `stopping`, `stopped`, `backoff`.
    pub state: String,
    /// Its pid while it runs.
    pub pid: Option<u32>,
    /// Whether it runs and has been ready since its start.
    pub ready: bool,
    /// What is asked to find out whether it is ready, and the last answer; null where nothing is waited for.
    pub waits_for: Option<String>,
    /// What it says of itself, on `NOTIFY_SOCKET`.
    pub says: Option<String>,
    /// How long it has run, milliseconds.
    pub uptime_ms: Option<u64>,
    /// Starts after the first.
    pub restarts: u64,
    /// How it last ended.
    pub last_exit: Option<Exit>,
    /// The command before it that is being run or waits to be tried again.
    pub before: Option<Before>,
}

/// A command that runs before the app.
#[derive(Clone, Debug, Serialize)]
pub struct Before {
    /// Its place in `app.before`, from 0.
    pub index: usize,
    /// How many there are.
    pub of: usize,
    /// Its words.
    pub command: Vec<String>,
    /// Its pid while it runs.
    pub pid: Option<u32>,
}

/// How a process ended.
#[derive(Clone, Debug, Serialize)]
pub struct Exit {
    /// Its code, where it exited.
    pub code: Option<i32>,
    /// The signal's name, where one ended it.
    pub signal: Option<String>,
    /// When.
    pub time: Timestamp,
}

/// The parts of a node.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Components {
    /// The databases and their history.
    pub database: Option<Component>,
    /// The store.
    pub storage: Option<Component>,
    /// The mount.
    pub mount: Option<Component>,
    /// The right to write.
    pub lease: Option<Component>,
    /// The app.
    pub app: Option<Component>,
}

/// One part.
#[derive(Clone, Debug, Serialize)]
pub struct Component {
    /// `starting`, `ok`, `degraded`, `failed`, `stopped`.
    pub state: &'static str,
    /// Since when.
    pub since: Timestamp,
    /// Why not ok.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// One database.
#[derive(Clone, Debug, Serialize)]
pub struct DatabaseStatus {
    /// Relative to the home.
    pub path: DatabasePath,
    /// `wal`, `empty`, `waiting` (not joined yet), `failed`.
    pub mode: &'static str,
    /// The last seal.
    pub txid: Txid,
    /// The rolling checksum after it.
    pub checksum: Checksum,
    /// Pages.
    pub pages: u32,
    /// Bytes a page; 0 while unknown.
    pub page_size: u32,
    /// The last seal that is in the store; null without a store.
    pub stored_txid: Option<Txid>,
    /// What the store lacks of it; null without a store, and while it is not known what that has.
    pub unstored: Option<Unstored>,
    /// Age of the oldest commit that is not sealed, milliseconds; 0 when all are.
    pub lag_ms: u64,
    /// The history's URL or path in force.
    pub history: String,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issue: Option<String>,
}

/// What a store lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Unstored {
    /// Sealed transactions.
    pub transactions: u64,
    /// Bytes of the files here that hold them.
    pub bytes: u64,
    /// Age of the oldest commit that is not in the store, milliseconds; 0 when all are.
    pub lag_ms: u64,
}

/// The store as a whole.
#[derive(Clone, Debug, Serialize)]
pub struct Store {
    /// Where it is.
    pub url: String,
    /// `held`, `away` or `refused`.
    pub state: &'static str,
    /// The right to write that it has given; null where it has not.
    pub epoch: Option<Epoch>,
    /// Since when it is away.
    pub away_since: Option<Timestamp>,
    /// Why it is away, or refused.
    pub error: Option<String>,
    /// What it lacks of all databases, the oldest of them; null where that is not known of one.
    pub unstored: Option<Unstored>,
    /// How often it was away since the databases were started.
    pub outages: u64,
    /// How long altogether, milliseconds.
    pub away_ms: u64,
}

/// Who may write.
#[derive(Clone, Debug, Serialize)]
pub struct Lease {
    /// `static` for now.
    pub r#type: &'static str,
    /// `held` or `released`.
    pub state: &'static str,
    /// Rises with every holder.
    pub epoch: Epoch,
    /// The node's name.
    pub holder: Option<String>,
    /// Null where it does not lapse.
    pub valid_for_ms: Option<u64>,
}

/// The catalogue in short.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Checkpoints {
    /// How many.
    pub count: u64,
    /// The newest's id.
    pub latest: Option<String>,
    /// When the newest was made.
    #[serde(skip)]
    pub latest_made: Option<Timestamp>,
}

/// Something wrong, with its cure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Issue {
    /// A stable word, `database_not_covered` for instance.
    pub code: String,
    /// `database`, `storage`, `mount`, `lease`, `app`, `config`, `preflight`, `node`.
    pub component: &'static str,
    /// What is wrong.
    pub message: String,
    /// Which file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The code that the failed process would have shown in a shell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// What mends it: a command or a line to add.
    pub hint: String,
}

/// What is measured beside the status.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// Bytes of each database's history on this machine; nothing while the databases are starting or stopping.
    pub history_bytes: Vec<(DatabasePath, u64)>,
    /// What went over the wire, where the store is behind one.
    pub store: Option<StoreTraffic>,
}

/// What went over the wire to a store since it was opened.
#[derive(Clone, Debug, Default)]
pub struct StoreTraffic {
    /// Requests, by what they ask for.
    pub requests: Vec<(&'static str, u64)>,
    /// Requests that failed, by the kind of trouble.
    pub errors: Vec<(&'static str, u64)>,
    /// Requests that were sent once more.
    pub retries: u64,
    /// Bytes of the bodies of requests.
    pub sent_bytes: u64,
    /// Bytes of the bodies of answers.
    pub fetched_bytes: u64,
}

impl From<&store::Traffic> for StoreTraffic {
    fn from(traffic: &store::Traffic) -> StoreTraffic {
        StoreTraffic {
            requests: store::Verb::ALL.map(|verb| (verb.code(), traffic.requests(verb))).to_vec(),
            errors: store::ErrorKind::ALL.map(|kind| (kind.code(), traffic.errors(kind))).to_vec(),
            retries: traffic.retries(),
            sent_bytes: traffic.bytes_up(),
            fetched_bytes: traffic.bytes_down(),
        }
    }
}
