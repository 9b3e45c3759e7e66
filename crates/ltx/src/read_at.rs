//! Reading at a position, for random access to the pages of a file.

use base::DiskFile;
use std::io::{self, Read};
use std::sync::Arc;

/// Bytes that can be read anywhere, by many at once.
#[allow(clippy::len_without_is_empty, reason = "a length that can fail; nobody asks whether a file is empty")]
pub trait ReadAt {
    /// Fills the buffer from this offset, or fails; `UnexpectedEof` beyond the end.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
    /// Bytes in all.
    fn len(&self) -> io::Result<u64>;
}

impl ReadAt for [u8] {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let from = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let to = from.checked_add(buf.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        let bytes = self.get(from..to).ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(bytes);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(<[u8]>::len(self) as u64)
    }
}

impl ReadAt for Vec<u8> {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.as_slice().read_exact_at(buf, offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.as_slice().len() as u64)
    }
}

impl ReadAt for dyn DiskFile + '_ {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        DiskFile::read_exact_at(self, buf, offset)
    }

    fn len(&self) -> io::Result<u64> {
        DiskFile::len(self)
    }
}

impl ReadAt for Box<dyn DiskFile> {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        DiskFile::read_exact_at(&**self, buf, offset)
    }

    fn len(&self) -> io::Result<u64> {
        DiskFile::len(&**self)
    }
}

impl ReadAt for Arc<dyn DiskFile> {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        DiskFile::read_exact_at(&**self, buf, offset)
    }

    fn len(&self) -> io::Result<u64> {
        DiskFile::len(&**self)
    }
}

impl<S: ReadAt + ?Sized> ReadAt for &S {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        (**self).read_exact_at(buf, offset)
    }

    fn len(&self) -> io::Result<u64> {
        (**self).len()
    }
}

/// A source read from front to back, for [`Decoder`](crate::Decoder).
#[derive(Debug)]
pub struct Sequential<S: ReadAt> {
    source: S,
    next: u64,
    end: u64,
}

impl<S: ReadAt> Sequential<S> {
    /// The whole source, as long as it is now.
    pub fn new(source: S) -> io::Result<Sequential<S>> {
        let end = source.len()?;
        Ok(Sequential { source, next: 0, end })
    }

    /// The bytes from one offset to another.
    pub fn range(source: S, from: u64, to: u64) -> Sequential<S> {
        Sequential { source, next: from, end: to }
    }
}

impl<S: ReadAt> Read for Sequential<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.next)).unwrap_or(usize::MAX);
        let count = left.min(buf.len());
        self.source.read_exact_at(&mut buf[..count], self.next)?;
        self.next += count as u64;
        Ok(count)
    }
}
