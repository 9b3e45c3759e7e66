//! `soak stores`: a volume whose history is in a bucket of a real S3 server, while everything around it fails.
//!
//! ```text
//!  app ─▶ 2 databases ─▶ node ─▶ proxy ─▶ server      proxy: 500, 503, 403, 507, slow, answers lost
//!                          │                          server: killed and restarted, frozen
//!            status, checkpoints ─▶ what was told of the store, and which rows that covers
//!  then: kill -9, the home is wiped, `stead run --from URL`: all of what was told is there
//! ```
//! The races have two nodes on one prefix: at the end there is one chain, whole, and whoever lost was told.
//! MinIO takes turns with versitygw where `scripts/stores all` has installed it.

mod race;
mod round;
mod site;
mod told;
mod trouble;

#[path = "../../../store/tests/s3/proxy.rs"]
mod proxy;
#[path = "../../../store/tests/s3/support.rs"]
mod servers;

use super::{Dice, Scratch};
use servers::Kind;

/// How often, how long, and from which seed.
#[derive(Clone, Copy, Debug)]
pub struct Stores {
    /// Rounds of trouble.
    pub rounds: u64,
    /// Of writing, in each round.
    pub seconds: u64,
    /// Races of two nodes.
    pub races: u64,
    /// The seed.
    pub seed: u64,
}

/// Runs it; panics where anything is not as promised.
pub fn run(stores: Stores) {
    let kinds: Vec<Kind> =
        [Kind::Versity, Kind::Minio].into_iter().filter(|kind| kind.is_installed()).collect();
    assert!(!kinds.is_empty(), "no S3 server is installed: run scripts/stores");
    let mut dice = Dice::new(stores.seed);
    let kind_of = |number: u64| kinds[number as usize % kinds.len()];
    let mut figures = round::Figures::default();
    for number in 0..stores.rounds {
        let dir = Scratch::new("stores");
        round::run(number, stores.seconds, kind_of(number), dir.path(), &mut dice, &mut figures);
        dir.done();
    }
    figures.print();
    for number in 0..stores.races {
        let dir = Scratch::new("race");
        race::run(number, kind_of(number / 3), dir.path(), &mut dice);
        dir.done();
    }
    println!("{} races: each with one chain, whole; who lost was told", stores.races);
}
