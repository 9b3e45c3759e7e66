//! Checkpoints: a cut of all databases, recorded in the ledger by one synced commit.
//!
//! `tmp/checkpoints/<id>/checkpoint.json` is a copy for people and scripts: written unsynced after the commit, and
//! made again from the ledger at every start (missing ones written, strays removed). The ledger alone decides.

use crate::control::{Checkpoint, CheckpointError, CheckpointId, CheckpointMade, milliseconds};
use crate::home::Home;
use crate::node::{Core, lock};
use base::{Open, Random, Timestamp};
use database::engine::CutError;
use database::ledger::{self, InsertError};
use serde_json::json;
use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long a checkpoint waits for one moment in which no transaction spans databases.
pub const CUT_LIMIT: Duration = Duration::from_secs(5);
/// Names made from the time that are tried before one is taken already: each has 65,536 ends to choose from.
pub const NAMES_TRIED: usize = 8;

impl Core {
    /// Makes a checkpoint; without an id, one is made from the time.
    pub(crate) fn checkpoint(
        &self,
        id: Option<CheckpointId>,
        comment: Option<String>,
        automatic: bool,
    ) -> Result<CheckpointMade, CheckpointError> {
        if self.config().is_none() {
            return Err(CheckpointError::Unconfigured);
        }
        let begun = self.setup.machine.clock.boottime();
        let id = match id {
            Some(id) => id,
            None => unused_id(self.now(), &*self.setup.machine.random, &|id| {
                self.setup.ledger.checkpoint(id.as_str()).map(|there| there.is_some()).map_err(failed)
            })?,
        };
        if self.setup.ledger.checkpoint(id.as_str()).map_err(failed)?.is_some() {
            return Err(CheckpointError::Taken(id));
        }
        if self.restoring.load(Ordering::SeqCst) {
            return Err(CheckpointError::Restoring);
        }
        let databases = self.databases().ok_or_else(|| failed("the databases are not up"))?;
        databases.settle().map_err(|open| CheckpointError::Unfinished {
            reason: open.to_string(),
            disk_full: open.disk_full,
        })?;
        let cut = databases.cut(CUT_LIMIT).map_err(|error| self.no_cut(error))?;
        let checkpoint = Checkpoint { id, created: cut.at, comment, automatic, databases: cut.vector };
        self.record(&checkpoint)?;
        databases.ledger_changed();
        *lock(&self.catalogue) = None;
        let ms = milliseconds(self.setup.machine.clock.boottime() - begun);
        if let Err(error) = write_directory(&self.setup.home, &checkpoint) {
            tracing::warn!(event = "checkpoint directory stale", %error, id = %checkpoint.id, "checkpoint.json was not written; the checkpoint counts");
        }
        tracing::info!(event = "checkpoint made", id = %checkpoint.id, ms, automatic, databases = checkpoint.databases.len());
        self.tell("checkpoint", json!({ "id": checkpoint.id, "created": checkpoint.created, "ms": ms }));
        Ok(CheckpointMade { checkpoint, ms })
    }

    /// Why there is no cut; a restore that began meanwhile is what was in the way.
    fn no_cut(&self, error: CutError) -> CheckpointError {
        let reason = error.to_string();
        if error.disk_full {
            return CheckpointError::Failed { reason, disk_full: true };
        }
        if self.restoring.load(Ordering::SeqCst) {
            return CheckpointError::Restoring;
        }
        let limit_ms = u64::try_from(CUT_LIMIT.as_millis()).unwrap_or(u64::MAX);
        CheckpointError::NoCut { limit_ms, reason, pid: error.pid }
    }

    fn record(&self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        let new = ledger::Checkpoint {
            id: checkpoint.id.to_string(),
            created: checkpoint.created,
            comment: checkpoint.comment.clone(),
            automatic: checkpoint.automatic,
            vector: checkpoint.databases.clone(),
        };
        self.setup.ledger.insert_checkpoint(&new).map_err(|error| match error {
            InsertError::Taken(_) => CheckpointError::Taken(checkpoint.id.clone()),
            InsertError::Ledger(error) => {
                CheckpointError::Failed { disk_full: error.is_disk_full(), reason: error.to_string() }
            }
        })
    }

    /// All of them, newest first.
    pub(crate) fn checkpoints(&self) -> Result<Vec<Checkpoint>, CheckpointError> {
        let stored = self.setup.ledger.checkpoints().map_err(failed)?;
        let mut all: Vec<Checkpoint> = stored.into_iter().filter_map(from_ledger).collect();
        all.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| b.id.cmp(&a.id)));
        Ok(all)
    }

    /// Removes one from the catalogue, then its directory.
    pub(crate) fn remove_checkpoint(&self, id: &CheckpointId) -> Result<(), CheckpointError> {
        if self.config().is_none() {
            return Err(CheckpointError::Unconfigured);
        }
        if !self.setup.ledger.remove_checkpoint(id.as_str()).map_err(failed)? {
            return Err(CheckpointError::NotFound(id.clone()));
        }
        if let Some(databases) = self.databases() {
            databases.ledger_changed();
        }
        *lock(&self.catalogue) = None;
        let home = &self.setup.home;
        if let Err(error) = base::disk::remove_dir_all(home.disk(), &home.checkpoints().join(id.as_str())) {
            tracing::warn!(event = "checkpoint directory stale", %error, %id, "the directory of a removed checkpoint stays until the next start");
        }
        self.tell("checkpoint", json!({ "id": id, "removed": true }));
        Ok(())
    }

    /// Makes `tmp/checkpoints` show what the ledger has.
    pub(crate) fn rebuild_checkpoint_directories(&self) {
        match self.checkpoints() {
            Ok(catalogue) => {
                if let Err(error) = rebuild(&self.setup.home, &catalogue) {
                    tracing::warn!(event = "checkpoint directory stale", %error, "tmp/checkpoints was not rebuilt; the catalogue counts");
                }
            }
            Err(error) => tracing::error!(event = "ledger failed", %error, "the catalogue could not be read"),
        }
    }
}

fn failed(reason: impl ToString) -> CheckpointError {
    CheckpointError::Failed { reason: reason.to_string(), disk_full: false }
}

/// A row of the ledger; one whose name this version would not accept is left out, and said so.
pub(crate) fn from_ledger(stored: ledger::Checkpoint) -> Option<Checkpoint> {
    match CheckpointId::parse(&stored.id) {
        Ok(id) => Some(Checkpoint {
            id,
            created: stored.created,
            comment: stored.comment,
            automatic: stored.automatic,
            databases: stored.vector,
        }),
        Err(error) => {
            tracing::error!(event = "ledger failed", %error, "it has a checkpoint that cannot be named");
            None
        }
    }
}

/// An id made from the time; the last one tried where all are taken.
fn unused_id(
    now: Timestamp,
    random: &dyn Random,
    is_taken: &dyn Fn(&CheckpointId) -> Result<bool, CheckpointError>,
) -> Result<CheckpointId, CheckpointError> {
    let mut id = id_from_time(now, random)?;
    for _ in 1..NAMES_TRIED {
        if !is_taken(&id)? {
            break;
        }
        id = id_from_time(now, random)?;
    }
    Ok(id)
}

/// `20261121T100000Z-3fa9`: sortable, and told from others of that second by its random end.
fn id_from_time(now: Timestamp, random: &dyn Random) -> Result<CheckpointId, CheckpointError> {
    let second: String =
        now.rfc3339().chars().filter(|c| !matches!(c, '-' | ':')).take_while(|c| *c != '.').collect();
    let mut end = [0; 2];
    random.fill(&mut end);
    let text = format!("{second}Z-{:02x}{:02x}", end[0], end[1]);
    CheckpointId::parse(&text).map_err(failed)
}

/// Writes `checkpoint.json` of one checkpoint, unsynced.
fn write_directory(home: &Home, checkpoint: &Checkpoint) -> io::Result<()> {
    let dir = home.checkpoints().join(checkpoint.id.as_str());
    home.disk().create_dir_all(&dir)?;
    let mut bytes = serde_json::to_vec_pretty(&document(checkpoint))?;
    bytes.push(b'\n');
    home.disk().open(&dir.join("checkpoint.json"), Open::Create { private: false })?.write_at(&bytes, 0)
}

/// `checkpoint.json`: the checkpoint, with its time for machines and for people.
fn document(checkpoint: &Checkpoint) -> serde_json::Value {
    json!({
        "id": checkpoint.id,
        "created": checkpoint.created,
        "created_at": checkpoint.created.rfc3339(),
        "comment": checkpoint.comment,
        "automatic": checkpoint.automatic,
        "databases": checkpoint.databases,
    })
}

fn rebuild(home: &Home, catalogue: &[Checkpoint]) -> io::Result<()> {
    let known: BTreeSet<&str> = catalogue.iter().map(|c| c.id.as_str()).collect();
    let top = home.checkpoints();
    for entry in home.disk().read_dir(&top)? {
        let path = top.join(&entry.name);
        if !entry.is_dir {
            home.disk().remove_file(&path)?;
        } else if !known.contains(entry.name.as_str()) {
            base::disk::remove_dir_all(home.disk(), &path)?;
        }
    }
    for checkpoint in catalogue {
        let file = top.join(checkpoint.id.as_str()).join("checkpoint.json");
        let expected = document(checkpoint);
        let there = base::disk::read(home.disk(), &file, crate::home::SMALL_FILE_BYTES).ok();
        if there.and_then(|b| serde_json::from_slice::<serde_json::Value>(&b).ok()) != Some(expected) {
            write_directory(home, checkpoint)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::{Disk, LocalDisk, SystemRandom};
    use std::sync::Arc;
    use std::sync::atomic::AtomicU8;

    fn checkpoint(id: &str) -> Checkpoint {
        Checkpoint {
            id: CheckpointId::parse(id).unwrap(),
            created: Timestamp(1_795_255_200_000),
            comment: Some("before the upgrade".into()),
            automatic: false,
            databases: Default::default(),
        }
    }

    #[test]
    fn an_id_made_from_the_time_sorts_and_differs() {
        let made = id_from_time(Timestamp(1_795_255_200_123), &SystemRandom).unwrap();
        assert!(made.as_str().starts_with("20261121T100000Z-"), "{made}");
        assert_eq!(made.as_str().len(), "20261121T100000Z-xxxx".len());
    }

    /// Counts.
    #[derive(Debug, Default)]
    struct Counted(AtomicU8);

    impl Random for Counted {
        fn fill(&self, buffer: &mut [u8]) {
            buffer.fill(self.0.fetch_add(1, Ordering::SeqCst));
        }
    }

    #[test]
    fn an_id_that_is_taken_gives_way_to_another_of_the_same_second() {
        let made = |taken: &dyn Fn(&str) -> bool| {
            let is_taken = |id: &CheckpointId| Ok(taken(id.as_str()));
            unused_id(Timestamp(1_795_255_200_123), &Counted::default(), &is_taken).unwrap().to_string()
        };
        assert_eq!(made(&|_| false), "20261121T100000Z-0000");
        assert_eq!(made(&|id| !id.ends_with("0202")), "20261121T100000Z-0202");
        assert_eq!(made(&|_| true), "20261121T100000Z-0707", "it does not search for ever");
    }

    #[test]
    fn the_directories_are_rebuilt_from_the_catalogue() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(Arc::new(LocalDisk), dir.path()).unwrap();
        let file = home.checkpoints().join("kept/checkpoint.json");
        LocalDisk.create_dir_all(&home.checkpoints().join("stray/deep")).unwrap();
        LocalDisk.create_dir_all(&home.checkpoints().join("kept")).unwrap();
        base::disk::write_atomic(&LocalDisk, &file, b"{\"torn", false).unwrap();

        rebuild(&home, &[checkpoint("kept"), checkpoint("missing")]).unwrap();

        assert!(LocalDisk.metadata(&home.checkpoints().join("stray")).is_err());
        for id in ["kept", "missing"] {
            let path = home.checkpoints().join(id).join("checkpoint.json");
            let bytes = base::disk::read(&LocalDisk, &path, 10_000).unwrap();
            let shown: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(shown["id"], id);
            assert_eq!(shown["created_at"], "2026-11-21T10:00:00.000Z");
        }
    }
}
