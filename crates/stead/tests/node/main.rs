//! The real binary over real HTTP: what the specification promises, and what bad input must not break.
//!
//! | module | holds the node to |
//! |---|---|
//! | [`seed`] | every line of the specification that needs no mount and no S3, a test each |
//! | [`seed_script`] | the specification's own commands, run by bash and curl |
//! | [`bad_input`] | damaged files, full disks, processes in the way |
//! | [`process`] | the life of the app: what comes before it, readiness, crash loops, its user |
//! | [`preflight`] | every finding before a start, its cure, and what health answers say of it |
//! | [`operation`] | commands and their exit codes, events, moments in time, the log |
//! | [`stores`] | buckets on real S3 servers: outages, another machine, another owner |
//! | [`security`] | attacks by other users and by web pages, slow and half-open clients |
//!
//! Each node has a home of its own and an address of its own in 127.0.0.0/8, so that all listen on port 8080 and run
//! side by side. Tests that mount a file system or make a network namespace need root.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is not as it must be")]
#![allow(
    clippy::disallowed_methods,
    reason = "a test watches real time, and handles files as an outsider would"
)]

mod bad_input;
mod operation;
mod preflight;
mod process;
mod security;
mod seed;
mod seed_script;
mod stores;
mod support;
