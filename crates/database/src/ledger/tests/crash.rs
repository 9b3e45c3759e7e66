//! The ledger on the simulated disk: power losses at every step, and what a commit costs.

use super::*;
use base::Disk;
use base::sim::{Op, SimClock, SimDisk, SimRandom, SimVfs};
use std::sync::atomic::{AtomicU32, Ordering};

const EIO: i32 = 5;
const FILE: &str = "/home/ledger.sqlite";

fn machine() -> (SimDisk, SimVfs) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let disk = SimDisk::new(SimClock::new(Timestamp(0)), SimRandom::new(1));
    disk.create_dir_all(Path::new("/home")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    let name = format!("ledger-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let vfs = SimVfs::register(&disk, &name).unwrap();
    (disk, vfs)
}

/// What the ledger acknowledged.
#[derive(Debug, Default)]
struct Acknowledged {
    incarnations: u32,
    checkpoints: u64,
    undo: Option<Vector>,
    vectors: u64,
}

fn live(vfs: &SimVfs) -> Acknowledged {
    let mut done = Acknowledged::default();
    let _ = (|| -> Result<(), LedgerError> {
        let ledger = Ledger::open(Path::new(FILE), Some(vfs.name()))?;
        for n in 1..=6u64 {
            ledger.note_vector(Timestamp(n.cast_signed() * 10), &vector(&[("a", n)]))?;
            done.vectors = n;
            ledger.begin_incarnation(&path("b"))?;
            done.incarnations += 1;
            if ledger
                .insert_checkpoint(&checkpoint(&n.to_string(), 1, vector(&[("a", n), ("c", n)])))
                .is_err()
            {
                return Ok(());
            }
            done.checkpoints = n;
            let undo = vector(&[("a", n), ("d", n)]);
            let Ok(intent) = ledger.begin_intent(Timestamp(1), "x", &undo, &undo) else { return Ok(()) };
            ledger.complete_intent(intent)?;
            done.undo = Some(undo);
            if n % 2 == 0 {
                ledger.maintain()?;
            }
        }
        Ok(())
    })();
    done
}

// semantics: durable
#[test]
fn what_must_be_durable_outlives_the_power_at_every_step() {
    let (whole, vfs) = machine();
    let first = whole.steps() + 1;
    assert_eq!(live(&vfs).checkpoints, 6);
    let last = whole.steps();
    for step in first..=last + 1 {
        for seed in 0..2 {
            let (disk, vfs) = machine();
            disk.halt_at_step(step);
            let done = live(&vfs);
            disk.crash_power(&SimRandom::new(seed * 7919 + step));
            let ledger = Ledger::open(Path::new(FILE), Some(vfs.name())).unwrap();
            let found = ledger.checkpoints().unwrap();
            let count = found.len() as u64;
            assert!(count == done.checkpoints || count == done.checkpoints + 1, "{count} of {done:?}");
            for (n, found) in (1..).zip(&found) {
                assert_eq!(found.vector, vector(&[("a", n), ("c", n)]));
            }
            let known = ledger.current(&path("b")).unwrap().map_or(0, |known| known.incarnation.0);
            assert!(known == done.incarnations || known == done.incarnations + 1, "{known} of {done:?}");
            let undone = |undo: Option<Vector>| undo.map_or(0, |undo| undo[&path("d")].txid.0);
            let (undo, acknowledged) = (undone(ledger.last_undo().unwrap()), undone(done.undo.clone()));
            assert!(undo == acknowledged || undo == acknowledged + 1, "{undo} of {done:?}");
            // A vector before something durable is as durable as that.
            let newest = ledger.newest_vector().unwrap().get(&path("a")).map_or(0, |at| at.txid.0);
            assert!(newest + 1 >= done.vectors && newest <= done.vectors + 1, "{newest} of {done:?}");
            ledger.note_vector(Timestamp(999), &vector(&[("z", 1)])).unwrap();
        }
    }
}

// semantics: cost
#[test]
fn a_checkpoint_costs_one_sync_and_a_vector_none() {
    let (disk, vfs) = machine();
    let ledger = Ledger::open(Path::new(FILE), Some(vfs.name())).unwrap();
    ledger.insert_checkpoint(&checkpoint("first", 1, vector(&[("a", 1)]))).unwrap();
    for n in 2..300 {
        if n % 50 == 0 {
            ledger.maintain().unwrap();
        }
        disk.fail_nth(Op::Sync, 1, EIO);
        ledger.note_vector(Timestamp(n), &vector(&[("a", n.cast_unsigned())])).unwrap();
        disk.clear_failures();
        disk.fail_nth(Op::Sync, 2, EIO);
        disk.fail_nth(Op::SyncDir, 1, EIO);
        ledger
            .insert_checkpoint(&checkpoint(&n.to_string(), n, vector(&[("b", n.cast_unsigned())])))
            .unwrap();
        disk.clear_failures();
    }
    disk.fail_nth(Op::Sync, 1, EIO);
    assert!(ledger.insert_checkpoint(&checkpoint("last", 1, vector(&[("a", 1)]))).is_err());
}

#[test]
fn a_full_disk_is_said_and_the_next_commit_succeeds() {
    let (disk, vfs) = machine();
    let ledger = Ledger::open(Path::new(FILE), Some(vfs.name())).unwrap();
    disk.set_capacity(disk.used_bytes());
    let insert = |n: i64| {
        let vector = vector(&[("a", n.cast_unsigned())]);
        ledger.insert_checkpoint(&checkpoint(&n.to_string(), n, vector))
    };
    // The first ones fit into what the log has already.
    let full = (1..1000).find_map(|n| insert(n).err().map(|error| (n, error)));
    let Some((n, InsertError::Ledger(error))) = full else { panic!("not the ledger's error: {full:?}") };
    assert!(error.is_disk_full(), "{error}");
    disk.set_capacity(u64::MAX);
    assert_eq!(ledger.newest_vector().unwrap(), vector(&[("a", n.cast_unsigned() - 1)]));
    insert(n).unwrap();
    assert_eq!(ledger.newest_vector().unwrap(), vector(&[("a", n.cast_unsigned())]));
}
