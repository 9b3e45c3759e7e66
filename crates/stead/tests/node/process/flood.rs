//! Output without end, without lines, without a reader: the app goes on, and memory is bounded.

use super::app;
use crate::support::{Home, Node, alive, private_kib, until, until_within};
use serde_json::json;
use std::io::{PipeReader, Read, Write};
use std::time::Duration;

/// What a loaded machine may take for a gigabyte.
const FLOOD_PATIENCE: Duration = Duration::from_secs(300);
/// Kept lines, what waits for the reader, and the program itself, in any build.
const PRIVATE_KIB_MAX: u64 = 32 << 10;

/// A node whose standard output nobody reads before the test does, with an app that has written all of it.
fn flooded<'a>(home: &'a Home, script: &str) -> (Node<'a>, PipeReader) {
    let (reader, writer) = std::io::pipe().unwrap();
    let node = Node::spawn_onto(home, writer).answering();
    node.configure(&app(&format!(
        "{script}; touch done; until [ -e go ]; do sleep 0.02; done; echo afterwards; sleep 1000"
    )));
    until_within(FLOOD_PATIENCE, "the app has written it all", || home.exists("done").then_some(()));
    let private = private_kib(node.pid());
    println!("the supervisor has {private} KiB for itself");
    assert!(private < PRIVATE_KIB_MAX, "{private} KiB");
    (node, reader)
}

/// What the reader gets from now on, up to the app's last word.
fn read(mut reader: PipeReader, home: &Home) -> String {
    let (mut text, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    home.write("go", "");
    while !text.ends_with(b"afterwards\n") {
        let count = reader.read(&mut buffer).unwrap();
        assert!(count > 0, "the output ended");
        text.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8(text).unwrap()
}

fn dropped(text: &str) -> usize {
    let notes = text
        .lines()
        .filter_map(|line| line.strip_prefix("stead: ")?.split_once(" lines dropped: nobody reads"));
    notes.map(|(count, _)| count.parse::<usize>().unwrap()).sum()
}

#[test]
fn a_gigabyte_in_one_line_is_passed_on_as_far_as_it_is_read_and_the_rest_counts_as_a_line() {
    let home = Home::new();
    let (node, reader) = flooded(&home, "head -c 1000000000 /dev/zero | tr '\\0' x; echo");
    let text = read(reader, &home);
    assert_eq!(dropped(&text), 1);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].len() > 100_000 && lines[0].bytes().all(|byte| byte == b'x'), "{}", lines[0].len());
    assert_eq!((lines.len(), lines[2]), (3, "afterwards"));
    let kept = node.get("/logs?lines=2000&stream=stdout").ok();
    let bytes: usize =
        kept["lines"].as_array().unwrap().iter().map(|line| line["text"].as_str().unwrap().len()).sum();
    assert!(bytes <= 1 << 20, "{bytes} bytes are kept");
}

#[test]
fn a_hundred_megabytes_that_nobody_reads_are_counted_line_by_line() {
    let home = Home::new();
    let line = "x".repeat(99);
    let (_node, reader) = flooded(&home, &format!("yes {line} | head -n 1000000"));
    let text = read(reader, &home);
    let passed = text.lines().filter(|text| *text == line).count();
    assert!(passed > 0 && dropped(&text) > 0);
    assert_eq!(passed + dropped(&text), 1_000_000, "every line is passed on or counted");
}

#[test]
fn an_app_that_closes_its_outputs_goes_on() {
    let home = Home::new();
    let node = Node::configured(&home, &app("exec >&- 2>&-; echo > closed; exec sleep 1000"));
    let pid = node.until_app();
    until("it has closed them", || home.exists("closed").then_some(()));
    node.post("/app", &json!({ "action": "stop" })).ok();
    assert!(!alive(pid));
    node.post("/app", &json!({ "action": "start" })).ok();
    node.until_app();
}

#[test]
fn a_reader_of_errors_that_has_stalled_holds_neither_the_node_nor_its_end() {
    let home = Home::new();
    let (_reader, mut writer) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    while writer.write(&[b'x'; 4096]).is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).unwrap();
    let node = Node::spawn_complaining_to(&home, writer).answering();
    node.configure(&app("exec sleep 1000"));
    let pid = node.until_app();
    node.post("/app", &json!({ "action": "restart" })).ok();
    assert!(!alive(pid));
    node.until_app();
    assert_eq!(node.stop(), 0);
}
