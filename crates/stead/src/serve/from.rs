//! A volume brought to an empty home from its store: the configuration, the ledger; the databases follow at the start.

use cli::{Exit, Failure};
use database::engine::{CONFIGURATION_BYTES_MAX, CONFIGURATION_KEY, StoreSettings};
use database::recover::{RecoverError, recover};
use database::{BucketError, Claim, Machine};
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
    if has(&home.ledger()) && (has(&home.config_file()) || !configure) {
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
    if !has(&home.ledger()) {
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

fn hint(error: &RecoverError) -> &'static str {
    match error {
        RecoverError::Bucket(BucketError::Store(error)) => error.kind.hint(),
        RecoverError::StillWritten(_) => "stop the node that has the store, then start again",
        RecoverError::Disk { .. } => "make room on the disk of the home, then start again",
        _ => "start again; `stead db restore URL/DATABASE -o FILE` brings single databases back",
    }
}
