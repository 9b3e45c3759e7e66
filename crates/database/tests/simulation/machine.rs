//! What the engine runs on: the simulated disk, clock and kernel, with a turn for others between its calls.
//!
//! Everything that the engine asks of its machine is a point at which an application may have acted meanwhile. The
//! world puts its applications there ([`Meanwhile`]); the engine's own calls inside such a turn give none.

use base::sim::{Process, SimClock, SimDisk};
use base::{Clock, Disk, DiskFile, Open, Timestamp, disk};
use database::machine::{Holder, Kernel, Locks};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The engine's process.
pub const NODE: Process = Process::FIRST;

type Turn = Box<dyn FnMut()>;

thread_local! {
    static TURN: RefCell<Option<Turn>> = const { RefCell::new(None) };
}

/// Others act at every point until this is dropped.
pub struct Meanwhile;

impl Meanwhile {
    pub fn others(turn: impl FnMut() + 'static) -> Meanwhile {
        TURN.with(|slot| *slot.borrow_mut() = Some(Box::new(turn)));
        Meanwhile
    }
}

impl Drop for Meanwhile {
    fn drop(&mut self) {
        TURN.with(|slot| slot.borrow_mut().take());
    }
}

/// A point at which others may act.
pub fn point() {
    let Some(mut turn) = TURN.with(|slot| slot.borrow_mut().take()) else { return };
    turn();
    TURN.with(|slot| *slot.borrow_mut() = Some(turn));
}

/// The disk, seen by the engine.
#[derive(Debug)]
pub struct SharedDisk(pub SimDisk);

impl Disk for SharedDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>> {
        point();
        Ok(Box::new(SharedFile(self.0.open(path, how)?)))
    }
    fn metadata(&self, path: &Path) -> io::Result<disk::Metadata> {
        self.0.metadata(path)
    }
    fn read_dir(&self, path: &Path) -> io::Result<Vec<disk::Entry>> {
        self.0.read_dir(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        point();
        self.0.rename(from, to)
    }
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename_new(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.0.remove_file(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.0.remove_dir(path)
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.0.create_dir_all(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        point();
        self.0.sync_dir(path)
    }
    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.0.free_bytes(path)
    }
}

#[derive(Debug)]
struct SharedFile(Box<dyn DiskFile>);

impl DiskFile for SharedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(bytes, offset)
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn sync(&self) -> io::Result<()> {
        point();
        self.0.sync()
    }
    fn set_modified(&self, unix_ms: i64) -> io::Result<()> {
        self.0.set_modified(unix_ms)
    }
}

/// The clock, seen by the engine: boot time starts anew with every boot.
#[derive(Debug)]
pub struct SharedClock {
    pub clock: SimClock,
    pub booted: Duration,
}

impl Clock for SharedClock {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }
    fn boottime(&self) -> Duration {
        point();
        // Whoever asks again and again until a time has come must see it come.
        self.clock.advance(Duration::from_micros(10));
        self.clock.boottime().saturating_sub(self.booted)
    }
    fn sleep(&self, how_long: Duration) {
        point();
        self.clock.advance(how_long);
    }
}

/// The kernel, seen by the engine.
#[derive(Debug)]
pub struct SharedKernel {
    pub disk: SimDisk,
    pub boots: Arc<AtomicU64>,
}

impl Kernel for SharedKernel {
    fn locks(&self, database: &Path) -> io::Result<Box<dyn Locks>> {
        Ok(Box::new(SharedLocks { disk: self.disk.clone(), database: database.to_owned() }))
    }
    fn boot_id(&self) -> String {
        format!("boot-{}", self.boots.load(Ordering::Relaxed))
    }
    fn openers(&self, path: &Path) -> Vec<u32> {
        let mut processes: BTreeSet<Process> = self.disk.opened_by(path);
        processes.remove(&NODE);
        processes.into_iter().map(|process| process.0).collect()
    }
}

#[derive(Debug)]
struct SharedLocks {
    disk: SimDisk,
    database: PathBuf,
}

impl SharedLocks {
    fn holder(&self, index: u8) -> Option<Holder> {
        point();
        let holder = self.disk.lock_holder(&self.database, index, NODE);
        point();
        holder.map(|process| Holder(process.0))
    }
}

impl Locks for SharedLocks {
    fn writer(&self) -> Option<Holder> {
        self.holder(0)
    }
    fn checkpointer(&self) -> Option<Holder> {
        self.holder(1)
    }
    fn others(&self) -> Option<Holder> {
        self.holder(8)
    }
}
