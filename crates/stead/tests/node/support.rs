//! A node in a home of its own, and the words in which tests speak of it.
//!
//! Waiting is for a state, with a deadline, never for a time. Whatever a test starts ends with it, by its pid.

mod database;
mod events;
mod http;
mod process;
mod silent;
mod terminal;
mod tmpfs;

pub use database::{Db, count, integrity, sqlite3};
pub use events::Events;
pub use http::{Answer, request, request_with};
pub use process::{Held, alive, children, private_kib, signal, words, zombies_of};
pub use silent::Silent;
pub use terminal::Terminal;
pub use tmpfs::Tmpfs;

use serde_json::Value;
use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

/// Nothing that a test waits for takes longer, however busy the machine is.
pub const DEADLINE: Duration = Duration::from_secs(20);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The program under test.
pub const STEAD: &str = env!("CARGO_BIN_EXE_stead");

/// Waits until a look finds something.
pub fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    until_within(DEADLINE, what, look)
}

/// The same for what has its own rhythm.
pub fn until_within<T>(deadline: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < deadline, "never: {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// A directory for a node, removed with everything in it.
pub struct Home {
    dir: tempfile::TempDir,
    root: PathBuf,
    address: SocketAddr,
}

impl Home {
    /// A home that does not exist yet.
    pub fn new() -> Home {
        let dir = tempfile::tempdir().unwrap();
        // Apps run as other users too.
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let root = dir.path().join("home");
        Home { root, dir, address: own_address() }
    }

    /// A home at a directory that somebody else keeps.
    pub fn at(root: &Path) -> Home {
        Home { root: root.to_owned(), ..Home::new() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a node of this home listens.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    pub fn socket_address(&self) -> SocketAddr {
        self.address
    }

    /// A path beside the home.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file of the home before there is a node.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    pub fn exists(&self, name: &str) -> bool {
        self.path(name).symlink_metadata().is_ok()
    }

    /// The names in a directory of the home.
    pub fn list(&self, name: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(name)).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// The level-0 files of a database's first local history.
    pub fn sealed_files(&self, database: &str) -> Vec<PathBuf> {
        let dir = format!("{database}-litestream/ltx/0");
        self.list(&dir).iter().map(|name| self.path(&dir).join(name)).collect()
    }

    /// A database of the home, opened as an application would.
    pub fn db(&self, name: &str) -> Db {
        Db::open(&self.path(name))
    }

    /// Posts from another thread, to a node that may end meanwhile.
    pub fn post_beside(&self, path: &'static str, body: &Value) -> std::thread::JoinHandle<Option<Answer>> {
        let (address, body) = (self.address, body.to_string());
        std::thread::spawn(move || request(address, "POST", path, &body).ok())
    }

    /// `stead ARG…` for this home, run to its end.
    pub fn stead(&self, args: &[&str]) -> Output {
        self.stead_in(&[], args)
    }

    /// The same in an environment.
    pub fn stead_in(&self, variables: &[(&str, &str)], args: &[&str]) -> Output {
        let mut command = Command::new(STEAD);
        let command = clean(&mut command).envs(variables.iter().copied());
        command.arg("--home").arg(&self.root).args(args).stdin(Stdio::null()).output().unwrap()
    }
}

/// Each node of this process has its own: all of 127.0.0.0/8 is this machine.
fn own_address() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(2);
    let pid = std::process::id();
    let [.., high, low] = (pid % 62_500).to_be_bytes();
    SocketAddr::from(([127, 1 + high, low, NEXT.fetch_add(1, Ordering::SeqCst)], 8080))
}

/// The environment of whoever runs the tests must not configure the nodes.
pub fn clean(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("STEAD_") {
            command.env_remove(name);
        }
    }
    for name in
        ["RUST_LOG", "PUID", "PGID", "UMASK", "HOSTNAME", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"]
    {
        command.env_remove(name);
    }
    command
}

/// A running node, with its supervisor and its app; stopped when dropped.
pub struct Node<'a> {
    pub home: &'a Home,
    child: Child,
    ended: Option<ExitStatus>,
}

impl<'a> Node<'a> {
    /// `stead run` in a home, answering.
    pub fn start(home: &'a Home) -> Node<'a> {
        Node::start_with(home, &[])
    }

    /// `stead run ARG…` in a home, answering; what its flags and files name is up, or an issue.
    pub fn start_with(home: &'a Home, args: &[&str]) -> Node<'a> {
        Node::spawn(home, args).answering()
    }

    /// `stead run` in a home with a configuration that is in force once this returns.
    pub fn configured(home: &'a Home, config: &Value) -> Node<'a> {
        let node = Node::start(home);
        node.configure(config);
        node
    }

    /// `stead run ARG…`, which may not answer yet or ever.
    pub fn spawn(home: &'a Home, args: &[&str]) -> Node<'a> {
        Node::spawn_with(home, args, &[])
    }

    /// The same with variables in its environment.
    pub fn spawn_with(home: &'a Home, args: &[&str], variables: &[(&str, &str)]) -> Node<'a> {
        let mut command = Node::command(home, &[STEAD], args);
        let child = command.envs(variables.iter().copied()).spawn().unwrap();
        Node { home, child, ended: None }
    }

    /// The same as the first process of a PID namespace: all pids seen from outside are others.
    pub fn spawn_as_pid_1(home: &'a Home, args: &[&str]) -> Node<'a> {
        let program = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", STEAD];
        let child = Node::command(home, &program, args).spawn().unwrap();
        Node { home, child, ended: None }
    }

    /// The same with its standard output going there.
    pub fn spawn_onto(home: &'a Home, stdout: impl Into<Stdio>) -> Node<'a> {
        let child = Node::command(home, &[STEAD], &[]).stdout(stdout).spawn().unwrap();
        Node { home, child, ended: None }
    }

    /// The same with its standard error going there.
    pub fn spawn_complaining_to(home: &'a Home, stderr: impl Into<Stdio>) -> Node<'a> {
        let child = Node::command(home, &[STEAD], &[]).stderr(stderr).spawn().unwrap();
        Node { home, child, ended: None }
    }

    fn command(home: &Home, program: &[&str], args: &[&str]) -> Command {
        let file = |name: &str| File::options().create(true).append(true).open(home.beside(name)).unwrap();
        let mut command = Command::new(program[0]);
        clean(&mut command)
            .args(&program[1..])
            .args(["run", "--listen", &home.address(), "--home"])
            .arg(&home.root)
            .args(args)
            .stdin(Stdio::null())
            .stdout(file("stdout"))
            .stderr(file("stderr"));
        command
    }

    /// Waits until it answers, and what its flags and files name is up, or an issue.
    pub fn answering(mut self) -> Node<'a> {
        until("the node answers", || {
            let ended = self.ended();
            assert!(ended.is_none(), "the node ended with {ended:?}:\n{}", self.stderr());
            let status = self.try_get("/")?.json();
            let nothing_wrong = status["issues"].as_array().is_none_or(Vec::is_empty);
            (status["state"] != "starting" || !nothing_wrong).then_some(())
        });
        self
    }

    /// What supervisor, node and app wrote, over all nodes of this home.
    pub fn stdout(&self) -> String {
        std::fs::read_to_string(self.home.beside("stdout")).unwrap()
    }

    pub fn stderr(&self) -> String {
        std::fs::read_to_string(self.home.beside("stderr")).unwrap()
    }

    /// Gives it its first configuration.
    pub fn configure(&self, config: &Value) -> Value {
        self.post("/config", config).ok()
    }

    pub fn request(&self, method: &str, path: &str, body: &str) -> Answer {
        request(self.home.address, method, path, body).unwrap_or_else(|error| {
            panic!("{method} {path}: {error}\n{}", self.stderr());
        })
    }

    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, "")
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.request("POST", path, &body.to_string())
    }

    /// The answer, unless nobody gives one.
    pub fn try_get(&self, path: &str) -> Option<Answer> {
        request(self.home.address, "GET", path, "").ok()
    }

    /// Everything on one screen.
    pub fn status(&self) -> Value {
        self.get("/").ok()
    }

    /// Waits for a status, and returns it.
    pub fn until(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let status = self.status();
            if is(&status) {
                return status;
            }
            assert!(started.elapsed() < DEADLINE, "never: {what}\n{status:#}\n{}", self.stderr());
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Waits until a database is followed and everything in it is sealed.
    pub fn until_sealed(&self, path: &str) -> Value {
        self.until(&format!("{path} is sealed"), |status| {
            let found = database(status, path);
            found["mode"] == "wal" && found["txid"].as_u64() > Some(0) && found["lag_ms"] == 0
        })
    }

    /// Waits until the store has everything of a database.
    pub fn until_stored(&self, path: &str) {
        self.until_sealed(path);
        self.until(&format!("{path} is stored"), |status| {
            let found = database(status, path);
            found["stored_txid"].as_u64() > Some(0) && found["stored_txid"] == found["txid"]
        });
    }

    /// Waits for an issue, and returns it.
    pub fn until_issue(&self, code: &str) -> Value {
        let status = self.until(&format!("issue {code}"), |status| issue(status, code).is_some());
        issue(&status, code).unwrap()
    }

    /// Waits until nothing is wrong any more.
    pub fn until_well(&self) {
        self.until("no issues", |status| status["issues"].as_array().unwrap().is_empty());
    }

    /// Waits until the app runs, and returns its pid.
    pub fn until_app(&self) -> u32 {
        let status = self.until("the app runs", |status| status["process"]["state"] == "running");
        app_pid(&status)
    }

    /// Makes a checkpoint.
    pub fn checkpoint(&self, id: &str) -> Value {
        self.post("/checkpoint", &serde_json::json!({ "id": id })).ok()
    }

    /// Turns back to a checkpoint.
    pub fn restore(&self, id: &str) -> Value {
        self.post("/restore", &serde_json::json!({ "id": id })).ok()
    }

    /// Compares a database with its history; there must be nothing wrong.
    pub fn verify(&self, path: &str) {
        let verified = self.request("POST", &format!("/databases/{path}"), r#"{"action":"verify"}"#).ok();
        assert_eq!(verified["ok"], true, "{verified:#}");
    }

    /// The pid of the supervisor, which is the one that is known outside.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The pid of the node's own process.
    pub fn node_pid(&self) -> u32 {
        let is_node = |pid: &u32| process::words(*pid).get(1).is_some_and(|word| word == "node");
        until("the node's process", || children(self.pid()).into_iter().find(is_node))
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().unwrap();
        }
        self.ended
    }

    /// Waits for its end and returns the exit code, 128 + the signal for one that a signal ended.
    pub fn wait(&mut self) -> i32 {
        let status = until("the node ends", || self.ended());
        status.code().unwrap_or_else(|| 128 + status.signal().unwrap())
    }

    /// Kills supervisor and node at once; the next node of this home is another one.
    pub fn kill(mut self) {
        let inner = self.node_pid();
        signal(self.pid(), "KILL");
        signal(inner, "KILL");
        self.wait();
        until("the node is gone", || (!alive(inner)).then_some(()));
    }

    /// Ends it as a service manager would.
    pub fn stop(mut self) -> i32 {
        signal(self.pid(), "TERM");
        self.wait()
    }
}

impl Drop for Node<'_> {
    fn drop(&mut self) {
        const PATIENCE: Duration = Duration::from_secs(10);
        let started = Instant::now();
        if self.ended().is_none() {
            signal(self.pid(), "TERM");
        }
        while self.ended().is_none() {
            if started.elapsed() > PATIENCE {
                // Its children end by themselves when it is gone.
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// One database of a status; null where there is none.
pub fn database(status: &Value, path: &str) -> Value {
    let all = status["databases"].as_array().unwrap();
    all.iter().find(|database| database["path"] == path).cloned().unwrap_or_default()
}

/// One issue of a status.
pub fn issue(status: &Value, code: &str) -> Option<Value> {
    status["issues"].as_array().unwrap().iter().find(|issue| issue["code"] == code).cloned()
}

/// The app's pid in a status.
pub fn app_pid(status: &Value) -> u32 {
    u32::try_from(status["process"]["pid"].as_u64().unwrap_or_else(|| panic!("no pid: {status:#}"))).unwrap()
}
