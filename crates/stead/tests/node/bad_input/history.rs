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

#[test]
fn a_damaged_history_file_is_named_and_the_restore_refused() {
    let home = Home::new();
    let node = Node::configured(&home, &with_app());
    let (db, pid) = (home.db(DATABASE), node.until_app());
    db.insert_rows(3);
    node.checkpoint("first");
    db.insert_rows(3);
    node.checkpoint("second");
    let damaged = &home.sealed_files(DATABASE)[0];
    let name = damaged.file_name().unwrap().to_str().unwrap();
    damage(damaged);

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

#[test]
fn a_damaged_file_is_no_harm_where_the_store_has_a_copy() {
    let home = Home::new();
    let store = format!("file://{}", home.beside("store").display());
    let node = Node::start_with(&home, &["--store", &store, "--", "sleep", "1000"]);
    let db = home.db(DATABASE);
    db.insert_rows(3);
    node.checkpoint("first");
    db.insert_rows(3);
    node.checkpoint("second");
    node.until("all of it is stored", |status| {
        let found = crate::support::database(status, DATABASE);
        found["stored_txid"].as_u64() > Some(0) && found["stored_txid"] == found["txid"]
    });
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
    for path in ["/checkpoint/..%2F..%2Fprecious", "/checkpoint/..", "/checkpoint/%2e%2e", "/checkpoint/../../precious"] {
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
