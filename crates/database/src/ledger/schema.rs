//! The ledger's tables, and the version that says which they are.

use super::{LedgerError, Trouble};
use crate::sqlite::use_wal;
use rusqlite::Connection;
use std::path::Path;

/// `Stld`, so that `file` and other tools can tell what it is.
pub(super) const APPLICATION_ID: i64 = 0x5374_6c64;

/// The newest format known here, in `PRAGMA user_version`.
pub(super) const VERSION: i64 = 1;

/// Until when a stay lasts that has not ended. A number, so that one comparison serves both kinds.
pub(super) const STILL: i64 = i64::MAX;

const TABLES: &str = "
CREATE TABLE database (
    id INTEGER PRIMARY KEY,
    path TEXT NOT NULL UNIQUE,
    incarnation INTEGER NOT NULL,
    allocated INTEGER NOT NULL,
    deleted INTEGER NOT NULL
) STRICT;
CREATE TABLE cookie (
    database INTEGER NOT NULL REFERENCES database,
    incarnation INTEGER NOT NULL,
    highest INTEGER NOT NULL,
    PRIMARY KEY (database, incarnation)
) STRICT, WITHOUT ROWID;
CREATE TABLE moment (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX moment_at ON moment (at_ms, id);
CREATE TABLE stay (
    database INTEGER NOT NULL REFERENCES database,
    since INTEGER NOT NULL,
    until INTEGER NOT NULL,
    incarnation INTEGER NOT NULL,
    txid INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    PRIMARY KEY (database, since)
) STRICT, WITHOUT ROWID;
CREATE INDEX stay_until ON stay (until);
CREATE TABLE checkpoint (
    id TEXT PRIMARY KEY,
    moment INTEGER NOT NULL REFERENCES moment,
    created_ms INTEGER NOT NULL,
    automatic INTEGER NOT NULL,
    comment TEXT
) STRICT;
CREATE INDEX checkpoint_moment ON checkpoint (moment);
CREATE TABLE intent (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    begun_ms INTEGER NOT NULL,
    state INTEGER NOT NULL,
    target_name TEXT NOT NULL,
    undo TEXT NOT NULL,
    target TEXT NOT NULL,
    reason TEXT
) STRICT;
CREATE UNIQUE INDEX intent_open ON intent (state) WHERE state = 0;
CREATE TABLE maintained (times INTEGER NOT NULL) STRICT;
INSERT INTO maintained VALUES (0);
";

/// Makes the tables where there are none, and refuses what is not ours or newer.
pub(super) fn prepare(connection: &Connection, path: &Path) -> Result<(), LedgerError> {
    let sqlite = |cause| LedgerError::Sqlite { path: path.to_owned(), cause };
    let version = pragma(connection, "user_version").map_err(sqlite)?;
    let application = pragma(connection, "application_id").map_err(sqlite)?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(sqlite)?;
    if application != APPLICATION_ID && (application != 0 || version != 0 || tables != 0) {
        return Err(LedgerError::Foreign { path: path.to_owned(), found: application });
    }
    if version > VERSION {
        return Err(LedgerError::Newer { path: path.to_owned(), found: version, known: VERSION });
    }
    if version == VERSION {
        return use_wal(connection).map(drop).map_err(sqlite);
    }
    // Durable before anything is built on it, whatever the default of this SQLite is.
    connection.pragma_update(None, "synchronous", "FULL").map_err(sqlite)?;
    use_wal(connection).map_err(sqlite)?;
    let made = format!(
        "BEGIN IMMEDIATE; {TABLES} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; COMMIT;"
    );
    connection.execute_batch(&made).map_err(sqlite)
}

fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))
}

/// A number of the ledger as the type it stands for.
pub(super) fn number<T: TryFrom<i64>>(value: i64, what: &str) -> Result<T, Trouble> {
    T::try_from(value).map_err(|_| Trouble::Row(format!("{what} is {value}")))
}
