//! `stead config …`

use super::{Outcome, image, items, raw, said};
use crate::args::Config as Command;
use crate::client::Client;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::import::{self, ImportError};
use crate::progress;
use crate::render::{self, text};
use base::{Disk, LocalDisk};
use node::config::{Config, LoadError, Overrides, Problems, limits};
use reqwest::Method;
use serde_json::{Value, json};
use std::path::Path;

pub async fn run(client: &impl Fn() -> Result<Client, Failure>, command: Command, json: bool) -> Outcome {
    match command {
        Command::Check { file } => check(&file, json),
        Command::Apply { file } => {
            let config = load(&file)?;
            apply(&client()?, &config, &file, json).await
        }
        Command::Show => show(&client()?, json).await,
        Command::Schema => {
            render::json(Config::schema());
            Ok(Exit::Done)
        }
        Command::Example => Ok(raw(Config::example().as_bytes())),
        Command::Import { file, output } => import(&file, output.as_deref(), json),
    }
}

/// Shows or writes another program's configuration as one of Stead; what it does not hold is told on stderr.
fn import(file: &Path, output: Option<&Path>, json: bool) -> Outcome {
    let shown = file.display().to_string();
    if let Some(output) = output {
        image::refuse_existing(output)?;
    }
    let unreadable = |error| refused(file, LoadError::Read { path: shown.clone(), error });
    let found = LocalDisk.metadata(file).map_err(unreadable)?;
    if !found.is_file && !found.is_dir {
        return Err(unreadable(std::io::Error::other("it is not a regular file")));
    }
    let bytes = base::disk::read(&LocalDisk, file, limits::DOCUMENT_BYTES_MAX).map_err(unreadable)?;
    let imported = import::import(&bytes, &shown).map_err(|error| match error {
        ImportError::Unreadable(problems) => refused(file, LoadError::Invalid(problems)),
        ImportError::Unknown => Failure::new(
            Exit::Configuration,
            format!("{shown} cannot be imported"),
            error,
            "name a litefs.yml or a litestream.yml",
        ),
    })?;
    if let Some(output) = output {
        // It may hold secrets, as its source does.
        base::disk::write_atomic(&LocalDisk, output, imported.config.as_bytes(), true)
            .map_err(|error| image::unwritable(output, &error))?;
    }
    if json {
        let mut answer = serde_json::to_value(&imported).unwrap_or_default();
        if let Some(output) = output {
            answer["file"] = output.display().to_string().into();
        }
        render::json(&answer);
        return Ok(Exit::Done);
    }
    for note in &imported.notes {
        let line = note.line.map_or_else(String::new, |line| format!(":{line}"));
        render::aside(format!("{shown}{line}: {} {}", note.key, note.message));
    }
    match output {
        None => Ok(raw(imported.config.as_bytes())),
        Some(output) => {
            let count = render::count(imported.notes.len(), "remark");
            render::line(format!(
                "{} holds it, with {count}; `stead config check` finds it valid",
                output.display()
            ));
            Ok(Exit::Done)
        }
    }
}

fn check(file: &Path, json: bool) -> Outcome {
    match read(file) {
        Ok(config) => {
            let answer = json!({ "valid": true, "problems": [], "config": config.redacted_json() });
            Ok(said(&answer, json, &format!("{} is valid", file.display())))
        }
        Err(LoadError::Invalid(Problems(problems))) if json => {
            render::json(&json!({ "valid": false, "problems": problems }));
            Ok(Exit::Configuration)
        }
        Err(error) => Err(refused(file, error)),
    }
}

fn load(file: &Path) -> Result<Config, Failure> {
    read(file).map_err(|error| refused(file, error))
}

fn read(file: &Path) -> Result<Config, LoadError> {
    let variables = |name: &str| std::env::var(name).ok();
    Config::load_file(&LocalDisk, file, &variables, &Overrides::default())
}

pub(super) fn refused(file: &Path, error: LoadError) -> Failure {
    match error {
        LoadError::Read { error, .. } => {
            Failure::system(format!("{} cannot be read", file.display()), error, "name a readable file")
        }
        LoadError::Invalid(Problems(problems)) => {
            let what = match problems.len() {
                1 => format!("{} is not valid", file.display()),
                count => format!("{} has {count} problems", file.display()),
            };
            Failure::invalid(what, problems, &file.display().to_string())
        }
    }
}

/// A node's refusal, with the lines of the file that the configuration came from.
fn placed(refused: Failure, config: &Config, file: &Path) -> Failure {
    if refused.problems.is_empty() {
        return refused;
    }
    let mut problems = refused.problems.into_vec();
    config.places().mark(&mut problems);
    let invalid = Failure::invalid(refused.what, problems, &file.display().to_string());
    Failure { code: refused.code, ..invalid }
}

/// Gives the node its first configuration, or changes the one it has.
async fn apply(client: &Client, config: &Config, file: &Path, json: bool) -> Outcome {
    let status = client.get("/status").await;
    let status = status.map_err(|failure| failure.of("the configuration was not taken"))?;
    let configured = status["configured"] == true;
    let method = if configured { Method::PUT } else { Method::POST };
    let body: Value = config.to_posted_json();
    let answer =
        progress::during("starting what it names", client.json(method, "/config", Some(&body))).await;
    let answer =
        answer.map_err(|failure| placed(failure, config, file).of("the configuration was not taken"))?;
    let meaning = match configured {
        false => format!("the node is configured; it is {}", text(&answer["state"])),
        true => changed(&answer),
    };
    Ok(said(&answer, json, &meaning))
}

/// What became of a change, and what is left to do for it.
fn changed(answer: &Value) -> String {
    let mut out = "the configuration is changed".to_owned();
    let names = |key: &str| items(answer, key).iter().map(|name| format!("`{}`", text(name))).collect();
    let waiting: Vec<String> = names("after_restart");
    if !waiting.is_empty() {
        let (verb, it) = if waiting.len() == 1 { ("is", "it") } else { ("are", "them") };
        let keys = listed(&waiting);
        out.push_str(&format!(
            ", but {keys} {verb} read only when the node starts: restart the node to use {it}"
        ));
    }
    let kept: Vec<String> = names("kept_by_flags");
    if !kept.is_empty() {
        let verb = if kept.len() == 1 { "stays" } else { "stay" };
        let keys = listed(&kept);
        out.push_str(&format!(
            "\n{keys} {verb} as the flags of `stead run` say: start it without them to use the file's"
        ));
    }
    out
}

/// `a`, `a and b`, `a, b and c`.
fn listed(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

async fn show(client: &Client, json: bool) -> Outcome {
    let config = client.get("/config").await;
    let config = config.map_err(|failure| failure.of("there is no configuration to show"))?;
    if json {
        render::json(&config);
    } else {
        let text = serde_saphyr::to_string(&config).map_err(|error| {
            Failure::new(Exit::Bug, "the configuration cannot be shown", error, "add --json, and report it")
        })?;
        render::line(text.trim_end());
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_said_in_one_sentence_with_what_is_left_to_do() {
        let of = |later: &[&str], kept: &[&str]| {
            changed(&json!({ "changed": true, "after_restart": later, "kept_by_flags": kept }))
        };
        assert_eq!(of(&[], &[]), "the configuration is changed");
        assert_eq!(
            of(&["retention"], &[]),
            "the configuration is changed, but `retention` is read only when the node starts: \
             restart the node to use it"
        );
        assert_eq!(
            of(&["storage", "retention", "databases"], &["listen"]),
            "the configuration is changed, but `storage`, `retention` and `databases` are read only when the node \
             starts: restart the node to use them\n\
             `listen` stays as the flags of `stead run` say: start it without them to use the file's"
        );
    }
}
