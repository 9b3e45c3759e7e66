//! What can be wrong with a file, per operation.

use base::{Checksum, Txid};
use std::io;

/// Why a header can be neither written nor believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderProblem {
    /// Flags that no reader of version 3 takes here; only 0x2 is right.
    #[error("flags {0:#x} instead of 0x2")]
    Flags(u32),
    /// Not a power of two from 512 to 65536.
    #[error("page size {0}")]
    PageSize(u32),
    /// A database has at least one page after a commit.
    #[error("no pages after the commit")]
    NoPages,
    /// TXIDs start at 1 and the last is not before the first.
    #[error("TXIDs {} to {}", .0.hex(), .1.hex())]
    Txids(Txid, Txid),
    /// Litestream's database checksum must be zero in files without database checksums.
    #[error("a pre-apply checksum, which files of this kind may not carry")]
    PreApplyChecksum,
    /// WAL offset and size are not negative, and neither size nor salts come without an offset.
    #[error("WAL offset {offset}, size {size}, which do not go together")]
    Wal {
        /// The offset, in bytes.
        offset: i64,
        /// The size, in bytes.
        size: i64,
    },
}

/// Why the frame of a page cannot be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PageProblem {
    /// Page numbers rise, from 1.
    #[error("comes after page {previous}")]
    OutOfOrder {
        /// The page before it in the file.
        previous: u32,
    },
    /// The database ends before this page.
    #[error("lies beyond the {commit} pages of the database")]
    BeyondCommit {
        /// Pages in the database.
        commit: u32,
    },
    /// The page with SQLite's locks is in no file.
    #[error("is the lock page")]
    LockPage,
    /// A file that starts at TXID 1 holds every page.
    #[error("is missing in a file that holds every page")]
    Missing,
    /// Page flags other than 0 and 1.
    #[error("flags {0:#x} are unknown")]
    Flags(u16),
    /// The frame is for another page than the index said.
    #[error("the frame holds page {found}")]
    OtherPage {
        /// The page number in the frame.
        found: u32,
    },
    /// A frame longer than any page of this size can be, or other than the index said.
    #[error("the frame has a wrong length")]
    FrameLength,
    /// Not an LZ4 frame, or of a kind that holds no page.
    #[error("not a readable LZ4 frame: {0}")]
    Lz4Frame(&'static str),
    /// The compressed bytes make no sense.
    #[error("the compressed data is damaged")]
    Lz4Block,
    /// It unpacks to more or fewer bytes than a page.
    #[error("does not unpack to one page")]
    PageLength,
    /// It is not the page that was announced.
    #[error("its page checksum is {now} instead of {was}")]
    Changed {
        /// Its checksum.
        now: Checksum,
        /// The one announced.
        was: Checksum,
    },
    /// The LZ4 checksum of block or content differs.
    #[error("its checksum differs")]
    Checksum,
}

/// Why the page index cannot be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IndexProblem {
    /// Its length does not fit the file, or not the entries.
    #[error("its length is wrong")]
    Length,
    /// An integer too long, or out of its range.
    #[error("an entry is malformed")]
    Entry,
    /// Frames lie one after the other, without gap or overlap, up to the end of the pages.
    #[error("its frames do not lie side by side")]
    Layout,
    /// It lists other pages than the file holds.
    #[error("it lists other pages than the file holds")]
    Pages,
}

/// Why a file cannot be read. The caller must take another copy of the file; retrying helps only with [`Io`].
///
/// [`Io`]: DecodeError::Io
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The source failed; retry, or treat as unavailable.
    #[error("cannot read: {0}")]
    Io(#[source] io::Error),
    /// The file ends too early.
    #[error("the file is cut off")]
    Truncated,
    /// Bytes follow the trailer.
    #[error("bytes follow the end of the file's contents")]
    TrailingBytes,
    /// Another kind of file.
    #[error("not an LTX file")]
    Magic,
    /// Written by LiteFS; import it, it cannot be read as history.
    #[error("LTX version 1, as LiteFS writes it; only version 3 is read")]
    VersionOne,
    /// A header field is impossible.
    #[error("bad header: {0}")]
    Header(HeaderProblem),
    /// One page is damaged or out of place.
    #[error("page {pgno}: {problem}")]
    Page {
        /// Which page.
        pgno: u32,
        /// What is wrong.
        problem: PageProblem,
    },
    /// The page index is damaged.
    #[error("bad page index: {0}")]
    Index(IndexProblem),
    /// The trailer carries a database checksum, or a file checksum that is none.
    #[error("bad trailer")]
    Trailer,
    /// The whole adds up to something else than its trailer says.
    #[error("file checksum {stored:016x}, its contents have {computed:016x}")]
    FileChecksum {
        /// What the trailer says.
        stored: u64,
        /// What the contents add up to.
        computed: u64,
    },
    /// The pages of a whole database add up to something else than the header says.
    #[error("database checksum {stored}, its pages have {computed}")]
    DatabaseChecksum {
        /// What the header says.
        stored: Checksum,
        /// What the pages add up to.
        computed: Checksum,
    },
    /// The caller's buffer is not one page long.
    #[error("a buffer of {0} bytes is not one page")]
    Buffer(usize),
}

impl From<io::Error> for DecodeError {
    fn from(error: io::Error) -> DecodeError {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            DecodeError::Truncated
        } else {
            DecodeError::Io(error)
        }
    }
}

/// Why a file cannot be written. What was written so far is to be thrown away.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The writer failed.
    #[error("cannot write: {0}")]
    Io(#[from] io::Error),
    /// A header field is impossible: the caller's mistake.
    #[error("bad header: {0}")]
    Header(HeaderProblem),
    /// A page that does not belong here or did not come: the caller's mistake.
    #[error("page {pgno}: {problem}")]
    Page {
        /// Which page.
        pgno: u32,
        /// What is wrong.
        problem: PageProblem,
    },
    /// The pages of a whole database add up to something else than the header says: do not publish.
    #[error("database checksum {stored}, its pages have {computed}")]
    DatabaseChecksum {
        /// What the header says.
        stored: Checksum,
        /// What the pages add up to.
        computed: Checksum,
    },
}

/// Why files cannot be merged. The output so far is to be thrown away; the inputs are as they were.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// Nothing to merge.
    #[error("no input")]
    NoInput,
    /// An input is damaged: take another copy of it.
    #[error("input {input}: {source}")]
    Input {
        /// Which input, from 0.
        input: usize,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// Two neighbours have different page sizes; merge within one page size only.
    #[error("input {input} has another page size than the one before")]
    PageSize {
        /// The second of the two, from 0.
        input: usize,
    },
    /// An input does not start right after, or within, the one before, or reaches no further.
    #[error("input {input} does not continue the one before")]
    NotContiguous {
        /// The second of the two, from 0.
        input: usize,
    },
    /// Two neighbours disagree about the database between them: one of them is of another history.
    #[error("input {input} continues a database with checksum {expected}, the one before left {found}")]
    Chain {
        /// The second of the two, from 0.
        input: usize,
        /// The checksum that it starts from.
        expected: Checksum,
        /// The checksum that the one before ends with.
        found: Checksum,
    },
    /// The output could not be written.
    #[error(transparent)]
    Output(#[from] EncodeError),
}
