//! The end of everything: orderly, hurried, by the app, and by SIGKILL of whoever.

use crate::stage::{Stage, Test, lives, send, took, until, wake_ups};
use app::processes::{self, Process};
use app::protocol::{APP_COOKIE_VARIABLE, NODE_COOKIE_VARIABLE};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::process::Stdio;
use std::time::Duration;

pub const TESTS: &[Test] = &[
    ("term_drains_and_exits_0", term_drains_and_exits_0),
    ("int_drains_too_and_other_signals_reach_the_app", int_drains_too_and_other_signals_reach_the_app),
    ("a_second_term_shortens_the_wait", a_second_term_shortens_the_wait),
    ("a_term_before_the_node_is_up_ends_all_the_same", a_term_before_the_node_is_up),
    ("a_frozen_node_does_not_keep_term_waiting", a_frozen_node_does_not_keep_term_waiting),
    ("the_nodes_exit_code_becomes_the_supervisors", the_nodes_exit_code),
    ("the_final_word_becomes_the_exit_code", the_final_word),
    ("the_apps_code_becomes_the_exit_code_when_wanted", the_apps_code),
    ("a_killed_supervisor_leaves_nothing", a_killed_supervisor_leaves_nothing),
    ("a_killed_supervisor_leaves_nobody_who_dropped_its_environment", nobody_without_environment),
    ("what_sudo_started_is_found_by_all", what_sudo_started),
    ("supervisor_and_node_killed_leave_only_what_the_next_start_ends", both_killed),
    ("a_frozen_node_without_supervisor_is_ended_by_the_next_start", a_frozen_node_without_supervisor),
    ("killed_at_any_moment_nothing_survives_the_next_start", killed_at_any_moment),
    ("a_second_supervisor_in_one_home_is_refused", a_second_supervisor),
    ("a_copy_of_a_home_leaves_the_original_alone", a_copy_of_a_home),
    ("a_home_that_is_no_directory_is_refused", a_home_that_is_no_directory),
    ("a_node_that_cannot_be_run_is_an_error", a_node_that_cannot_be_run),
    ("the_supervisor_is_fit_to_be_pid_1", pid_1),
    ("idle_means_idle", idle_means_idle),
];

fn term_drains_and_exits_0() {
    let mut stage = Stage::begin();
    stage.start("trap 'echo asked > asked; exit 0' TERM; echo $$ > pid; while :; do sleep 0.05; done");
    stage.pid_in("pid");
    let node = stage.node();
    stage.signal(Signal::TERM);
    assert_eq!(stage.exit_code(), Some(0));
    assert_eq!(stage.read("asked"), "asked\n");
    assert!(!lives(node));
    assert_eq!(stage.app_processes(), []);
}

fn int_drains_too_and_other_signals_reach_the_app() {
    let mut stage = Stage::begin();
    let traps = "for s in HUP USR1 USR2 WINCH QUIT; do trap \"echo $s >> got\" $s; done";
    stage.start(&format!("{traps}; echo $$ > pid; while :; do sleep 0.05; done"));
    stage.pid_in("pid");
    for (signal, name) in [
        (Signal::HUP, "HUP"),
        (Signal::USR1, "USR1"),
        (Signal::USR2, "USR2"),
        (Signal::WINCH, "WINCH"),
        (Signal::QUIT, "QUIT"),
    ] {
        stage.signal(signal);
        stage.appears("got", name);
    }
    stage.signal(Signal::INT);
    assert_eq!(stage.exit_code(), Some(0));
}

fn a_second_term_shortens_the_wait() {
    let mut stage = Stage::begin();
    let mut spec = stage.script("trap '' TERM; echo $$ > pid; while :; do sleep 0.05; done");
    spec["stop_timeout"] = json!({ "secs": 600, "nanos": 0 });
    stage.ask(json!({ "do": "start", "spec": spec }));
    stage.pid_in("pid");
    stage.signal(Signal::TERM);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(stage.app_processes().len().min(1), 1, "it has time");
    let took = took(|| {
        stage.signal(Signal::TERM);
        assert_eq!(stage.exit_code(), Some(0));
    });
    assert!(took > Duration::from_millis(1500) && took < Duration::from_secs(4), "{took:?}");
    assert_eq!(stage.app_processes(), []);
}

fn a_term_before_the_node_is_up() {
    let mut stage = Stage::begin();
    until("the supervisor has begun", || !stage.read(".stead/app.cookie").is_empty());
    std::thread::sleep(Duration::from_millis(20));
    stage.signal(Signal::TERM);
    assert_eq!(stage.exit_code(), Some(0));
}

fn a_frozen_node_does_not_keep_term_waiting() {
    let mut stage = Stage::begin();
    stage.start("sleep 60");
    send(stage.node(), Signal::STOP);
    stage.signal(Signal::TERM);
    assert_eq!(stage.exit_code(), Some(70), "it did not drain");
    assert_eq!(stage.app_processes(), []);
}

fn the_nodes_exit_code() {
    let mut stage = Stage::begin();
    stage.start("sleep 60");
    stage.try_ask(&json!({ "do": "exit", "code": 78 }));
    assert_eq!(stage.exit_code(), Some(78));
    assert_eq!(stage.app_processes(), []);
}

fn the_final_word() {
    let mut stage = Stage::begin();
    stage.start("sleep 60");
    stage.try_ask(&json!({ "do": "finish", "code": 42 }));
    assert_eq!(stage.exit_code(), Some(42));
    assert_eq!(stage.app_processes(), []);
}

fn the_apps_code() {
    for (script, code) in [("exit 5", 5), ("kill -9 $$", 137)] {
        let mut stage = Stage::begin();
        stage.ask(json!({ "do": "exit_with_app" }));
        start_unheard(&stage, &stage.script(script));
        assert_eq!(stage.exit_code(), Some(code));
    }
    let mut stage = Stage::begin();
    stage.ask(json!({ "do": "exit_with_app" }));
    start_unheard(&stage, &stage.spec(&["no-such-program"]));
    assert_eq!(stage.exit_code(), Some(127));
}

/// Starts an app that ends at once, and the node with it: it may be gone before it has answered.
fn start_unheard(stage: &Stage, spec: &Value) {
    let request = json!({ "do": "start", "spec": spec });
    until("the node is told", || stage.request(&request).is_some());
}

const WITH_ESCAPEE: &str = "(setsid sh -c 'trap \"\" TERM HUP; echo $$ > escaped; while :; do sleep 0.05; done' &); echo $$ > pid; sleep 60";

fn a_killed_supervisor_leaves_nothing() {
    let mut stage = Stage::begin();
    stage.start(WITH_ESCAPEE);
    let (app, escaped, node) = (stage.pid_in("pid"), stage.pid_in("escaped"), stage.node());
    stage.signal(Signal::KILL);
    stage.exit_code();
    until("the node is gone", || !lives(node));
    assert!(!lives(app) && !lives(escaped), "the node ends the app before itself");
    assert_eq!(stage.app_processes(), []);
}

/// Neither cookie nor descent nor session leads to it once its supervisor is gone.
const STRIPPED: &str = "(env -i setsid /bin/sh -c 'trap \"\" TERM HUP; echo $$ > escaped; while :; do sleep 0.05; done' &); \
                        echo $$ > pid; sleep 60";

fn nobody_without_environment() {
    let mut stage = Stage::begin();
    stage.start(STRIPPED);
    let (escaped, node) = (stage.pid_in("escaped"), stage.node());
    stage.signal(Signal::KILL);
    stage.exit_code();
    until("the node is gone", || !lives(node));
    assert!(!lives(escaped), "the node ends it before itself");

    std::fs::remove_file(stage.path("escaped")).unwrap();
    stage.supervise();
    stage.start(STRIPPED);
    let (escaped, node) = (stage.pid_in("escaped"), stage.node());
    send(node, Signal::STOP);
    stage.signal(Signal::KILL);
    stage.exit_code();
    assert!(lives(escaped), "nobody is left to end it");
    send(node, Signal::KILL);
    stage.supervise();
    stage.status();
    assert!(!lives(escaped), "ended before the next node was started");
}

fn what_sudo_started() {
    let inner = "trap '' TERM HUP; echo $$ > escaped; while :; do sleep 0.05; done";
    for way in ["stop", "node", "supervisor", "both"] {
        let mut stage = Stage::begin();
        let spec = stage.spec(&["sudo", "-n", "--", "sh", "-c", inner]);
        stage.ask(json!({ "do": "start", "spec": spec }));
        let (escaped, node) = (stage.pid_in("escaped"), stage.node());
        match way {
            "stop" => assert_eq!(stage.ask(json!({ "do": "stop" })), json!({})),
            "node" => send(node, Signal::KILL),
            "supervisor" => stage.signal(Signal::KILL),
            _ => {
                send(node, Signal::STOP);
                stage.signal(Signal::KILL);
                stage.exit_code();
                send(node, Signal::KILL);
                assert!(lives(escaped), "nobody is left to end it");
                stage.supervise();
            }
        }
        until(&format!("it is gone after the end of: {way}"), || !lives(escaped));
    }
}

fn both_killed() {
    let mut stage = Stage::begin();
    stage.start(WITH_ESCAPEE);
    let (app, escaped, node) = (stage.pid_in("pid"), stage.pid_in("escaped"), stage.node());
    send(node, Signal::STOP);
    stage.signal(Signal::KILL);
    send(node, Signal::KILL);
    stage.exit_code();
    until("the app's main process is gone", || !lives(app));
    assert!(lives(escaped), "nobody is left to end it");
    stage.supervise();
    let status = stage.status();
    assert!(!lives(escaped), "ended before the node was started");
    let previous = status["previous"].as_str().unwrap();
    assert!(previous.contains("left over from a former run were killed"), "{previous}");
    assert_eq!(status["nodes_before"], json!(0));
}

fn a_frozen_node_without_supervisor() {
    let mut stage = Stage::begin();
    stage.start(WITH_ESCAPEE);
    let (escaped, node) = (stage.pid_in("escaped"), stage.node());
    send(node, Signal::STOP);
    stage.signal(Signal::KILL);
    stage.exit_code();
    assert!(lives(node) && lives(escaped));
    let _ = std::fs::remove_file(stage.path("node.sock"));
    stage.supervise();
    assert_ne!(stage.node(), node);
    assert!(!lives(node) && !lives(escaped));
}

fn killed_at_any_moment() {
    let mut stage = Stage::empty();
    let mut cookies = Vec::new();
    for round in 0..20_u64 {
        stage.supervise();
        let spec = stage.script(WITH_ESCAPEE);
        // Moments from before the claim of the home to an app that runs; on a slow machine too.
        if round % 3 > 0 {
            let before = cookies.last().cloned();
            until("the home is claimed", || stage.cookie().is_some_and(|cookie| Some(cookie) != before));
        }
        std::thread::sleep(Duration::from_millis(round * 13 % 100));
        stage.try_ask(&json!({ "do": "start", "spec": spec }));
        std::thread::sleep(Duration::from_millis(round * 17 % 50));
        let node = stage.try_ask(&json!({ "do": "status" })).and_then(|status| status["node"].as_u64());
        if let Some(node) = node.filter(|_| round % 2 == 0) {
            let node = u32::try_from(node).unwrap();
            let _ = Process::find(node).unwrap().map(|node| node.send(Signal::KILL));
        }
        stage.signal(Signal::KILL);
        stage.exit_code();
        cookies.extend(stage.cookie());
        let _ = std::fs::remove_file(stage.path("node.sock"));
    }
    stage.supervise();
    stage.status();
    let all = processes::all().unwrap();
    cookies.dedup();
    assert!(cookies.len() > 10);
    for cookie in &cookies {
        let left = processes::carrying(&all, &[APP_COOKIE_VARIABLE, NODE_COOKIE_VARIABLE], cookie).unwrap();
        assert_eq!(left, []);
    }
}

fn a_second_supervisor() {
    let mut stage = Stage::begin();
    let app = stage.start("sleep 60");
    let second = stage.command().stdout(Stdio::null()).output().unwrap();
    assert_eq!(second.status.code(), Some(75));
    let text = String::from_utf8(second.stderr).unwrap();
    assert!(text.contains(&format!("(pid {})", stage.supervisor().id())), "{text}");
    assert_eq!(
        text.lines().map(|line| line.split(':').next().unwrap()).collect::<Vec<_>>(),
        ["error", "cause", "hint"]
    );
    assert!(lives(app), "the first one's app is no leftover");
}

fn a_copy_of_a_home() {
    let stage = Stage::begin();
    let app = stage.start("sleep 60");
    let (node, mut copy) = (stage.node(), Stage::empty());
    std::fs::create_dir(copy.path(".stead")).unwrap();
    for name in [".stead/supervisor.lock", ".stead/app.cookie"] {
        std::fs::copy(stage.path(name), copy.path(name)).unwrap();
    }
    copy.supervise();
    assert_ne!(copy.node(), node);
    assert!(lives(node) && lives(app), "the original runs on");
    copy.signal(Signal::TERM);
    assert_eq!(copy.exit_code(), Some(0));
    assert_eq!((stage.node(), stage.running()), (node, app));
}

fn a_home_that_is_no_directory() {
    let stage = Stage::empty();
    std::fs::write(stage.path("file"), "").unwrap();
    let refused = std::process::Command::new(std::env::current_exe().unwrap())
        .arg("supervise")
        .arg(stage.path("file"))
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(71));
    assert!(String::from_utf8(refused.stderr).unwrap().contains("hint: make the home a directory"));
}

fn a_node_that_cannot_be_run() {
    let mut stage = Stage::empty();
    let mut command = stage.command();
    command.env("TEST_NODE", "/no/such/node").stderr(std::fs::File::create(stage.path("err")).unwrap());
    stage.supervise_with(command);
    assert_eq!(stage.exit_code(), Some(71));
    assert!(stage.read("err").contains("the node could not be started: No such file or directory"));
}

fn pid_1() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not root: no namespace to be PID 1 in");
        return;
    }
    let mut stage = Stage::empty();
    let inner = stage.command();
    let mut command = std::process::Command::new("unshare");
    command
        .args(["--pid", "--fork", "--mount-proc", "--kill-child"])
        .arg(inner.get_program())
        .args(inner.get_args());
    command.stdin(Stdio::null());
    command.stdout(std::fs::File::create(stage.path("out")).unwrap());
    command.stderr(std::fs::File::create(stage.path("err")).unwrap());
    stage.supervise_with(command);
    stage.start(&format!("cat /proc/1/cmdline | tr '\\0' ' '; echo; {WITH_ESCAPEE}"));
    stage.appears("out", "supervise");
    stage.pid_in("escaped");
    let outer = app::processes::all().unwrap();
    let unshare = stage.supervisor().id();
    let init = outer.iter().find(|process| process.parent == unshare).unwrap();
    assert_eq!(stage.ask(json!({ "do": "stop" })), json!({}));
    assert_eq!(stage.ask(json!({ "do": "pids" })), json!([]));
    assert!(init.send(Signal::TERM).unwrap());
    assert_eq!(stage.exit_code(), Some(0));
}

fn idle_means_idle() {
    let mut stage = Stage::empty();
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    // Without a horizon of its own: the beats of real life.
    command.arg("supervise").arg(stage.path("")).stdin(Stdio::null());
    stage.supervise_with(command);
    stage.start("exec sleep 60");
    let (supervisor, node) = (stage.supervisor().id(), stage.node());
    std::thread::sleep(Duration::from_millis(300));
    let before = (wake_ups(supervisor), wake_ups(node));
    std::thread::sleep(Duration::from_secs(4));
    let after = (wake_ups(supervisor), wake_ups(node));
    assert!(after.0 - before.0 <= 4 && after.1 - before.1 <= 4, "{before:?} {after:?}");
}
