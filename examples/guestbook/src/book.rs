//! The book itself: one table of one SQLite database behind one connection.
//!
//! The journal mode is left as it is found. Every statement is its own short transaction, and waits for other
//! writers up to the busy timeout. SQLite keeps the time, so that this program needs no clock.

use crate::entry::Inscription;
use rusqlite::{Connection, OptionalExtension, params};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a statement waits for another process's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS entry (
    id      INTEGER PRIMARY KEY,
    created INTEGER NOT NULL DEFAULT (unixepoch()),
    name    TEXT NOT NULL,
    message TEXT NOT NULL
)";

/// A page of the book, newest first.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Leaf {
    /// Entries in the whole book.
    pub count: u32,
    /// These ones.
    pub entries: Vec<Entry>,
    /// Older ones exist.
    pub more: bool,
}

/// What somebody wrote.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// Rises with each entry.
    pub id: i64,
    /// When, `2026-11-21 10:00:00`, UTC.
    pub created: String,
    /// Who.
    pub name: String,
    /// What.
    pub message: String,
}

/// The open book. Clones share one connection.
#[derive(Clone)]
pub struct Book {
    connection: Arc<Mutex<Connection>>,
}

impl Book {
    /// Opens the file, or creates it in a directory that exists, and creates the table where it is missing.
    pub fn open(path: &Path) -> rusqlite::Result<Book> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.execute_batch(SCHEMA)?;
        Ok(Book { connection: Arc::new(Mutex::new(connection)) })
    }

    /// Adds an entry.
    pub fn sign(&self, inscription: &Inscription) -> rusqlite::Result<()> {
        self.lock()
            .prepare_cached("INSERT INTO entry (name, message) VALUES (?1, ?2)")?
            .execute(params![inscription.name(), inscription.message()])?;
        Ok(())
    }

    /// At most `limit` entries that are older than `before`, or the newest ones.
    pub fn leaf(&self, before: Option<i64>, limit: u32) -> rusqlite::Result<Leaf> {
        let mut connection = self.lock();
        // One transaction: the count and the entries are of the same moment.
        let transaction = connection.transaction()?;
        let count = transaction.prepare_cached("SELECT count(*) FROM entry")?.query_row([], |r| r.get(0))?;
        let mut entries = transaction
            .prepare_cached(
                "SELECT id, strftime('%Y-%m-%d %H:%M:%S', created, 'unixepoch'), name, message FROM entry
                 WHERE id < ?1 ORDER BY id DESC LIMIT ?2",
            )?
            .query_map(params![before.unwrap_or(i64::MAX), limit.saturating_add(1)], |row| {
                Ok(Entry { id: row.get(0)?, created: row.get(1)?, name: row.get(2)?, message: row.get(3)? })
            })?
            .collect::<rusqlite::Result<Vec<Entry>>>()?;
        let more = entries.len() > limit as usize;
        entries.truncate(limit as usize);
        Ok(Leaf { count, entries, more })
    }

    /// Reads a row, or finds that there is none.
    pub fn check(&self) -> rusqlite::Result<()> {
        self.lock()
            .prepare_cached("SELECT id FROM entry LIMIT 1")?
            .query_row([], |row| row.get::<_, i64>(0))
            .optional()?;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic between two statements leaves no transaction open: each rolls back when it is dropped.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book_of(count: usize) -> (tempfile::TempDir, Book) {
        let directory = tempfile::tempdir().unwrap();
        let book = Book::open(&directory.path().join("book.sqlite")).unwrap();
        for n in 1..=count {
            book.sign(&Inscription::new("Ada", &format!("entry {n}")).unwrap()).unwrap();
        }
        (directory, book)
    }

    #[test]
    fn leaves_are_newest_first_and_lead_on_to_older_ones() {
        let (_directory, book) = book_of(5);
        let first = book.leaf(None, 3).unwrap();
        assert_eq!(first.entries.iter().map(|e| e.id).collect::<Vec<_>>(), [5, 4, 3]);
        assert_eq!((first.count, first.more), (5, true));
        let second = book.leaf(Some(3), 3).unwrap();
        assert_eq!(second.entries.iter().map(|e| e.id).collect::<Vec<_>>(), [2, 1]);
        assert_eq!((second.count, second.more), (5, false));
    }

    #[test]
    fn a_full_last_leaf_promises_no_more() {
        let (_directory, book) = book_of(3);
        assert!(!book.leaf(None, 3).unwrap().more);
    }

    #[test]
    fn a_book_stays_when_it_is_opened_again() {
        let (directory, book) = book_of(2);
        drop(book);
        let book = Book::open(&directory.path().join("book.sqlite")).unwrap();
        assert_eq!(book.leaf(None, 10).unwrap().count, 2);
    }

    #[test]
    fn the_journal_mode_is_left_as_it_is_found() {
        for mode in ["delete", "wal"] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("book.sqlite");
            let other = Connection::open(&path).unwrap();
            other.pragma_update(None, "journal_mode", mode).unwrap();
            Book::open(&path).unwrap().sign(&Inscription::new("Ada", "hello").unwrap()).unwrap();
            let found: String = other.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
            assert_eq!(found, mode);
        }
    }
}
