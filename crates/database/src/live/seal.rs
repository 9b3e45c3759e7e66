//! Sealing: the open tail becomes one LTX file, the newest version of each changed page.

use super::{Live, ROTATE_BYTES};
use crate::sqlite::{Participant, ReadError};
use crate::sums::Sums;
use crate::tail::{Changed, Source};
use crate::wal::{self, FRAME_HEADER_LEN};
use base::{Checksum, Pgno, Txid};
use std::io;

/// Checksums are saved for a quick start once this many pages changed since.
const SAVE_SUMS_AFTER_PAGES: u64 = 16_384;

/// Bytes of the log read at a time when its pages are sealed.
const READ_BYTES: usize = 256 << 10;

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
    History(crate::history::SealError),
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

impl From<crate::history::SealError> for SealError {
    fn from(error: crate::history::SealError) -> SealError {
        match error {
            crate::history::SealError::Changed { page, now, was } => {
                SealError::Changed { page: page.0, now, was }
            }
            error => SealError::History(error),
        }
    }
}

impl SealError {
    /// Whether the disk is full.
    pub fn disk_full(&self) -> bool {
        match self {
            SealError::History(error) => error.is_disk_full(),
            SealError::State(error) => base::disk::is_full(error),
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
        let mut file = self.history.begin(self.header(commit, before))?;
        file.expect_pages(changed.len());
        let mut frames = Frames::new(self.sums.page_size());
        for some in changed.chunks(frames.at_once) {
            frames.read(self.marks.held(), some.iter().map(|(_, changed)| &changed.source))?;
            for (at, (pgno, changed)) in some.iter().enumerate() {
                let page = match &changed.source {
                    Source::Frame(_) => frames.page(at),
                    Source::Kept(kept) => kept,
                };
                file.announced_page(*pgno, page, changed.sum)?;
            }
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

/// Frames of the log on their way into a file: read some at a time, side by side where they lie so.
struct Frames {
    page_size: u32,
    /// How many are read at a time.
    at_once: usize,
    /// Ascending: a frame, and which of those asked for it is.
    wanted: Vec<(u32, usize)>,
    /// Where in `bytes` the page of each lies.
    places: Vec<usize>,
    bytes: Vec<u8>,
}

impl Frames {
    fn new(page_size: u32) -> Frames {
        let at_once = (READ_BYTES / wal::frame_len(page_size)).max(1);
        Frames { page_size, at_once, wanted: Vec::new(), places: Vec::new(), bytes: Vec::new() }
    }

    /// Reads those that lie in the log, at most `at_once`.
    fn read<'a>(
        &mut self,
        reader: &Participant,
        sources: impl Iterator<Item = &'a Source>,
    ) -> Result<(), ReadError> {
        let frame_len = wal::frame_len(self.page_size);
        self.wanted.clear();
        self.places.clear();
        for (at, source) in sources.enumerate() {
            self.places.push(0);
            if let Source::Frame(frame) = source {
                self.wanted.push((*frame, at));
            }
        }
        self.wanted.sort_unstable();
        self.bytes.resize(self.bytes.len().max(self.wanted.len() * frame_len), 0);
        let mut read = 0;
        for run in self.wanted.chunk_by(|(one, _), (next, _)| one + 1 == *next) {
            let bytes = &mut self.bytes[read..read + run.len() * frame_len];
            reader.read_wal(bytes, wal::frame_offset(run[0].0, self.page_size))?;
            for (_, at) in run {
                self.places[*at] = read + FRAME_HEADER_LEN as usize;
                read += frame_len;
            }
        }
        Ok(())
    }

    /// The page of the one asked for as number `at`, from 0.
    fn page(&self, at: usize) -> &[u8] {
        &self.bytes[self.places[at]..][..self.page_size as usize]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_as_asked_for_whatever_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let app = rusqlite::Connection::open(&path).unwrap();
        app.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x)").unwrap();
        let rows = "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40) SELECT randomblob(3000) FROM n";
        app.execute_batch(&format!("INSERT INTO t {rows}")).unwrap();
        let mut reader = Participant::open(&path, None).unwrap();
        let end = reader.begin_read().unwrap().at.frame;
        assert!(end > 40);
        let mut frames = Frames::new(4096);
        for asked in [vec![1, 2, 3], vec![9, 8, 10, 1, 30, 31, 29], vec![end], vec![]] {
            let mut sources: Vec<Source> = asked.iter().copied().map(Source::Frame).collect();
            sources.insert(sources.len() / 2, Source::Kept(Box::default()));
            frames.read(&reader, sources.iter()).unwrap();
            for (at, source) in sources.iter().enumerate() {
                let Source::Frame(frame) = source else { continue };
                let mut alone = vec![0; 4096];
                reader.read_wal(&mut alone, wal::frame_offset(*frame, 4096) + FRAME_HEADER_LEN).unwrap();
                assert!(frames.page(at) == alone, "frame {frame} of {asked:?}");
            }
        }
    }
}
