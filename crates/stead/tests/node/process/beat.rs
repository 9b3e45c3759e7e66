//! The node's word that the app may run on: without it the app is stopped.

use super::app;
use crate::support::{Home, Node, alive, app_pid, signal, until};

// semantics: frozen
#[test]
fn a_node_that_is_frozen_loses_its_app_and_is_replaced() {
    let home = Home::new();
    let node = Node::configured(&home, &app("sleep 1000 & echo $! > child; wait"));
    let (node_pid, pid) = (node.node_pid(), node.until_app());
    let child: u32 = until("its child", || home.read("child").trim().parse().ok());
    signal(node_pid, "STOP");
    until("the app is stopped", || (!alive(pid) && !alive(child)).then_some(()));
    until("the frozen node is gone", || (!alive(node_pid)).then_some(()));
    until("another node and app", || {
        let answer = node.try_get("/")?.json();
        (answer["process"]["state"] == "running" && app_pid(&answer) != pid).then_some(())
    });
    assert_ne!(node.node_pid(), node_pid);
}
