//! What is wrong with a configuration: all of it at once, each with its place and its cure.

use super::places::Place;
use serde::{Deserialize, Serialize};
use std::fmt;

/// One thing to mend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The key, `databases[0].path` for instance; empty for the document as a whole.
    pub path: String,
    /// What is wrong there.
    pub message: String,
    /// What mends it.
    pub hint: String,
    /// The line it stands at, from 1; none where it stands in no document, a flag for instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The column there, from 1, in characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u64>,
}

impl Problem {
    /// Puts the three parts together.
    pub fn new(path: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) -> Problem {
        Problem { path: path.into(), message: message.into(), hint: hint.into(), line: None, column: None }
    }

    /// Says where it stands.
    pub fn place(&mut self, place: Option<Place>) {
        (self.line, self.column) = place.map(|place| (place.line, place.column)).unzip();
    }

    /// The problem as editors find its line: `stead.yaml:12: app.comand: …`.
    pub fn in_file(&self, file: &str) -> String {
        match self.line {
            Some(line) => format!("{file}:{line}: {self}"),
            None => self.to_string(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// Why a configuration is refused. The caller must mend every one of them; nothing was saved or started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the configuration is not valid: {}", list(.0))]
pub struct Problems(pub Vec<Problem>);

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Problems {
        Problems(vec![problem])
    }
}

fn list(problems: &[Problem]) -> String {
    let one = |problem: &Problem| match problem.line {
        Some(line) => format!("line {line}: {problem}"),
        None => problem.to_string(),
    };
    problems.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// The known word that was probably meant: few edits away in proportion to its length.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, candidate), candidate))
        .filter(|(edits, candidate)| *edits <= 1 + candidate.chars().count() / 4)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_of_the_finger_finds_its_key_and_a_strange_word_none() {
        let known = ["name", "listen", "storage", "databases"];
        for (word, meant) in [
            ("nmae", Some("name")),
            ("Name", Some("name")),
            ("lsten", Some("listen")),
            ("database", Some("databases")),
            ("stroage", Some("storage")),
            ("invalid", None),
            ("x", None),
        ] {
            assert_eq!(nearest(word, known), meant, "{word}");
        }
    }
}
