//! One live database: captured, sealed, its log held and let go.
//!
//! ```text
//! joined ─▶ following ◀──────────────┐
//!             │  ▲                    │
//!   log broke │  └─ capture, seal, ───┘
//!             ▼     advance, rotate
//!          difference due ── page diff sealed ─▶ following
//! ```
//!
//! Invariant: one of two connections holds a read transaction (`marks`), and everything up to where it began has been
//! captured. While it does, the log cannot start over, or (where it began with everything in the database file) can
//! start over exactly once and exactly there. So a change of salts is either that, and capture goes on at frame 1 of
//! the new log, or a break, answered by a page diff, never by a full copy. Only between two looks may there be no mark,
//! for a moment (`loose`): what happened meanwhile is read and counted before one is taken again, or compared.
//!
//! Nothing here waits or sleeps: [`Live::service`] looks, acts and says when to look again.

mod apply;
mod capture;
mod forward;
mod identity;
mod join;
mod loose;
mod marks;
mod rotate;
pub(crate) mod scan;
mod seal;
mod state;

pub use apply::{ApplyError, Differing, Pages, Turned};
pub(crate) use apply::{cookie_of, set_cookie};
pub use identity::Beside;
pub use join::{Found, JoinError, Joined};
pub use scan::{Scan, scan, sealed_reader};
pub use seal::SealError;
pub use state::Place;

use crate::history::History;
use crate::machine::{Locks, Machine};
use crate::sqlite::{Participant, WalIndex};
use crate::sums::Sums;
use crate::tail::Tail;
use crate::wal::WalPosition;
use base::{Epoch, Position, Txid};
use capture::Log;
use loose::Loose;
use marks::Marks;
use std::sync::Arc;
use std::time::Duration;

/// Bounds on one database's capture.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a commit may wait for its seal; zero seals at once.
    pub sync_interval: Duration,
    /// The log is let go under a lock when it is longer than this and its writer never pauses.
    pub wal_limit_bytes: u64,
    /// How many frames the application's own WAL checkpoint usually finds in the log.
    pub checkpoint_frames: u32,
    /// The right to write, recorded in each file.
    pub epoch: Epoch,
}

/// The log is let go in an idle moment once it is longer than this.
const ROTATE_BYTES: u64 = 4 << 20;
/// A tail of this many bytes is sealed without waiting for the interval.
const TAIL_BYTES_MAX: u64 = 64 << 20;
/// A database is idle when nothing was committed for this long; then its log is let go and it is only watched.
const IDLE_AFTER: Duration = Duration::from_secs(2);
/// How often a busy database is looked at, at least.
const LOOK_BUSY: Duration = Duration::from_millis(10);
/// How often a busy database is looked at when each commit is to be sealed at once.
const LOOK_EAGER: Duration = Duration::from_micros(500);
/// How often a database is looked at that has paused but is not idle yet.
const LOOK_PAUSED: Duration = Duration::from_millis(50);
/// How often a database is looked at whose log cannot be let go because others still read it.
const LOOK_HELD: Duration = Duration::from_secs(1);
/// How soon to look again when somebody was in the way.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// How often the log's index may be unreadable in a row before the cause is asked for.
const UNREADABLE_MAX: u32 = 50;
/// A database counts as busy this long after a commit.
const BUSY_FOR: Duration = Duration::from_millis(250);
/// How soon a failed seal is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How soon a failed page diff is tried again: it reads every page.
const RETRY_DIFFERENCE_AFTER: Duration = Duration::from_secs(5);

/// When to look at a database again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Then (boot time).
    At(Duration),
    /// When its files change; a watch is to be armed, then looked at once more before sleeping.
    OnChange,
}

/// A database that is followed.
#[derive(Debug)]
pub struct Live {
    place: Place,
    machine: Machine,
    limits: Limits,
    history: Arc<History>,
    marks: Marks,
    worker: Participant,
    log: Log,
    tail: Tail,
    sums: Sums,
    txid: Txid,
    /// Why the log alone no longer tells what changed.
    difference_due: Option<String>,
    retry_at: Duration,
    rotate_at: Duration,
    dirty_since: Option<Duration>,
    /// Since when a checkpointer has waited for the mark where it is.
    passing_since: Option<Duration>,
    loose: Loose,
    last_change: Duration,
    unsaved_pages: u64,
    /// How often in a row the log's index could not be read.
    unreadable: u32,
    inode: u64,
    device: u64,
    beside: Beside,
    rest: Option<identity::Rest>,
    /// Where the log was rolled forward to a seal, and which.
    rolled_to: Option<state::Cursor>,
    /// Dropped after every connection: closing its descriptor drops the locks of the process.
    locks: Box<dyn Locks>,
}

impl Live {
    /// Where it lies.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Its files.
    pub fn history(&self) -> &Arc<History> {
        &self.history
    }

    /// The last seal.
    pub fn position(&self) -> Position {
        Position { incarnation: self.place.incarnation, txid: self.txid, checksum: self.sums.rolling() }
    }

    /// Pages and bytes a page at the last seal.
    pub fn size(&self) -> (u32, u32) {
        (self.sums.pages(), self.sums.page_size())
    }

    /// What is sealed from now on is sealed under this right to write.
    pub fn set_epoch(&mut self, epoch: Epoch) {
        self.limits.epoch = epoch;
    }

    /// Since when (boot time) something is committed that is not sealed.
    pub fn dirty_since(&self) -> Option<Duration> {
        self.dirty_since
    }

    /// Why a page diff is due, if one is.
    pub fn difference_due(&self) -> Option<&str> {
        self.difference_due.as_deref()
    }

    /// The last seal that was tried failed.
    pub fn sealing_fails(&self) -> bool {
        !self.retry_at.is_zero()
    }

    /// The checksums at the last seal.
    pub fn sums(&self) -> &Sums {
        &self.sums
    }

    /// Who else holds the write lock now.
    pub fn writer(&self) -> Option<crate::machine::Holder> {
        self.locks.writer()
    }

    /// The log's index; `None` while a writer is changing it.
    ///
    /// One that a writer was changing as it died stays unreadable until somebody begins to read: SQLite then rebuilds it.
    pub fn index(&mut self) -> Option<WalIndex> {
        // What keeps the mark from being taken is met again, and told, at the next look.
        self.hold().ok()?;
        self.peek()
    }

    fn peek(&mut self) -> Option<WalIndex> {
        let index = self.marks.held_mut().wal_index();
        if index.is_some() || self.locks.writer().is_some() {
            return index;
        }
        self.marks.begin_other(&*self.locks).ok()?;
        self.marks.cancel_other();
        self.marks.held_mut().wal_index()
    }

    /// How far the log has been captured.
    pub fn captured(&self) -> WalPosition {
        self.log.at()
    }

    /// The inode of the file that is followed.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// The file system that it lies on.
    pub fn device(&self) -> u64 {
        self.device
    }

    /// The next look will only read what is new in the log: nothing that could take long.
    pub fn looks_quickly(&self) -> bool {
        let eager = self.limits.sync_interval.is_zero();
        let log = crate::wal::end_offset(self.log.at().frame, self.sums.page_size());
        self.is_busy()
            && !eager
            && self.difference_due.is_none()
            && log < ROTATE_BYTES
            && self.tail_bytes() < TAIL_BYTES_MAX / 2
    }

    /// Captures to this end of the log and seals; `false`: the log broke, a page diff is due.
    pub fn seal_to(&mut self, end: WalPosition) -> Result<bool, SealError> {
        self.hold()?;
        if self.difference_due.is_some() || !self.follow(end)? {
            return Ok(false);
        }
        let now = self.machine.clock.boottime();
        self.seal_or_retry(now)?;
        Ok(self.difference_due.is_none())
    }

    /// Somebody writes: it is looked at until it has been idle again.
    pub fn stir(&mut self) {
        self.last_change = self.machine.clock.boottime();
    }

    /// Looks, acts, and says when to look again.
    pub fn service(&mut self) -> Result<Wake, SealError> {
        let now = self.machine.clock.boottime();
        if self.difference_due.is_some() {
            if now < self.retry_at {
                self.let_go_unsealed(now)?;
                return Ok(Wake::At(self.retry_at.min(self.rotate_at)));
            }
            self.retry_at = now + RETRY_DIFFERENCE_AFTER;
            self.seal_difference()?;
            return Ok(Wake::At(now));
        }
        let Some(mut index) = self.peek() else { return self.unreadable(now) };
        self.unreadable = 0;
        if self.marks.is_let_go() {
            if let Some(wake) = self.look_loose(&index, now)? {
                return Ok(wake);
            }
            let Some(marked) = self.peek() else { return Ok(Wake::At(now + LOOK_AGAIN)) };
            index = marked;
        }
        if self.difference_due.is_some() {
            return Ok(Wake::At(now));
        }
        if !self.follow(index.end)? {
            return Ok(Wake::At(now));
        }
        self.note_changes(now);
        if self.let_checkpointer_pass(&index, now)? {
            return Ok(Wake::At(now + LOOK_AGAIN));
        }
        if self.marks.may_be_zero() && self.marks.at() != self.log.at() {
            self.advance()?;
        }
        self.make_room(&index)?;
        let eager = self.limits.sync_interval.is_zero() && !self.tail.is_empty();
        if (eager || self.tail_bytes() > TAIL_BYTES_MAX) && now >= self.retry_at {
            self.seal_or_retry(now)?;
        }
        if self.let_writer_pass(&index, now)? {
            return Ok(Wake::At(now + self.loose_look()));
        }
        self.keep_log_short(now)?;
        self.note_rest();
        let next = self.next_look(now);
        if next == Wake::OnChange {
            self.empty_log()?;
        }
        Ok(next)
    }

    /// A commit is being written, for a moment; what lasts longer is a fault, and is named.
    fn unreadable(&mut self, now: Duration) -> Result<Wake, SealError> {
        self.unreadable = (self.unreadable + 1).min(UNREADABLE_MAX);
        if self.unreadable == UNREADABLE_MAX {
            self.marks.begin_other(&*self.locks)?;
            self.marks.cancel_other();
        }
        Ok(Wake::At(now + LOOK_AGAIN * self.unreadable))
    }

    fn note_changes(&mut self, now: Duration) {
        if self.log.take_moved() {
            self.last_change = now;
        }
        if self.tail.is_empty() {
            self.dirty_since = None;
        } else if self.dirty_since.is_none() {
            self.dirty_since = Some(now);
        }
    }

    fn seal_or_retry(&mut self, now: Duration) -> Result<(), SealError> {
        let sealed = self.seal();
        if sealed.is_err() {
            self.retry_at = now + RETRY_AFTER;
        }
        sealed.map(|_| ())
    }

    /// Something was committed just now.
    pub fn is_busy(&self) -> bool {
        self.quiet_for(self.machine.clock.boottime()) < BUSY_FOR
    }

    fn quiet_for(&self, now: Duration) -> Duration {
        now.saturating_sub(self.last_change)
    }

    fn next_look(&self, now: Duration) -> Wake {
        let quiet = self.quiet_for(now);
        if quiet < BUSY_FOR {
            let eager = self.limits.sync_interval.is_zero();
            return Wake::At(now + if eager { LOOK_EAGER } else { self.busy_look(now) });
        }
        if self.passing_since.is_some() {
            return Wake::At(now + LOOK_BUSY);
        }
        if quiet < self.idle_after() || !self.tail.is_empty() {
            return Wake::At(now + LOOK_PAUSED);
        }
        if self.log_is_free() { Wake::OnChange } else { Wake::At(now + LOOK_HELD) }
    }

    /// Where each commit is to be sealed at once, a database is soon only watched: the watch is quicker than a look.
    fn idle_after(&self) -> Duration {
        if self.limits.sync_interval.is_zero() { BUSY_FOR } else { IDLE_AFTER }
    }

    fn tail_bytes(&self) -> u64 {
        self.tail.len() as u64 * u64::from(self.sums.page_size())
    }
}

/// A mark that a reader holds.
#[derive(Clone, Copy, Debug)]
struct Began {
    at: WalPosition,
    /// SQLite's counter of transactions there.
    change: Option<u32>,
    reads: Reads,
}

/// What a reader reads at its mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reads {
    /// The log, which cannot start over meanwhile.
    Log,
    /// The log or the file only: a WAL checkpoint was under way. The log may start over, or may not be able to.
    Unknown,
    /// The file only: the log may start over, once.
    File,
}
