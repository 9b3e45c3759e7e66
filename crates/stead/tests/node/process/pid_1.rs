//! The supervisor as the first process of a container: it reaps what nobody else does, and its code is the container's.

use super::{app, unruly};
use crate::support::{Home, Node, children, private_kib, signal, until, until_within, zombies_of};
use serde_json::json;
use std::time::Duration;

const ORPHANS: &str = "10000";
/// Some milliseconds for each orphan, on a machine that does other things.
const ORPHANS_PATIENCE: Duration = Duration::from_secs(120);
/// Far more than it has, in any build, and far less than a few bytes for each orphan would add up to in a long life.
const PRIVATE_KIB_MAX: u64 = 32 << 10;

#[test]
fn pid_1_reaps_ten_thousand_orphans_and_ends_with_0_on_sigterm() {
    let home = Home::new();
    let mut node = Node::spawn_as_pid_1(&home, &[]).answering();
    let mut config = app("");
    config["app"]["command"] = json!([unruly(&home), "orphans", ORPHANS]);
    node.configure(&config);
    let supervisor = children(node.pid())[0];
    until_within(ORPHANS_PATIENCE, "all orphans are made", || {
        node.stdout().contains("orphans made").then_some(())
    });
    until("the node and the app are left", || (children(supervisor).len() == 2).then_some(()));
    until("no zombie is left", || (zombies_of(supervisor) == 0).then_some(()));
    let private = private_kib(supervisor);
    println!("the supervisor has {private} KiB for itself after {ORPHANS} orphans");
    assert!(private < PRIVATE_KIB_MAX, "{private} KiB");
    assert_eq!(node.status()["process"]["restarts"], 0);
    signal(supervisor, "TERM");
    assert_eq!(node.wait(), 0);
}

#[test]
fn the_containers_code_is_the_apps_where_the_node_ends_with_it() {
    for (script, code) in [("exit 7", 7), ("kill -SEGV $$", 128 + 11), ("kill -KILL $$", 128 + 9)] {
        let home = Home::new();
        let mut config = app(script);
        config["app"]["exit"] = json!(true);
        let file = home.beside("stead.json");
        std::fs::write(&file, config.to_string()).unwrap();
        let mut node = Node::spawn_as_pid_1(&home, &["--config", file.to_str().unwrap()]);
        assert_eq!(node.wait(), code, "{script}");
    }
}
