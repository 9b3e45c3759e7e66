//! The manifest: which objects of a store are history, and who may write. One for each volume, replaced by whoever has
//! read what is there, checked by a checksum of its own. Byte by byte: `docs/formats/manifest.md`.
//!
//! Objects that it does not list are none of history's, but for the seals (level 0) that follow the last one it lists:
//! those are found by asking for their names.

use crate::Key;
use base::{Checksum, Epoch, Timestamp, Txid};
use std::collections::BTreeMap;

/// Where it lies, below the prefix.
pub const MANIFEST_KEY: &str = ".stead/manifest";

/// The most bytes of a manifest: some two million files.
pub const MANIFEST_BYTES_MAX: usize = 64 << 20;

const MAGIC: [u8; 4] = *b"StMf";
/// The newest version known here.
const VERSION: u16 = 1;
const HEAD_BYTES: usize = 4 + 2 + 2 + 6 * 8;
const SUM_BYTES: usize = 8;
const TEXT_BYTES_MAX: u64 = 4096;

/// Who wrote last, under which right, and what is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// Rises with each right to write.
    pub epoch: Epoch,
    /// Rises with each manifest.
    pub sequence: u64,
    /// When this one was written.
    pub written: Timestamp,
    /// The node's identity.
    pub owner: u64,
    /// A number that this run of the node made up.
    pub run: u64,
    /// Whether the owner has let go, after its last byte was there.
    pub released: bool,
    /// The node's name, for people.
    pub node: String,
    /// The volume's name.
    pub volume: String,
    /// The files of each history, by its key; ascending by level and TXIDs.
    pub histories: BTreeMap<String, Vec<StoredFile>>,
    /// Objects that no list names any more and that are to be removed.
    pub doomed: Vec<Key>,
}

/// A history file in a store, and what its header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StoredFile {
    /// What it is good for: 0 a seal, 1 to 8 merged, 9 a snapshot.
    pub level: u8,
    /// The level in its name, which it keeps when it rises.
    pub named_level: u8,
    /// The first TXID in it.
    pub min: Txid,
    /// The last TXID in it.
    pub max: Txid,
    /// Its bytes.
    pub bytes: u64,
    /// Bytes of a page.
    pub page_size: u32,
    /// Pages of the database after it.
    pub commit: u32,
    /// When its last TXID was sealed.
    pub sealed: Timestamp,
    /// The right under which it was.
    pub epoch: Epoch,
    /// The checksum of the database before it.
    pub before: Checksum,
    /// The checksum of the database after it.
    pub after: Checksum,
}

/// Bytes that are no manifest. The caller must not write to that store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadManifest {
    /// Something else lies there: choose another prefix.
    #[error("it is no manifest of Stead's")]
    Foreign,
    /// Written by a newer Stead: start that one.
    #[error("it has format {found}, this version knows up to {VERSION}")]
    Newer {
        /// The version that it has.
        found: u16,
    },
    /// Damaged: bring back a good copy.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
}

const OTHER_NAME: u8 = 1;
const SAME_PAGE_SIZE: u8 = 2;
const SAME_EPOCH: u8 = 4;
const CONTINUES: u8 = 8;

impl Manifest {
    /// The bytes of it.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD_BYTES + 64);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_be_bytes());
        out.extend_from_slice(&u16::from(self.released).to_be_bytes());
        let numbers = [self.epoch.0, self.sequence, self.written.0.cast_unsigned(), self.owner, self.run, 0];
        numbers.iter().for_each(|number| out.extend_from_slice(&number.to_be_bytes()));
        put_text(&mut out, &self.node);
        put_text(&mut out, &self.volume);
        put_number(&mut out, self.histories.len() as u64);
        for (base, files) in &self.histories {
            put_text(&mut out, base);
            put_number(&mut out, files.len() as u64);
            let mut last = BEFORE_ALL;
            for file in files {
                put_file(&mut out, file, &last);
                last = *file;
            }
        }
        put_number(&mut out, self.doomed.len() as u64);
        self.doomed.iter().for_each(|key| put_text(&mut out, key.as_str()));
        let sum = sum(&out);
        out.extend_from_slice(&sum.to_be_bytes());
        out
    }

    /// Reads it, if it is whole.
    pub fn decode(bytes: &[u8]) -> Result<Manifest, BadManifest> {
        if bytes.get(..4) != Some(&MAGIC[..]) {
            return Err(BadManifest::Foreign);
        }
        let short = BadManifest::Damaged("it ends early");
        let version = bytes.get(4..6).ok_or(short.clone())?;
        let found = u16::from_be_bytes([version[0], version[1]]);
        if found > VERSION {
            return Err(BadManifest::Newer { found });
        }
        let end = bytes.len().checked_sub(SUM_BYTES).filter(|end| *end >= HEAD_BYTES).ok_or(short)?;
        let (content, stored) = bytes.split_at(end);
        if stored != sum(content).to_be_bytes() {
            return Err(BadManifest::Damaged("its checksum is another"));
        }
        let mut input = Input(&content[6..]);
        let manifest = read(&mut input).ok_or(BadManifest::Damaged("its content makes no sense"))?;
        if !input.0.is_empty() {
            return Err(BadManifest::Damaged("there is more than it says"));
        }
        Ok(manifest)
    }
}

/// What the first file of a history is written as the difference from.
const BEFORE_ALL: StoredFile = StoredFile {
    level: 0,
    named_level: 0,
    min: Txid(0),
    max: Txid(0),
    bytes: 0,
    page_size: 0,
    commit: 0,
    sealed: Timestamp(0),
    epoch: Epoch(0),
    before: Checksum::NONE,
    after: Checksum::NONE,
};

fn put_file(out: &mut Vec<u8>, file: &StoredFile, last: &StoredFile) {
    let flag = |is: bool, flag: u8| if is { flag } else { 0 };
    let continues = file.before == last.after;
    out.push(file.level);
    out.push(
        flag(file.named_level != file.level, OTHER_NAME)
            | flag(file.page_size == last.page_size, SAME_PAGE_SIZE)
            | flag(file.epoch == last.epoch, SAME_EPOCH)
            | flag(continues, CONTINUES),
    );
    if file.named_level != file.level {
        out.push(file.named_level);
    }
    put_difference(out, file.min.0, last.max.0);
    put_number(out, file.max.0.wrapping_sub(file.min.0));
    put_number(out, file.bytes);
    if file.page_size != last.page_size {
        put_number(out, u64::from(file.page_size));
    }
    put_number(out, u64::from(file.commit));
    put_difference(out, file.sealed.0.cast_unsigned(), last.sealed.0.cast_unsigned());
    if file.epoch != last.epoch {
        put_number(out, file.epoch.0);
    }
    if !continues {
        out.extend_from_slice(&file.before.0.to_be_bytes());
    }
    out.extend_from_slice(&file.after.0.to_be_bytes());
}

fn read(input: &mut Input<'_>) -> Option<Manifest> {
    let released = match u16::from_be_bytes(input.array()?) {
        0 => false,
        1 => true,
        _ => return None,
    };
    let [epoch, sequence, written, owner, run, _reserved] = {
        let mut numbers = [0; 6];
        for number in &mut numbers {
            *number = u64::from_be_bytes(input.array()?);
        }
        numbers
    };
    let (node, volume) = (input.text()?, input.text()?);
    let mut histories = BTreeMap::new();
    for _ in 0..input.number()? {
        let base = input.text()?;
        let mut files = Vec::new();
        let mut last = BEFORE_ALL;
        for _ in 0..input.number()? {
            last = read_file(input, &last)?;
            files.push(last);
        }
        histories.insert(base, files);
    }
    let mut doomed = Vec::new();
    for _ in 0..input.number()? {
        doomed.push(Key::parse(&input.text()?).ok()?);
    }
    Some(Manifest {
        epoch: Epoch(epoch),
        sequence,
        written: Timestamp(written.cast_signed()),
        owner,
        run,
        released,
        node,
        volume,
        histories,
        doomed,
    })
}

fn read_file(input: &mut Input<'_>, last: &StoredFile) -> Option<StoredFile> {
    let [level, flags] = input.array()?;
    let has = |flag: u8| flags & flag != 0;
    let [named_level] = if has(OTHER_NAME) { input.array()? } else { [level] };
    let min = input.difference(last.max.0)?;
    let max = min.checked_add(input.number()?)?;
    let bytes = input.number()?;
    let page_size = if has(SAME_PAGE_SIZE) { last.page_size } else { input.number()?.try_into().ok()? };
    let commit = input.number()?.try_into().ok()?;
    let sealed = Timestamp(input.difference(last.sealed.0.cast_unsigned())?.cast_signed());
    let epoch = if has(SAME_EPOCH) { last.epoch } else { Epoch(input.number()?) };
    let before = if has(CONTINUES) { last.after } else { Checksum(u64::from_be_bytes(input.array()?)) };
    let after = Checksum(u64::from_be_bytes(input.array()?));
    let (min, max) = (Txid(min), Txid(max));
    let file =
        StoredFile { level, named_level, min, max, bytes, page_size, commit, sealed, epoch, before, after };
    (level <= 9 && named_level <= 9 && min > Txid::ZERO).then_some(file)
}

fn sum(bytes: &[u8]) -> u64 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, bytes)
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// The difference as a number: small ones of either sign are short.
fn put_difference(out: &mut Vec<u8>, now: u64, was: u64) {
    let difference = now.wrapping_sub(was).cast_signed();
    put_number(out, ((difference << 1) ^ (difference >> 63)).cast_unsigned());
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_number(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// What is left to be read.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return None;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn difference(&mut self, was: u64) -> Option<u64> {
        let number = self.number()?;
        let difference = (number >> 1).cast_signed() ^ -((number & 1).cast_signed());
        Some(was.wrapping_add(difference.cast_unsigned()))
    }

    fn text(&mut self) -> Option<String> {
        let len = self.number().filter(|len| *len <= TEXT_BYTES_MAX)?;
        let (text, rest) = self.0.split_at_checked(usize::try_from(len).ok()?)?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).ok()
    }
}

#[cfg(test)]
mod tests;
