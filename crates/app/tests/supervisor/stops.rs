//! Ending the app: asked, killed, everything, confirmed.

use crate::stage::{HORIZON_MS, Stage, Test, lives, took, until, until_patiently};
use rustix::process::Signal;
use serde_json::json;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

pub const TESTS: &[Test] = &[
    ("a_stop_is_asked_for_and_waits_for_the_app", a_stop_is_asked_for_and_waits_for_the_app),
    ("who_ignores_the_stop_signal_is_killed", who_ignores_the_stop_signal_is_killed),
    ("who_escapes_group_and_session_is_found", who_escapes_group_and_session_is_found),
    ("who_drops_its_environment_is_found_by_descent", who_drops_its_environment_is_found_by_descent),
    ("a_frozen_app_is_woken_to_stop", a_frozen_app_is_woken_to_stop),
    ("a_forking_app_is_outrun", a_forking_app_is_outrun),
    ("another_stop_signal_is_used", another_stop_signal_is_used),
    ("an_app_without_authority_is_ended_and_the_node_lives_on", an_app_without_authority_is_ended),
    ("a_stop_does_not_outlast_the_nodes_silence", a_stop_does_not_outlast_the_nodes_silence),
    ("a_strangers_flood_of_notices_stops_nothing", a_strangers_flood_of_notices_stops_nothing),
    ("stopping_an_app_that_is_not_there_is_done_at_once", stopping_an_app_that_is_not_there),
];

/// Run alone, since nothing else has its turn meanwhile.
pub const STORMS: &[Test] = &[
    ("a_storm_of_forks_is_ended", a_storm_of_forks_is_ended),
    ("a_storm_does_not_outlive_its_supervisor", a_storm_does_not_outlive_its_supervisor),
];

fn a_stop_is_asked_for_and_waits_for_the_app() {
    let stage = Stage::begin();
    stage.start(
        "trap 'sleep 0.3; echo done > stopped; exit 7' TERM; echo $$ > pid; while :; do sleep 0.05; done",
    );
    let pid = stage.pid_in("pid");
    assert_eq!(stage.ask(json!({ "do": "stop" })), json!({}));
    assert_eq!(stage.read("stopped"), "done\n");
    assert!(!lives(pid));
    let status = stage.status();
    assert_eq!((&status["state"], &status["code"]), (&json!("stopped"), &json!(7)));
    assert_eq!(stage.app_processes(), []);
}

fn who_ignores_the_stop_signal_is_killed() {
    let stage = Stage::begin();
    stage.start("trap '' TERM; echo $$ > pid; while :; do sleep 0.05; done");
    stage.pid_in("pid");
    let took = took(|| assert_eq!(stage.ask(json!({ "do": "stop" })), json!({})));
    assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(4), "{took:?}");
    assert_eq!(stage.status()["signal"], json!(9));
    assert_eq!(stage.app_processes(), []);
}

fn who_escapes_group_and_session_is_found() {
    let stage = Stage::begin();
    let escape = "setsid sh -c 'trap \"\" TERM HUP; echo $$ > escaped; while :; do sleep 0.05; done' &";
    stage.start(&format!("({escape}); echo $$ > pid; sleep 60"));
    let (pid, escaped) = (stage.pid_in("pid"), stage.pid_in("escaped"));
    let seen = stage.ask(json!({ "do": "pids" }));
    assert!(
        seen.as_array().unwrap().contains(&json!(pid)) && seen.as_array().unwrap().contains(&json!(escaped))
    );
    assert_eq!(stage.ask(json!({ "do": "stop" })), json!({}));
    assert!(!lives(escaped) && !lives(pid));
    assert_eq!(stage.app_processes(), []);
}

fn who_drops_its_environment_is_found_by_descent() {
    let stage = Stage::begin();
    stage.start("(setsid env -i /bin/sh -c 'echo $$ > escaped; while :; do sleep 0.05; done' &); sleep 60");
    let escaped = stage.pid_in("escaped");
    assert!(stage.ask(json!({ "do": "pids" })).as_array().unwrap().contains(&json!(escaped)));
    assert_eq!(stage.ask(json!({ "do": "stop" })), json!({}));
    assert!(!lives(escaped));
}

fn a_frozen_app_is_woken_to_stop() {
    let stage = Stage::begin();
    let pid =
        stage.start("trap 'echo done > stopped; exit 0' TERM; echo $$ > pid; while :; do sleep 0.05; done");
    stage.pid_in("pid");
    crate::stage::send(pid, Signal::STOP);
    let took = took(|| assert_eq!(stage.ask(json!({ "do": "stop" })), json!({})));
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(stage.read("stopped"), "done\n");
}

fn a_forking_app_is_outrun() {
    let stage = Stage::begin();
    let fork = "#!/bin/sh\ntrap '' TERM\nsleep 0.05\nsetsid ./fork &\nsetsid ./fork2 &\n";
    for name in ["fork", "fork2"] {
        // Each leaves one successor in a session of its own, for ever.
        let script = if name == "fork" {
            fork.replace("setsid ./fork2 &\n", "")
        } else {
            fork.replace("setsid ./fork &\n", "")
        };
        std::fs::write(stage.path(name), script).unwrap();
        std::process::Command::new("chmod").arg("+x").arg(stage.path(name)).status().unwrap();
    }
    stage.start("./fork & ./fork2 & ./fork & ./fork2 & echo $$ > pid; sleep 60");
    stage.pid_in("pid");
    until("they fork", || stage.app_processes().len() > 4);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(stage.ask(json!({ "do": "stop" })), json!({}));
    assert_eq!(stage.app_processes(), []);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(stage.app_processes(), []);
}

/// Longer than it takes on a machine that has nothing else left to do than to fork.
const STORM_PATIENCE: Duration = Duration::from_secs(60);

fn storm(stage: &Stage, limit: u32) -> serde_json::Value {
    let unruly = stage.compiled(include_str!("../../../stead/tests/node/process/unruly.c"));
    let mut spec = stage.spec(&[unruly.to_str().unwrap(), "storm", &limit.to_string()]);
    spec["directory"] = json!("/");
    spec["user"] = json!([61_234, 61_234]);
    spec
}

fn a_storm_of_forks_is_ended() {
    let stage = Stage::begin();
    stage.ask(json!({ "do": "start", "spec": storm(&stage, 1000) }));
    stage.running();
    // It may take every processor, so that neither this test nor the node has its turn; then it is ended by the node's
    // silence.
    until_patiently("it is ended", STORM_PATIENCE, || {
        stage.try_ask(&json!({ "do": "stop" })).is_some() && stage.app_processes().is_empty()
    });
}

fn a_storm_does_not_outlive_its_supervisor() {
    let mut stage = Stage::begin();
    let node = stage.node();
    stage.ask(json!({ "do": "start", "spec": storm(&stage, 100) }));
    until_patiently("it storms", STORM_PATIENCE, || stage.app_processes().len() > 50);
    stage.signal(Signal::KILL);
    stage.exit_code();
    until_patiently("the node is gone", STORM_PATIENCE, || !lives(node));
    assert_eq!(stage.app_processes(), []);
}

fn another_stop_signal_is_used() {
    let stage = Stage::begin();
    let mut spec = stage.script(
        "trap 'echo int > stopped; exit 0' INT; trap '' TERM; echo $$ > pid; while :; do sleep 0.05; done",
    );
    spec["stop_signal"] = json!(2);
    stage.ask(json!({ "do": "start", "spec": spec }));
    stage.pid_in("pid");
    assert_eq!(stage.ask(json!({ "do": "stop" })), json!({}));
    assert_eq!(stage.read("stopped"), "int\n");
}

fn an_app_without_authority_is_ended() {
    let stage = Stage::begin();
    let pid = stage.start("sleep 60");
    let node = stage.node();
    stage.ask(json!({ "do": "authority", "ms": null }));
    until("the app is ended", || !lives(pid));
    let error =
        stage.status_where("the reason is known", |status| !status["error"].is_null())["error"].clone();
    assert!(error.as_str().unwrap().contains("did not say in time"), "{error}");
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(stage.app_processes(), [], "no start without authority");
    stage.ask(json!({ "do": "authority", "ms": 60_000 }));
    assert_ne!(stage.running(), pid);
    assert_eq!(stage.node(), node, "the node was not at fault");
}

fn a_stop_does_not_outlast_the_nodes_silence() {
    let stage = Stage::begin();
    let mut spec =
        stage.script("trap 'echo asked > asked' TERM; echo $$ > pid; while :; do sleep 0.05; done");
    spec["stop_timeout"] = json!({ "secs": 3600, "nanos": 0 });
    stage.ask(json!({ "do": "start", "spec": spec }));
    let (app, node) = (stage.pid_in("pid"), stage.node());
    let _waiting = stage.request(&json!({ "do": "stop" }));
    stage.appears("asked", "asked");
    crate::stage::send(node, Signal::STOP);
    until("the app is killed when its deadline passes", || !lives(app));
    until("the node is killed", || !lives(node));
}

fn a_strangers_flood_of_notices_stops_nothing() {
    let mut stage = Stage::begin();
    let mut spec = stage.script("echo $NOTIFY_SOCKET > socket; exec sleep 60");
    spec["notify"] = json!(true);
    stage.ask(json!({ "do": "start", "spec": spec }));
    stage.appears("socket", "\n");
    let flood = UnixDatagram::unbound().unwrap();
    flood.connect(stage.read("socket").trim()).unwrap();
    let flooding = std::thread::spawn(move || while flood.send(b"READY=1").is_ok() {});
    let app = stage.running();
    std::thread::sleep(Duration::from_millis(HORIZON_MS));
    assert_eq!(stage.running(), app, "the node is heard");
    stage.signal(Signal::TERM);
    assert_eq!(stage.exit_code(), Some(0));
    flooding.join().unwrap();
}

fn stopping_an_app_that_is_not_there() {
    let stage = Stage::begin();
    assert_eq!(stage.ask(json!({ "do": "stop" })), json!({}));
    assert_eq!(stage.status()["state"], json!("none"));
}
