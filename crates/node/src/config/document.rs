//! A configuration as it was written: YAML or JSON, turned into plain values and the places they stand at.
//!
//! YAML comes from files only; JSON from files and request bodies. Both readers fill the same tree: YAML's knows where
//! a value stands, JSON's is asked how far it has read. A key that appears twice is a problem in both, since one of the
//! two would be silently ignored.

use super::expand::join;
use super::limits::{DOCUMENT_BYTES_MAX, PROBLEMS_MAX};
use super::places::{Place, Places};
use super::problem::{Problem, Problems};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use serde_saphyr::Spanned;
use serde_saphyr::options::DuplicateKeyPolicy;
use std::cell::Cell;
use std::fmt;
use std::io;

const MAPPING_HINT: &str = "write keys and values; `stead config example` prints a complete one";

/// A mapping of keys to values, and where they stand.
#[derive(Clone, Debug, Default)]
pub struct Document {
    /// The values.
    pub value: Value,
    /// The places of its keys.
    pub places: Places,
    /// The keys that are there twice.
    pub problems: Vec<Problem>,
}

/// Reads a JSON document.
pub fn from_json(bytes: &[u8]) -> Result<Document, Problems> {
    limited(bytes)?;
    let at = Cell::new(START);
    let refuse = |error: serde_json::Error| {
        let mut problem = Problem::new("", format!("this is not JSON: {error}"), MAPPING_HINT);
        let (line, column) = (error.line() as u64, error.column() as u64);
        problem.place((line > 0).then_some(Place { line, column }));
        Problems::from(problem)
    };
    let mut reader = serde_json::Deserializer::from_reader(Counted { bytes, at: &at, next: START });
    let tree = Grow(Json(&at)).deserialize(&mut reader).map_err(refuse)?;
    reader.end().map_err(refuse)?;
    settled(tree)
}

/// Reads a file's text: JSON where it looks like it, YAML otherwise.
pub fn from_file(bytes: &[u8], is_json: bool) -> Result<Document, Problems> {
    limited(bytes)?;
    if is_json {
        return from_json(bytes);
    }
    Document::from_yaml(bytes)
}

fn from_yaml(bytes: &[u8]) -> Result<Document, Problems> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count() as u64;
        let mut problem = Problem::new("", format!("this is not text: {error}"), "save the file as UTF-8");
        problem.place(Some(Place { line, column: 1 }));
        Problems::from(problem)
    })?;
    let options =
        serde_saphyr::options! { strict_booleans: true, duplicate_keys: DuplicateKeyPolicy::PassThrough };
    let tree = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let message = format!("this is not YAML: {}", first_line(&error));
        let mut problem = Problem::new("", message, MAPPING_HINT);
        problem.place(error.location().and_then(place));
        Problems::from(problem)
    })?;
    settled(tree)
}

/// Reads a piece of YAML 1.2: only `true` and `false` are booleans, so that `name: n` is a name.
pub fn yaml(text: &str) -> Result<Value, String> {
    let options = serde_saphyr::options! { strict_booleans: true };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| first_line(&error))
}

/// What the parser says, without the place, which is told by itself.
fn first_line(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let line = text.lines().next().unwrap_or("").trim_start_matches("error: ");
    line.split(" at line ").next().unwrap_or(line).to_owned()
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

fn settled(tree: Tree) -> Result<Document, Problems> {
    let mut document = Document::default();
    document.places.note("", START);
    let first = match &tree {
        Tree::Fields(fields) => fields.first().map(|(_, place, _)| *place),
        _ => None,
    };
    if let Some(first) = first {
        document.places.note("", first);
    }
    document.value = document.settle(tree, "");
    let wrong = match document.value {
        Value::Object(_) => return Ok(document),
        Value::Null => "the configuration is empty",
        _ => "the configuration is not a mapping of keys to values",
    };
    let mut problem = Problem::new("", wrong, MAPPING_HINT);
    problem.place(Some(START));
    Err(problem.into())
}

impl Document {
    /// Reads a YAML document, of Stead or of another program.
    pub fn from_yaml(bytes: &[u8]) -> Result<Document, Problems> {
        limited(bytes)?;
        from_yaml(bytes)
    }

    fn settle(&mut self, tree: Tree, path: &str) -> Value {
        match tree {
            Tree::Leaf(value) => value,
            Tree::Items(items) => {
                let mut values = Vec::with_capacity(items.len());
                for (place, item) in items {
                    let below = format!("{path}[{}]", values.len());
                    self.places.note(&below, place);
                    values.push(self.settle(item, &below));
                }
                Value::Array(values)
            }
            Tree::Fields(fields) => {
                let mut values = Map::new();
                for (key, place, field) in fields {
                    let below = join(path, &key);
                    if values.contains_key(&key) {
                        if self.problems.len() >= PROBLEMS_MAX {
                            continue;
                        }
                        let first = self.places.of(&below).map_or(0, |place| place.line);
                        let hint = format!("line {first} has it already: leave one of them out");
                        let mut problem =
                            Problem::new(&below, format!("the key `{below}` appears twice"), hint);
                        problem.place(Some(place));
                        self.problems.push(problem);
                        continue;
                    }
                    self.places.note(&below, place);
                    let value = self.settle(field, &below);
                    values.insert(key, value);
                }
                Value::Object(values)
            }
        }
    }
}

/// The document as its reader gave it, every key of every mapping, in order.
enum Tree {
    Leaf(Value),
    Items(Vec<(Place, Tree)>),
    Fields(Vec<(String, Place, Tree)>),
}

const START: Place = Place { line: 1, column: 1 };

fn place(location: serde_saphyr::Location) -> Option<Place> {
    (location.line() > 0).then_some(Place { line: location.line(), column: location.column() })
}

/// How a reader is asked for what comes next and where it stands.
trait Reader: Copy {
    fn item<'de, A: SeqAccess<'de>>(self, items: &mut A) -> Result<Option<(Place, Tree)>, A::Error>;
    fn key<'de, A: MapAccess<'de>>(self, fields: &mut A) -> Result<Option<(String, Place)>, A::Error>;
    fn value<'de, A: MapAccess<'de>>(self, fields: &mut A) -> Result<Tree, A::Error>;
}

/// YAML's reader tells the place with the value.
#[derive(Clone, Copy)]
struct Yaml;

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Tree, D::Error> {
        d.deserialize_any(Grow(Yaml))
    }
}

impl Reader for Yaml {
    fn item<'de, A: SeqAccess<'de>>(self, items: &mut A) -> Result<Option<(Place, Tree)>, A::Error> {
        let item = items.next_element::<Spanned<Tree>>()?;
        Ok(item.map(|item| (place(item.referenced).unwrap_or(START), item.value)))
    }

    fn key<'de, A: MapAccess<'de>>(self, fields: &mut A) -> Result<Option<(String, Place)>, A::Error> {
        let key = fields.next_key::<Spanned<String>>()?;
        Ok(key.map(|key| (key.value, place(key.referenced).unwrap_or(START))))
    }

    fn value<'de, A: MapAccess<'de>>(self, fields: &mut A) -> Result<Tree, A::Error> {
        fields.next_value()
    }
}

/// JSON's reader has just read the first character of what it is about to give.
#[derive(Clone, Copy)]
struct Json<'a>(&'a Cell<Place>);

impl Reader for Json<'_> {
    fn item<'de, A: SeqAccess<'de>>(self, items: &mut A) -> Result<Option<(Place, Tree)>, A::Error> {
        items.next_element_seed(Noting(self.0, Grow(self)))
    }

    fn key<'de, A: MapAccess<'de>>(self, fields: &mut A) -> Result<Option<(String, Place)>, A::Error> {
        let key = fields.next_key_seed(Noting(self.0, std::marker::PhantomData))?;
        Ok(key.map(|(place, key)| (key, place)))
    }

    fn value<'de, A: MapAccess<'de>>(self, fields: &mut A) -> Result<Tree, A::Error> {
        fields.next_value_seed(Grow(self))
    }
}

/// Remembers where the reader is before the value is read.
struct Noting<'a, S>(&'a Cell<Place>, S);

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Noting<'_, S> {
    type Value = (Place, S::Value);
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        let place = self.0.get();
        Ok((place, self.1.deserialize(d)?))
    }
}

/// Hands bytes out one by one and keeps the place of the last.
struct Counted<'a> {
    bytes: &'a [u8],
    at: &'a Cell<Place>,
    next: Place,
}

impl io::Read for Counted<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let (Some((byte, rest)), Some(slot)) = (self.bytes.split_first(), into.first_mut()) else {
            return Ok(0);
        };
        *slot = *byte;
        self.bytes = rest;
        self.at.set(self.next);
        match byte {
            b'\n' => self.next = Place { line: self.next.line + 1, column: 1 },
            // The later bytes of a character take no column.
            0x80..0xc0 => {}
            _ => self.next.column += 1,
        }
        Ok(1)
    }
}

/// Reads any value as a tree.
struct Grow<R>(R);

impl<'de, R: Reader> DeserializeSeed<'de> for Grow<R> {
    type Value = Tree;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Tree, D::Error> {
        d.deserialize_any(self)
    }
}

fn leaf<E>(value: impl Serialize) -> Result<Tree, E> {
    Ok(Tree::Leaf(serde_json::to_value(value).unwrap_or_default()))
}

impl<'de, R: Reader> Visitor<'de> for Grow<R> {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        leaf(value)
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        leaf(value)
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        leaf(value)
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        leaf(value)
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        leaf(value)
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        leaf(())
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        leaf(())
    }

    fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Tree, D::Error> {
        d.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = self.0.item(&mut items)? {
            all.push(item);
        }
        Ok(Tree::Items(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Tree, A::Error> {
        let mut all = Vec::new();
        while let Some((key, place)) = self.0.key(&mut fields)? {
            let value = self.0.value(&mut fields)?;
            all.push((key, place, value));
        }
        Ok(Tree::Fields(all))
    }
}
