//! What node and supervisor say to each other over their socket pair.
//!
//! Each message is JSON behind its length in four bytes, little end first; none is longer than [`MESSAGE_LIMIT`].
//! The node opens with [`ToSupervisor::Hello`], the supervisor answers with [`ToNode::Welcome`]; both carry
//! [`VERSION`], and neither goes on with another one. From then on:
//!
//! ```text
//!  node                                supervisor
//!  Beat (every 1 s)          ──▶       the app may run until then, not longer
//!  Start{run}                ──▶       Started{run} | Failed{run}
//!                            ◀──       Exited{run}: the main process has ended, the rest is being ended
//!  Stop{run}                 ──▶       Ended{run}: no process of the app is left | Stuck{run}: some withstand KILL
//!  Probe{run}                ──▶       Probed{run}: nothing of the question's process is left
//!                            ◀──       Notified{run}: what the app has said of itself
//!  Condition                 ──▶       told to the service manager, where there is one
//!  Logs, Pids                ──▶       Lines… | NoLines, Pids
//!  Log{json}                 ──▶       the form of the supervisor's own lines, from now on
//!                            ◀──       Terminate: drain, then exit 0
//!  FinalWord{code}           ──▶       the supervisor exits with this code once the node has
//! ```
//!
//! `run` numbers are given by the node and rise; an answer about an older run is ignored.

use base::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// The version of these messages.
pub const VERSION: u32 = 3;
/// The most bytes in one message: a configuration (1 MiB at most) may hold a long command or environment.
pub const MESSAGE_LIMIT: usize = 2 << 20;
/// The most bytes of log text in one [`ToNode::Lines`]; more go into further messages.
pub const LINES_BYTES_LIMIT: usize = 64 << 10;
/// The environment variable that gives the node the number of its descriptor.
pub const DESCRIPTOR_VARIABLE: &str = "STEAD_SUPERVISOR_FD";
/// The environment variable by which all processes of the app are known.
pub const APP_COOKIE_VARIABLE: &str = "STEAD_COOKIE";
/// The environment variable by which a node left over from a former run is known.
pub const NODE_COOKIE_VARIABLE: &str = "STEAD_NODE_COOKIE";
/// The environment variable by which processes of a question to the app are known.
pub const PROBE_COOKIE_VARIABLE: &str = "STEAD_PROBE_COOKIE";
/// The environment variable by which a process learns where to say that it is ready.
pub const NOTIFY_VARIABLE: &str = "NOTIFY_SOCKET";
/// How often the node says that it lives.
pub const BEAT_INTERVAL: Duration = Duration::from_secs(1);
/// A node that has sent no beat for so long is frozen, and the app may not run on.
pub const BEAT_HORIZON: Duration = Duration::from_secs(10);
/// The most lines of each stream that the supervisor keeps.
pub const LINES_KEPT: usize = 1000;

/// How the app is to be run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Program and arguments. A program without `/` is looked up in the app's PATH.
    pub command: Vec<String>,
    /// Set on top of the inherited environment.
    pub env: Vec<(String, String)>,
    /// Not inherited.
    pub clear_env_of: Vec<String>,
    /// Where it runs.
    pub directory: PathBuf,
    /// As whom: user and group; the supervisor's own where none.
    pub user: Option<(u32, u32)>,
    /// Its umask; the supervisor's own where none.
    pub umask: Option<u32>,
    /// What asks it to end, a number of `<signal.h>`.
    pub stop_signal: i32,
    /// How long it may take to end before it is killed.
    pub stop_timeout: Duration,
    /// It says by itself that it is ready, on a socket that it is given.
    #[serde(default)]
    pub notify: bool,
}

/// One of the app's two outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// `stdout` or `stderr`.
    pub fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// One line of the app's output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When it came.
    pub time: Timestamp,
    /// Where from.
    pub stream: Stream,
    /// Its text without the newline; bytes that are not UTF-8 are replaced.
    pub text: String,
}

/// How a process ended: one of the two is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// Its exit code.
    pub code: Option<i32>,
    /// The number of the signal that ended it.
    pub signal: Option<i32>,
}

impl Ending {
    /// The code a shell would show: the code, or 128 + signal.
    pub fn shell_code(self) -> i32 {
        self.code.or(self.signal.map(|signal| 128 + signal)).unwrap_or(1)
    }
}

/// From the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum ToSupervisor {
    /// The first message.
    Hello {
        /// [`VERSION`] of the node.
        version: u32,
        /// A node that has sent no beat for so long is frozen.
        horizon_ms: u64,
    },
    /// The node lives, and the app may run until `until_ms` on the boot clock; without one it may not run.
    Beat {
        /// Milliseconds since boot, suspend included.
        until_ms: Option<u64>,
    },
    /// Start the app. Refused while any process of it is left.
    Start {
        /// Number of this start.
        run: u64,
        /// How.
        spec: Spec,
        /// It only prepares the app: signals for the app are not for it.
        prepares: bool,
    },
    /// End the app and all its descendants; answered by `Ended` also where there is none.
    Stop {
        /// The start this refers to.
        run: u64,
    },
    /// Run a command as the app is run, to ask whether it is ready.
    Probe {
        /// The start this refers to.
        run: u64,
        /// Program and arguments.
        command: Vec<String>,
        /// It is killed after so long.
        limit: Duration,
    },
    /// How the node is, for the service manager.
    Condition {
        /// It does what it was started for.
        ready: bool,
        /// In words.
        text: String,
    },
    /// The last lines of output.
    Logs {
        /// Number of the question.
        request: u64,
        /// How many.
        lines: usize,
        /// Of one stream only.
        stream: Option<Stream>,
    },
    /// The pids of all processes of the app.
    Pids {
        /// Number of the question.
        request: u64,
    },
    /// The supervisor's own lines are to have the form of the node's log.
    Log {
        /// JSON objects, else lines for people.
        json: bool,
    },
    /// The node is about to exit for good, and the supervisor is to exit with this code.
    FinalWord {
        /// 0 to 255.
        code: u8,
    },
}

/// From the supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum ToNode {
    /// The answer to `Hello`.
    Welcome {
        /// [`VERSION`] of the supervisor.
        version: u32,
        /// What every process of the app carries in its environment.
        cookie: String,
        /// How many nodes this supervisor has started before.
        restarts: u32,
        /// Why the last one ended, and what became of the app.
        previous: Option<String>,
    },
    /// The app's program runs.
    Started {
        /// The start.
        run: u64,
        /// The main process.
        pid: u32,
    },
    /// The main process has ended and has left its place to another process of the app, as it had said it would.
    Succeeded {
        /// The start.
        run: u64,
        /// The main process from now on.
        pid: u32,
    },
    /// The app could not be started.
    Failed {
        /// The start.
        run: u64,
        /// 127: no such program; 126: anything else, as shells have it.
        code: i32,
        /// What went wrong, with names.
        error: String,
    },
    /// The app's main process has ended; what is left of it is being ended.
    Exited {
        /// The start.
        run: u64,
        /// How.
        ending: Ending,
    },
    /// No process of the app is left.
    Ended {
        /// The start.
        run: u64,
        /// How many processes had to be killed.
        killed: u32,
        /// Why the supervisor ended it without being told to.
        lapse: Option<String>,
        /// What it did that the supervisor had to end it for.
        fault: Option<String>,
    },
    /// Processes of the app have not gone although they were killed. The supervisor goes on trying.
    Stuck {
        /// The start.
        run: u64,
        /// Which.
        pids: Vec<u32>,
    },
    /// The answer to `Probe`.
    Probed {
        /// The start it refers to.
        run: u64,
        /// Why the answer is no good one.
        complaint: Option<String>,
    },
    /// A process of the app has said something on its socket.
    Notified {
        /// The start.
        run: u64,
        /// It is ready.
        ready: bool,
        /// What it is at.
        status: Option<String>,
        /// It needs so much time from now on.
        extend: Option<Duration>,
    },
    /// Lines of output, oldest first.
    Lines {
        /// The question.
        request: u64,
        /// Some of them.
        lines: Vec<LogLine>,
        /// More follow.
        more: bool,
    },
    /// No further lines come: too much was asked for at the same time.
    NoLines {
        /// The question.
        request: u64,
    },
    /// The answer to `Pids`.
    Pids {
        /// The question.
        request: u64,
        /// All processes of the app.
        pids: Vec<u32>,
    },
    /// Stop the app, make everything durable, exit 0.
    Terminate,
}

/// Why a message could not be sent or understood. The caller must give the connection up.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// Nothing that is built here is that long; the other side sends garbage.
    #[error("a message of {0} bytes; the limit is {MESSAGE_LIMIT}")]
    TooLong(usize),
    /// The two sides are of different builds.
    #[error("a message that is not understood: {0}")]
    Json(#[from] serde_json::Error),
}

/// A message as bytes, length first.
pub fn encode<M: Serialize>(message: &M) -> Result<Vec<u8>, ProtocolError> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let len = bytes.len() - 4;
    match u32::try_from(len) {
        Ok(len32) if len <= MESSAGE_LIMIT => {
            bytes[..4].copy_from_slice(&len32.to_le_bytes());
            Ok(bytes)
        }
        _ => Err(ProtocolError::TooLong(len)),
    }
}

/// Bytes as they come, messages as they are whole.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Vec<u8>,
}

impl Inbox {
    /// Takes what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message.
    pub fn take<M: DeserializeOwned>(&mut self) -> Result<Option<M>, ProtocolError> {
        let Some((head, rest)) = self.bytes.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let len = usize::try_from(u32::from_le_bytes(*head)).unwrap_or(usize::MAX);
        if len > MESSAGE_LIMIT {
            return Err(ProtocolError::TooLong(len));
        }
        let Some(body) = rest.get(..len) else {
            return Ok(None);
        };
        let message = serde_json::from_slice(body)?;
        self.bytes.drain(..4 + len);
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_whole_however_they_are_cut() {
        let sent = [
            ToNode::Terminate,
            ToNode::Failed { run: 7, code: 127, error: "no ü".into() },
            ToNode::Lines {
                request: 1,
                more: false,
                lines: vec![LogLine { time: Timestamp(5), stream: Stream::Stderr, text: "a\u{1}b".into() }],
            },
        ];
        let bytes: Vec<u8> = sent.iter().flat_map(|m| encode(m).unwrap()).collect();
        for piece in [1, 3, 7, bytes.len()] {
            let mut inbox = Inbox::default();
            let mut got = Vec::new();
            for part in bytes.chunks(piece) {
                inbox.push(part);
                while let Some(message) = inbox.take::<ToNode>().unwrap() {
                    got.push(message);
                }
            }
            assert_eq!(got, sent);
        }
    }

    #[test]
    fn garbage_ends_the_conversation() {
        let mut inbox = Inbox::default();
        inbox.push(&u32::MAX.to_le_bytes());
        assert!(matches!(inbox.take::<ToNode>(), Err(ProtocolError::TooLong(_))));
        let mut inbox = Inbox::default();
        inbox.push(&[2, 0, 0, 0, b'{', b'}']);
        assert!(matches!(inbox.take::<ToNode>(), Err(ProtocolError::Json(_))));
    }

    #[test]
    fn a_message_over_the_limit_is_not_sent() {
        let long = ToNode::Failed { run: 1, code: 126, error: "x".repeat(MESSAGE_LIMIT) };
        assert!(matches!(encode(&long), Err(ProtocolError::TooLong(_))));
    }

    #[test]
    fn an_ending_reads_as_in_a_shell() {
        assert_eq!(Ending { code: Some(3), signal: None }.shell_code(), 3);
        assert_eq!(Ending { code: None, signal: Some(9) }.shell_code(), 137);
    }
}
