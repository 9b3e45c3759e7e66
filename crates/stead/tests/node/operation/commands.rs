//! Commands as people and scripts use them: what they say, and how they end.

use super::{DATABASE, config, with_app};
use crate::support::{Held, Home, Node, count};
use serde_json::{Value, json};
use std::process::Output;
use std::time::{Duration, Instant};

fn stdout(out: &Output) -> String {
    assert!(out.status.success(), "{out:?}");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// The three lines of a failure, and its exit code.
fn failure(out: &Output) -> ([String; 3], i32) {
    let told = String::from_utf8_lossy(&out.stderr).into_owned();
    let parts: Vec<_> = told.lines().filter_map(|line| line.split_once(": ")).collect();
    let labels: Vec<&str> = parts.iter().map(|(label, _)| *label).collect();
    assert_eq!(labels, ["error", "cause", "hint"], "{told}");
    ([0, 1, 2].map(|n| parts[n].1.to_owned()), out.status.code().unwrap())
}

#[test]
fn every_refused_command_says_what_why_and_what_to_do() {
    let home = Home::new();
    let node = Node::configured(&home, &config());
    home.db(DATABASE).insert_rows(1);
    node.checkpoint("taken");
    home.write("there", "x");
    let there = home.path("there").display().to_string();
    let new = home.path("new").display().to_string();
    for (words, what, why, code) in [
        ("checkpoint create taken", "no checkpoint was made", "`taken` exists", 1),
        ("checkpoint create ../x", "no checkpoint was made", "is no checkpoint id", 2),
        ("checkpoint show none", "`none` cannot be shown", "there is no checkpoint", 1),
        ("checkpoint show ../../config", "cannot be shown", "is no checkpoint id", 2),
        ("checkpoint remove none", "`none` was not removed", "there is no checkpoint", 1),
        ("checkpoint export none NEW", "`none` was not exported", "there is no checkpoint", 1),
        ("checkpoint export taken THERE", "cannot be written", "ot a directory", 71),
        ("restore none", "nothing was restored", "there is no checkpoint", 1),
        ("restore --undo", "nothing was restored", "nothing to undo", 1),
        ("restore --time 10d", "nothing was restored", "reaches back", 1),
        ("restore --time soon", "`soon` is no time", "RFC 3339", 2),
        ("db verify data/none.db", "`data/none.db` was not verified", "there is no database", 1),
        ("db verify ../none.db", "was not verified", "not a path inside", 2),
        ("db log data/none.db", "cannot be listed", "there is no database", 1),
        ("db export data/none.db NEW", "was not exported", "there is no database", 1),
        ("db export data/database.sqlite THERE", "exists", "nothing is overwritten", 71),
        ("db export data/database.sqlite NEW --txid 999", "was not exported", "no such moment", 1),
        ("db export data/none.db NEW --offline", "was not exported", "is no file", 71),
        ("db export ../none.db NEW --offline", "was not exported", "not a path inside", 2),
        ("db export data NEW --offline", "was not exported", "is no file", 71),
        ("db restore data/none.db -o NEW", "no history of data/none.db", "does not exist", 71),
        ("db restore data/database.sqlite -o NEW --txid 999", "was not written", "TXID 999", 1),
        ("app start", "the app was not started", "no app is configured", 1),
        ("config check none.yaml", "none.yaml cannot be read", "No such file", 71),
        ("status --node foo://x", "no node's address", "plain http", 4),
        ("db list --node https://x", "no node's address", "plain http", 2),
    ] {
        let words: Vec<&str> = words
            .split(' ')
            .map(|word| match word {
                "NEW" => new.as_str(),
                "THERE" => there.as_str(),
                word => word,
            })
            .collect();
        let ([told_what, told_why, _], told_code) = failure(&home.stead(&words));
        assert!(told_what.contains(what), "{words:?}: {told_what}");
        assert!(told_why.contains(why), "{words:?}: {told_why}");
        assert_eq!(told_code, code, "{words:?}");
    }
    assert!(!home.exists("new"), "nothing is left behind");
}

#[test]
fn without_a_node_a_command_says_where_it_looked() {
    let home = Home::new();
    for (words, code) in [(["db", "list"], 69), (["status", "--json"], 4)] {
        let out = home.stead(&[&words[..], &["--node", &home.address()]].concat());
        assert_eq!(out.status.code(), Some(code), "{out:?}");
        assert!(String::from_utf8_lossy(&out.stderr).contains(&home.address()), "{out:?}");
    }
    let node = Node::configured(&home, &config());
    let refused = home.stead(&["checkpoint", "show", "none", "--json"]);
    let told: Value = serde_json::from_slice(&refused.stderr).unwrap();
    assert_eq!(
        (&told["error"]["code"], &told["error"]["exit_code"]),
        (&json!("no_such_checkpoint"), &json!(1))
    );
    drop(node);
}

#[test]
fn every_problem_of_a_configuration_is_told_with_its_line() {
    let home = Home::new();
    let file = home.write("bad.yaml", "nmae: notes\nstorage:\n  url: s3://x\ndatabases:\n  - path: /etc/x\n");
    let file = file.to_str().unwrap();
    let ([what, ..], code) = failure(&home.stead(&[
        "config",
        "check",
        &home.write("one.json", "{\n \"name\": 1}").display().to_string(),
    ]));
    assert_eq!((what.ends_with("one.json is not valid"), code), (true, 78));
    let checked = home.stead(&["config", "check", file]);
    let told = String::from_utf8_lossy(&checked.stderr).into_owned();
    for line in [
        format!("error: {file} has 4 problems"),
        format!("cause: {file}:1: nmae: unknown key `nmae` (did you mean `name`?)"),
        format!("       {file}:1: name: `name` is required"),
        format!("       {file}:3: storage.url: `s3://x` names no bucket"),
        format!("       {file}:5: databases[0].path: `/etc/x` is not a path inside the home"),
    ] {
        assert!(told.contains(&line), "{line} is not in {told}");
    }
    let answer: Value =
        serde_json::from_slice(&home.stead(&["config", "check", file, "--json"]).stdout).unwrap();
    assert_eq!(answer["problems"][3]["line"], 5, "{answer:#}");
    let run = home.stead(&["run", "--config", file]);
    assert_eq!(run.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&run.stderr).contains(&format!("{file}:3: storage.url")), "{run:?}");

    let node = Node::start(&home);
    let refused = node.request("POST", "/config", "{\n  \"name\": \"n\",\n  \"app\": {}\n}");
    assert_eq!(
        (refused.status, &refused.json()["error"]["problems"][0]["line"]),
        (400, &json!(3)),
        "{refused:?}"
    );
    let elsewhere = home.write("other.yaml", "name: notes\nlease:\n  type: static\n  primary: elsewhere\n");
    let ([what, why, _], code) = failure(&home.stead(&["config", "apply", elsewhere.to_str().unwrap()]));
    assert_eq!((what.as_str(), code), ("the configuration was not taken", 78));
    assert!(why.starts_with(&format!("{}:4: lease.primary: ", elsewhere.display())), "{why}");
}

#[test]
fn a_changed_configuration_is_told_in_one_sentence() {
    let home = Home::new();
    let node = Node::configured(&home, &with_app());
    let file = home.write("new.yaml", "name: operation\nretention: { keep: 9d }\n");
    let file = file.to_str().unwrap();
    for time in ["first", "second"] {
        assert_eq!(
            stdout(&home.stead(&["config", "apply", file])),
            "the configuration is changed, but `storage` and `retention` are read only when the node starts: \
             restart the node to use them\n",
            "the {time} time: nothing has been restarted"
        );
    }
    let changed = node.request("PUT", "/config", r#"{"name":"operation"}"#).ok();
    assert_eq!(changed, json!({ "changed": true, "after_restart": ["storage"], "kept_by_flags": [] }));
    let shown: Value = serde_json::from_str(&stdout(&home.stead(&["config", "show", "--json"]))).unwrap();
    assert_eq!(shown, node.get("/config").ok());
    assert!(stdout(&home.stead(&["config", "show"])).contains("name: operation\n"));
}

#[test]
fn flags_keep_their_keys_whatever_is_posted() {
    let home = Home::new();
    let node = Node::configured(&home, &config());
    assert_eq!(node.get("/config").ok()["listen"], home.address());
    assert_eq!(node.status()["issues"], json!([]));
    let mut other = config();
    other["listen"] = json!("127.0.0.1:9");
    let changed = node.request("PUT", "/config", &other.to_string()).ok();
    assert_eq!((&changed["after_restart"], &changed["kept_by_flags"]), (&json!([]), &json!(["listen"])));
    assert_eq!(node.get("/config").ok()["listen"], home.address());
}

#[test]
fn a_database_is_restored_without_a_node_by_its_name_in_the_home() {
    let home = Home::new();
    let node = Node::configured(&home, &config());
    home.db(DATABASE).insert_rows(3);
    node.until_sealed(DATABASE);
    drop(node);
    let out = home.beside("copy.sqlite");
    // The working directory of the command is not the home.
    stdout(&home.stead(&["db", "restore", DATABASE, "-o", out.to_str().unwrap()]));
    assert_eq!(count(&out), 3);
}

#[test]
fn figures_have_three_decimals_at_most() {
    let home = Home::new();
    let node = Node::configured(&home, &with_app());
    home.db(DATABASE).insert_rows(1);
    for answer in [
        node.post("/checkpoint", &json!({ "id": "first" })),
        node.post("/restore", &json!({ "id": "first" })),
        node.get("/api/health/ready?verbose=1"),
    ] {
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let figures: Vec<&str> =
            text.split("ms\":").skip(1).map(|rest| rest.split([',', '}']).next().unwrap()).collect();
        assert!(!figures.is_empty(), "{text}");
        for figure in figures {
            let decimals = figure.split_once('.').map_or(0, |(_, decimals)| decimals.len());
            assert!(decimals <= 3, "{figure} in {text}");
        }
    }
}

#[test]
fn a_checkpoint_during_a_restore_is_told_so_at_once() {
    let home = Home::new();
    let node = Node::configured(&home, &config());
    home.db(DATABASE).insert_rows(1);
    node.checkpoint("first");
    let mut holder = Held::open(&home.path(DATABASE), "BEGIN IMMEDIATE; INSERT INTO t VALUES(9);");
    std::thread::scope(|scope| {
        let restoring = scope.spawn(|| node.post("/restore", &json!({ "id": "first" })));
        let refused = crate::support::until("a checkpoint is refused", || {
            let asked = Instant::now();
            let answer = node.post("/checkpoint", &json!({}));
            (answer.status != 200).then(|| (answer, asked.elapsed()))
        });
        let error = refused.0.refused(503, "restore_running");
        assert!(error["message"].as_str().unwrap().contains("a restore is under way"), "{error:#}");
        assert!(error["hint"].is_string() && refused.1 < Duration::from_secs(2), "{error:#} {:?}", refused.1);
        let ([_, why, _], code) = failure(&home.stead(&["checkpoint", "create"]));
        assert!(why.contains("a restore is under way") && code == 75, "{why} {code}");
        holder.run("ROLLBACK;");
        restoring.join().unwrap().ok();
    });
    node.checkpoint("second");
}

#[test]
fn a_refused_configuration_leaves_nothing_behind() {
    let outside = Home::new();
    let bad = outside.write("bad.yaml", "name: operation\nlisten: nowhere\n").display().to_string();
    let elsewhere = outside.write("elsewhere.yaml", "name: n\nlease: { primary: elsewhere }\n");
    let elsewhere = elsewhere.display().to_string();
    let missing = outside.path("missing.yaml").display().to_string();
    for (words, what, code) in [
        (&["--config", &bad][..], "holds no valid configuration", 78),
        (&["--config", &elsewhere], "holds no valid configuration", 78),
        (&["--config", &missing], "the configuration was not read", 71),
        (&["--store", "nowhere"], "the command line holds no valid configuration", 78),
        (&["--listen", "nowhere", "--", "sleep", "1"], "the command line holds no valid configuration", 78),
    ] {
        let home = Home::new();
        let ([told, ..], ended) = failure(&home.stead(&[&["run"], words].concat()));
        assert!(told.contains(what), "{words:?}: {told}");
        assert_eq!((ended, home.root().exists()), (code, false), "{words:?}");
        std::fs::create_dir(home.root()).unwrap();
        failure(&home.stead(&[&["run"], words].concat()));
        assert_eq!(home.list(""), [""; 0], "{words:?}");
    }
    // What a former run accepted stays what it is, and counts where nothing else is said.
    let home = Home::new();
    drop(Node::configured(&home, &config()));
    let before = home.list("");
    failure(&home.stead(&["run", "--config", &bad]));
    assert_eq!(home.list(""), before);
    let again = Node::start(&home);
    again.until("it is as it was", |status| status["name"] == "operation" && status["state"] == "primary");
}

/// What the shell says of a script that it only reads.
fn read_by_bash(script: &[u8]) -> Output {
    let mut bash = std::process::Command::new("bash");
    let mut bash = bash
        .arg("-n")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut bash.stdin.take().unwrap(), script).unwrap();
    bash.wait_with_output().unwrap()
}

#[test]
fn completions_are_a_script_and_offer_every_command() {
    let home = Home::new();
    for (shell, words) in [
        ("bash", ["checkpoint", "release-lease", "--dry-run"]),
        ("zsh", ["#compdef stead", "release-lease", "--dry-run"]),
        ("fish", ["complete -c stead", "release-lease", "dry-run"]),
    ] {
        let script = stdout(&home.stead(&["completions", shell]));
        for word in words {
            assert!(script.contains(word), "{shell}: {word}");
        }
        for hidden in ["query-process", "check-run", "--token"] {
            assert!(!script.contains(hidden), "{shell} offers {hidden}");
        }
        if shell == "bash" {
            let read = read_by_bash(script.as_bytes());
            assert!(read.status.success() && read.stderr.is_empty(), "{read:?}");
            // A word begun is completed as a person would want it.
            let asked = "COMP_WORDS=(stead checkpoint cr); COMP_CWORD=2; _stead stead cr checkpoint; echo ${COMPREPLY[@]}";
            let mut bash = std::process::Command::new("bash");
            let completed = bash.arg("-c").arg(format!("{script}\n{asked}")).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&completed.stdout).trim(), "create", "{completed:?}");
        }
    }
}

#[test]
fn every_command_has_a_manual_page_that_is_well_formed() {
    let home = Home::new();
    for words in ["", "checkpoint", "checkpoint create", "db query", "run", "config import"] {
        let mut line = vec!["man"];
        line.extend(words.split(' ').filter(|word| !word.is_empty()));
        let page = stdout(&home.stead(&line));
        let title = format!("stead {words}").trim_end().replace(' ', "-");
        assert!(page.contains(&format!(".TH {title} ")), "{words}: {page:.300}");
        for section in [".SH NAME", ".SH SYNOPSIS", ".SH DESCRIPTION", ".SH OPTIONS"] {
            assert!(page.contains(section), "{words}: no {section}");
        }
        // A line that begins with a point is an instruction, and these are the ones that a page is made of.
        for line in page.lines().filter(|line| line.starts_with(['.', '\''])) {
            let word = line.split(' ').next().unwrap();
            assert!(
                [".ie", ".el", ".TH", ".SH", ".SS", ".TP", ".RS", ".RE", ".br", ".PP"].contains(&word),
                "{words}: {line}"
            );
        }
        assert!(!page.contains("query-process") && !page.contains("check-run"), "{words}: {page}");
    }
}

/// What applications, file names and comments hold is shown, and does nothing to the terminal.
#[test]
fn nothing_that_others_wrote_reaches_the_terminal_as_a_command() {
    const TITLE: &str = "\u{1b}]0;forged\u{7}";
    let home = Home::new();
    let mut config = with_app();
    config["app"]["command"] = json!(["sh", "-c", format!("printf '%s\\n' '{TITLE}said'; exec sleep 1000")]);
    config["databases"] = json!([{ "path": DATABASE }, { "dir": "data", "pattern": "*.db" }]);
    let node = Node::configured(&home, &config);
    node.until_app();
    home.db("data/a\nforged  wal  9.db").insert_rows(1);
    node.until("it is followed", |status| status["databases"].as_array().is_some_and(|all| all.len() == 2));
    node.post("/checkpoint", &json!({ "id": "c1", "comment": format!("{TITLE}why\nforged") })).ok();
    let query = format!("SELECT 1 AS '{TITLE}column'");
    for line in [
        vec!["status"],
        vec!["db", "list"],
        vec!["checkpoint", "list"],
        vec!["checkpoint", "show", "c1"],
        vec!["db", "query", DATABASE, &query],
        vec!["db", "query", DATABASE, "SELECT 'x' FROM \"\u{1b}]0;\""],
        vec!["db", "query", DATABASE, &query, "--json"],
    ] {
        let told = home.stead(&line);
        let text = String::from_utf8_lossy(&[told.stdout, told.stderr].concat()).into_owned();
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{line:?}: {text:?}");
        // A comment may have lines; a table's rows are the node's.
        let forged = !line.contains(&"show") && text.lines().any(|line| line.starts_with("forged"));
        assert!(!forged, "{line:?}: {text}");
    }
    let mut terminal = crate::support::Terminal::run(&home, 200, "stead logs; echo over");
    terminal.until("the log, harmless", |shown| {
        assert!(!shown.contains(TITLE), "{shown:?}");
        shown.contains("]0;forged") && shown.contains("over")
    });
    assert!(
        String::from_utf8_lossy(&home.stead(&["logs"]).stdout).contains(TITLE),
        "a program gets it as it is"
    );
}

#[test]
fn copies_of_databases_are_their_owners() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new();
    let node = Node::configured(&home, &with_app());
    home.db(DATABASE).insert_rows(2);
    node.until_sealed(DATABASE);
    node.checkpoint("c1");
    let at = |name: &str| home.beside(name).display().to_string();
    for line in [
        vec!["db", "export", DATABASE, &at("exported")],
        vec!["db", "restore", DATABASE, "-o", &at("restored")],
        vec!["checkpoint", "export", "c1", &at("all")],
    ] {
        let told = home.stead(&line);
        assert!(told.status.success(), "{line:?}: {told:?}");
    }
    for copy in ["exported".to_owned(), "restored".to_owned(), format!("all/{DATABASE}")] {
        let mode = std::fs::metadata(home.beside(&copy)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{copy}");
    }
}

#[test]
fn what_cannot_be_printed_is_not_called_done() {
    for line in [vec!["config", "example"], vec!["config", "schema"], vec!["man"]] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let told =
            std::process::Command::new(crate::support::STEAD).args(&line).stdout(full).output().unwrap();
        assert_eq!(told.status.code(), Some(71), "{line:?}: {told:?}");
        let text = String::from_utf8_lossy(&told.stderr).into_owned();
        assert!(text.starts_with("error: standard output cannot be written\ncause: "), "{text}");
    }
}

#[test]
fn a_token_may_come_from_a_file_with_a_line_end_and_must_be_one() {
    let home = Home::new();
    let mut config = with_app();
    config["token"] = json!("abc");
    let _node = Node::configured(&home, &config);
    let status = |token: &str| {
        let mut command = std::process::Command::new(crate::support::STEAD);
        command.args(["checkpoint", "create", "--node", &home.address()]).env("STEAD_TOKEN", token);
        command.output().unwrap()
    };
    assert!(status("abc\n").status.success());
    let refused = status("a b");
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(!String::from_utf8_lossy(&refused.stderr).contains("a b"), "{refused:?}");
}
