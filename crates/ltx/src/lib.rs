//! LTX version 3: one file of database pages, written and read as a stream with flat memory.
//!
//! ```text
//!   Header ─► Encoder ─► 100 B header │ page frames │ end │ index │ trailer ─► Decoder ─► pages
//!                                                      └──► Index + read_page (random access)
//!   Decoder, Decoder, … ─► merge ─► Encoder
//! ```
//!
//! Pure: bytes in, bytes out, through `Read`, `Write` and [`ReadAt`]. Both page encodings of the format are read;
//! the one written is an LZ4 frame with content checksum. Input is hostile until proven otherwise: every length
//! is checked against `limits` before it is believed, and nothing here panics on bytes.
//! The bytes themselves: `docs/formats/ltx.md`.

mod checksum;
mod decode;
mod encode;
mod error;
mod frame;
mod header;
mod index;
mod input;
pub mod limits;
mod merge;
mod pack;
mod read_at;
mod varint;

pub use checksum::{Rolling, page_checksum};
pub use decode::{Decoder, Trailer};
pub use encode::{Encoder, Finished};
pub use error::{DecodeError, EncodeError, HeaderProblem, IndexProblem, MergeError, PageProblem};
pub use header::Header;
pub use index::{Frame, Index, IndexIter, read_page, unpack_page};
pub use merge::{merge, merged_header};
pub use read_at::{ReadAt, Sequential};
