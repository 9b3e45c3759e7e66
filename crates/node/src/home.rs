//! A node's home: what lies where, who may use it, and who the node is.
//!
//! ```text
//! data/  tmp/config.json  tmp/checkpoints/<id>/checkpoint.json
//! .stead/{lock, node.json, api.sock, ledger.sqlite, app.stopped}
//! ```
//! The lock is flock(2) on `.stead/lock`: the kernel drops it with the process, so a stale one cannot exist. The
//! file's text is the holder's pid, for people and for the message of a second node.

use base::disk::own_directory;
use base::{Disk, Epoch, Random, Timestamp};
use database::Owner;
use rustix::fs::{FlockOperation, Mode, OFlags};
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The most that is read of the node's own small files.
pub const SMALL_FILE_BYTES: u64 = 1 << 20;
/// Where the accepted configuration lies, from the home.
pub const SAVED: &str = "tmp/config.json";

/// The paths of a home. Every one is absolute.
#[derive(Clone, Debug)]
pub struct Home {
    root: PathBuf,
    disk: Arc<dyn Disk>,
}

impl Home {
    /// The home at a directory, which is made where it does not exist, with `data/`, `tmp/` and `.stead/`.
    pub fn open(disk: Arc<dyn Disk>, root: &Path) -> Result<Home, HomeError> {
        let made = |path: &Path| {
            disk.create_dir_all(path).map_err(|cause| HomeError::Directory { path: path.to_owned(), cause })
        };
        made(root)?;
        let root =
            root.canonicalize().map_err(|cause| HomeError::Directory { path: root.to_owned(), cause })?;
        let home = Home { root, disk: disk.clone() };
        for (dir, mode) in [(home.private(), 0o700), (home.tmp(), 0o755), (home.checkpoints(), 0o755)] {
            own_directory(&dir, mode).map_err(|cause| HomeError::Directory { path: dir, cause })?;
        }
        made(&home.data())?;
        Ok(home)
    }

    /// The home itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The disk it lies on.
    pub fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    /// Directory-mode databases.
    pub fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// What may be lost.
    pub fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// What is nobody else's business.
    pub fn private(&self) -> PathBuf {
        self.root.join(".stead")
    }

    /// The accepted configuration.
    pub fn config_file(&self) -> PathBuf {
        self.root.join(SAVED)
    }

    /// The directories of the checkpoints.
    pub fn checkpoints(&self) -> PathBuf {
        self.root.join("tmp/checkpoints")
    }

    /// The ledger.
    pub fn ledger(&self) -> PathBuf {
        self.private().join("ledger.sqlite")
    }

    /// The API's socket.
    pub fn socket(&self) -> PathBuf {
        self.private().join("api.sock")
    }

    /// Present while the app is stopped for maintenance.
    pub fn app_stopped(&self) -> PathBuf {
        self.private().join("app.stopped")
    }

    /// Present while a volume is being brought from its store.
    pub fn recovering(&self) -> PathBuf {
        self.private().join("recovering")
    }

    fn lock_file(&self) -> PathBuf {
        self.private().join("lock")
    }

    fn identity_file(&self) -> PathBuf {
        self.private().join("node.json")
    }

    /// Takes the home for this process, or says who has it.
    pub fn lock(&self) -> Result<HomeLock, HomeError> {
        let path = self.lock_file();
        let failed = |cause: rustix::io::Errno| HomeError::Lock { path: path.clone(), cause: cause.into() };
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o644)).map_err(failed)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(HomeError::InUse { home: self.root.clone(), pid: holder(&file) });
            }
            Err(error) => return Err(failed(error)),
        }
        rustix::fs::ftruncate(&file, 0).map_err(failed)?;
        let pid = format!("{}\n", std::process::id());
        rustix::io::pwrite(&file, pid.as_bytes(), 0).map_err(failed)?;
        Ok(HomeLock { _file: file })
    }

    /// Who this node is: read, or made once and kept.
    pub fn identity(&self, random: &dyn Random, now: Timestamp) -> Result<Identity, HomeError> {
        let path = self.identity_file();
        let failed = |cause: io::Error| HomeError::Identity { path: path.clone(), cause };
        match base::disk::read(&*self.disk, &path, SMALL_FILE_BYTES) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| failed(error.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let identity =
                    Identity { id: format!("{:016x}", random.next_u64()), epoch: Epoch(1), created: now };
                let bytes = serde_json::to_vec_pretty(&identity).map_err(|error| failed(error.into()))?;
                base::disk::write_atomic(&*self.disk, &path, &bytes, true).map_err(failed)?;
                Ok(identity)
            }
            Err(error) => Err(failed(error)),
        }
    }
}

/// The pid in a lock file that somebody else holds; it is written right after the lock was taken.
fn holder(file: &OwnedFd) -> Option<u32> {
    let mut text = [0; 32];
    let got = rustix::io::pread(file, &mut text, 0).ok()?;
    std::str::from_utf8(&text[..got]).ok()?.trim().parse().ok()
}

/// The right to use a home, until it is dropped or the process ends.
#[derive(Debug)]
pub struct HomeLock {
    _file: OwnedFd,
}

/// Who a node is, kept in `.stead/node.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Sixteen hex digits, made once.
    pub id: String,
    /// The epoch of its last right to write.
    pub epoch: Epoch,
    /// When the home was first used.
    pub created: Timestamp,
}

impl Identity {
    /// Who this node is for a store, in the run that made up a number.
    pub fn owner(&self, node: &str, volume: &str, run: u64) -> Owner {
        let id = u64::from_str_radix(&self.id, 16).unwrap_or_default();
        Owner { id, run, node: node.to_owned(), volume: volume.to_owned() }
    }
}

/// Why a home cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Mend the path or its permissions.
    #[error("{}: {cause}", path.display())]
    Directory {
        /// Which directory.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// Stop the other node, or choose another home.
    #[error("{} is in use by {}", home.display(), pid.map_or("another process".to_owned(), |p| format!("pid {p}")))]
    InUse {
        /// The home.
        home: PathBuf,
        /// Who has it, where known.
        pid: Option<u32>,
    },
    /// Mend the permissions of the file.
    #[error("{}: cannot be locked: {cause}", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// Mend the file, or remove it: a new identity is made.
    #[error("{}: {cause}", path.display())]
    Identity {
        /// The identity file.
        path: PathBuf,
        /// What is wrong with it.
        cause: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::{LocalDisk, SystemRandom};

    fn home(dir: &tempfile::TempDir) -> Home {
        Home::open(Arc::new(LocalDisk), &dir.path().join("home")).unwrap()
    }

    #[test]
    fn opening_a_home_makes_its_directories() {
        let dir = tempfile::tempdir().unwrap();
        let home = home(&dir);
        for path in [home.data(), home.tmp(), home.checkpoints(), home.private()] {
            assert!(LocalDisk.metadata(&path).unwrap().is_dir, "{}", path.display());
        }
        let mode = rustix::fs::stat(home.private()).unwrap().st_mode & 0o777;
        assert_eq!(mode, 0o700);
        Home::open(Arc::new(LocalDisk), home.root()).unwrap();
    }

    #[test]
    fn a_directory_that_somebody_else_could_write_to_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for name in [".stead", "tmp", "tmp/checkpoints"] {
            let home = home(&dir);
            let path = home.root().join(name);
            let before = rustix::fs::stat(&path).unwrap().st_mode;
            rustix::fs::chmod(&path, Mode::from_raw_mode(0o777)).unwrap();
            let refused = Home::open(Arc::new(LocalDisk), home.root()).unwrap_err();
            assert!(refused.to_string().contains("everyone may write"), "{name}: {refused}");
            rustix::fs::chmod(&path, Mode::from_raw_mode(before & 0o7777)).unwrap();
        }
    }

    #[test]
    fn a_second_node_on_one_home_learns_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let home = home(&dir);
        let first = home.lock().unwrap();
        match home.lock().unwrap_err() {
            HomeError::InUse { pid, .. } => assert_eq!(pid, Some(std::process::id())),
            other => panic!("{other}"),
        }
        assert!(home.lock().unwrap_err().to_string().contains(&format!("pid {}", std::process::id())));
        drop(first);
        home.lock().unwrap();
    }

    #[test]
    fn a_node_stays_who_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let home = home(&dir);
        let made = home.identity(&SystemRandom, Timestamp(7)).unwrap();
        assert_eq!(home.identity(&SystemRandom, Timestamp(8)).unwrap(), made);
        base::disk::write_atomic(&LocalDisk, &home.identity_file(), b"{", true).unwrap();
        assert!(matches!(home.identity(&SystemRandom, Timestamp(9)), Err(HomeError::Identity { .. })));
    }
}
