//! Everything on one screen, put together from the parts at the moment of asking.

use super::actions::{APP_NOT_READY, RESTORE_FAILED, not_ready_issue, unfinished_issue};
use super::keeper::SCAN_AT_MOST_EVERY;
use super::{Core, lock, storage};
use crate::config::Config;
use crate::control::{
    Before, Checkpoints, Component, Components, DatabaseStatus, Exit, Issue, Lease, Measured, Process, State,
    Status, StoreTraffic, Unstored,
};
use app::{AppState, AppStatus, LastExit, Preparation};
use base::{Checksum, DatabasePath, Timestamp, Txid};
use database::engine::{DatabaseInfo, StoreInfo, StoreState};
use std::time::Duration;

/// The role of a node in a state.
pub(crate) fn role(state: State) -> Option<&'static str> {
    match state {
        State::Primary => Some("primary"),
        State::Replica => Some("replica"),
        State::Unconfigured | State::Starting | State::Draining | State::Stopped => None,
    }
}

/// The issue of history that needs more than its local limit.
const HISTORY_OVER_LIMIT: &str = "history_over_limit";

impl Core {
    /// Everything on one screen.
    pub(crate) fn status(&self) -> Status {
        self.scan_uncovered(SCAN_AT_MOST_EVERY);
        self.status_with(self.catalogue())
    }

    /// The same from what is known, where all of it is.
    pub(crate) fn status_at_once(&self) -> Option<Status> {
        let catalogue = self.catalogue.try_lock().ok()?.clone()?;
        (!self.scan_is_due(SCAN_AT_MOST_EVERY)).then(|| self.status_with(catalogue))
    }

    /// What is measured beside the status.
    pub(crate) fn measured(&self) -> Measured {
        let store = lock(&self.parts).traffic.as_deref().map(StoreTraffic::from);
        let Some(databases) = self.databases_at_once() else {
            return Measured { store, ..Measured::default() };
        };
        let bytes = |path: DatabasePath| {
            let bytes = databases.history(&path)?.local_bytes();
            Some((path, bytes))
        };
        let history_bytes = databases.list().into_iter().filter_map(|info| bytes(info.path)).collect();
        Measured { history_bytes, store }
    }

    fn status_with(&self, checkpoints: Checkpoints) -> Status {
        let config = self.config();
        let (state, since, reason) = {
            let life = lock(&self.life);
            (life.state(), life.since(), life.reason().to_owned())
        };
        let infos = self.databases_at_once().map(|databases| databases.list()).unwrap_or_default();
        let app = self.setup.app.status();
        let boottime = self.setup.machine.clock.boottime();
        let lease_component = lock(&self.parts).lease.clone();
        let mut issues = self.issues.all();
        issues.extend(infos.iter().filter_map(database_issue));
        let open = self.databases_at_once().and_then(|databases| databases.unfinished());
        let open = open.or_else(|| {
            let noted = lock(&self.parts).restore_open.clone();
            // It has ended: the keeper is to note how.
            noted.inspect(|_| self.alarm.ring())
        });
        if let Some(open) = open {
            // What is said of a restore that was rolled back is not true yet.
            issues.retain(|issue| issue.code != RESTORE_FAILED);
            issues.push(unfinished_issue(&open));
        }
        // The last answer may have changed since the issue was raised.
        if let Some(newest) = not_ready_issue(&app)
            && let Some(known) = issues.iter_mut().find(|issue| issue.code == APP_NOT_READY)
        {
            *known = newest;
        }
        let has_app = config.as_ref().is_some_and(|config| config.app.is_some());
        let has_store = config.as_ref().is_some_and(|config| config.storage.url.is_some());
        let store = self.databases_at_once().and_then(|databases| databases.store());
        if let Some(away) = store.as_ref().and_then(storage::away)
            && !issues.iter().any(|issue| issue.code == away.code)
        {
            issues.push(away);
        }
        let over_limit = self.databases_at_once().and_then(|databases| databases.over_limit());
        let over_limit = over_limit.map(|_| over_limit_issue(checkpoints.count > 0));
        issues.extend(over_limit.clone());
        let now = self.now();
        let unstored = |info: &DatabaseInfo| {
            let history = self.databases_at_once().and_then(|databases| databases.history(&info.path));
            storage::unstored(info, history.as_deref(), (now, boottime))
        };
        let databases: Vec<DatabaseStatus> =
            infos.iter().map(|info| database_status(info, unstored(info), boottime)).collect();
        Status {
            store: store.as_ref().map(|store| storage::shown(store, &databases, (now, boottime))),
            name: config.as_ref().map(|config| config.name.as_str().to_owned()),
            version: self.setup.version,
            node: self.setup.name.clone(),
            state,
            role: role(state),
            since,
            reason,
            configured: config.is_some(),
            process: self.process(&app),
            components: Components {
                database: self.database_component(&infos, over_limit.as_ref()),
                storage: self.storage_component(has_store, store.as_ref(), &infos),
                mount: None,
                lease: lease_component,
                app: has_app.then(|| self.app_component(&app)),
            },
            databases,
            lease: config.is_some().then(|| self.lease(state, store.as_ref())),
            replicas: Vec::new(),
            checkpoints,
            issues,
        }
    }

    fn process(&self, app: &AppStatus) -> Process {
        let now = self.now();
        Process {
            state: app.state.name().to_owned(),
            pid: app.pid,
            ready: app.ready,
            waits_for: app.waits_for.clone(),
            says: app.says.clone(),
            uptime_ms: app.pid.and(app.started).map(|since| u64::try_from(now.0 - since.0).unwrap_or(0)),
            restarts: app.restarts,
            last_exit: app.last_exit.as_ref().map(exit),
            before: app.before.as_ref().map(|running| before(running, self.config().as_deref())),
        }
    }

    fn database_component(&self, infos: &[DatabaseInfo], over_limit: Option<&Issue>) -> Option<Component> {
        let kept = lock(&self.parts).database.clone()?;
        let of_one = |info: &DatabaseInfo| {
            info.trouble.as_ref().map(|trouble| format!("{}: {}", info.path, trouble.message))
        };
        let worst = infos.iter().find_map(of_one).or_else(|| over_limit.map(|issue| issue.message.clone()));
        match worst {
            Some(error) if kept.state == "ok" => {
                Some(Component { state: "degraded", error: Some(error), ..kept })
            }
            _ => Some(kept),
        }
    }

    fn storage_component(
        &self,
        has_store: bool,
        store: Option<&StoreInfo>,
        infos: &[DatabaseInfo],
    ) -> Option<Component> {
        let kept = lock(&self.parts).database.clone().filter(|_| has_store)?;
        match store.map(|store| &store.state) {
            Some(StoreState::Away { since, error }) => {
                let ago = self.setup.machine.clock.boottime().saturating_sub(*since);
                let ago = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
                let since = Timestamp(self.now().0.saturating_sub(ago));
                return Some(Component { state: "degraded", since, error: Some(error.to_string()) });
            }
            Some(StoreState::Refused { error }) => {
                return Some(Component { state: "failed", error: Some(error.to_string()), ..kept });
            }
            Some(StoreState::Held) | None => {}
        }
        let wrong =
            infos.iter().find_map(|info| info.trouble.as_ref().filter(|t| t.code.starts_with("store")));
        Some(match wrong {
            Some(issue) => Component { state: "degraded", error: Some(issue.message.clone()), ..kept },
            None => Component { error: None, ..kept },
        })
    }

    fn app_component(&self, app: &AppStatus) -> Component {
        let since = lock(&self.parts).app_since;
        let since = since.unwrap_or_else(|| lock(&self.life).since());
        let config = self.config();
        let config = config.as_deref();
        let (state, error) = match app.state {
            AppState::Running if app.ready => ("ok", None),
            AppState::Running => ("starting", app.waits_for.clone()),
            AppState::Starting => ("starting", app.before.as_ref().map(|running| preparing(running, config))),
            AppState::Stopping => ("stopped", None),
            AppState::Backoff => ("degraded", Some(ended(app, config))),
            AppState::None | AppState::Stopped => ("stopped", self.why_stopped()),
        };
        Component { state, since, error }
    }

    fn why_stopped(&self) -> Option<String> {
        match self.held_down() {
            Some(super::lifetime::HeldDown::Maintenance) => {
                Some("stopped for maintenance: `stead app start` starts it".to_owned())
            }
            Some(super::lifetime::HeldDown::Restore(reason)) => Some(format!("a restore failed: {reason}")),
            None => None,
        }
    }

    fn lease(&self, state: State, store: Option<&StoreInfo>) -> Lease {
        let held = state == State::Primary;
        Lease {
            r#type: "static",
            state: if held { "held" } else { "released" },
            epoch: store.and_then(|store| store.epoch).unwrap_or(self.setup.identity.epoch),
            holder: held.then(|| self.setup.name.clone()),
            valid_for_ms: None,
        }
    }

    fn catalogue(&self) -> Checkpoints {
        // Held while the ledger is read: who changes the catalogue clears this afterwards, and must not be too early.
        let mut kept = lock(&self.catalogue);
        if let Some(known) = &*kept {
            return known.clone();
        }
        let Ok(all) = self.checkpoints() else { return Checkpoints::default() };
        let newest = all.first();
        let short = Checkpoints {
            count: all.len() as u64,
            latest: newest.map(|newest| newest.id.to_string()),
            latest_made: newest.map(|newest| newest.created),
        };
        *kept = Some(short.clone());
        short
    }
}

/// How the app last ended, as it is shown.
pub(super) fn exit(exit: &LastExit) -> Exit {
    Exit { code: exit.code, signal: exit.signal.map(app::signal::name), time: exit.time }
}

/// The command before the app, as it is shown.
pub(super) fn before(before: &Preparation, config: Option<&Config>) -> Before {
    let Preparation { index, of, command, pid } = before.clone();
    Before { index, of, command: words_as_written(index, command, config), pid }
}

/// The words of a command before the app: what is made of variables may be a secret.
pub(super) fn words_as_written(index: usize, words: Vec<String>, config: Option<&Config>) -> Vec<String> {
    config.and_then(|config| config.before_as_written(index)).unwrap_or(words)
}

fn preparing(running: &Preparation, config: Option<&Config>) -> String {
    let running = before(running, config);
    format!("app.before[{}] `{}` runs before it", running.index, shell_words::join(&running.command))
}

fn ended(app: &AppStatus, config: Option<&Config>) -> String {
    if let Some(failure) = &app.before_failure {
        let words = shell_words::join(words_as_written(failure.index, failure.command.clone(), config));
        return format!("app.before[{}] `{words}`: {}; it is tried again", failure.index, failure.why);
    }
    if let Some(error) = &app.error {
        return format!("{error}; it is started again");
    }
    let how = app.last_exit.as_ref().map(exit).map(|exit| match (exit.signal, exit.code) {
        (Some(signal), _) => format!("it was ended by {signal}"),
        (None, Some(code)) => format!("it exited with code {code}"),
        (None, None) => "it ended".to_owned(),
    });
    format!("{}; it is started again", how.unwrap_or_else(|| "it ended".to_owned()))
}

/// History has more than its limit, and nothing that it could give up.
fn over_limit_issue(has_checkpoints: bool) -> Issue {
    let (message, hint) = match has_checkpoints {
        true => (
            "history needs more than retention.local although only what checkpoints hold is kept",
            "remove checkpoints (stead checkpoint remove ID) or raise retention.local",
        ),
        false => (
            "history needs more than retention.local although only the newest state is kept",
            "raise retention.local",
        ),
    };
    Issue {
        code: HISTORY_OVER_LIMIT.to_owned(),
        component: "database",
        message: message.to_owned(),
        path: None,
        exit_code: None,
        hint: hint.to_owned(),
    }
}

fn database_issue(info: &DatabaseInfo) -> Option<Issue> {
    info.trouble.as_ref().map(|issue| Issue {
        code: issue.code.to_string(),
        component: "database",
        message: issue.message.clone(),
        path: Some(info.path.to_string()),
        exit_code: None,
        hint: issue.hint.clone(),
    })
}

/// Milliseconds, as they are shown.
pub(super) fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn database_status(info: &DatabaseInfo, unstored: Option<Unstored>, boottime: Duration) -> DatabaseStatus {
    let position = info.position;
    DatabaseStatus {
        path: info.path.clone(),
        mode: info.mode,
        txid: position.map_or(Txid::ZERO, |p| p.txid),
        checksum: position.map_or(Checksum::NONE, |p| p.checksum),
        pages: info.pages,
        page_size: info.page_size,
        stored_txid: info.stored_txid,
        unstored,
        lag_ms: info.dirty_since.map_or(0, |since| ms(boottime.saturating_sub(since))),
        history: info.history.clone(),
        issue: info.trouble.as_ref().map(|trouble| trouble.message.clone()),
    }
}
