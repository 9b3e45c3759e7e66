//! Copies of history's files in the store: created only, durable, verified while they are read, oldest first.
//!
//! What the store can do without is not sent: a file whose TXIDs lie within a merged file that is there. A copy in
//! the store that belongs to an abandoned end of history, or is damaged, is moved to `aside/` when its name is needed.
//!
//! What is there counts as stored once whoever looks for it finds it: a seal beyond the list's end by its name, anything
//! else by the list.

use super::files::{Entry, FileKey, Place};
use super::{Files, History, Inner, Remote, Unusable};
use crate::bucket::{Bucket, BucketError};
use base::Txid;
use ltx::{Decoder, Header, Sequential};
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use store::{About, ErrorKind, Key, Outcome, StoreError, StoredFile};

/// Bytes of a file that are copied without a rest.
const REST_EVERY: u64 = 4 << 20;

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shipped {
    /// Files.
    pub files: u64,
    /// Bytes.
    pub bytes: u64,
    /// The furthest position that can be restored from the store alone.
    pub stored_txid: Txid,
    /// It stopped before everything was copied.
    pub more: bool,
}

/// How history is copied.
pub struct Terms<'a> {
    /// Whether to stop, asked between two files.
    pub is_over: &'a dyn Fn() -> bool,
    /// Called now and then within a large file, with its bytes; it may take its time.
    pub rest: &'a dyn Fn(u64),
    /// Whose store it is; `None`: nobody else writes there.
    pub bucket: Option<&'a Bucket>,
}

impl<'a> Terms<'a> {
    /// To the end, without a rest.
    pub fn of(bucket: &'a Bucket) -> Terms<'a> {
        Terms { is_over: &|| false, rest: &|_| (), bucket: Some(bucket) }
    }
}

/// Why not everything was copied. What was is there; the same call goes on from it.
#[derive(Debug, thiserror::Error)]
pub enum ShipError {
    /// The store could not be written: try again.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The list of what is there could not be written.
    #[error(transparent)]
    Bucket(#[from] BucketError),
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
        /// Which it was to be.
        key: FileKey,
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
        self.ship_under(&Terms { is_over: &|| false, rest: &|_| (), bucket: None })
    }

    /// Copies what the store lacks, under these terms.
    pub fn ship_under(&self, terms: &Terms<'_>) -> Result<Shipped, ShipError> {
        let mut shipped = Shipped::default();
        let Some(store) = self.inner.store.get() else { return Ok(shipped) };
        let done = self.inner.ship_all(store, terms, &mut shipped);
        if shipped.files > 0 {
            // Where it cannot be read now, what was known stays.
            let _ = self.inner.find_stored();
        }
        done?;
        shipped.stored_txid = self.stored_txid();
        Ok(shipped)
    }

    /// Moves an object aside that is in the way of one of ours, where it was sealed under an older right to write: what
    /// its owner sent after it had lost the store; whether it was.
    pub fn clear_stale(&self, bucket: &Bucket, key: FileKey) -> Result<bool, BucketError> {
        let Some(store) = self.inner.store.get() else { return Ok(false) };
        let ours = bucket.epoch();
        let Some(found) = store.look(key)?.filter(|found| found.page_size > 0 && found.epoch < ours) else {
            return Ok(false);
        };
        let name = store.key(key);
        tracing::warn!(
            event = "stale object set aside",
            file = %store.shown(&name).display(),
            theirs = found.epoch.0,
            ours = ours.0
        );
        store.move_aside(key, Some(bucket), |error| {
            let url = store.objects.url();
            BucketError::Store(StoreError::new(ErrorKind::Content, url, Some(&name), error.to_string()))
        })?;
        Ok(true)
    }

    /// The files that a list is to have; `None` without a store.
    pub fn listing(&self) -> Option<Vec<StoredFile>> {
        self.inner.store.get()?;
        let files = self.inner.lock();
        // A damaged one stays, as the only trace of what it held, until another has that.
        let wanted = |entry: &&Arc<Entry>| {
            let here = entry.place == Place::Store && !files.orphans.contains(&entry.key);
            here && (entry.damage().is_none() || (entry.is_listed() && !files.is_covered_in_store(entry.key)))
        };
        let listed = files.all().filter(wanted);
        let mut listing: Vec<StoredFile> = listed.filter_map(|entry| entry.stored()).collect();
        listing.sort_by_key(|file| (file.level, file.min, file.max));
        Some(listing)
    }

    /// A list has these files now.
    pub fn was_listed(&self, listing: &[StoredFile]) {
        let mut files = self.inner.lock();
        for file in listing {
            let key = FileKey { level: file.level, min: file.min, max: file.max };
            let there = files.entries.get(&(key, Place::Store));
            if let Some(entry) = there.filter(|entry| entry.stored().is_some_and(|known| known == *file)) {
                entry.set_listed();
            }
        }
        // One without any file is in no list.
        files.listed_upto = listing.iter().map(|file| file.max).max();
        drop(files);
        // Where it cannot be read now, what was known stays.
        let _ = self.inner.find_stored();
    }

    /// Whether the store has objects of an abandoned end of history.
    pub fn has_orphans(&self) -> bool {
        !self.inner.lock().orphans.is_empty()
    }

    /// Copies the objects of an abandoned end of history to `aside/`. What they are called: they are to go, in one step
    /// with the list that names them no more, as whoever comes next would take them for seals that follow it.
    pub fn copy_orphans_aside(&self) -> Result<Vec<Key>, ShipError> {
        let Some(store) = self.inner.store.get() else { return Ok(Vec::new()) };
        self.inner.orphans().into_iter().map(|entry| self.inner.copy_orphan_aside(store, &entry)).collect()
    }

    /// These objects are gone.
    pub fn forget_orphans(&self, gone: &[Key]) {
        let Some(store) = self.inner.store.get() else { return };
        for entry in self.inner.orphans() {
            if gone.contains(&store.key(entry.named())) {
                self.inner.forget_stored(entry.key);
            }
        }
    }

    /// Takes what thinning can do without out of the store's part; the objects that are to be removed once no list has
    /// them. A file that is in use stays for the next time.
    ///
    /// What ended a history as the store was taken over stays for good: its name is that of the next seal of whoever had
    /// the store before, and does not know it yet.
    pub fn shed(&self) -> Vec<Key> {
        let Some(store) = self.inner.store.get() else { return Vec::new() };
        let spare = std::mem::take(&mut self.inner.lock().spare);
        let shed = spare.into_iter().filter_map(|key| self.inner.take_unused(key, Place::Store));
        shed.filter(|entry| !entry.changes_nothing()).map(|entry| store.key(entry.named())).collect()
    }
}

impl Inner {
    fn ship_all(&self, store: &Remote, terms: &Terms<'_>, shipped: &mut Shipped) -> Result<(), ShipError> {
        // Those of a history that no list knows, and nobody looks for.
        self.orphans().iter().try_for_each(|orphan| self.free_name(store, orphan.key, terms))?;
        for entry in self.unshipped() {
            if self.lock().is_covered_in_store(entry.key) {
                continue;
            }
            if shipped.files > 0 && (terms.is_over)() {
                shipped.more = true;
                return Ok(());
            }
            if let Some(bytes) = self.ship_one(store, &entry, terms)? {
                shipped.files += 1;
                shipped.bytes += bytes;
            }
        }
        Ok(())
    }

    /// Local files without a copy in the store, those that reach back furthest first, of these the longest first.
    pub(super) fn unshipped(&self) -> Vec<Arc<Entry>> {
        let files = self.lock();
        let mut lacking = Vec::new();
        let mut all = files.entries.iter().peekable();
        while let Some(((key, place), entry)) = all.next() {
            if *place != Place::Local {
                continue;
            }
            // The copies of a file lie beside each other.
            let copy = all.next_if(|((of, _), _)| of == key);
            if entry.damage().is_none() && copy.is_none_or(|(_, copy)| copy.damage().is_some()) {
                lacking.push(Arc::clone(entry));
            }
        }
        drop(files);
        lacking.sort_by_key(|entry| (entry.key.min, std::cmp::Reverse((entry.key.max, entry.key.level))));
        lacking
    }

    fn ship_one(&self, store: &Remote, entry: &Entry, terms: &Terms<'_>) -> Result<Option<u64>, ShipError> {
        let header = match entry.header(&*self.disk) {
            Ok(header) => header,
            Err(why) => return skip(entry, why),
        };
        let in_the_way = self.lock().entries.get(&(entry.key, Place::Store)).cloned();
        if in_the_way.is_some() {
            self.free_name(store, entry.key, terms)?;
        }
        let key = store.key(entry.key);
        terms.bucket.map_or(Ok(()), |bucket| bucket.claim_name(&key))?;
        let about = About { moment: header.timestamp, bytes: entry.bytes };
        let mut spoilt = None;
        let mut bytes = 0;
        let outcome = store.objects.create(&key, about, &mut |out| {
            spoilt = None;
            match self.copy_verified(
                entry,
                &header,
                &mut Rested { out, rest: terms.rest, bytes: entry.bytes, since: 0 },
            ) {
                Ok(count) => bytes = count,
                Err(CopyTrouble::Output(cause)) => return Err(cause),
                Err(CopyTrouble::Source(why)) => {
                    spoilt = Some(why);
                    return Err(io::Error::other("the file to be copied cannot be used"));
                }
            }
            Ok(())
        });
        match (outcome, spoilt) {
            (Err(error), Some(why)) if error.kind == ErrorKind::Content => return skip(entry, why),
            (Err(error), _) => return Err(error.into()),
            (Ok(Outcome::Won(_)), _) => {}
            // Ours from before a crash, or from a moment ago.
            (Ok(Outcome::Lost), _) if self.same(store, &key, entry)? == Some(true) => {
                store.objects.settle(&key)?;
                bytes = 0;
            }
            (Ok(Outcome::Unknown), _) => match self.same(store, &key, entry)? {
                Some(true) => store.objects.settle(&key)?,
                None => return Err(ShipError::Unknown { path: store.shown(&key) }),
                Some(false) => return Err(ShipError::Conflict { path: store.shown(&key), key: entry.key }),
            },
            (Ok(Outcome::Lost), _) => {
                return Err(ShipError::Conflict { path: store.shown(&key), key: entry.key });
            }
        }
        let sent = Entry::shipped(entry.key, store.clone(), entry.bytes, &header);
        // A list that has the damaged one as it was, or only its name, has the good one.
        let same = |there: &Arc<Entry>| there.stored().is_none() || there.stored() == sent.stored();
        if in_the_way.is_some_and(|there| there.is_listed() && same(&there)) {
            sent.set_listed();
        }
        self.lock().insert(sent);
        Ok(Some(bytes))
    }

    /// Copies a file and verifies it on the way; only a whole, proven one may get a name in the store.
    fn copy_verified(&self, entry: &Entry, header: &Header, out: &mut dyn Write) -> Result<u64, CopyTrouble> {
        let file = entry.open(&*self.disk).map_err(CopyTrouble::Source)?;
        let source = Sequential::new(file).map_err(|cause| CopyTrouble::Source(entry.blame(cause.into())))?;
        let mut failed = None;
        let tee = Tee { source, out, failed: &mut failed };
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

    /// Whether the object is the same as our file: same header, length and trailer (the file's checksum). `None`: there
    /// is none.
    fn same(&self, store: &Remote, key: &Key, entry: &Entry) -> Result<Option<bool>, ShipError> {
        const TRAILER: usize = ltx::limits::TRAILER_BYTES;
        let Some(head) = store.objects.read(key, 0, ltx::limits::HEADER_BYTES)? else { return Ok(None) };
        let end = head.len.saturating_sub(TRAILER as u64);
        let Some(tail) = store.objects.read(key, end, TRAILER)? else { return Ok(None) };
        let ours = || -> io::Result<(u64, Vec<u8>, Vec<u8>)> {
            let file = self.disk.open(&entry.path, base::Open::Read)?;
            let len = file.len()?;
            let mut head = vec![0; ltx::limits::HEADER_BYTES];
            let mut tail = vec![0; TRAILER];
            file.read_exact_at(&mut head, 0)?;
            file.read_exact_at(&mut tail, len.saturating_sub(TRAILER as u64))?;
            Ok((len, head, tail))
        };
        let ours = ours().map_err(|cause| ShipError::Io { path: entry.path.clone(), cause })?;
        Ok(Some(head.tag == tail.tag && ours == (head.len, head.bytes, tail.bytes)))
    }

    /// The objects of an abandoned end of history, the last first: what is left is without a gap at any time.
    fn orphans(&self) -> Vec<Arc<Entry>> {
        let files = self.lock();
        let entry = |key: &FileKey| files.entries.get(&(*key, Place::Store)).cloned();
        let mut orphans: Vec<Arc<Entry>> = files.orphans.iter().filter_map(entry).collect();
        orphans.sort_by_key(|entry| std::cmp::Reverse(entry.key.max));
        orphans
    }

    fn copy_orphan_aside(&self, store: &Remote, entry: &Entry) -> Result<Key, ShipError> {
        let key = store.key(entry.named());
        if !self.lock().copied_aside.contains(&entry.key) {
            tracing::warn!(event = "history file set aside", file = %entry.path.display(), "in the store");
            let failed = |cause| ShipError::Io { path: store.shown(&key), cause };
            store.copy_aside(entry.named()).map_err(failed)?;
            self.lock().copied_aside.insert(entry.key);
        }
        Ok(key)
    }

    fn free_name(&self, store: &Remote, key: FileKey, terms: &Terms<'_>) -> Result<(), ShipError> {
        let entry = self.lock().entries.get(&(key, Place::Store)).cloned();
        if let Some(entry) = entry {
            let path = store.shown(&store.key(entry.named()));
            tracing::warn!(event = "history file set aside", file = %path.display(), "in the store");
            store.move_aside(entry.named(), terms.bucket, |cause| ShipError::Io { path, cause })?;
        }
        self.forget_stored(key);
        Ok(())
    }

    fn forget_stored(&self, key: FileKey) {
        let mut files = self.lock();
        files.orphans.remove(&key);
        files.copied_aside.remove(&key);
        files.entries.remove(&(key, Place::Store));
    }
}

impl Files {
    /// Whether a merged file in the store has all that a file has. A snapshot is replaced by the same one only: what
    /// lies before a later one is history of its own.
    pub(super) fn is_covered_in_store(&self, key: FileKey) -> bool {
        let covers = |it: &FileKey, place: &Place, other: &Entry| {
            let same = (it.min, it.max) == (key.min, key.max);
            let larger = it.min <= key.min && it.max >= key.max && !same && !it.is_snapshot();
            *place == Place::Store
                && (larger || (same && it.level > key.level))
                && other.damage().is_none()
                && !self.orphans.contains(it)
        };
        // A single seal, of which there may be very many, covers nothing but itself.
        let merged = FileKey { level: 1, min: Txid::ZERO, max: Txid::ZERO };
        self.entries.range((merged, Place::Local)..).any(|((it, place), other)| covers(it, place, other))
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

/// Rests now and then.
struct Rested<'a> {
    out: &'a mut dyn Write,
    rest: &'a dyn Fn(u64),
    /// Bytes of the whole file.
    bytes: u64,
    /// Bytes since the last rest.
    since: u64,
}

impl Write for Rested<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.since >= REST_EVERY {
            self.since = 0;
            (self.rest)(self.bytes);
        }
        let written = self.out.write(bytes)?;
        self.since += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Hands bytes on while they are read.
struct Tee<'a, R: Read> {
    source: R,
    out: &'a mut dyn Write,
    failed: &'a mut Option<io::Error>,
}

impl<R: Read> Read for Tee<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        if let Err(error) = self.out.write_all(&buffer[..count]) {
            *self.failed = Some(error);
            return Err(io::Error::other("the copy cannot be written"));
        }
        Ok(count)
    }
}
