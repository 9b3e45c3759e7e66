//! The first upload of a database that was there before its node, beside a plain copy of the same bytes through the same
//! client; and what a writer notices of it, beside a node without a store.
//!
//! The database is noise, so that what is sent is as large as what is copied. The copy is one object with the bytes of
//! the sealed files, read from this disk. Sides by turns, each in a home and below a prefix of its own.

use crate::litestream::environment;
use crate::node::{Node, high_water_kib};
use crate::servers::{Kind, Server};
use crate::{Plan, median, ms, percentile};
use base::{LocalDisk, Timestamp};
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use store::{About, Key, Objects, Outcome, S3};

const NAME: &str = "data/database.sqlite";
const BUCKET: &str = "bench";
/// Uploads of each kind; the middle one counts.
const ROUNDS: usize = 3;
/// How long an upload may take.
const LIMIT: Duration = Duration::from_secs(1800);
/// How often the node is asked for its status.
const ASK_EVERY: Duration = Duration::from_millis(10);

/// Uploads beside copies, then a writer beside uploads.
pub fn compare(plan: &Plan) {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(dir.path(), plan.megabytes(1000));
    let (mut uploads, mut seals, mut copies, mut ratios) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut bytes, mut most_kib) = (0, 0);
    for _ in 0..ROUNDS {
        let upload = bench.upload(true, None);
        let copy;
        (copy, bytes) = bench.copy();
        uploads.push(upload.seconds);
        seals.push(upload.sealed);
        copies.push(copy);
        ratios.push(upload.seconds / copy);
        most_kib = most_kib.max(upload.resident_kib);
    }
    println!(
        "first upload of a database of {} MB: {:.2} s from the node's start (sealed here after {:.2} s), \
         a plain copy of its {} sealed MB {:.2} s; \
         ratio {:.2} (bound 1.5), pairs {ratios:.2?}; {} MB resident at most",
        bench.bytes() / 1_000_000,
        median(&mut uploads),
        median(&mut seals),
        bytes / 1_000_000,
        median(&mut copies),
        median(&mut ratios.clone()),
        most_kib / 1024,
    );
    let (mut beside, mut alone, mut slower) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let with = bench.upload(true, Some(None));
        let without = bench.upload(false, Some(Some(Duration::from_secs_f64(with.seconds))));
        slower.push((1.0 - with.rate / without.rate) * 100.0);
        most_kib = most_kib.max(with.resident_kib);
        beside.push(with);
        alone.push(without);
    }
    let figures = |runs: &[Run]| {
        let of = |what: fn(&Run) -> f64| median(&mut runs.iter().map(what).collect::<Vec<_>>());
        format!("{:.0}/s, p99 {:.3} ms", of(|run| run.rate), of(|run| run.p99_ms))
    };
    println!(
        "a writer at full speed meanwhile ({:.2} s): {}; with no store {}: slower by {:.1} % (bound 10), pairs {slower:.1?}; \
         {} MB resident at most",
        median(&mut beside.iter().map(|run| run.seconds).collect::<Vec<_>>()),
        figures(&beside),
        figures(&alone),
        median(&mut slower.clone()),
        most_kib / 1024,
    );
}

/// A node's first time with a database.
struct Run {
    seconds: f64,
    /// When the first seal was whole on this machine.
    sealed: f64,
    resident_kib: u64,
    rate: f64,
    p99_ms: f64,
}

/// The database, moved from home to home, and the server.
struct Bench {
    dir: PathBuf,
    home: PathBuf,
    round: usize,
    server: Server,
}

impl Bench {
    fn new(dir: &Path, megabytes: u64) -> Bench {
        let server = Server::start(Kind::Versity);
        server.make_bucket(BUCKET);
        let home = dir.join("home0");
        std::fs::create_dir_all(home.join("data")).unwrap();
        let conn = Connection::open(home.join(NAME)).unwrap();
        conn.execute_batch(
            "PRAGMA journal_mode=WAL; CREATE TABLE t(id INTEGER PRIMARY KEY, x TEXT);
             CREATE TABLE big(id INTEGER PRIMARY KEY, x)",
        )
        .unwrap();
        for _ in 0..megabytes {
            conn.execute_batch(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 244)
                 INSERT INTO big(x) SELECT randomblob(4000) FROM n",
            )
            .unwrap();
        }
        Bench { dir: dir.to_owned(), home, round: 0, server }
    }

    fn bytes(&self) -> u64 {
        std::fs::metadata(self.home.join(NAME)).unwrap().len()
    }

    fn prefix(&self) -> String {
        format!("round{}", self.round)
    }

    /// The database alone goes into a new home, and what the round before has sent goes away.
    fn renew(&mut self) {
        let conn = Connection::open(self.home.join(NAME)).unwrap();
        conn.execute_batch("DELETE FROM t; PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        drop(conn);
        let _ = std::fs::remove_dir_all(self.server.bucket_dir(BUCKET).join(self.prefix()));
        self.round += 1;
        let home = self.dir.join(format!("home{}", self.round));
        std::fs::create_dir_all(home.join("data")).unwrap();
        std::fs::rename(self.home.join(NAME), home.join(NAME)).unwrap();
        std::fs::remove_dir_all(&self.home).unwrap();
        self.home = home;
    }

    /// Runs a node on the database from its start until the store has it, or for a time; a writer beside it, if so.
    fn upload(&mut self, with_store: bool, writer: Option<Option<Duration>>) -> Run {
        self.renew();
        let config = self.home.join("bench.yaml");
        let storage = format!("storage:\n  url: s3://{BUCKET}/{}\n", self.prefix());
        std::fs::write(&config, format!("name: bench\n{}", if with_store { &storage } else { "" })).unwrap();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let writing = writer.map(|_| scope.spawn(|| write(&self.home.join(NAME), &over)));
            let ending = Ending(&over);
            let began = Instant::now();
            let node = Node::start_with(&self.home, &["--config", config.to_str().unwrap()], |node| {
                environment(node, &self.server.endpoint());
            });
            let sealed = match writer.flatten() {
                Some(time) => {
                    std::thread::sleep(time);
                    f64::NAN
                }
                None => until_stored(&node, began),
            };
            let seconds = began.elapsed().as_secs_f64();
            drop(ending);
            let resident_kib = node.pids().into_iter().map(high_water_kib).max().unwrap_or(0);
            let mut times = writing.map(|writing| writing.join().unwrap()).unwrap_or_default();
            let rate = times.len() as f64 / (times.iter().sum::<f64>() / 1000.0);
            let p99_ms = if times.is_empty() { f64::NAN } else { percentile(&mut times, 0.99) };
            Run { seconds, sealed, resident_kib, rate, p99_ms }
        })
    }

    /// Sends the bytes of this round's largest object again, as one object: seconds and bytes.
    fn copy(&self) -> (f64, u64) {
        let (file, bytes) = largest(&self.server.bucket_dir(BUCKET).join(self.prefix()));
        let source = self.dir.join("sealed");
        std::fs::rename(file, &source).unwrap();
        let store = S3::new(BUCKET, &self.prefix(), &self.server.options(), &LocalDisk, &|_| None).unwrap();
        let about = About { moment: Timestamp(1_763_798_400_123), bytes };
        let began = Instant::now();
        let outcome = store.create(&Key::parse("copy").unwrap(), about, &mut |out| {
            std::io::copy(&mut std::fs::File::open(&source)?, out).map(drop)
        });
        let seconds = began.elapsed().as_secs_f64();
        assert!(matches!(outcome, Ok(Outcome::Won(_))), "{outcome:?}");
        std::fs::remove_file(&source).unwrap();
        (seconds, bytes)
    }
}

/// Until the store has what the first seal of the database has, all that was there; when that was sealed.
fn until_stored(node: &Node, began: Instant) -> f64 {
    node.until_answering();
    let mut sealed = None;
    loop {
        let found = node.json("GET", "/databases", "")["databases"][0].clone();
        let is_past = |name: &str| found[name].as_u64().is_some_and(|txid| txid > 0);
        if is_past("txid") {
            sealed.get_or_insert_with(|| began.elapsed().as_secs_f64());
        }
        if is_past("stored_txid") {
            return sealed.unwrap_or(f64::NAN);
        }
        assert!(began.elapsed() < LIMIT, "never stored");
        std::thread::sleep(ASK_EVERY);
    }
}

/// Ends the writer with its value: also where the node failed, for the scope waits for the writer.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Writes single rows until told: milliseconds of each commit.
fn write(path: &Path, over: &AtomicBool) -> Vec<f64> {
    let conn = Connection::open(path).unwrap();
    conn.busy_timeout(Duration::from_secs(60)).unwrap();
    conn.execute_batch("PRAGMA synchronous=NORMAL").unwrap();
    let mut insert = conn.prepare("INSERT INTO t(x) VALUES(printf('%.100c', 'x'))").unwrap();
    let mut times = Vec::new();
    while !over.load(Ordering::SeqCst) {
        let one = Instant::now();
        insert.execute([]).unwrap();
        times.push(ms(one.elapsed()));
    }
    times
}

/// The largest file below a directory.
fn largest(dir: &Path) -> (PathBuf, u64) {
    let mut most = (PathBuf::new(), 0);
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let about = entry.metadata().unwrap();
        let found = if about.is_dir() { largest(&entry.path()) } else { (entry.path(), about.len()) };
        if found.1 > most.1 {
            most = found;
        }
    }
    most
}
