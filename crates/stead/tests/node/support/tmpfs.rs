//! A small file system of its own, to be filled up; needs root.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted tmpfs, unmounted when dropped.
pub struct Tmpfs {
    dir: tempfile::TempDir,
}

impl Tmpfs {
    /// A file system of this size.
    pub fn new(mebibytes: u32) -> Tmpfs {
        Tmpfs::with(&format!("size={mebibytes}m,nr_inodes=10k"))
    }

    /// A file system with options of mount(8).
    pub fn with(options: &str) -> Tmpfs {
        let dir = tempfile::tempdir().unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(dir.path()).status();
        assert!(mounted.unwrap().success(), "a tmpfs cannot be mounted: this test needs root");
        Tmpfs { dir }
    }

    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    fn ballast(&self) -> PathBuf {
        self.root().join("ballast")
    }

    /// Leaves no more than so many bytes.
    pub fn fill(&self, leave: usize) {
        let mut file = File::options().create(true).append(true).open(self.ballast()).unwrap();
        while file.write_all(&[1; 64 << 10]).is_ok() {}
        while file.write_all(&[1; 4 << 10]).is_ok() {}
        let len = file.metadata().unwrap().len();
        file.set_len(len.saturating_sub(leave as u64)).unwrap();
    }

    /// Gives the space back.
    pub fn empty(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: a process that a failed test left must not keep it.
        let _ = Command::new("umount").arg("-l").arg(self.root()).status();
    }
}
