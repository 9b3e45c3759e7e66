//! The simulated disk: what a test holds in its hand.

use super::clock::SimClock;
use super::file::SimFile;
use super::locks::Handle;
use super::machine::{Access, Machine};
use super::names::Ino;
use super::process::Process;
use super::random::SimRandom;
use super::script::Op;
use crate::disk::{Disk, DiskFile, Entry, Metadata, Open};
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// The disk of one simulated machine. A clone is the same disk.
///
/// What a thread opens belongs to its [`Process::current`].
#[derive(Clone)]
pub struct SimDisk {
    pub(super) machine: Arc<Machine>,
}

impl SimDisk {
    /// An empty disk: `/` and nothing in it. The random stream is what SQLite asks this machine for.
    pub fn new(clock: SimClock, random: SimRandom) -> SimDisk {
        SimDisk { machine: Arc::new(Machine::new(clock, random)) }
    }

    /// The machine's clock.
    pub fn clock(&self) -> &SimClock {
        &self.machine.clock
    }

    /// The machine's randomness.
    pub fn random(&self) -> &SimRandom {
        &self.machine.random
    }

    /// Pulls the plug, and starts the machine again: every handle is dead, memory is gone, and of what was not synced
    /// the seed decides (files by the sector, names of a directory as a prefix of their changes).
    pub fn crash_power(&self, choices: &SimRandom) {
        let mut state = self.machine.state();
        state.handles.crash(|_| true);
        state.tree.lose_power(choices);
        state.script.restart();
    }

    /// Kills one process: its handles are dead, its locks are free, every byte stays. A halted machine runs again.
    pub fn crash_process(&self, process: Process) {
        self.crash_where(|one| one == process);
    }

    /// Kills all processes, as [`SimDisk::crash_process`] does one.
    pub fn crash_processes(&self) {
        self.crash_where(|_| true);
    }

    fn move_name(&self, from: &Path, to: &Path, replace: bool) -> io::Result<()> {
        let state = &mut *self.machine.state();
        state.script.alive()?;
        let now = state.now_ns();
        state.tree.rename(&mut state.script, from, to, replace, now)
    }

    fn crash_where(&self, dies: impl Fn(Process) -> bool) {
        let mut state = self.machine.state();
        state.handles.crash(|handle| dies(handle.process));
        let held = state.held();
        state.tree.collect(&held);
        if state.script.alive().is_err() {
            state.script.restart();
        }
    }

    /// Limits the sum of all file lengths. What goes past it fails with ENOSPC, after what still fits was written.
    pub fn set_capacity(&self, bytes: u64) {
        self.machine.state().capacity_bytes = bytes;
    }

    /// Lengths of all files, bytes.
    pub fn used_bytes(&self) -> u64 {
        let state = self.machine.state();
        state.tree.used_bytes(&state.held())
    }

    /// Fails the `n`-th operation of a kind from now on (from 1), once.
    pub fn fail_nth(&self, op: Op, n: u64, errno: i32) {
        self.machine.state().script.fail(op, "", n.saturating_sub(1), 1, errno);
    }

    /// Fails every operation of a kind on paths that end so, until [`SimDisk::clear_failures`]. An operation on a name
    /// (create, rename, unlink) is known by the last part of the path only.
    pub fn fail_each(&self, op: Op, path_ends: &str, errno: i32) {
        self.machine.state().script.fail(op, path_ends, 0, u64::MAX, errno);
    }

    /// Fails every sync of files whose path ends so, until [`SimDisk::clear_failures`]. What was not synced stays
    /// undecided: a later sync that succeeds makes it durable.
    pub fn fail_sync(&self, path_ends: &str, errno: i32) {
        self.fail_each(Op::Sync, path_ends, errno);
    }

    /// Syncs a directory as SQLite does for a new journal or log.
    pub(super) fn sync_dir_unheard(&self, path: &Path) -> io::Result<()> {
        self.machine.state().sync_dir(path, Op::SyncDirUnheard)
    }

    /// Takes all scripted failures back.
    pub fn clear_failures(&self) {
        self.machine.state().script.clear();
    }

    /// Steps taken so far: creates, writes, truncates, syncs, renames, unlinks, directory syncs.
    pub fn steps(&self) -> u64 {
        self.machine.state().script.steps()
    }

    /// The machine dies when it takes step `n` (the first ever is 1): that operation and all later ones, reads and locks
    /// included, fail with [`super::Gone::Machine`] until a crash starts it again.
    pub fn halt_at_step(&self, n: u64) {
        self.machine.state().script.halt_at(n);
    }

    /// Another process than `me` that holds a wal-index lock of this database, shared or exclusive: 0 WRITE, 1 CKPT,
    /// 2 RECOVER, 3 to 7 READ0 to READ4; 8 is held by whoever has the wal-index open.
    pub fn lock_holder(&self, database: &Path, shm_lock_index: u8, me: Process) -> Option<Process> {
        let state = self.machine.state();
        let ino = state.tree.lookup(database).ok()?;
        state.handles.shm_holder(ino, shm_lock_index, me)
    }

    /// The processes that have a file open, as `/proc/PID/fd` would tell.
    pub fn opened_by(&self, path: &Path) -> BTreeSet<Process> {
        let state = self.machine.state();
        let Ok(ino) = state.tree.lookup(path) else { return BTreeSet::new() };
        let opened =
            |handle: &&Handle| handle.ino == ino || handle.shm.as_ref().is_some_and(|shm| shm.ino == ino);
        state.handles.iter().filter(opened).map(|handle| handle.process).collect()
    }
}

impl Default for SimDisk {
    /// A fresh machine with the default clock and seed 0.
    fn default() -> SimDisk {
        SimDisk::new(SimClock::default(), SimRandom::new(0))
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimDisk").field("steps", &self.steps()).finish_non_exhaustive()
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>> {
        let access = match how {
            Open::Read => Access { write: false, create: false, exclusive: false, truncate: false },
            Open::Write => Access { write: true, create: false, exclusive: false, truncate: false },
            Open::Create { private: _ } => {
                Access { write: true, create: true, exclusive: false, truncate: true }
            }
            Open::CreateNew => Access { write: true, create: true, exclusive: true, truncate: false },
        };
        let id = self.machine.state().open(path, access, Process::current())?;
        Ok(Box::new(SimFile { machine: Arc::clone(&self.machine), id }))
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let state = self.machine.state();
        state.script.alive()?;
        let ino = state.tree.lookup(path)?;
        let inode = state.tree.get(ino)?;
        Ok(Metadata {
            len: inode.len(),
            is_dir: inode.is_dir(),
            is_file: !inode.is_dir(),
            device: 0,
            inode: ino.0,
            modified_ns: inode.times.modified_ns,
            changed_ns: inode.times.changed_ns,
        })
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let state = self.machine.state();
        state.script.alive()?;
        let names = state.tree.names(state.tree.lookup(path)?)?;
        let entry = |(name, ino): (&String, &Ino)| {
            let is_dir = state.tree.get(*ino)?.is_dir();
            Ok(Entry { name: name.clone(), is_dir })
        };
        names.live().iter().map(entry).collect()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.move_name(from, to, true)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.move_name(from, to, false)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let state = &mut *self.machine.state();
        state.script.alive()?;
        let now = state.now_ns();
        state.tree.unlink(&mut state.script, path, false, now)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let state = &mut *self.machine.state();
        state.script.alive()?;
        let now = state.now_ns();
        state.tree.unlink(&mut state.script, path, true, now)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let state = &mut *self.machine.state();
        state.script.alive()?;
        let now = state.now_ns();
        state.tree.create_dir_all(&mut state.script, path, now)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.machine.state().sync_dir(path, Op::SyncDir)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let state = self.machine.state();
        state.script.alive()?;
        state.tree.lookup(path)?;
        Ok(state.free_bytes())
    }
}
