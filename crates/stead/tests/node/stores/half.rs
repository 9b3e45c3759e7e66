//! Homes of which one half is lost: what is left may be more than the store has, or something else.

use super::*;
use crate::support::Home;
use std::path::{Path, PathBuf};

/// The databases and the node's own are there, and the store has all of the first ten rows, but not of seven more.
fn ahead_by_seven(home: &Home, server: &mut Server) {
    let node = Node::configured(home, &config(server));
    home.db(NAME).insert_rows(10);
    until_sent(&node);
    let kept = server.bucket_dir("volumes").join("notes/.stead/configuration");
    until("the configuration is kept", || kept.exists().then_some(()));
    server.kill();
    home.db(NAME).insert_rows(7);
    // It looks at everything, and seals it.
    node.checkpoint("here-only");
    node.kill();
    server.restart();
}

fn lose(home: &Home, what: &str) {
    std::fs::remove_dir_all(home.path(what)).unwrap();
}

// semantics: half-a-home
#[test]
fn what_a_home_without_its_ledger_has_beyond_the_store_is_sent_and_counts() {
    let mut server = server(Kind::Versity);
    let home = Home::new();
    ahead_by_seven(&home, &mut server);
    lose(&home, ".stead");

    let node = spawn_from(&home, &server, &[("API_KEY", "x")]).answering();
    node.until_app();
    assert_eq!(count(&home.path(NAME)), 17);
    assert!(node.stderr().contains("this home had more than the store"), "{}", node.stderr());
    node.until_stored(NAME);
    node.until_well();
    node.verify(NAME);
    node.kill();

    let other = Home::new();
    let node = spawn_from(&other, &server, &[("API_KEY", "x")]).answering();
    node.until_app();
    assert_eq!(count(&other.path(NAME)), 17);
}

/// Another machine has gone on with the store, and the one before with its own databases.
fn gone_on_twice(home: &Home, server: &mut Server) {
    ahead_by_seven(home, server);
    let other = Home::new();
    let heir = spawn_from(&other, server, &[("API_KEY", "x")]).answering();
    heir.until_app();
    other.db(NAME).insert_rows(3);
    heir.until_stored(NAME);
    heir.stop();
    lose(home, ".stead");
}

/// Every file below a directory, with what it holds.
fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            found.push((path.clone(), std::fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

// semantics: half-a-home
#[test]
fn a_home_that_went_on_otherwise_than_the_store_is_refused_before_either_is_touched() {
    let mut server = server(Kind::Versity);
    let home = Home::new();
    gone_on_twice(&home, &mut server);
    let bucket = server.bucket_dir("volumes");
    let (stored, here) = (contents(&bucket), contents(&home.path("data")));

    let own = credentials(&server);
    let mut environment: Vec<(&str, &str)> = own.iter().map(|(name, text)| (*name, text.as_str())).collect();
    environment.push(("API_KEY", "x"));
    // As somebody brings it up, and as it starts with the configuration that is left.
    for args in [&["--from", URL][..], &[]] {
        let mut refused = Node::spawn_with(&home, args, &environment);
        assert_eq!(refused.wait(), 71, "{}", refused.stderr());
        let told = refused.stderr();
        let wanted = [NAME, "in this home", "in the store", "data/database.sqlite-litestream"];
        assert!(wanted.iter().all(|part| told.contains(part)), "{told}");
        assert!(!home.exists(".stead/ledger.sqlite") && !home.exists(".stead/recovering"));
        assert!(contents(&bucket) == stored, "the store was changed");
        assert!(contents(&home.path("data")) == here, "the home was changed");
    }

    let aside = home.beside("aside");
    std::fs::rename(home.path("data"), &aside).unwrap();
    let node = spawn_from(&home, &server, &[("API_KEY", "x")]).answering();
    node.until_app();
    assert_eq!(count(&home.path(NAME)), 13);
    let (kept, out) = (aside.join("database.sqlite-litestream"), home.beside("kept.db"));
    let done = home.stead(&["db", "restore", kept.to_str().unwrap(), "-o", out.to_str().unwrap()]);
    assert!(done.status.success(), "{done:?}");
    assert_eq!(count(&out), 17);
}

// semantics: half-a-home
#[test]
fn a_home_that_lost_its_databases_says_what_the_store_cannot_give_back() {
    let mut server = server(Kind::Versity);
    let home = Home::new();
    ahead_by_seven(&home, &mut server);
    lose(&home, "data");

    let node = spawn_from(&home, &server, &[("API_KEY", "x")]).answering();
    node.until_app();
    assert_eq!(count(&home.path(NAME)), 10);
    let told = node.until_issue("history_damaged");
    assert!(told["path"] == NAME && told["message"].as_str().unwrap().contains("was sealed"), "{told:#}");
    home.db(NAME).insert_rows(1);
    node.until_stored(NAME);
    node.verify(NAME);
}

// semantics: ledger-lost
#[test]
fn a_home_that_lost_its_ledger_alone_has_it_back_from_its_store_with_the_checkpoints() {
    let mut server = server(Kind::Versity);
    let home = Home::new();
    let node = Node::configured(&home, &config(&server));
    home.db(NAME).insert_rows(10);
    node.checkpoint("ten");
    home.db(NAME).insert_rows(1);
    until_sent(&node);
    let ledger = server.bucket_dir("volumes").join("notes/.stead/ledger.sqlite/0000");
    let seals = || std::fs::read_dir(&ledger).map_or(0, Iterator::count);
    until("the ledger is sent", || (seals() > 0).then_some(()));
    let before = seals();
    node.checkpoint("last");
    until("the last checkpoint is sent", || (seals() > before).then_some(()));
    node.kill();
    lose_ledger(&home);

    // Without it the checkpoints would be lost.
    server.kill();
    let mut refused = Node::spawn(&home, &[]);
    assert_eq!(refused.wait(), 69, "{}", refused.stderr());
    let told = refused.stderr();
    assert!(told.contains("the ledger of this home is lost") && told.contains(".stead/store.json"), "{told}");
    assert!(!home.exists(".stead/ledger.sqlite"));
    drop(refused);

    server.restart();
    let node = Node::spawn(&home, &[]).answering();
    node.until_app();
    assert_eq!(count(&home.path(NAME)), 11);
    let listed = node.get("/checkpoint").ok().to_string();
    assert!(["ten", "sent"].iter().all(|id| listed.contains(&format!(r#""id":"{id}""#))), "{listed}");
    node.restore("ten");
    assert_eq!(count(&home.path(NAME)), 10);
    node.until_well();
    node.stop();

    // Wanted on purpose.
    server.kill();
    lose_ledger(&home);
    std::fs::remove_file(home.path(".stead/store.json")).unwrap();
    let node = Node::spawn(&home, &[]).answering();
    node.until_app();
    assert_eq!(count(&home.path(NAME)), 10);
}

fn lose_ledger(home: &Home) {
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(home.path(&format!(".stead/ledger.sqlite{suffix}")));
    }
}

// semantics: ledger-lost
#[test]
fn a_home_that_lost_its_ledger_begins_none_where_its_configuration_does_not_lead_to_the_store() {
    let server = server(Kind::Versity);
    let home = Home::new();
    let node = Node::configured(&home, &config(&server));
    home.db(NAME).insert_rows(3);
    node.checkpoint("three");
    until_sent(&node);
    node.stop();
    lose_ledger(&home);
    let saved = home.path("tmp/config.json");
    let kept = std::fs::read(&saved).unwrap();

    let mut elsewhere = config(&server);
    elsewhere["storage"]["url"] = json!("s3://volumes/elsewhere");
    for saves in [None, Some(elsewhere.to_string())] {
        std::fs::remove_file(&saved).unwrap();
        saves.iter().for_each(|text| std::fs::write(&saved, text).unwrap());
        let mut refused = Node::spawn(&home, &[]);
        assert_eq!(refused.wait(), 78, "{}", refused.stderr());
        let told = refused.stderr();
        assert!(told.contains(&format!("--from {URL}")), "{told}");
        assert!(!home.exists(".stead/ledger.sqlite"));
        std::fs::write(&saved, &kept).unwrap();
    }

    // Another one has it by now.
    let other = Home::new();
    let heir = spawn_from(&other, &server, &[("API_KEY", "x")]).answering();
    heir.until_app();
    let mut refused = Node::spawn(&home, &[]);
    assert_eq!(refused.wait(), 69, "{}", refused.stderr());
    assert!(refused.stderr().contains("belongs to node"), "{}", refused.stderr());
    assert!(!home.exists(".stead/ledger.sqlite"));
    drop(refused);
    heir.stop();
    let node = Node::spawn(&home, &[]).answering();
    node.until_app();
    assert!(node.get("/checkpoint").ok().to_string().contains(r#""id":"three""#));
}

/// A node that was refused has begun a ledger with nothing in it.
// semantics: taken-over
#[test]
fn a_home_that_was_refused_another_nodes_store_may_take_it_over_afterwards() {
    let server = server(Kind::Versity);
    let first = Home::new();
    let node = Node::configured(&first, &config(&server));
    first.db(NAME).insert_rows(3);
    node.checkpoint("three");
    until_sent(&node);

    let home = Home::new();
    let refused = Node::configured(&home, &config(&server));
    refused.until_issue("store_taken_over");
    refused.stop();
    assert!(home.exists(".stead/ledger.sqlite"));
    let heir = spawn_from(&home, &server, &[("API_KEY", "x")]).answering();
    heir.until_app();
    assert_eq!(count(&home.path(NAME)), 3);
    assert!(heir.get("/checkpoint").ok().to_string().contains(r#""id":"three""#));
    drop(node);
}

/// Nothing was ever recorded in its ledger, and it is this home's all the same.
#[test]
fn a_volume_without_any_database_starts_while_its_store_is_away() {
    let mut server = server(Kind::Versity);
    let home = Home::new();
    let node = Node::configured(&home, &config(&server));
    node.until_app();
    until("the store is taken", || home.exists(".stead/store.json").then_some(()));
    node.stop();
    server.kill();
    let node = Node::start(&home);
    node.until_app();
    assert_eq!(node.status()["store"]["state"], "away");
}
