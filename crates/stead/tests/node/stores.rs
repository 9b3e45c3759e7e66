//! Nodes and the bucket that keeps their history: on real S3 servers.
//!
//! [`servers`] is the harness of the crate `store`.

use crate::support::{Home, Node, app_pid, count, database, issue, until};
use serde_json::{Value, json};
use servers::{ACCESS_KEY, Kind, SECRET_KEY, Server};

mod half;
mod kept;
mod owner;
#[path = "../../../store/tests/s3/proxy.rs"]
mod proxy;
mod reached;
#[path = "../../../store/tests/s3/support.rs"]
mod servers;
mod told;
mod wrong;

mod restored;

const NAME: &str = "data/database.sqlite";
const URL: &str = "s3://volumes/notes";

/// A server with the bucket of [`URL`].
fn server(kind: Kind) -> Server {
    let server = Server::start(kind);
    server.make_bucket("volumes");
    server
}

fn config(server: &Server) -> Value {
    json!({
        "name": "notes",
        "storage": {
            "url": URL, "endpoint": server.endpoint(), "region": "us-east-1",
            "access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY,
        },
        "app": { "command": ["sleep", "1000"], "env": { "API_KEY": "hunter2" } },
    })
}

/// What a machine that has nothing is given: the store's credentials.
fn credentials(server: &Server) -> Vec<(&'static str, String)> {
    vec![
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
        ("AWS_ENDPOINT_URL", server.endpoint()),
        ("AWS_REGION", "us-east-1".to_owned()),
    ]
}

fn spawn_from<'a>(home: &'a Home, server: &Server, more: &[(&str, &str)]) -> Node<'a> {
    let own = credentials(server);
    let variables: Vec<(&str, &str)> =
        own.iter().map(|(name, value)| (*name, value.as_str())).chain(more.iter().copied()).collect();
    Node::spawn_with(home, &["--from", URL], &variables)
}

/// Waits until the store has all that was committed before: a checkpoint looks at everything.
fn until_sent(node: &Node<'_>) {
    node.checkpoint("sent");
    node.until_stored(NAME);
}

fn outlives_its_machine(kind: Kind) {
    let server = server(kind);
    let lost = Home::new();
    let node = Node::configured(&lost, &config(&server));
    lost.db(NAME).insert_rows(10);
    node.until_stored(NAME);
    node.checkpoint("ten");
    lost.db(NAME).insert_rows(5);
    node.until_stored(NAME);
    node.stop();
    drop(lost);

    let home = Home::new();
    let mut refused = spawn_from(&home, &server, &[]);
    assert_eq!(refused.wait(), 78, "{}", refused.stderr());
    let told = refused.stderr();
    assert!(told.contains("app.env.API_KEY") && !told.contains("hunter2"), "{told}");
    drop(refused);

    let node = spawn_from(&home, &server, &[("API_KEY", "hunter2")]).answering();
    node.until_app();
    assert_eq!(count(&home.path(NAME)), 15);
    let listed = node.get("/checkpoint").ok();
    assert!(listed.to_string().contains(r#""id":"ten""#), "{listed}");
    node.restore("ten");
    assert_eq!(count(&home.path(NAME)), 10);
    home.db(NAME).insert_rows(1);
    node.checkpoint("eleven");
    node.until_stored(NAME);
    node.kill();

    let home = Home::new();
    let node = spawn_from(&home, &server, &[("API_KEY", "hunter2")]).answering();
    node.until_app();
    assert_eq!(count(&home.path(NAME)), 11);
    node.verify(NAME);
}

#[test]
fn a_volume_outlives_its_machine() {
    Kind::each().iter().for_each(|kind| outlives_its_machine(*kind));
}

#[test]
fn a_node_whose_store_was_taken_over_stops_its_app_and_says_so() {
    let server = server(Kind::Versity);
    let first = Home::new();
    let node = Node::configured(&first, &config(&server));
    first.db(NAME).insert_rows(3);
    node.until_stored(NAME);
    let app = node.until_app();

    let other = Home::new();
    let stranger = Node::start(&other);
    let refused = stranger.configure(&config(&server));
    let refused = issue(&refused, "databases_not_started").unwrap_or_else(|| panic!("{refused:#}"));
    assert!(refused["message"].as_str().unwrap().contains("belongs to node"), "{refused:#}");
    drop(stranger);

    let home = Home::new();
    let heir = spawn_from(&home, &server, &[("API_KEY", "x")]).answering();
    heir.until_app();
    first.db(NAME).insert_rows(1);
    node.until_issue("store_taken_over");
    node.until("what was not sent is counted", |status| {
        let found = database(status, NAME);
        found["stored_txid"].as_u64() < found["txid"].as_u64() && found["unstored"]["transactions"] == 1
    });
    let status = node.until("it stepped down", |status| status["state"] == "replica");
    assert_eq!((&status["role"], &status["process"]["pid"]), (&json!("replica"), &Value::Null));
    assert!(!crate::support::alive(app));
    node.post("/promote", &json!({})).refused(409, "not_now");
    assert_eq!(count(&home.path(NAME)), 3);
    // What only the first has is not lost, neither now nor once it has ended.
    let (now, later) = (first.beside("now.db"), first.beside("later.db"));
    let export = first.stead(&["db", "export", NAME, now.to_str().unwrap()]);
    assert!(export.status.success() && count(&now) == 4, "{export:?}");
    node.stop();
    let node = Node::start(&first);
    node.until_issue("store_taken_over");
    node.stop();
    let history = first.path(NAME);
    let restored = first.stead(&["db", "restore", history.to_str().unwrap(), "-o", later.to_str().unwrap()]);
    assert!(restored.status.success() && count(&later) == 4, "{restored:?}");
    assert_ne!(app_pid(&heir.status()), 0);
}

#[test]
fn what_is_written_while_the_store_is_down_is_sent_when_it_is_back() {
    let mut server = server(Kind::Versity);
    let home = Home::new();
    let node = Node::configured(&home, &config(&server));
    home.db(NAME).insert_rows(1);
    node.until_stored(NAME);
    server.kill();
    home.db(NAME).insert_rows(7);
    let told = node.until_issue("store_failed");
    assert!(told["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{told:#}");
    node.until_app();
    server.restart();
    node.checkpoint("all");
    node.until_stored(NAME);
    node.until_well();
    node.kill();
    let other = Home::new();
    let node = spawn_from(&other, &server, &[("API_KEY", "x")]).answering();
    node.until_app();
    until("it is there", || (count(&other.path(NAME)) == 8).then_some(()));
}

#[test]
fn a_second_signal_ends_a_node_that_still_sends_and_its_next_start_sends_the_rest() {
    let server = server(Kind::Versity);
    let home = Home::new();
    let mut node = Node::configured(&home, &config(&server));
    home.db(NAME).insert_rows(1);
    node.until_stored(NAME);
    server.freeze();
    home.db(NAME).insert_rows(2);
    node.until_sealed(NAME);
    let began = std::time::Instant::now();
    for _ in 0..2 {
        crate::support::signal(node.pid(), "TERM");
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
    assert_eq!(node.wait(), 0, "{}", node.stderr());
    assert!(began.elapsed() < std::time::Duration::from_secs(25), "storage.stop_timeout is 30 s");
    assert!(node.stderr().contains("what the store lacks is sent by the next start"), "{}", node.stderr());
    drop(node);
    server.go_on();
    let node = Node::start(&home);
    node.until_stored(NAME);
    assert_eq!(count(&home.path(NAME)), 3);
}
