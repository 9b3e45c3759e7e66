//! The write-ahead log's bytes, parsed and checked. Pure: takes bytes, knows no file.
//!
//! Source: <https://www.sqlite.org/walformat.html> and <https://www.sqlite.org/fileformat2.html#walformat>.
//! A log is a 32-byte header and frames of 24 bytes plus a page. A frame belongs to the log when its two salts are the
//! header's and its running checksum continues the frame before it; it is committed when it or a later frame of the
//! same kind carries a database size.

use base::Pgno;

/// Bytes before the first frame.
pub const HEADER_LEN: u64 = 32;
/// Bytes before each page.
pub const FRAME_HEADER_LEN: u64 = 24;
const MAGIC_LITTLE: u32 = 0x377f_0682;
const MAGIC_BIG: u32 = 0x377f_0683;

/// The two numbers that change whenever the log starts over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Salts(pub u32, pub u32);

/// Where somebody stands in a log: `frame` frames of the log with these salts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalPosition {
    /// Which log.
    pub salts: Salts,
    /// How many of its frames.
    pub frame: u32,
}

/// The running checksum, which every frame continues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Running(pub u32, pub u32);

/// The header of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalHeader {
    /// Bytes a page.
    pub page_size: u32,
    /// Its salts.
    pub salts: Salts,
    /// The checksum that the first frame continues.
    pub running: Running,
    /// Checksums read their words big-endian.
    pub big_endian: bool,
}

/// One frame, found good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Which page.
    pub pgno: Pgno,
    /// Pages in the database after the commit that this frame ends; 0 in its other frames.
    pub commit: u32,
    /// The page.
    pub page: &'a [u8],
}

/// Bytes of a frame.
pub fn frame_len(page_size: u32) -> usize {
    FRAME_HEADER_LEN as usize + page_size as usize
}

/// The byte at which frame `frame` (from 1) of a log starts.
pub fn frame_offset(frame: u32, page_size: u32) -> u64 {
    HEADER_LEN + u64::from(frame.saturating_sub(1)) * (FRAME_HEADER_LEN + u64::from(page_size))
}

/// The first frames' end: the byte after frame `frame`.
pub fn end_offset(frame: u32, page_size: u32) -> u64 {
    HEADER_LEN + u64::from(frame) * (FRAME_HEADER_LEN + u64::from(page_size))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

impl WalHeader {
    /// Reads a header; `None` where the bytes are none (an empty, foreign or torn log).
    pub fn parse(bytes: &[u8; HEADER_LEN as usize]) -> Option<WalHeader> {
        let big_endian = match word(bytes, 0) {
            MAGIC_LITTLE => false,
            MAGIC_BIG => true,
            _ => return None,
        };
        let page_size = word(bytes, 8);
        if !(512..=65536).contains(&page_size) || !page_size.is_power_of_two() {
            return None;
        }
        let running = Running::default().over(&bytes[..24], big_endian);
        if running != Running(word(bytes, 24), word(bytes, 28)) {
            return None;
        }
        Some(WalHeader { page_size, salts: Salts(word(bytes, 16), word(bytes, 20)), running, big_endian })
    }
}

impl Running {
    /// The checksum continued over some bytes, a multiple of eight.
    ///
    /// Each step waits for the one before, so a page is summed as [`LANES`] pieces at once, each from zero. That is the
    /// same: the checksum is linear (modulo 2^32), so a piece's share is what it comes to alone, and what came before
    /// passes it through [`STEPS`].
    #[must_use]
    pub fn over(self, bytes: &[u8], big_endian: bool) -> Running {
        let (pairs, rest) = bytes.as_chunks::<8>();
        debug_assert!(rest.is_empty());
        if big_endian {
            self.over_pairs(pairs, u32::from_be_bytes)
        } else {
            self.over_pairs(pairs, u32::from_le_bytes)
        }
    }

    #[inline]
    fn over_pairs(self, pairs: &[[u8; 8]], read: impl Fn([u8; 4]) -> u32) -> Running {
        let words = |[a, b, c, d, e, f, g, h]: [u8; 8]| (read([a, b, c, d]), read([e, f, g, h]));
        let piece = pairs.len() / LANES;
        if !piece.is_power_of_two() || piece * LANES != pairs.len() || piece.ilog2() as usize >= STEPS.len() {
            return pairs.iter().fold(self, |running, pair| running.step(words(*pair)));
        }
        let (front, back) = pairs.split_at(2 * piece);
        let ((first, second), (third, fourth)) = (front.split_at(piece), back.split_at(piece));
        let mut lanes = [Running::default(); LANES];
        for (((a, b), c), d) in first.iter().zip(second).zip(third).zip(fourth) {
            let [one, two, three, four] = lanes;
            lanes = [one.step(words(*a)), two.step(words(*b)), three.step(words(*c)), four.step(words(*d))];
        }
        let through = STEPS[piece.ilog2() as usize];
        lanes.iter().fold(self, |before, share| before.through(through).plus(*share))
    }

    #[inline]
    fn step(self, (a, b): (u32, u32)) -> Running {
        let one = self.0.wrapping_add(a).wrapping_add(self.1);
        Running(one, self.1.wrapping_add(b).wrapping_add(one))
    }

    const fn plus(self, other: Running) -> Running {
        Running(self.0.wrapping_add(other.0), self.1.wrapping_add(other.1))
    }

    /// Through steps over zeroes: a matrix, of which both columns are given.
    const fn through(self, [first, second]: [Running; 2]) -> Running {
        Running(
            first.0.wrapping_mul(self.0).wrapping_add(second.0.wrapping_mul(self.1)),
            first.1.wrapping_mul(self.0).wrapping_add(second.1.wrapping_mul(self.1)),
        )
    }
}

/// Pieces of a page that are summed at once.
const LANES: usize = 4;

/// What 1, 2, 4, … steps over zeroes make of (1, 0) and of (0, 1); enough for a quarter of the largest page.
const STEPS: [[Running; 2]; 12] = {
    let mut steps = [[Running(1, 1), Running(1, 2)]; 12];
    let mut at = 1;
    while at < steps.len() {
        let half = steps[at - 1];
        steps[at] = [half[0].through(half), half[1].through(half)];
        at += 1;
    }
    steps
};

/// A frame with its header, found to continue the log; `None` where it does not.
pub fn check_frame<'a>(
    bytes: &'a [u8],
    salts: Salts,
    before: Running,
    big_endian: bool,
) -> Option<(Frame<'a>, Running)> {
    let (head, page) = bytes.split_at_checked(FRAME_HEADER_LEN as usize)?;
    if Salts(word(head, 8), word(head, 12)) != salts || word(head, 0) == 0 {
        return None;
    }
    let after = before.over(&head[..8], big_endian).over(page, big_endian);
    if after != Running(word(head, 16), word(head, 20)) {
        return None;
    }
    Some((Frame { pgno: Pgno(word(head, 0)), commit: word(head, 4), page }, after))
}

/// The running checksum that a frame's header claims, unchecked.
pub fn claimed(head: &[u8; FRAME_HEADER_LEN as usize]) -> (Salts, Running) {
    (Salts(word(head, 8), word(head, 12)), Running(word(head, 16), word(head, 20)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::disallowed_methods, reason = "reads a log that SQLite wrote")]
    fn written_by_sqlite() -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let conn = rusqlite::Connection::open(&path).unwrap();
        conn.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1)").unwrap();
        std::fs::read(dir.path().join("a.db-wal")).unwrap()
    }

    #[test]
    fn a_log_written_by_sqlite_is_read_to_its_end() {
        let log = written_by_sqlite();
        let header = WalHeader::parse(log[..32].try_into().unwrap()).unwrap();
        assert_eq!(header.page_size, 4096);
        let (mut running, mut commits) = (header.running, Vec::new());
        for bytes in log[32..].chunks(4096 + 24) {
            let (frame, next) = check_frame(bytes, header.salts, running, header.big_endian).unwrap();
            running = next;
            commits.push((frame.pgno.0, frame.commit));
        }
        assert_eq!(commits, [(1, 0), (2, 2), (2, 2)], "CREATE writes two pages, INSERT one");
    }

    #[test]
    fn pieces_summed_at_once_come_to_what_steps_come_to() {
        for page_bytes in [8, 16, 24, 32, 512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536, 131_072] {
            let page: Vec<u8> =
                (0..page_bytes).map(|at: u32| (at.wrapping_mul(at) >> 3) as u8 ^ 0xc5).collect();
            for big_endian in [false, true] {
                let read = if big_endian { u32::from_be_bytes } else { u32::from_le_bytes };
                let before = Running(0xdead_beef, 0x0bad_cafe);
                let stepped =
                    page.as_chunks::<4>().0.as_chunks::<2>().0.iter().fold(before, |running, pair| {
                        let one = running.0.wrapping_add(read(pair[0])).wrapping_add(running.1);
                        Running(one, running.1.wrapping_add(read(pair[1])).wrapping_add(one))
                    });
                assert_eq!(before.over(&page, big_endian), stepped, "{page_bytes} bytes");
            }
        }
    }

    #[test]
    fn any_changed_byte_ends_the_log() {
        let log = written_by_sqlite();
        let header = WalHeader::parse(log[..32].try_into().unwrap()).unwrap();
        let first = &log[32..32 + 24 + 4096];
        for at in [0, 3, 5, 9, 14, 17, 22, 24, 2000, 4119] {
            let mut torn = first.to_vec();
            torn[at] ^= 1;
            assert_eq!(
                check_frame(&torn, header.salts, header.running, header.big_endian),
                None,
                "byte {at}"
            );
        }
        for at in 0..32 {
            let mut torn: [u8; 32] = log[..32].try_into().unwrap();
            torn[at] ^= 1;
            assert_eq!(WalHeader::parse(&torn), None, "header byte {at}");
        }
    }
}
