//! The processes that write beside Stead: Python's SQLite and Debian's command line tool.

use super::journal::now;
use super::node::signal;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const SCRIPT: &str = include_str!("writer.py");

/// Where the soak keeps its own files, outside the home.
pub struct Desk {
    /// The directory.
    pub dir: PathBuf,
    /// Seconds between two rows of a Python writer.
    pace: &'static str,
}

impl Desk {
    /// Puts the script there.
    pub fn new(dir: &Path, pace: &'static str) -> Desk {
        std::fs::write(dir.join("writer.py"), SCRIPT).unwrap();
        Desk { dir: dir.to_owned(), pace }
    }

    /// The journal of a writer.
    pub fn journal(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.journal"))
    }

    /// The command line of a Python writer.
    pub fn command(&self, kind: &str, name: &str, databases: &[PathBuf]) -> Vec<String> {
        let shown = |path: &Path| path.display().to_string();
        let fixed = ["python3".to_owned(), shown(&self.dir.join("writer.py")), kind.to_owned()];
        let journal = [shown(&self.journal(name))];
        fixed.into_iter().chain(journal).chain(databases.iter().map(|path| shown(path))).collect()
    }

    /// Starts a Python writer.
    pub fn spawn(&self, kind: &str, name: &str, databases: &[PathBuf]) -> Outside {
        let words = self.command(kind, name, databases);
        let errors = std::fs::File::create(self.dir.join(format!("{name}.stderr"))).unwrap();
        let mut command = Command::new(&words[0]);
        let child = command.args(&words[1..]).env("SOAK_PACE", self.pace).stderr(errors).spawn().unwrap();
        Outside { child, errors: self.dir.join(format!("{name}.stderr")), name: name.to_owned() }
    }
}

/// A Python writer; asked to end when dropped.
pub struct Outside {
    child: Child,
    errors: PathBuf,
    name: String,
}

impl Outside {
    /// Fails where it has ended by itself.
    pub fn assert_alive(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            let errors = std::fs::read_to_string(&self.errors).unwrap_or_default();
            panic!("the writer {} ended with {status}: {errors}", self.name);
        }
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        signal(self.child.id(), "TERM");
        let _ = self.child.wait();
    }
}

/// Debian's command line tool, fed with one row after another.
pub struct Cli {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Cli {
    /// Starts it on a database.
    pub fn spawn(database: &Path, journal: &Path, pace: Duration) -> Cli {
        let stop = Arc::new(AtomicBool::new(false));
        let (seen, database, journal) = (Arc::clone(&stop), database.to_owned(), journal.to_owned());
        let thread = std::thread::spawn(move || feed(&database, &journal, pace, &seen));
        Cli { stop, thread: Some(thread) }
    }

    /// Ends it; fails where a statement failed.
    pub fn stop(mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Drop for Cli {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn feed(database: &Path, journal: &Path, pace: Duration, stop: &AtomicBool) {
    let mut tool =
        Command::new("sqlite3").arg(database).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut input, output) = (tool.stdin.take().unwrap(), tool.stdout.take().unwrap());
    let mut output = BufReader::new(output);
    let mut journal = std::fs::File::create(journal).unwrap();
    writeln!(input, ".bail on\n.timeout 120000").unwrap();
    let mut number = 0;
    while !stop.load(Ordering::SeqCst) {
        number += 1;
        journal.write_all(format!("b {number} {}\n", now()).as_bytes()).unwrap();
        // The second statement runs only once the first is committed.
        writeln!(input, "INSERT INTO entries VALUES({number}, randomblob(80));\nSELECT {number};").unwrap();
        let mut answer = String::new();
        output.read_line(&mut answer).unwrap();
        assert_eq!(answer.trim(), number.to_string(), "the command line tool failed: see its stderr");
        journal.write_all(format!("a {number} {}\n", now()).as_bytes()).unwrap();
        std::thread::sleep(pace);
    }
    drop(input);
    assert!(tool.wait().unwrap().success());
}

/// Makes a database with the tables that the writers want.
pub fn create(file: &Path) {
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let conn = rusqlite::Connection::open(file).unwrap();
    conn.execute_batch(
        "PRAGMA journal_mode=WAL;
         CREATE TABLE entries(id INTEGER PRIMARY KEY, data);
         CREATE TABLE ballast(id INTEGER PRIMARY KEY, data);",
    )
    .unwrap();
}
