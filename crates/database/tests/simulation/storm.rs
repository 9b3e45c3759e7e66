//! Worlds whose history goes to a bucket over a line on which everything goes wrong, and whose machines are lost.
//!
//! ```text
//! some acts under changing weather ─▶ the bucket is examined ─▶ the machine stays, is lost, or loses the store ─▶ …
//! ```

use crate::world::{Crash, Kept, Setup, World};
use base::Clock;
use database::engine::CHECKPOINT_FRAMES;
use std::time::Duration;
use store::ErrorKind;
use store::sim::Chances;

/// A start while the store is away may meet a local history without its base, which was given up at the local limit or
/// never was on this machine. It goes on from the checksums that were saved; a power loss may have taken these, and then
/// the database goes on as another incarnation, without what a seal that the file lost held.
pub const AWAY_WITHOUT_LOCAL_BASE: bool = false;

/// Up to this a world's local history may have to give up its base.
const SMALL_LOCAL_BYTES: u64 = 1 << 20;

/// How long everything is given to arrive in calm weather.
const CALM: Duration = Duration::from_secs(65);

impl Setup {
    fn stormy(draw: impl Fn(u64) -> u64) -> Setup {
        Setup {
            apps: 1 + draw(2) as u32,
            sync_interval: Duration::from_millis([0, 50, 1000][draw(3) as usize]),
            keep: Duration::from_secs([60, 3600, 30 * 24 * 3600][draw(3) as usize]),
            local_bytes: [40_000, 10 << 30, 10 << 30][draw(3) as usize],
            store: Kept::Bucket,
            wal_limit_bytes: [1 << 30, 1 << 30, 60_000][draw(3) as usize],
            checkpoint_frames: [4, 12, CHECKPOINT_FRAMES][draw(3) as usize],
            former_sends_on: draw(2) == 0,
        }
    }
}

/// One volume from its first machine to its last.
pub fn run(seed: u64) {
    let draws = base::sim::SimRandom::new(seed ^ 0x05ea);
    let setup = Setup::stormy(|bound| draws.below(bound));
    let mut world = World::new(seed, setup.clone());
    world.note(format!("{setup:?}"));
    world.restart(None);
    for _ in 0..=world.random.below(3) {
        world.some_acts_at_sea();
        world.examine();
        match world.random.below(10) {
            0..4 => world.lose_machine(),
            4..7 => world.be_taken_over(),
            7 => world.examine_damaged(),
            _ => {}
        }
        if world.chance(50) {
            world.let_former_learn();
        }
    }
    world.let_former_learn();
    world.come_to_rest();
    world.check_all_is_stored();
    world.examine();
    world.check_all();
    world.examine_damaged();
    world.lose_machine();
    world.come_to_rest();
    world.check_all();
}

impl World {
    fn some_acts_at_sea(&mut self) {
        for _ in 0..5 + self.random.below(25) {
            self.happen_at_sea();
            self.rise();
        }
    }

    /// Goes on after a halt, if there was one.
    fn rise(&mut self) {
        if self.halted() {
            let crash = if self.chance(60) { Crash::Power } else { Crash::Processes };
            self.fall(crash);
        }
    }

    fn happen_at_sea(&mut self) {
        let others = self.chance(30);
        match self.random.below(1000) {
            0..350 => self.apps_act(),
            350..540 => {
                for _ in 0..=self.random.below(4) {
                    self.step(others);
                }
            }
            540..680 => self.some_time(),
            680..740 => self.checkpoint(others),
            740..850 => self.weather(),
            850..865 => {
                self.calm_weather();
                self.turn_somewhere(true);
            }
            865..880 => self.break_something(),
            880..900 => {
                self.calm_weather();
                self.mend();
            }
            900..915 => self.arm(),
            915..945 => self.doom(),
            945..955 => self.fall(Crash::Engine),
            955..965 => self.fall(Crash::Processes),
            965..975 => self.fall(Crash::Power),
            975..980 => self.stop_and_start(),
            _ => {
                if let Some(former) = &mut self.former {
                    for _ in 0..10 {
                        former.live_on();
                    }
                }
                self.check_checkpoints_if_calm();
            }
        }
    }

    /// The machine will die at a request.
    pub fn doom(&mut self) {
        let edge = 1 + self.random.below([4, 20, 60][self.random.below(3) as usize]);
        self.note(format!("will die at edge {edge} of its requests"));
        self.doom.set(edge);
        self.apps().faulty = true;
    }

    /// The weather changes.
    fn weather(&mut self) {
        let Some(bucket) = self.bucket.clone() else { return };
        let what = self.random.below(8);
        self.note(format!("weather {what}"));
        self.storm = true;
        match what {
            0..3 => self.calm_weather(),
            3 => bucket.set_chances(Chances::storm()),
            4 => bucket.set_chances(Chances { slow: 20, error: 20, reply_lost: 20, ..Chances::default() }),
            5 => bucket.set_chances(Chances {
                conflict: 150,
                request_lost: 100,
                reply_lost: 150,
                late: 100,
                ..Chances::default()
            }),
            6 => bucket.set_chances(Chances { error: 700, ..Chances::default() }),
            _ => {
                let kinds = [
                    ErrorKind::Unreachable,
                    ErrorKind::Server,
                    ErrorKind::Denied,
                    ErrorKind::NoBucket,
                    ErrorKind::Full,
                    ErrorKind::Throttled,
                ];
                let kind = kinds[self.random.below(kinds.len() as u64) as usize];
                let now = self.clock.boottime();
                let lasts = Duration::from_secs(1 + self.random.below(900));
                bucket.outage(None, now..now + lasts, kind);
            }
        }
    }

    /// Nothing is in the way of the store any more.
    pub fn calm_weather(&mut self) {
        if let Some(bucket) = self.bucket.as_ref().filter(|_| self.storm) {
            bucket.clear_faults();
            self.storm = false;
            self.note("calm");
        }
    }

    pub fn local_base_may_be_gone(&self) -> bool {
        !self.keeps_all_at_home() || self.number > 1
    }

    /// Whether nothing is given up at home because the store has it.
    pub fn keeps_all_at_home(&self) -> bool {
        self.setup.local_bytes >= SMALL_LOCAL_BYTES
    }

    /// Everything is whole, and nothing acts: what is lacking arrives.
    pub fn come_to_rest(&mut self) {
        self.rise();
        self.calm_weather();
        self.mend();
        self.apps().close_all();
        self.notice();
        self.pass(CALM);
    }
}
