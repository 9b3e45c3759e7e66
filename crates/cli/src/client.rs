//! Talking to a node: over the socket of its home, or over TCP.

use crate::args::Global;
use crate::exit::Exit;
use crate::failure::Failure;
use node::config::{Problem, Secret, without_credentials};
use reqwest::{Method, Response, StatusCode};
use rustix::fs::{CWD, Mode, OFlags};
use serde_json::Value;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where a node listens that nothing else is said of.
const DEFAULT_NODE: &str = "http://127.0.0.1:8080";
/// How long a connection may take; a node on the same machine answers at once.
const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// How long an answer that is only read may take; what a node does for it takes milliseconds.
const READ_WAIT: Duration = Duration::from_secs(15);

/// A node that can be asked.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    /// What people call it.
    place: String,
    token: Option<Secret>,
    /// Keeps the way to the socket short; see [`socket`].
    _directory: Option<OwnedFd>,
}

impl Client {
    /// Finds the node that the command line means.
    pub fn find(global: &Global) -> Result<Client, Failure> {
        let graphic = |token: &Secret| token.reveal().chars().all(|c| c.is_ascii_graphic());
        if !global.token.as_ref().is_none_or(graphic) {
            return Err(Failure::new(
                Exit::Usage,
                "the token cannot be sent",
                "it is not made of printable ASCII characters without blanks",
                "see what STEAD_TOKEN holds",
            ));
        }
        let builder = reqwest::Client::builder().connect_timeout(CONNECT_WAIT).no_proxy();
        let (builder, base, place, directory) = match &global.node {
            Some(given) => {
                let url = node_url(given)?;
                (builder, url.clone(), url, None)
            }
            None => match socket(&global.home) {
                Ok((short, shown, directory)) => {
                    (builder.unix_socket(short), "http://localhost".to_owned(), shown, Some(directory))
                }
                Err(why) => (builder, DEFAULT_NODE.to_owned(), format!("{DEFAULT_NODE} ({why})"), None),
            },
        };
        let http = builder.build().map_err(|error| {
            Failure::new(Exit::Bug, "the HTTP client did not start", error, "please report it")
        })?;
        Ok(Client { http, base, place, token: global.token.clone(), _directory: directory })
    }

    /// Asks, and takes the answer as JSON.
    pub async fn json(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let response = self.send(method, path, body).await?;
        let bytes = response.bytes().await.map_err(|error| self.broke_off(&error))?;
        serde_json::from_slice(&bytes).map_err(|error| self.broke_off(&error))
    }

    /// Reads a route as JSON.
    pub async fn get(&self, path: &str) -> Result<Value, Failure> {
        within(READ_WAIT, &self.place, self.json(Method::GET, path, None)).await
    }

    /// Asks, and leaves the body to the caller; an error answer is a failure.
    pub async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Response, Failure> {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(body) = body {
            request = request.json(body);
        }
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.reveal());
        }
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.bytes().await.unwrap_or_default();
        Err(refusal(status, &body, &self.place))
    }

    /// What went wrong while a body was read.
    pub fn broke_off(&self, error: &dyn std::error::Error) -> Failure {
        Failure::new(
            Exit::Unavailable,
            format!("the answer of {} broke off", self.place),
            innermost(error),
            "try again",
        )
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let hint = "start one with `stead run`, or say where it is with --node URL or --home DIR";
        Failure::new(Exit::Unavailable, format!("no node answers at {}", self.place), innermost(error), hint)
    }
}

/// An answer, unless it takes too long: a frozen node still takes connections.
async fn within<T>(
    limit: Duration,
    place: &str,
    answer: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| {
        Err(Failure::new(
            Exit::Unavailable,
            format!("the node at {place} does not answer"),
            format!("it has said nothing for {} s", limit.as_secs()),
            "it is frozen, or its disk is: `ps -C stead -o pid,stat,wchan:20,args` shows where it waits",
        ))
    })
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

/// A node's refusal in three lines.
fn refusal(status: StatusCode, body: &[u8], place: &str) -> Failure {
    let parsed: Value = serde_json::from_slice(body).unwrap_or_default();
    let error = &parsed["error"];
    let text = |key: &str| error[key].as_str().unwrap_or("").to_owned();
    let message = text("message");
    if message.is_empty() {
        let what = format!("{place} answered {status}");
        let cause = "that is no answer of a node";
        let hint = "see what listens there, or name the node with --node URL or --home DIR";
        return Failure::new(Exit::of_answer(status.as_u16(), ""), what, cause, hint);
    }
    let (code, hint) = (text("code"), text("hint"));
    let exit = Exit::of_answer(status.as_u16(), &code);
    let problems: Vec<Problem> = serde_json::from_value(error["problems"].clone()).unwrap_or_default();
    if problems.is_empty() {
        return Failure::refusal(code, exit, message, hint);
    }
    // Their lines are those of a body that nobody wrote by hand.
    let placeless = problems.into_iter().map(|one| Problem { line: None, column: None, ..one }).collect();
    Failure { code, exit, ..Failure::invalid("the node refused", placeless, "") }
}

/// The socket of a home, where a node listens on it.
///
/// A socket's address holds 107 bytes; the way through the directory's descriptor is short whatever the home's path.
fn socket(home: &Path) -> Result<(PathBuf, String, OwnedFd), String> {
    let shown = home.join(".stead/api.sock");
    let unusable = |error: io::Error| format!("nor at {}: {error}", shown.display());
    let directory = rustix::fs::openat(
        CWD,
        home.join(".stead"),
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|error| unusable(error.into()))?;
    let short = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join("api.sock");
    UnixStream::connect(&short).map_err(unusable)?;
    let shown = shown.display().to_string();
    Ok((short, shown, directory))
}

/// The URL that `--node` means; the scheme may be left out.
fn node_url(given: &str) -> Result<String, Failure> {
    let wrong = |cause: &dyn std::fmt::Display| {
        let hint = "write http://HOST:PORT, for instance http://127.0.0.1:8080";
        Failure::new(
            Exit::Usage,
            format!("`{}` is no node's address", without_credentials(given)),
            cause,
            hint,
        )
    };
    let url = if given.contains("://") { given.to_owned() } else { format!("http://{given}") };
    let parsed = reqwest::Url::parse(&url).map_err(|error| wrong(&error))?;
    if parsed.scheme() != "http" {
        return Err(wrong(&"a node speaks plain http"));
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err(wrong(&"a node knows no users and passwords; its token is taken from STEAD_TOKEN"));
    }
    Ok(url.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_becomes_three_lines_with_every_problem() {
        let body = br#"{"error": {"code": "invalid_configuration", "message": "the configuration has 2 problems",
            "problems": [{"path": "name", "message": "m1", "hint": "h1"}, {"path": "", "message": "m2", "hint": "h2"}]}}"#;
        let failure = refusal(StatusCode::BAD_REQUEST, body, "x");
        assert_eq!(failure.exit, Exit::Configuration);
        assert_eq!(
            failure.to_string(),
            "error: the node refused\ncause: name: m1 (h1)\n       m2 (h2)\n\
             hint: mend what is listed; `stead config example` shows every key\n"
        );
    }

    #[tokio::test]
    async fn what_is_not_answered_is_not_waited_for() {
        let never = std::future::pending::<Result<(), Failure>>();
        let failure = within(Duration::from_millis(1), "x", never).await.unwrap_err();
        assert_eq!(failure.exit, Exit::Unavailable);
        assert!(failure.to_string().starts_with("error: the node at x does not answer\ncause: it has said"));
    }

    #[test]
    fn a_nodes_address_is_http_and_may_leave_that_out() {
        for (given, url) in [
            ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
            ("127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("box:80", "http://box:80"),
        ] {
            assert_eq!(node_url(given).as_deref(), Ok(url));
        }
        for bad in ["", "http://", "foo://x", "https://x", "http://x:port", "http://me:hunter2@x"] {
            let refused = node_url(bad).unwrap_err();
            assert_eq!(refused.exit, Exit::Usage, "{bad}");
            assert!(!refused.to_string().contains("hunter2"), "{refused}");
        }
    }

    #[test]
    fn an_answer_that_is_no_nodes_is_named() {
        let failure = refusal(StatusCode::BAD_GATEWAY, b"<html>", "http://x");
        assert_eq!((failure.what.as_str(), failure.exit.code()), ("http://x answered 502 Bad Gateway", 69));
    }
}
