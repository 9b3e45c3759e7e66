//! A query, run by a process of its own: why it must be one is in `docs/decisions/0009-queries-in-a-process.md`.
//!
//! The process has limits of its own; whoever asks ends it when it does not keep them.

use base::{Clock, SystemClock};
use database::query::{Query, QueryError, Rows, TIME_MAX};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Queries at once.
pub const QUERIES_MAX: usize = 4;
/// How long the process may take beyond the query's own time: to start, to give up, to answer.
pub const GRACE: Duration = Duration::from_secs(5);
/// Bytes of an answer; the process keeps far below.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes that are read at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// Runs a query and waits for what comes of it, [`TIME_MAX`] and [`GRACE`] at most.
pub fn ask(query: &Query) -> Result<Rows, QueryError> {
    let failed = |what: &str, error: &dyn std::fmt::Display| QueryError::Failed(format!("{what}: {error}"));
    let mut child = Command::new("/proc/self/exe")
        .arg("query-process")
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| failed("the process for it did not start", &error))?;
    let answered = converse(&mut child, query);
    // It has answered, or it is late: either way it is no longer needed.
    let _ = child.kill();
    let ended = child.wait().map_err(|error| failed("the process for it is lost", &error))?;
    let bytes = answered?;
    match serde_json::from_slice(&bytes) {
        Ok(answer) => answer,
        Err(error) => Err(failed("the process for it broke off", &format!("{ended}, {error}"))),
    }
}

fn converse(child: &mut Child, query: &Query) -> Result<Vec<u8>, QueryError> {
    let failed = |error: std::io::Error| QueryError::Failed(format!("the process for it broke off: {error}"));
    let text = serde_json::to_vec(query).map_err(|error| QueryError::Failed(error.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // It reads all of it before it answers.
        stdin.write_all(&text).map_err(failed)?;
    }
    let Some(mut stdout) = child.stdout.take() else { return Ok(Vec::new()) };
    let end = SystemClock.boottime() + TIME_MAX + GRACE;
    let (mut bytes, mut chunk) = (Vec::new(), vec![0; CHUNK_BYTES]);
    loop {
        let left = end.saturating_sub(SystemClock.boottime());
        if left.is_zero() {
            return Err(QueryError::Slow);
        }
        let wait = Timespec::try_from(left).ok();
        let mut fds = [PollFd::new(&stdout, PollFlags::IN)];
        match poll(&mut fds, wait.as_ref()) {
            Ok(0) | Err(rustix::io::Errno::INTR) => continue,
            Ok(_) => {}
            Err(error) => return Err(failed(error.into())),
        }
        match stdout.read(&mut chunk).map_err(failed)? {
            0 => return Ok(bytes),
            _ if bytes.len() > ANSWER_BYTES_MAX => {
                return Err(QueryError::Failed("its answer has no end".into()));
            }
            count => bytes.extend_from_slice(&chunk[..count]),
        }
    }
}
