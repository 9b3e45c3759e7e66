//! Every metric: its name, kind, labels and sentence. Names are promises; `docs/reference/metrics.md` lists them.
//!
//! Times are seconds, amounts bytes, and both are in the name; a counter ends in `_total`. What is absent has no sample:
//! a node without a store has no `stead_database_stored_txid`, not one of 0.

/// What a number does over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It goes up and down.
    Gauge,
    /// It only grows while the node runs.
    Counter,
}

impl Kind {
    /// Its word in the text.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
        }
    }
}

/// One metric.
#[derive(Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it does over time.
    pub kind: Kind,
    /// Its unit, `seconds` or `bytes`, where it has one.
    pub unit: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it is, in one sentence.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($id:ident $kind:ident $name:literal $unit:literal $labels:tt $help:literal;)+) => {
        $(pub const $id: Metric = Metric {
            name: $name, kind: Kind::$kind, unit: $unit, labels: &$labels, help: $help,
        };)+

        /// All of them, in the order in which they are shown.
        #[cfg(test)]
        pub const ALL: &[Metric] = &[$($id),+];
    };
}

metrics! {
    BUILD_INFO Gauge "stead_build_info" "" ["version"] "1, with the version that runs.";
    NODE_STATE Gauge "stead_node_state" "" ["state"] "1 for the state that the node is in, 0 for the others.";
    NODE_STATE_SINCE Gauge "stead_node_state_timestamp_seconds" "seconds" [] "When the node came into its state.";
    NODE_ROLE Gauge "stead_node_role" "" ["role"] "1 for the node's role, 0 for the other; 0 for both before it has one.";
    COMPONENT_OK Gauge "stead_component_ok" "" ["component"] "Whether a part that is configured works.";
    ISSUES Gauge "stead_issues" "" ["code", "component"] "How many issues there are of a kind.";
    LEASE_HELD Gauge "stead_lease_held" "" [] "Whether this node may write.";
    LEASE_EPOCH Gauge "stead_lease_epoch" "" [] "The number of the right to write; it rises with every holder.";
    APP_UP Gauge "stead_app_up" "" [] "Whether the app's process runs.";
    APP_READY Gauge "stead_app_ready" "" [] "Whether it runs and has been ready since its start.";
    APP_UPTIME Gauge "stead_app_uptime_seconds" "seconds" [] "How long it has run.";
    APP_RESTARTS Counter "stead_app_restarts_total" "" [] "Starts of the app after the first.";
    APP_LAST_EXIT Gauge "stead_app_last_exit_timestamp_seconds" "seconds" ["code", "signal"] "When the app last ended, with its code or the signal that ended it.";
    DATABASE_OK Gauge "stead_database_ok" "" ["path"] "Whether nothing is wrong with a database.";
    DATABASE_TXID Gauge "stead_database_txid" "" ["path"] "The last seal.";
    DATABASE_STORED_TXID Gauge "stead_database_stored_txid" "" ["path"] "The last seal that is in the store.";
    DATABASE_UNSTORED Gauge "stead_database_unstored_transactions" "" ["path"] "Sealed transactions that the store lacks.";
    DATABASE_UNSTORED_BYTES Gauge "stead_database_unstored_bytes" "bytes" ["path"] "Bytes of the files here that hold them.";
    DATABASE_UNSTORED_LAG Gauge "stead_database_unstored_seconds" "seconds" ["path"] "Age of the oldest commit that is not in the store; 0 when all are.";
    DATABASE_PAGES Gauge "stead_database_pages" "" ["path"] "Pages at the last seal.";
    DATABASE_PAGE_SIZE Gauge "stead_database_page_size_bytes" "bytes" ["path"] "Bytes of a page.";
    DATABASE_LAG Gauge "stead_database_lag_seconds" "seconds" ["path"] "Age of the oldest commit that is not sealed; 0 when all are.";
    HISTORY_BYTES Gauge "stead_history_local_bytes" "bytes" ["path"] "Bytes of a database's history on this machine.";
    HISTORY_LIMIT Gauge "stead_history_local_limit_bytes" "bytes" [] "The most that all histories together may have here.";
    STORE_HELD Gauge "stead_store_held" "" [] "Whether the store does what it is asked, and this node may write to it.";
    STORE_OUTAGES Counter "stead_store_outages_total" "" [] "How often it did not do what it was asked.";
    STORE_AWAY Counter "stead_store_away_seconds_total" "seconds" [] "How long it did not.";
    STORE_REQUESTS Counter "stead_store_requests_total" "" ["verb"] "Requests to an s3:// store, those that failed too.";
    STORE_ERRORS Counter "stead_store_errors_total" "" ["kind"] "Requests to it that failed, by the kind of trouble.";
    STORE_RETRIES Counter "stead_store_retries_total" "" [] "Requests to it that were sent once more after a failure.";
    STORE_SENT Counter "stead_store_sent_bytes_total" "bytes" [] "Bytes that were sent to it.";
    STORE_FETCHED Counter "stead_store_fetched_bytes_total" "bytes" [] "Bytes that came from it.";
    CHECKPOINTS Gauge "stead_checkpoints" "" [] "Checkpoints in the catalogue.";
    CHECKPOINT_NEWEST Gauge "stead_checkpoint_newest_timestamp_seconds" "seconds" [] "When the newest checkpoint was made.";
    HTTP_REQUESTS Counter "stead_http_requests_total" "" ["route", "method", "status"] "Requests to this API that were answered.";
}
