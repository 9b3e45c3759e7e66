//! Lines on their way to standard error: who logs never waits for whoever reads them.
//!
//! ```text
//!  any thread ──offer──▶ lines, up to a limit ──▶ one thread ──write──▶ standard error
//!                          └─ beyond: dropped, counted, and told by a line of its own
//! ```
//! A reader that stalls would otherwise hold whoever logs, with the locks that he has, and the node would not even end.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// The most bytes that wait for the reader; beyond, lines are dropped and counted.
const WAITING_BYTES_MAX: usize = 1 << 20;
/// How long the end of the process waits for the reader.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);

/// The lines of this process; nothing where there is no thread for them.
static LINES: OnceLock<Option<Arc<Queue>>> = OnceLock::new();

/// Takes a line for standard error.
pub struct Writer;

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match lines() {
            Some(queue) => queue.offer(bytes),
            None => io::stderr().write_all(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Waits until all lines are written, but not longer than a moment.
pub fn flush() {
    if let Some(queue) = lines() {
        queue.flush(FLUSH_LIMIT);
    }
}

fn lines() -> Option<&'static Arc<Queue>> {
    // A reader that is gone does not come back, and nobody is left to be told.
    let write = |bytes: &[u8]| drop(io::stderr().write_all(bytes));
    LINES.get_or_init(|| Queue::start(write).ok()).as_ref()
}

struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Vec<u8>>,
    bytes: usize,
    dropped: u64,
    writing: bool,
}

impl State {
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.dropped == 0 && !self.writing
    }

    fn next(&mut self) -> Option<Vec<u8>> {
        if let Some(line) = self.waiting.pop_front() {
            self.bytes -= line.len();
            return Some(line);
        }
        self.note()
    }

    fn note(&mut self) -> Option<Vec<u8>> {
        let lines = std::mem::take(&mut self.dropped);
        let text = format!("stead: {lines} lines dropped: nobody reads standard error fast enough\n");
        (lines > 0).then(|| text.into_bytes())
    }

    fn push(&mut self, line: Vec<u8>) {
        self.bytes += line.len();
        self.waiting.push_back(line);
    }
}

impl Queue {
    fn start(mut write: impl FnMut(&[u8]) + Send + 'static) -> io::Result<Arc<Queue>> {
        let queue = Arc::new(Queue { state: Mutex::default(), changed: Condvar::new() });
        let lines = Arc::clone(&queue);
        std::thread::Builder::new().name("log".into()).spawn(move || {
            loop {
                write(&lines.next());
            }
        })?;
        Ok(queue)
    }

    fn offer(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.bytes + line.len() > WAITING_BYTES_MAX {
            state.dropped += 1;
            return;
        }
        if let Some(note) = state.note() {
            state.push(note);
        }
        state.push(line.to_vec());
        self.changed.notify_all();
    }

    /// The next line, once there is one; the one before has been written.
    fn next(&self) -> Vec<u8> {
        let mut state = self.lock();
        state.writing = false;
        loop {
            if let Some(line) = state.next() {
                state.writing = true;
                return line;
            }
            self.changed.notify_all();
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether all is written.
    fn flush(&self, limit: Duration) -> bool {
        let waited = self.changed.wait_timeout_while(self.lock(), limit, |state| !state.is_idle());
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Longer than anything takes.
    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn who_logs_does_not_wait_for_the_reader_and_what_is_dropped_is_told() {
        // It takes a line only when it is asked for.
        let (written, lines) = mpsc::sync_channel::<String>(0);
        let write = move |bytes: &[u8]| drop(written.send(String::from_utf8_lossy(bytes).into_owned()));
        let queue = Queue::start(write).unwrap();
        let line = format!("{}\n", "x".repeat(WAITING_BYTES_MAX / 4 - 1));
        queue.offer(line.as_bytes());
        assert!(!queue.flush(Duration::from_millis(10)), "nobody reads");
        for _ in 0..10 {
            queue.offer(line.as_bytes());
        }
        let mut read = Vec::new();
        while read.last().is_none_or(|last: &String| !last.contains("dropped")) {
            read.push(lines.recv_timeout(PATIENCE).unwrap());
        }
        let note = read.pop().unwrap();
        let dropped: usize = note.split(' ').nth(1).unwrap().parse().unwrap();
        assert_eq!(read.len() + dropped, 11, "every line is written or counted: {note}");
        assert!(read.iter().all(|read| *read == line));
        queue.offer(b"afterwards\n");
        assert_eq!(lines.recv_timeout(PATIENCE).unwrap(), "afterwards\n");
        assert!(queue.flush(PATIENCE));
    }
}
