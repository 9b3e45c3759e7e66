//! Paths as JSON, whatever their bytes are: a text where they are one, else a list of numbers.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Raw {
    Text(String),
    Bytes(Vec<u8>),
}

fn raw(path: &Path) -> Raw {
    match path.to_str() {
        Some(text) => Raw::Text(text.to_owned()),
        None => Raw::Bytes(path.as_os_str().as_bytes().to_owned()),
    }
}

fn path(raw: Raw) -> PathBuf {
    match raw {
        Raw::Text(text) => text.into(),
        Raw::Bytes(bytes) => OsString::from_vec(bytes).into(),
    }
}

pub fn serialize<S: Serializer>(value: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    raw(value).serialize(serializer)
}

pub fn deserialize<'a, D: Deserializer<'a>>(deserializer: D) -> Result<PathBuf, D::Error> {
    Raw::deserialize(deserializer).map(path)
}

/// The same for several.
pub mod list {
    use super::*;

    pub fn serialize<S: Serializer>(values: &[PathBuf], serializer: S) -> Result<S::Ok, S::Error> {
        values.iter().map(|value| raw(value)).collect::<Vec<_>>().serialize(serializer)
    }

    pub fn deserialize<'a, D: Deserializer<'a>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
        Ok(Vec::<Raw>::deserialize(deserializer)?.into_iter().map(path).collect())
    }
}
