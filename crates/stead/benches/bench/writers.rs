//! Single-row writers, with Stead beside them and without.

use crate::node::Node;
use crate::{Plan, median};
use rusqlite::Connection;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const ROUNDS: usize = 11;
const SECONDS: f64 = 2.0;

/// The writer's own process: `PATH SYNCHRONOUS SECONDS`, prints transactions a second and the slowest in ms.
pub fn write(args: &[String]) {
    let conn = open(Path::new(&args[0]), &args[1]);
    let until = Instant::now() + Duration::from_secs_f64(args[2].parse().unwrap());
    let mut insert = conn.prepare("INSERT INTO t(x) VALUES(?1)").unwrap();
    let text = "a row as applications write them, a hundred bytes or so, with a number at its end: ";
    let (mut count, mut slowest, started) = (0u64, Duration::ZERO, Instant::now());
    while Instant::now() < until {
        let one = Instant::now();
        insert.execute([format!("{text}{count}")]).unwrap();
        slowest = slowest.max(one.elapsed());
        count += 1;
    }
    println!("{} {}", count as f64 / started.elapsed().as_secs_f64(), slowest.as_secs_f64() * 1000.0);
}

fn open(path: &Path, synchronous: &str) -> Connection {
    let conn = Connection::open(path).unwrap();
    conn.busy_timeout(Duration::from_secs(30)).unwrap();
    conn.execute_batch(&format!(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous={synchronous};
         CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, x TEXT)"
    ))
    .unwrap();
    conn
}

/// Runs a writer process to its end: transactions a second, slowest transaction in ms.
pub fn run(path: &Path, synchronous: &str, seconds: f64) -> (f64, f64) {
    let out = Command::new(std::env::current_exe().unwrap())
        .args(["--writer".as_ref(), path.as_os_str(), synchronous.as_ref(), seconds.to_string().as_ref()])
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8_lossy(&out.stdout);
    let (rate, slowest) = text.trim().split_once(' ').unwrap();
    (rate.parse().unwrap(), slowest.parse().unwrap())
}

/// Both kinds of commit, alternating sides; the ratio is that of the medians of pairs.
pub fn compare(_: &Plan) {
    for synchronous in ["NORMAL", "FULL"] {
        let (mut with, mut without, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let alone = tempfile::tempdir().unwrap();
            let (plain, _) = run(&alone.path().join("plain.db"), synchronous, SECONDS);
            let node = Node::start(&[]);
            let path = node.home().join("data/database.sqlite");
            drop(open(&path, synchronous));
            node.until_followed();
            let (beside, _) = run(&path, synchronous, SECONDS);
            without.push(plain);
            with.push(beside);
            ratios.push(beside / plain);
        }
        let (mut w, mut p) = (with.clone(), without.clone());
        println!(
            "WAL/{synchronous}: with Stead {:.0}/s, without {:.0}/s, median ratio {:.3} (bound 0.95), pairs {:?}",
            median(&mut w),
            median(&mut p),
            median(&mut ratios.clone()),
            ratios.iter().map(|ratio| (ratio * 1000.0).round() / 1000.0).collect::<Vec<_>>(),
        );
    }
}
