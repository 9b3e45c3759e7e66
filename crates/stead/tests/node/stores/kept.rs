//! The configuration that a store keeps: what of it, which one, and what it is good for on another machine.

use super::*;
use crate::support::Home;
use std::path::{Path, PathBuf};

/// Every file below a directory that holds a text.
fn holding(dir: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(holding(&path, text));
        } else if std::fs::read(&path).unwrap().windows(text.len()).any(|bytes| bytes == text.as_bytes()) {
            found.push(path);
        }
    }
    found
}

#[test]
fn what_came_from_a_variable_is_in_the_bucket_as_that_variable_whoever_sent_the_configuration() {
    let server = server(Kind::Versity);
    let home = Home::new();
    let node = Node::start(&home);
    let text = format!(
        "name: notes\nstorage: {{ url: {URL}, endpoint: '{}', region: us-east-1, access_key_id: '${{ID}}', \
         secret_access_key: '${{SECRET}}' }}\napp:\n  command: [sh, -c, 'sleep 1000', '--key=${{APP_KEY}}']\n  \
         before: [[sh, -c, 'exit 3', '${{APP_KEY}}']]\n",
        server.endpoint()
    );
    let file = home.write("stead.yaml", text);
    let variables = [("ID", ACCESS_KEY), ("SECRET", SECRET_KEY), ("APP_KEY", "Hunter2-of-the-app")];
    let applied = home.stead_in(&variables, &["config", "apply", file.to_str().unwrap()]);
    assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    let failed = node.until_issue("before_failed");
    assert!(failed["message"].as_str().unwrap().contains("${APP_KEY}"), "{failed:#}");
    home.db(NAME).insert_rows(1);
    node.until_stored(NAME);
    let kept = server.bucket_dir("volumes").join("notes/.stead/configuration");
    let kept = until("the configuration is kept", || std::fs::read_to_string(&kept).ok());
    assert!(kept.contains("--key=${APP_KEY}"), "{kept}");
    for secret in ["Hunter2-of-the-app", SECRET_KEY] {
        let holding = holding(&server.bucket_dir("volumes"), secret);
        assert!(holding.is_empty(), "{holding:?}");
        for path in ["/", "/config", "/api/health/ready?verbose=1", "/databases"] {
            let told = String::from_utf8_lossy(&node.get(path).body).into_owned();
            assert!(!told.contains(secret), "{path}: {told}");
        }
        assert!(!node.stderr().contains(secret), "{}", node.stderr());
    }
}

/// What is kept, once it holds a text.
fn kept_with(server: &Server, text: &str) -> String {
    let file = server.bucket_dir("volumes").join("notes/.stead/configuration");
    until("it is kept", || std::fs::read_to_string(&file).ok().filter(|kept| kept.contains(text)))
}

#[test]
fn a_configuration_that_changes_is_kept_at_once() {
    let server = server(Kind::Versity);
    let home = Home::new();
    let node = Node::configured(&home, &config(&server));
    node.until_app();
    kept_with(&server, "\"sleep\"");
    let mut changed = config(&server);
    changed["app"]["command"] = json!(["sleep", "2000"]);
    node.request("PUT", "/config", &changed.to_string()).ok();
    kept_with(&server, "\"2000\"");
    let mut elsewhere = config(&server);
    elsewhere["storage"]["url"] = json!("s3://volumes/elsewhere");
    elsewhere["app"]["command"] = json!(["sleep", "3000"]);
    node.request("PUT", "/config", &elsewhere.to_string()).ok();
    home.db(NAME).insert_rows(1);
    node.until_stored(NAME);
    assert!(!kept_with(&server, "\"2000\"").contains("elsewhere"), "it is for the other store");
}

#[test]
fn what_cannot_start_takes_nothing_over() {
    let server = server(Kind::Versity);
    let first = Home::new();
    let music = first.beside("music");
    std::fs::create_dir(&music).unwrap();
    let mut config = config(&server);
    config["preflight"] = json!({ "directories": [{ "path": music }] });
    let node = Node::configured(&first, &config);
    node.until_app();
    kept_with(&server, "music");
    std::fs::remove_dir(&music).unwrap();

    let home = Home::new();
    let mut lacks_a_variable = spawn_from(&home, &server, &[]);
    assert_eq!(lacks_a_variable.wait(), 78, "{}", lacks_a_variable.stderr());
    drop(lacks_a_variable);
    let mut fails_preflight = spawn_from(&home, &server, &[("API_KEY", "x")]);
    assert_eq!(fails_preflight.wait(), 71, "{}", fails_preflight.stderr());
    assert!(fails_preflight.stderr().contains("music"), "{}", fails_preflight.stderr());
    assert!(!home.exists(".stead/ledger.sqlite") && !home.exists("tmp/config.json"));
    drop(fails_preflight);

    first.db(NAME).insert_rows(2);
    until_sent(&node);
    assert_eq!(issue(&node.status(), "store_taken_over"), None, "the store is its own still");
    std::fs::create_dir(&music).unwrap();
    let node = spawn_from(&home, &server, &[("API_KEY", "x")]).answering();
    node.until_app();
    assert_eq!(count(&home.path(NAME)), 2);
}

#[test]
fn an_authority_of_the_environment_is_trusted_by_the_first_look_and_afterwards() {
    let server = Server::start_tls(Kind::Versity);
    server.make_bucket("volumes");
    let authority = server.options().ca_file.unwrap().display().to_string();
    let trusts = [("AWS_CA_BUNDLE", authority.as_str())];
    let lost = Home::new();
    let node = Node::spawn_with(&lost, &[], &trusts).answering();
    node.configure(&config(&server));
    lost.db(NAME).insert_rows(4);
    until_sent(&node);
    kept_with(&server, "sleep");
    node.kill();

    let home = Home::new();
    let mut trusts_nobody = spawn_from(&home, &server, &[("API_KEY", "x")]);
    assert_eq!(trusts_nobody.wait(), 69, "{}", trusts_nobody.stderr());
    assert!(trusts_nobody.stderr().contains("AWS_CA_BUNDLE"), "{}", trusts_nobody.stderr());
    drop(trusts_nobody);
    let node = spawn_from(&home, &server, &[("API_KEY", "x"), trusts[0]]).answering();
    node.until_app();
    assert_eq!(count(&home.path(NAME)), 4);
}

#[test]
fn a_file_that_is_given_says_how_the_store_is_reached() {
    let server = Server::start_tls(Kind::Versity);
    server.make_bucket("volumes");
    let mut config = config(&server);
    config["storage"]["ca_file"] = json!(server.options().ca_file.unwrap());
    config["app"]["env"] = json!({});
    let lost = Home::new();
    let node = Node::configured(&lost, &config);
    lost.db(NAME).insert_rows(6);
    until_sent(&node);
    node.kill();

    let home = Home::new();
    let file = home.beside("stead.json");
    std::fs::write(&file, config.to_string()).unwrap();
    let node = Node::spawn(&home, &["--from", URL, "--config", file.to_str().unwrap()]).answering();
    node.until_app();
    assert_eq!(count(&home.path(NAME)), 6);
}
