//! Nodes whose store is another's: what they may do next.

use super::*;
use crate::support::Home;
use std::path::Path;

/// The same, in another place of the bucket.
fn elsewhere(server: &Server) -> Value {
    let mut config = config(server);
    config["storage"]["url"] = json!("s3://volumes/elsewhere");
    config
}

#[test]
fn whoever_was_refused_a_store_goes_on_with_another() {
    let server = server(Kind::Versity);
    let first = Home::new();
    let owner = Node::configured(&first, &config(&server));
    owner.until_app();
    let home = Home::new();
    let node = Node::start(&home);
    let refused = node.configure(&config(&server));
    assert!(issue(&refused, "store_taken_over").is_some(), "{refused:#}");
    node.request("PUT", "/config", &elsewhere(&server).to_string()).ok();
    node.until_app();
    node.until_well();
    home.db(NAME).insert_rows(1);
    node.until_stored(NAME);
    assert_eq!(issue(&owner.status(), "store_taken_over"), None);
}

#[test]
fn whoever_has_lost_a_store_goes_on_with_another() {
    let server = server(Kind::Versity);
    let first = Home::new();
    let node = Node::configured(&first, &config(&server));
    first.db(NAME).insert_rows(3);
    until_sent(&node);
    let other = Home::new();
    let heir = spawn_from(&other, &server, &[("API_KEY", "x")]).answering();
    heir.until_app();
    first.db(NAME).insert_rows(1);
    node.until_issue("store_taken_over");
    node.until("it stepped down", |status| status["state"] == "replica");

    node.request("DELETE", "/config", "").ok();
    node.configure(&elsewhere(&server));
    node.until_app();
    node.until_well();
    node.until_stored(NAME);
    assert_eq!((count(&first.path(NAME)), count(&other.path(NAME))), (4, 3));
}

// semantics: copied-without-a-node
/// A home that came from a store has no beginning of its own, and one that was killed has not sealed everything.
#[test]
fn what_only_a_home_has_whose_store_is_anothers_now_can_be_copied_from_it() {
    let store = Home::new();
    let url = format!("file://{}", store.beside("store").display());
    let config = json!({ "name": "notes", "storage": { "url": url, "sync_interval": "1h" } });
    let first = Home::new();
    let node = Node::configured(&first, &config);
    first.db(NAME).insert_rows(3);
    node.checkpoint("sealed");
    node.until_stored(NAME);
    node.stop();
    let second = Home::new();
    let node = Node::spawn(&second, &["--from", &url]).answering();
    until("it is there", || (count(&second.path(NAME)) == 3).then_some(()));
    node.until_well();
    second.db(NAME).insert_rows(4);
    node.kill();
    let third = Home::new();
    let _heir = Node::spawn(&third, &["--from", &url]).answering();
    until("it is there", || (count(&third.path(NAME)) == 3).then_some(()));

    let node = Node::start(&second);
    node.until_issue("store_taken_over");
    let copies = [second.beside("while.db"), second.beside("after.db")];
    let export = |file: &Path| second.stead(&["db", "export", NAME, file.to_str().unwrap(), "--offline"]);
    let before = std::fs::read(second.path(NAME)).unwrap();
    let told = export(&copies[0]);
    assert!(told.status.success() && count(&copies[0]) == 7, "{told:?}");
    node.stop();
    let told = export(&copies[1]);
    assert!(told.status.success() && count(&copies[1]) == 7, "{told:?}");
    assert_eq!(std::fs::read(second.path(NAME)).unwrap(), before, "it stays as it is");
    assert!(!export(&copies[1]).status.success(), "nothing is overwritten");
}
