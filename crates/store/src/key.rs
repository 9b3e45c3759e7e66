//! The name of an object below a store's root.

use std::fmt;
use std::path::{Path, PathBuf};

/// The most bytes of a key: S3's limit for a whole key is 1,024, and a prefix goes before it.
pub const KEY_BYTES_MAX: usize = 900;

/// Parts of text with `/` between them; none is empty, `.` or `..`, and no byte is zero.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

/// A text that is no key. The caller must choose another name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` cannot name an object: no part may be empty, `.` or `..`, and {KEY_BYTES_MAX} bytes are the limit"
)]
pub struct BadKey(String);

impl Key {
    /// Checks and takes a text.
    pub fn parse(text: &str) -> Result<Key, BadKey> {
        let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
        if text.len() <= KEY_BYTES_MAX && text.split('/').all(plain) {
            return Ok(Key(text.to_owned()));
        }
        Err(BadKey(text.to_owned()))
    }

    /// A name that Stead itself made up.
    pub fn new(text: impl Into<String>) -> Key {
        let text = text.into();
        debug_assert!(Key::parse(&text).is_ok(), "{text}");
        Key(text)
    }

    /// The key of something below this one.
    #[must_use]
    pub fn join(&self, below: &str) -> Key {
        Key::new(format!("{}/{below}", self.0))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last part.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// The file that has this key below a directory.
    pub fn path(&self, root: &Path) -> PathBuf {
        root.join(&self.0)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_parts_make_a_key() {
        for good in ["a", "data/app.db/0000/x.ltx", ".stead/manifest", "ü ber/%40", "a@2"] {
            assert_eq!(Key::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "/a", "a/", "a//b", "a/./b", "..", "a/\0", &"x".repeat(KEY_BYTES_MAX + 1)] {
            assert!(Key::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Key::new("a/b").join("c.ltx").name(), "c.ltx");
    }
}
