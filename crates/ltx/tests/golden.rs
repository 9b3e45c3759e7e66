//! Files that Litestream 0.5 wrote itself: every one decodes, and they rebuild the databases they came from.
#![allow(clippy::disallowed_methods, reason = "fixtures are read straight from the source tree")]
#![allow(clippy::unwrap_used, reason = "a failure is the test's verdict")]

use base::{Disk, DiskFile, LocalDisk, Open, Pgno, Txid};
use ltx::{Decoder, Header, Index, Sequential, Trailer, merge, read_page};
use rusqlite::Connection;
use rusqlite::types::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const REPLICAS: [&str; 2] = ["litestream-0.5.18", "litestream-0.5.9"];

struct Stored {
    level: u32,
    min: Txid,
    max: Txid,
    bytes: Vec<u8>,
}

type Pages = BTreeMap<Pgno, Vec<u8>>;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn files(replica: &str) -> Vec<Stored> {
    let mut out = Vec::new();
    for level in std::fs::read_dir(fixture(replica).join("replica/ltx")).unwrap() {
        let level = level.unwrap();
        for file in std::fs::read_dir(level.path()).unwrap() {
            let path = file.unwrap().path();
            let (min, max) = path.file_stem().unwrap().to_str().unwrap().split_once('-').unwrap();
            out.push(Stored {
                level: level.file_name().to_str().unwrap().parse().unwrap(),
                min: Txid::from_hex(min).unwrap(),
                max: Txid::from_hex(max).unwrap(),
                bytes: std::fs::read(&path).unwrap(),
            });
        }
    }
    out.sort_by_key(|file| (file.level, file.min));
    assert!(out.len() > 15, "{replica} is incomplete");
    out
}

fn decode(bytes: &[u8]) -> (Header, Pages, Trailer) {
    let mut decoder = Decoder::new(bytes).unwrap();
    let header = *decoder.header();
    let mut page = vec![0; header.page_size as usize];
    let mut pages = Pages::new();
    while let Some(pgno) = decoder.next_page(&mut page).unwrap() {
        pages.insert(pgno, page.clone());
    }
    (header, pages, decoder.finish().unwrap())
}

/// The snapshot and then, again and again, the file that continues it and reaches furthest.
fn plan(files: &[Stored], target: Txid) -> Vec<&Stored> {
    let mut reached = Txid::ZERO;
    let mut out = Vec::new();
    while reached < target {
        let next = files
            .iter()
            .filter(|file| file.min <= reached.next() && file.max > reached && file.max <= target)
            .max_by_key(|file| file.max)
            .unwrap();
        reached = next.max;
        out.push(next);
    }
    out
}

fn merged(files: &[&Stored]) -> Vec<u8> {
    let inputs = files.iter().map(|file| Decoder::new(file.bytes.as_slice()).unwrap()).collect();
    let (bytes, finished) = merge(inputs, Vec::new()).unwrap();
    assert_eq!(finished.bytes, bytes.len() as u64);
    bytes
}

fn image(bytes: &[u8]) -> Vec<u8> {
    let (header, pages, _) = decode(bytes);
    assert!(header.is_snapshot());
    let mut image = vec![0; header.page_size as usize * header.commit as usize];
    for (pgno, page) in pages {
        let at = (pgno.0 as usize - 1) * page.len();
        image[at..at + page.len()].copy_from_slice(&page);
    }
    image
}

fn tables(database: &Connection) -> BTreeMap<String, Vec<Vec<Value>>> {
    let mut schema = database
        .prepare("SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE '\\_litestream\\_%' ESCAPE '\\'")
        .unwrap();
    let names: Vec<(String, String)> =
        schema.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect();
    let mut out = BTreeMap::new();
    for (name, sql) in names {
        let mut rows = database.prepare(&format!("SELECT rowid, * FROM \"{name}\" ORDER BY rowid")).unwrap();
        let width = rows.column_count();
        let rows = rows
            .query_map([], |row| (0..width).map(|at| row.get(at)).collect::<Result<Vec<Value>, _>>())
            .unwrap()
            .map(Result::unwrap)
            .collect();
        out.insert(sql, rows);
    }
    out
}

fn assert_equals_dump(image: &[u8], dump: &Path) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rebuilt.db");
    std::fs::write(&path, image).unwrap();
    let rebuilt = Connection::open(&path).unwrap();
    let verdict: String = rebuilt.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
    let expected = Connection::open_in_memory().unwrap();
    expected.execute_batch(&std::fs::read_to_string(dump).unwrap()).unwrap();
    let expected = tables(&expected);
    assert!(expected.values().map(Vec::len).sum::<usize>() > 20, "{dump:?} is too small to prove anything");
    assert_eq!(tables(&rebuilt), expected, "{dump:?}");
}

fn assert_rebuilds(replica: &str, target: Txid, dump: &str) {
    let files = files(replica);
    let all_levels = image(&merged(&plan(&files, target)));
    let level_zero: Vec<&Stored> =
        files.iter().filter(|file| file.level == 0 && file.max <= target).collect();
    assert_eq!(level_zero.len() as u64, target.0);
    assert_eq!(all_levels, image(&merged(&level_zero)), "levels disagree at {target}");
    assert_equals_dump(&all_levels, &fixture(replica).join(dump));
}

#[test]
fn every_file_of_litestream_decodes_and_verifies() {
    for replica in REPLICAS {
        for file in files(replica) {
            let (header, pages, trailer) = decode(&file.bytes);
            assert_eq!((header.min_txid, header.max_txid), (file.min, file.max));
            assert_eq!(header, Header::decode(&file.bytes).unwrap());
            assert_eq!(header.encode(), file.bytes[..100], "fields of others are kept");
            assert_eq!(trailer.bytes, file.bytes.len() as u64);
            assert_eq!(trailer.pages as usize, pages.len());
            assert!(!pages.is_empty());
        }
    }
}

#[test]
fn both_page_encodings_are_in_the_fixtures() {
    for (replica, flags) in [("litestream-0.5.18", [0, 1]), ("litestream-0.5.9", [0, 0])] {
        for file in files(replica) {
            assert_eq!(file.bytes[104..106], flags, "{replica}");
        }
    }
}

#[test]
fn pages_read_through_the_index_equal_those_of_the_stream() {
    for replica in REPLICAS {
        for file in files(replica) {
            let (header, pages, _) = decode(&file.bytes);
            let (same_header, index) = Index::read(&file.bytes).unwrap();
            assert_eq!(header, same_header);
            assert_eq!(index.len(), pages.len());
            let mut page = vec![0; header.page_size as usize];
            for (pgno, expected) in &pages {
                let frame = index.find(*pgno).unwrap();
                read_page(&file.bytes, frame, *pgno, header.page_size, &mut page).unwrap();
                assert_eq!(&page, expected);
            }
        }
    }
}

#[test]
fn files_on_disk_are_read_in_place() {
    let path = fixture("litestream-0.5.9/replica/ltx/1/0000000000000002-0000000000000004.ltx");
    let bytes = std::fs::read(&path).unwrap();
    let boxed: Box<dyn DiskFile> = LocalDisk.open(&path, Open::Read).unwrap();
    let (header, index) = Index::read(&boxed).unwrap();
    let borrowed: &dyn DiskFile = &*boxed;
    assert_eq!(Index::read(&borrowed).unwrap().1.len(), index.len());
    assert_eq!(Decoder::new(Sequential::new(borrowed).unwrap()).unwrap().finish().unwrap(), decode(&bytes).2);
    let shared: Arc<dyn DiskFile> = Arc::from(boxed);
    let (pgno, frame) = index.iter().next().unwrap();
    let mut page = vec![0; header.page_size as usize];
    read_page(&shared, frame, pgno, header.page_size, &mut page).unwrap();
    assert_eq!(page, decode(&bytes).1[&pgno]);
}

#[test]
fn merging_gives_the_pages_of_litestreams_own_levels() {
    let mut compared = 0;
    for replica in REPLICAS {
        let files = files(replica);
        for file in files.iter().filter(|file| file.level == 1 || file.level == 2) {
            let below: Vec<&Stored> = files
                .iter()
                .filter(|below| below.level == 0 && below.min >= file.min && below.max <= file.max)
                .collect();
            let (header, pages, _) = decode(&merged(&below));
            let (theirs, their_pages, _) = decode(&file.bytes);
            assert_eq!((header.min_txid, header.max_txid), (theirs.min_txid, theirs.max_txid));
            assert_eq!((header.commit, header.timestamp), (theirs.commit, theirs.timestamp));
            assert_eq!(pages, their_pages, "{replica} {}-{}", file.min.hex(), file.max.hex());
            compared += 1;
        }
    }
    assert!(compared > 10);
}

#[test]
fn the_latest_state_is_rebuilt_from_0_5_18() {
    assert_rebuilds("litestream-0.5.18", Txid(0x2a), "latest.sql");
}

#[test]
fn earlier_states_are_rebuilt_from_0_5_18() {
    for txid in [0x9, 0x14, 0x1e] {
        assert_rebuilds("litestream-0.5.18", Txid(txid), &format!("txid-{}.sql", Txid(txid).hex()));
    }
}

#[test]
fn the_latest_state_is_rebuilt_from_0_5_9() {
    assert_rebuilds("litestream-0.5.9", Txid(0xc), "latest.sql");
}
