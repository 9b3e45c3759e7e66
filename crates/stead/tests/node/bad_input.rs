//! What damaged files, full disks and processes in the way must not break: one clear error, the right status or exit
//! code, and nothing lost.

mod disk_full;
mod files;
mod history;
mod home;
mod locks;
mod starts;
mod table;

use serde_json::{Value, json};

/// The default database and every `.db` below `data/`, without an app.
fn config() -> Value {
    json!({ "name": "bad", "databases": [{ "path": DATABASE }, { "dir": "data", "pattern": "**/*.db" }] })
}

/// The same, with an app that does nothing.
fn with_app() -> Value {
    let mut config = config();
    config["app"] = json!({ "command": ["sleep", "1000"], "restart_delay": "50ms" });
    config
}

const DATABASE: &str = "data/database.sqlite";
