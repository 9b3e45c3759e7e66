//! From a commit's return to its file in the store, beside Litestream; and the requests of a busy node and an idle one.
//!
//! A file counts from the moment its name is there, which is looked for directly, in the directory or in that of the
//! server; `stored_txid` says so a little later, since the node is told by an answer. The pauses between commits are
//! spread evenly over a second, so that no side's interval is met at a moment of its own.

use crate::cost::{share, used};
use crate::litestream::{self, Replicating, VERSION, environment};
use crate::node::Node;
use crate::proxy::{Act, Proxy};
use crate::servers::{Kind, Server};
use crate::{Plan, ms, percentile};
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const NAME: &str = "data/database.sqlite";
const BUCKET: &str = "bench";
/// Single commits of each side, for each of the other's intervals.
const COMMITS: usize = 150;
/// How long a file may take to be there.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(60);
/// How often its name is looked for.
const LOOK_EVERY: Duration = Duration::from_micros(50);
/// How long both sides are watched afterwards, while nothing is written.
const QUIET: Duration = Duration::from_secs(5);
/// What the pauses between single commits are spread over.
const SPREAD: Duration = Duration::from_secs(1);
/// How long a database is busy, and what lies between its commits.
const BUSY_FOR: Duration = Duration::from_secs(30);
const BUSY_PAUSE: Duration = Duration::from_millis(10);
/// A node is at rest when it has asked for nothing for so long: what merging changed is listed every 30 s.
const REST: Duration = Duration::from_secs(40);
/// And, where it is watched for longer than that, once single seals have left the store, which keeps them so long.
const SEALS_KEPT: Duration = Duration::from_secs(5 * 60);
/// How long it may take to come to rest.
const REST_LIMIT: Duration = Duration::from_secs(900);

/// All of it: at once into both kinds of store, then at the default interval through a proxy.
pub fn measure(plan: &Plan) {
    let litestream = litestream::find();
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(Kind::Versity);
    server.make_bucket(BUCKET);
    for place in [Place::directory(dir.path()), Place::bucket(&server)] {
        // The default first: it costs the machine next to nothing. The least that it takes keeps it busy.
        let settings: &[Option<&str>] = if litestream.is_some() { &[None, Some("1ms")] } else { &[None] };
        for (round, interval) in settings.iter().enumerate() {
            let home = dir.path().join(format!("{}-{round}", place.what));
            at_once(plan, &place.of(round), &home, &server.endpoint(), litestream.as_deref(), *interval);
        }
    }
    requests(plan, dir.path(), &server);
}

/// A store of each side, and where the newest files arrive in it.
struct Place {
    what: &'static str,
    bound_ms: u32,
    url: String,
    files: PathBuf,
    their_url: String,
    their_files: PathBuf,
}

impl Place {
    fn directory(dir: &Path) -> Place {
        let (own, theirs) = (dir.join("store"), dir.join("theirs"));
        Place {
            what: "directory",
            bound_ms: 3,
            url: format!("file://{}", own.display()),
            their_url: format!("file://{}", theirs.display()),
            files: own,
            their_files: theirs,
        }
    }

    fn bucket(server: &Server) -> Place {
        let bucket = server.bucket_dir(BUCKET);
        Place {
            what: "bucket",
            bound_ms: 15,
            url: format!("s3://{BUCKET}/own"),
            their_url: litestream::bucket_url(BUCKET, "theirs", &server.endpoint()),
            files: bucket.join("own"),
            their_files: bucket.join("theirs"),
        }
    }

    /// The place of one round, below this one.
    fn of(&self, round: usize) -> Place {
        let level0 = if self.what == "directory" { "ltx/0" } else { "0000" };
        let below = |url: &str| match url.split_once('?') {
            Some((url, options)) => format!("{url}{round}?{options}"),
            None => format!("{url}{round}"),
        };
        let files = |files: &Path, name: &str| {
            PathBuf::from(format!("{}{round}", files.display())).join(name).join(level0)
        };
        Place {
            what: self.what,
            bound_ms: self.bound_ms,
            url: below(&self.url),
            files: files(&self.files, NAME),
            their_url: below(&self.their_url),
            their_files: files(&self.their_files, ""),
        }
    }
}

/// A database and where its newest files arrive.
struct Watched {
    conn: Connection,
    files: PathBuf,
    last: u64,
}

impl Watched {
    fn open(database: &Path, files: PathBuf) -> Watched {
        let conn = Connection::open(database).unwrap();
        conn.busy_timeout(Duration::from_secs(30)).unwrap();
        conn.execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; CREATE TABLE t(x)").unwrap();
        Watched { conn, files, last: 0 }
    }

    /// One commit: when it returned, and the transaction that its file will have.
    fn commit(&mut self) -> (Instant, u64) {
        let next = self.last().max(self.last) + 1;
        self.conn.execute("INSERT INTO t VALUES(randomblob(100))", []).unwrap();
        self.last = next;
        (Instant::now(), next)
    }

    /// One commit, until its file is there: milliseconds.
    fn time(&mut self) -> (Instant, u64, f64) {
        let (began, txid) = self.commit();
        let file = self.files.join(format!("{txid:016x}-{txid:016x}.ltx"));
        while !file.exists() {
            assert!(began.elapsed() < ARRIVAL_LIMIT, "never: {}", file.display());
            std::thread::sleep(LOOK_EVERY);
        }
        (began, txid, ms(began.elapsed()))
    }

    fn last(&self) -> u64 {
        let Ok(names) = std::fs::read_dir(&self.files) else { return 0 };
        let txids = names
            .flatten()
            .filter_map(|name| u64::from_str_radix(name.file_name().to_str()?.get(..16)?, 16).ok());
        txids.max().unwrap_or(0)
    }
}

/// Commits of both sides by turns, with Stead's `sync_interval` at 0 and the other's intervals at theirs.
fn at_once(
    plan: &Plan,
    place: &Place,
    home: &Path,
    endpoint: &str,
    litestream: Option<&Path>,
    interval: Option<&str>,
) {
    let (node, mut own) = start(home, &place.url, "0s", endpoint, place.files.clone());
    let mut theirs = litestream.map(|program| {
        let beside = home.with_extension("theirs");
        std::fs::create_dir_all(&beside).unwrap();
        let database = beside.join("theirs.db");
        let mut theirs = Watched::open(&database, place.their_files.clone());
        theirs.conn.execute_batch("INSERT INTO t VALUES(1)").unwrap();
        let running = Replicating::start(program, &database, &place.their_url, interval, endpoint);
        theirs.last = until_first(&theirs);
        (running, theirs)
    });
    let (mut there, mut said, mut other) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 0..plan.times(COMMITS) {
        pause(turn);
        let (began, txid, time) = own.time();
        there.push(time);
        while stored(&node).is_none_or(|stored| stored < txid) {
            assert!(began.elapsed() < ARRIVAL_LIMIT, "never said to be stored: {txid}");
        }
        said.push(ms(began.elapsed()));
        if let Some((_, theirs)) = &mut theirs {
            other.push(theirs.time().2);
        }
    }
    let pids: Vec<u32> = theirs.iter().map(|(running, _)| running.pid()).chain(node.pids()).collect();
    let before: Vec<Duration> = pids.iter().map(|pid| used(*pid)).collect();
    std::thread::sleep(QUIET);
    let shares: Vec<f64> = pids.iter().zip(before).map(|(pid, was)| share(used(*pid) - was, QUIET)).collect();
    let p50 = percentile(&mut there, 0.5);
    println!(
        "commit to file in a {}, sync_interval 0, {} commits: p50 {p50:.2} ms (bound {}), p99 {:.2} ms; \
         stored_txid says so after p50 {:.2} ms, p99 {:.2} ms; {:.1} % of a core after the last",
        place.what,
        there.len(),
        place.bound_ms,
        percentile(&mut there, 0.99),
        percentile(&mut said, 0.5),
        percentile(&mut said, 0.99),
        shares.last().unwrap(),
    );
    if theirs.is_some() {
        let their_p50 = percentile(&mut other, 0.5);
        println!(
            "  litestream {VERSION}, monitor-interval and sync-interval {}: p50 {their_p50:.2} ms, p99 {:.2} ms; \
             {:.1} % of a core after the last; ratio {:.2}",
            interval.unwrap_or("1s (its default)"),
            percentile(&mut other, 0.99),
            shares[0],
            their_p50 / p50,
        );
    }
}

/// A node with a database that it follows and of which the store has everything.
fn start(home: &Path, url: &str, interval: &str, endpoint: &str, files: PathBuf) -> (Node, Watched) {
    std::fs::create_dir_all(home).unwrap();
    if let Some(directory) = url.strip_prefix("file://") {
        std::fs::create_dir_all(directory).unwrap();
    }
    let config = home.join("bench.yaml");
    let text = format!("name: bench\nstorage:\n  url: {url}\n  sync_interval: {interval}\n");
    std::fs::write(&config, text).unwrap();
    let node = Node::start_with(home, &["--config", config.to_str().unwrap()], |node| {
        environment(node, endpoint);
    });
    node.until_database();
    let mut watched = Watched::open(&home.join(NAME), files);
    node.until_followed();
    node.until_stored();
    watched.last = stored(&node).unwrap_or(0);
    (node, watched)
}

fn stored(node: &Node) -> Option<u64> {
    node.json("GET", "/databases", "")["databases"][0]["stored_txid"].as_u64()
}

fn until_first(watched: &Watched) -> u64 {
    let began = Instant::now();
    while watched.last() == 0 {
        assert!(began.elapsed() < ARRIVAL_LIMIT, "never: a first file in {}", watched.files.display());
        std::thread::sleep(Duration::from_millis(20));
    }
    watched.last()
}

/// Pauses that are spread evenly, in an order without a rhythm: the golden ratio's.
fn pause(turn: usize) {
    std::thread::sleep(SPREAD.mul_f64((turn as f64 * 0.618_034).fract()));
}

/// What went through a proxy, and when.
type Log = Arc<Mutex<Vec<(Instant, String)>>>;

/// The default interval: how late single commits are, how many requests a busy database makes, and an idle one.
fn requests(plan: &Plan, dir: &Path, server: &Server) {
    let proxy = Proxy::before(server.address());
    let log = Log::default();
    let shared = Arc::clone(&log);
    proxy.rule(move |request| {
        let line = request.head.lines().next().unwrap_or_default().trim_end_matches(" HTTP/1.1");
        shared.lock().unwrap().push((Instant::now(), line.to_owned()));
        Act::Pass
    });
    let files = server.bucket_dir(BUCKET).join("default").join(NAME).join("0000");
    let url = format!("s3://{BUCKET}/default");
    let (node, mut own) = start(&dir.join("default"), &url, "1s", &proxy.endpoint(), files);
    let mut times = Vec::new();
    for turn in 0..plan.times(COMMITS) {
        pause(turn);
        times.push(own.time().2);
    }
    println!(
        "commit to file in a bucket, default sync_interval of 1 s, {} commits: p50 {:.0} ms, p99 {:.0} ms (bound 1100)",
        times.len(),
        percentile(&mut times, 0.5),
        percentile(&mut times, 0.99),
    );
    busy(plan, &node, &own.conn, &log);

    let (began, rest_of) = (Instant::now(), log.lock().unwrap().len());
    let last = || log.lock().unwrap().last().map_or(began, |(at, _)| *at);
    let least = if plan.idle() > SEALS_KEPT { SEALS_KEPT + REST } else { Duration::ZERO };
    while (last().elapsed() < REST || began.elapsed() < least) && began.elapsed() < REST_LIMIT {
        std::thread::sleep(Duration::from_millis(100));
    }
    let rest_s = (last() - began).as_secs_f64();
    let resting = log.lock().unwrap().len() - rest_of;
    println!("after the last commit: {resting} requests, the last after {rest_s:.0} s");
    let before = log.lock().unwrap().len();
    std::thread::sleep(plan.idle());
    let since = log.lock().unwrap().split_off(before);
    println!("idle for {:?}: {} requests (bound 0)", plan.idle(), since.len());
    for (at, line) in since {
        println!("  {:.0} s after the last commit: {line}", (at - began).as_secs_f64());
    }
}

/// PUTs a second of one busy database and of the ledger.
fn busy(plan: &Plan, node: &Node, conn: &Connection, log: &Log) {
    node.until_stored();
    let busy_for = BUSY_FOR / if plan.is_small() { 3 } else { 1 };
    let before = log.lock().unwrap().len();
    let (began, mut commits) = (Instant::now(), 0);
    while began.elapsed() < busy_for {
        conn.execute("INSERT INTO t VALUES(randomblob(100))", []).unwrap();
        commits += 1;
        std::thread::sleep(BUSY_PAUSE);
    }
    let seconds = began.elapsed().as_secs_f64();
    let lines: Vec<String> = log.lock().unwrap()[before..].iter().map(|(_, line)| line.clone()).collect();
    let put = |line: &&String| line.starts_with("PUT ");
    let of = |part: &str| lines.iter().filter(put).filter(|line| line.contains(part)).count();
    let (database, ledger) = (of(&format!("/{NAME}/")), of("/.stead/ledger"));
    let puts = lines.iter().filter(put).count();
    println!(
        "busy, {:.0} commits/s for {seconds:.0} s: {:.2} PUT/s of the database (bound 1), {:.2} of the ledger (bound 1), \
         {} others, {} requests that are no PUT",
        f64::from(commits) / seconds,
        database as f64 / seconds,
        ledger as f64 / seconds,
        puts - database - ledger,
        lines.len() - puts,
    );
}
