//! Stores that cannot be used: each has an issue of its own and a cure that works, and nothing is read from it in vain.

use super::proxy::{Act, Proxy};
use super::*;
use crate::support::Home;
use std::path::PathBuf;

/// A node's home and its store, a directory, with three rows sent.
struct Sent {
    home: Home,
    store: PathBuf,
}

impl Sent {
    fn new() -> Sent {
        let home = Home::new();
        let store = home.beside("store");
        std::fs::create_dir(&store).unwrap();
        let sent = Sent { home, store };
        let node = Node::configured(&sent.home, &sent.config());
        sent.home.db(NAME).insert_rows(3);
        until_sent(&node);
        let kept = sent.store.join(".stead/configuration");
        until("the configuration is kept", || kept.exists().then_some(()));
        node.stop();
        sent
    }

    fn url(&self) -> String {
        format!("file://{}", self.store.display())
    }

    fn config(&self) -> Value {
        json!({
            "name": "notes", "storage": { "url": self.url() },
            "app": { "command": ["sleep", "1000"], "env": { "API_KEY": "x" } },
        })
    }

    fn manifest(&self) -> PathBuf {
        self.store.join(".stead/manifest")
    }

    /// A home that never had this store is refused it with this issue.
    fn another_is_told(&self, code: &str, told: &str) {
        let home = Home::new();
        let node = Node::start(&home);
        node.configure(&self.config());
        let issue = node.until_issue(code);
        let (message, hint) = (issue["message"].as_str().unwrap(), issue["hint"].as_str().unwrap());
        assert!(message.contains(told) && !hint.is_empty(), "{issue:#}");
        assert_eq!(node.status()["process"]["pid"], Value::Null, "the app does not run");
    }

    /// Neither `--from` nor `stead db restore` brings anything, and each says what to do.
    fn nothing_is_read(&self, told: &str, cure: &str) {
        let home = Home::new();
        let mut from = Node::spawn_with(&home, &["--from", &self.url()], &[("API_KEY", "x")]);
        assert_eq!(from.wait(), 69, "{}", from.stderr());
        assert!(from.stderr().contains(told) && from.stderr().contains(cure), "{}", from.stderr());
        drop(from);
        let out = home.beside("out.db");
        let url = format!("{}/{NAME}", self.url());
        let restored = home.stead(&["db", "restore", &url, "-o", out.to_str().unwrap()]);
        let said = String::from_utf8_lossy(&restored.stderr).into_owned();
        assert_eq!(restored.status.code(), Some(69), "{said}");
        assert!(said.contains(told) && said.contains(cure) && !out.exists(), "{said}");
    }

    fn goes_on(&self) {
        let node = Node::start(&self.home);
        self.home.db(NAME).insert_rows(1);
        node.until_stored(NAME);
        node.until_well();
        node.stop();
    }
}

#[test]
fn a_manifest_that_cannot_be_used_is_told_and_nothing_is_read_without_it() {
    let sent = Sent::new();
    let good = std::fs::read(sent.manifest()).unwrap();
    let mut flipped = good.clone();
    let last = flipped.len() - 20;
    flipped[last] ^= 1;
    let mut newer = good.clone();
    newer[4..6].copy_from_slice(&9u16.to_be_bytes());
    for (bytes, code, told, cure) in [
        (flipped, "store_damaged", "it is damaged", "bring a former version of that object back"),
        (newer, "store_newer", "it has format 9", "the version of Stead that wrote it"),
    ] {
        std::fs::write(sent.manifest(), bytes).unwrap();
        sent.another_is_told(code, told);
        sent.nothing_is_read(told, cure);
        let node = Node::start(&sent.home);
        node.until_issue(code);
        node.stop();
        std::fs::write(sent.manifest(), &good).unwrap();
    }
    sent.goes_on();
}

#[test]
fn a_store_whose_manifest_is_gone_is_not_guessed_at() {
    let sent = Sent::new();
    let aside = sent.home.beside("manifest");
    std::fs::rename(sent.manifest(), &aside).unwrap();
    sent.another_is_told("store_emptied", "is missing, though");
    sent.nothing_is_read("is missing, though", "bring that object back");
    // Who had it last waits for it.
    let node = Node::start(&sent.home);
    let told = node.until_issue("store_missing");
    assert!(told["message"].as_str().unwrap().contains("has no .stead/manifest"), "{told:#}");
    node.until_app();
    std::fs::rename(&aside, sent.manifest()).unwrap();
    sent.home.db(NAME).insert_rows(1);
    node.until_stored(NAME);
    node.until_well();
}

#[test]
fn a_prefix_that_holds_something_else_is_left_as_it_is() {
    let home = Home::new();
    let store = home.beside("photos");
    std::fs::create_dir(&store).unwrap();
    std::fs::write(store.join("cat.jpg"), b"a cat").unwrap();
    let config = json!({
        "name": "notes", "storage": { "url": format!("file://{}", store.display()) },
        "app": { "command": ["sleep", "1000"] },
    });
    let node = Node::start(&home);
    node.configure(&config);
    let told = node.until_issue("store_foreign");
    assert!(told["message"].as_str().unwrap().contains("cat.jpg"), "{told:#}");
    assert_eq!(std::fs::read_dir(&store).unwrap().count(), 1, "nothing is written there");
    std::fs::remove_file(store.join("cat.jpg")).unwrap();
    node.until_app();
    home.db(NAME).insert_rows(1);
    node.until_stored(NAME);
    node.until_well();
}

#[test]
fn a_server_that_ignores_a_condition_is_refused() {
    let server = server(Kind::Versity);
    let way = Proxy::before(server.address());
    way.rule(|request| if request.is("PUT") && request.has("If-Match") { Act::Yes } else { Act::Pass });
    let home = Home::new();
    let mut config = config(&server);
    config["storage"]["endpoint"] = json!(way.endpoint());
    let node = Node::start(&home);
    node.configure(&config);
    let told = node.until_issue("store_unsupported");
    assert!(told["message"].as_str().unwrap().contains("If-Match"), "{told:#}");
    assert!(told["hint"].as_str().unwrap().contains("file://"), "{told:#}");
}

#[test]
fn a_bucket_that_is_deleted_under_a_node_is_told_with_its_own_cure() {
    let server = server(Kind::Versity);
    let home = Home::new();
    let node = Node::configured(&home, &config(&server));
    home.db(NAME).insert_rows(1);
    node.until_stored(NAME);
    let (bucket, aside) = (server.bucket_dir("volumes"), server.bucket_dir("volumes.aside"));
    std::fs::rename(&bucket, &aside).unwrap();
    home.db(NAME).insert_rows(1);
    let told = node.until_issue("store_failed");
    assert!(told["hint"].as_str().unwrap().contains("create it, or name another"), "{told:#}");
    node.until_app();
    std::fs::rename(&aside, &bucket).unwrap();
    node.until_stored(NAME);
    node.until_well();
}
