//! A query, run by a process of its own: why it must be one is in `docs/decisions/0009-queries-in-a-process.md`.
//!
//! The process has limits of its own; whoever asks ends it when it does not keep them, and [`Stop`] ends it before.
//! A process that ends without an answer leaves open what it did: its transaction is whole or taken back.

use base::{Clock, SystemClock};
use database::query::{Query, QueryError, Rows, TIME_MAX};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Queries at once.
pub const QUERIES_MAX: usize = 4;
/// How long the process may take beyond the query's own time: to start, to give up, to answer.
pub const GRACE: Duration = Duration::from_secs(5);
/// Bytes of an answer; the process keeps far below.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes that are read at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// Why a query has no answer.
#[derive(Debug)]
pub enum NoAnswer {
    /// It came to nothing, and nothing was changed.
    Refused(QueryError),
    /// It was to write, and its process ended before it had answered: its changes are there, or none of them is.
    Unknown(String),
}

/// The way to end a query's process from elsewhere, before or while it runs.
#[derive(Debug, Default)]
pub struct Stop(Mutex<Stage>);

#[derive(Debug, Default)]
enum Stage {
    #[default]
    NotStarted,
    Runs(OwnedFd),
    Asked,
}

impl Stop {
    /// Ends the process, or keeps it from being of use once it starts.
    pub fn now(&self) {
        if let Stage::Runs(process) = std::mem::replace(&mut *self.stage(), Stage::Asked) {
            // It may have ended by itself.
            let _ = pidfd_send_signal(&process, Signal::KILL);
        }
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a process that nobody has waited for.
    fn watch(&self, child: &mut Child) -> std::io::Result<()> {
        let pid = Pid::from_child(child);
        let mut stage = self.stage();
        if let Stage::Asked = *stage {
            return child.kill();
        }
        *stage = Stage::Runs(pidfd_open(pid, PidfdFlags::empty())?);
        Ok(())
    }
}

/// Runs a query and waits for what comes of it, [`TIME_MAX`] and [`GRACE`] at most.
pub fn ask(query: &Query, stop: &Stop) -> Result<Rows, NoAnswer> {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        NoAnswer::Refused(QueryError::Failed(format!("{what}: {error}")))
    };
    let mut child = Command::new("/proc/self/exe")
        .arg("query-process")
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| failed("the process for it did not start", &error))?;
    let answered = stop.watch(&mut child).map_err(Broken::from).and_then(|()| converse(&mut child, query));
    // It has answered, or it is late: either way it is no longer needed.
    let _ = child.kill();
    let ended = child.wait().map_err(|error| failed("the process for it is lost", &error))?;
    let broken = match answered {
        Ok(bytes) => match serde_json::from_slice::<Result<Rows, QueryError>>(&bytes) {
            Ok(answer) => return answer.map_err(NoAnswer::Refused),
            Err(error) => Broken::Off(format!("{ended}, {error}")),
        },
        Err(broken) => broken,
    };
    Err(match (query.write, broken) {
        (false, Broken::Late) => NoAnswer::Refused(QueryError::Slow),
        (false, Broken::Off(why)) => failed("the process for it broke off", &why),
        (true, Broken::Late) => {
            NoAnswer::Unknown(format!("it was still being done {} s later", (TIME_MAX + GRACE).as_secs()))
        }
        (true, Broken::Off(why)) => NoAnswer::Unknown(why),
    })
}

/// Why the process said nothing of use.
enum Broken {
    Late,
    Off(String),
}

impl From<std::io::Error> for Broken {
    fn from(error: std::io::Error) -> Broken {
        Broken::Off(error.to_string())
    }
}

fn converse(child: &mut Child, query: &Query) -> Result<Vec<u8>, Broken> {
    let text = serde_json::to_vec(query).map_err(|error| Broken::Off(error.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // It reads all of it before it answers.
        stdin.write_all(&text)?;
    }
    let Some(mut stdout) = child.stdout.take() else { return Ok(Vec::new()) };
    let end = SystemClock.boottime() + TIME_MAX + GRACE;
    let (mut bytes, mut chunk) = (Vec::new(), vec![0; CHUNK_BYTES]);
    loop {
        let left = end.saturating_sub(SystemClock.boottime());
        if left.is_zero() {
            return Err(Broken::Late);
        }
        let wait = Timespec::try_from(left).ok();
        let mut fds = [PollFd::new(&stdout, PollFlags::IN)];
        match poll(&mut fds, wait.as_ref()) {
            Ok(0) | Err(rustix::io::Errno::INTR) => continue,
            Ok(_) => {}
            Err(error) => return Err(std::io::Error::from(error).into()),
        }
        match stdout.read(&mut chunk)? {
            0 => return Ok(bytes),
            _ if bytes.len() > ANSWER_BYTES_MAX => return Err(Broken::Off("its answer has no end".into())),
            count => bytes.extend_from_slice(&chunk[..count]),
        }
    }
}
