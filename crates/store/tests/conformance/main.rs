//! Every store keeps the same promises: one set of checks, run against each kind.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod checks;

use base::LocalDisk;
use base::sim::{SimDisk, SimRandom};
use checks::check_all;
use std::path::PathBuf;
use std::sync::Arc;
use store::sim::SimBucket;
use store::{Directory, Objects};

#[test]
fn a_directory_keeps_the_promises_of_a_store() {
    let dir = tempfile::tempdir().unwrap();
    check_all(&|name| {
        let root = dir.path().join(name);
        Arc::new(Directory::new(Arc::new(LocalDisk), root)) as Arc<dyn Objects>
    });
}

#[test]
fn a_directory_on_the_simulated_disk_keeps_the_promises_of_a_store() {
    check_all(&|_| {
        let disk = Arc::new(SimDisk::default());
        Arc::new(Directory::new(disk, PathBuf::from("/store"))) as Arc<dyn Objects>
    });
}

#[test]
fn the_simulated_store_keeps_the_promises_of_a_store() {
    check_all(&|_| {
        let bucket = SimBucket::new(SimRandom::new(0));
        Arc::new(bucket.store_of("a", &SimDisk::default())) as Arc<dyn Objects>
    });
}
