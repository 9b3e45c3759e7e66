//! An open file of the simulated disk, as [`DiskFile`] and as what the VFS stands on.

use super::locks::HandleId;
use super::machine::Machine;
use crate::disk::DiskFile;
use std::io;
use std::sync::Arc;

/// Closes itself when dropped.
#[derive(Debug)]
pub(super) struct SimFile {
    pub(super) machine: Arc<Machine>,
    pub(super) id: HandleId,
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.machine.state().read(self.id, buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.machine.state().write(self.id, bytes, offset)
    }

    fn len(&self) -> io::Result<u64> {
        self.machine.state().len(self.id)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.machine.state().set_len(self.id, len)
    }

    fn sync(&self) -> io::Result<()> {
        self.machine.state().sync(self.id)
    }

    fn set_modified(&self, unix_ms: i64) -> io::Result<()> {
        let ns = i128::from(unix_ms.max(0)) * 1_000_000;
        self.machine.state().set_modified(self.id, ns)
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.machine.state().close(self.id);
    }
}
