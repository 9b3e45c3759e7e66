//! What people do with a running node: commands, their words and exit codes, events, moments, the log.

mod commands;
mod events;
mod every_command;
mod log;
pub mod metrics;
mod moments;
mod output;
mod query;
mod secrets;
mod terminal;
mod transitions;

use serde_json::{Value, json};

/// The default database, sealed at once, without an app.
fn config() -> Value {
    json!({ "name": "operation", "storage": { "sync_interval": "20ms" } })
}

/// The same with an app that does nothing.
fn with_app() -> Value {
    let mut config = config();
    config["app"] = json!({ "command": ["sleep", "1000"], "restart_delay": "50ms" });
    config
}

const DATABASE: &str = "data/database.sqlite";
