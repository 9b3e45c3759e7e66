//! A bucket in the host's name, with a key that a token service gives: nothing of either is in the configuration.

use super::proxy::{Act, Proxy, token_service};
use super::*;
use crate::support::Home;

/// The domain below which the server's buckets are hosts; nobody resolves it, a proxy leads there.
const DOMAIN: &str = "store.test";

#[test]
fn a_bucket_in_the_hosts_name_is_reached_with_a_web_identity() {
    let server = Server::start_virtual(Kind::Versity, DOMAIN);
    server.make_bucket("volumes");
    let way = Proxy::before(server.address());
    way.rule(|request| {
        // A forward proxy is asked for a whole URL, a server for a path.
        let path = request.head.replacen(&format!("http://volumes.{DOMAIN}"), "", 1);
        assert!(
            path != request.head && path.to_lowercase().contains(&format!("host: volumes.{DOMAIN}")),
            "{path}"
        );
        request.head = path;
        Act::Pass
    });
    let service = Proxy::before(server.address());
    service.rule(|_| Act::Tell(token_service((ACCESS_KEY, SECRET_KEY), "2100-01-01T00:00:00Z")));
    let lost = Home::new();
    let token = lost.beside("token");
    std::fs::write(&token, "a-token").unwrap();
    let (way_url, service_url, token) = (way.endpoint(), service.endpoint(), token.display().to_string());
    let environment = [
        ("HTTP_PROXY", way_url.as_str()),
        ("NO_PROXY", "127.0.0.1"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.as_str()),
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/x"),
        ("AWS_ENDPOINT_URL_STS", service_url.as_str()),
    ];
    let config = json!({
        "name": "notes",
        "storage": { "url": URL, "endpoint": format!("http://{DOMAIN}"), "path_style": false },
        "app": { "command": ["sleep", "1000"] },
    });
    let node = Node::spawn_with(&lost, &[], &environment).answering();
    node.configure(&config);
    lost.db(NAME).insert_rows(3);
    until_sent(&node);
    assert_eq!(node.status()["components"]["storage"]["state"], "ok");
    assert!(server.bucket_dir("volumes").join("notes/.stead/manifest").exists());
    node.stop();

    let home = Home::new();
    let file = home.beside("stead.json");
    std::fs::write(&file, config.to_string()).unwrap();
    let args = ["--from", URL, "--config", file.to_str().unwrap()];
    let node = Node::spawn_with(&home, &args, &environment).answering();
    node.until_app();
    assert_eq!(count(&home.path(NAME)), 3);
    assert!(way.requests() > 10 && service.requests() >= 2);
}

#[test]
fn a_store_that_never_answers_keeps_no_start_waiting() {
    let server = server(Kind::Versity);
    server.freeze();
    let home = Home::new();
    let node = Node::start(&home);
    node.configure(&config(&server));
    node.until_app();
    let told = node.until_issue("store_failed");
    assert!(told["message"].as_str().unwrap().contains("it has not answered for 5 s"), "{told:#}");
    home.db(NAME).insert_rows(2);
    server.go_on();
    node.until_stored(NAME);
    node.until_well();
}
