//! The database engine: descriptors, capture, sealing, history, apply, cut, restore.
//!
//! ```text
//! app ──commit──▶ -wal ──capture──▶ tail ──seal──▶ ltx/0/N-N.ltx ──merge──▶ ltx/1…9
//!                   ▲                 │ (pages since the last seal)   │
//!                   └── read mark ────┘                               ▼
//! app ◀──readers── database ◀──apply (sqlite_dbpage)── plan ◀── restore to a vector
//! ```
//!
//! [`engine::Engine`] is what the node holds; [`live`] is one database under it. Pure parts (`wal`, `tail`, planners)
//! take bytes and return decisions; `sqlite` is the only module that reaches under SQLite's connections.

pub mod bucket;
mod common;
pub mod copy;
pub mod engine;
pub mod history;
pub mod ledger;
pub mod live;
pub mod machine;
pub mod probe;
pub mod query;
pub mod recover;
pub mod sqlite;
pub mod sums;
pub mod tail;
pub mod wal;

pub use bucket::{Bucket, BucketError, Claim, Holder, Owner, Rights};
pub use common::COMMON_MOMENT_AGE_MAX;
pub use engine::{Engine, Entry, Notice, Settings, StoreSettings};
pub use machine::Machine;
