//! A database as an application sees it.

use rusqlite::Connection;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// A connection to a database with one table `t(x)`.
pub struct Db(pub Connection);

impl Db {
    /// Opens or creates it in WAL mode, as applications that keep time with Stead do.
    pub fn open(path: &Path) -> Db {
        let conn = Connection::open(path).unwrap();
        conn.busy_timeout(Duration::from_secs(5)).unwrap();
        conn.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE IF NOT EXISTS t(x)").unwrap();
        Db(conn)
    }

    /// Commits rows, one transaction each.
    pub fn insert_rows(&self, rows: i64) -> &Db {
        for row in 0..rows {
            self.0.execute("INSERT INTO t VALUES(?1)", [row]).unwrap();
        }
        self
    }

    /// Commits one row of so many random bytes.
    pub fn try_blob(&self, bytes: u32) -> rusqlite::Result<usize> {
        self.0.execute("INSERT INTO t VALUES(randomblob(?1))", [bytes])
    }

    pub fn rows(&self) -> i64 {
        self.0.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
    }
}

/// Rows of a database that nobody has open here.
pub fn count(path: &Path) -> i64 {
    Db(Connection::open(path).unwrap()).rows()
}

/// SQLite's own judgement of a file.
pub fn integrity(path: &Path) -> String {
    let conn = Connection::open(path).unwrap();
    conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap()
}

/// Debian's sqlite3, run to its end: what it printed, or its complaint.
pub fn sqlite3(path: &Path, sql: &str) -> Result<String, String> {
    let out = Command::new("sqlite3").arg("-cmd").arg(".timeout 5000").arg(path).arg(sql).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if out.status.success() { Ok(text(&out.stdout)) } else { Err(text(&out.stderr)) }
}
