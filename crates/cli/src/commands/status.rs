//! `stead status`: everything on one screen.

use super::{Outcome, items};
use crate::client::Client;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::{self, Tone, age, span, text, tone};
use serde_json::Value;
use std::io::IsTerminal;
use std::time::Duration;

/// How often a watched screen is drawn.
const EVERY: Duration = Duration::from_secs(1);

pub async fn run(client: &impl Fn() -> Result<Client, Failure>, watch: bool, json: bool) -> Outcome {
    loop {
        let asked = match client() {
            Ok(client) => {
                client.get("/status").await.map_err(|failure| failure.of("the status cannot be shown"))
            }
            Err(failure) => Err(failure),
        };
        let exit = match asked {
            Ok(status) => {
                let shown = if json { render::pretty(&status) } else { screen(&status) };
                let redraw = watch && !json && std::io::stdout().is_terminal();
                render::line(if redraw { over(&shown) } else { shown });
                verdict(&status)
            }
            Err(failure) if !watch => return Err(Failure { exit: Exit::CouldNotAsk, ..failure }),
            Err(failure) => {
                crate::show(&failure, json);
                Exit::CouldNotAsk
            }
        };
        if !watch {
            return Ok(exit);
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// A screen drawn over the last one: each line ends what was there before, so that nothing is blank in between.
fn over(screen: &str) -> String {
    let lines: Vec<String> = screen.lines().map(|line| format!("{line}\u{1b}[K")).collect();
    format!("\u{1b}[H{}\n\u{1b}[J", lines.join("\n"))
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

fn screen(status: &Value) -> String {
    let state = text(&status["state"]);
    let mood = match verdict(status) {
        Exit::Done => Tone::Good,
        Exit::Degraded => Tone::Warning,
        _ => Tone::Bad,
    };
    let name = status["name"].as_str().unwrap_or("unconfigured");
    let mut out =
        vec![format!("{}  {}  {}", tone(Tone::Strong, name), tone(mood, &state), text(&status["reason"]))];
    let mut rows = vec![
        [
            "node".to_owned(),
            format!(
                "{}, stead {}, {state} for {}",
                text(&status["node"]),
                text(&status["version"]),
                age(&status["since"])
            ),
        ],
        ["app".to_owned(), app(&status["process"])],
    ];
    if status["lease"].is_object() {
        let lease = &status["lease"];
        rows.push([
            "lease".to_owned(),
            format!("{}, {}, epoch {}", text(&lease["type"]), text(&lease["state"]), text(&lease["epoch"])),
        ]);
    }
    if let Some(storage) = status["components"].get("storage").filter(|storage| storage.is_object()) {
        let why = storage["error"].as_str().map(|why| format!(": {why}")).unwrap_or_default();
        rows.push(["store".to_owned(), format!("{}{why}", text(&storage["state"]))]);
    }
    let checkpoints = &status["checkpoints"];
    let latest = checkpoints["latest"].as_str().map(|id| format!(", the newest is {id}")).unwrap_or_default();
    rows.push(["checkpoints".to_owned(), format!("{}{latest}", text(&checkpoints["count"]))]);
    for [label, value] in rows {
        out.push(format!("{label:<12} {value}"));
    }
    if status["configured"] == false {
        out.push(String::new());
        out.push("configure it with `stead config apply FILE` or POST /config".to_owned());
    }
    let databases = items(status, "databases");
    if !databases.is_empty() {
        out.push(String::new());
        out.push(database_table(databases));
    }
    for issue in items(status, "issues") {
        let path = issue["path"].as_str().map(|path| format!(" ({path})")).unwrap_or_default();
        out.push(String::new());
        out.push(format!("{} {}{path}", tone(Tone::Warning, &text(&issue["code"])), text(&issue["message"])));
        out.push(format!("  {}", text(&issue["hint"])));
    }
    out.join("\n")
}

fn app(process: &Value) -> String {
    let mut out = text(&process["state"]);
    if let Some(pid) = process["pid"].as_u64() {
        out.push_str(&format!(", pid {pid}"));
    }
    if let Some(ms) = process["uptime_ms"].as_u64() {
        out.push_str(&format!(", up {}", span(ms)));
    }
    if let Some(index) = process["before"]["index"].as_u64() {
        out.push_str(&format!(", app.before[{index}] comes first"));
    }
    if let Some(asked) = process["waits_for"].as_str() {
        out.push_str(&format!(", not ready: {asked}"));
    }
    match process["restarts"].as_u64() {
        Some(0) | None => {}
        Some(count) => out.push_str(&format!(", {count} restarts")),
    }
    let exit = &process["last_exit"];
    if exit.is_object() {
        let how = match (exit["code"].as_i64(), exit["signal"].as_str()) {
            (Some(code), _) => format!("code {code}"),
            (None, Some(signal)) => signal.to_owned(),
            (None, None) => "unknown".to_owned(),
        };
        out.push_str(&format!(", last ended {} ago with {how}", age(&exit["time"])));
    }
    out
}

/// The databases with their positions; also `stead db list`.
pub fn database_table(databases: &[Value]) -> String {
    let rows = databases.iter().map(|database| {
        let size = database["pages"].as_u64().unwrap_or(0) * database["page_size"].as_u64().unwrap_or(0);
        [
            text(&database["path"]),
            text(&database["mode"]),
            text(&database["txid"]),
            text(&database["stored_txid"]),
            render::bytes(size),
            span(database["lag_ms"].as_u64().unwrap_or(0)),
            database["issue"].as_str().unwrap_or("").to_owned(),
        ]
    });
    render::table(["DATABASE", "MODE", "TXID", "STORED", "SIZE", "LAG", ""], rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_watched_screen_is_never_blank_in_between() {
        let drawn = over("one\ntwo");
        assert_eq!(drawn, "\u{1b}[Hone\u{1b}[K\ntwo\u{1b}[K\n\u{1b}[J");
        assert!(!drawn.contains("\u{1b}[2J"), "the whole screen is never erased");
    }

    fn status() -> Value {
        json!({
            "name": "notes", "version": "0.1.0", "node": "box", "state": "primary", "role": "primary", "since": 0,
            "reason": "static lease", "configured": true,
            "process": {"state": "running", "pid": 42, "uptime_ms": 61_000, "restarts": 2, "last_exit": null},
            "components": {"database": {"state": "ok", "since": 0}, "storage": null, "mount": null, "lease": null, "app": null},
            "databases": [{"path": "data/database.sqlite", "mode": "wal", "txid": 7, "checksum": "8000000000000001",
                "pages": 3, "page_size": 4096, "stored_txid": null, "lag_ms": 0, "history": "h"}],
            "lease": {"type": "static", "state": "held", "epoch": 1, "holder": "box", "valid_for_ms": null},
            "replicas": [], "checkpoints": {"count": 1, "latest": "c1"}, "issues": []
        })
    }

    #[test]
    fn a_status_says_how_well_the_node_is() {
        let with = |pointer: &str, value: Value| {
            let mut changed = status();
            *changed.pointer_mut(pointer).unwrap() = value;
            verdict(&changed).code()
        };
        assert_eq!(verdict(&status()), Exit::Done);
        assert_eq!(with("/issues", json!([{"code": "x"}])), 1);
        assert_eq!(with("/components/database/state", json!("degraded")), 1);
        assert_eq!(with("/state", json!("unconfigured")), 2);
        assert_eq!(with("/state", json!("starting")), 2);
        assert_eq!(with("/lease/state", json!("released")), 3);
        assert_eq!(with("/lease", Value::Null), 3);
        let mut released = status();
        released["state"] = json!("replica");
        released["process"]["state"] = json!("stopped");
        released["lease"]["state"] = json!("released");
        assert_eq!(verdict(&released), Exit::NoPrimary);
    }

    #[test]
    fn an_app_that_does_not_serve_yet_says_what_it_waits_for() {
        let starting = json!({ "state": "starting", "before": { "index": 1, "of": 2 } });
        assert_eq!(app(&starting), "starting, app.before[1] comes first");
        let asked = json!({ "state": "running", "pid": 4, "waits_for": "tcp a:1: connection refused" });
        assert_eq!(app(&asked), "running, pid 4, not ready: tcp a:1: connection refused");
    }

    #[test]
    fn the_screen_shows_what_matters() {
        let mut status = status();
        status["issues"] = json!([{"code": "database_not_covered", "component": "database",
            "message": "the app has data/x.db open", "path": "data/x.db", "hint": "add `- path: data/x.db`"}]);
        let shown = anstream::adapter::strip_str(&screen(&status)).to_string();
        // The age depends on the day.
        let lines: Vec<&str> = shown.lines().filter(|line| !line.starts_with("node ")).collect();
        insta::assert_snapshot!("status_screen", lines.join("\n"));
    }
}
