//! SQL of a person, run on one database by a process that does nothing else.
//!
//! It is an ordinary participant beside the app, and it must not run in the node: closing its connection would drop
//! every lock that the node's process holds on the database, and SQL may take memory and time without end. What it may
//! do is decided three times: how the file is opened, what the authorizer lets pass, and SQLite's defensive mode.
//! Everything has a limit; a result that is cut short says by which.

use base::{Clock, SystemClock};
use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Batch, Connection, ErrorCode, OpenFlags, Statement};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

/// How long all statements together may run.
pub const TIME_MAX: Duration = Duration::from_secs(10);
/// How long a statement waits for another writer; part of [`TIME_MAX`].
pub const BUSY_WAIT: Duration = Duration::from_secs(5);
/// Between two tries.
const BUSY_STEP: Duration = Duration::from_millis(1);
/// Rows in an answer.
pub const ROWS_MAX: usize = 10_000;
/// Bytes of values in an answer, counted as they are in the database.
pub const BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of one value or row.
pub const VALUE_BYTES_MAX: i32 = 64 * 1024 * 1024;
/// Memory that SQLite may take for a query.
pub const HEAP_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Steps of SQLite's machine between two looks at the clock: well under a millisecond.
const STEPS: i32 = 10_000;

/// What is to be run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Query {
    /// The database file.
    pub file: PathBuf,
    /// One or more statements.
    pub sql: String,
    /// Whether they may change the database; all of them are one transaction then.
    pub write: bool,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rows {
    /// The names of the columns of the last statement that has any.
    pub columns: Vec<String>,
    /// Its rows; a blob is `{"hex": "…"}`.
    pub rows: Vec<Vec<Value>>,
    /// `rows` or `bytes` where the limit of that name cut it short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truncated: Option<String>,
    /// Rows that were inserted, changed or deleted.
    pub changes: u64,
}

/// Why nothing came of it; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum QueryError {
    /// Mend the statement.
    #[error("{0}")]
    Sql(String),
    /// Ask for less: it ran until [`TIME_MAX`].
    #[error("the statement was ended after {} s", TIME_MAX.as_secs())]
    Slow,
    /// Try again: another process was writing.
    #[error("another process held the database for {} s", BUSY_WAIT.as_secs())]
    Busy,
    /// The database could not be opened or read.
    #[error("{0}")]
    Failed(String),
}

impl From<rusqlite::Error> for QueryError {
    fn from(error: rusqlite::Error) -> QueryError {
        let said = match &error {
            rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
            rusqlite::Error::SqlInputError { msg, offset, .. } if *offset >= 0 => {
                format!("{msg} at character {offset}")
            }
            other => other.to_string(),
        };
        match error.sqlite_error_code() {
            Some(ErrorCode::OperationInterrupted) => QueryError::Slow,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => QueryError::Busy,
            Some(
                ErrorCode::CannotOpen
                | ErrorCode::NotADatabase
                | ErrorCode::DatabaseCorrupt
                | ErrorCode::SystemIoFailure
                | ErrorCode::DiskFull
                | ErrorCode::PermissionDenied
                | ErrorCode::OutOfMemory,
            ) => QueryError::Failed(said),
            _ => QueryError::Sql(said),
        }
    }
}

/// Runs a query. Only for a process that opens nothing else of the database.
pub fn run(query: &Query) -> Result<Rows, QueryError> {
    run_within(query, TIME_MAX)
}

fn run_within(query: &Query, limit: Duration) -> Result<Rows, QueryError> {
    let mut conn = open(query, limit)?;
    let mut rows = Rows::default();
    if query.write {
        conn.execute_batch("BEGIN IMMEDIATE")?;
    }
    restrict(&mut conn, query.write)?;
    let before = conn.total_changes();
    let ran = all(&conn, &query.sql, &mut rows);
    rows.changes = conn.total_changes().saturating_sub(before);
    conn.authorizer(None::<fn(AuthContext<'_>) -> Authorization>)?;
    if query.write {
        match ran {
            Ok(()) => conn.execute_batch("COMMIT")?,
            // Some failures have taken the transaction back already. What else is open ends with the connection.
            Err(_) if conn.is_autocommit() => {}
            Err(_) => drop(conn.execute_batch("ROLLBACK")),
        }
    }
    ran.map(|()| rows)
}

fn open(query: &Query, limit: Duration) -> Result<Connection, QueryError> {
    let how = if query.write { OpenFlags::SQLITE_OPEN_READ_WRITE } else { OpenFlags::SQLITE_OPEN_READ_ONLY };
    let mut conn = Connection::open_with_flags(&query.file, how | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    conn.busy_handler(Some(wait))?;
    use rusqlite::config::DbConfig;
    // The last close would unlink the log by name; WAL checkpoints are the engine's.
    for (setting, on) in [
        (DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true),
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
    ] {
        conn.set_db_config(setting, on)?;
    }
    conn.execute_batch(&format!(
        "PRAGMA wal_autocheckpoint=0; PRAGMA foreign_keys=ON; PRAGMA hard_heap_limit={HEAP_BYTES_MAX}; PRAGMA query_only={}",
        u8::from(!query.write)
    ))?;
    conn.set_limit(Limit::SQLITE_LIMIT_LENGTH, VALUE_BYTES_MAX)?;
    conn.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
    let end = SystemClock.boottime() + limit;
    conn.progress_handler(STEPS, Some(move || SystemClock.boottime() > end))?;
    Ok(conn)
}

/// SQLite's own wait grows to a tenth of a second, and beside a busy writer would hardly ever find it between two
/// transactions.
fn wait(tries: i32) -> bool {
    let goes_on =
        u128::try_from(tries).is_ok_and(|tries| tries * BUSY_STEP.as_millis() < BUSY_WAIT.as_millis());
    if goes_on {
        SystemClock.sleep(BUSY_STEP);
    }
    goes_on
}

fn restrict(conn: &mut Connection, write: bool) -> rusqlite::Result<()> {
    conn.authorizer(Some(
        move |asked: AuthContext<'_>| {
            if may(&asked.action, write) { Authorization::Allow } else { Authorization::Deny }
        },
    ))
}

/// What a statement may do. Other files, other code and the transaction itself are out of reach.
fn may(action: &AuthAction<'_>, write: bool) -> bool {
    /// Pragmas that only tell something.
    const TELLING: [&str; 22] = [
        "application_id",
        "collation_list",
        "compile_options",
        "database_list",
        "encoding",
        "foreign_key_check",
        "foreign_key_list",
        "freelist_count",
        "function_list",
        "index_info",
        "index_list",
        "index_xinfo",
        "integrity_check",
        "journal_mode",
        "page_count",
        "page_size",
        "quick_check",
        "schema_version",
        "table_info",
        "table_list",
        "table_xinfo",
        "user_version",
    ];
    /// Those of them that change something when they are given a value.
    const SETTING: [&str; 6] =
        ["application_id", "encoding", "journal_mode", "page_size", "schema_version", "user_version"];
    match action {
        AuthAction::Select | AuthAction::Read { .. } | AuthAction::Recursive => true,
        AuthAction::Function { function_name } => !function_name.eq_ignore_ascii_case("load_extension"),
        AuthAction::Pragma { pragma_name, pragma_value } => {
            let name = pragma_name.to_ascii_lowercase();
            let sets = pragma_value.is_some() && SETTING.contains(&name.as_str());
            let may_set = write && matches!(name.as_str(), "application_id" | "user_version");
            TELLING.contains(&name.as_str()) && (!sets || may_set)
        }
        AuthAction::Attach { .. }
        | AuthAction::Detach { .. }
        | AuthAction::Transaction { .. }
        | AuthAction::Savepoint { .. }
        | AuthAction::Unknown { .. } => false,
        _ => write,
    }
}

fn all(conn: &Connection, sql: &str, rows: &mut Rows) -> Result<(), QueryError> {
    let mut batch = Batch::new(conn, sql);
    let mut any = false;
    while let Some(mut statement) = batch.next()? {
        any = true;
        if statement.column_count() > 0 {
            fetch(&mut statement, rows)?;
        } else {
            statement.raw_execute()?;
        }
    }
    if any { Ok(()) } else { Err(QueryError::Sql("there is no statement".to_owned())) }
}

/// Reads the rows of a statement, at most as many as the limits let pass; it is run to its end all the same, since a
/// statement that changes something may return rows too.
fn fetch(statement: &mut Statement<'_>, into: &mut Rows) -> Result<(), QueryError> {
    into.columns = statement.column_names().map(str::to_owned).collect();
    into.rows.clear();
    into.truncated = None;
    let width = into.columns.len();
    let reads_only = statement.readonly();
    let mut bytes = 0;
    let mut found = statement.raw_query();
    while let Some(row) = found.next()? {
        if into.truncated.is_some() {
            continue;
        }
        let mut values = Vec::with_capacity(width);
        for column in 0..width {
            let value = row.get_ref(column)?;
            bytes += weight(value);
            values.push(shown(value));
        }
        into.truncated = match (into.rows.len() >= ROWS_MAX, bytes > BYTES_MAX) {
            (true, _) => Some("rows".to_owned()),
            (_, true) => Some("bytes".to_owned()),
            _ => {
                into.rows.push(values);
                continue;
            }
        };
        if reads_only {
            break;
        }
    }
    Ok(())
}

/// What a value weighs in an answer; a number has some digits.
fn weight(value: ValueRef<'_>) -> usize {
    match value {
        ValueRef::Text(bytes) => bytes.len() + 2,
        ValueRef::Blob(bytes) => 2 * bytes.len() + 10,
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => 8,
    }
}

fn shown(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => json!(number),
        // JSON has no infinities.
        ValueRef::Real(number) if number.is_finite() => json!(number),
        ValueRef::Real(number) => json!(number.to_string()),
        ValueRef::Text(bytes) => std::str::from_utf8(bytes).map_or_else(|_| hex(bytes), |text| json!(text)),
        ValueRef::Blob(bytes) => hex(bytes),
    }
}

fn hex(bytes: &[u8]) -> Value {
    use std::fmt::Write;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Infallible: a String takes any text.
        let _ = write!(text, "{byte:02x}");
    }
    json!({ "hex": text })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.db");
        let conn = Connection::open(&file).unwrap();
        conn.execute_batch(
            "PRAGMA journal_mode=WAL; CREATE TABLE t(id INTEGER PRIMARY KEY, x); CREATE INDEX t_x ON t(x); INSERT INTO t(x) VALUES \
             (1), (2.5), ('three'), (x'00ff'), (NULL), (9e999)",
        )
        .unwrap();
        (dir, file)
    }

    fn ask(file: &std::path::Path, sql: &str, write: bool) -> Result<Rows, QueryError> {
        run(&Query { file: file.to_owned(), sql: sql.to_owned(), write })
    }

    #[test]
    fn every_kind_of_value_is_shown() {
        let (_dir, file) = database();
        let rows = ask(&file, "SELECT x FROM t ORDER BY id", false).unwrap();
        assert_eq!(rows.columns, ["x"]);
        let values: Vec<Value> = rows.rows.into_iter().flatten().collect();
        assert_eq!(json!(values), json!([1, 2.5, "three", {"hex": "00ff"}, null, "inf"]));
    }

    #[test]
    fn a_reader_changes_nothing_and_reaches_nothing_else() {
        let (dir, file) = database();
        let other = dir.path().join("other.db").display().to_string();
        for sql in [
            "INSERT INTO t(x) VALUES(1)".to_owned(),
            "DELETE FROM t RETURNING id".to_owned(),
            "CREATE TABLE u(x)".to_owned(),
            "CREATE TEMP TABLE u(x)".to_owned(),
            "DROP TABLE t".to_owned(),
            format!("ATTACH '{other}' AS o"),
            "DETACH main".to_owned(),
            format!("VACUUM INTO '{other}'"),
            "VACUUM".to_owned(),
            "PRAGMA query_only=0".to_owned(),
            "PRAGMA journal_mode=DELETE".to_owned(),
            "PRAGMA user_version=5".to_owned(),
            "PRAGMA writable_schema=1".to_owned(),
            "PRAGMA hard_heap_limit=0".to_owned(),
            "PRAGMA wal_checkpoint(TRUNCATE)".to_owned(),
            "PRAGMA temp_store_directory='/'".to_owned(),
            "BEGIN; SELECT 1".to_owned(),
            "SAVEPOINT a".to_owned(),
            "SELECT load_extension('x')".to_owned(),
            "SELECT writefile('x', 'y')".to_owned(),
            "UPDATE sqlite_dbpage SET data=zeroblob(4096)".to_owned(),
            "REINDEX".to_owned(),
            "ANALYZE".to_owned(),
            "PRAGMA query_only=0; DELETE FROM t".to_owned(),
        ] {
            assert!(matches!(ask(&file, &sql, false), Err(QueryError::Sql(_))), "{sql}");
        }
        assert!(!std::path::Path::new(&other).exists());
        assert_eq!(ask(&file, "SELECT count(*) FROM t", false).unwrap().rows, [[json!(6)]]);
        for sql in ["PRAGMA table_info(t)", "PRAGMA journal_mode", "WITH n AS (SELECT 1) SELECT * FROM n"] {
            assert!(ask(&file, sql, false).is_ok(), "{sql}");
        }
    }

    #[test]
    fn a_writer_is_one_transaction_and_reaches_nothing_else() {
        let (dir, file) = database();
        let rows =
            ask(&file, "UPDATE t SET x=0 WHERE id<3; DELETE FROM t WHERE id=6 RETURNING id", true).unwrap();
        assert_eq!((rows.changes, rows.rows.as_slice()), (3, [vec![json!(6)]].as_slice()));
        let other = dir.path().join("other.db").display().to_string();
        for sql in [
            "DELETE FROM t; SELECT nonsense".to_owned(),
            "DELETE FROM t; COMMIT".to_owned(),
            "DELETE FROM t; ROLLBACK".to_owned(),
            format!("DELETE FROM t; ATTACH '{other}' AS o"),
            "UPDATE sqlite_dbpage SET data=zeroblob(4096) WHERE pgno=1".to_owned(),
            "PRAGMA writable_schema=1".to_owned(),
            "PRAGMA journal_mode=DELETE".to_owned(),
        ] {
            assert!(matches!(ask(&file, &sql, true), Err(QueryError::Sql(_))), "{sql}");
        }
        assert_eq!(ask(&file, "SELECT count(*) FROM t", false).unwrap().rows, [[json!(5)]]);
    }

    #[test]
    fn a_write_that_fails_says_why_and_leaves_nothing() {
        let (_dir, file) = database();
        for sql in ["INSERT OR ROLLBACK INTO t(id) VALUES (1)", "INSERT INTO t(id) VALUES (100), (1)"] {
            let failed = ask(&file, &format!("DELETE FROM t WHERE id=2; {sql}"), true).unwrap_err();
            assert_eq!(failed, QueryError::Sql("UNIQUE constraint failed: t.id".to_owned()), "{sql}");
        }
        let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) INSERT INTO t(x) SELECT max(i) FROM n";
        let query = Query { file: file.clone(), sql: sql.to_owned(), write: true };
        assert_eq!(run_within(&query, Duration::from_millis(100)), Err(QueryError::Slow));
        assert_eq!(ask(&file, "SELECT count(*) FROM t", false).unwrap().rows, [[json!(6)]]);
    }

    #[test]
    fn a_result_beyond_a_limit_is_cut_and_says_by_which() {
        let (_dir, file) = database();
        let numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)";
        let rows = ask(&file, &format!("{numbers} SELECT i FROM n"), false).unwrap();
        assert_eq!((rows.rows.len(), rows.truncated.as_deref()), (ROWS_MAX, Some("rows")));
        let rows = ask(&file, &format!("{numbers} SELECT zeroblob(100000) FROM n"), false).unwrap();
        assert_eq!(rows.truncated.as_deref(), Some("bytes"));
        assert!(rows.rows.len() < 100);
        let large = ask(&file, "SELECT zeroblob(100000000)", false);
        assert!(matches!(large, Err(QueryError::Sql(_))), "{large:?}");
    }

    #[test]
    fn a_busy_or_absent_database_is_told() {
        let (dir, file) = database();
        let absent = ask(&dir.path().join("none.db"), "SELECT 1", false);
        assert!(matches!(absent, Err(QueryError::Failed(_))), "{absent:?}");
        for (sql, says) in [("", "no statement"), ("-- x", "no statement"), ("SELEC 1", "syntax error")] {
            let refused = ask(&file, sql, false).unwrap_err().to_string();
            assert!(refused.contains(says), "{refused}");
        }
    }
}
