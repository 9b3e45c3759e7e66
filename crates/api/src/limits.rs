//! What bounds a client.

use std::time::Duration;

/// A request's body; a configuration is the largest that anybody sends.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// How long a client may take to send its body.
pub const BODY_WAIT: Duration = Duration::from_secs(30);
/// How long a client may take to send a request's head, and how long an idle connection is kept.
pub const HEAD_WAIT: Duration = Duration::from_secs(30);
/// A request's head: its first line and its headers, of which there are at most 100 (431 beyond either).
pub const HEAD_BYTES_MAX: usize = 64 * 1024;
/// The pause after a connection that could not be accepted.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long an answer may lie without its client taking any of it.
pub const ANSWER_WAIT: Duration = Duration::from_secs(60);
/// Connections at once over TCP. A further one takes the place of the oldest that has no request running; where all have
/// one, it waits in the kernel's queue.
pub const CONNECTIONS_MAX: usize = 256;
/// Connections at once through the home's socket, whatever happens at the other door.
pub const SOCKET_CONNECTIONS_MAX: usize = 64;
/// Readers of `GET /events` at once; each holds a thread.
pub const EVENT_READERS_MAX: usize = 16;
/// Events that wait for one slow reader before it is cut off.
pub const EVENTS_WAITING_MAX: usize = 256;
/// How often an event reader's thread looks whether its client is still there.
pub const EVENT_POLL: Duration = Duration::from_secs(1);
/// How often a silent event stream says that it lives.
pub const EVENT_KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long unacknowledged bytes may lie before a TCP client counts as gone.
pub const CLIENT_SILENCE_MAX: Duration = Duration::from_secs(60);
/// How long running requests have to end after the node was told to stop.
pub const DRAIN_WAIT: Duration = Duration::from_secs(5);
/// Images of databases at once, from the first byte written to the last one sent: each is a whole copy in `tmp/`.
pub const IMAGES_MAX: usize = 4;
/// Bytes read from a database's image at once.
pub const IMAGE_CHUNK_BYTES: usize = 256 * 1024;
/// Chunks of an image that wait for a slow client.
pub const IMAGE_CHUNKS_WAITING_MAX: usize = 4;
/// Lines of the app's output in one answer.
pub const LOG_LINES_MAX: usize = 2000;
/// Lines of the app's output where none are asked for.
pub const LOG_LINES: usize = 20;
/// Connections of this machine that are looked through to find a peer's uid, in bytes of `/proc/net/tcp`.
pub const PEER_TABLE_BYTES_MAX: usize = 16 * 1024 * 1024;
