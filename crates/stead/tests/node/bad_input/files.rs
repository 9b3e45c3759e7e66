//! Files that are no databases, or not the ones they were.

use super::{DATABASE, config, with_app};
use crate::support::{Home, Node, count, database, integrity, issue, sqlite3};
use serde_json::json;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A database of a few pages, as one file.
fn make(path: &Path, rows: u32) {
    let sql = format!(
        "CREATE TABLE t(x); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
         INSERT INTO t SELECT randomblob(2000) FROM n"
    );
    sqlite3(path, &sql).unwrap();
}

/// Such a file is named, left alone, the app runs, and what takes its place is followed.
fn is_refused_and_replaceable(bytes: &[u8], says: &str) {
    let home = Home::new();
    let file = home.write(DATABASE, bytes);
    let node = Node::configured(&home, &with_app());
    let found = node.until_issue("not_a_database");
    assert_eq!(found["path"], DATABASE);
    assert!(found["message"].as_str().unwrap().contains(says), "{found:#}");
    assert!(found["hint"].as_str().unwrap().contains(DATABASE), "{found:#}");
    assert_eq!(database(&node.status(), DATABASE)["mode"], "failed");
    node.until_app();
    home.db("data/other.db").insert_rows(2);
    node.until_sealed("data/other.db");
    node.checkpoint("without-it");
    assert_eq!(std::fs::read(&file).unwrap(), bytes, "it was not touched");

    let good = home.beside("good.sqlite");
    make(&good, 3);
    std::fs::rename(&good, &file).unwrap();
    node.until_sealed(DATABASE);
    node.until_well();
    node.verify(DATABASE);
}

// semantics: not-sqlite
#[test]
fn a_file_that_is_not_sqlite_is_named_and_left_alone() {
    is_refused_and_replaceable(
        &b"just a text that somebody saved here, for whatever reason. ".repeat(40),
        "not a SQLite",
    );
}

// semantics: not-sqlite
#[test]
fn an_encrypted_database_is_named_and_left_alone() {
    let mut random = vec![0; 8192];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom").unwrap(), &mut random).unwrap();
    is_refused_and_replaceable(&random, "encrypted");
}

// semantics: not-sqlite
#[test]
fn a_truncated_database_is_named_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    make(&whole, 10);
    let bytes = std::fs::read(&whole).unwrap();
    is_refused_and_replaceable(&bytes[..bytes.len() / 2], "truncated");
    is_refused_and_replaceable(&bytes[..60], "too short");
}

#[test]
fn a_database_whose_pages_are_garbage_does_not_stop_the_others() {
    let home = Home::new();
    make(&home.write("data/broken.db", ""), 10);
    let mut bytes = std::fs::read(home.path("data/broken.db")).unwrap();
    bytes[100..4096].fill(0x5a);
    std::fs::write(home.path("data/broken.db"), &bytes).unwrap();
    let node = Node::configured(&home, &with_app());
    node.until_app();
    home.db(DATABASE).insert_rows(2);
    node.until_sealed(DATABASE);
    node.checkpoint("all-the-same");
    node.verify(DATABASE);
}

// semantics: not-sqlite
#[test]
fn an_empty_file_is_no_mistake_and_followed_once_it_is_a_database() {
    let home = Home::new();
    home.write(DATABASE, "");
    home.write("data/empty.db", "");
    let node = Node::configured(&home, &config());
    let status = node.status();
    assert_eq!(database(&status, "data/empty.db")["mode"], "empty");
    assert!(status["issues"].as_array().unwrap().is_empty(), "{status:#}");
    node.checkpoint("nothing-yet");
    home.db("data/empty.db").insert_rows(3);
    node.until_sealed("data/empty.db");
    node.restore("nothing-yet");
    assert!(!home.exists("data/empty.db") || home.path("data/empty.db").metadata().unwrap().len() == 0);
}

#[test]
fn a_replaced_database_is_another_incarnation_and_the_first_comes_back() {
    let home = Home::new();
    let node = Node::configured(&home, &with_app());
    home.db("data/shop.db").insert_rows(5);
    node.until_sealed("data/shop.db");
    let first = node.checkpoint("first");

    let other = home.beside("other");
    make(&other, 7);
    for suffix in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(home.path(&format!("data/shop.db{suffix}")));
    }
    std::fs::rename(&other, home.path("data/shop.db")).unwrap();
    node.until("the other one is followed", |status| {
        let found = database(status, "data/shop.db");
        found["mode"] == "wal" && found["history"].as_str().is_some_and(|base| base.contains("@2"))
    });
    node.until_sealed("data/shop.db");
    assert_eq!(count(&home.path("data/shop.db")), 7);
    let second = node.checkpoint("second");
    assert_ne!(
        first["databases"]["data/shop.db"]["incarnation"],
        second["databases"]["data/shop.db"]["incarnation"]
    );

    assert!(node.restore("first")["databases"].to_string().contains("replaced"));
    assert_eq!(count(&home.path("data/shop.db")), 5);
    node.verify("data/shop.db");
    node.restore("second");
    assert_eq!(
        (count(&home.path("data/shop.db")), integrity(&home.path("data/shop.db")).as_str()),
        (7, "ok")
    );
    node.verify("data/shop.db");
    node.until_app();
}

// semantics: missing-returns
#[test]
fn a_database_missing_at_start_comes_back_and_one_deleted_while_running_does_not() {
    let home = Home::new();
    let node = Node::configured(&home, &config());
    for name in ["data/missing.db", "data/deleted.db"] {
        home.db(name).insert_rows(4);
        node.until_sealed(name);
    }
    node.checkpoint("both");
    let remove = |name: &str| {
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(home.path(&format!("{name}{suffix}")));
        }
    };
    remove("data/deleted.db");
    let status =
        node.until("it is noticed", |status| database(status, "data/deleted.db")["mode"] == "missing");
    assert!(issue(&status, "not_a_database").is_none(), "{status:#}");
    assert_eq!(node.stop(), 0);
    remove("data/missing.db");

    let node = Node::start(&home);
    node.until_sealed("data/missing.db");
    assert_eq!(count(&home.path("data/missing.db")), 4);
    assert!(!home.exists("data/deleted.db"), "its deletion was seen");
    assert!(home.exists("data/deleted.db-litestream"), "its history stays");
    node.restore("both");
    assert_eq!(count(&home.path("data/deleted.db")), 4);
    node.verify("data/deleted.db");
}

#[test]
fn a_lost_data_directory_comes_back_from_the_store_before_the_app_starts() {
    let home = Home::new();
    let store = format!("file://{}", home.beside("store").display());
    let script = "sqlite3 data/database.sqlite 'SELECT count(*) FROM t' > seen; exec sleep 1000";
    let node = Node::start_with(&home, &["--store", &store, "--", "sleep", "1000"]);
    home.db(DATABASE).insert_rows(9);
    node.until_sealed(DATABASE);
    assert_eq!(node.stop(), 0);
    std::fs::remove_dir_all(home.root()).unwrap();

    let node = Node::start_with(&home, &["--store", &store, "--", "sh", "-c", script]);
    node.until_app();
    crate::support::until("the app looked", || (!home.read("seen").is_empty()).then_some(()));
    assert_eq!(home.read("seen"), "9\n");
    node.verify(DATABASE);
}

// semantics: uncovered
#[test]
fn a_database_that_no_entry_covers_is_an_issue_with_the_line_to_add() {
    let home = Home::new();
    let script =
        "(echo 'CREATE TABLE t(x); INSERT INTO t VALUES(1);'; cat ../fifo) | sqlite3 data/stray.sqlite";
    let made = std::process::Command::new("mkfifo").arg(home.beside("fifo")).status().unwrap();
    assert!(made.success());
    let node = Node::configured(&home, &json!({ "name": "bad", "app": { "command": ["sh", "-c", script] } }));
    let found = node.until_issue("database_not_covered");
    assert_eq!(found["path"], "data/stray.sqlite");
    assert!(found["hint"].as_str().unwrap().contains("- path: data/stray.sqlite"), "{found:#}");
    // The mend: the line, and a restart.
    let config = json!({ "name": "bad", "databases": [{ "path": DATABASE }, { "path": "data/stray.sqlite" }],
        "app": { "command": ["sh", "-c", script] } });
    node.request("PUT", "/config", &config.to_string()).ok();
    assert_eq!(node.stop(), 0);
    let node = Node::start(&home);
    node.until_app();
    node.until_sealed("data/stray.sqlite");
    node.until_well();
}

#[test]
fn names_of_every_kind_are_kept_and_restored() {
    let home = Home::new();
    let store = home.beside("store");
    let mut config = config();
    config["storage"] = json!({ "url": format!("file://{}", store.display()), "sync_interval": "50ms" });
    let node = Node::configured(&home, &config);
    let names = [
        "data/with space.db",
        "data/ü.db",
        "data/a@2.db",
        "data/deep/er/x.db",
        "data/100%.db",
        "data/q?&#.db",
    ];
    for name in names {
        std::fs::create_dir_all(home.path(name).parent().unwrap()).unwrap();
        home.db(name).insert_rows(3);
        node.until_stored(name);
    }
    node.checkpoint("first");
    for name in names {
        home.db(name).insert_rows(1);
        let encoded: String = name
            .bytes()
            .map(|b| match b {
                b'a'..=b'z' | b'0'..=b'9' | b'/' | b'.' => char::from(b).to_string(),
                other => format!("%{other:02X}"),
            })
            .collect();
        assert_eq!(node.get(&format!("/databases/{encoded}")).ok()["path"], name);
        node.verify(&encoded);
        let verified = home.stead(&["db", "verify", name]);
        assert!(verified.status.success(), "{name}: {verified:?}");
    }
    node.restore("first");
    for name in names {
        assert_eq!(count(&home.path(name)), 3, "{name}");
    }
    assert_eq!(node.stop(), 0);
    std::fs::remove_dir_all(home.path("data")).unwrap();
    std::fs::remove_dir_all(home.path(".stead")).unwrap();
    let node = Node::start(&home);
    node.until("it is up", |status| status["state"] == "primary");
    for name in names {
        assert_eq!(count(&home.path(name)), 3, "{name}");
    }
    assert!(!home.path(".stead/recovering").exists(), "the next start does not bring it back again");
}

#[test]
fn databases_of_every_page_size_and_mode_are_followed() {
    let home = Home::new();
    let kinds = [("data/small.db", 512), ("data/large.db", 65536), ("data/usual.db", 4096)];
    std::fs::create_dir_all(home.path("data")).unwrap();
    for (name, page_size) in kinds {
        let sql = format!(
            "PRAGMA page_size={page_size}; PRAGMA auto_vacuum=FULL; CREATE TABLE t(x); INSERT INTO t VALUES(1)"
        );
        sqlite3(&home.path(name), &sql).unwrap();
    }
    let node = Node::configured(&home, &config());
    for (name, page_size) in kinds {
        let status = node.until_sealed(name);
        assert_eq!(database(&status, name)["page_size"], page_size);
    }
    node.checkpoint("first");
    for (name, _) in kinds {
        let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200)
            INSERT INTO t SELECT randomblob(3000) FROM n";
        sqlite3(&home.path(name), sql).unwrap();
    }
    node.checkpoint("grown");
    for (name, _) in kinds {
        sqlite3(&home.path(name), "DELETE FROM t WHERE rowid > 2; VACUUM").unwrap();
        node.until_sealed(name);
        node.verify(name);
    }
    for (id, rows) in [("grown", 201), ("first", 1), ("grown", 201)] {
        node.restore(id);
        for (name, _) in kinds {
            assert_eq!(
                (count(&home.path(name)), integrity(&home.path(name)).as_str()),
                (rows, "ok"),
                "{id} {name}"
            );
            node.verify(name);
        }
    }
}

// semantics: nothing-overwritten, owner-stays
#[test]
fn what_lies_where_a_database_comes_back_is_kept_and_the_app_can_write_what_came_back() {
    let home = Home::new();
    let mut config = with_app();
    config["app"]["user"] = json!("1234:4321");
    let node = Node::configured(&home, &config);
    home.db(DATABASE).insert_rows(2);
    node.until_sealed(DATABASE);
    node.checkpoint("good");
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(home.path(&format!("{DATABASE}{suffix}")));
    }
    node.until("gone", |status| database(status, DATABASE)["mode"] == "missing");
    home.write(DATABASE, "PRECIOUS".repeat(40));
    node.until_issue("not_a_database");

    let restored = node.restore("good");
    let aside = format!("{DATABASE}.stead-aside");
    let change = restored["databases"].as_array().unwrap().iter().find(|change| change["path"] == DATABASE);
    assert_eq!(change.unwrap()["aside"], aside.as_str(), "{restored:#}");
    assert_eq!(home.read(&aside), "PRECIOUS".repeat(40));
    assert_eq!(count(&home.path(DATABASE)), 2);
    for suffix in ["", "-wal", "-shm"] {
        let at = std::fs::metadata(home.path(&format!("{DATABASE}{suffix}"))).unwrap();
        assert_eq!((at.uid(), at.gid()), (1234, 4321), "{DATABASE}{suffix}");
    }
    node.until_well();
}
