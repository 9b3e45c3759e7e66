//! The store as the node sees it: what is told of it, and what follows when it is somebody else's.

use super::status::ms;
use super::{Core, lock};
use crate::config::Config;
use crate::control::{DatabaseStatus, Issue, State, Store, Unstored};
use crate::life::LifeEvent;
use base::Timestamp;
use database::BucketError;
use database::engine::{DatabaseInfo, LAST_STORE, StoreInfo, StoreState};
use database::history::{History, Unsent};
use serde_json::json;
use std::time::Duration;

/// The issue of a store that another node has taken.
pub const STORE_TAKEN: &str = "store_taken_over";
/// The issue of a store that is not the one that this home had.
pub const STORE_MISSING: &str = "store_missing";

impl Core {
    /// Nothing may be sent to the store any more. Must not call back into the engine.
    pub(crate) fn store_refused(&self, error: &BucketError) {
        self.raise(issue(error));
        if is_taken(error) {
            *lock(&self.fenced) = Some(error.to_string());
            self.alarm.ring();
        }
    }

    /// The store does not do what it is asked: listeners are told; the status asks the engine. Must not call back into it.
    pub(crate) fn store_away(&self, error: &BucketError) {
        let told = issue(error);
        lock(&self.parts).store_told = Some(told.code.clone());
        self.tell("issue", json!(told));
    }

    /// It does again.
    pub(crate) fn store_back(&self, after: Duration) {
        let Some(code) = lock(&self.parts).store_told.take() else { return };
        let seconds = after.as_secs();
        let told = json!({ "code": code, "component": "storage", "cleared": true, "after_seconds": seconds });
        self.tell("issue", told);
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

/// What the store lacks of a database; `None` without a store, and while it is not known what that has.
pub(crate) fn unstored(
    info: &DatabaseInfo,
    history: Option<&History>,
    (now, boottime): (Timestamp, Duration),
) -> Option<Unstored> {
    let stored = info.stored_txid?;
    let unsealed = info.dirty_since.map_or(0, |since| ms(boottime.saturating_sub(since)));
    if info.position.is_none_or(|at| at.txid <= stored) {
        return Some(Unstored { lag_ms: unsealed, ..Unstored::default() });
    }
    let Unsent { seals, bytes, oldest } = history?.unsent()?;
    let age = oldest.map_or(0, |oldest| u64::try_from(now.0 - oldest.0).unwrap_or(0));
    Some(Unstored { transactions: seals, bytes, lag_ms: age.max(unsealed) })
}

/// The store as it is shown.
pub(crate) fn shown(
    store: &StoreInfo,
    databases: &[DatabaseStatus],
    (now, boottime): (Timestamp, Duration),
) -> Store {
    let (state, away_since, error) = match &store.state {
        StoreState::Held => ("held", None, None),
        StoreState::Away { since, error } => {
            let ago = i64::try_from(ms(boottime.saturating_sub(*since))).unwrap_or(i64::MAX);
            ("away", Some(Timestamp(now.0.saturating_sub(ago))), Some(error))
        }
        StoreState::Refused { error } => ("refused", None, Some(error)),
    };
    let sum = |sum: Option<Unstored>, one: &DatabaseStatus| {
        let (sum, one) = (sum?, one.unstored?);
        Some(Unstored {
            transactions: sum.transactions + one.transactions,
            bytes: sum.bytes + one.bytes,
            lag_ms: sum.lag_ms.max(one.lag_ms),
        })
    };
    Store {
        url: store.url.clone(),
        state,
        epoch: store.epoch,
        away_since,
        error: error.map(|error| error.to_string()),
        unstored: databases.iter().filter(|one| one.txid.0 > 0).fold(Some(Unstored::default()), sum),
        outages: store.outages,
        away_ms: ms(store.away),
    }
}

/// The issue of a store that does not do what it is asked.
pub(crate) fn away(store: &StoreInfo) -> Option<Issue> {
    let StoreState::Away { error, .. } = &store.state else { return None };
    let told = issue(error);
    match &**error {
        BucketError::Vanished { .. } | BucketError::Older { .. } | BucketError::TurnedBack { .. } => {
            Some(told)
        }
        _ => Some(Issue { message: format!("the store lacks the last seals: {error}"), ..told }),
    }
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
            let hint = "bring a former version of that object back: it goes on by itself; or name another prefix";
            ("store_damaged", hint.to_owned())
        }
        BucketError::Missing { .. } => (
            "store_emptied",
            format!(
                "bring the objects back: it goes on by itself; or empty the prefix, remove {LAST_STORE} of the home and \
                 restart the node: all that is here is sent again"
            ),
        ),
        BucketError::Vanished { .. } | BucketError::Older { .. } => (
            STORE_MISSING,
            format!(
                "mount the disk, or bring the objects back: it goes on by itself. To begin a new store there on purpose, \
                 remove {LAST_STORE} of the home and restart the node"
            ),
        ),
        BucketError::TurnedBack { .. } => (
            STORE_MISSING,
            "bring back what was there last: it goes on by itself; or restart the node: it goes on from what is there, and \
             sends what that lacks"
                .to_owned(),
        ),
        BucketError::Taken { .. } => (
            STORE_TAKEN,
            "name another prefix in storage.url; or take it over on purpose: stead run --from URL in an empty home. What \
             only this home has stays in it: stead db export --offline copies its databases as they were"
                .to_owned(),
        ),
        BucketError::Fenced { .. } => (
            STORE_TAKEN,
            "the other node goes on; what only this one has can be had by stead db export, once it has ended with --offline, \
             then empty this home"
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
