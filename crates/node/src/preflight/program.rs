//! Whether a program can be run by its user: it exists, is executable, and its interpreter is there. Pure.

use super::facts::{Found, Kind};
use super::finding::Finding;
use super::judge::{Case, text};
use super::modes;
use super::{Code, cure};
use rustix::io::Errno;

/// To run a program.
const EXECUTE: u32 = 0o1;

/// What is wrong with a program.
pub(super) fn findings(case: &Case<'_>) -> Vec<Finding> {
    let (key, shown) = (&case.subject.name, &case.subject.shown);
    let real = &case.facts.real;
    match &case.facts.found {
        Found::File => runnable(case),
        Found::Missing | Found::Dangling(_) | Found::Loop | Found::Blocked(_) => {
            let message = if shown.contains('/') {
                format!("`{shown}` of {key} does not exist ({})", case.path().display())
            } else {
                format!("`{shown}` of {key} is in no directory of PATH ({})", case.plan.path)
            };
            let fix = match &case.subject.ask.kind {
                Kind::Program { candidates } if candidates.len() == 1 => cure::look(case.path()),
                _ => format!("export PATH=\"$PATH:/the/directory/of/{shown}\""),
            };
            vec![Finding::error(Code::CommandMissing, message, fix)]
        }
        Found::Directory | Found::Other => {
            let message = format!("`{shown}` of {key} is no file");
            vec![Finding::error(Code::CommandNotExecutable, message, cure::look(real))]
        }
        Found::Unknown(errno) => {
            let message = format!("`{shown}` of {key} cannot be looked at: {}", text(*errno));
            vec![Finding::error(Code::CommandMissing, message, cure::look(case.path()))]
        }
    }
}

fn runnable(case: &Case<'_>) -> Vec<Finding> {
    let (key, real) = (&case.subject.name, &case.facts.real);
    let (uid, gid) = case.user();
    if let Some(errno) = case.facts.refused {
        let refusal = modes::refusal(&case.facts.way, (uid, gid), EXECUTE);
        let unset = case.facts.way.last().is_some_and(|step| step.mode & 0o111 == 0);
        if unset || refusal.is_some_and(|refusal| refusal.last) {
            let message = format!("{} of {key} is not executable for user {uid}:{gid}", real.display());
            return vec![Finding::error(Code::CommandNotExecutable, message, cure::executable(real))];
        }
        if let Some(found) = case.way_to(&case.facts.way, EXECUTE) {
            return vec![found];
        }
        let at = case.mounts.mount_point(real);
        let message = format!(
            "{} of {key} may not be run ({}): a file system mounted noexec, an access list or a security module",
            real.display(),
            text(errno)
        );
        return vec![Finding::error(Code::CommandRefused, message, cure::remount(&at, "exec"))];
    }
    let Some((interpreter, errno)) =
        case.facts.interpreter.as_ref().and_then(|found| Some((&found.path, found.refused?)))
    else {
        return Vec::new();
    };
    let why = if errno == Errno::NOENT.raw_os_error() { "does not exist".to_owned() } else { text(errno) };
    let message = format!("{} of {key} is a script for {}: {why}", real.display(), interpreter.display());
    let fix = format!("head -n 1 {} # and install what it names", cure::quoted(real));
    vec![Finding::error(Code::InterpreterMissing, message, fix)]
}
