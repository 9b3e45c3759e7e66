//! Starting and stopping the app: the node's side, and what it shares with the supervisor.
//!
//! ```text
//!  node core ──▶ Runner ──▶ policy (pure) ──▶ Link ══ socket pair ══▶ supervisor ──▶ app and all its descendants
//!            ◀── status, logs, events ◀────── Link ◀═════════════════ exits, lines, terminate
//! ```
//!
//! The supervisor (in the binary) owns the processes; the node decides. What both need lies here: the messages
//! ([`protocol`]), how a process is started ([`spawn`]) and how all processes of the app are found ([`processes`]).
//! Unsafe code is in [`spawn`] only.

pub mod crashes;
pub mod link;
pub mod policy;
pub mod probe;
pub mod processes;
pub mod protocol;
pub mod readiness;
pub mod runner;
pub mod signal;
pub mod spawn;

pub use link::Link;
pub use policy::RestartPolicy;
pub use protocol::{LogLine, Spec, Stream};
pub use readiness::{Question, ReadyWhen};
pub use runner::{
    AppEvent, AppState, AppStatus, LastExit, LogsError, Plan, Preparation, PreparationFailure, Runner,
    StopError,
};
