//! A store that has histories and no manifest: Litestream's, or a former version's.

use super::BucketError;
use crate::history::Remote;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use store::{Key, Objects, StoredFile};

/// What a store without a manifest holds: nothing, or histories that others wrote.
pub(super) fn histories(
    objects: &Arc<dyn Objects>,
) -> Result<BTreeMap<String, Vec<StoredFile>>, BucketError> {
    let mut bases = BTreeSet::new();
    let mut strange = None;
    objects.list(None, &mut |listed| {
        match Remote::base_of(objects.layout(), &listed.key) {
            Some(base) if base.starts_with(".stead/") => {
                strange = Some(listed.key);
                return ControlFlow::Break(());
            }
            Some(base) => drop(bases.insert(base)),
            None if is_left(&listed.key) => {}
            None => {
                strange = Some(listed.key);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    })?;
    let store = objects.url().to_owned();
    match strange {
        Some(key) if key.as_str().starts_with(".stead/") => {
            return Err(BucketError::Missing { store, found: key.to_string() });
        }
        Some(key) => return Err(BucketError::Foreign { store, found: key.to_string() }),
        None => {}
    }
    let mut histories = BTreeMap::new();
    for base in bases {
        let remote = Remote { objects: Arc::clone(objects), base: Key::new(base.clone()) };
        histories.insert(base, remote.list()?.files);
    }
    Ok(histories)
}

/// What Stead itself leaves besides histories: files set aside, and what a probe wrote.
fn is_left(key: &Key) -> bool {
    key.as_str().split('/').any(|part| part == "aside") || key.as_str().starts_with(".stead/probe")
}
