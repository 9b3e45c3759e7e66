//! What is started again: the app after its end, the node after its crash.

use crate::stage::{HORIZON_MS, Stage, Test, lives, send, took, until, zombies_of};
use rustix::process::Signal;
use serde_json::json;
use std::time::Duration;

pub const TESTS: &[Test] = &[
    ("an_app_that_is_killed_is_started_again", an_app_that_is_killed_is_started_again),
    ("what_a_dead_app_leaves_is_ended_before_the_next_start", what_a_dead_app_leaves_is_ended),
    ("an_app_that_exits_keeps_its_code", an_app_that_exits_keeps_its_code),
    ("a_program_that_does_not_exist_is_an_error_not_a_crash", a_program_that_does_not_exist),
    ("a_killed_node_takes_the_app_with_it_and_is_followed_by_another", a_killed_node),
    ("a_frozen_node_is_replaced", a_frozen_node_is_replaced),
    ("a_node_that_fails_with_70_is_followed_by_another", a_node_that_fails_with_70),
    ("orphans_are_reaped", orphans_are_reaped),
];

fn an_app_that_is_killed_is_started_again() {
    let stage = Stage::begin();
    let first = stage.start("sleep 60");
    send(first, Signal::KILL);
    let status = stage.status_where("it runs again", |s| s["state"] == "running" && s["pid"] != json!(first));
    assert_eq!((&status["restarts"], &status["signal"]), (&json!(1), &json!(9)));
}

fn what_a_dead_app_leaves_is_ended() {
    let stage = Stage::begin();
    let script = "[ -e old ] || (setsid sh -c 'echo $$ > old; while :; do sleep 0.05; done' &); sleep 60";
    let first = stage.start(script);
    let old = stage.pid_in("old");
    send(first, Signal::KILL);
    stage.status_where("it runs again", |s| {
        let again = s["state"] == "running" && s["pid"] != json!(first);
        assert!(!again || !lives(old), "two runs of the app overlap");
        again
    });
}

fn an_app_that_exits_keeps_its_code() {
    let stage = Stage::begin();
    stage.ask(json!({ "do": "start", "spec": stage.script("exit 3") }));
    let status = stage.status_where("it has ended twice", |s| s["restarts"].as_u64() > Some(1));
    assert_eq!(status["code"], json!(3));
}

fn a_program_that_does_not_exist() {
    let stage = Stage::begin();
    let attempt = |spec: serde_json::Value| {
        stage.ask(json!({ "do": "start", "spec": spec }));
        let status = stage.status_where("it failed", |s| s["state"] == "backoff");
        stage.ask(json!({ "do": "stop" }));
        (status["code"].as_i64().unwrap(), status["error"].as_str().unwrap().to_owned())
    };
    let (code, error) = attempt(stage.spec(&["no-such-program"]));
    assert_eq!((code, error.as_str()), (127, "`no-such-program` was not found in PATH"));
    let (code, error) = attempt(stage.spec(&["./no-such-program"]));
    assert_eq!(code, 127);
    assert!(error.contains("does not exist"), "{error}");
    std::fs::write(stage.path("plain"), "not a program").unwrap();
    let (code, error) = attempt(stage.spec(&["./plain"]));
    assert_eq!(code, 126);
    assert!(error.contains("cannot be run: Permission denied"), "{error}");
    let mut elsewhere = stage.spec(&["sh", "-c", "exit 0"]);
    elsewhere["directory"] = json!("/no/such/directory");
    let (code, error) = attempt(elsewhere);
    assert_eq!(code, 126);
    assert!(error.contains("in `/no/such/directory`: No such file or directory"), "{error}");
    let (code, error) = attempt(stage.spec(&[]));
    assert_eq!((code, error.as_str()), (126, "the app's command is empty"));
    // A script without an interpreter line is run as execvp(3) would.
    std::fs::write(stage.path("script"), "echo ran > ran; sleep 60\n").unwrap();
    std::process::Command::new("chmod").arg("+x").arg(stage.path("script")).status().unwrap();
    stage.ask(json!({ "do": "start", "spec": stage.spec(&["./script"]) }));
    stage.running();
    stage.appears("ran", "ran");
}

fn a_killed_node() {
    let stage = Stage::begin();
    let app = stage.start(
        "trap 'echo asked > asked; exit 0' TERM; echo kept; echo $$ > pid; while :; do sleep 0.05; done",
    );
    stage.pid_in("pid");
    let node = stage.node();
    send(node, Signal::KILL);
    let took = took(|| until("the app is ended", || !lives(app)));
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(stage.read("asked"), "asked\n", "it was asked before it was killed");
    let status = stage.status_where("another node runs", |s| s["node"].is_u64() && s["node"] != json!(node));
    assert_eq!(status["nodes_before"], json!(1));
    let previous = status["previous"].as_str().unwrap();
    assert!(previous.contains("was ended by SIGKILL; the app is stopped"), "{previous}");
    assert_eq!(status["state"], json!("none"), "the new node decides whether the app runs");
    let logs = stage.ask(json!({ "do": "logs", "lines": 5, "stream": "stdout" }));
    assert_eq!(logs, json!(["kept"]), "the last lines outlive the node");
    assert_ne!(stage.start("sleep 60"), app);
}

fn a_frozen_node_is_replaced() {
    let stage = Stage::begin();
    let app = stage.start("sleep 60");
    let node = stage.node();
    send(node, Signal::STOP);
    let took = took(|| until("the app is ended", || !lives(app)));
    assert!(took <= Duration::from_millis(HORIZON_MS), "{took:?}");
    assert!(took >= Duration::from_millis(HORIZON_MS / 3), "two beats may be lost: {took:?}");
    until("the node is killed", || !lives(node));
    let status = stage.status_where("another node runs", |s| s["node"].is_u64() && s["node"] != json!(node));
    assert!(status["previous"].as_str().unwrap().contains("(it was frozen)"), "{status}");
}

fn a_node_that_fails_with_70() {
    let stage = Stage::begin();
    let app = stage.start("sleep 60");
    let node = stage.node();
    stage.try_ask(&json!({ "do": "exit", "code": 70 }));
    until("the app is ended", || !lives(app));
    let status = stage.status_where("another node runs", |s| s["node"].is_u64() && s["node"] != json!(node));
    assert!(status["previous"].as_str().unwrap().contains("exited with code 70"), "{status}");
}

fn orphans_are_reaped() {
    let mut stage = Stage::begin();
    stage.start("for i in 1 2 3 4 5; do (sleep 0.05 & ) ; done; sleep 0.2; echo ok > ready; sleep 60");
    stage.appears("ready", "ok");
    let supervisor = stage.supervisor().id();
    until("no zombie is left", || zombies_of(supervisor).is_empty());
}
