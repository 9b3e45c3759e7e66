//! The socket on which an app says that it is ready, as sd_notify(3) has it.
//!
//! It lies in a directory of its own that everybody may pass and nobody may list, where the app's user reaches it even if
//! the home is private; it belongs to that user, and nobody else but root can send. What is said counts only from a
//! process of the app: the kernel says who sent it. A sender that has ended before it was looked at counts by its user.

use super::datagram::{Datagram, receive};
use app::processes::{Cookie, Process};
use base::SystemRandom;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use rustix::process::{Gid, Uid};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The characters of the cookie in the directory's name, and of what is fresh in it.
const NAME_CHARS: usize = 12;
/// The most names that are tried in a place.
const NAMES_MAX: usize = 8;
const SOCKET: &str = "notify";

/// An open socket; its name is gone when it is dropped.
#[derive(Debug)]
pub struct NotifySocket {
    descriptor: OwnedFd,
    directory: PathBuf,
    owner: u32,
}

/// What a process has said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notice {
    /// `READY=1`
    pub ready: bool,
    /// `STOPPING=1`
    pub stopping: bool,
    /// `STATUS=…`
    pub status: Option<String>,
    /// `MAINPID=…`
    pub main: Option<u32>,
    /// `EXTEND_TIMEOUT_USEC=…`
    pub extend: Option<Duration>,
}

impl NotifySocket {
    /// Opens one that a user can send to.
    pub fn open(cookie: &Cookie, user: Option<(u32, u32)>) -> io::Result<NotifySocket> {
        let own = rustix::process::geteuid();
        let mut refused = io::Error::from(io::ErrorKind::NotFound);
        for place in places() {
            let fresh = || place.join(format!("{}{}", prefix(cookie), short(&Cookie::random(&SystemRandom))));
            let made = make(std::iter::repeat_with(fresh).take(NAMES_MAX));
            match made.and_then(|directory| {
                let bound = bind(&directory, user).inspect_err(|_| remove(&directory));
                bound.map(|descriptor| (directory, descriptor))
            }) {
                Ok((directory, descriptor)) => {
                    let owner = user.map_or(own.as_raw(), |(uid, _)| uid);
                    return Ok(NotifySocket { descriptor, directory, owner });
                }
                Err(error) => refused = io::Error::other(format!("{}: {error}", place.display())),
            }
        }
        Err(refused)
    }

    /// Removes what a supervisor that was killed has left.
    pub fn remove_leftover(former: &Cookie) {
        for place in places() {
            for directory in named(&place, &prefix(former)) {
                remove(&directory);
            }
        }
    }

    /// Its name, for the app.
    pub fn path(&self) -> PathBuf {
        self.directory.join(SOCKET)
    }

    /// Becomes readable with a notice.
    pub fn descriptor(&self) -> &OwnedFd {
        &self.descriptor
    }

    /// What has been said, at most so many datagrams of it. Whether it counts is judged afterwards, by one look at the
    /// processes that serves all of it and sees every sender that still lives.
    pub fn take(&self, most: usize) -> Vec<Datagram> {
        std::iter::from_fn(|| receive(&self.descriptor)).take(most).collect()
    }

    /// The notice, where it counts; `is_app` knows the app's living processes.
    pub fn judge(&self, said: &Datagram, is_app: impl Fn(u32) -> bool) -> Option<Notice> {
        let (pid, uid) = said.sender?;
        let gone = || Process::find(pid).is_ok_and(|found| found.is_none_or(|process| !process.alive));
        (is_app(pid) || (uid == self.owner && gone())).then(|| parse(&said.bytes))
    }
}

impl Drop for NotifySocket {
    fn drop(&mut self) {
        remove(&self.directory);
    }
}

/// Where there may be a directory that the app's user can pass, best first.
fn places() -> Vec<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let root = rustix::process::geteuid().is_root();
    let own = if root { Some(PathBuf::from("/run")) } else { runtime.filter(|path| path.is_absolute()) };
    own.into_iter().chain([PathBuf::from("/tmp")]).collect()
}

/// How the names of this supervisor's directories begin. They end in something fresh each time: between two starts of
/// the app nobody knows the next one, to put something of his own there.
fn prefix(cookie: &Cookie) -> String {
    format!("stead-{}-", short(cookie))
}

fn short(cookie: &Cookie) -> &str {
    cookie.as_str().get(..NAME_CHARS).unwrap_or_default()
}

/// Makes the first directory whose name is free.
fn make(names: impl Iterator<Item = PathBuf>) -> rustix::io::Result<PathBuf> {
    let mut made = Err(Errno::EXIST);
    for directory in names {
        made = rustix::fs::mkdir(&directory, Mode::RWXU).map(|()| directory);
        if !matches!(made, Err(Errno::EXIST)) {
            break;
        }
    }
    made
}

/// What has such a name in a place.
fn named(place: &Path, prefix: &str) -> Vec<PathBuf> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(place, flags, Mode::empty());
    let Ok(entries) = opened.and_then(rustix::fs::Dir::new) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().to_str().ok().map(str::to_owned));
    names.filter(|name| name.starts_with(prefix)).map(|name| place.join(name)).collect()
}

/// Nobody may pass the directory before the socket is its user's.
fn bind(directory: &Path, user: Option<(u32, u32)>) -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    sockopt::set_socket_passcred(&socket, true)?;
    let path = directory.join(SOCKET);
    rustix::net::bind(&socket, &SocketAddrUnix::new(&path)?)?;
    rustix::fs::chmod(&path, Mode::RUSR | Mode::WUSR)?;
    if let Some((uid, gid)) = user {
        rustix::fs::chown(&path, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    rustix::fs::chmod(directory, Mode::RWXU | Mode::XGRP | Mode::XOTH)?;
    Ok(socket)
}

/// Only through a directory that is ours: somebody may have put a link in its place.
fn remove(directory: &Path) {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
    let Ok(opened) = rustix::fs::open(directory, flags, Mode::empty()) else { return };
    let own = rustix::process::geteuid().as_raw();
    if rustix::fs::fstat(&opened).is_ok_and(|found| found.st_uid == own) {
        let _ = rustix::fs::unlinkat(&opened, SOCKET, AtFlags::empty());
        let _ = rustix::fs::rmdir(directory);
    }
}

/// Lines of `KEY=VALUE`; what is not known is left out.
fn parse(bytes: &[u8]) -> Notice {
    let mut notice = Notice::default();
    for line in String::from_utf8_lossy(bytes).lines() {
        match line.split_once('=') {
            Some(("READY", "1")) => notice.ready = true,
            Some(("STOPPING", "1")) => notice.stopping = true,
            Some(("STATUS", text)) => notice.status = Some(text.to_owned()),
            Some(("MAINPID", text)) => notice.main = text.parse().ok(),
            Some(("EXTEND_TIMEOUT_USEC", text)) => {
                notice.extend = text.parse().ok().map(Duration::from_micros);
            }
            _ => {}
        }
    }
    notice
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn a_notice_is_lines_of_keys_and_values() {
        let notice = parse(b"STATUS=3 of 7\nREADY=1\nMAINPID=12\nEXTEND_TIMEOUT_USEC=1500000\nno line");
        assert_eq!(
            notice,
            Notice {
                ready: true,
                stopping: false,
                status: Some("3 of 7".into()),
                main: Some(12),
                extend: Some(Duration::from_millis(1500)),
            }
        );
        assert_eq!(parse(b"READY=0\nSTOPPING=1\xff\nMAINPID=-1\nEXTEND_TIMEOUT_USEC=-1"), Notice::default());
        assert_eq!(parse(b""), Notice::default());
    }

    fn opened() -> (Cookie, NotifySocket, UnixDatagram) {
        let cookie = Cookie::random(&SystemRandom);
        let socket = NotifySocket::open(&cookie, None).unwrap();
        (cookie, socket, UnixDatagram::unbound().unwrap())
    }

    #[test]
    fn what_a_stranger_says_does_not_count_and_the_name_goes_with_the_socket() {
        let (cookie, socket, sender) = opened();
        let path = socket.path();
        sender.send_to(b"READY=1", &path).unwrap();
        sender.send_to(b"READY=1", &path).unwrap();
        let own = std::process::id();
        let [said] = &socket.take(1)[..] else { panic!("no datagram") };
        assert_eq!(socket.judge(said, |_| false), None);
        assert!(socket.judge(said, |pid| pid == own).unwrap().ready);
        assert_eq!(
            (socket.take(10).len(), socket.take(10).len()),
            (1, 0),
            "no more than asked for at a time"
        );
        drop(socket);
        assert!(!path.parent().unwrap().exists());

        let left = NotifySocket::open(&cookie, None).unwrap();
        let again = left.path();
        assert_ne!(again, path, "nobody knows the next name");
        std::mem::forget(left);
        NotifySocket::remove_leftover(&cookie);
        assert!(!again.parent().unwrap().exists());
    }

    #[test]
    fn a_name_that_somebody_has_taken_is_left_alone_and_another_is_used() {
        let place = tempfile::tempdir().unwrap();
        let [taken, free] = ["taken", "free"].map(|name| place.path().join(name));
        assert_eq!(make([taken.clone()].into_iter()).unwrap(), taken);
        assert_eq!(make([taken.clone(), free.clone()].into_iter()).unwrap(), free);
        assert_eq!(make([taken, free].into_iter()).unwrap_err(), Errno::EXIST);
    }
}
