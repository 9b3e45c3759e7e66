//! A bar on stderr for work that takes longer than a second, where a person watches.

use base::{Clock, SystemClock};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::Duration;

/// Shorter work shows nothing.
const SILENT: Duration = Duration::from_secs(1);

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
        } else if SystemClock.boottime().saturating_sub(self.began) > SILENT
            && std::io::stderr().is_terminal()
        {
            let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {eta}");
            let bar = ProgressBar::new(total).with_message(self.what.clone());
            self.bar = Some(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
