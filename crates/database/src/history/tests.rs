//! Histories on a real directory, against a model that keeps every state of the database.

use super::*;
use crate::history::retention::Retention;
use base::{Checksum, Epoch, LocalDisk, Open, Timestamp};
use proptest::prelude::*;
use std::time::Duration;

mod crash;
mod damage;
mod litestream;
mod parted;
mod races;
mod restore;
mod thinning;

const PAGE: u32 = 512;
const START_MS: i64 = 1_700_000_000_000;

/// A database's pages, by number.
type Pages = BTreeMap<u32, Vec<u8>>;

/// A history beside a model of all states that went into it.
pub(super) struct World {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    with_store: bool,
    _dir: Option<tempfile::TempDir>,
    pub(super) history: History,
    pub(super) states: Vec<Pages>,
    /// What a seal that failed would have made; it may be there after a crash.
    pub(super) pending: Option<Pages>,
    pub(super) now: Timestamp,
    /// The right under which is sealed.
    pub(super) epoch: Epoch,
}

impl World {
    pub(super) fn new(with_store: bool) -> World {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_owned();
        World { _dir: Some(dir), ..World::on(Arc::new(LocalDisk), root, with_store).unwrap() }
    }

    pub(super) fn on(disk: Arc<dyn Disk>, root: PathBuf, with_store: bool) -> Result<World, HistoryError> {
        let history = open(&disk, &root, with_store)?;
        let (states, now) = (vec![Pages::new()], Timestamp(START_MS));
        let (pending, epoch) = (None, Epoch(1));
        Ok(World { disk, root, with_store, _dir: None, history, states, pending, now, epoch })
    }

    pub(super) fn local(&self) -> PathBuf {
        self.root.join("app.db-litestream")
    }

    pub(super) fn store(&self) -> PathBuf {
        self.root.join("store/data/app.db")
    }

    pub(super) fn reopen(&mut self) {
        self.history = open(&self.disk, &self.root, self.with_store).unwrap();
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now = Timestamp(self.now.0 + retention::millis(time));
    }

    pub(super) fn state(&self) -> &Pages {
        self.states.last().unwrap()
    }

    /// Seals these new versions of pages, and this size.
    pub(super) fn seal(&mut self, changes: &[(u32, u8)], size: u32) -> FileInfo {
        self.try_seal(changes, size).unwrap()
    }

    pub(super) fn try_seal(&mut self, changes: &[(u32, u8)], size: u32) -> Result<FileInfo, SealError> {
        let mut next = self.state().clone();
        next.retain(|pgno, _| *pgno <= size);
        let mut written: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
        // A database that grows writes every page it grows by.
        let grown = (1..=size).filter(|pgno| !next.contains_key(pgno)).map(|pgno| (pgno, 0));
        for (pgno, value) in grown.chain(changes.iter().copied()).filter(|(pgno, _)| *pgno <= size) {
            let mut page = vec![value; PAGE as usize];
            page[100..104].copy_from_slice(&u32::to_le_bytes(self.states.len() as u32));
            written.insert(pgno, page);
        }
        next.extend(written.clone());
        let header = self.header(&next, size);
        self.pending = Some(next);
        let mut file = self.history.begin(header)?;
        for (pgno, page) in &written {
            file.page(Pgno(*pgno), page)?;
        }
        let info = file.publish()?;
        self.states.extend(self.pending.take());
        Ok(info)
    }

    pub(super) fn header(&self, next: &Pages, size: u32) -> Header {
        let txid = self.history.last().map_or(Txid(1), |last| last.header.max_txid.next());
        Header {
            page_size: PAGE,
            commit: size,
            min_txid: txid,
            max_txid: txid,
            timestamp: self.now,
            wal_offset: 0,
            wal_size: 0,
            wal_salt1: 0,
            wal_salt2: 0,
            epoch: self.epoch,
            checksum_after: sum(next),
            checksum_before: sum(self.state()),
            wal_frame_checksum: 0,
        }
    }

    /// Asserts that a position comes back byte for byte, as an image and page by page.
    pub(super) fn assert_restores(&self, txid: usize) {
        let target = Txid(txid as u64);
        let expected = &self.states[txid];
        let path = self.root.join("image.db");
        let out = self.disk.open(&path, Open::Create { private: false }).unwrap();
        let imaged = self.history.image(target, &*out, &mut |_, _| {}).unwrap();
        assert_eq!((imaged.txid, imaged.checksum), (target, sum(expected)));
        let bytes = base::disk::read(&*self.disk, &path, 1 << 20).unwrap();
        let whole: Vec<u8> = expected.values().flatten().copied().collect();
        assert!(bytes == whole, "the image of {txid} differs");
        let reader = self.history.plan(target).unwrap().reader().unwrap();
        assert_eq!((reader.commit() as usize, reader.checksum()), (expected.len(), sum(expected)));
        let mut page = vec![0; PAGE as usize];
        for (pgno, contents) in expected {
            assert!(reader.read(Pgno(*pgno), &mut page).unwrap(), "page {pgno} of {txid}");
            assert_eq!(&page, contents, "page {pgno} of {txid}");
        }
        assert!(!reader.read(Pgno(expected.len() as u32 + 1), &mut page).unwrap());
    }

    pub(super) fn names(&self, below: &Path) -> Vec<String> {
        let mut names = Vec::new();
        for level in self.disk.read_dir(&below.join("ltx")).unwrap_or_default() {
            for file in self.disk.read_dir(&below.join("ltx").join(&level.name)).unwrap() {
                names.push(format!("{}/{}", level.name, file.name));
            }
        }
        names
    }

    pub(super) fn thin(&self, pinned: &[u64], retention: &Retention) -> (ThinPlan, CarriedOut) {
        let holds = Holds { pinned: pinned.iter().copied().map(Txid).collect(), noted: Vec::new() };
        let plan = self.history.thin(self.now, &holds, retention);
        let done = self.history.carry_out(&plan).unwrap();
        self.list();
        (plan, done)
    }

    /// Has the store's list follow what thinning did, as the engine does with its manifest.
    pub(super) fn list(&self) {
        let Some(listing) = self.history.listing() else { return };
        self.history.was_listed(&listing);
        let shed = self.history.shed();
        store::Objects::remove(&store::Directory::new(self.disk.clone(), self.root.join("store")), &shed)
            .unwrap();
    }
}

fn open(disk: &Arc<dyn Disk>, root: &Path, with_store: bool) -> Result<History, HistoryError> {
    let stored = if with_store { Some(find(disk, root)?) } else { None };
    History::open(disk.clone(), root.join("app.db-litestream"), stored)
}

/// What lies in the store, as a store without a manifest tells it.
fn find(disk: &Arc<dyn Disk>, root: &Path) -> Result<Stored, HistoryError> {
    let objects = Arc::new(store::Directory::new(disk.clone(), root.join("store")));
    let remote = Remote { objects, base: store::Key::new("data/app.db") };
    remote.list().map_err(|error| HistoryError {
        path: root.join("store"),
        cause: error.into(),
        of_store: true,
    })
}

fn sum(pages: &Pages) -> Checksum {
    let mut rolling = ltx::Rolling::default();
    for (pgno, page) in pages {
        rolling.toggle(ltx::page_checksum(Pgno(*pgno), page));
    }
    rolling.value()
}

/// Overwrites a byte in the middle of a file.
pub(super) fn spoil(path: &Path) {
    let file = LocalDisk.open(path, Open::Write).unwrap();
    let at = file.len().unwrap() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_at(&[byte[0] ^ 0x55], at).unwrap();
}

#[test]
fn what_was_sealed_can_be_restored_after_a_restart() {
    let mut world = World::new(false);
    assert!(world.history.last().is_none());
    world.seal(&[(1, 1)], 5);
    world.seal(&[(2, 9), (5, 9)], 5);
    let third = world.seal(&[(3, 7)], 8);
    world.reopen();
    let last = world.history.last().unwrap();
    assert_eq!((last.file.path, last.header.max_txid), (third.path.clone(), Txid(3)));
    let modified = LocalDisk.metadata(&third.path).unwrap().modified_ns;
    assert_eq!(modified, i128::from(world.now.0) * 1_000_000, "Litestream reads the commit time there");
    (1..=3).for_each(|txid| world.assert_restores(txid));
}

#[test]
fn a_database_that_shrank_and_grew_has_no_old_pages() {
    let mut world = World::new(false);
    world.seal(&[(9, 9)], 9);
    world.seal(&[(1, 2)], 3);
    world.seal(&[(1, 3)], 9);
    world.seal(&[], 4);
    (1..=4).for_each(|txid| world.assert_restores(txid));
}

#[test]
fn changed_pages_come_from_the_files_between() {
    let mut world = World::new(false);
    world.seal(&[], 9);
    world.seal(&[(2, 1), (7, 1)], 9);
    world.seal(&[(3, 1)], 9);
    world.seal(&[(2, 2)], 9);
    let changed = |after, upto| world.history.changed(Txid(after), Txid(upto)).unwrap();
    assert_eq!(changed(1, 4), [Pgno(2), Pgno(3), Pgno(7)]);
    assert_eq!(changed(2, 3), [Pgno(3)]);
    assert!(changed(4, 4).is_empty());
    let range = world.history.plan_range(Txid(2), Txid(4)).unwrap();
    assert_eq!(range.files().iter().map(|file| file.key.min).collect::<Vec<_>>(), [Txid(3), Txid(4)]);
    let out = LocalDisk.open(&world.local().join("x"), Open::CreateNew).unwrap();
    assert!(matches!(range.image(&*out, &mut |_, _| {}), Err(ImageError::NotWhole(Txid(2)))));
}

#[test]
fn a_seal_that_is_not_published_leaves_nothing() {
    let mut world = World::new(false);
    world.seal(&[], 3);
    let mut next = world.state().clone();
    next.insert(2, vec![7; PAGE as usize]);
    let mut file = world.history.begin(world.header(&next, 3)).unwrap();
    file.page(Pgno(2), &next[&2]).unwrap();
    drop(file);
    assert_eq!(world.names(&world.local()).len(), 1);
    world.seal(&[(2, 8)], 3);
    world.assert_restores(2);
}

#[test]
fn a_large_seal_with_a_page_that_changed_leaves_nothing() {
    const LARGE: u32 = 2 * ltx::limits::PACK_BESIDE_PAGES_MIN as u32;
    let mut world = World::new(false);
    world.seal(&[], LARGE);
    let next: Pages = (1..=LARGE).map(|pgno| (pgno, vec![pgno as u8; PAGE as usize])).collect();
    for changed in [None, Some(2), Some(LARGE / 2), Some(LARGE)] {
        let mut file = world.history.begin(world.header(&next, LARGE)).unwrap();
        file.expect_pages(next.len());
        let mut write = |pgno: u32, page: &[u8]| {
            let read = if changed == Some(pgno) { &next[&1] } else { page };
            file.announced_page(Pgno(pgno), read, ltx::page_checksum(Pgno(pgno), page))
        };
        let written = next.iter().try_for_each(|(pgno, page)| write(*pgno, page));
        let sealed =
            written.and_then(|()| if changed.is_some() { file.publish().map(|_| ()) } else { Ok(()) });
        match (changed, sealed) {
            (None, sealed) => sealed.unwrap(),
            (Some(at), Err(SealError::Changed { page, .. })) => assert_eq!(page, Pgno(at)),
            (Some(_), other) => unreachable!("{other:?}"),
        }
        assert_eq!(world.names(&world.local()).len(), 1);
    }
}

#[test]
fn leftovers_of_a_crash_go_at_the_next_start() {
    let mut world = World::new(false);
    world.seal(&[], 3);
    let leftover = world.local().join("ltx/0/0000000000000002-0000000000000002.ltx.tmp");
    LocalDisk.open(&leftover, Open::CreateNew).unwrap().write_at(b"half", 0).unwrap();
    world.reopen();
    assert_eq!(world.names(&world.local()).len(), 1);
}

// semantics: gap-free
#[test]
fn a_seal_must_continue_history() {
    let mut world = World::new(false);
    world.seal(&[], 3);
    let good = world.header(world.state(), 3);
    let skipping = Header { min_txid: Txid(3), max_txid: Txid(3), ..good };
    assert!(matches!(world.history.begin(skipping), Err(SealError::NotNext { expected: Txid(2), .. })));
    let foreign = Header { checksum_before: Checksum(Checksum::FLAG | 5), ..good };
    assert!(matches!(world.history.begin(foreign), Err(SealError::Chain { .. })));
    let impossible = Header { page_size: 1000, ..good };
    assert!(matches!(world.history.begin(impossible), Err(SealError::Encode { .. })));
    assert_eq!(world.names(&world.local()).len(), 1);
}

#[test]
fn shipping_sends_what_the_store_lacks_and_nothing_twice() {
    let mut world = World::new(true);
    world.seal(&[], 3);
    world.seal(&[(2, 2)], 3);
    let shipped = world.history.ship().unwrap();
    assert_eq!((shipped.files, shipped.stored_txid), (2, Txid(2)));
    assert_eq!(world.history.ship().unwrap().files, 0);
    world.seal(&[(2, 3)], 3);
    assert_eq!(world.history.stored_txid(), Txid(2));
    assert_eq!(
        world.history.ship().unwrap(),
        Shipped {
            files: 1,
            bytes: world.history.last().unwrap().file.bytes,
            stored_txid: Txid(3),
            more: false
        }
    );
    world.reopen();
    assert_eq!((world.history.stored_txid(), world.history.ship().unwrap().files), (Txid(3), 0));
}

#[test]
fn what_the_store_lacks_is_counted_with_its_bytes_and_its_moment() {
    let mut world = World::new(true);
    world.seal(&[(1, 1)], 1);
    world.history.ship().unwrap();
    assert_eq!(world.history.unsent(), Some(Unsent::default()));
    let (first, moment) = (world.seal(&[(1, 2)], 1), world.now);
    world.pass(Duration::from_secs(60));
    let second = world.seal(&[(1, 3)], 2);
    let lacks = Unsent { seals: 2, bytes: first.bytes + second.bytes, oldest: Some(moment) };
    assert_eq!(world.history.unsent(), Some(lacks));
    world.history.ship().unwrap();
    assert_eq!(world.history.unsent(), Some(Unsent::default()));
    assert_eq!(World::new(false).history.unsent(), None, "without a store nothing is lacking");
}

#[test]
fn what_the_store_lacks_is_known_without_a_look_at_the_disk() {
    let mut world = World::new(true);
    (0..20).for_each(|_| drop(world.seal(&[(1, 1)], 2)));
    world.reopen();
    let lacks = world.history.unsent().unwrap();
    assert_eq!((lacks.seals, lacks.oldest), (20, Some(world.now)));
    base::disk::remove_dir_all(&*world.disk, &world.local()).unwrap();
    assert_eq!(world.history.unsent(), Some(lacks), "whoever asks each second must not cost a scan");
}

#[test]
fn a_lost_local_history_is_read_from_the_store() {
    let mut world = World::new(true);
    for n in 1..=4 {
        world.seal(&[(n, 1)], 5);
    }
    world.history.ship().unwrap();
    base::disk::remove_dir_all(&LocalDisk, &world.local()).unwrap();
    world.reopen();
    assert_eq!(world.history.last().unwrap().header.max_txid, Txid(4));
    (1..=4).for_each(|txid| world.assert_restores(txid));
    world.seal(&[(1, 5)], 5);
    world.assert_restores(5);
    world.history.ship().unwrap();
    assert_eq!(world.history.stored_txid(), Txid(5));
}

#[test]
fn a_store_that_comes_back_is_gone_on_with_while_seals_go_on() {
    let mut world = World::new(true);
    (1..=2).for_each(|n| drop(world.seal(&[(n, 1)], 3)));
    world.history.ship().unwrap();
    world.history = open(&world.disk, &world.root, false).unwrap();
    world.seal(&[(2, 3)], 3);
    let mut next = world.state().clone();
    next.insert(2, vec![7; PAGE as usize]);
    let mut file = world.history.begin(world.header(&next, 3)).unwrap();
    world.history.attach_store(&find(&world.disk, &world.root).unwrap()).unwrap();
    assert_eq!(world.history.stored_txid(), Txid(2));
    file.page(Pgno(2), &next[&2]).unwrap();
    file.publish().unwrap();
    world.states.push(next);
    assert_eq!(world.history.ship().unwrap().files, 2);
    base::disk::remove_dir_all(&LocalDisk, &world.local()).unwrap();
    world.reopen();
    (1..=4).for_each(|txid| world.assert_restores(txid));
}

#[test]
fn another_writer_in_the_store_is_an_error_not_an_overwrite() {
    let mut one = World::new(true);
    one.seal(&[], 3);
    let mut other = World::new(false);
    other.history =
        History::open(Arc::new(LocalDisk), other.local(), Some(find(&one.disk, &one.root).unwrap())).unwrap();
    one.history.ship().unwrap();
    // Opened before the first one's file was there, so it seals the same TXID.
    other.seal(&[(1, 77)], 3);
    assert!(matches!(other.history.ship(), Err(ShipError::Conflict { .. })));
    one.reopen();
    one.assert_restores(1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Any seals, with merges and restarts between: every position that names promise comes back byte for byte.
    #[test]
    fn every_restorable_position_comes_back(
        steps in prop::collection::vec(
            (prop::collection::vec((1u32..12, any::<u8>()), 0..5), 1u32..12, 0u64..40, any::<bool>()), 1..40),
        with_store in any::<bool>(),
    ) {
        let mut world = World::new(with_store);
        for (changes, size, seconds, housekeeping) in steps {
            world.pass(Duration::from_secs(seconds));
            world.seal(&changes, size);
            if housekeeping {
                world.history.ship().unwrap();
                world.thin(&[], &Retention::default());
            }
        }
        world.reopen();
        let last = world.states.len() - 1;
        prop_assert!(world.history.restorable().contains(&Txid(last as u64)));
        for txid in world.history.restorable() {
            world.assert_restores(txid.0 as usize);
        }
    }
}
