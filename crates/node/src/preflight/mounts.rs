//! What should be mounted and is not, as far as that can be known: an entry of `/etc/fstab` without its mount.
//!
//! What a container, systemd or a person mounts is not in `/etc/fstab`; a missing one of those looks like any other
//! directory, and only `preflight.directories` with an `owner` can tell.

use super::finding::Finding;
use super::limits::TABLE_BYTES_MAX;
use super::{Code, cure};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The two tables.
#[derive(Clone, Debug, Default)]
pub struct Mounts {
    wanted: Vec<Wanted>,
    mounted: Vec<PathBuf>,
}

/// An entry of `/etc/fstab`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    at: PathBuf,
    device: String,
    by_hand: bool,
}

impl Mounts {
    /// This machine's; a table that cannot be read is empty.
    pub fn read() -> Mounts {
        let table = |path: &str| table(Path::new(path)).unwrap_or_default();
        Mounts { wanted: fstab(&table("/etc/fstab")), mounted: mountinfo(&table("/proc/self/mountinfo")) }
    }

    /// Where the file system of a path is mounted.
    pub fn mount_point(&self, path: &Path) -> PathBuf {
        let over = self.mounted.iter().filter(|at| path.starts_with(at));
        over.max_by_key(|at| at.components().count()).cloned().unwrap_or_else(|| PathBuf::from("/"))
    }

    /// What is wrong with a path below a mount point that nothing is mounted on.
    pub fn finding(&self, path: &Path) -> Option<Finding> {
        let missing = |wanted: &&Wanted| path.starts_with(&wanted.at) && !self.mounted.contains(&wanted.at);
        let wanted =
            self.wanted.iter().filter(missing).max_by_key(|wanted| wanted.at.components().count())?;
        let at = wanted.at.display();
        let message = format!("{at} is a mount point in /etc/fstab ({}), and is not mounted", wanted.device);
        let fix = format!("sudo mount {}", cure::quoted(&wanted.at));
        let finding = Finding::error(Code::NotMounted, message, fix);
        Some(if wanted.by_hand { finding.only_a_warning() } else { finding })
    }
}

/// The text of a table of the kernel, which has no length, or of a small file.
pub fn table(path: &Path) -> std::io::Result<String> {
    base::proc::text(path, TABLE_BYTES_MAX)
}

/// fstab(5): device, mount point, type, options.
fn fstab(text: &str) -> Vec<Wanted> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (device, at, kind) = (words.next()?, words.next()?, words.next()?);
            let by_hand =
                words.next().is_some_and(|options| options.split(',').any(|option| option == "noauto"));
            let at = plain(at);
            let real = kind != "swap" && at.is_absolute() && at != Path::new("/");
            real.then(|| Wanted { at, device: device.to_owned(), by_hand })
        })
        .collect()
}

/// proc_pid_mountinfo(5): the fifth word is the mount point.
fn mountinfo(text: &str) -> Vec<PathBuf> {
    text.lines().filter_map(|line| line.split(' ').nth(4)).map(plain).collect()
}

/// Both tables write blanks as `\040`.
fn plain(word: &str) -> PathBuf {
    let bytes = word.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let octal = (bytes[at] == b'\\').then(|| word.get(at + 1..at + 4)).flatten();
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 4;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    let path = PathBuf::from(OsString::from_vec(out));
    path.components().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_below_a_mount_point_without_its_mount_is_found() {
        let mounts = Mounts {
            wanted: fstab(
                "# device point\nUUID=1 / ext4 defaults 0 1\n/dev/sdb1 /music/ ext4 rw 0 2\n\
                 nas:/a\\040b /mnt/a\\040b nfs noauto,ro 0 0\n/swap none swap sw 0 0\n/dev/sdc /photos xfs\n",
            ),
            mounted: mountinfo(
                "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n30 22 8:3 / /photos rw - xfs /dev/sdc rw\n",
            ),
        };
        let music = mounts.finding(Path::new("/music/albums")).unwrap();
        assert_eq!((music.code.word(), music.fix.as_str()), ("not_mounted", "sudo mount /music"));
        assert_eq!(music.severity, super::super::Severity::Error);
        let by_hand = mounts.finding(Path::new("/mnt/a b")).unwrap();
        assert_eq!(by_hand.severity, super::super::Severity::Warning);
        assert_eq!(by_hand.fix, "sudo mount '/mnt/a b'");
        for well in ["/photos/2026", "/musical", "/home"] {
            assert_eq!(mounts.finding(Path::new(well)), None, "{well}");
        }
        assert_eq!(mounts.mount_point(Path::new("/photos/2026")), Path::new("/photos"));
        assert_eq!(mounts.mount_point(Path::new("/photosynthesis")), Path::new("/"));
    }

    #[test]
    fn this_machines_tables_are_read() {
        assert!(Mounts::read().mounted.contains(&PathBuf::from("/")));
    }
}
