//! One checksum a page, and their sum: what a database must add up to.
//!
//! Eight bytes a page in memory. Kept on disk for quick starts (docs/formats/quick-start.md); a file that is torn, old or
//! missing costs time, never correctness: it is rolled forward through history or built anew from it.
//!
//! ```text
//! 0 "STSUMS01" │ 8 page size u32 │ 12 pages u32 │ 16 txid u64 │ 24 pages × u64 │ crc of all before u64     (little-endian)
//! ```

use base::{Checksum, Disk, Open, Pgno, Txid, disk};
use std::io;
use std::path::Path;

const MAGIC: &[u8; 8] = b"STSUMS01";
const HEAD: usize = 24;
/// The largest database SQLite can have, in pages; a file that claims more is damaged.
const PAGES_MAX: u64 = u32::MAX as u64;

/// The checksums of all pages of one database at one seal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    page_size: u32,
    sums: Vec<u64>,
    xor: u64,
}

impl Sums {
    /// Those of a database without pages.
    pub fn new(page_size: u32) -> Sums {
        Sums { page_size, sums: Vec::new(), xor: 0 }
    }

    /// Bytes a page.
    pub fn page_size(&self) -> u32 {
        self.page_size
    }

    /// How many pages.
    pub fn pages(&self) -> u32 {
        u32::try_from(self.sums.len()).expect("invariant: a page number fits u32")
    }

    /// The checksum of one page; `None` beyond the end, for the lock page, and for a page not seen yet.
    pub fn get(&self, pgno: Pgno) -> Option<Checksum> {
        let sum = *self.sums.get(pgno.0.checked_sub(1)? as usize)?;
        (sum != 0).then_some(Checksum(sum))
    }

    /// Notes a page's new checksum, growing the database where it lies beyond the end.
    pub fn set(&mut self, pgno: Pgno, sum: Checksum) {
        let at = pgno.0 as usize - 1;
        if at >= self.sums.len() {
            self.sums.resize(at + 1, 0);
        }
        self.xor ^= self.sums[at] ^ sum.0;
        self.sums[at] = sum.0;
    }

    /// Cuts or grows to this many pages.
    pub fn resize(&mut self, pages: u32) {
        for gone in self.sums.iter().skip(pages as usize) {
            self.xor ^= gone;
        }
        self.sums.resize(pages as usize, 0);
    }

    /// The sum of all: zero without pages, else with bit 63 set.
    pub fn rolling(&self) -> Checksum {
        if self.sums.is_empty() { Checksum::NONE } else { Checksum(self.xor | Checksum::FLAG) }
    }

    /// What [`Sums::rolling`] would be with one page's checksum exchanged.
    pub fn rolling_with(&self, pgno: Pgno, sum: Checksum) -> Checksum {
        let now = self.get(pgno).map_or(0, |sum| sum.0);
        Checksum((self.xor ^ now ^ sum.0) | Checksum::FLAG)
    }

    /// What [`Sums::rolling`] would be at this many pages, with the checksums of these exchanged, each named once.
    pub fn rolling_of(&self, changed: &[(Pgno, Checksum)], pages: u32) -> Checksum {
        if pages == 0 {
            return Checksum::NONE;
        }
        let cut = self.sums.iter().skip(pages as usize).fold(self.xor, |all, gone| all ^ gone);
        let now = |pgno: Pgno| self.get(pgno).map_or(0, |sum| sum.0);
        let kept = changed.iter().filter(|(pgno, _)| pgno.0 <= pages);
        Checksum(kept.fold(cut, |all, (pgno, sum)| all ^ now(*pgno) ^ sum.0) | Checksum::FLAG)
    }

    /// Writes the file, unsynced: a torn one is noticed.
    pub fn save(&self, disk: &dyn Disk, path: &Path, txid: Txid) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(HEAD + self.sums.len() * 8 + 8);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.page_size.to_le_bytes());
        bytes.extend_from_slice(&self.pages().to_le_bytes());
        bytes.extend_from_slice(&txid.0.to_le_bytes());
        for sum in &self.sums {
            bytes.extend_from_slice(&sum.to_le_bytes());
        }
        let crc = crc(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        let beside = disk::sibling(path, ".tmp");
        disk.open(&beside, Open::Create { private: false })?.write_at(&bytes, 0)?;
        disk.rename(&beside, path)
    }

    /// Reads the file; `None` where it is missing or does not add up.
    pub fn load(disk: &dyn Disk, path: &Path) -> Option<(Sums, Txid)> {
        let bytes = disk::read(disk, path, HEAD as u64 + PAGES_MAX * 8 + 8).ok()?;
        let (body, sum) = bytes.split_last_chunk::<8>()?;
        if body.len() < HEAD || &body[..8] != MAGIC || crc(body) != u64::from_le_bytes(*sum) {
            return None;
        }
        let page_size = u32::from_le_bytes(body[8..12].try_into().ok()?);
        let pages = u32::from_le_bytes(body[12..16].try_into().ok()?);
        let txid = Txid(u64::from_le_bytes(body[16..24].try_into().ok()?));
        let sums: Vec<u64> =
            body[HEAD..].as_chunks::<8>().0.iter().map(|sum| u64::from_le_bytes(*sum)).collect();
        if sums.len() != pages as usize {
            return None;
        }
        let xor = sums.iter().fold(0, |all, sum| all ^ sum);
        Some((Sums { page_size, sums, xor }, txid))
    }
}

/// The codec's CRC-64; no page has number 0.
fn crc(bytes: &[u8]) -> u64 {
    ltx::page_checksum(Pgno(0), bytes).0
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::LocalDisk;

    fn sum(n: u64) -> Checksum {
        Checksum(n | Checksum::FLAG)
    }

    #[test]
    fn the_sum_follows_changes_growth_and_cuts() {
        let mut sums = Sums::new(4096);
        assert_eq!(sums.rolling(), Checksum::NONE);
        sums.set(Pgno(1), sum(1));
        sums.set(Pgno(2), sum(2));
        assert_eq!(sums.rolling(), sum(1 ^ 2));
        let two = sums.clone();
        assert_eq!(sums.rolling_of(&[(Pgno(2), sum(9)), (Pgno(5), sum(7))], 5), sum(1 ^ 9 ^ 7));
        sums.set(Pgno(5), sum(7));
        assert_eq!(sums.rolling_of(&[(Pgno(1), sum(4))], 2), sum(4 ^ 2), "what is cut off counts no more");
        assert_eq!(sums.rolling_of(&[], 0), Checksum::NONE);
        assert_eq!(sums.pages(), 5);
        assert_eq!(sums.get(Pgno(4)), None, "never seen");
        sums.resize(2);
        assert_eq!(sums, two);
        sums.set(Pgno(2), sum(9));
        assert_eq!(sums.rolling(), sum(1 ^ 9));
        assert_eq!(sums.rolling_with(Pgno(2), sum(2)), two.rolling());
    }

    #[test]
    fn a_saved_file_comes_back_and_a_damaged_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sums");
        let mut sums = Sums::new(512);
        sums.set(Pgno(1), sum(11));
        sums.set(Pgno(3), sum(13));
        sums.save(&LocalDisk, &path, Txid(7)).unwrap();
        assert_eq!(Sums::load(&LocalDisk, &path), Some((sums, Txid(7))));
        let whole = disk::read(&LocalDisk, &path, 1000).unwrap();
        for at in 0..whole.len() {
            let mut torn = whole.clone();
            torn[at] ^= 4;
            LocalDisk.open(&path, Open::Create { private: false }).unwrap().write_at(&torn, 0).unwrap();
            assert_eq!(Sums::load(&LocalDisk, &path), None, "byte {at}");
            LocalDisk
                .open(&path, Open::Create { private: false })
                .unwrap()
                .write_at(&whole[..at], 0)
                .unwrap();
            assert_eq!(Sums::load(&LocalDisk, &path), None, "cut at {at}");
        }
    }
}
