//! One database at a time: its history listed, verified, and written out as a file.

use super::Core;
use crate::control::{
    AskError, Asked, CheckpointId, DatabaseError, HistoryFile, Moment, Question, Rows, State, Verified,
    milliseconds,
};
use crate::home::Home;
use crate::query::{self, NoAnswer, QUERIES_MAX, Stop};
use base::{DatabasePath, Open, Position, Timestamp, Txid};
use database::history::{FileInfo, History, ImageError};
use database::query::{Query, QueryError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How long an answer waits until what was written to an empty database is followed and sealed.
const FIRST_SEAL_LIMIT: Duration = Duration::from_secs(2);
/// Between two looks at that.
const FIRST_SEAL_STEP: Duration = Duration::from_millis(20);
/// How the files that an export makes in `tmp/` are called; leftovers of such names are removed at start.
pub(crate) const EXPORT_PREFIX: &str = "export-";

impl Core {
    /// The history of a database; none of one that is empty.
    fn history_of(&self, path: &DatabasePath) -> Result<Option<Arc<History>>, DatabaseError> {
        if self.config().is_none() {
            return Err(DatabaseError::Unconfigured);
        }
        let databases = self.databases().ok_or_else(not_up)?;
        if let Some(history) = databases.history(path) {
            return Ok(Some(history));
        }
        match databases.list().into_iter().find(|info| info.path == *path) {
            Some(info) if info.mode == "empty" => Ok(None),
            _ => Err(DatabaseError::NotFound(path.to_string())),
        }
    }

    /// The history files of a database, oldest first; of two copies the one on this machine.
    pub(crate) fn history(&self, path: &DatabasePath) -> Result<Vec<HistoryFile>, DatabaseError> {
        let Some(history) = self.history_of(path)? else { return Ok(Vec::new()) };
        let mut files: Vec<HistoryFile> = history
            .files()
            .into_iter()
            .filter_map(|file| {
                let header = history.header(&file)?;
                Some(HistoryFile {
                    level: file.key.level,
                    min_txid: file.key.min,
                    max_txid: file.key.max,
                    created: header.timestamp,
                    bytes: file.bytes,
                    commit: header.commit,
                    checksum: header.checksum_after,
                })
            })
            .collect();
        files.sort_by_key(|file| (file.max_txid, file.min_txid, file.level));
        files.dedup_by_key(|file| (file.level, file.min_txid, file.max_txid));
        Ok(files)
    }

    /// Compares the live database and its whole history with their checksums.
    pub(crate) fn verify(&self, path: &DatabasePath) -> Result<Verified, DatabaseError> {
        if self.history_of(path)?.is_none() {
            return Ok(Verified {
                path: path.clone(),
                ok: true,
                position: None,
                pages: 0,
                files: 0,
                problems: Vec::new(),
            });
        }
        let databases = self.databases().ok_or_else(not_up)?;
        let check = databases.verify(path).map_err(|error| DatabaseError::Failed(error.to_string()))?;
        Ok(Verified {
            path: path.clone(),
            ok: check.problems.is_empty(),
            position: Some(check.position),
            pages: check.pages,
            files: check.files,
            problems: check.problems,
        })
    }

    /// Writes the database as it was into a new file in `tmp/`, which the caller removes.
    pub(crate) fn export(&self, path: &DatabasePath, moment: Moment) -> Result<PathBuf, DatabaseError> {
        let (history, moment) = match moment {
            Moment::Checkpoint(id) => self.history_in(path, &id)?,
            moment => {
                let empty =
                    || DatabaseError::NothingThere(format!("{path} is empty: nothing was ever in it"));
                (self.history_of(path)?.ok_or_else(empty)?, moment)
            }
        };
        if matches!(moment, Moment::Now)
            && let Some(databases) = self.databases()
        {
            databases.sync();
        }
        let whole = history.restorable();
        let sealed = |file: &FileInfo| Some((file.key.max, history.header(file)?.timestamp));
        let seals: Vec<(Txid, Timestamp)> =
            history.files().iter().filter(|f| whole.contains(&f.key.max)).filter_map(sealed).collect();
        let target = seal_at(&seals, &moment).filter(|txid| whole.contains(txid)).ok_or_else(|| {
            DatabaseError::NothingThere(format!("{path}: its history has no such moment (any more)"))
        })?;
        let home = &self.setup.home;
        let name = format!("{EXPORT_PREFIX}{:016x}.sqlite", self.setup.machine.random.next_u64());
        let out = home.tmp().join(name);
        let written = self.write_image(&history, target, &out);
        if let Err(error) = written {
            // The half-written file must not stay; the first error is the one to report.
            let _ = home.disk().remove_file(&out);
            let told = format!("{path}: {error}");
            return Err(match error {
                ImageError::Output(_) | ImageError::Unavailable { .. } => DatabaseError::Failed(told),
                ImageError::Damaged { .. } | ImageError::Plan(_) | ImageError::NotWhole(_) => {
                    DatabaseError::Damaged(told)
                }
            });
        }
        Ok(out)
    }

    /// Runs SQL on a database as it is or was.
    pub(crate) fn ask(&self, path: &DatabasePath, question: Question) -> Result<Asked, AskError> {
        let began = self.setup.machine.clock.boottime();
        let was_empty = self.history_of(path)?.is_none();
        let Ok(_place) = Place::take(&self.queries) else { return Err(AskError::TooMany(QUERIES_MAX)) };
        let (rows, position) = match (question.write, question.moment) {
            (true, _) => self.ask_writing(path, question.sql, was_empty)?,
            (false, Moment::Now) => {
                let file = self.setup.home.root().join(path.as_str());
                (read(Query { file, sql: question.sql, write: false })?, None)
            }
            (false, moment) => {
                let file = self.export(path, moment)?;
                let rows = read(Query { file: file.clone(), sql: question.sql, write: false });
                for suffix in ["", "-wal", "-shm"] {
                    let beside = base::disk::sibling(&file, suffix);
                    if self.setup.home.disk().metadata(&beside).is_ok() {
                        remove(&self.setup.home, &beside);
                    }
                }
                (rows?, None)
            }
        };
        let ms = milliseconds(self.setup.machine.clock.boottime().saturating_sub(began));
        Ok(Asked { path: path.clone(), rows, position, ms })
    }

    /// Nothing of the node waits for the statements: a restore, a change of role and the end of the node end them.
    fn ask_writing(
        &self,
        path: &DatabasePath,
        sql: String,
        was_empty: bool,
    ) -> Result<(Rows, Option<Position>), AskError> {
        let under_way = self.writers.enter().map_err(|why| AskError::NotNow(why.to_owned()))?;
        if self.state() != State::Primary {
            return Err(AskError::NotPrimary("see `stead status`".to_owned()));
        }
        if let Err(unfinished) = self.databases().ok_or_else(not_up)?.settle() {
            return Err(AskError::NotPrimary(unfinished.reason));
        }
        let file = self.setup.home.root().join(path.as_str());
        let rows =
            query::ask(&Query { file, sql, write: true }, &under_way.stop).map_err(|error| match error {
                NoAnswer::Refused(error) => AskError::Query(error),
                NoAnswer::Unknown(why) => AskError::Ended(self.writers.closed().map_or(why, str::to_owned)),
            })?;
        let clock = &self.setup.machine.clock;
        let end = clock.boottime() + FIRST_SEAL_LIMIT;
        loop {
            let position = self.sealed(path)?;
            // The engine finds a file that is no longer empty by itself, soon.
            let waits = was_empty && position.is_none() && clock.boottime() < end;
            if !waits || self.writers.closed().is_some() {
                return Ok((rows, position));
            }
            clock.sleep(FIRST_SEAL_STEP);
        }
    }

    /// Seals what is open; where the database stands then, if it is followed.
    fn sealed(&self, path: &DatabasePath) -> Result<Option<Position>, DatabaseError> {
        let databases = self.databases().ok_or_else(not_up)?;
        databases.sync();
        Ok(databases.list().into_iter().find(|info| info.path == *path).and_then(|info| info.position))
    }

    /// The history that a checkpoint's position counts in, and that position.
    fn history_in(
        &self,
        path: &DatabasePath,
        id: &CheckpointId,
    ) -> Result<(Arc<History>, Moment), DatabaseError> {
        if self.config().is_none() {
            return Err(DatabaseError::Unconfigured);
        }
        let stored = self.setup.ledger.checkpoint(id.as_str());
        let stored = stored.map_err(|error| DatabaseError::Failed(error.to_string()))?;
        let stored =
            stored.ok_or_else(|| DatabaseError::NothingThere(format!("there is no checkpoint `{id}`")))?;
        let position = stored.vector.get(path).copied();
        let position =
            position.ok_or_else(|| DatabaseError::NothingThere(format!("`{id}` has no `{path}`")))?;
        let databases = self.databases().ok_or_else(not_up)?;
        let history = databases.history_at(path, position.incarnation);
        let history = history.map_err(|error| DatabaseError::Failed(error.to_string()))?;
        let found = history.plan(position.txid).map_err(|error| DatabaseError::Damaged(error.to_string()))?;
        if found.header().checksum_after != position.checksum {
            let told =
                format!("{path}: txid {} of its history is not the one that `{id}` holds", position.txid);
            return Err(DatabaseError::Damaged(told));
        }
        Ok((history, Moment::Txid(position.txid)))
    }

    fn write_image(&self, history: &History, target: Txid, out: &Path) -> Result<(), ImageError> {
        let file =
            self.setup.home.disk().open(out, Open::Create { private: true }).map_err(ImageError::Output)?;
        history.image(target, &*file, &mut |_, _| {}).map(drop)
    }
}

/// One of the queries that may run at once, given back when it is done.
struct Place<'a>(&'a AtomicUsize);

impl Place<'_> {
    fn take(running: &AtomicUsize) -> Result<Place<'_>, usize> {
        let more = |count| (count < QUERIES_MAX).then_some(count + 1);
        running.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).map(|_| Place(running))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn read(query: Query) -> Result<Rows, AskError> {
    query::ask(&query, &Stop::default()).map_err(|error| match error {
        NoAnswer::Refused(error) => AskError::Query(error),
        NoAnswer::Unknown(why) => AskError::Query(QueryError::Failed(why)),
    })
}

fn not_up() -> DatabaseError {
    DatabaseError::Failed("the databases are not up: see `stead status`".to_owned())
}

/// The seal that a moment means, among those kept.
fn seal_at(seals: &[(Txid, Timestamp)], moment: &Moment) -> Option<Txid> {
    match moment {
        Moment::Txid(txid) => (*txid != Txid::ZERO).then_some(*txid),
        Moment::Now => seals.iter().map(|(txid, _)| *txid).max(),
        Moment::Time(time) => seals.iter().filter(|(_, sealed)| sealed <= time).map(|(txid, _)| *txid).max(),
        Moment::Checkpoint(_) => None,
    }
}

/// Removes exports that nobody came for: whoever asked is gone with the process that made them.
pub(crate) fn remove_leftovers(home: &Home) {
    let Ok(entries) = home.disk().read_dir(&home.tmp()) else { return };
    for entry in entries.iter().filter(|entry| !entry.is_dir && entry.name.starts_with(EXPORT_PREFIX)) {
        remove(home, &home.tmp().join(&entry.name));
    }
}

fn remove(home: &Home, path: &Path) {
    if let Err(error) = home.disk().remove_file(path) {
        tracing::warn!(event = "leftover stays", %error, path = %path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_the_newest_seal_not_later() {
        let seals = [(Txid(1), Timestamp(10)), (Txid(2), Timestamp(20)), (Txid(4), Timestamp(40))];
        assert_eq!(seal_at(&seals, &Moment::Now), Some(Txid(4)));
        assert_eq!(seal_at(&seals, &Moment::Time(Timestamp(39))), Some(Txid(2)));
        assert_eq!(seal_at(&seals, &Moment::Time(Timestamp(40))), Some(Txid(4)));
        assert_eq!(seal_at(&seals, &Moment::Time(Timestamp(9))), None);
        assert_eq!(seal_at(&seals, &Moment::Txid(Txid(3))), Some(Txid(3)));
        assert_eq!(seal_at(&[], &Moment::Now), None);
    }

    #[test]
    fn leftover_exports_go_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(Arc::new(base::LocalDisk), dir.path()).unwrap();
        for name in ["export-1.sqlite", "config.json"] {
            home.disk().open(&home.tmp().join(name), Open::CreateNew).unwrap();
        }
        remove_leftovers(&home);
        let left: Vec<String> =
            home.disk().read_dir(&home.tmp()).unwrap().into_iter().map(|e| e.name).collect();
        assert_eq!(left, ["checkpoints", "config.json"]);
    }
}
