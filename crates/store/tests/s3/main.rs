//! The S3 client against real servers on loopback.
//!
//! | module | holds the client to |
//! |---|---|
//! | [`objects`] | objects are created once, replaced by compare-and-set, read, listed and removed; keys byte for byte |
//! | [`settings`] | whatever is set wrongly is told as what it is, in time and without secrets |
//! | [`slow`] | a line on which a large request takes its time |
//! | [`trouble`] | servers that answer wrongly, late or not at all: in time, and no outcome is ever wrong |
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is not as it must be")]
#![allow(
    clippy::disallowed_methods,
    reason = "a test watches real time, and handles files as an outsider would"
)]

mod objects;
mod proxy;
mod settings;
mod slow;
mod support;
mod trouble;

use base::{LocalDisk, Timestamp};
use store::{About, Key, Objects, Outcome, S3, S3Options, Tag};

/// A moment that objects stand for.
const MOMENT: Timestamp = Timestamp(1_763_798_400_123);

/// The store below a prefix of a bucket, with nothing from the environment.
fn open(options: &S3Options, bucket: &str, prefix: &str) -> S3 {
    S3::new(bucket, prefix, options, &LocalDisk, &|_| None).unwrap()
}

fn key(text: &str) -> Key {
    Key::parse(text).unwrap()
}

fn create(store: &dyn Objects, name: &str, bytes: &[u8]) -> Outcome {
    let about = About { moment: MOMENT, bytes: bytes.len() as u64 };
    store.create(&key(name), about, &mut |out| out.write_all(bytes)).unwrap()
}

#[track_caller]
fn won(outcome: Outcome) -> Tag {
    match outcome {
        Outcome::Won(tag) => tag,
        other => panic!("{other:?}"),
    }
}

fn whole(store: &dyn Objects, name: &str) -> Option<Vec<u8>> {
    store::read_whole(store, &key(name), 64 << 20).unwrap().map(|(bytes, _)| bytes)
}

fn listed(store: &dyn Objects, below: Option<&str>) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    let below = below.map(key);
    store
        .list(below.as_ref(), &mut |object| {
            found.push((object.key.to_string(), object.len));
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    found.sort();
    found
}
