//! The same line again and again is written a few times a minute, and then counted.
//!
//! ```text
//! first N of a window ─► written        later ones ─► counted        the window's end ─► "… 57 more in 60 s"
//! ```
//! Two lines are the same when they have the same event about the same thing: a path, a database, an issue. A count is
//! told with the next line that is written after its window, and when the node ends. Pure: it is given the time.

use std::collections::HashMap;
use std::time::Duration;

/// How long the same lines are counted together.
pub const WINDOW: Duration = Duration::from_secs(60);
/// The same line in one window, at most.
pub const SAME_LINES_MAX: u32 = 10;
/// Different lines that are counted at once; beyond it, lines are written uncounted.
const KEYS_MAX: usize = 1000;

/// What a line is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Key {
    /// The event's name.
    pub event: String,
    /// What it happened to, where it says.
    pub of: String,
}

/// Lines that were not written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Which.
    pub key: Key,
    /// How many.
    pub count: u64,
}

/// The lines of the last minute.
#[derive(Debug, Default)]
pub struct Repeats {
    lines: HashMap<Key, Window>,
}

#[derive(Debug)]
struct Window {
    began: Duration,
    written: u32,
    held: u64,
}

impl Repeats {
    /// Whether a line is written now, and the counts that are due before it.
    pub fn judge(&mut self, key: Key, now: Duration) -> (Vec<Held>, bool) {
        let due = self.take_due(|window| now.saturating_sub(window.began) >= WINDOW);
        if !self.lines.contains_key(&key) && self.lines.len() >= KEYS_MAX {
            return (due, true);
        }
        let window = self.lines.entry(key).or_insert(Window { began: now, written: 0, held: 0 });
        if window.written < SAME_LINES_MAX {
            window.written += 1;
            return (due, true);
        }
        window.held += 1;
        // A line that is not written has no place for counts either; there are none unless a window ended just now.
        (due, false)
    }

    /// All counts there are, since no further line may come.
    pub fn end(&mut self) -> Vec<Held> {
        self.take_due(|_| true)
    }

    fn take_due(&mut self, is_due: impl Fn(&Window) -> bool) -> Vec<Held> {
        let over: Vec<Key> =
            self.lines.iter().filter(|(_, window)| is_due(window)).map(|(key, _)| key.clone()).collect();
        let mut due: Vec<Held> = over
            .into_iter()
            .filter_map(|key| {
                let window = self.lines.remove(&key)?;
                (window.held > 0).then_some(Held { key, count: window.held })
            })
            .collect();
        due.sort_by(|a, b| (&a.key.event, &a.key.of).cmp(&(&b.key.event, &b.key.of)));
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(event: &str, of: &str) -> Key {
        Key { event: event.to_owned(), of: of.to_owned() }
    }

    #[test]
    fn the_same_line_is_written_a_few_times_and_then_counted() {
        let mut repeats = Repeats::default();
        let second = Duration::from_secs;
        let written = (0..67).filter(|_| repeats.judge(key("store failed", "a.db"), second(1)).1).count();
        assert_eq!(written, 10);
        assert_eq!(repeats.judge(key("store failed", "b.db"), second(2)), (vec![], true), "another database");
        assert_eq!(repeats.judge(key("state", ""), second(60)), (vec![], true), "the window is not over");
        let held = Held { key: key("store failed", "a.db"), count: 57 };
        assert_eq!(repeats.judge(key("state", ""), second(61)), (vec![held], true));
        assert_eq!(repeats.judge(key("store failed", "a.db"), second(62)), (vec![], true), "a new window");
    }

    #[test]
    fn nothing_is_lost_at_the_end_and_nothing_grows_without_bound() {
        let mut repeats = Repeats::default();
        for _ in 0..12 {
            repeats.judge(key("a", ""), Duration::ZERO);
        }
        assert_eq!(repeats.end(), [Held { key: key("a", ""), count: 2 }]);
        assert_eq!(repeats.end(), []);
        for n in 0..3 * KEYS_MAX {
            assert!(repeats.judge(key("a", &n.to_string()), Duration::ZERO).1);
        }
        assert_eq!(repeats.lines.len(), KEYS_MAX);
    }
}
