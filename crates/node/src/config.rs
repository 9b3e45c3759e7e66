//! The configuration of a node: one strict schema for files, request bodies and flags.
//!
//! ```text
//! file ─► document ─► expand ${VAR} ─┐
//! body ─► document ──────────────────┼─► check against the schema ─► Config
//! flags ─────────────────────────────┘        every problem at once
//! ```
//!
//! The schema is made from the types in [`sections`]; nothing else lists keys. A [`Config`] remembers what it was made
//! from, unexpanded, and that is what is saved: a secret given as `${VAR}` is not written to disk.

use base::{DatabasePath, Disk};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::OnceLock;

mod check;
mod document;
mod expand;
mod later;
pub mod limits;
mod names;
mod places;
mod problem;
mod process;
mod ready;
mod secret;
pub mod sections;
mod storage;
mod text;
mod written;

pub use document::Document;
pub use expand::Variables;
pub use names::{DatabaseFile, FilePath, HomeDirectory, HostName, ListenAddress, Pattern, VolumeName};
pub use places::{Place, Places};
pub use problem::{Problem, Problems};
pub use process::{Command, Signal, UserIds};
pub use ready::{HostPort, HttpUrl, Ready};
pub use secret::{Credential, HIDDEN, Secret, without_credentials};
pub use sections::{
    App, Checkpoints, DatabaseByPath, DatabaseEntry, DatabasesByPattern, Directory, Lease, LeaseType, Log,
    LogFormat, LogLevel, Preflight, Retention, RunOn,
};
pub use storage::{AccessKeyId, Endpoint, Storage, StoreUrl, Word};
pub use text::{Fault, Period, Size};

/// A complete configuration: every key with its value or its default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The volume's name.
    pub name: VolumeName,
    /// Where the API listens; beyond this machine a token is needed for everything but health.
    #[serde(default = "default_listen")]
    pub listen: ListenAddress,
    /// What requests must carry as `Authorization: Bearer` to change anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// Further names and addresses by which clients may reach the API.
    #[serde(default)]
    #[schemars(length(max = limits::HOSTS_MAX))]
    pub hosts: Vec<HostName>,
    /// Where the history goes beside this machine.
    #[serde(default)]
    pub storage: Storage,
    /// How much history is kept; checkpoints pin what they need.
    #[serde(default)]
    pub retention: Retention,
    /// What is a database of the volume.
    #[serde(default = "default_databases")]
    #[schemars(length(min = 1, max = limits::ENTRIES_MAX))]
    pub databases: Vec<DatabaseEntry>,
    /// Checkpoints on a schedule.
    #[serde(default)]
    pub checkpoints: Checkpoints,
    /// The process that runs on this state; without one, Stead keeps the databases only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<App>,
    /// Who may write.
    #[serde(default)]
    pub lease: Lease,
    /// What is looked at before anything starts.
    #[serde(default)]
    pub preflight: Preflight,
    /// What the node says about itself.
    #[serde(default)]
    pub log: Log,
    /// Texts with variables that values were made of, by key: what is shown and kept in the store instead of the values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub written_as: BTreeMap<String, String>,
    /// What it was made from, as a file has it.
    #[serde(skip)]
    #[schemars(skip)]
    source: Source,
}

/// A document as it was written. It may hold secrets, so that it does not show in logs.
#[derive(Clone, Default)]
struct Source {
    written: Value,
    places: Places,
    /// A flag says what the app's command is, whatever is written.
    command_from_flag: bool,
}

/// The same text in other places is the same.
impl PartialEq for Source {
    fn eq(&self, other: &Source) -> bool {
        self.written == other.written
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

fn default_listen() -> ListenAddress {
    ListenAddress(std::net::SocketAddr::from(([127, 0, 0, 1], 8080)))
}

fn default_databases() -> Vec<DatabaseEntry> {
    match DatabasePath::parse(limits::DATABASE) {
        Ok(path) => vec![DatabaseEntry::File(DatabaseByPath { path: DatabaseFile(path), schema: None })],
        Err(_) => Vec::new(),
    }
}

/// What flags and their environment variables say: each overrides the key it names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--listen`. By itself it configures nothing.
    pub listen: Option<String>,
    /// `--store`.
    pub store: Option<String>,
    /// What follows `--`.
    pub command: Vec<String>,
}

impl Overrides {
    /// Whether these are a configuration by themselves.
    pub fn configure(&self) -> bool {
        self.store.is_some() || !self.command.is_empty()
    }

    /// What flags say stands in no document.
    fn take_from(&self, places: &mut Places) {
        self.named().for_each(|path| places.outside(path));
    }

    /// The keys that flags say.
    fn named(&self) -> impl Iterator<Item = &'static str> {
        let named = [
            ("listen", self.listen.is_some()),
            ("storage.url", self.store.is_some()),
            ("app.command", !self.command.is_empty()),
        ];
        named.into_iter().filter(|(_, given)| *given).map(|(path, _)| path)
    }

    /// Lays what is saved with a file over it; `--listen` counts for one run only.
    fn apply(&self, document: &mut Map<String, Value>) {
        if let Some(store) = &self.store {
            section(document, "storage").insert("url".to_owned(), json!(store));
        }
        if !self.command.is_empty() {
            section(document, "app").insert("command".to_owned(), json!(self.command));
        }
    }
}

impl Config {
    /// The configuration as it holds on a node with these flags, and the keys whose values they replaced. What is
    /// saved stays as it was given. Flags that cannot be read change nothing: they were refused at the start.
    #[must_use]
    pub fn under(mut self, flags: &Overrides) -> (Config, Vec<&'static str>) {
        let mut replaced = Vec::new();
        if let Some(listen) = flags.listen.as_deref().and_then(|text| ListenAddress::parse(text).ok()) {
            if self.listen != listen && self.listen != default_listen() {
                replaced.push("listen");
            }
            self.listen = listen;
        }
        if let Some(url) = flags.store.as_deref().and_then(|text| StoreUrl::parse(text).ok()) {
            if self.storage.url.as_ref().is_some_and(|given| *given != url) {
                replaced.push("storage.url");
            }
            self.storage.url = Some(url);
        }
        if !flags.command.is_empty() {
            self.source.command_from_flag = true;
            let given = serde_json::from_value::<App>(json!({ "command": flags.command }));
            match (given, &mut self.app) {
                (Ok(given), Some(app)) => {
                    if app.command != given.command {
                        replaced.push("app.command");
                    }
                    app.command = given.command;
                }
                (Ok(given), none) => *none = Some(given),
                (Err(_), _) => {}
            }
        }
        (self, replaced)
    }
}

fn section<'a>(document: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    let slot = document.entry(key).or_insert_with(|| json!({}));
    if !slot.is_object() {
        *slot = json!({});
    }
    match slot {
        Value::Object(fields) => fields,
        _ => unreachable!("invariant: made an object above"),
    }
}

/// Why a configuration file gave no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file could not be read; make it readable or name another.
    #[error("{path} cannot be read: {error}")]
    Read {
        /// Which file.
        path: String,
        /// What the system said.
        error: io::Error,
    },
    /// It was read; mend what it says.
    #[error(transparent)]
    Invalid(#[from] Problems),
}

impl Config {
    /// Reads a YAML or JSON file, replaces variables, and lays the overrides over it.
    pub fn load_file(
        disk: &dyn Disk,
        path: &Path,
        variables: Variables<'_>,
        overrides: &Overrides,
    ) -> Result<Config, LoadError> {
        let unreadable = |error| LoadError::Read { path: path.display().to_string(), error };
        let found = disk.metadata(path).map_err(unreadable)?;
        if !found.is_file && !found.is_dir {
            // A pipe would be waited for, and a device may never end.
            return Err(unreadable(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")));
        }
        let bytes = base::disk::read(disk, path, limits::DOCUMENT_BYTES_MAX).map_err(unreadable)?;
        let is_json = path.extension().is_some_and(|extension| extension == "json");
        let document = document::from_file(&bytes, is_json)?;
        Ok(Config::assemble(document, variables, overrides)?)
    }

    /// Reads a JSON document as [`Config::load_file`] reads a file.
    pub fn from_text(
        bytes: &[u8],
        variables: Variables<'_>,
        overrides: &Overrides,
    ) -> Result<Config, Problems> {
        Config::assemble(document::from_json(bytes)?, variables, overrides)
    }

    /// Takes a request's body. Variables are not replaced: who may post must not read the node's environment.
    pub fn from_json(bytes: &[u8]) -> Result<Config, Problems> {
        let document = document::from_json(bytes)?;
        let document = Document { value: expand::escape(&document.value), ..document };
        Config::assemble(document, &|_| None, &Overrides::default())
    }

    /// Makes a configuration of flags alone, named after the home's directory.
    pub fn from_overrides(home: &Path, overrides: &Overrides) -> Result<Config, Problems> {
        let mut written = json!({ "name": VolumeName::from_directory(home) });
        if let Some(listen) = &overrides.listen {
            written["listen"] = json!(listen);
        }
        Config::assemble(Document { value: written, ..Document::default() }, &|_| None, overrides)
    }

    fn assemble(
        document: Document,
        variables: Variables<'_>,
        overrides: &Overrides,
    ) -> Result<Config, Problems> {
        let Document { value: mut source, mut places, mut problems } = document;
        overrides.take_from(&mut places);
        let mut escaped = Map::new();
        overrides.apply(&mut escaped);
        if let (Value::Object(source), Value::Object(escaped)) =
            (&mut source, expand::escape(&Value::Object(escaped)))
        {
            written::lay_over(source, escaped);
        }
        // The address is laid over for one run, the rest is saved with the document.
        let saved = overrides.named().filter(|path| *path != "listen");
        saved.for_each(|path| written::forget_written(&mut source, path));
        let mut in_force = source.clone();
        if let (Some(listen), Value::Object(fields)) = (&overrides.listen, &mut in_force) {
            fields.insert("listen".to_owned(), json!(listen));
        }
        let mut unexpanded = Vec::new();
        let expanded = expand::expand(&in_force, variables, &mut unexpanded);
        let checked = check::check(schema_plain(), expanded, unexpanded);
        problems.extend(checked.problems);
        match serde_json::from_value::<Config>(checked.sound) {
            Ok(config) => {
                // What is wrong with a part says more than what that leaves of the whole.
                let explained = |path: &str| {
                    // The keys of a store speak of one another.
                    let whole = if path.starts_with("storage.") { "storage" } else { path };
                    problems.iter().any(|known| known.path.starts_with(&format!("{whole}.")))
                };
                let contradictions = config.contradictions(&source).into_iter();
                let rest: Vec<_> = contradictions.filter(|problem| !explained(&problem.path)).collect();
                problems.extend(rest);
                if problems.is_empty() {
                    return Ok(Config {
                        source: Source { written: source, places, ..Source::default() },
                        ..config
                    });
                }
            }
            // The schema lets nothing pass that serde refuses; should it ever, this is what to say.
            Err(error) if problems.is_empty() => {
                problems.push(Problem::new("", error.to_string(), "see `stead config schema`"));
            }
            Err(_) => {}
        }
        places.mark(&mut problems);
        problems.truncate(limits::PROBLEMS_MAX);
        Err(Problems(problems))
    }

    /// Where the keys stand in the document that this was made from.
    pub fn places(&self) -> &Places {
        &self.source.places
    }

    /// What single keys cannot show.
    fn contradictions(&self, written: &Value) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut seen = BTreeSet::new();
        for (index, entry) in self.databases.iter().enumerate() {
            let name = match entry {
                DatabaseEntry::File(file) => (file.path.0.to_string(), String::new()),
                DatabaseEntry::Pattern(found) => {
                    (found.dir.0.display().to_string(), found.pattern.as_str().to_owned())
                }
            };
            if !seen.insert(name) {
                problems.push(Problem::new(
                    format!("databases[{index}]"),
                    "this entry is there twice",
                    "leave one of them out",
                ));
            }
        }
        problems.extend(self.storage.contradictions());
        problems.extend(self.app.iter().flat_map(|app| &app.ready).filter_map(Ready::contradiction));
        let mut labels = BTreeSet::new();
        for (index, directory) in self.preflight.directories.iter().enumerate() {
            let label = directory.label();
            if !labels.insert(label.clone()) {
                problems.push(Problem::new(
                    format!("preflight.directories[{index}].name"),
                    format!("two directories are called `{label}`"),
                    "give each a `name:` of its own",
                ));
            }
        }
        for (name, value) in self.app.iter().flat_map(|app| &app.env) {
            if value == HIDDEN {
                problems.push(Problem::new(
                    format!("app.env.{name}"),
                    "`***` stands for a value that is not shown",
                    "give the value itself, or leave the variable out",
                ));
            }
            if !expand::is_name(name) {
                problems.push(Problem::new(
                    format!("app.env.{name}"),
                    format!("`{name}` cannot be the name of a variable"),
                    "use letters, digits and `_`, the first no digit: DATABASE_URL",
                ));
            }
            if value.contains('\0') {
                problems.push(Problem::new(
                    format!("app.env.{name}"),
                    "a variable's value cannot hold a zero byte",
                    "leave it out",
                ));
            }
        }
        problems.extend(self.misplaced(written));
        problems
    }

    /// Refuses a `lease.primary` that names another node: following one is not in this version.
    pub fn check_primary(&self, node: &str) -> Result<(), Problems> {
        match &self.lease.primary {
            Some(primary) if primary != node => {
                let mut problem = Problem::new(
                    "lease.primary",
                    format!("`{primary}` is another node; following one is not in this version"),
                    format!("leave it out, or name this node: {node}"),
                );
                problem.place(self.places().of("lease.primary"));
                Err(problem.into())
            }
            _ => Ok(()),
        }
    }

    /// The JSON Schema of a configuration.
    pub fn schema() -> &'static Value {
        schema_plain()
    }

    /// A complete example, every key explained.
    pub fn example() -> &'static str {
        include_str!("config/example.yaml")
    }
}

fn schema_plain() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        let settings = schemars::generate::SchemaSettings::draft2020_12()
            .with(|settings| settings.inline_subschemas = true);
        settings.into_generator().into_root_schema_for::<Config>().to_value()
    })
}

#[cfg(test)]
mod tests;
