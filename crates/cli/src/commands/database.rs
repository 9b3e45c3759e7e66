//! `stead db …`

use super::{Outcome, database_route, encoded, image, items, offline, said, status};
use crate::args::{Db, MomentArgs};
use crate::client::Client;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::moment;
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
        Db::Export { path, file, moment } => export(&client()?, &path, &file, &moment, json).await,
        Db::Restore { source, output, moment } => offline::restore(home, &source, &output, &moment, json),
    }
}

fn list(databases: &[Value]) -> String {
    if databases.is_empty() {
        return "there are none".to_owned();
    }
    let mut out = status::database_table(databases);
    for database in databases {
        out.push_str(&format!("\n{}  {}", text(&database["path"]), text(&database["history"])));
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
        let answer = client.json(Method::POST, &route, Some(&json!({ "action": "verify" }))).await;
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
