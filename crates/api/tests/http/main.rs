//! The API over real sockets, with a node that only answers.
#![allow(clippy::disallowed_methods, reason = "tests prepare files as anybody else would")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "in a test, failing is how a helper reports")]

use described::Described;
use exposition::Exposition;
use fake::Fake;
use node::control::Event;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

mod described;
mod exposition;
mod fake;

const CONFIG: &str = r#"{"name": "notes", "app": {"command": "./app"}}"#;

/// A served node, with a client.
struct Served {
    fake: Arc<Fake>,
    base: String,
    socket: PathBuf,
    http: reqwest::Client,
    stop: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<()>,
    _home: tempfile::TempDir,
}

impl Served {
    fn start(fake: Fake) -> Served {
        Served::start_on(fake, "127.0.0.1:0")
    }

    fn start_on(fake: Fake, listen: &str) -> Served {
        let home = tempfile::tempdir().unwrap();
        // Longer than a socket's address may be.
        let deep = home.path().join("d".repeat(120));
        std::fs::create_dir_all(&deep).unwrap();
        let socket = deep.join("api.sock");
        std::fs::write(&socket, "left from before").unwrap();
        let bound = api::bind(listen.parse().unwrap(), &socket).unwrap();
        let base = format!("http://127.0.0.1:{}", bound.address().port());
        let fake = Arc::new(fake);
        let (stop, stopped) = oneshot::channel();
        let control = Arc::clone(&fake);
        let ended = tokio::spawn(async move {
            bound.serve(control, None, async { drop(stopped.await) }).await.unwrap();
        });
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Served { fake, base, socket, http, stop, ended, _home: home }
    }

    fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method.parse().unwrap(), format!("{}{path}", self.base))
    }

    /// A request as `curl -d` makes it.
    async fn curl(&self, method: &str, path: &str, body: &str) -> Response {
        let form = "application/x-www-form-urlencoded";
        let request = self.request(method, path).header("content-type", form).body(body.to_owned());
        request.send().await.unwrap()
    }

    async fn described(&self) -> Described {
        Described::new(self.get("/openapi.json").await.1)
    }

    async fn described_with(&self, token: &str) -> Described {
        let request = self.request("GET", "/openapi.json").bearer_auth(token);
        Described::new(read(request.send().await.unwrap()).await.1)
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        read(self.request("GET", path).send().await.unwrap()).await
    }
}

async fn read(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let body = response.bytes().await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or_else(|_| panic!("no JSON: {body:?}")))
}

#[tokio::test]
async fn an_unconfigured_node_answers_as_the_specification_says() {
    let node = Served::start(Fake::unconfigured());
    let (status, body) = node.get("/").await;
    assert_eq!((status, &body["state"], &body["configured"]), (200, &json!("unconfigured"), &json!(false)));
    assert_eq!((&body["name"], &body["databases"], &body["lease"]), (&Value::Null, &json!([]), &Value::Null));
    let described = node.described().await;
    for (method, path, body, expected) in [
        ("GET", "/config", "", 404),
        ("PUT", "/config", CONFIG, 404),
        ("DELETE", "/config", "", 404),
        ("POST", "/checkpoint", r#"{"id":"test1"}"#, 400),
        ("GET", "/checkpoint", "", 400),
        ("POST", "/restore", r#"{"id":"test1"}"#, 400),
        ("POST", "/release-lease", "", 400),
        ("GET", "/databases/data/database.sqlite", "", 400),
        ("GET", "/primary", "", 503),
        ("GET", "/replica", "", 503),
        ("GET", "/api/health/live", "", 200),
        ("GET", "/api/health/ready", "", 503),
    ] {
        let (status, answer) = read(node.curl(method, path, body).await).await;
        described.holds((method, path), status, &answer);
        assert_eq!(status, expected, "{method} {path}: {answer}");
        if (400..503).contains(&status) {
            assert_eq!(answer["error"]["code"], "unconfigured", "{method} {path}");
        }
    }
}

#[tokio::test]
async fn every_request_has_its_status_and_every_error_its_form() {
    let node = Served::start(Fake::configured(CONFIG));
    let path = "/databases/data/shop/a%20b.db";
    let image = |query: &str| format!("{path}?view=image{query}");
    let table: Vec<(&str, String, &str, u16, &str)> = vec![
        ("GET", "/".into(), "", 200, ""),
        ("GET", "/status".into(), "", 200, ""),
        ("GET", "/config".into(), "", 200, ""),
        ("POST", "/config".into(), CONFIG, 400, "already_configured"),
        ("POST", "/checkpoint".into(), r#"{"id":"test1"}"#, 200, ""),
        ("POST", "/checkpoint".into(), "", 200, ""),
        ("POST", "/checkpoint".into(), "{}", 200, ""),
        ("POST", "/checkpoint".into(), r#"{"id":"../x"}"#, 400, "bad_checkpoint_id"),
        ("POST", "/checkpoint".into(), r#"{"id":""}"#, 400, "bad_checkpoint_id"),
        ("POST", "/checkpoint".into(), r#"{"id":5}"#, 400, "malformed"),
        ("POST", "/checkpoint".into(), r#"{"idd":"a"}"#, 400, "malformed"),
        ("POST", "/checkpoint".into(), "[]", 400, "malformed"),
        ("POST", "/checkpoint".into(), "not json", 400, "malformed"),
        ("POST", "/checkpoint".into(), r#"{"id":"taken"}"#, 409, "checkpoint_exists"),
        ("POST", "/checkpoint".into(), r#"{"id":"busy"}"#, 503, "no_cut"),
        ("POST", "/checkpoint".into(), r#"{"id":"restoring"}"#, 503, "restore_running"),
        ("POST", "/checkpoint".into(), r#"["id","comment"]"#, 400, "malformed"),
        ("POST", "/checkpoint".into(), r#"{"id":"full"}"#, 507, "disk_full"),
        ("POST", "/checkpoint".into(), r#"{"id":"panic"}"#, 500, "bug"),
        ("GET", "/checkpoint".into(), "", 200, ""),
        ("GET", "/checkpoint/c1".into(), "", 200, ""),
        ("GET", "/checkpoint/c2".into(), "", 404, "no_such_checkpoint"),
        ("GET", "/checkpoint/.hidden".into(), "", 400, "bad_checkpoint_id"),
        ("GET", "/checkpoint/%2E%2E%2Fx".into(), "", 400, "bad_checkpoint_id"),
        ("GET", "/checkpoint/%FF".into(), "", 400, "malformed"),
        ("DELETE", "/checkpoint/c1".into(), "", 200, ""),
        ("DELETE", "/checkpoint/c2".into(), "", 404, "no_such_checkpoint"),
        ("POST", "/restore".into(), r#"{"id":"c1"}"#, 200, ""),
        ("POST", "/restore".into(), r#"{"id":"c1","dry_run":true}"#, 200, ""),
        ("POST", "/restore".into(), r#"{"time":"2026-11-21T10:00:00Z"}"#, 200, ""),
        ("POST", "/restore".into(), r#"{"time":1795255200000}"#, 200, ""),
        ("POST", "/restore".into(), r#"{"undo":true}"#, 200, ""),
        ("POST", "/restore".into(), r#"{"id":"nonexistent"}"#, 404, "no_such_checkpoint"),
        ("POST", "/restore".into(), r#"{"id":"../x"}"#, 400, "bad_checkpoint_id"),
        ("POST", "/restore".into(), r#"{"id":"c1","undo":true}"#, 400, "malformed"),
        ("POST", "/restore".into(), r#"{"time":"soon"}"#, 400, "malformed"),
        ("POST", "/restore".into(), r#"{"time":1e3}"#, 400, "malformed"),
        ("POST", "/restore".into(), r#"{"time":9223372036854775807}"#, 400, "malformed"),
        ("POST", "/restore".into(), r#"{"time":-62167219200001}"#, 400, "malformed"),
        ("POST", "/restore".into(), r#"{"time":"-000001-12-31T00:00:00Z"}"#, 400, "malformed"),
        ("POST", "/restore".into(), r#"{"time":[1]}"#, 400, "malformed"),
        ("POST", "/restore".into(), "{}", 400, "malformed"),
        ("POST", "/restore".into(), "", 400, "malformed"),
        ("POST", "/restore".into(), r#"{"id":"running"}"#, 409, "restore_running"),
        ("POST", "/restore".into(), r#"{"id":"held"}"#, 409, "database_held"),
        ("POST", "/restore".into(), r#"{"id":"damaged"}"#, 500, "history_damaged"),
        ("POST", "/release-lease".into(), "", 200, ""),
        ("POST", "/release-lease".into(), "{}", 200, ""),
        ("POST", "/release-lease".into(), "not json", 400, "malformed"),
        ("POST", "/release-lease".into(), "null", 400, "malformed"),
        ("POST", "/release-lease".into(), r#"{"to":"node-b"}"#, 400, "malformed"),
        ("POST", "/promote".into(), "", 409, "not_now"),
        ("POST", "/promote".into(), "[]", 400, "malformed"),
        ("POST", "/promote".into(), r#"{"force":true}"#, 400, "malformed"),
        ("POST", "/app".into(), r#"{"action":"restart"}"#, 200, ""),
        ("POST", "/app".into(), r#"{"action":"stop"}"#, 500, "failed"),
        ("POST", "/app".into(), r#"{"action":"dance"}"#, 400, "malformed"),
        ("GET", "/databases".into(), "", 200, ""),
        ("GET", path.into(), "", 200, ""),
        ("GET", format!("{path}?view=log"), "", 200, ""),
        ("GET", format!("{path}?view=log&txid=3"), "", 400, "malformed"),
        ("GET", format!("{path}?txid=3"), "", 400, "malformed"),
        ("GET", format!("{path}?view=moon"), "", 400, "malformed"),
        ("GET", format!("{path}?veiw=log"), "", 400, "malformed"),
        ("GET", image("&txid=x"), "", 400, "malformed"),
        ("GET", image("&txid=1&time=2026-11-21T10:00:00Z"), "", 400, "malformed"),
        ("GET", image("&txid=99"), "", 404, "nothing_there"),
        ("GET", image("&txid=13"), "", 500, "history_damaged"),
        ("GET", "/databases/data/none.db".into(), "", 404, "no_such_database"),
        ("GET", "/databases/data//x".into(), "", 400, "malformed"),
        ("POST", path.into(), r#"{"action":"verify"}"#, 200, ""),
        ("POST", path.into(), r#"{"action":"drop"}"#, 400, "malformed"),
        ("POST", "/databases/data/none.db".into(), r#"{"action":"verify"}"#, 404, "no_such_database"),
        ("POST", path.into(), r#"{"action":"query","sql":"SELECT 1"}"#, 200, ""),
        ("POST", path.into(), r#"{"action":"query","sql":"SELEC"}"#, 400, "sql_error"),
        ("POST", path.into(), r#"{"action":"query"}"#, 400, "malformed"),
        ("POST", path.into(), r#"{"action":"query","sql":"x","txid":1,"write":true}"#, 400, "malformed"),
        ("POST", path.into(), r#"{"action":"query","sql":"x","txid":1,"time":"x"}"#, 400, "malformed"),
        (
            "POST",
            "/databases/data/none.db".into(),
            r#"{"action":"query","sql":"x"}"#,
            404,
            "no_such_database",
        ),
        ("GET", "/history".into(), "", 200, ""),
        ("GET", "/logs?lines=5&stream=stderr".into(), "", 200, ""),
        ("GET", "/logs?lines=0".into(), "", 503, "no_lines"),
        ("GET", "/logs?lines=x".into(), "", 400, "malformed"),
        ("GET", "/logs?stream=stdin".into(), "", 400, "malformed"),
        ("GET", "/api/health/live".into(), "", 200, ""),
        ("GET", "/api/health/ready?verbose=1".into(), "", 200, ""),
        ("GET", "/primary".into(), "", 200, ""),
        ("GET", "/replica".into(), "", 503, ""),
        ("GET", "/nowhere".into(), "", 404, "no_such_route"),
        ("POST", "/databases".into(), "", 405, "wrong_method"),
        ("PATCH", "/config".into(), "", 405, "wrong_method"),
        ("DELETE", "/".into(), "", 405, "wrong_method"),
    ];
    let described = node.described().await;
    for (method, path, body, expected, code) in table {
        let (status, answer) = read(node.curl(method, &path, body).await).await;
        described.holds((method, &path), status, &answer);
        assert_eq!(status, expected, "{method} {path} {body}: {answer}");
        if !code.is_empty() {
            assert_eq!(answer["error"]["code"], code, "{method} {path} {body}");
            let message = answer["error"]["message"].as_str().unwrap();
            assert!(!message.is_empty() && !message.contains("untagged"), "{message}");
        }
    }
}

#[tokio::test]
async fn metrics_are_text_that_prometheus_reads_and_count_what_was_answered() {
    let node = Served::start(Fake::configured(CONFIG));
    for path in ["/databases/data/shop/a%20b.db", "/databases/data/none.db", "/nowhere/1", "/nowhere/2"] {
        node.get(path).await;
    }
    node.request("PATCH", "/config").send().await.unwrap();
    let answer = node.request("GET", "/metrics").send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let page = Exposition::parse(&answer.text().await.unwrap());
    assert_eq!(page.of("stead_node_state{state=\"primary\"}"), 1.0);
    assert_eq!(page.of("stead_history_local_bytes{path=\"data/shop/a b.db\"}"), 4096.0);
    assert_eq!(page.of("stead_history_local_limit_bytes"), 10_737_418_240.0);
    assert_eq!(page.of("stead_issues{code=\"app_crash_loop\",component=\"app\"}"), 1.0);
    assert!(!page.has("stead_app_up"), "none is configured in this status");
    let requests = |route: &str, method: &str, status: u16| {
        let labels = format!("route=\"{route}\",method=\"{method}\",status=\"{status}\"");
        page.of(&format!("stead_http_requests_total{{{labels}}}"))
    };
    assert_eq!(requests("/databases/{path}", "GET", 200), 1.0);
    assert_eq!(requests("/databases/{path}", "GET", 404), 1.0);
    assert_eq!(requests("none", "GET", 404), 2.0);
    assert_eq!(requests("/config", "other", 405), 1.0);
}

#[tokio::test]
async fn head_is_get_without_a_body_and_options_says_what_there_is() {
    let node = Served::start(Fake::configured(CONFIG));
    let head = node.request("HEAD", "/status").send().await.unwrap();
    assert_eq!(
        (head.status().as_u16(), head.headers()["content-type"].clone()),
        (200, "application/json".parse().unwrap())
    );
    assert!(head.bytes().await.unwrap().is_empty());
    assert_eq!(node.request("HEAD", "/restore").send().await.unwrap().status(), 405);
    for (path, allow) in [("/config", "GET,POST,PUT,DELETE,HEAD,OPTIONS"), ("/restore", "POST,OPTIONS")] {
        let options = node.request("OPTIONS", path).send().await.unwrap();
        assert_eq!(options.status(), 204);
        assert_eq!(options.headers()["allow"], allow);
        assert!(!options.headers().keys().any(|name| name.as_str().starts_with("access-control")));
    }
}

#[tokio::test]
async fn a_configuration_is_taken_changed_shown_without_secrets_and_forgotten() {
    let node = Served::start(Fake::unconfigured());
    let (status, body) = read(node.curl("POST", "/config", r#"{"invalid":true,"listen":"x"}"#).await).await;
    assert_eq!((status, &body["error"]["code"]), (400, &json!("invalid_configuration")));
    let paths: Vec<&str> =
        body["error"]["problems"].as_array().unwrap().iter().map(|p| p["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["invalid", "listen", "name"]);
    assert_eq!(node.get("/config").await.0, 404);

    let other = r#"{"name":"n","lease":{"type":"static","primary":"node-b"}}"#;
    let (status, body) = read(node.curl("POST", "/config", other).await).await;
    assert_eq!((status, &body["error"]["path"]), (400, &json!("lease.primary")));
    assert_eq!(node.curl("POST", "/config", r#"{"name":"unsaved"}"#).await.status(), 500);

    let (status, body) = read(node.curl("POST", "/config", r#"{"name":"n","token":"hunter2"}"#).await).await;
    assert_eq!((status, &body["configured"]), (200, &json!(true)));
    let (_, shown) = node.get("/config").await;
    assert_eq!((&shown["token"], &shown["name"]), (&json!("***"), &json!("n")));
    assert_eq!(node.curl("PUT", "/config", r#"{"name":"n"}"#).await.status(), 401, "the token holds at once");
    let with_token = |method: &str, body: &str| {
        node.request(method, "/config").bearer_auth("hunter2").body(body.to_owned()).send()
    };
    let (status, body) = read(with_token("PUT", r#"{"name":"n","token":"hunter2"}"#).await.unwrap()).await;
    assert_eq!((status, &body["after_restart"]), (200, &json!(["listen"])));
    assert_eq!(with_token("PUT", "{}").await.unwrap().status(), 400);
    assert_eq!(with_token("DELETE", "").await.unwrap().status(), 200);
    assert_eq!(node.get("/config").await.0, 404);
}

#[tokio::test]
async fn a_wrong_method_says_which_are_right() {
    let node = Served::start(Fake::configured(CONFIG));
    let response = node.request("PATCH", "/config").send().await.unwrap();
    let allow = response.headers()["allow"].to_str().unwrap().to_owned();
    for method in ["GET", "POST", "PUT", "DELETE"] {
        assert!(allow.contains(method), "{allow}");
    }
    assert_eq!(read(response).await.1["error"]["code"], "wrong_method");
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_whether_it_says_its_length_or_not() {
    let node = Served::start(Fake::unconfigured());
    let big = " ".repeat(1024 * 1024 + 1);
    let (status, body) = read(node.curl("POST", "/config", &big).await).await;
    assert_eq!((status, &body["error"]["code"]), (413, &json!("body_too_large")));

    let chunks = futures_util::stream::iter(
        big.as_bytes()
            .chunks(64 * 1024)
            .map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec()))
            .collect::<Vec<_>>(),
    );
    let request = node.request("POST", "/config").body(reqwest::Body::wrap_stream(chunks));
    // A client that goes on sending may see the connection close instead of the answer.
    if let Ok(response) = request.send().await {
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }
    let most = format!("{{{}}}", " ".repeat(1024 * 1024 - 2));
    let (status, body) = read(node.curl("POST", "/config", &most).await).await;
    assert_eq!((status, &body["error"]["code"]), (400, &json!("invalid_configuration")));
}

#[tokio::test]
async fn a_page_from_elsewhere_changes_nothing() {
    let node = Served::start(Fake::configured(CONFIG));
    for (name, value) in
        [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site"), ("host", "evil.example")]
    {
        let request = node.request("POST", "/restore").header(name, value).body(r#"{"undo":true}"#);
        let (status, body) = read(request.send().await.unwrap()).await;
        assert_eq!((status, &body["error"]["code"]), (403, &json!("forbidden")), "{name}");
        let reading = node.request("GET", "/").header(name, value).send().await.unwrap();
        assert_eq!(reading.status(), 403);
        let health = node.request("GET", "/api/health/live").header(name, value).send().await.unwrap();
        assert_eq!(health.status(), 200);
    }
}

#[tokio::test]
async fn beyond_this_machine_only_health_is_free() {
    let node = Served::start_on(Fake::configured(r#"{"name":"n","token":"s"}"#), "0.0.0.0:0");
    for path in ["/", "/config", "/databases", "/events", "/nowhere"] {
        let response = node.request("GET", path).send().await.unwrap();
        assert_eq!(response.status(), 401, "{path}");
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
    }
    for path in ["/api/health/live", "/api/health/ready", "/primary"] {
        assert_eq!(node.get(path).await.0, 200, "{path}");
    }
    let with = |token: &str| node.request("GET", "/").bearer_auth(token).send();
    assert_eq!(with("wrong").await.unwrap().status(), 403);
    assert_eq!(with("s").await.unwrap().status(), 200);
}

#[tokio::test]
async fn of_health_everyone_sees_which_checks_fail_and_only_a_reader_what_was_said() {
    let path = "/api/health/ready?verbose=1";
    let brief = json!([{ "code": "app_crash_loop", "component": "app" }]);
    let far = Served::start_on(Fake::configured(r#"{"name":"n","token":"s"}"#), "0.0.0.0:0");
    let described = far.described_with("s").await;
    for token in [None, Some("wrong"), Some("s")] {
        let request =
            token.iter().fold(far.request("GET", path), |request, token| request.bearer_auth(token));
        let (status, body) = read(request.send().await.unwrap()).await;
        described.holds(("GET", path), status, &body);
        assert_eq!((status, &body["checks"]["node"]["status"]), (200, &json!("ok")), "{token:?}: {body}");
        let reads = token == Some("s");
        assert_eq!(body.to_string().contains(fake::LAST_WORDS), reads, "{token:?}: {body}");
        assert_eq!(body["issues"] == brief, !reads, "{token:?}: {body}");
        assert_eq!(body["checks"]["node"] == json!({ "status": "ok" }), !reads, "{token:?}: {body}");
    }
    let near = Served::start(Fake::configured(CONFIG));
    assert!(near.get(path).await.1.to_string().contains(fake::LAST_WORDS));
    for (name, value) in [("origin", "https://evil.example"), ("host", "evil.example")] {
        let request = near.request("GET", path).header(name, value);
        let (status, body) = read(request.send().await.unwrap()).await;
        assert_eq!((status, &body["issues"]), (200, &brief), "{name}: {body}");
    }
}

#[tokio::test]
async fn an_image_is_the_file_and_leaves_nothing_behind() {
    let node = Served::start(Fake::configured(CONFIG));
    let image =
        |query: &str| node.request("GET", &format!("/databases/data/shop/a%20b.db?view=image{query}")).send();
    for (query, text) in [
        ("", "n".repeat(1_000_000)),
        ("&txid=3", "txid 3".to_owned()),
        ("&time=2026-11-21T10:00:00Z", "time 2026-11-21T10:00:00.000Z".to_owned()),
    ] {
        let response = image(query).await.unwrap();
        assert_eq!(response.headers()["content-type"], "application/octet-stream");
        assert_eq!(response.content_length(), Some(text.len() as u64));
        assert_eq!(response.text().await.unwrap(), text);
        assert_eq!(std::fs::read_dir(node.fake.tmp.path()).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn a_browser_gets_a_page_with_every_text_escaped() {
    let node = Served::start(Fake::configured(CONFIG));
    let request = node.request("GET", "/").header("accept", "text/html,application/xhtml+xml,*/*;q=0.8");
    let response = request.send().await.unwrap();
    assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/html"));
    assert!(response.headers()["content-security-policy"].to_str().unwrap().contains("default-src 'none'"));
    let page = response.text().await.unwrap();
    assert!(page.contains("&lt;b&gt;notes&lt;/b&gt;") && !page.contains("<b>notes"), "{page}");
    assert!(page.contains("data/shop/a b.db"));
}

#[tokio::test]
async fn events_come_as_they_happen_and_end_with_the_node() {
    let node = Served::start(Fake::configured(CONFIG));
    let mut response = node.request("GET", "/events").send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let sender = loop {
        let reader = node.fake.events.lock().unwrap().pop();
        match reader {
            Some(sender) => break sender,
            None => tokio::task::yield_now().await,
        }
    };
    let event = Event { event: "checkpoint", time: base::Timestamp(5), data: json!({"id": "c1"}) };
    sender.send(event).unwrap();
    let chunk = response.chunk().await.unwrap().unwrap();
    let text = String::from_utf8(chunk.to_vec()).unwrap();
    assert!(text.starts_with("event: checkpoint\ndata: {"), "{text}");
    assert!(text.contains(r#""id":"c1""#), "{text}");

    node.stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(4), node.ended)
        .await
        .expect("stops with a reader there")
        .unwrap();
}

#[tokio::test]
async fn the_homes_socket_is_private_answers_and_goes_with_the_node() {
    let node = Served::start(Fake::configured(r#"{"name":"n","token":"s"}"#));
    let mode = std::fs::metadata(&node.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let directory = std::fs::File::open(node.socket.parent().unwrap()).unwrap();
    let short = format!("/proc/self/fd/{}/api.sock", std::os::fd::AsRawFd::as_raw_fd(&directory));
    let http = reqwest::Client::builder().unix_socket(short).build().unwrap();
    let request = http.request(Method::POST, "http://any-name/checkpoint").body("");
    assert_eq!(request.send().await.unwrap().status(), 200, "who may open it needs no token");
    node.stop.send(()).unwrap();
    node.ended.await.unwrap();
    assert!(!node.socket.exists());
}

#[tokio::test]
async fn half_a_request_and_garbage_do_no_harm() {
    let node = Served::start(Fake::configured(CONFIG));
    let address = node.base.strip_prefix("http://").unwrap();
    let mut half = tokio::net::TcpStream::connect(address).await.unwrap();
    half.write_all(b"POST /config HTTP/1.1\r\nHost: x\r\nContent-Le").await.unwrap();
    let mut garbage = tokio::net::TcpStream::connect(address).await.unwrap();
    garbage.write_all(&[0, 159, 146, 150, b'\r', b'\n', b'\r', b'\n']).await.unwrap();
    let mut answer = Vec::new();
    garbage.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 400"), "{answer:?}");
    assert_eq!(node.get("/").await.0, 200);
    drop(half);
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let node = Served::start(Fake::unconfigured());
    let address = node.base.strip_prefix("http://").unwrap();
    let error = api::bind(address.parse().unwrap(), &node.socket).unwrap_err();
    assert_eq!(error.place, address);
    assert_eq!(error.error.kind(), std::io::ErrorKind::AddrInUse);
}
