//! One supervisor to a home, and nothing left of the one before.
//!
//! A lock on `.stead/supervisor.lock` lives as long as the supervisor. Who has it may take what carries the cookie in
//! `.stead/app.cookie` for a leftover: processes of an app, and a node, whose supervisor is gone. They are killed
//! before anything else is done, so that no two applications and no two nodes ever write here. The new cookie is noted
//! before the first process is started with it. It is not synced: a power loss leaves no process to be found.
//!
//! The note is one line, `COOKIE DEVICE:INODE BOOT-ID`: beside the cookie it names the lock's file and the machine's boot.
//! A copy of a home has another file, and nothing outlives a boot; such a note names nobody, above all not the
//! processes of the home that was copied.

use super::limits::{LEFTOVER_KILL_LIMIT, LOCK_PATIENCE, LOCK_PAUSE};
use super::notify_socket::NotifySocket;
use app::link::kill_all;
use app::processes::{self, Cookie};
use app::protocol::{APP_COOKIE_VARIABLE, NODE_COOKIE_VARIABLE};
use base::{Clock, Disk, LocalDisk, Open, SystemClock, SystemRandom};
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

const LOCK: &str = "supervisor.lock";
const COOKIE: &str = "app.cookie";
const BOOT: &str = "/proc/sys/kernel/random/boot_id";
/// The most bytes of a note.
const NOTE_LIMIT: u64 = 1024;
/// More than a boot id has characters.
const BOOT_BYTES: usize = 64;
/// More than any pid has digits.
const PID_BYTES: usize = 32;

/// A home that is ours while this lives.
#[derive(Debug)]
pub struct Claim {
    /// What our processes will carry.
    pub cookie: Cookie,
    /// How many leftovers were ended.
    pub ended: usize,
    /// The home's own directory.
    pub place: PathBuf,
    _lock: OwnedFd,
}

/// Why a home could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Another node runs here: leave it, or stop it first (exit code 75).
    #[error("another node runs in {home}{}", pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default())]
    Held {
        /// The home.
        home: String,
        /// Its supervisor.
        pid: Option<u32>,
    },
    /// Leftovers withstand SIGKILL: something they wait for must be mended first (exit code 75).
    #[error("processes of a former run withstand SIGKILL: {0:?}")]
    Left(Vec<u32>),
    /// The home is not usable (exit code 71).
    #[error("{path}: {error}")]
    Io {
        /// Which path.
        path: String,
        /// What the system said.
        error: io::Error,
    },
}

/// Takes the home and ends what a former run has left.
pub fn claim(home: &Path) -> Result<Claim, ClaimError> {
    let disk = LocalDisk;
    let dir = home.join(".stead");
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |error| ClaimError::Io { path, error }
    };
    make_private(&disk, home, &dir).map_err(failed(&dir))?;
    let lock_path = dir.join(LOCK);
    let lock = lock(&lock_path, home)?;
    let note = dir.join(COOKIE);
    let mut ended = 0;
    let place = Place::of(&lock).map_err(failed(&lock_path))?;
    if let Some(former) = former(&disk, &note, &place) {
        let variables = [APP_COOKIE_VARIABLE, NODE_COOKIE_VARIABLE];
        let all = processes::all().map_err(failed(Path::new("/proc")))?;
        ended = processes::carrying(&all, &variables, &former).map_err(failed(Path::new("/proc")))?.len();
        let left = kill_all(&variables, &former, LEFTOVER_KILL_LIMIT).map_err(failed(Path::new("/proc")))?;
        if !left.is_empty() {
            return Err(ClaimError::Left(left));
        }
        NotifySocket::remove_leftover(&former);
        // A name that a pipe of it was given and not yet relieved of.
        let _ = disk.remove_file(&dir.join(former.pipe_name()));
    }
    let cookie = Cookie::random(&SystemRandom);
    write(&disk, &note, &place.note(&cookie)).map_err(failed(&note))?;
    Ok(Claim { cookie, ended, place: dir, _lock: lock })
}

fn make_private(disk: &LocalDisk, home: &Path, dir: &Path) -> io::Result<()> {
    disk.create_dir_all(home)?;
    base::disk::own_directory(dir, 0o700)
}

fn lock(path: &Path, home: &Path) -> Result<OwnedFd, ClaimError> {
    let failed =
        |error: rustix::io::Errno| ClaimError::Io { path: path.display().to_string(), error: error.into() };
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
    let deadline = SystemClock.boottime() + LOCK_PATIENCE;
    let locked = loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::AGAIN) if SystemClock.boottime() < deadline => {
                SystemClock.sleep(LOCK_PAUSE)
            }
            other => break other,
        }
    };
    match locked {
        Ok(()) => {}
        Err(rustix::io::Errno::AGAIN) => {
            let mut bytes = [0; PID_BYTES];
            let count = rustix::io::pread(&file, &mut bytes, 0).unwrap_or(0);
            let pid = str::from_utf8(&bytes[..count]).ok().and_then(|text| text.trim().parse().ok());
            return Err(ClaimError::Held { home: home.display().to_string(), pid });
        }
        Err(error) => return Err(failed(error)),
    }
    rustix::fs::ftruncate(&file, 0).map_err(failed)?;
    rustix::io::pwrite(&file, format!("{}\n", std::process::id()).as_bytes(), 0).map_err(failed)?;
    Ok(file)
}

/// Where and when a note holds.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    device: u64,
    inode: u64,
    boot: String,
}

impl Place {
    /// Here and now. A sandbox that does not say which boot this is has one for all.
    fn of(lock: &OwnedFd) -> io::Result<Place> {
        let stat = rustix::fs::fstat(lock)?;
        let boot = processes::read_file(BOOT, BOOT_BYTES).unwrap_or_default();
        let boot = String::from_utf8_lossy(&boot).trim().to_owned();
        let boot = if boot.is_empty() { "unknown".to_owned() } else { boot };
        Ok(Place { device: stat.st_dev, inode: stat.st_ino, boot })
    }

    fn note(&self, cookie: &Cookie) -> String {
        format!("{cookie} {}:{} {}\n", self.device, self.inode, self.boot)
    }

    /// The cookie of a note that holds here and now.
    fn cookie(&self, note: &str) -> Option<Cookie> {
        let cookie = Cookie::parse(note.split_ascii_whitespace().next()?)?;
        (note == self.note(&cookie)).then_some(cookie)
    }
}

/// A note that cannot be read, or holds elsewhere, names nobody.
fn former(disk: &LocalDisk, note: &Path, place: &Place) -> Option<Cookie> {
    let bytes = base::disk::read(disk, note, NOTE_LIMIT).ok()?;
    place.cookie(str::from_utf8(&bytes).ok()?)
}

fn write(disk: &LocalDisk, note: &Path, text: &str) -> io::Result<()> {
    let beside = base::disk::sibling(note, ".tmp");
    let file = disk.open(&beside, Open::Create { private: true })?;
    file.write_at(text.as_bytes(), 0)?;
    disk.rename(&beside, note)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(device: u64, inode: u64, boot: &str) -> Place {
        Place { device, inode, boot: boot.to_owned() }
    }

    #[test]
    fn a_note_holds_for_one_file_and_one_boot() {
        let here = place(7, 42, "b");
        let cookie = Cookie::random(&SystemRandom);
        let note = here.note(&cookie);
        assert_eq!(note, format!("{cookie} 7:42 b\n"));
        assert_eq!(here.cookie(&note), Some(cookie.clone()));
        for elsewhere in [place(8, 42, "b"), place(7, 43, "b"), place(7, 42, "c")] {
            assert_eq!(elsewhere.cookie(&note), None, "{elsewhere:?}");
        }
        for broken in ["", "x", cookie.as_str(), &note[1..], &format!("{note}x")] {
            assert_eq!(here.cookie(broken), None, "{broken}");
        }
    }
}
