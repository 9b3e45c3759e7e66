//! Joining a database: finding where history and file stand to each other, as cheaply as the evidence allows.
//!
//! | what is found | what follows |
//! |---|---|
//! | no history | page diff against nothing: the first seal holds every page |
//! | the file looks as after the last clean stop, its log is empty | nothing |
//! | the log continues from where the last seal ends (salts, frame, running checksum) | capture goes on there |
//! | the log is a prefix of what was sealed (power loss under `synchronous=NORMAL`) | rolled forward from history |
//! | after a power loss the file adds up to an earlier seal | rolled forward from history |
//! | the log lacks what was sealed, and somebody wrote to it since | page diff: the file stays, both states are history |
//! | anything else | page diff, sealed and reported |
//!
//! After a clean stop everything was in the file, durably: no power loss takes anything of it, and whatever is there is
//! what somebody put there.

use super::capture::Log;
use super::forward::{Shortened, wal_end};
use super::loose::Loose;
use super::marks::Marks;
use super::state::{Attached, Place};
use super::{ApplyError, Beside, Limits, Live, Pages, SealError};
use crate::history::{History, PageReader, PlanError, ReadError, SealedFile};
use crate::machine::Machine;
use crate::sqlite::{Participant, use_wal};
use crate::sums::Sums;
use crate::tail::Tail;
use crate::wal::Salts;
use base::{Pgno, Txid, disk};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// How often checksums are taken anew because a file of history turned out to be damaged.
const REPLANS_MAX: usize = 64;

/// Why a database was not joined.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Somebody holds it exclusively, or is changing it: try again.
    #[error("{0}")]
    Busy(String),
    /// It is no SQLite database that can be followed: replace or remove it.
    #[error("{0}")]
    Unfit(String),
    /// It has another page size than its history: it is another incarnation.
    #[error("the page size is {now} and was {was} in history")]
    OtherIncarnation {
        /// Now.
        now: u32,
        /// In history.
        was: u32,
    },
    /// Its history is damaged beyond telling what the last seal held: go on as another incarnation.
    #[error("its history is damaged: {0}")]
    Damaged(String),
    /// The disk or SQLite failed: try again.
    #[error("{0}")]
    Failed(String),
}

impl From<rusqlite::Error> for JoinError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{DatabaseBusy, DatabaseCorrupt, DatabaseLocked, NotADatabase};
        match error.sqlite_error_code() {
            Some(DatabaseBusy | DatabaseLocked) => JoinError::Busy(
                "another process holds it exclusively (locking_mode=EXCLUSIVE, or a transaction)".into(),
            ),
            Some(NotADatabase) => JoinError::Unfit("it is not a SQLite database, or it is encrypted".into()),
            Some(DatabaseCorrupt) => JoinError::Unfit(format!("SQLite finds it damaged: {error}")),
            _ => JoinError::Failed(error.to_string()),
        }
    }
}

impl From<io::Error> for JoinError {
    fn from(error: io::Error) -> Self {
        JoinError::Failed(error.to_string())
    }
}

impl From<SealError> for JoinError {
    fn from(error: SealError) -> Self {
        JoinError::Failed(error.to_string())
    }
}

impl From<ApplyError> for JoinError {
    fn from(error: ApplyError) -> Self {
        JoinError::Failed(error.to_string())
    }
}

/// A joined database, and what was found.
#[derive(Debug)]
pub struct Joined {
    /// The database.
    pub live: Live,
    /// What had happened to the file, where that is worth telling.
    pub found: Option<Found>,
}

/// What had happened to a file, and what was done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It had lost the seals after `since`; they were given back, up to `last`.
    RolledForward {
        /// The seal that it still had.
        since: Txid,
        /// The last one.
        last: Txid,
    },
    /// It had lost the seals after `since`, and was written to before it was joined: it stays as it is, and becomes the
    /// seal after `last`.
    KeptAsWritten {
        /// The seal that it still had.
        since: Txid,
        /// The last one, which only history has.
        last: Txid,
    },
}

impl Live {
    /// Joins an existing database that has at least one committed page.
    pub fn join(
        place: Place,
        history: Arc<History>,
        machine: Machine,
        limits: Limits,
    ) -> Result<Joined, JoinError> {
        let disk = Arc::clone(&machine.disk);
        let look = place.look(&*disk)?;
        let attached = place.attached(&*disk).filter(|attached| attached.incarnation == place.incarnation);
        let vfs = machine.vfs.as_deref();
        let first = Participant::open(&place.file, vfs)?;
        // A journal left over from a crash may have held all there was.
        if first.page_count()? == 0 {
            return Err(JoinError::Busy("it has no committed page".into()));
        }
        if !use_wal(first.sql())? {
            return Err(JoinError::Unfit("it cannot be switched to WAL mode".into()));
        }
        let page_size = first.page_size()?;
        let marks = Marks::begin([first, Participant::open(&place.file, vfs)?])?;
        let worker = Participant::open(&place.file, vfs)?;
        let locks = machine.kernel.locks(&place.file)?;
        let beside = Beside::of(&*disk, &place.file);
        let device = disk.metadata(&place.file)?.device;
        let last = history.last();
        if let Some(last) = &last
            && last.header.page_size != page_size
        {
            return Err(JoinError::OtherIncarnation { now: page_size, was: last.header.page_size });
        }
        let sums = match &last {
            Some(last) => Some(sealed_sums(&place, &history, &machine, last)?),
            None => None,
        };
        let log = Log::after(marks.held(), marks.at(), page_size).unwrap_or(Log::at_start(marks.at().salts));
        let txid = last.as_ref().map_or(Txid::ZERO, |last| last.header.max_txid);
        let mut live = Live {
            tail: Tail::after(sums.as_ref().map_or(0, Sums::pages)),
            sums: sums.unwrap_or_else(|| Sums::new(page_size)),
            place,
            history,
            marks,
            worker,
            log,
            txid,
            difference_due: None,
            retry_at: Duration::ZERO,
            rotate_at: Duration::ZERO,
            dirty_since: None,
            passing_since: None,
            loose: Loose::default(),
            last_change: machine.clock.boottime(),
            unsaved_pages: 0,
            unreadable: 0,
            inode: look.inode(),
            device,
            beside,
            rest: None,
            rolled_to: attached.as_ref().and_then(|attached| attached.rolled_to),
            locks,
            limits,
            machine,
        };
        let clean = attached
            .as_ref()
            .and_then(|attached| attached.clean.as_ref())
            .is_some_and(|(was, at)| *was == look && *at == txid);
        let found = live.find_place(last.as_ref(), clean, attached.as_ref())?;
        live.note_attached()?;
        Ok(Joined { live, found })
    }

    fn find_place(
        &mut self,
        last: Option<&SealedFile>,
        clean: bool,
        attached: Option<&Attached>,
    ) -> Result<Option<Found>, JoinError> {
        let Some(last) = last else {
            self.difference_due = Some("it has no history yet".into());
            return Ok(None);
        };
        if clean && self.marks.at().frame == 0 || self.continues(last) {
            return Ok(None);
        }
        if attached.is_none_or(|attached| attached.clean.is_none())
            && let Some(found) = self.find_loss(last, attached)?
        {
            return Ok(Some(found));
        }
        self.difference_due = Some("it changed while Stead was not looking".into());
        Ok(None)
    }

    /// What a crash of the machine took from the file, given back where nobody built upon what is left.
    fn find_loss(
        &mut self,
        last: &SealedFile,
        attached: Option<&Attached>,
    ) -> Result<Option<Found>, JoinError> {
        let attached = attached.filter(|attached| {
            self.place.look(&*self.machine.disk).is_ok_and(|look| look.inode() == attached.inode)
        });
        if let Some((attached, begun)) = attached.and_then(|attached| Some((attached, attached.rolling?))) {
            return self.go_on_rolling(last, attached, begun).map(Some);
        }
        let boot_id = self.machine.kernel.boot_id();
        let power_lost = attached.is_some_and(|attached| attached.boot_id != boot_id);
        let untouched = power_lost && self.untouched_since_boot();
        let end = last.header.max_txid;
        let since = match self.shortened(last, untouched) {
            Some(Shortened::Lost(since)) => Some(since),
            Some(Shortened::WrittenSince(since)) => return Ok(Some(self.keep_as_written(since, end))),
            None if power_lost => self.earlier_seal()?,
            None => None,
        };
        let Some(since) = since else { return Ok(None) };
        self.roll_forward(attached, since)?;
        Ok(Some(Found::RolledForward { since, last: end }))
    }

    /// The log goes on from where the last seal ends.
    fn continues(&mut self, last: &SealedFile) -> bool {
        let page_size = self.sums.page_size();
        let cursor =
            self.place.cursor(&*self.machine.disk).filter(|cursor| cursor.txid == last.header.max_txid);
        let kept = cursor.map(|cursor| (cursor.at(), cursor.running().0));
        let from_header = wal_end(&last.header).map(|at| (at, last.header.wal_frame_checksum));
        let rolled = self.rolled_to.filter(|cursor| cursor.txid == last.header.max_txid);
        let rolled = rolled.map(|cursor| (cursor.at(), cursor.running().0));
        for (at, running) in kept.into_iter().chain(rolled).chain(from_header) {
            // A log that was never written has no salts, and proves nothing.
            if at.salts == Salts(0, 0)
                || at.salts != self.marks.at().salts
                || at.frame > self.marks.at().frame
            {
                continue;
            }
            if let Some(log) = Log::after(self.marks.held(), at, page_size)
                && (at.frame == 0 || log.running().0 == running)
            {
                self.log = log;
                return true;
            }
        }
        false
    }

    fn note_attached(&self) -> Result<(), JoinError> {
        let disk = &*self.machine.disk;
        let attached = Attached {
            incarnation: self.place.incarnation,
            boot_id: self.machine.kernel.boot_id(),
            inode: self.place.look(disk)?.inode(),
            rolling: None,
            rolled_to: self.rolled_to,
            clean: None,
        };
        Ok(self.place.attach(disk, &attached)?)
    }

    /// Captures and seals to the end of the log, whatever it takes.
    fn seal_to_end(&mut self) -> Result<bool, SealError> {
        for _ in 0..100 {
            if let Some(index) = self.index() {
                if !self.seal_to(index.end)? {
                    self.seal_difference()?;
                }
                return Ok(true);
            }
            self.machine.clock.sleep(super::LOOK_AGAIN);
        }
        if self.loose.is_proved() {
            // What is in memory does not need the log.
            self.seal()?;
        }
        Ok(false)
    }

    /// The file is gone: what it still held is sealed through the open handles, then they are closed.
    pub fn abandon(mut self) -> Result<(), SealError> {
        if self.seal_to_end()? {
            return Ok(());
        }
        let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
        let why = "its write-ahead log could not be read to the end";
        Err(SealError::Sqlite(rusqlite::Error::SqliteFailure(busy, Some(why.into()))))
    }

    /// A clean stop: everything sealed, connections closed, the file's looks recorded.
    pub fn leave(mut self) -> Result<(), SealError> {
        let settled = self.seal_to_end()?;
        if settled {
            self.save_cursor();
            self.save_sums();
        }
        let Live { place, marks, worker, locks, machine, txid, rolled_to, .. } = self;
        let [first, second] = marks.into_readers();
        drop(worker);
        drop(second);
        first.close_tidily()?;
        drop(locks);
        let disk = &*machine.disk;
        let look = place.look(disk)?;
        // A log that others keep may be lost with the power, and the file would look no different.
        let log = disk.metadata(&disk::sibling(&place.file, "-wal")).map_or(0, |at| at.len);
        let attached = Attached {
            incarnation: place.incarnation,
            boot_id: machine.kernel.boot_id(),
            inode: look.inode(),
            rolling: None,
            rolled_to,
            clean: (settled && log == 0).then_some((look, txid)),
        };
        Ok(place.attach(disk, &attached)?)
    }
}

/// The checksums at the last seal: those saved, rolled forward; else from history alone.
fn sealed_sums(
    place: &Place,
    history: &History,
    machine: &Machine,
    last: &SealedFile,
) -> Result<Sums, JoinError> {
    let (page_size, end) = (last.header.page_size, last.header.max_txid);
    let saved = Sums::load(&*machine.disk, &place.sums())
        .filter(|(sums, at)| sums.page_size() == page_size && *at <= end);
    if let Some((mut sums, at)) = saved
        && roll_sums(history, at, end, &mut sums).is_ok()
        && sums.rolling() == last.header.checksum_after
    {
        return Ok(sums);
    }
    // Each file found damaged is avoided the next time, where another holds the same.
    for _ in 0..REPLANS_MAX {
        let mut sums = Sums::new(page_size);
        match roll_sums(history, Txid::ZERO, end, &mut sums) {
            Ok(()) if sums.rolling() == last.header.checksum_after => return Ok(sums),
            Ok(()) => {
                let (found, wanted) = (sums.rolling(), last.header.checksum_after);
                return Err(JoinError::Damaged(format!("its pages add up to {found} and not to {wanted}")));
            }
            Err(RollError::Read(ReadError::Damaged { .. })) => {}
            Err(RollError::Plan(error @ PlanError::Missing { .. })) => {
                return Err(JoinError::Damaged(error.to_string()));
            }
            Err(error) => return Err(JoinError::Failed(error.to_string())),
        }
    }
    Err(JoinError::Damaged(format!("more than {REPLANS_MAX} of its files are damaged")))
}

/// Why checksums could not be brought to a later seal.
#[derive(Debug, thiserror::Error)]
enum RollError {
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Brings checksums from one seal to a later one.
fn roll_sums(history: &History, after: Txid, upto: Txid, sums: &mut Sums) -> Result<(), RollError> {
    if after == upto {
        return Ok(());
    }
    let changed = history.changed(after, upto)?;
    let plan = if after == Txid::ZERO { history.plan(upto) } else { history.plan_range(after, upto) };
    let reader = plan?.reader()?;
    let mut page = vec![0; sums.page_size() as usize];
    sums.resize(reader.commit());
    for pgno in changed.into_iter().filter(|pgno| pgno.0 <= reader.commit()) {
        if reader.read(pgno, &mut page)? {
            sums.set(pgno, ltx::page_checksum(pgno, &page));
        }
    }
    Ok(())
}

impl Pages for PageReader {
    fn count(&self) -> u32 {
        self.commit()
    }

    fn read(&mut self, pgno: Pgno, out: &mut [u8]) -> Result<(), ApplyError> {
        match PageReader::read(self, pgno, out) {
            Ok(true) => Ok(()),
            Ok(false) => Err(ApplyError::History(format!("no file of the history holds page {pgno}"))),
            Err(error) => Err(ApplyError::History(error.to_string())),
        }
    }
}
