//! The part of a history that lies in a store: where, and what is known to be there.
//!
//! Objects never move. A file that rises to another level keeps its name (its *named* level); the manifest says what it
//! is good for. What a manifest does not list is found only where it is a seal that follows the last file listed: its
//! name can be asked for.

use super::at_once::at_once;
use super::files::{Entry, FileKey};
use crate::bucket::{Bucket, BucketError, SEALS_UNLISTED_MAX};
use base::Txid;
use ltx::Header;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use store::{About, Key, Layout, Objects, Outcome, StoreError, StoredFile};

/// Names tried for what is set aside; more are taken only if the same end of history was abandoned as often.
const ASIDE_TRIES: u32 = 1000;
/// Bytes that a copy takes at once.
const COPY_BYTES: usize = 1 << 20;

/// Where a history lies in a store.
#[derive(Clone, Debug)]
pub struct Remote {
    /// The store.
    pub objects: Arc<dyn Objects>,
    /// The history's key, relative to the store's prefix ([`super::store_key`]).
    pub base: Key,
}

/// A history's part in a store, as it was found.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Where.
    pub remote: Remote,
    /// What is there.
    pub files: Vec<StoredFile>,
    /// Where the list ends: what lies beyond was found by its name. `None`: there is no list of this history.
    pub listed_upto: Option<Txid>,
}

impl Remote {
    /// The key of a file, by the level in its name.
    pub fn key(&self, file: FileKey) -> Key {
        let name = file.name();
        match self.objects.layout() {
            Layout::Directory => self.base.join(&format!("{}/{}/{name}", super::files::LTX_DIR, file.level)),
            Layout::Flat => self.base.join(&format!("{:04x}/{name}", file.level)),
        }
    }

    /// The key of a seal.
    pub fn seal_key(&self, txid: Txid) -> Key {
        self.key(seal(txid))
    }

    /// The key of a file that a list has.
    pub fn listed_key(&self, file: &StoredFile) -> Key {
        self.key(FileKey { level: file.named_level, min: file.min, max: file.max })
    }

    /// The file that has a key; `None` for what is none of a history's.
    fn parse(&self, key: &Key) -> Option<FileKey> {
        let below = key.as_str().strip_prefix(self.base.as_str())?.strip_prefix('/')?;
        let (level, name) = match self.objects.layout() {
            Layout::Directory => {
                let (level, name) =
                    below.strip_prefix(super::files::LTX_DIR)?.strip_prefix('/')?.split_once('/')?;
                (level.parse().ok()?, name)
            }
            Layout::Flat => {
                let (level, name) = below.split_once('/')?;
                (u8::from_str_radix(level, 16).ok()?, name)
            }
        };
        let file = FileKey::parse(level, name).filter(|file| file.level <= super::SNAPSHOT_LEVEL)?;
        (self.key(file) == *key).then_some(file)
    }

    /// The history that a key belongs to, where it has the form of a history file's.
    pub fn base_of(layout: Layout, key: &Key) -> Option<String> {
        let (dir, name) = key.as_str().rsplit_once('/')?;
        let (base, level) = dir.rsplit_once('/')?;
        let (base, level) = match layout {
            Layout::Directory => {
                (base.strip_suffix(super::files::LTX_DIR)?.strip_suffix('/')?, level.parse().ok()?)
            }
            Layout::Flat => (base, u8::from_str_radix(level, 16).ok().filter(|_| level.len() == 4)?),
        };
        FileKey::parse(level, name)?;
        (!base.is_empty()).then(|| base.to_owned())
    }

    /// What is said to people of where a file lies.
    pub(super) fn shown(&self, key: &Key) -> PathBuf {
        PathBuf::from(self.objects.shown(key))
    }

    /// Lists what is there: for a history that no manifest knows.
    pub fn list(self) -> Result<Stored, StoreError> {
        let mut found = Vec::new();
        self.objects.list(Some(&self.base), &mut |listed| {
            if let Some(file) = self.parse(&listed.key) {
                found.push((file, listed));
            }
            ControlFlow::Continue(())
        })?;
        let mut files = Vec::with_capacity(found.len());
        let mut settled = BTreeSet::new();
        for (file, listed) in found {
            // Whoever made it may have died before its name was durable.
            if settled.insert(file.level) {
                self.objects.settle(&listed.key)?;
            }
            files.push(match self.look(file)? {
                Some(found) => found,
                None => unread(file, listed.len),
            });
        }
        let listed_upto = files.iter().map(|file| file.max).max().unwrap_or(Txid::ZERO);
        Ok(Stored { remote: self, files, listed_upto: Some(listed_upto) })
    }

    /// A history that no list knows: whatever lies there is not taken for it.
    pub fn unknown(self) -> Stored {
        Stored { remote: self, files: Vec::new(), listed_upto: None }
    }

    /// Goes on from what a manifest lists: asks for the seals that follow it, until there is none. One that does not
    /// continue what is there was left by an owner from before, and is none of history's.
    pub fn follow(self, listed: Vec<StoredFile>) -> Result<Stored, StoreError> {
        self.follow_without(listed, &[])
    }

    /// The same where these objects are to go: what an abandoned end of history was is none of it.
    pub fn follow_without(self, listed: Vec<StoredFile>, doomed: &[Key]) -> Result<Stored, StoreError> {
        let listed_upto = listed.iter().map(|file| file.max).max().unwrap_or(Txid::ZERO);
        let ending = listed.iter().filter(|file| file.max == listed_upto).copied().collect();
        let mut way = Way { files: listed, end: listed_upto, ending };
        let mut asked = 0;
        while !doomed.contains(&self.seal_key(way.end.next()))
            && let Some(next) = self.look(seal(way.end.next()))?
        {
            if !way.go_on(next) {
                break;
            }
            asked += 1;
            if asked == SEALS_UNLISTED_MAX {
                self.follow_names(&mut way, doomed)?;
            }
        }
        if way.end > listed_upto {
            // All of them lie in one place, and were found before.
            self.objects.settle(&self.seal_key(way.end))?;
        }
        Ok(Stored { remote: self, files: way.files, listed_upto: Some(listed_upto) })
    }

    /// Goes on where there are very many seals: their names come at once, and their headers by as many threads as the
    /// store has readers. Where that cannot be had, or says less than there is, they can still be asked for.
    fn follow_names(&self, way: &mut Way, doomed: &[Key]) -> Result<(), StoreError> {
        let mut named = BTreeSet::new();
        let seals = self.seal_key(way.end);
        let seals = Key::new(seals.as_str().rsplit_once('/').map_or("", |(dir, _)| dir));
        let shown = self.objects.list(Some(&seals), &mut |listed| {
            let stays = !doomed.contains(&listed.key);
            named.extend(
                self.parse(&listed.key).filter(|file| stays && file.min == file.max).map(|file| file.max),
            );
            ControlFlow::Continue(())
        });
        if shown.is_err() {
            return Ok(());
        }
        let mut end = way.end;
        let without_gap = std::iter::from_fn(|| {
            end = end.next();
            named.contains(&end).then_some(end)
        });
        let mut found = BTreeMap::new();
        let look = || |txid: Txid| self.look(seal(txid)).map(|file| (txid, file));
        at_once(self.objects.readers(), without_gap, look, |(txid, file)| {
            found.extend(file.map(|file| (txid, file)));
            Ok(())
        })?;
        while found.remove(&way.end.next()).is_some_and(|next| way.go_on(next)) {}
        Ok(())
    }

    /// Reads the header of a file. `None`: there is no such object.
    pub fn look(&self, file: FileKey) -> Result<Option<StoredFile>, StoreError> {
        let key = self.key(file);
        let Some(piece) = self.objects.read(&key, 0, ltx::limits::HEADER_BYTES)? else { return Ok(None) };
        Ok(Some(match Header::decode(&piece.bytes) {
            Ok(header) if (header.min_txid, header.max_txid) == (file.min, file.max) => {
                stored(file, file.level, piece.len, &header)
            }
            // It is found damaged when it is read, and named then.
            _ => unread(file, piece.len),
        }))
    }

    /// Moves an object aside, durably, unless another run has the store by now. `failed`: what it is that no copy was made.
    pub(crate) fn move_aside<E: From<BucketError>>(
        &self,
        file: FileKey,
        bucket: Option<&Bucket>,
        failed: impl FnOnce(io::Error) -> E,
    ) -> Result<(), E> {
        self.copy_aside(file).map_err(failed)?;
        bucket.map_or(Ok(()), Bucket::check_to_remove)?;
        Ok(self.objects.remove(&[self.key(file)]).map_err(BucketError::from)?)
    }

    /// Copies an object to a name in `aside/` that is free; durable. One that is gone is gone.
    pub(super) fn copy_aside(&self, file: FileKey) -> io::Result<()> {
        let from = self.key(file);
        let Some(piece) = self.objects.read(&from, 0, 0)? else { return Ok(()) };
        let source = store::open(&self.objects, &from, piece.len)?;
        for number in 0..ASIDE_TRIES {
            let suffix = if number == 0 { String::new() } else { format!(".{number}") };
            let aside = format!("{}/{}-{}{suffix}", super::seal::ASIDE_DIR, file.level, file.name());
            let about = About { moment: base::Timestamp(0), bytes: piece.len };
            let mut copy = |out: &mut dyn Write| copy(&*source, piece.len, out);
            match self.objects.create(&self.base.join(&aside), about, &mut copy)? {
                Outcome::Won(_) => return Ok(()),
                Outcome::Lost => {}
                Outcome::Unknown => {
                    return Err(io::Error::other("the store did not say whether it has the copy"));
                }
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }
}

/// A seal's file.
fn seal(txid: Txid) -> FileKey {
    FileKey { level: 0, min: txid, max: txid }
}

/// What a list has, and the seals that go on from it.
struct Way {
    files: Vec<StoredFile>,
    end: Txid,
    /// Those that end there.
    ending: Vec<StoredFile>,
}

impl Way {
    /// Takes the next seal, if it continues what is there.
    fn go_on(&mut self, next: StoredFile) -> bool {
        let fits = self.ending.iter().all(|last| continues(last, &next));
        if fits {
            self.files.push(next);
            self.end = next.max;
            self.ending = vec![next];
        }
        fits
    }
}

/// Whether a seal may follow a file, as far as their headers are known.
fn continues(last: &StoredFile, next: &StoredFile) -> bool {
    let unread = last.page_size == 0 || next.page_size == 0;
    let unknown = last.after == base::Checksum::NONE || next.before == base::Checksum::NONE;
    unread || unknown || next.before == last.after
}

fn copy(source: &dyn base::DiskFile, len: u64, out: &mut dyn Write) -> io::Result<()> {
    let mut buffer = vec![0; COPY_BYTES];
    let mut at = 0;
    while at < len {
        let got = source.read_at(&mut buffer, at)?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        out.write_all(&buffer[..got])?;
        at += got as u64;
    }
    Ok(())
}

/// A file whose header could not be read: only its name is known.
fn unread(file: FileKey, bytes: u64) -> StoredFile {
    StoredFile {
        level: file.level,
        named_level: file.level,
        min: file.min,
        max: file.max,
        bytes,
        page_size: 0,
        commit: 0,
        sealed: base::Timestamp(0),
        epoch: base::Epoch(0),
        before: base::Checksum::NONE,
        after: base::Checksum::NONE,
    }
}

/// A file in a store, by its header.
pub(super) fn stored(file: FileKey, named_level: u8, bytes: u64, header: &Header) -> StoredFile {
    StoredFile {
        level: file.level,
        named_level,
        min: file.min,
        max: file.max,
        bytes,
        page_size: header.page_size,
        commit: header.commit,
        sealed: header.timestamp,
        epoch: header.epoch,
        before: header.checksum_before,
        after: header.checksum_after,
    }
}

/// What a file's header must say, as far as a list knows.
pub(super) fn expected(file: &StoredFile) -> Option<Header> {
    (file.page_size > 0).then_some(Header {
        page_size: file.page_size,
        commit: file.commit,
        min_txid: file.min,
        max_txid: file.max,
        timestamp: file.sealed,
        wal_offset: 0,
        wal_size: 0,
        wal_salt1: 0,
        wal_salt2: 0,
        epoch: file.epoch,
        checksum_after: file.after,
        checksum_before: file.before,
        wal_frame_checksum: 0,
    })
}

/// Whether a header is the one that a list expects, which knows nothing of the log.
pub(super) fn is_expected(header: &Header, expected: &Header) -> bool {
    let of_the_log = Header {
        wal_offset: header.wal_offset,
        wal_size: header.wal_size,
        wal_salt1: header.wal_salt1,
        wal_salt2: header.wal_salt2,
        wal_frame_checksum: header.wal_frame_checksum,
        ..*expected
    };
    of_the_log == *header
}

impl Stored {
    /// The TXIDs that its files lead to, by their names alone.
    pub(crate) fn reachable(&self) -> BTreeSet<Txid> {
        super::plan::reachable(self.files.iter().map(|file| super::Txids { first: file.min, last: file.max }))
    }

    /// Its files as a history works with them.
    pub(super) fn entries(&self) -> Vec<Entry> {
        let entry = |file: &StoredFile| {
            let key = FileKey { level: file.level, min: file.min, max: file.max };
            let listed = self.listed_upto.is_some_and(|end| file.max <= end);
            Entry::found(key, self.remote.clone(), file, listed)
        };
        self.files.iter().map(entry).collect()
    }
}
