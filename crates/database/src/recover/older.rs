//! A file that lies where a database of a store is to come back.
//!
//! | what it holds | what becomes of it |
//! |---|---|
//! | the database as it was at an earlier seal | the restore begins with it, and fetches only what changed since |
//! | the database as it was last | it stays, and nothing is fetched |
//! | anything else | it stays: somebody wrote it, so it counts as the newest state and is sealed as such |
//!
//! An older file is kept aside until the database is back: it may be the best there is.
//! Which of these it is, the sum of its pages tells. Before the engine starts nobody of this process has it open.

use crate::engine::OLDER;
use crate::history::{self, History};
use crate::live::Place;
use crate::machine::Machine;
use crate::sqlite::Participant;
use base::{DatabasePath, Disk, Incarnation, Txid, disk};
use std::io;
use std::path::Path;

/// Why a file stays that lies where a database of a store is to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stays {
    /// It is what the store has.
    AsStored,
    /// It holds something else.
    AsNewest,
}

/// Has a restore of this database begin with the file in its place, where that is an older state of it; whether that
/// file stays.
///
/// What fails here costs only that the whole is fetched.
pub(super) fn begin_with_older(
    home: &Path,
    machine: &Machine,
    path: &DatabasePath,
    incarnation: Incarnation,
    history: &History,
) -> Option<Stays> {
    let file = home.join(path.as_str());
    let state = home.join(".stead/databases").join(path.as_str());
    let place = Place { path: path.clone(), file, incarnation, state };
    match begin(machine, &place, history) {
        Ok(Begun::WithNothing) => None,
        Ok(Begun::With(at)) => {
            let what =
                format!("the file in its place is as of txid {at}: only what changed since is fetched");
            tracing::info!(event = "older copy", %path, "{what}");
            None
        }
        Ok(Begun::Not(stays, why)) => {
            tracing::info!(event = "older copy", %path, "{why}");
            Some(stays)
        }
        Err(error) => {
            tracing::warn!(event = "older copy", %path, %error, "the file in its place is not made use of");
            Some(Stays::AsNewest)
        }
    }
}

/// What a restore begins with.
enum Begun {
    /// There is nothing in its place.
    WithNothing,
    /// The file is as of this TXID.
    With(Txid),
    /// There is none: the file stays, for this reason.
    Not(Stays, &'static str),
}

fn begin(machine: &Machine, place: &Place, history: &History) -> io::Result<Begun> {
    let disk = &*machine.disk;
    match disk.metadata(&place.file) {
        Ok(found) if found.is_file && found.len > 0 => {}
        Ok(_) => return Ok(Begun::WithNothing),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Begun::WithNothing),
        Err(error) => return Err(error),
    }
    disk.refuse_planted(&place.file)?;
    if !is_alone(disk, &place.file) {
        settle(machine, &place.file)?;
        if !is_alone(disk, &place.file) {
            return Ok(Begun::Not(
                Stays::AsNewest,
                "the file in its place is in use: it stays, and counts as the newest",
            ));
        }
    }
    let Some((sums, at)) = history.recognise(&place.file)? else {
        let stays =
            "the file in its place is in no state that the store has: it stays, and counts as the newest";
        return Ok(Begun::Not(Stays::AsNewest, stays));
    };
    if history.last().is_some_and(|last| {
        (last.header.commit, last.header.checksum_after) == (sums.pages(), sums.rolling())
    }) {
        place.keep_sums(disk, &sums, at);
        return Ok(Begun::Not(Stays::AsStored, "the file in its place is what the store has"));
    }
    let (file, aside) = (&place.file, disk::sibling(&place.file, OLDER));
    history::begin_with(disk, file, &history::beside(file), &(sums, at))?;
    disk.rename(file, &aside)?;
    // Empty, or of no use without the file.
    for suffix in ["-wal", "-shm"] {
        disk::remove_if_there(disk, &disk::sibling(file, suffix))?;
    }
    disk.sync_dir(disk::parent(file))?;
    Ok(Begun::With(at))
}

/// Whether the file holds all there is of the database.
fn is_alone(disk: &dyn Disk, file: &Path) -> bool {
    ["-wal", "-journal"]
        .iter()
        .all(|suffix| disk.metadata(&disk::sibling(file, suffix)).map_or(0, |at| at.len) == 0)
}

/// Has SQLite put everything into the file, as its own last connection would.
fn settle(machine: &Machine, file: &Path) -> io::Result<()> {
    let settled = Participant::open(file, machine.vfs.as_deref()).and_then(|database| {
        database.page_count()?;
        database.close_tidily()
    });
    settled.map_err(io::Error::other)
}
