//! The keys of `litestream.yml`, Litestream 0.3 and 0.5.

use super::Fate::{Not, To};
use super::litefs::file_url;
use super::{Draft, Fate, Leaf, settle};
use serde_json::json;
use std::path::{Path, PathBuf};

/// The keys by which such a file is told.
pub const KEYS: &[&str] = &[
    "dbs",
    "addr",
    "socket",
    "levels",
    "snapshot",
    "l0-retention",
    "validation",
    "retention",
    "logging",
    "access-key-id",
    "secret-access-key",
    "mcp-addr",
    "heartbeat-url",
    "shutdown-sync-timeout",
    "verify-compaction",
    "region",
    "endpoint",
];

const LEVELS: Fate = Not("is not needed: history is merged and thinned by itself");
const CAPTURE: Fate =
    Not("is not needed: commits are noticed as they happen, and the WAL is kept small by itself");
const ALWAYS: Fate = Not("is not needed: a missing database always comes back from its history");
const OTHER_STORE: Fate = Not("is for a kind of store that is not in this version");
const FILES: Fate = Not("has no equivalent: history lies beside the database, as PATH-litestream");
const SNAPSHOT: Fate = Not("has no equivalent: snapshots are made as they are needed");
const CRYPTO: Fate = Not("has no equivalent: history is not encrypted by Stead; encrypt the store");

const TABLE: &[(&str, Fate)] = &[
    ("exec", To("app.command")),
    ("addr", Not("is not needed: GET /metrics is on `listen`")),
    ("mcp-addr", Not("has no equivalent")),
    ("socket.*", Not("is not needed: the socket is .stead/api.sock of the home, its owner's only")),
    ("levels[].*", LEVELS),
    ("l0-retention*", LEVELS),
    ("retention.*", LEVELS),
    ("verify-compaction", Not("is not needed: every merge is checked with the database's checksum")),
    ("validation.*", Not("has no equivalent: `stead db verify` checks the whole history")),
    ("snapshot.retention", To("retention.keep")),
    ("snapshot.*", SNAPSHOT),
    ("heartbeat-*", Not("has no equivalent: ask GET /api/health/ready")),
    ("shutdown-sync-timeout", To("storage.stop_timeout")),
    ("shutdown-sync-*", Not("is not needed: a stop tries again by itself")),
    ("logging.level", To("log.level")),
    ("logging.*", Not("has no equivalent: the log goes to stderr")),
    ("dbs[].snapshot.retention", To("retention.keep")),
    ("dbs[].snapshot.*", SNAPSHOT),
    ("dbs[].meta-*", FILES),
    ("dbs[].monitor-*", CAPTURE),
    ("dbs[].checkpoint-*", CAPTURE),
    ("dbs[].busy-timeout", CAPTURE),
    ("dbs[].min-checkpoint-*", CAPTURE),
    ("dbs[].max-checkpoint-*", CAPTURE),
    ("dbs[].truncate-*", CAPTURE),
    ("dbs[].max-sync-*", CAPTURE),
    ("dbs[].restore-if-db-not-exists", ALWAYS),
    ("dbs[].watch", Not("is not needed: new files are always found")),
];

/// The same keys, of a replica or for all of them.
const REPLICA: &[(&str, Fate)] = &[
    ("access-key-id", To("storage.access_key_id")),
    ("secret-access-key", To("storage.secret_access_key")),
    ("region", To("storage.region")),
    ("endpoint", To("storage.endpoint")),
    ("sync-interval", To("storage.sync_interval")),
    ("retention", To("retention.keep")),
    ("retention-check-interval", LEVELS),
    ("snapshot-interval", SNAPSHOT),
    ("validation-interval", Not("has no equivalent: `stead db verify` checks the whole history")),
    ("max-sync-*", CAPTURE),
    ("auto-recover", Not("is not needed: what is missing in the store is sent again")),
    ("name", Not("is not needed: there is one store")),
    ("age.*", CRYPTO),
    ("sse-*", CRYPTO),
    ("force-path-style", To("storage.path_style")),
    ("skip-verify", Not("has no equivalent: certificates are always verified")),
    ("sign-payload", Not("is not needed: what is sent is always signed")),
    ("require-content-md5", Not("is not needed: what is sent always carries a checksum")),
    ("storage-class", Not("has no equivalent: give the bucket a default class")),
    ("part-size", Not("is not needed: the parts of an object follow its size")),
    ("concurrency", Not("has no equivalent: `storage.connections` bounds the requests at once")),
    ("account-*", OTHER_STORE),
    ("sas-token", OTHER_STORE),
    ("host*", OTHER_STORE),
    ("user*", OTHER_STORE),
    ("password", OTHER_STORE),
    ("key-path", OTHER_STORE),
    ("concurrent-writes", OTHER_STORE),
    ("webdav-*", OTHER_STORE),
    ("jwt", OTHER_STORE),
    ("seed", OTHER_STORE),
    ("creds", OTHER_STORE),
    ("nkey", OTHER_STORE),
    ("token", OTHER_STORE),
    ("tls", OTHER_STORE),
    ("root-cas*", OTHER_STORE),
    ("client-*", OTHER_STORE),
    ("max-reconnects", OTHER_STORE),
    ("reconnect-wait", OTHER_STORE),
    ("timeout", OTHER_STORE),
];

/// Gives every value its fate, and tells the home that the databases' paths are below.
pub fn read(leaves: &[Leaf], draft: &mut Draft) -> Option<String> {
    let home = home(leaves);
    for leaf in leaves {
        let setting = leaf.kind.strip_prefix("dbs[].").unwrap_or(&leaf.kind);
        let replica = setting.strip_prefix("replicas[].").or_else(|| setting.strip_prefix("replica."));
        match (leaf.kind.as_str(), replica) {
            ("dbs[].path", _) => database(leaf, home.as_deref(), draft),
            ("dbs[].dir", _) => directory(leaf, leaves, home.as_deref(), draft),
            // They are in the entry that `dir` makes.
            ("dbs[].pattern" | "dbs[].recursive", _) => {}
            ("dbs[].replica" | "dbs[].replicas[]", _) => draft.set("storage.url", store(&leaf.text()), leaf),
            ("logging.type", _) if leaf.value == json!("json") => {
                draft.set("log.format", json!("json"), leaf)
            }
            ("endpoint", _) | (_, Some("endpoint")) => {
                draft.set("storage.endpoint", endpoint(&leaf.text()), leaf)
            }
            (_, Some("url")) => draft.set("storage.url", store(&leaf.text()), leaf),
            (_, Some("path" | "bucket" | "type")) => place(leaf, leaves, draft),
            (_, Some(setting)) => settle(&Leaf { kind: setting.to_owned(), ..leaf.clone() }, REPLICA, draft),
            (kind, None) if REPLICA.iter().any(|(known, _)| *known == kind) => settle(leaf, REPLICA, draft),
            _ => settle(leaf, TABLE, draft),
        }
    }
    home.map(|home| home.display().to_string())
}

/// The directory above all databases that are named plainly.
fn home(leaves: &[Leaf]) -> Option<PathBuf> {
    let mut common: Option<PathBuf> = None;
    for leaf in leaves {
        let path = PathBuf::from(leaf.text());
        let dir = match leaf.kind.as_str() {
            "dbs[].path" => path.parent().map(Path::to_owned),
            "dbs[].dir" => Some(path),
            _ => None,
        };
        let Some(dir) = dir.filter(|dir| dir.is_absolute() && !leaf.text().contains('$')) else { continue };
        let shared = common.as_ref().map_or_else(|| dir.clone(), |common| shared(common, &dir));
        // The root of the file system is nobody's home: what does not fit stays outside.
        if shared != Path::new("/") || common.is_none() {
            common = Some(shared);
        }
    }
    common
}

fn shared(a: &Path, b: &Path) -> PathBuf {
    a.components().zip(b.components()).take_while(|(a, b)| a == b).map(|(a, _)| a).collect()
}

/// A path as it is from the home, or why it is none.
fn within(text: &str, home: Option<&Path>) -> Result<String, &'static str> {
    if text.contains('$') {
        return Err("its path is in a variable: write it from the home");
    }
    if !text.starts_with('/') {
        return Ok(text.to_owned());
    }
    let below = home.and_then(|home| Path::new(text).strip_prefix(home).ok());
    match below.map(|below| below.display().to_string()) {
        Some(below) if below.is_empty() => Ok(".".to_owned()),
        Some(below) => Ok(below),
        None => Err("it is not below the home: move it there"),
    }
}

fn database(leaf: &Leaf, home: Option<&Path>, draft: &mut Draft) {
    let text = leaf.text();
    let (path, outside) = match within(&text, home) {
        Ok(path) => (path, None),
        Err(why) => (text.clone(), Some(why)),
    };
    if let (0, Some(stem)) = (leaf.index().unwrap_or(0), Path::new(&text).file_stem()) {
        draft.name(&stem.to_string_lossy());
    }
    draft.database(json!({ "path": path }), outside, leaf);
}

fn directory(leaf: &Leaf, leaves: &[Leaf], home: Option<&Path>, draft: &mut Draft) {
    let beside = |key: &str| {
        let path = leaf.path.replace(".dir", key);
        leaves.iter().find(|leaf| leaf.path == path).map(Leaf::text)
    };
    let pattern = beside(".pattern").unwrap_or_else(|| "*.db".to_owned());
    let below = if beside(".recursive").as_deref() == Some("true") { "**/" } else { "" };
    let (dir, outside) = match within(leaf.text().trim_end_matches('/'), home) {
        Ok(dir) => (dir, None),
        Err(why) => (leaf.text(), Some(why)),
    };
    draft.database(json!({ "dir": dir, "pattern": format!("{below}{pattern}") }), outside, leaf);
}

/// A store's URL, or a plain path that is one.
fn store(text: &str) -> serde_json::Value {
    if text.starts_with('/') { file_url(text) } else { json!(text) }
}

/// A server's URL: Litestream asks over https where no scheme is given.
fn endpoint(text: &str) -> serde_json::Value {
    if text.contains("://") || text.contains('$') { json!(text) } else { json!(format!("https://{text}")) }
}

/// A replica without a URL: its type, bucket and path make one, told once by its path.
fn place(leaf: &Leaf, leaves: &[Leaf], draft: &mut Draft) {
    let (parent, key) = leaf.path.rsplit_once('.').unwrap_or(("", &leaf.path));
    let beside = |key: &str| {
        let path = format!("{parent}.{key}");
        leaves.iter().find(|leaf| leaf.path == path).map(Leaf::text)
    };
    let kind = beside("type").unwrap_or_else(|| "file".to_owned());
    if beside("url").is_some() {
        draft.note(leaf.line, &leaf.path, "is in the replica's `url` too, which was read");
        return;
    }
    match (key, kind.as_str()) {
        ("path", "file") => draft.set("storage.url", file_url(&leaf.text()), leaf),
        ("bucket", kind) => {
            let path = beside("path").map(|path| format!("/{}", path.trim_matches('/'))).unwrap_or_default();
            draft.set("storage.url", json!(format!("{kind}://{}{path}", leaf.text())), leaf);
        }
        ("path", _) if beside("bucket").is_some() => {}
        ("type", _) if beside("bucket").or_else(|| beside("path")).is_some() => {}
        _ => draft.note(leaf.line, &leaf.path, "is for a kind of store that is not in this version"),
    }
}
