use super::*;
use base::sim::{Op, SimDisk, SimRandom};
use base::{LocalDisk, Timestamp};

fn store() -> (tempfile::TempDir, Directory) {
    let dir = tempfile::tempdir().unwrap();
    let store = Directory::new(Arc::new(LocalDisk), dir.path().join("deep/er"));
    (dir, store)
}

fn key(text: &str) -> Key {
    Key::parse(text).unwrap()
}

fn put(store: &Directory, name: &str, bytes: &[u8]) -> Outcome {
    crate::create_from(store, &key(name), Timestamp(7), bytes).unwrap()
}

fn won(outcome: Outcome) -> Tag {
    match outcome {
        Outcome::Won(tag) => tag,
        other => panic!("{other:?}"),
    }
}

fn contents(store: &Directory, name: &str) -> Vec<u8> {
    crate::read_whole(store, &key(name), 1000).unwrap().unwrap().0
}

fn names(store: &Directory) -> Vec<String> {
    let mut names = Vec::new();
    let mut each = |found: Listed| {
        names.push(format!("{} {}", found.key, found.len));
        ControlFlow::Continue(())
    };
    store.list(None, &mut each).unwrap();
    names
}

#[test]
fn an_object_is_created_once() {
    let (_dir, store) = store();
    let _ = won(put(&store, "a/b/one", b"first"));
    assert_eq!(put(&store, "a/b/one", b"second"), Outcome::Lost);
    assert_eq!(contents(&store, "a/b/one"), b"first");
    assert_eq!(names(&store), ["a/b/one 5"]);
}

#[test]
fn of_many_writers_one_wins() {
    let (_dir, store) = store();
    let race = |write: &(dyn Fn(Directory, u8) -> Outcome + Sync)| {
        std::thread::scope(|scope| {
            let racer = |n: u8| {
                // A counter of its own, as another process would have.
                let store = Directory::new(Arc::new(LocalDisk), store.root().to_owned());
                scope.spawn(move || usize::from(matches!(write(store, n), Outcome::Won(_))))
            };
            let racers: Vec<_> = (0..8).map(racer).collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).sum::<usize>()
        })
    };
    assert_eq!(race(&|store, n| put(&store, "x", &[n])), 1);
    let (_, tag) = crate::read_whole(&store, &key("x"), 10).unwrap().unwrap();
    assert_eq!(race(&|store, n| store.replace(&key("x"), &[n, n], &tag).unwrap()), 1);
    assert_eq!(names(&store), ["x 2"]);
}

#[test]
fn only_who_has_read_what_is_there_replaces_it() {
    let (_dir, store) = store();
    let first = won(put(&store, "x", b"one"));
    assert_eq!(store.read(&key("x"), 1, 1).unwrap().unwrap().tag, first);
    let second = won(store.replace(&key("x"), b"two", &first).unwrap());
    assert_eq!(store.replace(&key("x"), b"three", &first).unwrap(), Outcome::Lost);
    assert_eq!(contents(&store, "x"), b"two");
    store.remove(&[key("x"), key("y")]).unwrap();
    assert_eq!(store.replace(&key("x"), b"three", &second).unwrap(), Outcome::Lost);
    assert!(names(&store).is_empty());
}

#[test]
fn a_piece_says_how_long_the_whole_is() {
    let (_dir, store) = store();
    let _ = won(put(&store, "x", b"0123456789"));
    for (from, max, bytes) in [(0, 3, "012"), (8, 5, "89"), (10, 5, ""), (99, 5, "")] {
        let piece = store.read(&key("x"), from, max).unwrap().unwrap();
        assert_eq!((piece.bytes.as_slice(), piece.len), (bytes.as_bytes(), 10), "{from}");
    }
    assert_eq!(store.read(&key("y"), 0, 1).unwrap(), None);
    assert_eq!(crate::read_whole(&store, &key("x"), 9).unwrap_err().kind, ErrorKind::TooLarge);
}

#[test]
fn a_write_that_fails_leaves_nothing_and_says_whose_fault_it_was() {
    let (_dir, store) = store();
    let about = About { moment: Timestamp(0), bytes: 4 };
    let failed = store.create(&key("x"), about, &mut |out| {
        out.write_all(b"half")?;
        Err(io::Error::other("the source is gone"))
    });
    assert_eq!(failed.unwrap_err().kind, ErrorKind::Content);
    assert!(LocalDisk.read_dir(store.root()).unwrap().is_empty());

    let disk = SimDisk::default();
    let store = Directory::new(Arc::new(disk.clone()), PathBuf::from("/store"));
    let _ = won(put(&store, "a", b"a"));
    disk.set_capacity(2);
    let failed = crate::create_from(&store, &key("x"), Timestamp(0), b"longer").unwrap_err();
    assert_eq!(failed.kind, ErrorKind::Full, "{failed}");
}

#[test]
fn what_is_unfinished_is_in_no_listing_and_can_be_removed() {
    let (_dir, store) = store();
    let _ = won(put(&store, "x", b"x"));
    let ours = ["data/a.db/ltx/0/1-1.ltx.7.tmp", ".stead/manifest.0.tmp", ".stead/configuration.12.tmp"];
    let others = ["y.7.tmp", "other/precious.tmp", "data/a.db/ltx/0/1-1.ltx.tmp", ".stead/notes.x.tmp"];
    for name in ours.iter().chain(&others) {
        let file = store.root().join(name);
        LocalDisk.create_dir_all(disk::parent(&file)).unwrap();
        LocalDisk.open(&file, Open::CreateNew).unwrap();
    }
    assert_eq!(names(&store), ["x 1"]);
    store.tidy().unwrap();
    let stays = |name: &&str| LocalDisk.metadata(&store.root().join(name)).is_ok();
    assert_eq!(ours.iter().filter(|name| stays(name)).count(), 0);
    assert!(others.iter().all(stays), "what somebody else left there");
}

#[test]
fn a_directory_that_somebody_removed_below_is_made_anew() {
    let (_dir, store) = store();
    let _ = won(put(&store, "deep/x", b"x"));
    LocalDisk.remove_file(&store.root().join("deep/x")).unwrap();
    LocalDisk.remove_dir(&store.root().join("deep")).unwrap();
    let write = || crate::create_from(&store, &key("deep/y"), Timestamp(0), b"y").map_err(|error| error.kind);
    assert_eq!(write(), Err(ErrorKind::Disk));
    let _ = won(write().unwrap());
}

#[test]
fn a_directory_that_comes_back_in_another_guise_is_known_by_what_lies_there() {
    let (dir, store) = store();
    let _ = won(put(&store, "mark", b"ours"));
    let is_ours = |bytes: &[u8]| bytes == b"ours";
    let look = || store.look_again(&key("mark"), 100, &is_ours);
    let write = || crate::create_from(&store, &key("y"), Timestamp(0), b"y").map_err(|error| error.kind);
    let away = dir.path().join("deep/away");
    LocalDisk.rename(store.root(), &away).unwrap();
    for there in [None, Some(""), Some("another's")] {
        if let Some(mark) = there {
            LocalDisk.create_dir_all(store.root()).unwrap();
            let file = LocalDisk.open(&store.root().join("mark"), Open::Create { private: false }).unwrap();
            file.write_at(mark.as_bytes(), 0).unwrap();
        }
        look();
        assert_eq!(write(), Err(ErrorKind::Gone), "{there:?}");
    }
    LocalDisk.rename(&away.join("mark"), &store.root().join("mark")).unwrap();
    assert_eq!(write(), Err(ErrorKind::Gone), "nobody has looked");
    look();
    let _ = won(write().unwrap());
}

#[test]
fn a_directory_in_the_place_of_the_store_is_not_written_to() {
    let (dir, store) = store();
    let _ = won(put(&store, "x", b"x"));
    LocalDisk.rename(store.root(), &dir.path().join("deep/elsewhere")).unwrap();
    let create = || crate::create_from(&store, &key("y"), Timestamp(0), b"y");
    assert_eq!(create().unwrap_err().kind, ErrorKind::Gone);
    LocalDisk.create_dir_all(store.root()).unwrap();
    assert_eq!(create().unwrap_err().kind, ErrorKind::Gone);
    assert_eq!(store.read(&key("x"), 0, 1).unwrap_err().kind, ErrorKind::Gone, "not: it is none");
    assert!(LocalDisk.read_dir(store.root()).unwrap().is_empty());
}

#[test]
fn a_file_in_the_way_of_the_store_is_named() {
    let (dir, _) = store();
    let file = dir.path().join("file");
    LocalDisk.open(&file, Open::CreateNew).unwrap();
    for root in [file.clone(), file.join("below")] {
        let blocked = Directory::new(Arc::new(LocalDisk), root.clone());
        let refused = crate::create_from(&blocked, &key("x"), Timestamp(0), b"x").unwrap_err();
        assert!(refused.to_string().starts_with(&format!("file://{}", root.display())), "{refused}");
    }
}

#[test]
fn what_is_won_lies_in_directories_that_outlive_the_power() {
    for seed in 0..8 {
        let disk = SimDisk::default();
        let store = Directory::new(Arc::new(disk.clone()), PathBuf::from("/store"));
        let _ = won(put(&store, "first", b""));
        disk.fail_nth(Op::SyncDir, 1, 5);
        assert!(crate::create_from(&store, &key("a/x"), Timestamp(0), b"x").is_err());
        let tag = won(put(&store, "a/x", b"x"));
        let _ = won(store.replace(&key("a/x"), b"y", &tag).unwrap());
        disk.crash_power(&SimRandom::new(seed));
        assert_eq!(contents(&store, "a/x"), b"y", "seed {seed}");
    }
}

#[test]
fn what_is_settled_outlives_the_power_whoever_made_it() {
    for seed in 0..8 {
        let disk = SimDisk::default();
        let store = Directory::new(Arc::new(disk.clone()), PathBuf::from("/store"));
        let _ = won(put(&store, "a/b", b"b"));
        disk.fail_nth(Op::SyncDir, 1, 5);
        assert_eq!(put(&store, "a/x", b"x"), Outcome::Unknown);
        store.settle(&key("a/x")).unwrap();
        disk.crash_power(&SimRandom::new(seed));
        assert_eq!(contents(&store, "a/x"), b"x", "seed {seed}");
    }
}
