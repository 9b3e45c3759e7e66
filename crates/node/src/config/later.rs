//! Keys and values that Stead will know but this version does not: recognised, and refused by name.

use super::problem::Problem;

/// Keys without a meaning yet.
const KEYS: [&str; 6] = ["mount", "cluster", "proxy", "register", "lease.ttl", "lease.candidate"];

/// Values without a meaning yet, by key.
const VALUES: [(&str, &str); 4] =
    [("lease.type", "store"), ("lease.type", "kubernetes"), ("lease.type", "consul"), ("lease.type", "etcd")];

/// The problem with a key that a later version has.
pub fn key(path: &str) -> Option<Problem> {
    KEYS.contains(&path).then(|| {
        Problem::new(path, format!("`{path}` is not in this version"), format!("leave `{path}` out"))
    })
}

/// The problem with a value that a later version has.
pub fn value(path: &str, text: &str) -> Option<Problem> {
    VALUES.contains(&(path, text)).then(|| {
        Problem::new(
            path,
            format!("`{path}: {text}` is not in this version"),
            format!("leave `{path}` out, or write static"),
        )
    })
}
