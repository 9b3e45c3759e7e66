//! SQLite as a participant beside the application: connections, and what lies under them.
//!
//! Everything the engine knows of a live database's files it reads through SQLite's *own* file handles
//! (`SQLITE_FCNTL_FILE_POINTER`, `SQLITE_FCNTL_JOURNAL_POINTER`, `xShmMap`): POSIX locks belong to the process, and
//! closing any other descriptor of these files would drop every SQLite lock that this process holds on them.
//! The same code runs on the simulated disk, because that is a SQLite VFS too.
//!
//! Connections never checkpoint on close: the last close of an ordinary connection unlinks the log *by name*, which
//! after a replacement of the file is another database's log.
#![allow(unsafe_code, reason = "the module that reaches under SQLite's connections")]

use crate::wal::{Salts, WalPosition};
use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::ffi;
use rusqlite::{Connection, OpenFlags};
use std::ffi::c_void;
use std::path::Path;
use std::time::Duration;

/// Bytes of the log's index that SQLite maps at once; the header lies at its start.
const SHM_REGION: i32 = 32 * 1024;
/// Bytes of the two copies of the index header and the checkpoint information.
const INDEX_LEN: usize = 136;
/// Where in the index header the counter of transactions lies.
const CHANGE: usize = 8;
/// Pages of cache for each connection of the engine: it reads every page at most once.
const CACHE_KIB: i32 = 256;

/// A connection of the engine.
#[derive(Debug)]
pub struct Participant {
    conn: Connection,
    index: *const u8,
}

// SAFETY: `index` points into a mapping that lives as long as `conn`, which is itself `Send`; it is only read, with
// volatile loads, while `self` is borrowed.
unsafe impl Send for Participant {}

/// The log's index, read at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalIndex {
    /// Where the log ends.
    pub end: WalPosition,
    /// Pages in the database at that end; 0 where the log is unborn.
    pub pages: u32,
    /// Counts transactions.
    pub change: u32,
    /// Frames of the log that are in the database file.
    pub backfilled: u32,
    /// The marks 1 to 4 that readers of the log may hold, each a number of frames; the highest number is none.
    pub marks: [u32; 4],
}

/// What a read transaction reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The end of the log.
    pub at: WalPosition,
    /// SQLite's counter of transactions there; a log that was never written has none.
    pub change: Option<u32>,
}

impl Participant {
    /// Opens an existing database for reading and writing.
    pub fn open(path: &Path, vfs: Option<&str>) -> rusqlite::Result<Participant> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = match vfs {
            Some(name) => Connection::open_with_flags_and_vfs(path, flags, name)?,
            None => Connection::open_with_flags(path, flags)?,
        };
        conn.busy_timeout(Duration::ZERO)?;
        conn.set_prepared_statement_cache_capacity(16);
        conn.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        conn.execute_batch(&format!(
            "PRAGMA wal_autocheckpoint=0; PRAGMA cache_size=-{CACHE_KIB}; PRAGMA mmap_size=0; PRAGMA synchronous=NORMAL"
        ))?;
        Ok(Participant { conn, index: std::ptr::null() })
    }

    /// The connection, for plain SQL.
    pub fn sql(&self) -> &Connection {
        &self.conn
    }

    fn file_pointer(&self, which: i32) -> Option<*mut ffi::sqlite3_file> {
        let mut file: *mut ffi::sqlite3_file = std::ptr::null_mut();
        // SAFETY: the handle is live while `self` is; both opcodes write one pointer to the given place.
        let code = unsafe {
            ffi::sqlite3_file_control(
                self.conn.handle(),
                c"main".as_ptr(),
                which,
                std::ptr::from_mut(&mut file).cast::<c_void>(),
            )
        };
        // SAFETY: on success the pointer is null or a live file; an unopened file has null methods.
        let open = code == ffi::SQLITE_OK && !file.is_null() && unsafe { !(*file).pMethods.is_null() };
        open.then_some(file)
    }

    /// Reads bytes of the log; what lies beyond its end reads as zeroes.
    pub fn read_wal(&self, buffer: &mut [u8], offset: u64) -> Result<(), ReadError> {
        let file = self.file_pointer(ffi::SQLITE_FCNTL_JOURNAL_POINTER).ok_or(ReadError::NoLog)?;
        read_file(file, buffer, offset)
    }

    fn map_index(&mut self) -> Option<*const u8> {
        if self.index.is_null() {
            let file = self.file_pointer(ffi::SQLITE_FCNTL_FILE_POINTER)?;
            let mut region: *mut c_void = std::ptr::null_mut();
            // SAFETY: the file is open; version 2 methods have xShmMap; without `extend` it maps or answers null.
            let code = unsafe {
                let methods = &*(*file).pMethods;
                if methods.iVersion < 2 {
                    return None;
                }
                (methods.xShmMap?)(file, 0, SHM_REGION, 0, std::ptr::from_mut(&mut region).cast())
            };
            if code != ffi::SQLITE_OK || region.is_null() {
                return None;
            }
            self.index = region.cast();
        }
        Some(self.index)
    }

    /// The log's index as it is now; `None` where a writer is changing it or there is none yet: look again.
    ///
    /// Only meaningful on a connection that has read in WAL mode.
    pub fn wal_index(&mut self) -> Option<WalIndex> {
        let base = self.map_index()?;
        let mut bytes = [0u8; INDEX_LEN];
        for (at, word) in bytes.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            // SAFETY: the mapping is 32 KiB, aligned, and lives as long as the connection; other processes change it,
            // hence the volatile load.
            *word = unsafe { base.cast::<u32>().add(at).read_volatile() }.to_ne_bytes();
            if at == 11 {
                std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
            }
        }
        parse_index(&bytes)
    }

    /// Opens a read transaction and says exactly what it reads.
    pub fn begin_read(&mut self) -> rusqlite::Result<Snapshot> {
        self.conn.execute_batch("BEGIN")?;
        match self.read_position() {
            Ok(at) => Ok(at),
            Err(error) => {
                self.end_read();
                Err(error)
            }
        }
    }

    fn read_position(&mut self) -> rusqlite::Result<Snapshot> {
        self.conn.prepare_cached("PRAGMA schema_version")?.query_row([], |row| row.get::<_, i64>(0))?;
        let mut snapshot: *mut ffi::sqlite3_snapshot = std::ptr::null_mut();
        // SAFETY: the handle is live and inside a read transaction; the snapshot is freed below.
        let code = unsafe { ffi::sqlite3_snapshot_get(self.conn.handle(), c"main".as_ptr(), &mut snapshot) };
        if code == ffi::SQLITE_ERROR {
            // The log has never had a frame: SQLite makes no snapshot of that.
            let salts = self.wal_index().map_or(Salts::default(), |index| index.end.salts);
            return Ok(Snapshot { at: WalPosition { salts, frame: 0 }, change: None });
        }
        if code != ffi::SQLITE_OK {
            return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
        }
        let mut bytes = [0u8; 48];
        // SAFETY: a snapshot is a copy of the 48-byte index header (wal.c); it is freed once.
        unsafe {
            std::ptr::copy_nonoverlapping(snapshot.cast::<u8>(), bytes.as_mut_ptr(), 48);
            ffi::sqlite3_snapshot_free(snapshot);
        }
        Ok(Snapshot { at: header_position(&bytes), change: Some(native(&bytes, CHANGE)) })
    }

    /// Ends the read transaction; there being none is fine.
    pub fn end_read(&self) {
        if !self.conn.is_autocommit() {
            // A read transaction holds nothing that could fail to be given back.
            let _ = self.conn.execute_batch("ROLLBACK");
        }
    }

    /// The cookie that changes when the schema does, and the page count, inside the current transaction.
    pub fn page_count(&self) -> rusqlite::Result<u32> {
        self.conn.prepare_cached("PRAGMA page_count")?.query_row([], |row| row.get(0))
    }

    /// Bytes a page.
    pub fn page_size(&self) -> rusqlite::Result<u32> {
        self.conn.query_row("PRAGMA page_size", [], |row| row.get(0))
    }

    /// Copies what readers allow from the log to the database file, blocking nobody: (frames in the log, frames copied).
    pub fn checkpoint_passive(&self) -> rusqlite::Result<Option<(u32, u32)>> {
        let (busy, log, done): (i64, i64, i64) = self
            .conn
            .prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let known = busy == 0 && log >= 0 && done >= 0;
        Ok(known.then(|| (u32::try_from(log).unwrap_or(u32::MAX), u32::try_from(done).unwrap_or(0))))
    }

    /// Empties a log that is in the database file already.
    pub fn checkpoint_truncate(&self) -> rusqlite::Result<()> {
        self.conn.prepare_cached("PRAGMA wal_checkpoint(TRUNCATE)")?.query_row([], |_| Ok(()))
    }

    /// Lets the last close tidy up as SQLite does: everything into the database file, no log left.
    pub fn close_tidily(self) -> rusqlite::Result<()> {
        self.conn.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
        self.conn.close().map_err(|(_, error)| error)
    }
}

/// Runs statements, each to its end: a statement that returns a row commits only after the last one, and only who asks
/// for more learns that this failed.
pub fn run(conn: &Connection, sql: &str) -> rusqlite::Result<()> {
    let mut batch = rusqlite::Batch::new(conn, sql);
    while let Some(mut statement) = batch.next()? {
        let mut rows = statement.raw_query();
        while rows.next()?.is_some() {}
    }
    Ok(())
}

/// Switches a database to WAL mode, durably as its `synchronous` level says; `false`: SQLite does not.
pub fn use_wal(conn: &Connection) -> rusqlite::Result<bool> {
    let asked = |sql: &str| conn.query_row(sql, [], |row| Ok(row.get::<_, String>(0)? == "wal"));
    if asked("PRAGMA journal_mode")? {
        return Ok(true);
    }
    run(conn, "PRAGMA journal_mode=WAL")?;
    asked("PRAGMA journal_mode")
}

/// Why bytes of a file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The log is not open: the connection has not read in WAL mode.
    #[error("the write-ahead log is not open")]
    NoLog,
    /// The disk failed; the code is SQLite's.
    #[error("reading the write-ahead log failed (SQLite error {0})")]
    Disk(i32),
}

fn read_file(file: *mut ffi::sqlite3_file, buffer: &mut [u8], offset: u64) -> Result<(), ReadError> {
    let (Ok(len), Ok(offset)) = (i32::try_from(buffer.len()), i64::try_from(offset)) else {
        return Err(ReadError::Disk(ffi::SQLITE_TOOBIG));
    };
    // SAFETY: the file is open (its methods are not null) and the buffer has `len` bytes.
    let code = unsafe {
        match (*(*file).pMethods).xRead {
            Some(read) => read(file, buffer.as_mut_ptr().cast(), len, offset),
            None => return Err(ReadError::NoLog),
        }
    };
    // A short read has filled the rest with zeroes.
    if code == ffi::SQLITE_OK || code == ffi::SQLITE_IOERR_SHORT_READ {
        Ok(())
    } else {
        Err(ReadError::Disk(code))
    }
}

fn native(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn header_position(bytes: &[u8; 48]) -> WalPosition {
    let salt = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    WalPosition { salts: Salts(salt(32), salt(36)), frame: native(bytes, 16) }
}

/// Both header copies must agree and add up, else somebody is writing them.
fn parse_index(bytes: &[u8; INDEX_LEN]) -> Option<WalIndex> {
    let (one, two): (&[u8; 48], &[u8; 48]) = (bytes[..48].try_into().ok()?, bytes[48..96].try_into().ok()?);
    if one != two || one[12] == 0 {
        return None;
    }
    let (mut a, mut b) = (0u32, 0u32);
    for pair in one[..40].as_chunks::<8>().0 {
        a = a.wrapping_add(native(pair, 0)).wrapping_add(b);
        b = b.wrapping_add(native(pair, 4)).wrapping_add(a);
    }
    if (a, b) != (native(one, 40), native(one, 44)) {
        return None;
    }
    let end = header_position(one);
    Some(WalIndex {
        end,
        pages: native(one, 20),
        change: native(one, CHANGE),
        backfilled: native(bytes, 96),
        marks: [104, 108, 112, 116].map(|at| native(bytes, at)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database() -> (tempfile::TempDir, std::path::PathBuf, Connection) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let app = Connection::open(&path).unwrap();
        app.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x)").unwrap();
        (dir, path, app)
    }

    #[test]
    fn the_index_follows_commits_and_a_read_knows_its_place() {
        let (_dir, path, app) = database();
        let mut own = Participant::open(&path, None).unwrap();
        let at = own.begin_read().unwrap().at;
        assert_eq!(own.wal_index().unwrap().end, at);
        app.execute_batch("INSERT INTO t VALUES(1)").unwrap();
        let now = own.wal_index().unwrap();
        assert_eq!(now.end, WalPosition { salts: at.salts, frame: at.frame + 1 });
        assert_eq!(own.page_count().unwrap(), now.pages);
        let mut head = [0; 32];
        own.read_wal(&mut head, 0).unwrap();
        assert_eq!(crate::wal::WalHeader::parse(&head).unwrap().salts, at.salts);
    }

    #[test]
    fn statements_that_return_rows_are_run_to_their_end() {
        let (_dir, path, app) = database();
        app.execute_batch(
            "CREATE TABLE parent(id INTEGER PRIMARY KEY); PRAGMA foreign_keys=ON;
            CREATE TABLE child(of REFERENCES parent(id) DEFERRABLE INITIALLY DEFERRED)",
        )
        .unwrap();
        let orphan = "INSERT INTO child VALUES(7) RETURNING of";
        app.execute_batch(orphan).expect("nobody asked for the end");
        assert!(run(&app, orphan).unwrap_err().to_string().contains("FOREIGN KEY"));
        let other = Connection::open(&path).unwrap();
        assert_eq!(other.query_row("SELECT count(*) FROM child", [], |row| row.get::<_, i64>(0)).unwrap(), 0);
        run(&app, "INSERT INTO parent VALUES(7); INSERT INTO child VALUES(7); SELECT * FROM child").unwrap();
    }

    #[test]
    fn a_held_read_keeps_the_log_from_starting_over() {
        let (_dir, path, app) = database();
        let mut own = Participant::open(&path, None).unwrap();
        app.execute_batch("INSERT INTO t VALUES(1)").unwrap();
        let at = own.begin_read().unwrap().at;
        app.execute_batch("INSERT INTO t VALUES(2); PRAGMA wal_checkpoint(PASSIVE); INSERT INTO t VALUES(3)")
            .unwrap();
        assert_eq!(own.wal_index().unwrap().end.salts, at.salts);
        own.end_read();
        app.execute_batch("PRAGMA wal_checkpoint(PASSIVE); INSERT INTO t VALUES(4)").unwrap();
        let after = own.wal_index().unwrap().end;
        assert_ne!(after.salts, at.salts);
        assert_eq!(after.frame, 1);
    }
}
