//! An error as a person sees it: what, why, and what mends it.

use crate::exit::Exit;
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
}

impl Failure {
    /// Puts the parts together.
    pub fn new(
        exit: Exit,
        what: impl Into<String>,
        cause: impl ToString,
        hint: impl Into<String>,
    ) -> Failure {
        Failure { what: what.into(), cause: cause.to_string(), hint: hint.into(), exit }
    }

    /// A problem with a file or another part of the system.
    pub fn system(what: impl Into<String>, cause: impl ToString, hint: impl Into<String>) -> Failure {
        Failure::new(Exit::System, what, cause, hint)
    }

    /// The three lines as JSON.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "error": { "message": self.what, "cause": self.cause, "hint": self.hint, "exit_code": self.exit.code() }
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (label, text) in [("error", &self.what), ("cause", &self.cause), ("hint", &self.hint)] {
            if !text.is_empty() {
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
    fn an_error_is_three_lines() {
        let failure =
            Failure::new(Exit::Failed, "nothing was restored", "no checkpoint `x`", "stead checkpoint list");
        assert_eq!(
            failure.to_string(),
            "error: nothing was restored\ncause: no checkpoint `x`\nhint: stead checkpoint list\n"
        );
    }
}
