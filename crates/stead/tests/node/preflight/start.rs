//! The start: what keeps it back, how that is told, and that it goes on by itself.
//!
//! The story is a container that died at boot because directories were missing: no answer on its port, no database,
//! and nothing that said why.

use super::*;
use crate::support::Node;

fn two(home: &Home) -> (PathBuf, PathBuf, String) {
    let (downloads, music) = (home.beside("downloads"), home.beside("music"));
    let file = config_file(home, &json!([{ "path": downloads }, { "path": music }]));
    (downloads, music, file)
}

#[test]
fn without_its_directories_a_node_ends_with_71_and_says_which_and_what_to_do() {
    let home = Home::new();
    let (downloads, music, file) = two(&home);
    let out = home.stead(&["run", "--config", &file]);
    let told = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(71), "{told}");
    for path in [&downloads, &music] {
        let path = path.display();
        assert!(
            told.contains(&format!("check=directory path={path} result=fail code=directory_missing")),
            "{told}"
        );
        let lines = format!(
            "error: {path} is not as it must be\ncause: it does not exist\nhint: sudo mkdir -p {path}\n"
        );
        assert!(told.contains(&lines), "{told}");
    }
    assert!(!home.exists("data/database.sqlite"), "nothing is started before");
}

#[test]
fn with_its_directories_it_lives_and_its_database_is_there() {
    let home = Home::new();
    let (downloads, music, file) = two(&home);
    for path in [&downloads, &music] {
        directory(path.clone(), (0, 0), 0o755);
    }
    let node = Node::start_with(&home, &["--config", &file]);
    assert_eq!(node.get("/api/health/live").status, 200);
    node.until_app();
    assert!(home.exists("data/database.sqlite"));
    let log = node.stderr();
    for line in [
        format!("startup  step=home path={} result=ok", home.root().display()),
        format!("startup  step=listen address={} result=ok", home.address()),
        format!("startup  step=preflight check=directory path={} result=ok", music.display()),
        "startup  step=preflight check=database path=data/database.sqlite result=ok".to_owned(),
        "startup  step=databases".to_owned(),
    ] {
        assert!(log.contains(&line), "{line}\n{log}");
    }
}

#[test]
fn machines_read_the_same_from_a_log_in_json() {
    let home = Home::new();
    let path = home.beside("music");
    let config = json!({ "name": "pre", "log": { "format": "json" },
        "preflight": { "directories": [{ "path": path }] } });
    let file = write_config(&home, &config);
    let out = home.stead(&["run", "--listen", &home.address(), "--config", &file]);
    let told = String::from_utf8_lossy(&out.stderr);
    let lines: Vec<Value> = told.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let line = lines.iter().find(|line| line["code"] == "directory_missing" && line["step"] == "preflight");
    let line = line.unwrap_or_else(|| panic!("{told}"));
    for (key, wanted) in [
        ("event", "startup"),
        ("check", "directory"),
        ("path", path.to_str().unwrap()),
        ("result", "fail"),
        ("level", "ERROR"),
        ("hint", &format!("sudo mkdir -p {}", path.display())),
    ] {
        assert_eq!(line[key], wanted, "{key}: {line:#}");
    }
}

#[test]
fn a_posted_configuration_waits_for_its_directory_and_goes_on_by_itself() {
    let home = Home::new();
    let path = home.beside("music");
    let node = Node::start(&home);
    let config = json!({ "name": "pre", "app": { "command": ["sleep", "1000"] },
        "preflight": { "directories": [{ "path": path }] } });
    let status = node.configure(&config);
    assert_eq!(
        (status["state"].as_str(), status["process"]["state"].as_str()),
        (Some("starting"), Some("none"))
    );
    let issue = node.until_issue("directory_missing");
    assert_eq!((issue["component"].as_str(), issue["path"].as_str()), (Some("preflight"), path.to_str()));
    assert_eq!(issue["hint"], format!("sudo mkdir -p {}", path.display()));
    assert!(status["reason"].as_str().unwrap().starts_with("preflight failed: "), "{status:#}");
    assert_eq!(node.get("/api/health/live").status, 200);
    assert!(!home.exists("data/database.sqlite"));
    shell(issue["hint"].as_str().unwrap());
    node.until_app();
    node.until_well();
}

#[test]
fn what_was_accepted_before_stays_up_as_well() {
    let home = Home::new();
    let path = home.beside("music");
    let config = json!({ "name": "pre", "preflight": { "directories": [{ "path": path }] } });
    home.write("tmp/config.json", config.to_string());
    let node = Node::start(&home);
    node.until_issue("directory_missing");
    std::fs::create_dir(&path).unwrap();
    node.until("it is primary", |status| status["state"] == "primary");
}

#[test]
fn a_directory_that_may_be_made_is_made_for_its_owner() {
    let home = Home::new();
    let path = home.beside("above/music");
    let config = json!({ "name": "pre", "app": { "command": ["sleep", "1000"] },
        "preflight": { "directories": [{ "path": path, "create": true, "owner": "1000:1000" }] } });
    let file = write_config(&home, &config);
    let node = Node::start_with(&home, &["--config", &file]);
    node.until_app();
    assert_eq!(owner(&path), APP);
    assert!(
        node.stderr().contains(&format!("startup: made {} for 1000:1000", path.display())),
        "{}",
        node.stderr()
    );
}

#[test]
fn a_umask_or_user_that_cannot_be_read_ends_the_start_with_78() {
    for (name, value) in [("UMASK", "zz"), ("PUID", "abc")] {
        let home = Home::new();
        let out =
            home.stead_in(&[(name, value)], &["run", "--listen", &home.address(), "--", "sleep", "1000"]);
        let told = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(78), "{told}");
        assert!(told.contains(&format!("cause: {name} is `{value}`")), "{told}");
    }
}

#[test]
fn the_apps_user_and_umask_are_those_of_the_environment() {
    let home = Home::new();
    let variables = [("PUID", "1000"), ("PGID", "100"), ("UMASK", "027")];
    let node = Node::spawn_with(&home, &["--", "sleep", "1000"], &variables);
    crate::support::until("the node answers", || node.try_get("/"));
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.until_app())).unwrap();
    let line = |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert_eq!(line("Uid:"), "Uid:\t1000\t1000\t1000\t1000");
    assert_eq!(
        (line("Gid:"), line("Umask:")),
        ("Gid:\t100\t100\t100\t100".to_owned(), "Umask:\t0027".to_owned())
    );
}
