//! Where each key of a document stands, so that whoever mends it finds the line.
//!
//! A key is named by its path, `databases[0].path`. A key that is not there stands where the mapping begins that should
//! have it. What came from a flag stands in no document.

use super::problem::Problem;
use std::collections::BTreeMap;

/// A place in a text; both numbers count from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The line.
    pub line: u64,
    /// The column.
    pub column: u64,
}

/// The places of a document's keys and items.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places(BTreeMap<String, Option<Place>>);

impl Places {
    /// A key or an item stands there.
    pub fn note(&mut self, path: &str, place: Place) {
        self.0.insert(path.to_owned(), Some(place));
    }

    /// A flag says what the document may say too.
    pub fn outside(&mut self, path: &str) {
        self.0.insert(path.to_owned(), None);
    }

    /// Where a key stands, or the mapping or list that should have it.
    pub fn of(&self, path: &str) -> Option<Place> {
        let mut path = path;
        loop {
            if let Some(place) = self.0.get(path) {
                return *place;
            }
            path = match path.rfind(['.', '[']) {
                Some(end) => &path[..end],
                None if path.is_empty() => return None,
                None => "",
            };
        }
    }

    /// Gives each problem without a place its own, and puts them in the document's order of lines.
    pub fn mark(&self, problems: &mut [Problem]) {
        for problem in problems.iter_mut().filter(|problem| problem.line.is_none()) {
            problem.place(self.of(&problem.path));
        }
        problems.sort_by_key(|problem| problem.line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_stands_where_its_mapping_begins_and_a_flag_nowhere() {
        let at = |line| Place { line, column: 1 };
        let mut places = Places::default();
        assert_eq!(places.of("name"), None);
        for (path, line) in [("", 1), ("databases", 2), ("databases[0]", 3), ("databases[0].path", 3)] {
            places.note(path, at(line));
        }
        places.outside("storage.url");
        for (path, line) in [
            ("name", Some(1)),
            ("databases[0].path", Some(3)),
            ("databases[0].schema", Some(3)),
            ("databases[1].path", Some(2)),
            ("storage.url", None),
            ("storage.zone", Some(1)),
        ] {
            assert_eq!(places.of(path), line.map(at), "{path}");
        }
    }
}
