//! Whose the files are: what Stead puts in the place of a file belongs to whom that one belonged to.
//!
//! Owner and mode of each followed file are remembered in `.stead/databases/<path>/owner.json`, which outlives the file.
//! All by path: a database must not be opened here, since closing it would drop the locks of this process.

use super::Shared;
use base::disk::{self, Owner};
use base::{DatabasePath, Open};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

const NAME: &str = "owner.json";
const BYTES_MAX: u64 = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    uid: u32,
    gid: u32,
    mode: u32,
}

impl Shared {
    /// Gives a file that is about to take the place of a database to whom it belonged: the owner of the file that it
    /// replaces, else of the last one known there. What would be the node's own is the app's.
    pub(super) fn give_as_before(&self, new: &Path, path: &DatabasePath, replaces: Option<&Path>) {
        let disk = &*self.settings.machine.disk;
        // A disk without owners has nothing to give.
        let Ok(made) = disk.owner(new) else { return };
        let before = replaces.and_then(|file| disk.owner(file).ok()).or_else(|| self.remembered_owner(path));
        let mut to = before.unwrap_or(made);
        if let (true, Some((uid, gid))) = (to.uid == made.uid, self.settings.app_user) {
            (to.uid, to.gid) = (uid, gid);
        }
        self.give(new, made, to);
    }

    /// Gives what Stead made to the app's user.
    pub(super) fn give_to_app(&self, new: &Path) {
        let Some((uid, gid)) = self.settings.app_user else { return };
        if let Ok(made) = self.settings.machine.disk.owner(new) {
            self.give(new, made, Owner { uid, gid, ..made });
        }
    }

    fn give(&self, file: &Path, made: Owner, to: Owner) {
        if made != to
            && let Err(error) = self.settings.machine.disk.give(file, to)
        {
            tracing::warn!(
                event = "owner not kept", path = %file.display(), %error, uid = to.uid, gid = to.gid,
                "what takes the place of a file has another owner or mode than that had"
            );
        }
    }

    /// Remembers whose the followed files are, where that changed.
    pub(super) fn remember_owners(&self) {
        for slot in self.slots() {
            if slot.identity().is_some() {
                self.remember_owner(&slot.path);
            }
        }
    }

    /// Remembers whose a file is, unsynced: lost, the app's user gets what comes back.
    pub(super) fn remember_owner(&self, path: &DatabasePath) {
        let disk = &*self.settings.machine.disk;
        let Ok(now) = disk.owner(&self.file_of(path)) else { return };
        if self.remembered_owner(path) == Some(now) {
            return;
        }
        let now = Remembered { uid: now.uid, gid: now.gid, mode: now.mode };
        let written = serde_json::to_vec(&now).map_err(io::Error::other).and_then(|bytes| {
            let name = self.owner_file(path);
            crate::history::make_dir(disk, disk::parent(&name))?;
            let beside = disk::sibling(&name, ".tmp");
            disk.open(&beside, Open::Create { private: false })?.write_at(&bytes, 0)?;
            disk.rename(&beside, &name)
        });
        if let Err(error) = written {
            tracing::debug!(%path, %error, "its owner is not remembered");
        }
    }

    fn remembered_owner(&self, path: &DatabasePath) -> Option<Owner> {
        let bytes = disk::read(&*self.settings.machine.disk, &self.owner_file(path), BYTES_MAX).ok()?;
        let Remembered { uid, gid, mode } = serde_json::from_slice(&bytes).ok()?;
        Some(Owner { uid, gid, mode })
    }

    fn owner_file(&self, path: &DatabasePath) -> PathBuf {
        self.settings.home.join(".stead/databases").join(path.as_str()).join(NAME)
    }
}
