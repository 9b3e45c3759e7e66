//! What outlives a stop: a thread whose request to the store is still under way when the stop may wait no longer.
//!
//! The same node may have been started again by the time that request ends, in this process or not. So a run that has
//! ended writes nothing to its store any more, and tells the node nothing: it would take the store from its own successor
//! (it has the same owner), or report the successor as the node that has taken it. What was under way already is settled
//! by the store: an object is only created, with what the successor would send under that name, and the manifest is only
//! replaced where it is still the one that was read, which it is not once the successor has taken it. With the process
//! the threads end as well, and only that request is left.

use super::{Notice, Shared};
use base::DiskFile;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use store::{Around, Asked, ErrorKind, Key, Objects, StoreError};

/// Whether a run has ended.
#[derive(Clone, Debug, Default)]
pub(super) struct Over(Arc<AtomicBool>);

impl Over {
    fn is_over(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// A store that is written to until the run ends.
#[derive(Debug)]
pub(super) struct UntilOver {
    pub(super) objects: Arc<dyn Objects>,
    pub(super) over: Over,
}

impl UntilOver {
    fn may_write(&self) -> Result<(), StoreError> {
        if !self.over.is_over() {
            return Ok(());
        }
        let reason = "this run has ended, and writes nothing any more";
        Err(StoreError::new(ErrorKind::Unreachable, self.url(), None, reason))
    }
}

impl Around for UntilOver {
    fn inner(&self) -> &dyn Objects {
        &*self.objects
    }
    fn pass(&self, asked: Asked<'_>) -> Result<(), StoreError> {
        match asked {
            Asked::Write(_) => self.may_write(),
            Asked::Read(_) => Ok(()),
        }
    }
    fn file(&self, key: &Key) -> Option<io::Result<Box<dyn DiskFile>>> {
        self.objects.file(key)
    }
}

impl Shared {
    /// From now on nothing is written to the store, and nothing told. Waits for what is being told.
    pub(super) fn be_over(&self) {
        self.over.0.store(true, Ordering::SeqCst);
        *self.notify.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.is_over()
    }

    /// Tells the node, while this runs.
    pub(super) fn notice(&self, notice: Notice) {
        if let Some(notify) = &*self.notify.read().unwrap_or_else(PoisonError::into_inner) {
            notify(notice);
        }
    }
}
