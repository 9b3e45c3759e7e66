//! Whether a store in a bucket can be reached, read, and, where nobody waits to start, written to as it must be.
//!
//! A thread of its own asks, and whoever looks waits for so long and no longer. What runs every few seconds asks nothing:
//! a node knows how its store is, and an idle one sends it no request.

use super::finding::{Check, Finding};
use super::limits::STORE_LIMIT;
use super::{Code, Plan};
use crate::config::StoreUrl;
use crate::node::storage::issue;
use base::{LocalDisk, SystemRandom};
use database::{BucketError, bucket};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use store::{ErrorKind, S3Options, StoreError};

/// A store in a bucket, and how it is reached.
#[derive(Clone, Debug)]
pub struct BucketPlan {
    /// The store.
    pub url: StoreUrl,
    /// How it is reached.
    pub options: S3Options,
    /// A node is about to start with it, and probes it then: nothing is written.
    pub starts: bool,
}

/// Asks the bucket of a plan, if there is one.
pub fn check(plan: &Plan) -> Option<Check> {
    let wanted = plan.bucket.clone()?;
    let url = wanted.url.to_string();
    let (answer, answered) = channel();
    let asking = std::thread::Builder::new().name("preflight-store".to_owned()).spawn(move || {
        // Whoever looks may have stopped waiting.
        let _ = answer.send(ask(&wanted));
    });
    let finding = match asking.map(|_| answered.recv_timeout(STORE_LIMIT)) {
        Ok(Ok(Ok(()))) => None,
        Ok(Ok(Err(Unusable::NotConfigured(error)))) => {
            // The databases do not start without what their configuration names.
            let told = Finding::error(Code::StoreUnusable, error.to_string(), error.kind.hint());
            let check = Check::of("store", "storage.url", vec![told.at(url.clone())]);
            return Some(Check { path: Some(url), ..check });
        }
        Ok(Ok(Err(Unusable::Now(error)))) => {
            let told = issue(&error);
            Some(Finding::error(Code::StoreUnusable, told.message, told.hint))
        }
        Ok(Err(RecvTimeoutError::Timeout)) => {
            let message = format!("{url}: no answer for {} s", STORE_LIMIT.as_secs());
            Some(Finding::error(Code::StoreUnusable, message, ErrorKind::Timeout.hint()))
        }
        Ok(Err(RecvTimeoutError::Disconnected)) | Err(_) => {
            Some(Finding::error(Code::NotLookedAt, format!("{url}: nobody could ask"), "ulimit -a"))
        }
    };
    // The node runs without its store, and everything is sent once that is back.
    let findings = finding.into_iter().map(|finding| finding.at(url.clone()).only_a_warning()).collect();
    Some(Check { path: Some(url), ..Check::of("store", "storage.url", findings) })
}

/// Why a bucket cannot be used.
enum Unusable {
    /// What the configuration names for it is not there: keys, an authority's certificate, a profile.
    NotConfigured(StoreError),
    Now(BucketError),
}

fn ask(wanted: &BucketPlan) -> Result<(), Unusable> {
    let objects = wanted.url.open(&wanted.options, Arc::new(LocalDisk)).map_err(Unusable::NotConfigured)?;
    let read = bucket::read(&*objects).map(drop);
    let probe = || store::probe(&*objects, &SystemRandom).map_err(BucketError::Store);
    read.and_then(|()| if wanted.starts { Ok(()) } else { probe() }).map_err(Unusable::Now)
}
