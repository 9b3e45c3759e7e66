//! One page as it lies in a file: page number, flags, compressed body.
//!
//! ```text
//! flags 0 (written)   LZ4 frame: descriptor 7+ B │ (block size u32 LE │ data │ [checksum])… │ 0 u32 │ checksum u32
//! flags 1 (read only) size u32 BE │ LZ4 block
//! ```
//!
//! The LZ4 frame is put together by hand: its descriptor is constant and its only block is the page, which saves
//! the hash table and buffers that a general frame encoder sets up per frame. A page that does not shrink is
//! stored as it is. LZ4 frame format: <https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md>.

use crate::error::{DecodeError, PageProblem};
use crate::input::Source;
use crate::limits::{FRAME_HEADER_BYTES, lz4_block_bytes_max};
use lz4_flex::block::{
    CompressTable, compress_into_with_table, decompress_into, decompress_into_with_dict,
    get_maximum_output_size,
};
use twox_hash::XxHash32;

/// Page flags of a body that is an LZ4 frame.
pub(crate) const FLAGS_LZ4_FRAME: u16 = 0;
/// Page flags of a body that is a size and an LZ4 block.
pub(crate) const FLAGS_LZ4_BLOCK: u16 = 1;

const LZ4_MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
const LZ4_VERSION_MASK: u8 = 0b1100_0000;
const LZ4_VERSION_1: u8 = 0b0100_0000;
const LZ4_INDEPENDENT: u8 = 0b0010_0000;
const LZ4_BLOCK_CHECKSUM: u8 = 0b0001_0000;
const LZ4_CONTENT_SIZE: u8 = 0b0000_1000;
const LZ4_CONTENT_CHECKSUM: u8 = 0b0000_0100;
const LZ4_RESERVED: u8 = 0b0000_0010;
const LZ4_DICTIONARY: u8 = 0b0000_0001;
/// Block sizes of 64 KiB and more have the codes 4 to 7 in bits 4–6; all other bits are reserved.
const LZ4_BLOCK_SIZE_CODED: u8 = 0b0100_0000;
const LZ4_BLOCK_SIZE_RESERVED: u8 = 0b1000_1111;
const LZ4_STORED: u32 = 1 << 31;

/// Magic, version 1 with independent blocks and content checksum, blocks of at most 64 KiB, and the second byte of
/// the XXH32 over those two.
const LZ4_DESCRIPTOR: [u8; 7] = [0x04, 0x22, 0x4d, 0x18, 0x64, 0x40, 0xa7];

/// How a body was compressed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    /// An LZ4 frame, with the content checksum that all readers want, or without.
    Frame { content_checksum: bool },
    /// An LZ4 block after its size.
    Block { size: u32 },
}

/// The table that compression reuses from page to page.
pub(crate) struct Compressor(CompressTable);

impl Compressor {
    pub(crate) fn new() -> Compressor {
        Compressor(CompressTable::default())
    }

    /// Appends the frame of a page.
    pub(crate) fn append(&mut self, out: &mut Vec<u8>, pgno: u32, page: &[u8]) {
        let from = out.len();
        out.resize(from + room_for_frame(page.len()), 0);
        let size = self.write(&mut out[from..], pgno, page);
        out.truncate(from + size);
    }

    /// Writes the frame of a page to the start of at least [`room_for_frame`] bytes and says how long it is.
    pub(crate) fn write(&mut self, out: &mut [u8], pgno: u32, page: &[u8]) -> usize {
        let (head, rest) = out.split_at_mut(PACKED_HEADER_BYTES);
        let (packed, rest) = rest.split_at_mut(4);
        let size = match compress_into_with_table(page, rest, &mut self.0) {
            Ok(size) if size < page.len() => size as u32,
            _ => {
                rest[..page.len()].copy_from_slice(page);
                page.len() as u32 | LZ4_STORED
            }
        };
        head[..FRAME_HEADER_BYTES].copy_from_slice(&header(pgno, FLAGS_LZ4_FRAME));
        head[FRAME_HEADER_BYTES..].copy_from_slice(&LZ4_DESCRIPTOR);
        packed.copy_from_slice(&size.to_le_bytes());
        let size = (size & !LZ4_STORED) as usize;
        rest[size..size + 4].fill(0);
        rest[size + 4..size + 8].copy_from_slice(&XxHash32::oneshot(0, page).to_le_bytes());
        PACKED_HEADER_BYTES + 4 + size + 8
    }
}

/// Bytes of a frame that is written here, before the size of its block.
const PACKED_HEADER_BYTES: usize = FRAME_HEADER_BYTES + LZ4_DESCRIPTOR.len();

/// Bytes that compression wants to have before it begins; the frame takes no more than
/// [`frame_bytes_max`](crate::limits::frame_bytes_max).
pub(crate) fn room_for_frame(page_bytes: usize) -> usize {
    PACKED_HEADER_BYTES + 4 + get_maximum_output_size(page_bytes) + 8
}

/// The bytes before a body.
pub(crate) fn header(pgno: u32, flags: u16) -> [u8; FRAME_HEADER_BYTES] {
    let mut out = [0; FRAME_HEADER_BYTES];
    out[..4].copy_from_slice(&pgno.to_be_bytes());
    out[4..].copy_from_slice(&flags.to_be_bytes());
    out
}

/// Page number and flags from the bytes before a body.
pub(crate) fn parse_header(bytes: [u8; FRAME_HEADER_BYTES]) -> (u32, u16) {
    let [a, b, c, d, e, f] = bytes;
    (u32::from_be_bytes([a, b, c, d]), u16::from_be_bytes([e, f]))
}

/// Unpacks a body into exactly one page and checks the checksums that it carries.
pub(crate) fn read_body(
    source: &mut impl Source,
    pgno: u32,
    flags: u16,
    page: &mut [u8],
) -> Result<Body, DecodeError> {
    let bad = |problem| DecodeError::Page { pgno, problem };
    match flags {
        FLAGS_LZ4_FRAME => read_lz4_frame(source, page, &bad),
        FLAGS_LZ4_BLOCK => {
            let size = u32::from_be_bytes(source.array()?);
            if size > lz4_block_bytes_max(page.len() as u32) {
                return Err(bad(PageProblem::FrameLength));
            }
            let got = decompress_into(source.take(size as usize)?, page);
            match got {
                Ok(got) if got == page.len() => Ok(Body::Block { size }),
                Ok(_) => Err(bad(PageProblem::PageLength)),
                Err(_) => Err(bad(PageProblem::Lz4Block)),
            }
        }
        other => Err(bad(PageProblem::Flags(other))),
    }
}

fn read_lz4_frame(
    source: &mut impl Source,
    page: &mut [u8],
    bad: &impl Fn(PageProblem) -> DecodeError,
) -> Result<Body, DecodeError> {
    let flags = read_lz4_descriptor(source, page.len(), bad)?;
    let mut filled = 0;
    loop {
        let word = u32::from_le_bytes(source.array()?);
        if word == 0 {
            break;
        }
        let size = word & !LZ4_STORED;
        if size > lz4_block_bytes_max(page.len() as u32) {
            return Err(bad(PageProblem::FrameLength));
        }
        let data = source.take(size as usize)?;
        let (before, rest) = page.split_at_mut(filled);
        let got = if word & LZ4_STORED != 0 {
            let to = rest.get_mut(..data.len()).ok_or_else(|| bad(PageProblem::PageLength))?;
            to.copy_from_slice(data);
            data.len()
        } else if flags & LZ4_INDEPENDENT != 0 || before.is_empty() {
            decompress_into(data, rest).map_err(|_| bad(PageProblem::Lz4Block))?
        } else {
            decompress_into_with_dict(data, rest, before).map_err(|_| bad(PageProblem::Lz4Block))?
        };
        if got == 0 {
            return Err(bad(PageProblem::Lz4Frame("a block without contents")));
        }
        filled += got;
        if flags & LZ4_BLOCK_CHECKSUM != 0 {
            let computed = XxHash32::oneshot(0, data);
            if u32::from_le_bytes(source.array()?) != computed {
                return Err(bad(PageProblem::Checksum));
            }
        }
    }
    if filled != page.len() {
        return Err(bad(PageProblem::PageLength));
    }
    let content_checksum = flags & LZ4_CONTENT_CHECKSUM != 0;
    if content_checksum && u32::from_le_bytes(source.array()?) != XxHash32::oneshot(0, page) {
        return Err(bad(PageProblem::Checksum));
    }
    Ok(Body::Frame { content_checksum })
}

/// Reads magic and descriptor of an LZ4 frame and gives its flags.
fn read_lz4_descriptor(
    source: &mut impl Source,
    page_len: usize,
    bad: &impl Fn(PageProblem) -> DecodeError,
) -> Result<u8, DecodeError> {
    let wrong = |what| bad(PageProblem::Lz4Frame(what));
    if source.array::<4>()? != LZ4_MAGIC {
        return Err(wrong("magic"));
    }
    let [flags, block_size] = source.array()?;
    if flags & LZ4_VERSION_MASK != LZ4_VERSION_1 || flags & LZ4_RESERVED != 0 {
        return Err(wrong("version"));
    }
    if block_size & LZ4_BLOCK_SIZE_RESERVED != 0 || block_size & LZ4_BLOCK_SIZE_CODED == 0 {
        return Err(wrong("block size"));
    }
    if flags & LZ4_DICTIONARY != 0 {
        return Err(wrong("needs a dictionary"));
    }
    let mut descriptor = [flags, block_size, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut len = 2;
    if flags & LZ4_CONTENT_SIZE != 0 {
        let size: [u8; 8] = source.array()?;
        if u64::from_le_bytes(size) != page_len as u64 {
            return Err(bad(PageProblem::PageLength));
        }
        descriptor[2..].copy_from_slice(&size);
        len = 10;
    }
    let [checksum] = source.array()?;
    if checksum != (XxHash32::oneshot(0, &descriptor[..len]) >> 8) as u8 {
        return Err(wrong("descriptor checksum"));
    }
    Ok(flags)
}
