//! Files that Stead itself makes: databases brought back from history, and new ones.
//!
//! Each is written beside its place under a name of its own, readable for the node only, then given to whom it belongs,
//! and then renamed. A database that comes back under its old number goes above every schema cookie that this number
//! has had: what is restored into it later may hold any of them.

use super::discover::remove_beside;
use super::{Shared, StartError};
use crate::history::{self, History, ImageError, Imaged, Restored, make_dir};
use crate::ledger::LedgerError;
use crate::live::{cookie_of, set_cookie};
use crate::sqlite;
use crate::sums::Sums;
use base::{Checksum, DatabasePath, DiskFile, Incarnation, Open, Pgno, Txid, disk};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes of a schema file, at most.
const SCHEMA_BYTES_MAX: u64 = 16 << 20;

/// How often it is told how far a database is that comes back.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// What lies where a database comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum There {
    /// Nothing; what comes meanwhile is not overwritten.
    Nothing,
    /// A file that history holds to its last transaction.
    Sealed,
}

/// A database that came back.
#[derive(Clone, Copy, Debug)]
pub(super) struct BroughtBack {
    /// Where in its history it stands.
    pub txid: Txid,
    /// What its file adds up to: what history has for that moment, but for the schema cookie.
    pub checksum: Checksum,
}

/// Why a database was not brought back. What was there is there.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub(super) struct BringBackError {
    /// What is damaged, or what the disk said.
    pub reason: String,
    /// The disk is full.
    pub disk_full: bool,
    /// Its history is to blame, and another try will not help.
    pub damaged: bool,
}

impl BringBackError {
    fn damaged(error: &dyn std::fmt::Display) -> BringBackError {
        BringBackError { reason: error.to_string(), disk_full: false, damaged: true }
    }

    fn ledger(error: &LedgerError) -> BringBackError {
        let disk_full = error.is_disk_full();
        BringBackError { reason: format!("ledger: {error}"), disk_full, damaged: false }
    }
}

impl From<io::Error> for BringBackError {
    fn from(error: io::Error) -> BringBackError {
        BringBackError { reason: error.to_string(), disk_full: disk::is_full(&error), damaged: false }
    }
}

impl From<ImageError> for BringBackError {
    fn from(error: ImageError) -> BringBackError {
        match error {
            ImageError::Output(error) => error.into(),
            error => BringBackError::damaged(&error),
        }
    }
}

/// A database written from history beside its place.
#[derive(Debug)]
pub(super) struct Written {
    path: DatabasePath,
    incarnation: Incarnation,
    beside: PathBuf,
    back: BroughtBack,
    /// Of what was sealed: the schema cookie may be another since.
    sums: Sums,
}

impl Shared {
    /// Brings a missing database back from history, as it was last; `None`: its history is empty.
    pub(super) fn bring_back(
        &self,
        path: &DatabasePath,
        incarnation: Incarnation,
    ) -> Result<Option<BroughtBack>, BringBackError> {
        let sealed = self.sealed_upto(path, incarnation).map_err(|error| BringBackError::ledger(&error))?;
        let history = self.open_history_to(path, incarnation, sealed);
        let history = history.map_err(|error| self.not_opened(&error))?;
        if history.last().is_none() && history.damaged().is_empty() {
            return Ok(None);
        }
        let written = self.write_from(&history, path, incarnation, None)?;
        self.put_in_place(&written, There::Nothing).map(Some)
    }

    /// Writes a database from history beside its place, durably, as it was at a seal.
    pub(super) fn write_beside(
        &self,
        path: &DatabasePath,
        incarnation: Incarnation,
        at: Txid,
    ) -> Result<Written, BringBackError> {
        let history = self.open_history_to(path, incarnation, at);
        let history = history.map_err(|error| self.not_opened(&error))?;
        self.write_from(&history, path, incarnation, Some(at))
    }

    fn write_from(
        &self,
        history: &History,
        path: &DatabasePath,
        incarnation: Incarnation,
        at: Option<Txid>,
    ) -> Result<Written, BringBackError> {
        let file = self.file_of(path);
        let Some(last) = history.last() else {
            let bad =
                history.damaged().into_iter().next().map(|bad| {
                    format!("{}: {}", bad.path.display(), bad.damage.as_deref().unwrap_or("damaged"))
                });
            let empty = || format!("{} is empty", history.base().display());
            return Err(BringBackError::damaged(&bad.unwrap_or_else(empty)));
        };
        let disk = &*self.settings.machine.disk;
        let beside = history::beside(&file);
        self.make_dir_for_app(disk::parent(&file))?;
        let mut told = self.now();
        let mut progress = |done: u64, total: u64| {
            if self.now() >= told + TELL_EVERY {
                told = self.now();
                let message = format!("{} of {} MiB are fetched", done >> 20, total >> 20);
                self.tell(path, "returning", message);
            }
        };
        let target = at.unwrap_or(last.header.max_txid);
        let restored = history.restore(target, (disk, &beside), &mut progress).inspect_err(|error| {
            // What was fetched of a store that is away now stays for the next try.
            if !error.is_passing() {
                self.discard_part(&beside);
            }
        })?;
        let written = (|| {
            let Restored { file, image, sums } = restored;
            let highest = self.highest_cookie(path, incarnation, history, cookie_in(&*file, &image)?)?;
            let checksum = raise_cookie(&*file, &image, highest)?;
            file.sync()?;
            let back = BroughtBack { txid: image.txid, checksum };
            Ok(Written { path: path.clone(), incarnation, beside: beside.clone(), back, sums })
        })();
        // The half-written copy must not stay; the first error is the one to report.
        written.inspect_err(|_: &BringBackError| self.discard_part(&beside))
    }

    /// A database that was written beside its place takes it.
    pub(super) fn put_in_place(
        &self,
        written: &Written,
        there: There,
    ) -> Result<BroughtBack, BringBackError> {
        let disk = &*self.settings.machine.disk;
        let (file, beside) = (self.file_of(&written.path), &written.beside);
        self.give_as_before(beside, &written.path, (there == There::Sealed).then_some(&*file));
        let renamed = remove_beside(disk, &file).and_then(|()| match there {
            There::Nothing => disk.rename_new(beside, &file),
            There::Sealed => disk.rename(beside, &file),
        });
        if renamed.is_err() {
            self.discard(written);
        }
        renamed?;
        self.sync_parent(&file)?;
        let place = self.place(&written.path, written.incarnation);
        place.forget(disk);
        // Else all of its history would be read once more when it is joined.
        place.keep_sums(disk, &written.sums, written.back.txid);
        let older = disk::sibling(&file, super::OLDER);
        if let Err(error) = disk::remove_if_there(disk, &older) {
            tracing::warn!(event = "leftover stays", path = %older.display(), %error, "an older file stays");
        }
        Ok(written.back)
    }

    /// What was written beside its place is not wanted.
    pub(super) fn discard(&self, written: &Written) {
        self.discard_part(&written.beside);
    }

    fn discard_part(&self, beside: &Path) {
        if let Err(error) = history::abandon(&*self.settings.machine.disk, beside) {
            tracing::warn!(
                event = "leftover stays", path = %beside.display(), %error,
                "a half-restored copy stays"
            );
        }
    }

    fn not_opened(&self, error: &crate::history::HistoryError) -> BringBackError {
        BringBackError { damaged: !error.of_store, ..BringBackError::damaged(error) }
    }

    /// The highest schema cookie that one incarnation has had, as far as ledger and history tell; `own`: the one of the
    /// image.
    fn highest_cookie(
        &self,
        path: &DatabasePath,
        incarnation: Incarnation,
        history: &History,
        own: u32,
    ) -> Result<u32, BringBackError> {
        let noted = self.ledger.highest_cookie(path, incarnation);
        let noted = noted.map_err(|error| BringBackError::ledger(&error))?.unwrap_or(0);
        match history.last_page(Pgno::ONE) {
            Ok(page) => Ok(noted.max(page.map_or(0, |page| cookie_of(&page)))),
            Err(error) => {
                // One more than any that is known of: every seal notes its own.
                tracing::warn!(event = "history damaged", %path, %error, "its last schema cookie is not known");
                Ok(noted.max(own).wrapping_add(1))
            }
        }
    }

    /// An empty file, or one with the configured schema.
    pub(super) fn create_if_missing(
        &self,
        path: &DatabasePath,
        schema: Option<&Path>,
    ) -> Result<(), StartError> {
        let file = self.file_of(path);
        let disk = &*self.settings.machine.disk;
        let failed = |source| StartError::Path { path: file.clone(), source };
        if disk.metadata(&file).is_ok() {
            return Ok(());
        }
        self.make_dir_for_app(disk::parent(&file)).map_err(failed)?;
        let beside = disk::sibling(&file, ".stead-create.tmp");
        disk::remove_if_there(disk, &beside).map_err(failed)?;
        disk.open(&beside, Open::CreateNew).map_err(failed)?;
        self.give_as_before(&beside, path, None);
        let done = schema.map_or(Ok(()), |schema| self.run_schema(&beside, schema)).and_then(|()| {
            match disk.rename_new(&beside, &file) {
                // Somebody else was faster.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    disk::remove_if_there(disk, &beside)
                }
                renamed => renamed,
            }
            .map_err(failed)
        });
        if done.is_err() {
            // What is half made must not stay; the first error is the one to report.
            let _ = disk::remove_if_there(disk, &beside);
        }
        done?;
        self.sync_parent(&file).map_err(failed)
    }

    fn run_schema(&self, file: &Path, schema: &Path) -> Result<(), StartError> {
        let path = self.settings.home.join(schema);
        let failed = |source| StartError::Path { path: path.clone(), source };
        let sql = disk::read(&*self.settings.machine.disk, &path, SCHEMA_BYTES_MAX).map_err(failed)?;
        run_schema(file, &String::from_utf8_lossy(&sql), self.settings.machine.vfs.as_deref())
            .map_err(|error| failed(io::Error::other(format!("the schema failed: {error}"))))
    }

    /// Makes a directory and those above it; new ones belong to the app's user, which makes files in them.
    fn make_dir_for_app(&self, dir: &Path) -> io::Result<()> {
        let disk = &*self.settings.machine.disk;
        let missing = |dir: &&Path| disk.metadata(dir).is_err();
        let new: Vec<&Path> = dir.ancestors().take_while(missing).collect();
        make_dir(disk, dir)?;
        for dir in new {
            self.give_to_app(dir);
        }
        Ok(())
    }
}

/// The schema cookie of a written database.
fn cookie_in(out: &dyn DiskFile, image: &Imaged) -> io::Result<u32> {
    let mut page = vec![0; image.page_size as usize];
    out.read_exact_at(&mut page, 0)?;
    Ok(cookie_of(&page))
}

/// Sets the schema cookie of a written database above the highest there was, where that is not its own. What the
/// database adds up to then.
fn raise_cookie(out: &dyn DiskFile, image: &Imaged, highest: u32) -> io::Result<Checksum> {
    let mut page = vec![0; image.page_size as usize];
    out.read_exact_at(&mut page, 0)?;
    if cookie_of(&page) >= highest {
        return Ok(image.checksum);
    }
    let mut rolling = ltx::Rolling::from(image.checksum);
    rolling.toggle(ltx::page_checksum(Pgno::ONE, &page));
    set_cookie(&mut page, highest.wrapping_add(1));
    rolling.toggle(ltx::page_checksum(Pgno::ONE, &page));
    out.write_at(&page, 0)?;
    Ok(rolling.value())
}

fn run_schema(path: &Path, sql: &str, vfs: Option<&str>) -> rusqlite::Result<()> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE | rusqlite::OpenFlags::SQLITE_OPEN_CREATE;
    let conn = match vfs {
        Some(name) => rusqlite::Connection::open_with_flags_and_vfs(path, flags, name)?,
        None => rusqlite::Connection::open_with_flags(path, flags)?,
    };
    sqlite::run(&conn, sql)?;
    sqlite::use_wal(&conn)?;
    conn.close().map_err(|(_, error)| error)
}

/// The name, not taken yet, that something unknown is moved to when a database comes back in its place.
pub(super) fn aside_name(disk: &dyn base::Disk, file: &Path) -> PathBuf {
    let taken = |path: &Path| disk.metadata(path).is_ok();
    let first = disk::sibling(file, super::ASIDE);
    if !taken(&first) {
        return first;
    }
    let numbered = |n: u32| disk::sibling(file, &format!("{}.{n}", super::ASIDE));
    (1..u32::MAX).map(numbered).find(|name| !taken(name)).unwrap_or(first)
}
