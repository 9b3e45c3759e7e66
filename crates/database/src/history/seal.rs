//! A new level-0 file: written beside its name, durable, then visible, in two fsyncs.
//!
//! It must continue history: the next TXID, and the database checksum that the last file ended with. Files that
//! reach beyond the last usable one (the end of history was damaged, or abandoned) are moved to `aside/` first, so
//! that nothing can be mistaken for a continuation of the new file.

use super::files::{Entry, FileInfo, Place, TMP_SUFFIX, level_dir};
use super::{History, Inner, SealedFile};
use base::{Checksum, DiskFile, Open, Pgno, Txid};
use ltx::{EncodeError, Encoder, Header, PageProblem};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

/// Where files go that no longer belong to history, below its base.
pub(super) const ASIDE_DIR: &str = "aside";

/// Why a seal was not written. Nothing of it is there.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Not the next TXID: the caller has lost track of history.
    #[error("TXID {found} cannot be sealed, the next is {expected}")]
    NotNext {
        /// The next one.
        expected: Txid,
        /// The header's.
        found: Txid,
    },
    /// It continues another database than history ends with.
    #[error("the seal starts from a database with checksum {found}, history ends with {expected}")]
    Chain {
        /// What history ends with.
        expected: Checksum,
        /// What the header says.
        found: Checksum,
    },
    /// A page is not the one announced; find out what changed, and seal that.
    #[error("page {page} has checksum {now} instead of {was}")]
    Changed {
        /// The page.
        page: Pgno,
        /// Its checksum.
        now: Checksum,
        /// The one announced.
        was: Checksum,
    },
    /// Header or pages that no reader would take, or a disk that failed while they were written.
    #[error("cannot write {path}: {cause}")]
    Encode {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: EncodeError,
    },
    /// The file system failed; where it is full, the same seal succeeds when there is space again.
    #[error("cannot write {path}: {cause}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        cause: io::Error,
    },
}

impl SealError {
    /// Whether the disk is full: the same seal succeeds when there is space again.
    pub fn is_disk_full(&self) -> bool {
        let cause = match self {
            SealError::Io { cause, .. } | SealError::Encode { cause: EncodeError::Io(cause), .. } => cause,
            _ => return false,
        };
        base::disk::is_full(cause)
    }
}

/// A level-0 file while it is written; dropped without [`LevelZero::publish`], it is removed.
pub struct LevelZero {
    inner: Arc<Inner>,
    header: Header,
    encoder: Option<Encoder<Sink>>,
    beside: PathBuf,
    path: PathBuf,
}

impl std::fmt::Debug for LevelZero {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LevelZero").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Bytes after which a file in the making begins its way to the disk, so that little is left for the final sync.
const SYNC_AHEAD_BYTES: u64 = 8 << 20;

/// A file written from front to back.
pub(super) struct Sink {
    pub(super) file: Box<dyn DiskFile>,
    offset: u64,
    /// Up to here the disk was asked to begin.
    begun: u64,
}

impl Sink {
    /// An empty file.
    pub(super) fn new(file: Box<dyn DiskFile>) -> Sink {
        Sink { file, offset: 0, begun: 0 }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_at(bytes, self.offset)?;
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

impl History {
    /// Begins the file of the next TXID.
    pub fn begin(&self, header: Header) -> Result<LevelZero, SealError> {
        self.inner.check_next(&header)?;
        let name = super::FileKey { level: 0, min: header.min_txid, max: header.max_txid };
        let path = self.inner.local.join(name.relative());
        let beside = base::disk::sibling(&path, TMP_SUFFIX);
        let file = self
            .inner
            .disk
            .open(&beside, Open::Create { private: false })
            .map_err(|cause| SealError::Io { path: path.clone(), cause })?;
        let inner = self.inner.clone();
        // Made before the encoder, so that an encoder that refuses leaves no file behind.
        let mut level_zero = LevelZero { inner, header, encoder: None, beside, path };
        let encoder = Encoder::new(Sink::new(file), header);
        level_zero.encoder = Some(encoder.map_err(|cause| level_zero.encode_error(cause))?);
        Ok(level_zero)
    }
}

impl Inner {
    fn check_next(&self, header: &Header) -> Result<(), SealError> {
        let files = self.lock();
        let last = files.last.as_ref().map(|last| &last.header);
        let expected = last.map_or(Txid(1), |last| last.max_txid.next());
        if header.min_txid != expected || header.max_txid != expected {
            return Err(SealError::NotNext { expected, found: header.min_txid });
        }
        let expected = last.map_or(Checksum::NONE, |last| last.checksum_after);
        let found = header.checksum_before;
        if expected != Checksum::NONE && found != Checksum::NONE && expected != found {
            return Err(SealError::Chain { expected, found });
        }
        Ok(())
    }

    /// Moves files aside that reach as far as a TXID about to be sealed, or further.
    fn set_aside_from(&self, txid: Txid) -> io::Result<()> {
        let beyond: Vec<Arc<Entry>> = {
            let files = self.lock();
            if files.reach < txid {
                return Ok(());
            }
            files.all().filter(|entry| entry.key.max >= txid).cloned().collect()
        };
        if beyond.is_empty() {
            return Ok(());
        }
        let mut here = Vec::new();
        for entry in beyond {
            match entry.place {
                Place::Local => here.push(entry),
                Place::Store => {
                    self.lock().orphans.insert(entry.key);
                }
            }
        }
        self.set_aside_here(here)
    }

    /// Moves local files aside, durably; one that somebody took away is gone already. The caller holds what
    /// [`Inner::settle_move`] returned.
    pub(super) fn set_aside_here(&self, entries: Vec<Arc<Entry>>) -> io::Result<()> {
        let aside = self.local.join(ASIDE_DIR);
        super::make_dir(&*self.disk, &aside)?;
        for entry in entries {
            let name = format!("{}-{}", entry.key.level, entry.key.name());
            tracing::warn!(event = "history file set aside", file = %entry.path.display(), "beyond the end of history");
            match set_aside(&*self.disk, &entry.path, &aside.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => drop(self.lock().entries.remove(&(entry.key, entry.place))),
            }
        }
        self.disk.sync_dir(&aside)?;
        let top = self.local.join(super::files::LTX_DIR);
        for level in self.disk.read_dir(&top)?.into_iter().filter(|entry| entry.is_dir) {
            self.disk.sync_dir(&top.join(level.name))?;
        }
        Ok(())
    }
}

/// Moves a file to a free name: the one given, or that with a number.
fn set_aside(disk: &dyn base::Disk, from: &std::path::Path, to: &std::path::Path) -> io::Result<()> {
    /// Names tried; more are taken only if the same end of history was abandoned as often.
    const TRIES: u32 = 1000;
    for number in 0..TRIES {
        let to = if number == 0 { to.to_owned() } else { base::disk::sibling(to, &format!(".{number}")) };
        match disk.rename_new(from, &to) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            done => return done,
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

impl LevelZero {
    /// Says how many pages will come, before the first: many are packed by two threads.
    pub fn expect_pages(&mut self, pages: usize) {
        self.encoder().expect_pages(pages);
    }

    /// Writes the next page; page numbers rise.
    pub fn page(&mut self, pgno: Pgno, page: &[u8]) -> Result<(), SealError> {
        let written = self.encoder().page(pgno, page);
        written.map_err(|cause| self.encode_error(cause))
    }

    /// Writes the next page, which must have this checksum. That it has not may also be said by a later call.
    pub fn announced_page(&mut self, pgno: Pgno, page: &[u8], sum: Checksum) -> Result<(), SealError> {
        let written = self.encoder().announced_page(pgno, page, sum);
        written.map_err(|cause| self.encode_error(cause))
    }

    fn encoder(&mut self) -> &mut Encoder<Sink> {
        self.encoder.as_mut().expect("invariant: present until published")
    }

    /// Makes the file durable, then visible. Two fsyncs: its contents, its name.
    pub fn publish(mut self) -> Result<FileInfo, SealError> {
        self.inner.check_next(&self.header)?;
        let encoder = self.encoder.take().expect("invariant: present until published");
        let (sink, finished) = encoder.finish().map_err(|cause| self.encode_error(cause))?;
        self.make_visible(sink).map_err(|cause| SealError::Io { path: self.path.clone(), cause })?;
        let path = self.path.clone();
        let entry = Entry::written(path, finished.bytes, 0, &self.header);
        let info = entry.info();
        let mut files = self.inner.lock();
        files.insert(entry);
        files.last = Some(SealedFile { file: info.clone(), header: self.header });
        Ok(info)
    }

    fn make_visible(&self, sink: Sink) -> io::Result<()> {
        let disk = &*self.inner.disk;
        sink.file.set_modified(self.header.timestamp.0)?;
        sink.file.sync()?;
        drop(sink);
        let _settled = self.inner.settle_move()?;
        self.inner.set_aside_from(self.header.min_txid)?;
        disk.rename(&self.beside, &self.path)?;
        let synced = disk.sync_dir(&self.inner.local.join(level_dir(0)));
        if synced.is_err() {
            // Not known to be durable, so it must not be there: the same TXID will be sealed again.
            let _ = disk.remove_file(&self.path);
        }
        synced
    }

    fn encode_error(&self, cause: EncodeError) -> SealError {
        match cause {
            EncodeError::Page { pgno, problem: PageProblem::Changed { now, was } } => {
                SealError::Changed { page: Pgno(pgno), now, was }
            }
            cause => SealError::Encode { path: self.path.clone(), cause },
        }
    }
}

impl Drop for LevelZero {
    fn drop(&mut self) {
        // Closed before it goes; after a publication the name is gone already. A leftover is removed at open.
        self.encoder = None;
        let _ = self.inner.disk.remove_file(&self.beside);
    }
}
