//! Readers beside whoever thins.

use super::*;
use base::{DiskFile, disk};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

/// A disk that takes its time to rename.
#[derive(Debug)]
struct SlowRename {
    renaming: AtomicBool,
    /// What a rename in the store waits for, and whether that came.
    awaits: Mutex<Option<mpsc::Receiver<()>>>,
    came: AtomicBool,
}

impl SlowRename {
    fn new(awaits: Option<mpsc::Receiver<()>>) -> Arc<SlowRename> {
        let (renaming, came) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(SlowRename { renaming, awaits: Mutex::new(awaits), came })
    }

    fn until_renaming(&self) {
        while !self.renaming.load(Ordering::SeqCst) {
            std::hint::spin_loop();
        }
    }
}

impl Disk for SlowRename {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>> {
        LocalDisk.open(path, how)
    }

    fn metadata(&self, path: &Path) -> io::Result<disk::Metadata> {
        LocalDisk.metadata(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<disk::Entry>> {
        LocalDisk.read_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        LocalDisk.rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        if let Some(awaits) = &*self.awaits.lock().unwrap() {
            if to.ends_with("store/data/app.db/ltx/9/0000000000000001-0000000000000001.ltx") {
                self.renaming.store(true, Ordering::SeqCst);
                self.came.store(awaits.recv_timeout(Duration::from_secs(20)).is_ok(), Ordering::SeqCst);
            }
            return LocalDisk.rename_new(from, to);
        }
        self.renaming.store(true, Ordering::SeqCst);
        base::Clock::sleep(&base::SystemClock, Duration::from_millis(100));
        let done = LocalDisk.rename_new(from, to);
        base::Clock::sleep(&base::SystemClock, Duration::from_millis(100));
        done
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        LocalDisk.remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        LocalDisk.remove_dir(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        LocalDisk.create_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        LocalDisk.sync_dir(path)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        LocalDisk.free_bytes(path)
    }
}

#[test]
fn a_file_that_moves_up_is_found_at_every_moment() {
    let dir = tempfile::tempdir().unwrap();
    let slow = SlowRename::new(None);
    let mut world = World::on(slow.clone(), dir.path().to_owned(), false).unwrap();
    world.seal(&[(1, 1)], 1);
    let plan = world.history.thin(world.now, &Holds::default(), &Retention::default());
    assert_eq!(plan.moves.len(), 1, "the first file becomes the base");
    let history = &world.history;
    std::thread::scope(|scope| {
        let thinning = scope.spawn(|| history.carry_out(&plan).map(|_| ()));
        slow.until_renaming();
        while !thinning.is_finished() {
            history.plan(Txid(1)).unwrap();
        }
        thinning.join().unwrap().unwrap();
    });
    assert_eq!(world.history.files()[0].key.level, 9);
}

#[test]
fn a_seal_does_not_wait_for_a_move_in_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let (sealed, awaits) = mpsc::channel();
    let slow = SlowRename::new(Some(awaits));
    let mut world = World::on(slow.clone(), dir.path().to_owned(), true).unwrap();
    world.seal(&[(1, 1)], 1);
    world.history.ship().unwrap();
    let history = world.history.clone();
    let plan = history.thin(world.now, &Holds::default(), &Retention::default());
    std::thread::scope(|scope| {
        let thinning = scope.spawn(|| history.carry_out(&plan).map(|_| ()));
        slow.until_renaming();
        world.seal(&[(1, 2)], 1);
        let _ = sealed.send(());
        thinning.join().unwrap().unwrap();
    });
    assert!(slow.came.load(Ordering::SeqCst), "the seal waited for the store");
    assert_eq!(world.names(&world.store()).len(), 1);
    world.assert_restores(2);
}

#[test]
fn a_history_that_was_opened_anew_changes_nothing_any_more() {
    let mut world = World::new(false);
    for n in 1..=4 {
        world.seal(&[(1, n)], 1);
    }
    world.pass(Duration::from_secs(3600));
    world.seal(&[(1, 9)], 1);
    let plan = world.history.thin(world.now, &Holds::default(), &Retention::default());
    assert!(!plan.merges.is_empty() && !plan.remove_local.is_empty());
    let before = world.history.files();
    let old = world.history.clone();
    old.give_up();
    world.reopen();
    assert!(matches!(old.carry_out(&plan), Err(ThinError::GivenUp { .. })));
    world.reopen();
    assert_eq!(world.history.files(), before);
}
