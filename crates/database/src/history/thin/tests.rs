//! The planner against a model that only has names: what must stay restorable does.

use super::*;
use crate::history::plan::reachable;
use proptest::prelude::*;
use std::time::Duration;

const LINKS: Links = Links { page_size: 512, before: Checksum::NONE, after: Checksum::NONE };

/// Files as a set of names, changed by plans.
struct Model {
    files: Vec<ThinFile>,
    now: Timestamp,
    last: u64,
    with_store: bool,
}

impl Model {
    fn new(with_store: bool) -> Model {
        Model { files: Vec::new(), now: Timestamp(1_700_000_000_000), last: 0, with_store }
    }

    fn seal(&mut self, bytes: u64) {
        self.last += 1;
        let key = FileKey { level: 0, min: Txid(self.last), max: Txid(self.last) };
        let bytes = if self.last == 1 { 50_000 } else { bytes };
        self.files.push(ThinFile { key, sealed: self.now, bytes, local: true, stored: false, links: LINKS });
        self.files.sort_by_key(|file| file.key);
    }

    /// Sends what no merged file in the store has already, as shipping does.
    fn ship(&mut self) {
        for at in 0..if self.with_store { self.files.len() } else { 0 } {
            let key = self.files[at].key;
            let covered = self.files.iter().filter(|by| by.stored).any(|by| {
                let same = (by.key.min, by.key.max) == (key.min, key.max);
                let larger = by.key.min <= key.min && by.key.max >= key.max && !same && !by.key.is_snapshot();
                larger || (same && by.key.level > key.level)
            });
            let file = &mut self.files[at];
            file.stored |= file.local && !covered;
        }
    }

    fn at(&mut self, key: FileKey) -> &mut ThinFile {
        self.files.iter_mut().find(|file| file.key == key).expect("a plan names files that are there")
    }

    fn apply(&mut self, plan: &ThinPlan) {
        for merge in &plan.merges {
            let inputs: Vec<ThinFile> = merge.inputs.iter().map(|key| *self.at(*key)).collect();
            for pair in inputs.windows(2) {
                assert!(pair[1].key.min.previous() <= pair[0].key.max && pair[1].key.max > pair[0].key.max);
            }
            assert_eq!(
                (inputs[0].key.min, inputs.last().unwrap().key.max),
                (merge.output.min, merge.output.max)
            );
            let sealed = inputs.last().unwrap().sealed;
            let bytes = inputs.iter().map(|file| file.bytes).sum::<u64>().min(60_000);
            self.files.push(ThinFile {
                key: merge.output,
                sealed,
                bytes,
                local: true,
                stored: false,
                links: LINKS,
            });
        }
        for one in &plan.moves {
            self.at(one.from).key = one.to;
        }
        for key in &plan.remove_local {
            self.at(*key).local = false;
        }
        for key in &plan.remove_stored {
            self.at(*key).stored = false;
        }
        self.files.retain(|file| file.local || file.stored);
        self.files.sort_by_key(|file| file.key);
        assert!(self.files.windows(2).all(|pair| pair[0].key != pair[1].key), "two files of one name");
    }

    fn restorable(&self) -> BTreeSet<Txid> {
        reachable(self.files.iter().map(|file| file.key.txids()))
    }

    fn local_bytes(&self) -> u64 {
        self.files.iter().filter(|file| file.local).map(|file| file.bytes).sum()
    }
}

/// A plan's files must each cover a held position wholly or not at all, but for snapshots.
fn assert_no_merge_passes(plan: &ThinPlan, held: &[Txid]) {
    for merge in plan.merges.iter().filter(|merge| !merge.output.is_snapshot()) {
        let inside = held.iter().find(|txid| merge.output.min <= **txid && **txid < merge.output.max);
        assert_eq!(inside, None, "{merge:?} passes it");
    }
}

/// What is held of these TXIDs: those that are sealed already.
fn sorted(txids: &[u64], last: u64) -> Vec<Txid> {
    let set: BTreeSet<Txid> = txids.iter().filter(|txid| **txid <= last).map(|txid| Txid(*txid)).collect();
    set.into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever is sealed, held and waited for: pins and the end stay restorable; noted moments too, below the limit.
    // semantics: thinning-spares
    #[test]
    fn nothing_that_is_held_gets_lost(
        steps in prop::collection::vec((0u64..4000, 1u64..30, 0u32..8), 1..60),
        pins in prop::collection::vec(1u64..300, 0..4), late in prop::collection::vec(1u64..300, 0..2),
        notes in prop::collection::vec(1u64..300, 0..6),
        limited in any::<bool>(), with_store in any::<bool>(),
    ) {
        let retention = Retention {
            keep: Duration::from_secs(8 * 3600),
            local_bytes: if limited { 90_000 } else { u64::MAX / 8 },
        };
        let mut model = Model::new(with_store);
        let middle = steps.len() / 2;
        for (step, (seconds, seals, kind)) in steps.into_iter().enumerate() {
            for _ in 0..seals {
                model.seal(500);
                model.now = Timestamp(model.now.0 + 700);
            }
            model.now = Timestamp(model.now.0 + 1000 * i64::try_from(seconds).unwrap());
            if kind > 2 {
                model.ship();
            }
            let before = model.restorable();
            // Pinned when they were sealed, or long after.
            let late: &[u64] = if step > middle { &late } else { &[] };
            let holds = Holds {
                pinned: sorted(&[&pins[..], late].concat(), model.last),
                noted: sorted(&notes, model.last),
            };
            let plan = plan(&model.files, model.now, &holds, &retention);
            assert_no_merge_passes(&plan, &sorted(&pins, model.last));
            model.apply(&plan);
            let after = model.restorable();
            prop_assert!(after.contains(&Txid(model.last)), "the end is lost: {:?}", plan);
            for pin in holds.pinned.iter().filter(|pin| before.contains(pin)) {
                prop_assert!(after.contains(pin), "pin {} is lost: {:?}", pin, plan);
            }
            let cutoff = Timestamp(model.now.0 - millis(retention.keep));
            let fresh = model.files.iter().filter(|file| file.sealed >= cutoff).map(|file| file.key.min).min();
            for note in holds.noted.iter().filter(|note| !limited && before.contains(note)) {
                let kept = fresh.is_none_or(|fresh| *note < fresh) || after.contains(note);
                prop_assert!(kept, "{} is noted and lost: {:?}", note, plan);
            }
        }
        // Left alone, it comes to rest, and within the limit unless it says so.
        let holds = Holds { pinned: sorted(&pins, model.last), noted: Vec::new() };
        let mut over = false;
        for round in 0..400 {
            model.ship();
            let plan = plan(&model.files, model.now, &holds, &retention);
            over = plan.over_limit;
            if plan.is_empty() {
                break;
            }
            prop_assert!(round < 399, "no rest: {:?}", plan);
            model.apply(&plan);
        }
        prop_assert!(over || model.local_bytes() <= retention.local_bytes);
    }
}

#[test]
fn days_of_seals_come_to_a_bounded_number_of_files() {
    let mut model = Model::new(true);
    let retention = Retention { keep: Duration::from_secs(3 * 24 * 3600), ..Retention::default() };
    let mut most = 0;
    for minute in 0..8 * 24 * 60 {
        model.seal(500);
        model.now = Timestamp(model.now.0 + 60_000);
        if minute % 60 == 0 {
            model.ship();
            let plan = plan(&model.files, model.now, &Holds::default(), &retention);
            model.apply(&plan);
            most = most.max(model.files.len());
        }
    }
    // What came since the last call, an hour of minutes, a day of 5 min, keep and a tenth of it in hours.
    assert!(most <= 60 + 70 + 300 + 90, "{most} files");
    assert!(model.restorable().contains(&Txid(model.last)));
}

#[test]
fn a_store_that_is_down_costs_no_history() {
    let mut model = Model::new(true);
    model.seal(500);
    model.ship();
    for _ in 0..2000 {
        model.seal(500);
        model.now = Timestamp(model.now.0 + 30_000);
        let plan = plan(&model.files, model.now, &Holds::default(), &Retention::default());
        assert!(plan.remove_stored.is_empty() || model.files.iter().any(|file| file.stored));
        model.apply(&plan);
        assert!(model.restorable().contains(&Txid(model.last)));
    }
    assert!(reachable(model.files.iter().filter(|f| f.stored).map(|f| f.key.txids())).contains(&Txid(1)));
}
