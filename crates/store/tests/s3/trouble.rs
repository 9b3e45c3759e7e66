//! Servers that answer wrongly, late or not at all: each with its kind, in time, and never with a wrong outcome.

use super::proxy::{Act, Proxy};
use super::support::{Kind, SECRET_KEY, Server};
use super::{create, key, listed, open, whole, won};
use base::SystemRandom;
use std::time::{Duration, Instant};
use store::{About, ErrorKind, Objects, Outcome, S3, S3Options, StoreError, Verb};

/// Longer than any call may take with the limits of these tests, on a loaded machine.
pub const IN_TIME: Duration = Duration::from_secs(60);

pub fn server() -> Server {
    let server = Server::start(Kind::Versity);
    server.make_bucket("notes");
    server
}

/// Patient enough for a loaded machine, and no more.
fn impatient(options: S3Options) -> S3Options {
    S3Options { connect_timeout: Duration::from_secs(2), request_timeout: Duration::from_secs(5), ..options }
}

pub fn behind(proxy: &Proxy, server: &Server) -> S3 {
    let options = S3Options { endpoint: Some(proxy.endpoint()), ..server.options() };
    open(&options, "notes", "p")
}

pub fn failed<T: std::fmt::Debug>(result: Result<T, StoreError>) -> StoreError {
    let error = result.unwrap_err();
    let shown = error.to_string();
    assert!(!shown.contains('\n') && !shown.contains('<') && !shown.contains(SECRET_KEY), "{shown}");
    error
}

pub fn read(store: &S3) -> StoreError {
    failed(store.read(&key("x"), 0, 10))
}

pub fn write(store: &S3) -> Result<Outcome, StoreError> {
    store::create_from(store, &key("x"), super::MOMENT, b"x")
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
fn a_request_that_a_gateway_sends_twice_is_no_defeat() {
    let server = server();
    let proxy = Proxy::before(server.address());
    let store = behind(&proxy, &server);
    proxy.rule(|request| if request.is("PUT") { Act::Twice } else { Act::Pass });
    let tag = won(create(&store, "one", b"mine"));
    won(store.replace(&key("one"), b"again", &tag).unwrap());
    assert_eq!(store.replace(&key("one"), b"never", &tag).unwrap(), Outcome::Lost);
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
    let store = open(&server.options(), "notes", "p");
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

#[test]
fn a_server_without_room_says_so_and_takes_more_when_there_is_some() {
    let server = Server::start_small(Kind::Versity, 1 << 20);
    server.make_bucket("notes");
    let store = open(&server.options(), "notes", "p");
    won(create(&store, "first", &[7; 700_000]));
    let about = About { moment: super::MOMENT, bytes: 700_000 };
    let second = || store.create(&key("second"), about, &mut |out| out.write_all(&[7; 700_000]));
    let full = failed(second());
    assert_eq!(full.kind, ErrorKind::Full, "{full}");
    assert_eq!(whole(&store, "second"), None);
    store.remove(&[key("first")]).unwrap();
    won(second().unwrap());
}
