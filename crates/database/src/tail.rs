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
    open: Vec<(Pgno, u32, Checksum)>,
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
    pub fn frame(&mut self, frame: u32, pgno: Pgno, commit: u32, sum: Checksum) {
        self.open.push((pgno, frame, sum));
        if commit == 0 {
            return;
        }
        for (pgno, frame, sum) in self.open.drain(..) {
            self.pages.insert(pgno, Changed { source: Source::Frame(frame), sum });
        }
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

    #[test]
    fn only_committed_frames_count_and_the_newest_wins() {
        let mut tail = Tail::after(3);
        tail.frame(1, Pgno(2), 0, sum(1));
        assert!(tail.is_empty());
        tail.frame(2, Pgno(3), 3, sum(2));
        tail.frame(3, Pgno(2), 3, sum(3));
        tail.frame(4, Pgno(1), 0, sum(4));
        let pages: Vec<_> = tail.pages().map(|(pgno, changed)| (pgno.0, changed.sum)).collect();
        assert_eq!(pages, [(2, sum(3)), (3, sum(2))]);
        assert_eq!(tail.commit(), Some(3));
    }

    #[test]
    fn a_cut_drops_pages_and_growth_over_unwritten_ones_is_noticed() {
        let mut tail = Tail::after(5);
        tail.frame(1, Pgno(5), 5, sum(1));
        tail.frame(2, Pgno(1), 3, sum(2));
        assert_eq!(tail.pages().count(), 1, "page 5 is gone");
        assert_eq!(tail.hole(Pgno(1000)), None);
        tail.frame(3, Pgno(5), 5, sum(3));
        assert_eq!(tail.hole(Pgno(1000)), Some(Pgno(4)));
        assert_eq!(tail.hole(Pgno(4)), None, "the lock page is never written");
    }

    #[test]
    fn a_kept_page_does_not_need_the_log() {
        let mut tail = Tail::after(1);
        tail.frame(1, Pgno(1), 1, sum(1));
        assert!(tail.needs_log());
        tail.keep(Pgno(1), vec![0; 512].into());
        assert!(!tail.needs_log());
    }
}
