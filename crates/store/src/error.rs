//! What a store answers when it cannot do what it was asked: a kind that decides what happens next, and a cure.

use crate::Key;
use std::fmt;
use std::io;

/// What mends a store that did not answer in the middle, for whoever asks once and ends.
pub const AGAIN: &str = "the same command goes on with what was fetched, when the store answers again";

/// What kind of trouble it is. The kind decides whether trying again helps, and which cure is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// No connection: a wrong address, a network that is down, a server that is not there.
    Unreachable,
    /// No answer in time.
    Timeout,
    /// The certificate is not trusted, or the server does not speak TLS.
    Tls,
    /// Too many requests: slow down.
    Throttled,
    /// The server failed (5xx).
    Server,
    /// The credentials are unknown, or may not do this.
    Denied,
    /// There are no credentials, or they could not be had.
    Credentials,
    /// The clocks of this machine and the server differ by too much.
    Clock,
    /// The bucket, or the directory, is not there.
    NoBucket,
    /// The directory is not there any more, or another one is in its place.
    Gone,
    /// The bucket lies in another region, or behind another endpoint.
    Region,
    /// No room.
    Full,
    /// The disk of a directory store failed, or forbids it.
    Disk,
    /// What was to be written could not be read.
    Content,
    /// An object is larger than anything that belongs there.
    TooLarge,
    /// The store cannot keep an object of this name.
    Name,
    /// The server does not know the request, or does not keep its promise.
    Unsupported,
    /// An answer that is not understood.
    Answer,
}

impl ErrorKind {
    /// All of them, in the order in which they are declared.
    pub const ALL: [ErrorKind; 18] = [
        ErrorKind::Unreachable,
        ErrorKind::Timeout,
        ErrorKind::Tls,
        ErrorKind::Throttled,
        ErrorKind::Server,
        ErrorKind::Denied,
        ErrorKind::Credentials,
        ErrorKind::Clock,
        ErrorKind::NoBucket,
        ErrorKind::Gone,
        ErrorKind::Region,
        ErrorKind::Full,
        ErrorKind::Disk,
        ErrorKind::Content,
        ErrorKind::TooLarge,
        ErrorKind::Name,
        ErrorKind::Unsupported,
        ErrorKind::Answer,
    ];

    /// A stable word for logs and metrics.
    pub fn code(self) -> &'static str {
        match self {
            ErrorKind::Unreachable => "unreachable",
            ErrorKind::Timeout => "timeout",
            ErrorKind::Tls => "tls",
            ErrorKind::Throttled => "throttled",
            ErrorKind::Server => "server_error",
            ErrorKind::Denied => "denied",
            ErrorKind::Credentials => "no_credentials",
            ErrorKind::Clock => "clock_skew",
            ErrorKind::NoBucket => "no_bucket",
            ErrorKind::Gone => "gone",
            ErrorKind::Region => "wrong_region",
            ErrorKind::Full => "full",
            ErrorKind::Disk => "disk",
            ErrorKind::Content => "content",
            ErrorKind::TooLarge => "too_large",
            ErrorKind::Name => "name",
            ErrorKind::Unsupported => "unsupported",
            ErrorKind::Answer => "answer",
        }
    }

    /// Whether the same request may succeed by itself within seconds.
    pub fn is_passing(self) -> bool {
        matches!(self, ErrorKind::Unreachable | ErrorKind::Timeout | ErrorKind::Throttled | ErrorKind::Server)
    }

    /// What mends it.
    pub fn hint(self) -> &'static str {
        match self {
            ErrorKind::Unreachable => {
                "check storage.endpoint and the network; what is lacking is sent by itself"
            }
            ErrorKind::Timeout => "the store is slow or frozen; what is lacking is sent by itself",
            ErrorKind::Tls => {
                "check that storage.endpoint is https, and name the authority's certificate in storage.ca_file or AWS_CA_BUNDLE"
            }
            ErrorKind::Throttled => "the store asks to slow down; what is lacking is sent by itself",
            ErrorKind::Server => "look at the server's own log; what is lacking is sent by itself",
            ErrorKind::Denied => {
                "check storage.access_key_id, its secret, and that it may read, write and delete below the prefix"
            }
            ErrorKind::Credentials => {
                "give storage.access_key_id and storage.secret_access_key, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            }
            ErrorKind::Clock => "set this machine's clock (timedatectl), or the server's",
            ErrorKind::NoBucket => "create it, or name another in storage.url",
            ErrorKind::Gone => {
                "mount the disk, or bring the directory back with all that lay there; what is lacking is sent by itself"
            }
            ErrorKind::Region => "set storage.region, and storage.endpoint, to those of the bucket",
            ErrorKind::Full => {
                "make room in the store, or raise its quota; what is lacking is sent by itself"
            }
            ErrorKind::Disk => "mount the disk, or mend its permissions; what is lacking is sent by itself",
            ErrorKind::Content => "stead db verify names the file that cannot be read",
            ErrorKind::TooLarge => {
                "where the server or a proxy refuses a request of 8 MiB, raise its limit; where an object of that name is \
                 too large, it is not Stead's: name another prefix in storage.url"
            }
            ErrorKind::Name => {
                "give the file a shorter name, without control characters; what is lacking is sent by itself"
            }
            ErrorKind::Unsupported => {
                "use a store that honours If-None-Match and If-Match on PUT, or a directory (file://)"
            }
            ErrorKind::Answer => "check that storage.endpoint is an S3 endpoint",
        }
    }

    /// What mends it for whoever asks once and ends: a command, or a start from a store alone.
    pub fn hint_once(self) -> &'static str {
        match self {
            ErrorKind::Unreachable | ErrorKind::Answer => {
                "check the server's address (AWS_ENDPOINT_URL_S3, --endpoint or storage.endpoint) and the network, then try \
                 again"
            }
            ErrorKind::Timeout | ErrorKind::Throttled | ErrorKind::Server => AGAIN,
            ErrorKind::Denied | ErrorKind::Credentials => {
                "give AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of a key that may do this below the prefix"
            }
            ErrorKind::Region => "set AWS_REGION to the bucket's, and the endpoint to the server's",
            ErrorKind::NoBucket | ErrorKind::Gone => {
                "check the bucket's name in the URL; of a directory, mount its disk"
            }
            ErrorKind::Full => "make room in the store, or raise its quota, then try again",
            ErrorKind::Disk => "mount the disk, or mend its permissions, then try again",
            kind => kind.hint(),
        }
    }

    fn io(self) -> io::ErrorKind {
        match self {
            ErrorKind::Timeout => io::ErrorKind::TimedOut,
            ErrorKind::Denied | ErrorKind::Credentials => io::ErrorKind::PermissionDenied,
            ErrorKind::Full => io::ErrorKind::StorageFull,
            ErrorKind::Unreachable => io::ErrorKind::HostUnreachable,
            _ => io::ErrorKind::Other,
        }
    }
}

/// Why a store did not do what it was asked. For a write: nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct StoreError {
    /// What kind of trouble it is.
    pub kind: ErrorKind,
    /// Which store, without secrets.
    pub store: String,
    /// Which object, if it is about one.
    pub key: Option<Key>,
    /// What the store, or the way to it, said.
    pub reason: String,
}

impl StoreError {
    /// An error about an object, or about the whole store.
    pub fn new(kind: ErrorKind, store: &str, key: Option<&Key>, reason: impl Into<String>) -> StoreError {
        StoreError { kind, store: store.to_owned(), key: key.cloned(), reason: reason.into() }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "{}/{key}: {}", self.store.trim_end_matches('/'), self.reason),
            None => write!(f, "{}: {}", self.store, self.reason),
        }
    }
}

impl From<StoreError> for io::Error {
    fn from(error: StoreError) -> io::Error {
        io::Error::new(error.kind.io(), error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFERENCE: &str = include_str!("../../../docs/reference/stores.md");

    #[test]
    fn the_reference_has_every_kind_with_its_cure() {
        for (index, kind) in ErrorKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
            let row = REFERENCE.lines().find(|line| line.starts_with(&format!("| `{}` |", kind.code())));
            let row = row.unwrap_or_else(|| panic!("{} is not in docs/reference/stores.md", kind.code()));
            assert!(row.contains(kind.hint()), "{}: {}", kind.code(), kind.hint());
        }
    }
}
