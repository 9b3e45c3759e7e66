//! A configuration of Stead in the making: keys that hold, keys that are only comments, and notes.
//!
//! Each key is held against the schema by itself. What the schema refuses becomes a comment with the schema's reason:
//! what a later version takes needs no change here.

use super::{Leaf, Note, Program};
use node::config::Config;
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// The sections in the order of the reference; `name` comes before them.
const SECTIONS: [&str; 10] =
    ["listen", "token", "storage", "retention", "mount", "app", "lease", "cluster", "proxy", "log"];

/// The keys that only an `s3://` store has.
const OF_S3: [&str; 5] = [
    "storage.endpoint",
    "storage.region",
    "storage.access_key_id",
    "storage.secret_access_key",
    "storage.path_style",
];

/// The draft.
#[derive(Debug, Default)]
pub struct Draft {
    name: Option<String>,
    keys: Vec<Key>,
    databases: Vec<(Value, Option<String>)>,
    notes: Vec<Note>,
}

#[derive(Debug)]
struct Key {
    path: &'static str,
    value: Value,
    /// Why it is a comment only.
    refused: Option<String>,
    line: Option<u64>,
}

impl Draft {
    /// The volume's name, where it is one.
    pub fn name(&mut self, name: &str) {
        if refusal("name", &json!(name)).is_none() {
            self.name = Some(name.to_owned());
        }
    }

    /// Something that a person should know; the message goes on after the key.
    pub fn note(&mut self, line: Option<u64>, key: &str, message: impl Into<String>) {
        // Both end up in comments: a line of their own would be a line of the configuration.
        self.notes.push(Note { line, key: one_line(key), message: one_line(&message.into()) });
    }

    /// A value for a key of Stead.
    pub fn set(&mut self, path: &'static str, value: Value, leaf: &Leaf) {
        let (value, strange) = with_variables(value);
        let refused = strange.or_else(|| refusal(path, &value));
        if let Some(first) = self.keys.iter_mut().find(|key| key.path == path) {
            if first.refused.is_some() && refused.is_none() {
                *first = Key { path, value, refused, line: leaf.line };
            } else if first.value != value {
                let line = first.line.map_or_else(String::new, |line| format!(" from line {line}"));
                self.note(leaf.line, &leaf.path, format!("`{path}` has a value already{line}: choose one"));
            }
            return;
        }
        if let Some(why) = &refused {
            self.note(leaf.line, &leaf.path, format!("would be `{path}`: {why}"));
        }
        self.keys.push(Key { path, value, refused, line: leaf.line });
    }

    /// An entry of `databases`.
    pub fn database(&mut self, entry: Value, outside: Option<&str>, leaf: &Leaf) {
        let why = outside.map(str::to_owned).or_else(|| refusal("databases", &json!([entry])));
        if let Some(why) = &why {
            self.note(leaf.line, &leaf.path, format!("would be an entry of `databases`: {why}"));
        }
        self.databases.push((entry, why));
    }

    /// The keys of an S3 store hold only together: without its URL none does, and a key has two halves.
    fn settle_store(&mut self) {
        let holds = |path: &str| self.keys.iter().any(|key| key.path == path && key.refused.is_none());
        let is_s3 = self.keys.iter().any(|key| {
            let text = key.value.as_str().unwrap_or("");
            key.path == "storage.url"
                && key.refused.is_none()
                && (text.starts_with("s3://") || text.starts_with("${"))
        });
        let halves = ["storage.access_key_id", "storage.secret_access_key"];
        let (one, both) = (halves.into_iter().any(holds), halves.into_iter().all(holds));
        let mut notes = Vec::new();
        for key in self.keys.iter_mut().filter(|key| key.refused.is_none() && OF_S3.contains(&key.path)) {
            let why = if !is_s3 {
                "is for an s3:// store only"
            } else if one && !both && halves.contains(&key.path) {
                "needs its other half"
            } else {
                continue;
            };
            key.refused = Some(why.to_owned());
            notes.push((key.line, key.path));
        }
        for (line, path) in notes {
            self.note(line, path, "is a comment only: see there");
        }
    }

    /// The notes, in the order of the source's lines.
    pub fn into_notes(mut self) -> Vec<Note> {
        self.notes.sort_by_key(|note| note.line);
        self.notes
    }

    /// The configuration as text.
    pub fn render(&mut self, program: Program, file: &str, home: Option<&str>) -> String {
        self.settle_store();
        let name = self.name.clone().unwrap_or_else(|| {
            self.note(None, "name", "is made up: choose the volume's name");
            "app".to_owned()
        });
        let file = one_line(file);
        let mut out = format!("# Made from {file} of {} by `stead config import`.\n", program.name());
        if let Some(home) = home {
            let home = one_line(home);
            // Infallible: a String takes any text.
            let _ = writeln!(out, "# Its paths count from the home: stead run --home {home} --config FILE");
        }
        let _ = writeln!(out, "name: {}", scalar(&json!(name)));
        for section in SECTIONS {
            self.render_section(section, &mut out);
            if section == "retention" {
                self.render_databases(&mut out);
            }
        }
        self.notes.sort_by_key(|note| note.line);
        if !self.notes.is_empty() {
            out.push_str("\n# Not taken over, or to be decided:\n");
        }
        for note in &self.notes {
            let line = note.line.map_or_else(String::new, |line| format!("line {line}: "));
            let _ = writeln!(out, "# - {line}{} {}", note.key, note.message);
        }
        out
    }

    fn render_section(&self, section: &str, out: &mut String) {
        let keys: Vec<(&Key, &str)> = self
            .keys
            .iter()
            .filter_map(|key| {
                let (head, rest) = key.path.split_once('.').unwrap_or((key.path, ""));
                (head == section).then_some((key, rest))
            })
            .collect();
        if keys.is_empty() {
            return;
        }
        let mark = if keys.iter().all(|(key, _)| key.refused.is_some()) { "# " } else { "" };
        let _ = writeln!(out, "\n{mark}{section}:");
        for (key, rest) in keys {
            let value = scalar(&key.value);
            let _ = match &key.refused {
                Some(why) => writeln!(out, "#   {rest}: {value}  # {}", one_line(why)),
                None => writeln!(out, "  {rest}: {value}"),
            };
        }
    }

    fn render_databases(&self, out: &mut String) {
        if self.databases.is_empty() {
            return;
        }
        let mark = if self.databases.iter().all(|(_, why)| why.is_some()) { "# " } else { "" };
        let _ = writeln!(out, "\n{mark}databases:");
        for (entry, why) in &self.databases {
            let mark = if why.is_some() { "#" } else { " " };
            let fields = entry.as_object().into_iter().flatten();
            for (n, (key, value)) in fields.enumerate() {
                let dash = if n == 0 { "-" } else { " " };
                let _ = writeln!(out, "{mark} {dash} {key}: {}", scalar(value));
            }
        }
    }
}

/// Why the schema does not take a value under a key; `None` where it does.
fn refusal(path: &str, value: &Value) -> Option<String> {
    // What a variable holds is not known here; the key itself is checked all the same.
    let value = if value.to_string().contains("${") { &Value::Null } else { value };
    let mut document = json!({ "name": "n" });
    let mut nested = value.clone();
    for part in path.rsplit('.') {
        nested = Value::Object(Map::from_iter([(part.to_owned(), nested)]));
    }
    if let (Some(document), Value::Object(nested)) = (document.as_object_mut(), nested) {
        document.extend(nested);
    }
    if path.starts_with("storage.") {
        beside_a_store(&mut document["storage"]);
    }
    if path.starts_with("app.") && path != "app.command" {
        document["app"]["command"] = json!("app");
    }
    if path == "app.command" && value.is_null() {
        return None;
    }
    let problems = Config::from_json(document.to_string().as_bytes()).err()?.0;
    let first = problems.into_iter().next()?;
    // A value may hold a secret, an URL's password for instance.
    match value.as_str() {
        Some(text) if text.contains('@') => Some(first.message.replace(text, "…")),
        _ => Some(first.message),
    }
}

/// A key of a store is looked at by itself: what it needs beside it is there.
fn beside_a_store(storage: &mut Value) {
    let of_a_key = ["access_key_id", "secret_access_key"];
    let has_key = of_a_key.iter().any(|key| storage.get(key).is_some());
    let needed = of_a_key.iter().filter(|_| has_key).map(|key| (*key, "x"));
    for (key, value) in needed.chain([("url", "s3://bucket")]) {
        if storage[key].is_null() {
            storage[key] = json!(value);
        }
    }
}

/// `$VAR` as `${VAR}`, and why a text with something else in braces cannot be kept.
fn with_variables(value: Value) -> (Value, Option<String>) {
    if let Value::Array(items) = value {
        let (items, strange): (Vec<Value>, Vec<Option<String>>) =
            items.into_iter().map(with_variables).unzip();
        return (Value::Array(items), strange.into_iter().flatten().next());
    }
    let Value::String(text) = &value else { return (value, None) };
    let (mut out, mut rest, mut strange) = (String::new(), text.as_str(), None);
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(inside) = after.strip_prefix('{') {
            let end = inside.find('}').unwrap_or(inside.len());
            if end == 0
                || !inside[..end].chars().all(is_name)
                || inside.starts_with(|c: char| c.is_ascii_digit())
            {
                strange = Some("only `${NAME}` is replaced here: write the value".to_owned());
            }
            out.push_str("${");
            rest = inside;
        } else {
            let end = after.find(|c| !is_name(c)).unwrap_or(after.len());
            let name = &after[..end];
            if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
                out.push('$');
                rest = after;
            } else {
                let _ = write!(out, "${{{name}}}");
                rest = &after[end..];
            }
        }
    }
    out.push_str(rest);
    (Value::String(out), strange)
}

/// A value as YAML has it in one line: plain where that reads back the same.
fn scalar(value: &Value) -> String {
    let Value::String(text) = value else { return value.to_string() };
    // Some readers of YAML take these for line ends, and JSON does not escape them.
    const ENDS: [(char, &str); 3] = [('\u{85}', "\\u0085"), ('\u{2028}', "\\u2028"), ('\u{2029}', "\\u2029")];
    if text.contains(ENDS.map(|(end, _)| end)) {
        return ENDS.iter().fold(value.to_string(), |text, (end, escaped)| text.replace(*end, escaped));
    }
    let plain = !text.contains(['\n', '#', '\t']) && !text.contains(": ") && !text.ends_with(':');
    let reads_back = serde_saphyr::from_str::<Value>(text).is_ok_and(|read| read == *value);
    if plain && reads_back && text.trim() == text { text.clone() } else { value.to_string() }
}

/// A text that stays in its comment, whatever the source put into it.
fn one_line(text: &str) -> String {
    let ends_a_line = |c: char| c.is_whitespace() || c.is_control();
    text.split(ends_a_line).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}
