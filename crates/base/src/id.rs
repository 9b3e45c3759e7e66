//! Identifiers. Each is parsed at the edge and never validated again inside.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A sealed batch of one incarnation of a database: 1, 2, 3… without gaps. 0 is "nothing sealed yet".
///
/// Decimal for people and in JSON; 16 hex digits in file names ([`Txid::hex`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Txid(pub u64);

impl Txid {
    /// Nothing has been sealed.
    pub const ZERO: Txid = Txid(0);

    /// The one after this.
    #[must_use]
    pub fn next(self) -> Txid {
        Txid(self.0 + 1)
    }

    /// The one before this; zero stays zero.
    #[must_use]
    pub fn previous(self) -> Txid {
        Txid(self.0.saturating_sub(1))
    }

    /// Sixteen lower-case hex digits, as in file names.
    pub fn hex(self) -> String {
        format!("{:016x}", self.0)
    }

    /// Parses exactly sixteen hex digits.
    pub fn from_hex(text: &str) -> Option<Txid> {
        if text.len() != 16 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        u64::from_str_radix(text, 16).ok().map(Txid)
    }
}

impl fmt::Display for Txid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Txid {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Txid)
    }
}

/// A page number of a SQLite database, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pgno(pub u32);

impl Pgno {
    /// The page with the database header.
    pub const ONE: Pgno = Pgno(1);

    /// The page that SQLite's locks lie on; it never holds data and is in no LTX file.
    pub fn lock_page(page_size: u32) -> Pgno {
        Pgno(0x4000_0000 / page_size + 1)
    }
}

impl fmt::Display for Pgno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The right to write, counted: strictly rising with every new holder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

/// The n-th file that has lived under one path, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub u32);

/// A rolling database checksum: XOR over all pages of CRC-64/GO-ISO(pgno ‖ page), bit 63 set.
///
/// Zero stands for "no database" (no pages); every real value has bit 63 set. In JSON and on screen: 16 hex digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Checksum(pub u64);

impl Checksum {
    /// The bit that every checksum of something carries.
    pub const FLAG: u64 = 1 << 63;
    /// No pages at all.
    pub const NONE: Checksum = Checksum(0);
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Serialize for Checksum {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Checksum {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        u64::from_str_radix(&text, 16).map(Checksum).map_err(serde::de::Error::custom)
    }
}

/// Where a database stands: which file, how many seals, and what it must add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Which file under the path.
    pub incarnation: Incarnation,
    /// The last seal; 0 where the file has no committed page yet.
    pub txid: Txid,
    /// The rolling checksum after that seal.
    pub checksum: Checksum,
}

/// The name of a database: its path relative to the node's home, `/` between parts, no `..`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DatabasePath(String);

/// Why a text is no database path. The caller must ask for a relative path without `.` or `..` parts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a path inside the home: use parts separated by `/`, without `.` and `..`")]
pub struct BadDatabasePath(String);

impl DatabasePath {
    /// Checks and takes a relative path.
    pub fn parse(text: &str) -> Result<DatabasePath, BadDatabasePath> {
        let bad = text.is_empty()
            || text.contains('\0')
            || text.split('/').any(|part| part.is_empty() || part == "." || part == "..");
        if bad { Err(BadDatabasePath(text.to_owned())) } else { Ok(DatabasePath(text.to_owned())) }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DatabasePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<String> for DatabasePath {
    type Error = BadDatabasePath;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        DatabasePath::parse(&text)
    }
}

impl From<DatabasePath> for String {
    fn from(path: DatabasePath) -> String {
        path.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_txid_is_hex_in_file_names_and_decimal_elsewhere() {
        assert_eq!(Txid(255).hex(), "00000000000000ff");
        assert_eq!(Txid::from_hex("00000000000000ff"), Some(Txid(255)));
        assert_eq!(Txid::from_hex("ff"), None);
        assert_eq!(Txid::from_hex("+0000000000000ff"), None);
        assert_eq!(Txid(255).to_string(), "255");
    }

    #[test]
    fn a_database_path_stays_inside_the_home() {
        for bad in ["", "/etc/passwd", "../x", "data/../x", "data//x", "./x", "a\0b"] {
            assert!(DatabasePath::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(DatabasePath::parse("data/a b/ü.db").unwrap().as_str(), "data/a b/ü.db");
    }

    #[test]
    fn the_lock_page_follows_the_page_size() {
        assert_eq!(Pgno::lock_page(4096), Pgno(262_145));
        assert_eq!(Pgno::lock_page(65536), Pgno(16_385));
    }
}
