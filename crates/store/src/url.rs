//! The URL of a store, parsed once at the edge.

use crate::KEY_BYTES_MAX;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The most bytes of a prefix: with a slash and the longest key behind it, it stays within the 1,024 of S3.
pub const PREFIX_BYTES_MAX: usize = 1024 - 1 - KEY_BYTES_MAX;

/// Where a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// `file:///backups/notes`: a directory, by its absolute path.
    Directory(PathBuf),
    /// `s3://bucket/notes`: a prefix (it may be empty) of a bucket.
    S3 {
        /// The bucket.
        bucket: String,
        /// What every key begins with, without slashes at its ends.
        prefix: String,
    },
}

/// Why a text is no store's URL. The caller must ask for another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadStoreUrl {
    /// A user, a password or a port before the path; it is not repeated, for it may be a secret.
    #[error(
        "a store's URL holds neither credentials nor a port: write `s3://bucket/prefix`, and give storage.endpoint, \
         storage.access_key_id and storage.secret_access_key"
    )]
    Credentials,
    /// The bucket's name cannot be one.
    #[error(
        "`{0}` names no bucket: 3 to 63 of a-z, 0-9, `-` and `.`, a letter or digit first and last, no `..`, no \
         IP address; write `s3://bucket/prefix`"
    )]
    Bucket(String),
    /// `//` within a prefix, or a control character.
    #[error("`{0}`: no part of a prefix may be empty or hold control characters")]
    Prefix(String),
    /// The prefix is too long.
    #[error("`{0}`: a prefix has at most {PREFIX_BYTES_MAX} bytes")]
    PrefixTooLong(String),
    /// `?…` or `#…`.
    #[error("`{0}`: options belong into `storage`, not into the URL; a `?` or `#` of a name is %3F or %23")]
    Options(String),
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
    #[error("`{0}` is no store URL: use `s3://bucket/prefix` or `file:///absolute/path`")]
    Scheme(String),
}

impl StoreUrl {
    /// Checks and takes a URL. `%20` and the like are decoded; a trailing slash is dropped.
    pub fn parse(text: &str) -> Result<StoreUrl, BadStoreUrl> {
        let owned = || text.to_owned();
        let authority = text.split_once("://").map_or("", |(_, rest)| rest.split('/').next().unwrap_or(""));
        if authority.contains(['@', ':']) {
            return Err(BadStoreUrl::Credentials);
        }
        if let Some(rest) = text.strip_prefix("s3://") {
            return parse_s3(text, rest);
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
            StoreUrl::S3 { .. } => None,
        }
    }
}

fn parse_s3(text: &str, rest: &str) -> Result<StoreUrl, BadStoreUrl> {
    let owned = || text.to_owned();
    if rest.contains(['?', '#']) {
        return Err(BadStoreUrl::Options(owned()));
    }
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if !is_bucket(bucket) {
        return Err(BadStoreUrl::Bucket(owned()));
    }
    let prefix = decode(prefix).ok_or_else(|| BadStoreUrl::Encoding(owned()))?;
    let prefix = prefix.strip_suffix('/').unwrap_or(&prefix);
    for part in prefix.split('/').filter(|_| !prefix.is_empty()) {
        match part {
            "." | ".." => return Err(BadStoreUrl::NotPlain(owned())),
            part if part.is_empty() || part.chars().any(char::is_control) => {
                return Err(BadStoreUrl::Prefix(owned()));
            }
            _ => {}
        }
    }
    if prefix.len() > PREFIX_BYTES_MAX {
        return Err(BadStoreUrl::PrefixTooLong(owned()));
    }
    Ok(StoreUrl::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
}

/// The rules of Amazon for general purpose buckets, which every other server keeps within.
fn is_bucket(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    (3..=63).contains(&bytes.len())
        && bytes.iter().all(|byte| plain(*byte) || matches!(byte, b'-' | b'.'))
        && [bytes.first(), bytes.last()].into_iter().flatten().all(|byte| plain(*byte))
        && !name.contains("..")
        && name.parse::<std::net::Ipv4Addr>().is_err()
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
        let path = match self {
            StoreUrl::Directory(path) => {
                f.write_str("file://")?;
                path.as_os_str().as_encoded_bytes()
            }
            StoreUrl::S3 { bucket, prefix } => {
                write!(f, "s3://{bucket}")?;
                if !prefix.is_empty() {
                    f.write_str("/")?;
                }
                prefix.as_bytes()
            }
        };
        for byte in path {
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
    fn a_prefix_of_a_bucket_is_a_store() {
        for (text, bucket, prefix) in [
            ("s3://notes", "notes", ""),
            ("s3://notes/", "notes", ""),
            ("s3://my-notes.example/a/b/", "my-notes.example", "a/b"),
            ("s3://notes/with%20space/%C3%BC%25@2", "notes", "with space/ü%@2"),
        ] {
            let url = StoreUrl::parse(text).unwrap();
            let expected = StoreUrl::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() };
            assert_eq!(url, expected, "{text}");
            assert_eq!(url.directory(), None);
            assert_eq!(StoreUrl::parse(&url.to_string()), Ok(url), "{text}");
        }
    }

    #[test]
    fn credentials_in_a_url_are_refused_and_never_repeated() {
        for text in [
            "s3://AKIAX:s3cr3t@notes/x",
            "s3://AKIAX:s3/cr3t@notes/x",
            "s3://s3cr3t@notes",
            "https://AKIAX:s3cr3t@host/notes",
            "s3://notes:9000/x",
        ] {
            let refused = StoreUrl::parse(text).unwrap_err();
            assert_eq!(refused, BadStoreUrl::Credentials, "{text}");
            assert!(!refused.to_string().contains("cr3t"), "{refused}");
        }
    }

    #[test]
    fn what_cannot_be_a_bucket_or_a_prefix_is_refused() {
        for name in ["", "ab", "Notes", "my_notes", "-notes", "notes.", "a..b", "127.0.0.1", &"x".repeat(64)]
        {
            let text = format!("s3://{name}/x");
            assert!(matches!(StoreUrl::parse(&text), Err(BadStoreUrl::Bucket(_))), "{text}");
        }
        assert!(matches!(StoreUrl::parse("s3://notes//x"), Err(BadStoreUrl::Prefix(_))));
        assert!(matches!(StoreUrl::parse("s3://notes/a%0Ab"), Err(BadStoreUrl::Prefix(_))));
        assert!(matches!(StoreUrl::parse("s3://notes/a/../b"), Err(BadStoreUrl::NotPlain(_))));
        assert!(matches!(StoreUrl::parse("s3://notes/x?region=eu"), Err(BadStoreUrl::Options(_))));
        assert!(matches!(StoreUrl::parse("s3://notes/a%2"), Err(BadStoreUrl::Encoding(_))));
        let long = format!("s3://notes/{}", "x".repeat(PREFIX_BYTES_MAX + 1));
        assert!(matches!(StoreUrl::parse(&long), Err(BadStoreUrl::PrefixTooLong(_))));
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_its_reason() {
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
