//! What each command does.

use crate::args::{self, App, Cli};
use crate::client::Client;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::progress;
use crate::render;
use clap::builder::StyledStr;
use clap::{Command, CommandFactory};
use reqwest::Method;
use serde_json::{Value, json};

mod checkpoint;
mod config;
mod database;
mod image;
mod logs;
mod offline;
mod preflight;
mod restore;
mod status;

/// How a command ended.
type Outcome = Result<Exit, Failure>;

/// Runs a command.
pub async fn run(cli: Cli) -> Outcome {
    let Cli { global, command } = cli;
    let json = global.json;
    let client = || Client::find(&global);
    match command {
        // The binary runs these itself; reaching this is a mistake in its wiring.
        args::Command::Run(_)
        | args::Command::CheckRun(_)
        | args::Command::Node(_)
        | args::Command::QueryProcess
        | args::Command::Probe => {
            Err(Failure::new(Exit::Bug, "this command does not run here", "", "please report it"))
        }
        args::Command::Preflight(args) => preflight::run(&global.home, &args, json),
        args::Command::Status { watch } => status::run(&client, watch, json).await,
        args::Command::Checkpoint(command) => checkpoint::run(&client()?, command, json).await,
        args::Command::Restore(args) => restore::run(&client()?, args, json).await,
        args::Command::Db(command) => database::run(&client, &global.home, command, json).await,
        args::Command::App(action) => app(&client()?, action, json).await,
        args::Command::Config(command) => config::run(&client, command, json).await,
        args::Command::Logs { lines, stderr, follow } => {
            logs::run(&client()?, lines, stderr, follow, json).await
        }
        args::Command::ReleaseLease => {
            let client = client()?;
            let body = json!({});
            let asked = client.json(Method::POST, "/release-lease", Some(&body));
            let answer = progress::during("stopping the app and sealing", asked).await;
            let answer = answer.map_err(|failure| failure.of("the lease was not released"))?;
            Ok(said(
                &answer,
                json,
                "the lease is released and the app stopped; `stead promote` takes it back",
            ))
        }
        args::Command::Promote => {
            let client = client()?;
            let body = json!({});
            let asked = client.json(Method::POST, "/promote", Some(&body));
            let answer = progress::during("taking the right to write", asked).await;
            let answer = answer.map_err(|failure| failure.of("this node was not promoted"))?;
            Ok(said(&answer, json, "this node may write"))
        }
        args::Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut visible(), "stead", &mut script);
            Ok(raw(&script))
        }
        args::Command::Man { command } => man(&command),
    }
}

async fn app(client: &Client, action: App, json: bool) -> Outcome {
    let (word, doing, done, refused) = match action {
        App::Start => ("start", "starting the app", "the app is started", "the app was not started"),
        App::Stop => (
            "stop",
            "stopping the app",
            "the app is stopped, and stays so until `stead app start`",
            "the app was not stopped",
        ),
        App::Restart => {
            ("restart", "restarting the app", "the app is restarted", "the app was not restarted")
        }
    };
    let body = json!({ "action": word });
    let answer = progress::during(doing, client.json(Method::POST, "/app", Some(&body))).await;
    let answer = answer.map_err(|failure| failure.of(refused))?;
    Ok(said(&answer, json, done))
}

/// Shows an answer, or what it means.
fn said(answer: &Value, json: bool, meaning: &str) -> Exit {
    if json {
        render::json(answer)
    } else {
        render::line(meaning)
    }
    Exit::Done
}

/// The grammar without what only Stead's own processes use: completions would offer it.
fn visible() -> Command {
    let whole = Cli::command();
    let mut shown = Command::new("stead").subcommand_required(true).propagate_version(true);
    shown = shown.args(whole.get_arguments().filter(|arg| !arg.is_hide_set()));
    shown = shown.subcommands(whole.get_subcommands().filter(|command| !command.is_hide_set()));
    for (text, set) in [
        (whole.get_about(), Command::about as fn(Command, StyledStr) -> Command),
        (whole.get_after_help(), Command::after_help),
    ] {
        if let Some(text) = text {
            shown = set(shown, text.clone());
        }
    }
    shown.version(env!("CARGO_PKG_VERSION"))
}

fn man(path: &[String]) -> Outcome {
    let mut command = visible();
    command.build();
    for name in path {
        command = command.find_subcommand(name).cloned().ok_or_else(|| {
            Failure::new(
                Exit::Usage,
                "there is no manual page",
                format!("`{}` is no command of stead", path.join(" ")),
                "`stead --help` lists them",
            )
        })?;
    }
    let mut page = Vec::new();
    let source = concat!("stead ", env!("CARGO_PKG_VERSION"));
    clap_mangen::Man::new(command).source(source).render(&mut page).map_err(|error| {
        Failure::new(Exit::Bug, "the manual page was not made", error, "please report it")
    })?;
    Ok(raw(&page))
}

/// Prints bytes that are for a program.
fn raw(bytes: &[u8]) -> Exit {
    render::raw(bytes);
    Exit::Done
}

/// A part of a URL's path, with everything but plain characters and `/` encoded.
fn encoded(path: &str) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                out.push(char::from(byte))
            }
            byte => drop(write!(out, "%{byte:02X}")),
        }
    }
    out
}

/// The route of one database; what is no path of one must not become another route.
fn database_route(path: &str, what: &str) -> Result<String, Failure> {
    match base::DatabasePath::parse(path) {
        Ok(path) => Ok(format!("/databases/{}", encoded(path.as_str()))),
        Err(bad) => Err(Failure::new(Exit::Usage, what, bad, "`stead db list` shows those there are")),
    }
}

/// The items of a list in an answer.
fn items<'a>(answer: &'a Value, key: &str) -> &'a [Value] {
    answer[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_encoded_but_keep_their_slashes() {
        assert_eq!(encoded("data/a b/ü?.db"), "data/a%20b/%C3%BC%3F.db");
        assert_eq!(database_route("data/a.db", "x").unwrap(), "/databases/data/a.db");
        assert_eq!(database_route("../config", "x").unwrap_err().exit, Exit::Usage);
    }
}
