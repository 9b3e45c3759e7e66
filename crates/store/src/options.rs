//! How an S3 store is reached, as a configuration says it. What is absent comes from the environment.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Requests that are under way at once, at most.
pub const CONNECTIONS: usize = 8;
/// How long a connection may take to be made.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one request may take, from its first byte to the last of its answer.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// How an S3 store is reached.
#[derive(Clone, PartialEq, Eq)]
pub struct S3Options {
    /// The server, as a URL; absent: Amazon's of the region.
    pub endpoint: Option<String>,
    /// The region; absent: `AWS_REGION`, else `us-east-1`.
    pub region: Option<String>,
    /// The key pair; absent: the AWS environment, its profile, web identity, the instance's role.
    pub access_key_id: Option<String>,
    /// Its secret.
    pub secret_access_key: Option<String>,
    /// The token of temporary credentials.
    pub session_token: Option<String>,
    /// The profile of `~/.aws/credentials` that is used; absent: `AWS_PROFILE`, else `default`.
    pub profile: Option<String>,
    /// Whether the bucket is part of the path rather than of the host; absent: it is, where an endpoint is given.
    pub path_style: Option<bool>,
    /// Certificates of authorities that are trusted besides the system's, PEM; absent: those of `AWS_CA_BUNDLE`.
    pub ca_file: Option<PathBuf>,
    /// Requests that are under way at once, at most.
    pub connections: usize,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How long nothing may move of a request, there or back.
    pub request_timeout: Duration,
}

impl Default for S3Options {
    fn default() -> S3Options {
        S3Options {
            endpoint: None,
            region: None,
            access_key_id: None,
            secret_access_key: None,
            session_token: None,
            profile: None,
            path_style: None,
            ca_file: None,
            connections: CONNECTIONS,
            connect_timeout: CONNECT_TIMEOUT,
            request_timeout: REQUEST_TIMEOUT,
        }
    }
}

/// Without secrets.
impl fmt::Debug for S3Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Options")
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("profile", &self.profile)
            .field("path_style", &self.path_style)
            .field("ca_file", &self.ca_file)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}
