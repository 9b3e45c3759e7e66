//! A real node in a home of its own, and what it costs to start and to leave alone.

use crate::{Plan, median, ms};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a large database may take to be in a store, or to come from there.
const STORED_LIMIT: Duration = Duration::from_secs(600);

/// A running node; stopped when dropped.
pub struct Node {
    child: Child,
    dir: Option<tempfile::TempDir>,
    home: PathBuf,
}

impl Node {
    /// Starts one in a new home, with further arguments for `stead run`.
    pub fn start(args: &[&str]) -> Node {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().to_owned();
        let mut node = Node::start_in(&home, args);
        node.dir = Some(dir);
        node
    }

    /// Starts one whose database, which the connection keeps open, nobody touches any more; it has come to rest.
    pub fn at_rest() -> (Node, rusqlite::Connection) {
        let node = Node::start(&[]);
        let conn = rusqlite::Connection::open(node.home().join("data/database.sqlite")).unwrap();
        conn.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1)").unwrap();
        node.until_followed();
        std::thread::sleep(Duration::from_secs(8));
        (node, conn)
    }

    /// Starts one in this home.
    pub fn start_in(home: &Path, args: &[&str]) -> Node {
        let node = Node::start_with(home, args, |_| {});
        if args.is_empty() {
            node.until("it answers", || node.ask(&["status"]).is_some());
            std::fs::write(home.join("bench.json"), r#"{"name":"bench"}"#).unwrap();
            node.configure(r#"{"name":"bench"}"#);
        }
        node
    }

    /// Starts one in this home, in an environment.
    pub fn start_with(home: &Path, args: &[&str], environment: impl FnOnce(&mut Command)) -> Node {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stead"));
        command.args(["run", "--listen", "127.0.0.1:0", "--home"]).arg(home).args(args);
        environment(&mut command);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Node { child, dir: None, home: home.to_owned() }
    }

    /// Configures it.
    pub fn configure(&self, json: &str) {
        let answer = self.http("POST", "/config", json);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    /// Its home.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// One request over its socket: the whole answer.
    pub fn http(&self, method: &str, path: &str, body: &str) -> String {
        use std::io::{Read, Write};
        let mut socket = std::os::unix::net::UnixStream::connect(self.home.join(".stead/api.sock")).unwrap();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
        write!(socket, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    }

    /// The JSON of an answer with status 200.
    pub fn json(&self, method: &str, path: &str, body: &str) -> serde_json::Value {
        let answer = self.http(method, path, body);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    /// Waits until the store has everything of the default database.
    pub fn until_stored(&self) {
        self.until_within(STORED_LIMIT, "stored", || {
            let found = self.json("GET", "/databases", "")["databases"][0].clone();
            found["txid"].as_u64() > Some(0) && found["stored_txid"] == found["txid"]
        });
    }

    fn ask(&self, _: &[&str]) -> Option<()> {
        std::os::unix::net::UnixStream::connect(self.home.join(".stead/api.sock")).ok().map(drop)
    }

    fn until(&self, what: &str, done: impl Fn() -> bool) {
        self.until_within(Duration::from_secs(60), what, done);
    }

    fn until_within(&self, limit: Duration, what: &str, done: impl Fn() -> bool) {
        let started = Instant::now();
        while !done() {
            assert!(started.elapsed() < limit, "never: {what}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until its socket takes requests.
    pub fn until_answering(&self) {
        self.until_within(STORED_LIMIT, "it answers", || self.ask(&["status"]).is_some());
    }

    /// Waits until it has made the default database.
    pub fn until_database(&self) {
        self.until("the database is there", || self.home.join("data/database.sqlite").exists());
    }

    /// Waits until the default database is followed.
    pub fn until_followed(&self) {
        self.until_answering();
        self.until_within(STORED_LIMIT, "followed", || {
            self.json("GET", "/databases", "").to_string().contains("\"mode\":\"wal\"")
        });
    }

    /// The pids of supervisor and node.
    pub fn pids(&self) -> Vec<u32> {
        let tid = self.child.id();
        let children =
            std::fs::read_to_string(format!("/proc/{tid}/task/{tid}/children")).unwrap_or_default();
        std::iter::once(tid).chain(children.split_whitespace().filter_map(|pid| pid.parse().ok())).collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let _ = self.child.wait();
    }
}

fn status_field(pid: u32, field: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(field)).unwrap_or("x 0");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Resident memory, KiB, of each process.
pub fn resident_kib(node: &Node) -> Vec<u64> {
    node.pids().into_iter().map(|pid| status_field(pid, "VmRSS")).collect()
}

/// The most resident memory that a process has had, KiB.
pub fn high_water_kib(pid: u32) -> u64 {
    status_field(pid, "VmHWM")
}

/// How often each thread of a process has waited and come back.
fn wakeups(pid: u32) -> BTreeMap<String, u64> {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return BTreeMap::new() };
    let count = |task: std::fs::DirEntry| {
        let text = std::fs::read_to_string(task.path().join("status")).ok()?;
        let line = text.lines().find(|line| line.starts_with("voluntary_ctxt_switches"))?;
        Some((task.file_name().to_string_lossy().into_owned(), line.split_whitespace().nth(1)?.parse().ok()?))
    };
    tasks.flatten().filter_map(count).collect()
}

/// From `stead run` on an existing home to the app's first instruction.
pub fn start(_: &Plan) {
    let dir = tempfile::tempdir().unwrap();
    let (home, mark) = (dir.path().join("home"), dir.path().join("mark"));
    std::fs::create_dir_all(&home).unwrap();
    let script = format!("date +%s%N > {}; exec sleep 60", mark.display());
    let mut times = Vec::new();
    for round in 0..12 {
        let _ = std::fs::remove_file(&mark);
        let wall = std::time::SystemTime::now();
        let node = Node::start_in(&home, &["--", "sh", "-c", &script]);
        node.until("the app runs", || std::fs::read_to_string(&mark).is_ok_and(|text| text.ends_with('\n')));
        let began: u128 = std::fs::read_to_string(&mark).unwrap().trim().parse().unwrap();
        let from = wall.duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
        if round == 0 {
            let conn = rusqlite::Connection::open(home.join("data/database.sqlite")).unwrap();
            conn.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1)")
                .unwrap();
            node.until_followed();
        } else {
            times.push((began - from) as f64 / 1e6);
        }
    }
    println!(
        "start to app running, existing home: p50 {:.1} ms (bound 100), all {times:.1?}",
        median(&mut times)
    );
}

/// Wake-ups of a node whose database nobody touches.
pub fn idle(_: &Plan) {
    let (node, _conn) = Node::at_rest();
    let pids = node.pids();
    let before: Vec<BTreeMap<String, u64>> = pids.iter().map(|pid| wakeups(*pid)).collect();
    let started = Instant::now();
    std::thread::sleep(Duration::from_secs(20));
    for (pid, before) in pids.iter().zip(before) {
        // A thread that has ended meanwhile has taken its few with it.
        let since = |(thread, count): (String, u64)| count - before.get(&thread).copied().unwrap_or(0);
        let woken: u64 = wakeups(*pid).into_iter().map(since).sum();
        let rate = woken as f64 / (ms(started.elapsed()) / 1000.0);
        println!(
            "idle: pid {pid} wakes {rate:.2} times a second (bound 1), {} KiB resident",
            status_field(*pid, "VmRSS")
        );
    }
}
