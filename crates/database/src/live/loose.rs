//! A moment without a mark, so that somebody else can start the log over.
//!
//! SQLite starts a log over when all of it is in the database file and nobody reads from it. Two of its ways need Stead
//! out of the way altogether:
//!
//! - An application that never pauses starts it over by itself, every thousand frames: one commit copies the log, the
//!   next one begins a new one. Under a mark each of its commits would try a WAL checkpoint that achieves nothing, and
//!   write to fresh blocks of the disk. So the mark is let go shortly before.
//! - A FULL, RESTART or TRUNCATE checkpoint waits for readers, one mark after the other, and goes on waiting for one
//!   that was given back and taken again before it looked. Moving the mark lets it through nearly always (`rotate`).
//!
//! Before the mark is let go everything is captured, and kept in memory. Then the log is looked at often, and marked
//! again once it has started over. What is committed meanwhile lies in the new log or, until that has grown over it, in
//! the old one behind the new one's end; capture goes on there by salts and running checksum. That no transaction is
//! missed is proved by SQLite's own counter of transactions, which the index holds: it has grown by exactly as many as
//! were read. Where it has not, a page diff follows. (SQLite repeats the last frame of a commit where it must fill a
//! sector; then commits cannot be counted, which shows while a mark is held, and it is not let go.)

use super::capture::{Keep, Log, Stop};
use super::rotate::busy_is_none;
use super::{Began, LOOK_AGAIN, LOOK_BUSY, Live, Reads, SealError, Wake};
use crate::sqlite::WalIndex;
use crate::wal::{Salts, WalPosition};
use std::time::Duration;

/// How often a log is looked at that no mark holds.
const LOOK_LOOSE: Duration = Duration::from_millis(1);
/// A log that grows by so many frames in the usual time between two looks is written fast.
const FAST_FRAMES: u32 = 5;
/// Frames beyond those expected after which it is clear that nothing starts the log over.
const LATE_FRAMES: u32 = 8;
/// How long no mark is held, at most, while nothing starts the log over.
const LOOSE_FOR: Duration = Duration::from_millis(250);
/// How soon it is let go again after a time that was of no use, doubled each time.
const WAIT_USELESS: Duration = Duration::from_secs(1);
/// How soon it is let go again after a time that ended in a page diff, doubled each time.
const WAIT_BROKEN: Duration = Duration::from_mins(1);
/// The longest that either grows to. Page diffs that are further apart are not counted together.
const WAIT_MAX: Duration = Duration::from_hours(1);
/// Bytes of pages that are kept in memory, at most, before the mark is let go; and of frames read at once after that.
const KEEP_BYTES_MAX: u64 = 8 << 20;

/// For whom the mark was let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LetGo {
    /// For a writer that is about to start the log over.
    ForWriter { since: Duration, from: u32 },
    /// For a checkpointer that waits.
    ForCheckpointer { since: Duration },
}

/// When the mark is let go, and what was counted since.
#[derive(Debug, Default)]
pub(super) struct Loose {
    let_go: Option<LetGo>,
    /// SQLite's counter of transactions where capture stands, by counting; not known before it was read once.
    counted: Option<u32>,
    /// Counting came to what SQLite says before the mark was let go.
    counts: bool,
    /// Capture went on in another log, and it was not found out yet whether anything is missing.
    unproved: bool,
    not_before: Duration,
    useless: u32,
    broken: u32,
    broken_at: Duration,
    /// When the log was looked at last, and how far it was captured.
    looked: (Duration, u32),
    /// Frames by which it grows in the usual time between two looks.
    grows: u32,
}

impl Loose {
    /// The log alone no longer tells what was committed.
    pub fn lose_count(&mut self) {
        self.counted = None;
    }

    /// What was captured is all there was.
    pub fn is_proved(&self) -> bool {
        !self.unproved
    }

    /// A commit was captured.
    pub fn count(&mut self) {
        self.counted = self.counted.map(|counted| counted.wrapping_add(1));
    }

    fn was_useless(&mut self, now: Duration) {
        self.not_before = now + doubled(WAIT_USELESS, &mut self.useless);
    }

    fn was_broken(&mut self, now: Duration) {
        if now.saturating_sub(self.broken_at) > WAIT_MAX * 2 {
            self.broken = 0;
        }
        self.broken_at = now;
        self.not_before = now + doubled(WAIT_BROKEN, &mut self.broken);
    }
}

impl Live {
    /// Measures how fast the log grows.
    fn note_pace(&mut self, now: Duration) {
        let frame = self.log.at().frame;
        let (then, before) = std::mem::replace(&mut self.loose.looked, (now, frame));
        let Some(grown) = frame.checked_sub(before) else { return };
        let time = now.saturating_sub(then).max(Duration::from_micros(100));
        let grows = u128::from(grown) * LOOK_BUSY.as_micros() / time.as_micros();
        self.loose.grows = u32::try_from(grows).unwrap_or(u32::MAX);
    }

    /// So much is written that whatever is asked of a writer counts.
    pub fn writes_fast(&self) -> bool {
        self.is_busy() && self.loose.grows >= FAST_FRAMES
    }

    /// How soon to look again at a busy log, so that its mark is let go in time.
    pub(super) fn busy_look(&self, now: Duration) -> Duration {
        let left = self.let_go_from().saturating_sub(self.log.at().frame);
        if now < self.loose.not_before || left >= self.loose.grows {
            return LOOK_BUSY;
        }
        (LOOK_BUSY * left / self.loose.grows).max(LOOK_LOOSE)
    }

    /// How soon to look again at a log that no mark holds: when the application's WAL checkpoint is expected, then often.
    pub(super) fn loose_look(&self) -> Duration {
        let left = self.limits.checkpoint_frames.saturating_sub(self.log.at().frame);
        let writer = matches!(self.loose.let_go, Some(LetGo::ForWriter { .. }));
        if !writer || self.limits.sync_interval.is_zero() || self.loose.grows == 0 {
            return LOOK_LOOSE;
        }
        (LOOK_BUSY * left / self.loose.grows).clamp(LOOK_LOOSE, LOOK_BUSY)
    }

    /// The frame from which the mark is let go: so many before the application's WAL checkpoint is expected as come in
    /// half of the usual time between two looks.
    fn let_go_from(&self) -> u32 {
        let expected = self.limits.checkpoint_frames;
        expected.saturating_sub(self.loose.grows / 2).max(expected / 2).max(1)
    }

    /// Lets the mark go where a writer is about to start the log over.
    pub(super) fn let_writer_pass(&mut self, index: &WalIndex, now: Duration) -> Result<bool, SealError> {
        self.note_pace(now);
        if self.log.at() != index.end {
            return Ok(false);
        }
        let counted = self.loose.counted.replace(index.change);
        if counted != Some(index.change) {
            if counted.is_some() {
                self.loose.was_broken(now);
            }
            return Ok(false);
        }
        let due = self.log.at().frame >= self.let_go_from() && self.loose.grows > 0;
        if !due || now < self.loose.not_before || self.sealing_fails() || self.marks.may_be_zero() {
            return Ok(false);
        }
        self.loose.counts = true;
        self.let_go(LetGo::ForWriter { since: now, from: index.end.frame })
    }

    /// Lets the mark go where a checkpointer waits for it, whatever it says.
    pub(super) fn let_go_for_checkpointer(
        &mut self,
        index: &WalIndex,
        now: Duration,
    ) -> Result<bool, SealError> {
        if self.log.at() != index.end {
            return Ok(false);
        }
        self.loose.counts = self.loose.counted == Some(index.change);
        self.loose.counted = Some(index.change);
        self.let_go(LetGo::ForCheckpointer { since: now })
    }

    /// Lets the mark go if what was captured can be kept.
    fn let_go(&mut self, whom: LetGo) -> Result<bool, SealError> {
        if self.tail_bytes() > KEEP_BYTES_MAX || self.difference_due.is_some() {
            return Ok(false);
        }
        self.keep_tail()?;
        self.marks.let_go();
        self.loose.let_go = Some(whom);
        Ok(true)
    }

    /// A look at a log that no mark holds. `None`: one does again.
    pub(super) fn look_loose(&mut self, index: &WalIndex, now: Duration) -> Result<Option<Wake>, SealError> {
        let here = index.end.salts == self.log.at().salts && index.end.frame >= self.log.at().frame;
        let mut useless = false;
        let enough = match self.loose.let_go {
            Some(LetGo::ForWriter { since, from }) => {
                let expected = self.limits.checkpoint_frames;
                let passed = index.end.frame.saturating_sub(from.max(expected));
                let late = now.saturating_sub(since) > LOOSE_FOR;
                useless = here && (passed > expected || late && passed > LATE_FRAMES);
                useless || late || self.tail_bytes() > 2 * KEEP_BYTES_MAX
            }
            Some(LetGo::ForCheckpointer { since }) => {
                now.saturating_sub(since) > LOOSE_FOR || self.locks.checkpointer().is_none()
            }
            None => true,
        };
        let read = here
            && !enough
            && self.is_little(index.end.frame)
            && self.read_on(index.end, Stop::AtEnd, Keep::InMemory)?;
        if read {
            self.note_changes(now);
            self.seal_eagerly(now)?;
            return Ok(Some(Wake::At(now + self.loose_look())));
        }
        if self.hold_if_free()?.is_none() {
            return Ok(Some(Wake::At(now + LOOK_AGAIN)));
        }
        if useless && self.difference_due.is_none() {
            self.loose.was_useless(now);
        }
        Ok(None)
    }

    /// Leaves the first of the marks to a fast writer: each of its transactions tries the marks in turn and takes the
    /// first that nobody holds. Where Stead's is the first one, a new mark is another one, once something was committed.
    pub(super) fn make_room(&mut self, index: &WalIndex) -> Result<(), SealError> {
        let at = self.marks.at();
        let is_first = at.salts == index.end.salts && index.marks[0] == at.frame && !self.marks.may_be_zero();
        if is_first && self.writes_fast() && index.end != at {
            self.advance()?;
        }
        Ok(())
    }

    /// Seals at once where that is wanted; a failure is told under a mark.
    fn seal_eagerly(&mut self, now: Duration) -> Result<(), SealError> {
        if !self.limits.sync_interval.is_zero() || self.tail.is_empty() || now < self.retry_at {
            return Ok(());
        }
        if let Err(error) = self.seal_or_retry(now) {
            self.hold_if_free()?;
            return Err(error);
        }
        Ok(())
    }

    /// Whether the frames up to this one can be kept in memory.
    fn is_little(&self, frame: u32) -> bool {
        let frames = frame.saturating_sub(self.log.at().frame);
        u64::from(frames) * u64::from(self.sums.page_size()) <= KEEP_BYTES_MAX
    }

    fn hold_if_free(&mut self) -> Result<Option<()>, SealError> {
        match self.hold() {
            Err(SealError::Sqlite(error)) => Ok(busy_is_none(Err(error))?),
            other => other.map(Some),
        }
    }

    /// Takes a mark again if none is held, and goes on from where capture stood; else a page diff is due.
    pub fn hold(&mut self) -> Result<(), SealError> {
        if !self.marks.is_let_go() {
            return Ok(());
        }
        // Whatever fails on the way, nothing is captured any more before there is a mark.
        let whom = self.loose.let_go.take();
        let began = self.marks.begin_other(&*self.locks)?;
        let over = began.at.salts != self.log.at().salts;
        let whole = if self.difference_due.is_some() { Ok(true) } else { self.go_on_to(began) };
        let Ok(whole) = whole else {
            self.marks.cancel_other();
            return whole.map(drop);
        };
        self.marks.switch(began);
        self.loose.unproved = false;
        tracing::trace!(path = %self.place.path, over, ?whom, at = ?self.log.at(), "the log is marked again");
        let now = self.machine.clock.boottime();
        self.loose.looked = (now, self.log.at().frame);
        if !whole {
            self.broke("the write-ahead log started over before all of it was read");
            self.loose.was_broken(now);
        } else if over {
            self.loose.useless = 0;
            self.save_cursor();
        }
        Ok(())
    }

    /// Captures up to a new mark, through the end of a log that has started over since. `false`: not everything is there.
    fn go_on_to(&mut self, began: Began) -> Result<bool, SealError> {
        let here = self.log.at();
        let over = began.at.salts != here.salts;
        let once = follows(here.salts, began.at.salts);
        if over {
            let end = WalPosition { salts: here.salts, frame: self.end_of_log()? };
            let may_be_all = once || end == here && self.loose.counts;
            if !may_be_all || !self.is_little(end.frame) {
                return Ok(false);
            }
            if !self.read_on(end, Stop::AtEnd, Keep::InMemory)? || self.tail.is_open() {
                return Ok(false);
            }
            // The cursor is saved when the count is known to be right: a start after a crash believes it.
            self.log = Log::at_start(began.at.salts);
            self.loose.unproved = true;
        }
        let keep = if began.reads == Reads::Log { Keep::InLog } else { Keep::InMemory };
        if began.at.frame < self.log.at().frame || keep == Keep::InMemory && !self.is_little(began.at.frame) {
            return Ok(false);
        }
        if !self.read_on(began.at, Stop::AtEnd, keep)? {
            return Ok(false);
        }
        Ok(self.loose.is_proved() || self.loose.counted.is_some() && self.loose.counted == began.change)
    }
}

/// A log that starts over once counts its first salt up by one.
fn follows(before: Salts, now: Salts) -> bool {
    now.0 == before.0.wrapping_add(1)
}

fn doubled(first: Duration, times: &mut u32) -> Duration {
    let wait = first.saturating_mul(1 << (*times).min(16));
    *times = times.saturating_add(1);
    wait.min(WAIT_MAX)
}
