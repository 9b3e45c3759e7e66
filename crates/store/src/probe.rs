//! Whether a store keeps the promises that Stead builds on, asked of the store itself with one small object.
//!
//! ```text
//! create ─► create again: lost? ─► replace a wrong version: lost? ─► replace: won? ─► read it back ─► remove
//! ```
//!
//! A store that does the second or third is none on which two nodes can be told apart: it is refused.

use crate::{ErrorKind, Key, Objects, Outcome, StoreError, Tag, create_from};
use base::{Random, Timestamp};

/// What is written first, and then.
const FIRST: &[u8] = b"stead probe 1\n";
const SECOND: &[u8] = b"stead probe 2\n";

/// Makes sure that a store can be written, read and cleared, and that it honours conditions.
///
/// An outcome that stays unknown is an error of the kind [`ErrorKind::Timeout`]: try again.
pub fn probe(store: &dyn Objects, random: &dyn Random) -> Result<(), StoreError> {
    let key = Key::new(format!(".stead/probe-{:016x}", random.next_u64()));
    let done = ask(store, &key);
    let removed = store.remove(std::slice::from_ref(&key));
    done.and(removed)
}

fn ask(store: &dyn Objects, key: &Key) -> Result<(), StoreError> {
    let error = |kind, reason: &str| StoreError::new(kind, store.url(), Some(key), reason);
    let unsure = || error(ErrorKind::Timeout, "it is not known whether the probe was written");
    let unsupported = |reason| error(ErrorKind::Unsupported, reason);
    let tag = match create_from(store, key, Timestamp::default(), FIRST)? {
        Outcome::Won(tag) => tag,
        Outcome::Lost => return Err(unsupported("it says that a new object is there already")),
        Outcome::Unknown => return Err(unsure()),
    };
    match create_from(store, key, Timestamp::default(), SECOND)? {
        Outcome::Lost => {}
        Outcome::Won(_) => {
            return Err(unsupported("it ignores If-None-Match: an object can be created twice"));
        }
        Outcome::Unknown => return Err(unsure()),
    }
    match store.replace(key, SECOND, &other(&tag))? {
        Outcome::Lost => {}
        Outcome::Won(_) => {
            return Err(unsupported(
                "it ignores If-Match: an object can be replaced by whoever did not read it",
            ));
        }
        Outcome::Unknown => return Err(unsure()),
    }
    match store.replace(key, SECOND, &tag)? {
        Outcome::Won(_) => {}
        Outcome::Lost => {
            return Err(unsupported("it does not know the version that it gave an object: If-Match fails"));
        }
        Outcome::Unknown => return Err(unsure()),
    }
    match store.read(key, 0, SECOND.len() + 1)? {
        Some(piece) if piece.bytes == SECOND && piece.len == SECOND.len() as u64 => Ok(()),
        Some(_) => Err(unsupported("what was written is not what is read")),
        None => Err(unsupported("what was written is not there")),
    }
}

/// A version that an object never had, of the same shape.
fn other(tag: &Tag) -> Tag {
    Tag(tag.0.chars().map(|c| if c.is_ascii_hexdigit() { '0' } else { c }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{About, Around, Directory, Fill};
    use base::{LocalDisk, SystemRandom};
    use std::ops::ControlFlow;
    use std::sync::Arc;

    /// A directory behind which a promise is broken.
    #[derive(Debug)]
    struct Broken {
        inner: Directory,
        creates_twice: bool,
        replaces_blindly: bool,
    }

    impl Around for Broken {
        fn inner(&self) -> &dyn Objects {
            &self.inner
        }
        fn create(&self, key: &Key, about: About, fill: &mut Fill<'_>) -> Result<Outcome, StoreError> {
            if self.creates_twice {
                self.inner.remove(std::slice::from_ref(key))?;
            }
            self.inner.create(key, about, fill)
        }
        fn replace(&self, key: &Key, bytes: &[u8], was: &Tag) -> Result<Outcome, StoreError> {
            let now = self.inner.read(key, 0, 0)?.map(|piece| piece.tag);
            let was = if self.replaces_blindly { now.as_ref().unwrap_or(was) } else { was };
            self.inner.replace(key, bytes, was)
        }
    }

    fn probed(creates_twice: bool, replaces_blindly: bool) -> Result<(), StoreError> {
        let dir = tempfile::tempdir().unwrap();
        let inner = Directory::new(Arc::new(LocalDisk), dir.path().to_owned());
        let store = Broken { inner, creates_twice, replaces_blindly };
        let probed = probe(&store, &SystemRandom);
        let mut left = 0;
        store
            .list(None, &mut |_| {
                left += 1;
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(left, 0, "the probe is removed");
        probed
    }

    #[test]
    fn a_store_that_keeps_its_promises_passes() {
        assert_eq!(probed(false, false), Ok(()));
    }

    #[test]
    fn a_store_that_ignores_a_condition_is_refused_by_its_name() {
        let twice = probed(true, false).unwrap_err();
        assert_eq!(twice.kind, ErrorKind::Unsupported);
        assert!(twice.reason.contains("If-None-Match"), "{twice}");
        let blind = probed(false, true).unwrap_err();
        assert_eq!(blind.kind, ErrorKind::Unsupported);
        assert!(blind.reason.contains("If-Match"), "{blind}");
    }
}
