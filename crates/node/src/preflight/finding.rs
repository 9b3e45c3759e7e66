//! What a look found: checks, each well or with findings that name cause and cure.

use super::Code;
use serde::Serialize;
use serde_json::{Map, Value};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing is started before it is mended.
    Error,
    /// It can go on, and may not go well.
    Warning,
}

/// The exit code of a path, a permission or another problem of the system.
pub const SYSTEM: u8 = 71;
/// The exit code of a setting that cannot be used.
pub const CONFIGURATION: u8 = 78;

/// Something that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// A stable word.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// Which path, variable or address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What is wrong, and why.
    pub message: String,
    /// The command that mends it.
    pub fix: String,
    /// What a node that ends over it exits with.
    pub exit_code: u8,
}

impl Finding {
    /// A problem of the system.
    pub fn error(code: Code, message: impl Into<String>, fix: impl Into<String>) -> Finding {
        Finding {
            code,
            severity: Severity::Error,
            path: None,
            message: plain(&message.into()),
            fix: fix.into(),
            exit_code: SYSTEM,
        }
    }

    /// The same, but it can go on.
    #[must_use]
    pub fn only_a_warning(self) -> Finding {
        Finding { severity: Severity::Warning, ..self }
    }

    /// A setting, not the system, is wrong.
    #[must_use]
    pub fn of_configuration(self) -> Finding {
        Finding { exit_code: CONFIGURATION, ..self }
    }

    /// Where.
    #[must_use]
    pub fn at(self, path: impl Into<String>) -> Finding {
        Finding { path: Some(path.into()), ..self }
    }
}

/// A text on one line, without anything that a terminal would obey: names and links may hold whatever their owners like.
pub fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() {
            plain.extend(char.escape_default());
        } else {
            plain.push(char);
        }
    }
    plain
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// Its name in health answers: `paths.music`, `database.data/a.db`, `app.command`…
    pub name: String,
    /// What kind of thing it is: `directory`, `home`, `database`, `store`, `command`, `environment`, `user`, `port`.
    pub check: &'static str,
    /// Which path, variable or address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// How long it took, milliseconds.
    pub ms: f64,
    /// How it is, in a line.
    pub output: String,
    /// What is known of it: `exists`, `is_dir`, `writable`, `owner`, `parent`.
    #[serde(flatten)]
    pub details: Map<String, Value>,
    /// What was made or changed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub done: Vec<String>,
    /// What is wrong with it.
    pub findings: Vec<Finding>,
}

impl Check {
    /// A check of something that has no path of its own to look at.
    pub fn of(check: &'static str, name: impl Into<String>, findings: Vec<Finding>) -> Check {
        let output = findings.first().map_or("ok".to_owned(), |finding| finding.message.clone());
        let path = findings.first().and_then(|finding| finding.path.clone());
        let (details, done) = (Map::new(), Vec::new());
        Check { name: name.into(), check, path, ms: 0.0, output, details, done, findings }
    }

    /// `ok`, `warn` or `fail`.
    pub fn status(&self) -> &'static str {
        if self.findings.iter().any(|finding| finding.severity == Severity::Error) {
            "fail"
        } else if self.findings.is_empty() {
            "ok"
        } else {
            "warn"
        }
    }
}

/// Everything that was looked at.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// In the order in which it was looked at.
    pub checks: Vec<Check>,
}

impl Report {
    /// What must be mended before anything starts.
    pub fn errors(&self) -> impl Iterator<Item = &Finding> {
        self.findings().filter(|finding| finding.severity == Severity::Error)
    }

    /// Everything that is not as it should be.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.checks.iter().flat_map(|check| &check.findings)
    }

    /// What a node ends with over it: 0, 78 where a setting is wrong, else 71.
    pub fn exit_code(&self) -> u8 {
        let codes: Vec<u8> = self.errors().map(|finding| finding.exit_code).collect();
        match codes.first() {
            None => 0,
            Some(_) if codes.contains(&CONFIGURATION) => CONFIGURATION,
            Some(first) => *first,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_is_that_of_the_worst_and_warnings_have_none() {
        let report = |findings: Vec<Finding>| Report { checks: vec![Check::of("directory", "a", findings)] };
        let system = Finding::error(Code::DirectoryMissing, "m", "f");
        let setting = Finding::error(Code::UmaskInvalid, "m", "f").of_configuration();
        assert_eq!(report(vec![]).exit_code(), 0);
        assert_eq!(report(vec![system.clone().only_a_warning()]).exit_code(), 0);
        assert_eq!(report(vec![system.clone()]).exit_code(), 71);
        assert_eq!(report(vec![system, setting]).exit_code(), 78);
    }
}
