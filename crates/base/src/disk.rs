//! Files behind a trait: the real disk here, a forgetful simulated one in `sim`.
//!
//! Everything that Stead itself keeps (history, configuration, checksums) is read and written through [`Disk`].
//! Databases that SQLite has open are *not*: POSIX locks belong to the process, and closing any descriptor of such a
//! file drops all of them. Those are reached through SQLite's own file handles only (crate `database`).
//!
//! Durability is explicit: [`DiskFile::sync`] for contents, [`Disk::sync_dir`] for names.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

mod local;
mod own;
mod planted;
mod writeback;
pub use local::LocalDisk;
pub use own::own_directory;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// Existing, for reading.
    Read,
    /// Existing, for reading and writing; never through a link, and no file that has further names.
    Write,
    /// New or emptied, never through a link, for reading and writing, mode 0600 where `private`, else 0644 before the umask.
    Create {
        /// Only the owner may read it.
        private: bool,
    },
    /// New, for reading and writing; an error where the name exists.
    CreateNew,
}

/// What is known of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Bytes.
    pub len: u64,
    /// A directory (symbolic links are followed).
    pub is_dir: bool,
    /// A file with contents: no directory, pipe, socket or device.
    pub is_file: bool,
    /// The file system; with the inode number it tells two files from two names of one.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Last change of contents, nanoseconds since 1970.
    pub modified_ns: i128,
    /// Last change of contents or attributes, nanoseconds since 1970.
    pub changed_ns: i128,
}

/// Whose a file is, and what its owner and others may do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The permission bits, without the kind of file.
    pub mode: u32,
}

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The last part of the path.
    pub name: String,
    /// A directory (symbolic links are not followed).
    pub is_dir: bool,
}

/// A file system.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Opens a file.
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>>;
    /// What lies under a name.
    fn metadata(&self, path: &Path) -> io::Result<Metadata>;
    /// Whose a file is; `Unsupported` on a disk that knows no owners.
    fn owner(&self, _path: &Path) -> io::Result<Owner> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Gives a file to an owner. At no moment may anybody do more with it than before or after.
    fn give(&self, _path: &Path, _to: Owner) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Refuses, as `PermissionDenied`, a name that another user may have planted: a link to a file that is not theirs.
    fn refuse_planted(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }
    /// The names in a directory, sorted; names that are not UTF-8 are left out.
    fn read_dir(&self, path: &Path) -> io::Result<Vec<Entry>>;
    /// Moves a name, replacing what was there. Durable after [`Disk::sync_dir`] of both directories.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Moves a name, `AlreadyExists` where the new one is taken. Durable like [`Disk::rename`].
    ///
    /// What is provided here suffices for a disk that only one process writes; a shared one must make it one step.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        match self.metadata(to) {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.rename(from, to),
            Err(error) => Err(error),
        }
    }
    /// Removes a file's name.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes a directory and those above it.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Waits until no other process has the lock that a file stands for (made where it is missing), and has it until
    /// what is returned is dropped. What is provided here suffices for a disk that only one thread writes.
    fn lock(&self, _path: &Path) -> io::Result<Box<dyn fmt::Debug>> {
        Ok(Box::new(()))
    }
    /// Bytes free for an ordinary user.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;
    /// How many threads may well read from it at once; a disk that replays one order of calls has one.
    fn readers(&self) -> usize {
        1
    }
}

/// An open file. Positions are explicit, so that it can be shared.
pub trait DiskFile: Send + Sync + fmt::Debug {
    /// Reads at most the buffer; fewer bytes only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all bytes.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Bytes in the file.
    fn len(&self) -> io::Result<u64>;
    /// Cuts or extends with zeroes.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes the contents durable (fdatasync).
    fn sync(&self) -> io::Result<()>;
    /// A hint that these bytes will not change again: the disk may begin to write them, so that a later
    /// [`DiskFile::sync`] has less to wait for. Nothing is durable by it.
    fn begin_sync(&self, _bytes: Range<u64>) {}
    /// Sets the time of last change, milliseconds since 1970.
    fn set_modified(&self, unix_ms: i64) -> io::Result<()>;

    /// Reads exactly the buffer, or fails with `UnexpectedEof`.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let got = self.read_at(buffer, offset)?;
        if got == buffer.len() {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            format!("{got} of {} bytes at offset {offset}", buffer.len()),
        ))
    }

    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// The whole contents of a file of at most `limit` bytes; `FileTooLarge` beyond.
pub fn read(disk: &dyn Disk, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = disk.open(path, Open::Read)?;
    let len = file.len()?;
    if len > limit {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("{len} bytes, the limit is {limit}"),
        ));
    }
    let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    let got = file.read_at(&mut bytes, 0)?;
    bytes.truncate(got);
    Ok(bytes)
}

/// Replaces a file as one step that survives a crash: written beside it, synced, renamed, directory synced.
pub fn write_atomic(disk: &dyn Disk, path: &Path, bytes: &[u8], private: bool) -> io::Result<()> {
    let beside = sibling(path, ".tmp");
    let written = (|| {
        let file = disk.open(&beside, Open::Create { private })?;
        file.write_at(bytes, 0)?;
        file.sync()?;
        disk.rename(&beside, path)
    })();
    if let Err(error) = written {
        // The half-written file must not stay; the first error is the one to report.
        let _ = disk.remove_file(&beside);
        return Err(error);
    }
    disk.sync_dir(parent(path))
}

/// Removes a directory and everything below it; a missing one is fine.
pub fn remove_dir_all(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let entries = match disk.read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let below = path.join(&entry.name);
        if entry.is_dir { remove_dir_all(disk, &below)? } else { disk.remove_file(&below)? }
    }
    disk.remove_dir(path)
}

/// Removes a file; a missing one is fine.
pub fn remove_if_there(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Whether an error says that the disk, or its owner's share of it, is full.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// The path with a suffix added to its last part.
pub fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The directory that holds a name.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}
