//! Talking to a node: over the socket of its home, or over TCP.

use crate::args::Global;
use crate::exit::Exit;
use crate::failure::Failure;
use node::config::Secret;
use reqwest::{Method, Response, StatusCode};
use rustix::fs::{CWD, Mode, OFlags};
use serde_json::Value;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where a node listens that nothing else is said of.
const DEFAULT_NODE: &str = "http://127.0.0.1:8080";
/// How long a connection may take; a node on the same machine answers at once.
const CONNECT_WAIT: Duration = Duration::from_secs(5);

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
        let builder = reqwest::Client::builder().connect_timeout(CONNECT_WAIT).no_proxy();
        let socket = match &global.node {
            Some(_) => None,
            None => socket(&global.home),
        };
        let (builder, base, place, directory) = match (socket, &global.node) {
            (Some((short, shown, directory)), _) => {
                (builder.unix_socket(short), "http://localhost".to_owned(), shown, Some(directory))
            }
            (None, Some(url)) => {
                let url = url.trim_end_matches('/');
                let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
                (builder, url.clone(), url, None)
            }
            (None, None) => (builder, DEFAULT_NODE.to_owned(), DEFAULT_NODE.to_owned(), None),
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
        self.json(Method::GET, path, None).await
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
        return Failure::new(Exit::of_answer(status.as_u16(), ""), what, "", "is it a node of Stead?");
    }
    let problems = error["problems"].as_array().map(Vec::as_slice).unwrap_or_default();
    let lines: Vec<String> = problems
        .iter()
        .map(|problem| {
            let part = |key: &str| problem[key].as_str().unwrap_or("");
            let place = if part("path").is_empty() { String::new() } else { format!("{}: ", part("path")) };
            format!("{place}{} ({})", part("message"), part("hint"))
        })
        .collect();
    let cause = if lines.is_empty() { status.to_string() } else { lines.join("\n") };
    Failure::new(Exit::of_answer(status.as_u16(), &text("code")), message, cause, text("hint"))
}

/// The socket of a home, where a node listens on it.
///
/// A socket's address holds 107 bytes; the way through the directory's descriptor is short whatever the home's path.
fn socket(home: &Path) -> Option<(PathBuf, String, OwnedFd)> {
    let shown = home.join(".stead/api.sock");
    let directory = rustix::fs::openat(
        CWD,
        home.join(".stead"),
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .ok()?;
    let short = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join("api.sock");
    UnixStream::connect(&short).ok()?;
    Some((short, shown.display().to_string(), directory))
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
            "error: the configuration has 2 problems\ncause: name: m1 (h1)\n       m2 (h2)\n"
        );
    }

    #[test]
    fn an_answer_that_is_no_nodes_is_named() {
        let failure = refusal(StatusCode::BAD_GATEWAY, b"<html>", "http://x");
        assert_eq!((failure.what.as_str(), failure.exit.code()), ("http://x answered 502 Bad Gateway", 69));
    }
}
