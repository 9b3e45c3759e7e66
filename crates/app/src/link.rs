//! The node's end of the socket pair to its supervisor.
//!
//! One thread sends the beats, takes what the supervisor says, and watches for its end. When the supervisor is gone
//! nobody could stop the app any more, so the thread does it itself: it kills every process that carries the cookie,
//! and then ends the node on the spot (databases are made to survive exactly that).
//!
//! A beat says that the node lives and how long the app may run. By default that is [`BEAT_HORIZON`] from now; whoever
//! knows better (a lease) says so with [`Link::set_authority`].

use crate::processes::{self, Cookie};
use crate::protocol::{
    APP_COOKIE_VARIABLE, BEAT_HORIZON, BEAT_INTERVAL, DESCRIPTOR_VARIABLE, Inbox, ToNode, ToSupervisor,
    VERSION, encode,
};
use crate::spawn;
use base::{Clock, SystemClock};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long the supervisor may take to answer the first message.
const WELCOME_LIMIT: Duration = Duration::from_secs(10);
/// How long a message may wait for a supervisor that does not read.
const SEND_LIMIT: Duration = Duration::from_secs(10);
/// How long the processes of an orphaned app may take to die after SIGKILL before the node gives up on them.
const ORPHAN_KILL_LIMIT: Duration = Duration::from_secs(10);
/// How long to wait between two looks for them while they die.
const ORPHAN_KILL_PAUSE: Duration = Duration::from_millis(10);
/// So many looks in a row must find nothing.
const EMPTY_LOOKS: u32 = 3;
/// The node's exit code when its supervisor is gone.
const ORPHANED_CODE: i32 = 70;

/// Says until when, on the boot clock, the app may run; nothing where it may not. Gets the time. It is asked on the
/// link's thread and must not wait for anything.
pub type Authority = dyn Fn(Duration) -> Option<Duration> + Send + Sync;

/// The rhythm of the beats.
#[derive(Clone, Copy, Debug)]
pub struct Beats {
    /// From one to the next.
    pub interval: Duration,
    /// Silence for so long means that the node is frozen.
    pub horizon: Duration,
}

impl Default for Beats {
    fn default() -> Self {
        Beats { interval: BEAT_INTERVAL, horizon: BEAT_HORIZON }
    }
}

type Receiver = dyn Fn(ToNode) + Send;

/// The connection. Clones share it.
#[derive(Clone)]
pub struct Link {
    shared: Arc<Shared>,
}

struct Shared {
    socket: Option<OwnedFd>,
    writing: Mutex<()>,
    authority: Mutex<Arc<Authority>>,
    receiver: Mutex<Delivery>,
    cookie: Option<Cookie>,
    restarts: u32,
    previous: Option<String>,
}

enum Delivery {
    /// Nobody listens yet; what has come.
    Kept(Vec<ToNode>),
    /// To whom.
    To(Box<Receiver>),
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("attached", &self.shared.socket.is_some()).finish_non_exhaustive()
    }
}

impl Link {
    /// The link to the supervisor that started this process; none where nobody did. To be called once.
    pub fn from_env() -> io::Result<Option<Link>> {
        let Some(number) = std::env::var_os(DESCRIPTOR_VARIABLE) else {
            return Ok(None);
        };
        let number = number.to_str().and_then(|text| text.parse().ok());
        let number = number.ok_or_else(|| io::Error::other(format!("{DESCRIPTOR_VARIABLE} is no number")))?;
        Link::open(spawn::adopt_descriptor(number)?, Beats::default()).map(Some)
    }

    /// No supervisor: the app cannot be started; everything else works.
    pub fn detached() -> Link {
        Link::new(None, Beats::default(), None, 0, None)
    }

    /// Greets the supervisor at the other end, waits for its welcome and begins to send beats.
    pub fn open(socket: OwnedFd, beats: Beats) -> io::Result<Link> {
        rustix::net::sockopt::set_socket_timeout(
            &socket,
            rustix::net::sockopt::Timeout::Send,
            Some(SEND_LIMIT),
        )?;
        send(&socket, &ToSupervisor::Hello { version: VERSION, horizon_ms: milliseconds(beats.horizon) })?;
        let mut inbox = Inbox::default();
        let deadline = SystemClock.boottime() + WELCOME_LIMIT;
        let welcome = loop {
            if let Some(message) = inbox.take().map_err(io::Error::other)? {
                break message;
            }
            let left = deadline.saturating_sub(SystemClock.boottime());
            if left.is_zero() {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the supervisor does not answer"));
            }
            if !receive(&socket, &mut inbox, left)? {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the supervisor is gone"));
            }
        };
        let ToNode::Welcome { version, cookie, restarts, previous } = welcome else {
            return Err(io::Error::other("the supervisor did not begin with a welcome"));
        };
        if version != VERSION {
            return Err(io::Error::other(format!(
                "the supervisor speaks version {version}, this is {VERSION}"
            )));
        }
        let link = Link::new(Some(socket), beats, Cookie::parse(&cookie), restarts, previous);
        let thread = link.clone();
        std::thread::Builder::new()
            .name("supervisor-link".into())
            .spawn(move || thread.serve(inbox, beats.interval))?;
        Ok(link)
    }

    fn new(
        socket: Option<OwnedFd>,
        beats: Beats,
        cookie: Option<Cookie>,
        restarts: u32,
        previous: Option<String>,
    ) -> Link {
        let authority: Arc<Authority> = Arc::new(move |now| Some(now + beats.horizon));
        let shared = Shared {
            socket,
            writing: Mutex::new(()),
            authority: Mutex::new(authority),
            receiver: Mutex::new(Delivery::Kept(Vec::new())),
            cookie,
            restarts,
            previous,
        };
        Link { shared: Arc::new(shared) }
    }

    /// How many nodes the supervisor started before this one.
    pub fn restarts(&self) -> u32 {
        self.shared.restarts
    }

    /// Why the node before this one ended, and what became of the app.
    pub fn previous(&self) -> Option<&str> {
        self.shared.previous.as_deref()
    }

    /// Sets who says how long the app may run, and sends a beat with the first answer.
    pub fn set_authority(&self, authority: Arc<Authority>) {
        *lock(&self.shared.authority) = authority;
        // A supervisor that is gone is noticed by the thread.
        let _ = self.beat();
    }

    /// Sends a beat now: the authority has something new to say.
    pub fn beat(&self) -> io::Result<()> {
        let authority = Arc::clone(&lock(&self.shared.authority));
        let until_ms = authority(SystemClock.boottime()).map(milliseconds);
        self.send(&ToSupervisor::Beat { until_ms })
    }

    /// What the supervisor itself says is to be JSON, or lines for people.
    pub fn log_as(&self, json: bool) -> io::Result<()> {
        self.send(&ToSupervisor::Log { json })
    }

    /// The node is about to exit for good: the supervisor is to do so too, with this code.
    pub fn final_word(&self, code: u8) -> io::Result<()> {
        self.send(&ToSupervisor::FinalWord { code })
    }

    /// Sends a message.
    pub fn send(&self, message: &ToSupervisor) -> io::Result<()> {
        let Some(socket) = &self.shared.socket else {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "this node has no supervisor"));
        };
        let _writing = lock(&self.shared.writing);
        send(socket, message)
    }

    /// Sets who gets what the supervisor says, from now on and what has come before. Called on the link's thread: it
    /// must not wait for anything, or the beats stop.
    pub fn deliver_to(&self, receiver: Box<Receiver>) {
        let mut delivery = lock(&self.shared.receiver);
        if let Delivery::Kept(messages) = &mut *delivery {
            for message in messages.drain(..) {
                receiver(message);
            }
        }
        *delivery = Delivery::To(receiver);
    }

    fn deliver(&self, message: ToNode) {
        match &mut *lock(&self.shared.receiver) {
            Delivery::Kept(messages) => messages.push(message),
            Delivery::To(receiver) => receiver(message),
        }
    }

    fn serve(&self, mut inbox: Inbox, interval: Duration) {
        let Some(socket) = &self.shared.socket else {
            return;
        };
        let mut next_beat = Duration::ZERO;
        loop {
            loop {
                match inbox.take::<ToNode>() {
                    Ok(Some(message)) => self.deliver(message),
                    Ok(None) => break,
                    Err(error) => self.orphaned(&error.to_string()),
                }
            }
            let now = SystemClock.boottime();
            if now >= next_beat {
                next_beat = now + interval;
                if let Err(error) = self.beat() {
                    self.orphaned(&error.to_string());
                }
            }
            match receive(socket, &mut inbox, next_beat.saturating_sub(now)) {
                Ok(true) => {}
                Ok(false) => self.orphaned("it is gone"),
                Err(error) => self.orphaned(&error.to_string()),
            }
        }
    }

    /// Without a supervisor: ends the app, then this process.
    fn orphaned(&self, why: &str) -> ! {
        tracing::error!(event = "supervisor lost", reason = why, "killing the app and ending this node");
        spawn::go_first();
        if let Some(cookie) = &self.shared.cookie {
            match kill_all(&[APP_COOKIE_VARIABLE], cookie, ORPHAN_KILL_LIMIT) {
                Ok(left) if left.is_empty() => {}
                Ok(left) => {
                    tracing::error!(event = "app not stopped", pids = ?left, "these processes withstand SIGKILL");
                }
                Err(error) => {
                    tracing::error!(event = "app not stopped", %error, "its processes cannot be seen")
                }
            }
        }
        spawn::exit_now(ORPHANED_CODE)
    }
}

/// Kills whatever carries the cookie until nothing is left, or the limit passes; returns what is left. Nothing is
/// left when several looks in a row say so: one that forks at the wrong moment hides its child from a single look, and
/// a look that fails says nothing. It is an error where the last one has failed.
pub fn kill_all(variables: &[&str], cookie: &Cookie, limit: Duration) -> io::Result<Vec<u32>> {
    let deadline = SystemClock.boottime() + limit;
    let mut empty_looks = 0;
    loop {
        // Who cannot be killed is reported below.
        let look = processes::kill_carrying(variables, cookie);
        let empty = look.as_ref().is_ok_and(Vec::is_empty);
        empty_looks = if empty { empty_looks + 1 } else { 0 };
        if empty_looks == EMPTY_LOOKS || SystemClock.boottime() >= deadline {
            return look.map(|left| left.iter().map(|process| process.pid).collect());
        }
        if !empty {
            SystemClock.sleep(ORPHAN_KILL_PAUSE);
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn send(socket: &OwnedFd, message: &ToSupervisor) -> io::Result<()> {
    let bytes = encode(message).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        match rustix::net::send(socket, rest, SendFlags::NOSIGNAL) {
            Ok(count) => rest = &rest[count..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Waits for bytes and takes them; false at the end of the connection.
fn receive(socket: &OwnedFd, inbox: &mut Inbox, limit: Duration) -> io::Result<bool> {
    let timeout = Timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: limit.subsec_nanos().into(),
    };
    match rustix::event::poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&timeout)) {
        Ok(0) | Err(Errno::INTR) => return Ok(true),
        Ok(_) => {}
        Err(error) => return Err(error.into()),
    }
    let mut buffer = [0; 16 << 10];
    match rustix::net::recv(socket, &mut buffer, RecvFlags::DONTWAIT) {
        Ok((0, _)) | Err(Errno::CONNRESET) => Ok(false),
        Ok((count, _)) => {
            inbox.push(&buffer[..count]);
            Ok(true)
        }
        Err(Errno::AGAIN | Errno::INTR) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// A poisoned lock holds data that are whole all the same: nothing here panics half-way through a change.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
