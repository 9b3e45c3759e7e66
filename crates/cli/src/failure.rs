//! An error as a person sees it: what, why, and what mends it.

use crate::exit::Exit;
use crate::harmless;
use node::config::Problem;
use node::preflight::{Finding, plain};
use std::fmt;

/// A command that did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What did not happen.
    pub what: String,
    /// Why.
    pub cause: String,
    /// The command or edit that mends it.
    pub hint: String,
    /// How the process ends.
    pub exit: Exit,
    /// The node's word for it, where a node refused; else empty.
    pub code: String,
    /// What is wrong with a configuration, one by one; the cause tells them all.
    pub problems: Box<[Problem]>,
}

impl Failure {
    /// Puts the parts together.
    pub fn new(
        exit: Exit,
        what: impl Into<String>,
        cause: impl ToString,
        hint: impl Into<String>,
    ) -> Failure {
        Failure {
            what: what.into(),
            cause: cause.to_string(),
            hint: hint.into(),
            exit,
            code: String::new(),
            problems: Box::default(),
        }
    }

    /// A configuration that is not valid; `file` is where its problems have their lines.
    pub fn invalid(what: impl Into<String>, problems: Vec<Problem>, file: &str) -> Failure {
        let failure = match problems.as_slice() {
            [one] => Failure::new(Exit::Configuration, what, one.in_file(file), one.hint.clone()),
            several => {
                let causes: Vec<String> =
                    several.iter().map(|one| format!("{} ({})", one.in_file(file), one.hint)).collect();
                let hint = "mend what is listed; `stead config example` shows every key";
                Failure::new(Exit::Configuration, what, causes.join("\n"), hint)
            }
        };
        Failure { problems: problems.into(), ..failure }
    }

    /// A node's refusal, which says why; [`Failure::of`] says what was asked for.
    pub fn refusal(code: String, exit: Exit, cause: impl ToString, hint: impl Into<String>) -> Failure {
        Failure { code, ..Failure::new(exit, "the node refused", cause, hint) }
    }

    /// Says what did not happen because the node refused; any other failure says it already.
    #[must_use]
    pub fn of(self, what: impl Into<String>) -> Failure {
        if self.code.is_empty() { self } else { Failure { what: what.into(), ..self } }
    }

    /// A problem with a file or another part of the system.
    pub fn system(what: impl Into<String>, cause: impl ToString, hint: impl Into<String>) -> Failure {
        Failure::new(Exit::System, what, cause, hint)
    }

    /// What keeps a node from starting.
    pub fn of_finding(finding: &Finding) -> Failure {
        let what = match &finding.path {
            Some(path) => format!("{} is not as it must be", plain(path)),
            None => "something is not as it must be".to_owned(),
        };
        let exit =
            if finding.exit_code == Exit::Configuration.code() { Exit::Configuration } else { Exit::System };
        let failure = Failure::new(exit, what, &finding.message, &finding.fix);
        Failure { code: finding.code.to_string(), ..failure }
    }

    /// The three lines as JSON.
    pub fn to_json(&self) -> serde_json::Value {
        let mut error = serde_json::json!({
            "message": self.what, "cause": self.cause, "hint": self.hint, "exit_code": self.exit.code()
        });
        if !self.code.is_empty() {
            error["code"] = self.code.clone().into();
        }
        if !self.problems.is_empty() {
            error["problems"] = serde_json::to_value(&self.problems).unwrap_or_default();
        }
        serde_json::json!({ "error": error })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (label, text) in [("error", &self.what), ("cause", &self.cause), ("hint", &self.hint)] {
            if !text.is_empty() {
                let text = harmless::shown(text);
                let mut lines = text.lines();
                writeln!(f, "{label}: {}", lines.next().unwrap_or(""))?;
                for line in lines {
                    writeln!(f, "       {line}")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_as_what_was_asked_for_and_why_not() {
        let refused =
            Failure::refusal("not_now".to_owned(), Exit::Failed, "why", "cure").of("nothing happened");
        assert_eq!(refused.to_string(), "error: nothing happened\ncause: why\nhint: cure\n");
        assert_eq!(refused.to_json()["error"]["code"], "not_now");
        let other = Failure::new(Exit::Unavailable, "no node answers", "refused", "start one");
        assert_eq!(other.clone().of("nothing happened"), other);
    }

    #[test]
    fn an_error_is_three_lines() {
        let failure =
            Failure::new(Exit::Failed, "nothing was restored", "no checkpoint `x`", "stead checkpoint list");
        assert_eq!(
            failure.to_string(),
            "error: nothing was restored\ncause: no checkpoint `x`\nhint: stead checkpoint list\n"
        );
    }
}
