//! Configurations of LiteFS and Litestream, read as one of Stead.
//!
//! ```text
//! text ─► leaves with their lines ─► a fate for each ─► draft ─► Stead's YAML, and what needs a person
//! ```
//!
//! Every value of the source has a fate: a key of Stead, or a reason why there is none. A key that this version refuses
//! is written as a comment with the reason that the schema gives, so that the result is always a valid configuration.
//! Both programs replace `$VAR` in the text before they read it; here variables stay variables.

mod draft;
mod litefs;
mod litestream;

use draft::Draft;
use node::config::{Document, Place, Problems};
use serde::Serialize;
use serde_json::Value;

/// Which program a configuration is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Program {
    /// LiteFS 0.5.
    LiteFs,
    /// Litestream 0.3 and 0.5.
    Litestream,
}

impl Program {
    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Program::LiteFs => "LiteFS",
            Program::Litestream => "Litestream",
        }
    }
}

/// Something that was not taken over, or that a person has to decide.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    /// The line of the source, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The key of the source, or of Stead where the source has none.
    pub key: String,
    /// What is to be known. It never holds a value of the source.
    pub message: String,
}

/// What became of a configuration.
#[derive(Clone, Debug, Serialize)]
pub struct Imported {
    /// Which program's it was.
    pub source: Program,
    /// The home that its paths are relative to, where they name one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub home: Option<String>,
    /// Stead's configuration, with comments.
    pub config: String,
    /// What it does not hold.
    pub notes: Vec<Note>,
}

/// Why there is nothing to import.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file is no YAML; mend it.
    #[error(transparent)]
    Unreadable(#[from] Problems),
    /// Its keys are neither program's; name another file.
    #[error("its keys are neither LiteFS's nor Litestream's")]
    Unknown,
}

/// Reads the configuration called `file`.
pub fn import(bytes: &[u8], file: &str) -> Result<Imported, ImportError> {
    let document = Document::from_yaml(bytes)?;
    let known = |keys: &[&str]| keys.iter().filter(|key| document.value.get(**key).is_some()).count();
    let (litefs, litestream) = (known(litefs::KEYS), known(litestream::KEYS));
    let program = match litefs.cmp(&litestream) {
        std::cmp::Ordering::Greater => Program::LiteFs,
        std::cmp::Ordering::Less => Program::Litestream,
        std::cmp::Ordering::Equal => return Err(ImportError::Unknown),
    };
    let mut draft = Draft::default();
    for problem in &document.problems {
        draft.note(problem.line, &problem.path, "is there twice; the first one was read");
    }
    let leaves = leaves(&document);
    let home = match program {
        Program::LiteFs => litefs::read(&leaves, &mut draft),
        Program::Litestream => litestream::read(&leaves, &mut draft),
    };
    let config = draft.render(program, file, home.as_deref());
    Ok(Imported { source: program, home, config, notes: draft.into_notes() })
}

/// A value of the source that is no mapping and no list.
#[derive(Clone, Debug)]
struct Leaf {
    /// With indices: `dbs[0].path`.
    path: String,
    /// Without: `dbs[].path`.
    kind: String,
    value: Value,
    line: Option<u64>,
}

impl Leaf {
    fn text(&self) -> String {
        self.value.as_str().map_or_else(|| self.value.to_string(), str::to_owned)
    }

    /// The number of the first list that it is in.
    fn index(&self) -> Option<usize> {
        let (_, rest) = self.path.split_once('[')?;
        rest.split_once(']')?.0.parse().ok()
    }
}

/// Every value, in the order of its lines.
fn leaves(document: &Document) -> Vec<Leaf> {
    let mut found = Vec::new();
    walk(document, &document.value, "", "", &mut found);
    found.sort_by_key(|leaf| leaf.line);
    found
}

fn walk(document: &Document, value: &Value, path: &str, kind: &str, into: &mut Vec<Leaf>) {
    let below =
        |path: &str, key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Object(fields) => {
            for (key, field) in fields {
                walk(document, field, &below(path, key), &below(kind, key), into);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                walk(document, item, &format!("{path}[{index}]"), &format!("{kind}[]"), into);
            }
        }
        Value::Null => {}
        scalar => into.push(Leaf {
            path: path.to_owned(),
            kind: kind.to_owned(),
            value: scalar.clone(),
            line: document.places.of(path).map(|Place { line, .. }| line),
        }),
    }
}

/// What becomes of a key.
#[derive(Clone, Copy)]
enum Fate {
    /// The same value under a key of Stead.
    To(&'static str),
    /// There is no such key, and why.
    Not(&'static str),
}

/// Carries out a leaf's fate; a key of no table is said to be unknown.
fn settle(leaf: &Leaf, table: &[(&str, Fate)], draft: &mut Draft) {
    let found = table.iter().find(|(kind, _)| match kind.strip_suffix('*') {
        Some(prefix) => leaf.kind.starts_with(prefix),
        None => *kind == leaf.kind,
    });
    match found {
        Some((_, Fate::To(key))) => draft.set(key, leaf.value.clone(), leaf),
        Some((_, Fate::Not(why))) => draft.note(leaf.line, &leaf.path, *why),
        None => draft.note(leaf.line, &leaf.path, "is not a key that is known here"),
    }
}

#[cfg(test)]
mod tests;
