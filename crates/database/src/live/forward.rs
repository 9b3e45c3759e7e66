//! After a power loss: recognising a file that has lost what was sealed from it, and giving that back.

use super::capture::{Log, read_header};
use super::join::JoinError;
use super::scan::scan;
use super::state::{Attached, Cursor};
use super::{Live, Pages};
use crate::history::{History, SealedFile};
use crate::tail::Tail;
use crate::wal::{self, FRAME_HEADER_LEN, Salts, WalPosition};
use base::{Pgno, Txid, disk};
use std::collections::BTreeSet;
use std::sync::Arc;

impl Live {
    /// The log ends before what was sealed from it: the seal to roll forward from.
    ///
    /// What it has beyond that seal must be part of what was sealed, not the work of somebody who wrote after a power
    /// loss: it wrote only pages that were sealed, or nobody wrote since the machine started. (A page that was changed
    /// and changed back between two seals is in neither.)
    pub(super) fn prefix_of_sealed(&self, last: &SealedFile, untouched: bool) -> Option<Txid> {
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
            return Some(from.unwrap_or(Txid::ZERO));
        }
        let from = from?;
        let changed: BTreeSet<Pgno> =
            self.history.changed(from, last.header.max_txid).ok()?.into_iter().collect();
        self.pages_of_frames(boundary, here.frame)?.is_subset(&changed).then_some(from)
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

    fn pages_of_frames(&self, after: u32, upto: u32) -> Option<BTreeSet<Pgno>> {
        let mut head = [0; FRAME_HEADER_LEN as usize];
        let mut pages = BTreeSet::new();
        for frame in after + 1..=upto {
            self.marks.held().read_wal(&mut head, wal::frame_offset(frame, self.sums.page_size())).ok()?;
            pages.insert(Pgno(u32::from_be_bytes([head[0], head[1], head[2], head[3]])));
        }
        Some(pages)
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

    /// Writes what was sealed last back into the file, wherever it differs, then compares all pages.
    pub(super) fn roll_forward(&mut self, attached: Option<&Attached>) -> Result<(), JoinError> {
        self.note_rolling(attached)?;
        let history = Arc::clone(&self.history);
        let failed = |error: &dyn std::fmt::Display| JoinError::Failed(format!("rolling forward: {error}"));
        let differing = scan(self.marks.held(), &self.sums)?.differing;
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

    /// A crash while it is rolled forward leaves a log that was written since the boot, by nobody else.
    fn note_rolling(&self, attached: Option<&Attached>) -> Result<(), JoinError> {
        let Some(attached) = attached else { return Ok(()) };
        let rolling = Attached { rolling: Some(self.machine.kernel.boot_id()), ..attached.clone() };
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
