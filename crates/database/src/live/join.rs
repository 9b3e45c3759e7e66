//! Joining a database: finding where history and file stand to each other, as cheaply as the evidence allows.
//!
//! | what is found | what follows |
//! |---|---|
//! | no history | page diff against nothing: the first seal holds every page |
//! | the file looks as after the last clean stop, its log is empty | nothing |
//! | the log continues from where the last seal ends (salts, frame, running checksum) | capture goes on there |
//! | the log is a prefix of what was sealed (power loss under `synchronous=NORMAL`) | rolled forward from history |
//! | after a power loss the file adds up to an earlier seal | rolled forward from history |
//! | anything else | page diff, sealed and reported |

use super::capture::{Log, read_header};
use super::marks::Marks;
use super::scan::scan;
use super::state::{Attached, Place};
use super::{ApplyError, Limits, Live, Pages, SealError};
use crate::history::{History, PageReader, SealedFile};
use crate::machine::Machine;
use crate::sqlite::Participant;
use crate::sums::Sums;
use crate::tail::Tail;
use crate::wal::{self, FRAME_HEADER_LEN, Salts, WalPosition};
use base::{Pgno, Txid, disk};
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

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
    /// Transactions that the file had lost and history gave back.
    pub rolled_forward: Option<(Txid, Txid)>,
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
        use_wal(&first)?;
        let page_size = first.page_size()?;
        let marks = Marks::begin([first, Participant::open(&place.file, vfs)?])?;
        let worker = Participant::open(&place.file, vfs)?;
        let locks = machine.kernel.locks(&place.file)?;
        let last = history.last();
        if let Some(last) = &last
            && last.header.page_size != page_size
        {
            return Err(JoinError::OtherIncarnation { now: page_size, was: last.header.page_size });
        }
        let sums = match &last {
            Some(last) => Some(sealed_sums(&place, &history, &machine, last).map_err(JoinError::Damaged)?),
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
            last_change: machine.clock.boottime(),
            unsaved_pages: 0,
            inode: look.inode(),
            locks,
            limits,
            machine,
        };
        let clean = attached
            .as_ref()
            .and_then(|attached| attached.clean.as_ref())
            .is_some_and(|(was, at)| *was == look && *at == txid);
        let rolled_forward = live.find_place(last.as_ref(), clean, attached.as_ref())?;
        live.note_attached()?;
        Ok(Joined { live, rolled_forward })
    }

    fn find_place(
        &mut self,
        last: Option<&SealedFile>,
        clean: bool,
        attached: Option<&Attached>,
    ) -> Result<Option<(Txid, Txid)>, JoinError> {
        let Some(last) = last else {
            self.difference_due = Some("it has no history yet".into());
            return Ok(None);
        };
        if clean && self.marks.at().frame == 0 || self.continues(last) {
            return Ok(None);
        }
        let power_lost = attached.is_some_and(|attached| {
            attached.boot_id != self.machine.kernel.boot_id()
                && self.place.look(&*self.machine.disk).is_ok_and(|look| look.inode() == attached.inode)
        });
        let boot_id = self.machine.kernel.boot_id();
        let own = attached.is_some_and(|attached| attached.rolling.as_ref() == Some(&boot_id));
        let untouched = power_lost && (own || self.untouched_since_boot());
        if let Some(from) = self.prefix_of_sealed(last, untouched) {
            self.note_rolling(attached, boot_id)?;
            self.roll_forward()?;
            return Ok(Some((from, self.txid)));
        }
        if power_lost && let Some(from) = self.earlier_seal()? {
            self.note_rolling(attached, boot_id)?;
            self.roll_forward()?;
            return Ok(Some((from, self.txid)));
        }
        self.difference_due = Some("it changed while Stead was not looking".into());
        Ok(None)
    }

    /// The log goes on from where the last seal ends.
    fn continues(&mut self, last: &SealedFile) -> bool {
        let page_size = self.sums.page_size();
        let cursor =
            self.place.cursor(&*self.machine.disk).filter(|cursor| cursor.txid == last.header.max_txid);
        let kept = cursor.map(|cursor| (cursor.at(), cursor.running().0));
        let from_header = wal_end(&last.header).map(|at| (at, last.header.wal_frame_checksum));
        for (at, running) in kept.into_iter().chain(from_header) {
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

    /// The log ends before what was sealed from it: the seal to roll forward from.
    ///
    /// What it has beyond that seal must be part of what was sealed, not the work of somebody who wrote after a power
    /// loss: it wrote only pages that were sealed, or nobody wrote since the machine started. (A page that was changed
    /// and changed back between two seals is in neither.)
    fn prefix_of_sealed(&self, last: &SealedFile, untouched: bool) -> Option<Txid> {
        let (sealed, mut here) = (wal_end(&last.header)?, self.marks.at());
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
    fn untouched_since_boot(&self) -> bool {
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
    fn earlier_seal(&self) -> Result<Option<Txid>, JoinError> {
        let found = scan(self.marks.held(), &self.sums)?.sums;
        let (sum, pages) = (found.rolling(), found.pages());
        let same = |header: &&ltx::Header| header.checksum_after == sum && header.commit == pages;
        Ok(sealed_files(&self.history).iter().rev().skip(1).find(same).map(|header| header.max_txid))
    }

    /// Writes what was sealed last back into the file, wherever it differs, then compares all pages.
    fn roll_forward(&mut self) -> Result<(), JoinError> {
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
        self.difference_due = Some("it was rolled forward from history".into());
        Ok(())
    }

    fn write_forward(&mut self, pages: &mut dyn Pages, differing: &[Pgno]) -> Result<(), JoinError> {
        if !self.lock()? {
            return Err(JoinError::Busy("another process writes to it".into()));
        }
        if let Err(error) = self.overwrite(pages, differing) {
            self.unlock();
            return Err(error.into());
        }
        Ok(self.commit()?)
    }

    fn note_attached(&self) -> Result<(), JoinError> {
        let disk = &*self.machine.disk;
        let attached = Attached {
            incarnation: self.place.incarnation,
            boot_id: self.machine.kernel.boot_id(),
            inode: self.place.look(disk)?.inode(),
            rolling: None,
            clean: None,
        };
        Ok(self.place.attach(disk, &attached)?)
    }

    /// A crash while it is rolled forward leaves a log that was written since the boot, by nobody else.
    fn note_rolling(&self, attached: Option<&Attached>, boot_id: String) -> Result<(), JoinError> {
        let Some(attached) = attached else { return Ok(()) };
        let rolling = Attached { rolling: Some(boot_id), ..attached.clone() };
        Ok(self.place.attach(&*self.machine.disk, &rolling)?)
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
        Ok(false)
    }

    /// The file is gone: what it still held is sealed through the open handles, then they are closed.
    pub fn abandon(mut self) -> Result<(), SealError> {
        self.seal_to_end().map(|_| ())
    }

    /// A clean stop: everything sealed, connections closed, the file's looks recorded.
    pub fn leave(mut self) -> Result<(), SealError> {
        let settled = self.seal_to_end()?;
        if settled {
            self.save_cursor();
            self.save_sums();
        }
        let Live { place, marks, worker, locks, machine, txid, .. } = self;
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
            clean: (settled && log == 0).then_some((look, txid)),
        };
        Ok(place.attach(disk, &attached)?)
    }
}

fn use_wal(first: &Participant) -> Result<(), JoinError> {
    let ask = |sql: &str| first.sql().query_row(sql, [], |row| row.get::<_, String>(0));
    if ask("PRAGMA journal_mode")? == "wal" || ask("PRAGMA journal_mode=WAL")? == "wal" {
        return Ok(());
    }
    Err(JoinError::Unfit("it cannot be switched to WAL mode".into()))
}

fn wal_end(header: &ltx::Header) -> Option<WalPosition> {
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

/// The checksums at the last seal: those saved, rolled forward; else from history alone.
fn sealed_sums(
    place: &Place,
    history: &History,
    machine: &Machine,
    last: &SealedFile,
) -> Result<Sums, String> {
    let (page_size, end) = (last.header.page_size, last.header.max_txid);
    let saved = Sums::load(&*machine.disk, &place.sums())
        .filter(|(sums, at)| sums.page_size() == page_size && *at <= end);
    if let Some((mut sums, at)) = saved
        && roll_sums(history, at, end, &mut sums).is_ok()
        && sums.rolling() == last.header.checksum_after
    {
        return Ok(sums);
    }
    let mut sums = Sums::new(page_size);
    roll_sums(history, Txid::ZERO, end, &mut sums)?;
    if sums.rolling() != last.header.checksum_after {
        return Err(format!(
            "its pages add up to {} and not to {}",
            sums.rolling(),
            last.header.checksum_after
        ));
    }
    Ok(sums)
}

/// Brings checksums from one seal to a later one.
fn roll_sums(history: &History, after: Txid, upto: Txid, sums: &mut Sums) -> Result<(), String> {
    if after == upto {
        return Ok(());
    }
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let changed = history.changed(after, upto).map_err(|error| text(&error))?;
    let plan = if after == Txid::ZERO { history.plan(upto) } else { history.plan_range(after, upto) };
    let reader = plan.map_err(|error| text(&error))?.reader().map_err(|error| text(&error))?;
    let mut page = vec![0; sums.page_size() as usize];
    sums.resize(reader.commit());
    for pgno in changed.into_iter().filter(|pgno| pgno.0 <= reader.commit()) {
        if reader.read(pgno, &mut page).map_err(|error| text(&error))? {
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
