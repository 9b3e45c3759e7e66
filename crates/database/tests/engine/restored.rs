//! What a turn puts in the place of files: nothing unknown is overwritten, owners stay, cookies never repeat.

use super::*;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

fn turn(engine: &Engine, to: &database::engine::Cut) -> Vec<database::engine::Change> {
    engine.turn_back("there", &to.vector, LIMIT, &mut |_| {}).unwrap()
}

fn cookie(conn: &Connection) -> i64 {
    conn.query_row("PRAGMA schema_version", [], |row| row.get(0)).unwrap()
}

// semantics: nothing-overwritten
#[test]
fn what_history_does_not_hold_is_moved_aside_and_not_overwritten() {
    let (world, engine, file, cut) = cut_of_one();
    for (precious, aside) in [("PRECIOUS", ".stead-aside"), ("MORE", ".stead-aside.1")] {
        remove(&file);
        until("lost", || !followed(&engine, NAME));
        std::fs::write(&file, precious.repeat(100)).unwrap();
        until("named", || {
            engine.databases()[0].trouble.as_ref().is_some_and(|it| it.code == "not_a_database")
        });
        let aside = PathBuf::from(format!("{}{aside}", file.display()));
        let planned = engine.validate(&cut.vector).unwrap();
        assert_eq!(planned[0].aside.as_ref(), Some(&aside), "a dry run says so");
        assert!(!aside.exists());

        let changes = turn(&engine, &cut);
        assert_eq!((changes[0].kind, changes[0].aside.as_ref()), (ChangeKind::Recreated, Some(&aside)));
        assert_eq!(std::fs::read_to_string(&aside).unwrap(), precious.repeat(100));
        assert_eq!(count(&world.app("database.sqlite")), 1);
    }
    verify(&engine, NAME);
    engine.stop();
    // A pattern that matches everything does not take it for a database.
    let engine = world.start_with(vec![Entry::Pattern { dir: "data".into(), pattern: "*".into() }]);
    assert!(engine.databases().iter().all(|info| !info.path.as_str().contains("aside")));
    engine.stop();
}

#[test]
fn a_schema_cookie_that_a_deleted_file_had_is_not_used_again() {
    let (world, engine, file, first) = cut_of_one();
    let app = world.app("database.sqlite");
    app.execute_batch("CREATE TABLE z(x); INSERT INTO z VALUES('of z')").unwrap();
    let second = engine.cut(LIMIT).unwrap();
    let had = cookie(&app);
    drop(app);
    remove(&file);
    until("lost", || !followed(&engine, NAME));

    turn(&engine, &first);
    let app = world.app("database.sqlite");
    assert!(cookie(&app) > had, "{} after {had}", cookie(&app));
    app.execute_batch("CREATE TABLE y(x); INSERT INTO y VALUES('of y')").unwrap();
    let mut of_y = app.prepare("SELECT x FROM y").unwrap();
    assert_eq!(of_y.query_row([], |row| row.get::<_, String>(0)).unwrap(), "of y");

    turn(&engine, &second);
    let found = of_y.query_row([], |row| row.get::<_, String>(0));
    assert!(found.as_ref().is_err_and(|error| error.to_string().contains("no such table")), "{found:?}");
    verify(&engine, NAME);
    engine.stop();
}

/// Another file was put in its place while no engine ran: its cookies count anew, so that the same one may mean
/// another schema. Whoever compares the two first notes that.
#[test]
fn a_schema_cookie_of_a_file_put_in_its_place_is_not_taken_for_the_old_one() {
    let at_rest = |engine: &Engine| until("compared", || engine.databases()[0].dirty_since.is_none());
    let in_a_cut = |engine: &Engine| drop(engine.cut(LIMIT).unwrap());
    let in_a_verification = |engine: &Engine| verify(engine, NAME);
    for compared in [at_rest as fn(&Engine), in_a_cut, in_a_verification] {
        another_file_with_the_same_cookie(compared);
    }
}

fn another_file_with_the_same_cookie(compared: fn(&Engine)) {
    let (world, engine, file, first) = cut_of_one();
    engine.stop();
    let had = cookie(&Connection::open(&file).unwrap());
    remove(&file);
    let other = Connection::open(&file).unwrap();
    other.execute_batch("CREATE TABLE y(x); INSERT INTO y VALUES('of y')").unwrap();
    assert_eq!(cookie(&other), had);
    drop(other);
    let engine = world.start();
    until("joined", || followed(&engine, NAME));
    compared(&engine);
    let app = world.app("database.sqlite");
    let mut of_y = app.prepare("SELECT x FROM y").unwrap();
    assert_eq!(of_y.query_row([], |row| row.get::<_, String>(0)).unwrap(), "of y");
    turn(&engine, &first);
    let found = of_y.query_row([], |row| row.get::<_, String>(0));
    assert!(found.is_err(), "{found:?}");
    assert!(cookie(&app) > had);
    engine.stop();
}

fn owner(file: &Path) -> (u32, u32, u32) {
    let at = std::fs::metadata(file).unwrap();
    (at.uid(), at.gid(), at.mode() & 0o7777)
}

fn give(file: &Path, (uid, gid, mode): (u32, u32, u32)) {
    std::os::unix::fs::chown(file, Some(uid), Some(gid)).unwrap();
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).unwrap();
}

// semantics: owner-stays
#[test]
fn what_comes_back_belongs_to_whom_it_belonged() {
    // Only root can give files away; the mode stays in any case.
    let node = owner(Path::new("/proc/self")).0;
    let private =
        if node == 0 { (1234, 4321, 0o600) } else { (node, owner(Path::new("/proc/self")).1, 0o600) };
    let world = World::new();
    std::fs::create_dir_all(world.home.join("data")).unwrap();
    let file = world.home.join(NAME);
    let app = Connection::open(&file).unwrap();
    app.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1)").unwrap();
    drop(app);
    give(&file, private);
    let engine = world.start();
    let cut = engine.cut(LIMIT).unwrap();

    remove(&file);
    until("lost", || !followed(&engine, NAME));
    turn(&engine, &cut);
    for suffix in ["", "-wal", "-shm"] {
        let found = owner(&world.home.join(format!("{NAME}{suffix}")));
        assert_eq!(found, private, "recreated: {NAME}{suffix}");
    }

    // Another incarnation, with another owner: the new file takes over what the one that it replaces had.
    remove(&file);
    until("lost again", || !followed(&engine, NAME));
    let app = Connection::open(&file).unwrap();
    app.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE u(x)").unwrap();
    drop(app);
    let shared = (private.0, private.1, 0o640);
    give(&file, shared);
    until("followed again", || followed(&engine, NAME));
    let since = engine.cut(LIMIT).unwrap();
    assert_eq!(turn(&engine, &cut)[0].kind, ChangeKind::Replaced);
    assert_eq!(owner(&file), shared);

    // Missing at start, and removed by a restore.
    turn(&engine, &since);
    engine.stop();
    remove(&file);
    let engine = world.start();
    assert_eq!(owner(&file), shared, "missing at start");
    turn(&engine, &database::engine::Cut { vector: Default::default(), ..since });
    assert_eq!(owner(&file), shared, "created anew");
    engine.stop();
}

#[test]
fn what_is_not_remembered_is_the_apps_and_private() {
    let (world, engine, file, cut) = cut_of_one();
    engine.stop();
    std::fs::remove_dir_all(world.home.join(".stead/databases")).unwrap();
    remove(&file);
    let engine = world.start();
    assert_eq!(owner(&file).2, 0o600);
    assert_eq!(count(&world.app("database.sqlite")), 1);
    assert_eq!(engine.cut(LIMIT).unwrap().vector, cut.vector);
    engine.stop();
}
