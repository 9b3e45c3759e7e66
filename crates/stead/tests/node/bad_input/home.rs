//! Homes, configurations and ends that are not as they should be.

use super::{DATABASE, config, with_app};
use crate::support::{Home, Node, alive, count, integrity, signal, until};
use serde_json::json;

// semantics: one-node
#[test]
fn a_second_node_on_one_home_exits_75_and_names_the_first() {
    let home = Home::new();
    let node = Node::configured(&home, &with_app());
    let pid = node.until_app();
    let second = home.stead(&["run", "--listen", "127.0.0.1:0"]);
    assert_eq!(second.status.code(), Some(75));
    let told = String::from_utf8_lossy(&second.stderr);
    assert!(told.contains(&node.pid().to_string()), "pid {}: {told}", node.pid());
    let lines: Vec<_> = told.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(lines, ["error:", "cause:", "hint:"], "{told}");
    assert_eq!(node.until_app(), pid);
    node.checkpoint("undisturbed");
}

#[test]
fn a_home_that_a_killed_node_lets_go_late_is_waited_for() {
    let home = Home::new();
    home.write(".stead/lock", "");
    // What is left of a killed node while its last thread waits for the disk.
    let held = std::fs::File::open(home.path(".stead/lock")).unwrap();
    held.lock().unwrap();
    let mut node = Node::spawn(&home, &[]);
    let began = std::time::Instant::now();
    until("the node has met the lock", || (began.elapsed().as_millis() > 300).then_some(()));
    assert_eq!(node.ended(), None, "{}", node.stderr());
    drop(held);
    until("the node answers", || node.try_get("/"));
}

#[test]
fn a_taken_address_ends_the_start_and_leaves_the_other_alone() {
    let (one, two) = (Home::new(), Home::new());
    let node = Node::configured(&one, &config());
    let second = two.stead(&["run", "--listen", &one.address()]);
    assert_eq!(second.status.code(), Some(71), "{second:?}");
    let told = String::from_utf8_lossy(&second.stderr);
    assert!(told.contains("error: ") && told.contains(&one.address()), "{told}");
    assert_eq!(node.status()["state"], "primary");
}

#[test]
fn a_named_configuration_that_is_wrong_is_exit_78_and_a_missing_one_71() {
    let home = Home::new();
    let file = home.write("stead.yaml", "name: bad\ndatabase: []\n");
    let run = |args: &[&str]| {
        let out = home.stead(&[&["run", "--listen", &home.address()], args].concat());
        (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    let (code, told) = run(&["--config", file.to_str().unwrap()]);
    assert_eq!(code, Some(78), "{told}");
    assert!(told.contains("error: ") && told.contains("hint: ") && told.contains("databases"), "{told}");
    let (code, told) = run(&["--config", "/no/such/file.yaml"]);
    assert_eq!(code, Some(71), "{told}");
    let (code, told) = run(&["--listen", "nonsense", "--", "true"]);
    assert!(matches!(code, Some(2 | 78)), "{told}");
    assert_eq!(run(&["--nonsense"]).0, Some(2));
}

#[test]
fn a_home_that_is_no_directory_is_exit_71() {
    let home = Home::new();
    std::fs::write(home.root(), "a file").unwrap();
    let out = home.stead(&["run", "--listen", "127.0.0.1:0"]);
    assert_eq!(out.status.code(), Some(71), "{out:?}");
}

#[test]
fn an_invalid_saved_configuration_leaves_the_data_alone() {
    let home = Home::new();
    let node = Node::configured(&home, &with_app());
    home.db(DATABASE).insert_rows(3);
    node.checkpoint("before");
    assert_eq!(node.stop(), 0);
    home.write("tmp/config.json", r#"{"name": "bad", "databases": 7}"#);
    let node = Node::start(&home);
    assert_eq!(node.until_issue("config_invalid")["path"], "tmp/config.json");
    assert_eq!((node.status()["state"].as_str(), count(&home.path(DATABASE))), (Some("unconfigured"), 3));
    node.configure(&with_app());
    node.until_app();
    node.restore("before");
}

// semantics: every-commit
#[test]
fn a_sigterm_seals_to_the_last_commit() {
    let home = Home::new();
    let mut slow = config();
    slow["storage"] = json!({ "sync_interval": "1h" });
    let node = Node::configured(&home, &slow);
    let db = home.db(DATABASE);
    db.insert_rows(1);
    node.checkpoint("first");
    db.insert_rows(41);
    drop(db);
    assert_eq!(node.stop(), 0);
    assert!(!home.exists("data/database.sqlite-wal"), "a clean stop leaves one file");
    std::fs::remove_file(home.path(DATABASE)).unwrap();
    let node = Node::start(&home);
    node.until_sealed(DATABASE);
    assert_eq!((count(&home.path(DATABASE)), integrity(&home.path(DATABASE)).as_str()), (42, "ok"));
}

#[test]
fn a_sigint_ends_a_node_as_a_sigterm_does() {
    let home = Home::new();
    let mut node = Node::configured(&home, &with_app());
    let pid = node.until_app();
    signal(node.pid(), "INT");
    assert_eq!(node.wait(), 0);
    assert!(!alive(pid));
}

// semantics: kill
#[test]
fn nothing_committed_is_lost_when_everything_is_killed_under_load() {
    let home = Home::new();
    let script = "sqlite3 data/database.sqlite 'CREATE TABLE IF NOT EXISTS t(x)'
        while :; do sqlite3 -cmd '.timeout 5000' data/database.sqlite 'INSERT INTO t VALUES(1)' && echo >> done; done";
    let mut config = config();
    config["app"] = json!({ "command": ["sh", "-c", script] });
    config["storage"] = json!({ "sync_interval": "20ms" });
    let node = Node::configured(&home, &config);
    for round in 1..=3 {
        let wanted = round * 10;
        until("the app wrote", || (home.read("done").lines().count() >= wanted).then_some(()));
        let (app, inner) = (node.until_app(), node.node_pid());
        let victims = match round {
            1 => vec![inner],
            2 => vec![app],
            _ => vec![inner, app],
        };
        for pid in &victims {
            signal(*pid, "KILL");
        }
        for pid in [app, inner].iter().filter(|pid| victims.contains(pid)) {
            until("it is gone", || (!alive(*pid)).then_some(()));
        }
        until("the node answers", || node.try_get("/"));
    }
    node.kill();
    let acknowledged = home.read("done").lines().count();
    let node = Node::start(&home);
    node.until_app();
    node.post("/app", &json!({ "action": "stop" })).ok();
    let rows = home.db(DATABASE).rows();
    assert!(rows >= i64::try_from(acknowledged).unwrap(), "{rows} rows, {acknowledged} acknowledged");
    node.until_sealed(DATABASE);
    node.verify(DATABASE);
    let image = node.get(&format!("/databases/{DATABASE}?view=image"));
    let file = home.write("image.sqlite", &image.body);
    assert_eq!((count(&file), integrity(&file).as_str()), (rows, "ok"));
}

// semantics: whole
#[test]
fn a_restore_that_is_killed_is_finished_or_rolled_back_at_the_next_start() {
    let home = Home::new();
    let mut node = Node::configured(&home, &with_app());
    let names = [DATABASE, "data/second.db"];
    for name in names {
        let db = home.db(name);
        (0..40).for_each(|_| assert_eq!(db.try_blob(100_000), Ok(1)));
    }
    node.until_sealed(DATABASE);
    node.until_sealed("data/second.db");
    node.checkpoint("first");
    for delay_ms in [5, 20, 40, 60, 90, 130] {
        for name in names {
            home.db(name)
                .0
                .execute_batch("UPDATE t SET x = randomblob(100000); INSERT INTO t VALUES(1)")
                .unwrap();
        }
        let asking = home.post_beside("/restore", &json!({ "id": "first" }));
        std::thread::sleep(std::time::Duration::from_millis(delay_ms));
        node.kill();
        asking.join().unwrap();
        node = Node::start(&home);
        node.until_app();
        node.until_sealed(DATABASE);
        let rows = names.map(|name| count(&home.path(name)));
        assert!(rows[0] == rows[1] && rows[0] >= 40, "{delay_ms} ms: {rows:?}: both or none");
        for name in names {
            assert_eq!(integrity(&home.path(name)), "ok");
            node.until_sealed(name);
            node.verify(name);
        }
    }
}

#[test]
fn a_configuration_forgotten_and_given_again_finds_everything_as_it_was() {
    let home = Home::new();
    let node = Node::configured(&home, &with_app());
    home.db(DATABASE).insert_rows(3);
    node.checkpoint("first");
    let pid = node.until_app();
    node.request("DELETE", "/config", "").ok();
    assert!(!alive(pid));
    assert_eq!(node.status()["databases"], json!([]));
    home.db(DATABASE).insert_rows(3);
    node.configure(&with_app());
    node.until_app();
    node.until_sealed(DATABASE);
    node.verify(DATABASE);
    node.restore("first");
    assert_eq!(count(&home.path(DATABASE)), 3);
    let mut other = with_app();
    other["databases"] = json!([{ "path": "data/other.sqlite" }]);
    let changed = node.request("PUT", "/config", &other.to_string()).ok();
    assert!(changed["after_restart"].to_string().contains("databases"), "{changed:#}");
}

#[test]
fn a_node_that_ends_with_its_app_has_the_apps_code() {
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137)] {
        let home = Home::new();
        home.write(
            "tmp/config.json",
            json!({ "name": "bad", "app": { "command": ["sh", "-c", script], "exit": true } }).to_string(),
        );
        let mut node = Node::spawn(&home, &[]);
        assert_eq!(node.wait(), code, "{script}");
    }
}
