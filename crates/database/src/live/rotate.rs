//! Letting the log go: moving the mark, WAL checkpoints, and the moment in which the log may start over.
//!
//! A log starts over when everything in it is in the database file and nobody reads from it. So: mark to the end,
//! PASSIVE, and a new mark; if nobody committed in between, that mark reads the database file only and the next
//! writer starts over. Under a writer that never pauses this is done with the write lock held for the last frames,
//! once the log is past its limit, and only then.

use super::{IDLE_AFTER, Live, ROTATE_BYTES, SealError};
use crate::wal;
use std::time::Duration;

/// How often it is tried to let a long log go while its writer is busy.
const ROTATE_EVERY: Duration = Duration::from_millis(200);
/// How often the mark is moved in one go to win an idle moment.
const TRIES: u32 = 3;
/// Pages that are held in memory, at most, so that the log can be let go before they are sealed.
const KEEP_PAGES_MAX: usize = 1024;
/// Frames that may remain to be copied while the write lock is held.
const LOCKED_FRAMES_MAX: u32 = 512;

impl Live {
    /// Moves the mark to the end of the log.
    pub(super) fn advance(&mut self) -> Result<(), SealError> {
        let Some(began) = busy_is_none(self.marks.begin_other())? else { return Ok(()) };
        if !self.follow(began.at)? {
            self.marks.cancel_other();
            return Ok(());
        }
        if began.may_be_zero && self.tail.needs_log() {
            if self.tail.len() > KEEP_PAGES_MAX {
                self.marks.cancel_other();
                return Ok(());
            }
            self.keep_tail()?;
        }
        self.marks.switch(began);
        Ok(())
    }

    /// Whether nothing keeps the log from starting over, as far as Stead is concerned.
    pub(super) fn log_is_free(&self) -> bool {
        self.marks.may_be_zero() && self.marks.at() == self.log.at()
    }

    /// After a seal, or in an idle moment: backfill, and let the log go when it is long or idle.
    pub(super) fn keep_log_short(&mut self, now: Duration) -> Result<(), SealError> {
        if self.log_is_free() || self.difference_due.is_some() {
            return Ok(());
        }
        let bytes = wal::end_offset(self.log.at().frame, self.sums.page_size());
        let idle = now.saturating_sub(self.last_change) >= IDLE_AFTER && self.tail.is_empty();
        if bytes > self.limits.wal_limit_bytes {
            return self.rotate_locked();
        }
        if idle || (bytes > ROTATE_BYTES && now >= self.rotate_at) {
            self.rotate_at = now + ROTATE_EVERY;
            self.rotate()?;
        }
        Ok(())
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

    /// An application that waits for Stead's mark in its own FULL, RESTART or TRUNCATE checkpoint is let through.
    ///
    /// It holds the write lock meanwhile, so the end of the log stays where it is.
    pub(super) fn let_checkpointer_pass(&mut self) -> Result<(), SealError> {
        if self.log_is_free() {
            return Ok(());
        }
        let (Some(writer), Some(checkpointer)) = (self.locks.writer(), self.locks.checkpointer()) else {
            return Ok(());
        };
        if writer != checkpointer {
            return Ok(());
        }
        if self.tail.len() > KEEP_PAGES_MAX {
            self.seal()?;
        }
        self.advance()
    }
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
