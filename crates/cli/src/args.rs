//! The command line's grammar: every command, flag and environment variable.

mod database;

pub use database::Db;

use clap::{Args, Parser, Subcommand};
use node::config::{Overrides, Secret};
use std::ffi::OsString;
use std::path::PathBuf;

/// Keeps an application's SQLite databases, their whole history, and the application running on them.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "stead",
    version,
    propagate_version = true,
    max_term_width = 100,
    subcommand_required = true
)]
#[command(after_help = "Examples:
  stead run -- ./server --port 3000      run an application on the state in this directory
  stead checkpoint create before-upgrade
  stead restore before-upgrade
  stead status --watch

Exit codes: 0 done, 1 failed, 2 wrong usage, 69 a needed service is unavailable, 70 a bug,
71 a path, permission or other system problem, 75 try again later, 78 configuration.")]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// What holds for every command.
#[derive(Args, Clone, Debug)]
pub struct Global {
    /// The node's home: where its data lies and its socket is.
    #[arg(long, global = true, env = "STEAD_HOME", value_name = "DIR", default_value = ".")]
    pub home: PathBuf,
    /// The node to talk to, http://HOST:PORT; else the home's socket, then http://127.0.0.1:8080.
    #[arg(long, global = true, env = "STEAD_NODE", value_name = "URL")]
    pub node: Option<String>,
    /// What the node needs to let requests through.
    #[arg(long, global = true, env = "STEAD_TOKEN", hide = true, hide_env_values = true, value_parser = secret)]
    pub token: Option<Secret>,
    /// Print JSON instead of tables.
    #[arg(long, global = true)]
    pub json: bool,
}

/// The commands.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Start a node in the foreground, and the application with it.
    #[command(after_help = "Examples:
  stead run -- ./server --port 3000
  stead run --config stead.yaml
  stead run --home /srv/notes --store file:///backups/notes -- ./server

Without a configuration the node starts and waits for `stead config apply FILE` or POST /config.")]
    Run(RunArgs),
    /// The node's own process; `run` starts it.
    #[command(hide = true)]
    Node(RunArgs),
    /// Ends as `run` would over its configuration; `run` starts it before it touches the home.
    #[command(hide = true)]
    CheckRun(RunArgs),
    /// Runs one query that it reads from stdin; the node starts it.
    #[command(hide = true)]
    QueryProcess,
    /// Look at paths for a node; `run` and `preflight` start it.
    #[command(hide = true)]
    Probe,
    /// Look at everything that a node and its app stand on, before anything starts.
    #[command(after_help = "Examples:
  stead preflight --config stead.yaml
  stead preflight --dir /music:1000:1000 --fix

It needs no node. --fix makes directories that are missing and sets owner and mode of those that are named, never
through a link and never below them.

Exit codes: 0 well (also with warnings), 71 a path or the system, 78 the configuration or a variable.")]
    Preflight(Preflight),
    /// Show everything about the node on one screen.
    #[command(after_help = "Examples:
  stead status
  stead status --watch
  stead status --json | jq .state

Exit codes: 0 well, 1 degraded, 2 no primary, 3 contradiction, 4 could not ask.")]
    Status {
        /// Draw it again every second, until q is pressed; into a pipe, one after the other.
        #[arg(long, short)]
        watch: bool,
    },
    /// Make, list and remove checkpoints.
    #[command(
        subcommand,
        after_help = "Examples:
  stead checkpoint create before-upgrade
  stead checkpoint list"
    )]
    Checkpoint(Checkpoint),
    /// Turn the whole volume back, in place, to a checkpoint or a time.
    #[command(after_help = "Examples:
  stead restore before-upgrade
  stead restore --time 10m --dry-run     what would change
  stead restore --undo                   back to before the last restore

The app is stopped, every database turned back, and the app started again.")]
    Restore(Restore),
    /// Look at, verify and copy databases.
    #[command(
        subcommand,
        after_help = "Examples:
  stead db list
  stead db verify
  stead db query data/database.sqlite \"SELECT count(*) FROM users\""
    )]
    Db(Db),
    /// Start, stop and restart the application.
    #[command(
        subcommand,
        after_help = "Example:
  stead app restart"
    )]
    App(App),
    /// Check and apply configurations.
    #[command(
        subcommand,
        after_help = "Examples:
  stead config example > stead.yaml
  stead config check stead.yaml
  stead config apply stead.yaml"
    )]
    Config(Config),
    /// Show the application's last output.
    #[command(after_help = "Examples:
  stead logs -n 100
  stead logs --stderr --follow")]
    Logs {
        /// How many lines.
        #[arg(short = 'n', long, default_value_t = 20, value_name = "LINES")]
        lines: usize,
        /// Only what it wrote to stderr.
        #[arg(long)]
        stderr: bool,
        /// Go on showing what comes.
        #[arg(long, short)]
        follow: bool,
    },
    /// Give the right to write away and stop the app.
    #[command(after_help = "Example:
  stead release-lease     before the machine is taken away")]
    ReleaseLease,
    /// Take the right to write.
    #[command(after_help = "Example:
  stead promote     after `stead release-lease`")]
    Promote,
    /// Print a shell's completions.
    #[command(after_help = "Example:\n  stead completions bash > /etc/bash_completion.d/stead")]
    Completions {
        /// For which shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page of stead, or of one of its commands.
    #[command(after_help = "Example:\n  stead man | man -l -")]
    Man {
        /// Of which command.
        command: Vec<String>,
    },
}

/// `stead preflight …`
#[derive(Args, Clone, Debug, Default)]
pub struct Preflight {
    /// The configuration, YAML or JSON; else tmp/config.json of the home.
    #[arg(long, env = "STEAD_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// A directory, and who must be able to write in it; without --config, nothing else is looked at.
    #[arg(long, value_name = "PATH[:UID:GID]")]
    pub dir: Vec<Directory>,
    /// Mend what can be mended safely, and say what was done.
    #[arg(long)]
    pub fix: bool,
}

/// A directory on the command line, `PATH` or `PATH:UID:GID`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// Where.
    pub path: PathBuf,
    /// Who must be able to write in it.
    pub user: Option<(u32, u32)>,
}

impl std::str::FromStr for Directory {
    type Err = String;

    fn from_str(text: &str) -> Result<Directory, String> {
        let id = |part: &str| part.parse::<u32>().ok().filter(|id| *id != u32::MAX);
        let mut parts = text.rsplitn(3, ':');
        let directory = match (parts.next(), parts.next(), parts.next()) {
            (Some(gid), Some(uid), Some(path)) if id(uid).is_some() || id(gid).is_some() => {
                let ids = id(uid)
                    .zip(id(gid))
                    .ok_or_else(|| format!("`{uid}:{gid}` is no user and group by number"))?;
                Directory { path: path.into(), user: Some(ids) }
            }
            _ => Directory { path: text.into(), user: None },
        };
        if directory.path.as_os_str().is_empty() {
            return Err("there is no path".to_owned());
        }
        Ok(directory)
    }
}

/// How a node starts.
#[derive(Args, Clone, Debug, Default)]
pub struct RunArgs {
    /// The configuration, YAML or JSON; else tmp/config.json of the home.
    #[arg(long, env = "STEAD_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// A store that a volume is brought up from, with the configuration that it keeps: s3://BUCKET/PREFIX or file:///DIR.
    /// A home that has a volume already goes on with that.
    #[arg(long, env = "STEAD_FROM", value_name = "URL", conflicts_with = "store")]
    pub from: Option<String>,
    /// Where the API listens; overrides `listen` [default: 127.0.0.1:8080].
    #[arg(long, env = "STEAD_LISTEN", value_name = "ADDR")]
    pub listen: Option<String>,
    /// Where the history goes too, s3://BUCKET/PREFIX or file:///DIR; overrides `storage.url`.
    #[arg(long, env = "STEAD_STORE", value_name = "URL")]
    pub store: Option<String>,
    /// The application; overrides `app.command`.
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<String>,
    /// The home, from the flag that all commands share.
    #[arg(skip)]
    pub home: PathBuf,
}

impl RunArgs {
    /// What lies over the configuration's keys.
    pub fn overrides(&self) -> Overrides {
        Overrides { listen: self.listen.clone(), store: self.store.clone(), command: self.command.clone() }
    }

    /// The same, as arguments of the node's own process.
    pub fn to_arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["--home".into(), self.home.clone().into()];
        let flags = [
            ("--config", self.config.clone().map(OsString::from)),
            ("--from", self.from.clone().map(OsString::from)),
            ("--listen", self.listen.clone().map(OsString::from)),
            ("--store", self.store.clone().map(OsString::from)),
        ];
        for (flag, value) in flags {
            if let Some(value) = value {
                arguments.extend([flag.into(), value]);
            }
        }
        if !self.command.is_empty() {
            arguments.push("--".into());
            arguments.extend(self.command.iter().map(OsString::from));
        }
        arguments
    }
}

/// `stead checkpoint …`
#[derive(Clone, Debug, Subcommand)]
pub enum Checkpoint {
    /// Make a checkpoint of everything, now.
    #[command(after_help = "Examples:
  stead checkpoint create
  stead checkpoint create before-upgrade --comment \"version 2\"")]
    Create {
        /// Its name; made from the time where none is given.
        id: Option<String>,
        /// Why it was made.
        #[arg(long, short = 'm', value_name = "TEXT")]
        comment: Option<String>,
    },
    /// List them, newest first.
    #[command(after_help = "Example:
  stead checkpoint list --json | jq -r '.checkpoints[].id'")]
    List,
    /// Show one, with the position of every database.
    #[command(after_help = "Example:
  stead checkpoint show before-upgrade")]
    Show {
        /// Which.
        id: String,
    },
    /// Remove one from the catalogue; history that only it held may be thinned then.
    #[command(after_help = "Example:
  stead checkpoint remove before-upgrade")]
    Remove {
        /// Which.
        id: String,
    },
    /// Write the databases as they were into a directory, as DIR/data/….
    #[command(after_help = "Example:
  stead checkpoint export before-upgrade ./copy     writes ./copy/data/…")]
    Export {
        /// Which.
        id: String,
        /// The directory; it must not exist, or be empty.
        dir: PathBuf,
    },
}

/// `stead restore …`
#[derive(Args, Clone, Debug)]
#[command(group(clap::ArgGroup::new("target").required(true).args(["checkpoint", "time", "undo"])))]
pub struct Restore {
    /// The checkpoint.
    pub checkpoint: Option<String>,
    /// A time: RFC 3339, `2026-11-21 10:00`, or an age such as 10m.
    #[arg(long, value_name = "T")]
    pub time: Option<String>,
    /// The state before the last restore.
    #[arg(long)]
    pub undo: bool,
    /// Only list what would change.
    #[arg(long)]
    pub dry_run: bool,
}

/// Which moment of a database.
#[derive(Args, Clone, Debug, Default)]
#[group(multiple = false)]
pub struct MomentArgs {
    /// As it was then: RFC 3339, `2026-11-21 10:00`, or an age such as 10m.
    #[arg(long, value_name = "T")]
    pub time: Option<String>,
    /// As it was after that seal.
    #[arg(long, value_name = "N")]
    pub txid: Option<u64>,
}

/// `stead app …`
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum App {
    /// Start it, also after a stop.
    #[command(after_help = "Example:
  stead app start")]
    Start,
    /// Stop it; it stays stopped until `start`.
    #[command(after_help = "Example:
  stead app stop     for maintenance; `stead app start` ends it")]
    Stop,
    /// Stop it and start it.
    #[command(after_help = "Example:
  stead app restart")]
    Restart,
}

/// `stead config …`
#[derive(Clone, Debug, Subcommand)]
pub enum Config {
    /// Find everything that is wrong with a configuration file.
    #[command(after_help = "Example:
  stead config check stead.yaml     stead.yaml:12: app.comand: unknown key…

Exit codes: 0 valid, 78 not valid, 71 not readable.")]
    Check {
        /// The file.
        file: PathBuf,
    },
    /// Give a configuration file to the node: its first, or a change.
    #[command(after_help = "Example:
  stead config apply stead.yaml

Variables such as ${TOKEN} are replaced here, from this environment.")]
    Apply {
        /// The file.
        file: PathBuf,
    },
    /// Show the node's configuration: every key with its value, secrets hidden.
    #[command(after_help = "Example:
  stead config show")]
    Show,
    /// Print the JSON Schema of configurations.
    #[command(after_help = "Example:
  stead config schema > stead.schema.json")]
    Schema,
    /// Print a complete example, every key explained.
    #[command(after_help = "Example:
  stead config example > stead.yaml")]
    Example,
    /// Read the configuration of LiteFS or Litestream as one of Stead.
    #[command(after_help = "Examples:
  stead config import /etc/litestream.yml -o stead.yaml
  stead config import litefs.yml

Which program's it is shows in its keys. What has no equivalent, or none in this version, is told on stderr with its
line and stands in the result as a comment. The result is a valid configuration; variables stay variables.")]
    Import {
        /// The file, litefs.yml or litestream.yml.
        file: PathBuf,
        /// Write it there instead of printing it; nothing is overwritten.
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

/// A token; a file that it was read from ends with a line end. What cannot be one is refused where it is used: the grammar
/// would show it.
fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    Ok(Secret::new(text.strip_suffix('\r').unwrap_or(text)))
}
