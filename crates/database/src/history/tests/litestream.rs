//! Histories that Litestream wrote.

use super::*;
use rusqlite::Connection;

/// A copy of one of its replicas, to be opened as a local history.
fn replica(version: &str) -> (tempfile::TempDir, PathBuf) {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ltx/tests/fixtures").join(version);
    let dir = tempfile::tempdir().unwrap();
    copy(&fixtures.join("replica"), &dir.path().join("replica"));
    (dir, fixtures)
}

fn copy(from: &Path, to: &Path) {
    LocalDisk.create_dir_all(to).unwrap();
    for entry in LocalDisk.read_dir(from).unwrap() {
        let (from, to) = (from.join(&entry.name), to.join(&entry.name));
        if entry.is_dir {
            copy(&from, &to);
        } else {
            let bytes = base::disk::read(&LocalDisk, &from, 1 << 24).unwrap();
            LocalDisk.open(&to, Open::CreateNew).unwrap().write_at(&bytes, 0).unwrap();
        }
    }
}

fn notes(database: &Connection) -> Vec<(i64, String)> {
    let mut statement = database.prepare("SELECT id, body FROM note ORDER BY id").unwrap();
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
}

fn assert_restores(version: &str, txid: Option<u64>, dump: &str) {
    let (dir, fixtures) = replica(version);
    let history = History::open(Arc::new(LocalDisk), dir.path().join("replica"), None).unwrap();
    let target = txid.map_or_else(|| history.last().unwrap().header.max_txid, Txid);
    let image = dir.path().join("image.db");
    let out = LocalDisk.open(&image, Open::CreateNew).unwrap();
    history.image(target, &*out, &mut |_, _| {}).unwrap();
    drop(out);
    let restored = Connection::open(&image).unwrap();
    let ok: String = restored.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(ok, "ok");
    let expected = Connection::open_in_memory().unwrap();
    let sql = base::disk::read(&LocalDisk, &fixtures.join(dump), 1 << 24).unwrap();
    expected.execute_batch(std::str::from_utf8(&sql).unwrap()).unwrap();
    assert_eq!(notes(&restored), notes(&expected));
}

// semantics: litestream
#[test]
fn its_latest_state_is_restored() {
    assert_restores("litestream-0.5.18", None, "latest.sql");
    assert_restores("litestream-0.5.9", None, "latest.sql");
}

// semantics: litestream
#[test]
fn its_earlier_states_are_restored() {
    for txid in [9, 20, 30] {
        assert_restores("litestream-0.5.18", Some(txid), &format!("txid-{txid:016x}.sql"));
    }
}
