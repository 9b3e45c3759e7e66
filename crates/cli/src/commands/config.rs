//! `stead config …`

use super::{Outcome, items, raw, said};
use crate::args::Config as Command;
use crate::client::Client;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::{self, text};
use base::LocalDisk;
use node::config::{Config, LoadError, Overrides, Problems};
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

fn refused(file: &Path, error: LoadError) -> Failure {
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
    let answer = client.json(method, "/config", Some(&body)).await;
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
