//! The order of things in a node's life, told with fakes.

mod fake;

use crate::config::Overrides;
use crate::control::*;
use crate::preflight::{Check, Code, Finding, Report};
use app::{AppEvent, AppState, AppStatus, PreparationFailure};
use base::{Clock, Disk, LocalDisk, Timestamp};
use database::engine::{TurnError, Unfinished};
use fake::{config, node, node_with, path, with_app, world};
use std::sync::mpsc::{channel, sync_channel};
use std::time::Duration;

fn id(text: &str) -> CheckpointId {
    CheckpointId::parse(text).unwrap()
}

fn to(target: Target) -> RestoreRequest {
    RestoreRequest { target, dry_run: false }
}

fn codes(status: &Status) -> Vec<&str> {
    status.issues.iter().map(|issue| issue.code.as_str()).collect()
}

/// Waits for what another thread does.
fn until(node: &super::Node, reached: impl Fn() -> bool) {
    let events = node.events();
    for _ in 0..10_000 {
        if reached() {
            return;
        }
        let _ = events.recv_timeout(Duration::from_millis(5));
    }
    panic!("it never happened: {:?}", node.status().issues);
}

/// Waits until the keeper has noted how a restore ended.
fn noted(node: &super::Node) {
    until(node, || !codes(&node.status()).contains(&"restore_unfinished"));
}

#[test]
fn a_posted_configuration_is_saved_and_started_databases_first() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(&dir);
    let node = node(&dir, &world);
    assert_eq!(node.status().state, State::Unconfigured);
    assert!(matches!(node.checkpoint(None, None), Err(CheckpointError::Unconfigured)));
    assert!(matches!(node.restore(to(Target::Undo)), Err(RestoreError::Unconfigured)));
    assert!(matches!(node.release_lease(), Err(ActionError::Unconfigured)));

    let status = node.configure(with_app()).unwrap();

    assert_eq!(
        (status.state, status.role, status.name.as_deref()),
        (State::Primary, Some("primary"), Some("notes"))
    );
    assert_eq!(world.done(), ["start databases", "start ./app"]);
    let saved = dir.path().join("tmp/config.json");
    assert_eq!(rustix::fs::stat(&saved).unwrap().st_mode & 0o777, 0o600);
    assert!(matches!(node.configure(with_app()), Err(ConfigureError::AlreadyConfigured)));
    assert_eq!(node.transitions().len(), 2);
    node.drain("the test is over");
}

#[test]
fn databases_that_do_not_start_are_an_issue_and_are_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(&dir);
    let node = node(&dir, &world);
    *world.broken.lock().unwrap() = Some("data/database.sqlite is not a database".to_owned());
    let status = node.configure(with_app()).unwrap();
    assert_eq!((status.state, status.configured), (State::Starting, true));
    assert_eq!(codes(&status), ["databases_not_started"]);
    assert!(status.reason.contains("is not a database"), "{}", status.reason);
    assert!(world.done().is_empty(), "the app must not start without its databases");

    let events = node.events();
    *world.broken.lock().unwrap() = None;
    world.clock.pass(Duration::from_secs(6));
    node.core.alarm.ring();
    while events.recv_timeout(Duration::from_secs(10)).unwrap().event != "role" {}
    node.drain("the test is over");
    assert_eq!(world.done(), ["start databases", "start ./app", "stop app", "seal", "stop databases"]);
    assert!(codes(&node.status()).is_empty());
    assert_eq!(node.status().state, State::Stopped);
}

/// A node that ran without the store it was given would lose what it promises.
#[test]
fn a_store_that_cannot_be_opened_keeps_the_databases_down() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(&dir);
    let node = node(&dir, &world);
    let status = node.configure(in_bucket(r#","ca_file":"missing.pem""#)).unwrap();
    assert_eq!((status.state, codes(&status)), (State::Starting, vec!["databases_not_started"]));
    assert!(status.reason.contains("missing.pem"), "{}", status.reason);
    assert!(world.done().is_empty());
    node.drain("the test is over");
}

#[test]
fn the_wire_to_a_store_is_measured_while_the_databases_are_up() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(&dir);
    let node = node(&dir, &world);
    assert!(node.measured().store.is_none());
    let _ = node.configure(in_bucket("")).unwrap();
    let traffic = node.measured().store.unwrap();
    assert_eq!(traffic.requests.len(), store::Verb::ALL.len());
    assert!(traffic.requests.iter().all(|(_, count)| *count == 0), "nothing is asked by opening it");
    node.forget().unwrap();
    assert!(node.measured().store.is_none());
    node.drain("the test is over");
}

fn in_bucket(more: &str) -> crate::config::Config {
    let key = r#""access_key_id":"a","secret_access_key":"b""#;
    config(&format!(r#"{{"name":"notes","storage":{{"url":"s3://bucket/p",{key}{more}}}}}"#))
}

#[test]
fn what_preflight_finds_keeps_everything_back_until_it_is_mended() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(&dir);
    let node = node(&dir, &world);
    let missing =
        Finding::error(Code::DirectoryMissing, "it does not exist", "sudo mkdir -p /music").at("/music");
    *world.machine.lock().unwrap() =
        Report { checks: vec![Check::of("directory", "paths.music", vec![missing])] };
    let status = node.configure(with_app()).unwrap();
    assert_eq!((status.state, codes(&status)), (State::Starting, vec!["directory_missing"]));
    assert_eq!(status.reason, "preflight failed: /music: it does not exist");
    assert!(world.done().is_empty(), "nothing starts before it is mended");

    let events = node.events();
    *world.machine.lock().unwrap() = Report::default();
    world.clock.pass(Duration::from_secs(6));
    node.core.alarm.ring();
    while events.recv_timeout(Duration::from_secs(10)).unwrap().event != "role" {}
    assert!(codes(&node.status()).is_empty());
    node.drain("the test is over");
    assert_eq!(world.done(), ["start databases", "start ./app", "stop app", "seal", "stop databases"]);
}

#[test]
fn a_checkpoint_is_recorded_once_and_shown_in_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(&dir);
    let node = node(&dir, &world);
    node.configure(with_app()).unwrap();
    let made = node.checkpoint(Some(id("test1")), Some("first".to_owned())).unwrap();
    assert_eq!(made.checkpoint.databases, world.vector(1));
    assert!(matches!(node.checkpoint(Some(id("test1")), None), Err(CheckpointError::Taken(_))));
    let shown = dir.path().join("tmp/checkpoints/test1/checkpoint.json");
    assert!(LocalDisk.metadata(&shown).is_ok());
    assert_eq!(node.status().checkpoints.latest.as_deref(), Some("test1"));

    node.remove_checkpoint(&id("test1")).unwrap();
    assert!(LocalDisk.metadata(&shown).is_err());
    assert_eq!(node.status().checkpoints.count, 0);
    assert!(matches!(node.remove_checkpoint(&id("test1")), Err(CheckpointError::NotFound(_))));
    node.drain("the test is over");
}

// semantics: app-around, dry-run
#[test]
fn a_restore_stops_the_app_around_it() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(&dir);
    let node = node(&dir, &world);
    node.configure(with_app()).unwrap();
    node.checkpoint(Some(id("a")), None).unwrap();
    world.done();

    let dry = RestoreRequest { target: Target::Checkpoint(id("a")), dry_run: true };
    assert_eq!(node.restore(dry).unwrap().databases[0].change, "turned_back");
    assert_eq!(world.done(), ["seal", "validate"], "it says what a restore would do to the last commit");

    let restored = node.restore(to(Target::Checkpoint(id("a")))).unwrap();
    assert_eq!(world.done(), ["validate", "stop app", "turn back to a", "start ./app"]);
    let steps: Vec<&str> = restored.steps.iter().map(|step| step.step).collect();
    assert_eq!(steps, ["validate", "stop_app", "lock", "apply", "start_app"]);
    assert!((restored.steps[3].ms - 5.0).abs() < 0.001, "{:?}", restored.steps);

    let missing = node.restore(to(Target::Checkpoint(id("nonexistent"))));
    assert!(matches!(missing, Err(RestoreError::NotFound(_))));
    assert!(world.done().is_empty());
    node.drain("the test is over");
}

#[test]
fn a_restore_that_others_hold_up_leaves_the_app_running_and_a_failed_one_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(&dir);
    let node = node(&dir, &world);
    node.configure(with_app()).unwrap();
    node.checkpoint(Some(id("a")), None).unwrap();

    world.fail_turns(|| TurnError::Held { path: path(), pids: vec![7], reason: "pid 7 writes".into() });
    let held = node.restore(to(Target::Checkpoint(id("a"))));
    assert!(matches!(held, Err(RestoreError::Held { ref pids, .. }) if *pids == [7]));
    assert_eq!(world.app_state(), app::AppState::Running);

    world.fail_turns(|| TurnError::NotBegun { reason: "the disk is full".into(), disk_full: true });
    let not_begun = node.restore(to(Target::Checkpoint(id("a"))));
    assert!(matches!(not_begun, Err(RestoreError::NotBegun { disk_full: true, .. })), "{not_begun:?}");
    assert_eq!((world.app_state(), codes(&node.status())), (app::AppState::Running, vec![]));

    world.fail_turns(|| TurnError::Failed { reason: "the disk is full".into(), disk_full: true });
    let failed = node.restore(to(Target::Checkpoint(id("a"))));
    assert!(matches!(failed, Err(RestoreError::Failed { disk_full: true, .. })));
    assert_eq!(world.app_state(), app::AppState::Stopped);
    assert_eq!(codes(&node.status()), ["restore_failed"]);
    node.drain("the test is over");

    let again = self::node(&dir, &world);
    world.done();
    again.configure(with_app()).unwrap();
    assert_eq!(world.done(), ["start databases"], "a restart of the node does not start the app");
    assert_eq!(codes(&again.status()), ["restore_failed"]);
    again.app(AppAction::Start).unwrap();
    assert_eq!(world.done(), ["start ./app"]);
    assert!(codes(&again.status()).is_empty());
    again.drain("the test is over");
}

#[test]
fn a_second_restore_is_refused_while_one_runs_and_so_is_a_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(&dir);
    let node = node(&dir, &world);
    node.configure(with_app()).unwrap();
    node.checkpoint(Some(id("a")), None).unwrap();
    let (entered, enter) = channel();
    let (leave, left) = sync_channel::<()>(0);
    let (entered, left) = (std::sync::Mutex::new(entered), std::sync::Mutex::new(left));
    *world.turn.lock().unwrap() = Box::new(move || {
        entered.lock().unwrap().send(()).unwrap();
        left.lock().unwrap().recv().unwrap();
        Ok(())
    });
    std::thread::scope(|scope| {
        let first = scope.spawn(|| node.restore(to(Target::Checkpoint(id("a")))));
        enter.recv().unwrap();
        let second = node.restore(to(Target::Undo));
        let checkpoint = node.checkpoint(Some(id("b")), None);
        let stop = node.app(AppAction::Stop);
        leave.send(()).unwrap();
        first.join().unwrap().unwrap();
        assert!(matches!(second, Err(RestoreError::Running)), "{second:?}");
        assert!(matches!(checkpoint, Err(CheckpointError::Restoring)), "{checkpoint:?}");
        assert!(matches!(stop, Err(ActionError::NotNow(_))), "{stop:?}");
    });
    node.drain("the test is over");
}

// semantics: unfinished-waits
#[test]
fn nothing_goes_on_before_a_restore_that_failed_half_way_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(&dir);
    let node = node(&dir, &world);
    let open = |disk_full| Unfinished { name: "a".into(), reason: "no space".into(), disk_full };
    *world.open.lock().unwrap() = Some(open(false));
    node.configure(with_app()).unwrap();
    assert_eq!(world.done(), ["start databases"], "as after a restart: the app waits");
    *world.open.lock().unwrap() = None;
    world.clock.pass(Duration::from_secs(5));
    node.core.alarm.ring();
    until(&node, || world.app_state() == app::AppState::Running);
    assert_eq!(world.done(), ["start ./app"], "and starts by itself when it has ended");

    node.checkpoint(Some(id("a")), None).unwrap();
    let (sent, after) = (world.clone(), open(true));
    *world.turn.lock().unwrap() = Box::new(move || {
        *sent.open.lock().unwrap() = Some(after.clone());
        Err(after.clone().into())
    });
    let restore = || node.restore(to(Target::Checkpoint(id("a"))));
    for refused in [restore(), restore()] {
        assert!(matches!(refused, Err(RestoreError::Unfinished { disk_full: true, .. })), "{refused:?}");
    }
    let checkpoint = node.checkpoint(Some(id("b")), None);
    assert!(matches!(checkpoint, Err(CheckpointError::Unfinished { disk_full: true, .. })), "{checkpoint:?}");
    for action in [AppAction::Start, AppAction::Restart] {
        let refused = node.app(action);
        assert!(matches!(refused, Err(ActionError::Unfinished { disk_full: true, .. })), "{refused:?}");
    }
    assert_eq!(codes(&node.status()), ["restore_unfinished"]);
    *world.open.lock().unwrap() = None;
    noted(&node);
    assert_eq!(codes(&node.status()), ["restore_failed"], "rolled back, as any that failed");
    assert_eq!(world.app_state(), app::AppState::Stopped);
    node.app(AppAction::Start).unwrap();
    assert_eq!(world.app_state(), app::AppState::Running);
    node.drain("the test is over");
}

// semantics: unfinished-waits
#[test]
fn a_restore_that_is_done_after_all_lets_the_app_run() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(&dir);
    let node = node(&dir, &world);
    node.configure(with_app()).unwrap();
    node.checkpoint(Some(id("a")), None).unwrap();
    let reason = "it is done, but that could not be recorded: the disk is full";
    let open = Unfinished { name: "a".into(), reason: reason.into(), disk_full: true };
    let (sent, after) = (world.clone(), open.clone());
    *world.turn.lock().unwrap() = Box::new(move || {
        sent.ledger.begin_intent(Timestamp(1), "a", &sent.vector(2), &sent.vector(1)).unwrap();
        *sent.open.lock().unwrap() = Some(after.clone());
        Err(after.clone().into())
    });
    let complete = || {
        let id = world.ledger.open_intent().unwrap().unwrap().id;
        world.ledger.complete_intent(id).unwrap();
        *world.open.lock().unwrap() = None;
    };

    node.restore(to(Target::Checkpoint(id("a")))).unwrap_err();
    assert_eq!(codes(&node.status()), ["restore_unfinished"]);
    assert_eq!(world.app_state(), app::AppState::Stopped);
    complete();
    until(&node, || world.app_state() == app::AppState::Running);
    assert!(codes(&node.status()).is_empty(), "{:?}", node.status().issues);

    node.restore(to(Target::Checkpoint(id("a")))).unwrap_err();
    node.drain("the node is restarted, which finishes the restore");
    complete();
    let again = self::node(&dir, &world);
    again.configure(with_app()).unwrap();
    assert_eq!(world.app_state(), app::AppState::Running);
    assert!(codes(&again.status()).is_empty(), "{:?}", again.status().issues);

    again.app(AppAction::Stop).unwrap();
    again.restore(to(Target::Checkpoint(id("a")))).unwrap_err();
    complete();
    noted(&again);
    assert_eq!(world.app_state(), app::AppState::Stopped, "somebody had asked for it");
    assert!(codes(&again.status()).is_empty(), "{:?}", again.status().issues);
    again.drain("the test is over");
}

// semantics: time-is-a-vector
#[test]
fn a_point_in_time_takes_the_newest_moment_that_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(&dir);
    let node = node(&dir, &world);
    node.configure(with_app()).unwrap();
    let begun = node.status().since.0;
    let moment = |ms: i64| Timestamp(begun + ms);
    for txid in [1, 2, 3] {
        world.ledger.note_vector(moment(txid as i64 * 1000), &world.vector(txid)).unwrap();
    }
    *world.lost.lock().unwrap() = vec![2];
    world.done();
    let ahead = |ms| node.restore(to(Target::Time(moment(ms))));
    let refused = ahead(crate::restore::AHEAD_MAX_MS + 1);
    assert!(matches!(refused, Err(RestoreError::ToCome(..))), "{refused:?}");
    assert!(world.done().is_empty(), "the app runs on");
    world.clock.pass(Duration::from_secs(10));
    let time = |ms| RestoreRequest { target: Target::Time(moment(ms)), dry_run: true };

    assert_eq!(node.restore(time(9000)).unwrap().as_of, moment(3000));
    let older = node.restore(time(2500)).unwrap();
    assert_eq!((older.as_of, older.databases[0].to.unwrap().txid.0), (moment(1000), 1));
    assert!(matches!(node.restore(time(500)), Err(RestoreError::NothingThere(_))));

    *world.lost.lock().unwrap() = vec![1, 2, 3];
    let damaged = node.restore(time(9000));
    assert!(matches!(damaged, Err(RestoreError::History { ref reason, .. }) if reason.contains("TXID 3")));
    assert!(matches!(node.restore(to(Target::Undo)), Err(RestoreError::NothingThere(_))));
    node.drain("the test is over");
}

#[test]
fn a_maintenance_stop_stays_stopped_over_a_restart_of_the_node() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(&dir);
    let node = node(&dir, &world);
    node.configure(with_app()).unwrap();
    node.app(AppAction::Stop).unwrap();
    node.checkpoint(Some(id("a")), None).unwrap();
    world.done();
    node.restore(to(Target::Checkpoint(id("a")))).unwrap();
    assert_eq!(world.app_state(), app::AppState::Stopped, "a restore does not start what was stopped");
    node.drain("the test is over");

    let again = self::node(&dir, &world);
    again.configure(with_app()).unwrap();
    assert_eq!(world.app_state(), app::AppState::Stopped);
    again.app(AppAction::Restart).unwrap();
    assert_eq!(world.app_state(), app::AppState::Running);
    again.drain("the test is over");
}

#[test]
fn a_stop_that_cannot_be_noted_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(&dir);
    let node = node(&dir, &world);
    node.configure(with_app()).unwrap();
    node.checkpoint(Some(id("a")), None).unwrap();
    let noted = node.core.setup.home.app_stopped();
    LocalDisk.create_dir_all(&noted.join("in the way")).unwrap();
    let refused = node.app(AppAction::Stop);
    assert!(matches!(refused, Err(ActionError::Failed(_))), "{refused:?}");
    assert_eq!(world.app_state(), app::AppState::Running);
    node.restore(to(Target::Checkpoint(id("a")))).unwrap();
    assert_eq!(world.app_state(), app::AppState::Running, "nobody was told that it stops");
    node.drain("the test is over");
}

#[test]
fn a_maintenance_stop_outlives_a_restore_that_failed() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(&dir);
    let node = node(&dir, &world);
    node.configure(with_app()).unwrap();
    node.checkpoint(Some(id("a")), None).unwrap();
    node.app(AppAction::Stop).unwrap();

    world.fail_turns(|| TurnError::Failed { reason: "the disk is full".into(), disk_full: true });
    node.restore(to(Target::Checkpoint(id("a")))).unwrap_err();
    assert_eq!(codes(&node.status()), ["restore_failed"]);
    *world.turn.lock().unwrap() = Box::new(|| Ok(()));
    node.restore(to(Target::Checkpoint(id("a")))).unwrap();

    assert_eq!(world.app_state(), app::AppState::Stopped, "nobody has asked for it");
    assert!(codes(&node.status()).is_empty());
    node.app(AppAction::Start).unwrap();
    assert_eq!(world.app_state(), app::AppState::Running);
    node.drain("the test is over");
}

#[test]
fn a_released_lease_is_taken_again_by_promote_only() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(&dir);
    let node = node(&dir, &world);
    node.configure(with_app()).unwrap();
    world.done();
    node.release_lease().unwrap();
    assert_eq!(world.done(), ["stop app", "seal"], "the tail is sealed after the app is dead");
    let status = node.status();
    assert_eq!((status.role, status.lease.unwrap().state), (Some("replica"), "released"));
    assert!(matches!(node.app(AppAction::Start), Err(ActionError::NotNow(_))));
    node.promote().unwrap();
    assert_eq!(world.done(), ["start ./app"]);
    assert_eq!(node.status().lease.unwrap().holder.as_deref(), Some("node-a"));
    node.drain("the test is over");
}

#[test]
fn automatic_checkpoints_follow_their_schedule_and_named_ones_stay() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(&dir);
    let node = node(&dir, &world);
    node.configure(config(r#"{"name":"notes","checkpoints":{"every":"1h","keep":2}}"#)).unwrap();
    node.checkpoint(Some(id("named")), None).unwrap();
    let events = node.events();
    for _ in 0..4 {
        world.clock.pass(Duration::from_secs(3601));
        node.core.alarm.ring();
        while events.recv_timeout(Duration::from_secs(10)).unwrap().event != "checkpoint" {}
    }
    node.drain("the test is over");
    let all = node.checkpoints().unwrap();
    let automatic = all.iter().filter(|checkpoint| checkpoint.automatic).count();
    assert!((2..=3).contains(&automatic), "{automatic}");
    assert!(all.iter().any(|checkpoint| checkpoint.id.as_str() == "named"));
}

#[test]
fn at_the_limit_of_history_one_automatic_checkpoint_goes_for_each_thinning() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(&dir);
    let node = node(&dir, &world);
    node.configure(config(r#"{"name":"notes"}"#)).unwrap();
    node.checkpoint(Some(id("named")), None).unwrap();
    for name in ["a1", "a2", "a3", "a4"] {
        world.clock.pass(Duration::from_secs(1));
        node.core.checkpoint(Some(id(name)), None, true).unwrap();
    }
    let left = || {
        let mut left: Vec<String> = node.checkpoints().unwrap().iter().map(|c| c.id.to_string()).collect();
        left.sort();
        left
    };
    let thinned = |over: bool| {
        world.clock.pass(Duration::from_secs(30));
        *world.over_limit.lock().unwrap() = over.then(|| world.clock.boottime());
        world.clock.pass(Duration::from_secs(1));
    };
    let leaves = |these: &[&str]| {
        node.core.make_room();
        // The keeper may have been quicker.
        until(&node, || left() == these);
        (0..3).for_each(|_| node.core.make_room());
        assert_eq!(left(), these, "whether that was enough is not known yet");
    };

    leaves(&["a1", "a2", "a3", "a4", "named"]);
    thinned(true);
    leaves(&["a2", "a3", "a4", "named"]);
    thinned(true);
    leaves(&["a3", "a4", "named"]);
    thinned(false);
    leaves(&["a3", "a4", "named"]);
    node.drain("the test is over");
}

#[test]
fn a_forgotten_configuration_leaves_the_data_and_can_be_given_again() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(&dir);
    let node = node(&dir, &world);
    assert!(matches!(node.forget(), Err(ConfigureError::Unconfigured)));
    node.configure(with_app()).unwrap();
    node.checkpoint(Some(id("a")), None).unwrap();
    world.done();
    node.forget().unwrap();
    assert_eq!(world.done(), ["stop app", "seal", "stop databases"]);
    assert_eq!(node.status().state, State::Unconfigured);
    assert!(LocalDisk.metadata(&dir.path().join("tmp/config.json")).is_err());
    node.configure(with_app()).unwrap();
    assert_eq!(node.checkpoints().unwrap().len(), 1);
    node.drain("the test is over");
}

#[test]
fn a_change_of_the_app_is_made_at_once_and_the_rest_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(&dir);
    let node = node(&dir, &world);
    assert!(matches!(node.reconfigure(with_app()), Err(ConfigureError::Unconfigured)));
    node.configure(with_app()).unwrap();
    world.done();
    let later = node.reconfigure(config(r#"{"name":"other","app":{"command":["./new"]}}"#)).unwrap();
    assert_eq!(world.done(), ["stop app", "start ./new"]);
    assert_eq!(later.after_restart.len(), 1);
    node.drain("the test is over");
}

#[test]
fn what_a_change_leaves_to_a_restart_is_told_until_it_is_made_and_the_app_sees_what_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(&dir);
    let node = node(&dir, &world);
    node.configure(with_app()).unwrap();
    let seen = || world.plan.lock().unwrap().clone().unwrap().spec.env;
    let env = seen();
    assert!(
        env.iter().any(|(name, path)| name == "STEAD_DATABASE" && path.ends_with("/data/database.sqlite"))
    );
    let other = r#"{"name":"notes","listen":"127.0.0.1:9","databases":[{"path":"data/new.db"}],
                    "app":{"command":["./new"]}}"#;
    for _ in 0..2 {
        assert_eq!(node.reconfigure(config(other)).unwrap().after_restart, ["listen", "databases"]);
        assert_eq!(codes(&node.status()), ["listen_after_restart"]);
    }
    assert_eq!(seen(), env, "the database that is kept is the old one");
    assert!(node.reconfigure(with_app()).unwrap().after_restart.is_empty(), "it runs so already");
    assert!(codes(&node.status()).is_empty());
    node.drain("the test is over");

    let again = self::node(&dir, &world);
    again.configure(config(other)).unwrap();
    assert!(seen().iter().any(|(_, value)| value.ends_with("/data/new.db")));
    again.drain("the test is over");
}

#[test]
fn flags_lie_over_every_configuration_and_are_not_saved_with_a_posted_one() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(&dir);
    let flags = Overrides {
        listen: Some("127.0.0.9:81".to_owned()),
        store: None,
        command: vec!["./from-flags".to_owned()],
    };
    let node = node_with(&dir, &world, flags);
    node.configure(with_app()).unwrap();
    assert_eq!(world.done(), ["start databases", "start ./from-flags"]);
    let saved = LocalDisk.open(&dir.path().join("tmp/config.json"), base::Open::Read).unwrap();
    let mut bytes = vec![0; saved.len().unwrap() as usize];
    saved.read_exact_at(&mut bytes, 0).unwrap();
    assert!(!String::from_utf8(bytes).unwrap().contains("listen"));
    assert_eq!(node.config().unwrap().listen.0.to_string(), "127.0.0.9:81");

    let posted =
        r#"{"name":"notes","listen":"127.0.0.1:82","retention":{"keep":"1d"},"app":{"command":["./other"]}}"#;
    let changed = node.reconfigure(config(posted)).unwrap();
    assert_eq!(changed.after_restart, ["retention"]);
    assert_eq!(changed.kept_by_flags, ["listen", "app.command"]);
    assert!(world.done().is_empty(), "the app runs on as the flags say");
    assert_eq!(node.config().unwrap().listen.0.to_string(), "127.0.0.9:81");
    node.drain("the test is over");
}

const MIGRATED: &str = r#"{"name":"notes","app":{"command":["./app"],"before":["./migrate up"]}}"#;

// semantics: before
#[test]
fn what_runs_before_the_app_runs_once_for_each_time_the_node_becomes_primary() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(&dir);
    let node = node(&dir, &world);
    node.configure(config(MIGRATED)).unwrap();
    assert_eq!(world.done(), ["start databases", "start ./migrate, ./app"]);

    node.app(AppAction::Restart).unwrap();
    assert_eq!(world.done(), ["stop app", "start ./app"]);
    node.checkpoint(Some(id("a")), None).unwrap();
    node.restore(to(Target::Checkpoint(id("a")))).unwrap();
    assert_eq!(world.done().last().unwrap(), "start ./app");

    node.release_lease().unwrap();
    node.promote().unwrap();
    assert_eq!(world.done().last().unwrap(), "start ./migrate, ./app");
    node.reconfigure(config(&MIGRATED.replace("./app", "./other"))).unwrap();
    assert_eq!(world.done().last().unwrap(), "start ./other");
    node.reconfigure(config(&MIGRATED.replace("up", "further"))).unwrap();
    assert_eq!(world.done().last().unwrap(), "start ./migrate, ./app");
    node.drain("the test is over");
}

#[test]
fn what_runs_before_an_app_that_is_held_down_waits_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(&dir);
    let node = node(&dir, &world);
    node.configure(config(MIGRATED)).unwrap();
    node.app(AppAction::Stop).unwrap();
    node.release_lease().unwrap();
    world.done();
    node.promote().unwrap();
    assert!(world.done().is_empty());
    node.app(AppAction::Start).unwrap();
    assert_eq!(world.done(), ["start ./migrate, ./app"]);
    node.drain("the test is over");
}

#[test]
fn a_failure_before_the_app_is_an_issue_until_a_good_run() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(&dir);
    let node = node(&dir, &world);
    node.configure(config(MIGRATED)).unwrap();
    let change = |status: &AppStatus| {
        *world.status.lock().unwrap() = status.clone();
        node.app_changed(&AppEvent { time: Timestamp(1), status: status.clone(), reason: "a test".into() });
        node.status()
    };
    let command = vec!["./migrate".to_owned(), "to here".to_owned()];
    let failure = PreparationFailure { index: 0, command, why: "exited with code 3".into(), code: 3 };
    let failed = change(&AppStatus {
        state: AppState::Backoff,
        before_failure: Some(failure),
        ..AppStatus::default()
    });
    let issue = failed.issues.iter().find(|issue| issue.code == "before_failed").unwrap();
    let said = "app.before[0] `./migrate 'to here'` failed, so the app is not started: exited with code 3";
    assert_eq!((issue.message.as_str(), issue.exit_code), (said, Some(3)));
    assert_eq!(issue.path.as_deref(), Some("app.before[0]"));
    let component = failed.components.app.unwrap();
    assert_eq!(
        (component.state, component.error.as_deref()),
        ("degraded", Some("app.before[0] `./migrate 'to here'`: exited with code 3; it is tried again"))
    );

    let mended = change(&AppStatus { state: AppState::Running, ..AppStatus::default() });
    assert!(codes(&mended).is_empty());
    node.drain("the test is over");
}
