//! "State Management: Checkpointing" and its "Expected Behavior".

use super::{DATABASE, app, plain};
use crate::support::{Home, Node, alive, count, integrity, until};
use serde_json::{Value, json};

/// "POST /checkpoint must accept checkpoint ID"
#[test]
fn a_checkpoint_takes_the_id_it_is_given_or_makes_one() {
    let home = Home::new();
    let node = Node::configured(&home, &plain());
    assert_eq!(node.checkpoint("Before_upgrade-1.2")["id"], "Before_upgrade-1.2");
    let made = node.post("/checkpoint", &json!({ "comment": "nightly" })).ok();
    assert!(made["id"].as_str().is_some_and(|id| !id.is_empty()), "{made:#}");
    assert_eq!(made["comment"], "nightly");
    assert_eq!(node.status()["checkpoints"]["latest"], made["id"]);
}

/// "System must: Create checkpoint directory"
#[test]
fn a_checkpoint_has_its_directory_and_loses_it_when_removed() {
    let home = Home::new();
    let node = Node::configured(&home, &plain());
    node.checkpoint("test1");
    assert!(home.path("tmp/checkpoints/test1").is_dir());
    node.request("DELETE", "/checkpoint/test1", "").ok();
    assert!(!home.exists("tmp/checkpoints/test1"));
    node.get("/checkpoint/test1").refused(404, "no_such_checkpoint");
}

/// "System must: Save database state"
// semantics: export-equal
#[test]
fn every_row_acknowledged_before_a_checkpoint_is_in_it() {
    let home = Home::new();
    let node = Node::configured(&home, &plain());
    let db = home.db(DATABASE);
    db.insert_rows(25);
    let txid = node.checkpoint("test1")["databases"][DATABASE]["txid"].clone();
    db.insert_rows(5);
    let image = node.get(&format!("/databases/{DATABASE}?view=image&txid={txid}"));
    assert_eq!(image.status, 200);
    let file = home.write("image.sqlite", &image.body);
    assert_eq!((integrity(&file).as_str(), count(&file)), ("ok", 25));
}

/// "System must: Record checkpoint metadata"
#[test]
fn the_metadata_of_a_checkpoint_outlives_node_and_directory() {
    let home = Home::new();
    let node = Node::configured(&home, &plain());
    home.db(DATABASE).insert_rows(1);
    let made = node.post("/checkpoint", &json!({ "id": "test1", "comment": "first" })).ok();
    let written = home.read("tmp/checkpoints/test1/checkpoint.json");
    let recorded: Value = serde_json::from_str(&written).unwrap();
    for key in ["id", "created", "comment", "databases"] {
        assert_eq!(recorded[key], made[key], "{key}");
    }
    assert_eq!(node.stop(), 0);
    std::fs::remove_dir_all(home.path("tmp/checkpoints")).unwrap();
    let node = Node::start(&home);
    assert_eq!(node.get("/checkpoint/test1").ok()["databases"], made["databases"]);
    assert_eq!(home.read("tmp/checkpoints/test1/checkpoint.json"), written);
}

/// "Response must be 200 with checkpoint ID"
#[test]
fn the_answer_to_a_checkpoint_carries_its_id() {
    let home = Home::new();
    let answer = Node::configured(&home, &plain()).post("/checkpoint", &json!({ "id": "test1" }));
    assert_eq!((answer.status, answer.json()["id"].as_str()), (200, Some("test1")));
}

/// "Checkpoints must be created successfully"
#[test]
fn checkpoints_are_listed_newest_first() {
    let home = Home::new();
    let node = Node::configured(&home, &plain());
    let db = home.db(DATABASE);
    for id in ["one", "two", "three"] {
        db.insert_rows(1);
        node.checkpoint(id);
    }
    let all = node.get("/checkpoint").ok();
    let ids: Vec<_> =
        all["checkpoints"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["three", "two", "one"]);
    let listed = home.stead(&["checkpoint", "list", "--json"]);
    assert!(listed.status.success() && String::from_utf8_lossy(&listed.stdout).contains("\"two\""));
}

/// "POST /restore must accept checkpoint ID"
// semantics: linear, ledger-stays
#[test]
fn any_checkpoint_can_be_restored_in_any_order() {
    let home = Home::new();
    let node = Node::configured(&home, &plain());
    let db = home.db(DATABASE);
    for rows in 1..=3 {
        db.insert_rows(1);
        node.checkpoint(&format!("rows-{rows}"));
    }
    for rows in [1, 3, 2] {
        node.restore(&format!("rows-{rows}"));
        assert_eq!(db.rows(), rows);
    }
    node.verify(DATABASE);
}

/// "System must: Validate checkpoint exists"
#[test]
fn a_removed_checkpoint_is_not_restored() {
    let home = Home::new();
    let node = Node::configured(&home, &plain());
    node.checkpoint("test1");
    node.request("DELETE", "/checkpoint/test1", "").ok();
    node.post("/restore", &json!({ "id": "test1" })).refused(404, "no_such_checkpoint");
}

/// "System must: Stop running processes"
// semantics: app-around
#[test]
fn the_app_is_dead_before_a_restore_touches_anything() {
    let home = Home::new();
    // What the app still commits while it is being stopped must be turned back too.
    let script = "trap 'sqlite3 data/database.sqlite \"INSERT INTO t VALUES(99)\"; echo > last; exit 0' TERM
        echo > ready; while :; do sleep 0.02; done";
    let node = Node::start(&home);
    home.db(DATABASE).insert_rows(3);
    node.configure(&app(script));
    node.checkpoint("test1");
    let pid = node.until_app();
    until("the trap is set", || home.exists("ready").then_some(()));
    let restored = node.restore("test1");
    assert!(!alive(pid));
    assert!(home.exists("last"));
    assert_eq!(count(&home.path(DATABASE)), 3);
    let steps: Vec<_> =
        restored["steps"].as_array().unwrap().iter().map(|s| s["step"].as_str().unwrap()).collect();
    let stop = steps.iter().position(|step| *step == "stop_app").unwrap();
    assert!(stop < steps.iter().position(|step| *step == "apply").unwrap(), "{steps:?}");
}

/// "System must: Restore database state"
// semantics: same-files, undo
#[test]
fn a_restored_database_is_what_it_was_and_the_way_back_is_kept() {
    let home = Home::new();
    let node = Node::configured(&home, &plain());
    let db = home.db(DATABASE);
    db.insert_rows(10);
    node.checkpoint("test1");
    db.0.execute_batch("DELETE FROM t WHERE x < 5; CREATE TABLE other(y); INSERT INTO other VALUES(1)")
        .unwrap();
    node.restore("test1");
    assert_eq!((db.rows(), integrity(&home.path(DATABASE)).as_str()), (10, "ok"));
    let tables: i64 = db.0.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).unwrap();
    assert_eq!(tables, 1);
    node.verify(DATABASE);
    node.post("/restore", &json!({ "undo": true })).ok();
    assert_eq!(db.rows(), 5);
}

/// "System must: Restart processes"
// semantics: app-around
#[test]
fn the_app_runs_again_after_a_restore() {
    let home = Home::new();
    let node = Node::configured(&home, &app("exec sleep 1000"));
    let pid = node.until_app();
    node.checkpoint("test1");
    node.restore("test1");
    assert_ne!(node.until_app(), pid);
    assert!(!alive(pid));
}

/// "Response must be 200 on success, 404 if checkpoint not found"
#[test]
fn a_restore_is_200_and_of_nothing_404() {
    let home = Home::new();
    let node = Node::configured(&home, &plain());
    node.checkpoint("test1");
    assert_eq!(node.post("/restore", &json!({ "id": "test1" })).status, 200);
    assert_eq!(node.post("/restore", &json!({ "id": "test2" })).status, 404);
    assert_eq!(node.post("/restore", &json!({ "time": 1 })).status, 404);
}

/// "Checkpoints must be restored successfully"
// semantics: created-since, undo
#[test]
fn all_databases_go_back_together() {
    let home = Home::new();
    let config = json!({ "name": "seed", "databases": [{ "path": DATABASE }, { "dir": "data", "pattern": "**/*.db" }] });
    let node = Node::configured(&home, &config);
    home.db(DATABASE).insert_rows(1);
    home.db("data/kept.db").insert_rows(2);
    home.db("data/deleted.db").insert_rows(3);
    for path in [DATABASE, "data/kept.db", "data/deleted.db"] {
        node.until_sealed(path);
    }
    node.checkpoint("test1");
    home.db("data/kept.db").insert_rows(5);
    home.db("data/new.db").insert_rows(1);
    node.until_sealed("data/new.db");
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(home.path(&format!("data/deleted.db{suffix}")));
    }
    node.until("it is noticed", |status| {
        crate::support::database(status, "data/deleted.db")["mode"] == "missing"
    });
    node.restore("test1");
    let rows = ["data/kept.db", "data/deleted.db"].map(|path| count(&home.path(path)));
    assert_eq!((rows, home.exists("data/new.db")), ([2, 3], false));
    for path in [DATABASE, "data/kept.db", "data/deleted.db"] {
        node.verify(path);
    }
    let again = home.stead(&["restore", "--undo"]);
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    assert_eq!((count(&home.path("data/new.db")), home.exists("data/deleted.db")), (1, false));
}
