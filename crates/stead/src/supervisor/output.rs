//! The app's standard output and error: read as they come, passed on by lines, the last ones kept.
//!
//! The supervisor holds the read ends, so the app neither waits nor gets SIGPIPE while no node runs. What is kept
//! survives the node, and the app's restarts. The pipes have a name for a moment, by which everyone who writes to them
//! can be told from others ([`app::processes`]).

use super::limits::{KEPT_BYTES_LIMIT, LINE_LIMIT, READ_SHARE};
use super::sink::Sink;
use app::processes::Cookie;
use app::protocol::{LINES_BYTES_LIMIT, LINES_KEPT, LogLine, Stream};
use base::{Clock, SystemClock};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Both streams.
#[derive(Debug)]
pub struct Output {
    streams: [Channel; 2],
    /// Where pipes get their name.
    name: PathBuf,
    count: u64,
    /// What the supervisor itself says is a JSON object a line.
    pub json: bool,
}

#[derive(Debug)]
struct Channel {
    stream: Stream,
    pipe: Option<OwnedFd>,
    partial: Vec<u8>,
    /// What was passed on last did not end its line.
    cut: bool,
    kept: VecDeque<(u64, LogLine)>,
    kept_bytes: usize,
    sink: Sink,
}

impl Output {
    /// No app yet; its pipes will have their name in this directory.
    pub fn new(place: &Path, cookie: &Cookie) -> Output {
        let channel = |stream, sink| Channel {
            stream,
            pipe: None,
            partial: Vec::new(),
            cut: false,
            kept: VecDeque::new(),
            kept_bytes: 0,
            sink,
        };
        let streams = [channel(Stream::Stdout, Sink::stdout()), channel(Stream::Stderr, Sink::stderr())];
        Output { streams, name: place.join(cookie.pipe_name()), count: 0, json: false }
    }

    /// New pipes for a start of the app: their write ends.
    pub fn open(&mut self) -> io::Result<[OwnedFd; 2]> {
        let (out_read, out_write) = self.pipe()?;
        let (err_read, err_write) = self.pipe()?;
        for (channel, pipe) in self.streams.iter_mut().zip([out_read, err_read]) {
            rustix::io::ioctl_fionbio(&pipe, true)?;
            channel.pipe = Some(pipe);
        }
        Ok([out_write, err_write])
    }

    /// A pipe that had a name; one without where the directory takes none (a full disk), since the name is a help only.
    fn pipe(&self) -> io::Result<(OwnedFd, OwnedFd)> {
        // Left by a supervisor that was killed in between.
        let _ = rustix::fs::unlink(&self.name);
        let named = (|| {
            rustix::fs::mknodat(CWD, &self.name, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
            let flags = OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let read =
                rustix::fs::open(&self.name, OFlags::RDONLY | OFlags::NONBLOCK | flags, Mode::empty())?;
            let write = rustix::fs::open(&self.name, OFlags::WRONLY | flags, Mode::empty())?;
            Ok((read, write))
        })();
        let _ = rustix::fs::unlink(&self.name);
        named.or_else(|_: Errno| Ok(rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?))
    }

    /// No process of the app is left: takes what is in the pipes and closes them.
    pub fn close(&mut self) {
        for channel in &mut self.streams {
            // A process that escaped every search could write for ever.
            for _ in 0..16 {
                if !channel.read(&mut self.count) {
                    break;
                }
            }
            channel.end(&mut self.count);
        }
    }

    /// Says something of the supervisor's own, in the form of the node's log.
    pub fn say(&mut self, event: &str, text: &str) {
        let line = if self.json {
            serde_json::json!({
                "timestamp": SystemClock.now().rfc3339(), "level": "WARN", "event": event, "message": text,
                "target": "supervisor",
            })
            .to_string()
        } else {
            format!("stead: {text}")
        };
        let [_, stderr] = &mut self.streams;
        stderr.sink.offer(format!("{line}\n").as_bytes());
        stderr.sink.flush();
    }

    /// Reads what there is, a share of it at a time, and writes what can be written.
    pub fn pump(&mut self) {
        for channel in &mut self.streams {
            channel.read(&mut self.count);
            channel.sink.flush();
        }
    }

    /// What can be read.
    pub fn sources(&self) -> impl Iterator<Item = &OwnedFd> {
        self.streams.iter().filter_map(|channel| channel.pipe.as_ref())
    }

    /// Where something waits to be written.
    pub fn sinks(&self) -> impl Iterator<Item = &Sink> {
        self.streams.iter().map(|channel| &channel.sink)
    }

    /// Where the last lines are.
    pub fn last(&self, lines: usize, stream: Option<Stream>) -> Stretch {
        let found = self.kept(stream, 0, self.count);
        let skipped = found.len().saturating_sub(lines);
        let first = found.get(skipped).map_or(self.count + 1, |(count, _)| *count);
        Stretch { next: first, last: self.count, stream }
    }

    /// As many lines of a stretch as fit into a message, oldest first. Those that are not kept any more are left out.
    pub fn portion(&self, stretch: &mut Stretch) -> Vec<LogLine> {
        let mut portion: Vec<LogLine> = Vec::new();
        let mut bytes = 0;
        for (count, line) in self.kept(stretch.stream, stretch.next, stretch.last) {
            bytes += line.text.len();
            if bytes > LINES_BYTES_LIMIT && !portion.is_empty() {
                stretch.next = *count;
                return portion;
            }
            portion.push(line.clone());
        }
        stretch.next = stretch.last + 1;
        portion
    }

    fn kept(&self, stream: Option<Stream>, first: u64, last: u64) -> Vec<&(u64, LogLine)> {
        let wanted =
            self.streams.iter().filter(|channel| stream.is_none_or(|stream| stream == channel.stream));
        let kept = wanted.flat_map(|channel| &channel.kept);
        let mut found: Vec<_> = kept.filter(|(count, _)| (first..=last).contains(count)).collect();
        found.sort_unstable_by_key(|(count, _)| *count);
        found
    }

    #[cfg(test)]
    pub fn keep(&mut self, stream: Stream, text: &str) {
        let channel = self.streams.iter_mut().find(|channel| channel.stream == stream);
        channel.unwrap().keep(text.as_bytes(), &mut self.count);
    }
}

/// Lines that follow one another, by their numbers.
#[derive(Clone, Copy, Debug)]
pub struct Stretch {
    next: u64,
    last: u64,
    stream: Option<Stream>,
}

impl Stretch {
    /// None of it is left.
    pub fn is_done(&self) -> bool {
        self.next > self.last
    }
}

impl Channel {
    /// Takes at most a share; false where there is no more now.
    fn read(&mut self, count: &mut u64) -> bool {
        let mut buffer = [0; 16 << 10];
        let mut taken = 0;
        while taken < READ_SHARE {
            let Some(pipe) = &self.pipe else {
                return false;
            };
            match rustix::io::read(pipe, &mut buffer) {
                Ok(0) => {
                    self.end_partial(count);
                    self.pipe = None;
                    return false;
                }
                Ok(got) => {
                    taken += got;
                    self.take(&buffer[..got], count);
                }
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
        true
    }

    fn take(&mut self, bytes: &[u8], count: &mut u64) {
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            self.partial.extend_from_slice(piece);
            let whole = piece.ends_with(b"\n");
            if whole || self.partial.len() >= LINE_LIMIT {
                let line = std::mem::take(&mut self.partial);
                self.sink.offer(&line);
                let text = line.strip_suffix(b"\n").unwrap_or(&line);
                if text.is_empty() && !self.cut {
                    self.keep(b"", count);
                }
                for part in text.chunks(LINE_LIMIT) {
                    self.keep(part, count);
                }
                self.cut = !whole;
            }
        }
    }

    fn keep(&mut self, text: &[u8], count: &mut u64) {
        *count += 1;
        let text = String::from_utf8_lossy(text).into_owned();
        self.kept_bytes += text.len();
        self.kept.push_back((*count, LogLine { time: SystemClock.now(), stream: self.stream, text }));
        while self.kept.len() > LINES_KEPT || self.kept_bytes > KEPT_BYTES_LIMIT {
            let Some((_, gone)) = self.kept.pop_front() else {
                break;
            };
            self.kept_bytes -= gone.text.len();
        }
    }

    /// A last line without its newline gets one, or the next start's first line would go on where it stopped.
    fn end_partial(&mut self, count: &mut u64) {
        if !self.partial.is_empty() || self.cut {
            self.take(b"\n", count);
        }
    }

    fn end(&mut self, count: &mut u64) {
        self.end_partial(count);
        self.pipe = None;
        self.sink.flush();
    }
}
