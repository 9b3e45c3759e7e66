//! A bar or a spinner on stderr for work that takes longer than a second, where a person watches.

use crate::terminal;
use base::{Clock, SystemClock};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::Duration;

/// Shorter work shows nothing.
const SILENT: Duration = Duration::from_secs(1);

/// How often a spinner turns.
const TICK: Duration = Duration::from_millis(200);

/// The progress of one piece of work.
#[derive(Debug)]
pub struct Progress {
    what: String,
    began: Duration,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Work begins.
    pub fn new(what: impl Into<String>) -> Progress {
        Progress { what: what.into(), began: SystemClock.boottime(), bar: None }
    }

    /// So much of so much is done, in bytes.
    pub fn at(&mut self, done: u64, total: u64) {
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_position(done);
        } else if SystemClock.boottime().saturating_sub(self.began) > SILENT && is_watched() {
            let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {eta}");
            let bar = ProgressBar::new(total).with_message(self.what.clone());
            self.bar = Some(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())));
        }
    }
}

/// Waits for an answer; a person who waits longer than a second sees that it is being worked on.
pub async fn during<T>(what: impl Into<String>, answer: impl Future<Output = T>) -> T {
    let mut answer = std::pin::pin!(answer);
    if let Ok(done) = tokio::time::timeout(SILENT, answer.as_mut()).await {
        return done;
    }
    if !is_watched() {
        return answer.await;
    }
    let spinner = ProgressBar::new_spinner().with_message(what.into());
    spinner.enable_steady_tick(TICK);
    let done = answer.await;
    spinner.finish_and_clear();
    done
}

/// Whether a person sees stderr, on a terminal where a line can be drawn over.
fn is_watched() -> bool {
    std::io::stderr().is_terminal() && terminal::is_capable()
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_is_waited_for_however_long_it_takes() {
        for wait in [Duration::ZERO, SILENT + TICK] {
            let answer = async {
                tokio::time::sleep(wait).await;
                7
            };
            assert_eq!(during("work", answer).await, 7);
        }
    }
}
