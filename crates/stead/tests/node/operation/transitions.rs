//! The log tells a node's life: every change with its reason, as much of it as `log.level` lets pass.

use super::{DATABASE, with_app};
use crate::support::{Home, Node};
use serde_json::{Value, json};

/// A node's whole life with a level of its log; the objects that it wrote, and those lines that are none.
fn life(level: &str) -> (Vec<Value>, Vec<String>) {
    let home = Home::new();
    let mut config = with_app();
    config["log"] = json!({ "format": "json", "level": level });
    home.write("tmp/config.json", config.to_string());
    let node = Node::start(&home);
    node.until_app();
    home.db(DATABASE).insert_rows(1);
    node.checkpoint("c1");
    node.restore("c1");
    node.until_app();
    node.request("POST", "/app", r#"{"action":"stop"}"#).ok();
    node.request("POST", "/app", r#"{"action":"start"}"#).ok();
    node.until_app();
    node.request("POST", "/release-lease", "").ok();
    node.request("POST", "/promote", "").ok();
    node.until_app();
    node.post("/restore", &json!({ "undo": true })).ok();
    assert_eq!(node.stop(), 0);
    let log = std::fs::read_to_string(home.beside("stderr")).unwrap();
    let (objects, others): (Vec<&str>, Vec<&str>) = log.lines().partition(|line| line.starts_with('{'));
    let objects = objects.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    (objects, others.iter().map(|line| (*line).to_owned()).collect())
}

#[test]
fn every_change_of_the_node_and_of_the_app_is_logged_with_its_reason() {
    let (log, others) = life("info");
    assert_eq!(others, [""; 0], "once the configuration is read, every line is an object");
    let of = |event: &str| -> Vec<&Value> { log.iter().filter(|line| line["event"] == event).collect() };
    let steps: Vec<String> = of("state")
        .iter()
        .map(|line| format!("{} {}", line["from"].as_str().unwrap(), line["to"].as_str().unwrap()))
        .collect();
    assert_eq!(
        steps,
        [
            "unconfigured starting",
            "starting primary",
            "primary replica",
            "replica primary",
            "primary draining",
            "draining stopped",
        ]
    );
    for line in of("state").into_iter().chain(of("app")) {
        let why = line["message"].as_str().unwrap_or_default();
        assert!(!why.is_empty(), "{line:#}");
    }
    let why = |event: &str| -> String {
        of(event).iter().map(|line| format!("{}\n", line["message"].as_str().unwrap())).collect()
    };
    for reason in [
        "tmp/config.json",
        "static lease",
        "the lease was released",
        "promoted",
        "the supervisor was told to end",
    ] {
        assert!(why("state").contains(reason), "{reason} is no reason in\n{}", why("state"));
    }
    assert!(of("app").len() >= 8, "{}", why("app"));
    for event in ["node listens", "checkpoint made", "restore begun", "restored", "node ends"] {
        assert!(!of(event).is_empty(), "{event}");
    }
    assert!(log.iter().all(|line| line["timestamp"].is_string() && line["level"].is_string()));
}

#[test]
fn the_level_decides_how_much_is_told() {
    let levels = |level: &str| {
        let mut seen: Vec<String> =
            life(level).0.iter().map(|line| line["level"].as_str().unwrap().to_owned()).collect();
        seen.sort();
        seen.dedup();
        seen
    };
    for level in ["error", "warn"] {
        assert_eq!(levels(level), [""; 0], "nothing went wrong");
    }
    assert_eq!(levels("info"), ["INFO"]);
}
