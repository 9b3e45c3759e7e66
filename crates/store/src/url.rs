//! The URL of a store, as it is told to people: what a URL cannot hold is encoded.

use std::fmt::Write;
use std::path::Path;

/// The URL of a directory, by its absolute path.
pub fn url_of_directory(path: &Path) -> String {
    encoded("file://", path.as_os_str().as_encoded_bytes())
}

/// The URL of a prefix (it may be empty) of a bucket.
pub fn url_of_bucket(bucket: &str, prefix: &str) -> String {
    let slash = if prefix.is_empty() { "" } else { "/" };
    encoded(&format!("s3://{bucket}{slash}"), prefix.as_bytes())
}

fn encoded(before: &str, path: &[u8]) -> String {
    path.iter().fold(before.to_owned(), |mut url, byte| {
        match byte {
            b'%' | b'?' | b'#' | b' ' | 0..=31 | 127.. => {
                let _ = write!(url, "%{byte:02X}");
            }
            byte => url.push(char::from(*byte)),
        }
        url
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_url_cannot_hold_is_encoded() {
        for (path, shown) in [
            ("/backups/notes", "file:///backups/notes"),
            ("/with space/ü%", "file:///with%20space/%C3%BC%25"),
            ("/", "file:///"),
        ] {
            assert_eq!(url_of_directory(Path::new(path)), shown);
        }
        for (prefix, shown) in
            [("", "s3://notes"), ("a/b@2", "s3://notes/a/b@2"), ("a?b#c", "s3://notes/a%3Fb%23c")]
        {
            assert_eq!(url_of_bucket("notes", prefix), shown);
        }
    }
}
