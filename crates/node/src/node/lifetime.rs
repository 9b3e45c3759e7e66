//! Taking a configuration, bringing the parts up, trying again what failed, and letting everything go.
//!
//! Preflight comes before everything, and nothing starts while it finds an error. Then
//! the databases; the app starts only when they are whole, since it would create an empty database where
//! one is missing. A part that fails leaves the configuration in force: it is an issue and the keeper tries again.

use super::{Core, lock, ownership, settings};
use crate::config::Config;
use crate::control::{Component, ConfigureError, Issue, Reconfigured, State, Status};
use crate::home::{Home, SMALL_FILE_BYTES};
use crate::life::LifeEvent;
use base::Timestamp;
use database::engine::Unfinished;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// The wait before a part that failed to start is tried again; it doubles with every failure.
pub const RETRY: Duration = Duration::from_secs(5);
/// The longest wait between two tries.
pub const RETRY_CEILING: Duration = Duration::from_secs(60);

/// How the parts are, beside what they say themselves.
#[derive(Debug, Default)]
pub(crate) struct PartStates {
    pub(crate) database: Option<Component>,
    pub(crate) lease: Option<Component>,
    pub(crate) app_since: Option<Timestamp>,
    /// The app is to run as soon as a restore has ended.
    pub(crate) app_waits: bool,
    /// A restore that was neither done nor rolled back when last looked at: how it ends is still to be noted.
    pub(crate) restore_open: Option<Unfinished>,
    /// This node has become primary, and what runs before the app has not been begun since.
    pub(crate) before_due: bool,
    /// The configuration that was taken first.
    pub(crate) accepted: Option<Arc<Config>>,
    /// The one that the databases were started with, while they are up.
    pub(crate) followed: Option<Arc<Config>>,
    /// What goes over the wire to the store, while the databases are up.
    pub(crate) traffic: Option<Arc<store::Traffic>>,
    /// The issue of a store that is away, as listeners were told.
    pub(crate) store_told: Option<String>,
    /// When the databases are tried again, on the boot clock, and how long the wait was.
    pub(crate) retry: Option<(Duration, Duration)>,
}

/// Why the app stays stopped; kept in `.stead/app.stopped`, so that a restart of the node does not start it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "why", content = "reason", rename_all = "snake_case")]
pub(crate) enum HeldDown {
    /// Somebody asked for it.
    Maintenance,
    /// A restore failed, or has not ended.
    Restore(String),
}

/// What becomes of a configuration that cannot be saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Save {
    /// It is refused: whoever gave it believes that it lasts.
    First,
    /// It holds: it came from this machine, and comes again at the next start.
    IfPossible,
}

fn not_saved(error: &ConfigureError) -> Issue {
    Issue {
        code: "config_not_saved".to_owned(),
        component: "config",
        message: error.to_string(),
        path: Some("tmp/config.json".to_owned()),
        exit_code: None,
        hint: "make room or mend the permissions of tmp/, then restart the node".to_owned(),
    }
}

/// What an earlier run left; a file that cannot be read still means "stopped".
pub(crate) fn read_held_down(home: &Home) -> Option<HeldDown> {
    match base::disk::read(home.disk(), &home.app_stopped(), SMALL_FILE_BYTES) {
        Ok(bytes) => Some(serde_json::from_slice(&bytes).unwrap_or(HeldDown::Maintenance)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(_) => Some(HeldDown::Maintenance),
    }
}

impl Core {
    /// Takes a first configuration, saves it and starts what it names.
    pub(crate) fn configure(&self, config: Config, reason: &str) -> Result<Status, ConfigureError> {
        {
            let _turn = lock(&self.turn);
            self.accept(config, reason, Save::First)?;
            self.bring_up();
        }
        self.alarm.ring();
        Ok(self.status())
    }

    /// Takes a first configuration. The caller holds `turn`.
    pub(crate) fn accept(&self, config: Config, reason: &str, save: Save) -> Result<(), ConfigureError> {
        if self.config().is_some() {
            return Err(ConfigureError::AlreadyConfigured);
        }
        if self.state() != State::Unconfigured {
            return Err(ConfigureError::NotSaved("the node is stopping".to_owned()));
        }
        match (self.save_config(&config), save) {
            (Err(error), Save::First) => return Err(error),
            (Err(error), Save::IfPossible) => self.raise(not_saved(&error)),
            (Ok(()), _) => {}
        }
        let (config, _) = config.under(&self.setup.flags);
        (self.setup.logging)(&config.log);
        let config = Arc::new(config);
        lock(&self.parts).accepted = Some(config.clone());
        *lock(&self.config) = Some(config);
        self.clear("config", "config_invalid");
        self.compare_address();
        self.step(LifeEvent::Configure, reason);
        Ok(())
    }

    /// Changes the running node.
    pub(crate) fn reconfigure(&self, config: Config) -> Result<Reconfigured, ConfigureError> {
        let _turn = lock(&self.turn);
        let before = self.config().ok_or(ConfigureError::Unconfigured)?;
        self.save_config(&config)?;
        let (config, kept_by_flags) = config.under(&self.setup.flags);
        let after_restart = self.needs_restart(&config);
        let app_changed = before.app != config.app;
        let commands = |config: &Config| config.app.as_ref().map(|app| app.before.clone());
        if commands(&before) != commands(&config) {
            lock(&self.parts).before_due = true;
        }
        (self.setup.logging)(&config.log);
        self.keep_configuration(&config);
        *lock(&self.config) = Some(Arc::new(config));
        self.compare_address();
        self.tell("state", json!({ "configuration": "changed", "after_restart": after_restart }));
        if app_changed {
            self.stop_app("its configuration changed");
            self.start_app_if_wanted();
        }
        self.look_again(Duration::ZERO);
        self.alarm.ring();
        Ok(Reconfigured { after_restart, kept_by_flags })
    }

    /// The keys in which a configuration differs from what runs, and which are read only when the node starts.
    fn needs_restart(&self, config: &Config) -> Vec<&'static str> {
        let (accepted, followed) = {
            let parts = lock(&self.parts);
            (parts.accepted.clone(), parts.followed.clone())
        };
        let running = settings::Running {
            listening: self.setup.listening,
            accepted: accepted.as_deref(),
            followed: followed.as_deref(),
        };
        settings::needs_restart(running, config)
    }

    /// Stops everything and forgets the configuration, never the data.
    pub(crate) fn forget(&self) -> Result<(), ConfigureError> {
        let _turn = lock(&self.turn);
        if self.config().is_none() {
            return Err(ConfigureError::Unconfigured);
        }
        let (path, disk) = (self.setup.home.config_file(), self.setup.home.disk());
        let removed = base::disk::remove_if_there(disk, &path);
        let removed = removed.and_then(|()| disk.sync_dir(&self.setup.home.tmp()));
        removed.map_err(|error| ConfigureError::NotSaved(format!("{}: {error}", path.display())))?;
        self.step(LifeEvent::Drain, "the configuration is being forgotten");
        self.let_go("the configuration was forgotten");
        self.release_hold();
        *lock(&self.config) = None;
        *lock(&self.parts) = PartStates::default();
        *lock(&self.fenced) = None;
        self.issues.clear_all();
        self.looks.forget();
        self.step(LifeEvent::Cleared, "the configuration was forgotten");
        Ok(())
    }

    /// Stops every part for the end of the process.
    pub(crate) fn drain(&self, reason: &str) {
        let _turn = lock(&self.turn);
        if self.step(LifeEvent::Drain, reason) {
            self.let_go(reason);
            self.step(LifeEvent::Drained, reason);
        }
    }

    /// Tries again what failed to start, when its time has come.
    pub(crate) fn retry(&self) {
        let due = lock(&self.parts).retry.is_some_and(|(at, _)| at <= self.setup.machine.clock.boottime());
        if due && let Ok(_turn) = self.turn.try_lock() {
            self.bring_up();
        }
    }

    /// The API listens already when a configuration is posted or changed: another address waits for the next start.
    fn compare_address(&self) {
        let Some(config) = self.config() else { return };
        let now = self.setup.listening;
        if config.listen.0 == now {
            return self.clear("config", "listen_after_restart");
        }
        self.raise(Issue {
            code: "listen_after_restart".to_owned(),
            component: "config",
            message: format!(
                "`listen` says {}, and the node listens on {now} until it is restarted",
                config.listen.0
            ),
            path: Some("listen".to_owned()),
            exit_code: None,
            hint: "restart the node".to_owned(),
        });
    }

    fn save_config(&self, config: &Config) -> Result<(), ConfigureError> {
        let home = &self.setup.home;
        let path = home.config_file();
        let text = config.to_saved_json();
        let there = base::disk::read(home.disk(), &path, SMALL_FILE_BYTES);
        if there.is_ok_and(|bytes| bytes == text.as_bytes()) {
            return Ok(());
        }
        let saved = (|| {
            home.disk().create_dir_all(&home.tmp())?;
            home.disk().create_dir_all(&home.data())?;
            base::disk::write_atomic(home.disk(), &path, text.as_bytes(), true)
        })();
        saved.map_err(|error| ConfigureError::NotSaved(format!("{}: {error}", path.display())))
    }

    /// Starts the databases, then the app. The caller holds `turn`.
    pub(crate) fn bring_up(&self) {
        let Some(config) = self.config() else { return };
        if !matches!(self.state(), State::Starting | State::Primary | State::Replica) {
            return;
        }
        let up = self.databases_are_up() || (self.preflight(&config) && self.bring_up_databases(&config));
        if !up {
            return;
        }
        if self.state() == State::Starting {
            self.step(LifeEvent::Ready, "the databases are up and this node holds the static lease");
            self.became_primary();
        }
        self.start_app_if_wanted();
    }

    /// This node may write from now on.
    pub(crate) fn became_primary(&self) {
        let mut parts = lock(&self.parts);
        parts.lease = Some(self.component("ok", None));
        parts.before_due = true;
    }

    fn bring_up_databases(&self, config: &Arc<Config>) -> bool {
        lock(&self.parts).database = Some(self.component("starting", None));
        tracing::info!(event = "startup", step = "databases");
        // Whose the store is, is asked anew; the configuration may name another.
        *lock(&self.fenced) = None;
        let started = settings::engine(config, &self.setup).and_then(|settings| {
            let traffic = settings.store.as_ref().and_then(|store| store.objects.traffic().cloned());
            lock(&self.parts).traffic = traffic;
            (self.setup.start_databases)(settings, self.notify())
        });
        match started {
            Ok(databases) => {
                if let Some(user) = settings::app_user(config, &self.setup) {
                    let paths: Vec<_> = databases.list().into_iter().map(|info| info.path).collect();
                    ownership::give_to_app(&self.setup.home, &paths, user);
                }
                self.replace_databases(Some(databases));
                let mut parts = lock(&self.parts);
                parts.database = Some(self.component("ok", None));
                parts.followed = Some(config.clone());
                parts.retry = None;
                drop(parts);
                self.clear("database", "databases_not_started");
                self.forget_refusals();
                // Preflight saw what was to be made; now it is there.
                self.look_again(Duration::ZERO);
                true
            }
            Err(reason) => {
                self.databases_failed(reason);
                false
            }
        }
    }

    /// Has the start tried again, later each time; how long until then.
    pub(crate) fn try_again(&self) -> Duration {
        let now = self.setup.machine.clock.boottime();
        let mut parts = lock(&self.parts);
        let wait = parts.retry.map_or(RETRY, |(_, waited)| (waited * 2).min(RETRY_CEILING));
        parts.retry = Some((now + wait, wait));
        drop(parts);
        self.alarm.ring();
        wait
    }

    fn databases_failed(&self, reason: String) {
        let wait = self.try_again();
        lock(&self.parts).database = Some(self.component("failed", Some(reason.clone())));
        self.explain(&format!("the databases did not start: {reason}"));
        self.raise(Issue {
            code: "databases_not_started".to_owned(),
            component: "database",
            message: format!("the databases did not start: {reason}"),
            path: None,
            exit_code: None,
            hint: format!("mend the cause; it is tried again every {} s", wait.as_secs()),
        });
    }

    /// Stops the app and the databases. The caller holds `turn`.
    fn let_go(&self, reason: &str) {
        self.stop_app(reason);
        let _no_writers = self.writers.close("the databases are being let go");
        if let Some(databases) = self.replace_databases(None) {
            // Notes the last moment as well, so that a point in time can be it.
            databases.sync();
            databases.stop();
        }
        let mut parts = lock(&self.parts);
        parts.retry = None;
        parts.followed = None;
        parts.traffic = None;
        parts.database = parts.database.is_some().then(|| self.component("stopped", None));
        parts.lease = parts.lease.is_some().then(|| self.component("stopped", None));
    }

    pub(crate) fn component(&self, state: &'static str, error: Option<String>) -> Component {
        Component { state, since: self.now(), error }
    }

    /// Why the app stays stopped, if it does.
    pub(crate) fn held_down(&self) -> Option<HeldDown> {
        lock(&self.held_down).clone()
    }

    /// Keeps the app down until `app start`, also over a restart of the node. What somebody asks for holds once it is
    /// noted, since until then it is refused; what a failed restore asks for holds in any case.
    pub(crate) fn hold_down(&self, why: HeldDown) -> io::Result<()> {
        let bytes = serde_json::to_vec(&why)?;
        let home = &self.setup.home;
        let noted = base::disk::write_atomic(home.disk(), &home.app_stopped(), &bytes, true);
        if noted.is_ok() || matches!(why, HeldDown::Restore(_)) {
            *lock(&self.held_down) = Some(why);
        }
        noted
    }

    /// Lets the app run again.
    pub(crate) fn release_hold(&self) {
        *lock(&self.held_down) = None;
        let home = &self.setup.home;
        if let Err(error) = base::disk::remove_if_there(home.disk(), &home.app_stopped()) {
            tracing::warn!(event = "app stop not kept", %error, "app.stopped could not be removed: the app stays stopped at the next start");
        }
    }
}
