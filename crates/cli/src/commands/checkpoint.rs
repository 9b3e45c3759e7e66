//! `stead checkpoint …`

use super::{Outcome, database_route, image, items, said};
use crate::args::Checkpoint;
use crate::client::Client;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::progress;
use crate::render::{self, age, text};
use base::{Disk, LocalDisk};
use node::control::CheckpointId;
use reqwest::Method;
use serde_json::{Value, json};
use std::io;
use std::path::Path;

pub async fn run(client: &Client, command: Checkpoint, json: bool) -> Outcome {
    match command {
        Checkpoint::Create { id, comment } => {
            let mut body = json!({});
            for (key, value) in [("id", id), ("comment", comment)] {
                if let Some(value) = value {
                    body[key] = value.into();
                }
            }
            let asked = client.json(Method::POST, "/checkpoint", Some(&body));
            let made = progress::during("making a checkpoint", asked).await;
            let made = made.map_err(|failure| failure.of("no checkpoint was made"))?;
            let ms = made["ms"].as_f64().unwrap_or(0.0);
            let count = made["databases"].as_object().map_or(0, serde_json::Map::len);
            Ok(said(
                &made,
                json,
                &format!(
                    "checkpoint {} of {} in {ms:.1} ms",
                    text(&made["id"]),
                    render::count(count, "database")
                ),
            ))
        }
        Checkpoint::List => {
            let answer = client.get("/checkpoint").await;
            let answer = answer.map_err(|failure| failure.of("the checkpoints cannot be listed"))?;
            Ok(said(&answer, json, &list(items(&answer, "checkpoints"))))
        }
        Checkpoint::Show { id } => {
            let what = format!("checkpoint `{id}` cannot be shown");
            let answer = client.get(&route(&id, &what)?).await.map_err(|failure| failure.of(&what))?;
            Ok(said(&answer, json, &show(&answer)))
        }
        Checkpoint::Remove { id } => {
            let what = format!("checkpoint `{id}` was not removed");
            let answer = client.json(Method::DELETE, &route(&id, &what)?, None).await;
            let answer = answer.map_err(|failure| failure.of(&what))?;
            Ok(said(&answer, json, &format!("checkpoint {id} is removed")))
        }
        Checkpoint::Export { id, dir } => export(client, &id, &dir, json).await,
    }
}

/// The route of one checkpoint; what is no id must not become another route.
fn route(id: &str, what: &str) -> Result<String, Failure> {
    match CheckpointId::parse(id) {
        Ok(id) => Ok(format!("/checkpoint/{id}")),
        Err(bad) => {
            Err(Failure::new(Exit::Usage, what, bad, "`stead checkpoint list` shows those there are"))
        }
    }
}

fn list(checkpoints: &[Value]) -> String {
    if checkpoints.is_empty() {
        return "there are none; `stead checkpoint create NAME` makes one".to_owned();
    }
    let rows = checkpoints.iter().map(|checkpoint| {
        let kind = if checkpoint["automatic"] == true { "automatic" } else { "named" };
        let count = checkpoint["databases"].as_object().map_or(0, serde_json::Map::len);
        let comment = checkpoint["comment"].as_str().unwrap_or("").to_owned();
        [text(&checkpoint["id"]), age(&checkpoint["created"]), kind.to_owned(), count.to_string(), comment]
    });
    render::table(["ID", "AGE", "KIND", "DATABASES", "COMMENT"], rows)
}

fn show(checkpoint: &Value) -> String {
    let created =
        render::time(&checkpoint["created"]).map_or_else(|| "-".to_owned(), |time| time.to_string());
    let mut out =
        vec![format!("{}  {created}, {} ago", text(&checkpoint["id"]), age(&checkpoint["created"]))];
    if let Some(comment) = checkpoint["comment"].as_str() {
        out.push(comment.to_owned());
    }
    let rows = checkpoint["databases"].as_object().into_iter().flatten().map(|(path, position)| {
        [path.clone(), text(&position["txid"]), text(&position["checksum"]), text(&position["incarnation"])]
    });
    out.push(render::table(["DATABASE", "TXID", "CHECKSUM", "INCARNATION"], rows));
    out.join("\n")
}

/// Writes every database of a checkpoint below a directory, all or nothing.
async fn export(client: &Client, id: &str, dir: &Path, json: bool) -> Outcome {
    let what = format!("checkpoint `{id}` was not exported");
    let checkpoint = client.get(&route(id, &what)?).await.map_err(|failure| failure.of(&what))?;
    let failed = |error: io::Error| {
        Failure::system(
            format!("{} cannot be written", dir.display()),
            error,
            "name a directory that can be made",
        )
    };
    match LocalDisk.read_dir(dir) {
        Ok(entries) if !entries.is_empty() => {
            let hint = "name a directory that does not exist";
            return Err(Failure::system(
                format!("{} is not empty", dir.display()),
                "nothing is overwritten",
                hint,
            ));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let beside = image::beside(dir);
    LocalDisk.create_dir_all(&beside).map_err(failed)?;
    let written = async {
        for (path, position) in checkpoint["databases"].as_object().into_iter().flatten() {
            let target = beside.join(
                base::DatabasePath::parse(path)
                    .map_err(|bad| {
                        Failure::new(
                            Exit::Bug,
                            "the node named a database strangely",
                            bad,
                            "please report it",
                        )
                    })?
                    .as_str(),
            );
            LocalDisk.create_dir_all(base::disk::parent(&target)).map_err(failed)?;
            one(client, id, path, position, &target).await?;
        }
        // An empty directory gives its name up; the rename is then the one step that makes the export.
        let _ = LocalDisk.remove_dir(dir);
        LocalDisk
            .rename(&beside, dir)
            .and_then(|()| LocalDisk.sync_dir(base::disk::parent(dir)))
            .map_err(failed)
    }
    .await;
    if let Err(failure) = written {
        // The half-made directory must not stay; the first error is the one to report.
        let _ = base::disk::remove_dir_all(&LocalDisk, &beside);
        return Err(failure.of(what));
    }
    let count = checkpoint["databases"].as_object().map_or(0, serde_json::Map::len);
    let answer =
        json!({ "id": id, "directory": dir.display().to_string(), "databases": checkpoint["databases"] });
    Ok(said(&answer, json, &format!("{} of {id} in {}", render::count(count, "database"), dir.display())))
}

async fn one(client: &Client, id: &str, path: &str, position: &Value, target: &Path) -> Result<(), Failure> {
    let txid = position["txid"].as_u64().unwrap_or(0);
    if txid == 0 {
        // Nothing was committed yet: the file was there, and empty.
        return LocalDisk.open(target, base::Open::Create { private: true }).map(drop).map_err(|error| {
            Failure::system(format!("{} cannot be written", target.display()), error, "make room")
        });
    }
    let route = database_route(path, "the node named a database strangely")?;
    image::download(client, &format!("{route}?view=image&checkpoint={id}"), target).await
}
