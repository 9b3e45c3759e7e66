//! CRC-64/GO-ISO: over a file, over a page, and rolled up over a database.
//!
//! The check value of "123456789" is `b90956c775a41001`. Every stored value has bit 63 set.

use base::{Checksum, Pgno};
use crc_fast::{CrcAlgorithm, Digest};

/// Parts of page 1 that SQLite itself may rewrite while it applies pages: file format versions, change counter and
/// size, version-valid-for and library version. They count as zero.
const PAGE_ONE_VOLATILE: [(usize, usize); 3] = [(18, 20), (24, 28), (92, 100)];

/// A CRC-64/GO-ISO in the making.
#[derive(Clone)]
pub(crate) struct Crc(Digest);

impl Crc {
    pub(crate) fn new() -> Crc {
        Crc(Digest::new(CrcAlgorithm::Crc64GoIso))
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The part of any CRC over these bytes that depends on them alone.
    pub(crate) fn part(bytes: &[u8]) -> CrcPart {
        let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc64GoIso, 0);
        digest.update(bytes);
        CrcPart(digest.get_state())
    }

    /// Continues over bytes of which only that part is known, as many as `advance` is made for.
    pub(crate) fn update_by_part(&mut self, advance: &Advance, part: CrcPart) {
        let state = advance.apply(self.0.get_state()) ^ part.0;
        self.0 = Digest::new_with_init_state(CrcAlgorithm::Crc64GoIso, state);
    }

    /// The value with bit 63 set, as files and pages carry it.
    pub(crate) fn flagged(&self) -> u64 {
        self.0.finalize() | Checksum::FLAG
    }
}

/// What some bytes contribute to a CRC, whatever came before them.
///
/// A CRC is linear: after bytes `b`, state `s` becomes `advance(s, length of b) ^ part(b)`. So one pass over a page
/// serves the page's checksum and its file's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CrcPart(u64);

/// What a fixed number of bytes does to the state before them: a linear map, one table for each byte of the state.
pub(crate) struct Advance(Box<[[u64; 256]; 8]>);

impl Advance {
    /// Over this many bytes.
    pub(crate) fn over(bytes: usize) -> Advance {
        let zeroes = vec![0; bytes];
        let mut tables = Box::new([[0; 256]; 8]);
        for (at, table) in tables.iter_mut().enumerate() {
            for bit in 0..8 {
                let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc64GoIso, 1 << (8 * at + bit));
                digest.update(&zeroes);
                let (known, rest) = table.split_at_mut(1 << bit);
                rest.iter_mut().zip(known).for_each(|(with, without)| *with = *without ^ digest.get_state());
            }
        }
        Advance(tables)
    }

    fn apply(&self, state: u64) -> u64 {
        let bytes = state.to_le_bytes();
        self.0.iter().zip(bytes).fold(0, |all, (table, byte)| all ^ table[byte as usize])
    }
}

/// [`page_checksum`] of a page whose part is known already; not for page 1.
pub(crate) fn page_checksum_by_part(pgno: Pgno, advance: &Advance, part: CrcPart) -> Checksum {
    debug_assert_ne!(pgno, Pgno::ONE, "its volatile bytes count as zero");
    let mut crc = Crc::new();
    crc.update(&pgno.0.to_be_bytes());
    crc.update_by_part(advance, part);
    Checksum(crc.flagged())
}

/// The checksum of one page: CRC-64/GO-ISO over page number (u32, big-endian) and page, bit 63 set.
///
/// On page 1 the bytes 18–19, 24–27 and 92–99 count as zero: SQLite may rewrite them while pages are applied.
pub fn page_checksum(pgno: Pgno, page: &[u8]) -> Checksum {
    let mut crc = Crc::new();
    crc.update(&pgno.0.to_be_bytes());
    if pgno == Pgno::ONE && page.len() >= 100 {
        let mut head = [0; 100];
        head.copy_from_slice(&page[..100]);
        for (from, to) in PAGE_ONE_VOLATILE {
            head[from..to].fill(0);
        }
        crc.update(&head);
        crc.update(&page[100..]);
    } else {
        crc.update(page);
    }
    Checksum(crc.flagged())
}

/// The checksum of a whole database while pages come and go: the XOR of all page checksums.
///
/// Toggling a page's checksum puts the page in or takes it out again, so a change is: toggle old, toggle new.
/// Bit 63 is kept out of the sum, so that it does not tell odd from even page counts and a stored value can be
/// carried on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rolling {
    xor: u64,
}

impl Rolling {
    /// Puts a page in, or takes one out that was in.
    pub fn toggle(&mut self, page: Checksum) {
        self.xor ^= page.0 & !Checksum::FLAG;
    }

    /// The checksum of what is in; [`Checksum::NONE`] where no page ever went in, or all came out again.
    pub fn value(self) -> Checksum {
        if self.xor == 0 { Checksum::NONE } else { Checksum(self.xor | Checksum::FLAG) }
    }
}

impl From<Checksum> for Rolling {
    /// Carries on from a stored value.
    fn from(stored: Checksum) -> Rolling {
        Rolling { xor: stored.0 & !Checksum::FLAG }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_of_go_iso_holds() {
        let mut crc = Crc::new();
        crc.update(b"1234");
        crc.update(b"56789");
        assert_eq!(crc.flagged(), 0xb909_56c7_75a4_1001);
    }

    #[test]
    fn a_part_continues_a_crc_as_its_bytes_do() {
        for len in [512, 4096, 65_536] {
            let page: Vec<u8> = (0..len).map(|at: u32| ((at * 31) >> 3) as u8).collect();
            let (advance, part) = (Advance::over(page.len()), Crc::part(&page));
            let (mut whole, mut by_part) = (Crc::new(), Crc::new());
            for round in 0..3u8 {
                whole.update(&[round; 6]);
                by_part.update(&[round; 6]);
                whole.update(&page);
                by_part.update_by_part(&advance, part);
                assert_eq!(whole.flagged(), by_part.flagged());
            }
            let sum = page_checksum_by_part(Pgno(7), &advance, part);
            assert_eq!(sum, page_checksum(Pgno(7), &page));
        }
    }

    #[test]
    fn the_bytes_of_page_one_that_sqlite_rewrites_do_not_count() {
        let page: Vec<u8> = (0..512u32).map(|at| at as u8 ^ 0x5a).collect();
        let plain = page_checksum(Pgno::ONE, &page);
        let volatile: Vec<usize> = (18..20).chain(24..28).chain(92..100).collect();
        for at in 0..512 {
            let mut other = page.clone();
            other[at] ^= 1;
            assert_eq!(page_checksum(Pgno::ONE, &other) == plain, volatile.contains(&at), "byte {at}");
            assert_ne!(page_checksum(Pgno(2), &other), page_checksum(Pgno(2), &page), "byte {at}");
        }
        let mut zeroed = page.clone();
        volatile.iter().for_each(|at| zeroed[*at] = 0);
        let mut crc = Crc::new();
        crc.update(&[0, 0, 0, 1]);
        crc.update(&zeroed);
        assert_eq!(plain, Checksum(crc.flagged()));
    }

    #[test]
    fn a_rolling_checksum_depends_on_the_pages_and_not_on_their_order() {
        let pages = [Checksum(1 << 63 | 5), Checksum(1 << 63 | 9), Checksum(1 << 63 | 1)];
        let mut forth = Rolling::default();
        assert_eq!(forth.value(), Checksum::NONE);
        pages.iter().for_each(|page| forth.toggle(*page));
        let mut back = Rolling::default();
        pages.iter().rev().for_each(|page| back.toggle(*page));
        assert_eq!(forth.value(), back.value());
        assert_eq!(forth.value().0 >> 63, 1);
        let mut carried = Rolling::from(forth.value());
        pages.iter().for_each(|page| carried.toggle(*page));
        assert_eq!(carried.value(), Checksum::NONE);
    }
}
