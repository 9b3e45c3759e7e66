//! From facts to findings: what is wrong with a path, why, and the command that mends it. Pure.

use super::facts::{Answer, Facts, Found, Ids, Kind, Step};
use super::finding::{Check, Finding, Severity};
use super::limits::ANSWER_LIMIT;
use super::modes::{self, ALL, SEARCH};
use super::mounts::Mounts;
use super::plan::{Plan, Subject, What, own};
use super::walk::Trust;
use super::{Code, cure, program, space};
use rustix::io::Errno;
use serde_json::{Map, Value, json};
use std::io;
use std::path::Path;

/// To read and write a file.
const READ_WRITE: u32 = 0o6;

/// What is to be known for a judgement.
pub(super) struct Case<'a> {
    pub(super) subject: &'a Subject,
    pub(super) facts: &'a Facts,
    pub(super) plan: &'a Plan,
    pub(super) mounts: &'a Mounts,
}

/// Judges one subject.
pub fn judge(subject: &Subject, answer: &Answer, plan: &Plan, mounts: &Mounts) -> Check {
    let path = subject.ask.path.as_path();
    let mut details = Map::new();
    let (mut ms, mut done, mut output) = (0.0, Vec::new(), String::new());
    let mut findings = match answer {
        Answer::Facts(facts) => {
            let case = Case { subject, facts, plan, mounts };
            (ms, done) = (facts.ms, facts.done.clone());
            let findings = case.findings();
            details = case.details(&findings);
            output = case.output();
            findings
        }
        Answer::Silence => {
            ms = ANSWER_LIMIT.as_secs_f64() * 1000.0;
            let message = format!("no answer for {} s: its file system hangs", ANSWER_LIMIT.as_secs());
            vec![Finding::error(Code::NoAnswer, message, cure::hanging(&mounts.mount_point(path)))]
        }
        Answer::NotAsked => {
            let message = "not looked at, since other paths do not answer";
            vec![Finding::error(Code::NotAsked, message, "findmnt")]
        }
        Answer::Nobody(error) => {
            let message = format!("it could not be looked at: {error}");
            vec![Finding::error(Code::NotLookedAt, message, "ulimit -a")]
        }
    };
    if subject.what != What::Program {
        findings.extend(mounts.finding(path));
    }
    for finding in &mut findings {
        finding.path.get_or_insert_with(|| subject.shown.clone());
        if subject.what == What::Store {
            // A store may come later: the node runs without it, and everything is sent then.
            finding.severity = Severity::Warning;
        }
    }
    if let Some(first) = findings.first() {
        output.clone_from(&first.message);
    }
    let path = Some(subject.shown.clone());
    Check {
        name: subject.name.clone(),
        check: subject.what.name(),
        path,
        ms,
        output,
        details,
        done,
        findings,
    }
}

impl What {
    fn name(self) -> &'static str {
        match self {
            What::Directory(_) => "directory",
            What::Home(_) => "home",
            What::Database => "database",
            What::Store => "store",
            What::AppDirectory => "app_directory",
            What::Program => "command",
        }
    }
}

impl Case<'_> {
    fn findings(&self) -> Vec<Finding> {
        match self.subject.what {
            What::Directory(owner) => self.directory(owner),
            What::Home(_) | What::Store => match self.facts.found {
                Found::Missing => self.to_be_made(),
                _ => self.directory(None),
            },
            // The home is made by whoever starts.
            What::AppDirectory if self.plan.home.as_deref() == Some(self.path()) => match self.facts.found {
                Found::Missing => self.to_be_made(),
                _ => self.directory(None),
            },
            What::AppDirectory => self.directory(None),
            What::Database => self.database(),
            What::Program => program::findings(self),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.subject.ask.path
    }

    /// As whom the path is used.
    pub(super) fn user(&self) -> Ids {
        self.subject.ask.user.unwrap_or_else(own)
    }

    /// Something Stead makes when it starts: there must be a place for it.
    fn to_be_made(&self) -> Vec<Finding> {
        let fix = cure::make(self.path(), own(), self.facts.trust);
        if self.facts.read_only {
            return vec![self.read_only()];
        }
        let refusal = modes::refusal(&self.facts.way, own(), ALL);
        let refused = refusal.map(|refusal| {
            let (at, mode) = (refusal.step.path.display(), refusal.step.mode);
            let message = format!("it does not exist and cannot be made: {at} has mode {mode:04o}");
            Finding::error(Code::DirectoryMissing, message, fix)
        });
        refused.into_iter().collect()
    }

    fn directory(&self, owner: Option<Ids>) -> Vec<Finding> {
        let for_whom = owner.unwrap_or_else(|| self.user());
        if let Some(found) = self.no_directory(for_whom) {
            return vec![found];
        }
        let mut findings = Vec::new();
        let need = match &self.subject.ask.kind {
            Kind::Directory { need, .. } => *need,
            _ => ALL,
        };
        if let (Some(owner), Some(step)) = (owner, self.facts.way.last())
            && (step.uid, step.gid) != owner
        {
            let message = format!("it belongs to {}:{}, not to {}:{}", step.uid, step.gid, owner.0, owner.1);
            let fix = cure::give(&self.facts.real, owner, self.facts.trust);
            findings.push(Finding::error(Code::WrongOwner, message, fix));
        }
        let refused = self.refused(need);
        if findings.is_empty() || refused.as_ref().is_some_and(|f| f.code != Code::NoPermission) {
            findings.extend(refused);
        }
        let full = space_findings(self.facts, self.path());
        // What the engine meets with a full disk is told by the engine, and heals by itself.
        let may_be_full = !matches!(self.subject.what, What::Directory(_));
        findings.extend(full.into_iter().map(|f| if may_be_full { f.only_a_warning() } else { f }));
        if let Some((what, errno)) = &self.facts.unwritable {
            let full = *errno == Errno::NOSPC.raw_os_error() || *errno == Errno::DQUOT.raw_os_error();
            let known = findings.iter().any(|f| matches!(f.code, Code::DiskFull | Code::InodesFull));
            if !full || !(known || may_be_full) {
                let message = format!("{what}: {}", text(*errno));
                findings.push(Finding::error(Code::WriteFailed, message, cure::look(self.path())));
            }
        }
        // Why `--fix` did not mend it.
        if let (Some(first), Some((what, errno))) = (findings.first_mut(), &self.facts.failed) {
            first.message = format!("{}, and {what}: {}", first.message, text(*errno));
        }
        findings
    }

    /// What is there instead of a directory.
    fn no_directory(&self, owner: Ids) -> Option<Finding> {
        let path = self.path();
        let trust = self.facts.trust;
        let make = || cure::make(path, owner, trust);
        let anew = || cure::make(path, owner, trust.without_the_last());
        let (code, message, fix) = match &self.facts.found {
            Found::Directory => return None,
            Found::Missing => {
                let message = match &self.facts.failed {
                    Some((what, errno)) => format!("it does not exist, and {what}: {}", text(*errno)),
                    None => "it does not exist".to_owned(),
                };
                (Code::DirectoryMissing, message, make())
            }
            Found::Dangling(to) => {
                let message = format!("it is a link to {}, which does not exist", to.display());
                let fix = match trust {
                    Trust::Led => format!("{} && {}", cure::aside(path), anew()),
                    _ => cure::make(to, owner, trust),
                };
                (Code::DanglingLink, message, fix)
            }
            Found::Loop => {
                let message = "it is a link that leads back to itself".to_owned();
                (Code::LinkLoop, message, format!("{} && {}", cure::aside(path), make()))
            }
            Found::Blocked(by) => {
                let message = format!("{} is no directory", by.display());
                (Code::NotADirectory, message, format!("{} && {}", cure::aside(by), make()))
            }
            Found::File | Found::Other => {
                let message = "it is no directory".to_owned();
                (Code::NotADirectory, message, format!("{} && {}", cure::aside(path), make()))
            }
            Found::Unknown(errno) => (Code::Unreadable, text(*errno), self.unknown(*errno)),
        };
        Some(Finding::error(code, message, fix))
    }

    fn database(&self) -> Vec<Finding> {
        let path = self.path();
        match &self.facts.found {
            Found::Missing | Found::Dangling(_) => {
                let mut findings = self.to_be_made();
                findings.extend(self.way_to(&self.facts.way, SEARCH));
                findings
            }
            Found::File => {
                let beside = &self.facts.way[..self.facts.way.len().saturating_sub(1)];
                let mut findings: Vec<_> = self.refused(READ_WRITE).into_iter().collect();
                if findings.is_empty() {
                    findings.extend(self.way_to(beside, ALL));
                }
                let full = space_findings(self.facts, path).into_iter().map(Finding::only_a_warning);
                findings.extend(full);
                findings
            }
            Found::Directory | Found::Other => {
                let message = "it is no file, but a database is to be there";
                vec![Finding::error(Code::DatabaseIsNoFile, message, cure::aside(path))]
            }
            Found::Loop => {
                let message = "it is a link that leads back to itself";
                vec![Finding::error(Code::LinkLoop, message, cure::aside(path))]
            }
            Found::Blocked(by) => {
                let message = format!("{} is no directory", by.display());
                vec![Finding::error(Code::NotADirectory, message, cure::aside(by))]
            }
            Found::Unknown(errno) => {
                vec![Finding::error(Code::Unreadable, text(*errno), self.unknown(*errno))]
            }
        }
    }

    /// What mends an error of the kernel.
    fn unknown(&self, errno: i32) -> String {
        // The server behind the file system has gone.
        let gone = [Errno::NOTCONN, Errno::STALE, Errno::CONNABORTED].map(Errno::raw_os_error);
        if gone.contains(&errno) {
            cure::hanging(&self.mounts.mount_point(self.path()))
        } else {
            cure::look(self.path())
        }
    }

    /// Why the user cannot do what the path is for: the kernel's answer, explained by the permission bits.
    pub(super) fn refused(&self, need: u32) -> Option<Finding> {
        if self.facts.not_switched.is_some() {
            return self.way_to(&self.facts.way, need);
        }
        let errno = self.facts.refused?;
        if errno == Errno::ROFS.raw_os_error() {
            return Some(self.read_only());
        }
        if let Some(found) = self.way_to(&self.facts.way, need) {
            return Some(found);
        }
        let (uid, gid) = self.user();
        if self.given(&self.facts.way) != self.facts.way {
            return None;
        }
        if errno == Errno::PERM.raw_os_error() {
            let message = format!("user {uid}:{gid} may not write here: it is set immutable");
            return Some(Finding::error(Code::Immutable, message, cure::changeable(&self.facts.real)));
        }
        let message = format!(
            "the permission bits allow it, but user {uid}:{gid} is refused ({}): an access list or a security module",
            text(errno)
        );
        Some(Finding::error(Code::Refused, message, cure::allow(&self.facts.real, uid)))
    }

    fn read_only(&self) -> Finding {
        let at = self.mounts.mount_point(&self.facts.real);
        let message = format!("its file system, mounted at {}, is read-only", at.display());
        Finding::error(Code::ReadOnly, message, cure::remount(&at, "rw"))
    }

    /// The part of a way that the permission bits close to the user.
    pub(super) fn way_to(&self, way: &[Step], last: u32) -> Option<Finding> {
        let user @ (uid, gid) = self.user();
        let way = self.given(way);
        let refusal = modes::refusal(&way, user, last)?;
        let step = refusal.step;
        let has = format!("it belongs to {}:{}, mode {:04o}", step.uid, step.gid, step.mode);
        if !refusal.last {
            let message = format!("user {uid}:{gid} may not enter {}: {has}", step.path.display());
            return Some(Finding::error(
                Code::NotSearchable,
                message,
                cure::enter(&step.path, refusal.class),
            ));
        }
        let what = match last {
            ALL | READ_WRITE => "write",
            SEARCH => "enter",
            _ => "read",
        };
        let at = if step.path == self.facts.real {
            "here".to_owned()
        } else {
            format!("in {}", step.path.display())
        };
        let message = format!("user {uid}:{gid} may not {what} {at}: {has}");
        let fix = cure::own(&step.path, step.uid, user, self.facts.trust, self.facts.found == Found::File);
        Some(Finding::error(Code::NoPermission, message, fix))
    }

    /// The way as it is once Stead has given the app's user what belongs to the node in the home.
    fn given(&self, way: &[Step]) -> Vec<Step> {
        let mut way = way.to_vec();
        let user = self.user();
        let Some(home) = &self.plan.home else { return way };
        if matches!(self.subject.what, What::Home(true) | What::Database) {
            let stead_gives = |step: &&mut Step| step.path.starts_with(home) && step.path != *home;
            for step in way.iter_mut().filter(stead_gives).filter(|step| step.uid == own().0) {
                (step.uid, step.gid) = user;
            }
        }
        way
    }

    fn details(&self, findings: &[Finding]) -> Map<String, Value> {
        let mut details = Map::new();
        let there = matches!(self.facts.found, Found::Directory | Found::File | Found::Other);
        let fails = findings.iter().any(|finding| finding.severity == Severity::Error);
        details.insert("exists".to_owned(), json!(there));
        if self.subject.what != What::Program {
            details.insert("is_dir".to_owned(), json!(self.facts.found == Found::Directory));
        }
        if !matches!(self.subject.what, What::Program | What::AppDirectory) {
            let refused = match &self.subject.ask.kind {
                Kind::Database => self.refused(READ_WRITE),
                Kind::Directory { need, .. } if *need == ALL => self.refused(ALL),
                _ => self.way_to(&self.facts.way, ALL),
            };
            let writable = !fails && !self.facts.read_only && refused.is_none();
            details.insert("writable".to_owned(), json!(writable));
        }
        if let Some(step) = self.facts.way.last().filter(|_| there) {
            details.insert("owner".to_owned(), json!(format!("{}:{}", step.uid, step.gid)));
        }
        if self.subject.what == What::Database {
            let parent = base::disk::parent(self.path());
            let writable =
                self.way_to(&self.facts.way[..self.facts.way.len().saturating_sub(usize::from(there))], ALL);
            let parent = json!({
                "path": parent.display().to_string(),
                "exists": there || self.facts.real == parent,
                "writable": writable.is_none() && !self.facts.read_only,
            });
            details.insert("parent".to_owned(), parent);
        }
        details
    }

    fn output(&self) -> String {
        match (self.subject.what, &self.facts.found, self.facts.way.last()) {
            (_, Found::Missing | Found::Dangling(_), _) => "it does not exist yet, and is made".to_owned(),
            (What::Program, _, _) => self.facts.real.display().to_string(),
            (_, _, Some(step)) => format!("owner {}:{}, mode {:04o}", step.uid, step.gid, step.mode),
            (_, _, None) => "ok".to_owned(),
        }
    }
}

fn space_findings(facts: &Facts, at: &Path) -> Vec<Finding> {
    // What cannot be written has no use for room.
    let room = facts.space.filter(|_| !facts.read_only);
    room.map(|room| space::findings(room, at)).unwrap_or_default()
}

/// What an error's number says.
pub(super) fn text(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    let plain = text.split(" (os error").next().unwrap_or(&text);
    plain.to_lowercase()
}
