//! What is secret shows nowhere: not in the log at its finest, not in an answer, an error, an event, a page or a file.

use super::DATABASE;
use crate::support::{Events, Home, Node, STEAD, until};
use serde_json::json;
use std::path::Path;
use std::process::{Command, Stdio};

/// In the configuration, by way of the environment.
const TOKEN: &str = "T0ken-of-the-api";
const PASSWORD: &str = "Pa55word-of-the-app";
/// In the environment alone.
const SHELL: &str = "T0ken-of-the-shell";
/// In a change while the node runs.
const LATER: &str = "T0ken-that-came-later";
/// In what is refused.
const IN_URL: &str = "Hunter2-in-a-url";
const GUESSED: &str = "Guessed-0ne";
const SECRETS: [&str; 6] = [TOKEN, PASSWORD, SHELL, LATER, IN_URL, GUESSED];

fn holds_none(what: &str, text: &str) {
    for secret in SECRETS {
        assert!(!text.contains(secret), "{what} shows {secret}:\n{text}");
    }
}

/// `stead ARG…` with a token; what it said on both.
fn stead(home: &Home, token: &str, args: &[&str]) -> String {
    let mut command = Command::new(STEAD);
    command.arg("--home").arg(home.root()).args(args).env("STEAD_TOKEN", token).stdin(Stdio::null());
    let out = command.output().unwrap();
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

/// Every file below a directory, but one.
fn files(below: &Path, but: &Path, into: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(below).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, but, into);
        } else if path.is_file() && path != but {
            into.push(path);
        }
    }
}

#[test]
fn no_secret_is_in_the_log_an_answer_an_error_an_event_a_page_or_a_file() {
    let home = Home::new();
    let config = "name: operation\ntoken: ${API_TOKEN}\nlog: { format: json, level: trace }\n\
                  storage: { sync_interval: 20ms }\n\
                  app:\n  command: [sh, -c, 'echo up; sleep 0.2; exit 3']\n  restart_delay: 50ms\n  \
                  env: { DB_PASSWORD: \"${DB_PASSWORD}\" }\n";
    let file = home.write("stead.yaml", config).display().to_string();
    let variables = [("API_TOKEN", TOKEN), ("DB_PASSWORD", PASSWORD), ("STEAD_TOKEN", SHELL)];
    let node = Node::spawn_with(&home, &["--config", &file], &variables);
    until("it answers", || node.try_get("/"));
    node.until("the app has ended more than once", |status| status["process"]["restarts"].as_u64() > Some(1));
    let mut events = Events::open(home.socket_address());

    // Everything that a person does, with tokens that fit and such that do not.
    home.db(DATABASE).insert_rows(3);
    let mut told = String::new();
    for words in [
        "checkpoint create c1",
        "restore c1",
        "status",
        "status --json",
        "config show",
        "config show --json",
        "db list",
        "db verify",
        "logs",
        "app restart",
        "release-lease",
        "promote",
        "checkpoint create c1",
        "db query data/database.sqlite SELEC",
    ] {
        told.push_str(&stead(&home, TOKEN, &words.split(' ').collect::<Vec<_>>()));
    }
    let address = format!("http://{}", home.address());
    let with_user = format!("http://me:{IN_URL}@{}", home.address());
    for (token, words) in [
        (GUESSED, vec!["app", "stop", "--node", &address]),
        (TOKEN, vec!["app", "start", "--node", &address]),
        (TOKEN, vec!["status", "--node", &with_user]),
        (TOKEN, vec!["status", "--token", GUESSED, "--wach"]),
        (TOKEN, vec!["status", "--token", GUESSED, "--node", "http://127.0.0.1:9"]),
    ] {
        told.push_str(&stead(&home, token, &words));
    }
    let bad = [
        format!("name: n\ntoken: [{LATER}]\n"),
        format!("name: n\ntoken: {{ a: {LATER} }}\n"),
        format!("name: n\ntoken: '{LATER} with blanks'\n"),
        format!("name: n\nstorage: {{ url: 'https://me:{IN_URL}@host/x' }}\n"),
        format!("name: n\nstorage: {{ url: 's3://me:{IN_URL}@bucket/x' }}\n"),
        format!("name: n\nstorage: {{ url: 's3://bucket', endpoint: 'http://me:{IN_URL}@x' }}\n"),
        format!("name: n\nstorage: {{ url: 's3://bucket', access_key_id: 'a/{LATER}' }}\n"),
        format!("name: n\nstorage: {{ url: 's3://bucket', secret_access_key: '{LATER} {LATER}' }}\n"),
        format!("name: n\nstorage: {{ url: 's3://bucket', session_token: '{LATER}' }}\n"),
        format!("name: n\nstorage: {{ url: 'file:///x', secret_access_key: '{LATER}' }}\n"),
        format!("name: n\napp: {{ command: x, env: {{ A: [{PASSWORD}] }} }}\n"),
        format!("name: n\napp: {{ command: x, ready: {{ http: 'http://me:{IN_URL}@127.0.0.1/' }} }}\n"),
    ];
    for text in &bad {
        let file = home.write("bad.yaml", text).display().to_string();
        for words in [["config", "check", &file], ["config", "apply", &file]] {
            let said = stead(&home, TOKEN, &words);
            assert!(said.contains("hint: "), "{text}: {said}");
            told.push_str(&said);
        }
        std::fs::remove_file(file).unwrap();
    }
    let good = home.write("good.yaml", format!("name: operation\ntoken: {LATER}\nlog: {{ level: trace }}\n"));
    told.push_str(&stead(&home, TOKEN, &["config", "apply", good.to_str().unwrap()]));
    told.push_str(&stead(&home, TOKEN, &["config", "apply", good.to_str().unwrap(), "--node", &address]));
    std::fs::remove_file(good).unwrap();
    holds_none("a command", &told);
    assert!(told.contains("***") && told.contains("the configuration is changed"), "{told}");

    for path in [
        "/",
        "/config",
        "/history",
        "/logs",
        "/metrics",
        "/databases",
        "/checkpoint",
        "/api/health/ready?verbose=1",
        "/nowhere",
    ] {
        let body = String::from_utf8_lossy(&node.get(path).body).into_owned();
        holds_none(path, &body);
    }
    let page = crate::support::request_with(
        &home.address(),
        "GET",
        "/",
        &format!("Host: {}\r\nAccept: text/html\r\n", home.address()),
    );
    holds_none("the page", &String::from_utf8_lossy(&page.body));
    let posted = json!({ "name": 1, "token": [LATER] }).to_string();
    holds_none("an answer", &String::from_utf8_lossy(&node.request("PUT", "/config", &posted).body));

    node.stop();
    while !events.ended() {}
    holds_none("the log", &std::fs::read_to_string(home.beside("stderr")).unwrap());
    holds_none("what the app wrote", &std::fs::read_to_string(home.beside("stdout")).unwrap());
    let mut all = Vec::new();
    files(home.root(), &home.path("tmp/config.json"), &mut all);
    assert!(all.len() > 5, "{all:?}");
    for path in all {
        holds_none(&path.display().to_string(), &String::from_utf8_lossy(&std::fs::read(&path).unwrap()));
    }
}
