//! `stead db …`

use super::{Outcome, database_route, encoded, image, items, offline, said, status};
use crate::args::{Db, MomentArgs};
use crate::client::Client;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::harmless;
use crate::moment;
use crate::progress;
use crate::render::{self, Tone, age, text, tone};
use base::{Clock, SystemClock};
use jiff::tz::TimeZone;
use reqwest::Method;
use serde_json::{Value, json};
use std::path::Path;

pub async fn run(
    client: &impl Fn() -> Result<Client, Failure>,
    home: &Path,
    command: Db,
    json: bool,
) -> Outcome {
    match command {
        Db::List => {
            let answer = client()?.get("/databases").await;
            let answer = answer.map_err(|failure| failure.of("the databases cannot be listed"))?;
            Ok(said(&answer, json, &list(items(&answer, "databases"))))
        }
        Db::Verify { path } => verify(&client()?, path, json).await,
        Db::Log { path } => {
            let what = format!("the history of `{path}` cannot be listed");
            let route = database_route(&path, &what)?;
            let answer = client()?.get(&format!("{route}?view=log")).await;
            let answer = answer.map_err(|failure| failure.of(what))?;
            Ok(said(&answer, json, &log(items(&answer, "files"))))
        }
        Db::Query { path, sql, moment, write } => query(&client()?, &path, &sql, &moment, write, json).await,
        Db::Export { path, file, offline: true, .. } => {
            without_node(home, path, None, move |source| {
                offline::export(source.home, source.name, &file, json)
            })
            .await
        }
        Db::Export { path, file, moment, .. } => export(&client()?, &path, &file, &moment, json).await,
        Db::Restore { source, output, moment, endpoint } => {
            without_node(home, source, endpoint, move |source| {
                offline::restore(source, &output, &moment, json)
            })
            .await
        }
        Db::Follow { source, file, every, endpoint } => {
            without_node(home, source, endpoint, move |source| offline::follow(source, &file, every, json))
                .await
        }
    }
}

/// What is done without a node reads by threads that wait, which must not be this runtime's own.
async fn without_node(
    home: &Path,
    name: String,
    endpoint: Option<String>,
    act: impl FnOnce(offline::Source<'_>) -> Outcome + Send + 'static,
) -> Outcome {
    let home = home.to_owned();
    let done = tokio::task::spawn_blocking(move || {
        act(offline::Source { home: &home, name: &name, endpoint: endpoint.as_deref() })
    });
    done.await.unwrap_or_else(|error| {
        Err(Failure::new(Exit::Bug, "the command ended early", error, "please report it"))
    })
}

fn list(databases: &[Value]) -> String {
    if databases.is_empty() {
        return "there are none".to_owned();
    }
    let mut out = status::database_table(databases, render::width());
    for database in databases {
        let [path, history] = ["path", "history"].map(|key| harmless::in_one_line(&text(&database[key])));
        out.push_str(&format!("\n{path}  {history}"));
    }
    out
}

async fn verify(client: &Client, path: Option<String>, json: bool) -> Outcome {
    let paths = match path {
        Some(path) => vec![path],
        None => {
            let answer = client.get("/databases").await;
            let answer = answer.map_err(|failure| failure.of("the databases cannot be listed"))?;
            items(&answer, "databases").iter().map(|database| text(&database["path"])).collect()
        }
    };
    let mut answers = Vec::new();
    for path in paths {
        let what = format!("`{path}` was not verified");
        let route = database_route(&path, &what)?;
        let body = json!({ "action": "verify" });
        let asked = client.json(Method::POST, &route, Some(&body));
        let answer = progress::during(format!("verifying {path}"), asked).await;
        let answer = answer.map_err(|failure| failure.of(what))?;
        if !json {
            render::line(verdict(&answer));
        }
        answers.push(answer);
    }
    let ok = answers.iter().all(|answer| answer["ok"] == true);
    if json {
        render::json(&json!({ "ok": ok, "databases": answers }));
    }
    Ok(if ok { Exit::Done } else { Exit::Failed })
}

fn verdict(verified: &Value) -> String {
    let word = if verified["ok"] == true { tone(Tone::Good, "ok") } else { tone(Tone::Bad, "DAMAGED") };
    let mut out = format!(
        "{}  {word}  txid {}, {} pages, {} files",
        text(&verified["path"]),
        text(&verified["position"]["txid"]),
        text(&verified["pages"]),
        text(&verified["files"])
    );
    for problem in items(verified, "problems") {
        out.push_str(&format!("\n  {}", text(problem)));
    }
    out
}

fn log(files: &[Value]) -> String {
    let rows = files.iter().map(|file| {
        let number = |key: &str| file[key].as_u64().unwrap_or(0);
        let (min, max) = (number("min_txid"), number("max_txid"));
        let range = if min == max { max.to_string() } else { format!("{min}-{max}") };
        let bytes = render::bytes(number("bytes"));
        [
            text(&file["level"]),
            range,
            age(&file["created"]),
            bytes,
            text(&file["commit"]),
            text(&file["checksum"]),
        ]
    });
    render::table(["LEVEL", "TXID", "AGE", "BYTES", "PAGES", "CHECKSUM"], rows)
}

async fn query(
    client: &Client,
    path: &str,
    sql: &str,
    moment: &MomentArgs,
    write: bool,
    json: bool,
) -> Outcome {
    let what = format!("`{path}` was not asked");
    let route = database_route(path, &what)?;
    let mut body = json!({ "action": "query", "sql": sql });
    if write {
        body["write"] = true.into();
    }
    if let Some(txid) = moment.txid {
        body["txid"] = txid.into();
    }
    if let Some(time) = &moment.time {
        body["time"] = moment::parse(time, SystemClock.now(), &TimeZone::system())?.rfc3339().into();
    }
    let asked = client.json(Method::POST, &route, Some(&body));
    let answer = progress::during(format!("asking {path}"), asked).await;
    let answer = answer.map_err(|failure| failure.of(what))?;
    if json {
        render::json(&answer);
        return Ok(Exit::Done);
    }
    let shown = result(&answer, write);
    if !shown.is_empty() {
        render::line(shown);
    }
    if let Some(limit) = answer["truncated"].as_str() {
        let rows = render::count(items(&answer, "rows").len(), "row");
        render::aside(format!("cut short after {rows} by the limit of {limit}: ask for less"));
    }
    Ok(Exit::Done)
}

/// The rows as a table, and what was changed.
fn result(answer: &Value, write: bool) -> String {
    let mut parts = Vec::new();
    let columns: Vec<String> = items(answer, "columns").iter().map(text).collect();
    if !columns.is_empty() {
        let cells = |row: &Value| row.as_array().into_iter().flatten().map(cell).collect();
        parts.push(render::grid(columns, items(answer, "rows").iter().map(cells)));
    }
    if write {
        let rows =
            render::count(usize::try_from(answer["changes"].as_u64().unwrap_or(0)).unwrap_or(0), "row");
        parts.push(match answer["position"]["txid"].as_u64() {
            Some(txid) => format!("{rows} changed, sealed as txid {txid}"),
            None => format!("{rows} changed; `stead db log` shows the seal once it is made"),
        });
    }
    parts.join("\n")
}

/// A value of a row; a blob as SQL writes it.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Object(_) => format!("x'{}'", value["hex"].as_str().unwrap_or("")),
        other => text(other),
    }
}

async fn export(client: &Client, path: &str, file: &Path, moment: &MomentArgs, json: bool) -> Outcome {
    image::refuse_existing(file)?;
    let what = format!("`{path}` was not exported");
    let mut route = format!("{}?view=image", database_route(path, &what)?);
    if let Some(txid) = moment.txid {
        route.push_str(&format!("&txid={txid}"));
    }
    if let Some(time) = &moment.time {
        let time = moment::parse(time, SystemClock.now(), &TimeZone::system())?;
        route.push_str(&format!("&time={}", encoded(&time.rfc3339())));
    }
    image::download(client, &route, file).await.map_err(|failure| failure.of(what))?;
    let answer = json!({ "path": path, "file": file.display().to_string() });
    Ok(said(&answer, json, &format!("{path} is in {}", file.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_a_table_with_blobs_as_sql_writes_them() {
        let answer = json!({"columns": ["id", "x"], "rows": [[1, null], [2, {"hex": "00ff"}], [3, "a\u{1b}[2Jb"]],
            "changes": 1, "position": {"txid": 7}});
        assert_eq!(result(&answer, false), "id  x\n1   NULL\n2   x'00ff'\n3   a\u{fffd}[2Jb");
        assert_eq!(
            result(&json!({"columns": [], "rows": [], "changes": 1, "position": {"txid": 7}}), true),
            "1 row changed, sealed as txid 7"
        );
        assert_eq!(
            result(&json!({"columns": [], "rows": [], "changes": 2}), true),
            "2 rows changed; `stead db log` shows the seal once it is made"
        );
    }
}
