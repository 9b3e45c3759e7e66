//! `stead db …`.

use super::MomentArgs;
use clap::Subcommand;
use node::config::Period;
use std::path::PathBuf;
use std::time::Duration;

/// A store is not looked at more often by `stead db follow`: each look asks for the manifest and what follows it.
const FOLLOW_EVERY_MIN: Duration = Duration::from_millis(100);

/// `stead db …`
#[derive(Clone, Debug, Subcommand)]
pub enum Db {
    /// List the databases with their positions.
    #[command(after_help = "Example:
  stead db list --json | jq -r '.databases[].path'")]
    List,
    /// Hold databases and their whole history against their checksums.
    #[command(after_help = "Examples:
  stead db verify
  stead db verify data/database.sqlite

Exit codes: 0 all of it adds up, 1 something is damaged.")]
    Verify {
        /// Which; all where none is given.
        path: Option<String>,
    },
    /// List the files of a database's history.
    #[command(after_help = "Example:
  stead db log data/database.sqlite")]
    Log {
        /// Which, as `db list` names it.
        path: String,
    },
    /// Write a database of the node into a file, now or as it was.
    #[command(after_help = "Examples:
  stead db export data/database.sqlite copy.sqlite
  stead db export data/database.sqlite copy.sqlite --time 10m
  stead db export data/database.sqlite copy.sqlite --offline --home /srv/notes")]
    Export {
        /// Which, as `db list` names it.
        path: String,
        /// The new file.
        file: PathBuf,
        /// When.
        #[command(flatten)]
        moment: MomentArgs,
        /// Copy the file of the home itself, without a node: with what was never sealed.
        #[arg(long, conflicts_with_all = ["time", "txid"])]
        offline: bool,
    },
    /// Ask a database of the node with SQL, now or as it was.
    #[command(after_help = "Examples:
  stead db query data/database.sqlite \"SELECT count(*) FROM users\"
  stead db query data/database.sqlite \"SELECT * FROM users\" --time 10m
  stead db query data/database.sqlite \"DELETE FROM sessions\" --write

Without --write nothing can be changed; with it all statements are one transaction. Other files are out of reach. At
most 10 s, 10000 rows and 4 MiB; what is cut short says so on stderr.")]
    Query {
        /// Which, as `db list` names it.
        path: String,
        /// The statements.
        sql: String,
        /// When.
        #[command(flatten)]
        moment: MomentArgs,
        /// Let the statements change the database.
        #[arg(long, conflicts_with_all = ["time", "txid"])]
        write: bool,
    },
    /// Write a database from its history into a file, without a node.
    #[command(after_help = "Examples:
  stead db restore data/database.sqlite -o copy.sqlite
  stead db restore file:///backups/notes/data/database.sqlite -o copy.sqlite --time 10m
  stead db restore s3://backups/notes/data/database.sqlite -o copy.sqlite --endpoint http://127.0.0.1:9000

A store is only read, whoever has it. Keys come from the AWS environment. What was fetched before an interruption is not
fetched again by the same command.")]
    Restore {
        /// A database's path or its history's directory, from the home, or its URL in a store: STORE-URL/PATH.
        source: String,
        /// The new file.
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
        /// When.
        #[command(flatten)]
        moment: MomentArgs,
        /// The server of an s3:// store; else the AWS environment says it.
        #[arg(long, value_name = "URL")]
        endpoint: Option<String>,
    },
    /// Keep a file as a database's history has it last, without a node.
    #[command(after_help = "Examples:
  stead db follow s3://backups/notes/data/database.sqlite copy.sqlite
  stead db follow file:///backups/notes/data/database.sqlite copy.sqlite --every 10s --json

The file is replaced, never written to: whoever has it open keeps what it opened, and opens it anew to see what is new.
Open it for reading only. A file that is there already must be a state of the database. A store that has answered once
is waited for while it does not.")]
    Follow {
        /// A database's URL in a store, STORE-URL/PATH; or its path or its history's directory, from the home.
        source: String,
        /// The file.
        file: PathBuf,
        /// How often it is looked whether there is something new: 500ms, 10s, 1m.
        #[arg(long, value_name = "TIME", default_value = "1s", value_parser = every)]
        every: Duration,
        /// The server of an s3:// store; else the AWS environment says it.
        #[arg(long, value_name = "URL")]
        endpoint: Option<String>,
    },
}

/// How often something is looked at.
fn every(text: &str) -> Result<Duration, String> {
    let every = Period::parse(text).map_err(|fault| format!("{}; {}", fault.message, fault.hint))?.0;
    if every < FOLLOW_EVERY_MIN {
        return Err(format!("at least {} ms", FOLLOW_EVERY_MIN.as_millis()));
    }
    Ok(every)
}
