//! Every bound of the format in one place. What derives from another bound is computed from it.

/// Bytes of the file header.
pub const HEADER_BYTES: usize = 100;

/// Bytes before the body of a page: page number u32, flags u16. Six zero bytes end the pages.
pub const FRAME_HEADER_BYTES: usize = 6;

/// Bytes of the trailer: database checksum u64 (always 0), file checksum u64.
pub const TRAILER_BYTES: usize = 16;

/// Bytes of the length that follows the page index.
pub const INDEX_LENGTH_BYTES: usize = 8;

/// The smallest page of SQLite.
pub const PAGE_BYTES_MIN: u32 = 512;

/// The largest page of SQLite.
pub const PAGE_BYTES_MAX: u32 = 65_536;

/// Bytes an LZ4 frame may spend beside its blocks' data: descriptor (15), block size and checksum, end mark and
/// content checksum come to 31; the rest leaves room for a page cut into a few blocks.
pub const LZ4_FRAME_OVERHEAD_BYTES_MAX: u32 = 64;

/// Bytes that a page of this size can take as an LZ4 block (LZ4's own compression bound).
pub const fn lz4_block_bytes_max(page_bytes: u32) -> u32 {
    page_bytes + page_bytes / 255 + 16
}

/// Bytes that the frame of one page can take, its header included. A longer one is refused unread.
pub const fn frame_bytes_max(page_bytes: u32) -> u32 {
    FRAME_HEADER_BYTES as u32 + LZ4_FRAME_OVERHEAD_BYTES_MAX + lz4_block_bytes_max(page_bytes)
}

/// Bytes of one index entry at most: three variable-length integers of 32, 64 and 32 bits.
pub const INDEX_ENTRY_BYTES_MAX: u64 = 5 + 10 + 5;

/// Input that a reader holds at once; more only where one frame of the page size needs it.
pub const INPUT_BUFFER_BYTES: usize = 32 * 1024;

/// Output collected before it is handed to the writer; all but the last piece have this size or a multiple of it, which
/// file systems align to.
pub const OUTPUT_BUFFER_BYTES: usize = 64 * 1024;

/// A frame of up to this size is read into the stack instead of the heap.
pub const STACK_FRAME_BYTES: usize = 4096 + 256;

/// Pages that a file must be going to have before a thread is started to pack them: below, the thread costs more than
/// it saves.
pub const PACK_BESIDE_PAGES_MIN: usize = 512;

/// Bytes of pages that go to the packing thread at once.
pub const PACK_BATCH_BYTES: usize = 256 * 1024;

/// Batches that a file in the making has at most: filled, waiting, being packed, packed. Each takes about twice
/// [`PACK_BATCH_BYTES`].
pub const PACK_BATCHES_MAX: usize = 5;

/// Batches that wait for the packing thread; the caller packs the next one itself.
pub const PACK_QUEUE_BATCHES_MAX: usize = 1;
