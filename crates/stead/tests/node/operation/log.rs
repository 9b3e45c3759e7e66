//! The node's own log: lines for people, objects for machines.

use super::config;
use crate::support::{Home, Node};
use serde_json::Value;

#[test]
fn lines_are_plain_and_in_json_every_field_has_its_name() {
    let home = Home::new();
    let node = Node::configured(&home, &config());
    node.checkpoint("first");
    drop(node);
    let log = std::fs::read_to_string(home.beside("stderr")).unwrap();
    let made =
        log.lines().find(|line| line.contains("a checkpoint was made")).unwrap_or_else(|| panic!("{log}"));
    let (time, rest) = made.split_once(' ').unwrap();
    assert!(time.ends_with('Z') && rest.starts_with("INFO  a checkpoint was made  id=first ms="), "{made}");
    for noise in ["event=", "node::", "database::", "\u{1b}"] {
        assert!(!log.contains(noise), "{noise}: {log}");
    }

    let home = Home::new();
    let mut config = config();
    config["log"] = serde_json::json!({ "format": "json" });
    let node = Node::configured(&home, &config);
    node.checkpoint("first");
    drop(node);
    let log = std::fs::read_to_string(home.beside("stderr")).unwrap();
    let objects: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let made = objects.iter().find(|line| line["message"] == "a checkpoint was made");
    let made = made.unwrap_or_else(|| panic!("{log}"));
    assert_eq!((&made["level"], &made["id"]), (&"INFO".into(), &"first".into()), "{made:#}");
    assert!(made["ms"].is_number() && made["timestamp"].is_string(), "{made:#}");
}
