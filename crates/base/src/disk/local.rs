//! The machine's own file system.

use super::{Disk, DiskFile, Entry, Metadata, Open, Owner};
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Threads that read from it at once, at most: beyond that a disk is not faster, and each takes memory.
const READERS_MAX: usize = 4;

/// The machine's own file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalDisk;

#[allow(clippy::disallowed_methods, reason = "the one place that opens files")]
impl Disk for LocalDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true);
        match how {
            Open::Read => {
                // A pipe in the place of a file is not waited for; files themselves know no waiting.
                options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
            }
            Open::Write => return open_own(path),
            Open::Create { private } => {
                return create(path, if private { 0o600 } else { 0o644 });
            }
            Open::CreateNew => {
                options.write(true).create_new(true).mode(0o644);
            }
        }
        Ok(Box::new(LocalFile(options.open(path)?)))
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let found = std::fs::metadata(path)?;
        Ok(Metadata {
            len: found.len(),
            is_dir: found.is_dir(),
            is_file: found.is_file(),
            device: found.dev(),
            inode: found.ino(),
            modified_ns: i128::from(found.mtime()) * 1_000_000_000 + i128::from(found.mtime_nsec()),
            changed_ns: i128::from(found.ctime()) * 1_000_000_000 + i128::from(found.ctime_nsec()),
        })
    }

    fn owner(&self, path: &Path) -> io::Result<Owner> {
        let found = std::fs::metadata(path)?;
        Ok(Owner { uid: found.uid(), gid: found.gid(), mode: found.mode() & 0o7777 })
    }

    fn give(&self, path: &Path, to: Owner) -> io::Result<()> {
        use rustix::fs::{AtFlags, Gid, Mode, Uid, chmod, chownat};
        let (file, now) = own_name(path)?;
        // A descriptor that only names the file takes no mode; the way through /proc does.
        let named = Path::new("/proc/self/fd").join(file.as_raw_fd().to_string());
        let set = |mode: u32| chmod(&named, Mode::from_raw_mode(mode));
        if (now.uid, now.gid) != (to.uid, to.gid) {
            // Neither the new owner under the old mode nor the old one under the new may do more than before and after.
            set(now.mode & to.mode)?;
            let (uid, gid) = (Uid::from_raw(to.uid), Gid::from_raw(to.gid));
            chownat(&file, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
        }
        Ok(set(to.mode)?)
    }

    fn refuse_planted(&self, path: &Path) -> io::Result<()> {
        super::planted::refuse(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            if let Ok(name) = entry.file_name().into_string() {
                entries.push(Entry { name, is_dir: entry.file_type()?.is_dir() });
            }
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        use rustix::io::Errno;
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(()),
            // Network file systems know no such flag, but a second link to a taken name fails everywhere.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                std::fs::hard_link(from, to)?;
                std::fs::remove_file(from)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_dir(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        std::fs::create_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn std::fmt::Debug>> {
        use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = open(path, flags, Mode::from_raw_mode(0o644))?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(Box::new(file))
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn readers(&self) -> usize {
        std::thread::available_parallelism().map_or(1, usize::from).min(READERS_MAX)
    }
}

/// The file that a name itself has, and whose it is now. A link is refused, and so is a file with further names: either
/// may be somebody's way to have what is not theirs given to them.
fn own_name(path: &Path) -> io::Result<(std::os::fd::OwnedFd, Owner)> {
    use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
    let file = openat(CWD, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let found = fstat(&file)?;
    let kind = FileType::from_raw_mode(found.st_mode);
    if kind == FileType::Symlink || (kind != FileType::Directory && found.st_nlink > 1) {
        let why = format!("{}: a link is not given away", path.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    Ok((file, Owner { uid: found.st_uid, gid: found.st_gid, mode: found.st_mode & 0o7777 }))
}

/// New or emptied. A link that somebody planted under the name, a further name of some file or no file at all is not
/// written to but replaced.
#[allow(clippy::disallowed_methods, reason = "the one place that opens files")]
fn create(path: &Path, mode: u32) -> io::Result<Box<dyn DiskFile>> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(mode);
    let no_links = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    match options.clone().create(true).custom_flags(no_links).open(path) {
        Ok(file) => {
            let found = file.metadata()?;
            if found.is_file() && found.nlink() <= 1 {
                file.set_len(0)?;
                return Ok(Box::new(LocalFile(file)));
            }
        }
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {}
        Err(error) => return Err(error),
    }
    std::fs::remove_file(path)?;
    Ok(Box::new(LocalFile(options.create_new(true).open(path)?)))
}

/// Existing. What has a link or a further name may be somebody else's.
#[allow(clippy::disallowed_methods, reason = "the one place that opens files")]
fn open_own(path: &Path) -> io::Result<Box<dyn DiskFile>> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    let found = file.metadata()?;
    if !found.is_file() || found.nlink() > 1 {
        let why = format!("{} is no file with one name", path.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    Ok(Box::new(LocalFile(file)))
}

#[derive(Debug)]
struct LocalFile(File);

impl DiskFile for LocalFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.0.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn begin_sync(&self, bytes: Range<u64>) {
        super::writeback::begin(&self.0, bytes);
    }

    fn set_modified(&self, unix_ms: i64) -> io::Result<()> {
        let since = Duration::from_millis(u64::try_from(unix_ms).unwrap_or(0));
        self.0.set_modified(SystemTime::UNIX_EPOCH + since)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{read, remove_dir_all, write_atomic};
    use super::*;

    #[test]
    fn an_atomic_write_replaces_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        write_atomic(&LocalDisk, &path, b"one", true).unwrap();
        write_atomic(&LocalDisk, &path, b"two", true).unwrap();
        assert_eq!(read(&LocalDisk, &path, 100).unwrap(), b"two");
        assert_eq!(LocalDisk.read_dir(dir.path()).unwrap().len(), 1);
        assert_eq!(read(&LocalDisk, &path, 2).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn a_file_of_two_names_is_not_written_to_nor_one_behind_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let name = |name: &str| dir.path().join(name);
        LocalDisk.open(&name("file"), Open::CreateNew).unwrap();
        LocalDisk.open(&name("file"), Open::Write).unwrap().write_at(b"x", 0).unwrap();
        std::os::unix::fs::symlink(name("file"), name("link")).unwrap();
        assert!(LocalDisk.open(&name("link"), Open::Write).is_err());
        std::fs::hard_link(name("file"), name("second")).unwrap();
        let refused = LocalDisk.open(&name("file"), Open::Write).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn a_taken_name_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two, free) = (dir.path().join("one"), dir.path().join("two"), dir.path().join("free"));
        for path in [&one, &two] {
            LocalDisk.open(path, Open::CreateNew).unwrap();
        }
        assert_eq!(LocalDisk.rename_new(&one, &two).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        LocalDisk.rename_new(&one, &free).unwrap();
        assert!(LocalDisk.metadata(&one).is_err());
    }

    #[test]
    fn a_file_that_is_given_away_has_the_owner_and_mode_it_is_given() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        LocalDisk.open(&path, Open::Create { private: true }).unwrap();
        let made = LocalDisk.owner(&path).unwrap();
        assert_eq!(made.mode, 0o600);
        let other = if made.uid == 0 { 4321 } else { made.uid };
        let to = Owner { uid: other, gid: if made.uid == 0 { 1234 } else { made.gid }, mode: 0o640 };
        LocalDisk.give(&path, to).unwrap();
        assert_eq!(LocalDisk.owner(&path).unwrap(), to);
    }

    #[test]
    fn nothing_is_written_or_given_away_through_a_planted_link() {
        let dir = tempfile::tempdir().unwrap();
        let (victim, link, hard) =
            (dir.path().join("victim"), dir.path().join("link"), dir.path().join("hard"));
        write_atomic(&LocalDisk, &victim, b"precious", false).unwrap();
        let plant = || {
            rustix::fs::symlink(&victim, &link).unwrap();
            rustix::fs::link(&victim, &hard).unwrap();
        };
        plant();
        let to = Owner { mode: 0o600, ..LocalDisk.owner(&victim).unwrap() };
        for name in [&link, &hard] {
            LocalDisk.give(name, to).unwrap_err();
            LocalDisk.open(name, Open::Create { private: false }).unwrap().write_at(b"forged", 0).unwrap();
        }
        assert_eq!(read(&LocalDisk, &victim, 100).unwrap(), b"precious");
        assert_eq!(LocalDisk.owner(&victim).unwrap().mode, 0o644);
        LocalDisk.remove_file(&link).unwrap();
        LocalDisk.remove_file(&hard).unwrap();
        plant();
        // What `path` is written by is a name beside it.
        rustix::fs::symlink(&victim, dir.path().join("config.json.tmp")).unwrap();
        write_atomic(&LocalDisk, &dir.path().join("config.json"), b"{}", true).unwrap();
        assert_eq!(read(&LocalDisk, &victim, 100).unwrap(), b"precious");
    }

    #[test]
    fn a_tree_is_removed_whole_and_a_missing_one_is_fine() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("a");
        LocalDisk.create_dir_all(&top.join("b/c")).unwrap();
        LocalDisk.open(&top.join("b/f"), Open::CreateNew).unwrap();
        remove_dir_all(&LocalDisk, &top).unwrap();
        remove_dir_all(&LocalDisk, &top).unwrap();
        assert!(LocalDisk.metadata(&top).is_err());
    }
}
