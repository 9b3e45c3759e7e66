//! Texts that must never be shown.

use super::text::{Fault, Text, written_as_text};
use std::fmt;

/// What stands for a secret wherever it could be seen.
pub const HIDDEN: &str = "***";

/// A text that shows as `***` in logs, in errors and in JSON. Only [`Secret::reveal`] gives it away.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text itself, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Compares in a time that does not tell how much of a guess was right.
    pub fn matches(&self, guess: &str) -> bool {
        let (mine, guess) = (self.0.as_bytes(), guess.as_bytes());
        let mut differs = u8::from(mine.len() != guess.len());
        for (index, byte) in guess.iter().enumerate() {
            differs |= byte ^ mine.get(index % mine.len().max(1)).copied().unwrap_or(0);
        }
        differs == 0
    }
}

/// A URL as it may be shown: a user and a password in it are hidden, also where it is no URL of the kind that is wanted.
pub fn without_credentials(url: &str) -> String {
    let Some(start) = url.find("://").map(|at| at + 3) else { return url.to_owned() };
    let end = url[start..].find(['/', '?', '#']).map_or(url.len(), |at| start + at);
    match url[start..end].rfind('@') {
        Some(at) => format!("{}{HIDDEN}{}", &url[..start], &url[start + at..]),
        None => url.to_owned(),
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl Text for Secret {
    const FORMAT: &'static str = "secret";

    fn parse(text: &str) -> Result<Secret, Fault> {
        if text == HIDDEN {
            return Err(Fault::new(
                "`***` stands for a secret that is not shown",
                "give the secret itself, or leave the key out",
            ));
        }
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Fault::new(
                "a secret that travels in a header is made of printable ASCII characters without spaces",
                "make one with: openssl rand -hex 32",
            ));
        }
        Ok(Secret(text.to_owned()))
    }

    fn text(&self) -> String {
        HIDDEN.to_owned()
    }
}

/// A secret that somebody else gave: that of a store's key. It shows as little as a [`Secret`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential(Secret);

impl Credential {
    /// The text itself, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        self.0.reveal()
    }
}

impl Text for Credential {
    const FORMAT: &'static str = "credential";

    fn parse(text: &str) -> Result<Credential, Fault> {
        let fault = |fault: Fault| match text {
            HIDDEN => fault,
            _ => Fault::new(
                "a store's secret is made of printable ASCII characters without spaces",
                "copy it again from where the store shows it",
            ),
        };
        Secret::parse(text).map(Credential).map_err(fault)
    }

    fn text(&self) -> String {
        self.0.text()
    }
}

written_as_text!(Secret, Credential);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_nowhere_but_where_it_is_asked_for() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?}"), "***");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"***\"");
        assert_eq!(secret.reveal(), "hunter2");
    }

    #[test]
    fn a_url_is_shown_without_its_password() {
        for (url, shown) in [
            ("https://me:hunter2@host:9/x?y", "https://***@host:9/x?y"),
            ("https://hunter2@host", "https://***@host"),
            ("https://me:hun@ter2@host/a@b", "https://***@host/a@b"),
            ("file:///backups/a@b", "file:///backups/a@b"),
            ("no url: a@b", "no url: a@b"),
        ] {
            assert_eq!(without_credentials(url), shown);
        }
    }

    #[test]
    fn only_the_whole_secret_matches() {
        let secret = Secret::new("hunter2");
        assert!(secret.matches("hunter2"));
        for wrong in ["", "hunter", "hunter22", "hunter2hunter2", "Hunter2"] {
            assert!(!secret.matches(wrong), "{wrong}");
        }
        assert!(!Secret::new("").matches("x"));
    }
}
