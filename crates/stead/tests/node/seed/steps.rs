//! "Verification Steps", one by one; `seed_script` runs them as bash and curl.

use super::{DATABASE, app, plain};
use crate::support::{Home, Node, app_pid, signal, sqlite3};
use serde_json::json;

/// "Start server without configuration: ./state-manager; curl http://localhost:8080/; curl …/config"
#[test]
fn basic_functionality_1_start_without_configuration() {
    let home = Home::new();
    let node = Node::start(&home);
    assert_eq!((node.get("/").status, node.get("/config").status), (200, 404));
}

/// "Apply configuration: curl -X POST http://localhost:8080/config -d @config.json; curl …/config"
#[test]
fn basic_functionality_2_apply_configuration() {
    let home = Home::new();
    let node = Node::start(&home);
    assert_eq!(node.post("/config", &plain()).status, 200);
    assert_eq!(node.get("/config").ok()["name"], "seed");
}

/// "Verify process management: curl …/; kill <PID>; # Verify restart; curl …/"
#[test]
fn basic_functionality_3_kill_and_verify_restart() {
    let home = Home::new();
    let node = Node::configured(&home, &app("exec sleep 1000"));
    let pid = node.until_app();
    signal(pid, "TERM");
    let status =
        node.until("another pid", |status| status["process"]["state"] == "running" && app_pid(status) != pid);
    assert_eq!(
        (status["process"]["restarts"].as_u64(), status["process"]["last_exit"]["signal"].as_str()),
        (Some(1), Some("SIGTERM"))
    );
}

/// "Create checkpoint: curl -X POST http://localhost:8080/checkpoint -d '{"id":"test1"}'"
#[test]
fn state_management_1_create_checkpoint() {
    let home = Home::new();
    let answer = Node::configured(&home, &plain()).request("POST", "/checkpoint", r#"{"id":"test1"}"#);
    assert_eq!(answer.ok()["id"], "test1");
}

/// "Verify checkpoint: ls -l tmp/checkpoints/test1"
#[test]
fn state_management_2_verify_checkpoint() {
    let home = Home::new();
    Node::configured(&home, &plain()).checkpoint("test1");
    assert_eq!(home.list("tmp/checkpoints/test1"), ["checkpoint.json"]);
}

/// "Restore checkpoint: curl -X POST http://localhost:8080/restore -d '{"id":"test1"}'"
#[test]
fn state_management_3_restore_checkpoint() {
    let home = Home::new();
    let node = Node::configured(&home, &plain());
    home.db(DATABASE).insert_rows(2);
    node.checkpoint("test1");
    home.db(DATABASE).insert_rows(2);
    node.request("POST", "/restore", r#"{"id":"test1"}"#).ok();
    assert_eq!(home.db(DATABASE).rows(), 2);
}

/// "Invalid configuration: curl -X POST http://localhost:8080/config -d '{"invalid":true}'"
#[test]
fn error_handling_1_invalid_configuration() {
    let home = Home::new();
    let error = Node::start(&home)
        .request("POST", "/config", r#"{"invalid":true}"#)
        .refused(400, "invalid_configuration");
    assert!(error["problems"].to_string().contains("invalid"), "{error:#}");
}

/// "Invalid checkpoint: curl -X POST http://localhost:8080/restore -d '{"id":"nonexistent"}'"
#[test]
fn error_handling_2_invalid_checkpoint() {
    let home = Home::new();
    Node::configured(&home, &plain())
        .request("POST", "/restore", r#"{"id":"nonexistent"}"#)
        .refused(404, "no_such_checkpoint");
}

/// "Process failure: # Start process that will fail # Verify restart behavior"
#[test]
fn error_handling_3_process_failure() {
    let home = Home::new();
    let node = Node::configured(&home, &app("exit 3"));
    let status = node.until("some restarts", |status| status["process"]["restarts"].as_u64() >= Some(2));
    assert_eq!(status["process"]["last_exit"]["code"], 3);
    assert_eq!(status["components"]["database"]["state"], "ok");
}

/// "Database Creation: # Verify database exists; ls -l data/database.sqlite"
#[test]
fn database_verification_1_the_database_exists() {
    let home = Home::new();
    let _node = Node::configured(&home, &json!({ "name": "seed" }));
    assert!(home.exists("data/database.sqlite"));
}

/// "Database Creation: # Verify replication; ls -l data/database.sqlite-litestream"
#[test]
fn database_verification_1_its_history_exists() {
    let home = Home::new();
    let node = Node::configured(&home, &plain());
    sqlite3(&home.path(DATABASE), "CREATE TABLE t(x)").unwrap();
    node.until_sealed(DATABASE);
    assert!(home.path("data/database.sqlite-litestream").is_dir());
}

/// "Database Operations: sqlite3 data/database.sqlite "SELECT 1;""
#[test]
fn database_verification_2_access() {
    let home = Home::new();
    let _node = Node::configured(&home, &plain());
    assert_eq!(sqlite3(&home.path(DATABASE), "SELECT 1;").unwrap(), "1");
}

/// "Database Operations: # Verify replication status; curl http://localhost:8080/"
#[test]
fn database_verification_2_replication_status() {
    let home = Home::new();
    let node = Node::configured(&home, &plain());
    sqlite3(&home.path(DATABASE), "CREATE TABLE t(x)").unwrap();
    let status = node.until_sealed(DATABASE);
    assert_eq!(status["databases"][0]["mode"], "wal");
    assert!(status["databases"][0]["history"].as_str().unwrap().contains("-litestream"));
}
