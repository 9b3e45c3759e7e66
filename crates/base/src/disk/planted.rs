//! Names that another user may have planted where this process writes with more rights than theirs.
//!
//! A symbolic link is followed where root or this user made it, or where it leads to what its maker owns. A further
//! name of a file (a hard link) counts where its directory belongs to root, to this user or to the file's owner. What
//! changes hands between this look and the use of the name is not seen; the kernel's `fs.protected_symlinks` and
//! `fs.protected_hardlinks` stand beside it.

use rustix::fs::{CWD, FileType, Stat, lstat, stat};
use std::io;
use std::path::Path;

/// What root or this user made needs no look.
fn trusted(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

/// Refuses a planted name; one that does not exist is fine.
pub fn refuse(path: &Path) -> io::Result<()> {
    let found = match lstat(path) {
        Ok(found) => found,
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    match FileType::from_raw_mode(found.st_mode) {
        FileType::Symlink => refuse_symbolic(path, &found),
        FileType::RegularFile if found.st_nlink > 1 => refuse_hard(path, &found),
        _ => Ok(()),
    }
}

fn refuse_symbolic(path: &Path, link: &Stat) -> io::Result<()> {
    if trusted(link.st_uid) {
        return Ok(());
    }
    match stat(path) {
        Ok(target) if target.st_uid == link.st_uid => Ok(()),
        Ok(target) => Err(denied(format!(
            "{} is a symbolic link of uid {} to what belongs to uid {}",
            path.display(),
            link.st_uid,
            target.st_uid
        ))),
        // Where it leads to nothing, something would be made there.
        Err(_) => Err(denied(format!("{} is a symbolic link of uid {}", path.display(), link.st_uid))),
    }
}

fn refuse_hard(path: &Path, file: &Stat) -> io::Result<()> {
    const OTHERS_WRITE: u32 = 0o002;
    let above = rustix::fs::statat(CWD, super::parent(path), rustix::fs::AtFlags::empty())?;
    let open = above.st_mode & OTHERS_WRITE != 0;
    if !open && (trusted(above.st_uid) || above.st_uid == file.st_uid) {
        return Ok(());
    }
    Err(denied(format!(
        "{} has further names, belongs to uid {}, and lies where uid {} may plant one",
        path.display(),
        file.st_uid,
        if open { "any".to_owned() } else { above.st_uid.to_string() }
    )))
}

fn denied(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Disk, LocalDisk, Open};
    use rustix::fs::{AtFlags, Gid, Uid, chownat};
    use std::path::PathBuf;

    /// A directory of another user with a file of root's beside it; such tests need root.
    fn theirs() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        LocalDisk.create_dir_all(&data).unwrap();
        let victim = dir.path().join("victim");
        LocalDisk.open(&victim, Open::CreateNew).unwrap();
        give(&data);
        (dir, data, victim)
    }

    fn give(path: &Path) {
        let other = (Some(Uid::from_raw(65534)), Some(Gid::from_raw(65534)));
        chownat(CWD, path, other.0, other.1, AtFlags::SYMLINK_NOFOLLOW).expect("this test needs root");
    }

    #[test]
    fn what_another_user_planted_is_refused_and_what_is_theirs_or_ours_is_not() {
        let (_dir, data, victim) = theirs();
        let (link, hard, own, ours) =
            (data.join("link"), data.join("hard"), data.join("own"), data.join("ours"));
        rustix::fs::symlink(&victim, &link).unwrap();
        give(&link);
        rustix::fs::link(&victim, &hard).unwrap();
        for planted in [&link, &hard] {
            assert_eq!(refuse(planted).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        }
        rustix::fs::symlink("/nowhere/at/all", &own).unwrap();
        give(&own);
        refuse(&own).unwrap_err();
        LocalDisk.open(&data.join("theirs"), Open::CreateNew).unwrap();
        give(&data.join("theirs"));
        LocalDisk.remove_file(&own).unwrap();
        rustix::fs::symlink("theirs", &own).unwrap();
        give(&own);
        refuse(&own).unwrap();
        rustix::fs::symlink(&victim, &ours).unwrap();
        refuse(&ours).unwrap();
        refuse(&data.join("theirs")).unwrap();
        refuse(&data.join("missing")).unwrap();
    }
}
