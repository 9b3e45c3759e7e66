//! What readiness says of paths, and that a change is seen without anybody waiting for it.

use super::*;
use crate::support::{Node, until_within};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(90);

fn ready(node: &Node<'_>) -> (u16, Value) {
    let answer = node.get("/api/health/ready?verbose=1");
    (answer.status, answer.json())
}

#[test]
fn a_ready_node_says_what_it_knows_of_its_paths() {
    let home = Home::new();
    let path = directory(home.beside("music"), (0, 0), 0o755);
    let file = config_file(&home, &json!([{ "path": path, "name": "albums" }]));
    let node = Node::start_with(&home, &["--config", &file]);
    node.until_app();
    let (code, said) = until_within(PATIENCE, "it is ready", || {
        let (code, said) = ready(&node);
        (code == 200 && said["checks"]["database.data/database.sqlite"]["exists"] == true)
            .then_some((code, said))
    });
    assert_eq!((code, said["status"].as_str()), (200, Some("ok")));
    let albums = &said["checks"]["paths.albums"];
    for (key, wanted) in [
        ("status", json!("ok")),
        ("path", json!(path)),
        ("exists", json!(true)),
        ("is_dir", json!(true)),
        ("writable", json!(true)),
        ("owner", json!("0:0")),
    ] {
        assert_eq!(albums[key], wanted, "{key}: {albums:#}");
    }
    assert!(albums["ms"].is_number() && albums["age_ms"].is_u64(), "{albums:#}");
    let database = &said["checks"]["database.data/database.sqlite"];
    assert_eq!(
        (database["writable"].as_bool(), database["path"].as_str()),
        (Some(true), Some("data/database.sqlite"))
    );
    assert_eq!(database["parent"]["writable"], true, "{database:#}");
    assert_eq!(database["parent"]["path"], home.path("data").to_str().unwrap());
    assert_eq!(path.read_dir().unwrap().count(), 0);
}

#[test]
fn a_directory_lost_while_the_node_runs_is_an_issue_until_it_is_back() {
    let home = Home::new();
    let path = directory(home.beside("music"), (0, 0), 0o755);
    let file = config_file(&home, &json!([{ "path": path }]));
    let node = Node::start_with(&home, &["--config", &file]);
    let app = node.until_app();
    std::fs::remove_dir(&path).unwrap();
    let said = until_within(PATIENCE, "it is not ready", || {
        let (code, said) = ready(&node);
        (code == 503).then_some(said)
    });
    let check = &said["checks"]["paths.music"];
    assert_eq!(
        (check["status"].as_str(), check["exists"].as_bool()),
        (Some("fail"), Some(false)),
        "{check:#}"
    );
    assert_eq!(check["hint"], format!("sudo mkdir -p {}", path.display()));
    let issue = node.until_issue("directory_missing");
    assert_eq!((issue["path"].as_str(), issue["component"].as_str()), (path.to_str(), Some("preflight")));
    let issue = said["issues"].as_array().unwrap().iter().find(|issue| issue["component"] == "preflight");
    assert_eq!(issue.unwrap()["exit_code"], 71);
    shell(check["hint"].as_str().unwrap());
    until_within(PATIENCE, "it is ready again", || (ready(&node).0 == 200).then_some(()));
    node.until_well();
    assert_eq!(node.until_app(), app, "what runs goes on");
}
