//! What a configuration means for the parts: the engine's settings, the app's command, the schedule.

use super::Setup;
use crate::config::{App, Config, DatabaseEntry, Ready, StoreUrl};
use app::{Plan, Question, ReadyWhen, RestartPolicy, Spec};
use base::DatabasePath;
use database::Claim;
use database::engine::{CHECKPOINT_FRAMES, Entry, Retention, Settings, StoreSettings};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What the app must not inherit: the right to change the node, and the node's own line to the supervisor.
const NOT_FOR_THE_APP: [&str; 3] =
    ["STEAD_TOKEN", app::protocol::DESCRIPTOR_VARIABLE, app::protocol::NODE_COOKIE_VARIABLE];

/// What the environment may tell of the store's key.
const STORE_SECRETS: [&str; 4] =
    ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN"];

/// The first WAL size at which the engine seals and rotates whatever else happens.
const WAL_LIMIT_BYTES: u64 = 64 << 20;

/// The engine's settings, or why it cannot have them.
pub(super) fn engine(config: &Config, setup: &Setup) -> Result<Settings, String> {
    let store = config.storage.url.as_ref().map(|url| store(config, url, setup)).transpose()?;
    Ok(Settings {
        home: setup.home.root().to_owned(),
        entries: config.databases.iter().map(entry).collect(),
        sync_interval: config.storage.sync_interval.0,
        retention: Retention { keep: config.retention.keep.0, local_bytes: config.retention.local.0 },
        store,
        epoch: setup.identity.epoch,
        app_user: app_user(config, setup),
        machine: setup.machine.clone(),
        wal_limit_bytes: WAL_LIMIT_BYTES,
        checkpoint_frames: CHECKPOINT_FRAMES,
    })
}

/// The store, and who this node is for it.
fn store(config: &Config, url: &StoreUrl, setup: &Setup) -> Result<StoreSettings, String> {
    let options = config.storage.s3_options(setup.home.root());
    let objects = url.open(&options, Arc::clone(&setup.machine.disk));
    let owner = setup.identity.owner(&setup.name, config.name.as_str(), setup.machine.random.next_u64());
    Ok(StoreSettings {
        objects: objects.map_err(|error| format!("{error}; {}", error.kind.hint()))?,
        owner,
        claim: Claim::Own,
        stop_timeout: Some(config.storage.stop_timeout.0),
        configuration: Some(config.to_kept_json()),
    })
}

fn entry(entry: &DatabaseEntry) -> Entry {
    match entry {
        DatabaseEntry::File(file) => Entry::File {
            path: file.path.0.clone(),
            schema: file.schema.as_ref().map(|schema| schema.0.clone()),
        },
        DatabaseEntry::Pattern(found) => {
            Entry::Pattern { dir: found.dir.0.clone(), pattern: found.pattern.as_str().to_owned() }
        }
    }
}

/// The first database that is named by its path: the one most apps have.
fn first_database(config: &Config) -> Option<&DatabasePath> {
    config.databases.iter().find_map(|entry| match entry {
        DatabaseEntry::File(file) => Some(&file.path.0),
        DatabaseEntry::Pattern(_) => None,
    })
}

/// How the app is run, and what comes before it; nothing where none is configured. `followed`: what the databases were
/// started with. `before_due`: this node has become primary since those commands ran.
pub(super) fn app(config: &Config, followed: &Config, setup: &Setup, before_due: bool) -> Option<Plan> {
    let app = config.app.as_ref()?;
    let before = app.before.iter().map(|command| command.words().to_vec()).collect();
    let ready = app.ready.as_ref().map(ready_when);
    let database = first_database(followed);
    Some(Plan { spec: spec((app, database), config, setup), before, before_due, ready })
}

fn ready_when(ready: &Ready) -> ReadyWhen {
    let Ready { http, tcp, command, notify: _, timeout, interval } = ready;
    let question = if let Some(url) = http {
        Question::Http { address: url.address().to_owned(), path: url.path().to_owned() }
    } else if let Some(address) = tcp {
        Question::Tcp { address: address.as_str().to_owned() }
    } else if let Some(command) = command {
        Question::Command { words: command.words().to_vec() }
    } else {
        Question::Notify
    };
    ReadyWhen { question, timeout: timeout.0, interval: interval.0 }
}

fn spec((app, database): (&App, Option<&DatabasePath>), config: &Config, setup: &Setup) -> Spec {
    let root = setup.home.root();
    let mut env = vec![
        ("STEAD_NODE".to_owned(), setup.api_url.clone()),
        ("STEAD_DATA".to_owned(), setup.home.data().display().to_string()),
    ];
    if let Some(path) = database {
        env.push(("STEAD_DATABASE".to_owned(), root.join(path.as_str()).display().to_string()));
    }
    env.extend(app.env.iter().map(|(name, value)| (name.clone(), value.clone())));
    Spec {
        command: app.command.words().to_vec(),
        env,
        clear_env_of: not_for_the_app(config),
        directory: normal(root.join(&app.directory.0)),
        user: app_user(config, setup),
        umask: setup.app_umask,
        stop_signal: app.stop_signal.0,
        stop_timeout: app.stop_timeout.0,
        notify: app.ready.as_ref().is_some_and(|ready| ready.notify),
    }
}

/// Variables that are the node's alone: what `app.env` names is given all the same.
fn not_for_the_app(config: &Config) -> Vec<String> {
    let mut names: Vec<_> = NOT_FOR_THE_APP.map(str::to_owned).to_vec();
    if matches!(config.storage.url, Some(StoreUrl::S3 { .. })) {
        names.extend(STORE_SECRETS.map(str::to_owned));
        names.extend(config.variables_of_store_secrets());
    }
    names
}

/// As whom the app runs: as configured, else as `PUID` and `PGID` say.
pub(super) fn app_user(config: &Config, setup: &Setup) -> Option<(u32, u32)> {
    let configured = config.app.as_ref()?.user.map(|ids| (ids.uid, ids.gid));
    configured.or(setup.app_user)
}

/// `home/.` is the home.
fn normal(path: PathBuf) -> PathBuf {
    path.components().filter(|part| !matches!(part, std::path::Component::CurDir)).collect()
}

/// When the app is started again.
pub(super) fn restart(config: &Config) -> RestartPolicy {
    let default = RestartPolicy::default();
    let delay = config.app.as_ref().map_or(default.delay, |app| app.restart_delay.0);
    RestartPolicy { delay, ..default }
}

/// Whether the node ends with the app.
pub(super) fn ends_with_app(config: &Config) -> bool {
    config.app.as_ref().is_some_and(|app| app.exit)
}

/// The schedule of automatic checkpoints.
pub(super) struct Rhythm {
    /// The time between two.
    pub(super) every: Duration,
    /// How many automatic ones stay.
    pub(super) keep: usize,
}

/// The schedule, where there is one.
pub(super) fn checkpoints(config: &Config) -> Option<Rhythm> {
    let every = config.checkpoints.every?.0;
    Some(Rhythm { every, keep: usize::try_from(config.checkpoints.keep).unwrap_or(usize::MAX) })
}

/// What was begun with, as far as only a restart can change it.
#[derive(Clone, Copy)]
pub(super) struct Running<'a> {
    /// Where the API listens.
    pub(super) listening: SocketAddr,
    /// The configuration that was taken first.
    pub(super) accepted: Option<&'a Config>,
    /// The one that the databases were started with; nothing while they are not up, since they start with the newest.
    pub(super) followed: Option<&'a Config>,
}

/// The keys that differ from what runs and that are read only when the node starts.
pub(super) fn needs_restart(running: Running<'_>, config: &Config) -> Vec<&'static str> {
    let Running { listening, accepted, followed } = running;
    let keys = [
        ("name", accepted.is_some_and(|first| first.name != config.name)),
        ("listen", listening != config.listen.0),
        ("storage", followed.is_some_and(|old| old.storage != config.storage)),
        ("retention", followed.is_some_and(|old| old.retention != config.retention)),
        ("databases", followed.is_some_and(|old| old.databases != config.databases)),
        ("lease", accepted.is_some_and(|first| first.lease != config.lease)),
    ];
    keys.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::from_json(text.as_bytes()).unwrap()
    }

    #[test]
    fn what_only_a_restart_can_change_is_named() {
        let before = config(r#"{"name":"a","app":{"command":"x"}}"#);
        let needs_restart = |followed: Option<&Config>, after: &Config| {
            let listening = before.listen.0;
            super::needs_restart(Running { listening, accepted: Some(&before), followed }, after)
        };
        let live = config(r#"{"name":"a","app":{"command":"y"},"checkpoints":{"every":"1h"}}"#);
        assert!(needs_restart(Some(&before), &live).is_empty());
        let later = config(r#"{"name":"a","databases":[{"path":"data/b.db"}],"retention":{"keep":"1d"}}"#);
        assert_eq!(needs_restart(Some(&before), &later), ["retention", "databases"]);
        assert!(needs_restart(None, &later).is_empty(), "databases that are not up start with it");
        let elsewhere = config(r#"{"name":"b","listen":"127.0.0.1:9"}"#);
        assert_eq!(needs_restart(None, &elsewhere), ["name", "listen"]);
    }

    #[test]
    fn the_key_of_the_store_is_not_the_apps() {
        let plain = config(r#"{"name":"a","app":{"command":"x"},"storage":{"url":"file:///b"}}"#);
        assert_eq!(not_for_the_app(&plain), NOT_FOR_THE_APP);
        let s3 = config(r#"{"name":"a","app":{"command":"x"},"storage":{"url":"s3://bucket"}}"#);
        assert!(STORE_SECRETS.iter().all(|name| not_for_the_app(&s3).iter().any(|hidden| hidden == name)));
    }

    #[test]
    fn the_schedule_is_none_until_it_is_asked_for() {
        assert!(checkpoints(&config(r#"{"name":"a"}"#)).is_none());
        let every = checkpoints(&config(r#"{"name":"a","checkpoints":{"every":"1h","keep":3}}"#)).unwrap();
        assert_eq!((every.every, every.keep), (Duration::from_secs(3600), 3));
    }
}
