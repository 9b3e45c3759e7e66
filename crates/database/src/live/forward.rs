//! After a power loss: recognising a file that has lost what was sealed from it, and giving that back.

use super::capture::{Log, read_header};
use super::join::{Found, JoinError};
use super::scan::{Scan, scan};
use super::state::{Attached, Cursor, Rolling};
use super::{Live, Pages};
use crate::history::{History, SealedFile};
use crate::tail::Tail;
use crate::wal::{self, FRAME_HEADER_LEN, Salts, WalPosition};
use base::{Pgno, Txid, disk};
use std::sync::Arc;

/// What a log tells that ends before what was sealed from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shortened {
    /// The seals after this one are missing, and nothing else happened.
    Lost(Txid),
    /// The seals after this one are missing, and what is there instead may be somebody's work.
    WrittenSince(Txid),
}

impl Live {
    /// Whether the log ends before what was sealed from it, and how.
    ///
    /// What it has beyond a seal may be a part of what was sealed next, or the work of somebody who wrote after a power
    /// loss. Frames alone do not tell which. It is the former where nobody wrote since the machine started.
    pub(super) fn shortened(&self, last: &SealedFile, untouched: bool) -> Option<Shortened> {
        let (sealed, mut here) = (self.end_of(last)?, self.marks.at());
        if here == WalPosition::default()
            && let Some(header) = read_header(self.marks.held())
        {
            // SQLite does not read a log that is nothing but its header.
            here.salts = header.salts;
        }
        if sealed.salts != here.salts || here.frame >= sealed.frame {
            return None;
        }
        let files = sealed_files(&self.history);
        let (mut from, mut boundary) = (None, 0);
        for header in &files {
            match wal_end(header) {
                Some(end) if end.salts == here.salts => {
                    if end.frame > here.frame || !self.claims(end, header.wal_frame_checksum) {
                        break;
                    }
                    (from, boundary) = (Some(header.max_txid), end.frame);
                }
                // An earlier log, or none yet: all of it was in the file, durably, before this one began.
                _ => (from, boundary) = (Some(header.max_txid), 0),
            }
        }
        if untouched {
            return Some(Shortened::Lost(from.unwrap_or(Txid::ZERO)));
        }
        let from = from?;
        Some(if here.frame == boundary { Shortened::Lost(from) } else { Shortened::WrittenSince(from) })
    }

    /// Nobody has written to the log since the machine started.
    pub(super) fn untouched_since_boot(&self) -> bool {
        let log = disk::sibling(&self.place.file, "-wal");
        let clock = &self.machine.clock;
        let booted_ns = i128::from(clock.now().0) * 1_000_000 - clock.boottime().as_nanos().cast_signed();
        self.machine.disk.metadata(&log).is_ok_and(|at| at.modified_ns < booted_ns)
    }

    fn claims(&self, at: WalPosition, running: u32) -> bool {
        at.frame == 0
            || Log::after(self.marks.held(), at, self.sums.page_size())
                .is_some_and(|log| log.running().0 == running)
    }

    /// The earlier seal that the file adds up to, if it does.
    pub(super) fn earlier_seal(&self) -> Result<Option<Txid>, JoinError> {
        let found = scan(self.marks.held(), &self.sums)?.sums;
        let (sum, pages) = (found.rolling(), found.pages());
        let same = |header: &&ltx::Header| header.checksum_after == sum && header.commit == pages;
        Ok(sealed_files(&self.history).iter().rev().skip(1).find(same).map(|header| header.max_txid))
    }

    /// Where the last seal ends: its header says, unless the log was rolled forward to it.
    fn end_of(&self, last: &SealedFile) -> Option<WalPosition> {
        match self.rolled_to.filter(|cursor| cursor.txid == last.header.max_txid) {
            Some(cursor) => Some(cursor.at()),
            None => wal_end(&last.header),
        }
    }

    /// What is left of rolling forward that a crash interrupted: done, to be done, or overtaken by somebody who wrote.
    pub(super) fn go_on_rolling(
        &mut self,
        last: &SealedFile,
        attached: &Attached,
        begun: Rolling,
    ) -> Result<Found, JoinError> {
        let found = scan(self.marks.held(), &self.sums)?.sums;
        let (since, end) = (begun.since, last.header.max_txid);
        let at = (found.rolling(), found.pages());
        if at == (begun.checksum, begun.pages) {
            self.roll_forward(Some(attached), since)?;
        } else if at == (last.header.checksum_after, last.header.commit) {
            self.difference_due = Some("it was rolled forward from history".into());
        } else {
            return Ok(self.keep_as_written(since, end));
        }
        Ok(Found::RolledForward { since, last: end })
    }

    /// It had lost seals, and somebody built upon what was left.
    pub(super) fn keep_as_written(&mut self, since: Txid, last: Txid) -> Found {
        self.difference_due =
            Some(format!("it had lost what was sealed after txid {since}, and somebody wrote to it since"));
        Found::KeptAsWritten { since, last }
    }

    /// Writes what was sealed last back into the file, wherever it differs, then compares all pages.
    pub(super) fn roll_forward(&mut self, attached: Option<&Attached>, since: Txid) -> Result<(), JoinError> {
        let history = Arc::clone(&self.history);
        let failed = |error: &dyn std::fmt::Display| JoinError::Failed(format!("rolling forward: {error}"));
        let Scan { sums, differing } = scan(self.marks.held(), &self.sums)?;
        let begun = Rolling { since, checksum: sums.rolling(), pages: sums.pages() };
        self.note_rolling(attached, begun)?;
        let plan = history.plan(self.txid).map_err(|error| failed(&error))?;
        let mut pages = plan.reader().map_err(|error| failed(&error))?;
        // Durable at once: nothing is sealed from it, so a second power loss would find no seal to start from.
        self.worker.sql().execute_batch("PRAGMA synchronous=FULL")?;
        let written = self.write_forward(&mut pages, &differing);
        self.worker.sql().execute_batch("PRAGMA synchronous=NORMAL")?;
        written?;
        self.rolled_to = self.end_of_own_commit();
        self.difference_due = Some("it was rolled forward from history".into());
        Ok(())
    }

    fn write_forward(&mut self, pages: &mut dyn Pages, differing: &[Pgno]) -> Result<(), JoinError> {
        let busy = || JoinError::Busy("another process writes to it".into());
        if !self.lock()? {
            return Err(busy());
        }
        let written = if self.index().is_some_and(|index| index.end == self.marks.at()) {
            self.overwrite(pages, differing).map_err(JoinError::from)
        } else {
            Err(busy())
        };
        if let Err(error) = written {
            self.unlock();
            return Err(error);
        }
        Ok(self.commit()?)
    }

    /// Where the commit ends that was written right behind the mark, under the lock. The end of the last seal lies there
    /// from now on, and no longer where the file's header says.
    fn end_of_own_commit(&mut self) -> Option<Cursor> {
        if self.log.at() != self.marks.at() {
            return None;
        }
        for _ in 0..100 {
            if let Some(index) = self.index() {
                let followed = index.end == self.marks.at() || self.follow_one(index.end).ok()?;
                self.tail = Tail::after(self.sums.pages());
                return followed.then(|| self.cursor());
            }
            self.machine.clock.sleep(super::LOOK_AGAIN);
        }
        None
    }

    /// After a crash meanwhile it must be clear that nobody else wrote.
    fn note_rolling(&self, attached: Option<&Attached>, begun: Rolling) -> Result<(), JoinError> {
        let Some(attached) = attached else { return Ok(()) };
        let rolling = Attached { rolling: Some(begun), ..attached.clone() };
        Ok(self.place.attach(&*self.machine.disk, &rolling)?)
    }
}

/// Where in which log a file's last frame lies, as its header says.
pub(super) fn wal_end(header: &ltx::Header) -> Option<WalPosition> {
    if header.wal_offset == 0 {
        return None;
    }
    let bytes = u64::try_from(header.wal_offset + header.wal_size).ok()?.checked_sub(wal::HEADER_LEN)?;
    let frame = bytes / (FRAME_HEADER_LEN + u64::from(header.page_size));
    let salts = Salts(header.wal_salt1, header.wal_salt2);
    Some(WalPosition { salts, frame: u32::try_from(frame).ok()? })
}

/// The headers of all files, one for each position that files lead to, ascending.
fn sealed_files(history: &History) -> Vec<ltx::Header> {
    let mut headers: Vec<ltx::Header> =
        history.files().iter().filter_map(|file| history.header(file)).collect();
    headers.sort_by_key(|header| (header.max_txid, header.min_txid));
    headers.dedup_by_key(|header| header.max_txid);
    headers
}
