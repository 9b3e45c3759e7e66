//! A history that no longer leads to its end: a file was found damaged, and no other has what it held.

use super::{FileInfo, History, plan};
use base::Txid;

/// Damaged files that are named, at most.
const NAMED_MAX: usize = 3;

impl History {
    /// Why what was sealed last cannot be restored; `None`: it can, as far as is known.
    pub fn broken(&self) -> Option<String> {
        // What a store may have that is away is not known.
        if self.store_away() {
            return None;
        }
        let damaged = self.damaged();
        damaged.first()?;
        let last = self.last()?.header.max_txid;
        let reached = plan::reachable(self.inner.usable(None).iter().map(|entry| entry.key.txids()));
        if reached.contains(&last) {
            return None;
        }
        let reached = reached.last().copied().unwrap_or(Txid::ZERO);
        Some(format!(
            "{} leads to txid {reached}, and txid {last} was sealed{}",
            self.base().display(),
            named(&damaged)
        ))
    }
}

/// Damaged files and what is wrong with them, as the end of a sentence.
pub(crate) fn named(damaged: &[FileInfo]) -> String {
    let one = |file: &FileInfo| {
        format!("; {}: {}", file.path.display(), file.damage.as_deref().unwrap_or("damaged"))
    };
    let more = damaged.len().saturating_sub(NAMED_MAX);
    let rest = if more > 0 { format!("; and {more} more") } else { String::new() };
    damaged.iter().take(NAMED_MAX).map(one).collect::<String>() + &rest
}
