//! Looking at the machine: before anything starts, and again while it runs, with the last report kept in memory.
//!
//! Before the start an error keeps everything back, and the start is tried again with the usual back-off. Afterwards
//! errors are issues, and what runs goes on. At most one thread looks at a time; whoever asks gets the last report
//! with its age, and never waits.

use super::{Core, lock};
use crate::config::Config;
use crate::control::{Issue, Looked, State};
use crate::preflight::limits::LOOK_EVERY;
use crate::preflight::{Check, Finding, How, Report};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The component of issues that a look raises.
const COMPONENT: &str = "preflight";

/// The last look.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    report: Option<(Arc<Report>, Duration)>,
    /// The report that keeps the node from starting.
    failed: bool,
    /// A thread looks just now.
    looking: bool,
    /// When the last look was begun.
    begun: Option<Duration>,
}

impl Looks {
    /// The report that keeps the node from starting, as an error.
    pub(crate) fn verdict(&self) -> Result<(), Arc<Report>> {
        let kept = lock(&self.kept);
        match &kept.report {
            Some((report, _)) if kept.failed => Err(report.clone()),
            _ => Ok(()),
        }
    }

    /// Forgets everything, with the configuration.
    pub(crate) fn forget(&self) {
        let mut kept = lock(&self.kept);
        (kept.report, kept.failed) = (None, false);
    }

    /// Whether somebody may begin to look now.
    fn begin(&self, now: Duration, every: Duration) -> bool {
        let mut kept = lock(&self.kept);
        let due = kept.begun.is_none_or(|begun| now >= begun + every);
        // What keeps the node from starting is looked at thoroughly, when the start is tried again.
        if kept.looking || kept.failed || kept.report.is_none() || !due {
            return false;
        }
        (kept.looking, kept.begun) = (true, Some(now));
        true
    }
}

impl Core {
    /// Looks before anything starts; false where something must be mended first. The caller holds `turn`.
    pub(crate) fn preflight(&self, config: &Config) -> bool {
        let report = Arc::new((self.setup.look)(config, How::Thoroughly));
        let before = lock(&self.looks.kept).report.clone();
        for check in &report.checks {
            let known = before.iter().flat_map(|(report, _)| &report.checks);
            if !known.into_iter().any(|known| (&known.name, &known.output) == (&check.name, &check.output)) {
                tell_log(check);
            }
        }
        let failed = report.errors().next().cloned();
        let now = self.setup.machine.clock.boottime();
        {
            let mut kept = lock(&self.looks.kept);
            (kept.report, kept.failed, kept.begun) =
                (Some((report.clone(), now)), failed.is_some(), Some(now));
        }
        self.raise_errors(&report, true);
        let Some(first) = failed else { return true };
        let reason = format!("preflight failed: {}", sentence(&first));
        self.explain(&reason);
        lock(&self.parts).database = Some(self.component("failed", Some(reason)));
        self.try_again();
        false
    }

    /// What the last look found. An old one is replaced beside this call.
    pub(crate) fn looked(&self) -> Option<Looked> {
        self.look_again(LOOK_EVERY);
        let now = self.setup.machine.clock.boottime();
        let (report, at) = lock(&self.looks.kept).report.clone()?;
        Some(Looked { report, age: now.saturating_sub(at) })
    }

    /// Looks again, in a thread of its own, unless the last look is more recent.
    pub(crate) fn look_again(&self, every: Duration) {
        if !matches!(self.state(), State::Starting | State::Primary | State::Replica)
            || !self.looks.begin(self.setup.machine.clock.boottime(), every)
        {
            return;
        }
        let Some(core) = self.me.upgrade() else { return };
        let thread = std::thread::Builder::new().name("node-look".to_owned());
        let started = thread.spawn(move || {
            if let Some(config) = core.config() {
                let report = Arc::new((core.setup.look)(&config, How::Quietly));
                let now = core.setup.machine.clock.boottime();
                let mut kept = lock(&core.looks.kept);
                // Forgotten meanwhile, or found to be wrong by a more thorough look.
                let outdated = kept.report.is_none() || kept.failed;
                if !outdated {
                    kept.report = Some((report.clone(), now));
                }
                drop(kept);
                if !outdated {
                    core.raise_errors(&report, false);
                }
            }
            lock(&core.looks.kept).looking = false;
        });
        if let Err(error) = started {
            tracing::error!(event = "no thread", %error, "paths are not looked at");
            lock(&self.looks.kept).looking = false;
        }
    }

    /// Makes the errors of a report the issues of preflight.
    fn raise_errors(&self, report: &Report, is_logged: bool) {
        self.replace_issues(COMPONENT, None, report.errors().map(issue).collect(), is_logged);
    }
}

/// The lines of the start that one check makes.
fn tell_log(check: &Check) {
    let (what, path, result) = (check.check, check.path.as_deref(), check.status());
    let step = COMPONENT;
    for done in &check.done {
        tracing::info!(event = "startup", step, check = what, path, result = "made", "{done}");
    }
    if check.findings.is_empty() {
        tracing::info!(event = "startup", step, check = what, path, result);
    }
    for found in &check.findings {
        let (code, path, hint) = (found.code.word(), found.path.as_deref(), found.fix.as_str());
        let error = found.message.as_str();
        if result == "fail" {
            tracing::error!(event = "startup", step, check = what, path, result, code, hint, error);
        } else {
            tracing::warn!(event = "startup", step, check = what, path, result, code, hint, error);
        }
    }
}

fn sentence(finding: &Finding) -> String {
    match &finding.path {
        Some(path) => format!("{path}: {}", finding.message),
        None => finding.message.clone(),
    }
}

fn issue(finding: &Finding) -> Issue {
    Issue {
        code: finding.code.to_string(),
        component: COMPONENT,
        message: sentence(finding),
        path: finding.path.clone(),
        hint: finding.fix.clone(),
        exit_code: Some(finding.exit_code.into()),
    }
}
