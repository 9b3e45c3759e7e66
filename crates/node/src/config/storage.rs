//! Where the history goes beside this machine: a directory or an object store, and how that is reached.
//!
//! Keys that only an `s3://` store has are refused beside any other, but for their defaults, which change nothing: what
//! `GET /config` shows can be posted again. Nothing here is ever shown that may be a secret, not even in an error.

use super::limits;
use super::names::FilePath;
use super::problem::Problem;
use super::secret::Credential;
use super::text::{Fault, Period, Text, written_as_text};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::Path;
use store::S3Options;

mod url;

pub use url::{Endpoint, StoreUrl};

/// Where the history goes beside this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Storage {
    /// The store, `s3://bucket/prefix` or `file:///absolute/path`; without one, history stays on this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<StoreUrl>,
    /// The S3 server, `https://host:port`; Amazon's of the region by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Endpoint>,
    /// The region of the bucket; else `AWS_REGION`, else us-east-1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<Word>,
    /// The key's name; else the AWS environment, a profile, web identity or the machine's role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<AccessKeyId>,
    /// The key's secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_access_key: Option<Credential>,
    /// The token of a key that is valid for a time only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_token: Option<Credential>,
    /// The profile of `~/.aws/credentials` that has the key; else `AWS_PROFILE`, else default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<Word>,
    /// Whether the bucket is in the path rather than in the host's name; by default where an endpoint is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_style: Option<bool>,
    /// Certificates of authorities, PEM, trusted besides the system's, relative to the home or absolute; else AWS_CA_BUNDLE.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<FilePath>,
    /// How many requests may be under way at once.
    #[schemars(range(min = 1, max = limits::CONNECTIONS_MAX))]
    pub connections: u32,
    /// How long a connection may take to be made.
    #[schemars(extend(
        "x-min-ms" = limits::ms(limits::CONNECT_TIMEOUT_MIN), "x-max-ms" = limits::ms(limits::CONNECT_TIMEOUT_MAX)
    ))]
    pub connect_timeout: Period,
    /// How long one request may take, to the last byte of its answer.
    #[schemars(extend(
        "x-min-ms" = limits::ms(limits::REQUEST_TIMEOUT_MIN), "x-max-ms" = limits::ms(limits::REQUEST_TIMEOUT_MAX)
    ))]
    pub request_timeout: Period,
    /// The most that may be unsealed and unsent; 0 seals at once.
    #[schemars(extend("x-max-ms" = limits::ms(limits::SYNC_INTERVAL_MAX)))]
    pub sync_interval: Period,
    /// How long a clean stop goes on sending what the store lacks.
    #[schemars(extend("x-max-ms" = limits::ms(limits::STORE_STOP_TIMEOUT_MAX)))]
    pub stop_timeout: Period,
}

impl Default for Storage {
    fn default() -> Storage {
        let reach = S3Options::default();
        Storage {
            url: None,
            endpoint: None,
            region: None,
            access_key_id: None,
            secret_access_key: None,
            session_token: None,
            profile: None,
            path_style: None,
            ca_file: None,
            connections: u32::try_from(reach.connections).unwrap_or(limits::CONNECTIONS_MAX),
            connect_timeout: Period(reach.connect_timeout),
            request_timeout: Period(reach.request_timeout),
            sync_interval: Period(limits::SYNC_INTERVAL),
            stop_timeout: Period(limits::STORE_STOP_TIMEOUT),
        }
    }
}

impl Storage {
    /// How an `s3://` store is reached; secrets included.
    pub fn s3_options(&self, home: &Path) -> S3Options {
        let secret = |secret: &Option<Credential>| secret.as_ref().map(|secret| secret.reveal().to_owned());
        S3Options {
            endpoint: self.endpoint.as_ref().map(|endpoint| endpoint.as_str().to_owned()),
            region: self.region.as_ref().map(|region| region.as_str().to_owned()),
            access_key_id: self.access_key_id.as_ref().map(|id| id.as_str().to_owned()),
            secret_access_key: secret(&self.secret_access_key),
            session_token: secret(&self.session_token),
            profile: self.profile.as_ref().map(|profile| profile.as_str().to_owned()),
            path_style: self.path_style,
            ca_file: self.ca_file.as_ref().map(|file| home.join(&file.0)),
            connections: usize::try_from(self.connections).unwrap_or(usize::MAX),
            connect_timeout: self.connect_timeout.0,
            request_timeout: self.request_timeout.0,
        }
    }

    /// The keys that only an `s3://` store has, as far as they say something.
    fn of_s3(&self) -> Vec<&'static str> {
        let default = Storage::default();
        let keys = [
            ("endpoint", self.endpoint.is_some()),
            ("region", self.region.is_some()),
            ("access_key_id", self.access_key_id.is_some()),
            ("secret_access_key", self.secret_access_key.is_some()),
            ("session_token", self.session_token.is_some()),
            ("profile", self.profile.is_some()),
            ("path_style", self.path_style.is_some()),
            ("ca_file", self.ca_file.is_some()),
            ("connections", self.connections != default.connections),
            ("connect_timeout", self.connect_timeout != default.connect_timeout),
            ("request_timeout", self.request_timeout != default.request_timeout),
        ];
        keys.into_iter().filter(|(_, said)| *said).map(|(key, _)| key).collect()
    }

    /// What single keys cannot show.
    pub(super) fn contradictions(&self) -> Vec<Problem> {
        if !matches!(self.url, Some(StoreUrl::S3 { .. })) {
            let (what, hint) = match self.url {
                None => ("needs a store", "add `url: s3://bucket/prefix`"),
                Some(_) => ("is for an s3:// store only", "leave it out, or write `url: s3://bucket/prefix`"),
            };
            let problem =
                |key: &str| Problem::new(format!("storage.{key}"), format!("`storage.{key}` {what}"), hint);
            return self.of_s3().into_iter().map(problem).collect();
        }
        let mut problems = Vec::new();
        let mut needs = |key: &str, given: bool, other: &str| {
            if given {
                problems.push(Problem::new(
                    format!("storage.{key}"),
                    format!("`storage.{key}` has no `storage.{other}` beside it"),
                    format!("add `{other}:`, or leave both out: then the AWS environment counts"),
                ));
            }
        };
        let (id, secret) = (self.access_key_id.is_some(), self.secret_access_key.is_some());
        needs("access_key_id", id && !secret, "secret_access_key");
        needs("secret_access_key", secret && !id, "access_key_id");
        needs("session_token", self.session_token.is_some() && !id && !secret, "access_key_id");
        if self.profile.is_some() && id {
            problems.push(Problem::new(
                "storage.profile",
                "there is a profile and a key too",
                "leave `profile` out, or `access_key_id` and `secret_access_key`",
            ));
        }
        problems
    }
}

fn is_word(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-+=@:".contains(&b);
    !text.is_empty() && text.len() <= limits::WORD_BYTES_MAX && text.bytes().all(plain)
}

/// A name that somebody else gave: a region, a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word(String);

impl Word {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Text for Word {
    const FORMAT: &'static str = "word";

    fn parse(text: &str) -> Result<Word, Fault> {
        if is_word(text) {
            return Ok(Word(text.to_owned()));
        }
        let hint = "use letters, digits and `. _ - + = @ :`, without spaces";
        Err(Fault::new(format!("`{text}` is no such name"), hint))
    }

    fn text(&self) -> String {
        self.0.clone()
    }
}

/// The name of a key. What is no such name may be its secret, so that it is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessKeyId(String);

impl AccessKeyId {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for AccessKeyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(super::HIDDEN)
    }
}

impl Text for AccessKeyId {
    const FORMAT: &'static str = "access-key-id";

    fn parse(text: &str) -> Result<AccessKeyId, Fault> {
        if is_word(text) {
            return Ok(AccessKeyId(text.to_owned()));
        }
        let hint = "did the key's name and its secret change places? a name has no spaces and no slashes";
        Err(Fault::new("this is no name of a key", hint))
    }

    fn text(&self) -> String {
        self.0.clone()
    }
}

written_as_text!(Word, AccessKeyId);

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn a_key_in_the_wrong_place_is_not_shown() {
        let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        let fault = AccessKeyId::parse(secret).unwrap_err();
        assert!(!fault.to_string().contains(secret) && fault.hint.contains("change places"), "{fault:?}");
        assert_eq!(format!("{:?}", AccessKeyId::parse("AKIA123").unwrap()), "***");
    }

    #[test]
    fn what_is_configured_is_how_the_store_is_reached() {
        let storage: Storage = serde_json::from_value(serde_json::json!({
            "url": "s3://bucket/p", "endpoint": "http://127.0.0.1:9000/", "region": "eu-1", "access_key_id": "AKIA",
            "secret_access_key": "hunter2", "session_token": "tok", "path_style": false, "ca_file": "ca.pem",
            "connections": 3, "connect_timeout": "1s", "request_timeout": "7s",
        }))
        .unwrap();
        let options = storage.s3_options(Path::new("/home"));
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(
            options,
            S3Options {
                endpoint: text("http://127.0.0.1:9000"),
                region: text("eu-1"),
                access_key_id: text("AKIA"),
                secret_access_key: text("hunter2"),
                session_token: text("tok"),
                profile: None,
                path_style: Some(false),
                ca_file: Some(PathBuf::from("/home/ca.pem")),
                connections: 3,
                connect_timeout: std::time::Duration::from_secs(1),
                request_timeout: std::time::Duration::from_secs(7),
            }
        );
        assert_eq!(Storage::default().s3_options(Path::new("/")), S3Options::default());
    }
}
