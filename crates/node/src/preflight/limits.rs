//! What bounds a look at the machine.

use std::time::Duration;

/// How long one path may take to answer before its file system counts as hung.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// How long a store in a bucket may take to answer.
pub const STORE_LIMIT: Duration = Duration::from_secs(5);
/// Paths that may hang in one look; the rest is then not asked any more.
pub const HUNG_LIMIT: usize = 3;
/// Helpers that could not be killed, since the kernel holds them; with so many no further one is started.
pub const STUCK_LIMIT: usize = 4;
/// How long a killed helper may take to be gone before it counts as stuck.
pub const KILL_LIMIT: Duration = Duration::from_millis(500);
/// Free space below which there is a warning.
pub const SPACE_WARN_BYTES: u64 = 256 << 20;
/// Free space below which a directory that must be writable counts as full.
pub const SPACE_FAIL_BYTES: u64 = 1 << 20;
/// Free inodes below which there is a warning.
pub const INODES_WARN: u64 = 1000;
/// Free inodes below which a directory that must be writable counts as full.
pub const INODES_FAIL: u64 = 10;
/// The most that is read of a table of the kernel or of `/etc/fstab`.
pub const TABLE_BYTES_MAX: usize = 4 << 20;
/// The most that is read of a script to find its interpreter; the kernel reads no more.
pub const SCRIPT_HEAD_BYTES: usize = 256;
/// Bytes that the write test writes, one block.
pub const PROBE_BYTES: usize = 4096;
/// Facts are not older than this when somebody asks often.
pub const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How often a node looks when nobody asks.
pub const LOOK_AT_REST_EVERY: Duration = Duration::from_secs(60);
