//! Files that Stead itself makes: databases brought back from history, and new ones.
//!
//! Each is written beside its place under a name of its own, readable for the node only, then given to whom it belongs,
//! and then renamed. A database that comes back under its old number goes above every schema cookie that this number
//! has had: what is restored into it later may hold any of them.

use super::discover::{remove_beside, remove_if_there};
use super::{Shared, StartError};
use crate::history::{History, Imaged, make_dir};
use crate::live::{cookie_of, set_cookie};
use crate::sqlite;
use base::{Checksum, DatabasePath, DiskFile, Incarnation, Open, Pgno, Txid, disk};
use std::io;
use std::path::{Path, PathBuf};

/// Bytes of a schema file, at most.
const SCHEMA_BYTES_MAX: u64 = 16 << 20;

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
}

impl From<io::Error> for BringBackError {
    fn from(error: io::Error) -> BringBackError {
        BringBackError { reason: error.to_string(), disk_full: disk::is_full(&error), damaged: false }
    }
}

impl From<crate::history::ImageError> for BringBackError {
    fn from(error: crate::history::ImageError) -> BringBackError {
        match error {
            crate::history::ImageError::Output(error) => error.into(),
            error => BringBackError::damaged(&error),
        }
    }
}

impl Shared {
    /// Writes a database from history, as it was at a seal or the last one; `None`: its history is empty.
    pub(super) fn bring_back(
        &self,
        path: &DatabasePath,
        incarnation: Incarnation,
        at: Option<Txid>,
        there: There,
    ) -> Result<Option<BroughtBack>, BringBackError> {
        let disk = &*self.settings.machine.disk;
        let file = self.file_of(path);
        let history =
            self.open_history(path, incarnation).map_err(|error| BringBackError::damaged(&error))?;
        let Some(last) = history.last() else {
            return match history.damaged().first() {
                Some(bad) => {
                    let damage = bad.damage.as_deref().unwrap_or("damaged");
                    Err(BringBackError::damaged(&format!("{}: {damage}", bad.path.display())))
                }
                None => Ok(None),
            };
        };
        let beside = disk::sibling(&file, ".stead-restore.tmp");
        let done = (|| {
            self.make_dir_for_app(disk::parent(&file))?;
            remove_if_there(disk, &beside)?;
            let out = disk.open(&beside, Open::Create { private: true })?;
            let image = history.image(at.unwrap_or(last.header.max_txid), &*out, &mut |_, _| {})?;
            let highest = self.highest_cookie(path, incarnation, &history, last.header.max_txid)?;
            let checksum = raise_cookie(&*out, &image, highest)?;
            out.sync()?;
            drop(out);
            self.give_as_before(&beside, path, (there == There::Sealed).then_some(&*file));
            remove_beside(disk, &file)?;
            match there {
                There::Nothing => disk.rename_new(&beside, &file)?,
                There::Sealed => disk.rename(&beside, &file)?,
            }
            Ok(BroughtBack { txid: image.txid, checksum })
        })();
        let done = done.inspect_err(|_: &BringBackError| {
            // The half-written copy must not stay; the first error is the one to report.
            let _ = disk.remove_file(&beside);
        })?;
        self.sync_parent(&file)?;
        self.place(path, incarnation).forget(disk);
        Ok(Some(done))
    }

    /// The highest schema cookie that one incarnation has had, as far as ledger and history tell.
    fn highest_cookie(
        &self,
        path: &DatabasePath,
        incarnation: Incarnation,
        history: &History,
        last: Txid,
    ) -> Result<u32, BringBackError> {
        let noted = self.ledger.highest_cookie(path, incarnation).map_err(|error| BringBackError {
            reason: format!("ledger: {error}"),
            disk_full: error.is_disk_full(),
            damaged: false,
        })?;
        let reader = history.plan(last).map_err(|error| BringBackError::damaged(&error))?.reader();
        let reader = reader.map_err(|error| BringBackError::damaged(&error))?;
        let mut page = vec![0; reader.page_size() as usize];
        let found = reader.read(Pgno::ONE, &mut page).map_err(|error| BringBackError::damaged(&error))?;
        Ok(noted.unwrap_or(0).max(if found { cookie_of(&page) } else { 0 }))
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
        remove_if_there(disk, &beside).map_err(failed)?;
        disk.open(&beside, Open::CreateNew).map_err(failed)?;
        self.give_as_before(&beside, path, None);
        let done = schema.map_or(Ok(()), |schema| self.run_schema(&beside, schema)).and_then(|()| {
            match disk.rename_new(&beside, &file) {
                // Somebody else was faster.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => remove_if_there(disk, &beside),
                renamed => renamed,
            }
            .map_err(failed)
        });
        if done.is_err() {
            // What is half made must not stay; the first error is the one to report.
            let _ = remove_if_there(disk, &beside);
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
