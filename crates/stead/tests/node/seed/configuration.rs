//! "Configuration Management" and its "Expected Behavior".

use super::{DATABASE, app, plain};
use crate::support::{Home, Node};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;

fn problems(error: &Value) -> Vec<&str> {
    error["problems"].as_array().unwrap().iter().map(|problem| problem["path"].as_str().unwrap()).collect()
}

/// "Server must create data directory if it doesn't exist"
#[test]
fn the_data_directory_is_made_at_start() {
    let home = Home::new();
    let _node = Node::start(&home);
    assert!(home.path("data").is_dir());
}

/// "Server must create tmp directory if it doesn't exist"
#[test]
fn the_tmp_directory_is_made_at_start() {
    let home = Home::new();
    let _node = Node::start(&home);
    assert!(home.path("tmp").is_dir());
}

/// "Server must initialize empty configuration state"
#[test]
fn a_new_home_holds_no_configuration() {
    let home = Home::new();
    let node = Node::start(&home);
    assert!(!home.exists("tmp/config.json"));
    assert_eq!(node.status()["configured"], false);
}

/// "Server must start unconfigured"
#[test]
fn a_new_node_is_unconfigured_and_does_nothing() {
    let home = Home::new();
    let node = Node::start(&home);
    let status = node.status();
    assert_eq!(status["state"], "unconfigured");
    assert_eq!(home.list("data"), [""; 0], "no database is made before one is asked for");
}

/// "POST /config must accept JSON configuration"
#[test]
fn a_posted_json_configuration_is_taken_whatever_its_content_type() {
    let home = Home::new();
    let node = Node::start(&home);
    let status = node.post("/config", &plain()).ok();
    assert_eq!((status["name"].as_str(), status["state"].as_str()), (Some("seed"), Some("primary")));
}

/// "Configuration must be validated: All required fields must be present"
#[test]
fn a_configuration_without_its_name_is_refused() {
    let home = Home::new();
    let error = Node::start(&home).post("/config", &json!({})).refused(400, "invalid_configuration");
    assert_eq!(problems(&error), ["name"]);
}

/// "Configuration must be validated: Storage configuration must be valid"
#[test]
fn a_store_that_is_none_is_refused() {
    let home = Home::new();
    let node = Node::start(&home);
    for url in ["nonsense", "ftp://somewhere", "s3://bucket//prefix", "file://relative"] {
        let config = json!({ "name": "seed", "storage": { "url": url } });
        let error = node.post("/config", &config).refused(400, "invalid_configuration");
        assert_eq!(problems(&error), ["storage.url"], "{url}");
    }
    let config = json!({ "name": "seed", "storage": { "sync_interval": "soon" } });
    let error = node.post("/config", &config).refused(400, "invalid_configuration");
    assert_eq!(problems(&error), ["storage.sync_interval"]);
}

/// "Configuration must be validated: Stack components must be valid"
#[test]
fn every_wrong_component_is_named_at_once() {
    let home = Home::new();
    let config = json!({
        "name": "seed",
        "databases": [{ "path": "../outside.db" }],
        "app": { "command": [], "stop_timeout": -1 },
        "checkpoints": { "keep": 0 },
        "lease": { "type": "dice" },
        "aap": {},
    });
    let error = Node::start(&home).post("/config", &config).refused(400, "invalid_configuration");
    let mut named = problems(&error);
    named.sort_unstable();
    let wrong =
        ["aap", "app.command", "app.stop_timeout", "checkpoints.keep", "databases[0].path", "lease.type"];
    assert_eq!(named, wrong, "{error:#}");
}

/// "On valid configuration: Configuration must be saved to disk"
#[test]
fn an_accepted_configuration_is_on_disk_and_private() {
    let home = Home::new();
    let _node = Node::configured(&home, &json!({ "name": "seed", "token": "secret" }));
    let saved: Value = serde_json::from_str(&home.read("tmp/config.json")).unwrap();
    assert_eq!(saved, json!({ "name": "seed", "token": "secret" }));
    let mode = home.path("tmp/config.json").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// "On valid configuration: Server must initialize configured components"
#[test]
fn the_answer_to_a_configuration_finds_its_components_started() {
    let home = Home::new();
    let status = Node::start(&home).configure(&app("exec sleep 1000"));
    assert_eq!(status["process"]["state"], "running");
    assert_eq!(status["components"]["database"]["state"], "ok");
    assert!(home.exists(DATABASE));
}

/// "On valid configuration: Response must be 200"
#[test]
fn a_component_that_fails_is_an_issue_and_the_answer_200() {
    let home = Home::new();
    let node = Node::start(&home);
    let answer = node.post("/config", &json!({ "name": "seed", "app": { "command": ["/no/such/program"] } }));
    assert_eq!(answer.status, 200);
    let issue = node.until_issue("command_missing");
    assert_eq!(
        (issue["component"].as_str(), issue["path"].as_str()),
        (Some("preflight"), Some("/no/such/program"))
    );
    assert_eq!(node.get("/config").status, 200);
}

/// "On invalid configuration: Configuration must not be saved"
#[test]
fn a_refused_configuration_leaves_no_trace() {
    let home = Home::new();
    let node = Node::start(&home);
    node.post("/config", &json!({ "name": 7 })).refused(400, "invalid_configuration");
    assert!(!home.exists("tmp/config.json"));
    node.get("/config").refused(404, "unconfigured");
}

/// "On invalid configuration: Response must be 400 with error details"
#[test]
fn a_refused_configuration_is_answered_with_every_problem() {
    let home = Home::new();
    let error = Node::start(&home)
        .post("/config", &json!({ "nmae": "seed", "retention": { "keep": "1 parsec" } }))
        .refused(400, "invalid_configuration");
    for problem in error["problems"].as_array().unwrap() {
        for part in ["path", "message", "hint"] {
            assert!(problem[part].as_str().is_some_and(|text| !text.is_empty()), "{problem:#}");
        }
    }
    assert_eq!(error["problems"].as_array().unwrap().len(), 3, "{error:#}");
    assert!(
        error.to_string().contains("did you mean `name`") || error.to_string().contains("`name`"),
        "{error:#}"
    );
}

/// "Configuration must be saved to tmp/config.json"
#[test]
fn a_saved_configuration_is_the_one_posted() {
    let home = Home::new();
    let posted = json!({ "name": "seed", "retention": { "keep": "3d" }, "app": { "command": "sleep 1000" } });
    let _node = Node::configured(&home, &posted);
    assert_eq!(serde_json::from_str::<Value>(&home.read("tmp/config.json")).unwrap(), posted);
}

/// "Configuration must be loaded on server start"
#[test]
fn a_saved_configuration_is_in_force_after_a_restart() {
    let home = Home::new();
    let node = Node::configured(&home, &app("exec sleep 1000"));
    let shown = |node: &Node| {
        let mut shown = node.get("/config").ok();
        // The flag that gives each test an address of its own lies over it.
        shown.as_object_mut().unwrap().remove("listen");
        shown
    };
    let before = shown(&node);
    assert_eq!(node.stop(), 0);
    let node = Node::start(&home);
    node.until_app();
    assert_eq!(shown(&node), before);
}

/// "Configuration must persist across restarts"
#[test]
fn a_changed_configuration_outlives_even_a_kill() {
    let home = Home::new();
    let node = Node::configured(&home, &plain());
    node.request("PUT", "/config", r#"{"name":"seed","retention":{"keep":"2d"}}"#).ok();
    node.kill();
    let node = Node::start(&home);
    assert_eq!(node.get("/config").ok()["retention"]["keep"], "2d");
}

/// "Invalid configuration file must cause server to start unconfigured"
#[test]
fn an_invalid_configuration_file_is_kept_aside_and_explained() {
    for (text, says) in [("{\"name\": ", "JSON"), (r#"{"invalid": true}"#, "invalid"), ("", "")] {
        let home = Home::new();
        home.write("tmp/config.json", text);
        let node = Node::start(&home);
        let status = node.status();
        assert_eq!(
            (status["state"].as_str(), status["configured"].as_bool()),
            (Some("unconfigured"), Some(false))
        );
        let issue = node.until_issue("config_invalid");
        assert!(issue["message"].as_str().unwrap().contains(says), "{issue:#}");
        assert!(status["reason"].as_str().unwrap().contains("tmp/config.json"), "{status:#}");
        assert!(node.stderr().contains("tmp/config.json was not taken"), "{}", node.stderr());
        let aside: Vec<_> = home.list("tmp").into_iter().filter(|name| name.contains("invalid")).collect();
        assert_eq!(aside.len(), 1);
        assert_eq!(home.read(&format!("tmp/{}", aside[0])), text);
        node.configure(&plain());
        node.until_well();
    }
}

/// "Configuration must be validated" and "Invalid configuration must be rejected"
#[test]
fn a_running_node_refuses_an_invalid_change_and_goes_on() {
    let home = Home::new();
    let node = Node::configured(&home, &app("exec sleep 1000"));
    let (before, pid) = (home.read("tmp/config.json"), node.until_app());
    node.request("PUT", "/config", r#"{"name":"seed","app":{"command":42}}"#)
        .refused(400, "invalid_configuration");
    assert_eq!((home.read("tmp/config.json"), node.until_app()), (before, pid));
}
