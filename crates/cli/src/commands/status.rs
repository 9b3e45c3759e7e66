//! `stead status`: everything on one screen, once or watched.

use super::{Outcome, items};
use crate::client::Client;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render;
use crate::terminal::{Terminal, Wish};
use serde_json::Value;
use std::time::Duration;

mod screen;

pub use screen::database_table;

/// How often a watched screen is drawn.
const EVERY: Duration = Duration::from_secs(1);

pub async fn run(client: &impl Fn() -> Result<Client, Failure>, watch: bool, json: bool) -> Outcome {
    if !watch {
        let status = ask(client).await.map_err(|failure| Failure { exit: Exit::CouldNotAsk, ..failure })?;
        render::line(shown(&status, json));
        return Ok(verdict(&status));
    }
    match if json { None } else { Terminal::take() } {
        Some(terminal) => redrawn(client, terminal).await,
        None => one_after_another(client, json).await,
    }
}

async fn ask(client: &impl Fn() -> Result<Client, Failure>) -> Result<Value, Failure> {
    client()?.get("/status").await.map_err(|failure| failure.of("the status cannot be shown"))
}

fn shown(status: &Value, json: bool) -> String {
    if json { render::pretty(status) } else { screen::screen(status, verdict(status), render::width()) }
}

/// For pipes and files: until nobody reads any more.
async fn one_after_another(client: &impl Fn() -> Result<Client, Failure>, json: bool) -> Outcome {
    loop {
        let exit = match ask(client).await {
            Ok(status) => {
                if render::try_line(shown(&status, json)).is_err() {
                    return Ok(verdict(&status));
                }
                verdict(&status)
            }
            Err(failure) => {
                crate::show(&failure, json);
                Exit::CouldNotAsk
            }
        };
        if !render::is_read() {
            return Ok(exit);
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// For a person: one screen, drawn over itself until a key ends it; the exit code is that of the last one.
async fn redrawn(client: &impl Fn() -> Result<Client, Failure>, mut terminal: Terminal) -> Outcome {
    let mut exit = Exit::CouldNotAsk;
    loop {
        let asked = tokio::select! {
            asked = ask(client) => asked,
            Wish::End = terminal.wish() => return Ok(exit),
        };
        let text = match asked {
            Ok(status) => {
                exit = verdict(&status);
                screen::screen(&status, exit, terminal.columns())
            }
            Err(failure) => {
                exit = Exit::CouldNotAsk;
                failure.to_string()
            }
        };
        terminal.draw(&text, "drawn every second; q ends it");
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            wish = terminal.wish() => match wish {
                Wish::End => return Ok(exit),
                Wish::Redraw => {}
            },
        }
    }
}

/// What the status means for whoever runs this in a script.
fn verdict(status: &Value) -> Exit {
    let state = status["state"].as_str().unwrap_or("");
    let held = status["lease"]["state"].as_str() == Some("held");
    let app_runs = status["process"]["state"].as_str() == Some("running");
    if state == "primary" && !held && app_runs {
        return Exit::Contradiction;
    }
    // A released lease has no holder: nobody may write, whatever this node waits for.
    if !held || !matches!(state, "primary" | "replica") {
        return Exit::NoPrimary;
    }
    let parts = status["components"].as_object().into_iter().flatten();
    let mut states = parts.filter_map(|(_, part)| part["state"].as_str());
    let unwell = states.any(|state| matches!(state, "degraded" | "failed"));
    if unwell || !items(status, "issues").is_empty() { Exit::Degraded } else { Exit::Done }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_status_says_how_well_the_node_is() {
        let with = |pointer: &str, value: Value| {
            let mut changed = screen::tests::status();
            *changed.pointer_mut(pointer).unwrap() = value;
            verdict(&changed).code()
        };
        assert_eq!(verdict(&screen::tests::status()), Exit::Done);
        assert_eq!(with("/issues", json!([{"code": "x"}])), 1);
        assert_eq!(with("/components/database/state", json!("degraded")), 1);
        assert_eq!(with("/state", json!("unconfigured")), 2);
        assert_eq!(with("/state", json!("starting")), 2);
        assert_eq!(with("/lease/state", json!("released")), 3);
        assert_eq!(with("/lease", Value::Null), 3);
        let mut released = screen::tests::status();
        released["state"] = json!("replica");
        released["process"]["state"] = json!("stopped");
        released["lease"]["state"] = json!("released");
        assert_eq!(verdict(&released), Exit::NoPrimary);
    }
}
