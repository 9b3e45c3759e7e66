//! The specification, line by line: each test quotes the line that it holds the node to.
//!
//! Lines that need a mount or an S3 store are not here. Where the specification says the same thing in several
//! places, each place has a test that looks at it from another side.

mod configuration;
mod databases;
mod endpoints;
mod process;
mod start;
mod state;
mod steps;

use serde_json::{Value, json};

/// A configuration whose app is a shell script; its working directory is the home.
fn app(script: &str) -> Value {
    json!({
        "name": "seed",
        "app": { "command": ["sh", "-c", script], "restart_delay": "50ms", "stop_timeout": "10s" },
    })
}

/// A configuration without an app.
fn plain() -> Value {
    json!({ "name": "seed" })
}

/// A database of the default name, and the path that it has everywhere.
const DATABASE: &str = "data/database.sqlite";
