//! What the app prints: passed on, kept, and never in its way.

use crate::stage::{HORIZON_MS, Stage, Test, until};
use serde_json::json;
use std::io::Read;
use std::process::Stdio;
use std::time::Duration;

pub const TESTS: &[Test] = &[
    ("output_is_passed_on_line_by_line_and_kept", output_is_passed_on_line_by_line_and_kept),
    ("the_environment_is_as_asked_for", the_environment_is_as_asked_for),
    ("the_nice_value_is_passed_on", the_nice_value_is_passed_on),
    ("user_group_and_umask_are_as_asked_for", user_group_and_umask_are_as_asked_for),
    ("only_the_last_thousand_lines_are_kept", only_the_last_thousand_lines_are_kept),
    ("long_lines_and_any_bytes_pass_unchanged", long_lines_and_any_bytes_pass_unchanged),
    ("many_questions_about_output_harm_nobody", many_questions_about_output_harm_nobody),
    ("a_reader_that_stalls_does_not_stall_the_app", a_reader_that_stalls_does_not_stall_the_app),
    ("a_reader_that_is_gone_does_not_disturb_the_app", a_reader_that_is_gone),
    ("the_terminals_file_status_is_left_alone", file_status_is_left_alone),
];

fn output_is_passed_on_line_by_line_and_kept() {
    let stage = Stage::begin();
    stage.start("echo one; echo two >&2; echo; printf three; sleep 0.1; echo four; sleep 60");
    stage.appears("out", "threefour\n");
    assert_eq!(stage.read("out"), "one\n\nthreefour\n");
    stage.appears("err", "two\n");
    let logs = |stream: serde_json::Value| stage.ask(json!({ "do": "logs", "lines": 10, "stream": stream }));
    assert_eq!(logs(json!("stdout")), json!(["one", "", "threefour"]));
    assert_eq!(logs(json!("stderr")), json!(["two"]));
    assert_eq!(logs(json!(null)).as_array().unwrap().len(), 4);
    assert_eq!(logs(json!("nonsense")), json!([]));
    assert_eq!(stage.ask(json!({ "do": "logs", "lines": 1, "stream": "stdout" })), json!(["threefour"]));
    stage.ask(json!({ "do": "stop" }));
    assert_eq!(stage.read("out"), "one\n\nthreefour\n");
}

fn the_environment_is_as_asked_for() {
    let mut stage = Stage::empty();
    let mut command = stage.command();
    command.env("SECRET", "x").env("INHERITED", "yes").env("GREETING", "overridden");
    command.stdout(std::fs::File::create(stage.path("out")).unwrap());
    stage.supervise_with(command);
    stage.start("env; pwd; ls -l /proc/self/fd; cat; echo end; sleep 60");
    stage.appears("out", "end\n");
    let out = stage.read("out");
    let count = |text: &str| out.lines().filter(|line| line.starts_with(text)).count();
    assert_eq!(count("GREETING="), 1);
    assert_eq!(count("GREETING=hello"), 1);
    assert_eq!(count("INHERITED=yes"), 1);
    assert_eq!(count("STEAD_COOKIE="), 1);
    for name in ["SECRET=", "STEAD_SUPERVISOR_FD=", "STEAD_NODE_COOKIE="] {
        assert_eq!(count(name), 0, "{name}");
    }
    assert!(out.contains(stage.path("").canonicalize().unwrap().to_str().unwrap()));
    assert!(out.contains("0 -> /dev/null"), "its input is empty");
    assert!(!out.contains("socket:") && !out.contains("signalfd"), "nothing of ours is inherited:\n{out}");
}

fn the_nice_value_is_passed_on() {
    let mut stage = Stage::empty();
    let inner = stage.command();
    let mut command = std::process::Command::new("nice");
    command.args(["-n", "7"]).arg(inner.get_program()).args(inner.get_args()).stdin(Stdio::null());
    command.stdout(std::fs::File::create(stage.path("out")).unwrap());
    stage.supervise_with(command);
    stage.start("nice; echo end; sleep 60");
    stage.appears("out", "end\n");
    let expected = (rustix::process::getpriority_process(None).unwrap() + 7).min(19);
    assert_eq!(stage.read("out"), format!("{expected}\nend\n"));
}

fn user_group_and_umask_are_as_asked_for() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not root: nobody else to become");
        return;
    }
    let mut stage = Stage::begin();
    let mut spec = stage.script("id -u; id -g; id -G; umask; echo end; sleep 60");
    spec["user"] = json!([65_534, 65_533]);
    spec["umask"] = json!(0o027);
    spec["directory"] = json!("/");
    stage.ask(json!({ "do": "start", "spec": spec }));
    let app = stage.running();
    stage.appears("out", "end\n");
    assert_eq!(stage.read("out"), "65534\n65533\n65533\n0027\nend\n");
    // Becoming another user clears the parent-death signal, so it is set afterwards.
    crate::stage::send(stage.node(), rustix::process::Signal::STOP);
    stage.signal(rustix::process::Signal::KILL);
    stage.exit_code();
    until("the app's main process is gone", || !crate::stage::lives(app));
}

fn only_the_last_thousand_lines_are_kept() {
    let stage = Stage::begin();
    stage.start("seq 1 2500; echo end >&2; sleep 60");
    stage.appears("err", "end");
    stage.appears("out", "2500\n");
    let logs = stage.ask(json!({ "do": "logs", "lines": 5000, "stream": "stdout" }));
    let expected: Vec<String> = (1501..=2500).map(|n| n.to_string()).collect();
    assert_eq!(logs, json!(expected));
    assert_eq!(stage.read("out").lines().count(), 2500);
}

fn many_questions_about_output_harm_nobody() {
    let stage = Stage::begin();
    let line = "x".repeat(1000);
    let app =
        stage.start(&format!("yes {line} | head -n 1000; yes {line} | head -n 1000 >&2; echo end; sleep 60"));
    stage.appears("out", "end\n");
    let node = stage.node();
    // Far more in all than may wait for the node.
    stage.ask(json!({ "do": "ask_for_logs", "times": 100 }));
    let logs = stage.ask(json!({ "do": "logs", "lines": 5000, "stream": "stdout" }));
    assert_eq!(logs.as_array().unwrap().last(), Some(&json!("end")), "{logs}");
    std::thread::sleep(Duration::from_millis(2 * HORIZON_MS));
    assert_eq!((stage.node(), stage.running()), (node, app));
}

fn long_lines_and_any_bytes_pass_unchanged() {
    let stage = Stage::begin();
    let script =
        "head -c 20000 /dev/zero | tr '\\0' x; echo; printf '\\377\\376 bytes\\n'; printf 'no newline'";
    stage.ask(
        json!({ "do": "start", "spec": stage.script(&format!("{script}; echo $$ >> starts; sleep 60")) }),
    );
    stage.running();
    until("all has come", || std::fs::read(stage.path("out")).unwrap().ends_with(b"bytes\n"));
    stage.ask(json!({ "do": "stop" }));
    let mut expected = vec![b'x'; 20_000];
    expected.extend_from_slice(b"\n\xff\xfe bytes\nno newline\n");
    assert_eq!(std::fs::read(stage.path("out")).unwrap(), expected);
    let logs = stage.ask(json!({ "do": "logs", "lines": 10, "stream": "stdout" }));
    let lines: Vec<&str> = logs.as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    assert_eq!(lines[lines.len() - 2..], ["\u{fffd}\u{fffd} bytes", "no newline"]);
    assert_eq!(lines[..lines.len() - 2].iter().map(|line| line.len()).sum::<usize>(), 20_000);
}

fn a_reader_that_stalls_does_not_stall_the_app() {
    let mut stage = Stage::empty();
    let mut command = stage.command();
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    stage.supervise_with(command);
    // Far more than all buffers on the way.
    stage.start("seq 1 200000; echo done > done; sleep 60");
    stage.appears("done", "done");
    until("the kept lines are complete", || {
        stage.ask(json!({ "do": "logs", "lines": 1, "stream": "stdout" })) == json!(["200000"])
    });
    let mut stdout = stage.supervisor().stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).unwrap();
        text
    });
    std::thread::sleep(Duration::from_millis(300));
    stage.ask(json!({ "do": "stop" }));
    stage.start("echo afterwards; sleep 60");
    std::thread::sleep(Duration::from_millis(200));
    stage.signal(rustix::process::Signal::TERM);
    assert_eq!(stage.exit_code(), Some(0));
    let text = reader.join().unwrap();
    let note = text.lines().find(|line| line.starts_with("stead: ")).unwrap();
    let dropped: usize = note.split(' ').nth(1).unwrap().parse().unwrap();
    let numbers = text.lines().filter(|line| line.parse::<u32>().is_ok()).count();
    assert_eq!(numbers + dropped, 200_000, "every line is passed on or counted");
    assert!(text.ends_with("afterwards\n"));
}

fn a_reader_that_is_gone() {
    let mut stage = Stage::empty();
    let mut command = stage.command();
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    stage.supervise_with(command);
    drop((stage.supervisor().stdout.take(), stage.supervisor().stderr.take()));
    let pid = stage.start("seq 1 100000; echo done > done; sleep 60");
    stage.appears("done", "done");
    assert_eq!(stage.running(), pid);
    stage.signal(rustix::process::Signal::TERM);
    assert_eq!(stage.exit_code(), Some(0));
}

fn file_status_is_left_alone() {
    let mut stage = Stage::empty();
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let mut command = stage.command();
    command.stdout(writer.try_clone().unwrap()).stderr(Stdio::null());
    stage.supervise_with(command);
    stage.start("echo x; sleep 60");
    let mut byte = [0; 1];
    assert_eq!(rustix::io::read(&reader, &mut byte).unwrap(), 1);
    let flags = rustix::fs::fcntl_getfl(&writer).unwrap();
    assert!(!flags.contains(rustix::fs::OFlags::NONBLOCK), "whoever shares the descriptor is not disturbed");
}
