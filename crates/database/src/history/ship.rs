//! Copies of history's files in the store: created only, durable, verified while they are read, oldest first.
//!
//! What the store can do without is not sent: a file whose TXIDs lie within a merged file that is there. A copy in
//! the store that belongs to an abandoned end of history, or is damaged, is moved to `aside/` when its name is needed.

use super::files::{Entry, FileKey, Place};
use super::seal::ASIDE_DIR;
use super::{History, Inner, Unusable};
use base::{DiskFile, Txid};
use ltx::{Decoder, Header, Sequential};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use store::{Directory, Outcome};

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shipped {
    /// Files.
    pub files: u64,
    /// Bytes.
    pub bytes: u64,
    /// The furthest position that can be restored from the store alone.
    pub stored_txid: Txid,
}

/// Why not everything was copied. What was is there; the same call goes on from it.
#[derive(Debug, thiserror::Error)]
pub enum ShipError {
    /// The store could not be written: try again.
    #[error(transparent)]
    Put(#[from] store::PutError),
    /// The store did not say whether it has the file: try again.
    #[error("the store may or may not have {path}")]
    Unknown {
        /// The file in the store.
        path: PathBuf,
    },
    /// Another file has the name in the store: somebody else writes the same history. Nothing was replaced.
    #[error("{path} is in the store already, with other contents: does another node write to this store?")]
    Conflict {
        /// The file in the store.
        path: PathBuf,
    },
    /// A file could not be read or moved aside.
    #[error("{path}: {cause}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        cause: io::Error,
    },
}

impl History {
    /// Copies what the store lacks. Without a store, nothing.
    pub fn ship(&self) -> Result<Shipped, ShipError> {
        let mut shipped = Shipped::default();
        let Some(store) = self.inner.store.get().cloned() else { return Ok(shipped) };
        let done = self.inner.ship_all(&store, &mut shipped);
        if shipped.files > 0 {
            // Where it cannot be read now, what was known stays.
            let _ = self.inner.find_stored();
        }
        done?;
        shipped.stored_txid = self.inner.lock().stored;
        Ok(shipped)
    }
}

impl Inner {
    fn ship_all(&self, store: &Directory, shipped: &mut Shipped) -> Result<(), ShipError> {
        self.move_orphans(store)?;
        for entry in self.unshipped() {
            if self.covered_in_store(entry.key) {
                continue;
            }
            if let Some(bytes) = self.ship_one(store, &entry)? {
                shipped.files += 1;
                shipped.bytes += bytes;
            }
        }
        Ok(())
    }

    /// Local files without a copy in the store, those that reach back furthest first, of these the longest first.
    fn unshipped(&self) -> Vec<Arc<Entry>> {
        let files = self.lock();
        let lacking = |entry: &&Arc<Entry>| {
            let copy = files.entries.get(&(entry.key, Place::Store));
            entry.place == Place::Local
                && entry.damage().is_none()
                && copy.is_none_or(|copy| copy.damage().is_some())
        };
        let mut lacking: Vec<Arc<Entry>> = files.all().filter(lacking).cloned().collect();
        lacking.sort_by_key(|entry| (entry.key.min, std::cmp::Reverse((entry.key.max, entry.key.level))));
        lacking
    }

    /// Whether a merged file in the store has all that a file has. A snapshot is replaced by the same one only: what
    /// lies before a later one is history of its own.
    fn covered_in_store(&self, key: FileKey) -> bool {
        let files = self.lock();
        let covers = |other: &Entry| {
            let it = other.key;
            let same = (it.min, it.max) == (key.min, key.max);
            let larger = it.min <= key.min && it.max >= key.max && !same && !it.is_snapshot();
            other.place == Place::Store
                && other.damage().is_none()
                && !files.orphans.contains(&it)
                && (larger || (same && it.level > key.level))
        };
        files.all().any(|other| covers(other))
    }

    fn ship_one(&self, store: &Directory, entry: &Entry) -> Result<Option<u64>, ShipError> {
        let key = entry.key.relative();
        let header = match entry.header(&*self.disk) {
            Ok(header) => header,
            Err(why) => return skip(entry, why),
        };
        let in_the_way = self.lock().entries.contains_key(&(entry.key, Place::Store));
        if in_the_way {
            self.free_name(store, entry.key)?;
        }
        let path = store.path(&key);
        let settled = self.settle_move(Place::Store);
        let _settled = settled.map_err(|cause| ShipError::Io { path: path.clone(), cause })?;
        let mut spoilt = None;
        let mut bytes = 0;
        let outcome = store.put(&key, &mut |out| {
            match self.copy_verified(entry, &header, out) {
                Ok(count) => bytes = count,
                Err(why) => {
                    spoilt = Some(why);
                    return Err(io::Error::other("the file to be copied cannot be used"));
                }
            }
            out.set_modified(header.timestamp.0)
        });
        match (outcome, spoilt) {
            (_, Some(CopyTrouble::Source(why))) => return skip(entry, why),
            (_, Some(CopyTrouble::Output(cause))) => return Err(ShipError::Io { path, cause }),
            (Err(error), None) => return Err(error.into()),
            (Ok(Outcome::Unknown), None) => return Err(ShipError::Unknown { path }),
            (Ok(Outcome::Won), None) => {}
            // Ours from before a crash, perhaps.
            (Ok(Outcome::Lost), None) if self.same(&path, entry) => bytes = 0,
            (Ok(Outcome::Lost), None) => return Err(ShipError::Conflict { path }),
        }
        self.lock().insert(Entry::written(Place::Store, path, entry.bytes, entry.key.level, &header));
        Ok(Some(bytes))
    }

    /// Copies a file and verifies it on the way; only a whole, proven one may get a name in the store.
    fn copy_verified(&self, entry: &Entry, header: &Header, out: &dyn DiskFile) -> Result<u64, CopyTrouble> {
        let file = entry.open(&*self.disk).map_err(CopyTrouble::Source)?;
        let source = Sequential::new(file).map_err(|cause| CopyTrouble::Source(entry.blame(cause.into())))?;
        let mut failed = None;
        let tee = Tee { source, out, offset: 0, failed: &mut failed };
        let proven = Decoder::new(tee).and_then(|decoder| {
            let same = decoder.header() == header;
            decoder.finish().map(|trailer| (same, trailer.bytes))
        });
        if let Some(cause) = failed {
            return Err(CopyTrouble::Output(cause));
        }
        match proven {
            Ok((true, bytes)) => Ok(bytes),
            Ok((false, _)) => {
                entry.mark_damaged("its header changed");
                Err(CopyTrouble::Source(Unusable::Damaged))
            }
            Err(error) => Err(CopyTrouble::Source(entry.blame(error))),
        }
    }

    /// Whether the file in the store is the same as ours: same header, length and trailer (the file's checksum).
    fn same(&self, path: &Path, entry: &Entry) -> bool {
        let ends = |path: &Path| -> io::Result<(u64, Vec<u8>, Vec<u8>)> {
            let file = self.disk.open(path, base::Open::Read)?;
            let len = file.len()?;
            let mut head = vec![0; ltx::limits::HEADER_BYTES];
            let mut tail = vec![0; ltx::limits::TRAILER_BYTES];
            file.read_exact_at(&mut head, 0)?;
            file.read_exact_at(&mut tail, len.saturating_sub(ltx::limits::TRAILER_BYTES as u64))?;
            Ok((len, head, tail))
        };
        matches!((ends(path), ends(&entry.path)), (Ok(theirs), Ok(ours)) if theirs == ours)
    }

    fn move_orphans(&self, store: &Directory) -> Result<(), ShipError> {
        let orphans: Vec<FileKey> = self.lock().orphans.iter().copied().collect();
        orphans.into_iter().try_for_each(|key| self.free_name(store, key))
    }

    fn free_name(&self, store: &Directory, key: FileKey) -> Result<(), ShipError> {
        let done = self.set_aside_in_store(store, key);
        done.map_err(|cause| ShipError::Io { path: store.path(&key.relative()), cause })
    }

    /// Moves a file in the store aside, durably; one that somebody took away is gone already.
    pub(super) fn set_aside_in_store(&self, store: &Directory, key: FileKey) -> io::Result<()> {
        let from = key.relative();
        let _settled = self.settle_move(Place::Store)?;
        tracing::warn!(event = "history file set aside", file = %store.path(&from).display(), "in the store");
        let mut number = 0;
        loop {
            let suffix = if number == 0 { String::new() } else { format!(".{number}") };
            let to = Path::new(ASIDE_DIR).join(format!("{}-{}{suffix}", key.level, key.name()));
            match store.set_aside(&from, &to) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < 1000 => number += 1,
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => break,
            }
        }
        let mut files = self.lock();
        files.orphans.remove(&key);
        files.entries.remove(&(key, Place::Store));
        Ok(())
    }
}

enum CopyTrouble {
    Source(Unusable),
    Output(io::Error),
}

/// A file that cannot be used is not sent; what is wrong with it is known now, and other files may cover it.
fn skip(entry: &Entry, why: Unusable) -> Result<Option<u64>, ShipError> {
    match why {
        Unusable::Damaged => Ok(None),
        Unusable::Unavailable(cause) => Err(ShipError::Io { path: entry.path.clone(), cause }),
    }
}

/// Hands bytes on while they are read.
struct Tee<'a, R: Read> {
    source: R,
    out: &'a dyn DiskFile,
    offset: u64,
    failed: &'a mut Option<io::Error>,
}

impl<R: Read> Read for Tee<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        if let Err(error) = self.out.write_at(&buffer[..count], self.offset) {
            *self.failed = Some(error);
            return Err(io::Error::other("the copy cannot be written"));
        }
        self.offset += count as u64;
        Ok(count)
    }
}
