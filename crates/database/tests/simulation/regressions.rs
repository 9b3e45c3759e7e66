//! What the worlds have found, told as stories.

use crate::app::{PAIR, SHARED};
use crate::drive;
use crate::scripts::{lived_in, setup};
use crate::storm;
use crate::world::{Crash, World};
use base::sim::{SimClock, SimDisk, SimRandom};
use base::{Checksum, Timestamp, Txid};
use database::{Bucket, Claim, Owner, Rights};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use store::sim::{Fault, Rule, SimBucket, Verb};
use store::{ErrorKind, Objects, StoredFile};

/// Worlds that once went wrong.
const PINNED: [u64; 20] =
    [42, 49, 85, 116, 150, 264, 265, 274, 278, 388, 720, 786, 798, 1201, 1716, 1809, 3515, 3766, 3884, 7964];

/// Worlds with a bucket that once went wrong.
const PINNED_STORMS: [u64; 23] = [
    1597, 2040, 100_125, 300_047, 300_479, 310_110, 310_605, 310_877, 400_003, 401_638, 403_454, 404_214,
    501_403, 502_710, 802_613, 813_614, 843_341, 844_170, 847_048, 852_742, 857_698, 874_197, 880_312,
];

#[test]
fn worlds_that_once_went_wrong_go_right() {
    for seed in PINNED {
        drive::run(seed);
    }
    for seed in PINNED_STORMS {
        storm::run(seed);
    }
}

/// Page 1 with another schema cookie, and pages to cut: SQLite read the new schema through the old page 1.
#[test]
fn a_restore_may_change_the_schema_and_shrink_the_file() {
    let mut world = lived_in(3, setup());
    world.apps().grow(PAIR[0]);
    let (id, saved) = world.saved.pop_first().unwrap();
    world.saved.insert(id.clone(), saved.clone());
    world.turn(&id, &saved.vector, &saved.moment, false);
    world.check_all();
    let (undo, before) =
        (world.ledger.as_ref().unwrap().last_undo().unwrap().unwrap(), world.undo.clone().unwrap());
    world.turn("undo", &undo, &before, false);
    world.check_all();
}

/// The seals before the log's first frame, and none at all, are states to roll forward from.
#[test]
fn what_was_sealed_comes_back_after_a_power_loss() {
    for seed in 0..8 {
        let mut world = lived_in(seed, setup());
        world.apps().commit_to(SHARED, false);
        world.with_engine(false, |engine| engine.sync());
        world.fall(Crash::Power);
        world.check_all();
    }
}

/// What came back is not sealed anew, so it must be durable itself.
#[test]
fn what_came_back_after_a_power_loss_survives_the_next_one() {
    for seed in 0..8 {
        let mut world = lived_in(seed, setup());
        world.with_engine(false, |engine| engine.sync());
        for _ in 0..3 {
            world.fall(Crash::Power);
        }
        world.check_all();
    }
}

/// The database file looks as after a clean stop, but the log that an application kept open is gone.
#[test]
fn a_clean_stop_beside_an_application_survives_a_power_loss() {
    for seed in 0..8 {
        let mut world = lived_in(seed, setup());
        stop(&mut world);
        world.fall(Crash::Power);
        world.check_all();
    }
}

fn stop(world: &mut World) {
    let lengths = world.apps().model.lengths();
    world.engine.take().expect("invariant: it runs").stop();
    for (name, count) in lengths {
        world.apps().model.sealed(&name, count);
    }
}

/// The directories of a history are as durable as its files.
#[test]
fn a_first_seal_survives_a_power_loss() {
    for seed in 0..8 {
        let mut world = World::new(seed, setup());
        world.restless = false;
        world.restart(None);
        for name in [PAIR[0], SHARED] {
            world.apps().commit_to(name, false);
        }
        world.notice();
        world.pass(Duration::from_secs(1));
        world.with_engine(false, |engine| engine.sync());
        let followed = world.followed();
        world.fall(Crash::Power);
        assert_eq!(world.followed(), followed);
        world.check_all();
    }
}

/// A publish that failed had objects to remove; the next one lists only another history anew.
#[test]
fn no_object_goes_that_a_list_still_names() {
    let bucket = SimBucket::new(SimRandom::new(1));
    let (disk, clock) = (SimDisk::default(), Arc::new(SimClock::default()));
    let objects: Arc<dyn Objects> = Arc::new(bucket.store_of("a", &disk));
    let owner = Owner { id: 1, run: 1, node: "a".into(), volume: "test".into() };
    let held =
        Bucket::open(Arc::clone(&objects), owner, Claim::Own, Rights::default(), clock, &SimRandom::new(2))
            .unwrap();
    let file = |max| StoredFile {
        level: 0,
        named_level: 0,
        min: Txid(max),
        max: Txid(max),
        bytes: 1,
        page_size: 512,
        commit: 1,
        sealed: Timestamp(0),
        epoch: held.epoch(),
        before: Checksum::NONE,
        after: Checksum::NONE,
    };
    let key = held.remote("data/a.db").seal_key(Txid(1));
    let _ = store::create_from(&*objects, &key, Timestamp(0), b"a seal").unwrap();
    let list = |base: &str, files| BTreeMap::from([(base.to_owned(), files)]);
    held.publish(list("data/a.db", vec![file(1), file(2)]), Vec::new()).unwrap();
    bucket.script(Rule::new(Fault::Error(ErrorKind::Server)).on(Verb::Replace));
    held.publish(list("data/a.db", vec![file(2)]), vec![key.clone()]).unwrap_err();

    held.publish(list("data/b.db", vec![file(1)]), Vec::new()).unwrap();
    held.sweep().unwrap();
    assert!(bucket.object(&key).is_some(), "it is listed");
    held.publish(list("data/a.db", vec![file(2)]), Vec::new()).unwrap();
    held.sweep().unwrap();
    assert!(bucket.object(&key).is_none(), "nobody names it any more");
}

/// A manifest says that it is to go; the one that is to say so no more is lost on its way.
#[test]
fn what_is_created_under_a_name_that_was_to_go_stays() {
    let bucket = SimBucket::new(SimRandom::new(1));
    let (disk, clock) = (SimDisk::default(), Arc::new(SimClock::default()));
    let objects: Arc<dyn Objects> = Arc::new(bucket.store_of("a", &disk));
    let open = |id, claim| {
        let owner = Owner { id, run: id, node: "a".into(), volume: "test".into() };
        let (objects, clock) = (Arc::clone(&objects), Arc::clone(&clock));
        Bucket::open(objects, owner, claim, Rights::default(), clock, &SimRandom::new(2)).unwrap()
    };
    let held = open(1, Claim::Own);
    let key = held.remote("data/a.db").seal_key(Txid(1));
    let create = |bytes| store::create_from(&*objects, &key, Timestamp(0), bytes).unwrap();
    let _ = create(b"given up");
    held.publish(BTreeMap::from([("data/a.db".to_owned(), Vec::new())]), vec![key.clone()]).unwrap();
    held.sweep().unwrap();
    bucket.script(Rule::new(Fault::RequestLost).on(Verb::Replace));
    held.claim_name(&key).unwrap();
    let _ = create(b"good");
    held.publish(BTreeMap::new(), Vec::new()).unwrap();
    held.sweep().unwrap();
    open(2, Claim::TakeOver);
    assert!(bucket.object(&key).is_some());
}
