//! Capture in bulk, and from a commit to its sealed file.

use crate::node::Node;
use crate::{Plan, ms, percentile};
use base::{DatabasePath, Epoch};
use database::{Engine, Entry, Machine, Settings};
use rusqlite::Connection;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Pages a second that are captured and sealed when a backlog waits in the log.
pub fn bulk(plan: &Plan) {
    for (what, filler) in [("text", TEXT), ("noise", "randomblob(900)")] {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().to_owned();
        std::fs::create_dir_all(home.join(".stead")).unwrap();
        let ledger =
            Arc::new(database::ledger::Ledger::open(&home.join(".stead/ledger.sqlite"), None).unwrap());
        let settings = Settings {
            home: home.clone(),
            entries: vec![Entry::File { path: DatabasePath::parse("data/a.db").unwrap(), schema: None }],
            sync_interval: Duration::from_secs(3600),
            retention: database::engine::Retention::default(),
            store: None,
            epoch: Epoch(1),
            wal_limit_bytes: 1 << 40,
            checkpoint_frames: database::engine::CHECKPOINT_FRAMES,
            app_user: None,
            machine: Machine::real(),
        };
        std::fs::create_dir_all(home.join("data")).unwrap();
        let app = Connection::open(home.join("data/a.db")).unwrap();
        app.execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; CREATE TABLE t(x)").unwrap();
        let engine = Engine::stepped(settings, ledger, Arc::new(|_| {})).unwrap();
        engine.cut(Duration::from_secs(1)).unwrap();
        let rows = plan.megabytes(600) * 1000;
        app.execute_batch(&format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
             INSERT INTO t SELECT {filler} FROM n"
        ))
        .unwrap();
        let pages: i64 = app.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
        let started = Instant::now();
        engine.cut(Duration::from_secs(1)).unwrap();
        let rate = pages as f64 / started.elapsed().as_secs_f64();
        println!("capture and seal in bulk, {what}: {pages} pages, {rate:.0} pages/s (bound 150,000)");
        engine.stop();
    }
}

const TEXT: &str = "printf('%s row %d of an application, with words that repeat and a number %d', \
    hex(randomblob(40)), i, i * 7919) || substr('lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod \
    tempor incididunt ut labore et dolore magna aliqua ut enim ad minim veniam quis nostrud exercitation ullamco', 1, \
    200) || printf('%.600c', '.')";

/// From a commit's return to the sealed file's name, with `sync_interval: 0`.
pub fn latency(_: &Plan) {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    std::fs::create_dir_all(&home).unwrap();
    std::fs::write(
        home.join("stead.json"),
        r#"{"name":"bench","storage":{"sync_interval":"0s","url":"file:///"}}"#
            .replace("file:///", &format!("file://{}", dir.path().join("store").display())),
    )
    .unwrap();
    let config = home.join("stead.json");
    let node = Node::start_in(&home, &["--config", config.to_str().unwrap()]);
    while !home.join("data/database.sqlite").exists() {
        std::thread::sleep(Duration::from_millis(2));
    }
    let conn = Connection::open(home.join("data/database.sqlite")).unwrap();
    conn.execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; CREATE TABLE t(x)").unwrap();
    node.until_followed();
    let level0 = home.join("data/database.sqlite-litestream/ltx/0");
    let last = || {
        let names = std::fs::read_dir(&level0).unwrap().flatten();
        let txids =
            names.filter_map(|entry| u64::from_str_radix(entry.file_name().to_str()?.get(..16)?, 16).ok());
        txids.max().unwrap_or(0)
    };
    let mut times = Vec::new();
    for pause_ms in [0u64, 30, 600].into_iter().cycle().take(300) {
        std::thread::sleep(Duration::from_millis(pause_ms));
        let next = last() + 1;
        let sealed = level0.join(format!("{next:016x}-{next:016x}.ltx"));
        conn.execute("INSERT INTO t VALUES(randomblob(100))", []).unwrap();
        let started = Instant::now();
        while !sealed.exists() && started.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_micros(50));
        }
        times.push(ms(started.elapsed()));
    }
    let (p50, p99) = (percentile(&mut times, 0.5), percentile(&mut times, 0.99));
    println!("commit to sealed file, sync_interval 0: p50 {p50:.2} ms (bound 3), p99 {p99:.2} ms");
}
