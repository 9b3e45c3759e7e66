//! Letting the log go: moving the mark, WAL checkpoints, and the moment in which the log may start over.
//!
//! A log starts over when everything in it is in the database file and nobody reads from it. So: mark to the end,
//! PASSIVE, and a new mark; if nobody committed in between, that mark reads the database file only and the next
//! writer starts over. Under a writer that never pauses this is done with the write lock held for the last frames,
//! once the log is past its limit, and only then.

use super::{Began, Live, ROTATE_BYTES, Reads, SealError};
use crate::sqlite::WalIndex;
use crate::tail::Tail;
use crate::wal::{self, WalPosition};
use std::time::Duration;

/// How often it is tried to let a long log go while its writer is busy.
const ROTATE_EVERY: Duration = Duration::from_millis(200);
/// How often the mark is moved in one go to win an idle moment.
const TRIES: u32 = 3;
/// Pages that are held in memory, at most, so that the log can be let go before they are sealed.
const KEEP_PAGES_MAX: usize = 1024;
/// How long a checkpointer waits until the mark is given up for it: it may wait for the very mark that was given back and
/// taken again, and which of two equal marks is held cannot be told. Longer than SQLite sleeps between two tries.
const PASS_AFTER: Duration = Duration::from_millis(150);
/// Frames that may remain to be copied while the write lock is held.
const LOCKED_FRAMES_MAX: u32 = 512;

impl Live {
    /// Moves the mark to the end of the log.
    pub(super) fn advance(&mut self) -> Result<(), SealError> {
        let Some(began) = busy_is_none(self.marks.begin_other(&*self.locks))? else { return Ok(()) };
        let ready = self.ready_for(began);
        match ready {
            Ok(true) => self.marks.switch(began),
            Ok(false) | Err(_) => self.marks.cancel_other(),
        }
        ready.map(|_| ())
    }

    /// Captures to where the other reader began, and what the log may forget there.
    fn ready_for(&mut self, began: Began) -> Result<bool, SealError> {
        if !self.follow(began.at)? {
            return Ok(false);
        }
        if began.reads != Reads::Log && self.tail.needs_log() {
            if self.tail.len() > KEEP_PAGES_MAX {
                return Ok(false);
            }
            self.keep_tail()?;
        }
        Ok(true)
    }

    /// Whether nothing keeps the log from starting over, as far as Stead is concerned.
    pub(super) fn log_is_free(&self) -> bool {
        self.marks.is_zero() && self.marks.at() == self.log.at()
    }

    /// After a seal, or in an idle moment: backfill, and let the log go when it is long or idle.
    pub(super) fn keep_log_short(&mut self, now: Duration) -> Result<(), SealError> {
        if self.log_is_free() || self.difference_due.is_some() {
            return Ok(());
        }
        let bytes = wal::end_offset(self.log.at().frame, self.sums.page_size());
        let idle = now.saturating_sub(self.last_change) >= self.idle_after() && self.tail.is_empty();
        if bytes > self.limits.wal_limit_bytes {
            if self.sealing_fails() && self.tail.len() > KEEP_PAGES_MAX {
                self.broke("the write-ahead log reached its limit while nothing could be sealed");
                self.tail = Tail::after(self.sums.pages());
                return self.let_go_unsealed(now);
            }
            return self.rotate_locked();
        }
        if idle || (bytes > ROTATE_BYTES && now >= self.rotate_at) {
            self.rotate_at = now + ROTATE_EVERY;
            self.rotate()?;
        }
        Ok(())
    }

    /// Lets a log go that is past its limit although it could not be sealed: a page diff is due, so nothing is lost but
    /// the moments in between.
    pub(super) fn let_go_unsealed(&mut self, now: Duration) -> Result<(), SealError> {
        if now < self.rotate_at {
            return Ok(());
        }
        self.rotate_at = now + ROTATE_EVERY;
        for _ in 0..TRIES {
            let Some(index) = self.index() else { return Ok(()) };
            let bytes = wal::end_offset(index.end.frame, self.sums.page_size());
            if self.marks.is_zero() && self.marks.at() == index.end || bytes <= self.limits.wal_limit_bytes {
                return Ok(());
            }
            if !self.move_blindly()? || busy_is_none(self.marks.idle().checkpoint_passive())?.is_none() {
                return Ok(());
            }
            if !self.move_blindly()? {
                return Ok(());
            }
        }
        Ok(())
    }

    fn move_blindly(&mut self) -> Result<bool, SealError> {
        let began = busy_is_none(self.marks.begin_other(&*self.locks))?;
        began.map(|began| self.marks.switch(began)).map_or(Ok(false), |()| Ok(true))
    }

    /// Tries to let the log go without a lock.
    pub(super) fn rotate(&mut self) -> Result<(), SealError> {
        for _ in 0..TRIES {
            self.advance()?;
            if self.difference_due.is_some() || self.log_is_free() {
                return Ok(());
            }
            if busy_is_none(self.marks.idle().checkpoint_passive())?.flatten().is_none() {
                return Ok(());
            }
            self.advance()?;
            if self.difference_due.is_some() || self.log_is_free() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Lets the log go under the write lock. Most of the work is done before; writers wait for the rest only.
    fn rotate_locked(&mut self) -> Result<(), SealError> {
        self.rotate()?;
        let Some(index) = self.index() else { return Ok(()) };
        let rest = index.end.frame.saturating_sub(index.backfilled);
        if self.log_is_free() || self.difference_due.is_some() || rest > LOCKED_FRAMES_MAX {
            return Ok(());
        }
        if busy_is_none(self.worker.sql().execute_batch("BEGIN IMMEDIATE"))?.is_none() {
            return Ok(());
        }
        let done = self.rotate();
        self.worker.end_read();
        done
    }

    /// An application that waits for Stead's mark in its own FULL, RESTART or TRUNCATE checkpoint is let through. `true`:
    /// no mark is held.
    ///
    /// It holds the write lock meanwhile, so the end of the log stays where it is.
    pub(super) fn let_checkpointer_pass(
        &mut self,
        index: &WalIndex,
        now: Duration,
    ) -> Result<bool, SealError> {
        if self.log_is_free() || !self.checkpointer_waits(index) {
            self.passing_since = None;
            return Ok(false);
        }
        let waited = now.saturating_sub(*self.passing_since.get_or_insert(now));
        let in_its_way = waited >= PASS_AFTER;
        if !in_its_way && !may_move(self.marks.at(), self.marks.is_zero(), index) {
            return Ok(false);
        }
        self.passing_since = Some(now);
        if self.tail.len() > KEEP_PAGES_MAX && !self.sealing_fails() {
            self.seal()?;
        }
        if in_its_way && self.let_go_for_checkpointer(index, now)? {
            return Ok(true);
        }
        self.advance()?;
        Ok(false)
    }

    /// Whether one process holds both locks at once, and not one after the other: an application whose commits are each
    /// followed by a WAL checkpoint of its own does that, and pays for every step of the mark with two syncs.
    fn checkpointer_waits(&mut self, index: &WalIndex) -> bool {
        let writer = self.locks.writer();
        writer.is_some()
            && self.locks.checkpointer() == writer
            && self.locks.writer() == writer
            && self.marks.held_mut().wal_index().is_some_and(|now| now.change == index.change)
    }
}

/// Whether the mark can be moved while a checkpointer waits, without getting in its way.
///
/// It goes through the marks 1 to 4 in turn and waits for each that is held, whatever is written there meanwhile: who
/// moves to the very mark that it waits for is never let go. So a mark is moved when those before it are behind the
/// checkpointer, which has set them to the end of the log or to none.
fn may_move(at: WalPosition, is_zero: bool, index: &WalIndex) -> bool {
    if at == index.end {
        return index.backfilled >= at.frame;
    }
    if is_zero || at.salts != index.end.salts {
        return true;
    }
    let held = index.marks.iter().rposition(|mark| *mark == at.frame).unwrap_or(0);
    index.marks[..held].iter().all(|mark| *mark >= index.end.frame)
}

/// Somebody in the way is no error: it is tried again at the next look.
pub(super) fn busy_is_none<T>(result: rusqlite::Result<T>) -> rusqlite::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(rusqlite::Error::SqliteFailure(error, _))
            if matches!(
                error.code,
                rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::Salts;

    const NONE: u32 = u32::MAX;

    fn at(frame: u32) -> WalPosition {
        WalPosition { salts: Salts(1, 1), frame }
    }

    fn index(frame: u32, backfilled: u32, marks: [u32; 4]) -> WalIndex {
        WalIndex { end: at(frame), pages: 2, change: 7, backfilled, marks }
    }

    #[test]
    fn a_mark_is_not_moved_to_where_a_checkpointer_waits() {
        // Mark 1 was held when the checkpointer came and is free now: it will take it at its next try.
        assert!(!may_move(at(9), false, &index(10, 0, [3, 9, NONE, NONE])));
        assert!(may_move(at(9), false, &index(10, 0, [10, 9, NONE, NONE])), "it has passed mark 1");
        assert!(may_move(at(3), false, &index(10, 0, [3, 9, NONE, NONE])), "it waits for this one");
        assert!(!may_move(at(4), false, &index(10, 0, [4, 4, NONE, NONE])), "one of them is held");
    }

    #[test]
    fn a_mark_at_the_end_is_moved_once_everything_is_in_the_file() {
        assert!(!may_move(at(10), false, &index(10, 3, [10, 9, NONE, NONE])));
        assert!(may_move(at(10), false, &index(10, 10, [10, 10, NONE, NONE])));
    }

    #[test]
    fn a_mark_in_the_file_is_always_moved() {
        assert!(may_move(at(9), true, &index(10, 9, [3, 9, NONE, NONE])));
        let before = WalPosition { salts: Salts(9, 9), frame: 9 };
        assert!(may_move(before, false, &index(10, 0, [0, NONE, NONE, NONE])), "the log started over");
    }
}
