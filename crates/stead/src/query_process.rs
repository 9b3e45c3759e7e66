//! The process that runs one query and ends: it reads the query from stdin and writes what came of it to stdout.
//!
//! It lives no longer than the node, and touches nothing but the database that it is told.

use database::query::{Query, QueryError, Rows, run as ask};
use std::io::{Read, Write};

/// Runs the process; its exit code says only whether it could speak.
pub fn run() -> u8 {
    // Without it the process ends at its own limits.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let mut text = Vec::new();
    let answer: Result<Rows, QueryError> = match std::io::stdin().lock().read_to_end(&mut text) {
        Err(error) => Err(QueryError::Failed(format!("the query did not come: {error}"))),
        Ok(_) => match serde_json::from_slice::<Query>(&text) {
            Err(error) => Err(QueryError::Failed(format!("the query is not understood: {error}"))),
            Ok(query) => ask(&query),
        },
    };
    let told = serde_json::to_vec(&answer).unwrap_or_default();
    u8::from(std::io::stdout().lock().write_all(&told).is_err())
}
