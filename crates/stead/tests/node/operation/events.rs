//! `GET /events`: who listens sees what happens, in order.

use super::{DATABASE, with_app};
use crate::support::{Events, Home, Node, until};
use serde_json::json;

#[test]
fn a_listener_sees_databases_checkpoints_restores_and_the_app() {
    let home = Home::new();
    let node = Node::configured(&home, &with_app());
    node.until_app();
    let mut events = Events::open(home.socket_address());

    home.db(DATABASE).insert_rows(2);
    let joined = events.until("database", |data| data["what"] == "joined");
    assert_eq!(joined["path"], DATABASE);

    node.checkpoint("first");
    let made = events.until("checkpoint", |data| data["id"] == "first");
    assert!(made["created"].is_string() && made["ms"].is_number(), "{made:#}");

    home.db(DATABASE).insert_rows(2);
    node.restore("first");
    let steps = ["running", "done"].map(|state| events.until("restore", |data| data["state"] == state));
    assert!(steps.iter().all(|step| step["target"] == "first"), "{steps:?}");

    node.request("DELETE", "/checkpoint/first", "").ok();
    events.until("checkpoint", |data| *data == json!({ "id": "first", "removed": true }));

    node.request("POST", "/app", r#"{"action":"stop"}"#).ok();
    events.until("app", |data| data["state"] == "stopped");

    node.request("POST", "/release-lease", "").ok();
    let role = events.until("role", |_| true);
    assert!(role["reason"].as_str().unwrap().contains("released"), "{role:#}");
    events.until("state", |data| data["to"] == "replica");
}

#[test]
fn an_app_is_stopped_and_started_within_the_events_of_its_restore() {
    let home = Home::new();
    let node = Node::configured(&home, &with_app());
    node.until_app();
    node.checkpoint("first");
    let mut events = Events::open(home.socket_address());
    node.restore("first");
    let mut seen = Vec::new();
    loop {
        let (name, data) = events.next();
        if let "app" | "restore" = name.as_str() {
            seen.push(format!("{name} {}", data["state"].as_str().unwrap()));
        }
        let has = |what: &str| seen.iter().any(|line| line == what);
        if has("restore done") && has("app running") {
            break;
        }
    }
    let place =
        |what: &str| seen.iter().position(|line| line == what).unwrap_or_else(|| panic!("{what}: {seen:?}"));
    assert_eq!(place("restore running"), 0, "{seen:?}");
    assert!(place("app stopped") < place("app running"), "{seen:?}");
}

#[test]
fn a_stream_tells_of_states_and_failures_and_ends_with_the_node() {
    let home = Home::new();
    let node = Node::start(&home);
    let mut events = Events::open(home.socket_address());
    node.configure(&json!({ "name": "operation", "listen": "127.0.0.1:1" }));
    events.until("state", |data| data["to"] == "starting");
    events.until("state", |data| data["to"] == "primary");
    let config =
        json!({ "name": "operation", "app": { "command": ["sh", "-c", "exit 3"], "restart_delay": "50ms" } });
    node.request("PUT", "/config", &config.to_string()).ok();
    let backoff = events.until("app", |data| data["state"] == "backoff");
    assert_eq!(backoff["last_exit"]["code"], 3, "{backoff:#}");
    node.stop();
    until("the stream ends", || events.ended().then_some(()));
}
