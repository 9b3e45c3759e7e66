//! What is asked of the helper, and what it answers: plain data, a line of JSON each.

use super::raw;
use super::walk::Trust;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A user and a group by number.
pub type Ids = (u32, u32);

/// One path to be looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Absolute.
    #[serde(with = "raw")]
    pub path: PathBuf,
    /// As whom it is used; the helper's own user where none.
    pub user: Option<Ids>,
    /// What it is to be.
    pub kind: Kind,
}

/// Whose a directory is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mend {
    /// The user and group.
    pub owner: Ids,
    /// Also where the user can do everything that is needed.
    pub always: bool,
}

/// What a path is to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A directory.
    Directory {
        /// Make it where it is missing, and give it to that user.
        create: Option<Ids>,
        /// Set owner and mode where they are wrong.
        mend: Option<Mend>,
        /// What the user must be able to do with it, as permission bits.
        need: u32,
        /// Write, read and remove a file in it.
        write: bool,
    },
    /// A file that is read and written, and that may be missing.
    Database,
    /// A program: the first of these that there is.
    Program {
        /// Where it may lie.
        #[serde(with = "raw::list")]
        candidates: Vec<PathBuf>,
    },
}

/// What lies under a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Found {
    /// Nothing.
    Missing,
    /// A link that leads to nothing.
    Dangling(#[serde(with = "raw")] PathBuf),
    /// Links that lead to each other.
    Loop,
    /// Something on the way is no directory.
    Blocked(#[serde(with = "raw")] PathBuf),
    /// It cannot be looked at; the error's number.
    Unknown(i32),
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// Something else.
    Other,
}

/// One part of the way to a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// From the root to here.
    #[serde(with = "raw")]
    pub path: PathBuf,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its permission bits.
    pub mode: u32,
}

/// Room on a file system, for an ordinary user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Space {
    /// Bytes.
    pub free_bytes: u64,
    /// Inodes; where `inodes` is 0 the file system does not count them.
    pub free_inodes: u64,
    /// All of its inodes.
    pub inodes: u64,
}

/// A script's interpreter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interpreter {
    /// As its first line names it.
    #[serde(with = "raw")]
    pub path: PathBuf,
    /// Why the user cannot run it; the error's number.
    pub refused: Option<i32>,
}

/// What is known of a path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// What lies there.
    pub found: Found,
    /// The path itself is a link.
    pub link: bool,
    /// Who decides where the path leads.
    pub trust: Trust,
    /// The path without links, as far as it exists.
    #[serde(with = "raw")]
    pub real: PathBuf,
    /// Every part of `real`, the root first.
    pub way: Vec<Step>,
    /// Why the kernel refuses the user what the path is for; the error's number.
    pub refused: Option<i32>,
    /// What failed when a file was written there, and the error's number.
    pub unwritable: Option<(String, i32)>,
    /// Why the helper could not become the user.
    pub not_switched: Option<i32>,
    /// Room on its file system.
    pub space: Option<Space>,
    /// Its file system is mounted read-only.
    pub read_only: bool,
    /// The interpreter, where it is a script.
    pub interpreter: Option<Interpreter>,
    /// What was made or changed.
    pub done: Vec<String>,
    /// What could not be made or changed, and the error's number.
    pub failed: Option<(String, i32)>,
    /// How long it took, milliseconds.
    pub ms: f64,
}

/// What came back for one ask.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// What is known.
    Facts(Box<Facts>),
    /// Nothing within the limit.
    Silence,
    /// It was not asked any more.
    NotAsked,
    /// There was nobody to ask.
    Nobody(String),
}
