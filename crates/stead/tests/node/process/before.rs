//! `app.before`: commands that run to their end before the app does.

use super::{app, app_with};
use crate::support::{Home, Node, alive, children, issue, signal, until};
use serde_json::{Value, json};

/// An app that notes its start.
const APP: &str = "echo app >> order; exec sleep 1000";

fn noting(what: &str) -> Value {
    json!(["sh", "-c", format!("echo {what} >> order")])
}

/// What has run so far, in order.
fn order(home: &Home) -> Vec<String> {
    home.read("order").lines().map(str::to_owned).collect()
}

// semantics: before
#[test]
fn commands_run_in_order_once_and_neither_a_crash_nor_a_restore_runs_them_again() {
    let home = Home::new();
    let config = app_with(APP, "before", json!([noting("one"), "sh -c 'echo two >> order'"]));
    let node = Node::configured(&home, &config);
    let pid = node.until_app();
    until("the app wrote", || (order(&home) == ["one", "two", "app"]).then_some(()));

    signal(pid, "KILL");
    node.until("the second run", |status| {
        status["process"]["restarts"] == 1 && status["process"]["state"] == "running"
    });
    until("it wrote", || (order(&home) == ["one", "two", "app", "app"]).then_some(()));
    node.checkpoint("a");
    node.restore("a");
    until("the app wrote", || (order(&home) == ["one", "two", "app", "app", "app"]).then_some(()));

    node.post("/release-lease", &json!({})).ok();
    node.post("/promote", &json!({})).ok();
    let again = ["one", "two", "app", "app", "app", "one", "two", "app"];
    until("all of it once more", || (order(&home) == again).then_some(()));

    assert_eq!(node.stop(), 0);
    std::fs::remove_file(home.path("order")).unwrap();
    let node = Node::start(&home);
    node.until_app();
    until("a start of the node", || (order(&home) == ["one", "two", "app"]).then_some(()));
}

#[test]
fn a_signal_for_the_app_does_not_end_what_prepares_it() {
    let home = Home::new();
    let slow =
        json!(["sh", "-c", "echo one >> order; until [ -e go ]; do sleep 0.02; done; echo two >> order"]);
    let node = Node::configured(&home, &app_with(APP, "before", json!([slow])));
    until("it runs", || (order(&home) == ["one"]).then_some(()));
    signal(node.pid(), "HUP");
    home.write("go", "");
    node.until_app();
    until("it ended by itself", || (order(&home) == ["one", "two", "app"]).then_some(()));
}

// semantics: before
#[test]
fn while_a_command_fails_the_app_is_not_started_and_the_issue_names_it() {
    let home = Home::new();
    let failing = json!(["sh", "-c", "echo try >> tries; echo no such table >&2; [ -e mended ] || exit 3"]);
    let config = app_with(APP, "before", json!([noting("one"), failing]));
    let node = Node::configured(&home, &config);
    let issue = node.until_issue("before_failed");
    let message = issue["message"].as_str().unwrap();
    assert!(message.starts_with("app.before[1] `sh -c '"), "{message}");
    assert!(message.ends_with("the app is not started: exited with code 3"), "{message}");
    assert_eq!((&issue["path"], &issue["exit_code"]), (&json!("app.before[1]"), &json!(3)));
    let ready = node.get("/api/health/ready?verbose=1").json();
    assert_eq!(ready["issues"][0]["exit_code"], 3, "{ready:#}");
    node.until("it is tried again", |status| {
        assert_eq!(status["process"]["last_exit"], Value::Null);
        status["process"]["before"]["index"] == 1 && home.read("tries").lines().count() > 2
    });
    assert!(node.get("/logs?stream=stderr").ok().to_string().contains("no such table"));

    home.write("mended", "");
    node.until_app();
    node.until_well();
    until("the app has begun", || (order(&home).last()? == "app").then_some(()));
    assert_eq!(order(&home), ["one", "app"], "what ended well is not run again");
}

#[test]
fn a_command_that_exists_no_more_or_is_ended_by_a_signal_is_an_issue_too() {
    for (before, why, code) in [
        (json!(["rm gone", "./gone"]), "does not exist", 127),
        (json!([["sh", "-c", "kill -SEGV $$"]]), "ended by SIGSEGV", 139),
    ] {
        let home = Home::new();
        std::fs::create_dir(home.root()).unwrap();
        std::fs::copy("/bin/true", home.path("gone")).unwrap();
        let node = Node::configured(&home, &app_with(APP, "before", before));
        let issue = node.until_issue("before_failed");
        assert!(issue["message"].as_str().unwrap().contains(why), "{issue:#}");
        assert_eq!(issue["exit_code"], code);
        assert!(!home.exists("order"));
    }
}

#[test]
fn what_a_command_leaves_behind_is_ended_before_the_next_one_starts() {
    let home = Home::new();
    let leaving = json!(["sh", "-c", "setsid sleep 1000 & echo $! > left"]);
    let looking = json!(["sh", "-c", "kill -0 $(cat left) 2>/dev/null && echo there >> order; true"]);
    let node = Node::configured(&home, &app_with(APP, "before", json!([leaving, looking])));
    node.until_app();
    until("the app wrote", || (order(&home) == ["app"]).then_some(()));
}

#[test]
fn a_command_has_the_user_directory_and_environment_of_the_app() {
    let home = Home::new();
    let mut config = app("exec sleep 1000");
    config["app"]["user"] = json!("65534:65534");
    config["app"]["env"] = json!({ "MARK": "here" });
    config["app"]["directory"] = json!("/tmp");
    config["app"]["before"] = json!(["sh -c 'echo $(id -u):$(id -g) $(pwd) $MARK'"]);
    let node = Node::configured(&home, &config);
    node.until_app();
    let lines = node.get("/logs?stream=stdout").ok();
    assert_eq!(lines["lines"][0]["text"], "65534:65534 /tmp here", "{lines:#}");
}

#[test]
fn a_stop_ends_a_command_as_it_would_the_app() {
    let home = Home::new();
    let config = app_with(APP, "before", json!([["sh", "-c", "echo >> starts; exec sleep 1000"]]));
    let node = Node::configured(&home, &config);
    let status = node.until("it runs", |status| status["process"]["before"]["pid"].is_u64());
    assert_eq!(status["process"]["state"], "starting");
    assert_eq!(status["components"]["app"]["state"], "starting");
    let shown = &status["process"]["before"];
    assert_eq!((&shown["index"], &shown["of"], &shown["command"][0]), (&json!(0), &json!(1), &json!("sh")));
    let pid = u32::try_from(shown["pid"].as_u64().unwrap()).unwrap();

    node.post("/app", &json!({ "action": "stop" })).ok();
    assert!(!alive(pid));
    let status = node.status();
    assert_eq!(
        (&status["process"]["state"], &status["process"]["before"]),
        (&json!("stopped"), &Value::Null)
    );
    assert!(issue(&status, "before_failed").is_none());

    node.post("/app", &json!({ "action": "start" })).ok();
    node.until("it runs again", |status| status["process"]["before"]["pid"].is_u64());
    let (node_pid, supervisor) = (node.node_pid(), node.pid());
    assert_eq!(children(supervisor).len(), 2);
    assert_eq!(node.stop(), 0);
    assert!(!alive(node_pid));
    assert!(!home.exists("order"));
}
