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

#[cfg(test)]
mod tests {
    use super::*;
    use base::{Disk, LocalDisk, Open};
    use std::sync::Arc;

    #[test]
    fn what_stead_created_goes_to_the_apps_user_as_far_as_the_node_may_give() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(Arc::new(LocalDisk), dir.path()).unwrap();
        let shop = DatabasePath::parse("data/shop/orders.db").unwrap();
        LocalDisk.create_dir_all(&home.data().join("shop")).unwrap();
        LocalDisk.open(&home.root().join(shop.as_str()), Open::CreateNew).unwrap();
        let node = rustix::process::geteuid().as_raw();
        let app = (node + 4321, node + 4321);
        let expected = if node == 0 { app.0 } else { node };

        give_to_app(&home, std::slice::from_ref(&shop), app);

        for path in ["data", "data/shop", "data/shop/orders.db"] {
            assert_eq!(stat(home.root().join(path)).unwrap().st_uid, expected, "{path}");
        }
        assert_eq!(stat(home.private()).unwrap().st_uid, node, "what is private stays the node's");
    }
}
