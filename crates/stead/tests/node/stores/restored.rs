//! Single databases from a bucket, without a node: `stead db restore s3://…`; and volumes beside an older file.

use super::servers::{Kind, Server};
use super::{NAME, URL, config, credentials, server, spawn_from};
use crate::support::{Home, Node, STEAD, clean, count, database, integrity, until};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Output;

/// `stead db restore` of a database in the store.
fn restore(home: &Home, server: &Server, output: &Path, more: &[&str]) -> Output {
    let own = credentials(server);
    let variables: Vec<(&str, &str)> = own.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let url = format!("{URL}/{NAME}");
    let mut args = vec!["db", "restore", &url, "-o", output.to_str().unwrap(), "--json"];
    args.extend(more);
    home.stead_in(&variables, &args)
}

fn told(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// Every object below a history.
fn objects(server: &Server) -> Vec<PathBuf> {
    let base = server.bucket_dir("volumes").join("notes").join(NAME);
    let levels = std::fs::read_dir(&base).unwrap().flatten().map(|level| level.path());
    levels.flat_map(|level| std::fs::read_dir(level).unwrap().flatten().map(|file| file.path())).collect()
}

// semantics: restored-without-a-node
#[test]
fn a_database_is_restored_from_a_bucket_that_a_node_goes_on_writing_to() {
    let server = server(Kind::Versity);
    let home = Home::new();
    let node = Node::configured(&home, &config(&server));
    home.db(NAME).insert_rows(10);
    node.checkpoint("ten");
    node.until_stored(NAME);
    let ten = database(&node.status(), NAME)["txid"].to_string();
    home.db(NAME).insert_rows(5);
    node.checkpoint("fifteen");
    node.until_stored(NAME);

    let elsewhere = Home::new();
    let (newest, earlier) = (elsewhere.beside("newest.db"), elsewhere.beside("earlier.db"));
    let done = restore(&elsewhere, &server, &newest, &[]);
    assert!(done.status.success(), "{done:?}");
    assert_eq!((count(&newest), integrity(&newest).as_str()), (15, "ok"));
    let answer = told(&done);
    assert!(answer["history"].as_str().unwrap().ends_with(NAME), "{answer}");
    let done = restore(&elsewhere, &server, &earlier, &["--txid", &ten, "--endpoint", &server.endpoint()]);
    assert!(done.status.success(), "{done:?}");
    assert_eq!((count(&earlier), told(&done)["txid"].to_string()), (10, ten));
    let again = restore(&elsewhere, &server, &earlier, &[]);
    assert_eq!(again.status.code(), Some(71), "nothing is overwritten: {again:?}");

    // Its node has the store as before.
    home.db(NAME).insert_rows(1);
    node.until_stored(NAME);
    node.until_well();
    let left = std::fs::read_dir(newest.parent().unwrap()).unwrap().flatten();
    let left: Vec<_> = left.map(|entry| entry.file_name().into_string().unwrap()).collect();
    assert!(left.iter().all(|name| !name.contains("stead-restore")), "{left:?}");
}

#[test]
fn a_wrong_name_a_wrong_key_and_a_silent_server_are_told_apart() {
    let mut server = server(Kind::Versity);
    let home = Home::new();
    let node = Node::configured(&home, &config(&server));
    home.db(NAME).insert_rows(1);
    node.until_stored(NAME);
    node.stop();
    let own = credentials(&server);
    let variables: Vec<(&str, &str)> = own.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let out = home.beside("out.db");
    let refused = |variables: &[(&str, &str)], url: &str| {
        let done = home.stead_in(variables, &["db", "restore", url, "-o", out.to_str().unwrap()]);
        assert!(!out.exists());
        (done.status.code().unwrap(), String::from_utf8(done.stderr).unwrap())
    };
    let (code, text) = refused(&variables, &format!("{URL}/data/other.db"));
    assert!(code == 71 && text.contains("s3://volumes/notes has") && text.contains(NAME), "{code} {text}");
    let (code, text) = refused(&variables, "s3://volumes/elsewhere/data/a.db");
    assert!(code == 71 && text.contains("there is no .stead/manifest"), "{code} {text}");
    let (code, text) = refused(&variables, "s3://nowhere/notes/data/a.db");
    assert!(code == 69 && text.contains("check the bucket's name"), "{code} {text}");
    let wrong: Vec<(&str, &str)> = variables
        .iter()
        .map(|(name, value)| (*name, if *name == "AWS_SECRET_ACCESS_KEY" { "wrong" } else { value }))
        .collect();
    let (code, text) = refused(&wrong, &format!("{URL}/{NAME}"));
    assert!(code == 69 && text.contains("AWS_SECRET_ACCESS_KEY"), "{code} {text}");
    server.kill();
    let (code, text) = refused(&variables, &format!("{URL}/{NAME}"));
    assert!(code == 69 && text.contains("--endpoint"), "{code} {text}");
}

// semantics: damage-named
#[test]
fn a_truncated_or_flipped_object_gives_an_error_that_names_it_and_never_a_database() {
    let server = server(Kind::Versity);
    let home = Home::new();
    let node = Node::configured(&home, &config(&server));
    home.db(NAME).insert_rows(200);
    node.until_stored(NAME);
    home.db(NAME).insert_rows(1);
    node.until_stored(NAME);
    node.stop();
    let out = home.beside("out.db");
    for object in objects(&server) {
        let right = std::fs::read(&object).unwrap();
        let mut flipped = right.clone();
        flipped[right.len() / 2] ^= 1;
        for wrong in [&right[..right.len() - 1], &right[..50], &flipped] {
            std::fs::write(&object, wrong).unwrap();
            let done = restore(&home, &server, &out, &[]);
            if done.status.success() {
                // What a later seal replaced is not read.
                assert_eq!((count(&out), integrity(&out).as_str()), (201, "ok"));
                std::fs::remove_file(&out).unwrap();
                continue;
            }
            assert!(!out.exists());
            let text = String::from_utf8_lossy(&done.stderr);
            let name = object.file_name().unwrap().to_str().unwrap();
            assert!(done.status.code() == Some(1) && text.contains(name), "{name}: {done:?}");
        }
        std::fs::write(&object, &right).unwrap();
    }
    let done = restore(&home, &server, &out, &[]);
    assert!(done.status.success(), "{done:?}");
    assert_eq!(count(&out), 201);
}

// semantics: older-copy
#[test]
fn a_machine_that_was_away_goes_on_with_its_older_file() {
    let server = server(Kind::Versity);
    let first = Home::new();
    let node = Node::configured(&first, &config(&server));
    first.db(NAME).insert_rows(100);
    node.until_stored(NAME);
    node.stop();
    let old = std::fs::read(first.path(NAME)).unwrap();

    let second = Home::new();
    let node = spawn_from(&second, &server, &[("API_KEY", "x")]).answering();
    node.until_app();
    second.db(NAME).insert_rows(7);
    node.until_stored(NAME);
    node.stop();

    let back = Home::new();
    std::fs::create_dir_all(back.path(NAME).parent().unwrap()).unwrap();
    std::fs::write(back.path(NAME), old).unwrap();
    let node = spawn_from(&back, &server, &[("API_KEY", "x")]).answering();
    node.until_app();
    assert_eq!((count(&back.path(NAME)), integrity(&back.path(NAME)).as_str()), (107, "ok"));
    assert!(node.stderr().contains("only what changed since is fetched"), "{}", node.stderr());
    node.verify(NAME);
}

/// `stead db follow`, ended when it goes.
struct Follower(std::process::Child);

impl Follower {
    fn begin(home: &Home, server: &Server, file: &Path) -> Follower {
        let mut command = std::process::Command::new(STEAD);
        let said = std::fs::File::options().create(true).append(true).open(home.beside("followed")).unwrap();
        clean(&mut command)
            .envs(credentials(server))
            .args(["db", "follow", &format!("{URL}/{NAME}"), file.to_str().unwrap(), "--every", "200ms"])
            .stdin(std::process::Stdio::null())
            .stdout(said.try_clone().unwrap())
            .stderr(said);
        Follower(command.spawn().unwrap())
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

// semantics: followed-without-a-node
#[test]
fn a_file_follows_a_database_of_a_bucket_that_a_node_writes_to() {
    let mut server = server(Kind::Versity);
    let home = Home::new();
    let node = Node::configured(&home, &config(&server));
    home.db(NAME).insert_rows(10);
    node.until_stored(NAME);

    let elsewhere = Home::new();
    let file = elsewhere.beside("copy.db");
    let rows = |wanted: i64| {
        until(&format!("{wanted} rows"), || (file.exists() && count(&file) == wanted).then_some(()));
        assert_eq!(integrity(&file), "ok");
    };
    let follower = Follower::begin(&elsewhere, &server, &file);
    rows(10);
    home.db(NAME).insert_rows(5);
    rows(15);
    server.kill();
    home.db(NAME).insert_rows(2);
    let said = || std::fs::read_to_string(elsewhere.beside("followed")).unwrap();
    until("it says that the store is away", || said().contains("cannot be read").then_some(()));
    rows(15);
    server.restart();
    rows(17);
    drop(follower);

    home.db(NAME).insert_rows(1);
    node.until_stored(NAME);
    // It goes on with what is there.
    let follower = Follower::begin(&elsewhere, &server, &file);
    rows(18);

    // Somebody's own work is left alone, by the one that runs and by another one.
    let changed = rusqlite::Connection::open(&file).unwrap();
    changed.execute_batch("PRAGMA journal_mode=DELETE; CREATE TABLE mine(x)").unwrap();
    drop(changed);
    home.db(NAME).insert_rows(1);
    let mut refused = follower;
    for _ in 0..2 {
        assert_eq!(refused.0.wait().unwrap().code(), Some(71), "{}", said());
        assert!(said().contains("is no state that the history of"), "{}", said());
        assert_eq!(count(&file), 18);
        refused = Follower::begin(&elsewhere, &server, &file);
    }
}
