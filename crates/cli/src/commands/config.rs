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
            apply(&client()?, &config, json).await
        }
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
            let lines: Vec<String> = problems.iter().map(|one| format!("{one} ({})", one.hint)).collect();
            let what = match problems.len() {
                1 => format!("{} is not valid", file.display()),
                count => format!("{} has {count} problems", file.display()),
            };
            let hint = "mend them and check again; `stead config example` shows every key";
            Failure::new(Exit::Configuration, what, lines.join("\n"), hint)
        }
    }
}

/// Gives the node its first configuration, or changes the one it has.
async fn apply(client: &Client, config: &Config, json: bool) -> Outcome {
    let configured = client.get("/status").await?["configured"] == true;
    let method = if configured { Method::PUT } else { Method::POST };
    let body: Value = config.to_posted_json();
    let answer = client.json(method, "/config", Some(&body)).await?;
    let waiting: Vec<String> = items(&answer, "after_restart").iter().map(text).collect();
    let meaning = match (configured, waiting.is_empty()) {
        (false, _) => format!("the node is configured; it is {}", text(&answer["state"])),
        (true, true) => "the configuration is changed".to_owned(),
        (true, false) => {
            format!("the configuration is changed; only a restart of the node changes {}", waiting.join(", "))
        }
    };
    Ok(said(&answer, json, &meaning))
}
