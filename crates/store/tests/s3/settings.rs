//! Wrong settings, wrong certificates, no credentials: each with its kind, in time, and never a secret.

use super::proxy::{Act, Proxy, token_service};
use super::support::{ACCESS_KEY, Certificates, Kind, SECRET_KEY, Server, own_address};
use super::trouble::{IN_TIME, behind, failed, read, server, write};
use super::{create, key, open, whole, won};
use std::time::Instant;
use store::{ErrorKind, Objects, S3, S3Options, StoreError};

#[test]
fn each_wrong_setting_is_told_by_its_kind() {
    for kind in Kind::each() {
        let server = Server::start(*kind);
        server.make_bucket("notes");
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
            (&no_key, ErrorKind::Denied, "key"),
            (&no_secret, ErrorKind::Denied, "SignatureDoesNotMatch"),
            (&no_region, ErrorKind::Region, "us-east-1"),
            (&no_bucket, ErrorKind::NoBucket, "there is no bucket `other`"),
        ] {
            for error in everything_fails(store) {
                assert_eq!(error.kind, kind, "{error}");
                assert!(error.reason.to_lowercase().contains(&says.to_lowercase()), "{error}");
            }
            let shown = format!("{store:?}");
            assert!(!shown.contains("secret"), "{shown}");
        }
    }
}

fn everything_fails(store: &S3) -> [StoreError; 5] {
    let was = store::Tag("\"0123456789abcdef0123456789abcdef\"".to_owned());
    [
        read(store),
        failed(write(store)),
        failed(store.replace(&key("x"), b"y", &was)),
        failed(store.remove(&[key("x"), key("y")])),
        failed(store.list(None, &mut |_| std::ops::ControlFlow::Continue(()))),
    ]
}

#[test]
fn a_bucket_that_is_removed_meanwhile_is_told_and_never_taken_for_an_empty_one() {
    let server = server();
    let store = open(&server.options(), "notes", "p");
    won(create(&store, "x", b"hello"));
    std::fs::remove_dir_all(server.bucket_dir("notes")).unwrap();
    for error in everything_fails(&store) {
        assert_eq!(error.kind, ErrorKind::NoBucket, "{error}");
    }
}

#[test]
fn a_clock_that_is_off_is_told() {
    let server = server();
    let proxy = Proxy::before(server.address());
    proxy.rule(|request| {
        let lines = request.head.lines().map(|line| match line.split_once('T') {
            // Twelve hours off within the same day: of another day, the key would be wrong as well.
            Some((day, time)) if line.to_ascii_lowercase().starts_with("x-amz-date:") => {
                let hour: u32 = time[..2].parse().unwrap();
                format!("{day}T{:02}{}", (hour + 12) % 24, &time[2..])
            }
            _ => line.to_owned(),
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
fn credentials_of_a_web_identity_are_fetched_with_its_token_and_renewed_before_they_end() {
    let server = server();
    let service = Proxy::before(server.address());
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "first-token").unwrap();
    let mut expirations = ["2020-01-01T00:00:00Z", "2100-01-01T00:00:00Z"].into_iter();
    let mut tokens = ["first-token", "second-token"].into_iter();
    service.rule(move |request| {
        let asked = request.target().to_owned();
        assert!(asked.contains("Action=AssumeRoleWithWebIdentity"), "{asked}");
        assert!(asked.contains("RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fx"), "{asked}");
        let token = tokens.next().expect("asked no further");
        assert!(asked.contains(&format!("WebIdentityToken={token}")), "{asked}");
        Act::Tell(token_service((ACCESS_KEY, SECRET_KEY), expirations.next().unwrap()))
    });
    let (endpoint, file) = (service.endpoint(), token.display().to_string());
    let environment = move |name: &str| match name {
        "AWS_WEB_IDENTITY_TOKEN_FILE" => Some(file.clone()),
        "AWS_ROLE_ARN" => Some("arn:aws:iam::1:role/x".to_owned()),
        "AWS_ENDPOINT_URL_STS" => Some(endpoint.clone()),
        _ => None,
    };
    let options = S3Options { access_key_id: None, secret_access_key: None, ..server.options() };
    let store = S3::new("notes", "p", &options, &base::LocalDisk, &environment).unwrap();
    assert!(store.read(&key("x"), 0, 1).unwrap().is_none());
    std::fs::write(&token, "second-token").unwrap();
    won(create(&store, "x", b"hello"));
    assert_eq!(whole(&store, "x").unwrap(), b"hello");
    assert_eq!(service.requests(), 2);
}

#[test]
fn a_source_of_credentials_that_refuses_is_named_and_its_token_is_not() {
    let server = server();
    let service = Proxy::before(server.address());
    let answer = "<ErrorResponse><Error><Code>InvalidIdentityToken</Code><Message>no</Message></Error></ErrorResponse>";
    service.rule(move |_| Act::Answer("400 Bad Request", answer));
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "s3cr3t-token").unwrap();
    let (endpoint, file) = (service.endpoint(), token.display().to_string());
    let environment = move |name: &str| match name {
        "AWS_WEB_IDENTITY_TOKEN_FILE" => Some(file.clone()),
        "AWS_ROLE_ARN" => Some("arn:aws:iam::1:role/x".to_owned()),
        "AWS_ENDPOINT_URL_STS" => Some(endpoint.clone()),
        _ => None,
    };
    let options = S3Options { access_key_id: None, secret_access_key: None, ..server.options() };
    let refused = read(&S3::new("notes", "p", &options, &base::LocalDisk, &environment).unwrap());
    assert_eq!(refused.kind, ErrorKind::Credentials);
    let told = refused.to_string();
    assert!(told.contains("AWS_WEB_IDENTITY_TOKEN_FILE") && told.contains("InvalidIdentityToken"), "{told}");
    assert!(!told.contains("s3cr3t"), "{told}");
}
