//! When the app is started, started again, and left alone: a pure state machine.
//!
//! ```text
//!           want                 Started                 Exited               Ended
//!  None ─────────▶ Launching ─────────────▶ Running ─────────────▶ Sweeping ─────────▶ Waiting ──┐
//!                   ▲   │ Failed ─────────────────────────────────────────────────────▶  ▲       │ delay over
//!                   │   └────────────────────────────────────────────────────────────────┘       │
//!                   └────────────────────────────────────────────────────────────────────────────┘
//!  halt: Launching, Running, Sweeping ──▶ Stopping ──Ended──▶ Stopped;   Waiting ──▶ Stopped;   want ──▶ Launching
//! ```
//!
//! A launch is one command: first those that prepare the app, one after another and each until it has ended well once,
//! then the app itself. One that ends well is followed by the next at once; one that fails waits as the app would.
//!
//! *Sweeping*: the main process has ended by itself and what it left behind is being ended. Nothing is launched
//! before the supervisor has confirmed that no process of the app is left, so that two never write at once.
//! Times are on the boot clock; nothing here waits.

use crate::protocol::Ending;
use std::time::Duration;

/// When to start again an app that has ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartPolicy {
    /// The first pause; it doubles with every further end.
    pub delay: Duration,
    /// The longest pause.
    pub ceiling: Duration,
    /// An app that ran this long begins with the first pause again.
    pub reset_after: Duration,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        RestartPolicy {
            delay: Duration::from_secs(1),
            ceiling: Duration::from_secs(60),
            reset_after: Duration::from_secs(600),
        }
    }
}

/// Which command a launch runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// One that prepares the app, by its place in the list.
    Before(usize),
    /// The app.
    App,
}

/// Where the app is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Never asked for.
    None,
    /// The supervisor has been asked to start it.
    Launching,
    /// Its main process runs.
    Running {
        /// The main process.
        pid: u32,
        /// Since when.
        since: Duration,
    },
    /// It ended by itself; what it left is being ended.
    Sweeping {
        /// How its main process ended.
        ending: Ending,
        /// When the next start is due.
        due: Duration,
    },
    /// Nothing of it is left; it is started again when the pause is over.
    Waiting {
        /// When.
        until: Duration,
    },
    /// It is being ended because someone asked for it.
    Stopping,
    /// Nothing of it is left, and that is as wanted.
    Stopped,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// It is to run.
    Want,
    /// It is to stop.
    Halt,
    /// The supervisor has started it.
    Started {
        /// The main process.
        pid: u32,
    },
    /// Another process is the main one from now on.
    Succeeded {
        /// Which.
        pid: u32,
    },
    /// The supervisor could not start it.
    Failed {
        /// 126 or 127.
        code: i32,
    },
    /// The main process has ended.
    Exited {
        /// How.
        ending: Ending,
    },
    /// No process of it is left.
    Ended {
        /// The supervisor did it of its own accord.
        lapsed: bool,
    },
    /// Time has passed.
    Tick,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask the supervisor to start it.
    Launch {
        /// Number of this start.
        run: u64,
        /// What to start.
        part: Part,
    },
    /// Ask the supervisor to end it.
    End {
        /// The start this refers to.
        run: u64,
    },
    /// Tell those who wait for the stop that nothing is left.
    Confirm,
    /// It has ended by itself, and the node is to end with it.
    Finish {
        /// The node's exit code.
        code: i32,
    },
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Policy {
    restart: RestartPolicy,
    end_with_app: bool,
    phase: Phase,
    wanted: bool,
    run: u64,
    starts: u64,
    next_pause: Duration,
    /// How many commands prepare the app, and how many of them have ended well.
    before: usize,
    prepared: usize,
    /// What the last launch was for.
    part: Part,
    /// The last launch belongs to the commands in force.
    counts: bool,
}

impl Policy {
    /// An app that nobody has asked for yet.
    pub fn new(restart: RestartPolicy) -> Policy {
        let next_pause = restart.delay;
        Policy {
            restart,
            end_with_app: false,
            phase: Phase::None,
            wanted: false,
            run: 0,
            starts: 0,
            next_pause,
            before: 0,
            prepared: 0,
            part: Part::App,
            counts: false,
        }
    }

    /// Where the app is.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The number of the last start.
    pub fn run(&self) -> u64 {
        self.run
    }

    /// What the last launch was for.
    pub fn part(&self) -> Part {
        self.part
    }

    /// Starts of the app itself that came after the first.
    pub fn restarts(&self) -> u64 {
        self.starts.saturating_sub(1)
    }

    /// From the next launch on so many commands run before the app, from the first one.
    pub fn prepare(&mut self, before: usize) {
        self.before = before;
        self.prepared = 0;
        self.counts = false;
    }

    /// Replaces the pauses; a pause that already runs stays as it is.
    pub fn set_restart(&mut self, restart: RestartPolicy) {
        self.restart = restart;
        self.next_pause = restart.delay;
    }

    /// Whether the node ends when the app does.
    pub fn set_end_with_app(&mut self, on: bool) {
        self.end_with_app = on;
    }

    /// When [`Input::Tick`] is due.
    pub fn wake_at(&self) -> Option<Duration> {
        match self.phase {
            Phase::Waiting { until } => Some(until),
            _ => None,
        }
    }

    /// Takes what has happened, says what is to be done, in this order.
    pub fn step(&mut self, now: Duration, input: &Input) -> Vec<Effect> {
        match *input {
            Input::Want => self.want(),
            Input::Halt => self.halt(),
            Input::Started { pid } => {
                if self.phase == Phase::Launching {
                    self.phase = Phase::Running { pid, since: now };
                }
                vec![]
            }
            Input::Succeeded { pid } => {
                if let Phase::Running { since, .. } = self.phase {
                    self.phase = Phase::Running { pid, since };
                }
                vec![]
            }
            Input::Failed { code } => self.failed(now, code),
            Input::Exited { ending } => {
                if let Phase::Running { since, .. } = self.phase {
                    let due = self.due_after(now, now.saturating_sub(since));
                    self.phase = Phase::Sweeping { ending, due };
                }
                vec![]
            }
            Input::Ended { lapsed } => self.ended(now, lapsed),
            Input::Tick => match self.phase {
                Phase::Waiting { until } if until <= now => vec![self.launch()],
                _ => vec![],
            },
        }
    }

    fn launch(&mut self) -> Effect {
        self.run += 1;
        self.counts = true;
        self.part = if self.prepared < self.before { Part::Before(self.prepared) } else { Part::App };
        if self.part == Part::App {
            self.starts += 1;
        }
        self.phase = Phase::Launching;
        Effect::Launch { run: self.run, part: self.part }
    }

    fn want(&mut self) -> Vec<Effect> {
        self.wanted = true;
        match self.phase {
            Phase::None | Phase::Waiting { .. } | Phase::Stopped => {
                self.next_pause = self.restart.delay;
                vec![self.launch()]
            }
            // Begins when the stop is complete.
            Phase::Stopping => vec![],
            Phase::Launching | Phase::Running { .. } | Phase::Sweeping { .. } => vec![],
        }
    }

    fn halt(&mut self) -> Vec<Effect> {
        self.wanted = false;
        match self.phase {
            Phase::None | Phase::Stopped => vec![Effect::Confirm],
            Phase::Waiting { .. } => {
                self.phase = Phase::Stopped;
                vec![Effect::Confirm]
            }
            Phase::Launching | Phase::Running { .. } | Phase::Sweeping { .. } => {
                self.phase = Phase::Stopping;
                vec![Effect::End { run: self.run }]
            }
            Phase::Stopping => vec![],
        }
    }

    fn failed(&mut self, now: Duration, code: i32) -> Vec<Effect> {
        if self.phase != Phase::Launching {
            return vec![];
        }
        if self.end_with_app && self.part == Part::App {
            self.phase = Phase::Stopped;
            return vec![Effect::Finish { code }];
        }
        self.phase = Phase::Waiting { until: self.due_after(now, Duration::ZERO) };
        vec![]
    }

    fn ended(&mut self, now: Duration, lapsed: bool) -> Vec<Effect> {
        match self.phase {
            Phase::Sweeping { ending, .. } if ended_well(self.part, ending) && !lapsed => {
                if self.counts {
                    self.prepared += 1;
                }
                self.next_pause = self.restart.delay;
                vec![self.launch()]
            }
            Phase::Sweeping { ending, due } => {
                if self.end_with_app && !lapsed && self.part == Part::App {
                    self.phase = Phase::Stopped;
                    return vec![Effect::Finish { code: ending.shell_code() }];
                }
                if due <= now {
                    return vec![self.launch()];
                }
                self.phase = Phase::Waiting { until: due };
                vec![]
            }
            Phase::Stopping => {
                self.phase = Phase::Stopped;
                if self.wanted {
                    self.next_pause = self.restart.delay;
                    return vec![Effect::Confirm, self.launch()];
                }
                vec![Effect::Confirm]
            }
            Phase::Launching | Phase::Running { .. } => {
                // The supervisor ended it without a word about the main process.
                self.phase = Phase::Waiting { until: self.due_after(now, Duration::ZERO) };
                vec![]
            }
            Phase::None | Phase::Waiting { .. } | Phase::Stopped => vec![],
        }
    }

    /// When the next start is due, and the pause after that one.
    fn due_after(&mut self, now: Duration, ran: Duration) -> Duration {
        if ran >= self.restart.reset_after {
            self.next_pause = self.restart.delay;
        }
        let pause = self.next_pause.min(self.restart.ceiling);
        self.next_pause = (pause * 2).min(self.restart.ceiling);
        now + pause
    }
}

/// Whether this was a command that prepares the app, and it did.
fn ended_well(part: Part, ending: Ending) -> bool {
    part != Part::App && ending.code == Some(0)
}

#[cfg(test)]
mod tests;
