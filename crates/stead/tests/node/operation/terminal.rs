//! What a person at a terminal sees, and what a pipe gets instead.

use super::{DATABASE, config, with_app};
use crate::support::{Held, Home, Node, STEAD, Terminal, alive, until};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// What takes a terminal and gives it back.
const TAKEN: &str = "\u{1b}[?1049h";
const GIVEN_BACK: &str = "\u{1b}[?1049l";

/// What is left of a text when all that moves or colours is taken out.
fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' => drop(rest.by_ref().skip_while(|c| *c == '[').find(char::is_ascii_alphabetic)),
            '\r' => {}
            c => out.push(c),
        }
    }
    out
}

#[test]
fn a_status_keeps_within_forty_columns_and_is_coloured_on_a_terminal_only() {
    let home = Home::new();
    let node = Node::configured(&home, &with_app());
    home.db(DATABASE).insert_rows(2);
    node.until_sealed(DATABASE);
    node.until_app();
    node.checkpoint("before-the-upgrade");
    for columns in [40, 100] {
        let shown = Terminal::run(&home, columns, "stead status; stead checkpoint list").end();
        assert!(shown.contains("\u{1b}[32mwell\u{1b}[0m"), "{shown:?}");
        let wide = plain(&shown).lines().map(|line| line.chars().count()).max();
        assert!(wide <= Some(usize::from(columns)), "{shown}");
    }
    let none: &[(&str, &str)] = &[];
    for variables in [&[("NO_COLOR", "1")][..], &[("CLICOLOR", "0")], &[("TERM", "dumb")]] {
        let with = [&[("TERM", "xterm")][..], variables].concat();
        let shown = Terminal::run_with(
            &home,
            80,
            "stead status; stead --help; stead db verify; stead restore none",
            &with,
        )
        .end();
        assert!(!shown.contains('\u{1b}') && shown.contains("operation  well"), "{variables:?}: {shown:?}");
    }
    let shown = Terminal::run_with(
        &home,
        80,
        "stead status | cat; stead --help | cat; stead restore none 2>&1 | cat",
        none,
    )
    .end();
    assert!(!shown.contains('\u{1b}') && shown.contains("operation  well"), "{shown:?}");
    let mut piped = Command::new(STEAD);
    piped.arg("--home").arg(home.root()).arg("status").env("CLICOLOR_FORCE", "1").stdin(Stdio::null());
    let forced = String::from_utf8(piped.output().unwrap().stdout).unwrap();
    assert!(forced.contains("\u{1b}[32mwell"), "{forced:?}");
}

#[test]
fn a_watched_status_is_drawn_over_and_the_terminal_given_back() {
    let home = Home::new();
    let node = Node::configured(&home, &with_app());
    node.until_app();
    let before_and_after = "stty -g; stead status --watch; echo code $?; stty -g; echo done";
    for (key, variables) in [
        ("q", &[("TERM", "xterm")][..]),
        ("\u{3}", &[("TERM", "xterm")]),
        ("q", &[("TERM", "xterm"), ("NO_COLOR", "1")]),
    ] {
        let mut terminal = Terminal::run_with(&home, 40, before_and_after, variables);
        terminal.until("three screens", |shown| shown.matches("\u{1b}[H").count() >= 3);
        terminal.press("x").press(key);
        let shown = terminal.end();
        let (before, rest) = shown.split_once(TAKEN).unwrap();
        let (screens, after) = rest.split_once(GIVEN_BACK).unwrap();
        let lines: Vec<&str> = after.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        assert_eq!(lines, ["code 0", before.trim(), "done"], "{shown:?}");
        assert_eq!(screens.contains("\u{1b}[32m"), variables.len() == 1, "{screens:?}");
        for screen in screens.split("\u{1b}[H").skip(1) {
            let text = plain(screen);
            assert!(text.contains("operation  well") && text.contains("q ends it"), "{screen:?}");
            assert!(
                text.lines().all(|line| line.chars().count() <= 40) && text.lines().count() <= 24,
                "{text}"
            );
        }
    }
}

#[test]
fn a_watched_status_follows_what_happens_and_ends_with_what_it_last_showed() {
    let home = Home::new();
    let node = Node::configured(&home, &with_app());
    node.until_app();
    let mut terminal = Terminal::run(&home, 80, "stead status --watch; echo code $?");
    terminal.until_shown("operation");
    node.request("POST", "/release-lease", "").ok();
    terminal.until_shown("no primary");
    drop(node);
    terminal.until_shown("error: no node answers");
    let shown = terminal.press("q").end();
    assert!(shown.trim_end().ends_with("code 4"), "{shown:?}");
}

#[test]
fn a_terminal_too_low_for_the_status_says_what_is_missing() {
    let home = Home::new();
    let _node = Node::configured(&home, &with_app());
    let mut terminal = Terminal::run(&home, 80, "stty rows 5; stead status --watch");
    terminal.until_shown("more lines: make the terminal taller").press("q").end();
}

#[test]
fn a_terminal_that_cannot_move_its_cursor_gets_one_status_after_the_other() {
    let home = Home::new();
    let _node = Node::configured(&home, &with_app());
    let mut terminal = Terminal::run_with(&home, 80, "stead status --watch; echo end", &[("TERM", "dumb")]);
    terminal.until("three of them", |shown| shown.matches("operation  ").count() >= 3);
    let shown = terminal.press("\u{3}").end();
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
}

#[test]
fn what_takes_long_shows_that_it_is_worked_on_and_only_on_a_terminal() {
    let home = Home::new();
    let node = Node::configured(&home, &config());
    home.db(DATABASE).insert_rows(1);
    node.until_sealed(DATABASE);
    node.checkpoint("c1");
    // A restore waits for whoever writes.
    let mut holder = Held::open(&home.path(DATABASE), "BEGIN IMMEDIATE; INSERT INTO t VALUES(9);");
    let restored = home.beside("restored").display().to_string();
    let mut terminal = Terminal::run(&home, 80, &format!("stead restore c1 >{restored}; cat {restored}"));
    terminal.until_shown("restoring");
    holder.run("ROLLBACK;");
    let shown = terminal.end();
    assert!(plain(&shown).contains("restored to c1"), "{shown:?}");

    holder.run("BEGIN IMMEDIATE; INSERT INTO t VALUES(9);");
    let restoring = Command::new(STEAD)
        .arg("--home")
        .arg(home.root())
        .args(["restore", "c1"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // What began later shows by now that it is worked on.
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n";
    let mut later = Terminal::run(&home, 80, &format!("stead db query {DATABASE} '{endless}'"));
    later.until_shown("asking data/database.sqlite").press("\u{3}");
    holder.run("ROLLBACK;");
    let out = restoring.wait_with_output().unwrap();
    let told = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success() && out.stderr.is_empty(), "{told} {:?}", out.stderr);
    assert!(
        told.contains("restored to c1") && !told.contains("restoring") && !told.contains('\u{1b}'),
        "{told}"
    );
}

#[test]
fn a_command_that_nobody_reads_any_more_ends() {
    let home = Home::new();
    let node = Node::configured(&home, &with_app());
    node.until_app();
    for words in [&["status", "--watch"][..], &["status", "--watch", "--json"], &["logs", "--follow"]] {
        let mut command = Command::new(STEAD);
        command.arg("--home").arg(home.root()).args(words).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut running = command.spawn().unwrap();
        let mut reader = BufReader::new(running.stdout.take().unwrap());
        if words[0] == "status" {
            reader.read_line(&mut String::new()).unwrap();
        }
        drop(reader);
        until("it ends", || running.try_wait().unwrap());
        assert!(!alive(running.id()));
    }
}

#[test]
fn a_node_at_a_terminal_logs_in_colour_and_ends_by_ctrl_c() {
    let run = |home: &Home, variables: &[(&str, &str)]| {
        let words = format!("stead run --listen {} -- sleep 1000; echo code $?", home.address());
        let mut terminal = Terminal::run_with(home, 80, &words, variables);
        terminal
            .until("the app runs", |shown| plain(shown).contains("app: ") && shown.contains("state=running"));
        terminal.press("\u{3}").end()
    };
    let shown = run(&Home::new(), &[("TERM", "xterm")]);
    assert!(shown.contains("\u{1b}[32mINFO \u{1b}[0m"), "{shown:?}");
    assert!(shown.contains("node ends: SIGINT") || shown.contains("reason="), "{shown:?}");
    assert!(shown.trim_end().ends_with("code 0"), "{shown:?}");
    for variables in [&[("TERM", "xterm"), ("NO_COLOR", "1")][..], &[("TERM", "dumb")]] {
        let shown = run(&Home::new(), variables);
        assert!(
            !shown.contains('\u{1b}') && shown.contains("INFO  node listens"),
            "{variables:?}: {shown:?}"
        );
    }
}
