//! Where credentials come from, and the few keys of a profile that matter: the first source that has any is used.
//!
//! | order | source |
//! |---|---|
//! | 1 | `storage.access_key_id` and its secret |
//! | 2 | `storage.profile`, of the AWS files |
//! | 3 | `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN` |
//! | 4 | `AWS_PROFILE`, else the profile `default`, of the AWS files |
//! | 5 | a web identity (`AWS_WEB_IDENTITY_TOKEN_FILE`, `AWS_ROLE_ARN`) |
//! | 6 | the container's (ECS, EKS) |
//! | 7 | the instance's role |
//!
//! What is found in 1 to 4 is read once, when the store is opened; the rest is fetched when it is needed, and renewed.

use crate::S3Options;
use base::disk::{self, Disk};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;

/// Bytes of a file of profiles.
const PROFILES_BYTES_MAX: u64 = 1 << 20;

/// Variables of the environment.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What signs requests.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credentials {
    Keys {
        id: String,
        secret: String,
        token: Option<String>,
    },
    /// The client library fetches them: web identity, container, instance.
    Fetched(Vec<(&'static str, String)>),
}

/// Without secrets.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Credentials::Keys { .. } => f.write_str("Keys"),
            Credentials::Fetched(_) => f.write_str("Fetched"),
        }
    }
}

/// A profile of the AWS files.
#[derive(Default)]
pub(super) struct Profile {
    keys: BTreeMap<String, String>,
}

impl Profile {
    pub fn get(&self, key: &str) -> Option<&str> {
        self.keys.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn credentials(&self) -> Option<Credentials> {
        Some(Credentials::Keys {
            id: self.get("aws_access_key_id")?.to_owned(),
            secret: self.get("aws_secret_access_key")?.to_owned(),
            token: self.get("aws_session_token").map(str::to_owned),
        })
    }
}

/// A variable that is there and not empty.
pub(super) fn variable(environment: Environment<'_>, name: &str) -> Option<String> {
    environment(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

/// The profile that is asked for, of `~/.aws/config` and `~/.aws/credentials`; the second goes before the first.
///
/// Errors are texts without secrets. A profile that nobody named need not exist.
pub(super) fn profile(
    disk: &dyn Disk,
    options: &S3Options,
    environment: Environment<'_>,
) -> Result<Profile, String> {
    let named = options.profile.clone().or_else(|| variable(environment, "AWS_PROFILE"));
    let name = named.as_deref().unwrap_or("default");
    let home = variable(environment, "HOME").map(|home| PathBuf::from(home).join(".aws"));
    let file = |name: &str, file: &str| {
        let named = variable(environment, name).map(PathBuf::from);
        named.or_else(|| home.as_ref().map(|home| home.join(file)))
    };
    let files = [
        (file("AWS_CONFIG_FILE", "config"), true),
        (file("AWS_SHARED_CREDENTIALS_FILE", "credentials"), false),
    ];
    let mut found = None;
    for (path, is_config) in files {
        let Some(path) = path else { continue };
        let text = match disk::read(disk, &path, PROFILES_BYTES_MAX) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            // Whoever cannot look into a home that is not theirs has no profile there.
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    || (named.is_none() && error.kind() == io::ErrorKind::PermissionDenied) =>
            {
                continue;
            }
            Err(error) => return Err(format!("{} cannot be read: {error}", path.display())),
        };
        if let Some(keys) = section(&text, name, is_config) {
            found.get_or_insert_with(Profile::default).keys.extend(keys);
        }
    }
    match (found, named) {
        (Some(profile), _) => Ok(profile),
        (None, None) => Ok(Profile::default()),
        (None, Some(name)) => Err(format!("the profile `{name}` is in none of the AWS files")),
    }
}

/// The keys of a section; nested ones (indented, below a key without value) are not among them.
fn section(text: &str, name: &str, is_config: bool) -> Option<BTreeMap<String, String>> {
    let mut found: Option<BTreeMap<String, String>> = None;
    let mut within = false;
    for line in text.lines() {
        let nested = line.starts_with([' ', '\t']);
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(title) =
            line.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(title, _)| title)
        {
            let title = title.trim();
            let title = match title.strip_prefix("profile").filter(|_| is_config) {
                Some(rest) if rest.starts_with([' ', '\t']) => rest.trim(),
                _ => title,
            };
            within = title == name;
            if within {
                found.get_or_insert_default();
            }
            continue;
        }
        if let (true, false, Some((key, value))) = (within, nested, line.split_once('=')) {
            // A comment needs white space before it: secrets hold such characters.
            let value = value.split_once(" #").map_or(value, |(value, _)| value);
            let value = value.split_once(" ;").map_or(value, |(value, _)| value);
            found.get_or_insert_default().insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    found
}

/// The first source that has credentials. Errors are texts without secrets.
pub(super) fn find(
    options: &S3Options,
    profile: &Profile,
    environment: Environment<'_>,
) -> Result<Credentials, String> {
    let of = |name: &str| variable(environment, name);
    match (&options.access_key_id, &options.secret_access_key) {
        (Some(id), Some(secret)) => {
            let token = options.session_token.clone();
            return Ok(Credentials::Keys { id: id.clone(), secret: secret.clone(), token });
        }
        (Some(_), None) => return Err("there is an access key, but no secret".to_owned()),
        (None, Some(_)) => return Err("there is a secret, but no access key".to_owned()),
        (None, None) => {}
    }
    let asked_for = |name: &str| {
        profile.credentials().ok_or_else(|| {
            format!(
                "the profile `{name}` has no access key of its own; roles, SSO and processes are not followed"
            )
        })
    };
    if let Some(name) = &options.profile {
        return asked_for(name);
    }
    match (of("AWS_ACCESS_KEY_ID"), of("AWS_SECRET_ACCESS_KEY")) {
        (Some(id), Some(secret)) => {
            return Ok(Credentials::Keys { id, secret, token: of("AWS_SESSION_TOKEN") });
        }
        (Some(_), None) => return Err("there is AWS_ACCESS_KEY_ID, but no AWS_SECRET_ACCESS_KEY".to_owned()),
        (None, Some(_)) => return Err("there is AWS_SECRET_ACCESS_KEY, but no AWS_ACCESS_KEY_ID".to_owned()),
        (None, None) => {}
    }
    if let Some(name) = of("AWS_PROFILE") {
        return asked_for(&name);
    }
    if let Some(keys) = profile.credentials() {
        return Ok(keys);
    }
    fetched(&of).ok_or_else(|| {
        "there are none: none configured, none in the environment or its profile, and AWS_EC2_METADATA_DISABLED is set"
            .to_owned()
    })
}

/// How the client library fetches credentials, in its own words.
fn fetched(of: &dyn Fn(&str) -> Option<String>) -> Option<Credentials> {
    let settings = |names: &[(&'static str, &'static str)]| {
        let found = names.iter().filter_map(|(name, setting)| Some((*setting, of(name)?)));
        Credentials::Fetched(found.collect())
    };
    if of("AWS_WEB_IDENTITY_TOKEN_FILE").is_some() && of("AWS_ROLE_ARN").is_some() {
        return Some(settings(&[
            ("AWS_WEB_IDENTITY_TOKEN_FILE", "aws_web_identity_token_file"),
            ("AWS_ROLE_ARN", "aws_role_arn"),
            ("AWS_ROLE_SESSION_NAME", "aws_role_session_name"),
            ("AWS_ENDPOINT_URL_STS", "aws_endpoint_url_sts"),
        ]));
    }
    if of("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").is_some() {
        return Some(settings(&[(
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
            "aws_container_credentials_relative_uri",
        )]));
    }
    if of("AWS_CONTAINER_CREDENTIALS_FULL_URI").is_some()
        && of("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE").is_some()
    {
        return Some(settings(&[
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "aws_container_credentials_full_uri"),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "aws_container_authorization_token_file"),
        ]));
    }
    if of("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return None;
    }
    Some(settings(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", "aws_metadata_endpoint")]))
}

#[cfg(test)]
mod tests;
