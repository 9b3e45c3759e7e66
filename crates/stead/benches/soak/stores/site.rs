//! A server behind a proxy, with the homes of nodes that have their store there; what is in the bucket stays where
//! something failed.

use super::super::kill::left;
use super::super::node::{Node, signal, until};
use super::super::writers::{Desk, create};
use super::proxy::Proxy;
use super::round::has;
use super::servers::{ACCESS_KEY, Kind, SECRET_KEY, Server};
use super::told::{Told, last_noted};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The databases of the app.
pub const DATABASES: [&str; 2] = ["data/one.db", "data/two.db"];
/// Where their history goes.
pub const URL: &str = "s3://volumes/soak";
/// The role of an app that writes nothing.
pub const REST: &str = "rest";

const BUCKET: &str = "volumes";
/// Between two looks at status.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Between two checkpoints.
const CHECKPOINT_EVERY: Duration = Duration::from_millis(1000);

/// The server, the way to it, and a directory for everything else.
pub struct Site {
    /// The server.
    pub server: Server,
    /// Before it.
    pub way: Proxy,
    desk: Desk,
    dir: PathBuf,
}

/// A node in its home.
pub struct Party {
    /// The node.
    pub node: Node,
    home: PathBuf,
    journal: PathBuf,
}

impl Site {
    /// A server of a kind, with nothing in its bucket.
    pub fn new(kind: Kind, dir: &Path) -> Site {
        let server = Server::start(kind);
        server.make_bucket(BUCKET);
        let way = Proxy::before(server.address());
        Site { server, way, desk: Desk::new(dir, "0"), dir: dir.to_owned() }
    }

    /// The home of a role.
    pub fn home(&self, role: &str) -> PathBuf {
        self.dir.join(role)
    }

    fn party(&self, node: Node, role: &'static str) -> Party {
        Party { node, home: self.home(role), journal: self.desk.journal(role) }
    }

    fn log(&self, role: &str) -> PathBuf {
        self.dir.join(format!("{role}.log"))
    }

    /// A node with new databases and an empty store; its app writes.
    pub fn found(&self, role: &'static str) -> Party {
        let home = self.home(role);
        DATABASES.iter().for_each(|path| create(&home.join(path)));
        let node = Node::start(&home, &self.log(role));
        node.until_it_answers();
        let names = DATABASES.map(|path| PathBuf::from(path.strip_prefix("data/").unwrap()));
        let config = json!({
            "name": "soak",
            "databases": [{ "dir": "data", "pattern": "**/*.db" }],
            "storage": {
                "url": URL, "endpoint": self.way.endpoint(), "region": "us-east-1", "request_timeout": "5s",
                "access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY,
            },
            "app": {
                "command": self.desk.command("both", "unused", &names),
                "env": { "SOAK_ROLE": role, "SOAK_JOURNAL": self.desk.journal(role) },
            },
        });
        node.ok("POST", "/config", &config.to_string());
        node.until_healthy();
        self.party(node, role)
    }

    /// `stead run --from URL` in a home of its own.
    pub fn heir(&self, role: &'static str) -> Party {
        let text = |text: &str| text.to_owned();
        let variables = [
            ("AWS_ACCESS_KEY_ID", text(ACCESS_KEY)),
            ("AWS_SECRET_ACCESS_KEY", text(SECRET_KEY)),
            ("AWS_ENDPOINT_URL", self.way.endpoint()),
            ("AWS_REGION", text("us-east-1")),
            ("SOAK_ROLE", text(role)),
            ("SOAK_JOURNAL", self.desk.journal(role).display().to_string()),
        ];
        let node = Node::start_with(&self.home(role), &self.log(role), &["--from", URL], &variables);
        self.party(node, role)
    }

    /// The same home again, as it is.
    pub fn restart(&self, role: &'static str) -> Party {
        self.party(Node::start(&self.home(role), &self.log(role)), role)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The server's directory goes with it.
            let from = self.server.bucket_dir(BUCKET);
            let copied = std::process::Command::new("cp").arg("-a").arg(from).arg(&self.dir).status();
            eprintln!("the bucket, copied to {}: {copied:?}", self.dir.join(BUCKET).display());
        }
    }
}

impl Party {
    /// Where its app notes rows.
    pub fn journal(&self) -> &Path {
        &self.journal
    }

    /// Makes a checkpoint; one that finds no cut in the middle of the writes is asked for again.
    pub fn checkpoint(&self) -> Value {
        let mut made = Value::Null;
        until("a checkpoint is made", || match self.node.json("POST", "/checkpoint", "{}") {
            Ok((200, answer)) => {
                made = answer;
                true
            }
            _ => false,
        });
        made
    }

    /// The last row that the application has noted.
    pub fn noted(&self) -> i64 {
        last_noted(&self.journal)
    }

    /// Waits until status has called a row stored: whoever watches has made a checkpoint that is in the store by then.
    pub fn be_told(&self) {
        until("the application has written", || self.noted() > 0);
        let made = self.checkpoint();
        std::thread::sleep(2 * CHECKPOINT_EVERY);
        let later = self.checkpoint();
        until("the store has two checkpoints", || {
            self.status().is_some_and(|status| has(&status, &made) && has(&status, &later))
        });
    }

    /// What status says, where anybody says it.
    pub fn status(&self) -> Option<Value> {
        self.node.json("GET", "/", "").ok().filter(|(status, _)| *status == 200).map(|(_, status)| status)
    }

    /// Looks at status until it is over, and makes checkpoints.
    pub fn watch(&self, told: &Mutex<Told>, over: &AtomicBool) {
        let mut last = Instant::now();
        while !over.load(Ordering::SeqCst) {
            if last.elapsed() >= CHECKPOINT_EVERY {
                last = Instant::now();
                let rows = last_noted(&self.journal);
                if let Ok((200, made)) = self.node.json("POST", "/checkpoint", "{}") {
                    told.lock().unwrap().take_checkpoint(rows, &made);
                }
            }
            if let Some(status) = self.status() {
                told.lock().unwrap().take_status(&status);
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Whether another node has the store now, this one says so, and no app of it runs.
    pub fn knows_that_it_lost(&self) -> bool {
        let issue = |status: &Value| {
            let mut issues = status["issues"].as_array().into_iter().flatten();
            issues.any(|issue| issue["code"] == "store_taken_over")
        };
        let told = self.status().is_some_and(|status| issue(&status) && status["process"]["pid"].is_null());
        told && left::processes_of(&self.home).iter().all(|process| !process.line.contains("writer.py"))
    }

    /// Ends supervisor, node and app at once.
    pub fn kill(self) {
        until("nothing of it runs", || {
            let left = left::processes_of(&self.home);
            left.iter().for_each(|process| signal(process.pid, "KILL"));
            left.is_empty()
        });
    }

    /// The rows of its databases while its app writes nothing: 1 to each of these, without a gap, whatever else SQLite
    /// finds in the files is sound, and history adds up.
    pub fn rows(&self) -> BTreeMap<&'static str, i64> {
        DATABASES
            .map(|path| {
                let verified = self.node.ok("POST", &format!("/databases/{path}"), r#"{"action":"verify"}"#);
                assert_eq!(verified["ok"], true, "{path}: {verified}");
                (path, gapless(&self.home.join(path), path))
            })
            .into()
    }

    /// Rows up to this one that were not written by a role.
    pub fn foreign_rows(&self, path: &str, upto: i64, role: &str) -> i64 {
        let conn = rusqlite::Connection::open(self.home.join(path)).unwrap();
        let sql = "SELECT count(*) FROM entries WHERE id <= ?1 AND data NOT LIKE ?2 || ' %'";
        conn.query_row(sql, rusqlite::params![upto, role], |row| row.get(0)).unwrap()
    }

    /// The last row of a database as it was at a TXID; `None` where history does not reach it by itself.
    pub fn rows_at(&self, path: &str, txid: u64) -> Option<i64> {
        let url = format!("/databases/{path}?view=image&txid={txid}");
        let (status, image) = self.node.request("GET", &url, "").unwrap();
        let file = self.home.with_extension("image");
        std::fs::write(&file, image).unwrap();
        let rows = (status == 200).then(|| gapless(&file, path));
        std::fs::remove_file(&file).unwrap();
        rows
    }
}

fn gapless(file: &Path, path: &str) -> i64 {
    let rows = super::super::load::sound_rows(file, path);
    let last = rows.last().copied().unwrap_or(0);
    assert_eq!(rows.len() as i64, last, "{path} has gaps below row {last}");
    last
}
