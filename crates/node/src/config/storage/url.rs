//! Where a store is: its own URL, and that of the server that has it.
//!
//! Each is written in one way only. What is refused is named without what may be a secret in it.

use crate::config::limits;
use crate::config::secret::without_credentials;
use crate::config::text::{Fault, Text, written_as_text};
use base::Disk;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use store::{Directory, Objects, S3, S3Options, StoreError};

/// A store: a directory, or a prefix in a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// `file:///absolute/path`.
    Directory(PathBuf),
    /// `s3://bucket/prefix`.
    S3 {
        /// The bucket.
        bucket: String,
        /// What all keys begin with, without a slash at either end; it may be empty.
        prefix: String,
    },
}

impl StoreUrl {
    /// Reads a store's URL as a configuration or the command line has it.
    pub fn parse(text: &str) -> Result<StoreUrl, Fault> {
        <StoreUrl as Text>::parse(text)
    }

    /// The directory that it names, where it is one.
    pub fn directory(&self) -> Option<&Path> {
        match self {
            StoreUrl::Directory(path) => Some(path),
            StoreUrl::S3 { .. } => None,
        }
    }

    /// The store. Nothing is asked of it yet; what `options` lack of a bucket comes from the environment.
    pub fn open(&self, options: &S3Options, disk: Arc<dyn Disk>) -> Result<Arc<dyn Objects>, StoreError> {
        Ok(match self {
            StoreUrl::Directory(root) => Arc::new(Directory::new(disk, root.clone())),
            StoreUrl::S3 { bucket, prefix } => {
                let environment = |name: &str| std::env::var(name).ok();
                Arc::new(S3::new(bucket, prefix, options, &*disk, &environment)?)
            }
        })
    }
}

/// As the store itself is told of.
impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&match self {
            StoreUrl::Directory(path) => store::url_of_directory(path),
            StoreUrl::S3 { bucket, prefix } => store::url_of_bucket(bucket, prefix),
        })
    }
}

/// Whether the parts of a path, or of a prefix, say one place in one way.
fn is_plain(path: &str) -> bool {
    let part = |part: &str| !matches!(part, "" | "." | "..");
    path.split('/').all(part) && !path.contains(['%', '?', '#', '\\']) && !path.contains(char::is_control)
}

/// Amazon's rules, which every other server keeps within.
fn is_bucket(name: &str) -> bool {
    let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    (limits::BUCKET_BYTES_MIN..=limits::BUCKET_BYTES_MAX).contains(&bytes.len())
        && bytes.iter().all(|byte| plain(byte) || matches!(byte, b'-' | b'.'))
        && bytes.first().is_some_and(plain)
        && bytes.last().is_some_and(plain)
        && !name.contains("..")
        && name.parse::<std::net::Ipv4Addr>().is_err()
}

fn parse_s3(rest: &str, shown: &str) -> Result<StoreUrl, Fault> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    // Neither is repeated: it may be a secret.
    if bucket.contains(['@', ':']) {
        let hint =
            "write s3://bucket/prefix; `endpoint`, `access_key_id` and `secret_access_key` have the rest";
        return Err(Fault::new("the URL of a store holds neither credentials nor a port", hint));
    }
    if rest.contains('?') {
        let hint = "write s3://bucket/prefix, and the rest as `endpoint`, `region` and the other keys";
        return Err(Fault::new("the URL of a store holds no parameters", hint));
    }
    if !is_bucket(bucket) {
        let hint = "a bucket is 3 to 63 of a-z, 0-9, `.` and `-`, a letter or digit at both ends: s3://bucket/prefix";
        return Err(Fault::new(format!("`{shown}` names no bucket"), hint));
    }
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    if !prefix.is_empty() && !is_plain(prefix) {
        let hint = "write the prefix plainly, without empty parts, `.`, `..`, `%`, `?` and `#`";
        return Err(Fault::new(format!("`{shown}` names no prefix plainly"), hint));
    }
    if prefix.len() > limits::PREFIX_BYTES_MAX {
        let message = format!("the prefix of `{shown}` is too long");
        return Err(Fault::new(message, format!("use {} bytes at most", limits::PREFIX_BYTES_MAX)));
    }
    Ok(StoreUrl::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
}

impl Text for StoreUrl {
    const FORMAT: &'static str = "store-url";

    fn parse(text: &str) -> Result<StoreUrl, Fault> {
        let shown = without_credentials(text);
        if let Some(rest) = text.strip_prefix("s3://") {
            return parse_s3(rest, &shown);
        }
        let hint = "write s3://bucket/prefix, or a directory's absolute path: file:///backups/notes";
        let Some(path) = text.strip_prefix("file://") else {
            return Err(Fault::new(format!("`{shown}` is no URL of a store"), hint));
        };
        if !path.starts_with('/') {
            return Err(Fault::new(format!("the path in `{shown}` is not absolute"), hint));
        }
        let clean = path.split('/').all(|part| part != "." && part != "..");
        if !clean || path.contains(['%', '?', '#', '\0']) || path.trim_matches('/').is_empty() {
            return Err(Fault::new(format!("`{shown}` names no directory plainly"), hint));
        }
        Ok(StoreUrl::Directory(PathBuf::from(format!("/{}", path.trim_matches('/')))))
    }

    fn text(&self) -> String {
        match self {
            StoreUrl::Directory(path) => format!("file://{}", path.display()),
            StoreUrl::S3 { bucket, prefix } if prefix.is_empty() => format!("s3://{bucket}"),
            StoreUrl::S3 { bucket, prefix } => format!("s3://{bucket}/{prefix}"),
        }
    }
}

/// An S3 server: scheme, host, perhaps a port and a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(String);

impl Endpoint {
    /// The URL, without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Text for Endpoint {
    const FORMAT: &'static str = "endpoint";

    fn parse(text: &str) -> Result<Endpoint, Fault> {
        let fault = || {
            let message = format!("`{}` is no URL of a server", without_credentials(text));
            Fault::new(message, "write https://host, or http://host:port, without a user and a bucket")
        };
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let rest = rest.ok_or_else(fault)?;
        let (authority, path) =
            rest.trim_end_matches('/').split_once('/').unwrap_or((rest.trim_end_matches('/'), ""));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (authority, None),
        };
        let host_is_good = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                !host.is_empty()
                    && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
            }
        };
        let port_is_good = port.is_none_or(|port| {
            port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        let path_is_good = path.is_empty() || (is_plain(path) && path.bytes().all(|b| b.is_ascii_graphic()));
        if host_is_good && port_is_good && path_is_good {
            return Ok(Endpoint(text.trim_end_matches('/').to_owned()));
        }
        Err(fault())
    }

    fn text(&self) -> String {
        self.0.clone()
    }
}

written_as_text!(StoreUrl, Endpoint);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_a_directory_or_a_prefix_in_a_bucket() {
        for (text, written) in [
            ("file:///backups/notes/", "file:///backups/notes"),
            ("s3://bucket/prefix", "s3://bucket/prefix"),
            ("s3://bucket", "s3://bucket"),
            ("s3://bucket/", "s3://bucket"),
            ("s3://my.bucket-1/a/b c/ü/", "s3://my.bucket-1/a/b c/ü"),
        ] {
            let url = StoreUrl::parse(text).unwrap();
            assert_eq!(url.text(), written);
            assert_eq!(StoreUrl::parse(written), Ok(url));
        }
        let url = StoreUrl::parse("s3://bucket/a/b").unwrap();
        assert_eq!(url, StoreUrl::S3 { bucket: "bucket".to_owned(), prefix: "a/b".to_owned() });
        assert_eq!(url.directory(), None);
    }

    #[test]
    fn what_is_no_store_says_why() {
        for (text, message) in [
            ("s3://", "`s3://` names no bucket"),
            ("s3:///prefix", "`s3:///prefix` names no bucket"),
            ("s3://b/p", "`s3://b/p` names no bucket"),
            ("s3://buck et/p", "`s3://buck et/p` names no bucket"),
            ("s3://-bucket", "`s3://-bucket` names no bucket"),
            ("s3://Bucket", "`s3://Bucket` names no bucket"),
            ("s3://10.0.0.1/p", "`s3://10.0.0.1/p` names no bucket"),
            ("s3://a..b/p", "`s3://a..b/p` names no bucket"),
            ("s3://bucket:9000/p", "the URL of a store holds neither credentials nor a port"),
            ("s3://id:hunter2@bucket/p", "the URL of a store holds neither credentials nor a port"),
            ("s3://id:hunter2/p", "the URL of a store holds neither credentials nor a port"),
            ("s3://bucket/p?secret=hunter2", "the URL of a store holds no parameters"),
            ("s3://bucket//p", "`s3://bucket//p` names no prefix plainly"),
            ("s3://bucket/a/../b", "`s3://bucket/a/../b` names no prefix plainly"),
            ("s3://bucket/a%20b", "`s3://bucket/a%20b` names no prefix plainly"),
            ("gs://bucket", "`gs://bucket` is no URL of a store"),
        ] {
            assert_eq!(StoreUrl::parse(text).unwrap_err().message, message);
        }
        let long = "x".repeat(limits::PREFIX_BYTES_MAX + 1);
        assert!(StoreUrl::parse(&format!("s3://bucket/{long}")).unwrap_err().message.contains("too long"));
        assert!(StoreUrl::parse(&format!("s3://bucket/{}", &long[1..])).is_ok());
        assert!(StoreUrl::parse(&format!("s3://{}", "x".repeat(limits::BUCKET_BYTES_MAX + 1))).is_err());
    }

    #[test]
    fn an_endpoint_is_a_server() {
        for (text, written) in [
            ("http://127.0.0.1:9000", "http://127.0.0.1:9000"),
            ("https://s3.example.org/", "https://s3.example.org"),
            ("https://[::1]:9000", "https://[::1]:9000"),
            ("https://x.example.org/storage/v1/s3", "https://x.example.org/storage/v1/s3"),
        ] {
            assert_eq!(Endpoint::parse(text).unwrap().as_str(), written);
        }
        for bad in [
            "",
            "minio:9000",
            "ftp://x",
            "http://",
            "http://:9000",
            "http://x:0",
            "http://x:port",
            "http://id:hunter2@x",
            "https://x/?a=b",
            "https://x/a b",
            "https://x//a",
            "https://[::1",
        ] {
            let fault = Endpoint::parse(bad).unwrap_err();
            assert!(!fault.message.contains("hunter2"), "{fault}");
        }
    }
}
