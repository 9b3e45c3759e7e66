//! Which bytes are read to have some pages: neighbours together, in pieces of a bounded size. Pure.
//!
//! Pages come file by file, in the order in which they lie there. What lies between two that are wanted (versions that a
//! later file replaces) is read along where that is cheaper than another request.

use base::Pgno;
use ltx::Frame;
use std::iter::Peekable;

/// Bytes of a file that are read at once, at most. Each reading thread holds one such piece.
pub(super) const READ_BYTES_MAX: u64 = 1 << 20;

/// Bytes between two wanted pages that are read along, at most.
pub(super) const GAP_BYTES_MAX: u64 = 16 << 10;

/// A page where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    /// The file, by its place in the plan.
    pub file: usize,
    pub pgno: Pgno,
    pub frame: Frame,
}

/// A piece of a file, and the pages in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Read {
    pub file: usize,
    pub from: u64,
    pub bytes: usize,
    pub pages: Vec<(Pgno, Frame)>,
}

impl Read {
    /// Bytes of the pages alone.
    pub(super) fn wanted_bytes(&self) -> u64 {
        self.pages.iter().map(|(_, frame)| u64::from(frame.size)).sum()
    }
}

/// Puts pages together to pieces.
pub(super) struct Reads<I: Iterator<Item = Spot>> {
    spots: Peekable<I>,
}

impl<I: Iterator<Item = Spot>> Reads<I> {
    /// Of pages that come file by file, ascending in each.
    pub(super) fn of(spots: I) -> Reads<I> {
        Reads { spots: spots.peekable() }
    }
}

impl<I: Iterator<Item = Spot>> Iterator for Reads<I> {
    type Item = Read;

    fn next(&mut self) -> Option<Read> {
        let Spot { file, pgno, frame } = self.spots.next()?;
        let (from, mut end) = (frame.offset, frame.offset + u64::from(frame.size));
        let mut pages = vec![(pgno, frame)];
        let fits = |end: u64, next: &Spot| {
            let gap = next.frame.offset.checked_sub(end);
            let until = next.frame.offset + u64::from(next.frame.size);
            next.file == file && gap.is_some_and(|gap| gap <= GAP_BYTES_MAX) && until - from <= READ_BYTES_MAX
        };
        while let Some(next) = self.spots.next_if(|next| fits(end, next)) {
            end = next.frame.offset + u64::from(next.frame.size);
            pages.push((next.pgno, next.frame));
        }
        let bytes = usize::try_from(end - from).expect("invariant: a piece is bounded");
        Some(Read { file, from, bytes, pages })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spot(file: usize, pgno: u32, offset: u64, size: u32) -> Spot {
        Spot { file, pgno: Pgno(pgno), frame: Frame { offset, size } }
    }

    fn shape(spots: &[Spot]) -> Vec<(usize, u64, usize, usize)> {
        let reads = Reads::of(spots.iter().copied());
        reads.map(|read| (read.file, read.from, read.bytes, read.pages.len())).collect()
    }

    #[test]
    fn neighbours_are_read_together_and_a_large_gap_is_not_read() {
        let gap = GAP_BYTES_MAX;
        let spots = [
            spot(0, 1, 100, 50),
            spot(0, 2, 150, 50),
            spot(0, 9, 200 + gap, 10),
            spot(0, 10, 211 + 2 * gap, 10),
        ];
        assert_eq!(shape(&spots), [(0, 100, 110 + gap as usize, 3), (0, 211 + 2 * gap, 10, 1)]);
    }

    #[test]
    fn a_piece_is_of_one_file_and_no_longer_than_the_limit() {
        let half = u32::try_from(READ_BYTES_MAX / 2).unwrap();
        let spots = [
            spot(0, 1, 100, half),
            spot(0, 2, 100 + u64::from(half), half),
            spot(0, 3, 100 + 2 * u64::from(half), 1),
            spot(1, 4, 100, 7),
        ];
        let all = READ_BYTES_MAX as usize;
        assert_eq!(shape(&spots), [(0, 100, all, 2), (0, 100 + READ_BYTES_MAX, 1, 1), (1, 100, 7, 1)]);
    }

    proptest! {
        #[test]
        fn every_page_is_read_once_within_the_bounds(
            files in prop::collection::vec(prop::collection::vec((1u32..66_000, 0u64..40_000), 0..60), 0..5)
        ) {
            let mut spots = Vec::new();
            for (file, frames) in files.iter().enumerate() {
                let mut offset = 100;
                for (at, (size, gap)) in frames.iter().enumerate() {
                    offset += gap;
                    spots.push(spot(file, at as u32 + 1, offset, *size));
                    offset += u64::from(*size);
                }
            }
            let mut found = Vec::new();
            for read in Reads::of(spots.iter().copied()) {
                prop_assert!(read.bytes as u64 <= READ_BYTES_MAX);
                prop_assert!(read.wanted_bytes() + GAP_BYTES_MAX * (read.pages.len() as u64 - 1) >= read.bytes as u64);
                for (pgno, frame) in &read.pages {
                    prop_assert!(frame.offset >= read.from);
                    prop_assert!(frame.offset + u64::from(frame.size) <= read.from + read.bytes as u64);
                    found.push(Spot { file: read.file, pgno: *pgno, frame: *frame });
                }
            }
            prop_assert_eq!(found, spots);
        }
    }
}
