//! Which file lives under each path, which numbers have been given out, and the highest schema cookie of each.

use super::schema::number;
use super::{Durability, Ledger, LedgerError, Trouble};
use base::{DatabasePath, Incarnation};
use rusqlite::{Connection, OptionalExtension, Transaction, params};

/// What the ledger knows of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The file that lives there, or lived there last.
    pub incarnation: Incarnation,
    /// Its deletion was seen and recorded; otherwise a missing file is a lost one.
    pub deleted: bool,
}

impl Ledger {
    /// What is known of a path; `None` for one that never had a database.
    pub fn current(&self, path: &DatabasePath) -> Result<Option<Known>, LedgerError> {
        self.read(|connection, _| {
            let found = connection
                .prepare_cached("SELECT incarnation, deleted FROM database WHERE path = ?1")?
                .query_row([path.as_str()], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, bool>(1)?)))
                .optional()?;
            found.map(|(n, deleted)| Ok(Known { incarnation: incarnation(n)?, deleted })).transpose()
        })
    }

    /// Every path that ever had a database, with what is known of it.
    pub fn paths(&self) -> Result<Vec<(DatabasePath, Known)>, LedgerError> {
        self.read(|connection, _| {
            let mut statement =
                connection.prepare_cached("SELECT path, incarnation, deleted FROM database ORDER BY path")?;
            let mut rows = statement.query([])?;
            let mut paths = Vec::new();
            while let Some(row) = rows.next()? {
                let known = Known { incarnation: incarnation(row.get(1)?)?, deleted: row.get(2)? };
                paths.push((database_path(row.get(0)?)?, known));
            }
            Ok(paths)
        })
    }

    /// Gives a new file under a path its number: never one that was given out before. Durable.
    pub fn begin_incarnation(&self, path: &DatabasePath) -> Result<Incarnation, LedgerError> {
        self.write(Durability::Power, |tx, _| {
            let given: i64 = tx
                .prepare_cached(
                    "INSERT INTO database (path, incarnation, allocated, deleted) VALUES (?1, 1, 1, 0)
                     ON CONFLICT (path) DO UPDATE
                     SET incarnation = allocated + 1, allocated = allocated + 1, deleted = 0
                     RETURNING incarnation",
                )?
                .query_row([path.as_str()], |row| row.get(0))?;
            incarnation(given)
        })
    }

    /// Records that the file of a path was deleted on purpose: it must not come back at the next start. Durable.
    pub fn record_deleted(&self, path: &DatabasePath) -> Result<(), LedgerError> {
        self.write(Durability::Power, |tx, _| {
            tx.prepare_cached("UPDATE database SET deleted = 1 WHERE path = ?1")?.execute([path.as_str()])?;
            Ok(())
        })
    }

    /// Records that a former file of a path lives there again. Durable.
    pub fn record_returned(&self, path: &DatabasePath, which: Incarnation) -> Result<(), LedgerError> {
        self.adopt_incarnation(path, which, which)
    }

    /// Records that a file found under a path is this incarnation, and that numbers up to `highest` are given out.
    /// Durable.
    pub fn adopt_incarnation(
        &self,
        path: &DatabasePath,
        which: Incarnation,
        highest: Incarnation,
    ) -> Result<(), LedgerError> {
        self.write(Durability::Power, |tx, _| {
            tx.prepare_cached(
                "INSERT INTO database (path, incarnation, allocated, deleted) VALUES (?1, ?2, max(?2, ?3), 0)
                 ON CONFLICT (path) DO UPDATE
                 SET incarnation = ?2, allocated = max(allocated, ?2, ?3), deleted = 0",
            )?
            .execute(params![path.as_str(), which.0, highest.0])?;
            Ok(())
        })
    }

    /// Notes the schema cookie that a file has; only a higher one than before costs a write.
    pub fn note_cookie(
        &self,
        path: &DatabasePath,
        which: Incarnation,
        cookie: u32,
    ) -> Result<(), LedgerError> {
        if self.highest_cookie(path, which)?.is_some_and(|highest| highest >= cookie) {
            return Ok(());
        }
        self.write(Durability::Process, |tx, _| {
            let database = id_of(tx, path, which)?;
            tx.prepare_cached(
                "INSERT INTO cookie (database, incarnation, highest) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO UPDATE SET highest = max(highest, excluded.highest)",
            )?
            .execute(params![database, which.0, cookie])?;
            Ok(())
        })
    }

    /// The highest schema cookie noted for a file.
    pub fn highest_cookie(
        &self,
        path: &DatabasePath,
        which: Incarnation,
    ) -> Result<Option<u32>, LedgerError> {
        self.read(|connection, _| {
            let highest: Option<i64> = connection
                .prepare_cached(
                    "SELECT highest FROM cookie JOIN database ON database.id = cookie.database
                     WHERE path = ?1 AND cookie.incarnation = ?2",
                )?
                .query_row(params![path.as_str(), which.0], |row| row.get(0))
                .optional()?;
            highest.map(|value| number(value, "a schema cookie")).transpose()
        })
    }
}

/// The row of a path, made where it is missing.
pub(super) fn id_of(tx: &Transaction<'_>, path: &DatabasePath, which: Incarnation) -> Result<i64, Trouble> {
    if let Some(id) = find(tx, path)? {
        return Ok(id);
    }
    tx.prepare_cached("INSERT INTO database (path, incarnation, allocated, deleted) VALUES (?1, ?2, ?2, 0)")?
        .execute(params![path.as_str(), which.0])?;
    Ok(tx.last_insert_rowid())
}

/// The row of a path.
pub(super) fn find(connection: &Connection, path: &DatabasePath) -> Result<Option<i64>, Trouble> {
    let mut statement = connection.prepare_cached("SELECT id FROM database WHERE path = ?1")?;
    Ok(statement.query_row([path.as_str()], |row| row.get(0)).optional()?)
}

pub(super) fn incarnation(value: i64) -> Result<Incarnation, Trouble> {
    number(value, "an incarnation").map(Incarnation)
}

pub(super) fn database_path(text: String) -> Result<DatabasePath, Trouble> {
    DatabasePath::try_from(text).map_err(|error| Trouble::Row(error.to_string()))
}
