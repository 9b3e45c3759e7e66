//! Machines that are lost, and those that take their place: all that the next one has is the bucket.

use crate::examine::Found;
use crate::model::Moment;
use crate::reports::Which;
use crate::world::{Crash, HOME, World};
use base::{Disk, Txid};
use database::Claim;
use database::engine::LEDGER_PATH;
use database::ledger::{Checkpoint, Ledger, Vector};
use database::recover::{RecoverError, Recovered, recover};
use std::collections::BTreeMap;
use std::path::Path;

/// How often a recovery may be interrupted.
const INTERRUPTIONS_MAX: u32 = 3;

impl World {
    /// The machine is gone with its disk, and another takes its place.
    pub fn lose_machine(&mut self) {
        self.note("the machine is lost");
        self.crash(Crash::Power);
        let heir = self.heir();
        let lost = std::mem::replace(self, heir);
        self.storm = lost.storm;
        self.apps().trace.clone_from(&lost.apps().trace);
        let before = self.found().ends();
        let recovered = self.recover_store(Claim::TakeOver);
        self.take_place_of(&lost, &before, &recovered);
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

    fn try_recover(&mut self, claim: Claim) -> Result<Recovered, RecoverError> {
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
                let moment = found.moment(self, &target).unwrap_or_else(|problem| panic!("{problem}"));
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
    fn aim(&self, recovered: &Recovered) -> Vector {
        let ledger = Ledger::open(&Path::new(HOME).join(LEDGER_PATH), Some(self.vfs.name()));
        let ledger = ledger.unwrap_or_else(|error| panic!("the ledger that came back: {error}"));
        let intent = ledger.open_intent().unwrap_or_else(|error| panic!("{error}"));
        intent.map_or_else(|| recovered.databases.clone(), |intent| intent.target)
    }

    /// The checkpoints that came back; of those that were about to be made or removed, those that did.
    fn keep_checkpoints_of(&mut self, lost: &World, found: &Found) {
        let Some(ledger) = &found.ledger else { return };
        for checkpoint in ledger.checkpoints().unwrap_or_else(|error| panic!("{error}")) {
            let known = lost.saved.get(&checkpoint.id).or_else(|| lost.unsure.get(&checkpoint.id));
            if let Some(saved) = known {
                self.saved.insert(checkpoint.id, saved.clone());
            }
        }
        self.removed.clone_from(&lost.removed);
    }

    /// A checkpoint that was removed is back where the store did not hear of that in time; history may lack what it held.
    fn remove_again(&mut self) {
        let ledger = self.ledger.clone().expect("invariant: it runs");
        let found = ledger.checkpoints().unwrap_or_else(|error| panic!("{error}"));
        let gone =
            |found: &&Checkpoint| self.removed.contains(&found.id) && !self.saved.contains_key(&found.id);
        for checkpoint in found.iter().filter(gone) {
            ledger.remove_checkpoint(&checkpoint.id).unwrap_or_else(|error| panic!("{error}"));
        }
    }

    /// Without a ledger the histories are all that there is: what had been deleted comes back too.
    fn start_without_ledger(&mut self) {
        self.restless = false;
        self.calm_weather();
        self.try_start().unwrap_or_else(|error| panic!("the engine does not start: {error}"));
        self.pass(std::time::Duration::from_millis(1500));
        let mut moment = Moment::new();
        let names = ["data/a.db", "data/b.db", "data/c.db", "data/d.db", crate::app::SHARED];
        for name in names {
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
