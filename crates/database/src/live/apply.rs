//! Writing pages through SQLite itself, in one transaction, so that readers keep their snapshots.
//!
//! Descending, page 1 after the others (else the schema is read again half-way), the cut last (a page written after
//! it undoes it). The page size cannot change this way: such a file is swapped.

use super::{Live, SealError};
use crate::sums::Sums;
use base::{Checksum, Pgno};

/// Bytes of page 1 that hold the schema cookie.
const COOKIE: std::ops::Range<usize> = 40..44;

/// Why pages were not written. The transaction is rolled back: nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// SQLite refused.
    #[error("SQLite: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The pages could not be had from history.
    #[error("{0}")]
    History(String),
    /// The pages are not what the target must add up to.
    #[error("the pages add up to {found} and not to {wanted}")]
    Checksum {
        /// What they add up to.
        found: Checksum,
        /// What the target's position says.
        wanted: Checksum,
    },
    /// What was written could not be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl ApplyError {
    /// Whether the disk is full.
    pub fn disk_full(&self) -> bool {
        match self {
            ApplyError::Sqlite(error) => error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull),
            ApplyError::Seal(error) => error.disk_full(),
            _ => false,
        }
    }
}

/// The pages of a moment: how many, and where to read one.
pub trait Pages {
    /// Pages in the database at that moment.
    fn count(&self) -> u32;
    /// Reads one.
    fn read(&mut self, pgno: Pgno, out: &mut [u8]) -> Result<(), ApplyError>;
}

/// What a turn did, before it is committed.
#[derive(Clone, Copy, Debug)]
pub struct Turned {
    /// Pages written.
    pub pages: u64,
    /// What the database adds up to afterwards.
    pub checksum: Checksum,
}

impl Live {
    /// Takes SQLite's write lock; `false` where somebody else has it.
    pub fn lock(&mut self) -> Result<bool, ApplyError> {
        if !self.worker.sql().is_autocommit() {
            return Ok(true);
        }
        Ok(super::rotate::busy_is_none(self.worker.sql().execute_batch("BEGIN IMMEDIATE"))?.is_some())
    }

    /// Gives the write lock back, undoing what was written under it.
    pub fn unlock(&mut self) {
        self.worker.end_read();
    }

    /// Commits what was written under the lock.
    pub fn commit(&mut self) -> Result<(), ApplyError> {
        Ok(self.worker.sql().execute_batch("COMMIT")?)
    }

    /// Which of these pages differ from what the database holds, and what it would add up to with them.
    ///
    /// `candidates`: every page that may differ, ascending.
    pub fn differing(
        &self,
        pages: &mut dyn Pages,
        candidates: &[Pgno],
    ) -> Result<(Vec<Pgno>, Sums), ApplyError> {
        let count = pages.count();
        let lock_page = Pgno::lock_page(self.sums.page_size());
        let mut sums = self.sums.clone();
        sums.resize(count);
        let mut differing = Vec::new();
        let mut page = vec![0; self.sums.page_size() as usize];
        let grown = (self.sums.pages() + 1..=count).map(Pgno);
        let mut all: Vec<Pgno> = candidates.iter().copied().chain(grown).collect();
        all.sort_unstable();
        all.dedup();
        for pgno in all.into_iter().filter(|pgno| pgno.0 <= count && *pgno != lock_page) {
            pages.read(pgno, &mut page)?;
            let sum = ltx::page_checksum(pgno, &page);
            if self.sums.get(pgno) != Some(sum) {
                differing.push(pgno);
            }
            sums.set(pgno, sum);
        }
        Ok((differing, sums))
    }

    /// Writes pages under the lock that [`Live::lock`] took. `wanted` is what the target must add up to.
    pub fn turn(
        &mut self,
        pages: &mut dyn Pages,
        candidates: &[Pgno],
        wanted: Checksum,
    ) -> Result<Turned, ApplyError> {
        let (differing, mut sums) = self.differing(pages, candidates)?;
        if sums.rolling() != wanted {
            return Err(ApplyError::Checksum { found: sums.rolling(), wanted });
        }
        let count = pages.count();
        self.worker.sql().execute_batch("PRAGMA writable_schema=ON")?;
        let mut page = vec![0; self.sums.page_size() as usize];
        for pgno in differing.iter().rev() {
            pages.read(*pgno, &mut page)?;
            if *pgno == Pgno::ONE {
                self.raise_cookie(&mut page)?;
                sums.set(Pgno::ONE, ltx::page_checksum(Pgno::ONE, &page));
            } else if Some(ltx::page_checksum(*pgno, &page)) != sums.get(*pgno) {
                return Err(ApplyError::History(format!("page {pgno} read differently the second time")));
            }
            self.write_page(*pgno, Some(&page))?;
        }
        if count < self.sums.pages() {
            self.write_page(Pgno(count + 1), None)?;
        }
        Ok(Turned { pages: differing.len() as u64, checksum: sums.rolling() })
    }

    pub(super) fn write_page(&self, pgno: Pgno, page: Option<&[u8]>) -> Result<(), ApplyError> {
        self.worker
            .sql()
            .prepare_cached("INSERT INTO sqlite_dbpage(pgno, data) VALUES(?1, ?2)")?
            .execute(rusqlite::params![pgno.0, page])?;
        Ok(())
    }

    /// A connection that cached the schema under a cookie must never meet that cookie with another schema. The one in
    /// force is the highest there was, since each turn back goes above it.
    fn raise_cookie(&self, page: &mut [u8]) -> Result<(), ApplyError> {
        let now: u32 = self
            .worker
            .sql()
            .query_row("PRAGMA schema_version", [], |row| row.get::<_, i64>(0))
            .map(|cookie| u32::try_from(cookie & 0xffff_ffff).unwrap_or(0))?;
        let mut old = [0; 4];
        old.copy_from_slice(&page[COOKIE]);
        if u32::from_be_bytes(old) != now {
            page[COOKIE].copy_from_slice(&now.wrapping_add(1).to_be_bytes());
        }
        Ok(())
    }

    /// Captures and seals what a turn committed, and holds it against what it must add up to.
    pub fn seal_turn(&mut self, turned: Turned, pages: u32) -> Result<(), ApplyError> {
        for _ in 0..100 {
            if let Some(index) = self.index() {
                self.follow(index.end)?;
                self.seal()?;
                let found = self.sums.rolling();
                if self.difference_due.is_none() && (found, self.sums.pages()) == (turned.checksum, pages) {
                    return Ok(());
                }
                return Err(ApplyError::Checksum { found, wanted: turned.checksum });
            }
            self.machine.clock.sleep(super::LOOK_AGAIN);
        }
        Err(ApplyError::History("the write-ahead log's index never settled".into()))
    }
}
