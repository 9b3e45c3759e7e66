//! Readiness: what the status and the last look at the machine know, as checks that pass or fail. Nothing is looked at
//! here: a probe that asks every second costs as much as one that never does.

use node::control::{Component, Issue, Looked, State, Status};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The answer of `GET /api/health/ready?verbose=1`.
#[derive(Debug, Serialize)]
pub struct Readiness {
    /// `ok` or `fail`.
    pub status: &'static str,
    /// By name.
    pub checks: BTreeMap<String, Check>,
    /// What is wrong, and what mends it.
    pub issues: Vec<Finding>,
}

impl Readiness {
    /// Whether the node is ready.
    pub fn ok(&self) -> bool {
        self.status == "ok"
    }

    /// What of it is for everyone: which checks pass and what kind of issue there is. Texts may hold what an app has
    /// said, or an address that is nobody's business.
    pub fn verdicts(&self) -> Value {
        let checks: BTreeMap<_, _> =
            self.checks.iter().map(|(name, check)| (name, json!({ "status": check.status }))).collect();
        let issues: Vec<_> = self
            .issues
            .iter()
            .map(|issue| json!({ "code": issue.code, "component": issue.component }))
            .collect();
        json!({ "status": self.status, "checks": checks, "issues": issues })
    }
}

/// One check.
#[derive(Debug, Serialize)]
pub struct Check {
    status: &'static str,
    ms: f64,
    age_ms: u64,
    output: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(flatten)]
    details: Map<String, Value>,
}

/// An issue, with the exit code of the process that failed, or the one that a node would end with over it.
#[derive(Debug, Serialize)]
pub struct Finding {
    code: String,
    component: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    exit_code: i32,
    hint: String,
}

/// Judges a status and the last look.
pub fn readiness(status: &Status, looked: Option<&Looked>) -> Readiness {
    let mut checks = looked.map(looked_at).unwrap_or_default();
    let (ready, hint) = match status.state {
        State::Primary | State::Replica => (true, None),
        State::Unconfigured => (false, Some("configure it: `stead config apply FILE` or POST /config")),
        State::Starting => (false, Some("wait: databases are being brought up")),
        State::Draining | State::Stopped => (false, Some("start the node again")),
    };
    checks.insert("node".to_owned(), check(ready, status.reason.clone(), hint.map(str::to_owned)));
    let parts = &status.components;
    let parts = [
        ("database", &parts.database),
        ("storage", &parts.storage),
        ("mount", &parts.mount),
        ("lease", &parts.lease),
        ("app", &parts.app),
    ];
    for (name, part) in parts {
        if let Some(part) = part {
            let hint = hint_for(status, name);
            checks
                .insert(format!("components.{name}"), check(component_ok(part), component_text(part), hint));
        }
    }
    if status.components.app.is_some() {
        checks.insert("app".to_owned(), app_check(status));
    }
    for database in &status.databases {
        let output =
            database.issue.clone().unwrap_or_else(|| format!("{}, txid {}", database.mode, database.txid));
        let mut check = check(database.mode != "failed", output, None);
        check.path = Some(database.path.to_string());
        let name = format!("database.{}", database.path);
        match checks.get_mut(&name) {
            // What the look found wrong comes first: it is why the database fails.
            Some(known) if known.status == "ok" => {
                (known.status, known.output) = (check.status, check.output)
            }
            Some(_) => {}
            None => drop(checks.insert(name, check)),
        }
    }
    let ok = checks.values().all(|check| check.status != "fail");
    Readiness {
        status: if ok { "ok" } else { "fail" },
        checks,
        issues: status.issues.iter().map(finding).collect(),
    }
}

/// What the last look found, by name.
fn looked_at(looked: &Looked) -> BTreeMap<String, Check> {
    let age_ms = u64::try_from(looked.age.as_millis()).unwrap_or(u64::MAX);
    let checks = looked.report.checks.iter().map(|known| {
        let check = Check {
            status: known.status(),
            ms: known.ms,
            age_ms,
            output: known.output.clone(),
            hint: known.findings.first().map(|finding| finding.fix.clone()),
            path: known.path.clone(),
            details: known.details.clone(),
        };
        (known.name.clone(), check)
    });
    checks.collect()
}

fn check(ok: bool, output: String, hint: Option<String>) -> Check {
    let status = if ok { "ok" } else { "fail" };
    Check { status, ms: 0.0, age_ms: 0, output, hint, path: None, details: Map::new() }
}

/// An app that is stopped on purpose does not make a node unready; one that cannot do its work yet does.
fn app_check(status: &Status) -> Check {
    let process = &status.process;
    let stopped = matches!(process.state.as_str(), "stopped" | "none");
    let waits = process.waits_for.as_ref().map(|asked| format!("waits for {asked}"));
    let output = waits.unwrap_or_else(|| process.state.clone());
    let hint = (!process.ready && !stopped).then(|| "see `stead logs` and `stead status`".to_owned());
    check(process.ready || stopped, output, hint)
}

/// Degraded is still ready: the state can be used. An app that was stopped on purpose does not make a node unready.
fn component_ok(part: &Component) -> bool {
    matches!(part.state, "ok" | "degraded" | "stopped")
}

fn component_text(part: &Component) -> String {
    part.error.clone().unwrap_or_else(|| part.state.to_owned())
}

fn hint_for(status: &Status, component: &str) -> Option<String> {
    status.issues.iter().find(|issue| issue.component == component).map(|issue| issue.hint.clone())
}

fn finding(issue: &Issue) -> Finding {
    let exit_code = issue.exit_code.unwrap_or(match issue.component {
        "preflight" => 71,
        "config" => 78,
        "storage" => 69,
        "lease" => 75,
        "app" => 1,
        _ => 71,
    });
    Finding {
        code: issue.code.clone(),
        component: issue.component,
        message: issue.message.clone(),
        path: issue.path.clone(),
        exit_code,
        hint: issue.hint.clone(),
    }
}
