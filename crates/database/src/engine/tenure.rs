//! Whose the store is while nothing is sent there: what the home remembers of it, and a rare question.
//!
//! The home keeps the URL of the store that was taken last, and the epoch that it gave. A store that has not come as far
//! as that is not the same one: a disk that is not mounted, a bucket that was emptied, a copy that was put back. It is not
//! begun anew; it counts as away until it is there again.
//!
//! A store that was taken over tells whoever had it when that sends something. Who sends nothing asks now and then. Who
//! sends asks once a minute, where the manifest is not written so often: somebody may have removed what is there.

use super::Shared;
use crate::bucket::Rights;
use base::{Disk, Epoch, disk};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;
use std::time::Duration;

/// Where a home keeps which store it had last.
pub const LAST_STORE: &str = ".stead/store.json";
/// How long a node that sends nothing goes without asking whether the store is still its own: one small request.
pub const OWNER_LOOK_EVERY: Duration = Duration::from_secs(3600);
/// How long a node that sends goes without asking: one small request as well. What it sends into a bucket that was emptied
/// meanwhile is no history.
pub(super) const OWNER_LOOK_WHILE_SENDING: Duration = Duration::from_secs(60);
/// More bytes than this are no such file.
const LAST_STORE_BYTES_MAX: u64 = 64 << 10;

/// The store that was taken last.
#[derive(Debug, Serialize, Deserialize)]
struct LastStore {
    url: String,
    epoch: u64,
}

/// The URL of the store that a home had last, and the right to write that it gave; `None`: it never had one.
pub fn last_store(disk: &dyn Disk, home: &Path) -> io::Result<Option<(String, Epoch)>> {
    match disk::read(disk, &home.join(LAST_STORE), LAST_STORE_BYTES_MAX) {
        Ok(bytes) => {
            let LastStore { url, epoch } = serde_json::from_slice(&bytes)?;
            Ok(Some((url, Epoch(epoch))))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Which rights to write a home has had in this store and elsewhere, as far as it is known.
pub(crate) fn rights_had(disk: &dyn Disk, home: &Path, url: &str) -> Rights {
    match last_store(disk, home) {
        Ok(Some((last, epoch))) => Rights { here: (last == url).then_some(epoch), anywhere: epoch },
        Ok(None) => Rights::default(),
        Err(error) => {
            let path = home.join(LAST_STORE);
            tracing::warn!(event = "last store not known", path = %path.display(), %error);
            Rights::default()
        }
    }
}

impl Shared {
    /// Notes which store was taken, and under which right.
    pub(super) fn remember_store(&self, url: &str, epoch: Epoch) {
        let last = LastStore { url: url.to_owned(), epoch: epoch.0 };
        let written = serde_json::to_vec(&last).map_err(io::Error::other);
        let disk = &*self.settings.machine.disk;
        let written = written
            .and_then(|bytes| disk::write_atomic(disk, &self.settings.home.join(LAST_STORE), &bytes, true));
        if let Err(error) = written {
            tracing::warn!(event = "last store not noted", %error, "an empty store would be begun anew");
        }
    }

    /// Asks whether the store is still this run's, where its manifest has not said so for long. When that is due again,
    /// and whether the store has answered.
    pub(super) fn ask_whose_store(&self) -> (Option<Duration>, bool) {
        let Some(bucket) = self.bucket().filter(|_| !self.store_is_refused()) else { return (None, true) };
        if let Err(error) = bucket.check_after(OWNER_LOOK_EVERY) {
            self.store_failed(&error);
            return (None, self.store_is_refused());
        }
        (Some(bucket.held_at() + OWNER_LOOK_EVERY), true)
    }
}
