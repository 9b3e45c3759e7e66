//! The node's side of the helper: started, asked, and killed where it does not answer.

use super::facts::{Answer, Ask, Facts};
use super::limits::{ANSWER_LIMIT, HUNG_LIMIT, KILL_LIMIT, STUCK_LIMIT};
use base::Clock;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{self, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Between two looks whether a killed helper is gone.
const KILL_PAUSE: Duration = Duration::from_millis(5);

/// Helpers that the kernel did not let go of.
static STUCK: Mutex<Vec<Child>> = Mutex::new(Vec::new());

/// Asks everything, in order. A path that hangs costs its helper; the rest is asked of another one.
pub fn ask(program: &Path, asks: &[Ask], clock: &dyn Clock) -> Vec<Answer> {
    let mut answers = Vec::with_capacity(asks.len());
    let mut hung = 0;
    while answers.len() < asks.len() {
        if hung >= HUNG_LIMIT || !may_start() {
            answers.resize(asks.len(), Answer::NotAsked);
            break;
        }
        let rest = &asks[answers.len()..];
        let before = answers.len();
        match converse(program, rest, &mut answers, clock) {
            Ok(true) => {}
            Ok(false) => {
                answers.push(Answer::Silence);
                hung += 1;
            }
            Err(error) if answers.len() == before => {
                answers.resize(asks.len(), Answer::Nobody(error.to_string()));
            }
            // It answered before it ended: the next path is what it ended over.
            Err(error) => answers.push(Answer::Nobody(error.to_string())),
        }
    }
    answers
}

/// Whether another helper may be started.
fn may_start() -> bool {
    let mut stuck = STUCK.lock().unwrap_or_else(PoisonError::into_inner);
    stuck.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
    stuck.len() < STUCK_LIMIT
}

/// Asks one helper; false where it fell silent.
fn converse(program: &Path, asks: &[Ask], answers: &mut Vec<Answer>, clock: &dyn Clock) -> io::Result<bool> {
    let mut child = Command::new(program)
        .arg("probe")
        .env_remove(app::protocol::DESCRIPTOR_VARIABLE)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()?;
    let outcome = listen(&mut child, asks, answers, clock);
    end(child, clock);
    outcome
}

fn listen(child: &mut Child, asks: &[Ask], answers: &mut Vec<Answer>, clock: &dyn Clock) -> io::Result<bool> {
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(io::Error::other("the helper has no pipes"));
    };
    serde_json::to_writer(&mut stdin, asks)?;
    stdin.flush()?;
    drop(stdin);
    let mut lines = Lines { stdout, kept: Vec::new() };
    for _ in asks {
        match lines.next(clock.boottime() + ANSWER_LIMIT, clock)? {
            Some(line) => {
                let facts: Facts = serde_json::from_slice(&line)?;
                answers.push(Answer::Facts(Box::new(facts)));
            }
            None => return Ok(false),
        }
    }
    Ok(true)
}

/// The helper's output, line by line, with a deadline.
struct Lines {
    stdout: ChildStdout,
    kept: Vec<u8>,
}

impl Lines {
    /// The next line; nothing where none comes in time.
    fn next(&mut self, until: Duration, clock: &dyn Clock) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.kept.iter().position(|byte| *byte == b'\n') {
                let rest = self.kept.split_off(end + 1);
                return Ok(Some(std::mem::replace(&mut self.kept, rest)));
            }
            let left = until.saturating_sub(clock.boottime());
            let left = Timespec::try_from(left).map_err(io::Error::other)?;
            match poll(&mut [PollFd::new(&self.stdout, PollFlags::IN)], Some(&left)) {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            let mut buffer = [0; 16 << 10];
            match rustix::io::read(&self.stdout, &mut buffer) {
                Ok(0) => return Err(io::Error::other("the helper ended without an answer")),
                Ok(got) => self.kept.extend_from_slice(&buffer[..got]),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Ends a helper, and keeps one that does not go for a later look.
fn end(mut child: Child, clock: &dyn Clock) {
    // One that has ended by itself needs no signal.
    let _ = child.kill();
    let until = clock.boottime() + KILL_LIMIT;
    while matches!(child.try_wait(), Ok(None)) {
        if clock.boottime() >= until {
            STUCK.lock().unwrap_or_else(PoisonError::into_inner).push(child);
            return;
        }
        clock.sleep(KILL_PAUSE);
    }
}
