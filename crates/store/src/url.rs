//! The URL of a store, parsed once at the edge.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// `file:///backups/notes`: a directory, by its absolute path.
    Directory(PathBuf),
}

/// Why a text is no store's URL. The caller must ask for another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadStoreUrl {
    /// An object store, which this version cannot reach yet.
    #[error("`{0}`: object stores are not in this version; use `file:///absolute/path`")]
    NotYet(String),
    /// `file://host/path` or a relative path.
    #[error(
        "`{0}` names no absolute path on this machine: write `file:///absolute/path`, with three slashes"
    )]
    NotAbsolute(String),
    /// `.` and `..` would make two names of one place.
    #[error("`{0}` has a `.` or `..` part: write the path out")]
    NotPlain(String),
    /// A `%` that no two hex digits follow, or a byte that cannot stand in a path.
    #[error("`{0}` is not well encoded: `%` must be followed by two hex digits, and not by 00")]
    Encoding(String),
    /// Neither `file://` nor `s3://`.
    #[error("`{0}` is no store URL: use `file:///absolute/path`")]
    Scheme(String),
}

impl StoreUrl {
    /// Checks and takes a URL. `%20` and the like are decoded; a trailing slash is dropped.
    pub fn parse(text: &str) -> Result<StoreUrl, BadStoreUrl> {
        let owned = || text.to_owned();
        if text.starts_with("s3://") {
            return Err(BadStoreUrl::NotYet(owned()));
        }
        let Some(rest) = text.strip_prefix("file://") else {
            return Err(BadStoreUrl::Scheme(owned()));
        };
        // `file://localhost/x` is the other spelling that RFC 8089 knows.
        let path = rest.strip_prefix("localhost").unwrap_or(rest);
        if !path.starts_with('/') {
            return Err(BadStoreUrl::NotAbsolute(owned()));
        }
        let path = decode(path).ok_or_else(|| BadStoreUrl::Encoding(owned()))?;
        if path.split('/').any(|part| part == "." || part == "..") {
            return Err(BadStoreUrl::NotPlain(owned()));
        }
        Ok(StoreUrl::Directory(path.split('/').filter(|part| !part.is_empty()).fold(
            PathBuf::from("/"),
            |mut whole, part| {
                whole.push(part);
                whole
            },
        )))
    }

    /// The directory, where it is one.
    pub fn directory(&self) -> Option<&Path> {
        match self {
            StoreUrl::Directory(path) => Some(path),
        }
    }
}

/// Percent-decoding per RFC 3986; `None` where it is malformed, not UTF-8, or holds a zero byte.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = rest.get(..2).filter(|two| two.iter().all(u8::is_ascii_hexdigit))?;
        let value = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        bytes.push(value);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).ok().filter(|path| !path.contains('\0'))
}

impl FromStr for StoreUrl {
    type Err = BadStoreUrl;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        StoreUrl::parse(text)
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StoreUrl::Directory(path) = self;
        f.write_str("file://")?;
        for byte in path.as_os_str().as_encoded_bytes() {
            match byte {
                b'%' | b'?' | b'#' | b' ' | 0..=31 | 127.. => write!(f, "%{byte:02X}")?,
                byte => write!(f, "{}", char::from(*byte))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_named_by_its_absolute_path() {
        for (text, path) in [
            ("file:///backups/notes", "/backups/notes"),
            ("file:///backups//notes/", "/backups/notes"),
            ("file://localhost/backups", "/backups"),
            ("file:///with%20space/%C3%BC%25", "/with space/ü%"),
            ("file:///", "/"),
        ] {
            let url = StoreUrl::parse(text).unwrap();
            assert_eq!(url.directory(), Some(Path::new(path)), "{text}");
            assert_eq!(StoreUrl::parse(&url.to_string()), Ok(url), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_its_reason() {
        assert!(matches!(StoreUrl::parse("s3://bucket/prefix"), Err(BadStoreUrl::NotYet(_))));
        assert!(matches!(StoreUrl::parse("file://host/x"), Err(BadStoreUrl::NotAbsolute(_))));
        assert!(matches!(StoreUrl::parse("file://x"), Err(BadStoreUrl::NotAbsolute(_))));
        assert!(matches!(StoreUrl::parse("file:///a/../b"), Err(BadStoreUrl::NotPlain(_))));
        assert!(matches!(StoreUrl::parse("file:///a/%2e%2e/b"), Err(BadStoreUrl::NotPlain(_))));
        assert!(matches!(StoreUrl::parse("file:///a%2"), Err(BadStoreUrl::Encoding(_))));
        assert!(matches!(StoreUrl::parse("file:///a%00"), Err(BadStoreUrl::Encoding(_))));
        assert!(matches!(StoreUrl::parse("file:///a%+1"), Err(BadStoreUrl::Encoding(_))));
        assert!(matches!(StoreUrl::parse("gs://bucket"), Err(BadStoreUrl::Scheme(_))));
        assert!(matches!(StoreUrl::parse("/backups"), Err(BadStoreUrl::Scheme(_))));
    }
}
