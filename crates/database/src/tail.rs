//! The open tail: which pages changed since the last seal, and where their newest version lies. Pure.
//!
//! A page lies in the log (frame number) or, after the log was let go, in memory. Only what ends in a commit counts:
//! frames of a transaction that is still open are not captured.

use base::{Checksum, Pgno};
use std::collections::BTreeMap;

/// Where the newest version of a page lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// In this frame of the current log.
    Frame(u32),
    /// Here.
    Kept(Box<[u8]>),
}

/// A changed page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Where it lies.
    pub source: Source,
    /// Its checksum.
    pub sum: Checksum,
}

/// Pages changed since the last seal.
#[derive(Clone, Debug, Default)]
pub struct Tail {
    pages: BTreeMap<Pgno, Changed>,
    open: Vec<(Pgno, Changed)>,
    commit: Option<u32>,
    /// The fewest pages the database had at any commit of the tail, the last seal included.
    floor: u32,
}

impl Tail {
    /// An empty tail after a seal that left this many pages.
    pub fn after(pages: u32) -> Tail {
        Tail { floor: pages, ..Tail::default() }
    }

    /// Takes the next frame of the log; one with a commit size closes its transaction.
    pub fn frame(&mut self, pgno: Pgno, changed: Changed, commit: u32) {
        self.open.push((pgno, changed));
        if commit == 0 {
            return;
        }
        self.pages.extend(self.open.drain(..));
        self.pages.split_off(&Pgno(commit.saturating_add(1)));
        self.floor = self.floor.min(commit);
        self.commit = Some(commit);
    }

    /// Nothing was committed since the last seal.
    pub fn is_empty(&self) -> bool {
        self.commit.is_none()
    }

    /// Pages in the database after the last commit of the tail.
    pub fn commit(&self) -> Option<u32> {
        self.commit
    }

    /// A transaction was taken in part.
    pub fn is_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// How many pages changed.
    pub fn len(&self) -> usize {
        self.pages.len()
    }

    /// The changed pages, ascending.
    pub fn pages(&self) -> impl Iterator<Item = (Pgno, &Changed)> {
        self.pages.iter().map(|(pgno, changed)| (*pgno, changed))
    }

    /// Whether any page lies in the log.
    pub fn needs_log(&self) -> bool {
        self.pages.values().any(|changed| matches!(changed.source, Source::Frame(_)))
    }

    /// Moves a page from the log into memory.
    pub fn keep(&mut self, pgno: Pgno, page: Box<[u8]>) {
        if let Some(changed) = self.pages.get_mut(&pgno) {
            changed.source = Source::Kept(page);
        }
    }

    /// A page that the database grew over without writing it, if any: then the log alone does not tell its contents.
    pub fn hole(&self, lock_page: Pgno) -> Option<Pgno> {
        let commit = self.commit?;
        let mut written =
            self.pages.range(Pgno(self.floor.saturating_add(1))..).map(|(pgno, _)| *pgno).peekable();
        (self.floor + 1..=commit)
            .map(Pgno)
            .find(|pgno| written.next_if_eq(pgno).is_none() && *pgno != lock_page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(n: u64) -> Checksum {
        Checksum(n | Checksum::FLAG)
    }

    fn changed(frame: u32, n: u64) -> Changed {
        Changed { source: Source::Frame(frame), sum: sum(n) }
    }

    #[test]
    fn only_committed_frames_count_and_the_newest_wins() {
        let mut tail = Tail::after(3);
        tail.frame(Pgno(2), changed(1, 1), 0);
        assert!(tail.is_empty());
        tail.frame(Pgno(3), changed(2, 2), 3);
        tail.frame(Pgno(2), changed(3, 3), 3);
        tail.frame(Pgno(1), changed(4, 4), 0);
        let pages: Vec<_> = tail.pages().map(|(pgno, changed)| (pgno.0, changed.sum)).collect();
        assert_eq!(pages, [(2, sum(3)), (3, sum(2))]);
        assert_eq!(tail.commit(), Some(3));
    }

    #[test]
    fn a_cut_drops_pages_and_growth_over_unwritten_ones_is_noticed() {
        let mut tail = Tail::after(5);
        tail.frame(Pgno(5), changed(1, 1), 5);
        tail.frame(Pgno(1), changed(2, 2), 3);
        assert_eq!(tail.pages().count(), 1, "page 5 is gone");
        assert_eq!(tail.hole(Pgno(1000)), None);
        tail.frame(Pgno(5), changed(3, 3), 5);
        assert_eq!(tail.hole(Pgno(1000)), Some(Pgno(4)));
        assert_eq!(tail.hole(Pgno(4)), None, "the lock page is never written");
    }

    #[test]
    fn a_kept_page_does_not_need_the_log() {
        let mut tail = Tail::after(1);
        tail.frame(Pgno(1), changed(1, 1), 1);
        assert!(tail.needs_log());
        tail.keep(Pgno(1), vec![0; 512].into());
        assert!(!tail.needs_log());
    }
}
