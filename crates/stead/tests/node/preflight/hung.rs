//! A file system that does not answer: it is told so, and nothing else waits for it.

use super::*;
use crate::support::{Node, Silent, until, until_within};
use std::time::Duration;

/// Looks every ten seconds that take five, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(90);

#[test]
fn a_directory_that_does_not_answer_is_found_and_the_others_are_looked_at() {
    let home = Home::new();
    let (hung, well) =
        (directory(home.beside("hung"), (0, 0), 0o755), directory(home.beside("well"), (0, 0), 0o755));
    let silent = Silent::over(&hung);
    let args = ["--dir", hung.to_str().unwrap(), "--dir", well.to_str().unwrap()];
    let found = look(&home, &args);
    assert_eq!((found.code, found.findings().len()), (Some(71), 1), "{:#}", found.said);
    let finding = found.finding("no_answer");
    assert_eq!(finding["message"], "no answer for 5 s: its file system hangs");
    assert_eq!(finding["fix"], format!("sudo umount -f {0} && sudo mount {0}", hung.display()));
    drop(silent);
    look(&home, &args).is_well();
}

#[test]
fn a_node_says_that_it_lives_while_its_preflight_waits() {
    let home = Home::new();
    let hung = directory(home.beside("hung"), (0, 0), 0o755);
    let file = config_file(&home, &json!([{ "path": hung }]));
    let _silent = Silent::over(&hung);
    let mut node = Node::spawn(&home, &["--config", &file]);
    let seen = until("it lives", || node.try_get("/api/health/live"));
    assert_eq!(seen.ok()["status"], "ok");
    assert_eq!(node.status()["state"], "starting");
    assert_eq!(node.get("/api/health/ready").status, 503);
    assert_eq!(node.wait(), 71);
    let told = node.stderr();
    assert!(told.contains("cause: no answer for 5 s"), "{told}");
}

#[test]
fn readiness_never_waits_for_what_hangs() {
    let home = Home::new();
    let path = directory(home.beside("music"), (0, 0), 0o755);
    let file = config_file(&home, &json!([{ "path": path }]));
    let node = Node::start_with(&home, &["--config", &file]);
    node.until_app();
    let silent = Silent::over(&path);
    let failed = until_within(PATIENCE, "readiness fails", || {
        let answer = node.get("/api/health/ready?verbose=1");
        (answer.status == 503).then(|| answer.json())
    });
    let check = &failed["checks"]["paths.music"];
    assert_eq!(
        (check["status"].as_str(), check["output"].as_str()),
        (Some("fail"), Some("no answer for 5 s: its file system hangs"))
    );
    assert_eq!(node.until_issue("no_answer")["component"], "preflight");
    node.until_app();
    drop(silent);
    until_within(PATIENCE, "it is ready again", || {
        (node.get("/api/health/ready").status == 200).then_some(())
    });
    node.until_well();
}
