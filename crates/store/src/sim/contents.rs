//! The objects of a simulated store, each there whole or not at all, and what its listings remember.

use crate::{Key, Listed, Outcome, Piece, Tag};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Changes that an old listing can go back.
const CHANGES_KEPT: usize = 1000;

#[derive(Clone, Debug)]
struct Object {
    bytes: Arc<[u8]>,
    tag: Tag,
}

/// What must be so for a write to happen.
#[derive(Clone, Debug)]
pub(super) enum Condition {
    /// There is no such object.
    Absent,
    /// It is this version.
    Is(Tag),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Contents {
    objects: BTreeMap<Key, Object>,
    /// The names that changed, and how long each object was before; the newest at the end.
    changes: Vec<(Key, Option<u64>)>,
}

/// As of most stores, the version of an object is a digest: equal contents have equal tags.
pub(super) fn tag(bytes: &[u8]) -> Tag {
    Tag(format!("{:016x}", crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, bytes)))
}

impl Contents {
    pub(super) fn write(&mut self, key: &Key, bytes: &Arc<[u8]>, condition: &Condition) -> Outcome {
        let is_so = match (self.objects.get(key), condition) {
            (None, Condition::Absent) => true,
            (Some(found), Condition::Is(tag)) => found.tag == *tag,
            _ => false,
        };
        if !is_so {
            return Outcome::Lost;
        }
        let tag = tag(bytes);
        self.set(key, Some(Object { bytes: Arc::clone(bytes), tag: tag.clone() }));
        Outcome::Won(tag)
    }

    pub(super) fn read(&self, key: &Key, from: u64, bytes_max: usize) -> Option<Piece> {
        let object = self.objects.get(key)?;
        let len = object.bytes.len();
        let start = usize::try_from(from).unwrap_or(usize::MAX).min(len);
        let bytes = object.bytes[start..start.saturating_add(bytes_max).min(len)].to_vec();
        Some(Piece { bytes, len: len as u64, tag: object.tag.clone() })
    }

    pub(super) fn remove(&mut self, key: &Key) -> bool {
        let was_there = self.objects.contains_key(key);
        if was_there {
            self.set(key, None);
        }
        was_there
    }

    /// Writes whatever is there, as somebody else's tool does.
    pub(super) fn put(&mut self, key: &Key, bytes: &[u8]) {
        self.set(key, Some(Object { bytes: bytes.into(), tag: tag(bytes) }));
    }

    /// Changes stored bytes without the store's knowing: its tag stays.
    pub(super) fn rot(&mut self, key: &Key, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let Some(object) = self.objects.get_mut(key) else { return false };
        let mut bytes = object.bytes.to_vec();
        change(&mut bytes);
        object.bytes = bytes.into();
        true
    }

    pub(super) fn keys(&self) -> Vec<Key> {
        self.objects.keys().cloned().collect()
    }

    pub(super) fn whole(&self, key: &Key) -> Option<Vec<u8>> {
        Some(self.objects.get(key)?.bytes.to_vec())
    }

    /// The objects strictly below a key as they were so many changes ago.
    pub(super) fn list(&self, below: Option<&Key>, changes_ago: usize) -> Vec<Listed> {
        let mut lengths: BTreeMap<&Key, u64> =
            self.objects.iter().map(|(key, object)| (key, object.bytes.len() as u64)).collect();
        for (key, len) in self.changes.iter().rev().take(changes_ago) {
            match len {
                Some(len) => lengths.insert(key, *len),
                None => lengths.remove(key),
            };
        }
        let start = below.map(|below| format!("{below}/")).unwrap_or_default();
        let shown = lengths.into_iter().filter(|(key, _)| key.as_str().starts_with(&start));
        shown.map(|(key, len)| Listed { key: key.clone(), len }).collect()
    }

    fn set(&mut self, key: &Key, object: Option<Object>) {
        let before = match object {
            Some(object) => self.objects.insert(key.clone(), object),
            None => self.objects.remove(key),
        };
        if self.changes.len() >= CHANGES_KEPT {
            self.changes.remove(0);
        }
        self.changes.push((key.clone(), before.map(|object| object.bytes.len() as u64)));
    }
}
