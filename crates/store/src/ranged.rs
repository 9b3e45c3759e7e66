//! An object as a file that can be read anywhere: whole blocks are fetched, and the last ones kept.

use crate::{ErrorKind, Key, Objects, StoreError, Tag};
use base::DiskFile;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes that are fetched at once.
const BLOCK_BYTES: usize = 512 << 10;

/// Blocks that one file keeps: what lies at its end (the index) and what is read from front to back.
const BLOCKS_KEPT: usize = 4;

/// Opens an object of a known length for reading.
///
/// What is read is of one version of it: an object that was replaced meanwhile is an error.
pub fn open(store: &Arc<dyn Objects>, key: &Key, len: u64) -> io::Result<Box<dyn DiskFile>> {
    if let Some(file) = store.file(key) {
        let file = file?;
        let found = file.len()?;
        if found != len {
            return Err(other_length(store, key, found, len));
        }
        return Ok(file);
    }
    Ok(Box::new(Ranged { store: Arc::clone(store), key: key.clone(), len, blocks: Mutex::default() }))
}

fn other_length(store: &Arc<dyn Objects>, key: &Key, found: u64, len: u64) -> io::Error {
    let url = store.url();
    io::Error::new(io::ErrorKind::NotFound, format!("{url}/{key} has {found} bytes instead of {len}"))
}

struct Ranged {
    store: Arc<dyn Objects>,
    key: Key,
    len: u64,
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
        let from = number * BLOCK_BYTES as u64;
        let gone = || io::Error::new(io::ErrorKind::NotFound, format!("{} is gone", self.key));
        let piece = self.store.read(&self.key, from, BLOCK_BYTES)?.ok_or_else(gone)?;
        if piece.len != self.len {
            return Err(other_length(&self.store, &self.key, piece.len, self.len));
        }
        let wanted = (self.len - from).min(BLOCK_BYTES as u64);
        if piece.bytes.len() as u64 != wanted {
            let reason = format!("{} bytes came instead of {wanted}", piece.bytes.len());
            return Err(StoreError::new(ErrorKind::Answer, self.store.url(), Some(&self.key), reason).into());
        }
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
            let block = self.block(at / BLOCK_BYTES as u64)?;
            let inside = usize::try_from(at % BLOCK_BYTES as u64).map_err(io::Error::other)?;
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
