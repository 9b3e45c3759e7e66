//! The node's own log: lines for people, objects for machines.

use super::config;
use crate::support::{Home, Node, signal, until};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

#[test]
fn lines_are_plain_and_in_json_every_field_has_its_name() {
    let home = Home::new();
    let node = Node::configured(&home, &config());
    node.checkpoint("first");
    drop(node);
    let log = std::fs::read_to_string(home.beside("stderr")).unwrap();
    let made = log.lines().find(|line| line.contains("checkpoint made")).unwrap_or_else(|| panic!("{log}"));
    let (time, rest) = made.split_once(' ').unwrap();
    assert!(time.ends_with('Z') && rest.starts_with("INFO  checkpoint made  id=first ms="), "{made}");
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
    let made = objects.iter().find(|line| line["event"] == "checkpoint made");
    let made = made.unwrap_or_else(|| panic!("{log}"));
    assert_eq!((&made["level"], &made["id"]), (&"INFO".into(), &"first".into()), "{made:#}");
    assert!(made["ms"].is_number() && made["timestamp"].is_string(), "{made:#}");
}

/// Every line that the node writes by itself has a name, and `docs/reference/logs.md` lists it.
#[test]
fn every_event_of_the_log_is_documented() {
    let page = include_str!("../../../../../docs/reference/logs.md");
    let documented: BTreeSet<&str> =
        page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let mut named = BTreeSet::new();
    let crates = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let mut directories = vec![std::path::PathBuf::from(crates)];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("tests") && !path.ends_with("benches") {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                names_in(&path, &mut named);
            }
        }
    }
    let named: BTreeSet<&str> = named.iter().map(String::as_str).collect();
    assert_eq!(named, documented);
}

/// The names of one source file's lines; its unit tests may write others.
fn names_in(path: &Path, named: &mut BTreeSet<String>) {
    let text = std::fs::read_to_string(path).unwrap();
    let code = text.split("#[cfg(test)]").next().unwrap();
    for (before, first) in [
        ("tracing::error!(", "event = \""),
        ("tracing::warn!(", "event = \""),
        ("tracing::info!(", "event = \""),
        ("output.say(", "\""),
    ] {
        for line in code.split(before).skip(1) {
            let name = line.trim_start().strip_prefix(first);
            let name = name
                .unwrap_or_else(|| panic!("{}: a line without a name: {before}{line:.60}", path.display()));
            named.insert(name.split('"').next().unwrap().to_owned());
        }
    }
}

#[test]
fn the_supervisors_lines_have_the_form_of_the_nodes() {
    let home = Home::new();
    let mut config = config();
    config["log"] = serde_json::json!({ "format": "json" });
    config["app"] =
        serde_json::json!({ "command": ["sh", "-c", "echo '{not json'; echo plain >&2; exec sleep 1000"] });
    let node = Node::configured(&home, &config);
    node.until_app();
    let first = node.node_pid();
    signal(first, "KILL");
    let said = until("the supervisor says so", || {
        node.stderr().lines().find(|line| line.contains("node ended")).map(str::to_owned)
    });
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&said["event"], &said["target"]), (&"node ended".into(), &"supervisor".into()), "{said:#}");
    assert!(said["message"].is_string() && said["timestamp"].is_string());
    until("the app's lines are as it wrote them", || {
        (node.stderr().lines().any(|line| line == "plain")
            && node.stdout().lines().any(|line| line == "{not json"))
        .then_some(())
    });
}
