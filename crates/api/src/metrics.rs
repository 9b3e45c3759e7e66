//! `GET /metrics`: what the node knows of itself, in the text that Prometheus reads.
//!
//! ```text
//!   status ────────┐
//!   measured ──────┼─▶ render ─▶ text      table: the names, which are promises
//!   requests ──────┘
//! ```
//!
//! Nearly every number is read off the status at the moment of asking, so that `GET /` and this page never differ, and
//! nothing is counted while nobody asks. Labels have few values each: databases, states, routes.

mod requests;
mod table;
#[cfg(test)]
mod tests;
mod text;

pub use requests::Requests;
pub use text::CONTENT_TYPE;

use base::{DatabasePath, Timestamp};
use node::control::{Components, Exit, Measured, Process, State, Status, Store, StoreTraffic, Unstored};
use std::collections::BTreeMap;
use table::Metric;
use text::Page;

/// What the page is made of.
#[derive(Debug)]
pub struct Sources<'a> {
    /// Everything on one screen.
    pub status: &'a Status,
    /// What is measured beside it.
    pub measured: &'a Measured,
    /// `retention.local`, where there is a configuration.
    pub history_limit_bytes: Option<u64>,
    /// Answered requests.
    pub requests: &'a Requests,
}

/// The whole page.
pub fn render(sources: &Sources<'_>) -> String {
    let mut page = Page::default();
    node(&mut page, sources.status);
    lease(&mut page, sources.status);
    app(&mut page, sources.status);
    databases(&mut page, sources);
    store(&mut page, sources.status.store.as_ref());
    traffic(&mut page, sources.measured.store.as_ref());
    checkpoints(&mut page, sources.status);
    let counted = sources.requests.counted();
    let counted: Vec<_> = counted
        .into_iter()
        .map(|((route, method, status), count)| (route, method, status.to_string(), count))
        .collect();
    let requests = counted
        .iter()
        .map(|(route, method, status, count)| ([route.as_str(), method, status.as_str()], number(*count)));
    page.metric(&table::HTTP_REQUESTS, requests);
    page.into_text()
}

fn node(page: &mut Page, status: &Status) {
    page.metric(&table::BUILD_INFO, [([status.version], 1.0)]);
    let states = [
        State::Unconfigured,
        State::Starting,
        State::Replica,
        State::Primary,
        State::Draining,
        State::Stopped,
    ];
    page.metric(&table::NODE_STATE, states.map(|state| ([state.name()], flag(status.state == state))));
    page.one(&table::NODE_STATE_SINCE, Some(seconds(status.since)));
    page.metric(
        &table::NODE_ROLE,
        ["primary", "replica"].map(|role| ([role], flag(status.role == Some(role)))),
    );
    let Components { database, storage, mount, lease, app } = &status.components;
    let parts =
        [("database", database), ("storage", storage), ("mount", mount), ("lease", lease), ("app", app)];
    let parts = parts.into_iter().filter_map(|(name, part)| Some((name, part.as_ref()?)));
    page.metric(&table::COMPONENT_OK, parts.map(|(name, part)| ([name], flag(part.state == "ok"))));
    let mut issues: BTreeMap<[&str; 2], u64> = BTreeMap::new();
    for issue in &status.issues {
        *issues.entry([&issue.code, issue.component]).or_default() += 1;
    }
    page.metric(&table::ISSUES, issues.into_iter().map(|(labels, count)| (labels, number(count))));
}

fn lease(page: &mut Page, status: &Status) {
    let lease = status.lease.as_ref();
    page.one(&table::LEASE_HELD, lease.map(|lease| flag(lease.state == "held")));
    page.one(&table::LEASE_EPOCH, lease.map(|lease| number(lease.epoch.0)));
}

fn app(page: &mut Page, status: &Status) {
    if status.components.app.is_none() {
        return;
    }
    let Process { pid, ready, uptime_ms, restarts, last_exit, .. } = &status.process;
    page.one(&table::APP_UP, Some(flag(pid.is_some())));
    page.one(&table::APP_READY, Some(flag(*ready)));
    page.one(&table::APP_UPTIME, uptime_ms.map(|ms| number(ms) / 1000.0));
    page.one(&table::APP_RESTARTS, Some(number(*restarts)));
    let exit = last_exit.as_ref().map(|Exit { code, signal, time }| {
        (code.map(|code| code.to_string()).unwrap_or_default(), signal.as_deref().unwrap_or(""), *time)
    });
    let sample = exit.as_ref().map(|(code, signal, time)| ([code.as_str(), *signal], seconds(*time)));
    page.metric(&table::APP_LAST_EXIT, sample);
}

fn databases(page: &mut Page, sources: &Sources<'_>) {
    let all = &sources.status.databases;
    let known = || all.iter().filter(|database| database.page_size > 0);
    page.metric(
        &table::DATABASE_OK,
        all.iter().map(|one| (path_of(&one.path), flag(one.issue.is_none() && one.mode != "failed"))),
    );
    page.metric(&table::DATABASE_TXID, all.iter().map(|one| (path_of(&one.path), number(one.txid.0))));
    let stored = all.iter().filter_map(|one| Some((path_of(&one.path), number(one.stored_txid?.0))));
    page.metric(&table::DATABASE_STORED_TXID, stored);
    let unstored = || all.iter().filter_map(|one| Some((path_of(&one.path), one.unstored?)));
    let of = |field: fn(Unstored) -> f64| unstored().map(move |(path, lacks)| (path, field(lacks)));
    page.metric(&table::DATABASE_UNSTORED, of(|lacks| number(lacks.transactions)));
    page.metric(&table::DATABASE_UNSTORED_BYTES, of(|lacks| number(lacks.bytes)));
    page.metric(&table::DATABASE_UNSTORED_LAG, of(|lacks| number(lacks.lag_ms) / 1000.0));
    page.metric(&table::DATABASE_PAGES, known().map(|one| (path_of(&one.path), f64::from(one.pages))));
    page.metric(
        &table::DATABASE_PAGE_SIZE,
        known().map(|one| (path_of(&one.path), f64::from(one.page_size))),
    );
    page.metric(
        &table::DATABASE_LAG,
        all.iter().map(|one| (path_of(&one.path), number(one.lag_ms) / 1000.0)),
    );
    let bytes = sources.measured.history_bytes.iter();
    page.metric(&table::HISTORY_BYTES, bytes.map(|(path, bytes)| (path_of(path), number(*bytes))));
    page.one(&table::HISTORY_LIMIT, sources.history_limit_bytes.map(number));
}

fn path_of(path: &DatabasePath) -> [&str; 1] {
    [path.as_str()]
}

fn store(page: &mut Page, store: Option<&Store>) {
    page.one(&table::STORE_HELD, store.map(|store| flag(store.state == "held")));
    page.one(&table::STORE_OUTAGES, store.map(|store| number(store.outages)));
    page.one(&table::STORE_AWAY, store.map(|store| number(store.away_ms) / 1000.0));
}

fn traffic(page: &mut Page, traffic: Option<&StoreTraffic>) {
    let Some(StoreTraffic { requests, errors, retries, sent_bytes, fetched_bytes }) = traffic else { return };
    let by = |counts: &'static Metric, values: &[(&str, u64)], page: &mut Page| {
        page.metric(counts, values.iter().map(|(value, count)| ([*value], number(*count))));
    };
    by(&table::STORE_REQUESTS, requests, page);
    by(&table::STORE_ERRORS, errors, page);
    page.one(&table::STORE_RETRIES, Some(number(*retries)));
    page.one(&table::STORE_SENT, Some(number(*sent_bytes)));
    page.one(&table::STORE_FETCHED, Some(number(*fetched_bytes)));
}

fn checkpoints(page: &mut Page, status: &Status) {
    let catalogue = status.configured.then_some(&status.checkpoints);
    page.one(&table::CHECKPOINTS, catalogue.map(|catalogue| number(catalogue.count)));
    page.one(&table::CHECKPOINT_NEWEST, catalogue.and_then(|catalogue| catalogue.latest_made).map(seconds));
}

fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}

/// As Prometheus has all numbers: exact up to 2^53.
fn number(count: u64) -> f64 {
    count as f64
}

fn seconds(time: Timestamp) -> f64 {
    time.0 as f64 / 1000.0
}
