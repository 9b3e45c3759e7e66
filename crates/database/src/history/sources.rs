//! Where the newest version of each page of a plan lies, from the files' indexes alone.
//!
//! The base (the oldest file) keeps its own compact index, about 4 bytes a page. The pages of the files above it are
//! merged into one sorted table, so that a page costs two searches however many files there are. A page that an
//! intermediate file cut off (the database was shorter then) is not taken from an older one.

use super::at_once::at_once;
use super::fetch::Spot;
use super::plan::Plan;
use super::reader::ReadError;
use base::Pgno;
use ltx::{Frame, Index};

/// Entries beyond which the table is sorted and freed of older versions before more is added.
const TABLE_SLACK: usize = 4096;

/// Bytes of small objects, fetched whole for their index, that are kept for their pages.
const KEPT_BYTES_MAX: usize = 8 << 20;

/// Where the pages of a plan lie.
#[derive(Debug)]
pub(super) struct Sources {
    base: Index,
    /// Pages above this in the base were cut off later.
    base_limit: u32,
    /// By page.
    table: Vec<Row>,
    /// Small files that had to be fetched whole.
    kept: Vec<Option<Vec<u8>>>,
}

/// Where the newest version of a page lies, if not in the base.
#[derive(Clone, Copy, Debug)]
struct Row {
    pgno: u32,
    file: u32,
    frame: Frame,
}

impl Row {
    fn spot(&self) -> Spot {
        Spot { file: self.file as usize, pgno: Pgno(self.pgno), frame: self.frame }
    }
}

impl Sources {
    /// Reads the index of every file of a plan.
    pub(super) fn load(plan: &Plan) -> Result<Sources, ReadError> {
        let disk = &*plan.inner.disk;
        let limits = plan.limits();
        let mut table = Table::default();
        let mut base = None;
        let mut kept: Vec<Option<Vec<u8>>> = vec![None; plan.files.len()];
        let mut kept_bytes = 0;
        let read = || {
            |at: usize| {
                let entry = &plan.files[at].0;
                let (index, whole) = entry.index(disk).map_err(|why| plan.inner.unusable(entry, why))?;
                Ok((at, index, whole))
            }
        };
        let threads = plan.readers().min(plan.files.len());
        at_once(
            threads,
            (0..plan.files.len()).rev(),
            read,
            |(at, index, whole): (usize, Index, Option<Vec<u8>>)| {
                if let Some(whole) = whole.filter(|whole| kept_bytes + whole.len() <= KEPT_BYTES_MAX) {
                    kept_bytes += whole.len();
                    kept[at] = Some(whole);
                }
                if at == 0 {
                    base = Some(index);
                    return Ok(());
                }
                let file = u32::try_from(at).unwrap_or(u32::MAX);
                for (pgno, frame) in index.iter().take_while(|(pgno, _)| pgno.0 <= limits[at]) {
                    table.rows.push(Row { pgno: pgno.0, file, frame });
                }
                table.settle(TABLE_SLACK);
                Ok(())
            },
        )?;
        table.settle(0);
        table.rows.shrink_to_fit();
        let base = base.expect("invariant: a plan has at least one file");
        Ok(Sources { base, base_limit: limits[0], table: table.rows, kept })
    }

    /// Where the newest version of a page lies; `None`: no file has the page.
    pub(super) fn find(&self, pgno: Pgno) -> Option<Spot> {
        if let Ok(at) = self.table.binary_search_by_key(&pgno.0, |row| row.pgno) {
            return Some(self.table[at].spot());
        }
        let frame = self.base.find(pgno).filter(|_| pgno.0 <= self.base_limit)?;
        Some(Spot { file: 0, pgno, frame })
    }

    /// The newest version of every page, once: file by file, in the order in which they lie there.
    pub(super) fn newest(&self) -> impl Iterator<Item = Spot> + Send {
        let mut newer = self.table.iter().peekable();
        let of_base = self.base.iter().take_while(|(pgno, _)| pgno.0 <= self.base_limit);
        let of_base = of_base.filter(move |(pgno, _)| {
            while newer.next_if(|row| row.pgno < pgno.0).is_some() {}
            newer.peek().is_none_or(|row| row.pgno != pgno.0)
        });
        let of_base = of_base.map(|(pgno, frame)| Spot { file: 0, pgno, frame });
        let mut by_file: Vec<u32> = (0..u32::try_from(self.table.len()).unwrap_or(u32::MAX)).collect();
        by_file.sort_unstable_by_key(|at| (self.table[*at as usize].file, *at));
        of_base.chain(by_file.into_iter().map(|at| self.table[at as usize].spot()))
    }

    /// The whole file, where it was fetched for its index.
    pub(super) fn kept(&self, file: usize) -> Option<&[u8]> {
        self.kept.get(file)?.as_deref()
    }
}

impl Plan {
    /// For each file, the highest page that no later one cut off.
    pub(super) fn limits(&self) -> Vec<u32> {
        let mut limit = u32::MAX;
        let mut limits: Vec<u32> = Vec::with_capacity(self.files.len());
        for (_, header) in self.files.iter().rev() {
            limit = limit.min(header.commit);
            limits.push(limit);
        }
        limits.reverse();
        limits
    }

    /// How many threads may well read its files at once.
    pub(super) fn readers(&self) -> usize {
        let disk = &*self.inner.disk;
        self.files.iter().map(|(entry, _)| entry.readers(disk)).max().unwrap_or(1)
    }

    /// Every page in any of the files, ascending.
    pub(super) fn pages(&self) -> Result<Vec<Pgno>, ReadError> {
        let disk = &*self.inner.disk;
        let mut pages: Vec<Pgno> = Vec::new();
        let mut settled = 0;
        for (entry, _) in &self.files {
            let (index, _) = entry.index(disk).map_err(|why| self.inner.unusable(entry, why))?;
            pages.extend(index.iter().map(|(pgno, _)| pgno));
            if pages.len() > 2 * settled + TABLE_SLACK {
                pages.sort_unstable();
                pages.dedup();
                settled = pages.len();
            }
        }
        pages.sort_unstable();
        pages.dedup();
        Ok(pages)
    }
}

/// The table while it is filled.
#[derive(Default)]
struct Table {
    rows: Vec<Row>,
    settled: usize,
}

impl Table {
    /// Sorts and drops older versions, once it has doubled and grown by the slack.
    fn settle(&mut self, slack: usize) {
        if self.rows.len() > 2 * self.settled + slack || slack == 0 {
            self.rows.sort_unstable_by_key(|row| (row.pgno, std::cmp::Reverse(row.file)));
            self.rows.dedup_by_key(|row| row.pgno);
            self.settled = self.rows.len();
        }
    }
}
