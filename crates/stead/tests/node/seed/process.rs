//! "Process Supervision" and its "Expected Behavior".

use super::app;
use crate::support::{Home, Node, alive, app_pid, signal, until};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn with(mut config: Value, key: &str, value: Value) -> Value {
    config["app"][key] = value;
    config
}

/// "Supervisor must execute the command with provided arguments"
#[test]
fn the_app_gets_its_arguments_as_they_are() {
    let home = Home::new();
    let words = [
        "sh",
        "-c",
        r#"printf '<%s>' "$@" > out; exec sleep 1000"#,
        "sh",
        "one",
        "two words",
        "*",
        "$HOME",
        "",
    ];
    let node = Node::configured(&home, &json!({ "name": "seed", "app": { "command": words } }));
    node.until_app();
    until("the app wrote", || (home.read("out") == "<one><two words><*><$HOME><>").then_some(()));
}

/// "Process must start with provided command"
#[test]
fn a_command_line_without_a_shell_runs_after_two_dashes() {
    let home = Home::new();
    let node = Node::start_with(&home, &["--", "sleep", "1000"]);
    let pid = node.until_app();
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    assert_eq!(line, b"sleep\x001000\x00");
    assert_eq!(node.get("/config").ok()["app"]["command"], json!(["sleep", "1000"]));
}

/// "Process stdout must be forwarded to supervisor's stdout"
#[test]
fn what_the_app_prints_is_on_standard_output() {
    let home = Home::new();
    let node = Node::configured(&home, &app("echo to-out; echo to-err >&2; exec sleep 1000"));
    until("forwarded", || node.stdout().contains("to-out").then_some(()));
    until("all of it is there", || node.stderr().contains("to-err").then_some(()));
    assert!(!node.stdout().contains("to-err"));
}

/// "Process stderr must be forwarded to supervisor's stderr"
#[test]
fn what_the_app_complains_is_on_standard_error() {
    let home = Home::new();
    let node = Node::configured(&home, &app("echo to-out; echo to-err >&2; exec sleep 1000"));
    until("forwarded", || node.stderr().lines().any(|line| line.contains("to-err")).then_some(()));
    until("all of it is there", || node.stdout().contains("to-out").then_some(()));
    assert!(!node.stderr().contains("to-out"));
    let lines = node.get("/logs?stream=stderr").ok();
    assert_eq!(lines["lines"][0]["text"], "to-err", "{lines:#}");
}

/// "Process PID must be recorded"
#[test]
fn the_pid_of_the_app_is_in_the_status() {
    let home = Home::new();
    let node = Node::configured(&home, &app("echo $$ > pid; exec sleep 1000"));
    let pid = node.until_app();
    until("the app wrote", || (home.read("pid").trim() == pid.to_string()).then_some(()));
    assert!(alive(pid));
}

/// "Supervisor must detect process exit"
#[test]
fn how_the_app_ended_is_in_the_status() {
    let home = Home::new();
    let node = Node::configured(&home, &with(app("exit 7"), "restart_delay", json!("30s")));
    let status = node.until("it ended", |status| status["process"]["state"] == "backoff");
    assert_eq!(status["process"]["last_exit"]["code"], 7);
    assert!(status["process"]["pid"].is_null());
    assert_eq!(status["components"]["app"]["state"], "degraded");
}

/// "On unexpected exit, supervisor must restart process after RestartDelay"
#[test]
fn an_app_that_ends_is_restarted_after_its_delay() {
    let home = Home::new();
    let script = "date +%s%N >> starts; [ $(wc -l < starts) = 1 ] && exit 1; exec sleep 1000";
    let node = Node::configured(&home, &with(app(script), "restart_delay", json!("400ms")));
    node.until("the second run", |status| {
        status["process"]["restarts"] == 1 && status["process"]["state"] == "running"
    });
    let starts = until("both wrote", || {
        let text = home.read("starts");
        let times: Vec<u64> = text.lines().filter_map(|line| line.parse().ok()).collect();
        (times.len() == 2).then_some(times)
    });
    let waited_ms = (starts[1] - starts[0]) / 1_000_000;
    assert!((390..3000).contains(&waited_ms), "{waited_ms} ms");
}

/// "Process must restart on unexpected exit"
#[test]
fn an_app_is_restarted_however_it_ends() {
    let home = Home::new();
    // Zero is unexpected too, and so is a signal.
    let script =
        "echo >> starts; case $(wc -l < starts) in 1) exit 0;; 2) kill -SEGV $$;; esac; exec sleep 1000";
    let node = Node::configured(&home, &app(script));
    let status = node.until("the third run", |status| {
        status["process"]["restarts"] == 2 && status["process"]["state"] == "running"
    });
    assert_eq!(status["process"]["last_exit"]["signal"], "SIGSEGV");
}

/// "On intentional stop, supervisor must not restart process"
#[test]
fn an_app_that_was_stopped_stays_stopped() {
    let home = Home::new();
    let node = Node::configured(&home, &app("echo >> starts; exec sleep 1000"));
    let pid = node.until_app();
    node.post("/app", &json!({ "action": "stop" })).ok();
    assert!(!alive(pid));
    // Four times the delay of a restart.
    std::thread::sleep(Duration::from_millis(200));
    let status = node.status();
    assert_eq!(
        (status["process"]["state"].as_str(), home.read("starts").lines().count()),
        (Some("stopped"), 1)
    );
    // Not by a restart of the node either.
    assert_eq!(node.stop(), 0);
    let node = Node::start(&home);
    node.until("it is up", |status| status["state"] == "primary");
    assert_eq!(node.status()["process"]["pid"], Value::Null);
    node.post("/app", &json!({ "action": "start" })).ok();
    node.until_app();
}

/// "On SIGTERM, supervisor must send SIGTERM to process"
#[test]
fn a_sigterm_reaches_the_app_as_one() {
    let home = Home::new();
    let script = "trap 'echo TERM > got; exit 0' TERM; echo ready > ready; while :; do sleep 0.02; done";
    let node = Node::configured(&home, &app(script));
    until("the trap is set", || home.exists("ready").then_some(()));
    assert_eq!(node.stop(), 0);
    assert_eq!(home.read("got"), "TERM\n");
}

/// "Process must stop on SIGTERM"
#[test]
fn nothing_of_the_app_is_left_after_a_sigterm() {
    let home = Home::new();
    let node = Node::configured(&home, &app("sleep 1000 & echo $! > child; wait"));
    let pid = node.until_app();
    let child = until("its child", || home.read("child").trim().parse().ok());
    let node_pid = node.node_pid();
    assert_eq!(node.stop(), 0);
    for pid in [pid, child, node_pid] {
        assert!(!alive(pid), "{pid}");
    }
}

/// "If process doesn't exit within TimeoutStop, supervisor must send SIGKILL"
#[test]
fn an_app_that_ignores_sigterm_is_killed_after_its_timeout() {
    let home = Home::new();
    let script = "trap '' TERM; echo ready > ready; while :; do sleep 0.02; done";
    let node = Node::configured(&home, &with(app(script), "stop_timeout", json!("500ms")));
    let pid = node.until_app();
    until("the trap is set", || home.exists("ready").then_some(()));
    let asked = Instant::now();
    node.post("/app", &json!({ "action": "stop" })).ok();
    let took = asked.elapsed();
    assert!(!alive(pid));
    assert!((Duration::from_millis(490)..Duration::from_secs(5)).contains(&took), "{took:?}");
    assert_eq!(node.status()["process"]["last_exit"]["signal"], "SIGKILL");
}

/// "Supervisor must wait for process exit before completing stop"
#[test]
fn a_stop_is_complete_only_when_the_app_has_ended() {
    let home = Home::new();
    let script =
        "trap 'sleep 0.4; echo last > last; exit 0' TERM; echo ready > ready; while :; do sleep 0.02; done";
    let node = Node::configured(&home, &app(script));
    until("the trap is set", || home.exists("ready").then_some(()));
    assert_eq!(node.stop(), 0);
    assert_eq!(home.read("last"), "last\n");
}

/// "Process must be killed on SIGKILL"
// semantics: kill
#[test]
fn a_killed_supervisor_leaves_no_app_behind() {
    let home = Home::new();
    let mut node = Node::configured(&home, &app("sleep 1000 & echo $! > child; wait"));
    let pid = node.until_app();
    let child: u32 = until("its child", || home.read("child").trim().parse().ok());
    let node_pid = node.node_pid();
    signal(node.pid(), "KILL");
    assert_eq!(node.wait(), 128 + 9);
    for pid in [pid, child, node_pid] {
        until("it is gone", || (!alive(pid)).then_some(()));
    }
}

/// "Process must be killed on SIGKILL", and the node's own process as well.
#[test]
fn a_killed_node_is_started_again_with_its_app() {
    let home = Home::new();
    let node = Node::configured(&home, &app("exec sleep 1000"));
    let (pid, node_pid) = (node.until_app(), node.node_pid());
    signal(node_pid, "KILL");
    until("another node and app", || {
        let answer = node.try_get("/")?.json();
        (answer["process"]["state"] == "running" && app_pid(&answer) != pid).then_some(())
    });
    assert!(!alive(pid));
    assert_ne!(node.node_pid(), node_pid);
    assert_eq!(node.get("/config").ok()["name"], "seed");
}
