//! A database brought to a file beside its place, which may hold a part of it already: what a restore that was
//! interrupted had fetched, or an older copy. Only the rest is fetched.
//!
//! ```text
//! <name>.tmp            the pages, each written once it was checked
//! <name>.tmp.sums.tmp   the checksums of those that are there, and the position that they are of (as in `sums.rs`)
//! ```
//!
//! A page of the part is used where its checksum is the noted one and no file between that position and the target has
//! it. So neither file is synced or believed: what is torn, old, or of another database costs a fetch. The whole is
//! proven in the end, and begun anew where it does not add up.

use super::at_once::at_once;
use super::fill::Filled;
use super::image::{ImageError, Imaged};
use super::plan::{Plan, PlanError};
use super::sources::Sources;
use super::{History, REPLANS_MAX};
use crate::sums::Sums;
use base::{Checksum, Disk, DiskFile, Open, Pgno, Txid, disk};
use std::io;
use std::path::{Path, PathBuf};

/// How often it is noted what has been fetched, at most: the most that an interruption costs is this part of it.
const NOTES_MAX: u64 = 16;
/// Bytes that are fetched before it is noted again, at least.
const NOTE_BYTES_MIN: u64 = 1 << 20;

/// Bytes of a file that a thread reads at once.
const PIECE_BYTES: u32 = 256 << 10;

/// A database in a file beside its place; not synced yet.
#[derive(Debug)]
pub struct Restored {
    /// The file.
    pub file: Box<dyn DiskFile>,
    /// What it holds.
    pub image: Imaged,
    /// The checksum of every page.
    pub sums: Sums,
}

/// What is there of a database.
struct Part {
    file: Box<dyn DiskFile>,
    sums: Sums,
    at: Txid,
}

/// What a part leaves to be done.
struct Rest {
    plan: Plan,
    /// Where the pages lie that it lacks; `None`: it lacks none.
    sources: Option<Sources>,
    /// Of the pages of the part that are of use.
    sums: Sums,
}

impl History {
    /// Writes the database as it was at a position to a file of its own, and proves it. What that file has of it already
    /// is not fetched.
    ///
    /// `disk` is where the file lies. `progress` is told bytes fetched and bytes to be fetched. After an error the file may
    /// stay, for another try; [`abandon`] removes it.
    pub fn restore(
        &self,
        target: Txid,
        (disk, beside): (&dyn Disk, &Path),
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Restored, ImageError> {
        let notes = notes(beside);
        let mut noted = 0;
        let mut each = |Filled { done, total }: Filled, sums: &Sums| {
            progress(done, total);
            if done >= noted + (total / NOTES_MAX).max(NOTE_BYTES_MIN) && done < total {
                noted = done;
                // Notes that could not be written cost a fetch.
                let _ = sums.save(disk, &notes, target);
            }
        };
        let mut replans = 0;
        let restored = loop {
            let gone_on = match Part::find(disk, beside) {
                Some(part) => self.go_on(part, target, disk.readers(), &mut each),
                None => Ok(None),
            };
            let done = match gone_on {
                Ok(Some(restored)) => break restored,
                Ok(None) => self.restore_anew(target, (disk, beside), &mut each),
                Err(error) => Err(error),
            };
            match done {
                Ok(restored) => break restored,
                Err(ImageError::Damaged { .. }) if replans < REPLANS_MAX => replans += 1,
                Err(error) => return Err(error),
            }
        };
        disk::remove_if_there(disk, &notes).map_err(ImageError::Output)?;
        Ok(restored)
    }

    /// From nothing.
    fn restore_anew(
        &self,
        target: Txid,
        (disk, beside): (&dyn Disk, &Path),
        each: &mut dyn FnMut(Filled, &Sums),
    ) -> Result<Restored, ImageError> {
        let plan = self.plan(target)?;
        abandon(disk, beside).map_err(ImageError::Output)?;
        let file = disk.open(beside, Open::Create { private: true }).map_err(ImageError::Output)?;
        let (image, sums) = plan.image_with_sums(&*file, each)?;
        Ok(Restored { file, image, sums })
    }

    /// Completes a part; `None`: it is of no use.
    fn go_on(
        &self,
        part: Part,
        target: Txid,
        readers: usize,
        each: &mut dyn FnMut(Filled, &Sums),
    ) -> Result<Option<Restored>, ImageError> {
        let Some(Rest { plan, sources, mut sums }) = self.rest_of(&part, target, readers)? else {
            return Ok(None);
        };
        let header = *plan.header();
        let whole = match sources {
            Some(sources) => plan.fill(&sources, &*part.file, &mut sums, each)?,
            None => {
                let len = u64::from(header.commit) * u64::from(header.page_size);
                part.file.set_len(len).map_err(ImageError::Output)?;
                sums.rolling() == header.checksum_after
            }
        };
        Ok(whole.then(|| Restored { file: part.file, image: plan.imaged(&sums), sums }))
    }

    fn rest_of(&self, part: &Part, target: Txid, readers: usize) -> Result<Option<Rest>, ImageError> {
        let there = part.at == target;
        let plan = match part.at {
            at if at < target => self.plan_range(at, target),
            at if at == target => self.plan(target),
            _ => return Ok(None),
        };
        let plan = match plan {
            Ok(plan) => plan,
            Err(PlanError::Missing { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let header = *plan.header();
        if header.page_size != part.sums.page_size() || header.checksum_after == Checksum::NONE {
            return Ok(None);
        }
        let pages = (1..=header.commit).map(Pgno).filter(|pgno| *pgno != header.lock_page());
        if there {
            let sums = part.verified(readers, header.commit, &|_| true).map_err(ImageError::Output)?;
            let whole = pages.clone().all(|pgno| sums.get(pgno).is_some());
            let sources = if whole { None } else { Some(Sources::load(&plan)?) };
            return Ok(Some(Rest { plan, sources, sums }));
        }
        let sources = Sources::load(&plan)?;
        // What was cut off on the way, and grew back, is in the files of the way, if it was ever written.
        let limit = plan.limits().into_iter().min().unwrap_or(0);
        let unchanged = |pgno: Pgno| sources.find(pgno).is_none();
        let sums = part.verified(readers, limit, &unchanged).map_err(ImageError::Output)?;
        if pages.clone().all(|pgno| sums.get(pgno).is_some() || sources.find(pgno).is_some()) {
            return Ok(Some(Rest { plan, sources: Some(sources), sums }));
        }
        let plan = self.plan(target)?;
        let sources = Some(Sources::load(&plan)?);
        Ok(Some(Rest { plan, sources, sums }))
    }

    /// Which position a file of the database is at, where it adds up to one; the checksums of its pages.
    ///
    /// Nobody may have the file open, and its log must be empty.
    pub fn recognise(&self, copy: &Path) -> io::Result<Option<(Sums, Txid)>> {
        let Some(last) = self.last() else { return Ok(None) };
        let disk = &*self.inner.disk;
        let file = disk.open(copy, Open::Read)?;
        let page_size = last.header.page_size;
        let bytes = file.len()?;
        if bytes == 0 || !bytes.is_multiple_of(u64::from(page_size)) {
            return Ok(None);
        }
        let Ok(pages) = u32::try_from(bytes / u64::from(page_size)) else { return Ok(None) };
        let sums = sums_of(&*file, disk.readers(), page_size, pages)?;
        let same = |header: &ltx::Header| {
            (header.page_size, header.commit, header.checksum_after) == (page_size, pages, sums.rolling())
        };
        let headers = self.files().into_iter().filter_map(|file| self.header(&file));
        let at = headers.filter(same).map(|header| header.max_txid).max();
        Ok(at.map(|at| (sums, at)))
    }
}

impl Part {
    /// What lies there with notes that belong to it.
    fn find(disk: &dyn Disk, beside: &Path) -> Option<Part> {
        let (sums, at) = Sums::load(disk, &notes(beside))?;
        disk.refuse_planted(beside).ok()?;
        let file = disk.open(beside, Open::Write).ok()?;
        Some(Part { file, sums, at })
    }

    /// Of the pages up to this one that are wanted, those that are as noted.
    fn verified(
        &self,
        threads: usize,
        limit: u32,
        wanted: &(dyn Fn(Pgno) -> bool + Sync),
    ) -> io::Result<Sums> {
        let pages = self.sums.pages().min(limit);
        let mut found = Sums::new(self.sums.page_size());
        each_page(
            &*self.file,
            threads,
            self.sums.page_size(),
            pages,
            &|pgno| wanted(pgno),
            &mut |pgno, sum| {
                if self.sums.get(pgno) == Some(sum) {
                    found.set(pgno, sum);
                }
            },
        )?;
        Ok(found)
    }
}

/// The checksums of a file's pages.
fn sums_of(file: &dyn DiskFile, threads: usize, page_size: u32, pages: u32) -> io::Result<Sums> {
    let lock_page = Pgno::lock_page(page_size);
    let mut sums = Sums::new(page_size);
    each_page(file, threads, page_size, pages, &|pgno| pgno != lock_page, &mut |pgno, sum| {
        sums.set(pgno, sum);
    })?;
    sums.resize(pages);
    Ok(sums)
}

/// Shows the checksum of every page that is wanted, in no order; of a file that is shorter, of those that it has.
fn each_page(
    file: &dyn DiskFile,
    threads: usize,
    page_size: u32,
    pages: u32,
    wanted: &(dyn Fn(Pgno) -> bool + Sync),
    show: &mut dyn FnMut(Pgno, Checksum),
) -> io::Result<()> {
    let per_piece = (PIECE_BYTES / page_size).max(1);
    let read = || {
        let mut piece = Vec::new();
        move |first: u32| {
            let count = per_piece.min(pages - first + 1);
            piece.resize((count * page_size) as usize, 0);
            let got = file.read_at(&mut piece, u64::from(first - 1) * u64::from(page_size))?;
            let there = piece[..got].chunks_exact(page_size as usize);
            let there = (first..).map(Pgno).zip(there).filter(|(pgno, _)| wanted(*pgno));
            Ok(there.map(|(pgno, page)| (pgno, ltx::page_checksum(pgno, page))).collect::<Vec<_>>())
        }
    };
    at_once(threads, (1..=pages).step_by(per_piece as usize), read, |sums: Vec<(Pgno, Checksum)>| {
        sums.into_iter().for_each(|(pgno, sum)| show(pgno, sum));
        Ok(())
    })
}

/// Has [`History::restore`] begin with an older copy, of which [`History::recognise`] has told what it is. It stays
/// itself as it is: until the restore has succeeded, it may be the best there is.
pub fn begin_with(disk: &dyn Disk, copy: &Path, beside: &Path, (sums, at): &(Sums, Txid)) -> io::Result<()> {
    abandon(disk, beside)?;
    let (from, to) = (disk.open(copy, Open::Read)?, disk.open(beside, Open::Create { private: true })?);
    let mut piece = vec![0; PIECE_BYTES as usize];
    let mut offset = 0;
    loop {
        let got = from.read_at(&mut piece, offset)?;
        if got == 0 {
            break;
        }
        to.write_at(&piece[..got], offset)?;
        offset += got as u64;
    }
    sums.save(disk, &notes(beside), *at)
}

/// Removes what a restore has left.
pub fn abandon(disk: &dyn Disk, beside: &Path) -> io::Result<()> {
    disk::remove_if_there(disk, &notes(beside))?;
    disk::remove_if_there(disk, beside)
}

/// Where a database is written that is to take this place.
pub fn beside(file: &Path) -> PathBuf {
    disk::sibling(file, ".stead-restore.tmp")
}

/// Where it is noted what a part holds.
fn notes(beside: &Path) -> PathBuf {
    disk::sibling(beside, ".sums.tmp")
}
