use super::*;

const CRASH: Input = Input::Exited { ending: Ending { code: None, signal: Some(11) } };
const ENDED: Input = Input::Ended { lapsed: false };

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn app(run: u64) -> Effect {
    Effect::Launch { run, part: Part::App }
}

fn before(run: u64, place: usize) -> Effect {
    Effect::Launch { run, part: Part::Before(place) }
}

fn running(at: u64) -> Policy {
    let mut policy = Policy::new(RestartPolicy::default());
    assert_eq!(policy.step(s(at), &Input::Want), [app(1)]);
    assert_eq!(policy.step(s(at), &Input::Started { pid: 10 }), []);
    policy
}

#[test]
fn an_app_that_crashes_is_started_again_after_a_pause_that_doubles() {
    let mut policy = running(100);
    let mut now = 100;
    for (crash, pause) in [1, 2, 4, 8, 16, 32, 60, 60].into_iter().enumerate() {
        assert_eq!(policy.step(s(now), &CRASH), []);
        assert_eq!(policy.step(s(now), &Input::Tick), [], "nothing starts before the rest is gone");
        assert_eq!(policy.step(s(now), &ENDED), []);
        assert_eq!(policy.wake_at(), Some(s(now + pause)));
        assert_eq!(policy.step(s(now + pause) - Duration::from_nanos(1), &Input::Tick), []);
        now += pause;
        let run = crash as u64 + 2;
        assert_eq!(policy.step(s(now), &Input::Tick), [app(run)]);
        assert_eq!(policy.step(s(now), &Input::Started { pid: 11 }), []);
    }
    assert_eq!(policy.restarts(), 8);
}

#[test]
fn a_long_run_resets_the_pause() {
    let mut policy = running(0);
    policy.step(s(0), &CRASH);
    policy.step(s(0), &ENDED);
    policy.step(s(1), &Input::Tick);
    policy.step(s(1), &Input::Started { pid: 11 });
    policy.step(s(601), &CRASH);
    policy.step(s(601), &ENDED);
    assert_eq!(policy.wake_at(), Some(s(602)));
}

#[test]
fn a_stop_is_confirmed_only_when_nothing_is_left_and_stays() {
    let mut policy = running(0);
    assert_eq!(policy.step(s(5), &Input::Halt), [Effect::End { run: 1 }]);
    assert_eq!(policy.step(s(5), &Input::Exited { ending: Ending { code: Some(0), signal: None } }), []);
    assert_eq!(policy.phase(), Phase::Stopping);
    assert_eq!(policy.step(s(6), &ENDED), [Effect::Confirm]);
    assert_eq!(policy.phase(), Phase::Stopped);
    assert_eq!(policy.step(s(5000), &Input::Tick), []);
    assert_eq!(policy.wake_at(), None);
}

#[test]
fn a_main_process_that_gives_its_place_to_another_has_not_ended() {
    let mut policy = running(5);
    assert_eq!(policy.step(s(9), &Input::Succeeded { pid: 77 }), []);
    assert_eq!(policy.phase(), Phase::Running { pid: 77, since: s(5) });
    policy.step(s(10), &Input::Halt);
    policy.step(s(10), &Input::Succeeded { pid: 78 });
    assert_eq!(policy.phase(), Phase::Stopping);
}

#[test]
fn a_stop_during_a_start_waits_for_it() {
    let mut policy = Policy::new(RestartPolicy::default());
    policy.step(s(0), &Input::Want);
    assert_eq!(policy.step(s(0), &Input::Halt), [Effect::End { run: 1 }]);
    assert_eq!(policy.step(s(0), &Input::Started { pid: 10 }), []);
    assert_eq!(policy.phase(), Phase::Stopping);
    assert_eq!(policy.step(s(1), &ENDED), [Effect::Confirm]);
}

#[test]
fn a_stop_during_a_pause_or_without_an_app_is_done_at_once() {
    let mut policy = running(0);
    policy.step(s(0), &CRASH);
    policy.step(s(0), &ENDED);
    assert_eq!(policy.step(s(0), &Input::Halt), [Effect::Confirm]);
    assert_eq!(policy.step(s(9), &Input::Tick), []);
    let mut never = Policy::new(RestartPolicy::default());
    assert_eq!(never.step(s(0), &Input::Halt), [Effect::Confirm]);
    assert_eq!(never.phase(), Phase::None);
}

#[test]
fn a_stop_while_the_rest_is_swept_waits_for_the_sweep() {
    let mut policy = running(0);
    policy.step(s(0), &CRASH);
    assert_eq!(policy.step(s(0), &Input::Halt), [Effect::End { run: 1 }]);
    assert_eq!(policy.step(s(2), &ENDED), [Effect::Confirm]);
    assert_eq!(policy.phase(), Phase::Stopped);
}

#[test]
fn a_start_during_a_stop_follows_it() {
    let mut policy = running(0);
    policy.step(s(1), &Input::Halt);
    assert_eq!(policy.step(s(1), &Input::Want), []);
    assert_eq!(policy.step(s(2), &ENDED), [Effect::Confirm, app(2)]);
}

#[test]
fn an_exec_failure_is_tried_again_with_the_same_pauses() {
    let mut policy = Policy::new(RestartPolicy::default());
    policy.step(s(0), &Input::Want);
    assert_eq!(policy.step(s(0), &Input::Failed { code: 127 }), []);
    assert_eq!(policy.phase(), Phase::Waiting { until: s(1) });
    policy.step(s(1), &Input::Tick);
    policy.step(s(1), &Input::Failed { code: 127 });
    assert_eq!(policy.phase(), Phase::Waiting { until: s(3) });
    assert_eq!(policy.step(s(2), &Input::Want), [app(3)], "asking again does not wait");
}

#[test]
fn a_sweep_longer_than_the_pause_is_followed_by_the_start_at_once() {
    let mut policy = running(0);
    policy.step(s(0), &CRASH);
    assert_eq!(policy.step(s(5), &ENDED), [app(2)]);
}

#[test]
fn a_node_that_ends_with_its_app_takes_its_code() {
    let mut policy = running(0);
    policy.set_end_with_app(true);
    policy.step(s(0), &CRASH);
    assert_eq!(policy.step(s(0), &ENDED), [Effect::Finish { code: 139 }]);
    let mut policy = Policy::new(RestartPolicy::default());
    policy.set_end_with_app(true);
    policy.step(s(0), &Input::Want);
    assert_eq!(policy.step(s(0), &Input::Failed { code: 127 }), [Effect::Finish { code: 127 }]);
}

#[test]
fn a_lapse_is_not_the_apps_own_end() {
    let mut policy = running(0);
    policy.set_end_with_app(true);
    policy.step(s(0), &CRASH);
    assert_eq!(policy.step(s(0), &Input::Ended { lapsed: true }), []);
    assert_eq!(policy.wake_at(), Some(s(1)));
}

const WELL: Input = Input::Exited { ending: Ending { code: Some(0), signal: None } };

fn preparing(commands: usize) -> Policy {
    let mut policy = Policy::new(RestartPolicy::default());
    policy.prepare(commands);
    assert_eq!(policy.step(s(0), &Input::Want), [before(1, 0)]);
    policy.step(s(0), &Input::Started { pid: 10 });
    policy
}

#[test]
fn commands_run_one_after_another_before_the_app_and_only_once() {
    let mut policy = preparing(2);
    assert_eq!(policy.step(s(1), &WELL), []);
    assert_eq!(policy.step(s(1), &ENDED), [before(2, 1)], "not before the rest of the first is gone");
    policy.step(s(1), &Input::Started { pid: 11 });
    policy.step(s(2), &WELL);
    assert_eq!(policy.step(s(2), &ENDED), [app(3)]);
    policy.step(s(2), &Input::Started { pid: 12 });
    assert_eq!(policy.restarts(), 0);
    policy.step(s(3), &CRASH);
    policy.step(s(3), &ENDED);
    assert_eq!(policy.step(s(4), &Input::Tick), [app(4)], "the app alone, after the first pause");
    assert_eq!(policy.restarts(), 1);
    policy.step(s(4), &Input::Halt);
    policy.step(s(4), &ENDED);
    assert_eq!(policy.step(s(5), &Input::Want), [app(5)]);
}

#[test]
fn a_command_that_fails_is_tried_again_with_the_apps_pauses_and_the_good_ones_are_not() {
    let mut policy = preparing(2);
    policy.set_end_with_app(true);
    policy.step(s(0), &WELL);
    assert_eq!(policy.step(s(0), &ENDED), [before(2, 1)]);
    policy.step(s(0), &Input::Failed { code: 127 });
    assert_eq!(policy.step(s(1), &Input::Tick), [before(3, 1)]);
    policy.step(s(1), &Input::Started { pid: 10 });
    policy.step(s(1), &CRASH);
    assert_eq!(policy.step(s(1), &ENDED), [], "the node does not end with it");
    assert_eq!(policy.wake_at(), Some(s(3)));
    assert_eq!(policy.step(s(3), &Input::Tick), [before(4, 1)]);
    policy.step(s(3), &Input::Started { pid: 10 });
    policy.step(s(4), &WELL);
    assert_eq!(policy.step(s(4), &ENDED), [app(5)]);
}

#[test]
fn a_stop_ends_the_preparation_and_a_start_goes_on_where_it_was() {
    let mut policy = preparing(2);
    policy.step(s(0), &WELL);
    policy.step(s(0), &ENDED);
    assert_eq!(policy.step(s(0), &Input::Halt), [Effect::End { run: 2 }]);
    assert_eq!(policy.step(s(0), &ENDED), [Effect::Confirm]);
    assert_eq!(policy.step(s(9), &Input::Want), [before(3, 1)]);
}

#[test]
fn a_command_that_was_ended_for_the_nodes_silence_has_not_ended_well() {
    let mut policy = preparing(1);
    policy.step(s(0), &WELL);
    assert_eq!(policy.step(s(0), &Input::Ended { lapsed: true }), []);
    assert_eq!(policy.step(s(1), &Input::Tick), [before(2, 0)]);
}

#[test]
fn a_new_list_begins_with_its_first_command_whatever_runs() {
    let mut policy = preparing(2);
    policy.prepare(1);
    policy.step(s(0), &WELL);
    assert_eq!(policy.step(s(0), &ENDED), [before(2, 0)]);
}

/// Whatever comes in whatever order: never two launches without an end in between.
#[test]
fn no_order_of_events_launches_twice() {
    let inputs = [
        Input::Want,
        Input::Halt,
        Input::Started { pid: 1 },
        Input::Failed { code: 126 },
        CRASH,
        WELL,
        ENDED,
        Input::Tick,
    ];
    let mut seed = 1_u64;
    for _ in 0..2000 {
        let mut policy = Policy::new(RestartPolicy::default());
        policy.prepare(2);
        let mut launched = false;
        for second in 0..40 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let input = &inputs[(seed >> 33) as usize % inputs.len()];
            // What a supervisor would not say.
            let from_supervisor = matches!(
                input,
                Input::Started { .. } | Input::Failed { .. } | Input::Exited { .. } | Input::Ended { .. }
            );
            if from_supervisor && !launched {
                continue;
            }
            let before = policy.phase();
            if matches!(input, Input::Ended { .. }) {
                launched = false;
            }
            if matches!(input, Input::Failed { .. }) {
                if before != Phase::Launching {
                    continue;
                }
                launched = false;
            }
            for effect in policy.step(s(second * 10), input) {
                if let Effect::Launch { .. } = effect {
                    assert!(!launched, "{before:?} {input:?}");
                    launched = true;
                }
            }
        }
    }
}
