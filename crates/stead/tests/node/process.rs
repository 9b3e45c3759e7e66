//! The app's life: what comes before it, when it is ready, how often it ends, and as whom it runs.

mod beat;
mod before;
mod crashes;
mod manager;
mod ready;
mod user;

use serde_json::{Value, json};

/// A configuration whose app is a shell script; its working directory is the home.
fn app(script: &str) -> Value {
    json!({
        "name": "process",
        "app": { "command": ["sh", "-c", script], "restart_delay": "50ms", "stop_timeout": "10s" },
    })
}

/// The same with one more key for the app.
fn app_with(script: &str, key: &str, value: Value) -> Value {
    let mut config = app(script);
    config["app"][key] = value;
    config
}
