//! Whether a file system has room. Pure.

use super::facts::Space;
use super::finding::Finding;
use super::limits::{INODES_FAIL, INODES_WARN, SPACE_FAIL_BYTES, SPACE_WARN_BYTES};
use super::{Code, cure};
use std::path::Path;

/// What is wrong with the room there is; an error only where it is as good as none.
pub fn findings(space: Space, at: &Path) -> Vec<Finding> {
    let shown = cure::quoted(at);
    let mut found = Vec::new();
    if space.free_bytes < SPACE_WARN_BYTES {
        let message = format!("only {} are free", size(space.free_bytes));
        let fix = format!("sudo du -xh {shown} | sort -h | tail -n 20");
        found.push(match space.free_bytes < SPACE_FAIL_BYTES {
            true => Finding::error(Code::DiskFull, message, fix),
            false => Finding::error(Code::DiskLow, message, fix).only_a_warning(),
        });
    }
    if space.inodes > 0 && space.free_inodes < INODES_WARN {
        let message = format!("only {} of {} inodes are free", space.free_inodes, space.inodes);
        let fix = format!("sudo du -x --inodes {shown} | sort -n | tail -n 20");
        found.push(match space.free_inodes < INODES_FAIL {
            true => Finding::error(Code::InodesFull, message, fix),
            false => Finding::error(Code::InodesLow, message, fix).only_a_warning(),
        });
    }
    found
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..0x10_0000 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_room_is_a_warning_and_none_an_error() {
        let codes = |free_bytes, free_inodes, inodes| {
            let found = findings(Space { free_bytes, free_inodes, inodes }, Path::new("/a b"));
            found.iter().map(|f| (f.code.word(), f.exit_code, f.severity)).map(|f| f.0).collect::<Vec<_>>()
        };
        let plenty = 10 << 30;
        assert!(codes(plenty, 5000, 10_000).is_empty());
        assert!(codes(plenty, 0, 0).is_empty(), "a file system that counts no inodes");
        assert_eq!(codes(SPACE_WARN_BYTES - 1, 5000, 10_000), ["disk_low"]);
        assert_eq!(codes(SPACE_FAIL_BYTES - 1, 5000, 10_000), ["disk_full"]);
        assert_eq!(codes(plenty, 999, 10_000), ["inodes_low"]);
        assert_eq!(codes(plenty, 9, 10_000), ["inodes_full"]);
        let found = findings(Space { free_bytes: 0, free_inodes: 0, inodes: 0 }, Path::new("/a b"));
        assert_eq!(found[0].fix, "sudo du -xh '/a b' | sort -h | tail -n 20");
    }
}
