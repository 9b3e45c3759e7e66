//! What goes over the wire to a store, counted where it goes out.

use crate::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// An object, or a part of one, is sent.
    Put,
    /// An object, or a piece of one, is fetched.
    Get,
    /// What is known of an object.
    Head,
    /// One object, or an unfinished upload, is removed.
    Delete,
    /// A page of a listing.
    List,
    /// The beginning or end of an upload in parts, or a removal of many objects.
    Post,
}

impl Verb {
    /// All of them.
    pub const ALL: [Verb; 6] = [Verb::Put, Verb::Get, Verb::Head, Verb::Delete, Verb::List, Verb::Post];

    /// A stable word for metrics.
    pub fn code(self) -> &'static str {
        match self {
            Verb::Put => "put",
            Verb::Get => "get",
            Verb::Head => "head",
            Verb::Delete => "delete",
            Verb::List => "list",
            Verb::Post => "post",
        }
    }
}

/// Counters of one store since it was opened. They only grow.
#[derive(Debug, Default)]
pub struct Traffic {
    requests: [AtomicU64; Verb::ALL.len()],
    errors: [AtomicU64; ErrorKind::ALL.len()],
    retries: AtomicU64,
    bytes_up: AtomicU64,
    bytes_down: AtomicU64,
}

impl Traffic {
    /// Requests that went out, those that failed included.
    pub fn requests(&self, verb: Verb) -> u64 {
        self.requests[verb as usize].load(Ordering::Relaxed)
    }

    /// Requests of every verb.
    pub fn requests_all(&self) -> u64 {
        Verb::ALL.into_iter().map(|verb| self.requests(verb)).sum()
    }

    /// Requests that failed; a write that was lost and an object that is absent are no failures.
    pub fn errors(&self, kind: ErrorKind) -> u64 {
        self.errors[kind as usize].load(Ordering::Relaxed)
    }

    /// Requests that were sent once more after a failure.
    pub fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    /// Bytes of the bodies of requests.
    pub fn bytes_up(&self) -> u64 {
        self.bytes_up.load(Ordering::Relaxed)
    }

    /// Bytes of the bodies of answers.
    pub fn bytes_down(&self) -> u64 {
        self.bytes_down.load(Ordering::Relaxed)
    }

    pub(super) fn count_request(&self, verb: Verb, bytes: u64) {
        self.requests[verb as usize].fetch_add(1, Ordering::Relaxed);
        self.bytes_up.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn count_answer(&self, bytes: u64) {
        self.bytes_down.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn count_error(&self, kind: ErrorKind) {
        self.errors[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_retry(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }
}
