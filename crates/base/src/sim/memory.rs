#![allow(
    unsafe_code,
    reason = "the wal-index is shared memory that SQLite reads and writes through pointers"
)]
//! The memory of a wal-index: one anonymous file for the machine, mapped once by every connection.
//!
//! A connection keeps its mapping until it lets go of it, also after its process has "crashed": it is then cut off
//! ([`Mapping::detach`]), so that what a dead connection still writes while it is dropped reaches nobody. The file never
//! shrinks, so no mapping can fault.

use rustix::fs::MemfdFlags;
use rustix::mm::{MapFlags, ProtFlags};
use std::ffi::c_void;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Shared bytes that only grow.
#[derive(Debug)]
pub(super) struct Memory {
    file: OwnedFd,
    len: AtomicU64,
}

impl Memory {
    pub(super) fn new() -> io::Result<Memory> {
        let file = rustix::fs::memfd_create("sim-shm", MemfdFlags::CLOEXEC)?;
        Ok(Memory { file, len: AtomicU64::new(0) })
    }

    pub(super) fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    pub(super) fn grow(&self, len: u64) -> io::Result<()> {
        if len > self.len() {
            rustix::fs::ftruncate(&self.file, len)?;
            self.len.store(len, Ordering::Release);
        }
        Ok(())
    }

    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match rustix::io::pread(&self.file, &mut buffer[done..], offset + done as u64)? {
                0 => break,
                count => done += count,
            }
        }
        Ok(done)
    }

    pub(super) fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.grow(offset + bytes.len() as u64)?;
        let mut done = 0;
        while done < bytes.len() {
            done += rustix::io::pwrite(&self.file, &bytes[done..], offset + done as u64)?;
        }
        Ok(())
    }
}

/// A part of a [`Memory`] in this process's address space.
#[derive(Debug)]
pub(super) struct Mapping {
    memory: Arc<Memory>,
    address: *mut c_void,
    len: usize,
    offset: u64,
}

// SAFETY: the address is only handed out as a raw pointer and replaced or unmapped by whole-range system calls, which
// any thread may make.
unsafe impl Send for Mapping {}
// SAFETY: as above; `detach` and `address` touch no Rust-visible memory.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps a range that lies inside the memory; the offset is a multiple of the system's page size.
    pub(super) fn new(memory: &Arc<Memory>, offset: u64, len: usize) -> io::Result<Mapping> {
        if offset + len as u64 > memory.len() {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let address = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), len, access, MapFlags::SHARED, &memory.file, offset)?
        };
        Ok(Mapping { memory: Arc::clone(memory), address, len, offset })
    }

    pub(super) fn address(&self) -> *mut c_void {
        self.address
    }

    /// Makes further writes through this mapping private.
    pub(super) fn detach(&self) {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::FIXED;
        // SAFETY: replaces exactly the range that `new` mapped, with the same bytes of the same file, in one step; the
        // pointers into it stay valid, and nothing but SQLite's raw pointers refers to it.
        let replaced = unsafe {
            rustix::mm::mmap(self.address, self.len, access, flags, &self.memory.file, self.offset)
        };
        debug_assert!(replaced.is_ok(), "a mapping is replaced by one of the same size: {replaced:?}");
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range that `new` mapped; SQLite has been told, or has said itself, that its pointers are void.
        let _ = unsafe { rustix::mm::munmap(self.address, self.len) };
    }
}
