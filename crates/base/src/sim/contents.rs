//! A file's contents on two sides: what readers see, and what a power loss leaves.
//!
//! Between two syncs the changes are kept in order. A power loss keeps, of each 512-byte sector, the state after *some*
//! of the writes to it: a sector is written whole and never goes back behind an older version of itself, but different
//! sectors reach the disk in any order. Changes of length happen in order among themselves.

use super::pages::Pages;
use super::random::SimRandom;
use std::collections::BTreeMap;

/// What a disk writes as one: bytes.
const SECTOR_BYTES: u64 = 512;

#[derive(Clone, Debug, Default)]
pub(super) struct Contents {
    live: Pages,
    durable: Pages,
    pending: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    Resize(u64),
}

impl Contents {
    pub(super) fn len(&self) -> u64 {
        self.live.len()
    }

    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        self.live.read(buffer, offset)
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        self.live.write(bytes, offset);
        self.pending.push(Change::Write { offset, bytes: bytes.to_vec() });
    }

    pub(super) fn resize(&mut self, len: u64) {
        self.live.resize(len);
        self.pending.push(Change::Resize(len));
    }

    pub(super) fn sync(&mut self) {
        for change in self.pending.drain(..) {
            match change {
                Change::Write { offset, bytes } => self.durable.write(&bytes, offset),
                Change::Resize(len) => self.durable.resize(len),
            }
        }
    }

    /// What the seed leaves becomes the contents.
    pub(super) fn lose_power(&mut self, random: &SimRandom) {
        let pending = std::mem::take(&mut self.pending);
        if !pending.is_empty() {
            match random.below(4) {
                0 => {}
                1 => keep_all(&mut self.durable, &pending),
                2 => keep_prefix(&mut self.durable, &pending, random),
                _ => keep_sectors(&mut self.durable, &pending, random),
            }
        }
        self.live = self.durable.clone();
    }
}

fn keep_all(durable: &mut Pages, pending: &[Change]) {
    for change in pending {
        match change {
            Change::Write { offset, bytes } => durable.write(bytes, *offset),
            Change::Resize(len) => durable.resize(*len),
        }
    }
}

/// The changes up to some point in time, the last write torn after some of its sectors.
fn keep_prefix(durable: &mut Pages, pending: &[Change], random: &SimRandom) {
    let last = random.below(pending.len() as u64) as usize;
    keep_all(durable, &pending[..last]);
    match &pending[last] {
        Change::Write { offset, bytes } => {
            let sectors: Vec<_> = sectors(*offset, bytes).collect();
            let kept = random.below(sectors.len() as u64 + 1) as usize;
            for (_, at, piece) in &sectors[..kept] {
                durable.write(piece, *at);
            }
        }
        Change::Resize(len) => durable.resize(*len),
    }
}

/// Every sector on its own after some of the writes to it; some of the changes of length, the first ones.
fn keep_sectors(durable: &mut Pages, pending: &[Change], random: &SimRandom) {
    let mut versions = BTreeMap::<u64, u64>::new();
    let mut resizes = 0;
    let mut ends = vec![0];
    for change in pending {
        match change {
            Change::Write { offset, bytes } => {
                sectors(*offset, bytes).for_each(|(sector, ..)| *versions.entry(sector).or_default() += 1);
                ends.push(offset + bytes.len() as u64);
            }
            Change::Resize(_) => resizes += 1,
        }
    }
    let mut left: BTreeMap<u64, u64> =
        versions.into_iter().map(|(sector, count)| (sector, random.below(count + 1))).collect();
    let mut resizes_left = random.below(resizes + 1);
    for change in pending {
        match change {
            Change::Write { offset, bytes } => {
                for (sector, at, piece) in sectors(*offset, bytes) {
                    if let Some(count) = left.get_mut(&sector).filter(|count| **count > 0) {
                        *count -= 1;
                        durable.write(piece, at);
                    }
                }
            }
            Change::Resize(len) if resizes_left > 0 => {
                resizes_left -= 1;
                durable.resize(*len);
            }
            Change::Resize(_) => {}
        }
    }
    // A file system may log a new length before the bytes that made it: the tail reads as zeroes.
    let logged = ends[random.below(ends.len() as u64) as usize];
    if resizes == 0 && logged > durable.len() {
        durable.resize(logged);
    }
}

/// A write cut at sector bounds: (sector, offset, bytes).
fn sectors(offset: u64, bytes: &[u8]) -> impl Iterator<Item = (u64, u64, &[u8])> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let count = ((SECTOR_BYTES - at % SECTOR_BYTES) as usize).min(bytes.len() - done);
        let piece = &bytes[done..done + count];
        done += count;
        (count > 0).then_some((at / SECTOR_BYTES, at, piece))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn bytes(contents: &Contents) -> Vec<u8> {
        let mut all = vec![0; contents.len() as usize];
        contents.read(&mut all, 0);
        all
    }

    #[test]
    fn what_was_synced_stays_and_what_was_not_may_be_torn_at_sectors() {
        let mut outcomes = BTreeSet::new();
        for seed in 0..200 {
            let mut contents = Contents::default();
            contents.write(&[1; 1024], 0);
            contents.sync();
            contents.write(&[2; 1024], 0);
            contents.lose_power(&SimRandom::new(seed));
            let left = bytes(&contents);
            assert_eq!(left.len(), 1024);
            for sector in left.chunks(512) {
                assert!(sector.iter().all(|byte| *byte == sector[0]), "a sector is never torn");
            }
            outcomes.insert((left[0], left[512]));
        }
        assert_eq!(outcomes, BTreeSet::from([(1, 1), (1, 2), (2, 1), (2, 2)]));
    }

    #[test]
    fn a_sector_never_goes_back_behind_its_own_writes() {
        for seed in 0..200 {
            let mut contents = Contents::default();
            contents.write(&[1; 100], 0);
            contents.write(&[2; 100], 100);
            contents.write(&[3; 100], 200);
            contents.lose_power(&SimRandom::new(seed));
            let left = bytes(&contents);
            let seen: Vec<u8> = left.chunks(100).map(|part| part[0]).take_while(|byte| *byte > 0).collect();
            assert!([1, 2, 3].starts_with(&seen), "{seen:?}");
        }
    }

    #[test]
    fn the_same_seed_leaves_the_same_bytes() {
        let run = || {
            let mut contents = Contents::default();
            (0..50u8).for_each(|n| contents.write(&[n; 700], u64::from(n) * 300));
            contents.lose_power(&SimRandom::new(42));
            bytes(&contents)
        };
        assert_eq!(run(), run());
    }
}
