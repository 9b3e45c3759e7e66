//! A stream read through one bounded buffer, so that a whole page frame lies in memory at once.
//!
//! Invariant: `mark <= at <= end <= buffer.len()`. Bytes from `mark` on stay in the buffer until the next
//! [`Input::mark`]; how many may pile up there is bounded by `span_max`.

use crate::error::{DecodeError, PageProblem};
use std::io::{self, Read};

/// Where the bytes of a page frame come from: a stream or a slice.
pub(crate) trait Source {
    /// The next bytes, exactly this many.
    fn take(&mut self, count: usize) -> Result<&[u8], DecodeError>;

    /// The next bytes, as an array.
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }
}

pub(crate) struct Input<R> {
    reader: R,
    buffer: Vec<u8>,
    mark: usize,
    at: usize,
    end: usize,
    span_max: usize,
    /// The page that is being read, for errors; 0 outside of pages.
    pub(crate) page: u32,
}

impl<R: Read> Input<R> {
    /// `capacity` bounds both the buffer and what can be taken from one mark on.
    pub(crate) fn new(reader: R, capacity: usize) -> Input<R> {
        Input { reader, buffer: vec![0; capacity], mark: 0, at: 0, end: 0, span_max: capacity, page: 0 }
    }

    /// Bounds what can be taken from one mark on; the buffer grows to hold it.
    pub(crate) fn bound_span(&mut self, span_max: usize) {
        self.span_max = span_max;
        if self.buffer.len() < span_max {
            self.buffer.resize(span_max, 0);
        }
    }

    /// Lets go of everything taken so far.
    pub(crate) fn mark(&mut self) {
        self.mark = self.at;
    }

    /// Everything taken since the mark.
    pub(crate) fn since_mark(&self) -> &[u8] {
        &self.buffer[self.mark..self.at]
    }

    /// What is in the buffer and was not taken.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.buffer[self.at..self.end]
    }

    /// Whether the stream ends here.
    pub(crate) fn at_end(&mut self) -> Result<bool, DecodeError> {
        self.mark();
        Ok(!self.fill(1)?)
    }

    /// Makes `count` bytes available after `at`; `false` where the stream ends before.
    fn fill(&mut self, count: usize) -> Result<bool, DecodeError> {
        if self.end - self.at >= count {
            return Ok(true);
        }
        self.buffer.copy_within(self.mark..self.end, 0);
        self.at -= self.mark;
        self.end -= self.mark;
        self.mark = 0;
        while self.end - self.at < count {
            match self.reader.read(&mut self.buffer[self.end..]) {
                Ok(0) => return Ok(false),
                Ok(got) => self.end += got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }
}

impl<R: Read> Source for Input<R> {
    fn take(&mut self, count: usize) -> Result<&[u8], DecodeError> {
        if count > self.span_max - (self.at - self.mark) {
            return Err(DecodeError::Page { pgno: self.page, problem: PageProblem::FrameLength });
        }
        if !self.fill(count)? {
            return Err(DecodeError::Truncated);
        }
        let from = self.at;
        self.at += count;
        Ok(&self.buffer[from..self.at])
    }
}

/// A frame that is in memory already.
pub(crate) struct Bytes<'a> {
    rest: &'a [u8],
    page: u32,
}

impl<'a> Bytes<'a> {
    pub(crate) fn new(bytes: &'a [u8], page: u32) -> Bytes<'a> {
        Bytes { rest: bytes, page }
    }

    pub(crate) fn is_used_up(&self) -> bool {
        self.rest.is_empty()
    }
}

impl Source for Bytes<'_> {
    fn take(&mut self, count: usize) -> Result<&[u8], DecodeError> {
        match self.rest.split_at_checked(count) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(DecodeError::Page { pgno: self.page, problem: PageProblem::FrameLength }),
        }
    }
}
