//! The helper, `stead probe`: looks at paths as the user who is going to use them, and answers a line each.
//!
//! It has one thread, so that becoming another user for a moment is one system call and concerns nobody else. It
//! makes and changes only what an ask says: a directory that is missing, owner and mode of one directory. Nothing is
//! changed through a link: the last part of a path is opened without following it, the rest is walked ([`walk`]).

use super::facts::{Ask, Facts, Found, Ids, Interpreter, Kind, Mend, Space, Step};
use super::limits::{PROBE_BYTES, SCRIPT_HEAD_BYTES};
use super::modes;
use super::plan::own;
use super::walk::{self, Trust};
use base::{Clock, SystemClock};
use rustix::fs::{Access, AtFlags, CWD, Gid, Mode, OFlags, StatVfsMountFlags, Uid};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The mode of a directory that is made.
pub(super) const DIRECTORY_MODE: u32 = 0o755;
/// How many names are tried for the file of a write test.
const NAMES_TRIED: u32 = 16;

/// Answers what standard input asks; the exit code.
pub fn serve() -> u8 {
    let mut text = Vec::new();
    let asks: Vec<Ask> =
        match io::stdin().read_to_end(&mut text).and_then(|_| Ok(serde_json::from_slice(&text)?)) {
            Ok(asks) => asks,
            Err(_) => return super::finding::SYSTEM,
        };
    let mut out = io::stdout().lock();
    for ask in asks {
        let began = SystemClock.boottime();
        let mut facts = look(&ask);
        facts.ms = crate::control::milliseconds(SystemClock.boottime() - began);
        let answered = serde_json::to_writer(&mut out, &facts).map_err(io::Error::from);
        if answered.and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()).is_err() {
            // Whoever asked has gone.
            return super::finding::SYSTEM;
        }
    }
    0
}

/// Looks at one path, after making or mending it where that was asked for.
fn look(ask: &Ask) -> Facts {
    let (mut done, mut failed) = (Vec::new(), None);
    if let Kind::Directory { create, mend, need, .. } = &ask.kind {
        let made = create.map_or(Ok(()), |owner| make(&ask.path, owner, &mut done));
        let user = ask.user.unwrap_or_else(own);
        let set = |mend| set(&ask.path, mend, user, *need, &mut done);
        failed = made.and_then(|()| mend.map_or(Ok(()), set)).err();
    }
    let mut facts = found(&ask.path);
    facts.trust = walk::trust(&ask.path);
    (facts.done, facts.failed) = (done, failed);
    match &ask.kind {
        Kind::Directory { need, write, .. } if facts.found == Found::Directory => {
            // The bits of a mode are those of access(2).
            try_access(&mut facts, ask, Access::from_bits_truncate(*need));
            if *write && facts.refused.is_none() && facts.not_switched.is_none() {
                let tried = as_user(ask.user, || write_test(&ask.path));
                facts.unwritable = tried.unwrap_or(Ok(())).err();
            }
        }
        Kind::Database if facts.found == Found::File => {
            try_access(&mut facts, ask, Access::READ_OK | Access::WRITE_OK);
        }
        Kind::Program { candidates } => program(&mut facts, ask, candidates),
        _ => {}
    }
    facts
}

fn try_access(facts: &mut Facts, ask: &Ask, wanted: Access) {
    match as_user(ask.user, || rustix::fs::accessat(CWD, &ask.path, wanted, AtFlags::EACCESS)) {
        Ok(answer) => facts.refused = answer.err().map(Errno::raw_os_error),
        Err(error) => facts.not_switched = Some(error.raw_os_error()),
    }
}

/// Does something as another user, with no other group than theirs, as the app is started.
fn as_user<T>(user: Option<Ids>, act: impl FnOnce() -> T) -> Result<T, Errno> {
    use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    let Some(user) = user.filter(|user| *user != (uid.as_raw(), gid.as_raw())) else { return Ok(act()) };
    let groups = rustix::process::getgroups()?;
    let (to_uid, to_gid) = (Uid::from_raw(user.0), Gid::from_raw(user.1));
    if uid.is_root() {
        set_thread_groups(&[to_gid])?;
    }
    set_thread_res_gid(None, Some(to_gid), None)?;
    set_thread_res_uid(None, Some(to_uid), None)?;
    let result = act();
    // From the saved ids, in the other order.
    let back =
        set_thread_res_uid(None, Some(uid), None).and_then(|()| set_thread_res_gid(None, Some(gid), None));
    let back = back.and_then(|()| if uid.is_root() { set_thread_groups(&groups) } else { Ok(()) });
    if back.is_err() {
        // Nothing more may be done, or said, as somebody else.
        app::spawn::exit_now(super::finding::SYSTEM.into());
    }
    Ok(result)
}

/// What lies under a path, and the way to it.
fn found(path: &Path) -> Facts {
    let mut facts = Facts {
        found: Found::Missing,
        link: std::fs::symlink_metadata(path).is_ok_and(|at| at.is_symlink()),
        trust: Trust::Sure,
        real: path.to_owned(),
        way: Vec::new(),
        refused: None,
        unwritable: None,
        not_switched: None,
        space: None,
        read_only: false,
        interpreter: None,
        done: Vec::new(),
        failed: None,
        ms: 0.0,
    };
    match path.canonicalize() {
        Ok(real) => {
            facts.found = match std::fs::metadata(&real) {
                Ok(at) if at.is_dir() => Found::Directory,
                Ok(at) if at.is_file() => Found::File,
                Ok(_) => Found::Other,
                Err(error) => Found::Unknown(number(&error)),
            };
            facts.real = real;
        }
        Err(error) => {
            facts.found = absent(path, &error, facts.link);
            facts.real = nearest(path);
        }
    }
    facts.way = way(&facts.real);
    if let Ok(room) = rustix::fs::statvfs(&facts.real) {
        facts.read_only = room.f_flag.contains(StatVfsMountFlags::RDONLY);
        facts.space = Some(Space {
            free_bytes: room.f_bavail.saturating_mul(room.f_frsize),
            free_inodes: room.f_favail,
            inodes: room.f_files,
        });
    }
    facts
}

fn number(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(Errno::IO.raw_os_error())
}

/// Why a path leads to nothing.
fn absent(path: &Path, error: &io::Error, link: bool) -> Found {
    match Errno::from_io_error(error) {
        Some(Errno::LOOP) => Found::Loop,
        Some(Errno::NOTDIR) => {
            let blocks = |dir: &&Path| std::fs::metadata(dir).is_ok_and(|at| !at.is_dir());
            Found::Blocked(path.ancestors().skip(1).find(blocks).unwrap_or(path).to_owned())
        }
        Some(Errno::NOENT) if link => {
            let to = std::fs::read_link(path).unwrap_or_default();
            Found::Dangling(base::disk::parent(path).join(to))
        }
        Some(Errno::NOENT) => Found::Missing,
        _ => Found::Unknown(number(error)),
    }
}

/// The nearest directory above that exists, without links.
fn nearest(path: &Path) -> PathBuf {
    let above = path.ancestors().skip(1).find_map(|dir| dir.canonicalize().ok());
    above.unwrap_or_else(|| PathBuf::from("/"))
}

fn way(real: &Path) -> Vec<Step> {
    let mut steps: Vec<Step> = real
        .ancestors()
        .filter_map(|part| {
            let at = std::fs::metadata(part).ok()?;
            Some(Step { path: part.to_owned(), uid: at.uid(), gid: at.gid(), mode: at.mode() & 0o7777 })
        })
        .collect();
    steps.reverse();
    steps
}

/// What could not be done, and the error's number.
pub(super) type Undone = (String, i32);

pub(super) fn undone(what: impl Into<String>) -> impl FnOnce(Errno) -> Undone {
    move |error| (what.into(), error.raw_os_error())
}

/// Makes a directory with those above it, and gives the last one to its owner.
fn make(path: &Path, owner: Ids, done: &mut Vec<String>) -> Result<(), Undone> {
    if std::fs::symlink_metadata(path).is_ok() {
        return Ok(());
    }
    let (place, name) = walk::parent(path, Some(done))?;
    let Some(made) = place.make(&name)? else { return Ok(()) };
    let mut text = format!("made {}", path.display());
    if own() != owner {
        let failed = undone(format!("{} cannot be given to {}:{}", path.display(), owner.0, owner.1));
        give(&made, owner).map_err(failed)?;
        text = format!("{text} for {}:{}", owner.0, owner.1);
    }
    done.push(text);
    Ok(())
}

/// Gives one directory to its owner, and lets its owner use it. Never through a link, never below it; nothing where a
/// directory above is what refuses.
fn set(path: &Path, mend: Mend, user: Ids, need: u32, done: &mut Vec<String>) -> Result<(), Undone> {
    let Ok(named) = std::fs::symlink_metadata(path) else { return Ok(()) };
    let (uid, gid) = mend.owner;
    let refused = |way: &[Step]| modes::refusal(way, user, need).is_some_and(|refusal| refusal.last);
    let mut steps = way(&found(path).real);
    let given = (named.uid(), named.gid()) != mend.owner && (mend.always || refused(&steps));
    if !named.is_dir() || !(given || refused(&steps)) {
        return Ok(());
    }
    // From here on it is the one that was opened, whatever the path leads to meanwhile.
    let (place, name) = walk::parent(path, None)?;
    let opened = place.directory(&name).map_err(undone(format!("{} cannot be opened", path.display())))?;
    let at = rustix::fs::fstat(&opened).map_err(undone("it cannot be looked at"))?;
    if given {
        let failed = undone(format!("{} cannot be given to {uid}:{gid}", path.display()));
        give(&opened, mend.owner).map_err(failed)?;
        done.push(format!("gave {} to {uid}:{gid}", path.display()));
        steps = way(&found(path).real);
    }
    if refused(&steps) && user.0 == uid {
        let failed = undone(format!("the mode of {} cannot be changed", path.display()));
        let mode = Mode::from_raw_mode(at.st_mode & 0o7777 | 0o700);
        rustix::fs::fchmod(&opened, mode).map_err(failed)?;
        done.push(format!("let the owner of {} use it (u+rwx)", path.display()));
    }
    Ok(())
}

fn give(what: &OwnedFd, owner: Ids) -> Result<(), Errno> {
    rustix::fs::fchown(what, Some(Uid::from_raw(owner.0)), Some(Gid::from_raw(owner.1)))
}

/// Creates, removes, writes, syncs and reads a file of its own.
fn write_test(dir: &Path) -> Result<(), Undone> {
    // All of it in one directory, also where somebody moves another one here meanwhile.
    let here = rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let here = here.map_err(undone("it cannot be opened"))?;
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut tried = Err(Errno::EXIST);
    let mut name = String::new();
    for number in 0..NAMES_TRIED {
        name = format!(".stead-probe-{}-{number}", std::process::id());
        tried = rustix::fs::openat(&here, &name, flags, Mode::RUSR | Mode::WUSR);
        if !matches!(tried, Err(Errno::EXIST)) {
            break;
        }
    }
    let file = tried.map_err(undone("a file cannot be created"))?;
    // Before it is used: whatever hangs or kills this process then leaves nothing behind.
    rustix::fs::unlinkat(&here, &name, AtFlags::empty()).map_err(undone("a file cannot be removed"))?;
    use_file(&file)
}

fn use_file(file: &OwnedFd) -> Result<(), Undone> {
    let block = [0x5d; PROBE_BYTES];
    let mut read = [0; PROBE_BYTES];
    match rustix::io::pwrite(file, &block, 0) {
        Ok(PROBE_BYTES) => {}
        Ok(_) => return Err(undone("a file cannot be written")(Errno::NOSPC)),
        Err(error) => return Err(undone("a file cannot be written")(error)),
    }
    rustix::fs::fsync(file).map_err(undone("a file cannot be synced"))?;
    rustix::io::pread(file, &mut read, 0).map_err(undone("a file cannot be read"))?;
    if read == block { Ok(()) } else { Err(undone("a file does not hold what was written")(Errno::IO)) }
}

/// Finds the program among its candidates, as execvp(3) does, and what the user may do with it.
fn program(facts: &mut Facts, ask: &Ask, candidates: &[PathBuf]) {
    let mut refused = None;
    for path in candidates {
        let at = found(path);
        if !matches!(at.found, Found::File) {
            // A directory of that name is passed over as well; it is told where nothing else is found.
            if at.found != Found::Missing && candidates.len() == 1 {
                *facts = at;
            }
            continue;
        }
        let mut here = Facts { done: Vec::new(), ..at };
        try_access(&mut here, &Ask { path: path.clone(), ..ask.clone() }, Access::EXEC_OK);
        if here.refused.is_none() {
            here.interpreter = interpreter(path, ask.user);
            *facts = here;
            return;
        }
        refused.get_or_insert(here);
    }
    if let Some(here) = refused {
        *facts = here;
    }
}

/// The interpreter that a script's first line names.
fn interpreter(path: &Path, user: Option<Ids>) -> Option<Interpreter> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(CWD, path, flags, Mode::empty()).ok()?;
    let mut head = [0; SCRIPT_HEAD_BYTES];
    let got = rustix::io::read(&file, &mut head).ok()?;
    let line = head[..got].strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let word = line.split(|byte| matches!(byte, b' ' | b'\t')).find(|word| !word.is_empty())?;
    let path = PathBuf::from(OsStr::from_bytes(word));
    let may = as_user(user, || rustix::fs::accessat(CWD, &path, Access::EXEC_OK, AtFlags::EACCESS));
    let refused = may.unwrap_or(Ok(())).err().map(Errno::raw_os_error);
    Some(Interpreter { path, refused })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory_ask(path: &Path, create: bool) -> Ask {
        let kind = Kind::Directory { create: create.then(own), mend: None, need: modes::ALL, write: true };
        Ask { path: path.to_owned(), user: None, kind }
    }

    #[test]
    fn a_directory_is_made_with_those_above_it_and_the_test_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        assert_eq!(look(&directory_ask(&path, false)).found, Found::Missing);
        let facts = look(&directory_ask(&path, true));
        assert_eq!((facts.found, facts.unwritable, facts.failed), (Found::Directory, None, None));
        assert_eq!(facts.done.len(), 2, "{:?}", facts.done);
        assert_eq!(path.read_dir().unwrap().count(), 0);
        assert_eq!(facts.way.last().unwrap().mode, DIRECTORY_MODE);
    }

    #[test]
    fn what_is_in_the_way_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let link = |name: &str, to: &str| std::os::unix::fs::symlink(to, root.join(name)).unwrap();
        link("nowhere", "gone/further");
        link("round", "round");
        base::disk::write_atomic(&base::LocalDisk, &root.join("file"), b"x", false).unwrap();
        for (name, wanted) in [
            ("missing", Found::Missing),
            ("nowhere", Found::Dangling(root.join("gone/further"))),
            ("round", Found::Loop),
            ("file", Found::File),
            ("file/below", Found::Blocked(root.join("file"))),
        ] {
            assert_eq!(look(&directory_ask(&root.join(name), false)).found, wanted, "{name}");
        }
    }
}
