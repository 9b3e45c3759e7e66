//! What the soak consists of; shared by `make soak` and its short form in the tests.

pub mod journal;
pub mod kill;
pub mod load;
pub mod model;
pub mod node;
pub mod stores;
pub mod supervise;
pub mod writers;

use std::path::{Path, PathBuf};

/// The binary under test: the one built with this, or the one that `SOAK_STEAD` names.
pub fn stead() -> String {
    std::env::var("SOAK_STEAD").unwrap_or_else(|_| env!("CARGO_BIN_EXE_stead").to_owned())
}

/// A directory that stays where something failed.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes one.
    pub fn new(name: &str) -> Scratch {
        Scratch(tempfile::Builder::new().prefix(&format!("soak-{name}-")).tempdir().unwrap().keep())
    }

    /// Where.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// It is not needed any more.
    pub fn done(self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("everything is left in {}", self.0.display());
        }
    }
}

/// Random numbers from a seed.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// From this seed.
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// A number below this one.
    pub fn below(&mut self, limit: usize) -> usize {
        // splitmix64, Steele, Lea and Flood 2014.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }
}
