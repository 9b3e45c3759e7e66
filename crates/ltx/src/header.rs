//! The 100 bytes at the start of a file.

use crate::error::{DecodeError, HeaderProblem};
use crate::limits::{HEADER_BYTES, PAGE_BYTES_MAX, PAGE_BYTES_MIN};
use base::{Checksum, Epoch, Pgno, Timestamp, Txid};

const MAGIC: [u8; 4] = *b"LTX1";

/// No database checksums in Litestream's own fields. Readers of Litestream 0.5 refuse anything else in a restore.
const FLAG_NO_CHECKSUM: u32 = 0x2;

/// Flags below this are those of LTX version 1, which has the same magic and no version field.
const FLAGS_VERSION_ONE: u32 = FLAG_NO_CHECKSUM;

/// What a file says of itself. Byte positions: `docs/formats/ltx.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes in a page: a power of two from 512 to 65536.
    pub page_size: u32,
    /// Pages in the database after this file.
    pub commit: u32,
    /// The first TXID in the file. 1 makes it a snapshot: it holds every page.
    pub min_txid: Txid,
    /// The last TXID in the file.
    pub max_txid: Txid,
    /// When the last TXID was sealed.
    pub timestamp: Timestamp,
    /// Where in the WAL the sealed frames start, in bytes; 0 where they came from no WAL.
    pub wal_offset: i64,
    /// Bytes of the WAL that were sealed.
    pub wal_size: i64,
    /// First salt of that WAL.
    pub wal_salt1: u32,
    /// Second salt of that WAL.
    pub wal_salt2: u32,
    /// The right to write under which it was sealed (LTX: node id). Stead's use; readers ignore it.
    pub epoch: Epoch,
    /// Rolling checksum of the database after this file; [`Checksum::NONE`] in files of others.
    pub checksum_after: Checksum,
    /// Rolling checksum of the database before this file; [`Checksum::NONE`] where there was none or in files of
    /// others.
    pub checksum_before: Checksum,
    /// First checksum word of the last WAL frame sealed; 0 where there is none.
    pub wal_frame_checksum: u32,
}

impl Header {
    /// Whether the file holds the whole database.
    pub fn is_snapshot(&self) -> bool {
        self.min_txid == Txid(1)
    }

    /// The page that is in no file of this page size.
    pub fn lock_page(&self) -> Pgno {
        Pgno::lock_page(self.page_size)
    }

    /// Pages that a file holding the whole database has: all but the lock page.
    pub fn whole_page_count(&self) -> u32 {
        self.commit - u32::from(self.commit >= self.lock_page().0)
    }

    /// The bytes of the header.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC);
        put(4, &FLAG_NO_CHECKSUM.to_be_bytes());
        put(8, &self.page_size.to_be_bytes());
        put(12, &self.commit.to_be_bytes());
        put(16, &self.min_txid.0.to_be_bytes());
        put(24, &self.max_txid.0.to_be_bytes());
        put(32, &self.timestamp.0.to_be_bytes());
        put(48, &self.wal_offset.to_be_bytes());
        put(56, &self.wal_size.to_be_bytes());
        put(64, &self.wal_salt1.to_be_bytes());
        put(68, &self.wal_salt2.to_be_bytes());
        put(72, &self.epoch.0.to_be_bytes());
        put(80, &self.checksum_after.0.to_be_bytes());
        put(88, &self.checksum_before.0.to_be_bytes());
        put(96, &self.wal_frame_checksum.to_be_bytes());
        out
    }

    /// Reads and checks the header at the start of these bytes.
    pub fn decode(bytes: &[u8]) -> Result<Header, DecodeError> {
        let Some(bytes) = bytes.first_chunk::<HEADER_BYTES>() else {
            let whole_magic = bytes.len() >= MAGIC.len();
            let other = whole_magic && bytes[..MAGIC.len()] != MAGIC;
            return Err(if other { DecodeError::Magic } else { DecodeError::Truncated });
        };
        if bytes[..4] != MAGIC {
            return Err(DecodeError::Magic);
        }
        let flags = u32_at(bytes, 4);
        if flags < FLAGS_VERSION_ONE {
            return Err(DecodeError::VersionOne);
        }
        if flags != FLAG_NO_CHECKSUM {
            return Err(DecodeError::Header(HeaderProblem::Flags(flags)));
        }
        if u64_at(bytes, 40) != 0 {
            return Err(DecodeError::Header(HeaderProblem::PreApplyChecksum));
        }
        let header = Header {
            page_size: u32_at(bytes, 8),
            commit: u32_at(bytes, 12),
            min_txid: Txid(u64_at(bytes, 16)),
            max_txid: Txid(u64_at(bytes, 24)),
            timestamp: Timestamp(u64_at(bytes, 32).cast_signed()),
            wal_offset: u64_at(bytes, 48).cast_signed(),
            wal_size: u64_at(bytes, 56).cast_signed(),
            wal_salt1: u32_at(bytes, 64),
            wal_salt2: u32_at(bytes, 68),
            epoch: Epoch(u64_at(bytes, 72)),
            checksum_after: Checksum(u64_at(bytes, 80)),
            checksum_before: Checksum(u64_at(bytes, 88)),
            wal_frame_checksum: u32_at(bytes, 96),
        };
        header.check().map_err(DecodeError::Header)?;
        Ok(header)
    }

    /// Whether every reader of the format takes these values.
    pub(crate) fn check(&self) -> Result<(), HeaderProblem> {
        let sane_size = (PAGE_BYTES_MIN..=PAGE_BYTES_MAX).contains(&self.page_size);
        if !sane_size || !self.page_size.is_power_of_two() {
            return Err(HeaderProblem::PageSize(self.page_size));
        }
        if self.commit == 0 {
            return Err(HeaderProblem::NoPages);
        }
        if self.min_txid == Txid::ZERO || self.max_txid < self.min_txid {
            return Err(HeaderProblem::Txids(self.min_txid, self.max_txid));
        }
        let from_wal = self.wal_size != 0 || self.wal_salt1 != 0 || self.wal_salt2 != 0;
        if self.wal_offset < 0 || self.wal_size < 0 || (from_wal && self.wal_offset == 0) {
            return Err(HeaderProblem::Wal { offset: self.wal_offset, size: self.wal_size });
        }
        Ok(())
    }
}

fn u32_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_be_bytes(word)
}

fn u64_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_be_bytes(word)
}
