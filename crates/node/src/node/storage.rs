//! The store as the node sees it: what is told of it, and what follows when it is somebody else's.

use super::{Core, lock};
use crate::config::Config;
use crate::control::{Issue, State};
use crate::life::LifeEvent;
use database::BucketError;
use database::engine::{StoreInfo, StoreState};

/// The issue of a store that another node has taken.
pub const STORE_TAKEN: &str = "store_taken_over";

impl Core {
    /// Nothing may be sent to the store any more. Must not call back into the engine.
    pub(crate) fn store_refused(&self, error: &BucketError) {
        self.raise(issue(error));
        if is_taken(error) {
            *lock(&self.fenced) = Some(error.to_string());
            self.alarm.ring();
        }
    }

    /// The databases are up, so that what was wrong with the store at former tries is over, unless it has been told since.
    pub(crate) fn forget_refusals(&self) {
        let refused = self.databases().and_then(|databases| databases.store());
        if !matches!(refused, Some(StoreInfo { state: StoreState::Refused { .. }, .. })) {
            self.replace_issues("storage", None, Vec::new(), false);
        }
    }

    /// Has the store of the running databases keep a new configuration. One that names another store, or another way to
    /// it, goes there when the node starts with it.
    pub(crate) fn keep_configuration(&self, config: &Config) {
        let followed = lock(&self.parts).followed.clone();
        if followed.is_some_and(|followed| followed.storage == config.storage)
            && let Some(databases) = self.databases()
        {
            databases.keep_configuration(config.to_kept_json());
        }
    }

    /// Stops the app where another node has the right to write, and says so.
    pub(crate) fn step_down(&self) {
        let Some(reason) = lock(&self.fenced).clone() else { return };
        let Ok(_turn) = self.turn.try_lock() else { return };
        if self.state() != State::Primary {
            return;
        }
        tracing::error!(event = "fenced", reason, "the app is stopped");
        if !self.stop_app("another node has the right to write") {
            return;
        }
        let _no_writers = self.writers.close("another node has the right to write");
        if let Some(databases) = self.databases() {
            databases.sync();
        }
        lock(&self.parts).lease = Some(self.component("failed", Some(reason.clone())));
        self.step(LifeEvent::Release, &reason);
    }

    /// Why this node may not write any more, if another has taken the store.
    pub(crate) fn fenced(&self) -> Option<String> {
        lock(&self.fenced).clone()
    }
}

/// The issue of a store that does not do what it is asked.
pub(crate) fn away(store: &StoreInfo) -> Option<Issue> {
    let StoreState::Away { reason, .. } = &store.state else { return None };
    Some(Issue {
        code: "store_failed".to_owned(),
        component: "storage",
        message: format!("the store lacks the last seals: {reason}"),
        path: None,
        exit_code: None,
        hint: "mend the store; what it lacks is kept here and sent by itself".to_owned(),
    })
}

/// Whether another node has it.
pub(crate) fn is_taken(error: &BucketError) -> bool {
    matches!(error, BucketError::Fenced { .. } | BucketError::Taken { .. })
}

/// A store that cannot be used, as an issue.
pub(crate) fn issue(error: &BucketError) -> Issue {
    let (code, hint) = match error {
        BucketError::Store(error) if error.kind == store::ErrorKind::Unsupported => {
            ("store_unsupported", error.kind.hint().to_owned())
        }
        BucketError::Store(error) => ("store_failed", error.kind.hint().to_owned()),
        BucketError::Unknown { .. } => ("store_failed", "it is tried again by itself".to_owned()),
        BucketError::Foreign { .. } => {
            ("store_foreign", "name an empty prefix in storage.url, or remove what lies there".to_owned())
        }
        BucketError::Manifest { reason: store::BadManifest::Newer { .. }, .. } => {
            ("store_newer", "start the version of Stead that wrote it, or a newer one".to_owned())
        }
        BucketError::Manifest { .. } => {
            ("store_damaged", "bring a former version of that object back, or name another prefix".to_owned())
        }
        BucketError::Missing { .. } => (
            "store_emptied",
            "bring the objects back; or empty the prefix and restart the node: all that is here is sent again"
                .to_owned(),
        ),
        BucketError::Taken { .. } => (
            STORE_TAKEN,
            "name another prefix in storage.url; or take it over on purpose: stead run --from URL in an empty home"
                .to_owned(),
        ),
        BucketError::Fenced { .. } => (
            STORE_TAKEN,
            "the other node goes on; what only this one has can be had by stead db export, then empty this home"
                .to_owned(),
        ),
    };
    Issue {
        code: code.to_owned(),
        component: "storage",
        message: error.to_string(),
        path: None,
        exit_code: None,
        hint,
    }
}
