//! The node: its process, its end of the socket pair, its beats.
//!
//! It may be frozen, so nothing here waits for it: what it does not read is kept up to a limit, and a node that says
//! nothing for longer than its horizon is taken for frozen.

use super::limits::{ANSWER_ROOM, LAPSE_GRACE, LAPSE_GRACE_SHARE, OUTBOX_LIMIT, READ_SHARE};
use super::manager::is_the_managers;
use app::processes::{self, Cookie};
use app::protocol::{
    BEAT_HORIZON, DESCRIPTOR_VARIABLE, Inbox, NODE_COOKIE_VARIABLE, ToNode, ToSupervisor, VERSION, encode,
};
use app::spawn::{self, Launch, Outcome};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::process::Signal;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

/// What is run as the node.
#[derive(Clone, Debug)]
pub struct Program {
    /// The program.
    pub path: PathBuf,
    /// Its arguments, its own name first.
    pub arguments: Vec<OsString>,
}

/// A started node.
#[derive(Debug)]
pub struct NodeProcess {
    /// Its pid.
    pub pid: u32,
    /// When it was started.
    pub started: Duration,
    /// The code it wants the supervisor to exit with.
    pub final_word: Option<u8>,
    /// Why it must go, where it must.
    pub fault: Option<String>,
    socket: Option<OwnedFd>,
    outcome: Option<OwnedFd>,
    inbox: Inbox,
    /// What it says is not understood any more.
    garbled: bool,
    outbox: Vec<u8>,
    greeted: bool,
    heard: Duration,
    until: Duration,
    horizon: Duration,
}

impl NodeProcess {
    /// Starts the node.
    pub fn launch(program: &Program, cookie: &Cookie, now: Duration) -> io::Result<NodeProcess> {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        let own = [DESCRIPTOR_VARIABLE, NODE_COOKIE_VARIABLE];
        let mut environment: Vec<(OsString, OsString)> = std::env::vars_os()
            .filter(|(name, _)| !own.iter().any(|own| name == *own) && !is_the_managers(name))
            .collect();
        environment.push((DESCRIPTOR_VARIABLE.into(), theirs.as_raw_fd().to_string().into()));
        environment.push((NODE_COOKIE_VARIABLE.into(), cookie.as_str().into()));
        let launched = spawn::launch(&Launch {
            program: program.path.as_os_str(),
            arguments: program.arguments.clone(),
            environment,
            directory: None,
            user: None,
            umask: None,
            stdio: [None, None, None],
            keep: Some(theirs.as_fd()),
            // It must outlive us, to end the app.
            die_with_parent: false,
            mark: None,
        })?;
        Ok(NodeProcess {
            pid: launched.pid,
            started: now,
            final_word: None,
            fault: None,
            socket: Some(ours),
            outcome: Some(launched.outcome),
            inbox: Inbox::default(),
            garbled: false,
            outbox: Vec::new(),
            greeted: false,
            heard: now,
            until: now + BEAT_HORIZON,
            horizon: BEAT_HORIZON,
        })
    }

    /// The pipe that says whether the program runs.
    pub fn outcome(&self) -> Option<&OwnedFd> {
        self.outcome.as_ref()
    }

    /// Asks that pipe; a text where the program does not run.
    pub fn check_outcome(&mut self) -> Option<String> {
        match spawn::outcome(self.outcome.as_ref()?) {
            Outcome::Pending => None,
            Outcome::Running => {
                self.outcome = None;
                None
            }
            Outcome::Failed(failure) => {
                self.outcome = None;
                Some(failure.error.to_string())
            }
        }
    }

    /// The connection, and whether something waits to be written to it.
    pub fn socket(&self) -> Option<(&OwnedFd, bool)> {
        self.socket.as_ref().map(|socket| (socket, !self.outbox.is_empty()))
    }

    /// Takes what the node has said. Beats and greetings are dealt with here.
    pub fn listen(&mut self, now: Duration, welcome: &ToNode) -> Vec<ToSupervisor> {
        self.read();
        let mut messages = Vec::new();
        // One that is at fault is heard all the same: its beats say how long the app may take to end.
        while !self.garbled {
            match self.inbox.take::<ToSupervisor>() {
                Ok(None) => break,
                Ok(Some(ToSupervisor::Hello { version, horizon_ms })) => {
                    self.greeted = true;
                    self.heard = now;
                    self.horizon = Duration::from_millis(horizon_ms);
                    self.say(welcome);
                    if version != VERSION {
                        self.garbled = true;
                        self.fault = Some(format!("it speaks version {version}, not {VERSION}"));
                    }
                }
                Ok(Some(ToSupervisor::Beat { until_ms })) => {
                    self.heard = now;
                    self.until = until_ms.map_or(Duration::ZERO, Duration::from_millis);
                }
                Ok(Some(ToSupervisor::FinalWord { code })) => self.final_word = Some(code),
                Ok(Some(message)) => messages.push(message),
                Err(error) => {
                    self.garbled = true;
                    self.fault = Some(error.to_string());
                }
            }
        }
        messages
    }

    fn read(&mut self) {
        let mut buffer = [0; 16 << 10];
        let mut taken = 0;
        while let Some(socket) = self.socket.as_ref().filter(|_| taken < READ_SHARE) {
            match rustix::net::recv(socket, &mut buffer, RecvFlags::DONTWAIT) {
                Ok((count, _)) if count > 0 => {
                    taken += count;
                    self.inbox.push(&buffer[..count]);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                // It is about to end; if it does not, its silence ends it.
                Ok(_) | Err(_) => self.socket = None,
            }
        }
    }

    /// Says something, now or when the node reads.
    pub fn say(&mut self, message: &ToNode) {
        match encode(message) {
            Ok(bytes) if self.outbox.len() + bytes.len() <= OUTBOX_LIMIT => {
                self.outbox.extend_from_slice(&bytes);
                self.flush();
            }
            Ok(_) => self.fault = Some("it does not read what it is told".into()),
            // Built here, of bounded parts: a bug, and the node's to see by its absence.
            Err(error) => self.fault = Some(error.to_string()),
        }
    }

    /// Whether there is room for a portion of an answer.
    pub fn has_room(&self) -> bool {
        self.outbox.len() < ANSWER_ROOM
    }

    /// Writes what the node takes.
    pub fn flush(&mut self) {
        while let Some(socket) = self.socket.as_ref().filter(|_| !self.outbox.is_empty()) {
            match rustix::net::send(socket, &self.outbox, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(count) => {
                    self.outbox.drain(..count);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => self.outbox.clear(),
            }
        }
    }

    /// Whether it has said hello.
    pub fn greeted(&self) -> bool {
        self.greeted
    }

    /// Until when the app may run: all of it must be gone by then.
    pub fn app_deadline(&self) -> Duration {
        self.until.min(self.silent_at())
    }

    /// When to begin ending the app, so that the deadline is kept.
    pub fn app_warning(&self) -> Duration {
        let deadline = self.app_deadline();
        let reach = deadline.saturating_sub(self.heard);
        deadline.saturating_sub(LAPSE_GRACE.min(reach / LAPSE_GRACE_SHARE))
    }

    /// When it is taken for frozen.
    pub fn silent_at(&self) -> Duration {
        self.heard + self.horizon
    }

    /// Kills it. It is our child and not buried, so the pid is its own.
    pub fn kill(&self) {
        if let Some(pid) = processes::raw_pid(self.pid) {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
}
