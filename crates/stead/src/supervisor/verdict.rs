//! What follows from the end of a node: exit, or start another one. Pure.

use super::limits::{NODE_PAUSE, NODE_PAUSE_CEILING, NODE_STEADY};
use app::protocol::Ending;
use std::time::Duration;

/// A node's exit code for a bug of its own.
pub const SOFTWARE: u8 = 70;
/// What Rust exits with after a panic of the main thread.
const PANIC: i32 = 101;

/// What the supervisor does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It exits too.
    Exit(u8),
    /// It starts another node after a pause.
    Restart,
}

/// How it came to the end of a node.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances {
    /// How it ended.
    pub ending: Ending,
    /// The code it had announced.
    pub final_word: Option<u8>,
    /// It had been told to drain.
    pub draining: bool,
    /// It was killed because someone insisted on the end.
    pub forced: bool,
}

/// A node that says so, or exits with a code that means something, is followed by the supervisor; a crash is not the
/// user's wish, so another node is started. While draining nothing is started any more.
pub fn judge(case: Circumstances) -> Verdict {
    if let Some(code) = case.final_word {
        return Verdict::Exit(code);
    }
    if case.forced {
        return Verdict::Exit(0);
    }
    let code = case.ending.code.and_then(|code| u8::try_from(code).ok());
    let crashed = matches!(case.ending.code, None | Some(PANIC)) || code == Some(SOFTWARE);
    match code {
        Some(code) if !crashed => Verdict::Exit(code),
        _ if case.draining => Verdict::Exit(SOFTWARE),
        _ => Verdict::Restart,
    }
}

/// The pauses between crashing nodes.
#[derive(Clone, Copy, Debug)]
pub struct Pauses {
    next: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Pauses { next: NODE_PAUSE }
    }
}

impl Pauses {
    /// The pause after a node that ran so long.
    pub fn after(&mut self, ran: Duration) -> Duration {
        if ran >= NODE_STEADY {
            self.next = NODE_PAUSE;
        }
        let pause = self.next;
        self.next = (pause * 2).min(NODE_PAUSE_CEILING);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Ending = Ending { code: None, signal: None };

    fn exited(code: i32) -> Circumstances {
        let ending = Ending { code: Some(code), ..NOTHING };
        Circumstances { ending, final_word: None, draining: false, forced: false }
    }

    fn signalled() -> Circumstances {
        Circumstances { ending: Ending { signal: Some(9), ..NOTHING }, ..exited(0) }
    }

    #[test]
    fn a_crash_is_followed_by_another_node_and_a_meant_code_is_not() {
        for crash in [exited(70), exited(101), signalled()] {
            assert_eq!(judge(crash), Verdict::Restart, "{crash:?}");
        }
        for code in [0, 1, 2, 69, 71, 75, 78] {
            assert_eq!(judge(exited(code)), Verdict::Exit(u8::try_from(code).unwrap()));
        }
    }

    #[test]
    fn a_final_word_counts_more_than_how_the_node_ended() {
        let word = Circumstances { final_word: Some(3), ..signalled() };
        assert_eq!(judge(word), Verdict::Exit(3));
        let word = Circumstances { final_word: Some(0), draining: true, ..exited(70) };
        assert_eq!(judge(word), Verdict::Exit(0));
    }

    #[test]
    fn nothing_is_started_while_draining() {
        assert_eq!(judge(Circumstances { draining: true, ..exited(0) }), Verdict::Exit(0));
        assert_eq!(judge(Circumstances { draining: true, ..signalled() }), Verdict::Exit(70));
        assert_eq!(judge(Circumstances { draining: true, forced: true, ..signalled() }), Verdict::Exit(0));
    }

    #[test]
    fn pauses_double_up_to_a_minute_and_a_long_run_resets_them() {
        let mut pauses = Pauses::default();
        let short = Duration::from_secs(1);
        let seconds: Vec<u64> = (0..8).map(|_| pauses.after(short).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(pauses.after(NODE_STEADY).as_secs(), 1);
    }
}
