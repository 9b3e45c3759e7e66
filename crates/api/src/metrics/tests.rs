use super::*;
use axum::http::{Method, StatusCode};
use base::{Checksum, Epoch, Txid};
use node::control::{Checkpoints, Component, DatabaseStatus, Issue, Lease};
use table::{ALL, Kind};

#[path = "../../tests/http/exposition.rs"]
mod exposition;
use exposition::Exposition;

fn database(path: &str, stored: Option<u64>) -> DatabaseStatus {
    DatabaseStatus {
        path: DatabasePath::parse(path).unwrap(),
        mode: "wal",
        txid: Txid(12),
        checksum: Checksum::NONE,
        pages: 250,
        page_size: 4096,
        stored_txid: stored.map(Txid),
        unstored: stored.map(|_| Unstored { transactions: 1, bytes: 512, lag_ms: 2500 }),
        lag_ms: 1250,
        history: String::new(),
        issue: None,
    }
}

fn issue(code: &str) -> Issue {
    let (message, hint) = (String::new(), String::new());
    Issue { code: code.to_owned(), component: "database", message, path: None, exit_code: None, hint }
}

/// A node of which everything is known.
fn status() -> Status {
    let part = |state| Some(Component { state, since: Timestamp(0), error: None });
    let mut failed = database("data/shop/b \"\\.db", None);
    (failed.mode, failed.page_size, failed.issue) = ("failed", 0, Some("wrong".to_owned()));
    Status {
        name: Some("notes".to_owned()),
        version: "1.2.3",
        node: "node-a".to_owned(),
        state: State::Primary,
        role: Some("primary"),
        since: Timestamp(1_767_225_600_123),
        reason: String::new(),
        configured: true,
        process: Process {
            pid: Some(7),
            ready: true,
            uptime_ms: Some(61_500),
            restarts: 3,
            last_exit: Some(Exit { code: None, signal: Some("SIGKILL".to_owned()), time: Timestamp(500) }),
            ..Process::default()
        },
        components: Components {
            database: part("ok"),
            storage: part("degraded"),
            app: part("ok"),
            ..Components::default()
        },
        databases: vec![database("data/a.db", Some(11)), failed],
        store: Some(Store {
            url: "s3://bucket/notes".to_owned(),
            state: "away",
            epoch: Some(Epoch(4)),
            away_since: Some(Timestamp(1_767_225_600_000)),
            error: Some("no answer".to_owned()),
            unstored: None,
            outages: 3,
            away_ms: 61_500,
        }),
        lease: Some(Lease {
            r#type: "static",
            state: "held",
            epoch: Epoch(4),
            holder: None,
            valid_for_ms: None,
        }),
        replicas: Vec::new(),
        checkpoints: Checkpoints { count: 2, latest: None, latest_made: Some(Timestamp(1_767_225_601_000)) },
        issues: vec![issue("a"), issue("b"), issue("a")],
    }
}

fn page(status: &Status) -> String {
    let requests = Requests::default();
    requests.count(Some("/databases/{*path}"), &Method::GET, StatusCode::OK);
    requests.count(Some("/databases/{*path}"), &Method::GET, StatusCode::OK);
    requests.count(None, &Method::PATCH, StatusCode::NOT_FOUND);
    let store = StoreTraffic {
        requests: vec![("put", 5), ("get", 0)],
        errors: vec![("timeout", 2)],
        retries: 1,
        sent_bytes: 4096,
        fetched_bytes: 12,
    };
    let history_bytes = vec![(DatabasePath::parse("data/a.db").unwrap(), 65_536)];
    let measured = Measured { history_bytes, store: Some(store) };
    let history_limit_bytes = Some(10 << 30);
    render(&Sources { status, measured: &measured, history_limit_bytes, requests: &requests })
}

#[test]
fn the_page_is_the_one_that_was_published() {
    insta::assert_snapshot!("page", page(&status()));
}

#[test]
fn every_metric_is_shown_with_its_kind_and_is_well_formed() {
    let shown = Exposition::parse(&page(&status()));
    let known: BTreeMap<String, String> =
        ALL.iter().map(|metric| (metric.name.to_owned(), metric.kind.word().to_owned())).collect();
    assert_eq!(known.len(), ALL.len());
    assert_eq!(shown.kinds, known);
    assert_eq!(shown.of("stead_http_requests_total{route=\"none\",method=\"other\",status=\"404\"}"), 1.0);
    assert_eq!(shown.of("stead_database_ok{path=\"data/shop/b \\\"\\\\.db\"}"), 0.0);
}

#[test]
fn names_say_their_units_and_what_only_grows() {
    for metric in ALL {
        let name = metric.name.strip_suffix("_total").unwrap_or(metric.name);
        assert_eq!(metric.kind == Kind::Counter, name != metric.name, "{}", metric.name);
        assert!(name.starts_with("stead_") && name.ends_with(metric.unit), "{}", metric.name);
        let says = ["seconds", "bytes"].into_iter().find(|unit| name.ends_with(unit)).unwrap_or("");
        assert_eq!(says, metric.unit, "{}", metric.name);
        assert!(metric.help.ends_with('.') && !metric.help.contains('\n'), "{}", metric.name);
    }
}

#[test]
fn what_is_not_there_has_no_sample() {
    let mut status = status();
    (status.configured, status.lease, status.databases) = (false, None, Vec::new());
    (status.components, status.issues) = (Components::default(), Vec::new());
    let shown = Exposition::parse(&page(&status));
    for absent in
        ["stead_app_up", "stead_lease_held", "stead_checkpoints", "stead_database_txid", "stead_issues"]
    {
        assert!(!shown.has(absent), "{absent}");
    }
    assert_eq!(shown.of("stead_node_state{state=\"unconfigured\"}"), 0.0);
    assert_eq!(shown.of("stead_build_info{version=\"1.2.3\"}"), 1.0);
}

#[test]
fn the_reference_has_every_metric_and_no_other() {
    let reference = include_str!("../../../../docs/reference/metrics.md");
    let rows: Vec<&str> = reference.lines().filter(|line| line.starts_with("| `stead_")).collect();
    let row = |metric: &table::Metric| {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{} ", labels.join(", ")) };
        format!("| `{}` | {} | {labels}| {} |", metric.name, metric.kind.word(), metric.help)
    };
    let expected: Vec<String> = ALL.iter().map(row).collect();
    assert_eq!(rows, expected, "the rows of the table:\n{}", expected.join("\n"));
}
