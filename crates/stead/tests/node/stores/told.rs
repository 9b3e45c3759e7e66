//! What is told of a store that does not do what it is asked: status, readiness, metrics, events, the screen, preflight.

use super::proxy::Proxy;
use super::*;
use crate::operation::metrics::metrics;
use crate::support::{Events, Home};

fn unstored(of: &str) -> String {
    format!("stead_database_unstored_{of}{{path=\"{NAME}\"}}")
}

#[test]
fn an_outage_is_told_wherever_somebody_looks() {
    let mut server = server(Kind::Versity);
    let home = Home::new();
    let node = Node::configured(&home, &config(&server));
    home.db(NAME).insert_rows(1);
    node.until_stored(NAME);
    node.until_app();
    let status = node.until("it is held", |status| status["store"]["state"] == "held");
    assert_eq!((&status["store"]["url"], &status["store"]["outages"]), (&json!(URL), &json!(0)));
    assert_eq!(metrics(&node).of("stead_store_held"), 1.0);
    let mut events = Events::open(home.socket_address());

    server.kill();
    home.db(NAME).insert_rows(7);
    let status = node.until("it is away and lacks something", |status| {
        status["store"]["state"] == "away" && status["store"]["unstored"]["transactions"].as_u64() > Some(0)
    });
    let store = &status["store"];
    assert!(store["away_since"].is_string() && store["error"].is_string(), "{store:#}");
    assert_eq!(store["outages"], 1);
    let lacks = &database(&status, NAME)["unstored"];
    assert!(lacks["bytes"].as_u64() > Some(0) && lacks["lag_ms"].as_u64() > Some(0), "{lacks:#}");
    assert_eq!(status["components"]["storage"]["state"], "degraded");
    let ready = node.get("/api/health/ready?verbose=1").ok();
    assert_eq!(ready["checks"]["components.storage"]["status"], "ok", "it is degraded, not dead: {ready:#}");
    assert!(ready["checks"]["components.storage"]["output"].as_str().unwrap().len() > 5, "{ready:#}");
    let shown = metrics(&node);
    assert_eq!((shown.of("stead_store_held"), shown.of("stead_store_outages_total")), (0.0, 1.0));
    assert!(shown.of(&unstored("transactions")) > 0.0 && shown.of(&unstored("bytes")) > 0.0);
    assert!(shown.of(&unstored("seconds")) > 0.0);
    let told = events.until("issue", |data| data["component"] == "storage");
    assert!(told["code"] == "store_failed" && told["hint"].is_string(), "{told:#}");
    let screen = home.stead(&["status"]);
    let text = String::from_utf8_lossy(&screen.stdout).into_owned();
    assert_eq!(screen.status.code(), Some(1), "{text}");
    assert!(text.contains("away for") && text.contains("transaction"), "{text}");

    server.restart();
    let status = node.until("it is back", |status| {
        status["store"]["state"] == "held" && status["store"]["unstored"]["transactions"] == 0
    });
    assert!(status["store"]["away_ms"].as_u64() > Some(0), "{status:#}");
    events.until("issue", |data| data["component"] == "storage" && data["cleared"] == true);
    assert!(metrics(&node).of("stead_store_away_seconds_total") > 0.0);
    node.until_well();
}

#[test]
fn an_empty_directory_in_the_place_of_a_store_is_not_begun_anew() {
    let home = Home::new();
    let (store, unmounted) = (home.beside("store"), home.beside("unmounted"));
    std::fs::create_dir(&store).unwrap();
    let config = json!({
        "name": "notes", "storage": { "url": format!("file://{}", store.display()) },
        "app": { "command": ["sleep", "1000"] },
    });
    let node = Node::configured(&home, &config);
    home.db(NAME).insert_rows(2);
    node.until_stored(NAME);
    node.stop();
    std::fs::rename(&store, &unmounted).unwrap();
    std::fs::create_dir(&store).unwrap();

    let node = Node::start(&home);
    let told = node.until_issue("store_missing");
    assert!(told["hint"].as_str().unwrap().contains(".stead/store.json"), "{told:#}");
    node.until_app();
    assert_eq!(node.status()["components"]["storage"]["state"], "degraded");
    home.db(NAME).insert_rows(3);
    node.until_sealed(NAME);
    assert_eq!(std::fs::read_dir(&store).unwrap().count(), 0);

    std::fs::remove_dir(&store).unwrap();
    std::fs::rename(&unmounted, &store).unwrap();
    node.until_stored(NAME);
    node.until_well();
}

#[test]
fn a_bucket_that_was_emptied_between_two_starts_is_not_begun_anew() {
    let server = server(Kind::Versity);
    let home = Home::new();
    let node = Node::configured(&home, &config(&server));
    home.db(NAME).insert_rows(2);
    until_sent(&node);
    node.stop();
    let (there, aside) = (server.bucket_dir("volumes").join("notes"), server.bucket_dir("aside"));
    std::fs::rename(&there, &aside).unwrap();

    let node = Node::start(&home);
    let told = node.until_issue("store_missing");
    assert!(told["message"].as_str().unwrap().starts_with(URL), "{told:#}");
    node.until_app();
    let status = node.until("the rest goes on", |status| database(status, NAME)["mode"] == "wal");
    assert_eq!((&status["store"]["state"], &status["store"]["epoch"]), (&json!("away"), &Value::Null));
    assert!(!there.exists(), "not even a probe");

    std::fs::rename(&aside, &there).unwrap();
    home.db(NAME).insert_rows(1);
    node.until_stored(NAME);
    node.until_well();
}

/// The check of the store in `stead preflight` with a configuration.
fn preflight(home: &Home, config: &Value) -> Value {
    let file = home.beside("preflight.json");
    std::fs::write(&file, config.to_string()).unwrap();
    let args = ["preflight", "--config", file.to_str().unwrap(), "--json"];
    let out = home.stead(&args).stdout;
    let report: Value = serde_json::from_slice(&out).unwrap();
    let checks = report["checks"].as_array().unwrap();
    checks.iter().find(|check| check["name"] == "storage.url").cloned().unwrap()
}

#[test]
fn preflight_asks_a_bucket_and_says_what_is_wrong_with_it() {
    let server = server(Kind::Versity);
    let home = Home::new();
    let good = config(&server);
    assert_eq!(preflight(&home, &good)["status"], "ok");
    let wrong = |key: &str, value: &str, (status, told): (&str, &str)| {
        let mut config = good.clone();
        config["storage"][key] = json!(value);
        let check = preflight(&home, &config);
        assert_eq!(check["status"], status, "{check:#}");
        let finding = &check["findings"][0];
        assert_eq!(finding["code"], "store_unusable");
        assert!(finding["message"].as_str().unwrap().contains(told), "{finding:#}");
        assert!(
            !finding["fix"].as_str().unwrap().is_empty() && !check.to_string().contains("Wr0ng"),
            "{check:#}"
        );
    };
    wrong("secret_access_key", "Wr0ng", ("warn", "s3://volumes/notes"));
    wrong("url", "s3://nowhere/notes", ("warn", "nowhere"));
    wrong("endpoint", "http://127.0.0.1:1", ("warn", "s3://volumes/notes"));
    // Without that the databases do not start.
    wrong("ca_file", "missing.pem", ("fail", "missing.pem"));
    server.freeze();
    let check = preflight(&home, &good);
    assert!(check["output"].as_str().unwrap().contains("no answer for 5 s"), "{check:#}");
    server.go_on();
    let left =
        std::process::Command::new("find").arg(server.bucket_dir("volumes")).args(["-type", "f"]).output();
    assert_eq!(String::from_utf8(left.unwrap().stdout).unwrap(), "", "nothing is left of the probe");
}

/// It is that database's trouble alone.
#[test]
fn a_database_whose_name_no_object_store_keeps_does_not_keep_the_others_from_it() {
    let server = server(Kind::Versity);
    let home = Home::new();
    let mut config = config(&server);
    config["databases"] = json!([{ "path": NAME }, { "dir": "data", "pattern": "**/*.db" }]);
    let node = Node::configured(&home, &config);
    let odd = "data/bell\u{7}.db";
    for name in [odd, NAME] {
        home.db(name).insert_rows(3);
        node.until_sealed(name);
    }
    node.until_stored(NAME);
    let told = node.until_issue("store_failed");
    assert_eq!(told["path"], odd);
    assert!(told["hint"].as_str().unwrap().contains("a shorter name"), "{told:#}");
    let status = node.status();
    assert_eq!(status["store"]["state"], "held", "{status:#}");
    home.db(NAME).insert_rows(3);
    node.until_stored(NAME);
    node.kill();
}

/// Each request costs money.
#[test]
fn a_node_that_has_nothing_to_send_asks_its_store_nothing() {
    let server = server(Kind::Versity);
    let way = Proxy::before(server.address());
    let home = Home::new();
    let mut config = config(&server);
    config["storage"]["endpoint"] = json!(way.endpoint());
    let node = Node::configured(&home, &config);
    home.db(NAME).insert_rows(2);
    until_sent(&node);
    node.stop();
    let node = Node::start(&home);
    node.until_stored(NAME);
    node.until_app();
    let rest = |time| {
        let before = way.requests();
        std::thread::sleep(std::time::Duration::from_secs(time));
        (way.requests() == before).then_some(())
    };
    until("it has looked at what is there", || rest(4));
    let before = way.requests();
    // Whoever looks at it has it ask nothing either.
    for _ in 0..8 {
        node.status();
        node.get("/metrics");
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
    assert_eq!(way.requests(), before);
    home.db(NAME).insert_rows(1);
    node.checkpoint("three");
    node.until_stored(NAME);
    assert!(way.requests() > before, "what is counted here is what is asked");
}

#[test]
fn the_key_of_a_store_is_in_no_line_at_any_level() {
    let server = server(Kind::Versity);
    let home = Home::new();
    let mut config = config(&server);
    config["log"] = json!({ "level": "trace" });
    let node = Node::configured(&home, &config);
    home.db(NAME).insert_rows(2);
    until_sent(&node);
    let text = |path: &str| String::from_utf8(node.get(path).body).unwrap();
    let shown = ["/", "/config", "/metrics"].map(text);
    node.stop();
    config["storage"]["secret_access_key"] = json!("Wr0ng-but-secret");
    let wrong = Home::new();
    let node = Node::start(&wrong);
    node.configure(&config);
    node.until_issue("store_failed");
    let told = [home_lines(&home), home_lines(&wrong), node.status().to_string()].concat();
    assert!(told.contains("TRACE") || told.contains("DEBUG"), "so much is told");
    for secret in [SECRET_KEY, "Wr0ng-but-secret"] {
        assert!(!told.contains(secret) && shown.iter().all(|text| !text.contains(secret)));
    }
}

/// What supervisor, node and app wrote.
fn home_lines(home: &Home) -> String {
    let read = |name| std::fs::read_to_string(home.beside(name)).unwrap();
    read("stderr") + &read("stdout")
}
