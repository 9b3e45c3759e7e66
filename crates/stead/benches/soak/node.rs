//! A real node in a home of its own, spoken to over its socket, and ended in every way.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take before the soak gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A node under `stead run`; killed when dropped.
pub struct Node {
    child: Child,
    home: PathBuf,
}

impl Node {
    /// Starts one in this home; its log goes to `log` beside what is there.
    pub fn start(home: &Path, log: &Path) -> Node {
        Node::start_with(home, log, &[], &[])
    }

    /// The same with further arguments, and with variables in its environment.
    pub fn start_with(home: &Path, log: &Path, args: &[&str], variables: &[(&str, String)]) -> Node {
        let out = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        let child = Command::new(super::stead())
            .args(["run", "--listen", "127.0.0.1:0", "--home"])
            .arg(home)
            .args(args)
            .envs(variables.iter().map(|(name, value)| (*name, value)))
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        Node { child, home: home.to_owned() }
    }

    /// Its home.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The supervisor.
    pub fn supervisor(&self) -> u32 {
        self.child.id()
    }

    /// The node's own process, while there is one.
    pub fn node(&self) -> Option<u32> {
        children(self.child.id()).into_iter().find(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).nth(1) == Some(b"node")
        })
    }

    /// One request: status and body; `Err` where nobody answers.
    pub fn request(&self, method: &str, path: &str, body: &str) -> std::io::Result<(u16, Vec<u8>)> {
        let mut socket = UnixStream::connect(self.home.join(".stead/api.sock"))?;
        socket.set_read_timeout(Some(PATIENCE * 2))?;
        let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
        write!(socket, "{head}Content-Length: {}\r\n\r\n{body}", body.len())?;
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer)?;
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        let end = end.ok_or_else(|| std::io::Error::other("the answer was cut off"))?;
        let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        if length.is_some_and(|length: usize| length != answer.len() - end - 4) {
            return Err(std::io::Error::other("the body was cut off"));
        }
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
        Ok((status.ok_or_else(|| std::io::Error::other("no status line"))?, answer.split_off(end + 4)))
    }

    /// The JSON of an answer, whatever its status.
    pub fn json(&self, method: &str, path: &str, body: &str) -> std::io::Result<(u16, serde_json::Value)> {
        let (status, body) = self.request(method, path, body)?;
        let parsed = serde_json::from_slice(&body);
        Ok((status, parsed.unwrap_or_else(|_| String::from_utf8_lossy(&body).into_owned().into())))
    }

    /// The JSON of an answer that must be 200.
    pub fn ok(&self, method: &str, path: &str, body: &str) -> serde_json::Value {
        let (status, json) =
            self.json(method, path, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        assert_eq!(status, 200, "{method} {path} {body}: {json}");
        json
    }

    /// A database as it was after a seal.
    pub fn image(&self, path: &str, txid: u64) -> Vec<u8> {
        let (status, image) =
            self.request("GET", &format!("/databases/{path}?view=image&txid={txid}"), "").unwrap();
        assert_eq!(
            status,
            200,
            "{path} at {txid}: {}",
            String::from_utf8_lossy(&image[..image.len().min(400)])
        );
        image
    }

    /// Waits until it answers at all.
    pub fn until_it_answers(&self) {
        until("the node answers", || self.request("GET", "/status", "").is_ok());
    }

    /// Why it is not healthy: primary, nothing degraded, the app running.
    pub fn complaint(&self) -> Option<String> {
        let Ok((200, status)) = self.json("GET", "/status", "") else {
            return Some("it does not answer".into());
        };
        let well = status["state"] == "primary"
            && status["issues"].as_array().is_some_and(Vec::is_empty)
            && status["process"]["state"] == "running"
            && status["databases"].as_array().unwrap().iter().all(|database| database["mode"] == "wal")
            && ["database", "app"].iter().all(|part| status["components"][part]["state"] == "ok");
        (!well).then(|| status.to_string())
    }

    /// Waits until it is healthy.
    pub fn until_healthy(&self) {
        let started = Instant::now();
        while let Some(complaint) = self.complaint() {
            assert!(started.elapsed() < PATIENCE, "not healthy: {complaint}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether `stead run` has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Asks it to end, and waits for it.
    pub fn stop(mut self) -> std::process::ExitStatus {
        signal(self.child.id(), "TERM");
        until("the node ends", || self.child.try_wait().unwrap().is_some());
        self.child.wait().unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            signal(self.child.id(), "TERM");
        }
        let _ = self.child.wait();
    }
}

/// Waits for something.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Sends a signal to one process.
pub fn signal(pid: u32, name: &str) {
    let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
    let signal = match name {
        "KILL" => rustix::process::Signal::KILL,
        "STOP" => rustix::process::Signal::STOP,
        _ => rustix::process::Signal::TERM,
    };
    let _ = rustix::process::kill_process(pid, signal);
}

fn children(pid: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}
