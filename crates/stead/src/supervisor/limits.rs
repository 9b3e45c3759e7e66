//! Every waiting time and size of the supervisor, with what it bounds.

use std::time::Duration;

/// What is left to the app between being asked and being killed when the node falls silent.
pub const LAPSE_GRACE: Duration = Duration::from_secs(5);
/// The most of a beat's reach that [`LAPSE_GRACE`] may take: a third, so that two of three beats may be lost.
pub const LAPSE_GRACE_SHARE: u32 = 3;
/// How long processes that outlive the app's main process may take to end before they are killed.
pub const LEFTOVER_GRACE: Duration = Duration::from_secs(5);
/// After a second TERM: how long the app may still take.
pub const SHORT_GRACE: Duration = Duration::from_secs(2);
/// After a second TERM: how long the node may still take, the app included.
pub const SHORT_NODE_GRACE: Duration = Duration::from_secs(5);
/// How long after SIGKILL a process is reported as one that withstands it.
pub const KILL_CONFIRM: Duration = Duration::from_secs(10);
/// Between two looks for what is left after SIGKILL.
pub const KILL_PAUSE: Duration = Duration::from_millis(10);
/// Between two looks for what is left after the main process has ended; exits wake the supervisor anyway.
pub const SWEEP_PAUSE: Duration = Duration::from_millis(100);
/// The most processes of an app; one that has more is killed.
pub const PROCESSES_MAX: usize = 4096;
/// How often the machine is asked how many tasks it has, while an app runs.
pub const CROWD_EVERY: Duration = Duration::from_secs(1);
/// So many tasks more on the machine than at the last count, and the app's processes are counted again.
pub const CROWD_GROWTH: usize = PROCESSES_MAX / 4;
/// On a machine with many tasks they are counted so often anyway.
pub const CROWD_PATIENCE: Duration = Duration::from_secs(60);
/// The most dead children buried before the others have their turn.
pub const BURIALS_SHARE: usize = 256;
/// So many looks in a row must find nothing of a process that asked whether the app is ready: one that forks at the
/// wrong moment hides its child from a single look.
pub const PROBE_LOOKS: u32 = 2;
/// The most notices taken before the others have their turn, those of strangers included.
pub const NOTICES_SHARE: usize = 32;
/// How long none are taken after one that does not count: each time, all processes are looked at.
pub const NOTICES_PAUSE: Duration = Duration::from_millis(100);
/// How long leftovers of a former run may withstand SIGKILL before the start is given up.
pub const LEFTOVER_KILL_LIMIT: Duration = Duration::from_secs(10);

/// How much time the service manager is asked for while Stead starts or stops.
pub const EXTEND_BY: Duration = Duration::from_secs(30);
/// How often it is asked: two of three questions may be lost.
pub const EXTEND_EVERY: Duration = Duration::from_secs(10);
/// Between two tries to send the watchdog's sign while the node's beats do not come.
pub const SIGN_PAUSE: Duration = Duration::from_secs(1);
/// The most messages that wait for a service manager that does not read; the oldest go first.
pub const UNTOLD_LIMIT: usize = 64;
/// Between two tries to tell it.
pub const UNTOLD_PAUSE: Duration = Duration::from_secs(1);

/// How long to wait for the home's lock: a child that a killed supervisor had just forked holds it until its exec.
pub const LOCK_PATIENCE: Duration = Duration::from_millis(500);
/// Between two tries to take it.
pub const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// The first pause before a crashed node is started again; it doubles.
pub const NODE_PAUSE: Duration = Duration::from_secs(1);
/// The longest such pause.
pub const NODE_PAUSE_CEILING: Duration = Duration::from_secs(60);
/// A node that ran this long begins with the first pause again.
pub const NODE_STEADY: Duration = Duration::from_secs(600);

/// The most bytes that wait for a node that does not read; beyond, it is taken for frozen.
pub const OUTBOX_LIMIT: usize = 4 << 20;
/// A portion of an answer about output is made only where fewer bytes wait for the node.
pub const ANSWER_ROOM: usize = 256 << 10;
/// The most answers about output that are not finished; beyond, the oldest is cut.
pub const ANSWERS_MAX: usize = 8;
/// The most bytes taken from one descriptor before the others have their turn.
pub const READ_SHARE: usize = 64 << 10;
/// The longest line kept; longer ones are passed through and kept in pieces.
pub const LINE_LIMIT: usize = 8 << 10;
/// The most bytes kept of each stream, beside the limit on lines.
pub const KEPT_BYTES_LIMIT: usize = 1 << 20;
/// The most bytes that wait for whoever reads the supervisor's own output; beyond, lines are dropped and counted.
pub const SINK_LIMIT: usize = 256 << 10;
/// The most memory kept for that while nothing waits.
pub const SINK_KEPT: usize = 16 << 10;
/// How long the supervisor waits at its end for its output to be taken.
pub const FLUSH_LIMIT: Duration = Duration::from_millis(500);
