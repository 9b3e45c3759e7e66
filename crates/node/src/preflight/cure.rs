//! The commands that mend what was found, as a person can paste them into a shell. Pure.

use super::facts::Ids;
use super::modes::Class;
use std::path::Path;

/// A path as a shell takes it.
pub fn quoted(path: &Path) -> String {
    shell_words::quote(&path.to_string_lossy()).into_owned()
}

/// Makes a directory, and gives it away unless it is root's.
pub fn make(path: &Path, owner: Ids) -> String {
    let made = format!("sudo mkdir -p {}", quoted(path));
    if owner == (0, 0) { made } else { format!("{made} && {}", give(path, owner)) }
}

/// Gives a directory or file, and nothing below it, to its owner.
pub fn give(path: &Path, owner: Ids) -> String {
    format!("sudo chown {}:{} {}", owner.0, owner.1, quoted(path))
}

/// Lets a user own what they must write, or use what they own.
pub fn own(path: &Path, has: u32, user: Ids) -> String {
    if has == user.0 { format!("sudo chmod u+rwX {}", quoted(path)) } else { give(path, user) }
}

/// Lets a class of users enter a directory.
pub fn enter(path: &Path, class: Class) -> String {
    format!("sudo chmod {}+x {}", class.letter(), quoted(path))
}

/// Moves what is in the way aside, over nothing.
pub fn aside(path: &Path) -> String {
    let to = base::disk::sibling(path, ".old");
    format!("sudo mv -nT {} {}", quoted(path), quoted(&to))
}

/// Lets everybody run a program.
pub fn executable(path: &Path) -> String {
    format!("sudo chmod a+x {}", quoted(path))
}

/// Lets one user do everything, beside what the permission bits say.
pub fn allow(path: &Path, uid: u32) -> String {
    format!("sudo setfacl -m u:{uid}:rwx {}", quoted(path))
}

/// Changes an option of a mount.
pub fn remount(at: &Path, option: &str) -> String {
    format!("sudo mount -o remount,{option} {}", quoted(at))
}

/// Ends what hangs and mounts it again.
pub fn hanging(at: &Path) -> String {
    if at == Path::new("/") {
        return "findmnt".to_owned();
    }
    let at = quoted(at);
    format!("sudo umount -f {at} && sudo mount {at}")
}

/// Shows every part of a way with owner and mode; what mends it is not known.
pub fn look(path: &Path) -> String {
    format!("namei -l {}", quoted(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_for_a_shell() {
        let path = Path::new("/srv/it's $HOME");
        assert_eq!(
            make(path, (1000, 100)),
            "sudo mkdir -p '/srv/it'\\''s $HOME' && sudo chown 1000:100 '/srv/it'\\''s $HOME'"
        );
        assert_eq!(make(Path::new("/music"), (0, 0)), "sudo mkdir -p /music");
        assert_eq!(own(Path::new("/music"), 1000, (1000, 1000)), "sudo chmod u+rwX /music");
        assert_eq!(aside(Path::new("/music")), "sudo mv -nT /music /music.old");
    }
}
