//! A file system that never answers: FUSE whose server reads nothing; needs root and `/dev/fuse`.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Such a file system, mounted; gone when dropped, and with it every wait for it.
pub struct Silent {
    at: PathBuf,
    server: Child,
}

impl Silent {
    /// Mounts one over a directory.
    pub fn over(at: &Path) -> Silent {
        let script = "exec 3<>/dev/fuse && \
            mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0,allow_other silent \"$1\" && \
            echo mounted && read nothing";
        let mut server = Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(at)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "mounted\n", "FUSE cannot be mounted: this test needs root and /dev/fuse");
        Silent { at: at.to_owned(), server }
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        // With its last descriptor the kernel gives up every request.
        let _ = self.server.kill();
        let _ = self.server.wait();
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}
