//! The way to a path, walked descriptor by descriptor, so that nobody else decides where a change lands.
//!
//! A link is followed only where root or this process's own user made it, in directories that only they can change:
//! whoever else owns a directory above could otherwise turn `--fix` at any directory of the machine. What is opened
//! is what was looked at; no path is resolved twice.

use super::helper::{DIRECTORY_MODE, Undone, undone};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

/// Links on one way, as the kernel bounds them.
const LINKS_MAX: usize = 40;
/// Write permission for a group or everybody.
const SHARED: u32 = 0o022;
/// Only its owner removes what lies in such a directory.
const STICKY: u32 = 0o1000;

/// Who decides where a path leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trust {
    /// Only root and the node's own user.
    Sure,
    /// Somebody else could put a link on the way, and has not.
    Open,
    /// Somebody else's link is on the way.
    Led,
}

impl Trust {
    /// Once a link in the last part of the path has been moved away.
    pub(super) fn without_the_last(self) -> Trust {
        if self == Trust::Led { Trust::Open } else { self }
    }
}

/// A directory on the way.
#[derive(Debug)]
pub(super) struct Place {
    opened: OwnedFd,
    real: PathBuf,
    safe: bool,
}

impl Place {
    fn root() -> Result<Place, Undone> {
        let opened = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let opened = opened.map_err(undone("/ cannot be opened"))?;
        Ok(Place { opened, real: PathBuf::from("/"), safe: true })
    }

    /// The directory of a name in it, where it is no link.
    pub(super) fn directory(&self, name: &OsStr) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.opened, name, flags, Mode::empty())
    }

    /// Makes a directory in it, with a mode that no umask changes; nothing where the name is taken.
    pub(super) fn make(&self, name: &OsStr) -> Result<Option<OwnedFd>, Undone> {
        let failed = || undone(format!("{} cannot be made", self.real.join(name).display()));
        let mode = Mode::from_raw_mode(DIRECTORY_MODE);
        match rustix::fs::mkdirat(&self.opened, name, mode) {
            Err(Errno::EXIST) => return Ok(None),
            other => other.map_err(failed())?,
        }
        let made = self.directory(name).map_err(failed())?;
        rustix::fs::fchmod(&made, mode).map_err(failed())?;
        Ok(Some(made))
    }
}

/// The directory that holds the last part of a path, and that part. Where `made` is given, directories that are
/// missing are made and told there.
pub(super) fn parent(path: &Path, mut made: Option<&mut Vec<String>>) -> Result<(Place, OsString), Undone> {
    let mut here = Place::root()?;
    let mut rest = parts(path);
    let mut links = 0;
    while let Some(part) = rest.pop() {
        if rest.is_empty() {
            return Ok((here, part));
        }
        let real = if part == ".." { above(&here.real) } else { here.real.join(&part) };
        let failed = || undone(format!("{} cannot be entered", real.display()));
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut opened = rustix::fs::openat(&here.opened, &part, flags, Mode::empty());
        if let (Err(Errno::NOENT), Some(made)) = (&opened, made.as_deref_mut()) {
            if here.make(&part)?.is_some() {
                made.push(format!("made {}", real.display()));
            }
            opened = rustix::fs::openat(&here.opened, &part, flags, Mode::empty());
        }
        let opened = opened.map_err(failed())?;
        let at = rustix::fs::fstat(&opened).map_err(failed())?;
        if FileType::from_raw_mode(at.st_mode) == FileType::Symlink {
            links += 1;
            if !here.safe || !ours(at.st_uid) {
                let what = format!("{} is a link that others can lead elsewhere", real.display());
                return Err((what, Errno::PERM.raw_os_error()));
            }
            if links > LINKS_MAX {
                return Err(failed()(Errno::LOOP));
            }
            let to = rustix::fs::readlinkat(&opened, "", Vec::new()).map_err(failed())?;
            let to = PathBuf::from(OsString::from_vec(to.into_bytes()));
            if to.is_absolute() {
                here = Place::root()?;
            }
            rest.extend(parts(&to));
        } else {
            let closed = at.st_mode & SHARED == 0 || at.st_mode & STICKY != 0;
            here = Place { opened, real, safe: here.safe && ours(at.st_uid) && closed };
        }
    }
    // The root itself.
    Ok((here, OsString::from(".")))
}

/// Who decides where a path leads.
pub(super) fn trust(path: &Path) -> Trust {
    match parent(path, None) {
        Ok((place, last)) => {
            let at = rustix::fs::statat(&place.opened, &last, AtFlags::SYMLINK_NOFOLLOW);
            let link = at.is_ok_and(|at| {
                FileType::from_raw_mode(at.st_mode) == FileType::Symlink && !(place.safe && ours(at.st_uid))
            });
            match (link, place.safe) {
                (true, _) => Trust::Led,
                (false, true) => Trust::Sure,
                (false, false) => Trust::Open,
            }
        }
        Err((_, errno)) if errno == Errno::PERM.raw_os_error() => Trust::Led,
        // It cannot be walked any further, by nobody.
        Err(_) => nearest(path),
    }
}

/// The same for a path that ends on the way.
fn nearest(path: &Path) -> Trust {
    match path.parent() {
        Some(above) if above != Path::new("/") => trust(above),
        _ => Trust::Sure,
    }
}

fn ours(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

fn above(real: &Path) -> PathBuf {
    real.parent().unwrap_or(real).to_owned()
}

/// The parts of a path, the last one first.
fn parts(path: &Path) -> Vec<OsString> {
    let named = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    let mut parts: Vec<OsString> = named.map(|part| part.as_os_str().to_owned()).collect();
    parts.reverse();
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{chown, symlink};

    const SOMEBODY: u32 = 4321;

    #[test]
    fn a_link_is_followed_only_where_nobody_else_could_have_put_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let make = |name: &str, uid: u32| {
            std::fs::create_dir(root.join(name)).unwrap();
            chown(root.join(name), Some(uid), None).unwrap();
        };
        let link = |name: &str, to: &str, uid: u32| {
            symlink(to, root.join(name)).unwrap();
            std::os::unix::fs::lchown(root.join(name), Some(uid), None).unwrap();
        };
        for (name, uid) in [("own", 0), ("own/deep", 0), ("theirs", SOMEBODY), ("theirs/deep", 0)] {
            make(name, uid);
        }
        link("way", "own", 0);
        link("given", "own", SOMEBODY);
        link("theirs/way", "../own", 0);
        for (path, wanted) in [
            ("own/deep", Trust::Sure),
            ("own/missing", Trust::Sure),
            ("own/missing/further", Trust::Sure),
            ("way/deep", Trust::Sure),
            ("way", Trust::Sure),
            ("theirs", Trust::Sure),
            ("theirs/deep", Trust::Open),
            ("theirs/missing/further", Trust::Open),
            ("theirs/way", Trust::Led),
            ("theirs/way/deep", Trust::Led),
            ("theirs/way/deep/further", Trust::Led),
            ("given", Trust::Led),
            ("given/deep", Trust::Led),
        ] {
            assert_eq!(trust(&root.join(path)), wanted, "{path}");
        }
        let mut made = Vec::new();
        let (what, _) = parent(&root.join("theirs/way/new/one"), Some(&mut made)).unwrap_err();
        assert!(what.ends_with("theirs/way is a link that others can lead elsewhere"), "{what}");
        assert!(made.is_empty() && !root.join("own/new").exists());
    }
}
