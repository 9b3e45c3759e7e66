//! Finds databases that the app has open and no entry of the configuration covers.
//!
//! Judged by names alone: opening such a file, and closing it again, would drop every POSIX lock that this process
//! holds on it. A name counts where it ends like a database, or where the same process has its `-wal` or `-journal`
//! open too.

use crate::control::Issue;
use base::Disk;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Processes looked at in one scan; an app with more is judged by the first of them.
pub const PROCESSES_SCANNED: usize = 256;
/// Databases reported by one scan.
pub const DATABASES_REPORTED: usize = 50;

/// The word for it in `issues`.
pub const CODE: &str = "database_not_covered";

/// The databases among the files that processes have open, each with one pid that has it.
pub fn open_databases(disk: &dyn Disk, pids: &[u32]) -> BTreeMap<PathBuf, u32> {
    let mut found = BTreeMap::new();
    for pid in pids.iter().take(PROCESSES_SCANNED) {
        for path in databases_among(&open_files(disk, *pid)) {
            found.entry(path).or_insert(*pid);
        }
    }
    found
}

/// The regular files that a process has open; none where it has ended or is not ours to look at.
fn open_files(disk: &dyn Disk, pid: u32) -> BTreeSet<PathBuf> {
    let dir = PathBuf::from(format!("/proc/{pid}/fd"));
    let entries = disk.read_dir(&dir).unwrap_or_default();
    entries
        .into_iter()
        .filter_map(|entry| std::fs::read_link(dir.join(entry.name)).ok())
        .filter(|target| target.is_absolute() && !target.starts_with("/dev") && !target.starts_with("/proc"))
        .filter(|target| std::fs::metadata(target).is_ok_and(|found| found.is_file()))
        .collect()
}

/// The names that stand for databases, among the files that one process has open.
fn databases_among(open: &BTreeSet<PathBuf>) -> Vec<PathBuf> {
    let has = |path: &Path, suffix: &str| open.contains(&base::disk::sibling(path, suffix));
    let named = |path: &Path| {
        path.extension()
            .and_then(|e| e.to_str())
            .is_some_and(|e| matches!(e.to_ascii_lowercase().as_str(), "db" | "db3" | "sqlite" | "sqlite3"))
    };
    open.iter().filter(|path| named(path) || has(path, "-wal") || has(path, "-journal")).cloned().collect()
}

/// What is wrong with such a database, with the line that mends it.
pub fn issue(home: &Path, path: &Path, pid: u32) -> Issue {
    let (name, hint) = match path.strip_prefix(home) {
        Ok(inside) => {
            let name = inside.display().to_string();
            let hint = format!("add `- path: {name}` under `databases:` of the configuration");
            (name, hint)
        }
        Err(_) => (
            path.display().to_string(),
            format!(
                "let the app keep it below {}, and name it under `databases:`",
                home.join("data").display()
            ),
        ),
    };
    Issue {
        code: CODE.to_owned(),
        component: "database",
        message: format!(
            "the app (pid {pid}) has {name} open, which no entry under `databases` covers: \
                          it is in no checkpoint"
        ),
        path: Some(name),
        exit_code: None,
        hint,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::{LocalDisk, Open};

    #[test]
    fn a_database_is_told_by_its_name_or_by_its_journal() {
        let open: BTreeSet<PathBuf> =
            ["/h/a.db", "/h/b", "/h/b-wal", "/h/c", "/h/d-journal", "/h/d", "/h/log.txt"]
                .into_iter()
                .map(PathBuf::from)
                .collect();
        let found = databases_among(&open);
        assert_eq!(found, [PathBuf::from("/h/a.db"), "/h/b".into(), "/h/d".into()]);
    }

    #[test]
    fn an_open_database_of_a_process_is_found_without_being_opened() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap().join("shop.sqlite");
        let _held = LocalDisk.open(&path, Open::CreateNew).unwrap();
        let found = open_databases(&LocalDisk, &[std::process::id()]);
        assert_eq!(found.get(&path), Some(&std::process::id()));
        assert!(open_databases(&LocalDisk, &[u32::MAX]).is_empty());
    }

    #[test]
    fn the_issue_names_the_line_to_add() {
        let inside = issue(Path::new("/h"), Path::new("/h/data/shop.db"), 7);
        assert!(inside.hint.contains("- path: data/shop.db"), "{}", inside.hint);
        let outside = issue(Path::new("/h"), Path::new("/var/x.db"), 7);
        assert!(outside.hint.contains("/h/data"), "{}", outside.hint);
    }
}
