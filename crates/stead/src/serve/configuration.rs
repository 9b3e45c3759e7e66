//! Which configuration a node starts with.
//!
//! ```text
//! --config FILE ─► tmp/config.json ─► flags alone ─► none: unconfigured
//!   bad: exit        bad: aside,        bad: exit
//!                    unconfigured
//! ```
//! Flags lie over whichever it is.

use base::{Disk, LocalDisk, Timestamp};
use cli::Failure;
use node::config::{Config, ListenAddress, LoadError, Overrides, Problem, Problems, StoreUrl};
use node::control::Issue;
use node::home::{Home, SAVED};
use std::io;
use std::path::Path;

/// What was found.
#[derive(Debug)]
pub enum Found {
    /// A configuration, and where it came from.
    Config(Box<Config>, String),
    /// None; the node waits for `POST /config`.
    Nothing,
    /// `tmp/config.json` is no good; the node waits, and says so.
    Unusable(Issue),
}

/// Refuses what [`find`] would refuse, without a home.
pub fn check(root: &Path, file: Option<&Path>, overrides: &Overrides, name: &str) -> Result<(), Failure> {
    check_flags(overrides)?;
    if let Some(file) = file {
        return named(&LocalDisk, file, overrides, name).map(drop);
    }
    let root = root.canonicalize().or_else(|_| std::path::absolute(root));
    match root {
        Ok(root) if LocalDisk.metadata(&root.join(SAVED)).is_err() => alone(&root, overrides).map(drop),
        // What is saved, or cannot be looked at, is judged with the home.
        _ => Ok(()),
    }
}

/// Finds the configuration of a node called `name`.
pub fn find(
    home: &Home,
    file: Option<&Path>,
    overrides: &Overrides,
    name: &str,
    now: Timestamp,
) -> Result<Found, Failure> {
    check_flags(overrides)?;
    if let Some(file) = file {
        let config = named(home.disk(), file, overrides, name)?;
        return Ok(Found::Config(Box::new(config), format!("configured by {}", file.display())));
    }
    let variables = |variable: &str| std::env::var(variable).ok();
    let saved = home.config_file();
    let loaded = Config::load_file(home.disk(), &saved, &variables, overrides);
    let checked = loaded.and_then(|config| {
        config.check_primary(name)?;
        Ok(config)
    });
    match checked {
        Ok(config) => Ok(Found::Config(Box::new(config), "configured by tmp/config.json".to_owned())),
        Err(LoadError::Read { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
            Ok(alone(home.root(), overrides)?.map_or(Found::Nothing, |config| {
                Found::Config(Box::new(config), "configured by the command line".to_owned())
            }))
        }
        Err(error) => Ok(Found::Unusable(set_aside(home, &error, now))),
    }
}

/// The configuration of `--config`.
pub fn named(disk: &dyn Disk, file: &Path, overrides: &Overrides, name: &str) -> Result<Config, Failure> {
    let variables = |variable: &str| std::env::var(variable).ok();
    let from = file.display().to_string();
    let config =
        Config::load_file(disk, file, &variables, overrides).map_err(|error| refused(&error, &from))?;
    config.check_primary(name).map_err(|problems| invalid(&problems, &from))?;
    Ok(config)
}

/// The configuration that flags are by themselves, if they are one.
fn alone(root: &Path, overrides: &Overrides) -> Result<Option<Config>, Failure> {
    if !overrides.configure() {
        return Ok(None);
    }
    let config = Config::from_overrides(root, overrides);
    config.map(Some).map_err(|problems| invalid(&problems, "the command line"))
}

/// Flags are checked by themselves, so that a slip on the command line is not blamed on the file.
fn check_flags(overrides: &Overrides) -> Result<(), Failure> {
    let listen = overrides.listen.as_deref().map(|text| ListenAddress::parse(text).map(drop));
    let store = overrides.store.as_deref().map(|text| StoreUrl::parse(text).map(drop));
    for (flag, checked) in [("--listen", listen), ("--store", store)] {
        if let Some(Err(fault)) = checked {
            let problem = Problem::new(flag, fault.message, fault.hint);
            return Err(invalid(&problem.into(), "the command line"));
        }
    }
    Ok(())
}

fn refused(error: &LoadError, from: &str) -> Failure {
    match error {
        LoadError::Read { .. } => {
            Failure::system("the configuration was not read", error, "name a readable file with --config")
        }
        LoadError::Invalid(problems) => invalid(problems, from),
    }
}

/// A configuration that cannot be used, with every problem.
pub fn invalid(problems: &Problems, from: &str) -> Failure {
    let what = format!("{from} holds no valid configuration");
    Failure::invalid(what, problems.0.clone(), from)
}

/// Keeps an unusable `tmp/config.json` under another name, for whoever mends it.
fn set_aside(home: &Home, error: &LoadError, now: Timestamp) -> Issue {
    let from = home.config_file();
    let stamp: String = now.rfc3339().chars().filter(|c| !matches!(c, '-' | ':')).collect();
    let aside = base::disk::sibling(&from, &format!(".invalid-{stamp}"));
    let moved = home.disk().rename(&from, &aside).and_then(|()| home.disk().sync_dir(&home.tmp()));
    let hint = match moved {
        Ok(()) => format!("mend {}, then `stead config apply` it", aside.display()),
        Err(error) => format!("mend it and restart the node (it could not be moved aside: {error})"),
    };
    Issue {
        code: "config_invalid".to_owned(),
        component: "config",
        message: format!("tmp/config.json was not taken: {error}"),
        path: Some("tmp/config.json".to_owned()),
        exit_code: None,
        hint,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cli::Exit;
    use std::sync::Arc;

    fn home() -> (tempfile::TempDir, Home) {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(Arc::new(LocalDisk), dir.path()).unwrap();
        (dir, home)
    }

    fn saved(home: &Home, text: &str) {
        base::disk::write_atomic(&LocalDisk, &home.config_file(), text.as_bytes(), true).unwrap();
    }

    fn flags(command: &[&str], listen: Option<&str>) -> Overrides {
        Overrides {
            listen: listen.map(str::to_owned),
            store: None,
            command: command.iter().map(|word| (*word).to_owned()).collect(),
        }
    }

    fn find_in(home: &Home, file: Option<&Path>, overrides: &Overrides) -> Result<Found, Failure> {
        find(home, file, overrides, "node-a", Timestamp(1_795_255_200_000))
    }

    #[test]
    fn without_anything_a_node_waits() {
        let (_dir, home) = home();
        assert!(matches!(find_in(&home, None, &flags(&[], None)).unwrap(), Found::Nothing));
        assert!(matches!(find_in(&home, None, &flags(&[], Some("127.0.0.1:1"))).unwrap(), Found::Nothing));
    }

    #[test]
    fn flags_are_a_configuration_by_themselves_and_lie_over_the_saved_one() {
        let (_dir, home) = home();
        let Found::Config(alone, _) = find_in(&home, None, &flags(&["./app"], None)).unwrap() else {
            panic!()
        };
        assert!(alone.app.is_some());
        saved(&home, r#"{"name":"kept"}"#);
        let Found::Config(over, _) = find_in(&home, None, &flags(&["./app"], None)).unwrap() else {
            panic!()
        };
        assert_eq!((over.name.as_str(), over.app.is_some()), ("kept", true));
    }

    #[test]
    fn an_invalid_saved_configuration_is_kept_aside() {
        let (_dir, home) = home();
        saved(&home, r#"{"invalid":true}"#);
        let Found::Unusable(issue) = find_in(&home, None, &flags(&[], None)).unwrap() else { panic!() };
        assert_eq!(issue.code, "config_invalid");
        let aside = home.tmp().join("config.json.invalid-20261121T100000.000Z");
        assert_eq!(base::disk::read(&LocalDisk, &aside, 100).unwrap(), br#"{"invalid":true}"#);
        assert!(LocalDisk.metadata(&home.config_file()).is_err());
    }

    #[test]
    fn a_named_file_wins_and_a_bad_one_ends_the_start() {
        let (dir, home) = home();
        saved(&home, r#"{"name":"saved"}"#);
        let file = dir.path().join("stead.yaml");
        base::disk::write_atomic(&LocalDisk, &file, b"name: named\n", false).unwrap();
        let Found::Config(config, _) = find_in(&home, Some(&file), &flags(&[], None)).unwrap() else {
            panic!()
        };
        assert_eq!(config.name.as_str(), "named");

        base::disk::write_atomic(&LocalDisk, &file, b"nmae: named\n", false).unwrap();
        assert_eq!(find_in(&home, Some(&file), &flags(&[], None)).unwrap_err().exit, Exit::Configuration);
        let missing = dir.path().join("missing.yaml");
        assert_eq!(find_in(&home, Some(&missing), &flags(&[], None)).unwrap_err().exit, Exit::System);
        assert_eq!(
            find_in(&home, None, &flags(&[], Some("nonsense"))).unwrap_err().exit,
            Exit::Configuration
        );
    }
}
