//! Questions to the supervisor that are answered at once: the app's last lines, and its pids.
//!
//! One question about lines is on its way at a time, since its answer may be as long as all that is kept. A few callers
//! may wait for their turn; who comes beyond them is refused at once.

use super::{Runner, Shared, lock};
use crate::protocol::{LogLine, Stream, ToNode, ToSupervisor};
use std::collections::HashMap;
use std::sync::mpsc::{self, Sender};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How long the supervisor may take to answer, and to go on answering.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// How long a question about lines may wait for those before it.
const TURN_LIMIT: Duration = Duration::from_secs(10);
/// The most callers that ask about lines at a time: one is answered, the others wait.
const ASKING_MAX: usize = 8;

/// Why there are no lines. Ask again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogsError {
    /// The supervisor is overloaded, or there is none.
    #[error("the supervisor, which keeps the app's lines, does not answer")]
    NoAnswer,
    /// Others ask already.
    #[error("too many ask for the app's lines at the same time")]
    Busy,
}

#[derive(Default)]
pub(super) struct Questions {
    open: Mutex<Open>,
    turn: Mutex<Turn>,
    turned: Condvar,
}

#[derive(Default)]
struct Open {
    last: u64,
    askers: HashMap<u64, Sender<ToNode>>,
}

#[derive(Default)]
struct Turn {
    taken: bool,
    callers: usize,
}

/// The right to ask about lines, for as long as it is held.
struct Held<'a>(&'a Questions);

impl Questions {
    fn take_turn(&self) -> Result<Held<'_>, LogsError> {
        let mut turn = lock(&self.turn);
        if turn.callers >= ASKING_MAX {
            return Err(LogsError::Busy);
        }
        turn.callers += 1;
        let waited = self.turned.wait_timeout_while(turn, TURN_LIMIT, |turn| turn.taken);
        let (mut turn, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if turn.taken {
            turn.callers -= 1;
            return Err(LogsError::Busy);
        }
        turn.taken = true;
        Ok(Held(self))
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut turn = lock(&self.0.turn);
        turn.taken = false;
        turn.callers -= 1;
        self.0.turned.notify_one();
    }
}

impl Shared {
    pub(super) fn answer(&self, request: u64, message: ToNode) {
        if let Some(asker) = lock(&self.questions.open).askers.get(&request) {
            // One that has stopped waiting does not want it any more.
            let _ = asker.send(message);
        }
    }

    /// Whether the answer has come in full, as `take` says of each message of it.
    fn ask(
        &self,
        question: impl FnOnce(u64) -> ToSupervisor,
        mut take: impl FnMut(ToNode) -> Answer,
    ) -> Result<(), LogsError> {
        let (sender, answers) = mpsc::channel();
        let request = {
            let mut open = lock(&self.questions.open);
            open.last += 1;
            let request = open.last;
            open.askers.insert(request, sender);
            request
        };
        let mut outcome = Err(LogsError::NoAnswer);
        if self.link.send(&question(request)).is_ok() {
            while let Ok(answer) = answers.recv_timeout(ANSWER_LIMIT) {
                match take(answer) {
                    Answer::More => {}
                    Answer::Whole => outcome = Ok(()),
                    Answer::Refused => outcome = Err(LogsError::Busy),
                }
                if outcome != Err(LogsError::NoAnswer) {
                    break;
                }
            }
        }
        lock(&self.questions.open).askers.remove(&request);
        outcome
    }
}

enum Answer {
    More,
    Whole,
    Refused,
}

impl Runner {
    /// The app's last lines, oldest first; of `stdout` or `stderr` only where a stream is named.
    pub fn logs(&self, lines: usize, stream: Option<&str>) -> Result<Vec<LogLine>, LogsError> {
        let stream = match stream {
            None => None,
            Some("stdout") => Some(Stream::Stdout),
            Some("stderr") => Some(Stream::Stderr),
            Some(_) => return Ok(vec![]),
        };
        let _turn = self.shared.questions.take_turn()?;
        let mut all = Vec::new();
        self.shared.ask(
            |request| ToSupervisor::Logs { request, lines, stream },
            |answer| match answer {
                ToNode::Lines { lines, more, .. } => {
                    all.extend(lines);
                    if more { Answer::More } else { Answer::Whole }
                }
                _ => Answer::Refused,
            },
        )?;
        Ok(all)
    }

    /// The pids of all processes of the app, at this moment; none where the supervisor does not answer in time.
    pub fn descendants(&self) -> Vec<u32> {
        let mut found = Vec::new();
        // Who asks makes do with what there is.
        let _ = self.shared.ask(
            |request| ToSupervisor::Pids { request },
            |answer| {
                if let ToNode::Pids { pids, .. } = answer {
                    found = pids;
                }
                Answer::Whole
            },
        );
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_asks_at_a_time_a_few_wait_and_the_others_are_refused() {
        let questions = Questions::default();
        let first = questions.take_turn().unwrap();
        std::thread::scope(|scope| {
            let waiting: Vec<_> =
                (1..ASKING_MAX).map(|_| scope.spawn(|| questions.take_turn().is_ok())).collect();
            while lock(&questions.turn).callers < ASKING_MAX {
                std::thread::yield_now();
            }
            assert_eq!(questions.take_turn().err(), Some(LogsError::Busy));
            drop(first);
            assert!(waiting.into_iter().all(|caller| caller.join().unwrap()), "each has its turn");
        });
        assert_eq!(lock(&questions.turn).callers, 0);
        assert!(questions.take_turn().is_ok());
    }
}
