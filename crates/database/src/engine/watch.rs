//! Being told: inotify on directories (while no database there is written fast) and on logs (one-shot, while it is idle).
//!
//! A watch on a busy log would cost its writer 10–30 %, one on its directory up to 10 %; an idle one costs nothing.

use base::DatabasePath;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use std::collections::BTreeMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Noticed {
    /// A database's log changed.
    Log(DatabasePath),
    /// A name in a watched directory came, went or was written.
    Directory(PathBuf),
    /// Events were lost: look at everything.
    Lost,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Watched {
    Log(DatabasePath),
    Directory(PathBuf),
}

/// The kernel's watches.
#[derive(Debug)]
pub struct Watch {
    fd: OwnedFd,
    end: OwnedFd,
    watched: Mutex<BTreeMap<i32, Watched>>,
}

impl Watch {
    /// Makes one.
    pub fn new() -> io::Result<Watch> {
        Ok(Watch {
            fd: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?,
            end: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            watched: Mutex::new(BTreeMap::new()),
        })
    }

    /// Says once when the database's log changes.
    pub fn log_once(&self, path: &DatabasePath, log: &Path) -> io::Result<()> {
        let flags = WatchFlags::MODIFY | WatchFlags::ONESHOT;
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let wd = inotify::add_watch(&self.fd, log, flags)?;
        watched.insert(wd, Watched::Log(path.clone()));
        Ok(())
    }

    /// Says whenever names come and go in a directory.
    pub fn directory(&self, dir: &Path) -> io::Result<()> {
        let flags = WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::ONLYDIR;
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let wd = inotify::add_watch(&self.fd, dir, flags)?;
        watched.insert(wd, Watched::Directory(dir.to_owned()));
        Ok(())
    }

    /// Says no more when names come and go in a directory.
    pub fn leave(&self, dir: &Path) {
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |kept: &&Watched| matches!(kept, Watched::Directory(kept) if kept == dir);
        for (wd, _) in watched.iter().filter(|(_, kept)| is_it(kept)) {
            // It is gone already where the directory is.
            let _ = inotify::remove_watch(&self.fd, *wd);
        }
    }

    /// Makes [`Watch::run`] return.
    pub fn stop(&self) {
        // The counter can only be full when it has been told already.
        let _ = rustix::io::write(&self.end, &1u64.to_ne_bytes());
    }

    /// Waits for events and hands them on, until [`Watch::stop`].
    pub fn run(&self, mut hand: impl FnMut(Noticed)) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        let mut reader = inotify::Reader::new(&self.fd, &mut buffer);
        loop {
            let (wd, flags) = match reader.next() {
                Ok(event) => (event.wd(), event.events()),
                Err(rustix::io::Errno::INTR) => continue,
                Err(rustix::io::Errno::AGAIN) => {
                    if self.wait_ended()? {
                        return Ok(());
                    }
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let noticed = if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                Some(Noticed::Lost)
            } else {
                self.meaning(wd, flags)
            };
            if let Some(noticed) = noticed {
                hand(noticed);
            }
        }
    }

    /// Waits until there are events, or (`true`) until it is to end.
    fn wait_ended(&self) -> io::Result<bool> {
        let mut ready = [PollFd::new(&self.fd, PollFlags::IN), PollFd::new(&self.end, PollFlags::IN)];
        match poll(&mut ready, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(!ready[1].revents().is_empty()),
            Err(error) => Err(error.into()),
        }
    }

    fn meaning(&self, wd: i32, flags: ReadFlags) -> Option<Noticed> {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if flags.contains(ReadFlags::IGNORED) {
            watched.remove(&wd);
            return None;
        }
        match watched.get(&wd)? {
            Watched::Log(path) => Some(Noticed::Log(path.clone())),
            Watched::Directory(dir) => Some(Noticed::Directory(dir.clone())),
        }
    }
}
