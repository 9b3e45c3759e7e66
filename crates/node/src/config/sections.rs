//! The sections of a configuration. The first sentence of each key is its description in schema and reference.

use super::limits;
use super::names::{DatabaseFile, FilePath, HomeDirectory, Pattern};
use super::process::{Command, Signal, UserIds};
use super::ready::Ready;
use super::text::{Period, Size};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// How much history is kept; checkpoints pin what they need.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// How far back history reaches, thinned with age.
    #[schemars(extend("x-min-ms" = limits::ms(limits::KEEP_MIN), "x-max-ms" = limits::ms(limits::KEEP_MAX)))]
    pub keep: Period,
    /// The most disk for history on this machine.
    #[schemars(extend("x-min-bytes" = limits::LOCAL_BYTES_MIN))]
    pub local: Size,
}

impl Default for Retention {
    fn default() -> Retention {
        Retention { keep: Period(limits::KEEP), local: Size(limits::LOCAL_BYTES) }
    }
}

/// What is a database of the volume: one file, or all files that match a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum DatabaseEntry {
    /// One file, created if it does not exist.
    File(DatabaseByPath),
    /// Every file below a directory whose name matches.
    Pattern(DatabasesByPattern),
}

/// One file, created if it does not exist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DatabaseByPath {
    /// The file, relative to the home.
    pub path: DatabaseFile,
    /// A file of SQL that runs when the database is created; its statements must be repeatable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<FilePath>,
}

/// Every file below a directory whose name matches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DatabasesByPattern {
    /// The directory, relative to the home.
    pub dir: HomeDirectory,
    /// Which files below it: `*` stays within a directory, `**` does not.
    pub pattern: Pattern,
}

/// Checkpoints on a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Checkpoints {
    /// How often one is made by itself; without it, never.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-min-ms" = limits::ms(limits::EVERY_MIN), "x-max-ms" = limits::ms(limits::EVERY_MAX)))]
    pub every: Option<Period>,
    /// How many of the automatic ones are kept; named ones are never removed.
    #[schemars(range(min = 1, max = limits::CHECKPOINTS_KEEP_MAX))]
    pub keep: u32,
}

impl Default for Checkpoints {
    fn default() -> Checkpoints {
        Checkpoints { every: None, keep: limits::CHECKPOINTS_KEEP }
    }
}

/// The process that runs on this state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct App {
    /// The program and its arguments; a text is split as a shell would, without a shell.
    pub command: Command,
    /// Commands that run one after another before it, once this node has become primary.
    #[serde(default)]
    #[schemars(length(max = limits::BEFORE_MAX))]
    pub before: Vec<Command>,
    /// On which nodes it runs.
    #[serde(default)]
    pub run_on: RunOn,
    /// Variables added to its environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Its working directory, relative to the home or absolute.
    #[serde(default = "home")]
    pub directory: FilePath,
    /// The user and group it runs as, by number; the node's own by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserIds>,
    /// The wait before it is restarted, doubling up to 60s and reset after 10 minutes of running.
    #[serde(default = "restart_delay")]
    #[schemars(extend("x-max-ms" = limits::ms(limits::RESTART_DELAY_MAX)))]
    pub restart_delay: Period,
    /// The signal that asks it to end.
    #[serde(default = "stop_signal")]
    pub stop_signal: Signal,
    /// How long it has to end before every descendant is killed.
    #[serde(default = "stop_timeout")]
    #[schemars(extend("x-max-ms" = limits::ms(limits::STOP_TIMEOUT_MAX)))]
    pub stop_timeout: Period,
    /// When it counts as ready; as soon as its process runs where this is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<Ready>,
    /// Whether the node ends when the app does, with the app's exit code.
    #[serde(default)]
    pub exit: bool,
}

fn home() -> FilePath {
    FilePath(PathBuf::from("."))
}

fn restart_delay() -> Period {
    Period(limits::RESTART_DELAY)
}

fn stop_timeout() -> Period {
    Period(limits::STOP_TIMEOUT)
}

fn stop_signal() -> Signal {
    // SIGTERM is 15 on every machine that Linux runs on.
    Signal(15)
}

/// On which nodes the app runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum RunOn {
    /// Only where the state may be written.
    #[default]
    Primary,
    /// Everywhere.
    Any,
}

/// What is looked at before anything starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Preflight {
    /// Directories that the app needs beside its databases.
    #[schemars(length(max = limits::DIRECTORIES_MAX))]
    pub directories: Vec<Directory>,
}

/// A directory that the app needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Directory {
    /// The directory, absolute or relative to the home.
    pub path: FilePath,
    /// What health answers call it; the last part of the path by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether it is made, with mode 0755, where it does not exist.
    #[serde(default)]
    pub create: bool,
    /// Whose it must be, by number; a directory that is made belongs to them, by default to the app's user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<UserIds>,
    /// Whether the app's user must be able to write in it.
    #[serde(default = "yes")]
    pub writable: bool,
}

impl Directory {
    /// What health answers call it.
    pub fn label(&self) -> String {
        let last = || self.path.0.file_name().map(|name| name.to_string_lossy().into_owned());
        self.name.clone().or_else(last).unwrap_or_else(|| self.path.0.display().to_string())
    }
}

fn yes() -> bool {
    true
}

/// Who may write.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Lease {
    /// How the writer is chosen: `static` says it here.
    pub r#type: LeaseType,
    /// The node that writes; this one where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub primary: Option<String>,
}

/// How the writer is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LeaseType {
    /// By the configuration.
    #[default]
    Static,
}

/// What the node says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// For people or for machines.
    pub format: LogFormat,
    /// The least important lines that are written.
    pub level: LogLevel,
}

/// For people or for machines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// A line a person reads.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

/// How important a line is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What went wrong.
    Error,
    /// What might.
    Warn,
    /// What happens.
    #[default]
    Info,
    /// How it happens.
    Debug,
    /// Everything.
    Trace,
}
