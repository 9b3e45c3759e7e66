//! Damage in the history, and names that reach outside of it.

use super::{DATABASE, with_app};
use crate::support::{Home, Node, integrity};
use serde_json::json;
use std::path::Path;

/// Turns some bytes of a file's pages around.
fn damage(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    let end = bytes.len() - 60;
    bytes[110..end].iter_mut().for_each(|byte| *byte ^= 0x55);
    std::fs::write(file, bytes).unwrap();
}

// semantics: damage-named
#[test]
fn a_damaged_history_file_is_named_and_the_restore_refused() {
    let home = Home::new();
    let node = Node::configured(&home, &with_app());
    let (db, pid) = (home.db(DATABASE), node.until_app());
    db.insert_rows(3);
    node.checkpoint("first");
    // All that leads to the checkpoint; the last one of them holds the page that differs.
    let damaged = home.sealed_files(DATABASE);
    let name = damaged.last().unwrap().file_name().unwrap().to_str().unwrap();
    db.insert_rows(3);
    node.checkpoint("second");
    damaged.iter().for_each(|file| damage(file));

    let error = node.post("/restore", &json!({ "id": "first" })).refused(500, "history_damaged");
    assert_eq!(error["path"], DATABASE);
    assert!(error["message"].as_str().unwrap().contains(name), "{error:#}");
    assert_eq!((db.rows(), node.until_app()), (6, pid), "nothing was changed and the app runs on");
    let verified = node.request("POST", &format!("/databases/{DATABASE}"), r#"{"action":"verify"}"#).ok();
    assert_eq!(verified["ok"], false);
    assert!(verified["problems"].to_string().contains(name), "{verified:#}");
    let told = home.stead(&["db", "verify", DATABASE]);
    assert_eq!(told.status.code(), Some(1));
    let printed = [told.stdout, told.stderr].concat();
    assert!(String::from_utf8_lossy(&printed).contains(name));

    // It does not keep a node from starting either, and the database goes on.
    drop(db);
    assert_eq!(node.stop(), 0);
    let node = Node::start(&home);
    node.until_app();
    home.db(DATABASE).insert_rows(1);
    node.until_sealed(DATABASE);
    assert_eq!((home.db(DATABASE).rows(), integrity(&home.path(DATABASE)).as_str()), (7, "ok"));
}

#[test]
fn a_history_file_cut_short_is_never_taken_for_a_whole_one() {
    let home = Home::new();
    let node = Node::configured(&home, &with_app());
    let db = home.db(DATABASE);
    for id in ["first", "second", "third"] {
        db.insert_rows(1);
        node.checkpoint(id);
    }
    for file in home.sealed_files(DATABASE) {
        let bytes = std::fs::read(&file).unwrap();
        std::fs::write(&file, &bytes[..bytes.len() - 10]).unwrap();
    }
    node.post("/restore", &json!({ "id": "first" })).refused(500, "history_damaged");
    let image = node.get(&format!("/databases/{DATABASE}?view=image&txid=1"));
    assert!(image.status >= 400, "an image of damaged history: {}", image.status);
    assert_eq!(db.rows(), 3);
}

// semantics: damage-named
#[test]
fn a_damaged_file_is_no_harm_where_the_store_has_a_copy() {
    let home = Home::new();
    let store = format!("file://{}", home.beside("store").display());
    let node = Node::start_with(&home, &["--store", &store, "--", "sleep", "1000"]);
    let db = home.db(DATABASE);
    db.insert_rows(3);
    node.until_sealed(DATABASE);
    node.checkpoint("first");
    db.insert_rows(3);
    node.checkpoint("second");
    node.until_stored(DATABASE);
    home.sealed_files(DATABASE).iter().for_each(|file| damage(file));
    node.restore("first");
    assert_eq!((db.rows(), integrity(&home.path(DATABASE)).as_str()), (3, "ok"));
}

#[test]
fn a_checkpoint_id_cannot_reach_out_of_its_directory() {
    let home = Home::new();
    let node = Node::configured(&home, &with_app());
    home.write("precious/checkpoint.json", "{}");
    for id in ["../../precious", "..", "a/../../precious", "/etc"] {
        node.post("/checkpoint", &json!({ "id": id })).refused(400, "bad_checkpoint_id");
        node.post("/restore", &json!({ "id": id })).refused(400, "bad_checkpoint_id");
    }
    for path in [
        "/checkpoint/..%2F..%2Fprecious",
        "/checkpoint/..",
        "/checkpoint/%2e%2e",
        "/checkpoint/../../precious",
    ] {
        for method in ["GET", "DELETE"] {
            let answer = node.request(method, path, "");
            assert!(matches!(answer.status, 400 | 404 | 405), "{method} {path}: {}", answer.status);
        }
    }
    let told = home.stead(&["checkpoint", "create", "../x"]);
    assert!(matches!(told.status.code(), Some(1 | 2)), "{told:?}");
    assert!(String::from_utf8_lossy(&told.stderr).starts_with("error: "), "{told:?}");
    assert_eq!(home.list("precious"), ["checkpoint.json"]);
    assert_eq!(home.list("tmp/checkpoints"), [""; 0]);
}

#[test]
fn damage_in_one_database_keeps_the_others_where_they_are() {
    let home = Home::new();
    let node = Node::configured(&home, &with_app());
    for name in [DATABASE, "data/z.db"] {
        home.db(name).insert_rows(3);
        node.until_sealed(name);
    }
    node.checkpoint("first");
    for name in [DATABASE, "data/z.db"] {
        home.db(name).insert_rows(3);
    }
    node.checkpoint("second");
    home.sealed_files("data/z.db").iter().for_each(|file| damage(file));
    let error = node.post("/restore", &json!({ "id": "first" })).refused(500, "history_damaged");
    assert_eq!(error["path"], "data/z.db");
    assert_eq!([DATABASE, "data/z.db"].map(|name| home.db(name).rows()), [6, 6]);
    node.verify(DATABASE);
}

#[test]
fn a_missing_database_with_a_damaged_history_is_never_begun_anew() {
    let home = Home::new();
    let node = Node::configured(&home, &with_app());
    home.db(DATABASE).insert_rows(3);
    node.until_sealed(DATABASE);
    assert_eq!(node.stop(), 0);
    home.sealed_files(DATABASE).iter().for_each(|file| damage(file));
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(home.path(&format!("{DATABASE}{suffix}")));
    }
    let node = Node::start(&home);
    let status = node.until("it is said", |status| !status["issues"].as_array().unwrap().is_empty());
    assert!(status["issues"].to_string().contains(".ltx"), "the file is named: {status:#}");
    assert!(status["process"]["pid"].is_null(), "the app would begin with an empty database: {status:#}");
    assert!(!home.exists(DATABASE));
}
