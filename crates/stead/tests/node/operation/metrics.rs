//! What a node says of itself to a machine that asks every few seconds.

use super::{DATABASE, config, with_app};
use crate::support::{Home, Node, database, signal};

#[path = "../../../../api/tests/http/exposition.rs"]
mod exposition;
use exposition::Exposition;

/// All that it says.
pub fn metrics(node: &Node<'_>) -> Exposition {
    let answer = node.get("/metrics");
    assert_eq!(answer.status, 200);
    Exposition::parse(&String::from_utf8(answer.body).unwrap())
}

fn of_database(name: &str) -> String {
    format!("stead_database_{name}{{path=\"{DATABASE}\"}}")
}

#[test]
fn metrics_follow_a_node_through_its_life() {
    let home = Home::new();
    let node = Node::start(&home);
    let before = metrics(&node);
    assert_eq!(before.of("stead_node_state{state=\"unconfigured\"}"), 1.0);
    assert!(!before.has("stead_database_txid") && !before.has("stead_app_up"));

    let mut config = config();
    config["storage"]["url"] = format!("file://{}", home.beside("store").display()).into();
    node.configure(&config);
    home.db(DATABASE).insert_rows(5);
    node.until_stored(DATABASE);
    node.checkpoint("first");
    let after = metrics(&node);
    assert_eq!(after.of("stead_node_state{state=\"primary\"}"), 1.0);
    assert_eq!((after.of("stead_lease_held"), after.of("stead_checkpoints")), (1.0, 1.0));
    assert!(after.of("stead_checkpoint_newest_timestamp_seconds") > 1_700_000_000.0);
    let txid = database(&node.status(), DATABASE)["txid"].as_f64().unwrap();
    assert_eq!(after.of(&of_database("txid")), txid);
    assert_eq!(after.of(&of_database("stored_txid")), txid);
    assert_eq!((after.of(&of_database("ok")), after.of(&of_database("lag_seconds"))), (1.0, 0.0));
    assert!(after.of(&format!("stead_history_local_bytes{{path=\"{DATABASE}\"}}")) > 100.0);
    assert_eq!(after.of("stead_component_ok{component=\"storage\"}"), 1.0);
    let posted = "stead_http_requests_total{route=\"/config\",method=\"POST\",status=\"200\"}";
    assert_eq!(after.of(posted), 1.0);
}

#[test]
fn metrics_count_the_ends_of_an_app() {
    let home = Home::new();
    let node = Node::configured(&home, &with_app());
    let pid = node.until_app();
    let up = metrics(&node);
    assert_eq!((up.of("stead_app_up"), up.of("stead_app_restarts_total")), (1.0, 0.0));
    assert!(!up.has("stead_app_last_exit_timestamp_seconds"));
    signal(pid, "KILL");
    node.until("the app runs again", |status| status["process"]["restarts"] == 1);
    let again = metrics(&node);
    assert_eq!(again.of("stead_app_restarts_total"), 1.0);
    let ended = "stead_app_last_exit_timestamp_seconds{code=\"\",signal=\"SIGKILL\"}";
    assert!(again.of(ended) > 1_700_000_000.0);
}
