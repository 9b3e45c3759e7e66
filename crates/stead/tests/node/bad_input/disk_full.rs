//! A disk that runs full under a seal, a checkpoint, a restore: the node stays up, says so, counts nothing that is
//! half-written, and goes on by itself when there is room again.

use super::{DATABASE, config, with_app};
use crate::support::{Home, Node, Tmpfs, count, integrity, issue};
use serde_json::json;

/// Names of half-written files below the history.
fn half_written(home: &Home) -> Vec<String> {
    home.list("data/database.sqlite-litestream/ltx/0")
        .into_iter()
        .filter(|name| !name.ends_with(".ltx"))
        .collect()
}

// semantics: disk-full
#[test]
fn a_disk_full_during_a_seal_stops_neither_app_nor_node() {
    // Only the history lies on the small file system: the application can always commit.
    let (home, small) = (Home::new(), Tmpfs::new(4));
    std::fs::create_dir_all(home.path("data")).unwrap();
    std::os::unix::fs::symlink(small.root(), home.path("data/database.sqlite-litestream")).unwrap();
    let node = Node::configured(&home, &with_app());
    let (db, pid) = (home.db(DATABASE), node.until_app());
    db.insert_rows(2);
    let good = node.checkpoint("good")["databases"][DATABASE]["txid"].clone();
    small.fill(64 << 10);
    for _ in 0..10 {
        db.try_blob(100_000).unwrap();
    }
    let found = node.until_issue("disk_full");
    assert_eq!(found["path"], DATABASE);
    assert!(found["hint"].as_str().unwrap().contains("space"), "{found:#}");
    node.post("/checkpoint", &json!({ "id": "full" })).refused(507, "disk_full");
    assert_eq!(node.status()["checkpoints"]["latest"], "good");
    assert_eq!(half_written(&home), [""; 0]);
    db.try_blob(100_000).unwrap();
    assert_eq!(node.until_app(), pid);
    assert_eq!(node.get("/api/health/live").status, 200);

    small.empty();
    node.until_well();
    let status = node.until_sealed(DATABASE);
    assert!(crate::support::database(&status, DATABASE)["txid"].as_u64() > good.as_u64());
    node.verify(DATABASE);
    node.checkpoint("again");
    node.restore("good");
    assert_eq!(db.rows(), 2);
    node.restore("again");
    assert_eq!((db.rows(), integrity(&home.path(DATABASE)).as_str()), (13, "ok"));
}

// semantics: disk-full
#[test]
fn a_disk_full_during_a_checkpoint_counts_no_half_of_one() {
    let small = Tmpfs::new(16);
    let home = Home::at(&small.root().join("home"));
    let node = Node::configured(&home, &config());
    home.db(DATABASE).insert_rows(2);
    node.until_sealed(DATABASE);
    small.fill(0);
    let mut made = Vec::new();
    let refused = (0..500).find_map(|n| {
        let id = format!("c{n:03}");
        let answer = node.post("/checkpoint", &json!({ "id": id }));
        if answer.status != 200 {
            return Some(answer);
        }
        made.push(id);
        None
    });
    refused.expect("the disk is full").refused(507, "disk_full");
    let listed = |node: &Node| -> Vec<String> {
        let all = node.get("/checkpoint").ok();
        let ids =
            all["checkpoints"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned());
        let mut ids: Vec<_> = ids.collect();
        ids.sort();
        ids
    };
    assert_eq!(listed(&node), made);
    assert_eq!(node.get("/").status, 200);
    node.kill();
    small.empty();
    let node = Node::start(&home);
    node.until_sealed(DATABASE);
    assert_eq!(listed(&node), made, "what was answered with 200 counts, and nothing else");
    node.checkpoint("room-again");
    node.restore("room-again");
    node.until_well();
}

// semantics: disk-full
#[test]
fn a_disk_full_during_a_restore_leaves_everything_as_it_was() {
    let small = Tmpfs::new(48);
    let home = Home::at(&small.root().join("home"));
    let node = Node::configured(&home, &with_app());
    let db = home.db(DATABASE);
    for _ in 0..20 {
        db.try_blob(200_000).unwrap();
    }
    node.checkpoint("first");
    db.0.execute_batch("UPDATE t SET x = randomblob(200000); INSERT INTO t VALUES(1)").unwrap();
    node.until_sealed(DATABASE);
    db.0.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    let before: i64 =
        db.0.query_row("SELECT sum(length(x)) + count(*) FROM t", [], |row| row.get(0)).unwrap();
    small.fill(1 << 20);

    node.post("/restore", &json!({ "id": "first" })).refused(507, "disk_full");
    let status = node.status();
    // Where there was no room to record that it was rolled back, the app waits for that.
    let said = ["restore_failed", "restore_unfinished"].iter().any(|code| issue(&status, code).is_some());
    assert!(said || status["process"]["state"] == "running", "{status:#}");
    let after: i64 = db.0.query_row("SELECT sum(length(x)) + count(*) FROM t", [], |row| row.get(0)).unwrap();
    assert_eq!(after, before, "the state is as before");
    assert_eq!(integrity(&home.path(DATABASE)), "ok");

    small.empty();
    node.restore("first");
    assert_eq!(db.rows(), 20);
    node.until_app();
    node.until_well();
    node.verify(DATABASE);
    drop(db);
    assert_eq!(node.stop(), 0);
    assert_eq!(count(&home.path(DATABASE)), 20);
}

/// A restore of two databases, all of whose pages changed, with so much room; whether it was stopped half-way.
fn restore_with_room_for(kibibytes: usize) -> bool {
    let small = Tmpfs::new(48);
    let home = Home::at(&small.root().join("home"));
    let node = Node::configured(&home, &with_app());
    let dbs = [DATABASE, "data/second.db"].map(|name| (name, home.db(name)));
    for (name, db) in &dbs {
        db.0.execute_batch("BEGIN").unwrap();
        for _ in 0..10 {
            db.try_blob(200_000).unwrap();
        }
        db.0.execute_batch("COMMIT").unwrap();
        node.until_sealed(name);
    }
    node.checkpoint("first");
    for (name, db) in &dbs {
        db.0.execute_batch("UPDATE t SET x = randomblob(200000); INSERT INTO t VALUES(1)").unwrap();
        node.until_sealed(name);
        db.0.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    }
    small.fill(kibibytes << 10);

    let answer = node.post("/restore", &json!({ "id": "first" }));
    let unfinished = issue(&node.status(), "restore_unfinished").is_some();
    if answer.status != 200 {
        answer.refused(507, "disk_full");
    }
    if unfinished {
        for (path, body) in [
            ("/app", json!({ "action": "start" })),
            ("/checkpoint", json!({ "id": "mixed" })),
            ("/restore", json!({ "id": "first" })),
        ] {
            node.post(path, &body).refused(507, "disk_full");
        }
        assert!(node.status()["process"]["pid"].is_null());
    }
    small.empty();
    node.until("it ends", |status| issue(status, "restore_unfinished").is_none());
    let rows = dbs.each_ref().map(|(_, db)| db.rows());
    assert!(rows == [10, 10] || rows == [11, 11], "{rows:?} with {kibibytes} KiB left");
    node.post("/app", &json!({ "action": "start" })).ok();
    node.until_app();
    for (_, db) in &dbs {
        db.insert_rows(3);
    }
    node.kill();
    let node = Node::start(&home);
    for ((name, db), before) in dbs.iter().zip(rows) {
        node.until_sealed(name);
        assert_eq!(db.rows(), before + 3, "what was written since stays");
        node.verify(name);
    }
    node.restore("first");
    assert_eq!(dbs.each_ref().map(|(_, db)| db.rows()), [10, 10]);
    unfinished
}

// semantics: unfinished-waits, disk-full
#[test]
fn a_restore_that_a_full_disk_stops_half_way_keeps_the_app_waiting_and_ends_by_itself() {
    let unfinished = [1500, 4500, 6500].into_iter().filter(|room| restore_with_room_for(*room)).count();
    assert!(unfinished > 0, "no restore was stopped half-way");
}

#[test]
fn a_disk_full_under_the_application_is_the_applications_error_and_heals() {
    let small = Tmpfs::new(24);
    let home = Home::at(&small.root().join("home"));
    let node = Node::configured(&home, &config());
    let db = home.db(DATABASE);
    db.insert_rows(2);
    node.checkpoint("good");
    small.fill(300 << 10);
    let committed = (0..50).take_while(|_| db.try_blob(50_000).is_ok()).count();
    assert!(committed < 50, "the disk is full");
    assert_eq!(node.get("/").status, 200);
    small.empty();
    db.insert_rows(1);
    node.until_well();
    node.until_sealed(DATABASE);
    node.verify(DATABASE);
    assert_eq!(db.rows(), 3 + i64::try_from(committed).unwrap());
    node.restore("good");
    assert_eq!(db.rows(), 2);
}

#[test]
fn a_full_store_is_an_issue_and_gets_everything_when_it_has_room() {
    let (home, small) = (Home::new(), Tmpfs::new(4));
    let mut config = with_app();
    config["storage"] =
        json!({ "url": format!("file://{}", small.root().join("store").display()), "sync_interval": "50ms" });
    let node = Node::configured(&home, &config);
    let (db, pid) = (home.db(DATABASE), node.until_app());
    db.insert_rows(1);
    node.until_stored(DATABASE);
    small.fill(20 << 10);
    for _ in 0..5 {
        db.try_blob(100_000).unwrap();
        node.until_sealed(DATABASE);
    }
    let status = node.until("it is said", |status| status["components"]["storage"]["state"] == "degraded");
    assert!(status["components"]["storage"]["error"].as_str().unwrap().contains("space"), "{status:#}");
    node.checkpoint("here-all-the-same");
    small.empty();
    node.until_stored(DATABASE);
    node.until_well();
    assert_eq!(node.until_app(), pid);
}
