//! The driver: what happens in a world, drawn from its seed.

use crate::app::Apps;
use crate::model::Moment;
use crate::storm;
use crate::world::{Crash, Kept, Saved, Setup, World};
use base::sim::Op;
use base::{Clock, DatabasePath, Position};
use database::engine::{CHECKPOINT_FRAMES, TurnError};
use database::ledger::{Checkpoint, Vector};
use std::cell::RefMut;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Checkpoints that a world keeps at most.
const CHECKPOINTS_MAX: usize = 5;

impl Setup {
    pub fn drawn(draw: impl Fn(u64) -> u64) -> Setup {
        Setup {
            apps: 1 + draw(3) as u32,
            sync_interval: Duration::from_millis([0, 50, 1000][draw(3) as usize]),
            keep: Duration::from_secs([60, 3600, 30 * 24 * 3600][draw(3) as usize]),
            local_bytes: [40_000, 10 << 30][draw(2) as usize],
            store: if draw(2) == 0 { Kept::Directory } else { Kept::Nowhere },
            wal_limit_bytes: [1 << 30, 1 << 30, 60_000][draw(3) as usize],
            checkpoint_frames: [4, 12, CHECKPOINT_FRAMES][draw(3) as usize],
            former_sends_on: false,
        }
    }
}

/// One world from its first boot to its end.
pub fn run(seed: u64) {
    let draws = base::sim::SimRandom::new(seed ^ 0x5eed);
    let setup = Setup::drawn(|bound| draws.below(bound));
    let mut world = World::new(seed, setup.clone());
    world.note(format!("{setup:?}"));
    world.restart(None);
    let acts = 60 + world.random.below(120);
    for _ in 0..acts {
        world.happen();
        if world.halted() {
            let crash = if world.chance(60) { Crash::Power } else { Crash::Processes };
            world.fall(crash);
        }
    }
    world.mend();
    world.check_all();
    world.turn_somewhere(false);
    if world.halted() {
        world.fall(Crash::Power);
    }
    world.check_all();
}

impl World {
    pub fn apps(&self) -> RefMut<'_, Apps> {
        self.apps.borrow_mut()
    }

    fn happen(&mut self) {
        let others = self.chance(30);
        match self.random.below(1000) {
            0..450 => self.apps_act(),
            450..640 => {
                for _ in 0..=self.random.below(4) {
                    self.step(others);
                }
            }
            640..740 => self.some_time(),
            740..810 => self.checkpoint(others),
            810..830 => self.check_files_if_calm(),
            830..865 => self.turn_somewhere(true),
            865..885 => self.break_something(),
            885..910 => self.mend(),
            910..930 => self.arm(),
            930..950 => self.fall(Crash::Engine),
            950..960 => self.fall(Crash::Processes),
            960..980 => self.fall(Crash::Power),
            980..988 => self.apps().kill_one(),
            988..996 => self.stop_and_start(),
            _ => self.check_checkpoints_if_calm(),
        }
    }

    pub fn apps_act(&mut self) {
        let count = 1 + self.random.below(5);
        for _ in 0..count {
            self.apps().act();
        }
        if !self.apps().model.unnoticed.is_empty() {
            self.with_engine(false, |engine| engine.files_changed());
        }
    }

    pub fn some_time(&mut self) {
        let time = match self.random.below(20) {
            0..8 => Duration::from_millis(1 + self.random.below(100)),
            8..14 => Duration::from_millis(100 + self.random.below(1000)),
            14..18 => Duration::from_secs(3),
            18 => Duration::from_secs(40),
            _ => {
                // Long enough for moments to be thinned.
                self.clock.advance(Duration::from_secs(400 + self.random.below(8000)));
                Duration::from_secs(1)
            }
        };
        self.pass(time);
    }

    pub fn calm(&self) -> bool {
        !self.apps.borrow().faulty && !self.halted()
    }

    pub fn check_files_if_calm(&mut self) {
        self.notice();
        if self.calm() {
            self.check_files(None);
        }
    }

    pub fn check_checkpoints_if_calm(&mut self) {
        if self.calm() {
            self.check_checkpoints();
        }
    }

    /// A cut that the ledger keeps.
    pub fn checkpoint(&mut self, others: bool) {
        let Some(saved) = self.cut(others) else { return };
        let ledger = Arc::clone(self.ledger.as_ref().expect("invariant: it runs"));
        if self.saved.len() >= CHECKPOINTS_MAX
            && let Some((id, saved)) = self.saved.pop_first()
        {
            self.removed.insert(id.clone());
            if let Err(error) = ledger.remove_checkpoint(&id) {
                self.note(format!("{id} not removed: {error}"));
                self.unsure.insert(id, saved);
                return;
            }
        }
        self.names += 1;
        let id = format!("checkpoint-{:04}", self.names);
        let checkpoint = Checkpoint {
            id: id.clone(),
            created: self.clock.now(),
            comment: None,
            automatic: false,
            vector: saved.vector.clone(),
        };
        let inserted = ledger.insert_checkpoint(&checkpoint);
        self.with_engine(others, |engine| engine.ledger_changed());
        match inserted {
            Ok(()) => {
                self.note(format!("{id}: {:?}", saved.moment));
                self.saved.insert(id, saved);
            }
            Err(error) => {
                assert!(!self.calm(), "{id} not recorded: {error}");
                self.unsure.insert(id, saved);
            }
        }
    }

    /// Turns to a checkpoint or undoes the last turn, perhaps with a crash on the way.
    pub fn turn_somewhere(&mut self, crash: bool) {
        let to_undo = self.undo.is_some() && self.chance(30);
        let ledger = Arc::clone(self.ledger.as_ref().expect("invariant: it runs"));
        let chosen: Option<(String, Vector, Moment)> = if to_undo {
            let vector = ledger.last_undo().ok().flatten();
            vector.and_then(|vector| Some(("undo".into(), vector, self.undo.clone()?)))
        } else {
            let at = self.random.below(self.saved.len().max(1) as u64) as usize;
            let saved: Option<(&String, &Saved)> = self.saved.iter().nth(at);
            saved.map(|(id, saved)| (id.clone(), saved.vector.clone(), saved.moment.clone()))
        };
        let Some((name, vector, target)) = chosen else { return };
        self.turn(&name, &vector, &target, crash);
    }

    pub fn turn(&mut self, name: &str, vector: &Vector, target: &Moment, crash: bool) {
        self.apps().close_all();
        self.pass(Duration::from_secs(7));
        self.notice();
        if !self.calm() {
            return;
        }
        self.check_files(None);
        if crash && self.chance(50) {
            let within = if self.chance(50) { 40 } else { 300 };
            self.disk.halt_at_step(self.disk.steps() + 1 + self.random.below(within));
            self.apps().faulty = true;
        }
        self.turn_now(name, vector, target);
    }

    /// The turn itself; no application runs.
    pub fn turn_now(&mut self, name: &str, vector: &Vector, target: &Moment) {
        let before = self.apps().model.moment();
        self.note(format!("turn to {name}: {before:?} → {target:?}"));
        self.turning = Some((before.clone(), target.clone()));
        let turned = self.with_engine(false, |engine| {
            engine.turn_back(name, vector, Duration::from_millis(500), &mut |_| {})
        });
        match turned {
            Ok(_) => {
                self.turning = None;
                self.apps().model.turned(target);
                self.undo = Some(before);
                if self.calm() {
                    self.check_files(None);
                }
            }
            Err(_) if self.halted() => {
                // Which of the two is the last undo is known when the machine runs again.
                self.undo = None;
            }
            Err(error) => {
                assert!(!matches!(error, TurnError::Running), "{error}");
                panic!("turning to {name} failed: {error}");
            }
        }
    }

    pub fn break_something(&mut self) {
        self.apps().faulty = true;
        let what = self.random.below(7);
        self.note(format!("break {what}"));
        let nth = 1 + self.random.below(10);
        match what {
            0 => self.disk.fail_nth(Op::Write, nth, libc::EIO),
            1 => self.disk.fail_nth(Op::Sync, nth, libc::EIO),
            2 => self.disk.fail_nth(Op::Rename, nth, libc::EIO),
            3 => self.disk.fail_nth(Op::SyncDir, nth, libc::EIO),
            4 => self.disk.fail_each(Op::Sync, ".tmp", libc::EIO),
            5 => self.disk.fail_each(Op::Write, ".tmp", libc::EIO),
            _ => self.disk.set_capacity(self.disk.used_bytes() + self.random.below(20_000)),
        }
    }

    /// Makes everything whole again: no trouble may last.
    pub fn mend(&mut self) {
        if self.halted() || !self.apps().faulty {
            return;
        }
        self.note("mended");
        self.disk.clear_failures();
        self.disk.set_capacity(u64::MAX);
        self.disarm();
        self.apps().close_all();
        self.pass(Duration::from_secs(9));
        self.apps().faulty = false;
        self.notice();
        self.pass(Duration::from_secs(6));
        self.check_files(None);
        self.check_well();
    }

    pub fn disarm(&self) {
        self.disk.halt_at_step(u64::MAX);
        self.doom.forget();
    }

    /// The machine will die soon.
    pub fn arm(&mut self) {
        let within = [20, 200, 1000][self.random.below(3) as usize];
        let step = self.disk.steps() + 1 + self.random.below(within);
        self.note(format!("will halt at step {step}"));
        self.disk.halt_at_step(step);
        self.apps().faulty = true;
    }

    fn positions(&self) -> BTreeMap<DatabasePath, Position> {
        let engine = self.engine.as_ref().expect("invariant: it runs");
        engine.databases().into_iter().filter_map(|info| Some((info.path, info.position?))).collect()
    }

    /// A crash, perhaps a time without the engine, a start, and the checks.
    pub fn fall(&mut self, crash: Crash) {
        let crash = if self.halted() && crash == Crash::Engine { Crash::Processes } else { crash };
        self.crash(crash);
        if crash == Crash::Engine && self.chance(50) {
            for _ in 0..self.random.below(6) {
                self.apps().act();
            }
        }
        self.restart(Some(crash));
    }

    /// Starts the engine, which may crash meanwhile; then checks what is left.
    pub fn restart(&mut self, crash: Option<Crash>) {
        let mut crash = crash;
        if self.storm && !storm::AWAY_WITHOUT_LOCAL_BASE && self.local_base_may_be_gone() {
            self.calm_weather();
        }
        for attempt in 0.. {
            if self.restless && attempt < 2 && self.chance(15) {
                self.arm();
            }
            let started = self.try_start();
            if self.halted() {
                let again = if self.chance(60) { Crash::Power } else { Crash::Processes };
                let worst = if crash == Some(Crash::Power) { Crash::Power } else { again };
                self.crash(again);
                crash = Some(worst);
                continue;
            }
            self.disarm();
            self.apps().faulty = false;
            match started {
                Ok(()) => break,
                // What only the store has cannot come back while that is away.
                Err(error) if self.storm => {
                    self.note(format!("no start: {error}"));
                    self.calm_weather();
                }
                Err(error) => panic!("the engine does not start: {error}"),
            }
        }
        let joined = self.positions();
        self.pass(Duration::from_millis(if self.restless { 1500 } else { 300 }));
        if self.with_engine(false, |engine| engine.databases()).iter().any(|info| info.mode == "waiting") {
            // A rollback journal is left alone for a while.
            self.pass(Duration::from_secs(7));
        }
        self.check_files(crash);
        self.certain = true;
        self.apps().model.unnoticed.clear();
        if crash.is_none() {
            return;
        }
        self.note(format!(
            "joined at {:?}",
            joined.iter().map(|(path, at)| format!("{path}:{}", at.txid)).collect::<Vec<_>>()
        ));
        let now = self.positions();
        for (path, before) in joined {
            if let Some(after) = now.get(&path) {
                self.check_seal(&path, before, *after);
            }
        }
        if self.chance(40) {
            self.check_checkpoints();
        }
    }

    pub fn stop_and_start(&mut self) {
        self.notice();
        if !self.calm() {
            return;
        }
        self.note("stop");
        let idle = self.chance(50);
        if idle {
            self.apps().close_all();
        }
        let before = if idle { self.cut(false) } else { None };
        let followed = self.followed();
        let Some(engine) = self.engine.take() else { return };
        let lengths = self.apps().model.lengths();
        if self.storm {
            // The ledger is sent last, whatever could not be.
            self.reports.hear(&[], engine.databases().into_iter().map(|info| info.path).collect());
        }
        engine.stop();
        for (name, count) in lengths {
            if followed.contains(&name) {
                self.apps().model.sealed(&name, count);
            }
        }
        self.ledger = None;
        self.restart(None);
        if let (Some(before), Some(after)) = (before, self.cut(false)) {
            assert_eq!(before.vector, after.vector, "a clean stop and start changed something");
        }
    }
}
