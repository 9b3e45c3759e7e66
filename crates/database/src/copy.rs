//! A database's file as its application sees it, copied without a node: with what was never sealed.

use crate::live::scan::read_page;
use crate::sqlite::Participant;
use base::{Clock, DiskFile, Pgno, SystemClock};
use std::io;
use std::path::Path;
use std::time::Duration;

/// How long a lock is waited for that a writer in rollback mode holds.
const BUSY_WAIT_MAX: Duration = Duration::from_secs(5);

/// How soon it is tried again meanwhile.
const BUSY_RETRY: Duration = Duration::from_millis(20);

/// Why a database was not copied. Nothing of it has changed.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// It is no database, or not one that can be read now.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// The copy could not be written.
    #[error("{0}")]
    Output(io::Error),
}

/// Writes a database as it is now into an empty file, in one read transaction; its pages. Not synced.
///
/// The file itself stays as it is, but for a transaction that died half-way, which SQLite rolls back as it would for
/// anybody. `progress` is told bytes written and bytes in all.
pub fn copy(file: &Path, out: &dyn DiskFile, progress: &mut dyn FnMut(u64, u64)) -> Result<u32, CopyError> {
    let mut database = open(file)?;
    database.sql().busy_timeout(BUSY_WAIT_MAX)?;
    database.begin_read()?;
    let (pages, page_size) = (database.page_count()?, database.page_size()?);
    let at = |pgno: u32| u64::from(pgno - 1) * u64::from(page_size);
    let mut page = vec![0; page_size as usize];
    for pgno in (1..=pages).filter(|pgno| Pgno(*pgno) != Pgno::lock_page(page_size)) {
        read_page(&database, Pgno(pgno), &mut page)?;
        out.write_at(&page, at(pgno)).map_err(CopyError::Output)?;
        progress(at(pgno + 1), at(pages + 1));
    }
    database.end_read();
    Ok(pages)
}

/// Opens it once nobody is just writing in rollback mode.
fn open(file: &Path) -> rusqlite::Result<Participant> {
    let until = SystemClock.boottime() + BUSY_WAIT_MAX;
    loop {
        match Participant::open(file, None) {
            Err(error)
                if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy)
                    && SystemClock.boottime() < until =>
            {
                SystemClock.sleep(BUSY_RETRY);
            }
            opened => return opened,
        }
    }
}
