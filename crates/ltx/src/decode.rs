//! Reading a file from front to back.
//!
//! States: pages (until the six zero bytes) → end (index and trailer, in [`Decoder::finish`]). Only a finished file
//! is proven: until then a page is as good as its LZ4 checksum.
//! The index is compared without being held: its bytes are known from the frames, so their checksum is.

use crate::checksum::{Crc, Rolling, page_checksum};
use crate::encode::next_of_whole;
use crate::error::{DecodeError, IndexProblem, PageProblem};
use crate::frame::{Body, parse_header, read_body};
use crate::header::Header;
use crate::input::{Input, Source};
use crate::limits::{
    FRAME_HEADER_BYTES, HEADER_BYTES, INDEX_LENGTH_BYTES, INPUT_BUFFER_BYTES, PAGE_BYTES_MIN, TRAILER_BYTES,
    frame_bytes_max,
};
use crate::varint;
use base::{Checksum, Pgno};
use std::fmt;
use std::io::Read;

/// What the end of a file proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// The checksum of the file, which its contents add up to.
    pub file_checksum: u64,
    /// Bytes in the file.
    pub bytes: u64,
    /// Pages in the file.
    pub pages: u32,
}

/// Reads one file. Memory: one buffer, whatever the file's size.
pub struct Decoder<R: Read> {
    input: Input<R>,
    header: Header,
    crc: Crc,
    /// The index as it must be, as a checksum and a length.
    index: Crc,
    index_bytes: u64,
    offset: u64,
    previous: u32,
    pages: u32,
    ended: bool,
    body: Option<Body>,
    sum: Rolling,
}

impl<R: Read> Decoder<R> {
    /// Reads the header.
    pub fn new(reader: R) -> Result<Decoder<R>, DecodeError> {
        let mut input = Input::new(reader, INPUT_BUFFER_BYTES);
        let bytes = match input.array::<HEADER_BYTES>() {
            Ok(bytes) => bytes,
            Err(DecodeError::Truncated) => {
                return Err(Header::decode(input.rest()).err().unwrap_or(DecodeError::Truncated));
            }
            Err(error) => return Err(error),
        };
        let header = Header::decode(&bytes)?;
        input.mark();
        input.bound_span(frame_bytes_max(header.page_size) as usize);
        let mut crc = Crc::new();
        crc.update(&bytes);
        Ok(Decoder {
            input,
            header,
            crc,
            index: Crc::new(),
            index_bytes: 0,
            offset: HEADER_BYTES as u64,
            previous: 0,
            pages: 0,
            ended: false,
            body: None,
            sum: Rolling::default(),
        })
    }

    /// What the file says of itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Unpacks the next page into the buffer, which is one page long; `None` after the last. After an error nothing
    /// more can be read.
    pub fn next_page(&mut self, page: &mut [u8]) -> Result<Option<Pgno>, DecodeError> {
        if page.len() != self.header.page_size as usize {
            return Err(DecodeError::Buffer(page.len()));
        }
        if self.ended {
            return Ok(None);
        }
        self.input.mark();
        self.input.page = self.previous;
        let head: [u8; FRAME_HEADER_BYTES] = self.input.array()?;
        self.crc.update(&head);
        let (pgno, flags) = parse_header(head);
        if head == [0; FRAME_HEADER_BYTES] {
            self.end_pages()?;
            return Ok(None);
        }
        self.check_next(pgno)?;
        self.input.page = pgno;
        let body = read_body(&mut self.input, pgno, flags, page)?;
        if let Body::Block { size } = body {
            self.crc.update(&size.to_be_bytes());
        }
        self.crc.update(page);
        self.body = Some(body);
        if self.header.is_snapshot() && self.header.checksum_after != Checksum::NONE {
            self.sum.toggle(page_checksum(Pgno(pgno), page));
        }
        self.account(pgno);
        Ok(Some(Pgno(pgno)))
    }

    /// Reads what is left and verifies everything: index, trailer, file checksum, end of the stream.
    pub fn finish(mut self) -> Result<Trailer, DecodeError> {
        if !self.ended {
            let mut page = vec![0; self.header.page_size as usize];
            while self.next_page(&mut page)?.is_some() {}
        }
        self.check_index()?;
        let post_apply: [u8; 8] = self.input.array()?;
        self.crc.update(&post_apply);
        let stored = u64::from_be_bytes(self.input.array()?);
        if post_apply != [0; 8] || stored & Checksum::FLAG == 0 {
            return Err(DecodeError::Trailer);
        }
        let computed = self.crc.flagged();
        if stored != computed {
            return Err(DecodeError::FileChecksum { stored, computed });
        }
        if !self.input.at_end()? {
            return Err(DecodeError::TrailingBytes);
        }
        let before_index = self.offset + FRAME_HEADER_BYTES as u64;
        let tail = (INDEX_LENGTH_BYTES + TRAILER_BYTES) as u64;
        Ok(Trailer {
            file_checksum: stored,
            bytes: before_index + self.index_bytes + tail,
            pages: self.pages,
        })
    }

    /// The body of the page read last, where it can stand in another file as it is.
    pub(crate) fn packed_body(&self) -> Option<&[u8]> {
        match self.body {
            Some(Body::Frame { content_checksum: true }) => self.input.since_mark().get(FRAME_HEADER_BYTES..),
            _ => None,
        }
    }

    fn check_next(&self, pgno: u32) -> Result<(), DecodeError> {
        let previous = self.previous;
        let commit = self.header.commit;
        let lock_page = self.header.lock_page();
        let bad = |problem| Err(DecodeError::Page { pgno, problem });
        if pgno <= previous {
            return bad(PageProblem::OutOfOrder { previous });
        }
        if pgno > commit {
            return bad(PageProblem::BeyondCommit { commit });
        }
        if Pgno(pgno) == lock_page {
            return bad(PageProblem::LockPage);
        }
        let expected = next_of_whole(previous, lock_page);
        if self.header.is_snapshot() && pgno != expected {
            return Err(DecodeError::Page { pgno: expected, problem: PageProblem::Missing });
        }
        Ok(())
    }

    /// Takes note of the frame that was just read.
    fn account(&mut self, pgno: u32) {
        let size = self.input.since_mark().len() as u64;
        for number in [u64::from(pgno), self.offset, size] {
            let (bytes, len) = varint::array(number);
            self.index.update(&bytes[..len]);
            self.index_bytes += len as u64;
        }
        self.offset += size;
        self.previous = pgno;
        self.pages += 1;
    }

    fn end_pages(&mut self) -> Result<(), DecodeError> {
        self.ended = true;
        self.body = None;
        self.index.update(&[0]);
        self.index_bytes += 1;
        if !self.header.is_snapshot() {
            return Ok(());
        }
        if self.pages != self.header.whole_page_count() {
            let pgno = next_of_whole(self.previous, self.header.lock_page());
            return Err(DecodeError::Page { pgno, problem: PageProblem::Missing });
        }
        let stored = self.header.checksum_after;
        let computed = self.sum.value();
        if stored != Checksum::NONE && stored != computed {
            return Err(DecodeError::DatabaseChecksum { stored, computed });
        }
        Ok(())
    }

    fn check_index(&mut self) -> Result<(), DecodeError> {
        let mut found = Crc::new();
        let mut left = self.index_bytes;
        while left > 0 {
            self.input.mark();
            // A span is never shorter than the frame of the smallest page, so these bytes always fit.
            let count = left.min(u64::from(PAGE_BYTES_MIN));
            let bytes = self.input.take(count as usize)?;
            found.update(bytes);
            self.crc.update(bytes);
            left -= count;
        }
        self.input.mark();
        let length: [u8; INDEX_LENGTH_BYTES] = self.input.array()?;
        self.crc.update(&length);
        if found.flagged() != self.index.flagged() {
            return Err(DecodeError::Index(IndexProblem::Pages));
        }
        if u64::from_be_bytes(length) != self.index_bytes {
            return Err(DecodeError::Index(IndexProblem::Length));
        }
        Ok(())
    }
}

impl<R: Read> fmt::Debug for Decoder<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").field("header", &self.header).field("pages", &self.pages).finish()
    }
}
