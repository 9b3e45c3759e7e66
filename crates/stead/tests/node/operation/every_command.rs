//! Every command of the grammar, with what its `--json` prints and how each of its errors reads.
//!
//! A command without a row here fails the test, and so does a row without a command. The texts are snapshots: what
//! scripts and people hold on to changes only where somebody means it.

use super::{DATABASE, with_app};
use crate::support::{Home, Node};
use clap::CommandFactory;
use serde_json::{Value, json};
use std::fmt::Write;
use std::process::Output;

/// One command. Words are split at blanks; those in capitals stand for paths, see [`Stage::words`].
struct Row {
    /// Its name, and arguments with which it works.
    works: &'static str,
    /// What it prints then with `--json`.
    prints: Prints,
    /// The code where no node answers; none where it needs no node.
    no_node: Option<i32>,
    /// Arguments that it cannot have.
    wrong: &'static str,
    /// Arguments that are refused, by the node or for what they name, and the code.
    refused: Option<(Who, &'static str, i32)>,
}

enum Prints {
    /// One JSON value.
    Json,
    /// A JSON value a line.
    JsonLines,
    /// Something that is for another program.
    Other,
    /// It is not run here.
    NotRun,
}

/// Who refuses.
enum Who {
    /// The node, or the command itself.
    Node,
    /// A node without a configuration.
    Unconfigured,
}
use Prints::{Json, JsonLines, NotRun, Other};
use Who::{Node as ByNode, Unconfigured};

const fn row(
    works: &'static str,
    prints: Prints,
    no_node: Option<i32>,
    wrong: &'static str,
    refused: Option<(Who, &'static str, i32)>,
) -> Row {
    Row { works, prints, no_node, wrong, refused }
}

/// In the order in which they are run.
const COMMANDS: &[Row] = &[
    row("run", NotRun, None, "run ./app", Some((ByNode, "run --config BAD", 78))),
    row(
        "preflight --dir HERE",
        Json,
        None,
        "preflight --dir /srv:1000:me",
        Some((ByNode, "preflight --config BAD", 78)),
    ),
    row("status", Json, Some(4), "status --wach", None),
    row(
        "checkpoint create c2 --comment why",
        Json,
        Some(69),
        "checkpoint create a b",
        Some((ByNode, "checkpoint create c1", 1)),
    ),
    row("checkpoint list", Json, Some(69), "checkpoint list all", None),
    row("checkpoint show c1", Json, Some(69), "checkpoint show", Some((ByNode, "checkpoint show none", 1))),
    row(
        "checkpoint remove c2",
        Json,
        Some(69),
        "checkpoint remove",
        Some((ByNode, "checkpoint remove none", 1)),
    ),
    row(
        "checkpoint export c1 COPY",
        Json,
        Some(69),
        "checkpoint export c1",
        Some((ByNode, "checkpoint export none NEW", 1)),
    ),
    row("restore c1", Json, Some(69), "restore c1 --undo", Some((ByNode, "restore none", 1))),
    row("db list", Json, Some(69), "db list all", None),
    row("db verify", Json, Some(69), "db verify a b", Some((ByNode, "db verify data/none.db", 1))),
    row("db log DATABASE", Json, Some(69), "db log", Some((ByNode, "db log data/none.db", 1))),
    row(
        "db export DATABASE OUT",
        Json,
        Some(69),
        "db export DATABASE OUT2 --txid x",
        Some((ByNode, "db export DATABASE NEW --txid 999", 1)),
    ),
    row(
        "db query DATABASE SELECT-ONE",
        Json,
        Some(69),
        "db query DATABASE",
        Some((ByNode, "db query DATABASE SELEC", 1)),
    ),
    row(
        "db restore DATABASE -o OUT3",
        Json,
        None,
        "db restore DATABASE",
        Some((ByNode, "db restore data/none.db -o NEW", 71)),
    ),
    row(
        "db follow DATABASE OUT4",
        NotRun,
        None,
        "db follow DATABASE",
        Some((ByNode, "db follow data/none.db NEW", 71)),
    ),
    row("app start", Json, Some(69), "app start now", Some((Unconfigured, "app start", 78))),
    row("app stop", Json, Some(69), "app dance", Some((Unconfigured, "app stop", 78))),
    row("app restart", Json, Some(69), "app restart now", Some((Unconfigured, "app restart", 78))),
    row("config check GOOD", Json, None, "config check", Some((ByNode, "config check BAD", 78))),
    row("config show", Json, Some(69), "config show all", Some((Unconfigured, "config show", 78))),
    row("config schema", Json, None, "config schema yaml", None),
    row("config example", Other, None, "config exmaple", None),
    row("config import LITESTREAM", Json, None, "config import", Some((ByNode, "config import GOOD", 78))),
    row("logs", JsonLines, Some(69), "logs -n many", None),
    row("release-lease", Json, Some(69), "release-lease now", Some((Unconfigured, "release-lease", 78))),
    row("promote", Json, Some(69), "promote node-a", Some((Unconfigured, "promote", 78))),
    row("config apply GOOD", Json, Some(69), "config apply", Some((ByNode, "config apply ELSEWHERE", 78))),
    row("completions bash", Other, None, "completions tcsh2", None),
    row("man", Other, None, "man --page", Some((ByNode, "man nothing", 2))),
];

/// The command of a line: its words before the first that is none.
fn command<'a>(line: &'a str, names: &[String]) -> &'a str {
    let longest = names.iter().filter(|name| line == **name || line.starts_with(&format!("{name} ")));
    &line[..longest.map(String::len).max().unwrap_or_else(|| panic!("{line}: no such command"))]
}

/// The names of all commands that do something.
fn commands(below: &clap::Command, name: &str, into: &mut Vec<String>) {
    for command in below.get_subcommands().filter(|command| !command.is_hide_set()) {
        let name = format!("{name} {}", command.get_name()).trim_start().to_owned();
        if command.has_subcommands() {
            commands(command, &name, into);
        } else if command.get_name() != "help" {
            into.push(name);
        }
    }
}

/// A node, one without a configuration, and an address where none is.
struct Stage {
    home: Home,
    unconfigured: Home,
    nobody: Home,
}

impl Stage {
    fn new() -> Stage {
        let home = Home::new();
        home.write("good.yaml", "name: operation\n");
        home.write("bad.yaml", "nmae: operation\n");
        home.write("elsewhere.yaml", "name: operation\nlease: { type: static, primary: elsewhere }\n");
        home.write("litestream.yml", "dbs: [{ path: /srv/a.db }]\n");
        Stage { home, unconfigured: Home::new(), nobody: Home::new() }
    }

    fn words(&self, line: &str) -> Vec<String> {
        let word = |word: &str| match word {
            "DATABASE" => DATABASE.to_owned(),
            "SELECT-ONE" => "SELECT 1".to_owned(),
            "GOOD" => self.home.path("good.yaml").display().to_string(),
            "BAD" => self.home.path("bad.yaml").display().to_string(),
            "ELSEWHERE" => self.home.path("elsewhere.yaml").display().to_string(),
            "LITESTREAM" => self.home.path("litestream.yml").display().to_string(),
            "HERE" => self.home.root().display().to_string(),
            "COPY" | "NEW" | "OUT" | "OUT2" | "OUT3" => self.home.beside(word).display().to_string(),
            word => word.to_owned(),
        };
        line.split(' ').map(word).collect()
    }

    fn run(&self, home: &Home, line: &str, more: &[&str]) -> Output {
        let words = self.words(line);
        home.stead(&words.iter().map(String::as_str).chain(more.iter().copied()).collect::<Vec<_>>())
    }

    /// A text without what differs from run to run.
    fn plain(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (home, name) in [(&self.home, "HOME"), (&self.unconfigured, "HOME"), (&self.nobody, "HOME")] {
            text = text.replace(&home.root().display().to_string(), name);
            text = text.replace(&home.beside("").display().to_string(), "BESIDE/");
            text = text.replace(&home.address(), "ADDRESS");
        }
        let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
        text.replace(&format!("this node: {machine}"), "this node: MACHINE")
    }

    /// An error in its three lines, and the same as JSON; what is said of it in the snapshot.
    fn error(&self, home: &Home, line: &str, more: &[&str], code: i32) -> String {
        let told = self.run(home, line, more);
        let text = String::from_utf8(told.stderr.clone()).unwrap();
        assert_eq!(told.status.code(), Some(code), "{line}: {told:?}");
        assert!(told.stdout.is_empty() && !text.contains('\u{1b}'), "{line}: {told:?}");
        let labels: Vec<&str> = text
            .lines()
            .filter(|line| !line.starts_with(' '))
            .filter_map(|line| line.split(": ").next())
            .collect();
        assert_eq!(labels, ["error", "cause", "hint"], "{line}: {text}");
        if !line.starts_with("run ") {
            let json = self.run(home, line, &[more, &["--json"]].concat());
            let value: Value = if json.stdout.is_empty() {
                serde_json::from_slice(&json.stderr)
                    .unwrap_or_else(|error| panic!("{line}: {error} {json:?}"))
            } else {
                // A check that finds something has done its work: what it found is its answer.
                assert!(line.starts_with("config check"), "{line}: {json:?}");
                json!({ "error": { "message": "", "cause": "", "hint": "", "exit_code": code } })
            };
            for key in ["message", "cause", "hint"] {
                assert!(value["error"][key].is_string(), "{line}: {value:#}");
            }
            assert_eq!(
                (json.status.code(), &value["error"]["exit_code"]),
                (Some(code), &json!(code)),
                "{line}"
            );
        }
        format!("$ stead {line}\n{}-> {code}\n\n", self.plain(&text))
    }
}

/// Keys that are null or not, as it happens, and issues that the machine may have.
const MAYBE: [&str; 8] =
    ["pid", "uptime_ms", "last_exit", "waits_for", "says", "before", "stored_txid", "issues"];

/// A value's shape: keys, and kinds of values.
fn shape(value: &Value) -> Value {
    match value {
        Value::Null => json!("null"),
        Value::Bool(_) => json!("bool"),
        Value::Number(_) => json!("number"),
        Value::String(_) => json!("text"),
        Value::Array(items) => items.first().map_or_else(|| json!([]), |first| json!([shape(first)])),
        Value::Object(fields) => {
            let of = |(key, value): (&String, &Value)| {
                let shape = match key.as_str() {
                    maybe if MAYBE.contains(&maybe) => json!("maybe"),
                    "config" if value.is_object() => json!("a configuration"),
                    _ => shape(value),
                };
                (key.clone(), shape)
            };
            Value::Object(fields.iter().map(of).collect())
        }
    }
}

#[test]
fn every_command_has_its_help_its_json_and_its_errors() {
    let mut names = Vec::new();
    commands(&cli::Cli::command(), "", &mut names);
    let mut rows: Vec<&str> = COMMANDS.iter().map(|row| command(row.works, &names)).collect();
    rows.sort_unstable();
    let mut all: Vec<&str> = names.iter().map(String::as_str).collect();
    all.sort_unstable();
    assert_eq!(rows, all, "every command has one row");

    let stage = Stage::new();
    let _unconfigured = Node::start(&stage.unconfigured);
    let mut config = with_app();
    config["app"]["command"] = json!(["sh", "-c", "echo hello; exec sleep 1000"]);
    let node = Node::configured(&stage.home, &config);
    stage.home.db(DATABASE).insert_rows(2);
    node.until_sealed(DATABASE);
    node.until_app();
    node.until("it has said hello", |_| !node.get("/logs").ok()["lines"].as_array().unwrap().is_empty());
    node.checkpoint("c1");

    let (mut shapes, mut errors) = (String::new(), String::new());
    for row in COMMANDS {
        let name = command(row.works, &names);
        let help = stage.run(&stage.nobody, name, &["--help"]);
        let text = String::from_utf8(help.stdout).unwrap();
        assert!(
            help.status.success() && text.contains("Usage: stead") && text.contains("Example"),
            "{name}: {text}"
        );
        assert!(!text.contains('\u{1b}') && help.stderr.is_empty(), "{name}: {text}");

        writeln!(errors, "## {name}\n").unwrap();
        if let Some(code) = row.no_node {
            let nobody = stage.nobody.address();
            errors.push_str(&stage.error(&stage.nobody, row.works, &["--node", &nobody], code));
        }
        errors.push_str(&stage.error(&stage.home, row.wrong, &[], 2));
        match &row.refused {
            Some((ByNode, line, code)) => errors.push_str(&stage.error(&stage.home, line, &[], *code)),
            Some((Unconfigured, line, code)) => {
                errors.push_str(&stage.error(&stage.unconfigured, line, &[], *code));
            }
            None => {}
        }

        if let NotRun = row.prints {
            continue;
        }
        let told = stage.run(&stage.home, row.works, &["--json"]);
        assert!(told.status.success() && told.stderr.is_empty(), "{name}: {told:?}");
        let parse = |bytes: &[u8]| -> Value {
            serde_json::from_slice(bytes).unwrap_or_else(|error| panic!("{name}: {error}, {told:?}"))
        };
        let answer = match row.prints {
            // These have a page and a snapshot of their own.
            Json if matches!(name, "config schema" | "config show") => {
                assert!(parse(&told.stdout).is_object(), "{name}");
                json!("as the configuration's reference has it")
            }
            Json => shape(&parse(&told.stdout)),
            JsonLines => shape(&parse(told.stdout.split(|byte| *byte == b'\n').next().unwrap())),
            Other | NotRun => continue,
        };
        writeln!(shapes, "## {name}\n\n{}\n", serde_json::to_string_pretty(&answer).unwrap()).unwrap();
    }
    assert!(
        !stage.home.beside("NEW").exists() && !stage.home.beside("OUT2").exists(),
        "nothing is left behind"
    );
    insta::assert_snapshot!("json", shapes);
    insta::assert_snapshot!("errors", errors);
}
