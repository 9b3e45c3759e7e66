//! Vectors, stored as stays, and what they pin.
//!
//! A stay is (database, since, until, position): the database stood there at every moment `since <= m < until`. To
//! note a vector is to end the stays that no longer hold and to begin others, at a new moment. To thin is to delete
//! moments, and then the stays in which none is left. The newest moment is never deleted.

use super::incarnations::{database_path, find, id_of, incarnation};
use super::schema::{STILL, number};
use super::{Durability, Ledger, LedgerError, Trouble, Vector};
use crate::history::Holds;
use crate::history::retention::{FINEST_KEPT, bucket, millis};
use base::{Checksum, DatabasePath, Incarnation, Position, Timestamp, Txid};
use rusqlite::{Connection, Row, Transaction, params};
use std::collections::BTreeSet;
use std::time::Duration;

/// How many moments are looked at under one lock while a usable one is searched.
const SEARCH_BATCH: usize = 16;

impl Ledger {
    /// Notes where all databases stood at one cut. Costs what changed since the vector before; nothing if nothing did.
    ///
    /// A power loss may take the last ones.
    pub fn note_vector(&self, at: Timestamp, vector: &Vector) -> Result<(), LedgerError> {
        if self.read(|_, newest| Ok(newest.as_ref() == Some(vector)))? {
            return Ok(());
        }
        self.write(Durability::Process, |tx, cached| insert(tx, cached, at, vector).map(drop))
    }

    /// The vector noted last; empty where there is none.
    pub fn newest_vector(&self) -> Result<Vector, LedgerError> {
        self.read(|connection, cached| {
            if let Some(vector) = cached {
                return Ok(vector.clone());
            }
            let vector = newest(connection)?;
            *cached = Some(vector.clone());
            Ok(vector)
        })
    }

    /// The vector noted last, and when; `None` where there is none.
    pub fn newest_moment(&self) -> Result<Option<(Timestamp, Vector)>, LedgerError> {
        let at = self.read(|connection, _| {
            let mut last = connection.prepare_cached("SELECT at_ms FROM moment ORDER BY id DESC LIMIT 1")?;
            let mut rows = last.query([])?;
            Ok(rows.next()?.map(|row| row.get(0)).transpose()?.map(Timestamp))
        })?;
        Ok(match at {
            Some(at) => Some((at, self.newest_vector()?)),
            None => None,
        })
    }

    /// The newest vector that is not later than a time, with its own.
    pub fn vector_at(&self, time: Timestamp) -> Result<Option<(Timestamp, Vector)>, LedgerError> {
        self.find_vector(time, &mut |_, _| true)
    }

    /// The newest vector not later than a time that `usable` accepts; for histories thinned since.
    pub fn find_vector(
        &self,
        not_after: Timestamp,
        usable: &mut dyn FnMut(Timestamp, &Vector) -> bool,
    ) -> Result<Option<(Timestamp, Vector)>, LedgerError> {
        let mut before = (not_after.0, i64::MAX);
        loop {
            let batch = self.read(|connection, _| moments_before(connection, before, SEARCH_BATCH))?;
            let Some(last) = batch.last() else { return Ok(None) };
            before = (last.1.0, last.0);
            for (moment, at) in batch {
                // Removed since the batch was read: then there is nothing to find in it.
                let Some(vector) = self.read(|connection, _| vector_of(connection, moment))? else {
                    continue;
                };
                if usable(at, &vector) {
                    return Ok(Some((at, vector)));
                }
            }
        }
    }

    /// At most `limit` vectors not later than a time, newest first.
    pub fn vectors_before(
        &self,
        not_after: Timestamp,
        limit: usize,
    ) -> Result<Vec<(Timestamp, Vector)>, LedgerError> {
        let mut found = Vec::new();
        if limit > 0 {
            self.find_vector(not_after, &mut |at, vector| {
                found.push((at, vector.clone()));
                found.len() == limit
            })?;
        }
        Ok(found)
    }

    /// Forgets vectors as history forgets its files: all are kept for five minutes, then the last of each 30 s, after
    /// an hour of each 5 min, after a day of each hour, and beyond `keep` the last alone. Checkpoints keep theirs. Returns how
    /// many went.
    pub fn thin_vectors(&self, now: Timestamp, keep: Duration) -> Result<u64, LedgerError> {
        self.tidy(Durability::Process, |tx, _| {
            let doomed = doomed_moments(tx, now, keep)?;
            let (Some(first), Some(last)) = (doomed.iter().min(), doomed.iter().max()) else { return Ok(0) };
            let mut delete = tx.prepare_cached("DELETE FROM moment WHERE id = ?1")?;
            for moment in &doomed {
                delete.execute([moment])?;
            }
            tx.prepare_cached(
                "DELETE FROM stay WHERE until > ?1 AND until <> ?3 AND since <= ?2 AND NOT EXISTS
                 (SELECT 1 FROM moment WHERE moment.id >= stay.since AND moment.id < stay.until)",
            )?
            .execute(params![first, last, STILL])?;
            Ok(doomed.len() as u64)
        })
    }

    /// The positions of a file that checkpoints, the undo point and an open restore hold, ascending.
    pub fn pins(&self, path: &DatabasePath, which: Incarnation) -> Result<Vec<Txid>, LedgerError> {
        self.read(|connection, _| {
            let mut pins = BTreeSet::new();
            if let Some(database) = find(connection, path)? {
                let mut statement = connection.prepare_cached(
                    "SELECT DISTINCT txid FROM stay WHERE database = ?1 AND incarnation = ?2 AND EXISTS
                     (SELECT 1 FROM checkpoint WHERE moment >= stay.since AND moment < stay.until)",
                )?;
                collect_txids(statement.query(params![database, which.0])?, &mut pins)?;
            }
            for vector in super::intents::held(connection)? {
                pins.extend(vector.get(path).filter(|p| p.incarnation == which).map(|p| p.txid));
            }
            pins.remove(&Txid::ZERO);
            Ok(pins.into_iter().collect())
        })
    }

    /// The furthest position of a file that the newest vector, checkpoints, the undo point and an open restore name.
    pub fn named_upto(&self, path: &DatabasePath, which: Incarnation) -> Result<Txid, LedgerError> {
        let noted = self.newest_vector()?.get(path).copied().filter(|at| at.incarnation == which);
        let pinned = self.pins(path, which)?.last().copied();
        Ok(pinned.max(noted.map(|at| at.txid)).unwrap_or(Txid::ZERO))
    }

    /// Whether any moment that is kept, a checkpoint's or another, names a file.
    pub fn is_named(&self, path: &DatabasePath, which: Incarnation) -> Result<bool, LedgerError> {
        if !self.pins(path, which)?.is_empty() {
            return Ok(true);
        }
        self.read(|connection, _| {
            let Some(database) = find(connection, path)? else { return Ok(false) };
            Ok(connection
                .prepare_cached(
                    "SELECT EXISTS (SELECT 1 FROM stay WHERE database = ?1 AND incarnation = ?2)",
                )?
                .query_row(params![database, which.0], |row| row.get(0))?)
        })
    }

    /// What a file's history must keep ([`Ledger::pins`]), and should: where it stood at every moment that is still
    /// noted and will be when it is older than five minutes.
    pub fn holds(&self, path: &DatabasePath, which: Incarnation) -> Result<Holds, LedgerError> {
        let pinned = self.pins(path, which)?;
        self.read(|connection, _| {
            let mut noted = BTreeSet::new();
            if let Some(database) = find(connection, path)? {
                let mut moments = lasting_moments(connection)?;
                moments.sort_unstable();
                let mut statement = connection.prepare_cached(
                    "SELECT since, until, txid FROM stay WHERE database = ?1 AND incarnation = ?2",
                )?;
                let mut rows = statement.query(params![database, which.0])?;
                while let Some(row) = rows.next()? {
                    let (since, until): (i64, i64) = (row.get(0)?, row.get(1)?);
                    let first = moments.partition_point(|moment| *moment < since);
                    if moments.get(first).is_some_and(|moment| *moment < until) {
                        noted.insert(Txid(number(row.get(2)?, "a TXID")?));
                    }
                }
            }
            noted.remove(&Txid::ZERO);
            Ok(Holds { pinned, noted: noted.into_iter().collect() })
        })
    }
}

fn collect_txids(mut rows: rusqlite::Rows<'_>, into: &mut BTreeSet<Txid>) -> Result<(), Trouble> {
    while let Some(row) = rows.next()? {
        into.insert(Txid(number(row.get(0)?, "a TXID")?));
    }
    Ok(())
}

/// Adds a moment at which all databases stand as the vector says; the same moment again where nothing changed.
pub(super) fn insert(
    tx: &Transaction<'_>,
    cached: &mut Option<Vector>,
    at: Timestamp,
    vector: &Vector,
) -> Result<i64, Trouble> {
    let before = match cached.take() {
        Some(before) => before,
        None => newest(tx)?,
    };
    let last: Option<i64> =
        tx.prepare_cached("SELECT max(id) FROM moment")?.query_row([], |row| row.get(0))?;
    if let Some(last) = last.filter(|_| before == *vector) {
        *cached = Some(before);
        return Ok(last);
    }
    tx.prepare_cached("INSERT INTO moment (at_ms) VALUES (?1)")?.execute([at.0])?;
    let moment = tx.last_insert_rowid();
    let mut end = tx.prepare_cached("UPDATE stay SET until = ?2 WHERE database = ?1 AND until = ?3")?;
    let mut begin = tx.prepare_cached(
        "INSERT INTO stay (database, since, until, incarnation, txid, checksum) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for path in before.keys().filter(|path| !vector.contains_key(*path)) {
        if let Some(database) = find(tx, path)? {
            end.execute(params![database, moment, STILL])?;
        }
    }
    for (path, position) in vector.iter().filter(|(path, position)| before.get(*path) != Some(*position)) {
        let database = id_of(tx, path, position.incarnation)?;
        end.execute(params![database, moment, STILL])?;
        begin.execute(params![
            database,
            moment,
            STILL,
            position.incarnation.0,
            position.txid.0.cast_signed(),
            position.checksum.0.cast_signed(),
        ])?;
    }
    *cached = Some(vector.clone());
    Ok(moment)
}

/// The vector noted last.
pub(super) fn newest(connection: &Connection) -> Result<Vector, Trouble> {
    let mut statement = connection.prepare_cached(
        "SELECT path, stay.incarnation, txid, checksum FROM stay JOIN database ON database.id = stay.database
         WHERE until = ?1",
    )?;
    collect(statement.query([STILL])?)
}

/// The vector at a moment; `None` where the moment is gone.
pub(super) fn vector_of(connection: &Connection, moment: i64) -> Result<Option<Vector>, Trouble> {
    let there: bool = connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM moment WHERE id = ?1)")?
        .query_row([moment], |row| row.get(0))?;
    if !there {
        return Ok(None);
    }
    // CROSS JOIN fixes the order: two seeks a database. Left to itself, SQLite reads every later stay instead.
    let mut statement = connection.prepare_cached(
        "SELECT path, stay.incarnation, txid, checksum FROM database CROSS JOIN stay ON stay.database = database.id
         AND since = (SELECT max(since) FROM stay AS s WHERE s.database = database.id AND s.since <= ?1)
         WHERE until > ?1",
    )?;
    collect(statement.query([moment])?).map(Some)
}

fn collect(mut rows: rusqlite::Rows<'_>) -> Result<Vector, Trouble> {
    let mut vector = Vector::new();
    while let Some(row) = rows.next()? {
        vector.insert(database_path(row.get(0)?)?, position(row)?);
    }
    Ok(vector)
}

fn position(row: &Row<'_>) -> Result<Position, Trouble> {
    Ok(Position {
        incarnation: incarnation(row.get(1)?)?,
        txid: Txid(number(row.get(2)?, "a TXID")?),
        checksum: Checksum(row.get::<_, i64>(3)?.cast_unsigned()),
    })
}

/// Moments before a (time, id), newest first.
fn moments_before(
    connection: &Connection,
    before: (i64, i64),
    limit: usize,
) -> Result<Vec<(i64, Timestamp)>, Trouble> {
    let mut statement = connection.prepare_cached(
        "SELECT id, at_ms FROM moment WHERE (at_ms, id) < (?1, ?2) ORDER BY at_ms DESC, id DESC LIMIT ?3",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![before.0, before.1, limit])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push((row.get(0)?, Timestamp(row.get(1)?)));
    }
    Ok(found)
}

/// The moments that thinning takes: in each window of their age's size all but the last, and beyond `keep` all but the
/// last, which says how everything stood until the next one.
fn doomed_moments(connection: &Connection, now: Timestamp, keep: Duration) -> Result<Vec<i64>, Trouble> {
    let oldest = now.0.saturating_sub(millis(keep));
    let mut statement = connection.prepare_cached(
        "SELECT id, at_ms FROM moment WHERE at_ms < ?1 AND id <> (SELECT max(id) FROM moment)
         AND id NOT IN (SELECT moment FROM checkpoint) ORDER BY at_ms DESC, id DESC",
    )?;
    let mut rows = statement.query([now.0.saturating_sub(millis(FINEST_KEPT))])?;
    let mut doomed = Vec::new();
    let (mut kept, mut reaches_back) = (None, false);
    while let Some(row) = rows.next()? {
        let (id, at) = (row.get(0)?, Timestamp(row.get(1)?));
        let window = bucket(at, now);
        let is_old = at.0 < oldest;
        if (is_old && reaches_back) || (!is_old && kept == Some(window)) {
            doomed.push(id);
        } else {
            (kept, reaches_back) = (Some(window), is_old);
        }
    }
    Ok(doomed)
}

/// The last moment of every window: those that thinning leaves, as seen from the newest one and regardless of `keep`.
fn lasting_moments(connection: &Connection) -> Result<Vec<i64>, Trouble> {
    let mut statement =
        connection.prepare_cached("SELECT id, at_ms FROM moment ORDER BY at_ms DESC, id DESC")?;
    let mut rows = statement.query([])?;
    let mut lasting = Vec::new();
    let mut last = None;
    let mut newest = None;
    while let Some(row) = rows.next()? {
        let at = Timestamp(row.get(1)?);
        let window = bucket(at, *newest.get_or_insert(at));
        if last != Some(window) {
            lasting.push(row.get(0)?);
            last = Some(window);
        }
    }
    Ok(lasting)
}
