//! What commands print: for machines, for narrow terminals, without colour, one after another.

use super::{DATABASE, with_app};
use crate::support::{Home, Node, STEAD};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

#[test]
fn a_narrow_terminal_gets_narrow_tables_and_a_pipe_no_colour() {
    let home = Home::new();
    let node = Node::configured(&home, &with_app());
    home.db(DATABASE).insert_rows(2);
    node.until_sealed(DATABASE);
    node.checkpoint("a-checkpoint-with-a-long-name-of-its-own");
    for words in [["db", "verify"], ["checkpoint", "list"], ["db", "log"]] {
        let mut command = Command::new(STEAD);
        command.arg("--home").arg(home.root()).args(words).env("COLUMNS", "40").stdin(Stdio::null());
        if words == ["db", "log"] {
            command.arg(DATABASE);
        }
        let out = command.output().unwrap();
        assert!(out.status.success(), "{out:?}");
        let text = String::from_utf8(out.stdout).unwrap();
        assert!(!text.contains('\u{1b}'), "{text:?}");
        if words != ["db", "verify"] {
            assert!(text.lines().all(|line| line.chars().count() <= 40), "{text}");
        }
    }
}

#[test]
fn a_watched_status_without_a_terminal_is_one_after_another() {
    let home = Home::new();
    let _node = Node::configured(&home, &with_app());
    let mut command = Command::new(STEAD);
    command
        .arg("--home")
        .arg(home.root())
        .args(["status", "--watch"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut watching = command.spawn().unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let mut seen = 0;
    while seen < 3 {
        let line = lines.next().unwrap().unwrap();
        assert!(!line.contains('\u{1b}'), "{line:?}");
        seen += usize::from(line.starts_with("operation  "));
    }
    watching.kill().unwrap();
    watching.wait().unwrap();
}
