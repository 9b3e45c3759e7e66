//! What every store can do, whatever it is made of.
//!
//! An object is there whole or not at all. It is created once; only few (the manifest) are ever replaced, and then only
//! by whoever has read what is there. Each call has an end: a store that does not answer is an error, in time.
//!
//! | what came of a conditional write | what the caller does |
//! |---|---|
//! | [`Outcome::Won`] | goes on: it is there and durable |
//! | [`Outcome::Lost`] | stops: somebody else's is there |
//! | [`Outcome::Unknown`] | reads what is there, then asks again |

use crate::{Key, StoreError, Traffic};
use base::{DiskFile, Timestamp};
use std::fmt;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Writes an object's content from front to back; called again where the store has to start over.
pub type Fill<'a> = dyn FnMut(&mut dyn Write) -> io::Result<()> + 'a;

/// What a store knows of an object besides its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    /// The moment that it stands for (of a history file, the commit's).
    pub moment: Timestamp,
    /// Bytes, as far as known beforehand; a hint.
    pub bytes: u64,
}

/// Which version of an object a store has: its ETag, or what stands for one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag(pub String);

/// What came of a write that may happen only once.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "an outcome that nobody looks at is a lost write"]
pub enum Outcome {
    /// The object is there, durable, and it is ours.
    Won(Tag),
    /// Somebody else's object is there; ours is not.
    Lost,
    /// It may or may not be there. Look, then ask again; never assume.
    Unknown,
}

/// Bytes of an object.
#[derive(Clone, PartialEq, Eq)]
pub struct Piece {
    /// The bytes from where they were asked for; fewer than asked for only at the end.
    pub bytes: Vec<u8>,
    /// Bytes of the whole object.
    pub len: u64,
    /// The version that they are of.
    pub tag: Tag,
}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Piece({} of {} bytes, {:?})", self.bytes.len(), self.len, self.tag)
    }
}

/// An object as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub key: Key,
    /// Its bytes.
    pub len: u64,
}

/// How a store lays out the files of a history, as Litestream does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `<base>/ltx/<level>/<name>`: directories.
    Directory,
    /// `<base>/<level, four hex digits>/<name>`: object stores.
    Flat,
}

/// A place for objects.
pub trait Objects: Send + Sync + fmt::Debug {
    /// Where it is, for people; without secrets.
    fn url(&self) -> &str;

    /// Where an object is, for people.
    fn shown(&self, key: &Key) -> String {
        format!("{}/{key}", self.url().trim_end_matches('/'))
    }

    /// How histories lie in it.
    fn layout(&self) -> Layout;

    /// Creates an object unless one of that name is there.
    ///
    /// An error says that nothing was created, [`crate::ErrorKind::Content`] that `fill` failed.
    fn create(&self, key: &Key, about: About, fill: &mut Fill<'_>) -> Result<Outcome, StoreError>;

    /// Replaces an object that is still the version that was read.
    fn replace(&self, key: &Key, bytes: &[u8], was: &Tag) -> Result<Outcome, StoreError>;

    /// Reads at most this many bytes from an offset on; none beyond the end. `None`: there is no such object.
    fn read(&self, key: &Key, from: u64, bytes_max: usize) -> Result<Option<Piece>, StoreError>;

    /// The object as a file of this machine, where it is one.
    fn file(&self, _key: &Key) -> Option<io::Result<Box<dyn DiskFile>>> {
        None
    }

    /// Makes sure that an object that was found there is durable, before anything is built on it: whoever made it may
    /// have died just before.
    fn settle(&self, _key: &Key) -> Result<(), StoreError> {
        Ok(())
    }

    /// Looks afresh where it is: what is there is not what was expected, and the right one may be there later.
    fn look_afresh(&self) {}

    /// Looks whether what is in its place now is the same one by what an object there says, where it has come back in
    /// another guise (a disk that was mounted anew): it goes on from there then.
    fn look_again(&self, _key: &Key, _bytes_max: usize, _is_same: &dyn Fn(&[u8]) -> bool) {}

    /// Removes what writes that were never finished have left. Only whoever may write there calls it.
    fn tidy(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// How many threads may well read from it at once; one that replays one order of calls has one.
    fn readers(&self) -> usize {
        1
    }

    /// What went over the wire, where there is one.
    fn traffic(&self) -> Option<&Arc<Traffic>> {
        None
    }

    /// Removes objects; one that is not there is fine. Those that went before an error stay gone.
    fn remove(&self, keys: &[Key]) -> Result<(), StoreError>;

    /// Shows every object whose key begins with these parts (all: `None`) until told to stop; in no order.
    fn list(
        &self,
        below: Option<&Key>,
        each: &mut dyn FnMut(Listed) -> ControlFlow<()>,
    ) -> Result<(), StoreError>;
}

/// Creates an object from bytes in memory.
pub fn create_from(
    store: &dyn Objects,
    key: &Key,
    moment: Timestamp,
    bytes: &[u8],
) -> Result<Outcome, StoreError> {
    let about = About { moment, bytes: bytes.len() as u64 };
    store.create(key, about, &mut |out| out.write_all(bytes))
}

/// A whole object of at most this many bytes. `None`: there is none.
pub fn read_whole(
    store: &dyn Objects,
    key: &Key,
    bytes_max: usize,
) -> Result<Option<(Vec<u8>, Tag)>, StoreError> {
    let Some(piece) = store.read(key, 0, bytes_max)? else { return Ok(None) };
    if piece.len != piece.bytes.len() as u64 {
        let reason = format!("it has {} bytes, and {bytes_max} are the most that are read", piece.len);
        return Err(StoreError::new(crate::ErrorKind::TooLarge, store.url(), Some(key), reason));
    }
    Ok(Some((piece.bytes, piece.tag)))
}
