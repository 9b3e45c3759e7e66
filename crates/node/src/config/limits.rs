//! Every default and limit of the configuration, in one place.
//!
//! Defaults are texts in the form a person would write, so that the schema, the reference and the code show the same.

use std::time::Duration;

/// A configuration of more bytes than this is refused; it equals the limit of a request's body.
pub const DOCUMENT_BYTES_MAX: u64 = 1024 * 1024;
/// No more problems than this are listed; beyond that the first ones are what matters.
pub const PROBLEMS_MAX: usize = 100;
/// Where the API listens when nothing else is said: only this machine reaches it.
pub const LISTEN: &str = "127.0.0.1:8080";
/// The default database.
pub const DATABASE: &str = "data/database.sqlite";
/// No more `databases` entries than this; patterns cover more files with one entry.
pub const ENTRIES_MAX: usize = 1000;
/// No more names of this machine under `hosts` than this.
pub const HOSTS_MAX: usize = 100;
/// No more `preflight.directories` than this: each is looked at again while the node runs.
pub const DIRECTORIES_MAX: usize = 100;
/// No more words in a command than this.
pub const WORDS_MAX: usize = 1000;
/// No more commands before the app than this; a script holds more steps.
pub const BEFORE_MAX: usize = 100;

/// The most that may be unsealed and unsent by default.
pub const SYNC_INTERVAL: Duration = Duration::from_secs(1);
/// A longer interval would lose more than anybody expects of a running node.
pub const SYNC_INTERVAL_MAX: Duration = Duration::from_secs(HOUR_S);
/// Requests to a store under way at once: more would only wait for one another at the store.
pub const CONNECTIONS_MAX: u32 = 64;
/// Less would give up on a store that is far away.
pub const CONNECT_TIMEOUT_MIN: Duration = Duration::from_millis(100);
/// A connection that takes longer than a minute is none.
pub const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// Less would give up on an answer of a few MiB.
pub const REQUEST_TIMEOUT_MIN: Duration = Duration::from_secs(1);
/// A request that hangs for longer would be an outage that nobody is told of.
pub const REQUEST_TIMEOUT_MAX: Duration = Duration::from_secs(600);
/// How long a clean stop goes on sending what the store lacks.
pub const STORE_STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// Whoever waits longer than an hour for a store should let the node run.
pub const STORE_STOP_TIMEOUT_MAX: Duration = Duration::from_secs(HOUR_S);
/// As S3 has it.
pub const BUCKET_BYTES_MIN: usize = 3;
/// As S3 has it.
pub const BUCKET_BYTES_MAX: usize = 63;
/// What S3's limit of 1,024 bytes for a key leaves beside the longest key below a prefix and a slash.
pub const PREFIX_BYTES_MAX: usize = 1024 - store::KEY_BYTES_MAX - 1;
/// Names of regions, profiles and keys are much shorter.
pub const WORD_BYTES_MAX: usize = 128;

/// How far back history reaches by default.
pub const KEEP: Duration = Duration::from_secs(30 * DAY_S);
/// Level-0 files live for five minutes; less history than a minute could not be thinned in any sensible way.
pub const KEEP_MIN: Duration = Duration::from_secs(60);
/// A hundred years: more is a typing error, and milliseconds still fit.
pub const KEEP_MAX: Duration = Duration::from_secs(100 * 365 * DAY_S);
/// The most disk for history on this machine by default.
pub const LOCAL_BYTES: u64 = 10 * GIB;
/// Less would not hold the merged files of a small database.
pub const LOCAL_BYTES_MIN: u64 = MIB;

/// Automatic checkpoints more often than this would only be vectors, which are noted anyway.
pub const EVERY_MIN: Duration = Duration::from_secs(1);
/// A year between automatic checkpoints is none.
pub const EVERY_MAX: Duration = Duration::from_secs(365 * DAY_S);
/// How many automatic checkpoints are kept by default.
pub const CHECKPOINTS_KEEP: u32 = 24;
/// The catalogue stays small enough to list.
pub const CHECKPOINTS_KEEP_MAX: u32 = 100_000;

/// The wait before a restart of the app, doubling from here.
pub const RESTART_DELAY: Duration = Duration::from_secs(1);
/// The ceiling of the doubling; a first delay above it would not double.
pub const RESTART_DELAY_MAX: Duration = Duration::from_secs(60);
/// How long the app has before SIGKILL.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(90);
/// An app that needs longer than an hour would block restores for as long.
pub const STOP_TIMEOUT_MAX: Duration = Duration::from_secs(HOUR_S);
/// How long an app may take to become ready before that is an issue.
pub const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// An app that may take longer than a day is never found late.
pub const READY_TIMEOUT_MAX: Duration = Duration::from_secs(DAY_S);
/// The wait between an answer and the next question whether the app is ready.
pub const READY_INTERVAL: Duration = Duration::from_secs(1);
/// An app that is asked less often than once in an hour is as good as not asked.
pub const READY_INTERVAL_MAX: Duration = Duration::from_secs(HOUR_S);
/// More questions a second than ten would be work of its own.
pub const READY_MIN: Duration = Duration::from_millis(100);

const HOUR_S: u64 = 3600;
const DAY_S: u64 = 24 * HOUR_S;
/// 2^20 bytes.
pub const MIB: u64 = 1 << 20;
/// 2^30 bytes.
pub const GIB: u64 = 1 << 30;

/// A duration in milliseconds, for the schema.
pub const fn ms(duration: Duration) -> u64 {
    duration.as_secs() * 1000 + duration.subsec_millis() as u64
}
