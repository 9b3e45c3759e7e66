//! The plan for diagnosing a container that does not start, line by line, as far as one node can show it. What its
//! other lines ask for is in the modules beside: `start` (directories, events, exit codes), `every` (the cures).

use super::*;
use crate::support::{Node, Tmpfs, until};

fn verbose(node: &Node<'_>) -> (u16, Value) {
    let answer = node.get("/api/health/ready?verbose=1");
    (answer.status, answer.json())
}

/// "Container exposes `/api/health/live` as the canonical liveness path; probes against `/live` may succeed even when
/// the canonical endpoint fails"
#[test]
fn there_is_one_liveness_path_and_no_older_one_beside_it() {
    let home = Home::new();
    let node = Node::start(&home);
    let live = node.get("/api/health/live");
    assert_eq!((live.status, live.json()["status"].as_str()), (200, Some("ok")));
    assert_eq!(node.get("/live").status, 404);
}

/// "`/api/health/live` returns `200` within 60 s of container start"
#[test]
fn it_lives_while_a_long_restore_runs_and_says_that_it_is_not_ready() {
    let home = Home::new();
    let config = json!({ "name": "pre", "databases": [{ "path": "data/database.sqlite" }],
        "app": { "command": ["sh", "-c", "trap '' TERM; while :; do sleep 1; done"], "stop_timeout": "5s" } });
    let node = Node::configured(&home, &config);
    node.until_app();
    home.db("data/database.sqlite").insert_rows(3);
    node.checkpoint("first");
    // The app does not let go of its database before its time is up.
    let restoring = home.post_beside("/restore", &json!({ "id": "first" }));
    let waits = until("it is not ready", || {
        assert_eq!(node.get("/api/health/live").status, 200);
        let (code, said) = verbose(&node);
        (code == 503).then_some(said)
    });
    assert!(!restoring.is_finished(), "that was while it ran");
    let app = &waits["checks"]["app"];
    assert!(app["status"] == "fail" || waits["checks"]["node"]["status"] == "fail", "{waits:#}");
    assert_eq!(restoring.join().unwrap().unwrap().status, 200);
    until("it is ready again", || (node.get("/api/health/ready").status == 200).then_some(()));
}

/// "Probe correct health endpoints: `/api/health/ready?verbose=1`"
#[test]
fn readiness_says_what_a_start_waits_for_and_from_when_that_is() {
    let home = Home::new();
    let path = home.beside("music");
    let node = Node::start(&home);
    node.configure(&json!({ "name": "pre", "preflight": { "directories": [{ "path": path }] } }));
    node.until_issue("directory_missing");
    let (code, said) = verbose(&node);
    assert_eq!((code, said["status"].as_str()), (503, Some("fail")));
    let check = said["checks"]["paths.music"].clone();
    for (key, wanted) in [
        ("status", json!("fail")),
        ("path", json!(path)),
        ("exists", json!(false)),
        ("writable", json!(false)),
        ("output", json!("it does not exist")),
        ("hint", json!(format!("sudo mkdir -p {}", path.display()))),
    ] {
        assert_eq!(check[key], wanted, "{key}: {check:#}");
    }
    assert_eq!(said["checks"]["node"]["status"], "fail", "{said:#}");
    let issue = said["issues"].as_array().unwrap().iter().find(|issue| issue["component"] == "preflight");
    assert_eq!((&issue.unwrap()["exit_code"], issue.unwrap()["path"].as_str()), (&json!(71), path.to_str()));
}

/// What a probe asks for is served from memory, with its age.
#[test]
fn a_probe_that_asks_again_is_told_the_same_look_which_has_grown_older() {
    let home = Home::new();
    let path = directory(home.beside("music"), (0, 0), 0o755);
    let node = Node::start_with(&home, &["--config", &config_file(&home, &json!([{ "path": path }]))]);
    node.until_app();
    let look = || {
        let check = verbose(&node).1["checks"]["paths.music"].clone();
        (check["ms"].as_f64().unwrap().to_bits(), check["age_ms"].as_u64().unwrap())
    };
    let mut before = look();
    until("the same look, older", || {
        let (now, then) = (look(), before);
        before = now;
        (now.0 == then.0 && now.1 > then.1).then_some(())
    });
}

/// "Entrypoint enforces the existence, ownership and rw-access": and leaves what it did not make as it is.
#[test]
fn a_start_changes_no_directory_that_was_there() {
    let home = Home::new();
    let path = directory(home.beside("music"), (0, 0), 0o700);
    let below = directory(path.join("albums"), (0, 0), 0o700);
    let listed = json!([{ "path": path, "create": true, "owner": "1000:1000" }]);
    let out = home.stead(&["run", "--config", &config_file(&home, &listed)]);
    let told = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(71), "{told}");
    assert!(told.contains("cause: it belongs to 0:0, not to 1000:1000"), "{told}");
    for path in [path, below] {
        assert_eq!((owner(&path), path.metadata().unwrap().mode() & 0o7777), ((0, 0), 0o700));
    }
}

/// "Regression tests asserting that bootstrap raises an error when directories are missing or read-only"
#[test]
fn a_start_with_a_read_only_directory_ends_with_the_command_that_mends_it() {
    let (home, small) = (Home::new(), Tmpfs::with("size=512m"));
    shell(&format!("mount -o remount,ro {}", small.root().display()));
    let file = config_file(&home, &json!([{ "path": small.root() }]));
    let out = home.stead(&["run", "--config", &file]);
    let told = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(71), "{told}");
    let at = small.root().display();
    let lines = format!(
        "error: {at} is not as it must be\ncause: its file system, mounted at {at}, is read-only\n\
         hint: sudo mount -o remount,rw {at}\n"
    );
    assert!(told.contains(&lines), "{told}");
    assert!(!home.exists("data/database.sqlite"));
    shell(&format!("sudo mount -o remount,rw {at}"));
    Node::start_with(&home, &["--config", &file]).until_app();
}

/// "SQLite bootstrap blocked: read-only mounts or volume misconfiguration prevent file creation"; "verify parent
/// directory permissions align with PUID/PGID"
#[test]
fn a_database_whose_directory_its_app_cannot_use_is_told_with_that_directory() {
    let home = Home::new();
    let shop = directory(home.path("shop"), (0, 0), 0o755);
    crate::support::sqlite3(&shop.join("orders.db"), "CREATE TABLE t(x)").unwrap();
    chown(shop.join("orders.db"), Some(2000), Some(2000)).unwrap();
    directory(shop.clone(), (2000, 2000), 0o755);
    let config = json!({ "name": "pre", "listen": home.address(), "databases": [{ "path": "shop/orders.db" }],
        "app": { "command": ["sleep", "1000"] } });
    let file = write_config(&home, &config);
    let variables = [("PUID", "1000"), ("PGID", "1000")];
    let found = look_in(&home, &variables, &["--config", &file]);
    assert_eq!(found.code, Some(71), "{:#}", found.said);
    let checks = found.said["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["name"] == "database.shop/orders.db").unwrap();
    assert_eq!(check["parent"], json!({ "path": shop, "exists": true, "writable": false }), "{check:#}");
    assert_eq!(found.finding("no_permission")["path"], "shop/orders.db");
}
