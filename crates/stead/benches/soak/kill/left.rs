//! What still runs for a home: processes with its data directory in their environment, and the node's own.

use std::path::Path;

/// A process, told from a later one of the same pid by when it started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its pid.
    pub pid: u32,
    started: String,
    /// Its command line.
    pub line: String,
}

/// The app's processes, the node and the supervisor of a home.
pub fn processes_of(home: &Path) -> Vec<Process> {
    let home = home.display().to_string();
    let data = format!("STEAD_DATA={home}/data");
    let binary = super::super::stead();
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let process = look(pid)?;
        let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let carries = environ.split(|byte| *byte == 0).any(|word| word == data.as_bytes());
        let stead = process.line.starts_with(&binary) && process.line.contains(&home);
        (carries || stead).then_some(process)
    })
    .collect()
}

fn look(pid: u32) -> Option<Process> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let rest: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let line = String::from_utf8_lossy(&line).replace('\0', " ");
    // A zombie is gone; who reaps it is another's matter.
    (rest[0] != "Z").then(|| Process { pid, started: rest[19].to_owned(), line })
}

/// Of what ran before a kill, nothing runs that should not.
pub fn none_of(before: &[Process], supervisor: bool, node: bool, context: &str) {
    let left: Vec<&Process> = before
        .iter()
        .filter(|process| look(process.pid).as_ref() == Some(process))
        .filter(|process| match process.line.split(' ').nth(1) {
            Some("run") => supervisor,
            Some("node") => supervisor || node,
            _ => true,
        })
        .collect();
    assert!(left.is_empty(), "{context}: left of the former run: {left:?}");
}
