//! A volume brought to an empty home from its store: the configuration, the ledger; the databases follow at the start.

use cli::{Exit, Failure};
use database::engine::{CONFIGURATION_BYTES_MAX, CONFIGURATION_KEY, StoreSettings};
use database::recover::{RecoverError, recover};
use database::{BucketError, Claim, Machine, bucket};
use node::config::{Config, Storage, StoreUrl};
use node::home::{Home, Identity};
use std::sync::Arc;
use store::Key;

/// Brings the volume, unless the home has one. `configure`: no other configuration was given.
pub fn bring(
    home: &Home,
    identity: &Identity,
    name: &str,
    machine: &Machine,
    (url, configure): (&str, bool),
) -> Result<(), Failure> {
    let has = |path: &std::path::Path| home.disk().metadata(path).is_ok();
    let marker = home.recovering();
    if has(&home.ledger()) && !has(&marker) && (has(&home.config_file()) || !configure) {
        tracing::info!(event = "startup", step = "from", result = "the home has a volume already");
        return Ok(());
    }
    let parsed = StoreUrl::parse(url).map_err(|fault| {
        Failure::new(Exit::Usage, format!("--from: {}", fault.message), "it is needed as a store", fault.hint)
    })?;
    let failed = |cause: &dyn std::fmt::Display, hint: &str| {
        Failure::new(Exit::Unavailable, format!("nothing could be brought up from {url}"), cause, hint)
    };
    let options = Storage::default().s3_options(home.root());
    let objects = store::open_url(&(&parsed).into(), &options, Arc::clone(&machine.disk))
        .map_err(|error| failed(&error, error.kind.hint()))?;
    let kept = store::read_whole(&*objects, &Key::new(CONFIGURATION_KEY), CONFIGURATION_BYTES_MAX)
        .map_err(|error| failed(&error, error.kind.hint()))?;
    let text =
        match kept {
            Some((bytes, _)) if configure => Some(Config::from_kept_json(&bytes, url).map_err(|why| {
                failed(&format!("{CONFIGURATION_KEY}: {why}"), "give --config FILE as well")
            })?),
            None if configure => {
                let hint = "check the URL; a store without a configuration needs --config FILE as well";
                return Err(failed(&format!("{CONFIGURATION_KEY} is not there"), hint));
            }
            _ => None,
        };
    if !has(&home.ledger()) || has(&marker) {
        mark(home)?;
        let owner = identity.owner(name, name, machine.random.next_u64());
        let store =
            StoreSettings { objects, owner, claim: Claim::TakeOver, stop_timeout: None, configuration: None };
        let found = recover(home.root(), &store, machine).map_err(|error| failed(&error, hint(&error)))?;
        tracing::info!(
            event = "startup",
            step = "from",
            databases = found.databases.len(),
            epoch = found.epoch.0,
            result = "taken over"
        );
        unmark(home)?;
    }
    if let Some(text) = text {
        let path = home.config_file();
        base::disk::write_atomic(home.disk(), &path, text.as_bytes(), true).map_err(|error| {
            Failure::system(
                format!("{} cannot be written", path.display()),
                error,
                "make room, or mend its owner",
            )
        })?;
    }
    Ok(())
}

/// Notes that a volume is being brought: whatever stops that, the next start begins it again.
fn mark(home: &Home) -> Result<(), Failure> {
    let marker = home.recovering();
    base::disk::write_atomic(home.disk(), &marker, b"", true).map_err(|error| unwritten(&marker, error))
}

fn unmark(home: &Home) -> Result<(), Failure> {
    let marker = home.recovering();
    let removed = home.disk().remove_file(&marker).and_then(|()| home.disk().sync_dir(&home.private()));
    removed.map_err(|error| unwritten(&marker, error))
}

fn unwritten(path: &std::path::Path, error: std::io::Error) -> Failure {
    Failure::system(format!("{} cannot be written", path.display()), error, "make room, or mend its owner")
}

/// Goes on, in a home that has lost everything but its configuration, with the volume that its store has: where whoever
/// had it has let go. Everybody else's store is refused when the databases start.
pub fn return_home(
    home: &Home,
    identity: &Identity,
    name: &str,
    machine: &Machine,
    config: &Config,
) -> Result<(), Failure> {
    let Some(url) = config.storage.url.as_ref().filter(|_| is_new(home)) else {
        return Ok(());
    };
    let options = config.storage.s3_options(home.root());
    // What is wrong with it is told, and tried again, when the databases start.
    let Ok(objects) = store::open_url(&url.into(), &options, Arc::clone(&machine.disk)) else {
        return Ok(());
    };
    match bucket::read(&*objects) {
        Ok(Some((found, _))) if found.released || home.disk().metadata(&home.recovering()).is_ok() => {}
        _ => return Ok(()),
    }
    let owner = identity.owner(name, config.name.as_str(), machine.random.next_u64());
    let claim = Claim::Released;
    let store = StoreSettings { objects, owner, claim, stop_timeout: None, configuration: None };
    mark(home)?;
    let found = recover(home.root(), &store, machine).map_err(|error| {
        let what = "the volume of this home's store could not be brought back";
        Failure::new(Exit::Unavailable, what, &error, hint(&error))
    })?;
    let databases = found.databases.len();
    tracing::info!(
        event = "startup",
        step = "from",
        databases,
        epoch = found.epoch.0,
        result = "brought back"
    );
    Ok(())
}

/// Whether the home has no volume, or only a part of one that was being brought.
fn is_new(home: &Home) -> bool {
    let has = |path: &std::path::Path| home.disk().metadata(path).is_ok();
    !has(&home.ledger()) || has(&home.recovering())
}

fn hint(error: &RecoverError) -> &'static str {
    match error {
        RecoverError::Bucket(BucketError::Store(error)) => error.kind.hint(),
        RecoverError::StillWritten(_) => "stop the node that has the store, then start again",
        RecoverError::Disk { .. } => "make room on the disk of the home, then start again",
        _ => "start again; `stead db restore URL/DATABASE -o FILE` brings single databases back",
    }
}
