//! A database's history in a store, found by its URL: the store's URL and the database's path behind it.
//!
//! Where the one ends and the other begins, the manifest tells: the longest prefix that has one is the store. Without any,
//! the URL may be a history itself, as Litestream makes them.

use super::Source;
use crate::exit::Exit;
use crate::failure::Failure;
use base::{Incarnation, LocalDisk};
use database::bucket::{self, BucketError};
use database::engine::CONFIGURATION_KEY;
use database::history::{Remote, Stored, parse_store_key};
use node::config::{Storage, StoreUrl};
use std::sync::Arc;
use store::{ErrorKind, Key, Layout, Manifest, Objects, Tag};

/// Databases named where the one that was asked for is not there.
const NAMED_MAX: usize = 5;

/// A history in a store.
pub(super) struct InStore {
    objects: Arc<dyn Objects>,
    base: Key,
    /// The manifest that was read; `None`: there is none, and what lies there is listed.
    manifest: Option<(Manifest, Tag)>,
}

/// Finds the history that a URL names; `None`: it is no URL, or one of a directory without a manifest.
pub(super) fn find(source: Source<'_>) -> Result<Option<InStore>, Failure> {
    let Some((_, place)) = source.name.split_once("://") else { return Ok(None) };
    let root = source.name.len() - place.len();
    let mut denied = None;
    let mut nearest = None;
    for (at, _) in source.name.rmatch_indices('/').filter(|(at, _)| *at > root) {
        let (store, path) = (&source.name[..at], &source.name[at + 1..]);
        // A database's path may be longer than a prefix.
        let (Ok(url), Some(path)) = (StoreUrl::parse(store), decoded(path)) else { continue };
        let objects = open(source, &url)?;
        match bucket::read(&*objects) {
            Ok(Some((manifest, tag))) => {
                return in_manifest(source, objects, &path, (manifest, tag)).map(Some);
            }
            Ok(None) => lost_manifest(&*objects).map_err(|error| unreadable(source.name, error))?,
            Err(BucketError::Store(error)) if error.kind == ErrorKind::Denied => denied = Some(error),
            // Nothing of a store lies where no directory is.
            Err(BucketError::Store(error))
                if error.kind == ErrorKind::NoBucket && url.directory().is_some() => {}
            Err(error) => return Err(unreadable(source.name, error)),
        }
        if objects.layout() == Layout::Flat && nearest.is_none() {
            nearest = Some((objects, path));
        }
    }
    let Some((objects, path)) = nearest else { return Ok(None) };
    let found = InStore { objects, base: Key::new(path), manifest: None };
    match (found.open()?.files.is_empty(), denied) {
        (false, _) => Ok(Some(found)),
        (true, Some(error)) => Err(unreadable(source.name, error)),
        (true, None) => Ok(None),
    }
}

/// Refuses a store whose manifest is gone: which objects are history cannot be known.
fn lost_manifest(objects: &dyn Objects) -> Result<(), BucketError> {
    match objects.read(&Key::new(CONFIGURATION_KEY), 0, 1) {
        Ok(Some(_)) => {
            let (store, found) = (objects.url().to_owned(), CONFIGURATION_KEY.to_owned());
            Err(BucketError::Missing { store, found })
        }
        // What keeps this from being looked at is told by the history itself.
        Ok(None) | Err(_) => Ok(()),
    }
}

fn unreadable(name: &str, error: impl Into<BucketError>) -> Failure {
    let (what, error) = (format!("the history of {name} cannot be read"), error.into());
    Failure::new(Exit::Unavailable, what, &error, error.hint_once())
}

/// The history of a database that a manifest lists: of its newest file, unless the name says which.
fn in_manifest(
    source: Source<'_>,
    objects: Arc<dyn Objects>,
    path: &str,
    (manifest, tag): (Manifest, Tag),
) -> Result<InStore, Failure> {
    let known = || manifest.histories.keys().filter_map(|key| Some((key, parse_store_key(key)?)));
    let named = known().find(|(key, (_, number))| *key == path && *number > Incarnation(1));
    let of_path = known().filter(|(_, (known, _))| known.as_str() == path);
    let newest = of_path.max_by_key(|(_, (_, number))| *number);
    let Some((base, _)) = named.or(newest) else {
        let there: Vec<&str> = known().map(|(key, _)| key.as_str()).take(NAMED_MAX).collect();
        let more = if manifest.histories.len() > NAMED_MAX { ", …" } else { "" };
        let cause = format!("{} has {}{more}", objects.url(), there.join(", "));
        let what = format!("no history of {} was found", source.name);
        return Err(Failure::system(what, cause, "name a database of the store: STORE-URL/PATH"));
    };
    let base = Key::new(base.clone());
    Ok(InStore { objects, base, manifest: Some((manifest, tag)) })
}

fn open(source: Source<'_>, url: &StoreUrl) -> Result<Arc<dyn Objects>, Failure> {
    let mut options = Storage::default().s3_options(source.home);
    options.endpoint = source.endpoint.map(str::to_owned);
    url.open(&options, Arc::new(LocalDisk)).map_err(|error| unreadable(source.name, error))
}

/// The path behind a store's URL, without its encoding.
fn decoded(path: &str) -> Option<String> {
    let url = StoreUrl::parse(&format!("file:///{path}")).ok()?;
    let path = url.directory()?.to_str()?.trim_start_matches('/').to_owned();
    Key::parse(&path).is_ok().then_some(path)
}

impl InStore {
    /// What is there of it, now.
    pub(super) fn open(&self) -> Result<Stored, Failure> {
        let remote = Remote { objects: Arc::clone(&self.objects), base: self.base.clone() };
        let found = match &self.manifest {
            Some((manifest, _)) => {
                let listed = manifest.histories.get(self.base.as_str()).cloned().unwrap_or_default();
                remote.follow_without(listed, &manifest.doomed)
            }
            None => remote.list(),
        };
        found.map_err(|error| unreadable(&self.shown(), error))
    }

    /// Whether the manifest is another since; the new one counts from now on.
    pub(super) fn has_changed(&mut self) -> Result<bool, Failure> {
        let Some((_, was)) = &self.manifest else { return Ok(false) };
        match bucket::read(&*self.objects) {
            Ok(Some((manifest, tag))) if tag != *was => {
                self.manifest = Some((manifest, tag));
                Ok(true)
            }
            // What went wrong before is the one to report.
            _ => Ok(false),
        }
    }

    /// Whether the manifest is the one that was read; one that is gone or cannot be used is an error.
    pub(super) fn is_as_it_was(&self) -> Result<bool, Failure> {
        let now = bucket::read(&*self.objects).map_err(|error| unreadable(&self.shown(), error))?;
        match (&self.manifest, now) {
            (Some((_, was)), Some((_, tag))) => Ok(tag == *was),
            (None, None) => Ok(true),
            (None, Some(_)) => Ok(false),
            (Some(_), None) => {
                let (store, found) = (self.objects.url().to_owned(), "what was followed".to_owned());
                Err(unreadable(&self.shown(), BucketError::Missing { store, found }))
            }
        }
    }

    /// Where it is, for people.
    pub(super) fn shown(&self) -> String {
        self.objects.shown(&self.base)
    }
}
