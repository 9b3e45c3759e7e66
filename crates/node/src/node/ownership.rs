//! What Stead creates for the app belongs to the app's user.
//!
//! By path only: a database must not be opened here, since closing it would drop the locks of this process. The way is
//! walked without links, and a file with further names stays whose it is: the app's user owns the directories, and could
//! have put the name of anybody's file there to be given it.

use crate::home::Home;
use base::DatabasePath;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, chownat, fstat, openat2};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Gives `data/` and the databases, with what SQLite keeps beside them and the directories between, to the app's
/// user, where they belong to the node's. What belongs to anybody else was not created by Stead and stays.
pub(super) fn give_to_app(home: &Home, databases: &[DatabasePath], user: (u32, u32)) {
    let node = rustix::process::geteuid().as_raw();
    if user.0 == node {
        return;
    }
    let give = |path: &Path| {
        if let Err(error) = give(home.root(), path, node, user) {
            let uid = user.0;
            tracing::warn!(event = "owner not set", %error, path = %path.display(), uid, "the app's user does not own it");
        }
    };
    give(&home.data());
    for database in databases {
        let path = home.root().join(database.as_str());
        for dir in path.ancestors().skip(1).take_while(|dir| *dir != home.root()) {
            give(dir);
        }
        give(&path);
        for suffix in ["-wal", "-shm"] {
            give(&base::disk::sibling(&path, suffix));
        }
    }
}

/// Gives one name below the home, where it is there and the node's.
fn give(root: &Path, path: &Path, node: u32, (uid, gid): (u32, u32)) -> io::Result<()> {
    let Some(named) = open_name(root, path)? else { return Ok(()) };
    let found = fstat(&named)?;
    if found.st_uid != node {
        return Ok(());
    }
    let is_dir = FileType::from_raw_mode(found.st_mode) == FileType::Directory;
    if !is_dir && found.st_nlink > 1 {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it has further names (hard links)"));
    }
    Ok(chownat(&named, "", Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::EMPTY_PATH)?)
}

/// A descriptor that only names a file below the home, reached without any link.
fn open_name(root: &Path, path: &Path) -> io::Result<Option<OwnedFd>> {
    let below = path.strip_prefix(root).map_err(io::Error::other)?;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let top = rustix::fs::open(root, flags | OFlags::DIRECTORY, Mode::empty())?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    match openat2(&top, below, flags | OFlags::NOFOLLOW, Mode::empty(), resolve) {
        Ok(named) => Ok(Some(named)),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(rustix::io::Errno::LOOP) => {
            Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is a symbolic link"))
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::{Disk, LocalDisk, Open};
    use rustix::fs::stat;
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

    #[test]
    fn a_planted_name_gives_nobody_elses_file_away() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(Arc::new(LocalDisk), &dir.path().join("home")).unwrap();
        let victim = dir.path().join("victim");
        LocalDisk.open(&victim, Open::CreateNew).unwrap();
        LocalDisk.create_dir_all(&dir.path().join("etc")).unwrap();
        LocalDisk.open(&dir.path().join("etc/shadow.db"), Open::CreateNew).unwrap();
        rustix::fs::symlink(&victim, home.data().join("a.db")).unwrap();
        rustix::fs::symlink(&victim, home.data().join("a.db-wal")).unwrap();
        rustix::fs::link(&victim, home.data().join("b.db")).unwrap();
        rustix::fs::symlink(dir.path().join("etc"), home.data().join("dir")).unwrap();
        let names =
            ["data/a.db", "data/b.db", "data/dir/shadow.db"].map(|name| DatabasePath::parse(name).unwrap());
        let node = rustix::process::geteuid().as_raw();

        give_to_app(&home, &names, (node + 4321, node + 4321));

        for path in ["victim", "etc", "etc/shadow.db"] {
            assert_eq!(stat(dir.path().join(path)).unwrap().st_uid, node, "{path}");
        }
    }
}
