//! Moments in time: what was committed before is there, what came later is not.

use super::{DATABASE, config};
use crate::support::{Db, Home, Node, database, until};
use base::{Clock, SystemClock, Timestamp};
use serde_json::{Value, json};

/// Two rows in one commit: between two commits there may be a seal.
fn insert_two(db: &Db) {
    db.0.execute("INSERT INTO t VALUES(1), (2)", []).unwrap();
}

/// Commits, and returns a moment that everything committed so far lies before and everything later behind. A moment is noted with
/// each seal.
fn between(node: &Node<'_>, db: &Db) -> Timestamp {
    let txid = |status: &Value| database(status, DATABASE)["txid"].as_u64();
    let before = txid(&node.status());
    insert_two(db);
    node.until("the rows are sealed", |status| txid(status) > before);
    let now = SystemClock.now();
    until("the clock has moved on", || (SystemClock.now() > Timestamp(now.0 + 1)).then_some(()));
    now
}

// semantics: time-is-a-vector
#[test]
fn a_restore_to_a_time_has_what_was_committed_before_it_and_nothing_later() {
    let home = Home::new();
    let node = Node::configured(&home, &config());
    let db = home.db(DATABASE);
    node.until_sealed(DATABASE);
    let mut moments = Vec::new();
    for _ in 0..3 {
        moments.push(between(&node, &db));
    }
    insert_two(&db);
    for (index, rows) in [(1, 4), (0, 2), (2, 6)] {
        let time = moments[index].rfc3339();
        let out = home.stead(&["restore", "--time", &time, "--json"]);
        assert!(out.status.success(), "{out:?}");
        assert_eq!(db.rows(), rows, "{time}");
        let told: Value = serde_json::from_slice(&out.stdout).unwrap();
        assert!(told["as_of"].as_str().unwrap() <= time.as_str(), "{told:#}");
    }
    node.request("POST", "/restore", r#"{"undo":true}"#).ok();
    assert_eq!(db.rows(), 2, "the last restore is taken back");
    node.verify(DATABASE);
}

#[test]
fn a_time_before_everything_is_404_and_changes_nothing() {
    let home = Home::new();
    let node = Node::configured(&home, &config());
    home.db(DATABASE).insert_rows(2);
    node.until_sealed(DATABASE);
    node.post("/restore", &json!({ "time": "2001-01-01T00:00:00Z" })).refused(404, "nothing_there");
    let out = home.stead(&["restore", "--time", "10d"]);
    assert_eq!(out.status.code(), Some(1), "{out:?}");
    assert_eq!(home.db(DATABASE).rows(), 2);
}

// semantics: dry-run
#[test]
fn a_dry_run_counts_from_the_last_commit_and_changes_nothing() {
    let home = Home::new();
    let node = Node::configured(&home, &json!({ "name": "operation", "storage": { "sync_interval": "1h" } }));
    let db = home.db(DATABASE);
    db.insert_rows(2);
    node.checkpoint("first");
    db.insert_rows(100);
    assert!(database(&node.status(), DATABASE)["lag_ms"].is_number());
    let ask = |dry_run: bool| node.post("/restore", &json!({ "id": "first", "dry_run": dry_run })).ok();
    let dry = ask(true);
    assert_eq!(dry["databases"][0]["change"], "turned_back", "{dry:#}");
    assert_eq!(db.rows(), 102);
    let done = ask(false);
    for key in ["change", "from", "to", "pages"] {
        assert_eq!(dry["databases"][0][key], done["databases"][0][key], "{key}: {dry:#}\n{done:#}");
    }
    assert_eq!(db.rows(), 2);
}
