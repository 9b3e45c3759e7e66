//! SQL of a person: what is asked, what it comes to, and why it does not.

use super::{DatabaseError, Moment};
use base::{DatabasePath, Position};
pub use database::query::{QueryError, Rows};
use serde::Serialize;

/// SQL for one database.
#[derive(Clone, Debug)]
pub struct Question {
    /// One or more statements.
    pub sql: String,
    /// When; only what is now can be changed.
    pub moment: Moment,
    /// Whether they may change the database, as one transaction.
    pub write: bool,
}

/// What SQL came to.
#[derive(Clone, Debug, Serialize)]
pub struct Asked {
    /// Which database.
    pub path: DatabasePath,
    /// Columns and rows of the last statement that has any, and how many rows were changed.
    #[serde(flatten)]
    pub rows: Rows,
    /// Where the changes are sealed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// How long it took, milliseconds.
    pub ms: f64,
}

/// Why SQL came to nothing; nothing was changed, but where [`AskError::Ended`] leaves that open.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// There is no such database or moment.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// This node may not write: promote it first, or wait for the restore (409).
    #[error("this node may not write: {0}")]
    NotPrimary(String),
    /// A restore or a change of role is under way; try again (503).
    #[error("{0}")]
    NotNow(String),
    /// Its process was ended before it had answered: all of its changes are there, or none. Look, then try again (503).
    #[error("the statements were broken off, and either all of them are done or none: {0}")]
    Ended(String),
    /// Others ask already; try again (503).
    #[error("{0} queries run already")]
    TooMany(usize),
    /// The statement, its time, or a writer in its way.
    #[error(transparent)]
    Query(#[from] QueryError),
}
