//! Machines that are lost, and those that take their place: all that the next one has is the bucket.

use crate::examine::{Found, is_database};
use crate::machine::Meanwhile;
use crate::model::Moment;
use crate::reports::Which;
use crate::world::{Crash, HOME, World};
use base::{DatabasePath, Disk, Timestamp, Txid};
use database::engine::{LEDGER_PATH, StoreState};
use database::ledger::{Checkpoint, Ledger, Vector};
use database::recover::{RecoverError, Recovered, recover};
use database::{BucketError, Claim};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;
use store::Objects;

/// Every name that an application gives to a database.
pub const NAMES: [&str; 5] = ["data/a.db", "data/b.db", "data/c.db", "data/d.db", crate::app::SHARED];

fn is_empty(store: &dyn Objects) -> bool {
    database::bucket::read(store).is_ok_and(|manifest| manifest.is_none())
}

/// How often a recovery may be interrupted.
const INTERRUPTIONS_MAX: u32 = 3;

impl World {
    /// The machine is gone with its disk, perhaps after a clean stop, and another takes its place.
    pub fn lose_machine(&mut self) {
        if self.calm() && !self.storm && self.chance(25) {
            self.stop_for_good();
        }
        self.note("the machine is lost");
        self.crash(Crash::Power);
        let lost = self.replace_by_heir();
        let claim = self.claim_of_heir();
        let before = self.found().ends();
        let recovered = self.recover_store(claim);
        self.take_place_of(&lost, &before, &recovered);
    }

    /// A clean stop in calm weather leaves nothing unsent, and lets the store go.
    fn stop_for_good(&mut self) {
        self.note("stop for good");
        let Some(engine) = self.engine.take() else { return };
        engine.stop();
        self.ledger = None;
        assert!(self.is_released(), "a clean stop let the store go");
    }

    fn is_released(&self) -> bool {
        let objects = self.calm_store().expect("invariant: there is a bucket");
        let manifest = database::bucket::read(&*objects).unwrap_or_else(|error| panic!("{error}"));
        manifest.is_some_and(|(manifest, _)| manifest.released)
    }

    /// What was let go may be taken by whoever asks politely; nothing else is.
    fn claim_of_heir(&mut self) -> Claim {
        let released = self.is_released();
        if released && self.chance(50) {
            return Claim::Released;
        }
        if !released && !self.storm && self.chance(30) {
            let refused = self.try_recover(Claim::Released);
            let taken = matches!(&refused, Err(RecoverError::Bucket(BucketError::Taken { .. })));
            assert!(taken || self.calm_store().is_some_and(|store| is_empty(&*store)), "{refused:?}");
            return Claim::TakeOver;
        }
        Claim::TakeOver
    }

    fn replace_by_heir(&mut self) -> World {
        let heir = self.heir();
        let mut former = std::mem::replace(self, heir);
        self.storm = former.storm;
        self.former = former.former.take();
        self.apps().trace.clone_from(&former.apps().trace);
        former
    }

    /// Another machine takes the store on purpose while this one lives and writes.
    pub fn be_taken_over(&mut self) {
        self.note("another machine takes the store");
        self.disarm();
        if self.halted() {
            return self.lose_machine();
        }
        let before = self.found().ends();
        let former = Rc::new(RefCell::new(self.replace_by_heir()));
        let recovered = {
            let (former, random) = (Rc::clone(&former), self.random.clone());
            let _turns = Meanwhile::others(move || {
                if random.below(100) < 30 {
                    former.borrow_mut().live_on();
                }
            });
            self.recover_store(Claim::TakeOver)
        };
        let former = Rc::into_inner(former).expect("invariant: nobody else has a turn").into_inner();
        self.take_place_of(&former, &before, &recovered);
        self.former = Some(Box::new(former));
        if !self.setup.former_sends_on {
            self.let_former_learn();
        }
    }

    /// One that has lost its store does something all the same.
    pub fn live_on(&mut self) {
        if self.halted() || self.engine.is_none() {
            return;
        }
        if self.chance(40) {
            self.apps().act();
        } else if !self.step(false) {
            self.clock.advance(Duration::from_millis(self.random.below(2000)));
        }
    }

    /// Whoever has lost the store learns so when it next sends anything, keeps what it has, and is refused from then on.
    pub fn let_former_learn(&mut self) {
        let Some(mut former) = self.former.take() else { return };
        self.calm_weather();
        former.storm = false;
        former.learn();
    }

    fn learn(&mut self) {
        if self.halted() || self.engine.is_none() {
            return;
        }
        self.disk.clear_failures();
        self.disk.set_capacity(u64::MAX);
        self.apps().close_all();
        self.pass(Duration::from_secs(9));
        self.apps().faulty = false;
        self.notice();
        self.apps().commit_to(crate::app::SHARED, true);
        self.pass(Duration::from_secs(70));
        let unsent = self.with_engine(false, |engine| engine.databases());
        if unsent.iter().all(|info| info.position.is_none_or(|at| info.stored_txid == Some(at.txid))) {
            // It has asked for nothing that could tell it.
            return;
        }
        let store = self.engine.as_ref().and_then(|engine| engine.store());
        let state = store.map(|store| store.state);
        let Some(StoreState::Refused { error }) = state else { panic!("it was not told: {state:?}") };
        // One that had never reached the store finds it taken.
        let (BucketError::Fenced { holder, .. } | BucketError::Taken { holder, .. }) = &*error else {
            panic!("{error}")
        };
        assert_ne!(holder.node, self.name());
        self.note(format!("told: {error}"));
        self.apps().close_all();
        self.pass(Duration::from_secs(9));
        self.check_files(None);
        if self.keeps_all_at_home() {
            assert!(self.cut(false).is_some(), "it goes on at home");
        }
        self.fall_back();
    }

    /// It starts anew, and its store is another's.
    fn fall_back(&mut self) {
        self.crash(Crash::Processes);
        let refused = self.try_start().expect_err("its store is another's");
        assert!(refused.contains("belongs to node"), "{refused}");
    }

    /// What the bucket has now.
    pub fn found(&self) -> Found {
        let bucket = self.bucket.as_ref().expect("invariant: there is a bucket");
        Found::of(&bucket.calm_copy(), self).unwrap_or_else(|problem| panic!("{problem}"))
    }

    /// Brings the ledger to this home, whatever interrupts that.
    fn recover_store(&mut self, claim: Claim) -> Recovered {
        for attempt in 0.. {
            self.certain = false;
            if attempt >= INTERRUPTIONS_MAX {
                self.calm_weather();
                self.disarm();
            } else if self.restless && self.chance(25) {
                if self.chance(50) { self.arm() } else { self.doom() }
            }
            let recovered = self.try_recover(claim);
            if self.halted() {
                let crash = if self.chance(60) { Crash::Power } else { Crash::Processes };
                self.crash(crash);
                continue;
            }
            match recovered {
                Ok(recovered) => {
                    self.disarm();
                    self.apps().faulty = false;
                    return recovered;
                }
                Err(error) if self.storm => self.note(format!("not recovered: {error}")),
                Err(error) => panic!("the volume does not come back: {error}"),
            }
        }
        unreachable!("the loop ends by returning")
    }

    pub fn try_recover(&mut self, claim: Claim) -> Result<Recovered, RecoverError> {
        let settings = self.store_settings(claim).expect("invariant: there is a bucket");
        self.note("recover");
        recover(Path::new(HOME), &settings, &self.machine())
    }

    /// Starts where the other machine is no more, and finds everything that it had called stored.
    fn take_place_of(&mut self, lost: &World, before: &BTreeMap<Which, Txid>, recovered: &Recovered) {
        let found = self.found();
        self.reports = lost.reports.heir(before);
        let model = lost.apps().model.heir();
        self.apps().model = model;
        self.check_promises(&found).unwrap_or_else(|problem| panic!("{problem}"));
        let target = match recovered.ledger {
            true => Some(self.aim(recovered)),
            false => None,
        };
        self.keep_checkpoints_of(lost, &found);
        match target {
            Some(target) => {
                let mut moment = found.moment(self, &target).unwrap_or_else(|problem| panic!("{problem}"));
                if target == recovered.databases {
                    moment.extend(self.unknown_to_ledger(&found));
                }
                self.note(format!("back at {moment:?}"));
                self.apps().model.turned(&moment);
                self.restart(None);
            }
            None => self.start_without_ledger(),
        }
        self.remove_again();
        self.check_checkpoints();
    }

    /// Where the start is to lead.
    pub fn aim(&self, recovered: &Recovered) -> Vector {
        let ledger = Ledger::open(&Path::new(HOME).join(LEDGER_PATH), Some(self.vfs.name()));
        let ledger = ledger.unwrap_or_else(|error| panic!("the ledger that came back: {error}"));
        let intent = ledger.open_intent().unwrap_or_else(|error| panic!("{error}"));
        intent.map_or_else(|| recovered.databases.clone(), |intent| intent.target)
    }

    /// Where files are of which the ledger that came back knows nothing yet: the newest of each name.
    fn unknown_to_ledger(&self, found: &Found) -> Moment {
        let ledger = found.ledger.as_ref().expect("invariant: it came back");
        let known = ledger.paths().unwrap_or_else(|error| panic!("{error}"));
        let mut newest: BTreeMap<DatabasePath, (Timestamp, Which, Txid)> = BTreeMap::new();
        for (which, history) in &found.histories {
            let unknown = is_database(&which.0) && !known.iter().any(|(path, _)| *path == which.0);
            if let Some(last) = history.last().filter(|_| unknown) {
                let one = (last.header.timestamp, which.clone(), last.header.max_txid);
                let known = newest.entry(which.0.clone()).or_insert_with(|| one.clone());
                *known = one.max(known.clone());
            }
        }
        let mut moment = Moment::new();
        for (path, (_, which, txid)) in newest {
            let (content, _) = found.content(&which, txid).unwrap_or_else(|problem| panic!("{problem}"));
            moment.extend(content.map(|content| (path.as_str().to_owned(), content.id)));
        }
        moment
    }

    /// The checkpoints that came back; of those that were about to be made or removed, those that did.
    fn keep_checkpoints_of(&mut self, lost: &World, found: &Found) {
        let Some(ledger) = &found.ledger else { return };
        for checkpoint in ledger.checkpoints().unwrap_or_else(|error| panic!("{error}")) {
            let known = lost.saved.get(&checkpoint.id).or_else(|| lost.unsure.get(&checkpoint.id));
            if self.reports.may_lack(&checkpoint.vector) && found.moment(self, &checkpoint.vector).is_err() {
                self.broken.insert(checkpoint.id);
            } else if let Some(saved) = known {
                self.saved.insert(checkpoint.id, saved.clone());
            }
        }
        self.broken.extend(lost.broken.iter().cloned());
        self.removed.clone_from(&lost.removed);
        self.may_return = lost.removed.iter().filter(|id| !self.saved.contains_key(*id)).cloned().collect();
    }

    /// A checkpoint that was removed is back where the store did not hear of that in time; history may lack what it held.
    fn remove_again(&mut self) {
        let ledger = self.ledger.clone().expect("invariant: it runs");
        let found = ledger.checkpoints().unwrap_or_else(|error| panic!("{error}"));
        let back = |found: &&Checkpoint| self.may_return.contains(&found.id);
        for checkpoint in found.iter().filter(back) {
            ledger.remove_checkpoint(&checkpoint.id).unwrap_or_else(|error| panic!("{error}"));
        }
        self.may_return.clear();
    }

    /// Without a ledger the histories are all that there is: what had been deleted comes back too.
    fn start_without_ledger(&mut self) {
        self.restless = false;
        self.calm_weather();
        self.try_start().unwrap_or_else(|error| panic!("the engine does not start: {error}"));
        self.pass(Duration::from_millis(1500));
        let mut moment = Moment::new();
        for name in NAMES {
            let found = self.apps().look(name).unwrap_or_else(|problem| panic!("{problem}"));
            moment.extend(found.map(|id| (name.to_owned(), id)));
        }
        self.note(format!("back without a ledger at {moment:?}"));
        self.apps().model.turned(&moment);
        self.apps().model.unnoticed.clear();
        self.certain = true;
        self.restless = true;
        assert!(self.disk.metadata(Path::new(HOME)).is_ok());
    }
}
