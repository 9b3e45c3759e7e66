//! Checkpoints and restores at several sizes, and what a running writer notices.

use crate::node::{Node, resident_kib};
use crate::writers;
use crate::{Plan, ms, percentile};
use rusqlite::Connection;
use std::time::Instant;

fn filled(node: &Node, megabytes: u64) -> Connection {
    let conn = Connection::open(node.home().join("data/database.sqlite")).unwrap();
    conn.busy_timeout(std::time::Duration::from_secs(30)).unwrap();
    conn.execute_batch(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; CREATE TABLE big(id INTEGER PRIMARY KEY, x)",
    )
    .unwrap();
    for _ in 0..megabytes.div_ceil(10) {
        conn.execute_batch(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2560)
             INSERT INTO big(x) SELECT hex(randomblob(500)) || printf('%.2900c', 'x') FROM n",
        )
        .unwrap();
    }
    node.until_followed();
    node.json("POST", "/checkpoint", "{}");
    conn
}

/// Time of a checkpoint after one changed row, by size; and the slowest commit of a writer with checkpoints and without.
pub fn checkpoint(plan: &Plan) {
    for megabytes in [10, plan.megabytes(2048)] {
        let node = Node::start(&[]);
        let conn = filled(&node, megabytes);
        let (mut node_ms, mut client_ms) = (Vec::new(), Vec::new());
        for n in 0..60 {
            conn.execute("UPDATE big SET x = x || 'a' WHERE id = ?1", [n * 17 + 1]).unwrap();
            let started = Instant::now();
            let made = node.json("POST", "/checkpoint", "{}");
            client_ms.push(ms(started.elapsed()));
            node_ms.push(made["ms"].as_f64().unwrap());
        }
        println!(
            "checkpoint of {megabytes} MB: p50 {:.2} ms (bound 5), p99 {:.2} ms; as the client sees it p50 {:.2} ms; \
             resident {:?} KiB",
            percentile(&mut node_ms.clone(), 0.5),
            percentile(&mut node_ms, 0.99),
            percentile(&mut client_ms, 0.5),
            resident_kib(&node),
        );
    }
    let node = Node::start(&[]);
    drop(filled(&node, 10));
    let path = node.home().join("data/database.sqlite");
    let (rate, quiet) = writers::run(&path, "NORMAL", 3.0);
    let (busy_rate, busy) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| writers::run(&path, "NORMAL", 3.0));
        while !writer.is_finished() {
            node.json("POST", "/checkpoint", "{}");
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        writer.join().unwrap()
    });
    println!(
        "a writer's slowest commit: {busy:.2} ms with ten checkpoints a second, {quiet:.2} ms without \
         ({busy_rate:.0}/s and {rate:.0}/s)"
    );
}

/// In-place restore of a large database of which one page in a hundred changed.
pub fn restore(plan: &Plan) {
    let megabytes = plan.megabytes(1024);
    let node = Node::start(&[]);
    let conn = filled(&node, megabytes);
    for round in 0..5 {
        let id = format!("r{round}");
        node.json("POST", "/checkpoint", &format!(r#"{{"id":"{id}"}}"#));
        conn.execute("UPDATE big SET x = hex(randomblob(1950)) WHERE id % 100 = ?1", [round]).unwrap();
        let sum = |conn: &Connection| -> i64 {
            conn.query_row("SELECT count(*) FROM big WHERE substr(x, 2000, 10) = 'xxxxxxxxxx'", [], |row| {
                row.get(0)
            })
            .unwrap()
        };
        let started = Instant::now();
        let done = node.json("POST", "/restore", &format!(r#"{{"id":"{id}"}}"#));
        let all = ms(started.elapsed());
        let steps = done["steps"].as_array().unwrap();
        let own: f64 = steps
            .iter()
            .filter(|step| !["stop_app", "start_app"].contains(&step["step"].as_str().unwrap()))
            .map(|step| step["ms"].as_f64().unwrap())
            .sum();
        let rows: i64 = conn.query_row("SELECT count(*) FROM big", [], |row| row.get(0)).unwrap();
        assert_eq!(sum(&conn), rows, "every row is as it was");
        println!(
            "restore of {megabytes} MB, 1 % changed: {own:.0} ms (bound 300) of {all:.0} ms; {}",
            done["steps"]
        );
    }
    println!("resident after restores: {:?} KiB (bound 40 MB)", resident_kib(&node));
}
