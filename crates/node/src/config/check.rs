//! Holds a document against the schema and finds everything that is wrong with it at once.
//!
//! The schema made from the types is the only list of keys: what passes here, serde takes. Values that do not pass are
//! dropped from the result, so that what can be said about the rest is still said.

use super::document;
use super::expand::{Expanded, join};
use super::later;
use super::limits::PROBLEMS_MAX;
use super::names::{DatabaseFile, FilePath, HomeDirectory, HostName, ListenAddress, Pattern, VolumeName};
use super::problem::{Problem, nearest};
use super::process::{Command, Signal, UserIds};
use super::ready::{HostPort, HttpUrl};
use super::secret::{Credential, Secret};
use super::storage::{AccessKeyId, Endpoint, StoreUrl, Word};
use super::text::{Fault, Period, Size, Text};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::time::Duration;

/// What a document came to.
pub struct Checked {
    /// The part without problems.
    pub sound: Value,
    /// The problems, in the document's order of keys.
    pub problems: Vec<Problem>,
}

/// Checks a document whose expansion may already have found `problems`.
pub fn check(schema: &Value, document: Expanded, problems: Vec<Problem>) -> Checked {
    let silent = problems.iter().map(|problem| problem.path.clone()).collect();
    let mut checker = Checker { made: document.made, silent, problems };
    let sound = checker.visit(schema, document.value, "").unwrap_or(Value::Null);
    checker.problems.truncate(PROBLEMS_MAX);
    Checked { sound, problems: checker.problems }
}

/// A parser of one text format, only to know whether it parses.
type Probe = fn(&str) -> Result<(), Fault>;

fn probe<T: Text>() -> (&'static str, Probe) {
    (T::FORMAT, |text| T::parse(text).map(drop))
}

/// Every text format that the schema names.
pub(super) fn formats() -> [(&'static str, Probe); 20] {
    [
        probe::<VolumeName>(),
        probe::<ListenAddress>(),
        probe::<HostName>(),
        probe::<StoreUrl>(),
        probe::<Endpoint>(),
        probe::<Word>(),
        probe::<AccessKeyId>(),
        probe::<FilePath>(),
        probe::<HomeDirectory>(),
        probe::<DatabaseFile>(),
        probe::<Pattern>(),
        probe::<Command>(),
        probe::<UserIds>(),
        probe::<Signal>(),
        probe::<HostPort>(),
        probe::<HttpUrl>(),
        probe::<Secret>(),
        probe::<Credential>(),
        probe::<Period>(),
        probe::<Size>(),
    ]
}

struct Checker {
    made: BTreeSet<String>,
    silent: BTreeSet<String>,
    problems: Vec<Problem>,
}

impl Checker {
    fn say(&mut self, path: &str, message: impl Into<String>, hint: impl Into<String>) {
        self.problems.push(Problem::new(path, message, hint));
    }

    /// The value where it is sound; `None` where there is none or something is wrong with it.
    fn visit(&mut self, schema: &Value, value: Value, path: &str) -> Option<Value> {
        if self.silent.contains(path) {
            return None;
        }
        let value = self.retype(schema, value, path);
        if let Some(branches) = schema["anyOf"].as_array() {
            return self.visit_branches(branches, value, path);
        }
        if let Some(choices) = choices(schema) {
            return self.visit_choice(&choices, value, path);
        }
        let found = type_name(&value);
        let wanted = type_names(schema);
        if !wanted.contains(&found) {
            let quotes = found != "object" && found != "array" && wanted == ["string"];
            let hint = if quotes { format!("put it in quotes: \"{value}\"") } else { wanted_hint(&wanted) };
            self.say(path, format!("this is {}, not {}", article(found), article(wanted[0])), hint);
            return None;
        }
        match value {
            Value::Object(fields) => self.visit_object(schema, fields, path),
            Value::Array(items) => self.visit_array(schema, items, path),
            Value::String(text) => self.leaf(schema, &text, path).then_some(Value::String(text)),
            Value::Number(number) => {
                let sound = match schema["format"].as_str() {
                    Some(format) if formats().iter().any(|(name, _)| *name == format) => {
                        self.leaf(schema, &number.to_string(), path)
                    }
                    _ => self.in_range(schema, &number, path),
                };
                sound.then_some(Value::Number(number))
            }
            other => Some(other),
        }
    }

    /// What an expansion made is typed as if it had been written there, where a text is not what is wanted.
    fn retype(&self, schema: &Value, value: Value, path: &str) -> Value {
        match &value {
            Value::String(text) if self.made.contains(path) && !takes_text(schema) => {
                document::yaml(text).unwrap_or(value)
            }
            _ => value,
        }
    }

    fn visit_object(&mut self, schema: &Value, fields: Map<String, Value>, path: &str) -> Option<Value> {
        let empty = Map::new();
        let known = schema["properties"].as_object().unwrap_or(&empty);
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let mut sound = Map::new();
        let mut whole = true;
        for (key, value) in fields {
            let below = join(path, &key);
            let described =
                known.get(&key).or_else(|| schema.get("additionalProperties").filter(|s| s.is_object()));
            let Some(described) = described else {
                self.unknown(&key, &below, known);
                continue;
            };
            // A key without a value, or with a variable that is set to nothing, is as good as absent.
            let nothing = value.is_null() || (self.made.contains(&below) && value.as_str() == Some(""));
            if nothing && !required.contains(&key.as_str()) && known.contains_key(&key) {
                continue;
            }
            match self.visit(described, value, &below) {
                Some(value) => drop(sound.insert(key, value)),
                None => whole &= !required.contains(&key.as_str()),
            }
        }
        for key in required {
            let below = join(path, key);
            if !sound.contains_key(key)
                && !self.problems.iter().any(|problem| problem.path.starts_with(&below))
            {
                let what = described(&known[key]);
                self.say(&below, format!("`{below}` is required"), format!("add `{key}:` {what}"));
                whole = false;
            }
        }
        whole.then_some(Value::Object(sound))
    }

    fn unknown(&mut self, key: &str, path: &str, known: &Map<String, Value>) {
        if let Some(problem) = later::key(path) {
            self.problems.push(problem);
            return;
        }
        let hint = match nearest(key, known.keys().map(String::as_str)) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("known here: {}", known.keys().cloned().collect::<Vec<_>>().join(", ")),
        };
        self.say(path, format!("unknown key `{path}`"), hint);
    }

    fn visit_array(&mut self, schema: &Value, items: Vec<Value>, path: &str) -> Option<Value> {
        let count = items.len() as u64;
        if schema["minItems"].as_u64().is_some_and(|least| count < least) {
            self.say(path, "this list is empty", "give at least one item");
            return None;
        }
        if let Some(most) = schema["maxItems"].as_u64().filter(|most| count > *most) {
            self.say(path, format!("{count} items are more than {most}"), "give fewer");
            return None;
        }
        let items: Vec<Option<Value>> = items
            .into_iter()
            .enumerate()
            .map(|(index, item)| self.visit(&schema["items"], item, &format!("{path}[{index}]")))
            .collect();
        items.into_iter().collect::<Option<Vec<_>>>().map(Value::Array)
    }

    /// One of several shapes: the one of the value's type, among objects the one that its keys speak for.
    fn visit_branches(&mut self, branches: &[Value], value: Value, path: &str) -> Option<Value> {
        let fitting: Vec<&Value> =
            branches.iter().filter(|branch| type_names(branch).contains(&type_name(&value))).collect();
        let Some(fields) = value.as_object() else {
            let Some(branch) = fitting.first() else {
                let wanted: Vec<&str> =
                    branches.iter().flat_map(type_names).filter(|name| *name != "null").collect();
                let found = article(type_name(&value));
                self.say(path, format!("this is {found}, not {}", article(wanted[0])), wanted_hint(&wanted));
                return None;
            };
            return self.visit(branch, value, path);
        };
        let spoken_for = |branch: &&&Value| fields.keys().filter(|key| has_key(branch, key)).count();
        let mut best = fitting.first().copied();
        for branch in &fitting {
            if best.is_none_or(|best| spoken_for(&branch) > spoken_for(&&best)) {
                best = Some(branch);
            }
        }
        let Some(best) = best else {
            let wanted: Vec<&str> =
                branches.iter().flat_map(type_names).filter(|name| *name != "null").collect();
            self.say(path, format!("this is a mapping, not {}", article(wanted[0])), wanted_hint(&wanted));
            return None;
        };
        let foreign =
            fields.keys().find(|key| !has_key(best, key) && fitting.iter().any(|b| has_key(b, key)));
        if let Some(key) = foreign {
            let own: Vec<&str> = fields.keys().filter(|key| has_key(best, key)).map(String::as_str).collect();
            let message = format!("`{key}` does not go together with `{}`", own.join("`, `"));
            self.say(&join(path, key), message, "write two entries, each of one kind");
            return None;
        }
        self.visit(best, value, path)
    }

    fn visit_choice(&mut self, choices: &[&str], value: Value, path: &str) -> Option<Value> {
        if value.as_str().is_some_and(|text| choices.contains(&text)) {
            return Some(value);
        }
        let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        if let Some(problem) = later::value(path, &shown) {
            self.problems.push(problem);
            return None;
        }
        let hint = match nearest(&shown, choices.iter().copied()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("use one of {}", choices.join(", ")),
        };
        self.say(path, format!("`{shown}` is none of {}", choices.join(", ")), hint);
        None
    }

    fn leaf(&mut self, schema: &Value, text: &str, path: &str) -> bool {
        let format = schema["format"].as_str().unwrap_or("");
        let Some((_, parses)) = formats().into_iter().find(|(name, _)| *name == format) else {
            return true;
        };
        if let Err(fault) = parses(text) {
            self.say(path, fault.message, fault.hint);
            return false;
        }
        let (value, unit, limit): (u64, &str, fn(u64) -> String) = match format {
            "duration" => {
                let ms = Period::parse(text)
                    .map_or(0, |period| u64::try_from(period.0.as_millis()).unwrap_or(u64::MAX));
                (ms, "ms", |ms| Period(Duration::from_millis(ms)).to_string())
            }
            "size" => (Size::parse(text).map_or(0, |size| size.0), "bytes", |bytes| Size(bytes).to_string()),
            _ => return true,
        };
        let bound = |name: &str| schema[format!("x-{name}-{unit}")].as_u64();
        if let Some(least) = bound("min").filter(|least| value < *least) {
            self.say(
                path,
                format!("`{text}` is less than {}", limit(least)),
                format!("use {} or more", limit(least)),
            );
            return false;
        }
        if let Some(most) = bound("max").filter(|most| value > *most) {
            self.say(
                path,
                format!("`{text}` is more than {}", limit(most)),
                format!("use {} or less", limit(most)),
            );
            return false;
        }
        true
    }

    fn in_range(&mut self, schema: &Value, number: &serde_json::Number, path: &str) -> bool {
        let value = number.as_i64().map_or(f64::INFINITY, |value| value as f64);
        let (least, most) = (schema["minimum"].as_f64(), schema["maximum"].as_f64());
        if least.is_some_and(|least| value < least) || most.is_some_and(|most| value > most) {
            let range = format!("{} to {}", least.unwrap_or(0.0), most.unwrap_or(f64::from(u32::MAX)));
            self.say(path, format!("{number} is out of range"), format!("use {range}"));
            return false;
        }
        true
    }
}

/// The words of an enumeration, with or without descriptions.
fn choices(schema: &Value) -> Option<Vec<&str>> {
    if let Some(words) = schema["enum"].as_array() {
        return Some(words.iter().filter_map(Value::as_str).collect());
    }
    let words = schema["oneOf"].as_array()?;
    Some(words.iter().filter_map(|word| word["const"].as_str()).collect())
}

fn has_key(schema: &Value, key: &str) -> bool {
    schema["properties"].get(key).is_some()
}

fn takes_text(schema: &Value) -> bool {
    choices(schema).is_some()
        || type_names(schema).contains(&"string")
        || schema["anyOf"].as_array().is_some_and(|branches| branches.iter().any(takes_text))
}

fn type_names(schema: &Value) -> Vec<&str> {
    match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => vec!["object"],
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn article(type_name: &str) -> &'static str {
    match type_name {
        "null" => "nothing",
        "boolean" => "true or false",
        "number" => "a number with a fraction",
        "integer" => "a whole number",
        "string" => "a text",
        "array" => "a list",
        _ => "a mapping",
    }
}

fn wanted_hint(wanted: &[&str]) -> String {
    let words: Vec<_> = wanted.iter().filter(|name| **name != "null").map(|name| article(name)).collect();
    format!("write {}", words.join(" or "))
}

fn described(schema: &Value) -> String {
    let sentence = schema["description"].as_str().unwrap_or("").lines().next().unwrap_or("");
    format!("({})", sentence.trim_end_matches('.'))
}
