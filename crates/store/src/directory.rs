//! A directory as a store: objects are files, created whole and durable, or not at all.
//!
//! An object is written beside its place (`<name>.<number>.tmp`), synced, moved to its name with a call that refuses
//! a taken one, and the directory is synced. So a name is either absent or holds the whole object, also after a power
//! loss. Leftovers end in `.tmp` and are in no listing.
//!
//! To replace is to compare and to rename while a lock is held (`<name>.lock`, flock(2)); the version of an object is
//! its inode, its length and the time of its last change.
//!
//! Once the directory has been seen, another one in its place (the disk is not mounted) is an error, never a new store.

use crate::{About, ErrorKind, Fill, Key, Layout, Listed, Objects, Outcome, Piece, StoreError, Tag};
use base::disk::{self, Metadata};
use base::{Disk, DiskFile, Open};
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// How many names are tried for a file that is being written; more are taken only if somebody leaves them there.
const BESIDE_TRIES: u64 = 10_000;

/// The ending of a file that is still being written.
const BESIDE_SUFFIX: &str = ".tmp";

/// The ending of a lock.
const LOCK_SUFFIX: &str = ".lock";

/// Bytes after which a file in the making begins its way to the disk, so that little is left for the final sync.
const SYNC_AHEAD_BYTES: u64 = 8 << 20;

/// How often an object is read again that was replaced meanwhile.
const READ_TRIES: u32 = 16;

/// Directories below directories that a listing follows.
const DEPTH_MAX: usize = 64;

/// A directory that holds objects.
#[derive(Debug)]
pub struct Directory {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    url: String,
    next: AtomicU64,
    /// File system and inode of the root, once it was there.
    seen: Mutex<Option<(u64, u64)>>,
    /// Directories whose names are known to be durable.
    durable: Mutex<BTreeSet<PathBuf>>,
}

impl Directory {
    /// The store below a directory, which need not exist yet.
    pub fn new(disk: Arc<dyn Disk>, root: PathBuf) -> Directory {
        let url = crate::url_of_directory(&root);
        Directory {
            disk,
            root,
            url,
            next: AtomicU64::default(),
            seen: Mutex::default(),
            durable: Mutex::default(),
        }
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn error(&self, kind: ErrorKind, key: Option<&Key>, reason: impl Into<String>) -> StoreError {
        StoreError::new(kind, &self.url, key, reason)
    }

    fn failed(&self, key: Option<&Key>, cause: &io::Error) -> StoreError {
        if cause.kind() == io::ErrorKind::NotFound {
            // Somebody removed a directory that was there: the next try makes it anew.
            self.durable.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        let kind = if disk::is_full(cause) { ErrorKind::Full } else { ErrorKind::Disk };
        self.error(kind, key, cause.to_string())
    }

    /// The root is the one that it was: what is written elsewhere would be a store of its own.
    fn check_root(&self) -> Result<(), StoreError> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match self.disk.metadata(&self.root) {
            Ok(found) if !found.is_dir => {
                let kind = if seen.is_some() { ErrorKind::Gone } else { ErrorKind::NoBucket };
                Err(self.error(kind, None, "it is no directory"))
            }
            Ok(found) if *seen.get_or_insert_with(|| identity(&found)) == identity(&found) => Ok(()),
            Ok(_) => Err(self.error(
                ErrorKind::Gone,
                None,
                "another directory is in its place: is the disk not mounted any more?",
            )),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound && seen.is_none() => {
                self.make_dir(&self.root).map_err(|cause| self.failed(None, &cause))?;
                let made = self.disk.metadata(&self.root).map_err(|cause| self.failed(None, &cause))?;
                *seen = Some(identity(&made));
                Ok(())
            }
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                Err(self.error(ErrorKind::Gone, None, "it is not there any more"))
            }
            Err(cause) => Err(self.failed(None, &cause)),
        }
    }

    /// Makes a directory where it is missing, and its name and those above it durable: whoever made one that is there may
    /// have died before that.
    fn make_dir(&self, path: &Path) -> io::Result<()> {
        let known = || self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        if known().contains(path) {
            return Ok(());
        }
        let there = match self.disk.metadata(path) {
            Ok(found) if found.is_dir => true,
            Ok(_) => return Err(io::ErrorKind::NotADirectory.into()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Err(_) => false,
        };
        let above = disk::parent(path);
        if above != path && (!there || path.starts_with(&self.root)) {
            self.make_dir(above)?;
        }
        if !there {
            self.disk.create_dir_all(path)?;
        }
        match self.disk.sync_dir(above) {
            // Whoever may not read a directory cannot have made one in it.
            Err(error) if there && error.kind() == io::ErrorKind::PermissionDenied => {}
            Err(error) => {
                if !there {
                    // Not known to be durable, so it must not be there: who finds it builds on it.
                    let _ = self.disk.remove_dir(path);
                }
                return Err(error);
            }
            Ok(()) => {}
        }
        known().insert(path.to_owned());
        Ok(())
    }

    /// A new file beside an object's place. Other processes may be at the same one, so the name must be free.
    fn beside(&self, path: &Path) -> io::Result<(PathBuf, Box<dyn DiskFile>)> {
        for _ in 0..BESIDE_TRIES {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let beside = disk::sibling(path, &format!(".{number}{BESIDE_SUFFIX}"));
            match self.disk.open(&beside, Open::CreateNew) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
                Ok(file) => return Ok((beside, file)),
            }
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, "too many unfinished files in the store"))
    }

    /// Writes a whole file beside an object's place, durable; removed again where that fails.
    fn write_beside(
        &self,
        path: &Path,
        fill: &mut dyn FnMut(&mut Sink) -> io::Result<()>,
    ) -> io::Result<PathBuf> {
        self.make_dir(disk::parent(path))?;
        let (beside, file) = self.beside(path)?;
        let mut sink = Sink { file, offset: 0, begun: 0, failed: None };
        let written = fill(&mut sink).and_then(|()| sink.file.sync());
        drop(sink.file);
        // What the disk said, rather than what was made of it on the way.
        let written = sink.failed.map_or(written, Err);
        written.inspect_err(|_| self.discard(&beside))?;
        Ok(beside)
    }

    /// Removes an unfinished file; one that stays is in no listing.
    fn discard(&self, beside: &Path) {
        let _ = self.disk.remove_file(beside);
    }

    /// The name is there: whether it will be after a power loss, too.
    fn named(&self, path: &Path) -> Outcome {
        match self.disk.sync_dir(disk::parent(path)).and_then(|()| self.disk.metadata(path)) {
            Ok(found) => Outcome::Won(tag(&found)),
            Err(error) => {
                tracing::warn!(event = "store not synced", path = %path.display(), %error, "an object's name may not be durable");
                Outcome::Unknown
            }
        }
    }

    /// Shows every file below a directory, with the key that it would have.
    fn walk(
        &self,
        dir: &Path,
        below: Option<&Key>,
        depth: usize,
        each: &mut dyn FnMut(&Path, Key) -> io::Result<ControlFlow<()>>,
    ) -> io::Result<ControlFlow<()>> {
        use io::ErrorKind::{NotADirectory, NotFound};
        let entries = match self.disk.read_dir(dir) {
            Err(error) if matches!(error.kind(), NotFound | NotADirectory) => {
                return Ok(ControlFlow::Continue(()));
            }
            entries => entries?,
        };
        for entry in entries {
            let text = below.map_or_else(|| entry.name.clone(), |below| format!("{below}/{}", entry.name));
            let Ok(key) = Key::parse(&text) else { continue };
            let path = dir.join(&entry.name);
            let flow = match entry.is_dir {
                true if depth < DEPTH_MAX => self.walk(&path, Some(&key), depth + 1, each)?,
                true => ControlFlow::Continue(()),
                false => each(&path, key)?,
            };
            if flow.is_break() {
                return Ok(flow);
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

impl Objects for Directory {
    fn url(&self) -> &str {
        &self.url
    }

    fn shown(&self, key: &Key) -> String {
        key.path(&self.root).display().to_string()
    }

    fn layout(&self) -> Layout {
        Layout::Directory
    }

    fn create(&self, key: &Key, about: About, fill: &mut Fill<'_>) -> Result<Outcome, StoreError> {
        self.check_root()?;
        let path = key.path(&self.root);
        let mut content = None;
        let beside = self.write_beside(&path, &mut |sink| {
            if let Err(cause) = fill(sink) {
                content = Some(cause.to_string());
                return Err(cause);
            }
            sink.file.set_modified(about.moment.0)
        });
        let beside = match (beside, content) {
            (Ok(beside), _) => beside,
            (Err(cause), Some(_)) if disk::is_full(&cause) => return Err(self.failed(Some(key), &cause)),
            (Err(_), Some(why)) => return Err(self.error(ErrorKind::Content, Some(key), why)),
            (Err(cause), None) => return Err(self.failed(Some(key), &cause)),
        };
        if let Err(cause) = self.disk.rename_new(&beside, &path) {
            self.discard(&beside);
            return match cause.kind() {
                io::ErrorKind::AlreadyExists => Ok(Outcome::Lost),
                kind if surely_undone(kind) => Err(self.failed(Some(key), &cause)),
                _ => Ok(Outcome::Unknown),
            };
        }
        Ok(self.named(&path))
    }

    fn replace(&self, key: &Key, bytes: &[u8], was: &Tag) -> Result<Outcome, StoreError> {
        self.check_root()?;
        let path = key.path(&self.root);
        let failed = |cause: io::Error| self.failed(Some(key), &cause);
        let beside = self.write_beside(&path, &mut |sink| sink.write_all(bytes)).map_err(failed)?;
        let lock = self.disk.lock(&disk::sibling(&path, LOCK_SUFFIX));
        let _lock = lock.inspect_err(|_| self.discard(&beside)).map_err(failed)?;
        // On a network file system only what is opened is asked for anew.
        let found = self.disk.open(&path, Open::Read).and_then(|_now| self.disk.metadata(&path));
        match found {
            Ok(found) if tag(&found) == *was => {}
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                self.discard(&beside);
                return Err(failed(cause));
            }
            _ => {
                self.discard(&beside);
                return Ok(Outcome::Lost);
            }
        }
        if let Err(cause) = self.disk.rename(&beside, &path) {
            self.discard(&beside);
            return if surely_undone(cause.kind()) { Err(failed(cause)) } else { Ok(Outcome::Unknown) };
        }
        Ok(self.named(&path))
    }

    fn read(&self, key: &Key, from: u64, bytes_max: usize) -> Result<Option<Piece>, StoreError> {
        let path = key.path(&self.root);
        let read = || -> io::Result<Option<Piece>> {
            let version = tag(&self.disk.metadata(&path)?);
            let file = self.disk.open(&path, Open::Read)?;
            let len = file.len()?;
            let left = usize::try_from(len.saturating_sub(from)).unwrap_or(usize::MAX);
            let mut bytes = vec![0; bytes_max.min(left)];
            let got = file.read_at(&mut bytes, from)?;
            bytes.truncate(got);
            // Else it was replaced meanwhile, and the bytes may be of another version.
            let same = tag(&self.disk.metadata(&path)?) == version;
            Ok(same.then_some(Piece { bytes, len, tag: version }))
        };
        let read = (0..READ_TRIES)
            .find_map(|_| read().transpose())
            .unwrap_or_else(|| Err(io::Error::other("it is being replaced again and again")));
        match read {
            Ok(piece) => Ok(Some(piece)),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => self.check_root().map(|()| None),
            Err(cause) => Err(self.failed(Some(key), &cause)),
        }
    }

    fn file(&self, key: &Key) -> Option<io::Result<Box<dyn DiskFile>>> {
        Some(self.disk.open(&key.path(&self.root), Open::Read).map_err(|error| {
            match (error.kind(), self.check_root()) {
                (io::ErrorKind::NotFound, Err(away)) => away.into(),
                _ => error,
            }
        }))
    }

    fn readers(&self) -> usize {
        self.disk.readers()
    }

    fn settle(&self, key: &Key) -> Result<(), StoreError> {
        let dir = key.path(&self.root);
        let dir = disk::parent(&dir);
        let settled = self.make_dir(dir).and_then(|()| self.disk.sync_dir(dir));
        settled.map_err(|cause| self.failed(Some(key), &cause))
    }

    fn look_afresh(&self) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.durable.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn look_again(&self, key: &Key, bytes_max: usize, is_same: &dyn Fn(&[u8]) -> bool) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let there = || self.disk.metadata(&self.root).ok().filter(|found| found.is_dir);
        let there = || there().map(|found| identity(&found));
        let Some(now) = there().filter(|now| seen.is_some_and(|seen| seen != *now)) else { return };
        let bytes = disk::read(&*self.disk, &key.path(&self.root), bytes_max as u64);
        if bytes.is_ok_and(|bytes| is_same(&bytes)) && there() == Some(now) {
            *seen = Some(now);
            self.durable.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    fn tidy(&self) -> Result<(), StoreError> {
        self.check_root()?;
        let mut left = Vec::new();
        let mut each = |path: &Path, key: Key| {
            if is_left_by_a_write(&key) {
                left.push(path.to_owned());
            }
            Ok(ControlFlow::Continue(()))
        };
        let failed = |cause: io::Error| self.failed(None, &cause);
        let _ = self.walk(&self.root, None, 0, &mut each).map_err(failed)?;
        for path in left {
            match self.disk.remove_file(&path) {
                Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(failed(cause)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Not synced: an object may come back after a power loss, never a part.
    fn remove(&self, keys: &[Key]) -> Result<(), StoreError> {
        self.check_root()?;
        for key in keys {
            match self.disk.remove_file(&key.path(&self.root)) {
                Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                    return Err(self.failed(Some(key), &cause));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn list(
        &self,
        below: Option<&Key>,
        each: &mut dyn FnMut(Listed) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.check_root()?;
        let dir = below.map_or_else(|| self.root.clone(), |below| below.path(&self.root));
        let mut show = |path: &Path, key: Key| {
            if key.name().ends_with(BESIDE_SUFFIX) || key.name().ends_with(LOCK_SUFFIX) {
                return Ok(ControlFlow::Continue(()));
            }
            match self.disk.metadata(path) {
                Ok(found) => Ok(each(Listed { key, len: found.len })),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(ControlFlow::Continue(())),
                Err(error) => Err(error),
            }
        };
        self.walk(&dir, below, 0, &mut show).map(drop).map_err(|cause| self.failed(below, &cause))
    }
}

/// A file written from front to back.
struct Sink {
    file: Box<dyn DiskFile>,
    offset: u64,
    /// Up to here the disk was asked to begin.
    begun: u64,
    /// What the disk said when it could not be written.
    failed: Option<io::Error>,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Err(error) = self.file.write_at(bytes, self.offset) {
            let told = io::Error::new(error.kind(), error.to_string());
            self.failed = Some(error);
            return Err(told);
        }
        self.offset += bytes.len() as u64;
        if self.offset - self.begun >= SYNC_AHEAD_BYTES {
            self.file.begin_sync(self.begun..self.offset);
            self.begun = self.offset;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether this is the name of an object of Stead's that was being written: `<name>.<number>.tmp`. Whatever else lies there
/// is somebody's.
fn is_left_by_a_write(key: &Key) -> bool {
    let written = key.name().strip_suffix(BESIDE_SUFFIX).and_then(|name| name.rsplit_once('.'));
    let number =
        written.filter(|(_, number)| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()));
    number.is_some_and(|(name, _)| name.ends_with(".ltx") || key.as_str().starts_with(".stead/"))
}

fn identity(found: &Metadata) -> (u64, u64) {
    (found.device, found.inode)
}

fn tag(found: &Metadata) -> Tag {
    Tag(format!("{:x}-{:x}-{:x}", found.inode, found.len, found.changed_ns))
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
