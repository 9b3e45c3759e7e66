//! Readers beside whoever thins.

use super::*;
use base::{DiskFile, disk};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// A disk that takes its time to rename.
#[derive(Debug)]
struct SlowRename {
    renaming: AtomicBool,
}

impl SlowRename {
    fn new() -> Arc<SlowRename> {
        Arc::new(SlowRename { renaming: AtomicBool::new(false) })
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
    let slow = SlowRename::new();
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
