//! Conditional writes, and what came of them.
//!
//! ```text
//!      ┌──────────────────── again, while patience lasts ◄─────────────┐
//! write ─► answer ─ yes ──────────────────────────► Won                │
//!            ├── 412, 304 (another is there) ─► look ─ unknown, and no doubt before ─► Lost
//!            ├── 409 (another write is under way) ─────────────────────┤
//!            ├── no answer, 5xx: it may have happened ─ doubt := yes ──┤
//!            └── surely not done ─ passing ────────────────────────────┤
//!                               └─ else ─► doubt? ─ no ─► an error     │
//!                                            └─ yes ─► look      (end of patience likewise)
//! look ─► ours ─► Won · another's ─► Lost · else ─► Unknown
//! ```
//!
//! Each write carries a random number as user metadata. So whoever is in doubt looks whether it is there: an object
//! with another number is another's, and one without any may be anybody's.

use super::answer::Fault;
use super::client::{Client, Mark, Whose};
use super::patience::Patience;
use super::traffic::Traffic;
use crate::{Key, Outcome, StoreError, Tag};
use object_store::path::Path;

/// What is written, and over what.
#[derive(Clone, Copy, Debug)]
pub(super) enum Condition<'a> {
    Absent,
    Still(&'a Tag),
}

/// One conditional write, with all its tries.
pub(super) struct Write<'a> {
    pub client: &'a Client,
    pub traffic: &'a Traffic,
    pub key: &'a Key,
    pub path: &'a Path,
    pub mark: &'a Mark,
    pub condition: Condition<'a>,
}

/// What a failed try means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Another's object, or another version, is there.
    Refused,
    /// Another write is under way; this one did not happen.
    Conflict,
    /// It may have happened.
    Doubtful,
    /// It did not happen, and may at the next try.
    Passing,
    /// It did not happen.
    Failed,
}

impl Write<'_> {
    /// Tries until it is known what came of it, or patience ends. A try says which version it made, if it knows.
    pub async fn run(
        &self,
        mut attempt: impl AsyncFnMut() -> Result<Option<Tag>, Fault>,
    ) -> Result<Outcome, StoreError> {
        let mut patience = Patience::new();
        let mut doubt = false;
        loop {
            let fault = match attempt().await {
                Ok(Some(tag)) => return Ok(Outcome::Won(tag)),
                Ok(None) => return Ok(self.after_success().await),
                Err(fault) => fault,
            };
            let mut verdict = verdict(&fault, self.condition);
            if verdict == Verdict::Conflict && matches!(self.condition, Condition::Absent) {
                // Either somebody was faster, or nobody was, and then it may be tried again.
                match self.client.whose(self.path, self.mark).await {
                    Ok(Whose::Nobodys) => {}
                    Ok(Whose::Ours(tag)) => return Ok(Outcome::Won(tag)),
                    Ok(_) => verdict = Verdict::Refused,
                    Err(_) => doubt = true,
                }
            }
            match verdict {
                Verdict::Refused => return Ok(self.refused(doubt).await),
                _ => self.traffic.count_error(fault.kind),
            }
            doubt |= verdict == Verdict::Doubtful;
            if verdict != Verdict::Failed && patience.again().await {
                self.traffic.count_retry();
                continue;
            }
            if !doubt {
                return Err(self.client.error(Some(self.key), fault));
            }
            tracing::debug!(event = "store unsure", key = %self.key, kind = fault.kind.code(), reason = %fault.reason,
                "it is not known whether an object was written");
            return Ok(if patience.is_left() { self.look().await } else { Outcome::Unknown });
        }
    }

    /// It is there, and the server did not say as which version.
    async fn after_success(&self) -> Outcome {
        match self.client.whose(self.path, self.mark).await {
            Ok(Whose::Ours(tag) | Whose::Unsure(Some(tag))) => Outcome::Won(tag),
            _ => Outcome::Unknown,
        }
    }

    /// Another's object is there, says the server. Also without doubt it is looked at: a gateway on the way may have
    /// sent our request twice, and passed on the second answer.
    async fn refused(&self, doubt: bool) -> Outcome {
        match self.look().await {
            Outcome::Unknown if !doubt => Outcome::Lost,
            seen => seen,
        }
    }

    /// It may have happened: whose object is there?
    async fn look(&self) -> Outcome {
        match self.client.whose(self.path, self.mark).await {
            Ok(Whose::Ours(tag)) => Outcome::Won(tag),
            Ok(Whose::Others(tag)) => match self.condition {
                // What is still under way may yet replace it.
                Condition::Still(was) if tag == *was => Outcome::Unknown,
                _ => Outcome::Lost,
            },
            _ => Outcome::Unknown,
        }
    }
}

fn verdict(fault: &Fault, condition: Condition<'_>) -> Verdict {
    let gone = matches!(condition, Condition::Still(_)) && fault.is_absence();
    if fault.is_refusal() || gone {
        return Verdict::Refused;
    }
    if fault.is_conflict() {
        return Verdict::Conflict;
    }
    match (fault.perhaps_done, fault.kind.is_passing()) {
        (true, _) => Verdict::Doubtful,
        (false, true) => Verdict::Passing,
        (false, false) => Verdict::Failed,
    }
}
