//! Processes beside the node: signals to them, and some that hold a database.

use super::until;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

/// Sends a signal to one process.
pub fn signal(pid: u32, name: &str) {
    let sent =
        Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).stderr(Stdio::null()).status();
    // A process that has just ended needs no signal.
    sent.unwrap();
}

/// Whether a process runs; a zombie does not.
pub fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// The children of a process's first thread.
pub fn children(pid: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// How many children of a process have ended and were not reaped.
pub fn zombies_of(pid: u32) -> usize {
    let pids = std::fs::read_dir("/proc").unwrap().flatten();
    let stats = pids.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
    let is_its_zombie = |stat: &String| {
        let fields = stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ').collect::<Vec<_>>());
        fields.is_some_and(|fields| fields[0] == "Z" && fields[1] == pid.to_string())
    };
    stats.filter(is_its_zombie).count()
}

/// Memory that a process has for itself alone, KiB.
pub fn private_kib(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let private = text.lines().filter(|line| line.starts_with("Private_"));
    private.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum()
}

/// The command line of a process.
pub fn words(pid: u32) -> Vec<String> {
    let text = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&text).split('\0').map(str::to_owned).collect()
}

/// Debian's sqlite3 with a database open, in the middle of something; ended when dropped.
pub struct Held {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<std::process::ChildStdout>,
}

impl Held {
    /// Opens a database and runs SQL; returns once that is done.
    pub fn open(path: &Path, sql: &str) -> Held {
        let mut child = Command::new("sqlite3")
            .arg("-batch")
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut held = Held { child, stdin, stdout };
        held.run(sql);
        held
    }

    /// Runs more SQL; returns what it printed.
    pub fn run(&mut self, sql: &str) -> String {
        use std::io::Write;
        writeln!(self.stdin, "{sql}\n.print done").unwrap();
        let (mut printed, mut line) = (String::new(), String::new());
        while self.stdout.read_line(&mut line).unwrap() > 0 && line.trim_end() != "done" {
            printed.push_str(&line);
            line.clear();
        }
        printed
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        until("it is gone", || (!alive(self.pid())).then_some(()));
    }
}
