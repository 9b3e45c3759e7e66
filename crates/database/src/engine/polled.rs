//! Directories in which a database is written fast: looked at, not watched.
//!
//! A watch on a directory is asked by the kernel at each write to each file in it: up to a tenth of a writer's time.
//! So the watch rests while a database there is written fast. Each look at that database looks at the directory's times as
//! well, and now and then at all files, since a file that is written in place changes no directory.

use super::schedule::Task;
use super::slot::Slot;
use super::{SETTLE, Shared};
use base::{DatabasePath, Timestamp, disk};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

/// Times this young may be those of the next change too.
const TIMES_SETTLE: Duration = Duration::from_millis(50);
/// How often the files of such a directory are looked at although its times stay.
const FILES_EVERY: Duration = Duration::from_secs(2);

/// A directory that is looked at, for the databases that are written fast there.
#[derive(Debug)]
pub(super) struct Polled {
    fast: BTreeSet<DatabasePath>,
    /// When it changed last; none while another change could have the same times.
    times: Option<Times>,
    files_at: Duration,
}

/// Modification and status change, nanoseconds since 1970.
type Times = (i128, i128);

impl Shared {
    fn polled(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Polled>> {
        self.polled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches a directory, unless a database there is written fast.
    pub(super) fn watch_directory(&self, dir: &Path) {
        let polled = self.polled();
        if polled.contains_key(dir) {
            return;
        }
        if let Err(error) = self.watch.directory(dir) {
            tracing::debug!(dir = %dir.display(), %error, "directory not watched");
        }
    }

    /// Whether a database's directory is looked at for its sake.
    pub(super) fn polls_directory(&self, slot: &Slot) -> bool {
        self.polled().get(disk::parent(&slot.file)).is_some_and(|known| known.fast.contains(&slot.path))
    }

    /// A database is written fast: its directory is looked at instead of watched.
    pub(super) fn poll_directory(&self, slot: &Slot) {
        let (dir, now) = (disk::parent(&slot.file), self.now());
        // Read before the watch ends: what changes later differs from it.
        let times = self.times(dir);
        let settled = times.filter(|times| is_settled(*times, self.settings.machine.clock.now()));
        let mut polled = self.polled();
        let Some(known) = polled.get_mut(dir) else {
            let fast = BTreeSet::from([slot.path.clone()]);
            polled.insert(dir.to_owned(), Polled { fast, times: settled, files_at: now + FILES_EVERY });
            self.watch.leave(dir);
            return;
        };
        known.fast.insert(slot.path.clone());
        let changed = known.times != times;
        known.times = settled;
        if changed || now >= known.files_at {
            known.files_at = now + FILES_EVERY;
            self.ask(Task::Discover, now + SETTLE);
        }
    }

    /// A database is no longer written fast, or no longer there: its directory is watched again if it was the last one.
    pub(super) fn unpoll_directory(&self, slot: &Slot) {
        let dir = disk::parent(&slot.file);
        let mut polled = self.polled();
        let Some(known) = polled.get_mut(dir) else { return };
        if known.fast.remove(&slot.path) && known.fast.is_empty() {
            polled.remove(dir);
            // Watches it, then looks at all files.
            self.ask(Task::Discover, self.now());
        }
    }

    fn times(&self, dir: &Path) -> Option<Times> {
        let found = self.settings.machine.disk.metadata(dir).ok()?;
        Some((found.modified_ns, found.changed_ns))
    }
}

/// Whether another change would show in other times.
fn is_settled((modified, changed): Times, now: Timestamp) -> bool {
    let age = (i128::from(now.0) * 1_000_000 - modified.max(changed)).unsigned_abs();
    age > TIMES_SETTLE.as_nanos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_count_once_they_can_no_longer_be_those_of_the_next_change() {
        let now = Timestamp(1_000_000);
        let at = |ms: i128| (0, ms * 1_000_000);
        assert!(!is_settled(at(1_000_000), now));
        assert!(!is_settled(at(999_951), now));
        assert!(is_settled(at(999_949), now));
        assert!(is_settled(at(1_000_051), now), "a clock that was set back does not stop it for ever");
    }
}
