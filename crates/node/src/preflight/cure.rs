//! The commands that mend what was found, as a person can paste them into a shell. Pure.

use super::facts::Ids;
use super::modes::Class;
use super::walk::Trust;
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A path as a shell takes it, on one line and without anything that a terminal would obey.
pub fn quoted(path: &Path) -> String {
    match path.to_str().filter(|text| !text.chars().any(char::is_control)) {
        Some(text) => shell_words::quote(text).into_owned(),
        None => spelled(path.as_os_str().as_bytes()),
    }
}

/// Bytes that are no text, spelled so that every shell understands them.
fn spelled(bytes: &[u8]) -> String {
    let mut text = String::from("\"$(printf '");
    for byte in bytes {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' | b' ' => {
                text.push(char::from(*byte));
            }
            // Writing to a text cannot fail.
            other => _ = write!(text, "\\{other:03o}"),
        }
    }
    // What a shell takes from a command loses line feeds at its end, which a slash protects.
    if bytes.ends_with(b"\n") {
        text.push('/');
    }
    text + "')\""
}

/// Makes a directory, and gives it away unless it is root's.
pub fn make(path: &Path, owner: Ids, trust: Trust) -> String {
    match trust {
        Trust::Sure if owner == (0, 0) => format!("sudo mkdir -p {}", quoted(path)),
        Trust::Sure => format!("sudo mkdir -p {} && {}", quoted(path), give(path, owner, trust)),
        Trust::Open => safely(path, owner),
        Trust::Led => look(path),
    }
}

/// Gives a directory, and nothing below it, to its owner.
pub fn give(path: &Path, owner: Ids, trust: Trust) -> String {
    match trust {
        Trust::Sure => format!("sudo chown {}:{} {}", owner.0, owner.1, quoted(path)),
        Trust::Open => safely(path, owner),
        Trust::Led => look(path),
    }
}

/// Makes or gives a directory where others could lead a path elsewhere before the command is run: what chown(1) does
/// not see is seen by this program.
fn safely(path: &Path, owner: Ids) -> String {
    let mut named = path.as_os_str().to_owned();
    named.push(format!(":{}:{}", owner.0, owner.1));
    format!("sudo stead preflight --fix --dir {}", quoted(Path::new(&named)))
}

/// Lets a user own what they must write, or use what they own.
pub fn own(path: &Path, has: u32, user: Ids, trust: Trust, file: bool) -> String {
    match trust {
        Trust::Led => look(path),
        _ if has == user.0 => format!("sudo chmod u+rwX {}", quoted(path)),
        // Itself, should it have become a link.
        Trust::Open if file => format!("sudo chown -h {}:{} {}", user.0, user.1, quoted(path)),
        _ => give(path, user, trust),
    }
}

/// Lets a path be changed again.
pub fn changeable(path: &Path) -> String {
    format!("sudo chattr -i {}", quoted(path))
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
            make(path, (1000, 100), Trust::Sure),
            "sudo mkdir -p '/srv/it'\\''s $HOME' && sudo chown 1000:100 '/srv/it'\\''s $HOME'"
        );
        let music = Path::new("/music");
        assert_eq!(make(music, (0, 0), Trust::Sure), "sudo mkdir -p /music");
        assert_eq!(own(music, 1000, (1000, 1000), Trust::Sure, false), "sudo chmod u+rwX /music");
        assert_eq!(aside(Path::new("/music")), "sudo mv -nT /music /music.old");
    }

    #[test]
    fn where_others_could_turn_a_path_elsewhere_no_command_follows_it() {
        let (path, user) = (Path::new("/home/a/music"), (1000, 100));
        let safely = "sudo stead preflight --fix --dir /home/a/music:1000:100";
        assert_eq!(make(path, user, Trust::Open), safely);
        assert_eq!(give(path, user, Trust::Open), safely);
        assert_eq!(own(path, 0, user, Trust::Open, false), safely);
        assert_eq!(own(path, 0, user, Trust::Open, true), "sudo chown -h 1000:100 /home/a/music");
        for told in
            [make(path, user, Trust::Led), give(path, user, Trust::Led), own(path, 0, user, Trust::Led, true)]
        {
            assert_eq!(told, "namei -l /home/a/music");
        }
    }

    #[test]
    fn a_shell_reads_back_every_path_from_one_line() {
        let names: [&[u8]; 7] = [
            b"/srv/a\nsudo rm -rf b",
            b"/srv/ends\n/x",
            b"/srv/\x1b[2J\x07",
            b"/srv/\xff\xfe%s\\n",
            b"/srv/'\"`$(id)`$HOME;&|<>*?!#~",
            b"/-rf",
            b"/srv/ e ",
        ];
        for name in names {
            let text = quoted(Path::new(std::ffi::OsStr::from_bytes(name)));
            assert!(!text.chars().any(char::is_control), "{text:?}");
            let out = std::process::Command::new("sh").args(["-c", &format!("printf %s {text}")]).output();
            assert_eq!(out.unwrap().stdout, name, "{text}");
        }
    }
}
