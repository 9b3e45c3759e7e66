//! A configuration as text: saved in the home, kept in a store, posted to a node, shown.
//!
//! ```text
//!   written (with ${VAR}) ─┬─▶ saved    as it is, secrets included; mode 0600
//!                          ├─▶ kept     secrets left out and named
//!   values ────────────────┼─▶ posted   every value, and under `written_as` the texts that they were made of
//!                          └─▶ shown    secrets as ***, what is made of variables as it was written
//! ```
//!
//! What an expansion made is neither kept nor shown: it may be a secret, wherever it stands. A posted body has no
//! variables left, so whoever posts sends their texts along.

use super::expand;
use super::problem::Problem;
use super::secret::HIDDEN;
use super::{Config, Storage, section};
use serde_json::{Map, Value, json};

/// What the configuration in a store says that it is.
const KEPT_FORMAT: &str = "stead-configuration";
/// Its version.
const KEPT_VERSION: u32 = 1;
/// Where texts with variables stand beside values.
const WRITTEN_AS: &str = "written_as";
/// The secrets of a store.
const STORE_SECRETS: [&str; 3] = ["access_key_id", "secret_access_key", "session_token"];

impl Config {
    /// The text for `tmp/config.json` (mode 0600): as it was written, variables unexpanded, secrets included.
    pub fn to_saved_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(&self.source.written).unwrap_or_default();
        text.push('\n');
        text
    }

    /// The configuration as the store keeps it, for a machine that has nothing else: as it was written, and secrets left
    /// out. The store's own are the environment's to give; each other is named as a variable that must be set then.
    pub fn to_kept_json(&self) -> Value {
        let mut kept = self.source.written.clone();
        for (path, text) in &self.written_as {
            if let Some(slot) = at_mut(&mut kept, path) {
                *slot = json!(text);
            }
        }
        if let Some(fields) = kept.as_object_mut() {
            fields.remove(WRITTEN_AS);
        }
        let mut left_out = Vec::new();
        let mut leave_out = |value: &mut Value, path: String, variable: &str| {
            if value.as_str().is_none_or(|text| !expand::is_name_alone(text)) && !value.is_null() {
                *value = json!(format!("${{{variable}}}"));
                left_out.push(path);
            }
        };
        if let Some(token) = kept.get_mut("token") {
            leave_out(token, "token".to_owned(), "STEAD_TOKEN");
        }
        if let Some(env) = kept.pointer_mut("/app/env").and_then(Value::as_object_mut) {
            env.iter_mut().for_each(|(name, value)| leave_out(value, format!("app.env.{name}"), name));
        }
        if let Some(storage) = kept.get_mut("storage").and_then(Value::as_object_mut) {
            for key in STORE_SECRETS {
                if storage.remove(key).is_some() {
                    left_out.push(format!("storage.{key}"));
                }
            }
        }
        json!({ "format": KEPT_FORMAT, "version": KEPT_VERSION, "left_out": left_out, "configuration": kept })
    }

    /// What [`Config::to_kept_json`] kept, for a home: with the URL under which its store was found.
    pub fn from_kept_json(bytes: &[u8], url: &str) -> Result<String, String> {
        let kept: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if kept["format"] != KEPT_FORMAT {
            return Err("it is no configuration of Stead's".to_owned());
        }
        if kept["version"] != KEPT_VERSION {
            return Err(format!("it has version {}, this one knows {KEPT_VERSION}", kept["version"]));
        }
        let Some(written) = kept["configuration"].as_object() else {
            return Err("it holds no configuration".to_owned());
        };
        let mut written = written.clone();
        section(&mut written, "storage").insert("url".to_owned(), expand::escape(&json!(url)));
        let mut text = serde_json::to_string_pretty(&written).map_err(|error| error.to_string())?;
        text.push('\n');
        Ok(text)
    }

    /// The configuration for `POST /config`: every key with its value, secrets included, variables replaced, and the
    /// texts that had them beside it.
    pub fn to_posted_json(&self) -> Value {
        let mut posted = serde_json::to_value(self).unwrap_or_default();
        if let Some(token) = &self.token {
            posted["token"] = json!(token.reveal());
        }
        let Storage { secret_access_key, session_token, .. } = &self.storage;
        for (key, secret) in [("secret_access_key", secret_access_key), ("session_token", session_token)] {
            if let Some(secret) = secret {
                posted["storage"][key] = json!(secret.reveal());
            }
        }
        let mut texts = Vec::new();
        with_variables(&self.source.written, "", &mut texts);
        for (path, text) in texts {
            // A part of a secret that stands beside a variable is none of the texts that are shown.
            if at(&posted, &path).is_some() && (expand::is_name_alone(&text) || !is_secret(&path)) {
                posted[WRITTEN_AS][path] = json!(text);
            }
        }
        posted
    }

    /// The variables that the store's secrets were written as.
    pub fn variables_of_store_secrets(&self) -> Vec<String> {
        let written = |key: &&str| {
            let posted = self.written_as.get(&format!("storage.{key}")).map(String::as_str);
            posted.or_else(|| self.source.written["storage"][key].as_str())
        };
        STORE_SECRETS.iter().filter_map(written).flat_map(expand::names_in).collect()
    }

    /// Every key with its value, for showing: secrets as `***`, and so each variable of the app, since any may be one,
    /// but for those that only name another. What else of the app is made of variables is shown as it was written.
    pub fn redacted_json(&self) -> Value {
        let mut shown = serde_json::to_value(self).unwrap_or_default();
        if let Some(texts) = shown.get_mut(WRITTEN_AS).and_then(Value::as_object_mut) {
            texts.retain(|path, text| !is_secret(path) || text.as_str().is_some_and(expand::is_name_alone));
        }
        let Some(app) = shown.get_mut("app") else { return shown };
        let given = app.get("command").filter(|_| self.source.command_from_flag).cloned();
        let written = &self.source.written["app"];
        as_written(app, written);
        for (path, text) in &self.written_as {
            let slot = path.strip_prefix("app.").and_then(|path| at_mut(app, path));
            if let Some(slot @ (Value::String(_) | Value::Array(_))) = slot {
                *slot = json!(text);
            }
        }
        if let Some(given) = given {
            app["command"] = given;
        }
        for (name, slot) in app.get_mut("env").and_then(Value::as_object_mut).into_iter().flatten() {
            let posted = self.written_as.get(&format!("app.env.{name}")).map(String::as_str);
            let text = posted.or_else(|| written["env"][name].as_str());
            *slot = json!(text.filter(|text| expand::is_name_alone(text)).unwrap_or(HIDDEN));
        }
        shown
    }

    /// The words of a command of `app.before` that is made of variables, as they were written.
    pub fn before_as_written(&self, index: usize) -> Option<Vec<String>> {
        let words = match &self.redacted_json()["app"]["before"][index] {
            Value::String(text) => vec![text.clone()],
            Value::Array(words) => words.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => return None,
        };
        words.iter().any(|word| expand::has_variables(word)).then_some(words)
    }

    /// Texts under `written_as` that belong to no value, or hold no variable.
    pub(super) fn misplaced(&self, written: &Value) -> Vec<Problem> {
        let judge = |(path, text): (&String, &String)| {
            let (message, hint) = if path.starts_with(WRITTEN_AS) || at(written, path).is_none() {
                (format!("there is no value at `{path}`"), "leave it out, or name a key that is there")
            } else if !expand::has_variables(text) {
                ("this text holds no variable".to_owned(), "leave it out, or write ${NAME} into it")
            } else {
                return None;
            };
            Some(Problem::new(format!("{WRITTEN_AS}.{path}"), message, hint))
        };
        self.written_as.iter().filter_map(judge).collect()
    }
}

/// Forgets how values were written that something else has taken the place of.
pub(super) fn forget_written(document: &mut Value, path: &str) {
    let below = |known: &str| known == path || known.starts_with(&format!("{path}["));
    if let Some(texts) = document.get_mut(WRITTEN_AS).and_then(Value::as_object_mut) {
        texts.retain(|known, _| !below(known));
    }
}

/// Whether a value is a secret wherever it came from.
fn is_secret(path: &str) -> bool {
    let of_store = |key: &&str| path.strip_prefix("storage.") == Some(key);
    path == "token" || path.starts_with("app.env.") || STORE_SECRETS.iter().any(of_store)
}

/// A path as problems name it, `app.before[0][1]`, as a JSON pointer; `None` where it is none.
fn pointer(path: &str) -> Option<String> {
    let mut pointer = String::new();
    for part in path.split('.') {
        let (key, items) = part.split_once('[').map_or((part, None), |(key, items)| (key, Some(items)));
        pointer.extend(["/", &key.replace('~', "~0").replace('/', "~1")]);
        for item in items.into_iter().flat_map(|items| items.split('[')) {
            let index: usize = item.strip_suffix(']')?.parse().ok()?;
            pointer.extend(["/", &index.to_string()]);
        }
    }
    Some(pointer)
}

fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    value.pointer(&pointer(path)?)
}

fn at_mut<'a>(value: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    value.pointer_mut(&pointer(path)?)
}

/// Every text below a value that has variables, with its path.
fn with_variables(value: &Value, path: &str, into: &mut Vec<(String, String)>) {
    match value {
        Value::String(text) if expand::has_variables(text) => into.push((path.to_owned(), text.clone())),
        Value::Array(items) => {
            let items = items.iter().enumerate();
            items.for_each(|(index, item)| with_variables(item, &format!("{path}[{index}]"), into));
        }
        Value::Object(fields) => {
            fields.iter().for_each(|(key, field)| with_variables(field, &expand::join(path, key), into));
        }
        _ => {}
    }
}

pub(super) fn lay_over(under: &mut Map<String, Value>, over: Map<String, Value>) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Object(under)), Value::Object(over)) => lay_over(under, over),
            (_, value) => drop(under.insert(key, value)),
        }
    }
}

/// Puts texts with variables in the place of what became of them. Texts and lists only: what is shown keeps its kinds.
fn as_written(shown: &mut Value, written: &Value) {
    match (shown, written) {
        (Value::Object(shown), Value::Object(written)) => {
            for (key, slot) in shown {
                if let Some(written) = written.get(key) {
                    as_written(slot, written);
                }
            }
        }
        (Value::Array(shown), Value::Array(written)) => {
            shown.iter_mut().zip(written).for_each(|(slot, written)| as_written(slot, written));
        }
        (slot @ (Value::String(_) | Value::Array(_)), Value::String(text)) if expand::has_variables(text) => {
            *slot = json!(text);
        }
        _ => {}
    }
}
