//! Servers that answer wrongly, late or not at all: each with its kind, in time, and never with a wrong outcome.

use super::proxy::{Act, Proxy};
use super::support::{ACCESS_KEY, Certificates, Kind, SECRET_KEY, Server, own_address};
use super::{create, key, listed, open, whole, won};
use base::SystemRandom;
use std::time::{Duration, Instant};
use store::{About, ErrorKind, Objects, Outcome, S3, S3Options, StoreError, Verb};

/// Longer than any call may take with the limits of these tests, on a loaded machine.
const IN_TIME: Duration = Duration::from_secs(60);

fn server() -> Server {
    let server = Server::start(Kind::Versity);
    server.make_bucket("notes");
    server
}

/// Patient enough for a loaded machine, and no more.
fn impatient(options: S3Options) -> S3Options {
    S3Options { connect_timeout: Duration::from_secs(2), request_timeout: Duration::from_secs(3), ..options }
}

fn behind(proxy: &Proxy, server: &Server) -> S3 {
    let options = S3Options { endpoint: Some(proxy.endpoint()), ..server.options() };
    open(&options, "notes", "p")
}

fn failed<T: std::fmt::Debug>(result: Result<T, StoreError>) -> StoreError {
    let error = result.unwrap_err();
    let shown = error.to_string();
    assert!(!shown.contains('\n') && !shown.contains('<') && !shown.contains(SECRET_KEY), "{shown}");
    error
}

fn read(store: &S3) -> StoreError {
    failed(store.read(&key("x"), 0, 10))
}

fn write(store: &S3) -> Result<Outcome, StoreError> {
    store::create_from(store, &key("x"), super::MOMENT, b"x")
}

#[test]
fn each_wrong_setting_is_told_by_its_kind() {
    let server = server();
    let good = server.options();
    let wrong = |change: fn(&mut S3Options)| {
        let mut options = good.clone();
        change(&mut options);
        open(&options, "notes", "p")
    };
    let no_key = wrong(|options| options.access_key_id = Some("nobody".to_owned()));
    let no_secret = wrong(|options| options.secret_access_key = Some("another-secret".to_owned()));
    let no_region = wrong(|options| options.region = Some("eu-west-1".to_owned()));
    let no_bucket = open(&good, "other", "p");
    for (store, kind, says) in [
        (&no_key, ErrorKind::Denied, "access key"),
        (&no_secret, ErrorKind::Denied, "SignatureDoesNotMatch"),
        (&no_region, ErrorKind::Region, "us-east-1"),
        (&no_bucket, ErrorKind::NoBucket, "there is no bucket `other`"),
    ] {
        let errors = [
            read(store),
            failed(write(store)),
            failed(store.remove(&[key("x"), key("y")])),
            failed(store.list(None, &mut |_| std::ops::ControlFlow::Continue(()))),
        ];
        for error in errors {
            assert_eq!(error.kind, kind, "{error}");
            assert!(error.reason.contains(says), "{error}");
        }
        let shown = format!("{store:?}");
        assert!(!shown.contains("secret"), "{shown}");
    }
}

#[test]
fn a_clock_that_is_off_is_told() {
    let server = server();
    let proxy = Proxy::before(server.address());
    proxy.rule(|request| {
        let lines =
            request.head.lines().map(|line| match line.to_ascii_lowercase().starts_with("x-amz-date:") {
                // Of this day, or the key would be wrong as well; at midnight it is another day anyway.
                true => format!("{}T000000Z", &line[..line.len() - 8]),
                false => line.to_owned(),
            });
        request.head = lines.collect::<Vec<_>>().join("\r\n");
        Act::Pass
    });
    let off = read(&behind(&proxy, &server));
    assert_eq!(off.kind, ErrorKind::Clock, "{off}");
}

#[test]
fn a_server_over_https_needs_its_authority() {
    let server = Server::start_tls(Kind::Versity);
    server.make_bucket("notes");
    let trusted = open(&server.options(), "notes", "p");
    won(create(&trusted, "x", b"hello"));
    assert_eq!(whole(&trusted, "x").unwrap(), b"hello");

    let dir = tempfile::tempdir().unwrap();
    let other = Certificates::make(dir.path(), server.address()).ca;
    for ca_file in [None, Some(other)] {
        let stranger = open(&S3Options { ca_file, ..server.options() }, "notes", "p");
        let refused = read(&stranger);
        assert_eq!(refused.kind, ErrorKind::Tls, "{refused}");
        assert!(refused.reason.contains("not trusted"), "{refused}");
        assert_eq!(failed(write(&stranger)).kind, ErrorKind::Tls);
    }
    let plain = server.endpoint().replace("https", "http");
    let plain = open(&S3Options { endpoint: Some(plain), ..server.options() }, "notes", "p");
    // Some say so, others hang up.
    let kind = read(&plain).kind;
    assert!(matches!(kind, ErrorKind::Tls | ErrorKind::Unreachable), "{kind:?}");
}

#[test]
fn a_file_of_certificates_that_is_none_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.pem");
    for content in [None, Some("no certificate")] {
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        let options = S3Options { ca_file: Some(path.clone()), ..S3Options::default() };
        let refused = S3::new("notes", "", &options, &base::LocalDisk, &|_| None).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Tls);
        assert!(refused.reason.contains("ca.pem"), "{refused}");
    }
}

#[test]
fn a_server_without_tls_that_is_asked_over_https_is_told() {
    let server = server();
    let endpoint = server.endpoint().replace("http:", "https:");
    let store = open(&S3Options { endpoint: Some(endpoint), ..server.options() }, "notes", "p");
    assert_eq!(read(&store).kind, ErrorKind::Tls);
}

#[test]
fn nobody_there_is_told_after_a_few_tries() {
    let endpoint = format!("http://{}", own_address());
    let options = S3Options {
        endpoint: Some(endpoint),
        access_key_id: Some("x".to_owned()),
        secret_access_key: Some("y".to_owned()),
        ..S3Options::default()
    };
    let store = open(&options, "notes", "p");
    let began = Instant::now();
    let away = read(&store);
    assert_eq!(away.kind, ErrorKind::Unreachable, "{away}");
    assert!(away.reason.contains("refused"), "{away}");
    assert!(began.elapsed() < IN_TIME);
    // What never left is no unknown outcome.
    assert_eq!(failed(write(&store)).kind, ErrorKind::Unreachable);
    let traffic = store.traffic().unwrap();
    assert_eq!(traffic.requests_all(), 2 * u64::from(store::s3::TRIES_MAX));
    assert_eq!(traffic.retries(), traffic.requests_all() - 2);
    assert_eq!(traffic.errors(ErrorKind::Unreachable), traffic.requests_all());
}

#[test]
fn a_web_server_is_no_store() {
    let server = server();
    let proxy = Proxy::before(server.address());
    proxy.rule(|_| Act::Answer("404 Not Found", "<!DOCTYPE html><html>nothing here</html>"));
    let store = behind(&proxy, &server);
    // Never as if the object, or the whole history, were not there.
    assert_eq!(read(&store).kind, ErrorKind::Answer);
    assert_eq!(failed(store.list(None, &mut |_| unreachable!())).kind, ErrorKind::Answer);
    proxy.rule(|_| Act::Answer("200 OK", "<!DOCTYPE html><html>welcome</html>"));
    assert_eq!(read(&store).kind, ErrorKind::Answer);
    assert_eq!(failed(store.list(None, &mut |_| unreachable!())).kind, ErrorKind::Answer);
}

#[test]
fn without_credentials_a_call_ends_soon_and_says_so() {
    let options = S3Options::default();
    let nowhere = |name: &str| {
        // Nobody listens there: a machine that is no instance.
        (name == "AWS_EC2_METADATA_SERVICE_ENDPOINT").then(|| format!("http://{}", own_address()))
    };
    let store = S3::new("notes", "", &options, &base::LocalDisk, &nowhere).unwrap();
    let began = Instant::now();
    let lacking = read(&store);
    assert_eq!(lacking.kind, ErrorKind::Credentials, "{lacking}");
    assert!(lacking.reason.starts_with("no credentials from 127."), "{lacking}");
    assert!(began.elapsed() < IN_TIME);
    assert_eq!(store.traffic().unwrap().requests_all(), 0);

    let disabled = |name: &str| (name == "AWS_EC2_METADATA_DISABLED").then(|| "true".to_owned());
    let refused = S3::new("notes", "", &options, &base::LocalDisk, &disabled).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Credentials);

    let web = |name: &str| match name {
        "AWS_WEB_IDENTITY_TOKEN_FILE" => Some("/nowhere/token".to_owned()),
        "AWS_ROLE_ARN" => Some("arn:aws:iam::1:role/x".to_owned()),
        _ => None,
    };
    let store = S3::new("notes", "", &options, &base::LocalDisk, &web).unwrap();
    assert_eq!(read(&store).kind, ErrorKind::Credentials);
}

#[test]
fn credentials_of_the_instance_are_fetched_once_and_used() {
    let server = server();
    let instance = Proxy::before(server.address());
    instance.rule(|request| match request.target() {
        "/latest/api/token" => Act::Tell("a-token".to_owned()),
        "/latest/meta-data/iam/security-credentials/" => Act::Tell("role".to_owned()),
        "/latest/meta-data/iam/security-credentials/role" => Act::Tell(format!(
            r#"{{"Code":"Success","AccessKeyId":"{ACCESS_KEY}","SecretAccessKey":"{SECRET_KEY}","Token":"",
                "Expiration":"2100-01-01T00:00:00Z","LastUpdated":"2026-01-01T00:00:00Z","Type":"AWS-HMAC"}}"#
        )),
        other => panic!("{other}"),
    });
    let endpoint = instance.endpoint();
    let environment =
        move |name: &str| (name == "AWS_EC2_METADATA_SERVICE_ENDPOINT").then(|| endpoint.clone());
    let options = S3Options { access_key_id: None, secret_access_key: None, ..server.options() };
    let store = S3::new("notes", "p", &options, &base::LocalDisk, &environment).unwrap();
    won(create(&store, "x", b"hello"));
    assert_eq!(whole(&store, "x").unwrap(), b"hello");
    assert_eq!(instance.requests(), 3);
}

#[test]
fn an_answer_that_is_lost_never_makes_a_loser_of_the_winner() {
    let server = server();
    let proxy = Proxy::before(server.address());
    let store = behind(&proxy, &server);
    proxy.once(|request| request.is("PUT").then_some(Act::LoseAnswer));
    let tag = won(create(&store, "one", b"mine"));
    assert_eq!(store.read(&key("one"), 0, 10).unwrap().unwrap().tag, tag);

    proxy.once(|request| request.is("PUT").then_some(Act::LoseAnswer));
    let next = won(store.replace(&key("one"), b"again", &tag).unwrap());
    assert_eq!(store.read(&key("one"), 0, 10).unwrap().unwrap().tag, next);

    let large = vec![7; 9 << 20];
    let completes =
        |request: &super::proxy::Request| request.is("POST") && request.target().contains("uploadId");
    proxy.once(move |request| completes(request).then_some(Act::LoseAnswer));
    won(create(&store, "large", &large));
    assert!(whole(&store, "large").unwrap() == large);
}

#[test]
fn an_answer_that_is_lost_never_makes_a_winner_of_the_loser() {
    let server = server();
    let proxy = Proxy::before(server.address());
    let (store, other) = (behind(&proxy, &server), open(&server.options(), "notes", "p"));
    let theirs = won(create(&other, "one", b"theirs"));
    proxy.once(|request| request.is("PUT").then_some(Act::LoseAnswer));
    assert_eq!(create(&store, "one", b"mine"), Outcome::Lost);
    won(other.replace(&key("one"), b"theirs again", &theirs).unwrap());
    proxy.once(|request| request.is("PUT").then_some(Act::LoseAnswer));
    assert_eq!(store.replace(&key("one"), b"mine", &theirs).unwrap(), Outcome::Lost);
    assert_eq!(whole(&other, "one").unwrap(), b"theirs again");
}

#[test]
fn in_doubt_about_an_object_that_nobody_can_look_at_the_outcome_is_unknown() {
    let server = server();
    let proxy = Proxy::before(server.address());
    let store = behind(&proxy, &server);
    let mut before = 0;
    proxy.rule(move |request| {
        before += 1;
        match (request.is("PUT"), before) {
            (true, 1) => Act::LoseAnswer,
            (true, _) => Act::Pass,
            _ => Act::Answer("500 Internal Server Error", ""),
        }
    });
    assert_eq!(create(&store, "one", b"mine"), Outcome::Unknown);
    let refused = Proxy::before(server.address());
    refused.rule(|_| Act::Answer("500 Internal Server Error", "<Error><Code>InternalError</Code></Error>"));
    let store = behind(&refused, &server);
    assert_eq!(create(&store, "two", b"mine"), Outcome::Unknown);
    assert_eq!(read(&store).kind, ErrorKind::Server);
}

#[test]
fn a_conflict_is_tried_again_or_lost_by_what_is_there() {
    let server = server();
    let proxy = Proxy::before(server.address());
    let store = behind(&proxy, &server);
    let conflict = || Act::Answer("409 Conflict", "<Error><Code>ConditionalRequestConflict</Code></Error>");
    proxy.once(move |request| request.is("PUT").then(conflict));
    let tag = won(create(&store, "one", b"first"));
    proxy.once(move |request| request.is("PUT").then(conflict));
    assert_eq!(create(&store, "one", b"second"), Outcome::Lost);
    proxy.once(move |request| request.is("PUT").then(conflict));
    won(store.replace(&key("one"), b"third", &tag).unwrap());
}

#[test]
fn passing_errors_are_tried_again_and_refusals_are_not() {
    let server = server();
    let proxy = Proxy::before(server.address());
    let store = behind(&proxy, &server);
    won(create(&store, "x", b"hello"));
    for act in [
        || Act::Answer("500 Internal Server Error", ""),
        || Act::Answer("503 Slow Down", "<Error><Code>SlowDown</Code></Error>"),
        || Act::LoseRequest,
        || Act::LoseAnswer,
    ] {
        proxy.once(move |_| Some(act()));
        assert_eq!(whole(&store, "x").unwrap(), b"hello");
        proxy.once(move |_| Some(act()));
        assert_eq!(listed(&store, None).len(), 1);
    }
    let before = proxy.requests();
    proxy.rule(|_| Act::Answer("403 Forbidden", "<Error><Code>AccessDenied</Code></Error>"));
    assert_eq!(read(&store).kind, ErrorKind::Denied);
    assert_eq!(failed(write(&store)).kind, ErrorKind::Denied);
    assert_eq!(proxy.requests(), before + 2);
    proxy.rule(|_| Act::Answer("507 Insufficient Storage", "<Error><Code>QuotaExceeded</Code></Error>"));
    assert_eq!(failed(write(&store)).kind, ErrorKind::Full);
}

#[test]
fn a_slow_answer_is_waited_for_and_one_that_stops_is_not() {
    let server = server();
    let proxy = Proxy::before(server.address());
    let slow = behind(&proxy, &server);
    won(create(&slow, "x", &[5; 1000]));
    proxy.rule(|_| Act::Slowly(100, Duration::from_millis(20)));
    assert_eq!(whole(&slow, "x").unwrap(), [5; 1000]);

    let options = impatient(S3Options { endpoint: Some(proxy.endpoint()), ..server.options() });
    let store = open(&options, "notes", "p");
    proxy.rule(|_| Act::Stall(400));
    let began = Instant::now();
    assert_eq!(read(&store).kind, ErrorKind::Timeout);
    assert!(began.elapsed() < IN_TIME);
    proxy.rule(|_| Act::Pass);
    assert_eq!(whole(&store, "x").unwrap(), [5; 1000]);
}

#[test]
fn a_frozen_server_is_an_error_in_time_and_is_used_again_when_it_goes_on() {
    let server = server();
    let store = open(&impatient(server.options()), "notes", "p");
    won(create(&store, "before", b"x"));
    server.freeze();
    let began = Instant::now();
    assert_eq!(read(&store).kind, ErrorKind::Timeout);
    assert_eq!(create(&store, "meanwhile", b"mine"), Outcome::Unknown);
    assert!(began.elapsed() < IN_TIME);
    server.go_on();
    assert_eq!(whole(&store, "before").unwrap(), b"x");
    // It may have arrived before or after: whoever asks again learns which.
    let again = create(&store, "meanwhile", b"mine");
    assert!(matches!(again, Outcome::Won(_) | Outcome::Lost), "{again:?}");
    assert_eq!(whole(&store, "meanwhile").unwrap(), b"mine");
}

#[test]
fn a_server_that_is_killed_loses_nothing_that_was_won() {
    let mut server = server();
    let store = open(&impatient(server.options()), "notes", "p");
    for round in 0..3 {
        let said = std::thread::scope(|threads| {
            let writer = threads.spawn(|| {
                let mut said = Vec::new();
                for number in 0.. {
                    let name = format!("{round}/{number}");
                    let about = About { moment: super::MOMENT, bytes: 100_000 };
                    let outcome = store.create(&key(&name), about, &mut |out| out.write_all(&[7; 100_000]));
                    match outcome {
                        Ok(Outcome::Won(_)) => said.push(name),
                        Ok(Outcome::Lost) => panic!("{name} was lost to nobody"),
                        Ok(Outcome::Unknown) | Err(_) => break,
                    }
                }
                said
            });
            super::support::until(|| store.traffic().unwrap().requests(Verb::Put) > 20 * (round + 1));
            server.kill();
            writer.join().unwrap()
        });
        server.restart();
        for name in said {
            assert_eq!(whole(&store, &name).unwrap(), [7; 100_000], "{name}");
        }
    }
}

#[test]
fn an_upload_that_fails_leaves_no_parts() {
    let server = server();
    let proxy = Proxy::before(server.address());
    let store = behind(&proxy, &server);
    let large = vec![7; 17 << 20];
    proxy.rule(|request| match request.target().contains("partNumber=2") {
        true => Act::Answer("403 Forbidden", "<Error><Code>AccessDenied</Code></Error>"),
        false => Act::Pass,
    });
    let about = About { moment: super::MOMENT, bytes: 0 };
    let denied = failed(store.create(&key("x"), about, &mut |out| out.write_all(&large)));
    assert_eq!(denied.kind, ErrorKind::Denied, "{denied}");
    assert_eq!(store.traffic().unwrap().requests(Verb::Delete), 1);
    assert_eq!(whole(&store, "x"), None);
    let files = walk(&server.bucket_dir("notes"));
    assert!(files.is_empty(), "{files:?}");
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn a_server_that_knows_no_removal_of_many_is_asked_one_by_one() {
    let server = server();
    let proxy = Proxy::before(server.address());
    let store = behind(&proxy, &server);
    let names = ["a", "b", "c"];
    for name in names {
        won(create(&store, name, b"x"));
    }
    proxy.rule(|request| match request.is("POST") {
        true => Act::Answer("501 Not Implemented", "<Error><Code>NotImplemented</Code></Error>"),
        false => Act::Pass,
    });
    store.remove(&names.map(key)).unwrap();
    store.remove(&names.map(key)).unwrap();
    assert_eq!(listed(&store, None), []);
    let traffic = store.traffic().unwrap();
    assert_eq!((traffic.requests(Verb::Post), traffic.requests(Verb::Delete)), (1, 6));
}

#[test]
fn a_probe_finds_what_a_server_ignores() {
    let server = server();
    let proxy = Proxy::before(server.address());
    let store = behind(&proxy, &server);
    store::probe(&store, &SystemRandom).unwrap();
    assert!(proxy.requests() <= 8, "{}", proxy.requests());
    for header in ["If-None-Match", "If-Match"] {
        let mut created = false;
        proxy.rule(move |request| match request.is("PUT") && request.has(header) {
            true if header == "If-Match" || std::mem::replace(&mut created, true) => Act::Yes,
            _ => Act::Pass,
        });
        let refused = failed(store::probe(&store, &SystemRandom));
        assert_eq!(refused.kind, ErrorKind::Unsupported, "{refused}");
        assert!(refused.reason.contains(header), "{refused}");
    }
    assert_eq!(listed(&store, None), []);
}

#[test]
fn traffic_is_counted_and_no_more_requests_than_told_are_under_way() {
    let server = server();
    let store = open(&S3Options { connections: 2, ..server.options() }, "notes", "p");
    std::thread::scope(|threads| {
        for number in 0..8 {
            let store = &store;
            threads.spawn(move || won(create(store, &format!("{number}"), b"12345")));
        }
    });
    assert_eq!(whole(&store, "3").unwrap(), b"12345");
    let traffic = store.traffic().unwrap();
    assert_eq!((traffic.requests(Verb::Put), traffic.bytes_up()), (8, 40));
    assert_eq!((traffic.requests(Verb::Get), traffic.bytes_down()), (1, 5));
    assert_eq!((traffic.requests_all(), traffic.retries()), (9, 0));
}
