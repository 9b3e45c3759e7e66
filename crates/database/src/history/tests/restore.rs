//! Databases that come back from a store: each page fetched once, only what is lacking, and never a wrong one.

use super::*;
use std::sync::atomic::{AtomicU64, Ordering};
use store::{Around, Directory, ErrorKind, Key, Layout, Objects, Piece, StoreError};

/// A bucket that several threads read from; it counts what they read, and fails when it has given so much.
#[derive(Debug)]
struct Bucket {
    inner: Directory,
    read: AtomicU64,
    limit: AtomicU64,
}

impl Bucket {
    fn new(root: PathBuf) -> Arc<Bucket> {
        let inner = Directory::new(Arc::new(LocalDisk), root);
        Arc::new(Bucket { inner, read: AtomicU64::new(0), limit: AtomicU64::new(u64::MAX) })
    }

    /// Bytes read since it was asked last.
    fn bytes_read(&self) -> u64 {
        self.read.swap(0, Ordering::SeqCst)
    }
}

impl Around for Bucket {
    fn inner(&self) -> &dyn Objects {
        &self.inner
    }
    fn layout(&self) -> Layout {
        Layout::Flat
    }
    fn readers(&self) -> usize {
        3
    }
    fn read(&self, key: &Key, from: u64, bytes_max: usize) -> Result<Option<Piece>, StoreError> {
        let piece = self.inner.read(key, from, bytes_max)?;
        let got = piece.as_ref().map_or(0, |piece| piece.bytes.len() as u64);
        if self.read.fetch_add(got, Ordering::SeqCst) + got > self.limit.load(Ordering::SeqCst) {
            return Err(StoreError::new(ErrorKind::Unreachable, self.url(), Some(key), "the line is cut"));
        }
        Ok(piece)
    }
}

/// A history in a bucket, beside a model of its states.
struct Far {
    world: World,
    bucket: Arc<Bucket>,
}

impl Far {
    fn new() -> Far {
        let mut world = World::new(false);
        let bucket = Bucket::new(world.root.join("bucket"));
        let stored = Remote { objects: bucket.clone(), base: Key::new("a.db") }.follow(Vec::new()).unwrap();
        world.history = History::open(world.disk.clone(), world.local(), Some(stored)).unwrap();
        Far { world, bucket }
    }

    /// Seals new versions of pages, that do not compress, and sends them.
    fn seal(&mut self, changed: impl IntoIterator<Item = u32>, size: u32) {
        let mut next = self.world.state().clone();
        next.retain(|pgno, _| *pgno <= size);
        let mut written = BTreeMap::new();
        let grown = (1..=size).filter(|pgno| !next.contains_key(pgno));
        for pgno in grown.chain(changed).collect::<BTreeSet<u32>>() {
            let mut state = u64::from(pgno) << 32 | self.world.states.len() as u64;
            let noise = std::iter::repeat_with(|| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            });
            written.insert(pgno, noise.take(PAGE as usize).collect::<Vec<u8>>());
        }
        next.extend(written.clone());
        let mut file = self.world.history.begin(self.world.header(&next, size)).unwrap();
        for (pgno, page) in &written {
            file.page(Pgno(*pgno), page).unwrap();
        }
        file.publish().unwrap();
        self.world.history.ship().unwrap();
        self.world.states.push(next);
    }

    /// What another machine finds.
    fn elsewhere(&self) -> History {
        let remote = Remote { objects: self.bucket.clone(), base: Key::new("a.db") };
        let stored = remote.follow(Vec::new()).unwrap();
        let history = History::open(self.world.disk.clone(), self.world.root.join("elsewhere"), Some(stored));
        let history = history.unwrap();
        self.bucket.bytes_read();
        history
    }

    fn beside(&self) -> PathBuf {
        self.world.root.join("a.db.stead-restore.tmp")
    }

    fn last(&self) -> Txid {
        Txid(self.world.states.len() as u64 - 1)
    }

    fn bytes_of(&self, txid: Txid) -> Vec<u8> {
        self.world.states[txid.0 as usize].values().flatten().copied().collect()
    }

    /// Asserts that a position comes back, and gives the bytes that were read for it.
    fn assert_restores(&self, history: &History, txid: Txid) -> u64 {
        self.bucket.bytes_read();
        let restored = history.restore(txid, (&LocalDisk, &self.beside()), &mut |_, _| {}).unwrap();
        let read = self.bucket.bytes_read();
        assert_eq!(restored.image.txid, txid);
        let expected = &self.world.states[txid.0 as usize];
        assert_eq!((restored.image.checksum, restored.sums.rolling()), (sum(expected), sum(expected)));
        let bytes = base::disk::read(&LocalDisk, &self.beside(), 1 << 24).unwrap();
        assert!(bytes == self.bytes_of(txid), "what came back of {txid} differs");
        let left = LocalDisk.metadata(&base::disk::sibling(&self.beside(), ".sums.tmp"));
        assert!(left.is_err(), "notes stay");
        read
    }

    /// An older copy in the place of a part.
    fn put_copy(&self, history: &History, bytes: &[u8]) -> Option<Txid> {
        let copy = self.world.root.join("a.db");
        LocalDisk.open(&copy, Open::Create { private: false }).unwrap().write_at(bytes, 0).unwrap();
        let known = history.recognise(&copy).unwrap()?;
        begin_with(&LocalDisk, &copy, &self.beside(), &known).unwrap();
        let kept = base::disk::read(&LocalDisk, &copy, 1 << 24).unwrap();
        assert!(kept == bytes, "the copy stays as it is");
        Some(known.1)
    }
}

const PAGES: u32 = 6000;

#[test]
fn the_newest_version_of_each_page_is_fetched_once() {
    let mut far = Far::new();
    far.seal([], PAGES);
    far.seal(1..=PAGES / 2, PAGES);
    far.seal((1..=PAGES / 2).step_by(3), PAGES + 7);
    far.seal([], PAGES - 500);
    far.seal([5], PAGES - 300);
    let history = far.elsewhere();
    let whole = u64::from(PAGES - 300) * u64::from(PAGE);
    let read = far.assert_restores(&history, far.last());
    // Frames and indexes are a little more than the pages; what is between two wanted pages is read along.
    assert!(read < whole * 3 / 2, "{read} bytes for {whole}");
    for txid in 1..=far.last().0 {
        far.assert_restores(&history, Txid(txid));
    }
}

#[test]
fn what_an_interrupted_restore_had_fetched_is_not_fetched_again() {
    let pages = 4 * PAGES;
    let mut far = Far::new();
    far.seal([], pages);
    far.seal([1, 77, 3000], pages);
    let history = far.elsewhere();
    let whole = u64::from(pages) * u64::from(PAGE);
    far.bucket.limit.store(whole * 2 / 3, Ordering::SeqCst);
    let error = history.restore(far.last(), (&LocalDisk, &far.beside()), &mut |_, _| {}).unwrap_err();
    assert!(matches!(error, ImageError::Unavailable { .. }), "{error}");
    far.bucket.limit.store(u64::MAX, Ordering::SeqCst);
    // Meanwhile history went on.
    far.seal([2, 3, 4000], pages + 1);
    let history = far.elsewhere();
    let read = far.assert_restores(&history, far.last());
    assert!(read < whole * 9 / 10, "{read} bytes for what was left of {whole}");
}

#[test]
fn of_an_older_copy_only_the_difference_is_fetched() {
    let mut far = Far::new();
    far.seal([], PAGES);
    far.seal([9], PAGES);
    let old = far.last();
    far.seal((1..=PAGES).step_by(100), PAGES + 3);
    far.seal((1..=PAGES).step_by(200), PAGES + 3);
    let history = far.elsewhere();
    assert_eq!(far.put_copy(&history, &far.bytes_of(old)), Some(old));
    let whole = u64::from(PAGES) * u64::from(PAGE);
    let read = far.assert_restores(&history, far.last());
    assert!(read < whole / 40, "{read} bytes of {whole} for 1 %");

    assert_eq!(far.put_copy(&history, &far.bytes_of(far.last())), Some(far.last()));
    assert_eq!(far.assert_restores(&history, far.last()), 0, "a copy of the newest state is complete");
}

#[test]
fn a_copy_from_before_the_database_was_cut_comes_out_right() {
    let mut far = Far::new();
    far.seal([], PAGES);
    let old = far.last();
    far.seal([], PAGES / 2);
    far.seal([3], PAGES - 9);
    let history = far.elsewhere();
    assert_eq!(far.put_copy(&history, &far.bytes_of(old)), Some(old));
    far.assert_restores(&history, far.last());
}

#[test]
fn what_is_no_copy_is_not_taken_for_one() {
    let mut far = Far::new();
    far.seal([], PAGES);
    far.seal([9], PAGES);
    let history = far.elsewhere();
    let mut other = far.bytes_of(Txid(1));
    other[70_000] ^= 1;
    assert_eq!(far.put_copy(&history, &other), None, "one bit differs");
    assert_eq!(far.put_copy(&history, &other[..70_001]), None);
    assert_eq!(far.put_copy(&history, b""), None);
}

#[test]
fn a_part_that_is_not_what_its_notes_say_costs_a_fetch_and_nothing_else() {
    let mut far = Far::new();
    far.seal([], PAGES);
    far.seal([9], PAGES);
    let history = far.elsewhere();
    let notes = base::disk::sibling(&far.beside(), ".sums.tmp");
    let part = |bytes: &[u8], sums: &crate::sums::Sums, at| {
        LocalDisk.open(&far.beside(), Open::Create { private: true }).unwrap().write_at(bytes, 0).unwrap();
        sums.save(&LocalDisk, &notes, at).unwrap();
    };
    let sums_of = |bytes: &[u8]| {
        let mut sums = crate::sums::Sums::new(PAGE);
        for (at, page) in bytes.chunks_exact(PAGE as usize).enumerate() {
            sums.set(Pgno(at as u32 + 1), ltx::page_checksum(Pgno(at as u32 + 1), page));
        }
        sums
    };
    let right = far.bytes_of(Txid(1));
    let mut torn = right.clone();
    torn[PAGE as usize * 50..PAGE as usize * 90].fill(0);
    part(&torn, &sums_of(&right), Txid(1));
    let read = far.assert_restores(&history, far.last());
    assert!(read < u64::from(PAGES * PAGE) / 4, "{read} bytes for 40 torn pages");
    // Notes that fit a wrong file, as another database's do.
    part(&torn, &sums_of(&torn), Txid(1));
    far.assert_restores(&history, far.last());
    part(&right[..9999], &sums_of(&right), Txid(1));
    far.assert_restores(&history, far.last());
    part(&right, &sums_of(&right), Txid(77));
    far.assert_restores(&history, far.last());
}

#[test]
fn a_flipped_or_truncated_object_is_an_error_and_never_a_wrong_database() {
    let mut far = Far::new();
    far.seal([], 40);
    far.seal([2, 3, 30], 44);
    far.seal([3, 7], 42);
    let expected = far.bytes_of(far.last());
    let (mut whole, mut refused) = (0, 0);
    let mut check = || {
        let Ok(stored) = (Remote { objects: far.bucket.clone(), base: Key::new("a.db") }).follow(Vec::new())
        else {
            return refused += 1;
        };
        let local = far.world.root.join("elsewhere");
        let restored = History::open(far.world.disk.clone(), local, Some(stored))
            .map_err(|error| error.to_string())
            .and_then(|history| {
                let restored = history.restore(far.last(), (&LocalDisk, &far.beside()), &mut |_, _| {});
                restored.map_err(|error| error.to_string())
            });
        match restored {
            Ok(_) => {
                let bytes = base::disk::read(&LocalDisk, &far.beside(), 1 << 24).unwrap();
                assert!(bytes == expected, "a wrong database");
                whole += 1;
            }
            Err(_) => refused += 1,
        }
    };
    for txid in 1..=3 {
        let remote = Remote { objects: far.bucket.clone(), base: Key::new("a.db") };
        let path = remote.seal_key(Txid(txid)).path(&far.world.root.join("bucket"));
        let right = base::disk::read(&LocalDisk, &path, 1 << 20).unwrap();
        let put = |bytes: &[u8]| {
            LocalDisk.open(&path, Open::Create { private: false }).unwrap().write_at(bytes, 0).unwrap();
        };
        for at in (0..right.len()).step_by(right.len() / 60) {
            let mut flipped = right.clone();
            flipped[at] ^= 0x10;
            put(&flipped);
            check();
            put(&right[..at]);
            check();
        }
        put(&right);
    }
    // A version that is replaced later is not read at all.
    assert!(whole > 0 && refused > 5 * whole, "{whole} came back, {refused} were refused");
}

#[test]
fn very_many_seals_that_no_list_has_are_found_up_to_where_they_end() {
    let mut far = Far::new();
    far.seal([], 1);
    (0..200).for_each(|_| far.seal([1], 1));
    let remote = || Remote { objects: far.bucket.clone(), base: Key::new("a.db") };
    let found = |listed: &[store::StoredFile]| {
        let stored = remote().follow(listed.to_vec()).unwrap();
        assert_eq!(stored.listed_upto, Some(listed.last().map_or(Txid::ZERO, |last| last.max)));
        stored.files
    };
    let all = found(&[]);
    let ends: Vec<u64> = all.iter().map(|file| file.max.0).collect();
    assert_eq!(ends, (1..=201).collect::<Vec<u64>>());
    assert_eq!(found(&all[..5]), all, "the same files follow a list");

    let mut other = all[..5].to_vec();
    other[4].after = Checksum(Checksum::FLAG | 7);
    assert_eq!(found(&other), other, "none that continues another database");

    far.bucket.remove(&[remote().seal_key(Txid(150))]).unwrap();
    assert_eq!(found(&[]), all[..149], "nor what lies behind a gap");
}
