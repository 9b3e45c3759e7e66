//! Which page lies where: built while a file is written, read back from its end for random access.
//!
//! Frames lie side by side, so an entry is only the distance from the page before and the size of the frame, two
//! small integers. Every [`STRIDE`] entries an anchor holds the running page number and offset, so that finding a
//! page is a binary search and a short walk. About four bytes per page.

use crate::error::{DecodeError, IndexProblem, PageProblem};
use crate::frame::{parse_header, read_body};
use crate::header::Header;
use crate::input::{Bytes, Input, Source};
use crate::limits::{
    FRAME_HEADER_BYTES, HEADER_BYTES, INDEX_ENTRY_BYTES_MAX, INDEX_LENGTH_BYTES, INPUT_BUFFER_BYTES,
    STACK_FRAME_BYTES, TRAILER_BYTES, frame_bytes_max,
};
use crate::read_at::{ReadAt, Sequential};
use crate::varint;
use base::{Checksum, Pgno};

/// Entries from one anchor to the next.
const STRIDE: u32 = 32;

/// Where the frame of a page lies in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Bytes from the start of the file.
    pub offset: u64,
    /// Bytes of the frame, its header included.
    pub size: u32,
}

/// The pages of one file, sorted, with the place of each.
#[derive(Clone, Debug)]
pub struct Index {
    anchors: Vec<Anchor>,
    packed: Vec<u8>,
    len: u32,
    last_pgno: u32,
    end: u64,
}

/// The state before an entry.
#[derive(Clone, Copy, Debug)]
struct Anchor {
    pgno: u32,
    offset: u64,
    at: usize,
}

impl Index {
    /// Of a file without pages yet.
    pub(crate) fn new() -> Index {
        Index { anchors: Vec::new(), packed: Vec::new(), len: 0, last_pgno: 0, end: HEADER_BYTES as u64 }
    }

    /// Adds the next page, whose frame follows right after the last one.
    pub(crate) fn push(&mut self, pgno: u32, size: u32) {
        debug_assert!(pgno > self.last_pgno);
        if self.len.is_multiple_of(STRIDE) {
            self.anchors.push(Anchor { pgno: self.last_pgno, offset: self.end, at: self.packed.len() });
        }
        varint::put(&mut self.packed, u64::from(pgno - self.last_pgno));
        varint::put(&mut self.packed, u64::from(size));
        self.len += 1;
        self.last_pgno = pgno;
        self.end += u64::from(size);
    }

    /// Reads header and index of a file and checks that they fit each other and the file's length.
    pub fn read(source: &dyn ReadAt) -> Result<(Header, Index), DecodeError> {
        let mut bytes = [0; HEADER_BYTES];
        let len = source.len()?;
        if len < HEADER_BYTES as u64 {
            let short = &mut bytes[..len as usize];
            source.read_exact_at(short, 0)?;
            return Err(Header::decode(short).err().unwrap_or(DecodeError::Truncated));
        }
        source.read_exact_at(&mut bytes, 0)?;
        let header = Header::decode(&bytes)?;
        let index = Index::read_entries(source, len, &header)?;
        Ok((header, index))
    }

    fn read_entries(source: &dyn ReadAt, len: u64, header: &Header) -> Result<Index, DecodeError> {
        const TAIL_BYTES: usize = INDEX_LENGTH_BYTES + TRAILER_BYTES;
        let tail_at = len - (len - HEADER_BYTES as u64).min(TAIL_BYTES as u64);
        if len - tail_at < TAIL_BYTES as u64 {
            return Err(DecodeError::Truncated);
        }
        let mut tail = [0; TAIL_BYTES];
        source.read_exact_at(&mut tail, tail_at)?;
        let [index_bytes, post_apply, file_checksum] = words(&tail);
        if post_apply != 0 || file_checksum & Checksum::FLAG == 0 {
            return Err(DecodeError::Trailer);
        }
        let bad = |problem| DecodeError::Index(problem);
        let room = tail_at - HEADER_BYTES as u64;
        let entries_max = u64::from(header.commit) * INDEX_ENTRY_BYTES_MAX + 1;
        if index_bytes == 0 || index_bytes > entries_max || index_bytes + FRAME_HEADER_BYTES as u64 > room {
            return Err(bad(IndexProblem::Length));
        }
        let end_at = tail_at - index_bytes - FRAME_HEADER_BYTES as u64;
        let mut input = Input::new(
            Sequential::range(source, end_at, tail_at),
            INPUT_BUFFER_BYTES.min((tail_at - end_at) as usize),
        );
        if input.array::<FRAME_HEADER_BYTES>()? != [0; FRAME_HEADER_BYTES] {
            return Err(bad(IndexProblem::Layout));
        }
        let index = Index::parse(&mut input, header)?;
        if !input.at_end()? {
            return Err(bad(IndexProblem::Length));
        }
        if index.end != end_at {
            return Err(bad(IndexProblem::Layout));
        }
        if header.is_snapshot() && index.len != header.whole_page_count() {
            return Err(bad(IndexProblem::Pages));
        }
        Ok(index)
    }

    fn parse<R: std::io::Read>(input: &mut Input<R>, header: &Header) -> Result<Index, DecodeError> {
        let entry = || DecodeError::Index(IndexProblem::Entry);
        let mut next = || {
            input.mark();
            let number =
                varint::get(|| input.array::<1>().map(|[byte]| byte)).map_err(|error| match error {
                    DecodeError::Truncated => DecodeError::Index(IndexProblem::Length),
                    other => other,
                })?;
            number.ok_or_else(entry)
        };
        let mut index = Index::new();
        loop {
            let pgno = next()?;
            if pgno == 0 {
                return Ok(index);
            }
            let pgno = u32::try_from(pgno).map_err(|_| entry())?;
            if pgno <= index.last_pgno || pgno > header.commit || Pgno(pgno) == header.lock_page() {
                return Err(DecodeError::Index(IndexProblem::Pages));
            }
            if next()? != index.end {
                return Err(DecodeError::Index(IndexProblem::Layout));
            }
            let size = u32::try_from(next()?).map_err(|_| entry())?;
            if size <= FRAME_HEADER_BYTES as u32 || size > frame_bytes_max(header.page_size) {
                return Err(entry());
            }
            index.push(pgno, size);
        }
    }

    /// Where a page lies, if the file has it.
    pub fn find(&self, pgno: Pgno) -> Option<Frame> {
        let after = self.anchors.partition_point(|anchor| anchor.pgno < pgno.0);
        let anchor = self.anchors.get(after.checked_sub(1)?)?;
        let walk =
            IndexIter { packed: self.packed.get(anchor.at..)?, pgno: anchor.pgno, offset: anchor.offset };
        let (found, frame) = walk.take(STRIDE as usize).find(|(at, _)| *at >= pgno)?;
        (found == pgno).then_some(frame)
    }

    /// All pages, ascending.
    pub fn iter(&self) -> IndexIter<'_> {
        IndexIter { packed: &self.packed, pgno: 0, offset: HEADER_BYTES as u64 }
    }

    /// Pages in the file.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether the file has no page.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The highest page in the file; 0 where there is none.
    pub(crate) fn last_pgno(&self) -> u32 {
        self.last_pgno
    }

    /// Where the next frame would lie.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }
}

impl<'a> IntoIterator for &'a Index {
    type Item = (Pgno, Frame);
    type IntoIter = IndexIter<'a>;
    fn into_iter(self) -> IndexIter<'a> {
        self.iter()
    }
}

/// Walks an [`Index`] in ascending order.
#[derive(Clone, Debug)]
pub struct IndexIter<'a> {
    packed: &'a [u8],
    pgno: u32,
    offset: u64,
}

impl IndexIter<'_> {
    fn number(&mut self) -> Option<u32> {
        let packed = &mut self.packed;
        let number = varint::get(|| {
            let (first, rest) = packed.split_first().ok_or(())?;
            *packed = rest;
            Ok::<u8, ()>(*first)
        });
        u32::try_from(number.ok()??).ok()
    }
}

impl Iterator for IndexIter<'_> {
    type Item = (Pgno, Frame);

    fn next(&mut self) -> Option<(Pgno, Frame)> {
        self.pgno += self.number()?;
        let size = self.number()?;
        let frame = Frame { offset: self.offset, size };
        self.offset += u64::from(size);
        Some((Pgno(self.pgno), frame))
    }
}

/// Reads one page of a file. `out` is one page long. The page number in the frame must be the one asked for; the LZ4
/// checksum is checked where the frame has one (files written here always do).
pub fn read_page(
    source: &dyn ReadAt,
    frame: Frame,
    pgno: Pgno,
    page_size: u32,
    out: &mut [u8],
) -> Result<(), DecodeError> {
    if out.len() != page_size as usize {
        return Err(DecodeError::Buffer(out.len()));
    }
    if frame.size <= FRAME_HEADER_BYTES as u32 || frame.size > frame_bytes_max(page_size) {
        return Err(DecodeError::Page { pgno: pgno.0, problem: PageProblem::FrameLength });
    }
    let size = frame.size as usize;
    if size <= STACK_FRAME_BYTES {
        let mut bytes = [0; STACK_FRAME_BYTES];
        source.read_exact_at(&mut bytes[..size], frame.offset)?;
        unpack_page(&bytes[..size], pgno, out)
    } else {
        let mut bytes = vec![0; size];
        source.read_exact_at(&mut bytes, frame.offset)?;
        unpack_page(&bytes, pgno, out)
    }
}

/// Unpacks one page from the bytes of its frame, with the same checks as [`read_page`].
pub fn unpack_page(frame: &[u8], pgno: Pgno, out: &mut [u8]) -> Result<(), DecodeError> {
    let mut bytes = Bytes::new(frame, pgno.0);
    let (found, flags) = parse_header(bytes.array()?);
    let bad = |problem| DecodeError::Page { pgno: pgno.0, problem };
    if found != pgno.0 {
        return Err(bad(PageProblem::OtherPage { found }));
    }
    read_body(&mut bytes, pgno.0, flags, out)?;
    if bytes.is_used_up() { Ok(()) } else { Err(bad(PageProblem::FrameLength)) }
}

/// The three big-endian numbers at the end of a file.
fn words(tail: &[u8; INDEX_LENGTH_BYTES + TRAILER_BYTES]) -> [u64; 3] {
    let mut out = [0; 3];
    for (word, bytes) in out.iter_mut().zip(tail.chunks_exact(8)) {
        *word = bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
    }
    out
}
