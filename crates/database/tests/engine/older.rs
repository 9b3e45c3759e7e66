//! A volume that comes from its store to a home where an older file of its database lies: what is fetched, and what of
//! the file counts.

use super::*;
use database::recover::recover;
use std::sync::atomic::{AtomicU64, Ordering};
use store::{Around, Key, Objects, Piece, StoreError};

/// A store whose bytes have to be fetched; it counts them.
#[derive(Debug)]
struct Metered {
    inner: Arc<dyn Objects>,
    fetched: AtomicU64,
}

impl Around for Metered {
    fn inner(&self) -> &dyn Objects {
        &*self.inner
    }
    fn readers(&self) -> usize {
        4
    }
    fn read(&self, key: &Key, from: u64, bytes_max: usize) -> Result<Option<Piece>, StoreError> {
        let piece = self.inner.read(key, from, bytes_max)?;
        let got = piece.as_ref().map_or(0, |piece| piece.bytes.len() as u64);
        self.fetched.fetch_add(got, Ordering::SeqCst);
        Ok(piece)
    }
}

/// Another machine with the same store, and what it fetches.
struct Heir {
    world: World,
    store: Arc<Metered>,
}

impl Heir {
    fn of(world: &World) -> Heir {
        let heir = World { store: world.store.clone(), id: world.id + 1, ..World::new() };
        std::fs::create_dir_all(heir.home.join("data")).unwrap();
        let inner = settings_of(heir.store.as_ref().unwrap(), heir.id, Claim::TakeOver).objects;
        Heir { world: heir, store: Arc::new(Metered { inner, fetched: AtomicU64::new(0) }) }
    }

    fn settings(&self, claim: Claim) -> StoreSettings {
        let objects = Arc::clone(&self.store) as Arc<dyn Objects>;
        StoreSettings { objects, ..settings_of(self.world.store.as_ref().unwrap(), self.world.id, claim) }
    }

    /// Brings the volume up; the bytes that were fetched for that.
    fn bring_up(&self) -> (Engine, u64) {
        recover(&self.world.home, &self.settings(Claim::TakeOver), &Machine::real()).unwrap();
        let ledger = Arc::new(Ledger::open(&self.world.home.join(".stead/ledger.sqlite"), None).unwrap());
        let entries = vec![Entry::File { path: path(NAME), schema: None }];
        let settings = Settings {
            store: Some(self.settings(Claim::Own)),
            ..self.world.settings(Machine::real(), entries)
        };
        let engine = Engine::start(settings, ledger, Arc::new(|_| {})).unwrap();
        // It is back by now. What is merged from now on is read, too, but not to bring it back.
        let fetched = self.store.fetched.swap(0, Ordering::SeqCst);
        until("followed", || followed(&engine, NAME));
        (engine, fetched)
    }
}

/// A volume in a store, the file as it was before its last change, and the time of that.
fn changed_by_one_percent() -> (World, PathBuf) {
    let world = World::with_store();
    let engine = world.start();
    let app = world.app("database.sqlite");
    app.execute_batch(
        "PRAGMA journal_mode=WAL; CREATE TABLE t(x);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
         INSERT INTO t SELECT hex(randomblob(200)) FROM n;",
    )
    .unwrap();
    until("followed", || followed(&engine, NAME));
    drop(app);
    engine.stop();
    let old = world.home.parent().unwrap().join("old.sqlite");
    std::fs::copy(world.home.join(NAME), &old).unwrap();
    let engine = world.start();
    let app = world.app("database.sqlite");
    app.execute_batch("UPDATE t SET x = hex(randomblob(200)) WHERE rowid BETWEEN 100 AND 300").unwrap();
    drop(app);
    engine.stop();
    (world, old)
}

fn same_rows(one: &Path, other: &Path) -> bool {
    let all = |file: &Path| {
        let conn = Connection::open(file).unwrap();
        let mut rows = conn.prepare("SELECT x FROM t ORDER BY rowid").unwrap();
        rows.query_map([], |row| row.get::<_, String>(0)).unwrap().map(Result::unwrap).collect::<Vec<_>>()
    };
    all(one) == all(other)
}

// semantics: older-copy
#[test]
fn of_an_older_file_only_what_changed_since_is_fetched() {
    let (world, old) = changed_by_one_percent();
    let newest = world.home.join(NAME);
    let bytes = std::fs::metadata(&newest).unwrap().len();

    let heir = Heir::of(&world);
    let (engine, whole) = heir.bring_up();
    // What is fetched twice would show; seals at the very end are proven before anything is built on them.
    assert!(whole > bytes / 3 && whole < bytes * 3 / 2, "{whole} bytes were fetched for {bytes}");
    assert!(same_rows(&heir.world.home.join(NAME), &newest));
    engine.stop();

    let second = Heir::of(&heir.world);
    std::fs::copy(&old, second.world.home.join(NAME)).unwrap();
    let (engine, fetched) = second.bring_up();
    assert!(fetched < bytes / 30, "{fetched} bytes were fetched for 1 % of {bytes}");
    assert!(same_rows(&second.world.home.join(NAME), &newest));
    verify(&engine, NAME);
    engine.stop();
    nothing_is_left(&second.world);

    let third = Heir::of(&second.world);
    std::fs::copy(&newest, third.world.home.join(NAME)).unwrap();
    let (engine, fetched) = third.bring_up();
    assert!(fetched < bytes / 30, "{fetched} bytes were fetched for nothing that changed in {bytes}");
    verify(&engine, NAME);
    engine.stop();
    nothing_is_left(&third.world);
}

fn nothing_is_left(world: &World) {
    let names = std::fs::read_dir(world.home.join("data")).unwrap().flatten().map(|entry| entry.file_name());
    let left: Vec<_> = names.filter(|name| name.to_string_lossy().contains("stead-")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn an_older_file_does_not_change_under_whoever_reads_it() {
    let (world, old) = changed_by_one_percent();
    let heir = Heir::of(&world);
    let file = heir.world.home.join(NAME);
    std::fs::copy(&old, &file).unwrap();
    let before = std::fs::read(&old).unwrap();
    let held = std::fs::File::open(&file).unwrap();
    let mut reader =
        std::process::Command::new("sleep").arg("1000").stdin(held.try_clone().unwrap()).spawn().unwrap();
    let (engine, _) = heir.bring_up();
    let mut seen = vec![0; before.len()];
    std::os::unix::fs::FileExt::read_exact_at(&held, &mut seen, 0).unwrap();
    assert!(seen == before, "the file was written to");
    assert!(same_rows(&file, &world.home.join(NAME)));
    reader.kill().unwrap();
    reader.wait().unwrap();
    engine.stop();
}

/// An older file whose log was never put into it, as a crash leaves it.
#[test]
fn the_log_of_an_older_file_belongs_to_it() {
    let (world, old) = changed_by_one_percent();
    let heir = Heir::of(&world);
    let file = heir.world.home.join(NAME);
    std::fs::copy(&old, &file).unwrap();
    let app = Connection::open(&file).unwrap();
    app.execute_batch("PRAGMA wal_autocheckpoint=0; INSERT INTO t VALUES('written here')").unwrap();
    let log = base::disk::sibling(&file, "-wal");
    let kept = (std::fs::read(&file).unwrap(), std::fs::read(&log).unwrap());
    drop(app);
    std::fs::write(&file, kept.0).unwrap();
    std::fs::write(&log, kept.1).unwrap();

    // Nobody but its writer has that state, so it is not taken for an older one.
    let (engine, _) = heir.bring_up();
    let app = heir.world.app("database.sqlite");
    let found: i64 =
        app.query_row("SELECT count(*) FROM t WHERE x = 'written here'", [], |row| row.get(0)).unwrap();
    assert_eq!(found, 1);
    drop(app);
    until("sealed", || engine.databases()[0].dirty_since.is_none());
    verify(&engine, NAME);
    let at = engine.databases()[0].position.unwrap();
    assert!(engine.history(&path(NAME)).unwrap().restorable().len() > 2, "{at:?}");
    engine.stop();
}
