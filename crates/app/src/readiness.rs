//! Whether an app that runs is ready: a pure state machine, begun anew with every start.
//!
//! ```text
//!            due                 good answer, or the app's own word
//!  Waiting ───────▶ Asking ─────────────────────────────────────────▶ Ready, until the app ends
//!     ▲                │ no good answer
//!     └──── interval ──┘            deadline passed: overdue, said once; it goes on
//! ```
//!
//! An app that is not ready in time is left running: more apps are merely slow than would be mended by a restart.
//! Times are on the boot clock; nothing here waits.

use std::fmt;
use std::time::Duration;

/// The most characters kept of an answer.
const ANSWER_CHARS_MAX: usize = 200;

/// How it is found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// `GET`: a status of 200 to 399 is good; redirects are not followed.
    Http {
        /// Host and port.
        address: String,
        /// Path and query.
        path: String,
    },
    /// A connection is accepted.
    Tcp {
        /// Host and port.
        address: String,
    },
    /// A command exits with 0, run in all else as the app is.
    Command {
        /// Its words.
        words: Vec<String>,
    },
    /// The app says so itself: `READY=1`, as sd_notify(3) has it.
    Notify,
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // What comes after the path may be a secret, and this is shown to whoever may read the status.
            Question::Http { address, path } => {
                write!(f, "http://{address}{}", path.split('?').next().unwrap_or_default())
            }
            Question::Tcp { address } => write!(f, "tcp {address}"),
            Question::Command { words } => write!(f, "`{}`", words.join(" ")),
            Question::Notify => f.write_str("READY=1 from the app"),
        }
    }
}

/// When an app counts as ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadyWhen {
    /// How it is found out.
    pub question: Question,
    /// How long it may take before that is worth an issue.
    pub timeout: Duration,
    /// From one answer to the next question.
    pub interval: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Waiting { ask_at: Option<Duration> },
    Asking,
    Ready,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Ask.
    Ask,
    /// Say that it takes too long.
    Overdue,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Readiness {
    when: ReadyWhen,
    phase: Phase,
    deadline: Duration,
    overdue: bool,
    answer: Option<String>,
}

impl Readiness {
    /// The app runs since now.
    pub fn begin(when: ReadyWhen, now: Duration) -> Readiness {
        let ask_at = (when.question != Question::Notify).then_some(now);
        let deadline = now + when.timeout;
        Readiness { when, phase: Phase::Waiting { ask_at }, deadline, overdue: false, answer: None }
    }

    /// How it is found out.
    pub fn question(&self) -> &Question {
        &self.when.question
    }

    /// Whether it is ready.
    pub fn is_ready(&self) -> bool {
        self.phase == Phase::Ready
    }

    /// How long it was given, where that has passed without its being ready.
    pub fn overdue(&self) -> Option<Duration> {
        (self.overdue && !self.is_ready()).then_some(self.when.timeout)
    }

    /// What is asked, and the last answer; nothing once it is ready.
    pub fn waits_for(&self) -> Option<String> {
        let answer = self.answer.as_deref().unwrap_or("no answer yet");
        (!self.is_ready()).then(|| format!("{}: {answer}", self.when.question))
    }

    /// When to step again.
    pub fn wake_at(&self) -> Option<Duration> {
        let deadline = (!self.overdue).then_some(self.deadline);
        match self.phase {
            Phase::Waiting { ask_at } => [ask_at, deadline].into_iter().flatten().min(),
            Phase::Asking => deadline,
            Phase::Ready => None,
        }
    }

    /// Time has passed.
    pub fn step(&mut self, now: Duration) -> Vec<Due> {
        let mut due = Vec::new();
        if let Phase::Waiting { ask_at: Some(at) } = self.phase
            && at <= now
        {
            self.phase = Phase::Asking;
            due.push(Due::Ask);
        }
        if !self.overdue && self.phase != Phase::Ready && self.deadline <= now {
            self.overdue = true;
            due.push(Due::Overdue);
        }
        due
    }

    /// What was asked has been answered.
    pub fn answered(&mut self, now: Duration, answer: Result<(), String>) {
        if self.phase != Phase::Asking {
            return;
        }
        match answer {
            Ok(()) => self.phase = Phase::Ready,
            Err(text) => {
                self.answer = Some(short(&text));
                self.phase = Phase::Waiting { ask_at: Some(now + self.when.interval) };
            }
        }
    }

    /// The app has said so itself; counts only where that is how it is found out.
    pub fn declared(&mut self) {
        if self.when.question == Question::Notify {
            self.phase = Phase::Ready;
        }
    }

    /// The app has said what it is at.
    pub fn described(&mut self, text: &str) {
        if self.when.question == Question::Notify {
            self.answer = Some(short(text));
        }
    }

    /// The app has asked for so much time from now on.
    pub fn extend(&mut self, now: Duration, by: Duration) {
        if self.when.question == Question::Notify {
            self.deadline = self.deadline.max(now.saturating_add(by));
        }
    }
}

fn short(text: &str) -> String {
    let printable = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    printable.take(ANSWER_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn begun(question: Question) -> Readiness {
        Readiness::begin(ReadyWhen { question, timeout: s(60), interval: s(1) }, s(100))
    }

    fn tcp() -> Question {
        Question::Tcp { address: "127.0.0.1:3000".into() }
    }

    #[test]
    fn it_is_asked_again_an_interval_after_each_answer_until_one_is_good() {
        let mut app = begun(tcp());
        assert_eq!(app.step(s(100)), [Due::Ask]);
        assert_eq!(app.step(s(105)), [], "one question at a time");
        app.answered(s(105), Err("refused".into()));
        assert_eq!(app.waits_for().unwrap(), "tcp 127.0.0.1:3000: refused");
        assert_eq!((app.step(s(105)), app.wake_at()), (vec![], Some(s(106))));
        assert_eq!(app.step(s(106)), [Due::Ask]);
        app.answered(s(106), Ok(()));
        assert!(app.is_ready());
        assert_eq!((app.waits_for(), app.wake_at()), (None, None));
        app.answered(s(107), Err("late".into()));
        assert!(app.is_ready(), "it stays ready");
    }

    #[test]
    fn one_that_takes_too_long_is_said_to_once_and_is_asked_on() {
        let mut app = begun(tcp());
        app.step(s(100));
        assert_eq!(app.wake_at(), Some(s(160)));
        assert_eq!(app.step(s(160)), [Due::Overdue]);
        assert_eq!((app.overdue(), app.step(s(200))), (Some(s(60)), vec![]));
        app.answered(s(200), Err("503".into()));
        assert_eq!(app.step(s(201)), [Due::Ask]);
        app.answered(s(201), Ok(()));
        assert_eq!((app.is_ready(), app.overdue()), (true, None));
    }

    #[test]
    fn only_an_app_that_is_to_speak_for_itself_does() {
        let mut app = begun(tcp());
        app.declared();
        assert!(!app.is_ready());
        let mut app = begun(Question::Notify);
        assert_eq!((app.step(s(100)), app.wake_at()), (vec![], Some(s(160))));
        app.described("loading\u{1b}[31m 3 of 7");
        assert_eq!(app.waits_for().unwrap(), "READY=1 from the app: loading [31m 3 of 7");
        app.extend(s(150), s(30));
        assert_eq!(app.step(s(160)), []);
        app.extend(s(151), s(1));
        assert_eq!(app.wake_at(), Some(s(180)), "an extension never takes time away");
        app.declared();
        assert!(app.is_ready());
    }
}
