//! Restores, as intents: what was meant, and how to go back, durable before the first page is turned.
//!
//! ```text
//!   begin ──► open ──► complete      its undo vector is the undo point, until the next restore completes
//!              └─────► abandoned     everything is as it was before
//! ```
//! At most one is open. One found open at start is the restore that a crash interrupted.

use super::schema::number;
use super::{Durability, Ledger, LedgerError, Trouble, Vector};
use base::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

const OPEN: i64 = 0;
const COMPLETE: i64 = 1;
const ABANDONED: i64 = 2;

/// How many former intents are kept, for people to look at.
const KEPT: i64 = 100;

/// The number of an intent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IntentId(pub u64);

/// A restore that has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// Its number.
    pub id: IntentId,
    /// When it began.
    pub begun: Timestamp,
    /// What it aims at, for people: a checkpoint's name, a time, `undo`.
    pub target_name: String,
    /// Where all databases stood.
    pub undo: Vector,
    /// Where they go.
    pub target: Vector,
}

/// Why an intent was not recorded.
#[derive(Debug, thiserror::Error)]
pub enum IntentError {
    /// A restore is under way: finish it first.
    #[error("a restore to `{0}` is not finished")]
    Open(String),
    /// The ledger failed; nothing is recorded.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl Ledger {
    /// Records what a restore is about to do. Durable when it returns.
    pub fn begin_intent(
        &self,
        begun: Timestamp,
        target_name: &str,
        undo: &Vector,
        target: &Vector,
    ) -> Result<IntentId, IntentError> {
        let begin = self.write(Durability::Power, |tx, _| {
            let open: Option<String> = tx
                .prepare_cached("SELECT target_name FROM intent WHERE state = ?1")?
                .query_row([OPEN], |row| row.get(0))
                .optional()?;
            if let Some(target_name) = open {
                return Ok(Err(target_name));
            }
            tx.prepare_cached(
                "DELETE FROM intent WHERE id <= (SELECT max(id) FROM intent) - ?1 AND id NOT IN
                 (SELECT max(id) FROM intent WHERE state = ?2)",
            )?
            .execute([KEPT, COMPLETE])?;
            tx.prepare_cached(
                "INSERT INTO intent (begun_ms, state, target_name, undo, target) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![begun.0, OPEN, target_name, encode(undo)?, encode(target)?])?;
            Ok(Ok(IntentId(number(tx.last_insert_rowid(), "an intent")?)))
        })?;
        begin.map_err(IntentError::Open)
    }

    /// The restore is done; its undo vector becomes the undo point. Durable.
    pub fn complete_intent(&self, id: IntentId) -> Result<(), LedgerError> {
        self.close_intent(id, COMPLETE, None)
    }

    /// The restore was taken back: everything is as it was. Durable.
    pub fn abandon_intent(&self, id: IntentId, reason: &str) -> Result<(), LedgerError> {
        self.close_intent(id, ABANDONED, Some(reason))
    }

    /// The restore under way, or interrupted by a crash.
    pub fn open_intent(&self) -> Result<Option<Intent>, LedgerError> {
        self.read(|connection, _| {
            let found = connection
                .prepare_cached(
                    "SELECT id, begun_ms, target_name, undo, target FROM intent WHERE state = ?1",
                )?
                .query_row([OPEN], |row| {
                    Ok((row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
                })
                .optional()?;
            let Some((id, begun, target_name, undo, target)) = found else { return Ok(None) };
            let (undo, target): (String, String) = (undo, target);
            Ok(Some(Intent {
                id: IntentId(number(id, "an intent")?),
                begun: Timestamp(begun),
                target_name,
                undo: decode(&undo)?,
                target: decode(&target)?,
            }))
        })
    }

    /// Where all databases stood before the last restore that was completed.
    pub fn last_undo(&self) -> Result<Option<Vector>, LedgerError> {
        self.read(|connection, _| last_undo(connection))
    }

    /// Whether the restore that was begun last is done: neither under way nor taken back.
    pub fn last_restore_is_done(&self) -> Result<bool, LedgerError> {
        self.read(|connection, _| {
            let state: Option<i64> = connection
                .prepare_cached("SELECT state FROM intent ORDER BY id DESC LIMIT 1")?
                .query_row([], |row| row.get(0))
                .optional()?;
            Ok(state == Some(COMPLETE))
        })
    }

    fn close_intent(&self, id: IntentId, state: i64, reason: Option<&str>) -> Result<(), LedgerError> {
        self.write(Durability::Power, |tx, _| {
            let closed = tx
                .prepare_cached("UPDATE intent SET state = ?2, reason = ?3 WHERE id = ?1 AND state = 0")?
                .execute(params![id.0.cast_signed(), state, reason])?;
            if closed == 1 { Ok(()) } else { Err(Trouble::Row(format!("intent {} is not open", id.0))) }
        })
    }
}

/// The vectors that intents hold: the undo point, and both ends of a restore under way.
pub(super) fn held(connection: &Connection) -> Result<Vec<Vector>, Trouble> {
    let mut held: Vec<Vector> = last_undo(connection)?.into_iter().collect();
    let mut statement = connection.prepare_cached("SELECT undo, target FROM intent WHERE state = ?1")?;
    let mut rows = statement.query([OPEN])?;
    while let Some(row) = rows.next()? {
        held.push(decode(&row.get::<_, String>(0)?)?);
        held.push(decode(&row.get::<_, String>(1)?)?);
    }
    Ok(held)
}

fn last_undo(connection: &Connection) -> Result<Option<Vector>, Trouble> {
    let undo: Option<String> = connection
        .prepare_cached("SELECT undo FROM intent WHERE state = ?1 ORDER BY id DESC LIMIT 1")?
        .query_row([COMPLETE], |row| row.get(0))
        .optional()?;
    undo.as_deref().map(decode).transpose()
}

fn encode(vector: &Vector) -> Result<String, Trouble> {
    serde_json::to_string(vector).map_err(|error| Trouble::Row(error.to_string()))
}

fn decode(text: &str) -> Result<Vector, Trouble> {
    serde_json::from_str(text).map_err(|error| Trouble::Row(format!("a vector: {error}")))
}
