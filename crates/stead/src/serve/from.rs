//! A volume brought to an empty home from its store: the configuration, the ledger; the databases follow at the start.
//!
//! ```text
//! configuration (FILE, else the store's) ─▶ checked ─▶ preflight ─▶ the store reached, held against the home ─▶ taken
//! └──────────── nothing is changed, whoever has the store goes on ───────────────────────────────────┘   over, ledger
//! ```

use super::configuration::{self, invalid};
use base::Epoch;
use cli::{Exit, Failure};
use database::engine::{CONFIGURATION_BYTES_MAX, CONFIGURATION_KEY, LAST_STORE, StoreSettings, last_store};
use database::ledger::Ledger;
use database::recover::{self, RecoverError, recover};
use database::{BucketError, Claim, Machine, bucket};
use node::config::{Config, Overrides, Storage, StoreUrl};
use node::home::{Home, Identity};
use node::node::Look;
use node::preflight::{How, Report};
use std::path::Path;
use std::sync::Arc;
use store::{Key, Objects};

/// What the command line says.
pub struct Given<'a> {
    /// The store.
    pub url: &'a str,
    /// A configuration, where one is given.
    pub file: Option<&'a Path>,
    /// What lies over every configuration.
    pub overrides: &'a Overrides,
    /// What this node is called.
    pub name: &'a str,
}

/// Brings the volume, unless the home has one. `Some`: what keeps the node from starting with it; nothing was changed.
pub fn bring(
    home: &Home,
    identity: &Identity,
    machine: &Machine,
    given: &Given<'_>,
    look: &Look,
) -> Result<Option<Report>, Failure> {
    let has = |path: &Path| home.disk().metadata(path).is_ok();
    let is_new = is_new(home, machine);
    if !is_new && (has(&home.config_file()) || given.file.is_some()) {
        tracing::info!(event = "startup", step = "from", result = "the home has a volume already");
        return Ok(None);
    }
    let source = Source { home, machine, given };
    let url = StoreUrl::parse(given.url).map_err(|fault| {
        Failure::new(Exit::Usage, format!("--from: {}", fault.message), "it is needed as a store", fault.hint)
    })?;
    let (text, config) = match given.file {
        Some(file) => (None, configuration::named(home.disk(), file, given.overrides, given.name)?),
        None => source.kept(&url).map(|(text, config)| (Some(text), config))?,
    };
    if is_new {
        let unmade = |error: std::io::Error| unwritten(home.root(), error);
        for dir in [home.data(), home.tmp()] {
            home.disk().create_dir_all(&dir).map_err(unmade)?;
        }
        let report = look(&config, How::Thoroughly);
        if report.errors().next().is_some() {
            return Ok(Some(report));
        }
        let objects = source.open(&url, &config.storage)?;
        source.look(&objects)?;
        source.take_over(identity, objects)?;
    }
    if let Some(text) = text {
        let path = home.config_file();
        let written = base::disk::write_atomic(home.disk(), &path, text.as_bytes(), true);
        written.map_err(|error| unwritten(&path, error))?;
    }
    Ok(None)
}

/// The store that a volume is brought from.
struct Source<'a> {
    home: &'a Home,
    machine: &'a Machine,
    given: &'a Given<'a>,
}

impl Source<'_> {
    fn failed(&self, cause: &dyn std::fmt::Display, hint: &str) -> Failure {
        let what = format!("nothing could be brought up from {}", self.given.url);
        Failure::new(Exit::Unavailable, what, cause, hint)
    }

    fn open(&self, url: &StoreUrl, storage: &Storage) -> Result<Arc<dyn Objects>, Failure> {
        let options = storage.s3_options(self.home.root());
        let objects = url.open(&options, Arc::clone(&self.machine.disk));
        objects.map_err(|error| self.failed(&error, error.kind.hint_once()))
    }

    /// The configuration that the store keeps, for a home, and what it is in this environment. The first look goes by
    /// the environment alone: how the store is reached is said in it.
    fn kept(&self, url: &StoreUrl) -> Result<(String, Config), Failure> {
        let objects = self.open(url, &Storage::default())?;
        let found = store::read_whole(&*objects, &Key::new(CONFIGURATION_KEY), CONFIGURATION_BYTES_MAX)
            .map_err(|error| self.failed(&error, error.kind.hint_once()))?;
        let Some((bytes, _)) = found else {
            let hint = "check the URL; a store without a configuration needs --config FILE as well";
            return Err(self.failed(&format!("{CONFIGURATION_KEY} is not there"), hint));
        };
        let text = Config::from_kept_json(&bytes, self.given.url).map_err(|why| {
            self.failed(&format!("{CONFIGURATION_KEY}: {why}"), "give --config FILE as well")
        })?;
        let variables = |name: &str| std::env::var(name).ok();
        let config = Config::from_text(text.as_bytes(), &variables, self.given.overrides);
        let checked = config.and_then(|config| config.check_primary(self.given.name).map(|()| config));
        let from = format!("{CONFIGURATION_KEY} of {}", self.given.url);
        checked.map(|config| (text, config)).map_err(|problems| invalid(&problems, &from))
    }

    /// Whether it is a store, and whether the home has anything that would be lost with it.
    fn look(&self, objects: &Arc<dyn Objects>) -> Result<(), Failure> {
        let found = bucket::read(&**objects).map_err(RecoverError::from);
        let looked = found.and_then(|found| {
            let manifest = found.as_ref().map(|(manifest, _)| manifest);
            recover::look(self.home.root(), objects, manifest, self.machine)
        });
        looked.map_err(|error| self.not_brought(&error))
    }

    fn not_brought(&self, error: &RecoverError) -> Failure {
        not_brought(format!("nothing could be brought up from {}", self.given.url), error)
    }

    fn take_over(&self, identity: &Identity, objects: Arc<dyn Objects>) -> Result<(), Failure> {
        let (home, machine, name) = (self.home, self.machine, self.given.name);
        mark(home)?;
        let owner = identity.owner(name, name, machine.random.next_u64());
        let claim = Claim::TakeOver;
        let store = StoreSettings { objects, owner, claim, stop_timeout: None, configuration: None };
        let found = recover(home.root(), &store, machine).map_err(|error| self.not_brought(&error))?;
        let (databases, epoch) = (found.databases.len(), found.epoch.0);
        tracing::info!(event = "startup", step = "from", databases, epoch, result = "taken over");
        unmark(home)
    }
}

/// Notes that a volume is being brought: whatever stops that, the next start begins it again.
fn mark(home: &Home) -> Result<(), Failure> {
    let marker = home.recovering();
    if home.disk().metadata(&marker).is_err() {
        // A blank one would pass for the volume's.
        let ledger = home.ledger();
        for suffix in ["-wal", "-shm", ""] {
            let file = base::disk::sibling(&ledger, suffix);
            base::disk::remove_if_there(home.disk(), &file).map_err(|error| unwritten(&file, error))?;
        }
    }
    base::disk::write_atomic(home.disk(), &marker, b"", true).map_err(|error| unwritten(&marker, error))
}

fn unmark(home: &Home) -> Result<(), Failure> {
    let marker = home.recovering();
    let removed = home.disk().remove_file(&marker).and_then(|()| home.disk().sync_dir(&home.private()));
    removed.map_err(|error| unwritten(&marker, error))
}

fn unwritten(path: &Path, error: std::io::Error) -> Failure {
    Failure::system(format!("{} cannot be written", path.display()), error, "make room, or mend its owner")
}

/// Goes on, in a home that has no ledger, with the volume that its store has: where the store is this home's, or whoever
/// had it has let go. Everybody else's store is refused when the databases start.
///
/// A home that had a store last needs that to start: a ledger begun without it would go on from none of its checkpoints.
pub fn return_home(
    home: &Home,
    identity: &Identity,
    name: &str,
    machine: &Machine,
    config: Option<&Config>,
) -> Result<(), Failure> {
    let url = config.and_then(|config| config.storage.url.as_ref());
    let has_had_one = home.disk().metadata(&home.root().join(LAST_STORE)).is_ok();
    if (url.is_none() && !has_had_one) || !is_new(home, machine) {
        return Ok(());
    }
    let is_being_brought = home.disk().metadata(&home.recovering()).is_ok();
    let had = right_had(home, url, is_being_brought)?;
    let (Some(config), Some(url)) = (config, url) else { return Ok(()) };
    let not_had = |error: &BucketError| {
        let what = "the ledger of this home is lost, and its store, which has it, cannot be had";
        Failure::new(Exit::Unavailable, what, error, format!("{}; {WITHOUT_STORE}", error.hint_once()))
    };
    let options = config.storage.s3_options(home.root());
    let opened = url.open(&options, Arc::clone(&machine.disk)).map_err(BucketError::from);
    let found = opened.and_then(|objects| {
        let found =
            had.map_or_else(|| bucket::read(&*objects), |epoch| bucket::read_again(&*objects, epoch))?;
        Ok((objects, found))
    });
    let (objects, found) = match found {
        Ok((objects, Some((found, _)))) => (objects, found),
        // What is wrong with it is told, and tried again, when the databases start.
        Err(error) if had.is_some() => return Err(not_had(&error)),
        Ok((_, None)) | Err(_) => return Ok(()),
    };
    let owner = identity.owner(name, config.name.as_str(), machine.random.next_u64());
    let is_ours = had.is_some() && found.owner == owner.id;
    if !is_ours && !is_being_brought && !found.released {
        let taken = BucketError::taken(&*objects, &found);
        return if had.is_some() { Err(not_had(&taken)) } else { Ok(()) };
    }
    let refused =
        |error| not_brought("the volume of this home's store could not be brought back".to_owned(), &error);
    recover::look(home.root(), &objects, Some(&found), machine).map_err(refused)?;
    let claim = Claim::Released;
    let store = StoreSettings { objects, owner, claim, stop_timeout: None, configuration: None };
    mark(home)?;
    let found = recover(home.root(), &store, machine).map_err(refused)?;
    let databases = found.databases.len();
    tracing::info!(
        event = "startup",
        step = "from",
        databases,
        epoch = found.epoch.0,
        result = "brought back"
    );
    unmark(home)
}

/// The last right to write that the configured store gave to a home without a ledger. Refused where another store has the
/// ledger, unless the configured one is being brought.
fn right_had(home: &Home, url: Option<&StoreUrl>, is_being_brought: bool) -> Result<Option<Epoch>, Failure> {
    let last = last_store(home.disk(), home.root()).map_err(|error| {
        let what = "the ledger of this home is lost, and it is not known which store has it";
        let cause = format!("{}: {error}", home.root().join(LAST_STORE).display());
        Failure::system(what, cause, "start with --from and the URL of the store, or remove that file")
    })?;
    let Some((last, epoch)) = last else { return Ok(None) };
    match url.map(StoreUrl::to_string) {
        Some(url) if url == last => Ok(Some(epoch)),
        Some(_) if is_being_brought => Ok(None),
        _ => {
            let what = "the ledger of this home is lost, and its configuration does not lead to the store that has it";
            let hint = format!("start with --from {last} to have it back; {WITHOUT_STORE}");
            Err(Failure::new(Exit::Configuration, what, last, hint))
        }
    }
}

/// How a home whose ledger is lost starts without its store.
const WITHOUT_STORE: &str = "to begin anew without its checkpoints, remove .stead/store.json from the home and name \
                             another storage.url";

/// Whether the home has no volume, or only a part of one that was being brought. A ledger in which nothing was ever
/// recorded is of a start that was refused, unless the home has taken a store with it.
fn is_new(home: &Home, machine: &Machine) -> bool {
    let has = |path: &Path| home.disk().metadata(path).is_ok();
    if has(&home.recovering()) || !has(&home.ledger()) {
        return true;
    }
    if has(&home.root().join(LAST_STORE)) {
        return false;
    }
    // One that cannot be opened is told of where it is needed.
    let ledger = Ledger::open(&home.ledger(), machine.vfs.as_deref());
    ledger.and_then(|ledger| ledger.is_blank()).unwrap_or(false)
}

fn not_brought(what: String, error: &RecoverError) -> Failure {
    let RecoverError::Parted(splits) = error else {
        return Failure::new(Exit::Unavailable, what, error, hint(error));
    };
    let ours = splits.iter().map(|split| format!("{} with {}", split.path, split.base.display()));
    let hint = format!(
        "to have what the store has, move away {}; `stead db restore DIRECTORY -o FILE` reads such a directory",
        ours.collect::<Vec<_>>().join(", ")
    );
    Failure::system(what, error, hint)
}

fn hint(error: &RecoverError) -> &'static str {
    match error {
        RecoverError::Bucket(error) => error.hint_once(),
        RecoverError::EndDamaged { .. } => {
            "bring that object back (a bucket with versions has it), then start again; `stead db restore URL/DATABASE -o \
             FILE --txid N` brings single databases back as they were before"
        }
        RecoverError::StillWritten(_) => "stop the node that has the store, then start again",
        RecoverError::Disk { .. } => "make room on the disk of the home, then start again",
        _ => "start again; `stead db restore URL/DATABASE -o FILE` brings single databases back",
    }
}
