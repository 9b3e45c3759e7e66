//! The status as a screen for people: what it is, how well it is, every part in a line, then what needs a hand. Pure.

use super::items;
use crate::exit::Exit;
use crate::render::{self, Tone, age, count, span, text, tone};
use serde_json::Value;

/// Databases on the screen; `stead db list` has them all.
const DATABASES_MAX: usize = 20;

/// The screen, in lines of so many columns where there is a limit.
pub fn screen(status: &Value, verdict: Exit, columns: Option<u16>) -> String {
    let (mood, word) = match verdict {
        Exit::Done => (Tone::Good, "well"),
        Exit::Degraded => (Tone::Warning, "degraded"),
        Exit::Contradiction => (Tone::Bad, "contradiction"),
        _ => (Tone::Bad, "no primary"),
    };
    let name = status["name"].as_str().unwrap_or("unconfigured");
    let mut out = vec![format!("{}  {}", tone(Tone::Strong, name), tone(mood, word))];
    out.push(render::pairs(columns, rows(status)));
    if status["configured"] == false {
        out.push(String::new());
        out.push(render::wrap(columns, "configure it with `stead config apply FILE` or POST /config"));
    }
    let databases = items(status, "databases");
    if !databases.is_empty() {
        out.push(String::new());
        out.extend(most_telling(databases, columns));
    }
    for issue in items(status, "issues") {
        let code = text(&issue["code"]);
        let path = issue["path"].as_str().map(|path| format!(" ({path})")).unwrap_or_default();
        let told = render::wrap(columns, &format!("{code} {}{path}", text(&issue["message"])));
        // The code stands first, whole or broken; only a whole one is coloured.
        let rest = told.strip_prefix(&code).map(str::to_owned);
        out.push(String::new());
        out.push(rest.map_or(told, |rest| format!("{}{rest}", tone(Tone::Warning, &code))));
        out.push(render::hanging(columns, "  ", &text(&issue["hint"])));
    }
    out.join("\n")
}

fn rows(status: &Value) -> Vec<[String; 2]> {
    let state =
        format!("{} for {}: {}", text(&status["state"]), age(&status["since"]), text(&status["reason"]));
    let mut rows = vec![
        ("node", format!("{}, stead {}", text(&status["node"]), text(&status["version"]))),
        ("state", state),
        ("app", app(status)),
    ];
    let part = |name: &str| status["components"].get(name).filter(|part| part.is_object());
    if let Some(part) = part("database") {
        rows.push(("databases", databases(part, items(status, "databases"))));
    }
    if let Some(part) = part("storage") {
        rows.push(("store", store(part, &status["store"], items(status, "databases"))));
    }
    let lease = &status["lease"];
    if lease.is_object() {
        let told = [&lease["type"], &lease["state"]].map(text).join(", ");
        let holder = lease["holder"].as_str().map(|holder| format!(" by {holder}")).unwrap_or_default();
        rows.push(("lease", format!("{told}{holder}, epoch {}", text(&lease["epoch"]))));
    }
    let checkpoints = &status["checkpoints"];
    let latest = checkpoints["latest"].as_str().map(|id| format!(", the newest is {id}")).unwrap_or_default();
    rows.push(("checkpoints", format!("{}{latest}", text(&checkpoints["count"]))));
    let issues = items(status, "issues").len();
    if issues > 0 {
        rows.push(("issues", format!("{issues}, each below with what mends it")));
    }
    rows.into_iter().map(|(label, value)| [label.to_owned(), value]).collect()
}

fn app(status: &Value) -> String {
    let process = &status["process"];
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
    } else if process["ready"] == true {
        out.push_str(", ready");
    }
    if let Some(said) = process["says"].as_str() {
        out.push_str(&format!(", says {said}"));
    }
    match process["restarts"].as_u64() {
        Some(0) | None => {}
        Some(restarts) => {
            out.push_str(&format!(", {}", count(usize::try_from(restarts).unwrap_or(usize::MAX), "restart")))
        }
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
    // Why it is down, where nothing else says so; what it waits for is told above.
    let why = status["components"]["app"]["error"].as_str();
    match (why, process["state"].as_str()) {
        (Some(why), Some("stopped")) if why.starts_with("stopped") => out.replacen("stopped", why, 1),
        (Some(why), Some("stopped")) => format!("{out}: {why}"),
        _ => out,
    }
}

/// How many there are, and how many of them are not as they should be.
fn databases(part: &Value, databases: &[Value]) -> String {
    if part["state"] != "ok" && part["state"] != "degraded" {
        let why = part["error"].as_str().map(|why| format!(": {why}")).unwrap_or_default();
        return format!("{}{why}", text(&part["state"]));
    }
    let mut out = databases.len().to_string();
    let of = |is: &dyn Fn(&Value) -> bool| databases.iter().filter(|database| is(database)).count();
    let troubled = of(&|database| database["issue"].is_string());
    let waiting = of(&|database| !database["issue"].is_string() && !followed(database));
    let open = of(&|database| database["lag_ms"].as_u64() > Some(0));
    for (number, what) in
        [(troubled, "with an issue"), (waiting, "not followed yet"), (open, "with unsealed commits")]
    {
        if number > 0 {
            out.push_str(&format!(", {number} {what}"));
        }
    }
    if troubled + waiting + open == 0 && !databases.is_empty() {
        out.push_str(", all sealed");
    }
    out
}

/// Whether the store has what is sealed, and where it has not, how much it lacks and why.
fn store(part: &Value, store: &Value, databases: &[Value]) -> String {
    let behind =
        databases.iter().filter(|database| database["stored_txid"].as_u64() < database["txid"].as_u64());
    let mut out = match store["state"].as_str() {
        Some("away") => format!("{}, away for {}", text(&part["state"]), age(&store["away_since"])),
        _ => text(&part["state"]),
    };
    match behind.count() {
        0 if part["state"] == "ok" => out.push_str(", has everything that is sealed"),
        0 => {}
        behind => {
            out.push_str(&format!(", {} not all there yet", count(behind, "database")));
            out.push_str(&lacks(&store["unstored"]));
        }
    }
    if let Some(why) = part["error"].as_str() {
        out.push_str(&format!(": {why}"));
    }
    out
}

/// How far the store is behind.
fn lacks(unstored: &Value) -> String {
    let number = |key: &str| unstored[key].as_u64().filter(|number| *number > 0);
    let Some(transactions) = number("transactions") else { return String::new() };
    let transactions = count(usize::try_from(transactions).unwrap_or(usize::MAX), "transaction");
    let bytes = render::bytes(number("bytes").unwrap_or(0));
    format!(" ({transactions}, {bytes}, the oldest {})", span(number("lag_ms").unwrap_or(0)))
}

fn followed(database: &Value) -> bool {
    matches!(database["mode"].as_str(), Some("wal" | "empty"))
}

/// As many databases as a screen holds, those that need a look first.
fn most_telling(databases: &[Value], columns: Option<u16>) -> Vec<String> {
    if databases.len() <= DATABASES_MAX {
        return vec![database_table(databases, columns)];
    }
    let rank = |database: &Value| {
        let lag = database["lag_ms"].as_u64().unwrap_or(0);
        (!database["issue"].is_string(), followed(database), std::cmp::Reverse(lag))
    };
    let mut ranked = databases.to_vec();
    ranked.sort_by_key(rank);
    ranked.truncate(DATABASES_MAX);
    let left = databases.len() - ranked.len();
    let more = render::wrap(columns, &format!("and {left} more: `stead db list` has them all"));
    vec![database_table(&ranked, columns), more]
}

/// The databases with their positions; also `stead db list`.
pub fn database_table(databases: &[Value], columns: Option<u16>) -> String {
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
    let head = ["DATABASE", "MODE", "TXID", "STORED", "SIZE", "LAG", ""].map(str::to_owned).to_vec();
    render::grid_within(columns, head, rows.map(Vec::from))
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use serde_json::json;

    /// A node that is well, with an app, a store and a checkpoint.
    pub fn status() -> Value {
        json!({
            "name": "notes", "version": "0.1.0", "node": "box", "state": "primary", "role": "primary", "since": null,
            "reason": "static lease", "configured": true,
            "process": {"state": "running", "pid": 42, "ready": true, "waits_for": null, "says": null,
                "uptime_ms": 61_000, "restarts": 2, "last_exit": null, "before": null},
            "components": {"database": {"state": "ok", "since": 0}, "storage": {"state": "ok", "since": 0},
                "mount": null, "lease": {"state": "ok", "since": 0}, "app": {"state": "ok", "since": 0}},
            "databases": [{"path": "data/database.sqlite", "mode": "wal", "txid": 7, "checksum": "8000000000000001",
                "pages": 3, "page_size": 4096, "stored_txid": 7,
                "unstored": {"transactions": 0, "bytes": 0, "lag_ms": 0}, "lag_ms": 0, "history": "h"}],
            "store": {"url": "s3://bucket/notes", "state": "held", "epoch": 1, "away_since": null, "error": null,
                "unstored": {"transactions": 0, "bytes": 0, "lag_ms": 0}, "outages": 0, "away_ms": 0},
            "lease": {"type": "static", "state": "held", "epoch": 1, "holder": "box", "valid_for_ms": null},
            "replicas": [], "checkpoints": {"count": 1, "latest": "c1"}, "issues": []
        })
    }

    fn degraded() -> Value {
        let mut status = status();
        status["process"] = json!({"state": "backoff", "pid": null, "ready": false, "waits_for": null, "says": null,
            "uptime_ms": null, "restarts": 1, "last_exit": {"code": null, "signal": "SIGSEGV", "time": null}, "before": null});
        status["components"]["storage"] =
            json!({"state": "degraded", "since": 0, "error": "no space left on device"});
        status["databases"][0]["stored_txid"] = json!(5);
        status["store"]["unstored"] = json!({"transactions": 2, "bytes": 9000, "lag_ms": 61_000});
        status["databases"][0]["lag_ms"] = json!(1200);
        status["issues"] = json!([{"code": "database_not_covered", "component": "database",
            "message": "the app has data/x.db open", "path": "data/x.db", "hint": "add `- path: data/x.db`"}]);
        status
    }

    fn starting() -> Value {
        let mut status = status();
        status["state"] = json!("starting");
        status["reason"] = json!("a configuration was posted");
        status["components"]["database"]["state"] = json!("starting");
        (status["databases"], status["lease"]["state"]) = (json!([]), json!("released"));
        (status["process"], status["components"]["storage"]) = (json!({"state": "none"}), Value::Null);
        status["lease"]["holder"] = Value::Null;
        status
    }

    fn stopped() -> Value {
        let mut status = status();
        status["process"] = json!({"state": "stopped", "restarts": 0});
        status["components"]["app"] = json!({"state": "stopped", "since": 0, "error": "stopped for maintenance: `stead app start` starts it"});
        status
    }

    fn unconfigured() -> Value {
        json!({"name": null, "version": "0.1.0", "node": "box", "state": "unconfigured", "since": null,
            "reason": "waits for a configuration", "configured": false, "process": {"state": "none"},
            "components": {}, "databases": [], "lease": null, "checkpoints": {"count": 0, "latest": null}, "issues": []})
    }

    fn plain(status: &Value, columns: Option<u16>) -> String {
        anstream::adapter::strip_str(&screen(status, super::super::verdict(status), columns)).to_string()
    }

    #[test]
    fn the_screen_shows_what_matters_of_every_kind_of_node() {
        let mut shown = String::new();
        for (kind, status) in [
            ("well", status()),
            ("degraded", degraded()),
            ("starting", starting()),
            ("stopped for maintenance", stopped()),
            ("unconfigured", unconfigured()),
        ] {
            shown.push_str(&format!("## {kind}\n\n{}\n\n", plain(&status, None)));
        }
        shown.push_str(&format!("## degraded, 40 columns\n\n{}\n", plain(&degraded(), Some(40))));
        insta::assert_snapshot!("status_screen", shown);
    }

    #[test]
    fn a_narrow_screen_keeps_within_its_columns_and_loses_nothing() {
        let letters = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).count();
        for status in [status(), degraded(), starting(), unconfigured()] {
            let (wide, narrow) = (plain(&status, None), plain(&status, Some(40)));
            assert!(narrow.lines().all(|line| line.chars().count() <= 40), "{narrow}");
            assert_eq!(letters(&wide), letters(&narrow), "{narrow}");
        }
    }

    #[test]
    fn of_very_many_databases_a_screen_shows_those_that_need_a_look() {
        let mut status = status();
        let mut all: Vec<Value> = (0..1000)
            .map(|n| json!({"path": format!("data/{n}.db"), "mode": "wal", "txid": 1, "stored_txid": 1, "lag_ms": 0}))
            .collect();
        all[700]["issue"] = json!("its history is damaged");
        all[800]["mode"] = json!("waiting");
        all[900]["lag_ms"] = json!(5000);
        status["databases"] = json!(all);
        let shown = plain(&status, None);
        assert!(shown.lines().count() < 40, "{shown}");
        for told in [
            "1000, 1 with an issue, 1 not followed yet, 1 with unsealed commits",
            "data/700.db",
            "data/800.db",
            "data/900.db",
            "and 980 more: `stead db list`",
        ] {
            assert!(shown.contains(told), "{told}: {shown}");
        }
    }

    #[test]
    fn an_app_that_does_not_serve_yet_says_what_it_waits_for() {
        let starting = json!({ "process": { "state": "starting", "before": { "index": 1, "of": 2 } } });
        assert_eq!(app(&starting), "starting, app.before[1] comes first");
        let asked = json!({ "process": { "state": "running", "pid": 4, "waits_for": "tcp a:1: connection refused" } });
        assert_eq!(app(&asked), "running, pid 4, not ready: tcp a:1: connection refused");
    }
}
