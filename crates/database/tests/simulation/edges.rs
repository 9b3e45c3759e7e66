//! A machine that dies at every edge of every request of one act; what the bucket has then is enough for another.

use crate::app::{PAIR, SHARED};
use crate::scripts::{lived_in, setup};
use crate::world::{Crash, Kept, Setup, World};
use base::Clock;
use std::time::Duration;
use store::ErrorKind;

/// An ordinary run tries one edge of so many, a long one all. It is odd: edges before requests and after them both come.
const STRIDE: usize = 5;

fn with_bucket() -> Setup {
    Setup { store: Kept::Bucket, ..setup() }
}

/// Does the act as often as it has edges of requests, and loses the machine at another one each time.
fn at_every_edge(setup: &Setup, prepare: fn(&mut World), act: fn(&mut World)) {
    let prepared = || {
        let mut world = lived_in(7, setup.clone());
        prepare(&mut world);
        world
    };
    let mut world = prepared();
    let requests = |world: &World| world.bucket.as_ref().unwrap().traffic(None).requests();
    let before = requests(&world);
    act(&mut world);
    let edges = (requests(&world) - before) * 2;
    assert!(edges > 0, "the act asks for nothing");
    let stride = if crate::number("STEAD_SIM_SEEDS").is_some() { 1 } else { STRIDE };
    for edge in (1..=edges).step_by(stride) {
        let mut world = prepared();
        world.note(format!("the machine is lost at edge {edge} of {edges}"));
        world.doom.set(edge);
        world.apps().faulty = true;
        act(&mut world);
        assert!(world.halted(), "the same seed takes other steps");
        world.examine();
        world.lose_machine();
        world.check_all();
    }
}

fn nothing(_: &mut World) {}

fn a_while(world: &mut World) {
    world.pass(Duration::from_millis(300));
}

/// Seals over some minutes while the store is away: a part of them is merged before it is sent.
fn backlog(world: &mut World) {
    outage(world, Duration::from_secs(600));
    for _ in 0..5 {
        world.apps().commit_to(PAIR[0], false);
        world.apps().commit_to(SHARED, false);
        world.with_engine(false, |engine| engine.sync());
        world.pass(Duration::from_secs(12));
    }
    world.apps().close_all();
    world.pass(Duration::from_secs(70));
    world.clock.advance(Duration::from_secs(600));
}

fn outage(world: &World, lasts: Duration) {
    let now = world.clock.boottime();
    world.bucket.as_ref().unwrap().outage(None, now..now + lasts, ErrorKind::Server);
}

/// The same seals, sent one by one, and old enough to be merged and thinned.
fn many_sent(world: &mut World) {
    for _ in 0..4 {
        world.apps().commit_to(PAIR[0], false);
        world.with_engine(false, |engine| engine.sync());
        world.pass(Duration::from_secs(12));
    }
    world.apps().close_all();
    world.clock.advance(Duration::from_secs(400));
}

#[test]
fn what_is_sent_survives_the_machine_at_every_request() {
    at_every_edge(&with_bucket(), nothing, a_while);
}

#[test]
fn a_backlog_survives_the_machine_at_every_request() {
    at_every_edge(&with_bucket(), backlog, a_while);
}

#[test]
fn thinning_survives_the_machine_at_every_request() {
    at_every_edge(&with_bucket(), many_sent, a_while);
}

/// Without a publish a new history is found by nobody.
#[test]
fn what_no_manifest_knows_is_not_called_stored() {
    let mut world = World::new(7, with_bucket());
    world.restless = false;
    world.restart(None);
    let bucket = world.bucket.clone().unwrap();
    let refused = store::sim::Fault::Error(ErrorKind::Server);
    bucket.script(store::sim::Rule::new(refused).on(store::sim::Verb::Replace).times(1000));
    world.apps().commit_to(SHARED, false);
    world.notice();
    world.pass(Duration::from_secs(20));
    assert!(bucket.keys().iter().any(|key| key.as_str().starts_with(SHARED)), "it was sent");
    world.examine();
    bucket.clear_faults();
    world.pass(Duration::from_secs(20));
    world.check_all_is_stored();
}

/// The former file was stored; nothing is known of the one that takes its place.
#[test]
fn another_file_under_a_name_is_not_called_stored_because_the_former_was() {
    let mut world = lived_in(7, with_bucket());
    let name = crate::app::COMES_AND_GOES[0];
    for _ in 0..3 {
        world.apps().commit_to(name, true);
        world.notice();
        world.pass(Duration::from_secs(5));
    }
    world.check_all_is_stored();
    outage(&world, Duration::from_secs(600));
    world.apps().replace(name);
    world.notice();
    world.pass(Duration::from_secs(5));
    world.fall(Crash::Engine);
    world.clock.advance(Duration::from_secs(600));
    world.pass(Duration::from_secs(70));
    world.check_all_is_stored();
    world.examine();
}
