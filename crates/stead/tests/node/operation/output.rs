//! What commands print: for machines, for narrow terminals, without colour, one after another.

use super::{DATABASE, with_app};
use crate::support::{Home, Node, STEAD};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// The keys of an object, in their order.
fn keys(value: &Value) -> String {
    let names: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    names.join(" ")
}

#[test]
fn every_reading_command_prints_json_of_its_shape() {
    let home = Home::new();
    let node = Node::configured(&home, &with_app());
    home.db(DATABASE).insert_rows(2);
    node.until_sealed(DATABASE);
    node.until_app();
    node.checkpoint("c1");
    home.write("litestream.yml", "dbs: [{ path: /srv/a.db }]\n");
    let (source, new) =
        (home.path("litestream.yml").display().to_string(), home.beside("new").display().to_string());
    let (good, copy, out) =
        (home.write("good.yaml", "name: n\n"), home.beside("copy"), home.beside("out").display().to_string());
    let (good, copy) = (good.display().to_string(), copy.display().to_string());
    let database = "checksum history lag_ms mode page_size pages path stored_txid txid";
    for (words, shape, within, inner) in [
        (
            vec!["status"],
            "checkpoints components configured databases issues lease name node process reason replicas role since \
             state version",
            "/databases/0",
            database,
        ),
        (
            vec!["checkpoint", "list"],
            "checkpoints",
            "/checkpoints/0",
            "automatic comment created databases id",
        ),
        (vec!["checkpoint", "show", "c1"], "automatic comment created databases id", "", ""),
        (vec!["checkpoint", "create", "c2"], "automatic comment created databases id ms", "", ""),
        (vec!["checkpoint", "export", "c1", &copy], "databases directory id", "", ""),
        (vec!["checkpoint", "remove", "c2"], "removed", "", ""),
        (
            vec!["restore", "c1", "--dry-run"],
            "as_of databases dry_run ms steps target",
            "/databases/0",
            "change from pages path to",
        ),
        (vec!["db", "list"], "databases", "/databases/0", database),
        (vec!["db", "verify"], "databases ok", "/databases/0", "files ok pages path position problems"),
        (
            vec!["db", "log", DATABASE],
            "files path",
            "/files/0",
            "bytes checksum commit created level max_txid min_txid",
        ),
        (vec!["db", "query", DATABASE, "SELECT 1"], "changes columns ms path rows", "", ""),
        (vec!["db", "export", DATABASE, &out], "file path", "", ""),
        (vec!["db", "restore", DATABASE, "-o", &new], "checksum file history txid", "", ""),
        (vec!["config", "check", &good], "config problems valid", "", ""),
        (vec!["config", "import", &source], "config home notes source", "", ""),
        (
            vec!["config", "show"],
            "app checkpoints databases hosts lease listen log name preflight retention storage",
            "",
            "",
        ),
        (
            vec!["app", "restart"],
            "action process",
            "/process",
            "before last_exit pid ready restarts says state uptime_ms waits_for",
        ),
    ] {
        let told = home.stead(&[&words[..], &["--json"]].concat());
        let answer: Value = serde_json::from_slice(&told.stdout)
            .unwrap_or_else(|error| panic!("{words:?}: {error}, {told:?}"));
        assert_eq!(keys(&answer), shape, "{words:?}: {answer:#}");
        if !within.is_empty() {
            assert_eq!(keys(answer.pointer(within).unwrap()), inner, "{words:?}: {answer:#}");
        }
        assert!(told.stderr.is_empty(), "{words:?}: {told:?}");
    }
    let refused = home.stead(&["checkpoint", "show", "none", "--json"]);
    let told: Value = serde_json::from_slice(&refused.stderr).unwrap();
    assert_eq!(keys(&told["error"]), "cause code exit_code hint message");
}

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
