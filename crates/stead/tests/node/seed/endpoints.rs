//! "HTTP Interface": every endpoint with every status code, and the "Expected Behavior" of all.

use super::{DATABASE, app, plain};
use crate::support::{Answer, Home, Node, alive};
use serde_json::json;

/// "GET /: Must return 200"
#[test]
fn the_status_is_always_200() {
    let home = Home::new();
    let node = Node::start(&home);
    assert_eq!(node.get("/").status, 200);
    assert_eq!(node.get("/status").status, 200);
    node.configure(&plain());
    assert_eq!(node.get("/").status, 200);
    node.request("POST", "/release-lease", "").ok();
    assert_eq!(node.get("/").status, 200);
}

/// "GET /: Must include: Process status"
#[test]
fn the_status_includes_the_process() {
    let home = Home::new();
    let node = Node::configured(&home, &app("exec sleep 1000"));
    node.until_app();
    let process = node.status()["process"].clone();
    assert_eq!(process["state"], "running");
    assert!(process["pid"].is_u64() && process["uptime_ms"].is_u64(), "{process:#}");
    assert_eq!(process["restarts"], 0);
    assert!(process["last_exit"].is_null());
}

/// "GET /: Must include: Component status"
#[test]
fn the_status_includes_every_component() {
    let home = Home::new();
    let store = home.beside("store");
    let node = Node::configured(
        &home,
        &json!({ "name": "seed", "storage": { "url": format!("file://{}", store.display()) } }),
    );
    let components = node.status()["components"].clone();
    for part in ["database", "storage", "lease"] {
        assert_eq!(components[part]["state"], "ok", "{part}: {components:#}");
        assert!(!components[part]["since"].is_null());
    }
    assert!(components["app"].is_null() && components["mount"].is_null(), "{components:#}");
}

/// "GET /: Must include: Configuration status"
#[test]
fn the_status_says_whether_there_is_a_configuration() {
    let home = Home::new();
    let node = Node::start(&home);
    assert_eq!(node.status()["configured"], false);
    node.configure(&plain());
    assert_eq!(node.status()["configured"], true);
    node.request("DELETE", "/config", "").ok();
    assert_eq!(node.status()["configured"], false);
}

/// "GET /config: Must return 200 if configured"
#[test]
fn a_configured_node_shows_its_configuration() {
    let home = Home::new();
    assert_eq!(Node::configured(&home, &plain()).get("/config").status, 200);
}

/// "GET /config: Must return 404 if unconfigured"
#[test]
fn a_node_that_forgot_its_configuration_has_none_to_show() {
    let home = Home::new();
    let node = Node::configured(&home, &plain());
    node.request("DELETE", "/config", "").ok();
    node.get("/config").refused(404, "unconfigured");
    assert!(!home.exists("tmp/config.json"));
    assert!(home.exists(DATABASE), "the data is never forgotten");
}

/// "GET /config: Must return current configuration"
#[test]
fn the_configuration_shown_has_every_key_and_no_secret() {
    let home = Home::new();
    let node = Node::configured(&home, &json!({ "name": "seed", "token": "open-sesame" }));
    let shown = node.get("/config");
    let text = String::from_utf8_lossy(&shown.body).into_owned();
    assert!(!text.contains("sesame"), "{text}");
    let shown = shown.ok();
    assert_eq!((shown["token"].as_str(), shown["retention"]["keep"].as_str()), (Some("***"), Some("30d")));
}

/// "POST /config: Must return 400 if already configured"
#[test]
fn a_second_configuration_is_refused() {
    let home = Home::new();
    let node = Node::configured(&home, &plain());
    node.post("/config", &json!({ "name": "other" })).refused(400, "already_configured");
    node.post("/config", &json!({ "invalid": true })).refused(400, "already_configured");
    assert_eq!(node.get("/config").ok()["name"], "seed");
}

/// "POST /config: Must return 400 if invalid configuration"
#[test]
fn what_is_no_configuration_is_refused() {
    let home = Home::new();
    let node = Node::start(&home);
    for body in
        ["", "{", "null", "[]", "\"seed\"", "name: seed", r#"{"name":"a","name":"b"}"#, r#"{"invalid":true}"#]
    {
        let answer = node.request("POST", "/config", body);
        assert_eq!(answer.status, 400, "{body}: {}", String::from_utf8_lossy(&answer.body));
        assert!(answer.json()["error"]["message"].is_string());
    }
}

/// "POST /config: Must return 200 on successful configuration"
#[test]
fn a_configuration_is_answered_with_the_status() {
    let home = Home::new();
    let answer = Node::start(&home).post("/config", &plain());
    assert_eq!((answer.status, answer.json()["configured"].as_bool()), (200, Some(true)));
}

/// "POST /checkpoint: Must return 400 if unconfigured"
#[test]
fn an_unconfigured_node_makes_no_checkpoint() {
    let home = Home::new();
    Node::start(&home).post("/checkpoint", &json!({ "id": "test1" })).refused(400, "unconfigured");
}

/// "POST /checkpoint: Must return 400 if invalid checkpoint ID"
#[test]
fn an_id_that_is_no_plain_name_is_refused() {
    let home = Home::new();
    let node = Node::configured(&home, &plain());
    for id in ["", "../x", "a/b", ".hidden", "-x", "a b", "ä", "a\u{0}", &"a".repeat(129)] {
        node.post("/checkpoint", &json!({ "id": id })).refused(400, "bad_checkpoint_id");
    }
    for body in ["{", r#"{"id":7}"#, r#"{"name":"x"}"#, "[]"] {
        assert_eq!(node.request("POST", "/checkpoint", body).status, 400, "{body}");
    }
    assert_eq!(home.list("tmp/checkpoints"), [""; 0]);
    assert_eq!(node.status()["checkpoints"]["count"], 0);
}

/// "POST /checkpoint: Must return 200 on successful checkpoint"
#[test]
fn a_checkpoint_is_answered_with_its_positions() {
    let home = Home::new();
    let node = Node::configured(&home, &plain());
    home.db(DATABASE).insert_rows(1);
    let made = node.checkpoint("test1");
    assert_eq!(made["id"], "test1");
    assert!(made["created"].is_number() || made["created"].is_string(), "{made:#}");
    assert!(made["ms"].as_f64().unwrap() > 0.0);
    assert!(made["databases"][DATABASE]["txid"].as_u64().unwrap() > 0, "{made:#}");
    node.post("/checkpoint", &json!({ "id": "test1" })).refused(409, "checkpoint_exists");
}

/// "POST /restore: Must return 400 if unconfigured"
#[test]
fn an_unconfigured_node_restores_nothing() {
    let home = Home::new();
    Node::start(&home).post("/restore", &json!({ "id": "test1" })).refused(400, "unconfigured");
}

/// "POST /restore: Must return 404 if checkpoint not found"
#[test]
fn an_unknown_checkpoint_is_not_restored_and_the_app_goes_on() {
    let home = Home::new();
    let node = Node::configured(&home, &app("exec sleep 1000"));
    let pid = node.until_app();
    node.post("/restore", &json!({ "id": "nonexistent" })).refused(404, "no_such_checkpoint");
    assert_eq!(node.until_app(), pid);
    for body in ["{}", "{", r#"{"id":"a","undo":true}"#, r#"{"id":"../x"}"#, r#"{"time":"yesterday"}"#] {
        assert_eq!(node.request("POST", "/restore", body).status, 400, "{body}");
    }
}

/// "POST /restore: Must return 200 on successful restore"
#[test]
fn a_restore_is_answered_with_what_changed() {
    let home = Home::new();
    let node = Node::configured(&home, &plain());
    let db = home.db(DATABASE);
    db.insert_rows(1);
    node.checkpoint("test1");
    db.insert_rows(1);
    let restored = node.restore("test1");
    assert_eq!((restored["target"].as_str(), restored["dry_run"].as_bool()), (Some("test1"), Some(false)));
    assert_eq!(restored["databases"][0]["change"], "turned_back");
    assert!(!restored["steps"].as_array().unwrap().is_empty());
}

/// "POST /release-lease: Must return 400 if unconfigured"
#[test]
fn an_unconfigured_node_has_no_lease_to_release() {
    let home = Home::new();
    Node::start(&home).request("POST", "/release-lease", "").refused(400, "unconfigured");
}

/// "POST /release-lease: Must return 200 on successful lease release"
#[test]
fn a_released_lease_stops_the_app_until_it_is_taken_again() {
    let home = Home::new();
    let node = Node::configured(&home, &app("exec sleep 1000"));
    let pid = node.until_app();
    assert_eq!(node.get("/primary").status, 200);
    node.request("POST", "/release-lease", "not json").refused(400, "malformed");
    assert!(alive(pid), "what is not understood stops nothing");
    assert_eq!(node.request("POST", "/release-lease", "").status, 200);
    assert!(!alive(pid));
    // On a single node nothing but this or a restart takes it again.
    node.request("POST", "/promote", r#"{"force":true}"#).refused(400, "malformed");
    assert_eq!(node.status()["lease"]["state"], "released");
    assert_eq!(node.get("/primary").status, 503);
    node.request("POST", "/app", r#"{"action":"start"}"#).refused(409, "not_now");
    node.request("POST", "/release-lease", "").ok();
    node.request("POST", "/promote", "").ok();
    node.until_app();
    node.request("POST", "/promote", "").ok();
    node.request("POST", "/release-lease", "").ok();
    node.stop();
    Node::start(&home).until_app();
}

/// "All endpoints must return correct status codes"
#[test]
fn what_is_no_route_or_no_method_is_told_apart() {
    let home = Home::new();
    let node = Node::start(&home);
    node.get("/nonsense").refused(404, "no_such_route");
    for (method, path, allowed) in [
        ("GET", "/restore", "POST"),
        ("PUT", "/checkpoint", "GET"),
        ("POST", "/", "GET"),
        ("DELETE", "/app", "POST"),
    ] {
        let answer = node.request(method, path, "");
        answer.refused(405, "wrong_method");
        let allow = answer.head.lines().find(|line| line.to_lowercase().starts_with("allow:"));
        assert!(allow.is_some_and(|line| line.contains(allowed)), "{method} {path}: {}", answer.head);
    }
    assert_eq!(node.get("/api/health/live").status, 200);
    node.request("POST", "/config", &" ".repeat((1 << 20) + 1)).refused(413, "body_too_large");
}

/// "All endpoints must return appropriate responses"
#[test]
fn every_answer_is_json_and_not_to_be_kept() {
    let home = Home::new();
    let node = Node::configured(&home, &plain());
    let check = |what: &str, answer: &Answer| {
        let head = answer.head.to_lowercase();
        assert!(head.contains("content-type: application/json"), "{what}: {head}");
        assert!(head.contains("cache-control: no-store"), "{what}: {head}");
        answer.json();
    };
    for path in
        ["/", "/config", "/checkpoint", "/databases", "/history", "/logs", "/nonsense", "/api/health/ready"]
    {
        check(path, &node.get(path));
    }
    for path in ["/config", "/checkpoint", "/restore", "/app"] {
        check(path, &node.request("POST", path, "{"));
    }
    let head = format!("Host: {}\r\nAccept: text/html\r\n", home.address());
    let page = crate::support::request_with(&home.address(), "GET", "/", &head);
    assert!(String::from_utf8_lossy(&page.body).contains("<html"), "a browser gets a page");
}

/// "Invalid requests must be rejected"
#[test]
fn a_request_that_a_foreign_page_caused_changes_nothing() {
    let home = Home::new();
    let node = Node::configured(&home, &plain());
    let own = format!("Host: {}\r\n", home.address());
    for head in [
        format!("{own}Origin: http://evil.example\r\n"),
        format!("{own}Sec-Fetch-Site: cross-site\r\n"),
        "Host: evil.example\r\n".to_owned(),
    ] {
        let answer = crate::support::request_with(&home.address(), "DELETE", "/config", &head);
        answer.refused(403, "forbidden");
    }
    assert_eq!(node.status()["configured"], true);
}

/// "Unconfigured operations must be rejected"
#[test]
fn nothing_can_be_done_with_an_unconfigured_node() {
    let home = Home::new();
    let node = Node::start(&home);
    for (path, body) in
        [("/promote", ""), ("/app", r#"{"action":"start"}"#), ("/restore", r#"{"undo":true}"#)]
    {
        node.request("POST", path, body).refused(400, "unconfigured");
    }
    node.request("PUT", "/config", r#"{"name":"seed"}"#).refused(404, "unconfigured");
    node.request("DELETE", "/config", "").refused(404, "unconfigured");
    node.get("/databases/data/database.sqlite").refused(400, "unconfigured");
}
