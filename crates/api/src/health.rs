//! Readiness: what the status already knows, as checks that pass or fail.

use node::control::{Component, Issue, State, Status};
use serde::Serialize;
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
}

/// One check.
#[derive(Debug, Serialize)]
pub struct Check {
    status: &'static str,
    ms: u64,
    age_ms: u64,
    output: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
}

/// An issue, with the exit code of the process that failed, or the one that a node would end with over it.
#[derive(Debug, Serialize)]
pub struct Finding {
    component: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    exit_code: i32,
    hint: String,
}

/// Judges a status.
pub fn readiness(status: &Status) -> Readiness {
    let mut checks = BTreeMap::new();
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
        checks.insert(format!("database.{}", database.path), check);
    }
    let ok = checks.values().all(|check| check.status == "ok");
    Readiness {
        status: if ok { "ok" } else { "fail" },
        checks,
        issues: status.issues.iter().map(finding).collect(),
    }
}

fn check(ok: bool, output: String, hint: Option<String>) -> Check {
    Check { status: if ok { "ok" } else { "fail" }, ms: 0, age_ms: 0, output, hint, path: None }
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
        "config" => 78,
        "storage" => 69,
        "lease" => 75,
        "app" => 1,
        _ => 71,
    });
    Finding {
        component: issue.component,
        message: issue.message.clone(),
        path: issue.path.clone(),
        exit_code,
        hint: issue.hint.clone(),
    }
}
