//! The page diff: which pages differ from what was sealed, found under a read transaction that blocks nobody.
//!
//! It answers every doubt about the log. A database without history is the case in which every page differs.

use super::capture::Log;
use super::{Began, Live, SealError};
use crate::sqlite::Participant;
use crate::sums::Sums;
use base::{Pgno, Txid};

/// How often a reader is opened anew because the log moved on meanwhile.
const TRIES: u32 = 100;

/// What a scan found.
#[derive(Debug)]
pub struct Scan {
    /// The checksums of what is there.
    pub sums: Sums,
    /// The pages that are not as sealed, ascending.
    pub differing: Vec<Pgno>,
}

/// Reads every page under the reader's open transaction and compares.
pub fn scan(reader: &Participant, sealed: &Sums) -> rusqlite::Result<Scan> {
    let page_size = reader.page_size()?;
    let pages = reader.page_count()?;
    let lock_page = Pgno::lock_page(page_size);
    let mut found = Scan { sums: Sums::new(page_size), differing: Vec::new() };
    found.sums.resize(pages);
    let mut statement = reader.sql().prepare("SELECT pgno, data FROM sqlite_dbpage")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let pgno = Pgno(row.get(0)?);
        if pgno == lock_page {
            continue;
        }
        let data = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
        let sum = ltx::page_checksum(pgno, data);
        found.sums.set(pgno, sum);
        if sealed.get(pgno) != Some(sum) {
            found.differing.push(pgno);
        }
    }
    Ok(found)
}

/// One page under the reader's open transaction.
pub fn read_page(reader: &Participant, pgno: Pgno, out: &mut [u8]) -> rusqlite::Result<()> {
    reader.sql().prepare_cached("SELECT data FROM sqlite_dbpage WHERE pgno=?1")?.query_row([pgno.0], |row| {
        let data = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
        if data.len() == out.len() {
            out.copy_from_slice(data);
            Ok(())
        } else {
            Err(rusqlite::Error::IntegralValueOutOfRange(0, i64::try_from(data.len()).unwrap_or(0)))
        }
    })
}

/// Seals to the end and opens a reader that sees exactly that, of its own connection.
pub fn sealed_reader(live: &mut Live) -> Result<Participant, SealError> {
    for _ in 0..TRIES {
        let mut reader = Participant::open(&live.place.file, live.machine.vfs.as_deref())?;
        live.hold()?;
        let at = reader.begin_read()?.at;
        if !live.seal_to(at)? {
            live.seal_difference()?;
        } else if live.log.at() == at {
            return Ok(reader);
        }
    }
    Err(SealError::Sqlite(rusqlite::Error::SqliteFailure(
        rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY),
        Some("the database never stood still".into()),
    )))
}

impl Live {
    /// Finds what differs from the last seal and seals that; capture goes on from there.
    pub fn seal_difference(&mut self) -> Result<Option<Txid>, SealError> {
        let began = self.marks.begin_other(&*self.locks)?;
        let sealed = self.seal_snapshot_of_other(began);
        match sealed {
            Ok(sealed) => {
                self.marks.switch(began);
                self.difference_due = None;
                self.settle();
                self.save_cursor();
                Ok(sealed)
            }
            Err(error) => {
                self.marks.cancel_other();
                Err(error)
            }
        }
    }

    fn seal_snapshot_of_other(&mut self, began: Began) -> Result<Option<Txid>, SealError> {
        let found = scan(self.marks.idle(), &self.sums)?;
        let (now, was) = (found.sums.page_size(), self.sums.page_size());
        if now != was {
            return Err(SealError::PageSize { now, was });
        }
        let Some(log) = Log::after(self.marks.idle(), began.at, now) else {
            return Err(SealError::Log(crate::sqlite::ReadError::NoLog));
        };
        let (before_log, before_sums) =
            (std::mem::replace(&mut self.log, log), std::mem::take(&mut self.sums));
        let (before, old_pages) = (before_sums.rolling(), before_sums.pages());
        self.sums = found.sums;
        self.loose.lose_count();
        if found.differing.is_empty() && old_pages == self.sums.pages() {
            return Ok(None);
        }
        match self.write_differing(before, &found.differing) {
            Ok(()) => {
                self.txid = self.txid.next();
                self.note_sealed_pages(found.differing.len() as u64);
                Ok(Some(self.txid))
            }
            Err(error) => {
                (self.log, self.sums) = (before_log, before_sums);
                Err(error)
            }
        }
    }

    fn write_differing(&self, before: base::Checksum, differing: &[Pgno]) -> Result<(), SealError> {
        let mut file = self.history.begin(self.header(self.sums.pages(), before))?;
        file.expect_pages(differing.len());
        let mut page = vec![0; self.sums.page_size() as usize];
        for pgno in differing {
            read_page(self.marks.idle(), *pgno, &mut page)?;
            file.announced_page(*pgno, &page, self.sums.get(*pgno).unwrap_or_default())?;
        }
        file.publish()?;
        Ok(())
    }
}
