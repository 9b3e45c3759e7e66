//! Files that are moved, copied, linked, cut and removed under the engine's hands.

use super::*;
use std::os::unix::fs::MetadataExt;

/// SQL run by another process, which closes the database as the last but Stead.
fn outside(file: &Path, sql: &str) {
    let script = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], timeout=10); c.executescript(sys.argv[2]); c.close()";
    let done =
        std::process::Command::new("python3").args(["-c", script]).arg(file).arg(sql).status().unwrap();
    assert!(done.success(), "{sql}");
}

/// A database in another place, whole in one file.
fn elsewhere(world: &World, rows: u32) -> PathBuf {
    let file = world.home.parent().unwrap().join("elsewhere.sqlite");
    let _ = std::fs::remove_file(&file);
    outside(&file, &format!("CREATE TABLE t(x); {}", insert(rows)));
    file
}

fn insert(rows: u32) -> String {
    format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) \
         INSERT INTO t SELECT hex(randomblob(200)) FROM n;"
    )
}

/// A world whose database was written by a process that is gone.
fn written(rows: u32) -> (World, Engine, PathBuf) {
    let world = World::new();
    let engine = world.start();
    let file = world.home.join(NAME);
    outside(&file, "CREATE TABLE t(x);");
    until("joined", || followed(&engine, NAME));
    outside(&file, &insert(rows));
    engine.cut(LIMIT).unwrap();
    (world, engine, file)
}

fn rows(file: &Path) -> i64 {
    let out = std::process::Command::new("python3")
        .args(["-c", "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], timeout=10); print(c.execute('PRAGMA integrity_check').fetchone()[0], c.execute('SELECT count(*) FROM t').fetchone()[0])"])
        .arg(file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stdout).trim().to_owned();
    let rows = said.strip_prefix("ok ");
    rows.unwrap_or_else(|| panic!("{said}{}", String::from_utf8_lossy(&out.stderr))).parse().unwrap()
}

/// What the history holds at the cut.
fn exported(world: &World, engine: &Engine) -> i64 {
    let cut = engine.cut(LIMIT).unwrap();
    let at = cut.vector[&path(NAME)];
    let history = engine.history_at(&path(NAME), at.incarnation).unwrap();
    let out = world.home.join("export.db");
    let _ = std::fs::remove_file(&out);
    let file = base::Disk::open(&base::LocalDisk, &out, base::Open::CreateNew).unwrap();
    history.image(at.txid, &*file, &mut |_, _| {}).unwrap();
    count(&Connection::open(&out).unwrap())
}

/// The log is emptied once nobody else has the database open, so that nothing is left to mix into another file.
// semantics: replaced
#[test]
fn a_file_moved_over_a_closed_database_is_not_mixed_with_the_old_log() {
    let (world, engine, file) = written(500);
    let wal = base::disk::sibling(&file, "-wal");
    until("the log is emptied", || std::fs::metadata(&wal).unwrap().len() == 0);
    std::fs::rename(elsewhere(&world, 700), &file).unwrap();
    assert_eq!(rows(&file), 700, "as a process sees it that comes before Stead has noticed");
    until("noticed", || engine.cut(LIMIT).is_ok_and(|cut| cut.vector[&path(NAME)].incarnation.0 == 2));
    assert_eq!(exported(&world, &engine), 700);
    verify(&engine, NAME);
    engine.stop();
    assert_eq!(rows(&file), 700);
}

#[test]
fn a_file_moved_over_one_with_a_long_log_is_not_mixed_with_it() {
    let (world, engine, file) = written(3000);
    let app = Connection::open(&file).unwrap();
    app.execute_batch(&insert(200)).unwrap();
    engine.cut(LIMIT).unwrap();
    // The application lives in this process: its connection is one that Stead's own locks do not show.
    drop(app);
    std::fs::rename(elsewhere(&world, 4000), &file).unwrap();
    until("noticed", || engine.cut(LIMIT).is_ok_and(|cut| cut.vector[&path(NAME)].incarnation.0 == 2));
    assert_eq!(rows(&file), 4000);
    assert_eq!(exported(&world, &engine), 4000);
    engine.stop();
}

#[test]
fn a_file_moved_over_one_that_is_open_elsewhere_waits_for_that_process() {
    let (world, engine, file) = written(500);
    let script = "import sqlite3, sys, time; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT count(*) FROM t').fetchone(); print('open', flush=True); sys.stdin.read()";
    let mut holder = std::process::Command::new("python3")
        .args(["-c", script])
        .arg(&file)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let out = holder.stdout.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).unwrap();
    std::fs::rename(elsewhere(&world, 700), &file).unwrap();
    let code =
        || engine.databases()[0].trouble.as_ref().map(|trouble| (trouble.code, trouble.message.clone()));
    until("said", || code().is_some_and(|(code, _)| code == "replaced_while_open"));
    assert!(code().unwrap().1.contains(&holder.id().to_string()), "{:?}", code());
    assert!(engine.cut(LIMIT).is_err(), "no checkpoint without it");
    drop(holder.stdin.take());
    holder.wait().unwrap();
    until("joined", || engine.cut(LIMIT).is_ok());
    assert_eq!(exported(&world, &engine), 700);
    engine.stop();
}

// semantics: side-files
#[test]
fn a_log_removed_under_the_engine_is_noticed_and_nothing_written_since_is_missed() {
    let (world, engine, file) = written(1);
    let wal = base::disk::sibling(&file, "-wal");
    until("all of it is in the file", || std::fs::metadata(&wal).unwrap().len() == 0);
    for suffix in ["-wal", "-shm"] {
        std::fs::remove_file(base::disk::sibling(&file, suffix)).unwrap();
    }
    outside(&file, &insert(50));
    assert_eq!(exported(&world, &engine), 51);
    verify(&engine, NAME);
    engine.stop();
}

// semantics: links
#[test]
fn a_second_name_of_a_followed_file_is_named_and_never_opened() {
    for hard in [true, false] {
        let world = World::new();
        let engine = world.start();
        let (file, link) = (world.home.join("data/a.db"), world.home.join("data/zlink.db"));
        outside(&file, "CREATE TABLE t(x);");
        until("joined", || followed(&engine, "data/a.db"));
        if hard {
            std::fs::hard_link(&file, &link).unwrap();
        } else {
            std::os::unix::fs::symlink(&file, &link).unwrap();
        }
        let code = |name: &str| {
            let found = engine.databases().into_iter().find(|info| info.path == path(name));
            found.and_then(|info| info.trouble).map(|trouble| trouble.code)
        };
        until("said", || code("data/zlink.db") == Some("same_file"));
        let cut = engine.cut(LIMIT).unwrap();
        assert!(!cut.vector.contains_key(&path("data/zlink.db")));
        let inode = std::fs::metadata(base::disk::sibling(&file, "-wal")).unwrap().ino();
        outside(&file, "INSERT INTO t VALUES(1)");
        let after = std::fs::metadata(base::disk::sibling(&file, "-wal")).unwrap().ino();
        assert_eq!(
            inode, after,
            "the last close of an application removes no log while Stead holds its locks"
        );
        assert!(
            engine.cut(LIMIT).unwrap().vector[&path("data/a.db")].txid > cut.vector[&path("data/a.db")].txid
        );
        engine.stop();
    }
}

#[test]
fn a_database_copied_over_the_followed_file_is_taken_for_what_it_is() {
    for removes_log in [true, false] {
        let (world, engine, file) = written(500);
        let wal = base::disk::sibling(&file, "-wal");
        until("the log is emptied", || std::fs::metadata(&wal).unwrap().len() == 0);
        // At rest: what changes now was not written through the log.
        std::thread::sleep(Duration::from_millis(200));
        copy_over(&elsewhere(&world, 700), &file);
        if removes_log {
            std::fs::remove_file(&wal).unwrap();
            std::fs::remove_file(base::disk::sibling(&file, "-shm")).unwrap();
        }
        until("taken in", || exported(&world, &engine) == 700);
        outside(&file, "INSERT INTO t VALUES(1)");
        assert_eq!(exported(&world, &engine), 701);
        verify(&engine, NAME);
        engine.stop();
    }
}

#[test]
fn a_followed_file_that_is_cut_off_is_an_issue_and_no_checkpoint() {
    let (_world, engine, file) = written(500);
    let wal = base::disk::sibling(&file, "-wal");
    until("the log is emptied", || std::fs::metadata(&wal).unwrap().len() == 0);
    std::thread::sleep(Duration::from_millis(200));
    // By another process: closing the file here would drop the locks of this one.
    let done = std::process::Command::new("truncate").args(["-s", "4096"]).arg(&file).status().unwrap();
    assert!(done.success());
    until("said", || engine.databases()[0].trouble.is_some());
    engine.stop();
}

/// Another process does it, since closing the file here would drop the locks of this one.
fn copy_over(from: &Path, to: &Path) {
    assert!(std::process::Command::new("cp").arg(from).arg(to).status().unwrap().success());
}
