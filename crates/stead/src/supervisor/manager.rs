//! What the service manager above is told, as sd_notify(3) has it; without one, nothing.
//!
//! ```text
//!  the node's condition ─▶ Tidings (pure): STATUS when it changes, READY once, STOPPING once,
//!  time, beats          ─▶   EXTEND_TIMEOUT_USEC while it starts or stops, WATCHDOG ─▶ datagrams
//! ```
//! A manager counts on being told, so what it cannot take now is sent later. Extensions and the watchdog's sign come
//! only while the node beats: a node that hangs shall be noticed above too. A dead node does not hang: the sign goes on
//! while the supervisor ends the app and waits to start the next one. The variables are for this process alone.

use super::limits::{EXTEND_BY, EXTEND_EVERY, SIGN_PAUSE, UNTOLD_LIMIT, UNTOLD_PAUSE};
use app::protocol::NOTIFY_VARIABLE;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

/// What a manager sets beside the socket.
const WATCHDOG_VARIABLES: [&str; 2] = ["WATCHDOG_USEC", "WATCHDOG_PID"];

/// The variables of the manager, which nobody inherits.
pub fn is_the_managers(name: &OsStr) -> bool {
    name == NOTIFY_VARIABLE || WATCHDOG_VARIABLES.iter().any(|variable| name == *variable)
}

/// How the node is, for the watchdog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeLife {
    /// Its beats come.
    Beats,
    /// It runs, and its beats do not come.
    Hangs,
    /// It has ended, and what comes next is planned.
    Ended,
}

/// The way to the manager, where there is one.
#[derive(Debug)]
pub struct Manager {
    socket: Option<(OwnedFd, SocketAddrUnix)>,
    tidings: Tidings,
    untold: VecDeque<String>,
    again_at: Duration,
}

impl Manager {
    /// The manager that the environment names.
    pub fn from_environment() -> Manager {
        let address = std::env::var_os(NOTIFY_VARIABLE).and_then(|name| address(&name));
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = address.and_then(|address| {
            let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None);
            Some((socket.ok()?, address))
        });
        let [usec, pid] = WATCHDOG_VARIABLES.map(|name| std::env::var(name).ok());
        let for_us = pid.is_none_or(|pid| pid == std::process::id().to_string());
        let every = usec.and_then(|text| text.parse().ok()).filter(|usec| *usec > 0 && for_us);
        let tidings = Tidings { watchdog: every.map(Duration::from_micros), ..Tidings::default() };
        Manager { socket, tidings, untold: VecDeque::new(), again_at: Duration::ZERO }
    }

    /// What the node has said of itself.
    pub fn hear(&mut self, ready: bool, text: &str) {
        self.tidings.hear(ready, text);
    }

    /// Everything is about to end.
    pub fn stopping(&mut self) {
        self.tidings.stopping = true;
    }

    /// Tells what is due.
    pub fn step(&mut self, now: Duration, node: NodeLife) {
        let Some((socket, address)) = &self.socket else { return };
        self.untold.extend(self.tidings.due(now, node));
        while self.untold.len() > UNTOLD_LIMIT {
            self.untold.pop_front();
        }
        while let Some(text) = self.untold.front() {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match rustix::net::sendto(socket, text.as_bytes(), flags, address) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN | Errno::NOBUFS) => {
                    self.again_at = now + UNTOLD_PAUSE;
                    return;
                }
                // Told, or nobody is there to be told.
                Ok(_) | Err(_) => drop(self.untold.pop_front()),
            }
        }
    }

    /// When to step again.
    pub fn wake_at(&self) -> Option<Duration> {
        self.socket.as_ref()?;
        let again = (!self.untold.is_empty()).then_some(self.again_at);
        [again, self.tidings.wake_at()].into_iter().flatten().min()
    }
}

/// A path, or a name in the abstract space behind an `@`.
fn address(name: &OsStr) -> Option<SocketAddrUnix> {
    match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddrUnix::new_abstract_name(rest).ok(),
        [b'/', ..] => SocketAddrUnix::new(name).ok(),
        _ => None,
    }
}

#[derive(Debug, Default)]
struct Tidings {
    ready: bool,
    status: String,
    stopping: bool,
    watchdog: Option<Duration>,
    told_ready: bool,
    told_status: String,
    told_stopping: bool,
    next_sign: Duration,
    next_extension: Duration,
}

impl Tidings {
    fn hear(&mut self, ready: bool, text: &str) {
        self.ready = ready;
        self.status = text.replace(['\n', '\r'], " ");
    }

    fn due(&mut self, now: Duration, node: NodeLife) -> Vec<String> {
        let mut lines = Vec::new();
        if self.stopping && !self.told_stopping {
            self.told_stopping = true;
            lines.push("STOPPING=1\nSTATUS=stopping".to_owned());
        }
        if self.status != self.told_status && !self.stopping {
            self.told_status.clone_from(&self.status);
            lines.push(format!("STATUS={}", self.status));
        }
        if self.ready && !self.told_ready && !self.stopping {
            self.told_ready = true;
            lines.push("READY=1".to_owned());
        }
        if self.extends() && node == NodeLife::Beats && self.next_extension <= now {
            self.next_extension = now + EXTEND_EVERY;
            lines.push(format!("EXTEND_TIMEOUT_USEC={}", EXTEND_BY.as_micros()));
        }
        if let Some(every) = self.watchdog
            && self.next_sign <= now
        {
            self.next_sign = now + every / 2;
            if node == NodeLife::Hangs {
                // It may only be late; the other half is too short to skip.
                self.next_sign = now + SIGN_PAUSE.min(every / 2);
            } else {
                lines.push("WATCHDOG=1".to_owned());
            }
        }
        lines
    }

    /// The manager waits for something, and would lose patience.
    fn extends(&self) -> bool {
        self.stopping || !self.told_ready
    }

    fn wake_at(&self) -> Option<Duration> {
        let extension = self.extends().then_some(self.next_extension);
        let sign = self.watchdog.map(|_| self.next_sign);
        [extension, sign].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn watched(watchdog: Option<Duration>) -> Tidings {
        Tidings { watchdog, ..Tidings::default() }
    }

    #[test]
    fn ready_and_stopping_are_said_once_and_a_status_when_it_changes() {
        let mut tidings = watched(None);
        tidings.hear(false, "starting:\nthe databases");
        let extension = format!("EXTEND_TIMEOUT_USEC={}", EXTEND_BY.as_micros());
        assert_eq!(tidings.due(s(1), NodeLife::Beats), ["STATUS=starting: the databases", &extension]);
        assert_eq!(tidings.wake_at(), Some(s(1) + EXTEND_EVERY));
        tidings.hear(true, "primary");
        assert_eq!(tidings.due(s(2), NodeLife::Beats), ["STATUS=primary", "READY=1"]);
        assert_eq!((tidings.due(s(3), NodeLife::Beats), tidings.wake_at()), (vec![], None));
        tidings.hear(false, "primary");
        assert_eq!(tidings.due(s(4), NodeLife::Beats), [""; 0], "who was ready is not starting again");
        tidings.stopping = true;
        let stopping = tidings.due(s(60), NodeLife::Beats);
        assert_eq!(stopping, ["STOPPING=1\nSTATUS=stopping", &extension]);
        assert_eq!(tidings.due(s(60) + EXTEND_EVERY, NodeLife::Beats), [extension]);
    }

    #[test]
    fn a_node_that_does_not_beat_gets_neither_time_nor_a_sign_of_life() {
        let mut tidings = watched(Some(s(4)));
        assert_eq!(tidings.due(s(10), NodeLife::Hangs), [""; 0]);
        assert_eq!(tidings.due(s(12), NodeLife::Beats).len(), 2);
        tidings.hear(true, "");
        assert_eq!(tidings.due(s(13), NodeLife::Beats), ["READY=1"]);
        assert_eq!(tidings.wake_at(), Some(s(14)));
        assert_eq!(tidings.due(s(14), NodeLife::Beats), ["WATCHDOG=1"]);
        assert_eq!(tidings.due(s(16), NodeLife::Hangs), [""; 0]);
        assert_eq!(
            tidings.wake_at(),
            Some(s(16) + SIGN_PAUSE),
            "one late beat must not cost half of the time"
        );
        assert_eq!(tidings.due(s(17), NodeLife::Beats), ["WATCHDOG=1"]);
        assert_eq!(tidings.wake_at(), Some(s(19)));
    }

    #[test]
    fn a_node_that_has_ended_does_not_hang() {
        let mut tidings = watched(Some(s(4)));
        assert_eq!(tidings.due(s(10), NodeLife::Ended), ["WATCHDOG=1"]);
        assert_eq!(tidings.due(s(11), NodeLife::Ended), [""; 0], "nor does it get time to start or stop");
        assert_eq!(tidings.due(s(12), NodeLife::Ended), ["WATCHDOG=1"]);
    }
}
