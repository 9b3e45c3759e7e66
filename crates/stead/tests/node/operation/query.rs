//! A person's SQL beside everything else: what it answers, what it may not do, and what it does not disturb.

use super::{DATABASE, config, with_app};
use crate::support::{Answer, Home, Node, integrity, until};
use serde_json::{Value, json};
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};

const ROUTE: &str = "/databases/data/database.sqlite";

fn stdout(out: &Output) -> String {
    assert!(out.status.success(), "{out:?}");
    String::from_utf8_lossy(&out.stdout).trim_end().to_owned()
}

fn ask(node: &Node<'_>, sql: &str, more: Value) -> Answer {
    let mut body = json!({ "action": "query", "sql": sql });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    node.post(ROUTE, &body)
}

#[test]
fn an_empty_database_is_asked_verified_and_written_to_as_any() {
    let home = Home::new();
    home.write(DATABASE, "");
    let node = Node::configured(&home, &config());
    assert_eq!(node.status()["databases"][0]["mode"], "empty");
    assert_eq!(stdout(&home.stead(&["db", "query", DATABASE, "SELECT 7 AS x"])), "x\n7");
    assert_eq!(node.get(&format!("{ROUTE}?view=log")).ok()["files"], json!([]));
    let verified = node.post(ROUTE, &json!({ "action": "verify" })).ok();
    assert_eq!((&verified["ok"], &verified["position"]), (&json!(true), &Value::Null));
    stdout(&home.stead(&["db", "verify"]));
    let image = node.get(&format!("{ROUTE}?view=image"));
    assert_eq!((image.status, &image.json()["error"]["code"]), (404, &json!("nothing_there")));
    assert!(image.json()["error"]["message"].as_str().unwrap().contains("is empty"), "{}", image.json());

    let sql = "CREATE TABLE t(x); INSERT INTO t VALUES (7)";
    stdout(&home.stead(&["db", "query", DATABASE, sql, "--write"]));
    node.until_sealed(DATABASE);
    assert_eq!(ask(&node, "SELECT x FROM t", json!({})).ok()["rows"], json!([[7]]));
    node.verify(DATABASE);
    assert_eq!(node.get("/databases/data/none.db?view=log").status, 404);
}

#[test]
fn a_database_is_asked_as_it_is_and_as_it_was() {
    let home = Home::new();
    let node = Node::configured(&home, &config());
    home.db(DATABASE).insert_rows(3);
    let txid = node.until_sealed(DATABASE)["databases"][0]["txid"].to_string();
    home.db(DATABASE).insert_rows(2);
    node.until_sealed(DATABASE);

    let count = "SELECT count(*) AS rows, x'00ff' AS blob FROM t";
    assert_eq!(stdout(&home.stead(&["db", "query", DATABASE, count])), "rows  blob\n5     x'00ff'");
    let was = stdout(&home.stead(&["db", "query", DATABASE, count, "--txid", &txid, "--json"]));
    let was: Value = serde_json::from_str(&was).unwrap();
    assert_eq!((&was["columns"], &was["rows"]), (&json!(["rows", "blob"]), &json!([[3, { "hex": "00ff" }]])));
    assert!(was["position"].is_null() && was["ms"].is_number(), "{was:#}");
    ask(&node, "SELECT 1", json!({ "time": "2001-01-01T00:00:00Z" })).refused(404, "nothing_there");
    assert!(home.list("tmp").iter().all(|name| !name.starts_with("export-")), "{:?}", home.list("tmp"));

    let many =
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) SELECT i FROM n";
    let out = home.stead(&["db", "query", DATABASE, many]);
    assert_eq!(stdout(&out).lines().count(), 10_001);
    assert!(String::from_utf8_lossy(&out.stderr).contains("cut short after 10000 rows by the limit of rows"));
}

#[test]
fn only_write_changes_something_and_the_answer_names_where_it_is_sealed() {
    let home = Home::new();
    let node = Node::configured(&home, &with_app());
    home.db(DATABASE).insert_rows(3);
    node.until_sealed(DATABASE);
    let refused = home.stead(&["db", "query", DATABASE, "DELETE FROM t"]);
    assert_eq!(refused.status.code(), Some(1));
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        told.starts_with("error: `data/database.sqlite` was not asked\ncause: not authorized\nhint: "),
        "{told}"
    );
    let aside = home.beside("other.db").display().to_string();
    for (sql, write) in [
        (format!("ATTACH '{aside}' AS o"), false),
        (format!("ATTACH '{aside}' AS o"), true),
        ("SELEC".into(), true),
    ] {
        ask(&node, &sql, json!({ "write": write })).refused(400, "sql_error");
    }
    assert!(!home.beside("other.db").exists());

    let wrote = stdout(&home.stead(&["db", "query", DATABASE, "DELETE FROM t WHERE x < 2", "--write"]));
    assert!(wrote.starts_with("2 rows changed, sealed as txid "), "{wrote}");
    let wrote = ask(&node, "INSERT INTO t VALUES(9) RETURNING x", json!({ "write": true })).ok();
    assert_eq!((&wrote["rows"], &wrote["changes"]), (&json!([[9]]), &json!(1)));
    let log = node.get(&format!("{ROUTE}?view=log")).ok();
    let last = log["files"].as_array().unwrap().iter().map(|file| file["max_txid"].as_u64()).max().unwrap();
    assert_eq!(wrote["position"]["txid"].as_u64(), last, "{wrote:#}");
    assert_eq!(home.db(DATABASE).rows(), 2);
    node.verify(DATABASE);

    node.request("POST", "/release-lease", "").ok();
    ask(&node, "DELETE FROM t", json!({ "write": true })).refused(409, "not_primary");
    ask(&node, "SELECT 1", json!({})).ok();
}

#[test]
fn queries_beside_a_running_writer_disturb_neither_it_nor_capture() {
    let home = Home::new();
    let node = Node::configured(&home, &config());
    home.db(DATABASE).insert_rows(1);
    node.until_sealed(DATABASE);
    let done = AtomicBool::new(false);
    let (mut asked, mut wrote) = (0, 0);
    /// Ends the writer also where an assertion fails.
    struct Done<'a>(&'a AtomicBool);
    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let rows = std::thread::scope(|scope| {
        let ending = Done(&done);
        let writer = scope.spawn(|| {
            let db = home.db(DATABASE);
            let mut rows = 1;
            while !done.load(Ordering::SeqCst) {
                db.insert_rows(10);
                rows += 10;
            }
            rows
        });
        for round in 0..15 {
            let read = ask(&node, "SELECT count(*) FROM t", json!({})).ok();
            assert!(read["rows"][0][0].as_i64().unwrap() >= asked, "{read:#}");
            asked = read["rows"][0][0].as_i64().unwrap();
            if round % 3 == 0 {
                wrote += ask(&node, "INSERT INTO t VALUES(-1)", json!({ "write": true })).ok()["changes"]
                    .as_i64()
                    .unwrap();
                node.verify(DATABASE);
            }
        }
        drop(ending);
        writer.join().unwrap()
    });
    assert_eq!(home.db(DATABASE).rows(), rows + wrote);
    node.checkpoint("after");
    home.db(DATABASE).insert_rows(3);
    node.restore("after");
    assert_eq!(home.db(DATABASE).rows(), rows + wrote);
    node.verify(DATABASE);
    assert_eq!(integrity(&home.path(DATABASE)), "ok");
    node.until_well();
}

#[test]
fn a_statement_without_end_is_ended_and_the_node_answers_meanwhile() {
    let home = Home::new();
    let node = Node::configured(&home, &config());
    home.db(DATABASE).insert_rows(1);
    node.until_sealed(DATABASE);
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n";
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask(&node, endless, json!({})));
        assert_eq!(node.status()["state"], "primary");
        asking.join().unwrap().refused(503, "query_too_slow");
    });
    node.verify(DATABASE);
}

/// Writes for as long as it may; its transaction has the write lock once this returns.
fn write_for_long<'s>(
    scope: &'s std::thread::Scope<'s, '_>,
    node: &'s Node<'_>,
) -> std::thread::ScopedJoinHandle<'s, Option<Answer>> {
    let endless = "INSERT INTO t VALUES(7); \
                   WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n";
    let body = json!({ "action": "query", "sql": endless, "write": true }).to_string();
    let address = node.home.socket_address();
    let asking = scope.spawn(move || crate::support::request(address, "POST", ROUTE, &body).ok());
    let db = node.home.db(DATABASE);
    db.0.busy_timeout(std::time::Duration::ZERO).unwrap();
    until("the query writes", || {
        let free = db.0.execute_batch("BEGIN IMMEDIATE; ROLLBACK").is_ok();
        (!free).then_some(())
    });
    asking
}

#[test]
fn a_slow_write_holds_up_no_checkpoint_no_app_and_no_reader() {
    let home = Home::new();
    let node = Node::configured(&home, &with_app());
    node.until_app();
    home.db(DATABASE).insert_rows(3);
    node.until_sealed(DATABASE);
    std::thread::scope(|scope| {
        let asking = write_for_long(scope, &node);
        node.checkpoint("meanwhile");
        node.request("POST", "/app", r#"{"action":"restart"}"#).ok();
        assert_eq!(ask(&node, "SELECT count(*) FROM t", json!({})).ok()["rows"], json!([[3]]));
        node.request("PUT", "/config", &with_app().to_string()).ok();
        assert!(!asking.is_finished(), "all of that was done beside it");
        asking.join().unwrap().unwrap().refused(503, "query_too_slow");
    });
    assert_eq!(home.db(DATABASE).rows(), 3, "its transaction is taken back");
    node.verify(DATABASE);
}

#[test]
fn a_restore_a_release_and_the_nodes_end_break_a_slow_write_off() {
    let home = Home::new();
    let node = Node::configured(&home, &with_app());
    node.until_app();
    home.db(DATABASE).insert_rows(3);
    node.until_sealed(DATABASE);
    node.checkpoint("three");
    home.db(DATABASE).insert_rows(2);
    let broken_off = |what: &dyn Fn()| {
        std::thread::scope(|scope| {
            let asking = write_for_long(scope, &node);
            what();
            asking.join().unwrap()
        })
    };
    let answer = broken_off(&|| drop(node.restore("three"))).unwrap();
    let error = answer.refused(503, "query_ended");
    assert!(error["message"].as_str().unwrap().contains("a restore"), "{error:#}");
    assert_eq!(home.db(DATABASE).rows(), 3);
    let answer = broken_off(&|| drop(node.request("POST", "/release-lease", "").ok())).unwrap();
    answer.refused(503, "query_ended");
    node.request("POST", "/promote", "").ok();
    let answer = broken_off(&|| {
        crate::support::signal(node.pid(), "TERM");
        until("it is gone", || node.try_get("/").is_none().then_some(()));
    });
    if let Some(answer) = answer {
        answer.refused(503, "query_ended");
    }
    drop(node);
    let again = Node::start(&home);
    again.until_sealed(DATABASE);
    again.verify(DATABASE);
    assert_eq!(integrity(&home.path(DATABASE)), "ok");
    assert_eq!(home.db(DATABASE).rows(), 3);
}
