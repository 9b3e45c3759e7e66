//! Starts with something missing, damaged, in the way or written by others.

use super::*;
use base::{Incarnation, Position, Txid};
use database::machine::{Kernel, Locks};
use std::io::{BufRead, BufReader};

const MAIN: &str = "data/database.sqlite";

/// This machine after another boot.
#[derive(Debug)]
struct Rebooted(Arc<dyn Kernel>);

impl Kernel for Rebooted {
    fn locks(&self, database: &Path) -> std::io::Result<Box<dyn Locks>> {
        self.0.locks(database)
    }
    fn boot_id(&self) -> String {
        "another boot".into()
    }
    fn openers(&self, path: &Path) -> Vec<u32> {
        self.0.openers(path)
    }
}

fn rebooted() -> Machine {
    let real = Machine::real();
    Machine { kernel: Arc::new(Rebooted(Arc::clone(&real.kernel))), ..real }
}

fn entries() -> Vec<Entry> {
    vec![
        Entry::File { path: path(MAIN), schema: None },
        Entry::Pattern { dir: "data".into(), pattern: "**/*.db".into() },
    ]
}

fn start(world: &World, machine: Machine) -> (Engine, Arc<Ledger>, Told) {
    world.start_on(machine, entries(), 1 << 30)
}

/// A connection that leaves the log as it is when it closes, as one that is killed does.
fn mortal(world: &World, name: &str) -> Connection {
    let app = world.app(name);
    app.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    app
}

fn add(app: &Connection, text: &str) {
    app.execute("INSERT INTO t VALUES(?1)", [text]).unwrap();
}

fn texts(conn: &Connection) -> Vec<String> {
    let mut all = conn.prepare("SELECT x FROM t ORDER BY rowid").unwrap();
    all.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

fn position(engine: &Engine, name: &str) -> Position {
    engine.cut(LIMIT).unwrap().vector[&path(name)]
}

/// What history has at a seal.
fn exported(world: &World, engine: &Engine, name: &str, at: Incarnation, txid: Txid) -> Vec<String> {
    let out = world.home.join("export.db");
    let _ = std::fs::remove_file(&out);
    let file = base::Disk::open(&base::LocalDisk, &out, base::Open::CreateNew).unwrap();
    engine.history_at(&path(name), at).unwrap().image(txid, &*file, &mut |_, _| {}).unwrap();
    texts(&Connection::open(&out).unwrap())
}

fn trouble(engine: &Engine, name: &str) -> database::engine::Trouble {
    let found = engine.databases().into_iter().find(|info| info.path == path(name)).unwrap();
    found.trouble.unwrap_or_else(|| panic!("{name} has no trouble"))
}

/// Three seals in one log, of which a power loss leaves the first.
fn lost_but_one(world: &World) {
    let engine = world.start();
    let app = mortal(world, "database.sqlite");
    app.execute_batch("CREATE TABLE t(x)").unwrap();
    until("joined", || followed(&engine, MAIN));
    let wal = world.home.join("data/database.sqlite-wal");
    let mut kept = 0;
    for text in ["one", "two", "three"] {
        add(&app, text);
        engine.cut(LIMIT).unwrap();
        if text == "one" {
            kept = std::fs::metadata(&wal).unwrap().len();
        }
    }
    drop(app);
    drop(engine);
    std::fs::OpenOptions::new().write(true).open(&wal).unwrap().set_len(kept).unwrap();
    std::fs::remove_file(world.home.join("data/database.sqlite-shm")).unwrap();
}

// semantics: power
#[test]
fn what_was_sealed_comes_back_where_nobody_wrote_since_the_loss() {
    let world = World::new();
    lost_but_one(&world);
    let (engine, ..) = start(&world, rebooted());
    until("joined", || followed(&engine, MAIN));
    engine.cut(LIMIT).unwrap();
    assert_eq!(texts(&world.app("database.sqlite")), ["one", "two", "three"]);
    engine.stop();
}

// semantics: written-since-loss
#[test]
fn what_others_wrote_between_a_power_loss_and_the_start_stays_and_both_states_are_history() {
    for machine in [Machine::real(), rebooted()] {
        let world = World::new();
        lost_but_one(&world);
        add(&mortal(&world, "database.sqlite"), "outside, acknowledged");
        let (engine, _, told) = start(&world, machine);
        until("joined", || followed(&engine, MAIN));
        let at = position(&engine, MAIN);
        let (before, now) = (Txid(at.txid.0 - 1), at.txid);
        assert_eq!(texts(&world.app("database.sqlite")), ["one", "outside, acknowledged"]);
        let of = |txid| exported(&world, &engine, MAIN, at.incarnation, txid);
        assert_eq!(of(now), ["one", "outside, acknowledged"]);
        assert_eq!(of(before), ["one", "two", "three"]);
        let issue = trouble(&engine, MAIN);
        assert_eq!(issue.code, "written_since_loss");
        for text in [issue.message, told.lock().unwrap().join("\n")] {
            assert!(text.contains(&format!("becomes txid {now}")), "{text}");
            assert!(text.contains(&format!("is txid {before}")), "{text}");
        }
        verify(&engine, MAIN);
        engine.stop();
    }
}

// semantics: written-since-loss
#[test]
fn a_backup_copied_in_by_hand_after_a_clean_stop_stays_over_a_reboot() {
    let world = World::new();
    let (file, backup) = (world.home.join(MAIN), world.home.join("backup"));
    for text in ["one", "two"] {
        let engine = world.start();
        let app = world.app("database.sqlite");
        app.execute_batch("CREATE TABLE IF NOT EXISTS t(x)").unwrap();
        add(&app, text);
        until("joined", || followed(&engine, MAIN));
        drop(app);
        engine.cut(LIMIT).unwrap();
        engine.stop();
        if text == "one" {
            std::fs::copy(&file, &backup).unwrap();
        }
    }
    std::fs::copy(&backup, &file).unwrap();
    let (engine, _, told) = start(&world, rebooted());
    until("joined", || followed(&engine, MAIN));
    let at = position(&engine, MAIN);
    assert_eq!(texts(&world.app("database.sqlite")), ["one"], "{:?}", told.lock().unwrap());
    assert_eq!(exported(&world, &engine, MAIN, at.incarnation, at.txid), ["one"]);
    assert_eq!(exported(&world, &engine, MAIN, at.incarnation, Txid(at.txid.0 - 1)), ["one", "two"]);
    engine.stop();
}

/// Replaces a followed database by a new one that says `text`.
fn replace(world: &World, engine: &Engine, name: &str, text: &str) {
    let file = world.home.join("data").join(name);
    let full = format!("data/{name}");
    if file.exists() {
        std::fs::remove_file(&file).unwrap();
        for suffix in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(file.with_file_name(format!("{name}{suffix}")));
        }
        until("deleted", || !followed(engine, &full));
    }
    let app = world.app(name);
    app.execute_batch("CREATE TABLE t(x)").unwrap();
    add(&app, text);
    until("joined", || followed(engine, &full));
    drop(app);
    engine.cut(LIMIT).unwrap();
}

// semantics: missing-returns
#[test]
fn a_lost_home_comes_back_with_the_newest_file_of_each_path_and_no_number_is_used_twice() {
    let world = World::with_store();
    let engine = world.start();
    for text in ["first", "second", "third"] {
        replace(&world, &engine, "a.db", text);
    }
    assert_eq!(position(&engine, "data/a.db").incarnation, Incarnation(3));
    engine.stop();
    // The newest history in the store is of no use, and its number is taken all the same.
    for file in std::fs::read_dir(world.store.as_ref().unwrap().join("data/a.db@3/ltx/0")).unwrap() {
        std::fs::write(file.unwrap().path(), "no history").unwrap();
    }
    std::fs::remove_dir_all(&world.home).unwrap();
    std::fs::create_dir_all(world.home.join(".stead")).unwrap();
    let engine = world.start();
    until("joined", || followed(&engine, "data/a.db"));
    assert_eq!(position(&engine, "data/a.db").incarnation, Incarnation(2));
    assert_eq!(texts(&world.app("a.db")), ["second"]);
    let named: Vec<_> = engine.databases().into_iter().map(|info| info.path.to_string()).collect();
    assert_eq!(named, ["data/a.db", MAIN], "no history is taken for a database");
    replace(&world, &engine, "a.db", "fourth");
    assert_eq!(position(&engine, "data/a.db").incarnation, Incarnation(4));
    assert_eq!(exported(&world, &engine, "data/a.db", Incarnation(2), Txid(1)), ["second"]);
    engine.stop();
}

#[test]
fn a_lost_ledger_is_no_reason_to_continue_another_files_history() {
    let world = World::new();
    let engine = world.start();
    for text in ["first", "second"] {
        replace(&world, &engine, "a.db", text);
    }
    let before = position(&engine, "data/a.db");
    engine.stop();
    std::fs::remove_dir_all(world.home.join(".stead")).unwrap();
    std::fs::create_dir_all(world.home.join(".stead")).unwrap();
    let engine = world.start();
    until("joined", || followed(&engine, "data/a.db"));
    assert_eq!(position(&engine, "data/a.db"), before, "nothing changed");
    engine.stop();
}

// semantics: damage-followed
#[test]
fn a_damaged_history_does_not_stop_what_comes_after_it() {
    let world = World::new();
    let engine = world.start();
    let app = mortal(&world, "database.sqlite");
    app.execute_batch("CREATE TABLE t(x)").unwrap();
    add(&app, "one");
    until("joined", || followed(&engine, MAIN));
    engine.cut(LIMIT).unwrap();
    let history = engine.history(&path(MAIN)).unwrap();
    let base = history.files().into_iter().find(|file| file.key.min == Txid(1)).unwrap().path;
    add(&app, "two");
    engine.cut(LIMIT).unwrap();
    drop((engine, history));
    damage(&base);
    let engine = world.start();
    until("joined", || followed(&engine, MAIN));
    add(&app, "three");
    let at = position(&engine, MAIN);
    assert_eq!(at.incarnation, Incarnation(2));
    assert_eq!(exported(&world, &engine, MAIN, at.incarnation, at.txid), ["one", "two", "three"]);
    let issue = trouble(&engine, MAIN);
    assert_eq!(issue.code, "history_damaged");
    assert!(issue.message.contains(&base.display().to_string()), "{}", issue.message);
    verify(&engine, MAIN);
    engine.stop();
}

// semantics: damage-followed
#[test]
fn lost_history_is_not_begun_again_while_the_store_that_has_it_is_away() {
    let world = World::with_store();
    let store = world.store.clone().unwrap();
    let engine = world.start();
    let app = world.app("database.sqlite");
    app.execute_batch("CREATE TABLE t(x)").unwrap();
    add(&app, "one");
    until("joined", || followed(&engine, MAIN));
    let first = engine.cut(LIMIT).unwrap();
    drop(app);
    engine.stop();
    std::fs::remove_dir_all(world.home.join("data/database.sqlite-litestream")).unwrap();
    std::fs::rename(&store, store.with_extension("away")).unwrap();
    std::fs::write(&store, "no directory").unwrap();

    let engine = world.start();
    until("joined", || followed(&engine, MAIN));
    let app = world.app("database.sqlite");
    add(&app, "two");
    assert_eq!(position(&engine, MAIN).incarnation, Incarnation(2));
    drop(app);
    engine.stop();
    std::fs::remove_file(&store).unwrap();
    std::fs::rename(store.with_extension("away"), &store).unwrap();

    let engine = world.start();
    until("shipped", || {
        let shown = engine.databases().into_iter().find(|info| info.path == path(MAIN)).unwrap();
        shown.stored_txid.is_some() && shown.stored_txid == shown.position.map(|at| at.txid)
    });
    engine.turn_back("first", &first.vector, LIMIT, &mut |_| {}).unwrap();
    assert_eq!(texts(&world.app("database.sqlite")), ["one"]);
    engine.stop();
}

/// Another process that runs SQL and keeps its connection.
struct Other(std::process::Child);

impl Other {
    fn holds(file: &Path, sql: &str) -> Other {
        let script = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None)\n\
                      for s in sys.argv[2].split(';'): c.execute(s).fetchall()\n\
                      print('ready', flush=True); sys.stdin.read()";
        let mut child = std::process::Command::new("python3")
            .args(["-c", script])
            .arg(file)
            .arg(sql)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Other(child)
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

// semantics: exclusive
#[test]
fn a_database_held_exclusively_does_not_stop_the_moments_of_the_others() {
    let world = World::new();
    let engine = world.start();
    replace(&world, &engine, "a.db", "one");
    replace(&world, &engine, "b.db", "one");
    let first = engine.cut(LIMIT).unwrap();
    engine.sync();
    engine.stop();
    let sql = "PRAGMA locking_mode=EXCLUSIVE; INSERT INTO t VALUES('held')";
    let holder = Other::holds(&world.home.join("data/b.db"), sql);
    let (engine, ledger, _) = start(&world, Machine::real());
    until("joined", || followed(&engine, "data/a.db"));
    until("in the way", || engine.databases().iter().any(|info| info.mode == "waiting"));
    add(&world.app("a.db"), "two");
    let held = path("data/b.db");
    until("noted", || {
        engine.sync();
        let newest = ledger.newest_vector().unwrap();
        assert_eq!(newest[&held], first.vector[&held], "it stands where it was sealed last");
        newest[&path("data/a.db")].txid > first.vector[&path("data/a.db")].txid
    });
    let refused = engine.cut(LIMIT).unwrap_err();
    assert_eq!((refused.path, refused.pid), (held.clone(), Some(holder.0.id())), "{}", refused.reason);
    drop(holder);
    until("free", || followed(&engine, "data/b.db"));
    assert_eq!(
        exported(&world, &engine, "data/b.db", Incarnation(1), position(&engine, "data/b.db").txid),
        ["one", "held"]
    );
    engine.stop();
}

#[test]
fn a_process_that_is_not_the_cause_is_not_named() {
    let world = World::new();
    std::fs::create_dir_all(world.home.join("data")).unwrap();
    std::fs::write(world.home.join("data/a.db-litestream"), "in the way of its history").unwrap();
    let _other = Other::holds(&world.home.join("data/a.db"), "CREATE TABLE t(x)");
    let engine = world.start();
    until("tried", || engine.databases().iter().any(|info| info.trouble.is_some()));
    let refused = engine.cut(LIMIT).unwrap_err();
    assert_eq!(refused.pid, None, "{}", refused.reason);
    let hint = trouble(&engine, "data/a.db").hint;
    assert!(!hint.contains("process"), "{hint}");
    engine.stop();
}
