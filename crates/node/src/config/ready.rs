//! What `app.ready` says: how it is found out that the app can do its work.

use super::limits;
use super::problem::Problem;
use super::process::Command;
use super::secret::without_credentials;
use super::text::{Fault, Period, Text, written_as_text};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When the app counts as ready; one of `http`, `tcp`, `command` and `notify` says how that is found out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ready {
    /// A URL that answers with a status of 200 to 399; redirects are not followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpUrl>,
    /// A host and port that accept a connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<HostPort>,
    /// A command that exits with 0, run in all else as the app is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Command")]
    pub command: Option<Command>,
    /// Whether the app says so itself, with `READY=1` on `NOTIFY_SOCKET`.
    #[serde(default)]
    pub notify: bool,
    /// How long it may take before that is an issue; the app is left running.
    #[serde(default = "timeout")]
    #[schemars(extend("x-min-ms" = limits::ms(limits::READY_MIN), "x-max-ms" = limits::ms(limits::READY_TIMEOUT_MAX)))]
    pub timeout: Period,
    /// The wait between an answer and the next question.
    #[serde(default = "interval")]
    #[schemars(extend("x-min-ms" = limits::ms(limits::READY_MIN), "x-max-ms" = limits::ms(limits::READY_INTERVAL_MAX)))]
    pub interval: Period,
}

fn timeout() -> Period {
    Period(limits::READY_TIMEOUT)
}

fn interval() -> Period {
    Period(limits::READY_INTERVAL)
}

impl Ready {
    /// What is wrong where not exactly one way is given.
    pub(super) fn contradiction(&self) -> Option<Problem> {
        let ways = [self.http.is_some(), self.tcp.is_some(), self.command.is_some(), self.notify];
        let message = match ways.iter().filter(|given| **given).count() {
            0 => "nothing says how it is found out that the app is ready",
            1 => return None,
            _ => "there is more than one way to find out that the app is ready",
        };
        Some(Problem::new("app.ready", message, "give one of `http`, `tcp`, `command` and `notify: true`"))
    }
}

/// A host and a port to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort(String);

impl HostPort {
    /// The text, `HOST:PORT`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Text for HostPort {
    const FORMAT: &'static str = "host-port";

    fn parse(text: &str) -> Result<HostPort, Fault> {
        let fault =
            || Fault::new(format!("`{text}` is no host and port"), "write 127.0.0.1:3000 or localhost:3000");
        let (host, port) = text.rsplit_once(':').ok_or_else(fault)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host_is_good = match bare {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                !host.is_empty()
                    && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
            }
        };
        let port_is_good =
            port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|p| p > 0);
        if host_is_good && port_is_good { Ok(HostPort(text.to_owned())) } else { Err(fault()) }
    }

    fn text(&self) -> String {
        self.0.clone()
    }
}

/// A URL that is asked over plain HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpUrl {
    text: String,
    address: HostPort,
    path: String,
}

impl HttpUrl {
    /// Host and port.
    pub fn address(&self) -> &str {
        self.address.as_str()
    }

    /// Path and query.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl Text for HttpUrl {
    const FORMAT: &'static str = "http-url";

    fn parse(text: &str) -> Result<HttpUrl, Fault> {
        let fault = || {
            Fault::new(
                format!("`{}` is no URL of an app", without_credentials(text)),
                "write http://127.0.0.1:3000/health; https is not asked",
            )
        };
        let rest = text.strip_prefix("http://").ok_or_else(fault)?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
        let authority = if has_port { authority.to_owned() } else { format!("{authority}:80") };
        let address = HostPort::parse(&authority).map_err(|_| fault())?;
        if !path.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
            return Err(fault());
        }
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(HttpUrl { text: text.to_owned(), address, path: format!("{slash}{path}") })
    }

    fn text(&self) -> String {
        self.text.clone()
    }
}

written_as_text!(HostPort, HttpUrl);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart_and_anything_else_is_refused() {
        for (text, address, path) in [
            ("http://127.0.0.1:3000/health", "127.0.0.1:3000", "/health"),
            ("http://localhost", "localhost:80", "/"),
            ("http://[::1]:80?a=b", "[::1]:80", "/?a=b"),
            ("http://[::1]/", "[::1]:80", "/"),
        ] {
            let url = HttpUrl::parse(text).unwrap();
            assert_eq!((url.address(), url.path(), url.text().as_str()), (address, path, text));
        }
        for bad in [
            "",
            "127.0.0.1:3000",
            "https://a/",
            "http://",
            "http://:80/",
            "http://a:0/",
            "http://a:x/",
            "http://u@a/",
            "http://a/b c",
            "http://a/\r\nX: y",
            "http://a/#b",
            "http://[::1",
            "http://a:+1/",
        ] {
            assert!(HttpUrl::parse(bad).is_err(), "{bad}");
        }
        for bad in ["", "a", "a:", ":1", "a:65536", "a b:1", "::1:1", "[::1]:"] {
            assert!(HostPort::parse(bad).is_err(), "{bad}");
        }
    }
}
