//! The catalogue of checkpoints: named moments.

use super::{Durability, Ledger, LedgerError, Trouble, Vector, vectors};
use base::Timestamp;
use rusqlite::{OptionalExtension, Row, params};

/// A named vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Its name; whoever makes it has checked its form.
    pub id: String,
    /// When the cut was made.
    pub created: Timestamp,
    /// What its maker wrote.
    pub comment: Option<String>,
    /// Made on a schedule.
    pub automatic: bool,
    /// The positions of all databases at the cut.
    pub vector: Vector,
}

/// Why a checkpoint was not recorded.
#[derive(Debug, thiserror::Error)]
pub enum InsertError {
    /// One of that name exists: choose another, or remove the old one.
    #[error("checkpoint `{0}` exists")]
    Taken(String),
    /// The ledger failed; nothing is recorded.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl Ledger {
    /// Records a checkpoint: one commit, one fsync, whatever is stored.
    pub fn insert_checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), InsertError> {
        let inserted = self.write(Durability::Power, |tx, cached| {
            let taken: bool = tx
                .prepare_cached("SELECT EXISTS (SELECT 1 FROM checkpoint WHERE id = ?1)")?
                .query_row([&checkpoint.id], |row| row.get(0))?;
            if taken {
                return Ok(false);
            }
            let moment = vectors::insert(tx, cached, checkpoint.created, &checkpoint.vector)?;
            tx.prepare_cached(
                "INSERT INTO checkpoint (id, moment, created_ms, automatic, comment) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![
                checkpoint.id,
                moment,
                checkpoint.created.0,
                checkpoint.automatic,
                checkpoint.comment
            ])?;
            Ok(true)
        })?;
        if inserted { Ok(()) } else { Err(InsertError::Taken(checkpoint.id.clone())) }
    }

    /// A checkpoint by its name.
    pub fn checkpoint(&self, id: &str) -> Result<Option<Checkpoint>, LedgerError> {
        self.read(|connection, _| {
            let found = connection
                .prepare_cached(
                    "SELECT id, created_ms, comment, automatic, moment FROM checkpoint WHERE id = ?1",
                )?
                .query_row([id], bare)
                .optional()?;
            found.map(|bare| with_vector(connection, bare)).transpose()
        })
    }

    /// All checkpoints, oldest first.
    pub fn checkpoints(&self) -> Result<Vec<Checkpoint>, LedgerError> {
        self.read(|connection, _| {
            let mut statement = connection.prepare_cached(
                "SELECT id, created_ms, comment, automatic, moment FROM checkpoint ORDER BY created_ms, moment, id",
            )?;
            let found = statement.query_map([], bare)?.collect::<Result<Vec<_>, _>>()?;
            found.into_iter().map(|bare| with_vector(connection, bare)).collect()
        })
    }

    /// How many checkpoints there are.
    pub fn checkpoint_count(&self) -> Result<u64, LedgerError> {
        self.read(|connection, _| {
            let count = connection
                .prepare_cached("SELECT count(*) FROM checkpoint")?
                .query_row([], |row| row.get::<_, i64>(0))?;
            super::schema::number(count, "the number of checkpoints")
        })
    }

    /// Forgets a checkpoint; what it held may be thinned from now on. `false` where there was none. Durable.
    pub fn remove_checkpoint(&self, id: &str) -> Result<bool, LedgerError> {
        self.write(Durability::Power, |tx, _| {
            Ok(tx.prepare_cached("DELETE FROM checkpoint WHERE id = ?1")?.execute([id])? > 0)
        })
    }
}

fn bare(row: &Row<'_>) -> rusqlite::Result<(Checkpoint, i64)> {
    let checkpoint = Checkpoint {
        id: row.get(0)?,
        created: Timestamp(row.get(1)?),
        comment: row.get(2)?,
        automatic: row.get(3)?,
        vector: Vector::new(),
    };
    Ok((checkpoint, row.get(4)?))
}

fn with_vector(
    connection: &rusqlite::Connection,
    (mut checkpoint, moment): (Checkpoint, i64),
) -> Result<Checkpoint, Trouble> {
    let missing =
        || Trouble::Row(format!("checkpoint `{}` names the missing moment {moment}", checkpoint.id));
    checkpoint.vector = vectors::vector_of(connection, moment)?.ok_or_else(missing)?;
    Ok(checkpoint)
}
