//! Processes in the way: exclusive ones, ones with open transactions, other restores.

use super::{DATABASE, config};
use crate::support::{Held, Home, Node, alive, count, database, sqlite3, until};
use serde_json::json;

// semantics: exclusive
#[test]
fn a_database_held_exclusively_before_joining_is_joined_when_it_is_free() {
    let home = Home::new();
    std::fs::create_dir_all(home.path("data")).unwrap();
    let sql =
        "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1);";
    let mut holder = Held::open(&home.path(DATABASE), sql);
    let node = Node::configured(&home, &config());
    let found = node.until_issue("database_busy");
    assert_eq!(found["path"], DATABASE);
    assert!(found["message"].as_str().unwrap().contains("exclusive"), "{found:#}");
    holder.run("INSERT INTO t VALUES(2);");
    assert_eq!(holder.run("SELECT count(*) FROM t;"), "2\n", "the holder is not disturbed");
    drop(holder);
    node.until_sealed(DATABASE);
    node.until_well();
    node.verify(DATABASE);
    assert_eq!(count(&home.path(DATABASE)), 2);
}

// semantics: no-refused-write
#[test]
fn leaving_wal_mode_under_stead_is_refused_by_sqlite_and_nothing_is_lost() {
    let home = Home::new();
    let node = Node::configured(&home, &config());
    home.db(DATABASE).insert_rows(2);
    node.until_sealed(DATABASE);
    let path = home.path(DATABASE);
    let refused = sqlite3(&path, "PRAGMA journal_mode=DELETE");
    assert!(
        refused.as_ref().is_err_and(|e| e.contains("locked")) || refused == Ok("wal".into()),
        "{refused:?}"
    );
    sqlite3(&path, "INSERT INTO t VALUES(3)").unwrap();
    let exclusive = sqlite3(&path, "PRAGMA locking_mode=EXCLUSIVE; INSERT INTO t VALUES(4)");
    assert!(exclusive.is_err_and(|e| e.contains("locked")));
    sqlite3(&path, "INSERT INTO t VALUES(5)").unwrap();
    node.checkpoint("after");
    let status = node.until_sealed(DATABASE);
    assert_eq!(database(&status, DATABASE)["mode"], "wal");
    node.verify(DATABASE);
    assert_eq!(count(&path), 4);
}

// semantics: exclusive
#[test]
fn a_database_that_left_wal_mode_while_the_node_was_down_is_followed_again() {
    let home = Home::new();
    let node = Node::configured(&home, &config());
    home.db(DATABASE).insert_rows(2);
    node.until_sealed(DATABASE);
    assert_eq!(node.stop(), 0);
    sqlite3(&home.path(DATABASE), "PRAGMA journal_mode=DELETE; INSERT INTO t VALUES(3)").unwrap();
    let node = Node::start(&home);
    node.until_sealed(DATABASE);
    node.until("wal again", |status| database(status, DATABASE)["txid"].as_u64() > Some(1));
    node.verify(DATABASE);
    assert_eq!(count(&home.path(DATABASE)), 3);
}

#[test]
fn a_restore_during_a_restore_is_409() {
    let home = Home::new();
    let mut config = config();
    let script = "trap 'echo > asked; sleep 0.7; exit 0' TERM; echo > ready; while :; do sleep 0.02; done";
    config["app"] = json!({ "command": ["sh", "-c", script] });
    let node = Node::configured(&home, &config);
    home.db(DATABASE).insert_rows(2);
    node.checkpoint("first");
    until("the trap is set", || home.exists("ready").then_some(()));
    std::thread::scope(|scope| {
        let first = scope.spawn(|| node.post("/restore", &json!({ "id": "first" })));
        until("the first one stops the app", || home.exists("asked").then_some(()));
        node.post("/restore", &json!({ "id": "first" })).refused(409, "restore_running");
        node.post("/app", &json!({ "action": "start" })).refused(409, "not_now");
        assert_eq!(node.get("/").status, 200);
        first.join().unwrap().ok();
    });
    node.restore("first");
}

// semantics: held-refused
#[test]
fn a_database_to_be_swapped_that_is_open_outside_is_409_with_the_pid() {
    let home = Home::new();
    let node = Node::configured(&home, &config());
    home.db(DATABASE).insert_rows(1);
    node.checkpoint("before");
    let holder = Held::open(&home.path("data/new.db"), "CREATE TABLE t(x); INSERT INTO t VALUES(1);");
    node.until_sealed("data/new.db");
    let error = node.post("/restore", &json!({ "id": "before" })).refused(409, "database_held");
    assert_eq!((error["path"].as_str(), &error["pids"]), (Some("data/new.db"), &json!([holder.pid()])));
    assert!(error["hint"].as_str().unwrap().contains(&format!("kill {}", holder.pid())), "{error:#}");
    drop(holder);
    node.restore("before");
    assert!(!home.exists("data/new.db"));
}

// semantics: held-refused
#[test]
fn a_transaction_outside_holds_a_restore_off_and_is_named() {
    let home = Home::new();
    let mut config = config();
    config["app"] = json!({ "command": ["sleep", "1000"] });
    let node = Node::configured(&home, &config);
    home.db(DATABASE).insert_rows(1);
    node.checkpoint("before");
    home.db(DATABASE).insert_rows(1);
    let mut holder = Held::open(&home.path(DATABASE), "BEGIN IMMEDIATE; INSERT INTO t VALUES(7);");
    let before = node.until_app();
    let error = node.post("/restore", &json!({ "id": "before" })).refused(409, "database_held");
    assert_eq!((error["path"].as_str(), &error["pids"]), (Some(DATABASE), &json!([holder.pid()])));
    assert!(!alive(before));
    node.until_app();
    assert_eq!(holder.run("COMMIT; SELECT count(*) FROM t;"), "3\n", "the transaction was not hurt");
    drop(holder);
    node.restore("before");
    assert_eq!(count(&home.path(DATABASE)), 1);
}

#[test]
fn a_commit_over_two_databases_in_the_way_of_a_checkpoint_is_503_with_the_pid() {
    let home = Home::new();
    let node = Node::configured(&home, &config());
    for name in ["data/a.db", "data/b.db"] {
        home.db(name).insert_rows(1);
        node.until_sealed(name);
    }
    let sql = format!(
        "ATTACH '{}' AS b; BEGIN IMMEDIATE; INSERT INTO main.t VALUES(1); INSERT INTO b.t VALUES(1);",
        home.path("data/b.db").display()
    );
    let mut holder = Held::open(&home.path("data/a.db"), &sql);
    let error = node.post("/checkpoint", &json!({ "id": "torn" })).refused(503, "no_cut");
    assert_eq!(error["pids"], json!([holder.pid()]), "{error:#}");
    assert_eq!(node.status()["checkpoints"]["count"], 0);
    holder.run("COMMIT;");
    node.checkpoint("whole");
}

#[test]
fn a_checkpoint_never_leaves_a_database_out_that_is_there() {
    let home = Home::new();
    std::fs::create_dir_all(home.path("data")).unwrap();
    let sql =
        "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1);";
    let holder = Held::open(&home.path("data/held.db"), sql);
    let node = Node::configured(&home, &config());
    home.db(DATABASE).insert_rows(1);
    node.until_sealed(DATABASE);
    node.until_issue("database_busy");
    // With such a checkpoint, a restore would take data/held.db for one that was created since, and remove it.
    let error = node.post("/checkpoint", &json!({ "id": "without-held" })).refused(503, "no_cut");
    assert!(error["message"].as_str().unwrap().contains("data/held.db"), "{error:#}");
    assert_eq!(error["pids"], json!([holder.pid()]), "{error:#}");
    drop(holder);
    node.until_sealed("data/held.db");
    let made = node.checkpoint("with-held");
    assert_eq!(made["databases"].as_object().unwrap().len(), 2);
}

#[test]
fn an_app_stopped_for_maintenance_stays_stopped_over_a_restore() {
    let home = Home::new();
    let mut config = config();
    config["app"] = json!({ "command": ["sleep", "1000"] });
    let node = Node::configured(&home, &config);
    node.until_app();
    node.checkpoint("before");
    node.post("/app", &json!({ "action": "stop" })).ok();
    home.db(DATABASE).insert_rows(1);
    node.restore("before");
    assert_eq!(node.status()["process"]["state"], "stopped");
    node.post("/app", &json!({ "action": "start" })).ok();
    node.until_app();
}
