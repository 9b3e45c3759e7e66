//! The files of one history: their names, where each lies, and what is known of it.
//!
//! A file has a key (level and TXID range) and lies in one or both places. Its header is read when it is first needed
//! and kept. A file that was found damaged is marked, named to people, and never used again by this process.

use super::Txids;
use super::remote::{self, Remote};
use base::{Checksum, Disk, DiskFile, Open, Txid};
use ltx::{DecodeError, Decoder, Header, Index, Sequential};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use store::{Layout, StoredFile};

/// The directory of all levels below a history's base.
pub(super) const LTX_DIR: &str = "ltx";

/// The ending of a file that is still being written.
pub(super) const TMP_SUFFIX: &str = ".tmp";

/// An object of at most so many bytes is fetched whole where its index is needed: one request instead of three.
const WHOLE_BYTES_MAX: u64 = 16 << 10;

/// Where a copy of a file lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// Beside the database.
    Local,
    /// In the store.
    Store,
}

/// A file's name: its level and the TXIDs it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileKey {
    /// 0: one seal; 1 to 8: merged; 9: the whole database.
    pub level: u8,
    /// The first TXID in it.
    pub min: Txid,
    /// The last TXID in it.
    pub max: Txid,
}

impl FileKey {
    /// The name below its level's directory.
    pub fn name(&self) -> String {
        format!("{}-{}.ltx", self.min.hex(), self.max.hex())
    }

    /// The path below a history's base.
    pub fn relative(&self) -> PathBuf {
        level_dir(self.level).join(self.name())
    }

    /// Whether it holds the whole database.
    pub fn is_snapshot(&self) -> bool {
        self.min == Txid(1)
    }

    pub(super) fn parse(level: u8, name: &str) -> Option<FileKey> {
        let (min, max) = name.strip_suffix(".ltx")?.split_once('-')?;
        let (min, max) = (Txid::from_hex(min)?, Txid::from_hex(max)?);
        (Txid::ZERO < min && min <= max).then_some(FileKey { level, min, max })
    }

    pub(super) fn txids(&self) -> Txids {
        Txids { first: self.min, last: self.max }
    }
}

impl fmt::Display for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.relative().display())
    }
}

/// The directory of one level below a history's base.
pub(super) fn level_dir(level: u8) -> PathBuf {
    Path::new(LTX_DIR).join(level.to_string())
}

/// One copy of a file, as listings show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileInfo {
    /// Level and TXIDs.
    pub key: FileKey,
    /// Where this copy lies.
    pub place: Place,
    /// The file itself; of an object, what names it to people.
    pub path: PathBuf,
    /// Bytes.
    pub bytes: u64,
    /// What is wrong with it, where that is known.
    pub damage: Option<String>,
}

/// One copy of a file, as the history works with it.
#[derive(Debug)]
pub(super) struct Entry {
    pub key: FileKey,
    pub place: Place,
    pub path: PathBuf,
    pub bytes: u64,
    object: Option<Object>,
    header: OnceLock<Header>,
    damage: OnceLock<String>,
    proven: OnceLock<()>,
}

/// What an entry of the store knows besides.
#[derive(Debug)]
struct Object {
    remote: Remote,
    named_level: u8,
    /// What its header must say; the log's part of it is not known.
    expected: Option<Header>,
    /// A list has it, or had it when it was found.
    listed: AtomicBool,
}

/// Why a copy of a file cannot be used.
#[derive(Debug)]
pub(super) enum Unusable {
    /// It is marked; take another.
    Damaged,
    /// The place did not answer; it may be fine later.
    Unavailable(io::Error),
}

impl Entry {
    /// Whether it is a seal that changes nothing: it ended a history as its store was taken over.
    pub(super) fn changes_nothing(&self) -> bool {
        let same = |file: StoredFile| file.before == file.after && file.after != Checksum::NONE;
        let is_seal = |file: &StoredFile| file.named_level == 0 && file.min == file.max;
        self.stored().filter(is_seal).is_some_and(same)
    }

    /// A file on this machine.
    pub(super) fn local(key: FileKey, path: PathBuf, bytes: u64) -> Entry {
        Entry {
            key,
            place: Place::Local,
            path,
            bytes,
            object: None,
            header: OnceLock::new(),
            damage: OnceLock::new(),
            proven: OnceLock::new(),
        }
    }

    /// A file on this machine whose header is known, because it was just written.
    pub(super) fn written(path: PathBuf, bytes: u64, level: u8, header: &Header) -> Entry {
        let key = FileKey { level, min: header.min_txid, max: header.max_txid };
        let entry = Entry::local(key, path, bytes);
        let _ = entry.header.set(*header);
        entry
    }

    /// An object that a list has, or that was found by its name.
    pub(super) fn found(key: FileKey, remote: Remote, file: &StoredFile, listed: bool) -> Entry {
        Entry::object(key, remote, file.named_level, file.bytes, remote::expected(file), listed)
    }

    /// An object that was just created from a file with this header.
    pub(super) fn shipped(key: FileKey, remote: Remote, bytes: u64, header: &Header) -> Entry {
        let entry = Entry::object(key, remote, key.level, bytes, None, false);
        let _ = entry.header.set(*header);
        entry
    }

    fn object(
        key: FileKey,
        remote: Remote,
        named_level: u8,
        bytes: u64,
        expected: Option<Header>,
        listed: bool,
    ) -> Entry {
        let named = FileKey { level: named_level, ..key };
        let path = remote.shown(&remote.key(named));
        let object = Object { remote, named_level, expected, listed: AtomicBool::new(listed) };
        Entry { place: Place::Store, object: Some(object), ..Entry::local(key, path, bytes) }
    }

    /// The same object, good for another level.
    pub(super) fn risen(&self, to: FileKey) -> Option<Entry> {
        let object = self.object.as_ref()?;
        let risen =
            Entry::object(to, object.remote.clone(), object.named_level, self.bytes, object.expected, false);
        if let Some(header) = self.header.get() {
            let _ = risen.header.set(*header);
        }
        if self.is_listed() {
            risen.set_listed();
        }
        Some(risen)
    }

    /// The name that it has in the store.
    pub(super) fn named(&self) -> FileKey {
        let level = self.object.as_ref().map_or(self.key.level, |object| object.named_level);
        FileKey { level, ..self.key }
    }

    /// Whether a list has it; a file on this machine needs none.
    pub(super) fn is_listed(&self) -> bool {
        self.object.as_ref().is_none_or(|object| object.listed.load(Ordering::SeqCst))
    }

    /// A list has it now.
    pub(super) fn set_listed(&self) {
        if let Some(object) = &self.object {
            object.listed.store(true, Ordering::SeqCst);
        }
    }

    /// As a list shows it; `None` while its header is not known.
    pub(super) fn stored(&self) -> Option<StoredFile> {
        let object = self.object.as_ref()?;
        let header = self.header.get().or(object.expected.as_ref())?;
        Some(remote::stored(self.key, object.named_level, self.bytes, header))
    }

    pub(super) fn info(&self) -> FileInfo {
        FileInfo {
            key: self.key,
            place: self.place,
            path: self.path.clone(),
            bytes: self.bytes,
            damage: self.damage().map(str::to_owned),
        }
    }

    pub(super) fn damage(&self) -> Option<&str> {
        self.damage.get().map(String::as_str)
    }

    pub(super) fn mark_damaged(&self, reason: impl fmt::Display) {
        if self.damage.set(reason.to_string()).is_ok() {
            tracing::warn!(event = "history file damaged", file = %self.path.display(), %reason);
        }
    }

    /// Sorts an error out: what the file itself is to blame for marks it.
    pub(super) fn blame(&self, error: DecodeError) -> Unusable {
        match error {
            DecodeError::Io(cause) if cause.kind() != io::ErrorKind::NotFound => Unusable::Unavailable(cause),
            error => {
                self.mark_damaged(error);
                Unusable::Damaged
            }
        }
    }

    /// Opens the copy for reading.
    pub(super) fn open(&self, disk: &dyn Disk) -> Result<Box<dyn DiskFile>, Unusable> {
        if self.damage().is_some() {
            return Err(Unusable::Damaged);
        }
        let opened = match &self.object {
            Some(object) => store::open(&object.remote.objects, &object.remote.key(self.named()), self.bytes),
            None => disk.open(&self.path, Open::Read),
        };
        opened.map_err(|error| self.blame(DecodeError::Io(error)))
    }

    /// How many threads may well read it at once.
    pub(super) fn readers(&self, disk: &dyn Disk) -> usize {
        self.object.as_ref().map_or_else(|| disk.readers(), |object| object.remote.objects.readers())
    }

    /// Reads exactly these bytes of the copy.
    pub(super) fn read_exact(
        &self,
        disk: &dyn Disk,
        buffer: &mut Vec<u8>,
        from: u64,
    ) -> Result<(), Unusable> {
        if self.damage().is_some() {
            return Err(Unusable::Damaged);
        }
        let read = match &self.object {
            Some(Object { remote, .. }) => {
                store::read_exact(&remote.objects, &remote.key(self.named()), self.bytes, buffer, from)
            }
            None => disk.open(&self.path, Open::Read).and_then(|file| file.read_exact_at(buffer, from)),
        };
        read.map_err(|error| self.blame(error.into()))
    }

    /// The index, checked against header and name; with the whole copy, where it is small and had to be fetched.
    pub(super) fn index(&self, disk: &dyn Disk) -> Result<(Index, Option<Vec<u8>>), Unusable> {
        let far = self.object.as_ref().filter(|object| object.remote.objects.layout() == Layout::Flat);
        let mut whole = None;
        let read = match far {
            Some(_) if self.bytes <= WHOLE_BYTES_MAX => {
                let mut bytes = vec![0; usize::try_from(self.bytes).unwrap_or_default()];
                self.read_exact(disk, &mut bytes, 0)?;
                Index::read(&*whole.insert(bytes))
            }
            Some(Object { remote, .. }) if self.damage().is_none() => {
                let file = store::open_ends(&remote.objects, &remote.key(self.named()), self.bytes);
                Index::read(&file.map_err(|error| self.blame(error.into()))?)
            }
            _ => Index::read(&self.open(disk)?),
        };
        let (header, index) = read.map_err(|error| self.blame(error))?;
        self.accept(&header)?;
        Ok((index, whole))
    }

    /// Reads the whole file, once, and verifies it; marks it where it is damaged.
    pub(super) fn prove(&self, disk: &dyn Disk) -> Result<(), Unusable> {
        if self.proven.get().is_none() {
            self.read_to_end(disk)?;
            let _ = self.proven.set(());
        }
        Ok(())
    }

    /// The same, whether it was proven before or not.
    pub(super) fn read_to_end(&self, disk: &dyn Disk) -> Result<(), Unusable> {
        let source = Sequential::new(self.open(disk)?).map_err(|error| self.blame(error.into()))?;
        let read = Decoder::new(source).and_then(Decoder::finish);
        read.map(drop).map_err(|error| self.blame(error))
    }

    /// The header: as a list has it, where the file was not read yet, else from the file. It must say what the file's
    /// name says.
    pub(super) fn header(&self, disk: &dyn Disk) -> Result<Header, Unusable> {
        if self.damage().is_some() {
            return Err(Unusable::Damaged);
        }
        let expected = self.object.as_ref().and_then(|object| object.expected);
        match self.header.get().copied().or(expected) {
            Some(header) => Ok(header),
            None => self.read_header(disk),
        }
    }

    /// The header as far as it is known without a look at the file.
    pub(super) fn known_header(&self) -> Option<Header> {
        self.header.get().copied().or(self.object.as_ref()?.expected)
    }

    /// The header from the file itself, with what it says of the log.
    pub(super) fn read_header(&self, disk: &dyn Disk) -> Result<Header, Unusable> {
        if self.damage().is_some() {
            return Err(Unusable::Damaged);
        }
        if let Some(header) = self.header.get() {
            return Ok(*header);
        }
        let count = self.bytes.min(ltx::limits::HEADER_BYTES as u64);
        let mut bytes = vec![0; usize::try_from(count).unwrap_or_default()];
        self.read_exact(disk, &mut bytes, 0)?;
        let header = Header::decode(&bytes).map_err(|error| self.blame(error))?;
        self.accept(&header)?;
        Ok(header)
    }

    /// Holds a header that was read against all that is known of it: the name, a list, what was read before.
    pub(super) fn accept(&self, header: &Header) -> Result<(), Unusable> {
        if (header.min_txid, header.max_txid) != (self.key.min, self.key.max) {
            let found = Txids { first: header.min_txid, last: header.max_txid };
            self.mark_damaged(format_args!("its header says {found}"));
            return Err(Unusable::Damaged);
        }
        let expected = self.object.as_ref().and_then(|object| object.expected);
        if expected.is_some_and(|expected| !remote::is_expected(header, &expected)) {
            self.mark_damaged("its header is not the one that the manifest has");
            return Err(Unusable::Damaged);
        }
        if self.header.get_or_init(|| *header) != header {
            self.mark_damaged("its header changed");
            return Err(Unusable::Damaged);
        }
        Ok(())
    }
}

/// Finds the files below a history's base. A missing base has none; names that are not ours are left alone.
pub(super) fn list(disk: &dyn Disk, base: &Path) -> io::Result<Vec<Entry>> {
    let top = base.join(LTX_DIR);
    let mut found = Vec::new();
    for dir in read_dir(disk, &top)? {
        let Some(level) = dir.name.parse::<u8>().ok().filter(|level| *level <= super::SNAPSHOT_LEVEL) else {
            continue;
        };
        if !dir.is_dir || dir.name != level.to_string() {
            continue;
        }
        let dir = top.join(&dir.name);
        for name in read_dir(disk, &dir)? {
            let Some(key) = FileKey::parse(level, &name.name) else { continue };
            let path = dir.join(&name.name);
            match disk.metadata(&path) {
                Ok(metadata) => found.push(Entry::local(key, path, metadata.len)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(found)
}

/// Whether there is any file below a history's base.
pub fn has_files(disk: &dyn Disk, base: &Path) -> bool {
    let top = base.join(LTX_DIR);
    let levels = disk.read_dir(&top).unwrap_or_default();
    levels.iter().any(|level| disk.read_dir(&top.join(&level.name)).is_ok_and(|names| !names.is_empty()))
}

/// Removes what unfinished writes left in the level directories.
pub(super) fn remove_leftovers(disk: &dyn Disk, base: &Path) -> io::Result<()> {
    let top = base.join(LTX_DIR);
    for dir in read_dir(disk, &top)?.into_iter().filter(|entry| entry.is_dir) {
        let dir = top.join(dir.name);
        for name in read_dir(disk, &dir)? {
            if !name.is_dir && name.name.ends_with(TMP_SUFFIX) {
                disk.remove_file(&dir.join(name.name))?;
            }
        }
    }
    Ok(())
}

/// Makes the directories of a history durable that are there: whoever made them may have died before their names were.
/// Each was made once those above it were durable, so what is above the lowest one that is there is.
pub(super) fn settle_dirs(disk: &dyn Disk, base: &Path) -> io::Result<()> {
    let mut found = false;
    for dir in base.join(LTX_DIR).ancestors() {
        match disk.sync_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            // Whoever may not read it cannot have made a directory in it.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && found => return Ok(()),
            done => done?,
        }
        if found && !dir.starts_with(base) {
            break;
        }
        found = true;
    }
    Ok(())
}

/// Makes the names that are there durable: whoever gave them may have died before they were, and what is built on a
/// file from now on must not outlive it.
pub(super) fn settle_names(disk: &dyn Disk, base: &Path) -> io::Result<()> {
    // Files move there from any level.
    match disk.sync_dir(&base.join(super::seal::ASIDE_DIR)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let top = base.join(LTX_DIR);
    let levels = read_dir(disk, &top)?.into_iter().filter(|entry| entry.is_dir);
    let mut levels: Vec<_> = levels.map(|dir| dir.name).collect();
    // Files move to higher levels: their new names first.
    levels.sort_unstable();
    levels.iter().rev().try_for_each(|level| disk.sync_dir(&top.join(level)))
}

fn read_dir(disk: &dyn Disk, path: &Path) -> io::Result<Vec<base::disk::Entry>> {
    match disk.read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other,
    }
}
