//! Another user of the same machine: the doors, and what can be read.

use super::{OTHER, TOKEN, as_other, other_asks, visible_home};
use crate::support::{Home, Node, children};
use serde_json::{Value, json};

#[path = "../../../../api/tests/http/described.rs"]
mod described;
use described::Described;

const DATABASE: &str = "data/database.sqlite";

/// Every operation that changes something, as the node itself describes them, with a body that would be taken.
fn changes(node: &Node<'_>) -> Vec<(String, String, String)> {
    let description = node.get("/openapi.json").ok();
    let mut all = Vec::new();
    for (path, item) in description["paths"].as_object().unwrap() {
        let path = path.replace("{id}", "kept").replace("{path}", DATABASE);
        for method in item.as_object().unwrap().keys().filter(|key| !matches!(&***key, "get" | "parameters"))
        {
            let body = match &*path {
                "/config" if method == "delete" => String::new(),
                "/config" => json!({ "name": "taken-over", "app": { "command": "id" } }).to_string(),
                "/restore" => json!({ "id": "kept" }).to_string(),
                "/app" => json!({ "action": "stop" }).to_string(),
                path if path.starts_with("/databases/") => json!({ "action": "verify" }).to_string(),
                _ => String::new(),
            };
            all.push((method.to_uppercase(), path.clone(), body));
        }
    }
    assert!(all.len() >= 10, "{all:?}");
    all
}

/// The whole answers of a real node are as it describes them.
#[test]
fn the_nodes_own_description_is_true() {
    let home = Home::new();
    let node = Node::start(&home);
    let described = Described::new(node.get("/openapi.json").ok());
    let holds = |method: &str, path: &str, body: &str| {
        let answer = node.request(method, path, body);
        described.holds((method, path), answer.status, &answer.json());
        answer.status
    };
    for path in ["/", "/config", "/checkpoint", "/api/health/ready?verbose=1", "/primary"] {
        holds("GET", path, "");
    }
    let store = format!("file://{}", home.beside("store").display());
    let config = json!({
        "name": "described", "storage": { "url": store, "sync_interval": "20ms" },
        "app": { "command": ["sh", "-c", "echo hello; exec sleep 1000"] },
    });
    assert_eq!(holds("POST", "/config", &config.to_string()), 200);
    home.db(DATABASE).insert_rows(5);
    node.until_stored(DATABASE);
    node.until_app();
    let database = format!("/databases/{DATABASE}");
    for (method, path, body, status) in [
        ("GET", "/", "", 200),
        ("GET", "/status", "", 200),
        ("GET", "/config", "", 200),
        ("POST", "/checkpoint", r#"{"id":"c1"}"#, 200),
        ("POST", "/checkpoint", r#"{"id":"c1"}"#, 409),
        ("GET", "/checkpoint", "", 200),
        ("GET", "/checkpoint/c1", "", 200),
        ("POST", "/restore", r#"{"id":"c1","dry_run":true}"#, 200),
        ("POST", "/restore", r#"{"id":"c1"}"#, 200),
        ("POST", "/restore", r#"{"id":"none"}"#, 404),
        ("DELETE", "/checkpoint/c1", "", 200),
        ("GET", "/databases", "", 200),
        ("GET", &database, "", 200),
        ("GET", &format!("{database}?view=log"), "", 200),
        ("POST", &database, r#"{"action":"verify"}"#, 200),
        ("GET", "/history", "", 200),
        ("GET", "/logs", "", 200),
        ("GET", "/api/health/live", "", 200),
        ("GET", "/api/health/ready?verbose=1", "", 200),
        ("GET", "/primary", "", 200),
        ("GET", "/replica", "", 503),
        ("POST", "/app", r#"{"action":"stop"}"#, 200),
        ("PUT", "/config", r#"{"name":"described"}"#, 200),
        ("PUT", "/config", r#"{"nam":"described"}"#, 400),
        ("POST", "/release-lease", "", 200),
        ("POST", "/promote", "", 200),
        ("DELETE", "/config", "", 200),
        ("GET", "/nowhere", "", 404),
        ("PATCH", "/config", "", 405),
    ] {
        assert_eq!(holds(method, path, body), status, "{method} {path}");
    }
}

#[test]
fn another_user_changes_nothing_without_a_token() {
    let home = visible_home();
    let node = Node::configured(&home, &json!({ "name": "mine" }));
    node.checkpoint("kept");
    let before = node.get("/config").ok();
    for (method, path, body) in changes(&node) {
        for token in [None, Some("guessed")] {
            let (status, answer) = other_asks(&home.address(), &method, &path, &body, token);
            assert_eq!(status, 403, "{method} {path} {token:?}: {answer}");
            let error: Value = serde_json::from_str(&answer).unwrap();
            assert_eq!(error["error"]["code"], "forbidden");
        }
    }
    home.db(DATABASE).insert_rows(3);
    node.until_sealed(DATABASE);
    for query in ["view=image", "%76iew=image", "vie%77=image", "view%3Dimage", "%76%69ew=%69mage&txid=1"] {
        let image = format!("/databases/{DATABASE}?{query}");
        assert_eq!(other_asks(&home.address(), "GET", &image, "", None).0, 403, "no contents by {query}");
    }
    assert_eq!(node.get("/config").ok(), before);
    assert_eq!(node.status()["checkpoints"]["count"], 1);
    assert_eq!(node.status()["state"], "primary");
}

#[test]
fn another_user_changes_nothing_with_a_wrong_token() {
    let home = visible_home();
    let node = Node::configured(&home, &json!({ "name": "mine", "token": TOKEN }));
    for (method, path, body) in changes(&node) {
        for (token, expected) in [(None, 401), (Some("guessed"), 403), (Some("***"), 403), (Some(""), 401)] {
            let (status, answer) = other_asks(&home.address(), &method, &path, &body, token);
            assert_eq!(status, expected, "{method} {path} {token:?}: {answer}");
            assert!(!answer.contains(TOKEN), "{answer}");
        }
    }
    assert_eq!(node.get("/config").ok()["name"], "mine");
}

/// The kernel's table is looked into for each request: what is not there, or not there any more, is nobody.
#[test]
fn another_user_is_not_taken_for_root_by_a_trick_with_the_connection() {
    let home = visible_home();
    let node = Node::configured(&home, &json!({ "name": "mine" }));
    let port = home.socket_address().port();
    let ip = home.socket_address().ip();
    let tricks = [
        // The connection is half closed before the request is judged.
        "s.sendall(REQ); s.shutdown(socket.SHUT_WR)",
        // Two requests at once, the second when the first has been answered.
        "s.sendall(b'GET / HTTP/1.1\\r\\nHost: H\\r\\n\\r\\n'.replace(b'H', HOST) + REQ)",
        // IPv4 inside IPv6.
        "s.close(); s=socket.socket(socket.AF_INET6); s.connect(('::ffff:'+IP, PORT)); s.sendall(REQ)",
        // From a port that only root may use, if it can be had at all.
        "s.sendall(REQ); s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\\1\\0\\0\\0\\0\\0\\0\\0')",
    ];
    for trick in tricks {
        let script = format!(
            "import socket\nIP='{ip}'; PORT={port}; HOST=b'{ip}:{port}'\n\
             REQ=b'DELETE /config HTTP/1.1\\r\\nHost: '+HOST+b'\\r\\nConnection: close\\r\\n\\r\\n'\n\
             s=socket.create_connection((IP, PORT))\n{trick}\n\
             while s.recv(65536): pass\n"
        );
        let output = as_other("python3", &["-c", &script]);
        assert!(output.status.success(), "{trick}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(node.get("/config").status, 200, "{trick}");
    }
}

/// Root of a user namespace of one's own is still the user that made it.
#[test]
fn another_user_is_not_root_by_a_namespace() {
    let home = visible_home();
    let node = Node::configured(&home, &json!({ "name": "mine" }));
    let url = format!("http://{}/config", home.address());
    let script = format!(
        "import ctypes, os, sys\n\
         if ctypes.CDLL(None).unshare(0x10000000) != 0: sys.exit('this test needs user namespaces')\n\
         open('/proc/self/setgroups','w').write('deny')\n\
         open('/proc/self/uid_map','w').write('0 {OTHER} 1')\n\
         assert os.geteuid() == 0\n\
         os.execvp('curl', ['curl','-sS','-o','/dev/null','-w','%{{http_code}}','-X','DELETE','{url}'])\n"
    );
    let output = as_other("python3", &["-c", &script]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "403", "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(node.get("/config").status, 200);
}

#[test]
fn another_user_cannot_open_the_socket() {
    let home = visible_home();
    let _node = Node::configured(&home, &json!({ "name": "mine" }));
    let socket = home.path(".stead/api.sock").display().to_string();
    let output = as_other("curl", &["-sS", "--unix-socket", &socket, "http://localhost/"]);
    assert_eq!(output.status.code(), Some(7), "curl could not connect: {output:?}");
}

#[test]
fn another_user_reads_no_secret() {
    let home = visible_home();
    let node = Node::configured(
        &home,
        &json!({
            "name": "mine", "token": TOKEN, "log": { "level": "trace" },
            "app": { "command": ["sleep", "1000"], "env": { "PASSWORD": TOKEN } },
        }),
    );
    node.until_app();
    home.db(DATABASE).insert_rows(3);
    node.until_sealed(DATABASE);
    let ask = |path: &str| node.get(path).body;
    for path in [
        "/",
        "/config",
        "/history",
        "/logs",
        "/metrics",
        "/openapi.json",
        "/api/health/ready?verbose=1",
        "/nowhere",
    ] {
        assert!(!String::from_utf8_lossy(&ask(path)).contains(TOKEN), "{path} shows it");
    }
    let status = home.stead(&["status"]);
    assert!(!String::from_utf8_lossy(&status.stdout).contains(TOKEN));
    assert!(!node.stderr().contains(TOKEN), "the log shows it at level trace:\n{}", node.stderr());

    let inner = node.node_pid();
    for pid in [node.pid(), inner].into_iter().chain(children(node.pid())) {
        let words = as_other("cat", &[&format!("/proc/{pid}/cmdline")]);
        assert!(!String::from_utf8_lossy(&words.stdout).contains(TOKEN), "arguments of {pid}");
        let environment = as_other("cat", &[&format!("/proc/{pid}/environ")]);
        assert!(!environment.status.success(), "the environment of {pid} can be read");
    }
    for path in [
        "tmp/config.json",
        ".stead",
        ".stead/ledger.sqlite",
        ".stead/node.json",
        "data/database.sqlite-litestream",
        "data/database.sqlite-litestream/ltx/0",
    ] {
        let path = home.path(path).display().to_string();
        let read = as_other("sh", &["-c", "ls -A \"$0\"/. || cat \"$0\"", &path]);
        assert!(!read.status.success(), "{path}: {}", String::from_utf8_lossy(&read.stdout));
    }
}
