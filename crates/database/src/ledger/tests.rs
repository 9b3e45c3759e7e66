//! The ledger on a real file, against a model of its vectors.

use super::*;
use base::{Checksum, Incarnation, Timestamp, Txid};
use proptest::prelude::*;

mod crash;

fn open() -> (tempfile::TempDir, Ledger) {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&dir.path().join("ledger.sqlite"), None).unwrap();
    (dir, ledger)
}

fn reopen(dir: &tempfile::TempDir, ledger: Ledger) -> Ledger {
    drop(ledger);
    Ledger::open(&dir.path().join("ledger.sqlite"), None).unwrap()
}

fn path(name: &str) -> DatabasePath {
    DatabasePath::parse(name).unwrap()
}

fn position(incarnation: u32, txid: u64) -> Position {
    let checksum = Checksum(Checksum::FLAG | txid);
    Position { incarnation: Incarnation(incarnation), txid: Txid(txid), checksum }
}

fn vector(positions: &[(&str, u64)]) -> Vector {
    positions.iter().map(|(name, txid)| (path(name), position(1, *txid))).collect()
}

fn checkpoint(id: &str, created: i64, vector: Vector) -> Checkpoint {
    Checkpoint { id: id.into(), created: Timestamp(created), comment: None, automatic: false, vector }
}

// semantics: ledger-stays
#[test]
fn incarnation_numbers_are_never_given_twice() {
    let (dir, ledger) = open();
    let a = path("data/a.db");
    assert_eq!(ledger.current(&a).unwrap(), None);
    assert_eq!(ledger.begin_incarnation(&a).unwrap(), Incarnation(1));
    ledger.record_deleted(&a).unwrap();
    assert_eq!(ledger.current(&a).unwrap(), Some(Known { incarnation: Incarnation(1), deleted: true }));
    assert_eq!(ledger.begin_incarnation(&a).unwrap(), Incarnation(2));
    ledger.record_returned(&a, Incarnation(1)).unwrap();
    let ledger = reopen(&dir, ledger);
    assert_eq!(ledger.current(&a).unwrap(), Some(Known { incarnation: Incarnation(1), deleted: false }));
    assert_eq!(ledger.begin_incarnation(&a).unwrap(), Incarnation(3));
    ledger.record_returned(&path("data/b.db"), Incarnation(7)).unwrap();
    assert_eq!(ledger.begin_incarnation(&path("data/b.db")).unwrap(), Incarnation(8));
    let paths: Vec<String> = ledger.paths().unwrap().into_iter().map(|(path, _)| path.to_string()).collect();
    assert_eq!(paths, ["data/a.db", "data/b.db"]);
}

#[test]
fn the_highest_schema_cookie_is_kept() {
    let (dir, ledger) = open();
    let (a, one) = (path("a.db"), Incarnation(1));
    assert_eq!(ledger.highest_cookie(&a, one).unwrap(), None);
    for cookie in [3, 9, 4, u32::MAX, 1] {
        ledger.note_cookie(&a, one, cookie).unwrap();
    }
    ledger.note_cookie(&a, Incarnation(2), 1).unwrap();
    let ledger = reopen(&dir, ledger);
    assert_eq!(ledger.highest_cookie(&a, one).unwrap(), Some(u32::MAX));
    assert_eq!(ledger.highest_cookie(&a, Incarnation(2)).unwrap(), Some(1));
}

#[test]
fn a_checkpoint_is_kept_until_it_is_removed_and_its_name_taken_once() {
    let (dir, ledger) = open();
    let first = checkpoint("before", 1000, vector(&[("a", 3), ("b", 1)]));
    let second = Checkpoint {
        comment: Some("on a schedule".into()),
        automatic: true,
        ..checkpoint("auto", 2000, vector(&[("a", 4)]))
    };
    ledger.insert_checkpoint(&first).unwrap();
    ledger.insert_checkpoint(&second).unwrap();
    assert!(matches!(ledger.insert_checkpoint(&first), Err(InsertError::Taken(id)) if id == "before"));
    let ledger = reopen(&dir, ledger);
    assert_eq!(ledger.checkpoints().unwrap(), [first.clone(), second.clone()]);
    assert_eq!(ledger.checkpoint("before").unwrap(), Some(first.clone()));
    assert_eq!(ledger.pins(&path("a"), Incarnation(1)).unwrap(), [Txid(3), Txid(4)]);
    assert_eq!(ledger.pins(&path("a"), Incarnation(2)).unwrap(), []);
    assert!(ledger.remove_checkpoint("before").unwrap());
    assert!(!ledger.remove_checkpoint("before").unwrap());
    assert_eq!((ledger.checkpoint("before").unwrap(), ledger.checkpoint_count().unwrap()), (None, 1));
    assert_eq!(ledger.pins(&path("a"), Incarnation(1)).unwrap(), [Txid(4)]);
    ledger.insert_checkpoint(&first).unwrap();
    assert_eq!(ledger.pins(&path("b"), Incarnation(1)).unwrap(), [Txid(1)]);
}

#[test]
fn a_checkpoint_of_nothing_and_of_an_unchanged_volume_are_checkpoints() {
    let (_dir, ledger) = open();
    ledger.insert_checkpoint(&checkpoint("empty", 1, Vector::new())).unwrap();
    assert_eq!(ledger.checkpoint("empty").unwrap().unwrap().vector, Vector::new());
    for id in ["one", "two"] {
        ledger.insert_checkpoint(&checkpoint(id, 2, vector(&[("a", 1)]))).unwrap();
    }
    assert_eq!(ledger.checkpoint("two").unwrap().unwrap().vector, vector(&[("a", 1)]));
}

// semantics: time-is-a-vector
#[test]
fn the_vector_at_a_time_is_the_newest_not_later() {
    let (_dir, ledger) = open();
    assert_eq!(ledger.vector_at(Timestamp(99)).unwrap(), None);
    ledger.note_vector(Timestamp(10), &vector(&[("a", 1)])).unwrap();
    ledger.note_vector(Timestamp(20), &vector(&[("a", 1)])).unwrap();
    ledger.note_vector(Timestamp(30), &vector(&[("a", 2), ("b", 1)])).unwrap();
    ledger.note_vector(Timestamp(40), &vector(&[("b", 1)])).unwrap();
    let at = |time| ledger.vector_at(Timestamp(time)).unwrap();
    assert_eq!(at(9), None);
    assert_eq!(at(29), Some((Timestamp(10), vector(&[("a", 1)]))));
    assert_eq!(at(30), Some((Timestamp(30), vector(&[("a", 2), ("b", 1)]))));
    assert_eq!(at(99), Some((Timestamp(40), vector(&[("b", 1)]))));
    assert_eq!(ledger.vectors_before(Timestamp(39), 9).unwrap().len(), 2);
    let usable = ledger.find_vector(Timestamp(99), &mut |_, vector| vector.contains_key(&path("a"))).unwrap();
    assert_eq!(usable.unwrap().0, Timestamp(30));
}

#[test]
fn an_intent_is_open_until_it_is_closed_and_leaves_its_undo_point() {
    let (dir, ledger) = open();
    let (undo, target) = (vector(&[("a", 9)]), vector(&[("a", 4), ("b", 2)]));
    assert_eq!((ledger.open_intent().unwrap(), ledger.last_undo().unwrap()), (None, None));
    assert!(!ledger.last_restore_is_done().unwrap(), "there was none");
    let id = ledger.begin_intent(Timestamp(5), "before", &undo, &target).unwrap();
    assert!(matches!(
        ledger.begin_intent(Timestamp(6), "other", &undo, &target),
        Err(IntentError::Open(name)) if name == "before"
    ));
    let ledger = reopen(&dir, ledger);
    let open = ledger.open_intent().unwrap().unwrap();
    assert_eq!((open.id, open.begun, open.undo, open.target), (id, Timestamp(5), undo.clone(), target));
    assert_eq!(ledger.pins(&path("a"), Incarnation(1)).unwrap(), [Txid(4), Txid(9)]);
    assert!(!ledger.last_restore_is_done().unwrap());
    ledger.complete_intent(id).unwrap();
    assert!(ledger.last_restore_is_done().unwrap());
    assert!(ledger.complete_intent(id).is_err());
    assert_eq!((ledger.open_intent().unwrap(), ledger.last_undo().unwrap()), (None, Some(undo.clone())));
    let next = ledger.begin_intent(Timestamp(7), "later", &vector(&[("a", 12)]), &undo).unwrap();
    ledger.abandon_intent(next, "the disk is full").unwrap();
    assert!(!ledger.last_restore_is_done().unwrap());
    assert_eq!(ledger.last_undo().unwrap(), Some(undo), "what was taken back leaves the undo point");
    assert_eq!(ledger.pins(&path("a"), Incarnation(1)).unwrap(), [Txid(9)]);
}

#[test]
fn a_newer_or_foreign_file_is_refused() {
    let (dir, ledger) = open();
    drop(ledger);
    let file = dir.path().join("ledger.sqlite");
    let change = |file: &Path, sql: &str| Connection::open(file).unwrap().execute_batch(sql).unwrap();
    change(&file, "PRAGMA user_version = 2");
    assert!(matches!(Ledger::open(&file, None), Err(LedgerError::Newer { found: 2, known: 1, .. })));
    let other = dir.path().join("other.sqlite");
    change(&other, "CREATE TABLE t (x)");
    assert!(matches!(Ledger::open(&other, None), Err(LedgerError::Foreign { .. })));
    let junk = dir.path().join("junk.sqlite");
    let disk = base::LocalDisk;
    base::disk::write_atomic(&disk, &junk, &[b'x'; 5000], false).unwrap();
    assert!(matches!(Ledger::open(&junk, None), Err(LedgerError::Sqlite { .. })));
}

#[test]
fn vectors_thin_like_history_and_checkpoints_keep_theirs() {
    let (_dir, ledger) = open();
    let start = 1_700_000_000_000i64;
    for second in 0..7200i64 {
        let note = vector(&[("a", second.cast_unsigned() + 1), ("b", 1)]);
        ledger.note_vector(Timestamp(start + second * 1000), &note).unwrap();
        if second == 1001 {
            ledger.insert_checkpoint(&checkpoint("kept", start + second * 1000, note)).unwrap();
        }
    }
    let now = Timestamp(start + 7200 * 1000);
    let keep = Duration::from_secs(7000);
    let gone = ledger.thin_vectors(now, keep).unwrap();
    let left = ledger.vectors_before(now, 10_000).unwrap();
    assert_eq!(left.len() as u64 + gone, 7200);
    // Five minutes of seconds, 55 minutes of half minutes, the rest in steps of 5 min, and the checkpoint.
    assert!((300 + 108..=300 + 130).contains(&left.len()), "{}", left.len());
    assert!(left.iter().all(|(at, vector)| vector[&path("a")].txid.0 as i64 == (at.0 - start) / 1000 + 1));
    assert_eq!(ledger.thin_vectors(now, keep).unwrap(), 0);
    assert_eq!(ledger.checkpoint("kept").unwrap().unwrap().vector[&path("a")].txid, Txid(1002));
    let holds = ledger.holds(&path("a"), Incarnation(1)).unwrap();
    assert_eq!(holds.pinned, [Txid(1002)]);
    assert!(holds.noted.contains(&Txid(7200)) && holds.noted.len() < 150, "{}", holds.noted.len());
    assert_eq!(ledger.holds(&path("b"), Incarnation(1)).unwrap().noted, [Txid(1)]);
    ledger.maintain().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// Notes, checkpoints, thinning and restarts in any order: every vector comes back as it was.
    #[test]
    fn vectors_come_back_as_they_were(
        steps in prop::collection::vec((prop::collection::btree_map(0u8..5, 0u64..4, 0..5), 0i64..90_000, 0u8..6), 1..50),
    ) {
        let (dir, mut ledger) = open();
        let mut now = 1_700_000_000_000i64;
        let mut noted: BTreeMap<i64, Vector> = BTreeMap::new();
        let mut made: BTreeMap<String, Vector> = BTreeMap::new();
        for (step, (positions, pause, kind)) in steps.into_iter().enumerate() {
            now += pause + 1;
            let vector: Vector = positions
                .into_iter()
                .map(|(name, txid)| (path(&format!("db{name}")), position(1 + (txid % 2) as u32, txid)))
                .collect();
            match kind {
                0 => {
                    let id = format!("c{step}");
                    ledger.insert_checkpoint(&checkpoint(&id, now, vector.clone())).unwrap();
                    made.insert(id, vector.clone());
                    noted.insert(now, vector);
                }
                1 => {
                    ledger.thin_vectors(Timestamp(now), Duration::from_secs(600)).unwrap();
                }
                2 => ledger = reopen(&dir, ledger),
                _ => {
                    ledger.note_vector(Timestamp(now), &vector).unwrap();
                    noted.insert(now, vector);
                }
            }
        }
        for (at, vector) in ledger.vectors_before(Timestamp(now), 1000).unwrap() {
            prop_assert_eq!(&noted[&at.0], &vector);
        }
        for (id, vector) in made {
            prop_assert_eq!(ledger.checkpoint(&id).unwrap().unwrap().vector, vector);
        }
        if let Some((_, last)) = noted.last_key_value() {
            prop_assert_eq!(&ledger.newest_vector().unwrap(), last);
        }
    }
}
