//! The keys of `litefs.yml`, LiteFS 0.5.

use super::Fate::{Not, To};
use super::{Draft, Fate, Leaf, settle};
use serde_json::{Value, json};

/// The keys by which such a file is told.
pub const KEYS: &[&str] = &[
    "fuse",
    "data",
    "lease",
    "http",
    "proxy",
    "backup",
    "tracing",
    "exit-on-error",
    "skip-sync",
    "strict-verify",
    "log",
];

const PROXY: Fate = Not("has no equivalent in `proxy`, which is not in this version");
const CLOUD: Fate = Not("is for LiteFS Cloud, which is shut: give the history a place with `storage.url`");
const TRACING: Fate = Not("has no equivalent: `log.level: trace` says the most");
const CLUSTER: Fate = Not("is for several nodes, which are not in this version");

const TABLE: &[(&str, Fate)] = &[
    ("exit-on-error", Not("has no equivalent: a node stays up and shows in `stead status` what failed")),
    ("skip-sync", Not("has no equivalent: the app starts once its databases are ready")),
    ("strict-verify", Not("is not needed: every change is checked with a checksum of the whole database")),
    (
        "data.dir",
        Not("is LiteFS's own: write each database out with `litefs export`, into data/ of Stead's home"),
    ),
    ("data.compress", Not("is not needed: history is always compressed")),
    (
        "data.retention",
        Not(
            "is for replicas that fall behind; `retention.keep` is how far back a restore reaches, 30d by default",
        ),
    ),
    ("data.retention-monitor-interval", Not("is not needed: history is thinned by itself")),
    ("fuse.dir", To("mount.path")),
    ("fuse.*", Not("belongs to `mount.options`, which are not in this version")),
    ("http.snapshot-timeout", Not("has no equivalent")),
    ("proxy.target", To("proxy.target")),
    ("proxy.*", PROXY),
    ("lease.type", To("lease.type")),
    ("lease.advertise-url", To("cluster.advertise")),
    ("lease.hostname", Not("has no equivalent: a node is called as its machine")),
    ("lease.consul.ttl", To("lease.ttl")),
    ("lease.*", CLUSTER),
    ("backup.*", CLOUD),
    ("log.format", To("log.format")),
    ("log.timestamp", Not("is not needed: every line has its time")),
    ("tracing.*", TRACING),
];

/// Gives every value its fate. LiteFS keeps databases in a place of its own, so that no home follows from it.
pub fn read(leaves: &[Leaf], draft: &mut Draft) -> Option<String> {
    let value = |path: &str| leaves.iter().find(|leaf| leaf.path == path).map(Leaf::text);
    let last_command = leaves.iter().filter(|leaf| leaf.kind == "exec[].cmd").filter_map(Leaf::index).max();
    let first_command = leaves.iter().find(|leaf| leaf.kind == "exec[].cmd").map(Leaf::index);
    let file_backup = value("backup.type").as_deref() == Some("file");
    for leaf in leaves {
        match leaf.kind.as_str() {
            "exec" => draft.set("app.command", leaf.value.clone(), leaf),
            "exec[].cmd" if leaf.index() == last_command => {
                draft.set("app.command", leaf.value.clone(), leaf)
            }
            // The list is one value: it is set with its first command.
            "exec[].cmd" if Some(leaf.index()) == first_command => {
                draft.set("app.before", before(leaves, last_command), leaf);
            }
            "exec[].cmd" => {}
            "exec[].if-candidate" if leaf.index() == last_command => {
                let why = "is `app.run_on: primary`, the default; `any` runs it everywhere";
                draft.note(leaf.line, &leaf.path, why);
            }
            "exec[].if-candidate" => {
                draft.note(
                    leaf.line,
                    &leaf.path,
                    "is not needed: `before` runs only where the state may be written",
                );
            }
            "http.addr" => draft.set("cluster.listen", address(&leaf.value), leaf),
            "proxy.addr" => draft.set("proxy.listen", address(&leaf.value), leaf),
            "lease.candidate" if leaf.value != json!(true) => {
                let why =
                    "is for a node that never writes, which is not in this version: this one would write";
                draft.note(leaf.line, &leaf.path, why);
            }
            "lease.candidate" => {
                draft.note(leaf.line, &leaf.path, "is the default: without `lease.primary` this node writes");
            }
            "lease.consul.key" => {
                draft.name(leaf.text().rsplit('/').next().unwrap_or(""));
                draft.note(
                    leaf.line,
                    &leaf.path,
                    "names the volume here; leases by Consul are not in this version",
                );
            }
            "backup.path" if file_backup => draft.set("storage.url", file_url(&leaf.text()), leaf),
            "backup.type" if file_backup => {
                draft.note(
                    leaf.line,
                    &leaf.path,
                    "is in `storage.url`; Stead begins a history of its own there",
                );
            }
            "log.debug" if leaf.value == json!(true) => draft.set("log.level", json!("debug"), leaf),
            "log.debug" => draft.note(leaf.line, &leaf.path, "is the default: `log.level: info`"),
            _ => settle(leaf, TABLE, draft),
        }
    }
    if let Some(leaf) = leaves.iter().find(|leaf| leaf.kind == "fuse.dir") {
        // Any file of a mount is a database, and there are no directories.
        draft.database(json!({ "dir": "data", "pattern": "*" }), None, leaf);
        draft.note(
            leaf.line,
            &leaf.path,
            "is where the app opened its databases: here it opens them in data/",
        );
    }
    None
}

/// The commands before the last one, in their order.
fn before(leaves: &[Leaf], last: Option<usize>) -> Value {
    let mut commands: Vec<&Leaf> =
        leaves.iter().filter(|leaf| leaf.kind == "exec[].cmd" && leaf.index() != last).collect();
    commands.sort_by_key(|leaf| leaf.index());
    commands.into_iter().map(|leaf| leaf.value.clone()).collect()
}

fn address(value: &Value) -> Value {
    match value.as_str() {
        Some(text) if text.starts_with(':') => json!(format!("0.0.0.0{text}")),
        _ => value.clone(),
    }
}

/// A directory as a store's URL.
pub fn file_url(path: &str) -> Value {
    json!(format!("file://{path}"))
}
