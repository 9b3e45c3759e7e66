//! A configuration as it was written: YAML or JSON, turned into plain values.
//!
//! YAML comes from files only; JSON from files and request bodies. A key that appears twice is refused in both, since
//! one of the two would be silently ignored.

use super::expand::join;
use super::limits::DOCUMENT_BYTES_MAX;
use super::problem::{Problem, Problems};
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;

const MAPPING_HINT: &str = "write keys and values; `stead config example` prints a complete one";

/// Reads a JSON document.
pub fn from_json(bytes: &[u8]) -> Result<Value, Problems> {
    limited(bytes)?;
    let refuse = |error: serde_json::Error| {
        Problems::from(Problem::new("", format!("this is not JSON: {error}"), MAPPING_HINT))
    };
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { path: "" }.deserialize(&mut reader).map_err(refuse)?;
    reader.end().map_err(refuse)?;
    mapping(value)
}

/// Reads a file's text: JSON where it looks like it, YAML otherwise.
pub fn from_file(bytes: &[u8], is_json: bool) -> Result<Value, Problems> {
    limited(bytes)?;
    if is_json {
        return from_json(bytes);
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        Problems::from(Problem::new("", format!("this is not text: {error}"), "save the file as UTF-8"))
    })?;
    let value = yaml(text).map_err(|message| {
        Problems::from(Problem::new("", format!("this is not YAML: {message}"), MAPPING_HINT))
    })?;
    mapping(value)
}

/// Reads a piece of YAML 1.2: only `true` and `false` are booleans, so that `name: n` is a name.
pub fn yaml(text: &str) -> Result<Value, String> {
    let options = serde_saphyr::options! { strict_booleans: true };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| first_line(&error))
}

fn first_line(error: &dyn fmt::Display) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or("").trim_start_matches("error: ");
    line.to_owned()
}

fn limited(bytes: &[u8]) -> Result<(), Problems> {
    if bytes.len() as u64 <= DOCUMENT_BYTES_MAX {
        return Ok(());
    }
    Err(Problem::new(
        "",
        format!("{} bytes are more than a configuration may have ({DOCUMENT_BYTES_MAX})", bytes.len()),
        "is this the right file?",
    )
    .into())
}

fn mapping(value: Value) -> Result<Value, Problems> {
    match value {
        Value::Object(_) => Ok(value),
        Value::Null => Err(Problem::new("", "the configuration is empty", MAPPING_HINT).into()),
        _ => {
            Err(Problem::new("", "the configuration is not a mapping of keys to values", MAPPING_HINT).into())
        }
    }
}

/// Reads any JSON value; an object with a key twice is an error.
struct Strict<'a> {
    path: &'a str,
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;
    fn deserialize<D: serde::Deserializer<'de>>(self, d: D) -> Result<Value, D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) =
            items.next_element_seed(Strict { path: &format!("{}[{}]", self.path, values.len()) })?
        {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut values = Map::new();
        while let Some(key) = fields.next_key::<String>()? {
            let path = join(self.path, &key);
            if values.contains_key(&key) {
                return Err(A::Error::custom(format!("the key `{path}` appears twice")));
            }
            let value = fields.next_value_seed(Strict { path: &path })?;
            values.insert(key, value);
        }
        Ok(Value::Object(values))
    }
}
