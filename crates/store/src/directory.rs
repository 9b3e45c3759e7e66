//! A directory as a store: objects are files, created whole and durable, or not at all.
//!
//! An object is written beside its place (`<name>.<number>.tmp`), synced, moved to its name with a call that refuses
//! a taken one, and the directory is synced. So a name is either absent or holds the whole object, also after a power
//! loss. Leftovers end in `.tmp`, are in no listing, and are removed by whoever owns the prefix.

use crate::Outcome;
use base::{Disk, DiskFile, Open};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many names are tried for a file that is being written; more are taken only if somebody leaves them there.
const BESIDE_TRIES: u64 = 10_000;

/// The ending of a file that is still being written.
const BESIDE_SUFFIX: &str = ".tmp";

/// A directory that holds objects.
#[derive(Clone, Debug)]
pub struct Directory {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    next: Arc<AtomicU64>,
}

/// An object that could not be written: nothing of it is there. The caller may try again later.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}: {cause}")]
pub struct PutError {
    /// The object's file.
    pub path: PathBuf,
    /// What the file system, or the content's source, said.
    pub cause: io::Error,
}

/// A store that cannot be written. The caller must mend the path or its permissions.
#[derive(Debug, thiserror::Error)]
#[error("the store {root} cannot be written: {cause}")]
pub struct ProbeError {
    /// The store's directory.
    pub root: PathBuf,
    /// What the file system said.
    pub cause: io::Error,
}

/// What a listing finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// The key, relative to the root.
    pub key: PathBuf,
}

impl Directory {
    /// The store below a directory, which need not exist yet.
    pub fn new(disk: Arc<dyn Disk>, root: PathBuf) -> Directory {
        Directory { disk, root, next: Arc::default() }
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The file that holds an object.
    pub fn path(&self, key: &Path) -> PathBuf {
        self.root.join(key)
    }

    /// Creates an object from what `fill` writes into a new file. Durable when [`Outcome::Won`] is returned.
    ///
    /// An error says that nothing was created. [`Outcome::Unknown`]: the file system failed at a moment where the
    /// object may or may not have got its name; look before trying again.
    pub fn put(
        &self,
        key: &Path,
        fill: &mut dyn FnMut(&dyn DiskFile) -> io::Result<()>,
    ) -> Result<Outcome, PutError> {
        let path = self.path(key);
        let failed = |cause| PutError { path: path.clone(), cause };
        self.make_dir(base::disk::parent(&path)).map_err(failed)?;
        let (beside, file) = self.beside(&path).map_err(failed)?;
        let written = fill(&*file).and_then(|()| file.sync());
        drop(file);
        if let Err(cause) = written {
            let _ = self.disk.remove_file(&beside);
            return Err(failed(cause));
        }
        let moved = self.disk.rename_new(&beside, &path);
        if let Err(cause) = moved {
            let _ = self.disk.remove_file(&beside);
            return match cause.kind() {
                io::ErrorKind::AlreadyExists => Ok(Outcome::Lost),
                kind if surely_undone(kind) => Err(failed(cause)),
                _ => Ok(Outcome::Unknown),
            };
        }
        match self.disk.sync_dir(base::disk::parent(&path)) {
            Ok(()) => Ok(Outcome::Won),
            Err(error) => {
                tracing::warn!(event = "store not synced", path = %path.display(), %error, "an object's name may not be durable");
                Ok(Outcome::Unknown)
            }
        }
    }

    /// The names of the objects directly below a key, sorted, with `true` for directories. Missing: none.
    pub fn list(&self, key: &Path) -> io::Result<Vec<base::disk::Entry>> {
        match self.disk.read_dir(&self.path(key)) {
            Ok(mut entries) => {
                entries.retain(|entry| entry.is_dir || !entry.name.ends_with(BESIDE_SUFFIX));
                Ok(entries)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Opens an object for reading.
    pub fn open(&self, key: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.disk.open(&self.path(key), Open::Read)
    }

    /// Removes an object; a missing one is fine. The removal is not synced: an object may come back, never a part.
    pub fn remove(&self, key: &Path) -> io::Result<()> {
        match self.disk.remove_file(&self.path(key)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Moves an object out of the way, to another key that must be free; durable.
    pub fn set_aside(&self, key: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (self.path(key), self.path(to));
        self.make_dir(base::disk::parent(&to))?;
        self.disk.rename_new(&from, &to)?;
        self.disk.sync_dir(base::disk::parent(&to))?;
        self.disk.sync_dir(base::disk::parent(&from))
    }

    /// Removes what unfinished writes left directly below a key. Only the owner of the prefix may call it.
    pub fn remove_leftovers(&self, key: &Path) -> io::Result<Vec<Leftover>> {
        let mut removed = Vec::new();
        let entries = match self.disk.read_dir(&self.path(key)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(removed),
            entries => entries?,
        };
        for entry in entries {
            if !entry.is_dir && entry.name.ends_with(BESIDE_SUFFIX) {
                let key = key.join(&entry.name);
                self.remove(&key)?;
                removed.push(Leftover { key });
            }
        }
        Ok(removed)
    }

    /// Checks that the store can be written: makes its directory, writes and removes a small file.
    pub fn probe(&self) -> Result<(), ProbeError> {
        let failed = |cause| ProbeError { root: self.root.clone(), cause };
        self.make_dir(&self.root).map_err(failed)?;
        let (beside, file) = self.beside(&self.root.join("probe")).map_err(failed)?;
        let written = file.write_at(b"probe", 0).and_then(|()| file.sync());
        drop(file);
        let removed = self.disk.remove_file(&beside);
        written.and(removed).map_err(failed)
    }

    /// Makes a directory with the names above it durable, as far as they are new.
    fn make_dir(&self, path: &Path) -> io::Result<()> {
        match self.disk.metadata(path) {
            Ok(found) if found.is_dir => return Ok(()),
            Ok(_) => return Err(io::ErrorKind::NotADirectory.into()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Err(_) => {}
        }
        let above = base::disk::parent(path);
        if above != path {
            self.make_dir(above)?;
        }
        self.disk.create_dir_all(path)?;
        let synced = self.disk.sync_dir(above);
        if synced.is_err() {
            // Not known to be durable, so it must not be there: who finds it builds on it.
            let _ = self.disk.remove_dir(path);
        }
        synced
    }

    /// A new file beside an object's place. Other processes may be at the same one, so the name must be free.
    fn beside(&self, path: &Path) -> io::Result<(PathBuf, Box<dyn DiskFile>)> {
        for _ in 0..BESIDE_TRIES {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let beside = base::disk::sibling(path, &format!(".{number}{BESIDE_SUFFIX}"));
            match self.disk.open(&beside, Open::CreateNew) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
                Ok(file) => return Ok((beside, file)),
            }
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, "too many unfinished files in the store"))
    }
}

/// Whether an error of a rename says that it did not happen (a network file system's may say less).
fn surely_undone(kind: io::ErrorKind) -> bool {
    use io::ErrorKind as E;
    matches!(
        kind,
        E::NotFound
            | E::PermissionDenied
            | E::StorageFull
            | E::QuotaExceeded
            | E::ReadOnlyFilesystem
            | E::CrossesDevices
            | E::InvalidInput
            | E::InvalidFilename
            | E::NotADirectory
            | E::Unsupported
    )
}

#[cfg(test)]
mod tests;
