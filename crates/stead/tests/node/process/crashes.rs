//! An app that keeps ending: seen, explained, and tried again all the same.

use super::app;
use crate::support::{Home, Node, issue};
use serde_json::json;

// semantics: crash-loop
#[test]
fn an_app_that_keeps_ending_is_an_issue_with_its_code_and_last_words() {
    let home = Home::new();
    let script = "[ -e mended ] && exec sleep 1000; echo one >&2; echo no such table >&2; exit 3";
    let node = Node::configured(&home, &app(script));
    let found = node.until_issue("app_crash_loop");
    let message = found["message"].as_str().unwrap();
    assert!(message.contains("times without a run of 10 minutes, the last time with code 3"), "{message}");
    assert!(message.contains("no such table"), "{message}");
    assert_eq!((&found["exit_code"], &found["component"]), (&json!(3), &json!("app")));
    assert!(found["hint"].as_str().unwrap().contains("stead app restart"), "{found:#}");
    let health = node.get("/api/health/ready?verbose=1").json();
    assert_eq!(health["issues"][0]["exit_code"], 3, "{health:#}");
    let restarts = node.status()["process"]["restarts"].as_u64();
    node.until("it is tried again", |status| status["process"]["restarts"].as_u64() > restarts);

    home.write("mended", "");
    node.post("/app", &json!({ "action": "start" })).ok();
    node.until("a start by hand clears it", |status| {
        status["process"]["state"] == "running" && issue(status, "app_crash_loop").is_none()
    });
}

#[test]
fn four_ends_are_no_loop_and_a_signal_has_its_number() {
    let home = Home::new();
    let script = "echo >> ends; [ $(wc -l < ends) -gt 4 ] && [ ! -e more ] && exec sleep 1000; kill -KILL $$";
    let node = Node::configured(&home, &app(script));
    let status = node.until("the fifth run", |status| {
        status["process"]["restarts"] == 4 && status["process"]["state"] == "running"
    });
    assert!(issue(&status, "app_crash_loop").is_none());
    home.write("more", "");
    crate::support::signal(node.until_app(), "KILL");
    let found = node.until_issue("app_crash_loop");
    assert_eq!(found["exit_code"], 128 + 9);
    assert!(found["message"].as_str().unwrap().contains("by SIGKILL"), "{found:#}");
}
