//! Reading new frames of the log, each checked against its salts and the running checksum.

use super::{Live, SealError};
use crate::sqlite::Participant;
use crate::tail::{Changed, Source};
use crate::wal::{self, FRAME_HEADER_LEN, HEADER_LEN, Running, Salts, WalHeader, WalPosition};

/// Bytes of the log read at once.
const CHUNK_BYTES: usize = 256 << 10;

/// Where capture is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// At the end of the log that was asked for.
    AtEnd,
    /// After the next transaction.
    AfterCommit,
}

/// Where captured pages stay until they are sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// In the log, which a mark holds.
    InLog,
    /// In memory, since the log may start over at any time.
    InMemory,
}

/// How far the log has been captured.
#[derive(Clone, Copy, Debug)]
pub struct Log {
    salts: Salts,
    frame: u32,
    running: Running,
    big_endian: bool,
    /// Frames of this log that the last seal covers.
    pub sealed: u32,
    moved: bool,
}

impl Log {
    /// At the start of a log of which only the salts are known.
    pub fn at_start(salts: Salts) -> Log {
        Log { salts, frame: 0, running: Running(0, 0), big_endian: false, sealed: 0, moved: false }
    }

    /// After frame `at.frame`, whose header is read from the log; `None` where it is not there.
    pub fn after(reader: &Participant, at: WalPosition, page_size: u32) -> Option<Log> {
        if at.frame == 0 {
            return Some(Log::at_start(at.salts));
        }
        let header = read_header(reader)?;
        let mut head = [0; FRAME_HEADER_LEN as usize];
        reader.read_wal(&mut head, wal::frame_offset(at.frame, page_size)).ok()?;
        let (salts, running) = wal::claimed(&head);
        (salts == at.salts && header.salts == at.salts && header.page_size == page_size).then_some(Log {
            salts,
            frame: at.frame,
            running,
            big_endian: header.big_endian,
            sealed: at.frame,
            moved: false,
        })
    }

    /// Where capture stands.
    pub fn at(&self) -> WalPosition {
        WalPosition { salts: self.salts, frame: self.frame }
    }

    /// The running checksum there.
    pub fn running(&self) -> Running {
        self.running
    }

    /// Whether frames were captured since this was last asked.
    pub fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }
}

/// The log's header, where it is one.
pub fn read_header(reader: &Participant) -> Option<WalHeader> {
    let mut head = [0; HEADER_LEN as usize];
    reader.read_wal(&mut head, 0).ok()?;
    WalHeader::parse(&head)
}

impl Live {
    /// Captures to this end of the log. `false`: the log broke, a page diff is due now.
    pub(super) fn follow(&mut self, end: WalPosition) -> Result<bool, SealError> {
        self.follow_through(end, Stop::AtEnd)
    }

    /// Captures the next transaction of the log and nothing behind it.
    pub(super) fn follow_one(&mut self, end: WalPosition) -> Result<bool, SealError> {
        self.follow_through(end, Stop::AfterCommit)
    }

    fn follow_through(&mut self, end: WalPosition, stop: Stop) -> Result<bool, SealError> {
        if end.salts != self.log.salts {
            if !self.may_have_started_over() {
                return Ok(self.broke("the write-ahead log was reset while Stead did not hold it"));
            }
            self.log = Log::at_start(end.salts);
            self.save_cursor();
        }
        if end.frame < self.log.frame {
            return Ok(self.broke("the write-ahead log became shorter"));
        }
        if self.read_on(end, stop, Keep::InLog)? {
            return Ok(true);
        }
        Ok(self.broke("a committed frame of the write-ahead log does not add up"))
    }

    /// Captures from where capture stands to this end of the same log; `false`: its frames are not there.
    pub(super) fn read_on(&mut self, end: WalPosition, stop: Stop, keep: Keep) -> Result<bool, SealError> {
        if end.frame == self.log.frame {
            return Ok(true);
        }
        if self.log.frame == 0 {
            match read_header(self.marks.held()) {
                Some(header) if header.salts == end.salts && header.page_size == self.sums.page_size() => {
                    self.log.running = header.running;
                    self.log.big_endian = header.big_endian;
                }
                Some(header) if header.page_size != self.sums.page_size() => {
                    return Err(SealError::PageSize { now: header.page_size, was: self.sums.page_size() });
                }
                _ => return Ok(false),
            }
        }
        self.read_frames(end.frame, stop, keep)
    }

    fn may_have_started_over(&self) -> bool {
        let at = self.marks.at();
        let exactly_there = at == self.log.at() || (self.log.salts != at.salts && self.log.frame == 0);
        self.marks.may_be_zero() && exactly_there && !self.tail.needs_log()
    }

    fn read_frames(&mut self, last: u32, stop: Stop, keep: Keep) -> Result<bool, SealError> {
        let frame_len = self.frame_len();
        let at_once = self.frames_at_once();
        let mut buffer = vec![0; frame_len * at_once.min(last - self.log.frame) as usize];
        while self.log.frame < last {
            let count = at_once.min(last - self.log.frame);
            let bytes = &mut buffer[..frame_len * count as usize];
            self.marks
                .held()
                .read_wal(bytes, wal::frame_offset(self.log.frame + 1, self.sums.page_size()))?;
            for frame in bytes.chunks_exact(frame_len) {
                let checked = wal::check_frame(frame, self.log.salts, self.log.running, self.log.big_endian);
                let Some((frame, running)) = checked else { return Ok(false) };
                self.log.frame += 1;
                self.log.running = running;
                let sum = ltx::page_checksum(frame.pgno, frame.page);
                let source = match keep {
                    Keep::InLog => Source::Frame(self.log.frame),
                    Keep::InMemory => Source::Kept(frame.page.into()),
                };
                self.tail.frame(frame.pgno, Changed { source, sum }, frame.commit);
                if frame.commit != 0 {
                    self.loose.count();
                }
                if stop == Stop::AfterCommit && frame.commit != 0 {
                    self.log.moved = true;
                    return Ok(true);
                }
            }
        }
        self.log.moved = true;
        Ok(true)
    }

    /// The last frame of the whole transactions that the log holds, whoever may have read them.
    pub(super) fn end_of_log(&self) -> Result<u32, SealError> {
        let (mut frame, mut running) = (self.log.frame, self.log.running);
        let mut end = frame;
        let mut buffer = vec![0; self.frame_len() * self.frames_at_once() as usize];
        loop {
            self.marks.held().read_wal(&mut buffer, wal::frame_offset(frame + 1, self.sums.page_size()))?;
            for bytes in buffer.chunks_exact(self.frame_len()) {
                let checked = wal::check_frame(bytes, self.log.salts, running, self.log.big_endian);
                let Some((found, next)) = checked else { return Ok(end) };
                (frame, running) = (frame + 1, next);
                if found.commit != 0 {
                    end = frame;
                }
            }
        }
    }

    fn frame_len(&self) -> usize {
        wal::frame_len(self.sums.page_size())
    }

    fn frames_at_once(&self) -> u32 {
        u32::try_from((CHUNK_BYTES / self.frame_len()).max(1)).unwrap_or(1)
    }

    /// The log alone no longer tells what changed. Always `false`.
    pub(super) fn broke(&mut self, why: &str) -> bool {
        tracing::warn!(event = "log broke", path = %self.place.path, reason = why, "changes are found by page diff");
        self.difference_due = Some(why.to_owned());
        self.loose.lose_count();
        false
    }

    /// Moves pages of the tail from the log into memory, before the log is let go.
    pub(super) fn keep_tail(&mut self) -> Result<(), SealError> {
        let wanted: Vec<_> = self
            .tail
            .pages()
            .filter_map(|(pgno, changed)| match changed.source {
                Source::Frame(frame) => Some((pgno, frame)),
                Source::Kept(_) => None,
            })
            .collect();
        for (pgno, frame) in wanted {
            let mut page = vec![0; self.sums.page_size() as usize].into_boxed_slice();
            let offset = wal::frame_offset(frame, self.sums.page_size()) + FRAME_HEADER_LEN;
            self.marks.held().read_wal(&mut page, offset)?;
            self.tail.keep(pgno, page);
        }
        Ok(())
    }
}
