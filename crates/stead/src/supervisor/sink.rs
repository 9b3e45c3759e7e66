//! The supervisor's own standard output and error, written without ever waiting for their reader.
//!
//! Setting O_NONBLOCK on an inherited descriptor would set it for everyone who shares it, the shell included. So a
//! pipe or terminal is opened anew through `/proc/self/fd`, a socket is sent to with MSG_DONTWAIT, and a plain file
//! never waits. What the reader does not take in time is dropped by lines, and the next line says how many; of a line
//! that is longer than what may wait, the beginning has gone out and the rest is dropped.

use super::limits::{SINK_KEPT, SINK_LIMIT};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::SendFlags;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// What a full pipe is sure to take when it says that it takes anything.
const PIPE_SHARE: usize = 4096;

#[derive(Debug)]
enum Target {
    /// A pipe or terminal, opened anew and non-blocking.
    Own(OwnedFd),
    /// A plain file: written directly.
    File(OwnedFd),
    /// A socket.
    Socket(OwnedFd),
    /// Could not be opened anew: written in small portions when poll(2) says so.
    Careful(OwnedFd),
    /// Nobody will ever read it again.
    Gone,
}

impl Target {
    fn of(descriptor: OwnedFd) -> Target {
        match rustix::fs::fstat(&descriptor).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
            Err(_) => Target::Gone,
            Ok(FileType::RegularFile) => Target::File(descriptor),
            Ok(FileType::Socket) => Target::Socket(descriptor),
            Ok(_) => {
                let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
                let path = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
                match rustix::fs::open(path, flags, Mode::empty()) {
                    Ok(own) => Target::Own(own),
                    Err(_) => Target::Careful(descriptor),
                }
            }
        }
    }

    fn descriptor(&self) -> Option<&OwnedFd> {
        match self {
            Target::Own(own) => Some(own),
            Target::File(shared) | Target::Socket(shared) | Target::Careful(shared) => Some(shared),
            Target::Gone => None,
        }
    }
}

/// One of the two.
#[derive(Debug)]
pub struct Sink {
    target: Target,
    waiting: Vec<u8>,
    dropped: u64,
    /// The rest of this line is dropped as well.
    dropping: bool,
    /// What was taken last did not end its line.
    open: bool,
    name: &'static str,
}

impl Sink {
    /// Standard output.
    pub fn stdout() -> Sink {
        Sink::new(&std::io::stdout(), "standard output")
    }

    /// Standard error.
    pub fn stderr() -> Sink {
        Sink::new(&std::io::stderr(), "standard error")
    }

    fn new(stream: &impl AsFd, name: &'static str) -> Sink {
        let target = match rustix::io::fcntl_dupfd_cloexec(stream, 3) {
            Ok(descriptor) => Target::of(descriptor),
            Err(_) => Target::Gone,
        };
        Sink { target, waiting: Vec::new(), dropped: 0, dropping: false, open: false, name }
    }

    /// Takes a line, or a piece of one, and writes what can be written now.
    pub fn offer(&mut self, bytes: &[u8]) {
        let whole = bytes.ends_with(b"\n");
        if self.dropping {
            self.dropping = !whole;
            return;
        }
        if matches!(self.target, Target::Gone) {
            return;
        }
        if self.waiting.len() + bytes.len() > SINK_LIMIT {
            self.flush();
        }
        if self.waiting.len() + bytes.len() > SINK_LIMIT {
            self.dropped += 1;
            self.dropping = !whole;
            return;
        }
        if self.dropped > 0 {
            let lines = std::mem::take(&mut self.dropped);
            let end = if self.open { "\n" } else { "" };
            let note = format!("{end}stead: {lines} lines dropped: nobody reads {} fast enough\n", self.name);
            self.waiting.extend_from_slice(note.as_bytes());
        }
        self.waiting.extend_from_slice(bytes);
        self.open = !whole;
    }

    /// Writes what can be written now.
    pub fn flush(&mut self) {
        let mut written = 0;
        while written < self.waiting.len() {
            match self.write(&self.waiting[written..]) {
                Ok(count) => written += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => {
                    // Broken pipe, terminal gone, disk full: output must not stop the app.
                    if !matches!(self.target, Target::File(_)) {
                        self.target = Target::Gone;
                    }
                    written = self.waiting.len();
                }
            }
        }
        self.waiting.drain(..written);
        if self.waiting.is_empty() {
            self.waiting.shrink_to(SINK_KEPT);
        }
    }

    fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        match &self.target {
            Target::Own(own) => rustix::io::write(own, bytes),
            Target::File(file) => rustix::io::write(file, bytes),
            Target::Socket(socket) => {
                rustix::net::send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
            }
            Target::Careful(shared) => {
                let mut ready = [PollFd::new(shared, PollFlags::OUT)];
                let now = Timespec { tv_sec: 0, tv_nsec: 0 };
                match rustix::event::poll(&mut ready, Some(&now)) {
                    Ok(0) => Err(Errno::AGAIN),
                    Ok(_) => rustix::io::write(shared, &bytes[..bytes.len().min(PIPE_SHARE)]),
                    Err(error) => Err(error),
                }
            }
            Target::Gone => Ok(bytes.len()),
        }
    }

    /// What to wait for before [`Sink::flush`] does more; none where nothing waits.
    pub fn wants(&self) -> Option<&OwnedFd> {
        self.target.descriptor().filter(|_| !self.waiting.is_empty())
    }
}
