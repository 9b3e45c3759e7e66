//! The app and the right to write: start, stop, restart, release, promote.
//!
//! The app runs where it is configured, this node may write, and nobody holds it down. Whoever stops it for good
//! writes `.stead/app.stopped` first, so that a crash in between cannot start it again.

use super::lifetime::HeldDown;
use super::{Core, lock, settings};
use crate::config::{Config, Period};
use crate::control::{ActionError, AppAction, Issue, LogLine, LogsError, State};
use crate::life::LifeEvent;
use app::{AppEvent, AppState, AppStatus, PreparationFailure};
use database::engine::Unfinished;
use serde_json::json;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The issue of a restore that is neither done nor rolled back.
pub const RESTORE_UNFINISHED: &str = "restore_unfinished";
/// The issue of a restore that failed and was rolled back.
pub const RESTORE_FAILED: &str = "restore_failed";
/// The issue of a command before the app that fails.
pub const BEFORE_FAILED: &str = "before_failed";
/// The issue of an app that is not ready in time.
pub const APP_NOT_READY: &str = "app_not_ready";
/// The issue of an app that keeps ending.
pub const APP_CRASH_LOOP: &str = "app_crash_loop";
/// The lines of stderr in that issue, and the characters of each.
const LAST_WORDS: usize = 3;
const LAST_WORDS_CHARS: usize = 200;
/// How long an answer waits for the app to run or to fail; what becomes of it later is in the status.
pub const APP_START_LIMIT: Duration = Duration::from_secs(2);

impl Core {
    /// Whether the app should run now.
    pub(crate) fn app_wanted(&self) -> bool {
        self.config().is_some_and(|config| config.app.is_some())
            && self.state() == State::Primary
            && self.held_down().is_none()
            && self.fenced().is_none()
    }

    /// Starts the app where it should run. The caller holds `turn`.
    pub(crate) fn start_app_if_wanted(&self) {
        let settled = self.databases().is_none_or(|databases| databases.settle().is_ok());
        self.note_restore_end();
        let wanted = self.app_wanted();
        // On databases that stand at no common moment the app would build what the end of the restore turns back.
        let waits = wanted && !settled;
        lock(&self.parts).app_waits = waits;
        if waits || !wanted {
            return;
        }
        let Some(config) = self.config() else { return };
        let (before_due, followed) = {
            let mut parts = lock(&self.parts);
            (std::mem::take(&mut parts.before_due), parts.followed.clone())
        };
        // The databases may be those of an earlier configuration, until the node is restarted.
        let followed = followed.as_ref().unwrap_or(&config);
        let Some(plan) = settings::app(&config, followed, &self.setup, before_due) else { return };
        self.setup.app.start(plan, settings::restart(&config), settings::ends_with_app(&config));
        self.await_app();
    }

    /// Waits, not long, until the app runs or has failed, so that whoever asked sees what became of it.
    fn await_app(&self) {
        let settled = || matches!(self.setup.app.status().state, AppState::Running | AppState::Backoff);
        let parts = lock(&self.parts);
        let waited = self.app_moved.wait_timeout_while(parts, APP_START_LIMIT, |_| !settled());
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Stops the app, confirmed; logs where that fails. The caller holds `turn`.
    pub(crate) fn stop_app(&self, reason: &str) -> bool {
        match self.setup.app.stop(reason) {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(event = "app not stopped", error, reason);
                false
            }
        }
    }

    /// Starts, stops or restarts the app.
    pub(crate) fn app_action(&self, action: AppAction) -> Result<(), ActionError> {
        let config = self.config().ok_or(ActionError::Unconfigured)?;
        if config.app.is_none() {
            return Err(ActionError::NotNow("no app is configured: add `app.command`".to_owned()));
        }
        if self.restoring.load(Ordering::SeqCst) {
            return Err(ActionError::NotNow("a restore is running, which starts the app itself".to_owned()));
        }
        let _turn = lock(&self.turn);
        if action != AppAction::Stop {
            self.may_start()?;
        }
        if action != AppAction::Start {
            if action == AppAction::Stop {
                let held = self.hold_down(HeldDown::Maintenance);
                held.map_err(|error| ActionError::Failed(format!("the stop could not be noted: {error}")))?;
            }
            if !self.stop_app("somebody asked for it") {
                return Err(ActionError::Failed("the app could not be stopped: see the log".to_owned()));
            }
        }
        if action != AppAction::Stop {
            self.release_hold();
            self.clear("app", RESTORE_FAILED);
            self.start_app_if_wanted();
        }
        self.alarm.ring();
        Ok(())
    }

    fn may_start(&self) -> Result<(), ActionError> {
        let why = match self.state() {
            State::Primary => return self.may_build(),
            State::Starting => "the databases are not up yet: see `stead status`",
            State::Replica => "this node gave the right to write away: `stead promote` takes it back",
            State::Unconfigured | State::Draining | State::Stopped => "the node is stopping",
        };
        Err(ActionError::NotNow(why.to_owned()))
    }

    /// Whether the databases stand at a common moment.
    fn may_build(&self) -> Result<(), ActionError> {
        let Some(databases) = self.databases() else { return Ok(()) };
        databases
            .settle()
            .map_err(|open| ActionError::Unfinished { reason: open.to_string(), disk_full: open.disk_full })
    }

    /// Whether the end of a restore is waited for.
    pub(crate) fn awaits_restore(&self) -> bool {
        let parts = lock(&self.parts);
        parts.app_waits || parts.restore_open.is_some()
    }

    /// Starts the app that waited for a restore to end.
    pub(crate) fn start_waiting_app(&self) {
        if self.awaits_restore()
            && let Ok(_turn) = self.turn.try_lock()
        {
            self.start_app_if_wanted();
        }
    }

    /// Stops the app, seals to the end, and gives the right to write away.
    pub(crate) fn release_lease(&self) -> Result<(), ActionError> {
        if self.config().is_none() {
            return Err(ActionError::Unconfigured);
        }
        if self.restoring.load(Ordering::SeqCst) {
            return Err(ActionError::NotNow("a restore is running".to_owned()));
        }
        let _turn = lock(&self.turn);
        match self.state() {
            State::Primary => {}
            State::Replica => return Ok(()),
            other => {
                let reason = format!("this node holds no lease: it is {other:?}").to_lowercase();
                return Err(ActionError::NotNow(reason));
            }
        }
        if !self.stop_app("the lease is being released") {
            self.start_app_if_wanted();
            return Err(ActionError::Failed(
                "the app could not be stopped, so the lease is not released".to_owned(),
            ));
        }
        let _no_writers = self.writers.close("the lease is being released");
        if let Some(databases) = self.databases() {
            databases.sync();
        }
        lock(&self.parts).lease = Some(self.component("stopped", Some("released".to_owned())));
        self.step(LifeEvent::Release, "the lease was released; `stead promote` or a restart takes it again");
        Ok(())
    }

    /// Takes the right to write again.
    pub(crate) fn promote(&self) -> Result<(), ActionError> {
        if self.config().is_none() {
            return Err(ActionError::Unconfigured);
        }
        let _turn = lock(&self.turn);
        if let Some(reason) = self.fenced() {
            return Err(ActionError::NotNow(reason));
        }
        match self.state() {
            State::Primary => return Ok(()),
            State::Replica => {}
            _ => return Err(ActionError::NotNow("the node is not up: see `stead status`".to_owned())),
        }
        self.became_primary();
        self.step(LifeEvent::Promote, "promoted");
        self.start_app_if_wanted();
        self.alarm.ring();
        Ok(())
    }

    /// What the runner's subscription brings.
    pub(crate) fn app_changed(&self, event: &AppEvent) {
        lock(&self.parts).app_since = Some(event.time);
        self.app_moved.notify_all();
        let status = &event.status;
        let config = self.config();
        match &status.before_failure {
            Some(failure) => self.raise(before_issue(failure, config.as_deref())),
            None => self.clear("app", BEFORE_FAILED),
        }
        match status.crash_loop {
            // What it said last is asked for where that may wait.
            Some(_) => self.alarm.ring(),
            None => self.clear("app", APP_CRASH_LOOP),
        }
        match not_ready_issue(status) {
            Some(issue) => self.raise(issue),
            None => self.clear("app", APP_NOT_READY),
        }
        tracing::info!(event = "app", state = status.state.name(), pid = status.pid, "{}", event.reason);
        self.report_condition();
        let exit = status.last_exit.as_ref().map(super::status::exit);
        let before = status.before.as_ref().map(|running| super::status::before(running, config.as_deref()));
        self.tell(
            "app",
            json!({
                "state": status.state.name(),
                "pid": status.pid,
                "ready": status.ready,
                "restarts": status.restarts,
                "last_exit": exit,
                "before": before,
                "reason": event.reason,
            }),
        );
    }

    /// Says how the node is, for a service manager: ready is one that waits for its configuration, and one whose app
    /// does its work or is kept from it on purpose.
    pub(crate) fn report_condition(&self) {
        let app = self.setup.app.status();
        let has_app = self.config().is_some_and(|config| config.app.is_some());
        let kept = self.held_down().is_some();
        let (ready, text) = match self.state() {
            State::Unconfigured => (true, "waits for its configuration: POST /config".to_owned()),
            State::Primary if has_app && kept => (true, "primary; the app is kept stopped".to_owned()),
            State::Primary if has_app && app.ready => (true, "primary; the app is ready".to_owned()),
            State::Primary if has_app => {
                (false, format!("primary; the app is not ready: {}", app.state.name()))
            }
            state @ (State::Primary | State::Replica) => (true, state.name().to_owned()),
            state => (false, state.name().to_owned()),
        };
        self.setup.app.report(ready, &text);
    }

    /// Says of an app that keeps ending how it does, with its last words.
    pub(crate) fn explain_crash_loop(&self) {
        if self.setup.app.status().crash_loop.is_none() {
            return;
        }
        let words = self.setup.app.logs(LAST_WORDS, Some("stderr")).unwrap_or_default();
        // Asking has taken its time.
        if let Some(issue) = crash_loop_issue(&self.setup.app.status(), &words) {
            self.raise(issue);
        }
        if self.setup.app.status().crash_loop.is_none() {
            self.clear("app", APP_CRASH_LOOP);
        }
    }

    /// The app's last lines.
    pub(crate) fn logs(&self, lines: usize, stream: Option<&str>) -> Result<Vec<LogLine>, LogsError> {
        let lines = self.setup.app.logs(lines, stream)?;
        Ok(lines
            .into_iter()
            .map(|line| LogLine { time: line.time, stream: line.stream.name().to_owned(), text: line.text })
            .collect())
    }
}

fn app_issue(code: &str, message: &str, hint: &str) -> Issue {
    Issue {
        code: code.to_owned(),
        component: "app",
        message: message.to_owned(),
        path: None,
        exit_code: None,
        hint: hint.to_owned(),
    }
}

/// The issue while an app keeps ending.
fn crash_loop_issue(status: &AppStatus, words: &[app::LogLine]) -> Option<Issue> {
    let (count, exit) = (status.crash_loop?, status.last_exit?);
    let how = match (exit.code, exit.signal) {
        (_, Some(signal)) => format!("by {}", app::signal::name(signal)),
        (code, None) => format!("with code {}", code.unwrap_or_default()),
    };
    let minutes = app::crashes::WINDOW.as_secs() / 60;
    let mut message =
        format!("the app has ended {count} times without a run of {minutes} minutes, the last time {how}");
    let said: Vec<String> =
        words.iter().map(|line| line.text.chars().take(LAST_WORDS_CHARS).collect()).collect();
    if !said.is_empty() {
        message.push_str(&format!("; its last words: {}", said.join(" | ")));
    }
    let hint =
        "see `stead logs --stderr`, mend the cause, then `stead app restart`; it is tried again anyway";
    let exit_code = exit.code.or(exit.signal.map(|signal| 128 + signal));
    Some(Issue { exit_code, ..app_issue(APP_CRASH_LOOP, &message, hint) })
}

/// The issue while an app runs that is not ready in time.
pub(crate) fn not_ready_issue(status: &AppStatus) -> Option<Issue> {
    let limit = Period(status.overdue?);
    let asked = status.waits_for.as_deref().unwrap_or_default();
    let message = format!("the app runs and was not ready within {limit}: {asked}");
    let hint = "see `stead logs`; if it only needs longer, raise app.ready.timeout. It is left running";
    Some(app_issue(APP_NOT_READY, &message, hint))
}

/// The issue while a command before the app fails.
fn before_issue(failure: &PreparationFailure, config: Option<&Config>) -> Issue {
    let PreparationFailure { index, command, why, code } = failure;
    let words = shell_words::join(super::status::words_as_written(*index, command.clone(), config));
    let message = format!("app.before[{index}] `{words}` failed, so the app is not started: {why}");
    Issue {
        path: Some(format!("app.before[{index}]")),
        exit_code: Some(*code),
        ..app_issue(BEFORE_FAILED, &message, "see `stead logs --stderr`; it is tried again by itself")
    }
}

/// The issue while a restore is neither done nor rolled back.
pub(crate) fn unfinished_issue(open: &Unfinished) -> Issue {
    let hint = if open.disk_full {
        "make room on the node's disk; it then goes on by itself"
    } else {
        "mend the cause; it is tried again by itself"
    };
    app_issue(RESTORE_UNFINISHED, &format!("{open}; until then there is no app, checkpoint or restore"), hint)
}

/// The issue that stays while a failed restore keeps the app down.
pub(crate) fn restore_issue(reason: &str) -> Issue {
    let message = format!("a restore failed and was rolled back, the app stays stopped: {reason}");
    app_issue(
        RESTORE_FAILED,
        &message,
        "mend the cause and restore again, or start the app with `stead app start`",
    )
}
