use super::*;
use crate::{Listed, Objects, Outcome, StoreError, Tag};
use base::sim::SimClock;
use base::{Clock, Disk, Timestamp};
use std::ops::ControlFlow;
use std::path::Path;

fn key(text: &str) -> Key {
    Key::parse(text).unwrap()
}

fn machine() -> SimDisk {
    SimDisk::new(SimClock::default(), SimRandom::new(0))
}

fn bucket(seed: u64) -> (SimBucket, SimStore, SimStore) {
    let bucket = SimBucket::new(SimRandom::new(seed));
    let (a, b) = (bucket.store_of("a", &machine()), bucket.store_of("b", &machine()));
    (bucket, a, b)
}

fn put(store: &SimStore, name: &str, bytes: &[u8]) -> Result<Outcome, StoreError> {
    crate::create_from(store, &key(name), Timestamp(0), bytes)
}

fn won(outcome: Result<Outcome, StoreError>) -> Tag {
    match outcome {
        Ok(Outcome::Won(tag)) => tag,
        other => panic!("{other:?}"),
    }
}

fn names(store: &SimStore) -> Vec<String> {
    let mut names = Vec::new();
    let mut each = |found: Listed| {
        names.push(found.key.to_string());
        ControlFlow::Continue(())
    };
    store.list(None, &mut each).unwrap();
    names.sort();
    names
}

#[test]
fn machines_share_one_bucket() {
    let (bucket, a, b) = bucket(1);
    let first = won(put(&a, "x", b"one"));
    assert_eq!(put(&b, "x", b"two"), Ok(Outcome::Lost));
    assert_eq!(b.read(&key("x"), 0, 9).unwrap().unwrap().bytes, b"one");
    won(b.replace(&key("x"), b"two", &first));
    assert_eq!(a.replace(&key("x"), b"three", &first), Ok(Outcome::Lost));
    assert_eq!(bucket.object(&key("x")).unwrap(), b"two");
    let traffic = bucket.traffic(Some("b"));
    assert_eq!((traffic.creates, traffic.reads, traffic.replaces), (1, 1, 1));
    assert_eq!((bucket.traffic(None).requests(), bucket.traffic(None).fetched_bytes), (5, 3));
}

#[test]
fn a_reply_that_is_lost_leaves_the_write_done_and_unknown() {
    let (bucket, a, _) = bucket(1);
    bucket.script(Rule::new(Fault::ReplyLost).on(Verb::Create));
    let before = a.machine.clock().boottime();
    assert_eq!(put(&a, "x", b"one"), Ok(Outcome::Unknown));
    assert!(a.machine.clock().boottime() > before, "nobody answered, and time passed");
    assert_eq!(bucket.object(&key("x")).unwrap(), b"one");
    assert_eq!(put(&a, "x", b"one"), Ok(Outcome::Lost));
}

#[test]
fn a_request_that_is_lost_leaves_nothing_and_unknown() {
    let (bucket, a, _) = bucket(1);
    for fault in [Fault::RequestLost, Fault::Conflict] {
        bucket.script(Rule::new(fault));
        assert_eq!(put(&a, "x", b"one"), Ok(Outcome::Unknown));
        assert_eq!(bucket.object(&key("x")), None);
    }
    bucket.script(Rule::new(Fault::RequestLost));
    assert_eq!(a.read(&key("x"), 0, 1).unwrap_err().kind, ErrorKind::Timeout);
}

#[test]
fn a_late_write_arrives_only_if_it_still_may() {
    let (bucket, a, b) = bucket(1);
    bucket.script(Rule::new(Fault::Late(2)).from("a").times(2));
    assert_eq!(put(&a, "x", b"late"), Ok(Outcome::Unknown));
    assert_eq!(put(&a, "y", b"late"), Ok(Outcome::Unknown));
    assert_eq!(bucket.object(&key("x")), None, "it is on its way");
    won(put(&b, "y", b"first"));
    assert_eq!(bucket.object(&key("x")).unwrap(), b"late");
    bucket.land_late_writes();
    assert_eq!(bucket.object(&key("y")).unwrap(), b"first", "what is there stays");
}

#[test]
fn an_error_says_that_nothing_was_done() {
    let (bucket, a, _) = bucket(1);
    let kinds =
        [ErrorKind::Denied, ErrorKind::Server, ErrorKind::Throttled, ErrorKind::Full, ErrorKind::Timeout];
    for kind in kinds {
        bucket.script(Rule::new(Fault::Error(kind)).times(2));
        assert_eq!(put(&a, "x", b"one").unwrap_err().kind, kind);
        assert_eq!(a.remove(&[key("x")]).unwrap_err().kind, kind);
    }
    assert!(bucket.keys().is_empty());
}

#[test]
fn a_rule_names_the_calls_that_it_is_for() {
    let (bucket, a, b) = bucket(1);
    let rule =
        Rule::new(Fault::Error(ErrorKind::Server)).on(Verb::Create).from("a").keys_with("ltx/").after(1);
    bucket.script(rule);
    for (store, name) in [(&a, "ltx/1"), (&a, "other"), (&b, "ltx/2")] {
        won(put(store, name, b""));
    }
    assert_eq!(put(&a, "ltx/3", b"").unwrap_err().kind, ErrorKind::Server);
    won(put(&a, "ltx/3", b""));
}

#[test]
fn an_outage_has_a_beginning_an_end_and_whom_it_strikes() {
    let (bucket, a, b) = bucket(1);
    let second = Duration::from_secs(1);
    bucket.outage(Some("a"), second..3 * second, ErrorKind::NoBucket);
    won(put(&a, "x", b""));
    a.machine.clock().advance(second);
    assert_eq!(a.read(&key("x"), 0, 1).unwrap_err().kind, ErrorKind::NoBucket);
    b.machine.clock().advance(second);
    assert!(b.read(&key("x"), 0, 1).unwrap().is_some());
    a.machine.clock().advance(2 * second);
    assert!(a.read(&key("x"), 0, 1).unwrap().is_some());
}

#[test]
fn a_listing_may_be_old_or_lack_objects_where_a_read_may_not() {
    let (bucket, a, _) = bucket(1);
    for n in 0..20 {
        won(put(&a, &format!("x{n:02}"), b""));
    }
    a.remove(&[key("x00")]).unwrap();
    bucket.script(Rule::new(Fault::OldListing(2)));
    let old = names(&a);
    assert!(old.contains(&"x00".to_owned()) && !old.contains(&"x19".to_owned()), "{old:?}");
    bucket.script(Rule::new(Fault::GappyListing));
    assert!(names(&a).len() < 19);
    assert_eq!(names(&a).len(), 19);
    assert_eq!(a.read(&key("x00"), 0, 1).unwrap(), None);
}

#[test]
fn a_fault_for_another_kind_of_call_waits_for_one() {
    let (bucket, a, _) = bucket(1);
    bucket.script(Rule::new(Fault::OldListing(1)));
    won(put(&a, "x", b""));
    assert!(names(&a).is_empty());
    assert_eq!(names(&a), ["x"]);
}

#[test]
fn content_that_is_asked_for_twice_must_be_the_same() {
    let (bucket, a, _) = bucket(1);
    bucket.script(Rule::new(Fault::Again).times(2));
    won(put(&a, "x", b"one"));
    let mut calls = 0u8;
    let about = crate::About { moment: Timestamp(0), bytes: 1 };
    let changed = a.create(&key("y"), about, &mut |out| {
        calls += 1;
        out.write_all(&[calls])
    });
    assert_eq!(changed.unwrap_err().kind, ErrorKind::Content);
    assert_eq!(bucket.object(&key("y")), None);
}

#[test]
fn a_halted_machine_sends_nothing() {
    let (bucket, _, _) = bucket(1);
    let disk = machine();
    let store = bucket.store_of("c", &disk);
    disk.halt_at_step(1);
    assert!(disk.create_dir_all(Path::new("/x")).is_err());
    assert_eq!(put(&store, "x", b"").unwrap_err().kind, ErrorKind::Unreachable);
    assert_eq!(bucket.traffic(None).requests(), 0);
    disk.crash_power(&SimRandom::new(0));
    won(put(&store, "x", b""));
}

#[test]
fn corruption_is_seen_by_who_reads_and_not_by_the_store() {
    let (bucket, a, _) = bucket(1);
    let tag = won(put(&a, "x", b"abc"));
    won(put(&a, "y", b"0123"));
    assert!(bucket.flip(&key("x"), 1, 1) && !bucket.flip(&key("x"), 9, 1));
    assert!(bucket.truncate(&key("y"), 2));
    let piece = a.read(&key("x"), 0, 9).unwrap().unwrap();
    assert_eq!((piece.bytes.as_slice(), piece.tag), (&b"acc"[..], tag));
    assert_eq!(a.read(&key("y"), 0, 9).unwrap().unwrap().len, 2);
    let before = bucket.calm_copy();
    assert!(bucket.swap(&key("x"), &key("y")) && !bucket.swap(&key("x"), &key("z")));
    assert_eq!(bucket.object(&key("y")).unwrap(), b"acc");
    assert!(bucket.take_away(&key("x")) && !bucket.take_away(&key("x")));
    bucket.empty();
    assert!(bucket.keys().is_empty());
    assert_eq!(before.object(&key("y")).unwrap(), b"01", "a copy is its own");
}

/// Two machines write, read, replace and remove in a storm; what they were told must agree with what is there.
fn world(seed: u64) -> Vec<String> {
    let (bucket, a, b) = bucket(seed);
    bucket.set_chances(Chances::storm());
    let choices = SimRandom::new(seed ^ 1);
    for step in 0..400u64 {
        let store = if choices.below(2) == 0 { &a } else { &b };
        let name = format!("k{}", choices.below(12));
        let bytes = step.to_be_bytes();
        match choices.below(5) {
            0 | 1 => {
                let was_there = bucket.object(&key(&name)).is_some();
                match put(store, &name, &bytes) {
                    Ok(Outcome::Won(_)) => {
                        assert_eq!(bucket.object(&key(&name)).unwrap(), bytes, "seed {seed}")
                    }
                    Ok(Outcome::Lost) => {
                        assert_ne!(bucket.object(&key(&name)).unwrap(), bytes, "seed {seed}")
                    }
                    Ok(Outcome::Unknown) => {}
                    Err(_) if was_there => {}
                    Err(_) => assert_ne!(bucket.object(&key(&name)), Some(bytes.to_vec()), "seed {seed}"),
                }
            }
            2 => {
                if let Ok(Some(piece)) = store.read(&key(&name), 0, 100) {
                    assert_eq!(bucket.object(&key(&name)).unwrap(), piece.bytes, "seed {seed}");
                    let _ = store.replace(&key(&name), &bytes, &piece.tag);
                }
            }
            3 => drop(store.remove(&[key(&name), key("k1")])),
            _ => drop(store.list(None, &mut |_| ControlFlow::Continue(()))),
        }
    }
    bucket.land_late_writes();
    bucket.log()
}

#[test]
fn the_same_seed_leaves_the_same_log_and_another_seed_another() {
    let worlds: Vec<_> = (1..=8).map(world).collect();
    for (seed, first) in (1..=8).zip(&worlds) {
        assert_eq!(*first, world(seed), "seed {seed}");
    }
    assert!(worlds.windows(2).all(|pair| pair[0] != pair[1]));
    let all = worlds.concat().join("\n");
    for fault in [
        "Slow",
        "Error",
        "Conflict",
        "RequestLost",
        "ReplyLost",
        "Late",
        "Again",
        "OldListing",
        "GappyListing",
    ] {
        assert!(all.contains(&format!("[{fault}")), "{fault} never struck");
    }
    assert!(all.contains("arrived late: Won") && all.contains("arrived late: Lost"));
}
