//! How long the end of an app may take.

use super::*;

const STOP_TIMEOUT: Duration = Duration::from_secs(60);
const EXIT: Ending = Ending { code: Some(0), signal: None };

/// An app whose main process has no number that any process has.
fn app() -> AppProcess {
    let spec = Spec {
        command: vec!["true".into()],
        env: vec![],
        clear_env_of: vec![],
        directory: "/".into(),
        user: None,
        umask: None,
        stop_signal: 15,
        stop_timeout: STOP_TIMEOUT,
        notify: false,
    };
    AppProcess::of(1, u32::MAX, spec)
}

#[test]
fn what_outlives_the_main_process_has_the_time_of_a_stop_that_was_asked_for_and_else_less() {
    let (mut stopped, mut ended, now) = (app(), app(), Duration::from_secs(100));
    stopped.end(now + STOP_TIMEOUT, None);
    stopped.main_ended(now, EXIT);
    assert_eq!(stopped.kill_at(), Some(now + STOP_TIMEOUT));
    ended.main_ended(now, EXIT);
    assert_eq!(ended.kill_at(), Some(now + LEFTOVER_GRACE));
}
