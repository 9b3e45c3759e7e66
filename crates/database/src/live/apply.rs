//! Writing pages through SQLite itself, in one transaction, so that readers keep their snapshots.
//!
//! Descending, page 1 after the others (else the schema is read again half-way), the cut last (a page written after
//! it undoes it). Page 1 is written under the schema cookie in force and the cookie set after the cut: a statement that
//! finds another cookie reads the schema again, through what SQLite still remembers of the old page 1. For the same
//! reason the connection forgets its pages after the commit. (Page 1 and the cut in one statement is no way out: at the
//! end of a statement of several rows SQLite takes the page count from page 1, and then finds nothing to cut.)
//! The page size cannot change this way: such a file is swapped.

use super::{Live, SealError};
use crate::sums::Sums;
use base::{Checksum, Pgno};
use std::collections::BTreeSet;

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

/// The pages in which a target differs from a database.
#[derive(Clone, Debug)]
pub struct Differing {
    /// With their checksums in the target, ascending.
    pages: Vec<(Pgno, Checksum)>,
    /// Pages of the target.
    commit: u32,
    /// What the target adds up to.
    checksum: Checksum,
}

impl Differing {
    /// Compares a target with what a database's pages add up to. `candidates`: every page that may differ, ascending.
    pub fn find(sums: &Sums, pages: &mut dyn Pages, candidates: &[Pgno]) -> Result<Differing, ApplyError> {
        let commit = pages.count();
        let lock_page = Pgno::lock_page(sums.page_size());
        let mut differing = Vec::new();
        let mut page = vec![0; sums.page_size() as usize];
        let grown = (sums.pages() + 1..=commit).map(Pgno);
        let mut all: Vec<Pgno> = candidates.iter().copied().chain(grown).collect();
        all.sort_unstable();
        all.dedup();
        for pgno in all.into_iter().filter(|pgno| pgno.0 <= commit && *pgno != lock_page) {
            pages.read(pgno, &mut page)?;
            let sum = ltx::page_checksum(pgno, &page);
            if sums.get(pgno) != Some(sum) {
                differing.push((pgno, sum));
            }
        }
        let checksum = sums.rolling_of(&differing, commit);
        Ok(Differing { pages: differing, commit, checksum })
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.pages.len() as u64
    }

    /// What the target adds up to.
    pub fn checksum(&self) -> Checksum {
        self.checksum
    }
}

impl Live {
    /// Takes SQLite's write lock; `false` where somebody else has it.
    pub fn lock(&mut self) -> Result<bool, ApplyError> {
        if !self.worker.sql().is_autocommit() {
            return Ok(true);
        }
        self.hold()?;
        Ok(super::rotate::busy_is_none(self.worker.sql().execute_batch("BEGIN IMMEDIATE"))?.is_some())
    }

    /// Gives the write lock back, undoing what was written under it.
    pub fn unlock(&mut self) {
        self.worker.end_read();
    }

    /// Commits what was written under the lock.
    pub fn commit(&mut self) -> Result<(), ApplyError> {
        self.worker.sql().execute_batch("COMMIT")?;
        Ok(self.worker.sql().execute_batch("PRAGMA shrink_memory")?)
    }

    /// Writes pages under the lock that [`Live::lock`] took. `found` is how they differ since it was taken; `wanted` what
    /// the target must add up to; `highest` the highest schema cookie that this incarnation has had before.
    pub fn turn(
        &mut self,
        pages: &mut dyn Pages,
        found: Differing,
        wanted: Checksum,
        highest: u32,
    ) -> Result<Turned, ApplyError> {
        let Differing { pages: mut differing, commit, mut checksum } = found;
        if checksum != wanted {
            return Err(ApplyError::Checksum { found: checksum, wanted });
        }
        if pages.count() != commit {
            return Err(ApplyError::History(format!("{} pages now, {commit} before", pages.count())));
        }
        let now = self.cookie()?;
        let first_differs = differing.first().is_some_and(|(pgno, _)| *pgno == Pgno::ONE);
        if let (false, true, Some(sum)) = (first_differs, highest > now, self.sums.get(Pgno::ONE)) {
            differing.insert(0, (Pgno::ONE, sum));
        }
        self.worker.sql().execute_batch("PRAGMA writable_schema=ON")?;
        let mut page = vec![0; self.sums.page_size() as usize];
        let mut first = false;
        for (pgno, sum) in differing.iter().rev() {
            pages.read(*pgno, &mut page)?;
            if ltx::page_checksum(*pgno, &page) != *sum {
                return Err(ApplyError::History(format!("page {pgno} read differently the second time")));
            }
            first = *pgno == Pgno::ONE;
            if first {
                raise_cookie(&mut page, now, highest);
                let raised = ltx::page_checksum(Pgno::ONE, &page);
                checksum = Checksum((checksum.0 ^ sum.0 ^ raised.0) | Checksum::FLAG);
            } else {
                self.write_page(*pgno, Some(&page))?;
            }
        }
        let cut = (commit < self.sums.pages()).then_some(commit);
        self.write_first_and_cut(first.then_some(&mut page), cut)?;
        Ok(Turned { pages: differing.len() as u64, checksum })
    }

    fn write_page(&self, pgno: Pgno, page: Option<&[u8]>) -> Result<(), ApplyError> {
        self.worker
            .sql()
            .prepare_cached("INSERT INTO sqlite_dbpage(pgno, data) VALUES(?1, ?2)")?
            .execute(rusqlite::params![pgno.0, page])?;
        Ok(())
    }

    /// Page 1 and the number of pages to keep, where they change.
    fn write_first_and_cut(&self, first: Option<&mut Vec<u8>>, keep: Option<u32>) -> Result<(), ApplyError> {
        let now = self.cookie()?;
        let mut wanted = now;
        if let Some(page) = first {
            wanted = cookie_of(page);
            set_cookie(page, now);
            self.write_page(Pgno::ONE, Some(page))?;
        }
        if let Some(keep) = keep {
            self.write_page(Pgno(keep + 1), None)?;
        }
        if wanted != now {
            self.worker.sql().execute_batch(&format!("PRAGMA schema_version={}", wanted.cast_signed()))?;
        }
        Ok(())
    }

    /// Writes pages whatever the checksums say of the file: they describe history's end, not the file.
    pub(super) fn overwrite(&mut self, pages: &mut dyn Pages, changed: &[Pgno]) -> Result<(), ApplyError> {
        self.worker.sql().execute_batch("PRAGMA writable_schema=ON")?;
        let count = pages.count();
        let lock_page = Pgno::lock_page(self.sums.page_size());
        let now = self.worker.page_count()?;
        let mut page = vec![0; self.sums.page_size() as usize];
        let all: BTreeSet<Pgno> = changed.iter().copied().chain((now + 1..=count).map(Pgno)).collect();
        for pgno in all.iter().rev().filter(|pgno| pgno.0 <= count && **pgno != lock_page) {
            pages.read(*pgno, &mut page)?;
            if *pgno != Pgno::ONE {
                self.write_page(*pgno, Some(&page))?;
            }
        }
        let first = (all.first() == Some(&Pgno::ONE)).then_some(&mut page);
        self.write_first_and_cut(first, (count < now).then_some(count))
    }

    /// The schema cookie in force.
    pub fn cookie(&self) -> Result<u32, ApplyError> {
        let now = self.worker.sql().query_row("PRAGMA schema_version", [], |row| row.get::<_, i64>(0))?;
        Ok(u32::try_from(now & 0xffff_ffff).unwrap_or(0))
    }

    /// Captures and seals what a turn committed, and holds it against what it must add up to.
    ///
    /// Everything before it was captured under the lock, so it is the next transaction of the log; whoever waited for
    /// the lock may have committed behind it by now.
    pub fn seal_turn(&mut self, turned: Turned, pages: u32) -> Result<(), ApplyError> {
        if (self.sums.rolling(), self.sums.pages()) == (turned.checksum, pages) {
            return Ok(());
        }
        for _ in 0..100 {
            if let Some(index) = self.index() {
                self.follow_one(index.end)?;
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

/// A connection that cached the schema under a cookie must never meet that cookie with another schema. One that is in
/// force and the highest there was has had no other schema than the one it has.
fn raise_cookie(page: &mut [u8], now: u32, highest: u32) {
    if cookie_of(page) != now || highest > now {
        set_cookie(page, now.max(highest).wrapping_add(1));
    }
}

/// The schema cookie in a first page.
pub(crate) fn cookie_of(page: &[u8]) -> u32 {
    let mut cookie = [0; 4];
    cookie.copy_from_slice(&page[COOKIE]);
    u32::from_be_bytes(cookie)
}

/// Sets the schema cookie in a first page.
pub(crate) fn set_cookie(page: &mut [u8], cookie: u32) {
    page[COOKIE].copy_from_slice(&cookie.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raised(target: u32, now: u32, highest: u32) -> u32 {
        let mut page = vec![0; 512];
        set_cookie(&mut page, target);
        raise_cookie(&mut page, now, highest);
        cookie_of(&page)
    }

    #[test]
    fn a_schema_cookie_goes_above_every_one_there_was() {
        assert_eq!(raised(7, 7, 7), 7, "the schema is the same");
        assert_eq!(raised(3, 7, 7), 8);
        assert_eq!(raised(3, 7, 9), 10);
        assert_eq!(raised(7, 7, 9), 10, "7 was in force before 9 was, with another schema");
    }
}
