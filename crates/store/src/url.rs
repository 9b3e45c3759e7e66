//! The URL of a store, as it is told to people. It is parsed where the configuration is read.

use std::fmt;
use std::path::PathBuf;

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
    fn what_a_url_cannot_hold_is_encoded() {
        let s3 = |prefix: &str| StoreUrl::S3 { bucket: "notes".to_owned(), prefix: prefix.to_owned() };
        for (url, shown) in [
            (StoreUrl::Directory("/backups/notes".into()), "file:///backups/notes"),
            (StoreUrl::Directory("/with space/ü%".into()), "file:///with%20space/%C3%BC%25"),
            (StoreUrl::Directory("/".into()), "file:///"),
            (s3(""), "s3://notes"),
            (s3("a/b@2"), "s3://notes/a/b@2"),
            (s3("a?b#c"), "s3://notes/a%3Fb%23c"),
        ] {
            assert_eq!(url.to_string(), shown);
        }
    }
}
