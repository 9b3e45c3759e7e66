//! `stead preflight`: looks, without a node, at everything that one would stand on.

use super::Outcome;
use super::config::refused;
use crate::args::Preflight as Args;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::{self, Tone, tone};
use base::{Disk, LocalDisk, SystemClock};
use node::config::{Config, LoadError, Overrides};
use node::preflight::{self, Check, Context, DirectoryPlan, Environment, How, Plan, Preflight, Report};
use serde_json::json;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

/// The width of the text where there is no terminal to ask.
const WIDTH: usize = 80;
/// Nothing is folded tighter than this.
const WIDTH_MIN: usize = 40;
/// Before a line that belongs to the one above.
const INDENT: &str = "      ";

pub fn run(home: &Path, args: &Args, json: bool) -> Outcome {
    let plan = plan(home, args)?;
    let how = if args.fix { How::Mending } else { How::Thoroughly };
    let report = Preflight::default().look(&plan, how, &SystemClock);
    if json {
        render::json(&as_json(&report));
    } else {
        let width = render::width().map_or(WIDTH, usize::from).max(WIDTH_MIN);
        render::line(as_text(&report, width));
    }
    Ok(match report.exit_code() {
        0 => Exit::Done,
        code if code == Exit::Configuration.code() => Exit::Configuration,
        _ => Exit::System,
    })
}

/// Directories alone, or everything that a configuration names, with the directories beside it.
fn plan(home: &Path, args: &Args) -> Result<Plan, Failure> {
    let here = |path: &Path| LocalDisk.metadata(path).ok().and_then(|_| path.canonicalize().ok());
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let home = here(home).unwrap_or_else(|| absolute(home));
    let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let context = |listen: Option<SocketAddr>| Context {
        environment: Environment::of_this_process(),
        path: std::env::var("PATH").ok(),
        machine,
        listen,
        node: lock_holder(&home),
        starts: false,
    };
    let directories: Vec<DirectoryPlan> = args
        .dir
        .iter()
        .map(|named| DirectoryPlan {
            label: named.path.display().to_string(),
            path: absolute(&named.path),
            create: false,
            owner: named.user,
            user: named.user,
            writable: true,
        })
        .collect();
    if args.config.is_none() && !directories.is_empty() {
        return Ok(Plan::of_directories(directories, None, context(None)));
    }
    let config = configuration(&home, args)?;
    let mut plan = preflight::plan(&config, home.clone(), context(Some(config.listen.0)));
    plan.directories.extend(directories);
    Ok(plan)
}

/// The named file, else what the node accepted last, else the defaults.
fn configuration(home: &Path, args: &Args) -> Result<Config, Failure> {
    let variables = |name: &str| std::env::var(name).ok();
    let listen = std::env::var("STEAD_LISTEN").ok();
    let overrides = Overrides { listen, ..Overrides::default() };
    let saved = home.join("tmp/config.json");
    let file = args.config.as_deref().unwrap_or(&saved);
    match Config::load_file(&LocalDisk, file, &variables, &overrides) {
        Err(LoadError::Read { error, .. })
            if args.config.is_none() && error.kind() == io::ErrorKind::NotFound =>
        {
            Config::from_overrides(home, &overrides)
                .map_err(|problems| Failure::new(Exit::Configuration, "the flags are wrong", problems, ""))
        }
        other => other.map_err(|error| refused(file, error)),
    }
}

/// The pid of the home's node, as its lock has it; whether it lives does not matter here.
fn lock_holder(home: &Path) -> Option<u32> {
    let text = base::disk::read(&LocalDisk, &home.join(".stead/lock"), 64).ok()?;
    std::str::from_utf8(&text).ok()?.trim().parse().ok()
}

fn as_json(report: &Report) -> serde_json::Value {
    let status = if report.exit_code() == 0 { "ok" } else { "fail" };
    let checks: Vec<_> = report
        .checks
        .iter()
        .map(|check| {
            let mut shown = json!(check);
            shown["status"] = json!(check.status());
            shown
        })
        .collect();
    json!({ "status": status, "exit_code": report.exit_code(), "checks": checks })
}

/// A line a check, and below it what is wrong and what mends it. Commands are never folded, so that they can be copied.
fn as_text(report: &Report, width: usize) -> String {
    let mut lines = Vec::new();
    for check in &report.checks {
        let (word, colour) = match check.status() {
            "ok" => ("ok", Tone::Good),
            "warn" => ("warn", Tone::Warning),
            _ => ("FAIL", Tone::Bad),
        };
        lines.push(format!("{}{}", tone(colour, &format!("{word:<6}")), title(check)));
        for done in &check.done {
            lines.extend(folded(&format!("fixed: {}", preflight::plain(done)), width));
        }
        for finding in &check.findings {
            lines.extend(folded(&finding.message, width));
            if !finding.fix.is_empty() {
                lines.push(format!("{INDENT}fix: {}", finding.fix));
            }
        }
    }
    let findings = report.findings().count();
    let errors = report.errors().count();
    lines.push(match (errors, findings - errors) {
        (0, 0) => "all well".to_owned(),
        (0, warnings) => format!("well, with {}", render::count(warnings, "warning")),
        (errors, 0) => render::count(errors, "error"),
        (errors, warnings) => {
            format!("{}, {}", render::count(errors, "error"), render::count(warnings, "warning"))
        }
    });
    lines.join("\n")
}

fn title(check: &Check) -> String {
    let kind = check.check.replace('_', " ");
    match &check.path {
        Some(path) => format!("{kind} {}", preflight::plain(path)),
        None => kind,
    }
}

/// A text in lines of a width, each indented; a word that is longer stays whole.
fn folded(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut().filter(|line| line.chars().count() + 1 + word.chars().count() <= width) {
            Some(line) => {
                line.push(' ');
                line.push_str(word);
            }
            None => lines.push(format!("{INDENT}{word}")),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Directory;
    use node::preflight::{Code, Finding};
    use std::path::PathBuf;

    #[test]
    fn a_directory_may_name_its_user() {
        let parse = |text: &str| text.parse::<Directory>().map(|d| (d.path, d.user));
        assert_eq!(parse("/music"), Ok((PathBuf::from("/music"), None)));
        assert_eq!(parse("/music:1000:100"), Ok((PathBuf::from("/music"), Some((1000, 100)))));
        assert_eq!(parse("/a:b"), Ok((PathBuf::from("/a:b"), None)));
        for bad in ["", ":1:2", "/music:1000:staff"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_report_is_read_on_forty_columns() {
        let finding = Finding::error(
            Code::NoPermission,
            "user 1000:1000 may not write here: it belongs to 0:0, mode 0755",
            "sudo chown 1000:1000 /music",
        );
        let check = Check::of("directory", "paths.music", vec![finding.at("/music")]);
        let report = Report { checks: vec![check, Check::of("user", "app.user", vec![])] };
        let shown = as_text(&report, 40);
        let plain = anstream::adapter::strip_str(&shown).to_string();
        assert_eq!(
            plain,
            "FAIL  directory /music\n      user 1000:1000 may not write here:\n      it belongs to 0:0, mode 0755\n      \
             fix: sudo chown 1000:1000 /music\nok    user\n1 error"
        );
        assert!(plain.lines().all(|line| line.len() <= 40), "{plain}");
    }
}
