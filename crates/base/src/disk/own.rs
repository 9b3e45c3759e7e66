//! Directories whose contents a process believes, and which therefore nobody else may write to.

use rustix::fs::{FileType, Mode, lstat, mkdir};
use rustix::io::Errno;
use std::io;
use std::path::Path;

/// Makes a directory with this mode, or holds the one that is there against what it must be: of root or of this user, and
/// not for everyone to write to. A link counts by who made it.
pub fn own_directory(dir: &Path, mode: u32) -> io::Result<()> {
    const OTHERS_WRITE: u32 = 0o002;
    match mkdir(dir, Mode::from_raw_mode(mode)) {
        // Whatever the umask takes away.
        Ok(()) => rustix::fs::chmod(dir, Mode::from_raw_mode(mode))?,
        Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let found = lstat(dir)?;
    let node = rustix::process::geteuid().as_raw();
    let (path, whose) = (dir.display(), found.st_uid);
    let refused = |why: String, mend: String| {
        let text = format!("{why}, who could decide what the node does; `sudo {mend}` mends it");
        Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
    };
    if whose != node && whose != 0 {
        return refused(format!("it belongs to uid {whose}"), format!("chown -h {node} {path}"));
    }
    match FileType::from_raw_mode(found.st_mode) {
        FileType::Directory if found.st_mode & OTHERS_WRITE == 0 => Ok(()),
        FileType::Directory => refused("everyone may write to it".to_owned(), format!("chmod o-w {path}")),
        FileType::Symlink => Ok(()),
        _ => Err(io::ErrorKind::NotADirectory.into()),
    }
}
