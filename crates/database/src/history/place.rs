//! Where the history of one incarnation lies, beside the database and in a store.
//!
//! The first incarnation's place is Litestream's; the n-th has `@n` after the path. A file name that itself ends in
//! `@` and digits has that `@` written `%40`, so that it cannot be taken for a later incarnation of another; one that
//! ends in such an escape already is escaped once more (`%2540…`), so that no two paths share a place.

use base::{DatabasePath, Incarnation};
use std::path::{Path, PathBuf};

/// What is added to a database's path for its local history.
const LOCAL_SUFFIX: &str = "-litestream";

/// The directory of a database file's local history.
pub fn local_base(database: &Path, incarnation: Incarnation) -> PathBuf {
    let name = database.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    database.with_file_name(place_name(&name, incarnation) + LOCAL_SUFFIX)
}

/// The key of a database's history in a store, relative to its prefix.
pub fn store_key(path: &DatabasePath, incarnation: Incarnation) -> String {
    let (dir, name) = path.as_str().rsplit_once('/').map_or(("", path.as_str()), |(dir, name)| (dir, name));
    let name = place_name(name, incarnation);
    if dir.is_empty() { name } else { format!("{dir}/{name}") }
}

/// The file name and the incarnation whose local history a directory of this name is.
pub fn parse_local(directory: &str) -> Option<(String, Incarnation)> {
    parse_store(directory.strip_suffix(LOCAL_SUFFIX)?)
}

/// The file name and the incarnation whose history in a store a directory of this name is.
pub fn parse_store(directory: &str) -> Option<(String, Incarnation)> {
    let stem = directory.trim_end_matches(|c: char| c.is_ascii_digit());
    let number = directory[stem.len()..].parse().ok();
    let (name, incarnation) = match (stem.strip_suffix('@'), number) {
        (Some(escaped), Some(number)) => (unescape(escaped), Incarnation(number)),
        _ => (unescape(directory), Incarnation(1)),
    };
    (incarnation.0 > 0 && place_name(&name, incarnation) == directory).then_some((name, incarnation))
}

/// The database and the incarnation whose history in a store has this key.
pub fn parse_store_key(key: &str) -> Option<(DatabasePath, Incarnation)> {
    let (dir, name) = key.rsplit_once('/').map_or((None, key), |(dir, name)| (Some(dir), name));
    let (name, incarnation) = parse_store(name)?;
    let path = dir.map_or_else(|| name.clone(), |dir| format!("{dir}/{name}"));
    Some((DatabasePath::parse(&path).ok()?, incarnation))
}

fn place_name(name: &str, incarnation: Incarnation) -> String {
    let escaped = escape(name);
    if incarnation == Incarnation(1) { escaped } else { format!("{escaped}@{}", incarnation.0) }
}

/// Writes the `@` of `…@digits` as `%40`, and the `%` of `…%40digits`, `…%2540digits`… as `%25`.
fn escape(name: &str) -> String {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = &name[stem.len()..];
    if let Some(before) = stem.strip_suffix('@').filter(|_| !digits.is_empty()) {
        return format!("{before}%40{digits}");
    }
    // `%40` and `%25` end in digits themselves, so the whole run of digits is looked at.
    let Some(before) = stem.strip_suffix('%') else { return name.to_owned() };
    let mut rest = digits;
    while let Some(inner) = rest.strip_prefix("25") {
        rest = inner;
    }
    match rest.strip_prefix("40") {
        Some(number) if !number.is_empty() => format!("{before}%25{digits}"),
        _ => name.to_owned(),
    }
}

/// What was escaped to this name.
fn unescape(escaped: &str) -> String {
    let stem = escaped.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = &escaped[stem.len()..];
    let Some(before) = stem.strip_suffix('%') else { return escaped.to_owned() };
    let inner = digits.trim_start_matches("25");
    match inner.strip_prefix("40") {
        Some("") | None => escaped.to_owned(),
        Some(number) if inner.len() == digits.len() => format!("{before}@{number}"),
        Some(_) => format!("{before}%{}", &digits[2..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_incarnation_lies_where_litestream_looks() {
        let database = Path::new("/home/data/app.db");
        assert_eq!(local_base(database, Incarnation(1)), Path::new("/home/data/app.db-litestream"));
        assert_eq!(local_base(database, Incarnation(3)), Path::new("/home/data/app.db@3-litestream"));
        let path = DatabasePath::parse("data/shop/orders.db").unwrap();
        assert_eq!(
            Path::new("/backup").join(store_key(&path, Incarnation(1))),
            Path::new("/backup/data/shop/orders.db")
        );
        assert_eq!(store_key(&path, Incarnation(2)), "data/shop/orders.db@2");
    }

    #[test]
    fn a_name_that_looks_like_an_incarnation_is_escaped() {
        assert_eq!(parse_local("a.db@3-litestream"), Some(("a.db".into(), Incarnation(3))));
        assert_eq!(parse_local("a.db@3"), None);
        for (name, escaped) in [
            ("a@2", "a%402"),
            ("a@", "a@"),
            ("a2", "a2"),
            ("a@2x", "a@2x"),
            ("a%402", "a%25402"),
            ("a%25402", "a%2525402"),
            ("a%40", "a%40"),
        ] {
            assert_eq!(escape(name), escaped, "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_two_files_share_a_place(
            one in "(a|@|%|2|4|0|5|25|40|%40|%25){1,6}", two in "(a|@|%|2|4|0|5|25|40|%40|%25){1,6}",
            n in 1u32..60, m in 1u32..60,
        ) {
            prop_assert_eq!(parse_store(&place_name(&one, Incarnation(n))), Some((one.clone(), Incarnation(n))));
            let same = one == two && n == m;
            prop_assert_eq!(place_name(&one, Incarnation(n)) == place_name(&two, Incarnation(m)), same);
        }
    }
}
