//! Which files lead to a position: the search, pure, and the plan that comes of it.
//!
//! A file continues a state at TXID `t` if it starts at or before `t + 1` and reaches further (overlap is allowed: a
//! file has the newest version of each page it ever touched). From nothing, only a snapshot does. The search takes
//! the file that reaches furthest, which gives the fewest files, and goes back where a file turns out to be damaged
//! or to belong to another history: where it starts right after the one before, the database checksums of both must
//! agree.

use super::broken::named;
use super::files::{Entry, FileInfo, Unusable};
use super::{Inner, Txids};
use base::{Checksum, Txid};
use ltx::Header;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// A file as the search sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub level: u8,
    pub min: Txid,
    pub max: Txid,
    pub local: bool,
}

/// What the search must know of a file before it takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Links {
    pub page_size: u32,
    pub before: Checksum,
    pub after: Checksum,
}

/// From where to where, and by which files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// What is there already; zero is nothing.
    pub from: Txid,
    /// Where to end, exactly.
    pub to: Txid,
    /// Take no file that starts before `from + 1`.
    pub exact: bool,
}

/// The files by level, so that what continues a TXID is found without looking at all of them.
pub(super) struct Lookup<'a> {
    candidates: &'a [Candidate],
    levels: Vec<Vec<Row>>,
}

struct Row {
    candidate: usize,
    min: Txid,
    /// The furthest that this file or one before it in the row reaches.
    reach: Txid,
}

impl<'a> Lookup<'a> {
    pub(super) fn new(candidates: &'a [Candidate]) -> Lookup<'a> {
        let mut levels: BTreeMap<u8, Vec<usize>> = BTreeMap::new();
        for (at, candidate) in candidates.iter().enumerate() {
            levels.entry(candidate.level).or_default().push(at);
        }
        let rows = |mut level: Vec<usize>| {
            level.sort_by_key(|at| (candidates[*at].min, candidates[*at].max));
            let mut reach = Txid::ZERO;
            let row = |at: usize| {
                reach = reach.max(candidates[at].max);
                Row { candidate: at, min: candidates[at].min, reach }
            };
            level.into_iter().map(row).collect()
        };
        Lookup { candidates, levels: levels.into_values().map(rows).collect() }
    }

    /// The files that continue a TXID without passing the end, the worst first.
    fn continuing(&self, at: Txid, route: Route) -> Vec<usize> {
        let mut found = Vec::new();
        for rows in &self.levels {
            let end = rows.partition_point(|row| row.min <= at.next());
            for row in rows[..end].iter().rev().take_while(|row| row.reach > at) {
                let candidate = &self.candidates[row.candidate];
                let fits = candidate.max > at && candidate.max <= route.to;
                if fits && !(route.exact && candidate.min <= route.from) {
                    found.push(row.candidate);
                }
            }
        }
        found.sort_by_key(|at| {
            let candidate = &self.candidates[*at];
            (candidate.max, candidate.local, candidate.min, candidate.level)
        });
        found
    }
}

/// A step of the search: where it stands, how it came there, and what is left to try from here.
struct Step {
    at: Txid,
    links: Option<Links>,
    left: Vec<usize>,
    taken: usize,
}

/// Finds the fewest files along a route, oldest first; or how far files lead.
///
/// `probe` reads what must be known of a file; `None`: it cannot be used. Files that do not fit what came before
/// them are added to `misfits`.
pub(super) fn search(
    lookup: &Lookup<'_>,
    route: Route,
    probe: &mut dyn FnMut(usize) -> Option<Links>,
    misfits: &mut BTreeSet<usize>,
) -> Result<Vec<usize>, Txid> {
    let mut furthest = route.from;
    let mut dead = BTreeSet::new();
    let mut steps =
        vec![Step { at: route.from, links: None, left: lookup.continuing(route.from, route), taken: 0 }];
    loop {
        let Some(step) = steps.last_mut() else { return Err(furthest) };
        furthest = furthest.max(step.at);
        if step.at == route.to {
            return Ok(steps[1..].iter().map(|step| step.taken).collect());
        }
        let Some(next) = step.left.pop() else {
            dead.insert((step.at, step.links.map(|links| links.after.0)));
            steps.pop();
            continue;
        };
        let candidate = &lookup.candidates[next];
        let Some(links) = probe(next) else { continue };
        if !step.links.is_none_or(|before| fits(before, step.at, candidate.min, links)) {
            misfits.insert(next);
            continue;
        }
        if dead.contains(&(candidate.max, Some(links.after.0))) {
            continue;
        }
        let left = lookup.continuing(candidate.max, route);
        steps.push(Step { at: candidate.max, links: Some(links), left, taken: next });
    }
}

/// Whether a file that starts at `min` belongs to the history that stands at `at`.
pub(super) fn fits(before: Links, at: Txid, min: Txid, next: Links) -> bool {
    if min == Txid(1) {
        return true;
    }
    let known = before.after != Checksum::NONE && next.before != Checksum::NONE;
    let agree = !known || min != at.next() || before.after == next.before;
    before.page_size == next.page_size && agree
}

/// The TXIDs that files lead to, by their names alone.
pub(super) fn reachable(files: impl IntoIterator<Item = Txids>) -> BTreeSet<Txid> {
    let mut files: Vec<Txids> = files.into_iter().collect();
    files.sort_by_key(|file| (file.last, file.first));
    // Ascending, each once.
    let mut reached: Vec<Txid> = Vec::with_capacity(files.len());
    for file in files {
        let start = file.first.previous();
        let before = reached.iter().rev().find(|txid| **txid < file.last);
        if (start == Txid::ZERO || before.is_some_and(|txid| *txid >= start))
            && reached.last() != Some(&file.last)
        {
            reached.push(file.last);
        }
    }
    reached.into_iter().collect()
}

/// Files that lead to a position, oldest first. While it lives, none of them is removed.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(super) inner: Arc<Inner>,
    pub(super) from: Txid,
    pub(super) files: Vec<(Arc<Entry>, Header)>,
}

/// Why no files lead to a position. Waiting helps only with [`PlanError::Unavailable`].
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// No usable file continues what there is: choose another position, or bring back the file that is named.
    #[error("{}", MissingText(self))]
    Missing {
        /// The history's directory.
        base: PathBuf,
        /// The position asked for.
        target: Txid,
        /// The last position on the way that files lead to.
        reached: Txid,
        /// The files that cannot be used, with the reason, where they would be needed.
        damaged: Vec<FileInfo>,
    },
    /// A file could not be read now; it may be fine. Try again.
    #[error("{path}: {cause}")]
    Unavailable {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        cause: io::Error,
    },
}

struct MissingText<'a>(&'a PlanError);

impl fmt::Display for MissingText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PlanError::Missing { base, target, reached, damaged } = self.0 else { return Ok(()) };
        write!(f, "the history in {} does not lead to TXID {target}: ", base.display())?;
        match *reached {
            Txid::ZERO => write!(f, "no usable snapshot at or before it")?,
            reached => write!(f, "no usable file continues TXID {reached}")?,
        }
        f.write_str(&named(damaged))
    }
}

impl Plan {
    /// The files, oldest first.
    pub fn files(&self) -> Vec<FileInfo> {
        self.files.iter().map(|(entry, _)| entry.info()).collect()
    }

    /// The header of the file that ends it: page size, pages and checksum of the database there.
    pub fn header(&self) -> &Header {
        let last = self.files.last().map(|(_, header)| header);
        last.expect("invariant: a plan has at least one file")
    }

    /// Bytes of all files together.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|(entry, _)| entry.bytes).sum()
    }
}

impl Inner {
    /// Searches among the files that are there now.
    pub(super) fn plan(
        self: &Arc<Inner>,
        route: Route,
        only: Option<super::Place>,
    ) -> Result<Plan, PlanError> {
        let entries = self.usable(only);
        let mut files = Vec::new();
        for at in self.way(&entries, route)? {
            let header = entries[at].header(&*self.disk);
            let header = header.map_err(|_| self.missing(route, entries[at].key.min.previous()))?;
            files.push((entries[at].clone(), header));
        }
        Ok(Plan { inner: self.clone(), from: route.from, files })
    }

    /// Which of these files lead along a route, oldest first; at least one.
    pub(super) fn way(&self, entries: &[Arc<Entry>], route: Route) -> Result<Vec<usize>, PlanError> {
        let candidates: Vec<Candidate> = entries.iter().map(|entry| candidate(entry)).collect();
        let mut unavailable = None;
        let mut probe = |at: usize| match entries[at].header(&*self.disk) {
            Ok(header) => Some(links(&header)),
            Err(Unusable::Damaged) => None,
            Err(Unusable::Unavailable(cause)) => {
                unavailable = Some((entries[at].path.clone(), cause));
                None
            }
        };
        let lookup = Lookup::new(&candidates);
        let exact = Route { exact: route.from > Txid::ZERO, ..route };
        let mut misfits = BTreeSet::new();
        let found = search(&lookup, exact, &mut probe, &mut misfits)
            .or_else(|_| search(&lookup, route, &mut probe, &mut misfits));
        // A header has no checksum of its own: one that does not fit may be damaged, and then has to be named.
        let proven = misfits.into_iter().find_map(|at| match entries[at].prove(&*self.disk) {
            Err(Unusable::Unavailable(cause)) => Some((entries[at].path.clone(), cause)),
            _ => None,
        });
        let unavailable = unavailable.or(proven);
        match (found, unavailable) {
            (Ok(found), _) => match found.iter().find(|at| entries[**at].damage().is_some()) {
                Some(at) => Err(self.missing(route, entries[*at].key.min.previous())),
                None if found.is_empty() => Err(self.missing(route, route.from)),
                None => Ok(found),
            },
            (Err(_), Some((path, cause))) => Err(PlanError::Unavailable { path, cause }),
            (Err(reached), None) => Err(self.missing(route, reached)),
        }
    }

    fn missing(&self, route: Route, reached: Txid) -> PlanError {
        let needed = |key: &super::FileKey| key.max > reached && key.min <= route.to;
        let damaged =
            self.lock().all().filter(|e| e.damage().is_some() && needed(&e.key)).map(|e| e.info()).collect();
        PlanError::Missing { base: self.local.clone(), target: route.to, reached, damaged }
    }
}

fn candidate(entry: &Entry) -> Candidate {
    let key = entry.key;
    Candidate { level: key.level, min: key.min, max: key.max, local: entry.place == super::Place::Local }
}

pub(super) fn links(header: &Header) -> Links {
    Links { page_size: header.page_size, before: header.checksum_before, after: header.checksum_after }
}
