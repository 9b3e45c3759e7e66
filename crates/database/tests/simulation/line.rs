//! The way from a machine to its bucket: others may act before each request, and the machine may die on either side of
//! one.

use crate::machine::point;
use base::Disk;
use base::sim::SimDisk;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use store::sim::SimStore;
use store::{About, ErrorKind, Fill, Key, Layout, Listed, Objects, Outcome, Piece, StoreError, Tag};

/// How many edges of requests (before one, after one) are left until the machine dies; [`Doom::NEVER`]: it lives on.
#[derive(Clone, Debug)]
pub struct Doom(Arc<AtomicU64>);

impl Doom {
    const NEVER: u64 = u64::MAX;

    pub fn never() -> Doom {
        Doom(Arc::new(AtomicU64::new(Doom::NEVER)))
    }

    /// The machine dies at the `n`-th edge from now on (from 1).
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    pub fn forget(&self) {
        self.set(Doom::NEVER);
    }

    fn edge(&self, disk: &SimDisk) {
        match self.0.load(Ordering::Relaxed) {
            Doom::NEVER => {}
            0 | 1 => {
                self.forget();
                disk.halt_at_step(disk.steps() + 1);
                // The step at which it dies.
                let _ = disk.sync_dir(Path::new("/"));
            }
            left => self.set(left - 1),
        }
    }
}

/// A bucket at the end of its line.
#[derive(Debug)]
pub struct Line {
    pub store: SimStore,
    pub disk: SimDisk,
    pub doom: Doom,
}

impl Line {
    fn ask<T>(&self, call: impl FnOnce(&SimStore) -> Result<T, StoreError>) -> Result<T, StoreError> {
        point();
        self.doom.edge(&self.disk);
        let answer = call(&self.store);
        self.doom.edge(&self.disk);
        match self.disk.metadata(Path::new("/")) {
            Ok(_) => answer,
            Err(gone) => {
                Err(StoreError::new(ErrorKind::Unreachable, self.store.url(), None, gone.to_string()))
            }
        }
    }
}

impl Objects for Line {
    fn url(&self) -> &str {
        self.store.url()
    }
    fn layout(&self) -> Layout {
        self.store.layout()
    }
    fn create(&self, key: &Key, about: About, fill: &mut Fill<'_>) -> Result<Outcome, StoreError> {
        self.ask(|store| store.create(key, about, fill))
    }
    fn replace(&self, key: &Key, bytes: &[u8], was: &Tag) -> Result<Outcome, StoreError> {
        self.ask(|store| store.replace(key, bytes, was))
    }
    fn read(&self, key: &Key, from: u64, bytes_max: usize) -> Result<Option<Piece>, StoreError> {
        self.ask(|store| store.read(key, from, bytes_max))
    }
    fn remove(&self, keys: &[Key]) -> Result<(), StoreError> {
        self.ask(|store| store.remove(keys))
    }
    fn list(
        &self,
        below: Option<&Key>,
        each: &mut dyn FnMut(Listed) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.ask(|store| store.list(below, each))
    }
}
