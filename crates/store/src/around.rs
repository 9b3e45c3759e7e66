//! A store around another: what it does not do itself, the inner one does.

use crate::{About, Fill, Key, Layout, Listed, Objects, Outcome, Piece, StoreError, Tag, Traffic};
use base::DiskFile;
use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

/// What is asked of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked<'a> {
    /// Something may change: an object (`None`: any of them) is created, replaced or removed.
    Write(Option<&'a Key>),
    /// An object (`None`: the list of them) is read.
    Read(Option<&'a Key>),
}

/// Every method is the inner store's, once `pass` lets the call through.
pub trait Around: Send + Sync + fmt::Debug {
    /// The store itself.
    fn inner(&self) -> &dyn Objects;

    /// Called before each call that may ask a server; an error is the answer.
    fn pass(&self, _asked: Asked<'_>) -> Result<(), StoreError> {
        Ok(())
    }

    /// As [`Objects::layout`].
    fn layout(&self) -> Layout {
        self.inner().layout()
    }

    /// As [`Objects::create`].
    fn create(&self, key: &Key, about: About, fill: &mut Fill<'_>) -> Result<Outcome, StoreError> {
        self.inner().create(key, about, fill)
    }

    /// As [`Objects::replace`].
    fn replace(&self, key: &Key, bytes: &[u8], was: &Tag) -> Result<Outcome, StoreError> {
        self.inner().replace(key, bytes, was)
    }

    /// As [`Objects::read`].
    fn read(&self, key: &Key, from: u64, bytes_max: usize) -> Result<Option<Piece>, StoreError> {
        self.inner().read(key, from, bytes_max)
    }

    /// As [`Objects::file`]; by itself none, so that every byte is asked for.
    fn file(&self, _key: &Key) -> Option<io::Result<Box<dyn DiskFile>>> {
        None
    }

    /// As [`Objects::readers`].
    fn readers(&self) -> usize {
        self.inner().readers()
    }
}

impl<T: Around> Objects for T {
    fn url(&self) -> &str {
        self.inner().url()
    }
    fn shown(&self, key: &Key) -> String {
        self.inner().shown(key)
    }
    fn layout(&self) -> Layout {
        Around::layout(self)
    }
    fn create(&self, key: &Key, about: About, fill: &mut Fill<'_>) -> Result<Outcome, StoreError> {
        self.pass(Asked::Write(Some(key)))?;
        Around::create(self, key, about, fill)
    }
    fn replace(&self, key: &Key, bytes: &[u8], was: &Tag) -> Result<Outcome, StoreError> {
        self.pass(Asked::Write(Some(key)))?;
        Around::replace(self, key, bytes, was)
    }
    fn read(&self, key: &Key, from: u64, bytes_max: usize) -> Result<Option<Piece>, StoreError> {
        self.pass(Asked::Read(Some(key)))?;
        Around::read(self, key, from, bytes_max)
    }
    fn file(&self, key: &Key) -> Option<io::Result<Box<dyn DiskFile>>> {
        Around::file(self, key)
    }
    fn settle(&self, key: &Key) -> Result<(), StoreError> {
        self.inner().settle(key)
    }
    fn look_afresh(&self) {
        self.inner().look_afresh();
    }
    fn look_again(&self, key: &Key, bytes_max: usize, is_same: &dyn Fn(&[u8]) -> bool) {
        self.inner().look_again(key, bytes_max, is_same);
    }
    fn tidy(&self) -> Result<(), StoreError> {
        self.pass(Asked::Write(None))?;
        self.inner().tidy()
    }
    fn readers(&self) -> usize {
        Around::readers(self)
    }
    fn traffic(&self) -> Option<&Arc<Traffic>> {
        self.inner().traffic()
    }
    fn remove(&self, keys: &[Key]) -> Result<(), StoreError> {
        self.pass(Asked::Write(keys.first()))?;
        self.inner().remove(keys)
    }
    fn list(
        &self,
        below: Option<&Key>,
        each: &mut dyn FnMut(Listed) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.pass(Asked::Read(None))?;
        self.inner().list(below, each)
    }
}
