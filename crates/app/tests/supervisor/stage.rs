//! A home with a supervisor in it, and what a test can see and do from outside.

use app::processes::{self, Cookie, Process};
use app::protocol::{APP_COOKIE_VARIABLE, NODE_COOKIE_VARIABLE};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A name and what it does.
pub type Test = (&'static str, fn());

/// Longer than anything here takes; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(10);
/// The horizon of the node's beats in tests.
pub const HORIZON_MS: u64 = 1200;

/// A supervisor at work.
pub struct Stage {
    home: tempfile::TempDir,
    supervisor: Option<Child>,
}

impl Stage {
    /// A home with nothing in it.
    pub fn empty() -> Stage {
        Stage { home: tempfile::tempdir().unwrap(), supervisor: None }
    }

    /// A supervisor with its node.
    pub fn begin() -> Stage {
        let mut stage = Stage::empty();
        stage.supervise();
        stage
    }

    /// The supervisor's command.
    pub fn command(&self) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("supervise").arg(self.home.path()).arg(HORIZON_MS.to_string());
        command.stdin(Stdio::null());
        command
    }

    /// Starts a supervisor whose output goes to files.
    pub fn supervise(&mut self) {
        let mut command = self.command();
        command.stdout(self.append("out")).stderr(self.append("err"));
        self.supervise_with(command);
    }

    /// Starts a supervisor as given.
    pub fn supervise_with(&mut self, mut command: Command) {
        self.supervisor = Some(command.spawn().unwrap());
    }

    fn append(&self, name: &str) -> std::fs::File {
        std::fs::File::options().append(true).create(true).open(self.path(name)).unwrap()
    }

    /// A path in the home.
    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// What a file in the home holds; nothing where there is none.
    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// The supervisor's process.
    pub fn supervisor(&mut self) -> &mut Child {
        self.supervisor.as_mut().unwrap()
    }

    /// Sends the supervisor a signal.
    pub fn signal(&mut self, signal: Signal) {
        send(self.supervisor().id(), signal);
    }

    /// Waits for the supervisor's end.
    pub fn exit_code(&mut self) -> Option<i32> {
        let child = self.supervisor();
        let mut status = None;
        until("the supervisor ends", || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        self.supervisor = None;
        status.unwrap().code()
    }

    /// Asks the node; waits for one where there is none at the moment.
    pub fn ask(&self, request: Value) -> Value {
        let mut answer = None;
        until("the node answers", || {
            answer = self.try_ask(&request);
            answer.is_some()
        });
        answer.unwrap()
    }

    /// Asks the node, which may be gone or go.
    pub fn try_ask(&self, request: &Value) -> Option<Value> {
        let stream = self.request(request)?;
        let line = BufReader::new(stream).lines().next()?.ok()?;
        serde_json::from_str(&line).ok()
    }

    /// Says something to the node; the answer can be read later.
    pub fn request(&self, request: &Value) -> Option<UnixStream> {
        let mut stream = UnixStream::connect(self.path("node.sock")).ok()?;
        writeln!(stream, "{request}").ok()?;
        Some(stream)
    }

    /// How a shell script is run as the app.
    pub fn script(&self, script: &str) -> Value {
        self.spec(&["sh", "-c", script])
    }

    /// How a command is run as the app; it may take 2 s to stop.
    pub fn spec(&self, command: &[&str]) -> Value {
        json!({
            "command": command,
            "env": [["GREETING", "hello"]],
            "clear_env_of": ["SECRET"],
            "directory": self.home.path(),
            "user": null,
            "umask": null,
            "stop_signal": 15,
            "stop_timeout": { "secs": 2, "nanos": 0 },
        })
    }

    /// A C program, where every user may run it.
    pub fn compiled(&self, source: &str) -> PathBuf {
        let (code, program) = (self.path("program.c"), self.path("program"));
        std::fs::write(&code, source).unwrap();
        let built = Command::new("cc").arg("-O2").arg("-o").arg(&program).arg(&code).status().unwrap();
        assert!(built.success());
        std::fs::set_permissions(self.home.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        program
    }

    /// Starts a script as the app and waits until it runs; returns its pid.
    pub fn start(&self, script: &str) -> u32 {
        self.ask(json!({ "do": "start", "spec": self.script(script) }));
        self.running()
    }

    /// Waits until the app runs; returns its pid.
    pub fn running(&self) -> u32 {
        let status = self.status_where("the app runs", |status| status["state"] == "running");
        u32::try_from(status["pid"].as_u64().unwrap()).unwrap()
    }

    /// The node's view.
    pub fn status(&self) -> Value {
        self.ask(json!({ "do": "status" }))
    }

    /// The node's view, as soon as it is like this.
    pub fn status_where(&self, what: &str, good: impl Fn(&Value) -> bool) -> Value {
        let mut status = Value::Null;
        until(what, || {
            status = self.try_ask(&json!({ "do": "status" })).unwrap_or_default();
            good(&status)
        });
        status
    }

    /// The node's pid.
    pub fn node(&self) -> u32 {
        u32::try_from(self.status()["node"].as_u64().unwrap()).unwrap()
    }

    /// Everything of the app that carries the cookie.
    pub fn app_processes(&self) -> Vec<Process> {
        self.carrying(&[APP_COOKIE_VARIABLE])
    }

    /// What the processes of the present run carry, or of the last.
    pub fn cookie(&self) -> Option<Cookie> {
        Cookie::parse(self.read(".stead/app.cookie").split(' ').next()?)
    }

    fn carrying(&self, variables: &[&str]) -> Vec<Process> {
        let Some(cookie) = self.cookie() else { return vec![] };
        processes::carrying(&processes::all().unwrap(), variables, &cookie).unwrap()
    }

    /// Waits until a file of the home holds a text.
    pub fn appears(&self, name: &str, text: &str) {
        until(&format!("{name} holds {text}"), || self.read(name).contains(text));
    }

    /// Waits until a script has written a pid to a file of the home.
    pub fn pid_in(&self, name: &str) -> u32 {
        until(&format!("{name} holds a pid"), || self.read(name).ends_with('\n'));
        self.read(name).trim().parse().unwrap()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(mut child) = self.supervisor.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        for process in self.carrying(&[APP_COOKIE_VARIABLE, NODE_COOKIE_VARIABLE]) {
            let _ = process.send(Signal::KILL);
        }
        if std::thread::panicking() {
            eprintln!("--- out:\n{}\n--- err:\n{}", self.read("out"), self.read("err"));
        }
    }
}

/// Sends a process a signal.
///
/// Whoever is stopped has come to a halt when this returns: on a busy machine its threads run on for a while.
pub fn send(pid: u32, signal: Signal) {
    rustix::process::kill_process(processes::raw_pid(pid).unwrap(), signal).unwrap();
    if signal == Signal::STOP {
        until("every thread of it stands still", || stands_still(pid));
    }
}

fn stands_still(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    // A thread that has ended meanwhile stands still as well.
    let stats = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok());
    stats.into_iter().all(|stat| {
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        matches!(state, Some('T' | 't' | 'Z' | 'X'))
    })
}

/// Whether a process runs.
pub fn lives(pid: u32) -> bool {
    Process::find(pid).unwrap().is_some_and(|process| process.alive)
}

/// Waits until something is so, at most [`PATIENCE`].
pub fn until(what: &str, so: impl FnMut() -> bool) {
    until_patiently(what, PATIENCE, so);
}

/// Waits until something is so, which may take longer than anything else here.
pub fn until_patiently(what: &str, patience: Duration, mut so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !so() {
        assert!(begin.elapsed() < patience, "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// How long something takes.
pub fn took(work: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    work();
    begin.elapsed()
}

/// The children of a process that have ended and were not reaped.
pub fn zombies_of(pid: u32) -> Vec<Process> {
    processes::all().unwrap().into_iter().filter(|p| p.parent == pid && !p.alive).collect()
}

/// Times a process was woken, its threads added up.
pub fn wake_ups(pid: u32) -> u64 {
    let tasks = std::fs::read_dir(Path::new("/proc").join(pid.to_string()).join("task")).unwrap();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("status")).ok())
        .filter_map(|status| {
            let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches"))?.to_owned();
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        })
        .sum()
}
