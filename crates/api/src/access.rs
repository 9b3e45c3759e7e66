//! Who may do what: decided here from what a request carries and where it came from, and nowhere else.
//!
//! | door | reading | contents of databases, and changing |
//! |---|---|---|
//! | the home's socket | its owner and root | its owner and root |
//! | loopback, no token | everyone | the node's user and root |
//! | loopback, token | everyone | the token |
//! | elsewhere | the token; health is free | the token |
//!
//! Who may not read gets of health whether each check passes, and nothing that a check or an app has said.
//!
//! Whatever the door, a request that a web page from elsewhere could have caused changes nothing. What everyone may read
//! on a loopback address is not for such pages either: a name that an attacker points here (DNS rebinding) is no name
//! of this machine. Nothing that a proxy says about a client (`X-Forwarded-For`, `Forwarded`) is believed.

use crate::error::ApiError;
use crate::peer::{Peer, may_act_as_node, uid_of};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, Method, StatusCode, Uri, Version};
use node::config::{HostName, Secret};
use std::net::{IpAddr, SocketAddr};

/// What the server knows about its doors.
#[derive(Debug)]
pub struct Doors {
    /// The TCP address it listens on.
    pub listen: SocketAddr,
    /// The machine's name.
    pub hostname: String,
}

/// What the configuration in force says about who may come in.
#[derive(Clone, Copy, Debug, Default)]
pub struct Keys<'a> {
    /// What requests must carry, where there is one.
    pub token: Option<&'a Secret>,
    /// Further names of this machine.
    pub hosts: &'a [HostName],
}

/// How much of an answer a request that was let in is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sees {
    /// All of it.
    Everything,
    /// Whether the node is well, and by which checks: it would not be let in to read.
    Verdicts,
}

/// Whether a request changes something or reads what databases hold. To let one in may take a look at the system's
/// tables; all others are let in or not at once.
pub fn is_guarded(method: &Method, uri: &Uri) -> bool {
    !method.is_safe() || reads_contents(uri)
}

/// A request says once which host it means; two answers would let each reader take another one.
pub fn check_hosts(version: Version, headers: &HeaderMap) -> Result<(), ApiError> {
    let hosts = headers.get_all(HOST).iter().count();
    if hosts > 1 || (hosts == 0 && version >= Version::HTTP_11) {
        return Err(ApiError::malformed(format!("a request has one `Host`, this one has {hosts}")));
    }
    Ok(())
}

impl Doors {
    /// The doors of this machine.
    pub fn new(listen: SocketAddr) -> Doors {
        let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Doors { listen, hostname }
    }

    /// Whether a request may pass, and how much it sees.
    pub fn check(
        &self,
        (method, uri, headers): (&Method, &Uri, &HeaderMap),
        peer: Peer,
        keys: Keys<'_>,
    ) -> Result<Sees, ApiError> {
        let guarded = is_guarded(method, uri);
        let allowed = self.judge(guarded, (uri, headers), peer, keys);
        let is_free = !guarded && matches!(peer, Peer::Tcp { .. }) && is_health(uri.path());
        match allowed {
            Err(_) if is_free => Ok(Sees::Verdicts),
            allowed => allowed.map(|()| Sees::Everything),
        }
    }

    /// Whether a request may do what it asks for, were health not free.
    fn judge(
        &self,
        guarded: bool,
        (uri, headers): (&Uri, &HeaderMap),
        peer: Peer,
        keys: Keys<'_>,
    ) -> Result<(), ApiError> {
        if guarded {
            self.refuse_foreign((uri, headers), peer, keys.hosts)?;
        }
        match peer {
            Peer::Unix { uid } if may_act_as_node(uid) => Ok(()),
            Peer::Unix { .. } => Err(forbidden("only the node's own user and root may use this socket")),
            Peer::Tcp { peer: far, local } => {
                let near = self.listen.ip().to_canonical().is_loopback();
                if !guarded && near {
                    let knows = bearer(headers).zip(keys.token);
                    return match knows.is_some_and(|(given, token)| token.matches(given)) {
                        true => Ok(()),
                        false if follows_link(headers) => self.refuse_host((uri, headers), local, keys.hosts),
                        false => self.refuse_foreign((uri, headers), peer, keys.hosts),
                    };
                }
                match keys.token {
                    Some(token) => check_token(headers, token),
                    None if near && may_act_as_node(uid_of(far, local)) => Ok(()),
                    None if near => Err(forbidden("only the node's own user and root may do this")
                        .hint("configure a `token` and send it, or act as the node's user")),
                    None => Err(no_token(headers)),
                }
            }
        }
    }

    /// Refuses what a web page from elsewhere could have sent.
    fn refuse_foreign(
        &self,
        (uri, headers): (&Uri, &HeaderMap),
        peer: Peer,
        hosts: &[HostName],
    ) -> Result<(), ApiError> {
        let text =
            |name: &str| headers.get_all(name).iter().map(|value| value.to_str().unwrap_or("\u{fffd}"));
        if text("sec-fetch-site").any(|site| site.eq_ignore_ascii_case("cross-site")) {
            return Err(forbidden("a cross-site request of a browser may not do this"));
        }
        let host = text(HOST.as_str()).next();
        for origin in text(ORIGIN.as_str()) {
            let named = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
            if named.is_none() || named != host {
                return Err(forbidden(format!("a page from {origin} may not do this")));
            }
        }
        match peer {
            Peer::Tcp { local, .. } => self.refuse_host((uri, headers), local, hosts),
            Peer::Unix { .. } => Ok(()),
        }
    }

    /// Refuses a request that means another machine, by `Host` or by the whole address in its first line.
    fn refuse_host(
        &self,
        (uri, headers): (&Uri, &HeaderMap),
        local: SocketAddr,
        hosts: &[HostName],
    ) -> Result<(), ApiError> {
        let named = headers.get_all(HOST).iter().map(|value| value.to_str().unwrap_or("\u{fffd}"));
        let mut named = named.chain(uri.authority().map(|authority| authority.as_str()));
        match named.find(|host| !self.is_mine(host, local, hosts)) {
            Some(host) => Err(forbidden(format!("`{host}` is not a name of this machine"))
                .hint("use the machine's own name or address in the URL, or add the name to `hosts`")),
            None => Ok(()),
        }
    }

    /// Whether a `Host` names this machine.
    fn is_mine(&self, host: &str, local: SocketAddr, hosts: &[HostName]) -> bool {
        let name = without_port(host);
        let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
        // The root of all names may be written or not.
        let bare = bare.strip_suffix('.').unwrap_or(bare);
        if hosts.iter().any(|own| own.is(bare)) {
            return true;
        }
        if let Ok(address) = bare.parse::<IpAddr>() {
            let address = address.to_canonical();
            return address.is_loopback()
                || address == local.ip().to_canonical()
                || (address == self.listen.ip().to_canonical() && !address.is_unspecified());
        }
        let short = self.hostname.split('.').next().unwrap_or("");
        bare.eq_ignore_ascii_case("localhost")
            || (!short.is_empty() && bare.eq_ignore_ascii_case(short))
            || (!short.is_empty() && bare.eq_ignore_ascii_case(&self.hostname))
    }
}

/// Somebody who follows a link to a page of the node sees it himself; the page that has the link sees nothing.
fn follows_link(headers: &HeaderMap) -> bool {
    let is = |name: &str, wanted: &str| headers.get(name).is_some_and(|value| value == wanted);
    is("sec-fetch-mode", "navigate") && is("sec-fetch-dest", "document") && !headers.contains_key(ORIGIN)
}

/// A host without its port; brackets of IPv6 stay.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.ends_with(':') => {
            if name.contains(':') && !name.ends_with(']') { host } else { name }
        }
        _ => host,
    }
}

/// A database's image is what its file's mode protects: reading it is like changing something. Any query below
/// `/databases/` counts, since `%76iew` is `view` to whoever decodes it.
fn reads_contents(uri: &Uri) -> bool {
    uri.path().starts_with("/databases/") && uri.query().is_some()
}

/// What a load balancer asks.
fn is_health(path: &str) -> bool {
    path.starts_with("/api/health/") || matches!(path, "/primary" | "/replica")
}

fn check_token(headers: &HeaderMap, token: &Secret) -> Result<(), ApiError> {
    match bearer(headers) {
        None => Err(ApiError::new(StatusCode::UNAUTHORIZED, "token_required", "this needs the node's token")
            .hint("send `Authorization: Bearer TOKEN`, or set STEAD_TOKEN for the command line")),
        Some(given) if token.matches(given) => Ok(()),
        Some(_) => Err(forbidden("the token is not the node's")),
    }
}

fn no_token(headers: &HeaderMap) -> ApiError {
    let hint = "configure a `token`, or use the socket .stead/api.sock in the node's home";
    match bearer(headers) {
        None => ApiError::new(
            StatusCode::UNAUTHORIZED,
            "token_required",
            "beyond this machine a token is needed, and the node has none",
        ),
        Some(_) => forbidden("the node has no token to compare with"),
    }
    .hint(hint)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn forbidden(message: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, "forbidden", message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use axum::response::IntoResponse;

    const NEAR: &str = "127.0.0.1:8080";
    const FAR: &str = "10.0.0.5:8080";
    /// Let in, to see verdicts only.
    const VERDICTS: u16 = 299;

    /// A request over TCP from a peer whose uid nobody can tell.
    fn ask(
        listen: &str,
        token: Option<&str>,
        method: &str,
        uri: &str,
        headers: &[(&'static str, &str)],
    ) -> u16 {
        let doors = Doors { listen: listen.parse().unwrap(), hostname: "box.lan".to_owned() };
        let hosts = vec![serde_json::from_str("\"notes.example\"").unwrap()];
        let token = token.map(Secret::new);
        let keys = Keys { token: token.as_ref(), hosts: &hosts };
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let peer = Peer::Tcp { peer: "127.0.0.1:1".parse().unwrap(), local: listen.parse().unwrap() };
        let (method, uri) = (method.parse().unwrap(), uri.parse().unwrap());
        match doors.check((&method, &uri, &map), peer, keys) {
            Ok(Sees::Everything) => 200,
            Ok(Sees::Verdicts) => VERDICTS,
            Err(error) => error.into_response().status().as_u16(),
        }
    }

    #[test]
    fn the_table_of_doors_holds() {
        let (right, wrong) = (("authorization", "Bearer s"), ("authorization", "Bearer x"));
        /// Where, the token, method, URI, headers, and the status expected.
        type Row<'a> = (&'a str, Option<&'a str>, &'a str, &'a str, Headers<'a>, u16);
        type Headers<'a> = &'a [(&'static str, &'a str)];
        let table: &[Row<'_>] = &[
            (NEAR, None, "GET", "/", &[], 200),
            (NEAR, None, "POST", "/checkpoint", &[], 403),
            (NEAR, None, "GET", "/databases/data/a.db?view=image", &[], 403),
            (NEAR, None, "GET", "/databases/data/a.db?%76iew=image", &[], 403),
            (NEAR, None, "GET", "/databases/data/a.db?vie%77=image", &[], 403),
            (NEAR, None, "GET", "/databases/data/a.db?view%3Dimage", &[], 403),
            (NEAR, None, "HEAD", "/databases/data/a.db?txid=1&%76%69%65%77=%69mage", &[], 403),
            (NEAR, None, "GET", "/databases/data/a.db", &[], 200),
            (NEAR, None, "GET", "/databases", &[], 200),
            (NEAR, Some("s"), "GET", "/config", &[], 200),
            (NEAR, Some("s"), "POST", "/checkpoint", &[], 401),
            (NEAR, Some("s"), "POST", "/checkpoint", &[wrong], 403),
            (NEAR, Some("s"), "POST", "/checkpoint", &[right], 200),
            (NEAR, Some("s"), "POST", "/checkpoint", &[("authorization", "Basic s")], 401),
            (NEAR, Some("s"), "GET", "/databases/data/a.db?view=image", &[right], 200),
            (NEAR, Some("s"), "GET", "/databases/data/a.db?%76iew=image", &[], 401),
            (NEAR, Some("s"), "GET", "/metrics", &[], 200),
            (FAR, Some("s"), "GET", "/metrics", &[], 401),
            (FAR, Some("s"), "GET", "/metrics", &[right], 200),
            (FAR, None, "GET", "/", &[], 401),
            (FAR, None, "GET", "/", &[right], 403),
            (NEAR, Some("s"), "GET", "/api/health/ready?verbose=1", &[], 200),
            (FAR, None, "GET", "/api/health/live", &[], VERDICTS),
            (FAR, None, "GET", "/api/health/ready?verbose=1", &[right], VERDICTS),
            (FAR, None, "GET", "/primary", &[], VERDICTS),
            (FAR, Some("s"), "GET", "/api/health/ready?verbose=1", &[], VERDICTS),
            (FAR, Some("s"), "GET", "/api/health/ready?verbose=1", &[wrong], VERDICTS),
            (FAR, Some("s"), "GET", "/api/health/ready?verbose=1", &[right], 200),
            (FAR, Some("s"), "GET", "/", &[], 401),
            (FAR, Some("s"), "GET", "/", &[wrong], 403),
            (FAR, Some("s"), "GET", "/", &[right], 200),
            (FAR, Some("s"), "DELETE", "/config", &[right], 200),
        ];
        for (listen, token, method, uri, headers, status) in table {
            assert_eq!(
                ask(listen, *token, method, uri, headers),
                *status,
                "{listen} {token:?} {method} {uri} {headers:?}"
            );
        }
    }

    #[test]
    fn a_page_from_elsewhere_changes_nothing_even_with_the_token() {
        let right = ("authorization", "Bearer s");
        for (headers, status) in [
            (vec![("sec-fetch-site", "cross-site")], 403),
            (vec![("sec-fetch-site", "same-origin")], 200),
            (vec![("origin", "https://evil.example"), ("host", NEAR)], 403),
            (vec![("origin", "null"), ("host", NEAR)], 403),
            (vec![("origin", "http://127.0.0.1:9999"), ("host", NEAR)], 403),
            (vec![("origin", "http://127.0.0.1:8080"), ("host", NEAR)], 200),
            (vec![("host", "evil.example")], 403),
            (vec![("host", "evil.example:8080")], 403),
            (vec![("host", "192.0.2.7:8080")], 403),
            (vec![("host", "localhost:8080")], 200),
            (vec![("host", "[::1]:8080")], 200),
            (vec![("host", "BOX:8080")], 200),
            (vec![("host", "box.lan")], 200),
            (vec![("host", "box.lan.:8080")], 200),
            (vec![("host", "Notes.Example:8080")], 200),
            (vec![("host", "localhost"), ("host", "evil.example")], 403),
            (vec![("host", "evil.example.")], 403),
            (vec![("host", "localhost.evil.example")], 403),
            (vec![("host", "user@localhost")], 403),
            (vec![("host", "0.0.0.0:8080")], 403),
            (vec![("host", "0x7f.1")], 403),
            (vec![("host", "[fe80::1%25eth0]:8080")], 403),
            (vec![("host", "[::ffff:127.0.0.1]:8080")], 200),
            (vec![("host", "")], 403),
            (vec![("sec-fetch-site", "Cross-Site")], 403),
            (
                vec![("host", NEAR), ("x-forwarded-host", "evil.example"), ("x-forwarded-for", "10.9.9.9")],
                200,
            ),
            (
                vec![("host", "evil.example"), ("x-forwarded-host", NEAR), ("forwarded", "host=localhost")],
                403,
            ),
        ] {
            let mut all = headers.clone();
            all.push(right);
            assert_eq!(ask(NEAR, Some("s"), "POST", "/restore", &all), status, "{headers:?}");
            assert_eq!(ask(NEAR, Some("s"), "GET", "/", &all), 200, "{headers:?}");
            for path in ["/", "/config", "/events", "/logs"] {
                assert_eq!(
                    ask(NEAR, Some("s"), "GET", path, &headers),
                    status,
                    "reading {path}: {headers:?}"
                );
            }
            let health = if status == 200 { 200 } else { VERDICTS };
            assert_eq!(ask(NEAR, None, "GET", "/api/health/ready", &headers), health, "{headers:?}");
        }
        let link = [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
        ];
        assert_eq!(ask(NEAR, None, "GET", "/", &link), 200, "a link is followed");
        assert_eq!(ask(NEAR, None, "POST", "/restore", &link), 403, "a form is not");
        let rebound = [link[0], link[1], link[2], ("host", "evil.example")];
        assert_eq!(ask(NEAR, None, "GET", "/", &rebound), 403);
        for (uri, status) in [("http://evil.example/", 403), ("http://127.0.0.1:8080/", 200)] {
            assert_eq!(ask(NEAR, None, "GET", uri, &[("host", NEAR)]), status, "{uri}");
        }
    }

    #[test]
    fn a_request_has_one_host() {
        let mut headers = HeaderMap::new();
        assert!(check_hosts(Version::HTTP_10, &headers).is_ok());
        assert!(check_hosts(Version::HTTP_11, &headers).is_err());
        headers.append(HOST, HeaderValue::from_static("a"));
        assert!(check_hosts(Version::HTTP_11, &headers).is_ok());
        headers.append(HOST, HeaderValue::from_static("a"));
        assert!(check_hosts(Version::HTTP_11, &headers).is_err());
        assert!(check_hosts(Version::HTTP_10, &headers).is_err());
    }

    #[test]
    fn the_socket_belongs_to_the_nodes_user() {
        let doors = Doors::new(NEAR.parse().unwrap());
        let check = |uid| {
            let uri = "/restore".parse().unwrap();
            doors.check((&Method::POST, &uri, &HeaderMap::new()), Peer::Unix { uid }, Keys::default()).is_ok()
        };
        assert!(check(Some(0)));
        assert!(check(Some(rustix::process::geteuid().as_raw())));
        assert!(!check(Some(54_321)));
        assert!(!check(None));
    }
}
