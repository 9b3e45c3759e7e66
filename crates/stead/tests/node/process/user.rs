//! `app.user`: as whom the app runs, and that there is no way back.

use super::app;
use crate::support::{Home, Node, until};
use serde_json::json;

/// A line of `/proc/self/status`, its fields separated by spaces.
fn field(status: &str, name: &str) -> String {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

// semantics: user
#[test]
fn the_app_and_what_runs_before_it_are_their_user_in_every_respect() {
    let home = Home::new();
    let mut config = app("cat /proc/self/status; echo whole; exec sleep 1000");
    config["app"]["user"] = json!("65534:65533");
    config["app"]["before"] = json!(["cat /proc/self/status", "echo whole"]);
    let node = Node::configured(&home, &config);
    node.until_app();
    let printed = until("both wrote", || {
        let printed = node.stdout();
        (printed.matches("whole").count() == 2).then_some(printed)
    });
    for status in printed.split("whole").take(2) {
        assert_eq!(field(status, "Uid:"), "65534 65534 65534 65534", "{status}");
        assert_eq!(field(status, "Gid:"), "65533 65533 65533 65533");
        assert_eq!(field(status, "Groups:"), "65533");
        assert_eq!(field(status, "CapEff:"), "0000000000000000");
        assert_eq!(field(status, "CapPrm:"), "0000000000000000");
    }
}
