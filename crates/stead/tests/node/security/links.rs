//! Links and directories that another user plants where a node of root's writes.

use super::{OTHER, chmod, give_to_other, other_does, visible_home};
use crate::support::{Db, Home, Node, issue};
use serde_json::json;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

const PRECIOUS: &str = "precious";

/// A file of root's that nobody else may write to.
fn victim(home: &Home) -> PathBuf {
    let path = home.beside("victim");
    std::fs::write(&path, PRECIOUS).unwrap();
    chmod(&path, 0o600);
    path
}

fn untouched(path: &std::path::Path) {
    let found = std::fs::metadata(path).unwrap();
    assert_eq!((found.uid(), found.mode() & 0o777), (0, 0o600), "{} changed hands", path.display());
    assert_eq!(std::fs::read_to_string(path).unwrap(), PRECIOUS);
}

/// A home that everyone may write to, before its first start.
fn open_home() -> Home {
    let home = visible_home();
    std::fs::create_dir(home.root()).unwrap();
    chmod(home.root(), 0o777);
    home
}

/// A home whose `data/` belongs to the attacker, as it does where an application of theirs runs.
fn their_data() -> Home {
    let home = visible_home();
    std::fs::create_dir_all(home.path("data")).unwrap();
    give_to_other(&home.path("data"));
    home
}

#[test]
fn a_private_directory_that_another_user_made_is_refused() {
    let home = open_home();
    let victim = victim(&home);
    let root = home.root().display();
    other_does(&format!(
        "mkdir {root}/.stead; for f in supervisor.lock lock app.cookie.tmp node.json.tmp api.sock; do \
         ln -s {} {root}/.stead/$f; done",
        victim.display()
    ));
    let mut node = Node::spawn(&home, &[]);
    assert_eq!(node.wait(), 71);
    assert!(node.stderr().contains(&format!("it belongs to uid {OTHER}")), "{}", node.stderr());
    assert!(node.stderr().contains("chown"), "{}", node.stderr());
    untouched(&victim);
}

#[test]
fn a_configuration_that_another_user_left_is_not_run() {
    let home = open_home();
    let (root, proof) = (home.root().display(), home.beside("proof"));
    let config = json!({ "name": "x", "app": { "command": ["touch", proof.display().to_string()] } });
    other_does(&format!("mkdir {root}/tmp; echo '{config}' > {root}/tmp/config.json"));
    let mut node = Node::spawn(&home, &[]);
    assert_eq!(node.wait(), 71);
    assert!(node.stderr().contains(&format!("it belongs to uid {OTHER}")), "{}", node.stderr());
    assert!(!proof.exists());
}

#[test]
fn a_link_in_the_place_of_a_history_is_not_written_through() {
    let home = their_data();
    let away = home.beside("away");
    std::fs::create_dir(&away).unwrap();
    let data = home.path("data");
    other_does(&format!("ln -s {} {}/database.sqlite-litestream", away.display(), data.display()));
    let node = Node::start(&home);
    let _ = node.post("/config", &json!({ "name": "mine" }));
    let status = node.until("it is said", |status| !status["issues"].as_array().unwrap().is_empty());
    assert!(status["issues"].to_string().contains("symbolic link"), "{status:#}");
    assert_eq!(std::fs::read_dir(&away).unwrap().count(), 0, "something was written there");
}

#[test]
fn a_link_in_the_place_of_a_database_is_not_followed() {
    let home = their_data();
    let (secret, data) = (home.beside("secret.db"), home.path("data"));
    Db::open(&secret).insert_rows(3);
    chmod(&secret, 0o600);
    let hard = home.path("data/hard.db");
    std::fs::hard_link(&secret, &hard).unwrap();
    other_does(&format!("ln -s {} {}/soft.db", secret.display(), data.display()));
    let node = Node::configured(
        &home,
        &json!({ "name": "mine", "databases": [{ "dir": "data", "pattern": "*.db" }] }),
    );
    let status = node.until("both are refused", |status| {
        status["databases"].as_array().unwrap().iter().filter(|one| one["issue"].is_string()).count() == 2
    });
    for database in status["databases"].as_array().unwrap() {
        assert!(database["issue"].as_str().unwrap().contains("not followed"), "{database:#}");
        assert_eq!(database["txid"], 0);
    }
    assert_eq!(std::fs::metadata(&secret).unwrap().uid(), 0);
    for name in ["soft.db-litestream/ltx/0", "hard.db-litestream/ltx/0"] {
        assert_eq!(home.list(&format!("data/{name}")), [""; 0], "{name}");
    }
}

#[test]
fn a_log_of_a_database_that_is_a_link_is_not_written_through() {
    let home = their_data();
    let victim = victim(&home);
    let data = home.path("data").display().to_string();
    other_does(&format!(
        "sqlite3 {data}/a.db 'PRAGMA journal_mode=WAL; CREATE TABLE t(x)'; \
         ln -s {0} {data}/a.db-wal; ln -s {0} {data}/a.db-shm",
        victim.display()
    ));
    let node = Node::configured(
        &home,
        &json!({ "name": "mine", "databases": [{ "dir": "data", "pattern": "*.db" }] }),
    );
    node.until("it is refused", |status| status["databases"][0]["issue"].is_string());
    untouched(&victim);
}

/// The application's user owns `data/`; what Stead gives to it must be what Stead made.
#[test]
fn a_planted_name_gives_the_apps_user_nothing() {
    let home = their_data();
    let victim = victim(&home);
    std::fs::hard_link(&victim, home.path("data/database.sqlite-shm")).unwrap();
    other_does(&format!("ln -s {} {}/database.sqlite-wal", victim.display(), home.path("data").display()));
    let node = Node::start(&home);
    let app = json!({ "command": ["sleep", "1000"], "user": format!("{OTHER}:{OTHER}") });
    let _ = node.post("/config", &json!({ "name": "mine", "app": app }));
    node.until("the configuration is taken", |status| status["configured"] == true);
    let status = node.until("it is said", |status| {
        issue(status, "database_failed").is_some() || !status["issues"].as_array().unwrap().is_empty()
    });
    drop(status);
    node.stop();
    untouched(&victim);
}
