//! What is in a database, as plain maps: the model's side, and how it is read from SQLite.

use rusqlite::Connection;
use std::collections::BTreeMap;

/// A state that some database has been in. No two states have the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateId(pub i64);

/// A row's value: a number, and how many bytes are padded with it.
pub type Value = (i64, usize);

/// All rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    pub id: StateId,
    /// Two databases keep these in balance: they add up to zero.
    pub balance: i64,
    pub tables: BTreeMap<String, BTreeMap<i64, Value>>,
}

/// One statement of a transaction.
#[derive(Clone, Debug)]
pub enum Change {
    Put { table: String, row: i64, value: Value },
    Remove { table: String, row: i64 },
    Create(String),
    Drop(String),
    Balance(i64),
}

/// Run once for each new database.
pub const SCHEMA: &str = "CREATE TABLE meta(k INTEGER PRIMARY KEY, id INTEGER, balance INTEGER);
    CREATE TABLE t0(row INTEGER PRIMARY KEY, v INTEGER, pad BLOB);
    CREATE INDEX t0_v ON t0(v);";

impl Content {
    pub fn fresh(id: StateId) -> Content {
        Content { id, balance: 0, tables: BTreeMap::from([("t0".to_owned(), BTreeMap::new())]) }
    }

    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Put { table, row, value } => {
                if let Some(rows) = self.tables.get_mut(table) {
                    rows.insert(*row, *value);
                }
            }
            Change::Remove { table, row } => {
                if let Some(rows) = self.tables.get_mut(table) {
                    rows.remove(row);
                }
            }
            Change::Create(table) => drop(self.tables.insert(table.clone(), BTreeMap::new())),
            Change::Drop(table) => drop(self.tables.remove(table)),
            Change::Balance(balance) => self.balance = *balance,
        }
    }
}

fn pad((v, len): Value) -> Vec<u8> {
    let mut bytes = vec![v as u8; len];
    for (byte, v) in bytes.iter_mut().step_by(97).zip(v.to_le_bytes().into_iter().cycle()) {
        *byte ^= v.wrapping_mul(31);
    }
    bytes
}

/// Makes a change in a schema (`main`, or an attached one).
pub fn execute(conn: &Connection, schema: &str, change: &Change) -> rusqlite::Result<()> {
    match change {
        Change::Put { table, row, value } => conn
            .prepare_cached(&format!("INSERT OR REPLACE INTO {schema}.{table} VALUES(?1, ?2, ?3)"))?
            .execute(rusqlite::params![row, value.0, pad(*value)])
            .map(drop),
        Change::Remove { table, row } => conn
            .prepare_cached(&format!("DELETE FROM {schema}.{table} WHERE row=?1"))?
            .execute([row])
            .map(drop),
        Change::Create(table) => conn.execute_batch(&format!(
            "CREATE TABLE {schema}.{table}(row INTEGER PRIMARY KEY, v INTEGER, pad BLOB)"
        )),
        Change::Drop(table) => conn.execute_batch(&format!("DROP TABLE {schema}.{table}")),
        Change::Balance(balance) => {
            conn.prepare_cached(&format!("UPDATE {schema}.meta SET balance=?1"))?.execute([balance]).map(drop)
        }
    }
}

/// Notes which state a transaction leads to.
pub fn stamp(conn: &Connection, schema: &str, id: StateId) -> rusqlite::Result<()> {
    conn.prepare_cached(&format!("UPDATE {schema}.meta SET id=?1"))?.execute([id.0]).map(drop)
}

/// The state that a connection sees; `None`: a database without the schema (an empty one).
pub fn state(conn: &Connection, schema: &str) -> rusqlite::Result<Option<StateId>> {
    let known: i64 = conn.query_row(
        &format!("SELECT count(*) FROM {schema}.sqlite_schema WHERE name='meta'"),
        [],
        |row| row.get(0),
    )?;
    if known == 0 {
        return Ok(None);
    }
    conn.query_row(&format!("SELECT id FROM {schema}.meta"), [], |row| Ok(Some(StateId(row.get(0)?))))
}

/// Reads everything in one read transaction (the caller's, if there is one).
pub fn read(conn: &Connection) -> rusqlite::Result<Option<Content>> {
    let own = conn.is_autocommit();
    if own {
        conn.execute_batch("BEGIN")?;
    }
    let content = read_all(conn);
    if own {
        let _ = conn.execute_batch("ROLLBACK");
    }
    content
}

fn read_all(conn: &Connection) -> rusqlite::Result<Option<Content>> {
    let Some(id) = state(conn, "main")? else { return Ok(None) };
    let balance = conn.query_row("SELECT balance FROM meta", [], |row| row.get(0))?;
    let names: Vec<String> = conn
        .prepare("SELECT name FROM sqlite_schema WHERE type='table' AND name<>'meta' ORDER BY name")?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let mut tables = BTreeMap::new();
    for name in names {
        let mut rows = BTreeMap::new();
        let mut statement = conn.prepare(&format!("SELECT row, v, pad FROM {name}"))?;
        let mut found = statement.query([])?;
        while let Some(row) = found.next()? {
            let bytes: Vec<u8> = row.get(2)?;
            let value = (row.get(1)?, bytes.len());
            assert!(bytes == pad(value), "a row of {name} has bytes that nobody wrote");
            rows.insert(row.get(0)?, value);
        }
        tables.insert(name, rows);
    }
    Ok(Some(Content { id, balance, tables }))
}

/// What SQLite itself finds wrong; `ok` where nothing is.
pub fn integrity(conn: &Connection) -> rusqlite::Result<String> {
    conn.query_row("PRAGMA integrity_check", [], |row| row.get(0))
}
