//! A database restored from a store, beside `litestream restore`: from a directory and from an S3 server on loopback.
//! And what is fetched where an older file lies in place.

use crate::litestream::{self, VERSION, environment};
use crate::node::{Node, high_water_kib};
use crate::servers::{Kind, Server};
use crate::{Plan, median};
use rusqlite::Connection;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const NAME: &str = "data/database.sqlite";
const BUCKET: &str = "bench";
/// Restores of each side; the middle one counts.
const ROUNDS: usize = 3;
/// How often a process is asked for its memory.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Restores of both sides from both kinds of store, then the difference.
pub fn compare(plan: &Plan) {
    let litestream = litestream::find();
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(Kind::Versity);
    server.make_bucket(BUCKET);
    let megabytes = plan.megabytes(1000);
    let home = dir.path().join("home");
    fill(&home, megabytes);
    let database = home.join(NAME);
    let copy = dir.path().join("copy.db");
    std::fs::copy(&database, &copy).unwrap();
    let bytes = std::fs::metadata(&database).unwrap().len();

    std::fs::create_dir(dir.path().join("store")).unwrap();
    let directory = format!("file://{}", dir.path().join("store").display());
    let theirs = format!("file://{}", dir.path().join("theirs").display());
    let bucket = format!("s3://{BUCKET}/stead");
    let endpoint = server.endpoint();
    let their_bucket = litestream::bucket_url(BUCKET, "theirs", &endpoint);
    for (what, url, theirs) in [("directory", &directory, &theirs), ("S3", &bucket, &their_bucket)] {
        send(&home, url, &endpoint);
        if let Some(litestream) = &litestream {
            let mut sent = Command::new(litestream);
            sent.args(["replicate", "-once", "-force-snapshot"]).arg(&copy).arg(theirs);
            run(environment(&mut sent, &endpoint), "litestream replicate");
        }
        let (mut own, mut other) = (Vec::new(), Vec::new());
        let out = dir.path().join("out.db");
        for _ in 0..ROUNDS {
            let mut stead = Command::new(env!("CARGO_BIN_EXE_stead"));
            stead.args(["db", "restore", &format!("{url}/{NAME}"), "-o"]).arg(&out);
            own.push(timed(environment(&mut stead, &endpoint), &out, bytes));
            if let Some(litestream) = &litestream {
                let mut command = Command::new(litestream);
                command.args(["restore", "-o"]).arg(&out).arg(theirs);
                other.push(timed(environment(&mut command, &endpoint), &out, bytes));
            }
        }
        let (own, other) = (Figures::of(own), Figures::of(other));
        println!("restore of {megabytes} MB from a {what} store: {own} (bound 64 MB)");
        if litestream.is_some() {
            println!("  litestream {VERSION}: {other}; ratio {:.1} (bound 6)", other.seconds / own.seconds);
        }
    }
    difference(&home, &server, dir.path());
}

/// The bytes fetched for a home in which the file from before the last 1 % of changes lies.
fn difference(home: &Path, server: &Server, dir: &Path) {
    let database = home.join(NAME);
    let old = dir.join("old.db");
    std::fs::copy(&database, &old).unwrap();
    let bytes = std::fs::metadata(&old).unwrap().len();
    let conn = Connection::open(&database).unwrap();
    conn.execute_batch("UPDATE big SET x = hex(randomblob(500)) || substr(x, 1001) WHERE id % 100 = 1")
        .unwrap();
    drop(conn);
    let bucket = format!("s3://{BUCKET}/stead");
    send(home, &bucket, &server.endpoint());

    let meter = Meter::before(server.address());
    let heir = dir.join("heir");
    std::fs::create_dir_all(heir.join("data")).unwrap();
    std::fs::rename(&old, heir.join(NAME)).unwrap();
    let began = Instant::now();
    let node = Node::start_with(&heir, &["--from", &bucket], |node| {
        environment(node, &format!("http://{}", meter.address));
    });
    node.until_followed();
    let took = began.elapsed();
    drop(node);
    let fetched = meter.bytes.load(Ordering::SeqCst);
    println!(
        "--from with an older file in place, 1 % changed: {fetched} bytes fetched, {:.2} % of the database (bound 1.5), \
         {:.1} s to followed",
        fetched as f64 / bytes as f64 * 100.0,
        took.as_secs_f64(),
    );
}

/// Makes the database of a home that nobody runs.
fn fill(home: &Path, megabytes: u64) {
    std::fs::create_dir_all(home.join("data")).unwrap();
    let conn = Connection::open(home.join(NAME)).unwrap();
    conn.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE big(id INTEGER PRIMARY KEY, x)").unwrap();
    for _ in 0..megabytes.div_ceil(10) {
        conn.execute_batch(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2560)
             INSERT INTO big(x) SELECT hex(randomblob(500)) || printf('%.2900c', 'x') FROM n",
        )
        .unwrap();
    }
}

/// Runs a node until the store has everything.
fn send(home: &Path, url: &str, endpoint: &str) {
    let config = home.join("bench.yaml");
    std::fs::write(&config, format!("name: bench\nstorage:\n  url: {url}\n")).unwrap();
    let node = Node::start_with(home, &["--config", config.to_str().unwrap()], |node| {
        environment(node, endpoint);
    });
    node.until_followed();
    node.json("POST", "/checkpoint", "{}");
    node.until_stored();
}

/// Time and memory of one restore.
struct Restore {
    seconds: f64,
    resident_kib: u64,
}

/// Those of the middle one, and the most memory.
struct Figures {
    seconds: f64,
    resident_mb: f64,
}

impl Figures {
    fn of(restores: Vec<Restore>) -> Figures {
        let most = restores.iter().map(|restore| restore.resident_kib).max().unwrap_or(0);
        let mut seconds: Vec<f64> = restores.iter().map(|restore| restore.seconds).collect();
        let seconds = if seconds.is_empty() { f64::NAN } else { median(&mut seconds) };
        Figures { seconds, resident_mb: most as f64 / 1024.0 }
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} s, {:.0} MB resident", self.seconds, self.resident_mb)
    }
}

fn timed(command: &mut Command, out: &Path, bytes: u64) -> Restore {
    let began = Instant::now();
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut resident_kib = 0;
    while child.try_wait().unwrap().is_none() {
        resident_kib = resident_kib.max(high_water_kib(child.id()));
        std::thread::sleep(LOOK_EVERY);
    }
    let seconds = began.elapsed().as_secs_f64();
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    // Litestream keeps tables of its own in the database.
    assert!(std::fs::metadata(out).unwrap().len() >= bytes);
    std::fs::remove_file(out).unwrap();
    Restore { seconds, resident_kib }
}

fn run(command: &mut Command, what: &str) {
    let done = command.output().unwrap();
    assert!(done.status.success(), "{what}: {}", String::from_utf8_lossy(&done.stderr));
}

/// A door to a server that counts what comes back through it.
struct Meter {
    address: SocketAddr,
    bytes: Arc<AtomicU64>,
}

impl Meter {
    fn before(server: SocketAddr) -> Meter {
        let door = TcpListener::bind("127.0.0.1:0").unwrap();
        let meter = Meter { address: door.local_addr().unwrap(), bytes: Arc::default() };
        let bytes = Arc::clone(&meter.bytes);
        std::thread::spawn(move || {
            for client in door.incoming().flatten() {
                let server = TcpStream::connect(server).unwrap();
                let there = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || pass(there.0, there.1, &AtomicU64::new(0)));
                let bytes = Arc::clone(&bytes);
                std::thread::spawn(move || pass(server, client, &bytes));
            }
        });
        meter
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, bytes: &AtomicU64) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(got @ 1..) = from.read(&mut buffer)
        && to.write_all(&buffer[..got]).is_ok()
    {
        bytes.fetch_add(got as u64, Ordering::SeqCst);
    }
    // The other direction ends by itself.
    let _ = to.shutdown(Shutdown::Write);
}
