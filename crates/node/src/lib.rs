//! The life of a node: configuration, state machine, checkpoint, restore.
//!
//! ```text
//!   config ──> node::Node ──Control──> api, cli
//!                 │  life (pure) · schedule (pure) · issues
//!                 ├─ checkpoint: engine cut ──> ledger ──> tmp/checkpoints
//!                 └─ restore: validate ──> stop app ──> engine turns back ──> start app
//! ```
//! No async here: calls block for a named limit at most, and one thread (`node::keeper`) does what is due.

pub mod checkpoint;
pub mod config;
pub mod control;
pub mod home;
pub mod issues;
pub mod life;
pub mod node;
pub mod preflight;
pub mod query;
pub mod restore;
pub mod schedule;

pub use control::Control;
pub use node::{Node, Setup};
