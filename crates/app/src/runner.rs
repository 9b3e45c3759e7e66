//! The app as the node sees it: wanted or not, its state, its output.
//!
//! One thread owns the [`policy`](crate::policy) machine. Calls and the supervisor's messages reach it through one
//! queue, in order; it wakes for those and for the end of a pause, otherwise never. Callers see a copy of the status.
//!
//! ```text
//!  start, stop ──▶ queue ──▶ thread: policy.step ──▶ Link ──▶ supervisor
//!  supervisor's messages ──▶   │
//!                              └──▶ status, subscribers, those who wait for a stop
//! ```

use crate::link::Link;
use crate::policy::RestartPolicy;
use crate::protocol::{Spec, ToNode, ToSupervisor};
use crate::readiness::ReadyWhen;
use base::{Clock, Timestamp};
use std::fmt;
use std::sync::mpsc::{self, Sender, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

mod questions;
mod thread;

pub use questions::LogsError;
use questions::Questions;

/// What the app is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AppState {
    /// Never asked for.
    #[default]
    None,
    /// Being started.
    Starting,
    /// Its main process runs.
    Running,
    /// Being ended because someone asked for it.
    Stopping,
    /// Ended because someone asked for it.
    Stopped,
    /// Ended by itself, or could not be started; will be started again.
    Backoff,
}

impl AppState {
    /// The word used in the status.
    pub fn name(self) -> &'static str {
        match self {
            AppState::None => "none",
            AppState::Starting => "starting",
            AppState::Running => "running",
            AppState::Stopping => "stopping",
            AppState::Stopped => "stopped",
            AppState::Backoff => "backoff",
        }
    }
}

/// How the app's main process last ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastExit {
    /// Its code, where it exited; 126 or 127 where it could not be started.
    pub code: Option<i32>,
    /// The number of the signal that ended it, see [`crate::signal::name`].
    pub signal: Option<i32>,
    /// When.
    pub time: Timestamp,
}

/// How the app is to be run, and what comes before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How.
    pub spec: Spec,
    /// Commands that run one after another before the app, in all but their words as the app does.
    pub before: Vec<Vec<String>>,
    /// They are to run from the first one; otherwise those that have ended well since do not run again.
    pub before_due: bool,
    /// When it counts as ready; as soon as its process runs where this says nothing.
    pub ready: Option<ReadyWhen>,
}

impl From<Spec> for Plan {
    fn from(spec: Spec) -> Plan {
        Plan { spec, before: Vec::new(), before_due: true, ready: None }
    }
}

/// A command that prepares the app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preparation {
    /// Its place in the list, from 0.
    pub index: usize,
    /// How many there are.
    pub of: usize,
    /// Its words.
    pub command: Vec<String>,
    /// Its main process, while that runs.
    pub pid: Option<u32>,
}

/// A command that should have prepared the app and did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreparationFailure {
    /// Its place in the list, from 0.
    pub index: usize,
    /// Its words.
    pub command: Vec<String>,
    /// What went wrong.
    pub why: String,
    /// The code a shell would show: its own, 128 + signal, 126 or 127.
    pub code: i32,
}

/// The app, now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppStatus {
    /// What it is doing.
    pub state: AppState,
    /// Its main process, while that runs.
    pub pid: Option<u32>,
    /// Since when that runs.
    pub started: Option<Timestamp>,
    /// Starts after the first.
    pub restarts: u64,
    /// How it last ended.
    pub last_exit: Option<LastExit>,
    /// The command before it that is being run, or waits to be tried again.
    pub before: Option<Preparation>,
    /// How that command failed last.
    pub before_failure: Option<PreparationFailure>,
    /// It runs and has been ready since its start.
    pub ready: bool,
    /// What is asked to find out whether it is ready, and the last answer, while it runs and is not.
    pub waits_for: Option<String>,
    /// How long it was given to become ready, once that has passed.
    pub overdue: Option<Duration>,
    /// How often it has ended by itself without having run for long, where it keeps ending.
    pub crash_loop: Option<usize>,
    /// What it says of itself (`STATUS=`).
    pub says: Option<String>,
    /// Why it is not running although it should; gone with the next good start.
    pub error: Option<String>,
}

/// A change of the app's state.
#[derive(Clone, Debug)]
pub struct AppEvent {
    /// When.
    pub time: Timestamp,
    /// The status after it.
    pub status: AppStatus,
    /// Why, for people.
    pub reason: String,
}

/// Why the app could not be stopped. Its processes may still write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StopError {
    /// They withstand SIGKILL, on a file system that hangs most likely. The supervisor goes on trying; ask again.
    #[error("processes of the app withstand SIGKILL: {pids:?}")]
    Stuck {
        /// Which.
        pids: Vec<u32>,
    },
    /// The supervisor cannot be reached; this node is about to end the app and itself.
    #[error("the supervisor cannot be reached: {0}")]
    NoSupervisor(String),
}

type Subscriber = Box<dyn Fn(&AppEvent) + Send>;
type TerminateCallback = Arc<dyn Fn() + Send + Sync>;
type FinishCallback = Arc<dyn Fn(i32) + Send + Sync>;

/// Starts, stops and watches the app. Clones share it.
#[derive(Clone)]
pub struct Runner {
    shared: Arc<Shared>,
    queue: Sender<Command>,
}

struct Shared {
    link: Link,
    clock: Arc<dyn Clock>,
    status: Mutex<AppStatus>,
    subscribers: Mutex<Vec<Subscriber>>,
    termination: Mutex<Termination>,
    finish: Mutex<Option<FinishCallback>>,
    questions: Questions,
}

#[derive(Default)]
struct Termination {
    asked: bool,
    callback: Option<TerminateCallback>,
}

enum Command {
    Start(Box<Plan>),
    Stop { why: String, reply: SyncSender<Result<(), StopError>> },
    Restart(RestartPolicy),
    EndWithApp(bool),
    Answered { run: u64, answer: Result<(), String> },
    Heard(ToNode),
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner").field("status", &self.status()).finish_non_exhaustive()
    }
}

impl Runner {
    /// A runner for an app that nobody has asked for yet.
    pub fn new(link: Link, clock: Arc<dyn Clock>, policy: RestartPolicy) -> Runner {
        let (queue, commands) = mpsc::channel();
        let shared = Arc::new(Shared {
            link,
            clock,
            status: Mutex::default(),
            subscribers: Mutex::default(),
            termination: Mutex::default(),
            finish: Mutex::default(),
            questions: Questions::default(),
        });
        let runner = Runner { shared: Arc::clone(&shared), queue: queue.clone() };
        let answering = Arc::clone(&shared);
        let back = queue.clone();
        shared.link.deliver_to(Box::new(move |message| match message {
            ToNode::Terminate => answering.terminate(),
            ToNode::Lines { request, .. } | ToNode::NoLines { request } | ToNode::Pids { request, .. } => {
                answering.answer(request, message)
            }
            other => {
                // The thread lives as long as this process.
                let _ = queue.send(Command::Heard(other));
            }
        }));
        let spawned = std::thread::Builder::new()
            .name("app-runner".into())
            .spawn(move || thread::Thread::new(shared, policy, back).serve(&commands));
        if let Err(error) = spawned {
            // Every later call finds the queue closed and says so.
            tracing::error!(event = "no thread", %error, "the app cannot be run");
        }
        runner
    }

    /// From now on the app is to run like this. While it runs already, the new way holds from the next start on.
    pub fn start(&self, plan: impl Into<Plan>) {
        let _ = self.queue.send(Command::Start(Box::new(plan.into())));
    }

    /// From now on the app is to be stopped. Returns when no process of it is left.
    pub fn stop(&self, why: &str) -> Result<(), StopError> {
        let (reply, answer) = mpsc::sync_channel(1);
        let closed = || StopError::NoSupervisor("the thread that runs the app is gone".into());
        self.queue.send(Command::Stop { why: why.to_owned(), reply }).map_err(|_| closed())?;
        answer.recv().map_err(|_| closed())?
    }

    /// The app, now.
    pub fn status(&self) -> AppStatus {
        self.shared.status()
    }

    /// Calls back with every change of state, on the runner's thread: the callback must be quick and must not call
    /// [`Runner::stop`].
    pub fn subscribe(&self, callback: impl Fn(&AppEvent) + Send + 'static) {
        lock(&self.shared.subscribers).push(Box::new(callback));
    }

    /// Calls back, on a thread of its own, when the supervisor was told to end: the node must drain (stop the app,
    /// make everything durable) and exit 0. At once where that has already happened.
    pub fn on_terminate(&self, callback: impl Fn() + Send + Sync + 'static) {
        let asked = {
            let mut termination = lock(&self.shared.termination);
            termination.callback = Some(Arc::new(callback));
            termination.asked
        };
        if asked {
            self.shared.terminate();
        }
    }

    /// When the app ends by itself it is not started again; instead this is called back, on a thread of its own,
    /// with the app's code, 128 + signal, or 126 or 127: the node must drain, [`Runner::finish`] and exit.
    pub fn exit_when_app_ends(&self, callback: impl Fn(i32) + Send + Sync + 'static) {
        *lock(&self.shared.finish) = Some(Arc::new(callback));
        let _ = self.queue.send(Command::EndWithApp(true));
    }

    /// Takes [`Runner::exit_when_app_ends`] back.
    pub fn stay_when_app_ends(&self) {
        let _ = self.queue.send(Command::EndWithApp(false));
    }

    /// Changes the pauses between restarts.
    pub fn set_restart_policy(&self, policy: RestartPolicy) {
        let _ = self.queue.send(Command::Restart(policy));
    }

    /// The final word: the node is about to exit for good, and the supervisor is to exit with this code as well.
    pub fn finish(&self, code: u8) -> std::io::Result<()> {
        self.shared.link.final_word(code)
    }

    /// Says how the node is, for the service manager above the supervisor. Nobody may be there to hear it.
    pub fn report(&self, ready: bool, text: &str) {
        let _ = self.shared.link.send(&ToSupervisor::Condition { ready, text: text.to_owned() });
    }

    /// The link, for its authority over how long the app may run.
    pub fn link(&self) -> &Link {
        &self.shared.link
    }
}

impl Shared {
    fn terminate(&self) {
        let callback = {
            let mut termination = lock(&self.termination);
            termination.asked = true;
            termination.callback.clone()
        };
        if let Some(callback) = callback {
            aside("terminate", move || callback());
        }
    }

    fn finish(&self, code: i32) {
        if let Some(callback) = lock(&self.finish).clone() {
            aside("finish", move || callback(code));
        }
    }

    fn status(&self) -> AppStatus {
        lock(&self.status).clone()
    }

    fn keep(&self, status: AppStatus) {
        *lock(&self.status) = status;
    }

    fn publish(&self, status: AppStatus, reason: String) {
        lock(&self.status).clone_from(&status);
        let event = AppEvent { time: self.clock.now(), status, reason };
        for subscriber in lock(&self.subscribers).iter() {
            subscriber(&event);
        }
    }
}

/// Runs something that may wait for the runner, so not on its thread.
fn aside(name: &str, work: impl FnOnce() + Send + 'static) {
    if let Err(error) = std::thread::Builder::new().name(name.into()).spawn(work) {
        // Ending without a drain is what every crash is: safe, and better than not ending.
        tracing::error!(event = "no thread", name, %error);
        crate::spawn::exit_now(70);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::SystemClock;
    use base::sim::SimClock;

    fn spec() -> Spec {
        Spec {
            command: vec!["true".into()],
            env: vec![],
            clear_env_of: vec![],
            directory: "/".into(),
            user: None,
            umask: None,
            stop_signal: 15,
            stop_timeout: Duration::from_secs(1),
            notify: false,
        }
    }

    #[test]
    fn without_a_supervisor_nothing_starts_and_everything_answers() {
        let runner = Runner::new(Link::detached(), Arc::new(SystemClock), RestartPolicy::default());
        assert_eq!(runner.status().state, AppState::None);
        let (events, seen) = mpsc::channel();
        runner.subscribe(move |event| {
            let _ = events.send(event.status.state);
        });
        runner.start(spec());
        assert_eq!([seen.recv().unwrap(), seen.recv().unwrap()], [AppState::Starting, AppState::Backoff]);
        let error = runner.status().error.unwrap();
        assert_eq!(error, "the app cannot be started: this node has no supervisor");
        assert_eq!(runner.stop("a test"), Ok(()));
        assert_eq!(runner.status().state, AppState::Stopped);
        assert_eq!((runner.logs(5, None), runner.descendants()), (Err(LogsError::NoAnswer), vec![]));
    }

    #[test]
    fn a_wall_clock_that_is_set_neither_shortens_nor_lengthens_the_wait_for_a_restart() {
        const HOUR_MS: i64 = 3_600_000;
        let (clock, delay) = (SimClock::default(), Duration::from_millis(200));
        let policy = RestartPolicy { delay, ceiling: delay * 2, ..RestartPolicy::default() };
        let runner = Runner::new(Link::detached(), Arc::new(clock.clone()), policy);
        let (events, seen) = mpsc::channel();
        runner.subscribe(move |event| {
            let _ = events.send((event.status.state, event.time));
        });
        let next = || seen.recv().unwrap();
        runner.start(spec());
        assert_eq!(next().0, AppState::Starting);
        let (waiting, failed_at) = next();
        assert_eq!(waiting, AppState::Backoff);

        clock.set_wall(Timestamp(failed_at.0 + HOUR_MS));
        runner.set_restart_policy(policy);
        clock.advance(delay - Duration::from_millis(1));
        clock.set_wall(Timestamp(failed_at.0 - HOUR_MS));
        clock.advance(Duration::from_millis(1));
        let (state, started_at) = next();
        assert_eq!((state, started_at.0), (AppState::Starting, failed_at.0 - HOUR_MS + 1));
    }
}
