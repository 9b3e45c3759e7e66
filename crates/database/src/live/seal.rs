//! Sealing: the open tail becomes one LTX file, the newest version of each changed page.

use super::{Live, ROTATE_BYTES};
use crate::sqlite::ReadError;
use crate::sums::Sums;
use crate::tail::{Changed, Source};
use crate::wal::{self, FRAME_HEADER_LEN};
use base::{Checksum, Pgno, Txid};
use std::io;

/// Checksums are saved for a quick start once this many pages changed since.
const SAVE_SUMS_AFTER_PAGES: u64 = 16_384;

/// Why nothing was sealed. What was committed stays where SQLite put it, and is sealed when the cause is gone.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// SQLite refused; tried again.
    #[error("SQLite: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The log could not be read; tried again.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// The history could not be written: free space or mend the disk; tried again.
    #[error(transparent)]
    History(#[from] crate::history::SealError),
    /// The state beside history could not be written.
    #[error("writing the quick-start state: {0}")]
    State(#[from] io::Error),
    /// The page size changed: it is another incarnation.
    #[error("the page size is {now} now and was {was}")]
    PageSize {
        /// Now.
        now: u32,
        /// In history.
        was: u32,
    },
    /// What was read is not what was captured; a page diff follows.
    #[error("page {page} changed between capture and seal: {now} instead of {was}")]
    Changed {
        /// The page.
        page: u32,
        /// Its checksum now.
        now: Checksum,
        /// Its checksum when captured.
        was: Checksum,
    },
}

impl SealError {
    /// Whether the disk is full.
    pub fn disk_full(&self) -> bool {
        match self {
            SealError::History(error) => error.is_disk_full(),
            SealError::State(error) => {
                matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            SealError::Sqlite(error) => error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull),
            _ => false,
        }
    }
}

impl Live {
    /// Seals what was captured; `None` where nothing changed.
    pub fn seal(&mut self) -> Result<Option<Txid>, SealError> {
        let Some(commit) = self.tail.commit() else { return Ok(None) };
        if let Some(hole) = self.tail.hole(Pgno::lock_page(self.sums.page_size())) {
            self.broke(&format!("page {hole} is new but not in the write-ahead log"));
            return self.seal_difference();
        }
        let changed: Vec<(Pgno, &Changed)> =
            self.tail.pages().filter(|(pgno, changed)| self.sums.get(*pgno) != Some(changed.sum)).collect();
        if changed.is_empty() && commit == self.sums.pages() {
            self.settle();
            return Ok(None);
        }
        let undo = shift(&mut self.sums, commit, changed.iter().map(|(pgno, changed)| (*pgno, changed.sum)));
        let result = self.write_sealed(commit, undo.rolling, &changed);
        let pages = changed.len() as u64;
        if let Err(error) = result {
            undo.revert(&mut self.sums);
            if matches!(error, SealError::Changed { .. }) {
                self.broke("a captured page of the write-ahead log changed");
            }
            return Err(error);
        }
        self.txid = self.txid.next();
        self.settle();
        self.note_sealed_pages(pages);
        Ok(Some(self.txid))
    }

    fn write_sealed(
        &self,
        commit: u32,
        before: Checksum,
        changed: &[(Pgno, &Changed)],
    ) -> Result<(), SealError> {
        let header = self.header(commit, before);
        let mut file = self.history.begin(header)?;
        let mut page = vec![0; self.sums.page_size() as usize];
        for (pgno, changed) in changed {
            match &changed.source {
                Source::Frame(frame) => {
                    let offset = wal::frame_offset(*frame, self.sums.page_size()) + FRAME_HEADER_LEN;
                    self.marks.held().read_wal(&mut page, offset)?;
                }
                Source::Kept(kept) => page.copy_from_slice(kept),
            }
            let now = ltx::page_checksum(*pgno, &page);
            if now != changed.sum {
                return Err(SealError::Changed { page: pgno.0, now, was: changed.sum });
            }
            file.page(*pgno, &page)?;
        }
        file.publish()?;
        Ok(())
    }

    /// The header of the next file: checksums after the change, which `sums` already holds, and before it.
    pub(super) fn header(&self, commit: u32, before: Checksum) -> ltx::Header {
        let (at, page_size) = (self.log.at(), self.sums.page_size());
        let unborn = at.frame == 0 && at.salts == crate::wal::Salts(0, 0);
        let offset = wal::end_offset(self.log.sealed.min(at.frame), page_size);
        let size = wal::end_offset(at.frame, page_size) - offset;
        let next = self.txid.next();
        ltx::Header {
            page_size,
            commit,
            min_txid: next,
            max_txid: next,
            timestamp: self.machine.clock.now(),
            wal_offset: if unborn { 0 } else { i64::try_from(offset).unwrap_or(i64::MAX) },
            wal_size: if unborn { 0 } else { i64::try_from(size).unwrap_or(i64::MAX) },
            wal_salt1: at.salts.0,
            wal_salt2: at.salts.1,
            epoch: self.limits.epoch,
            checksum_after: self.sums.rolling(),
            checksum_before: before,
            wal_frame_checksum: if at.frame == 0 { 0 } else { self.log.running().0 },
        }
    }

    /// Everything captured is sealed.
    pub(super) fn settle(&mut self) {
        self.log.sealed = self.log.at().frame;
        self.tail = crate::tail::Tail::after(self.sums.pages());
        self.dirty_since = None;
        self.retry_at = std::time::Duration::ZERO;
    }

    /// Saves the checksums now and then, so that a start after a crash has little to roll forward.
    pub(super) fn note_sealed_pages(&mut self, pages: u64) {
        self.unsaved_pages += pages;
        let worthwhile = SAVE_SUMS_AFTER_PAGES.max(u64::from(self.sums.pages()) / 8);
        if self.unsaved_pages >= worthwhile && u64::from(self.sums.pages()) * 8 <= 4 * ROTATE_BYTES {
            self.save_sums();
        }
    }
}

/// What a change of checksums replaced.
#[derive(Debug)]
pub(super) struct Undo {
    /// The sum before.
    pub rolling: Checksum,
    pages: u32,
    old: Vec<(Pgno, Option<Checksum>)>,
}

impl Undo {
    /// Takes the change back.
    pub fn revert(self, sums: &mut Sums) {
        sums.resize(self.pages);
        for (pgno, sum) in self.old {
            if pgno.0 <= self.pages {
                sums.set(pgno, sum.unwrap_or(Checksum(0)));
            }
        }
    }
}

/// Changes the checksums to a new size and new pages.
pub(super) fn shift(sums: &mut Sums, pages: u32, changed: impl Iterator<Item = (Pgno, Checksum)>) -> Undo {
    let mut undo = Undo { rolling: sums.rolling(), pages: sums.pages(), old: Vec::new() };
    for gone in pages + 1..=sums.pages() {
        undo.old.push((Pgno(gone), sums.get(Pgno(gone))));
    }
    sums.resize(pages);
    for (pgno, sum) in changed {
        undo.old.push((pgno, sums.get(pgno)));
        sums.set(pgno, sum);
    }
    undo
}
