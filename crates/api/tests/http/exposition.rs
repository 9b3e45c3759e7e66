//! Reads the text that Prometheus reads, as strictly as its own checker: what is not well-formed fails the test.

use std::collections::{BTreeMap, BTreeSet};

/// The samples of a page, each by its name and labels as they were written, and the kind of each metric.
#[derive(Debug, Default)]
pub struct Exposition {
    pub samples: BTreeMap<String, f64>,
    pub kinds: BTreeMap<String, String>,
}

impl Exposition {
    /// Reads a page.
    pub fn parse(text: &str) -> Exposition {
        let mut page = Exposition::default();
        let (mut helped, mut current) = (BTreeSet::new(), String::new());
        assert!(text.is_empty() || text.ends_with('\n'), "the last line has no end");
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap_or_else(|| panic!("no sentence: {line}"));
                assert!(is_name(name) && !help.trim().is_empty(), "{line}");
                assert!(helped.insert(name.to_owned()), "a second HELP: {line}");
                name.clone_into(&mut current);
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap_or_else(|| panic!("no kind: {line}"));
                assert_eq!(name, current, "TYPE does not follow its HELP");
                assert!(matches!(kind, "gauge" | "counter"), "{line}");
                let known = page.kinds.insert(name.to_owned(), kind.to_owned());
                assert_eq!(known, None, "a second TYPE: {line}");
            } else {
                let (series, number) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no number: {line}"));
                let name = series.split('{').next().unwrap();
                assert_eq!(name, current, "a sample among those of another metric");
                assert!(page.kinds.contains_key(name), "a sample before its TYPE: {line}");
                check_labels(series.strip_prefix(name).unwrap());
                let number: f64 = number.parse().unwrap_or_else(|_| panic!("no number: {line}"));
                assert!(number.is_finite(), "{line}");
                let known = page.samples.insert(series.to_owned(), number);
                assert_eq!(known, None, "a second sample: {line}");
            }
        }
        page
    }

    /// The number of a series that must be there.
    pub fn of(&self, series: &str) -> f64 {
        *self.samples.get(series).unwrap_or_else(|| panic!("{series} is not among {:#?}", self.samples))
    }

    /// Whether a metric has any sample.
    pub fn has(&self, name: &str) -> bool {
        self.kinds.contains_key(name)
    }
}

fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':');
    text.bytes().all(plain) && text.bytes().next().is_some_and(|b| !b.is_ascii_digit())
}

/// `{name="value",…}` or nothing.
fn check_labels(text: &str) {
    let mut rest = text;
    let mut seen = BTreeSet::new();
    if rest.is_empty() {
        return;
    }
    rest = rest.strip_prefix('{').unwrap_or_else(|| panic!("{text}"));
    loop {
        let (name, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("{text}"));
        assert!(is_name(name) && !name.contains(':') && seen.insert(name.to_owned()), "{text}");
        let mut end = None;
        let mut escaped = false;
        for (at, c) in after.char_indices() {
            match c {
                _ if escaped => {
                    assert!(matches!(c, '\\' | '"' | 'n'), "{text}");
                    escaped = false;
                }
                '\\' => escaped = true,
                '"' => {
                    end = Some(at);
                    break;
                }
                _ => {}
            }
        }
        rest = &after[end.unwrap_or_else(|| panic!("a label without its end: {text}")) + 1..];
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => break,
        }
    }
    assert_eq!(rest, "}", "{text}");
}
