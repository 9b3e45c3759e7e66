//! "Process Start": a node with and without configuration.

use super::{app, plain};
use crate::support::{Home, Node};

/// "When started without configuration: Server must start and listen on port 8080"
#[test]
fn an_unconfigured_node_listens_on_port_8080() {
    let home = Home::new();
    let node = Node::start(&home);
    assert!(home.address().ends_with(":8080"));
    assert_eq!(node.get("/").status, 200);
    // That it is the port without being told is shown by the script, in a network of its own.
    let schema = String::from_utf8(home.stead(&["config", "schema"]).stdout).unwrap();
    assert!(schema.contains("127.0.0.1:8080"), "{schema}");
}

/// "When started without configuration: GET / must return 200 with empty status"
#[test]
fn the_status_of_an_unconfigured_node_is_empty() {
    let home = Home::new();
    let status = Node::start(&home).status();
    assert_eq!(status["state"], "unconfigured");
    assert_eq!(status["configured"], false);
    for empty in ["databases", "replicas", "issues"] {
        assert_eq!(status[empty].as_array().map(Vec::len), Some(0), "{empty}");
    }
    for null in ["name", "role", "lease"] {
        assert!(status[null].is_null(), "{null}: {}", status[null]);
    }
    for part in ["database", "storage", "mount", "lease", "app"] {
        assert!(status["components"].as_object().unwrap().contains_key(part));
        assert!(status["components"][part].is_null(), "{part}");
    }
    assert_eq!(status["process"]["state"], "none");
    assert!(status["process"]["pid"].is_null());
    assert_eq!(status["checkpoints"]["count"], 0);
}

/// "When started without configuration: GET /config must return 404"
#[test]
fn an_unconfigured_node_has_no_configuration_to_show() {
    let home = Home::new();
    Node::start(&home).get("/config").refused(404, "unconfigured");
}

/// "When started with configuration: Server must start and listen on port 8080"
#[test]
fn a_configured_node_listens_on_port_8080() {
    let home = Home::new();
    home.write("tmp/config.json", plain().to_string());
    let node = Node::start(&home);
    assert!(home.address().ends_with(":8080"));
    node.until("it is up", |status| status["state"] == "primary");
}

/// "When started with configuration: GET / must return 200 with status including configured components"
#[test]
fn the_status_of_a_configured_node_has_its_components() {
    let home = Home::new();
    home.write("tmp/config.json", app("sleep 1000").to_string());
    let node = Node::start(&home);
    node.until_app();
    let status = node.status();
    assert_eq!(status["name"], "seed");
    assert_eq!(status["configured"], true);
    for part in ["database", "lease", "app"] {
        assert_eq!(status["components"][part]["state"], "ok", "{part}");
    }
    assert!(status["components"]["storage"].is_null(), "none is configured");
    assert_eq!(status["databases"][0]["path"], "data/database.sqlite");
}

/// "When started with configuration: GET /config must return 200 with current configuration"
#[test]
fn a_node_started_with_a_configuration_shows_it() {
    let home = Home::new();
    let file = home.write("stead.yaml", "name: from-a-file\nretention: { keep: 7d }\n");
    let node = Node::start_with(&home, &["--config", file.to_str().unwrap()]);
    let shown = node.get("/config").ok();
    assert_eq!(
        (shown["name"].as_str(), shown["retention"]["keep"].as_str()),
        (Some("from-a-file"), Some("7d"))
    );
}
