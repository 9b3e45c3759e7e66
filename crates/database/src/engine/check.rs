//! Verification: the live database against its checksums, and its whole history against itself.

use super::cookies::Before;
use super::slot::State;
use super::{Engine, Shared};
use crate::live::{scan, sealed_reader};
use base::{DatabasePath, Position};

/// What a verification found.
#[derive(Clone, Debug)]
pub struct Check {
    /// The position that was verified.
    pub position: Position,
    /// Pages compared.
    pub pages: u64,
    /// History files read to the end.
    pub files: u64,
    /// What does not add up.
    pub problems: Vec<String>,
}

/// Why nothing was verified.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// It is not followed: see its status.
    #[error("{0} is not followed now")]
    NotFollowed(DatabasePath),
    /// It could not be read.
    #[error("{0}")]
    Failed(String),
}

impl Engine {
    /// Compares a database with its checksums, page by page, and reads every file of its history to the end.
    pub fn verify(&self, path: &DatabasePath) -> Result<Check, CheckError> {
        self.shared.verify(path)
    }
}

impl Shared {
    fn verify(&self, path: &DatabasePath) -> Result<Check, CheckError> {
        let not_followed = || CheckError::NotFollowed(path.clone());
        let slot = self.slot(path).ok_or_else(not_followed)?;
        let text = |error: &dyn std::fmt::Display| CheckError::Failed(error.to_string());
        let (reader, sums, position, history) = {
            let mut state = slot.lock();
            let State::Live(live) = &mut *state else { return Err(not_followed()) };
            let first = Before::of(live);
            let reader = sealed_reader(live).map_err(|error| text(&error))?;
            slot.show_live(live);
            self.note_cookie(&slot, live, first);
            (reader, live.sums().clone(), live.position(), live.history().clone())
        };
        let found = scan(&reader, &sums).map_err(|error| text(&error))?;
        let mut problems: Vec<String> = found
            .differing
            .iter()
            .take(20)
            .map(|pgno| {
                format!("page {pgno} of the database is not as it was sealed at txid {}", position.txid)
            })
            .collect();
        if found.sums.rolling() != position.checksum && problems.is_empty() {
            problems.push(format!("the pages add up to {}, not {}", found.sums.rolling(), position.checksum));
        }
        let files = history.files();
        problems.extend(files.iter().filter_map(|file| history.examine(file)));
        Ok(Check { position, pages: u64::from(found.sums.pages()), files: files.len() as u64, problems })
    }
}
