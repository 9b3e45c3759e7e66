//! What Stead creates for the app belongs to the app's user.
//!
//! By path only: a database must not be opened here, since closing it would drop the locks of this process.

use crate::home::Home;
use base::DatabasePath;
use rustix::fs::{Gid, Uid, chown, stat};
use std::path::Path;

/// Gives `data/` and the databases, with what SQLite keeps beside them and the directories between, to the app's
/// user, where they belong to the node's. What belongs to anybody else was not created by Stead and stays.
pub(super) fn give_to_app(home: &Home, databases: &[DatabasePath], user: (u32, u32)) {
    let node = rustix::process::geteuid().as_raw();
    if user.0 == node {
        return;
    }
    give(&home.data(), node, user);
    for database in databases {
        let path = home.root().join(database.as_str());
        for dir in path.ancestors().skip(1).take_while(|dir| *dir != home.root()) {
            give(dir, node, user);
        }
        give(&path, node, user);
        for suffix in ["-wal", "-shm"] {
            give(&base::disk::sibling(&path, suffix), node, user);
        }
    }
}

fn give(path: &Path, node: u32, (uid, gid): (u32, u32)) {
    if stat(path).is_ok_and(|found| found.st_uid == node)
        && let Err(error) = chown(path, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
    {
        tracing::warn!(%error, path = %path.display(), uid, "the app's user does not own what was created for it");
    }
}
