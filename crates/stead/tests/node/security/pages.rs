//! Web pages from elsewhere, whose requests come from a browser on this machine, and thus from root.

use crate::support::{Home, Node, request_with};
use serde_json::json;

/// Each head but its first line; `H` is the node's own address.
const FOREIGN: [(&str, &str); 13] = [
    ("a foreign Origin", "Host: H\r\nOrigin: https://evil.example\r\n"),
    ("a sandboxed page", "Host: H\r\nOrigin: null\r\n"),
    ("another port of this machine", "Host: H\r\nOrigin: http://localhost:3000\r\n"),
    ("what a browser says of itself", "Host: H\r\nSec-Fetch-Site: cross-site\r\n"),
    (
        "text/plain, which needs no preflight",
        "Host: H\r\nOrigin: https://evil.example\r\nContent-Type: text/plain\r\n",
    ),
    ("DNS rebinding", "Host: evil.example:8080\r\n"),
    ("DNS rebinding, its Origin the same", "Host: evil.example\r\nOrigin: http://evil.example\r\n"),
    ("DNS rebinding with a dot", "Host: evil.example.\r\n"),
    ("DNS rebinding in upper case", "Host: EVIL.EXAMPLE\r\n"),
    ("a name that begins as ours", "Host: localhost.evil.example\r\n"),
    ("an address of no machine", "Host: 0.0.0.0:8080\r\n"),
    ("an address with a zone", "Host: [fe80::1%25eth0]:8080\r\n"),
    (
        "a proxy's word for it",
        "Host: evil.example\r\nX-Forwarded-Host: localhost\r\nForwarded: host=localhost\r\n",
    ),
];

#[test]
fn a_web_page_from_elsewhere_changes_and_reads_nothing() {
    let home = Home::new();
    let node = Node::configured(&home, &json!({ "name": "mine" }));
    let own = home.address();
    for (what, head) in FOREIGN {
        let head = head.replace("Host: H\r\n", &format!("Host: {own}\r\n"));
        for (method, path) in [
            ("DELETE", "/config"),
            ("POST", "/release-lease"),
            ("POST", "/checkpoint"),
            ("GET", "/"),
            ("GET", "/config"),
            ("GET", "/logs"),
            ("GET", "/events"),
            ("GET", "/databases/data/database.sqlite?view=image"),
            ("OPTIONS", "/config"),
        ] {
            let answer = request_with(&own, method, path, &head);
            assert_eq!(answer.status, 403, "{what}: {method} {path}: {}", answer.head);
            assert!(!answer.head.to_lowercase().contains("access-control"), "{what}: {}", answer.head);
        }
        let health = request_with(&own, "GET", "/api/health/ready?verbose=1", &head);
        assert_eq!(health.status, 200, "{what}");
        assert_eq!(health.json()["checks"]["node"], json!({ "status": "ok" }), "{what}");
    }
    assert_eq!(node.status()["state"], "primary");
    assert_eq!(node.status()["checkpoints"]["count"], 0);
}

#[test]
fn a_request_that_names_two_hosts_is_none() {
    let home = Home::new();
    let node = Node::configured(&home, &json!({ "name": "mine" }));
    let own = home.address();
    for (line, head, status) in [
        ("/config", format!("Host: {own}\r\nHost: evil.example\r\n"), 400),
        ("/config", format!("Host: evil.example\r\nHost: {own}\r\n"), 400),
        ("/config", String::new(), 400),
        ("http://evil.example/config", format!("Host: {own}\r\n"), 403),
        ("http://127.0.0.1:8080/config", "Host: evil.example\r\n".to_owned(), 403),
    ] {
        let answer = request_with(&own, "DELETE", line, &head);
        assert_eq!(answer.status, status, "{line} {head}");
        assert!(answer.json()["error"]["message"].is_string());
    }
    assert_eq!(node.get("/config").status, 200);
    // Whole, and meaning this machine: as a proxy's client writes it.
    assert_eq!(
        request_with(&own, "GET", &format!("http://{own}/config"), &format!("Host: {own}\r\n")).status,
        200
    );
}

#[test]
fn a_host_that_is_configured_is_this_machine() {
    let home = Home::new();
    let node =
        Node::configured(&home, &json!({ "name": "mine", "hosts": ["Notes.example.org", "192.0.2.7"] }));
    let own = home.address();
    for (host, status) in [
        ("notes.example.org", 200),
        ("NOTES.example.org.:8080", 200),
        ("192.0.2.7:8080", 200),
        ("192.0.2.8", 403),
        ("other.example.org", 403),
    ] {
        let answer = request_with(&own, "POST", "/promote", &format!("Host: {host}\r\n"));
        assert_eq!(answer.status, status, "{host}");
    }
    node.request("PUT", "/config", r#"{"name":"mine"}"#).ok();
    assert_eq!(request_with(&own, "POST", "/promote", "Host: notes.example.org\r\n").status, 403, "at once");
}
