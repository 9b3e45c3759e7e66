//! "Database Management", "Database Manager", and backing state up to a store (a directory, here).

use super::{DATABASE, app, plain};
use crate::support::{Home, Node, count, database, integrity, sqlite3, until};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

fn with_store(store: &Path) -> Value {
    json!({ "name": "seed", "storage": { "url": format!("file://{}", store.display()), "sync_interval": "50ms" } })
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            found.extend(files_below(&entry.path()))
        } else {
            found.push(entry.path())
        }
    }
    found
}

/// "Database must be SQLite"
// semantics: same-files
#[test]
fn the_database_is_a_plain_sqlite_file() {
    let home = Home::new();
    let node = Node::configured(&home, &plain());
    home.db(DATABASE).insert_rows(1);
    node.until_sealed(DATABASE);
    assert_eq!(node.stop(), 0);
    let bytes = std::fs::read(home.path(DATABASE)).unwrap();
    assert!(bytes.starts_with(b"SQLite format 3\0"));
    assert_eq!(integrity(&home.path(DATABASE)), "ok");
}

/// "Database must be stored in data directory"
#[test]
fn the_default_database_lies_in_data() {
    let home = Home::new();
    let node = Node::configured(&home, &plain());
    assert!(home.path("data/database.sqlite").is_file());
    assert_eq!(node.status()["databases"][0]["path"], "data/database.sqlite");
}

/// "Replication must be configured if enabled"
#[test]
fn a_configured_store_receives_the_history() {
    let home = Home::new();
    let store = home.beside("store");
    let node = Node::configured(&home, &with_store(&store));
    home.db(DATABASE).insert_rows(3);
    node.until_stored(DATABASE);
    assert!(
        files_below(&store.join(DATABASE)).iter().any(|path| path.extension().is_some_and(|e| e == "ltx"))
    );
}

/// "Database must be accessible during normal operation"
// semantics: same-files
#[test]
fn the_database_can_be_read_and_written_while_it_is_followed() {
    let home = Home::new();
    let node = Node::configured(&home, &app("while :; do sleep 0.02; done"));
    let db = home.db(DATABASE);
    for rows in 1..=20 {
        db.insert_rows(1);
        assert_eq!(db.rows(), rows);
        node.checkpoint(&format!("c{rows}"));
    }
    node.verify(DATABASE);
}

/// "Replication must start on database initialization"
#[test]
fn history_begins_with_the_first_commit() {
    let home = Home::new();
    let node = Node::configured(&home, &plain());
    home.db(DATABASE).insert_rows(1);
    node.until_sealed(DATABASE);
    assert_eq!(home.sealed_files(DATABASE)[0].file_name().unwrap(), "0000000000000001-0000000000000001.ltx");
}

/// "Replication must stop on cleanup"
#[test]
fn a_node_that_has_stopped_follows_nothing() {
    let home = Home::new();
    let store = home.beside("store");
    let node = Node::configured(&home, &with_store(&store));
    let db = home.db(DATABASE);
    db.insert_rows(1);
    assert_eq!(node.stop(), 0);
    let before = (files_below(&store), home.sealed_files(DATABASE));
    db.insert_rows(10);
    assert_eq!((files_below(&store), home.sealed_files(DATABASE)), before);
}

/// "System must backup database state"
// semantics: missing-returns
#[test]
fn a_lost_data_directory_comes_back_before_the_app_starts() {
    let home = Home::new();
    let store = home.beside("store");
    let mut config = with_store(&store);
    config["app"] = json!({ "command": ["sh", "-c", "sqlite3 data/database.sqlite 'SELECT count(*) FROM t' > seen; exec sleep 1000"] });
    let node = Node::start(&home);
    home.db(DATABASE).insert_rows(7);
    node.configure(&config);
    node.until_sealed(DATABASE);
    until("the app looked", || home.exists("seen").then_some(()));
    assert_eq!(node.stop(), 0);
    // Everything but the configuration.
    for lost in ["data", ".stead", "seen"] {
        let path = home.path(lost);
        if path.is_dir() {
            std::fs::remove_dir_all(path).unwrap()
        } else {
            std::fs::remove_file(path).unwrap()
        }
    }
    let node = Node::start(&home);
    node.until_app();
    until("the app looked", || (home.exists("seen") && home.read("seen") == "7\n").then_some(()));
    node.verify(DATABASE);
    assert_eq!(integrity(&home.path(DATABASE)), "ok");
}

/// Takes a store away, as a file system that is not mounted would be.
fn take_away(store: &Path) -> PathBuf {
    let aside = store.with_extension("aside");
    std::fs::rename(store, &aside).unwrap();
    std::fs::write(store, "a file where a directory must be").unwrap();
    aside
}

fn give_back(store: &Path, aside: &Path) {
    std::fs::remove_file(store).unwrap();
    std::fs::rename(aside, store).unwrap();
}

/// "System must handle backup failures"
#[test]
fn a_store_that_fails_is_an_issue_and_heals_by_itself() {
    let home = Home::new();
    let store = home.beside("store");
    let node = Node::configured(&home, &with_store(&store));
    let db = home.db(DATABASE);
    db.insert_rows(1);
    node.until_stored(DATABASE);
    let aside = take_away(&store);
    db.insert_rows(1);
    let status = node.until("it is said", |status| status["components"]["storage"]["state"] == "degraded");
    assert_eq!(
        database(&status, DATABASE)["mode"],
        "wal",
        "the database is followed all the same: {status:#}"
    );
    db.insert_rows(1);
    node.checkpoint("without-the-store");
    give_back(&store, &aside);
    node.until_stored(DATABASE);
    node.until_well();
}

/// "System must handle backup failures", from the start
#[test]
fn a_store_that_is_away_at_start_keeps_nothing_from_running() {
    let home = Home::new();
    let store = home.beside("store");
    let mut config = with_store(&store);
    config["app"] = json!({ "command": ["sleep", "1000"] });
    let node = Node::configured(&home, &config);
    home.db(DATABASE).insert_rows(1);
    node.until_stored(DATABASE);
    assert_eq!(node.stop(), 0);
    let aside = take_away(&store);
    let node = Node::start(&home);
    node.until_app();
    home.db(DATABASE).insert_rows(1);
    node.until("it is followed", |status| {
        let found = database(status, DATABASE);
        found["mode"] == "wal" && found["lag_ms"] == 0
    });
    node.until("it is said", |status| status["components"]["storage"]["state"] == "degraded");
    node.checkpoint("without-the-store");
    give_back(&store, &aside);
    node.until_stored(DATABASE);
    node.until_well();
}

/// "System must handle backup failures", where only the store knows what there was
#[test]
fn a_store_that_is_away_is_not_taken_for_an_empty_one() {
    let home = Home::new();
    let store = home.beside("store");
    let mut config = with_store(&store);
    config["app"] = json!({ "command": ["sh", "-c", "sqlite3 data/database.sqlite 'SELECT count(*) FROM t' > seen; exec sleep 1000"] });
    let node = Node::start(&home);
    home.db(DATABASE).insert_rows(7);
    node.configure(&config);
    node.until_stored(DATABASE);
    until("the app looked", || home.exists("seen").then_some(()));
    assert_eq!(node.stop(), 0);
    std::fs::remove_dir_all(home.path("data")).unwrap();
    std::fs::remove_file(home.path("seen")).unwrap();
    let aside = take_away(&store);
    let node = Node::start(&home);
    let status = node.until("it is said", |status| !status["issues"].as_array().unwrap().is_empty());
    assert!(status["process"]["pid"].is_null(), "the app would begin with an empty database: {status:#}");
    give_back(&store, &aside);
    node.until_app();
    until("the app looked", || (home.exists("seen") && !home.read("seen").is_empty()).then_some(()));
    assert_eq!(home.read("seen"), "7\n");
    node.verify(DATABASE);
}

/// "Must create SQLite database in data directory" and "Database must be created on initialization"
#[test]
fn the_default_database_is_there_once_the_node_is_configured() {
    let home = Home::new();
    let node = Node::start(&home);
    assert!(!home.exists(DATABASE));
    node.configure(&plain());
    assert!(home.exists(DATABASE));
}

/// "Must create required tables if they don't exist"
#[test]
fn a_schema_is_run_when_the_database_is_created_and_only_then() {
    let home = Home::new();
    home.write("schema.sql", "CREATE TABLE IF NOT EXISTS t(x); INSERT INTO t VALUES('made');");
    let config = json!({ "name": "seed", "databases": [{ "path": DATABASE, "schema": "schema.sql" }] });
    let node = Node::configured(&home, &config);
    assert_eq!(count(&home.path(DATABASE)), 1);
    node.until_sealed(DATABASE);
    assert_eq!(node.stop(), 0);
    let node = Node::start(&home);
    node.until_sealed(DATABASE);
    assert_eq!(count(&home.path(DATABASE)), 1);
}

/// "Must set up replication if configured"
#[test]
fn the_history_in_force_is_named_for_each_database() {
    let home = Home::new();
    let node = Node::configured(&home, &with_store(&home.beside("store")));
    home.db(DATABASE).insert_rows(1);
    let status = node.until_sealed(DATABASE);
    assert!(
        database(&status, DATABASE)["history"].as_str().unwrap().ends_with("data/database.sqlite-litestream")
    );
    assert!(home.path("data/database.sqlite-litestream/ltx/0").is_dir());
}

/// "Must return error if database cannot be created"
#[test]
fn a_database_that_cannot_be_made_is_named_and_made_later() {
    let home = Home::new();
    home.write("blocked", "a file where a directory must be");
    let node = Node::start(&home);
    let config = json!({ "name": "seed", "databases": [{ "path": "blocked/app.db" }],
        "app": { "command": ["sleep", "1000"] } });
    let status = node.post("/config", &config).ok();
    let issue = crate::support::issue(&status, "not_a_directory").unwrap();
    assert_eq!(issue["path"], "blocked/app.db");
    assert!(issue["message"].as_str().unwrap().contains("/blocked is no directory"), "{issue:#}");
    assert_eq!(status["components"]["database"]["state"], "failed");
    assert!(status["process"]["pid"].is_null(), "the app would make an empty one: {status:#}");
    std::fs::remove_file(home.path("blocked")).unwrap();
    node.until_app();
    assert!(home.exists("blocked/app.db"));
    node.until_well();
}

/// "Must provide read/write access to database"
#[test]
fn debians_sqlite3_reads_and_writes_the_database() {
    let home = Home::new();
    let node = Node::configured(&home, &plain());
    let path = home.path(DATABASE);
    sqlite3(&path, "CREATE TABLE t(x); INSERT INTO t VALUES(1), (2)").unwrap();
    assert_eq!(sqlite3(&path, "SELECT sum(x) FROM t").unwrap(), "3");
    node.until_sealed(DATABASE);
    sqlite3(&path, "UPDATE t SET x = x + 10").unwrap();
    node.checkpoint("test1");
    assert_eq!(sqlite3(&path, "SELECT sum(x) FROM t").unwrap(), "23");
}

/// "Must handle concurrent access"
#[test]
fn several_processes_write_at_once_and_none_is_refused() {
    let home = Home::new();
    let node = Node::configured(&home, &plain());
    let path = home.path(DATABASE);
    drop(home.db(DATABASE));
    let script = r"for i in $(seq 40); do echo 'INSERT INTO t VALUES(1);'; done | sqlite3 -bail -cmd '.timeout 5000' $0";
    let writers: Vec<_> =
        (0..4).map(|_| Command::new("sh").arg("-c").arg(script).arg(&path).spawn().unwrap()).collect();
    for round in 0..5 {
        node.checkpoint(&format!("c{round}"));
    }
    for mut writer in writers {
        assert!(writer.wait().unwrap().success());
    }
    assert_eq!(count(&path), 160);
    node.until_sealed(DATABASE);
    node.verify(DATABASE);
}

/// "Must maintain database consistency"
// semantics: every-commit
#[test]
fn a_transaction_is_in_a_checkpoint_as_a_whole_or_not_at_all() {
    let home = Home::new();
    let node = Node::configured(&home, &plain());
    let db = home.db(DATABASE);
    db.0.execute_batch("BEGIN; INSERT INTO t VALUES(1), (2)").unwrap();
    node.checkpoint("open");
    db.0.execute_batch("INSERT INTO t VALUES(3); COMMIT").unwrap();
    node.checkpoint("committed");
    node.restore("open");
    assert_eq!(db.rows(), 0);
    node.restore("committed");
    assert_eq!((db.rows(), integrity(&home.path(DATABASE)).as_str()), (3, "ok"));
}

/// "Must return errors for invalid operations"
#[test]
fn an_impossible_question_about_a_database_is_refused() {
    let home = Home::new();
    let node = Node::configured(&home, &plain());
    home.db(DATABASE).insert_rows(1);
    node.until_sealed(DATABASE);
    node.get("/databases/data/none.db").refused(404, "no_such_database");
    node.get(&format!("/databases/{DATABASE}?view=image&txid=999")).refused(404, "nothing_there");
    node.get(&format!("/databases/{DATABASE}?view=nonsense")).refused(400, "malformed");
    node.get("/databases/../../etc/passwd").refused(400, "malformed");
    assert!(
        sqlite3(&home.path(DATABASE), "INSERT INTO absent VALUES(1)").unwrap_err().contains("no such table")
    );
}

/// "Must maintain replication status" and "Must provide replication status information"
// semantics: every-commit
#[test]
fn the_status_says_how_far_each_database_is_kept() {
    let home = Home::new();
    let node = Node::configured(&home, &with_store(&home.beside("store")));
    let db = home.db(DATABASE);
    db.insert_rows(1);
    let first = database(&node.until_sealed(DATABASE), DATABASE)["txid"].as_u64().unwrap();
    db.insert_rows(1);
    let status =
        node.until("the next seal", |status| database(status, DATABASE)["txid"].as_u64() > Some(first));
    let found = database(&status, DATABASE);
    assert_eq!((found["page_size"].as_u64(), found["pages"].as_u64()), (Some(4096), Some(2)));
    let listed = String::from_utf8(home.stead(&["db", "list", "--json"]).stdout).unwrap();
    assert!(listed.contains(DATABASE), "{listed}");
}

/// "Must handle replication failures" and "Must handle replication errors"
#[test]
fn a_history_that_cannot_be_written_is_an_issue_and_the_app_goes_on() {
    let home = Home::new();
    let node = Node::configured(&home, &app("exec sleep 1000"));
    let db = home.db(DATABASE);
    db.insert_rows(1);
    node.until_sealed(DATABASE);
    // Root may write where the mode forbids it; nobody can make a file in what is no directory.
    let (dir, aside) = (home.path("data/database.sqlite-litestream/ltx/0"), home.beside("aside"));
    std::fs::rename(&dir, &aside).unwrap();
    std::fs::write(&dir, "").unwrap();
    db.insert_rows(1);
    let pid = node.until_app();
    let issue = node.until_issue("seal_failed");
    assert_eq!(issue["path"], DATABASE);
    db.insert_rows(1);
    std::fs::remove_file(&dir).unwrap();
    std::fs::rename(&aside, &dir).unwrap();
    node.until_well();
    node.until_sealed(DATABASE);
    node.verify(DATABASE);
    assert_eq!(node.until_app(), pid);
}

/// "Replication must maintain consistency" and "Database must be included in checkpoints"
#[test]
fn the_store_alone_gives_a_checkpoint_back() {
    let home = Home::new();
    let store = home.beside("store");
    let node = Node::configured(&home, &with_store(&store));
    home.db(DATABASE).insert_rows(4);
    let made = node.checkpoint("test1");
    assert_eq!(node.stop(), 0);
    let (from, out) = (format!("file://{}", store.join(DATABASE).display()), home.beside("out.sqlite"));
    let txid = made["databases"][DATABASE]["txid"].to_string();
    let done = home.stead(&["db", "restore", &from, "-o", out.to_str().unwrap(), "--txid", &txid]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!((count(&out), integrity(&out).as_str()), (4, "ok"));
}
