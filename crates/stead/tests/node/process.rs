//! The app's life: what comes before it, when it is ready, how often it ends, and as whom it runs.

mod beat;
mod before;
mod crashes;
mod flood;
mod manager;
mod pid_1;
mod ready;
mod unruly;
mod user;

use crate::support::Home;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Command;

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

/// The program `unruly.c`, beside the home.
fn unruly(home: &Home) -> PathBuf {
    let (code, program) = (home.beside("unruly.c"), home.beside("unruly"));
    std::fs::write(&code, include_str!("process/unruly.c")).unwrap();
    let built = Command::new("cc").arg("-O2").arg("-o").arg(&program).arg(&code).status();
    assert!(built.unwrap().success());
    program
}
