use super::*;
use base::LocalDisk;
use base::sim::{Op, SimDisk, SimRandom};

fn store() -> (tempfile::TempDir, Directory) {
    let dir = tempfile::tempdir().unwrap();
    let store = Directory::new(Arc::new(LocalDisk), dir.path().join("deep/er"));
    (dir, store)
}

fn put(store: &Directory, key: &str, bytes: &[u8]) -> Outcome {
    store.put(Path::new(key), &mut |file| file.write_at(bytes, 0)).unwrap()
}

fn contents(store: &Directory, key: &str) -> Vec<u8> {
    base::disk::read(&LocalDisk, &store.path(Path::new(key)), 1000).unwrap()
}

#[test]
fn an_object_is_created_once() {
    let (_dir, store) = store();
    assert_eq!(put(&store, "a/b/one", b"first"), Outcome::Won);
    assert_eq!(put(&store, "a/b/one", b"second"), Outcome::Lost);
    assert_eq!(contents(&store, "a/b/one"), b"first");
    let listed = store.list(Path::new("a/b")).unwrap();
    assert_eq!(listed.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(), ["one"]);
}

#[test]
fn of_many_writers_one_wins() {
    let (_dir, store) = store();
    let wins: usize = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..8u8)
            .map(|n| {
                // A counter of its own, as another process would have.
                let store = Directory::new(Arc::new(LocalDisk), store.root().to_owned());
                scope.spawn(move || usize::from(put(&store, "x", &[n]) == Outcome::Won))
            })
            .collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).sum()
    });
    assert_eq!(wins, 1);
    assert!(store.remove_leftovers(Path::new("")).unwrap().is_empty());
}

#[test]
fn a_write_that_fails_leaves_nothing() {
    let (_dir, store) = store();
    let failed = store.put(Path::new("x"), &mut |file| {
        file.write_at(b"half", 0)?;
        Err(io::ErrorKind::StorageFull.into())
    });
    assert_eq!(failed.unwrap_err().cause.kind(), io::ErrorKind::StorageFull);
    assert!(LocalDisk.read_dir(store.root()).unwrap().is_empty());
}

#[test]
fn leftovers_are_in_no_listing_and_can_be_removed() {
    let (_dir, store) = store();
    assert_eq!(put(&store, "x", b"x"), Outcome::Won);
    LocalDisk.open(&store.path(Path::new("y.7.tmp")), Open::CreateNew).unwrap();
    assert_eq!(store.list(Path::new("")).unwrap().len(), 1);
    assert_eq!(store.remove_leftovers(Path::new("")).unwrap(), [Leftover { key: PathBuf::from("y.7.tmp") }]);
    assert_eq!(LocalDisk.read_dir(store.root()).unwrap().len(), 1);
}

#[test]
fn what_is_in_the_way_is_set_aside_never_replaced() {
    let (_dir, store) = store();
    assert_eq!(put(&store, "x", b"old"), Outcome::Won);
    store.set_aside(Path::new("x"), Path::new("aside/x")).unwrap();
    assert_eq!(put(&store, "x", b"new"), Outcome::Won);
    assert!(store.set_aside(Path::new("x"), Path::new("aside/x")).is_err());
    assert_eq!((contents(&store, "aside/x"), contents(&store, "x")), (b"old".to_vec(), b"new".to_vec()));
}

#[test]
fn a_probe_tells_whether_the_store_can_be_written() {
    let (dir, store) = store();
    store.probe().unwrap();
    assert!(LocalDisk.read_dir(store.root()).unwrap().is_empty());
    let file = dir.path().join("file");
    LocalDisk.open(&file, Open::CreateNew).unwrap();
    let blocked = Directory::new(Arc::new(LocalDisk), file.join("below"));
    assert!(blocked.probe().unwrap_err().to_string().contains("below"));
}

#[test]
fn what_is_won_lies_in_directories_that_outlive_the_power() {
    for seed in 0..8 {
        let disk = SimDisk::default();
        let store = Directory::new(Arc::new(disk.clone()), PathBuf::from("/store"));
        store.probe().unwrap();
        disk.fail_nth(Op::SyncDir, 1, 5);
        let key = Path::new("a/x");
        let mut fill = |file: &dyn DiskFile| file.write_at(b"x", 0);
        assert!(store.put(key, &mut fill).is_err());
        assert_eq!(store.put(key, &mut fill).unwrap(), Outcome::Won);
        disk.crash_power(&SimRandom::new(seed));
        assert_eq!(base::disk::read(&disk, &store.path(key), 10).unwrap(), b"x", "seed {seed}");
    }
}
