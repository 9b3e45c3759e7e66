//! What is kept beside history to start quickly. None of it is needed: lost or torn, it costs a page diff.
//!
//! `.stead/databases/<path>/`: `sums` (checksums of all pages at a seal), `cursor` (where in which log the last seal
//! ends), `attached.json` (which file, under which boot, and how it looked after a clean stop).

use super::Live;
use crate::sums::Sums;
use crate::wal::{Running, Salts, WalPosition};
use base::{Checksum, DatabasePath, Disk, Incarnation, Open, Txid, disk};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::PathBuf;

const STATE_BYTES_MAX: u64 = 64 << 10;

/// Where a database and what belongs to it lie.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its name: the path relative to the home.
    pub path: DatabasePath,
    /// The file.
    pub file: PathBuf,
    /// Which file under the path.
    pub incarnation: Incarnation,
    /// The directory of its quick-start state.
    pub state: PathBuf,
}

/// How a file looks from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    inode: u64,
    len: u64,
    modified_ns: i128,
    changed_ns: i128,
}

/// Which file was followed, when and how far.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Attached {
    /// Which file under the path.
    pub incarnation: Incarnation,
    /// Differs after a power loss or reboot.
    pub boot_id: String,
    /// The file's inode.
    pub inode: u64,
    /// What it held when it was begun to be rolled forward; absent once that is done.
    #[serde(default)]
    pub rolling: Option<Rolling>,
    /// Where it was rolled forward to, if it was: there the last seal ends, and not where its header says.
    #[serde(default)]
    pub rolled_to: Option<Cursor>,
    /// How it looked after a clean stop, and at which seal; absent while it is followed.
    pub clean: Option<(Look, Txid)>,
}

/// A file that is being rolled forward, in one transaction: it holds this or the last seal, or somebody else wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rolling {
    /// The seal that it still had.
    pub since: Txid,
    /// What it added up to.
    pub checksum: Checksum,
    /// Its pages.
    pub pages: u32,
}

/// Where in which log the last seal ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The last seal.
    pub txid: Txid,
    /// The log's salts.
    pub salts: (u32, u32),
    /// Its frames up to the seal.
    pub frame: u32,
    /// The running checksum there.
    pub running: (u32, u32),
}

impl Look {
    /// The same file, unwritten since.
    pub fn same_contents(&self, other: &Look) -> bool {
        (self.inode, self.len, self.modified_ns) == (other.inode, other.len, other.modified_ns)
    }

    /// The inode.
    pub fn inode(&self) -> u64 {
        self.inode
    }
}

impl Place {
    /// How the file looks now.
    pub fn look(&self, disk: &dyn Disk) -> io::Result<Look> {
        let at = disk.metadata(&self.file)?;
        Ok(Look { inode: at.inode, len: at.len, modified_ns: at.modified_ns, changed_ns: at.changed_ns })
    }

    /// Where the checksums are kept.
    pub fn sums(&self) -> PathBuf {
        self.state.join("sums")
    }

    fn read<T: for<'a> Deserialize<'a>>(&self, disk: &dyn Disk, name: &str) -> Option<T> {
        serde_json::from_slice(&disk::read(disk, &self.state.join(name), STATE_BYTES_MAX).ok()?).ok()
    }

    /// Which file was followed last.
    pub fn attached(&self, disk: &dyn Disk) -> Option<Attached> {
        self.read(disk, "attached.json")
    }

    /// Where its last seal ends.
    pub fn cursor(&self, disk: &dyn Disk) -> Option<Cursor> {
        self.read(disk, "cursor")
    }

    /// Records which file is followed; durable, since it is what tells a power loss.
    pub fn attach(&self, disk: &dyn Disk, attached: &Attached) -> io::Result<()> {
        crate::history::make_dir(disk, &self.state)?;
        let bytes = serde_json::to_vec(attached).map_err(io::Error::other)?;
        disk::write_atomic(disk, &self.state.join("attached.json"), &bytes, false)
    }

    /// Keeps the checksums of all pages at a seal, unsynced: without them history is read when the database is joined.
    pub fn keep_sums(&self, disk: &dyn Disk, sums: &Sums, at: Txid) {
        let kept =
            crate::history::make_dir(disk, &self.state).and_then(|()| sums.save(disk, &self.sums(), at));
        if let Err(error) = kept {
            tracing::debug!(path = %self.path, %error, "checksums not saved; the next start rebuilds them");
        }
    }

    /// Forgets everything: another file lies under the path.
    pub fn forget(&self, disk: &dyn Disk) {
        for name in ["sums", "cursor", "attached.json"] {
            // A missing one is as good; a leftover is recognised by its incarnation and txid.
            let _ = disk.remove_file(&self.state.join(name));
        }
    }
}

impl Cursor {
    /// The position.
    pub fn at(&self) -> WalPosition {
        WalPosition { salts: Salts(self.salts.0, self.salts.1), frame: self.frame }
    }

    /// The running checksum.
    pub fn running(&self) -> Running {
        Running(self.running.0, self.running.1)
    }
}

impl Live {
    /// The last seal and where capture stands in the log.
    pub(super) fn cursor(&self) -> Cursor {
        let (at, running) = (self.log.at(), self.log.running());
        Cursor {
            txid: self.txid,
            salts: (at.salts.0, at.salts.1),
            frame: at.frame,
            running: (running.0, running.1),
        }
    }

    /// Saves where the last seal ends, unsynced: after a crash of the process it is there, after a power loss a page
    /// diff does without.
    pub(super) fn save_cursor(&self) {
        if !self.tail.is_empty() {
            return;
        }
        let written = serde_json::to_vec(&self.cursor()).map_err(io::Error::other).and_then(|bytes| {
            let beside = self.place.state.join("cursor.tmp");
            self.machine.disk.open(&beside, Open::Create { private: false })?.write_at(&bytes, 0)?;
            self.machine.disk.rename(&beside, &self.place.state.join("cursor"))
        });
        if let Err(error) = written {
            tracing::debug!(path = %self.place.path, %error, "cursor not saved; the next start compares pages");
        }
    }

    /// Saves the checksums, unsynced, for the same reason.
    pub(super) fn save_sums(&mut self) {
        match self.sums.save(&*self.machine.disk, &self.place.sums(), self.txid) {
            Ok(()) => self.unsaved_pages = 0,
            Err(error) => {
                tracing::debug!(path = %self.place.path, %error, "checksums not saved; the next start rebuilds them");
            }
        }
    }
}
