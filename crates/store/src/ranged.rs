//! An object as a file that can be read anywhere: whole blocks are fetched, and the last ones kept. Whoever knows what
//! is needed fetches exactly that ([`read_exact`]).

use crate::{ErrorKind, Key, Objects, Piece, StoreError, Tag};
use base::DiskFile;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes that are fetched at once of an object that is read to its end.
const BLOCK_BYTES: usize = 512 << 10;

/// Bytes that are fetched at once for the ends of an object (header and index), at most.
const END_BLOCK_BYTES_MAX: usize = 256 << 10;
/// The same, at least.
const END_BLOCK_BYTES_MIN: usize = 4 << 10;
/// Such a block is at most this part of the object, unless that were less than the least.
const END_BLOCK_PART: u64 = 128;

/// Blocks that one file keeps: what lies at its end (the index) and what is read from front to back.
const BLOCKS_KEPT: usize = 4;

/// Opens an object of a known length for reading.
///
/// What is read is of one version of it: an object that was replaced meanwhile is an error.
pub fn open(store: &Arc<dyn Objects>, key: &Key, len: u64) -> io::Result<Box<dyn DiskFile>> {
    open_by(store, key, len, BLOCK_BYTES)
}

/// Like [`open`], for one who reads little besides the object's ends: fetches less at once.
pub fn open_ends(store: &Arc<dyn Objects>, key: &Key, len: u64) -> io::Result<Box<dyn DiskFile>> {
    let part = usize::try_from(len / END_BLOCK_PART).unwrap_or(usize::MAX);
    open_by(store, key, len, part.clamp(END_BLOCK_BYTES_MIN, END_BLOCK_BYTES_MAX))
}

/// Fetches exactly these bytes of an object of a known length, with one request.
pub fn read_exact(
    store: &Arc<dyn Objects>,
    key: &Key,
    len: u64,
    buffer: &mut Vec<u8>,
    from: u64,
) -> io::Result<()> {
    if let Some(file) = store.file(key) {
        let file = file?;
        let found = file.len()?;
        return if found == len {
            file.read_exact_at(buffer, from)
        } else {
            Err(other_length(store, key, found, len))
        };
    }
    *buffer = fetch(store, key, len, from, buffer.len())?.bytes;
    Ok(())
}

fn open_by(
    store: &Arc<dyn Objects>,
    key: &Key,
    len: u64,
    block_bytes: usize,
) -> io::Result<Box<dyn DiskFile>> {
    if let Some(file) = store.file(key) {
        let file = file?;
        let found = file.len()?;
        if found != len {
            return Err(other_length(store, key, found, len));
        }
        return Ok(file);
    }
    Ok(Box::new(Ranged {
        store: Arc::clone(store),
        key: key.clone(),
        len,
        block_bytes,
        blocks: Mutex::default(),
    }))
}

/// A piece of an object that must be there, as long as it must be.
fn fetch(store: &Arc<dyn Objects>, key: &Key, len: u64, from: u64, count: usize) -> io::Result<Piece> {
    let gone = || io::Error::new(io::ErrorKind::NotFound, format!("{key} is gone"));
    let piece = store.read(key, from, count)?.ok_or_else(gone)?;
    if piece.len != len {
        return Err(other_length(store, key, piece.len, len));
    }
    if piece.bytes.len() != count {
        let reason = format!("{} bytes came instead of {count}", piece.bytes.len());
        return Err(StoreError::new(ErrorKind::Answer, store.url(), Some(key), reason).into());
    }
    Ok(piece)
}

fn other_length(store: &Arc<dyn Objects>, key: &Key, found: u64, len: u64) -> io::Error {
    let url = store.url();
    io::Error::new(io::ErrorKind::NotFound, format!("{url}/{key} has {found} bytes instead of {len}"))
}

struct Ranged {
    store: Arc<dyn Objects>,
    key: Key,
    len: u64,
    block_bytes: usize,
    blocks: Mutex<Blocks>,
}

/// The blocks fetched last, the newest at the end.
#[derive(Default)]
struct Blocks {
    kept: Vec<(u64, Arc<Vec<u8>>)>,
    version: Option<Tag>,
}

impl fmt::Debug for Ranged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ranged({}, {} bytes)", self.key, self.len)
    }
}

impl Ranged {
    fn block(&self, number: u64) -> io::Result<Arc<Vec<u8>>> {
        {
            let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(at) = blocks.kept.iter().position(|(kept, _)| *kept == number) {
                let found = blocks.kept.remove(at);
                let bytes = Arc::clone(&found.1);
                blocks.kept.push(found);
                return Ok(bytes);
            }
        }
        let from = number * self.block_bytes as u64;
        let wanted = (self.len - from).min(self.block_bytes as u64);
        let wanted = usize::try_from(wanted).map_err(io::Error::other)?;
        let piece = fetch(&self.store, &self.key, self.len, from, wanted)?;
        let bytes = Arc::new(piece.bytes);
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        if *blocks.version.get_or_insert_with(|| piece.tag.clone()) != piece.tag {
            return Err(io::Error::other(format!("{} was replaced while it was read", self.key)));
        }
        if blocks.kept.len() >= BLOCKS_KEPT {
            blocks.kept.remove(0);
        }
        blocks.kept.push((number, Arc::clone(&bytes)));
        Ok(bytes)
    }

    fn refused<T>(&self) -> io::Result<T> {
        Err(io::Error::new(io::ErrorKind::Unsupported, format!("{} is an object: it is only read", self.key)))
    }
}

impl DiskFile for Ranged {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            let at = offset + done as u64;
            if at >= self.len {
                break;
            }
            let block = self.block(at / self.block_bytes as u64)?;
            let inside = usize::try_from(at % self.block_bytes as u64).map_err(io::Error::other)?;
            let count = (block.len() - inside).min(buffer.len() - done);
            buffer[done..done + count].copy_from_slice(&block[inside..inside + count]);
            done += count;
        }
        Ok(done)
    }
    fn write_at(&self, _bytes: &[u8], _offset: u64) -> io::Result<()> {
        self.refused()
    }
    fn len(&self) -> io::Result<u64> {
        Ok(self.len)
    }
    fn set_len(&self, _len: u64) -> io::Result<()> {
        self.refused()
    }
    fn sync(&self) -> io::Result<()> {
        self.refused()
    }
    fn set_modified(&self, _unix_ms: i64) -> io::Result<()> {
        self.refused()
    }
}
