//! Nodes whose store is another's: what they may do next.

use super::*;
use crate::support::Home;

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
