//! Apps that make their end hard: more processes than one may have, and stopped ones.

use super::{app, unruly};
use crate::support::{Home, Node, alive, children, signal, until, until_within};
use serde_json::json;
use std::time::Duration;

/// What a loaded machine may take for thousands of processes.
const CROWD_PATIENCE: Duration = Duration::from_secs(120);

// semantics: forks
#[test]
fn an_app_that_forks_beyond_its_limit_is_killed_and_says_why() {
    let home = Home::new();
    let mut config = app("");
    config["app"]["command"] = json!([unruly(&home), "crowd", "4500"]);
    config["app"]["restart_delay"] = json!("60s");
    let node = Node::configured(&home, &config);
    let process = until_within(CROWD_PATIENCE, "it is killed", || {
        let process = node.status()["process"].clone();
        (process["last_exit"]["signal"] == "SIGKILL" && process["state"] == "backoff").then_some(process)
    });
    let pid = node.node_pid();
    until_within(CROWD_PATIENCE, "nothing of it is left", || (children(node.pid()) == [pid]).then_some(()));
    assert_eq!(process["restarts"], 0);
    let said = "the app is killed: it had ";
    assert!(
        node.stderr().contains(said) && node.stderr().contains("an app may have 4096"),
        "{}",
        node.stderr()
    );
}

#[test]
fn a_stopped_app_is_woken_to_be_asked_when_its_node_is_killed() {
    let home = Home::new();
    let script = "trap 'echo asked > asked; exit 0' TERM; echo > ready; while :; do sleep 0.02; done";
    let node = Node::configured(&home, &app(script));
    let pid = node.until_app();
    until("the trap is set", || home.exists("ready").then_some(()));
    signal(pid, "STOP");
    signal(node.node_pid(), "KILL");
    until("it is gone", || (!alive(pid)).then_some(()));
    assert_eq!(home.read("asked"), "asked\n");
}
