//! What is to be looked at, from a configuration or from flags. Pure.

use super::environment::Environment;
use super::facts::{Ask, Ids, Kind, Mend};
use super::finding::{Check, Finding};
use super::modes::{ALL, READ, SEARCH};
use super::{BucketPlan, Code, How};
use crate::config::{App, Config, DatabaseEntry};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Where a program without a `/` is looked for when there is no PATH.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// What the process, not the configuration, says.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// The variables that are looked at.
    pub environment: Environment,
    /// The PATH of the environment.
    pub path: Option<String>,
    /// The machine's name.
    pub machine: String,
    /// The address to be tried; nothing where the API has it already.
    pub listen: Option<SocketAddr>,
    /// The pid of this home's own node, which may have the address.
    pub node: Option<u32>,
    /// A node is about to start with it.
    pub starts: bool,
}

/// Everything that is looked at.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The home; nothing where only directories are looked at.
    pub home: Option<PathBuf>,
    /// As whom the app runs, where not as the node.
    pub user: Option<Ids>,
    /// Directories that the app needs.
    pub directories: Vec<DirectoryPlan>,
    /// Databases, relative to the home.
    pub databases: Vec<String>,
    /// The store's directory.
    pub store: Option<PathBuf>,
    /// The store's bucket.
    pub bucket: Option<BucketPlan>,
    /// Where the app runs.
    pub app_directory: Option<PathBuf>,
    /// Programs that are run, by the key that names them.
    pub programs: Vec<(String, String)>,
    /// Where programs without a `/` are looked for.
    pub path: String,
    /// See [`Context`].
    pub environment: Environment,
    /// See [`Context`].
    pub machine: String,
    /// See [`Context`].
    pub listen: Option<SocketAddr>,
    /// See [`Context`].
    pub node: Option<u32>,
}

/// A directory that the app needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryPlan {
    /// What health answers call it.
    pub label: String,
    /// Where.
    pub path: PathBuf,
    /// Whether it is made where it is missing.
    pub create: bool,
    /// Whose it must be.
    pub owner: Option<Ids>,
    /// Who uses it, where not the app's user.
    pub user: Option<Ids>,
    /// Whether the app's user must be able to write in it.
    pub writable: bool,
}

/// What a subject is, beside its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A directory that the app needs, with the owner it must have.
    Directory(Option<Ids>),
    /// A directory of the home; the flag says that the app's user needs it too.
    Home(bool),
    /// A database.
    Database,
    /// The store.
    Store,
    /// The app's working directory.
    AppDirectory,
    /// A program.
    Program,
}

/// One path to be looked at, and why.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Its name in health answers.
    pub name: String,
    /// As it is shown.
    pub shown: String,
    /// What it is.
    pub what: What,
    /// What the helper is asked.
    pub ask: Ask,
}

/// The plan of a configuration.
pub fn of(config: &Config, home: PathBuf, context: Context) -> Plan {
    let app = config.app.as_ref();
    let user = app.and_then(|app| app.user.map(|ids| (ids.uid, ids.gid)));
    let directory = |directory: &crate::config::Directory| DirectoryPlan {
        label: directory.label(),
        path: home.join(&directory.path.0).components().collect(),
        create: directory.create,
        owner: directory.owner.map(|ids| (ids.uid, ids.gid)),
        user: None,
        writable: directory.writable,
    };
    let named = |entry: &DatabaseEntry| match entry {
        DatabaseEntry::File(file) => Some(file.path.0.to_string()),
        DatabaseEntry::Pattern(_) => None,
    };
    let path = app.and_then(|app| app.env.get("PATH").cloned()).or(context.path);
    Plan {
        user: user.or_else(|| app.and(context.environment.app_user())),
        directories: config.preflight.directories.iter().map(directory).collect(),
        databases: config.databases.iter().filter_map(named).collect(),
        store: config.storage.url.as_ref().and_then(|url| url.directory()).map(Path::to_owned),
        bucket: config.storage.url.as_ref().filter(|url| url.directory().is_none()).map(|url| BucketPlan {
            url: url.clone(),
            options: config.storage.s3_options(&home),
            starts: context.starts,
        }),
        app_directory: app.map(|app| home.join(&app.directory.0).components().collect()),
        programs: app.map(programs).unwrap_or_default(),
        path: path.unwrap_or_else(|| DEFAULT_PATH.to_owned()),
        home: Some(home),
        environment: context.environment,
        machine: context.machine,
        listen: context.listen,
        node: context.node,
    }
}

/// What runs before the app, the app, and what is asked whether it is ready.
fn programs(app: &App) -> Vec<(String, String)> {
    let before = app.before.iter().enumerate();
    let before = before.map(|(index, command)| (format!("app.before[{index}]"), command));
    let ready = app.ready.iter().filter_map(|ready| ready.command.as_ref());
    let all = before
        .chain([("app.command".to_owned(), &app.command)])
        .chain(ready.map(|command| ("app.ready.command".to_owned(), command)));
    all.map(|(key, command)| (key, command.words()[0].clone())).collect()
}

impl Plan {
    /// The plan of directories alone.
    pub fn of_directories(directories: Vec<DirectoryPlan>, user: Option<Ids>, context: Context) -> Plan {
        Plan {
            home: None,
            user: user.or_else(|| context.environment.app_user()),
            directories,
            databases: Vec::new(),
            store: None,
            bucket: None,
            app_directory: None,
            programs: Vec::new(),
            path: context.path.unwrap_or_else(|| DEFAULT_PATH.to_owned()),
            environment: context.environment,
            machine: context.machine,
            listen: context.listen,
            node: context.node,
        }
    }

    /// Whether the node may become the app's user.
    pub(super) fn user_check(&self) -> Option<Check> {
        let user = self.user?;
        let own = (rustix::process::geteuid(), rustix::process::getegid());
        let may = own.0.is_root() || (own.0.as_raw(), own.1.as_raw()) == user;
        let wrong = (!may).then(|| {
            let (uid, gid) = user;
            let message = format!(
                "the app is to run as {uid}:{gid}, and user {} may not become anybody else",
                own.0.as_raw()
            );
            Finding::error(Code::UserNotSwitchable, message, "sudo stead run").at("app.user")
        });
        let check = Check::of("user", "app.user", wrong.into_iter().collect());
        Some(Check { path: Some(format!("{}:{}", user.0, user.1)), ..check })
    }

    /// Every path that is looked at, in the order in which it is needed.
    pub(super) fn subjects(&self, how: How) -> Vec<Subject> {
        let thorough = how != How::Quietly;
        let mut all = Vec::new();
        if let Some(home) = &self.home {
            let known = |path: &str, user, what, write| {
                let kind = Kind::Directory { create: None, mend: None, need: ALL, write };
                subject(format!("home.{}", path.trim_start_matches('.')), home.join(path), user, what, kind)
            };
            all.push(known("data", self.user, What::Home(true), false));
            all.push(known("tmp", None, What::Home(false), thorough));
            all.push(known(".stead", None, What::Home(false), false));
            for path in &self.databases {
                let named = subject(
                    format!("database.{path}"),
                    home.join(path),
                    self.user,
                    What::Database,
                    Kind::Database,
                );
                all.push(Subject { shown: path.clone(), ..named });
            }
        }
        for directory in &self.directories {
            let user = directory.user.or(self.user);
            let owner = directory.owner.or(user).unwrap_or_else(own);
            let kind = Kind::Directory {
                create: ((directory.create && thorough) || how == How::Mending).then_some(owner),
                mend: (how == How::Mending).then_some(Mend { owner, always: directory.owner.is_some() }),
                need: if directory.writable { ALL } else { READ },
                write: thorough && directory.writable && !self.holds_databases(&directory.path),
            };
            let name = format!("paths.{}", directory.label);
            all.push(subject(name, directory.path.clone(), user, What::Directory(directory.owner), kind));
        }
        if let Some(store) = &self.store {
            let kind = Kind::Directory { create: None, mend: None, need: ALL, write: thorough };
            all.push(subject("storage.url".to_owned(), store.clone(), None, What::Store, kind));
        }
        if let Some(directory) = &self.app_directory {
            let kind = Kind::Directory { create: None, mend: None, need: SEARCH, write: false };
            let name = "app.directory".to_owned();
            all.push(subject(name, directory.clone(), self.user, What::AppDirectory, kind));
        }
        all.extend(self.programs.iter().map(|(key, program)| self.program(key, program)));
        all
    }

    /// Whether databases lie in a directory: nothing is tried where others follow every change.
    fn holds_databases(&self, path: &Path) -> bool {
        let Some(home) = &self.home else { return false };
        let mut beside =
            self.databases.iter().map(|database| base::disk::parent(&home.join(database)).to_owned());
        path.starts_with(home.join("data")) || beside.any(|dir| dir == path)
    }

    fn program(&self, key: &str, program: &str) -> Subject {
        let here = self.app_directory.as_deref().unwrap_or(Path::new("/"));
        let candidates: Vec<PathBuf> = if program.contains('/') {
            vec![here.join(program).components().collect()]
        } else {
            self.path.split(':').map(|dir| here.join(dir).join(program)).collect()
        };
        let path = candidates.first().cloned().unwrap_or_default();
        let named = subject(key.to_owned(), path, self.user, What::Program, Kind::Program { candidates });
        Subject { shown: program.to_owned(), ..named }
    }
}

/// This process's own user and group.
pub(super) fn own() -> Ids {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

fn subject(name: String, path: PathBuf, user: Option<Ids>, what: What, kind: Kind) -> Subject {
    let shown = path.display().to_string();
    Subject { name, shown, what, ask: Ask { path, user, kind } }
}
