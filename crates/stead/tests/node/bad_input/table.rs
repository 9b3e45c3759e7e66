//! A long table of configurations and requests that nobody should send: each has its status or exit code, its word, and
//! says what is wrong; after all of them the node is as well as before.

use super::{DATABASE, config};
use crate::support::{Home, Node, STEAD, request};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A file's text, the exit code of `config check`, and what it says.
const FILES: &[(&str, i32, &str)] = &[
    ("", 78, "bad.yaml:1: the configuration is empty"),
    ("# nothing\n", 78, "the configuration is empty"),
    ("---\n", 78, "the configuration is empty"),
    ("- name\n", 78, "not a mapping"),
    ("name", 78, "not a mapping"),
    ("name: [a\n", 78, "this is not YAML"),
    ("name: n\n\tlisten: x\n", 78, "this is not YAML"),
    ("name: 'n\n", 78, "this is not YAML"),
    ("name: n\n---\nname: m\n", 78, "this is not YAML"),
    ("name: *nobody\n", 78, "this is not YAML"),
    ("name: n\nname: m\n", 78, "bad.yaml:2: name: the key `name` appears twice"),
    (
        "name: n\napp:\n  command: a\n  command: b\n",
        78,
        "bad.yaml:4: app.command: the key `app.command` appears twice",
    ),
    ("nmae: n\n", 78, "bad.yaml:1: nmae: unknown key `nmae`"),
    ("name: n\ndatabase: []\n", 78, "did you mean `databases`?"),
    ("name: ../n\n", 78, "bad.yaml:1: name"),
    ("name: 5\n", 78, "this is a whole number, not a text"),
    ("name: n\nlisten: 99999\n", 78, "bad.yaml:2: listen"),
    ("name: n\nlisten: '127.0.0.1:99999'\n", 78, "no address to listen on"),
    (
        "name: n\ntoken: ${NOT_SET_ANYWHERE}\n",
        78,
        "bad.yaml:2: token: the environment variable NOT_SET_ANYWHERE is not set",
    ),
    ("name: n\ntoken: ${\n", 78, "no closing brace"),
    ("name: n\nstorage:\n  url: ftp://x\n", 78, "bad.yaml:3: storage.url"),
    ("name: n\nstorage:\n  url: file:///a/../etc\n", 78, "names no directory plainly"),
    ("name: n\nstorage:\n  url: s3://b\n", 78, "bad.yaml:3: storage.url: `s3://b` names no bucket"),
    ("name: n\nstorage:\n  url: s3://id:secret@bucket\n", 78, "neither credentials nor a port"),
    ("name: n\nstorage:\n  url: s3://bucket?region=x\n", 78, "holds no parameters"),
    ("name: n\nstorage:\n  url: s3://bucket/a/../b\n", 78, "names no prefix plainly"),
    (
        "name: n\nstorage:\n  url: file:///a\n  region: r\n",
        78,
        "bad.yaml:4: storage.region: `storage.region` is for",
    ),
    (
        "name: n\nstorage:\n  endpoint: http://x\n",
        78,
        "bad.yaml:3: storage.endpoint: `storage.endpoint` needs a store",
    ),
    ("name: n\nstorage:\n  url: s3://bucket\n  endpoint: x:9000\n", 78, "no URL of a server"),
    (
        "name: n\nstorage:\n  url: s3://bucket\n  access_key_id: a\n",
        78,
        "has no `storage.secret_access_key` beside it",
    ),
    (
        "name: n\nstorage:\n  url: s3://bucket\n  secret_access_key: a\n",
        78,
        "has no `storage.access_key_id` beside it",
    ),
    (
        "name: n\nstorage:\n  url: s3://bucket\n  access_key_id: a/b\n  secret_access_key: c\n",
        78,
        "this is no name of a key",
    ),
    ("name: n\nstorage:\n  url: s3://bucket\n  connections: 1000\n", 78, "1000 is out of range"),
    ("name: n\nstorage:\n  url: s3://bucket\n  request_timeout: 1ms\n", 78, "`1ms` is less than 1s"),
    ("name: n\nstorage:\n  stop_timeout: forever\n", 78, "no duration"),
    ("name: n\nstorage: [a]\n", 78, "this is a list, not a mapping"),
    ("name: n\nstorage:\n  sync_interval: -1s\n", 78, "no duration"),
    ("name: n\nretention:\n  keep: 99999999999999999999d\n", 78, "no duration"),
    ("name: n\nretention:\n  local: 1XB\n", 78, "no size"),
    ("name: n\ndatabases:\n  - path: ../../etc/passwd\n", 78, "bad.yaml:3: databases[0].path"),
    ("name: n\ndatabases:\n  - path: /etc/passwd\n", 78, "not a path inside the home"),
    ("name: n\ndatabases:\n  - path: .stead/ledger.sqlite\n", 78, "Stead's own"),
    ("name: n\ndatabases:\n  - path: data/a.db-wal\n", 78, "a file beside a database"),
    (
        "name: n\ndatabases:\n  - path: a\n  - path: a\n",
        78,
        "bad.yaml:4: databases[1]: this entry is there twice",
    ),
    ("name: n\ndatabases:\n  - dir: data\n    pattern: '[a'\n", 78, "bad.yaml:4: databases[0].pattern"),
    ("name: n\ndatabases: []\n", 78, "this list is empty"),
    ("name: n\nmount:\n  path: mount\nproxy: {}\nnonsense: 1\n", 78, "bad.yaml:5: nonsense"),
    ("name: n\ncheckpoints:\n  keep: 1.5\n", 78, "a number with a fraction"),
    ("name: n\ncheckpoints:\n  keep: 99999999999\n", 78, "out of range"),
    ("name: n\napp:\n  command: ''\n", 78, "the command is empty"),
    ("name: n\napp:\n  directory: a\n", 78, "bad.yaml:2: app.command: `app.command` is required"),
    ("name: n\napp:\n  command: a\n  env:\n    A: 5\n", 78, "bad.yaml:5: app.env.A"),
    ("name: n\napp:\n  command: a\n  user: root\n", 78, "no user and group"),
    ("name: n\napp:\n  command: a\n  stop_signal: SIGNONE\n", 78, "no signal"),
    ("name: n\nlog:\n  level: loud\n", 78, "`loud` is none of"),
    ("name: n\nlease:\n  type: magic\n", 78, "`magic` is none of"),
];

fn told(out: &std::process::Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

#[test]
fn every_invalid_file_is_refused_with_its_line() {
    let home = Home::new();
    for (text, code, says) in FILES {
        let file = home.write("bad.yaml", text);
        let out = home.stead(&["config", "check", file.to_str().unwrap()]);
        assert_eq!(out.status.code(), Some(*code), "{text:?}: {out:?}");
        let told = told(&out);
        assert!(told.contains(says), "{text:?}: {told}");
        assert!(told.contains("hint: "), "{text:?}: {told}");
    }
}

#[test]
fn files_made_to_exhaust_or_confuse_a_reader_are_refused_at_once() {
    let home = Home::new();
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..30 {
        let before = format!("*a{}", level - 1);
        bomb.push_str(&format!("a{level}: &a{level} [{}]\n", [before.as_str(); 9].join(", ")));
    }
    let random: Vec<u8> = (0..5000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let files: Vec<(&str, Vec<u8>, &str)> = vec![
        ("bomb.yaml", bomb.into_bytes(), "this is not YAML"),
        ("deep.yaml", "[".repeat(10_000).into_bytes(), "this is not YAML"),
        (
            "deep-block.yaml",
            (0..300).map(|n| format!("{}a:\n", " ".repeat(n))).collect::<String>().into_bytes(),
            "not YAML",
        ),
        ("deep.json", "[".repeat(10_000).into_bytes(), "this is not JSON"),
        ("nested.json", "{\"a\":".repeat(10_000).into_bytes(), "this is not JSON"),
        ("twice.json", b"{\"name\": \"n\",\n \"name\": \"m\"}".to_vec(), "twice.json:2: name"),
        ("trailing.json", b"{\"name\": \"n\"}\n}".to_vec(), "trailing.json:2: "),
        ("zero.yaml", vec![0; 4096], "zero.yaml"),
        ("random.yaml", random.clone(), "this is not text"),
        ("random.json", random, "this is not JSON"),
        ("latin1.yaml", b"name: n\ntoken: \xfcber\n".to_vec(), "latin1.yaml:2: this is not text"),
        ("huge.yaml", vec![b'a'; 1024 * 1024 + 1], "the limit is 1048576"),
        (
            "keys.yaml",
            (0..50_000).map(|n| format!("k{n}: 1\n")).collect::<String>().into_bytes(),
            "keys.yaml:1: ",
        ),
        ("same.yaml", "name: n\n".repeat(50_000).into_bytes(), "appears twice"),
    ];
    for (name, bytes, says) in files {
        let file = home.write(name, bytes);
        let out = home.stead(&["config", "check", file.to_str().unwrap()]);
        let told = told(&out);
        assert!(matches!(out.status.code(), Some(71 | 78)), "{name}: {told:.500}");
        assert!(told.contains(says), "{name}: {told:.500}");
    }
}

#[test]
fn what_is_no_readable_file_is_refused_without_waiting() {
    let home = Home::new();
    let at = |name: &str| home.path(name);
    home.write("there", "");
    std::fs::create_dir(at("directory.yaml")).unwrap();
    std::os::unix::fs::symlink("loop.yaml", at("loop.yaml")).unwrap();
    std::os::unix::fs::symlink("nothing", at("dangling.yaml")).unwrap();
    assert!(Command::new("mkfifo").arg(at("pipe.yaml")).status().unwrap().success());
    std::fs::set_permissions(home.write("secret.yaml", "name: n\n"), PermissionsExt::from_mode(0o600))
        .unwrap();
    std::os::unix::fs::chown(at("secret.yaml"), Some(12_345), Some(12_345)).unwrap();
    // Root reads everything; without these capabilities it is another user to that file.
    let stripped = |words: &[&str], file: &Path| {
        let caps = "-dac_override,-dac_read_search";
        let mut command = Command::new("setpriv");
        command.args(["--inh-caps", caps, "--bounding-set", caps, STEAD]).args(words).arg(file);
        command.arg("--home").arg(home.root());
        command.stdin(Stdio::null()).output().unwrap()
    };
    for (name, says) in [
        ("directory.yaml", "s a directory"),
        ("loop.yaml", "ymbolic link"),
        ("dangling.yaml", "No such file"),
        ("missing.yaml", "No such file"),
        ("there/below.yaml", "ot a directory"),
        ("pipe.yaml", "not a regular file"),
        ("secret.yaml", "ermission denied"),
    ] {
        for words in [&["config", "check"][..], &["config", "import"], &["run", "--config"]] {
            let out = stripped(words, &at(name));
            assert_eq!(out.status.code(), Some(71), "{words:?} {name}: {out:?}");
            assert!(told(&out).contains(says), "{words:?} {name}: {}", told(&out));
        }
    }
    for endless in ["/dev/zero", "/dev/urandom", "/dev/null"] {
        let out = home.stead(&["config", "check", endless]);
        assert_eq!(
            (out.status.code(), told(&out).contains("not a regular file")),
            (Some(71), true),
            "{endless}: {out:?}"
        );
    }
}

/// A request to a configured node: method, path, body, status, code, and what it says.
const REQUESTS: &[(&str, &str, &str, u16, &str, &str)] = &[
    ("GET", "/nothing", "", 404, "no_such_route", ""),
    ("GET", "//", "", 404, "no_such_route", ""),
    ("GET", "/config/../status", "", 404, "no_such_route", ""),
    ("GET", "/%2e%2e/etc/passwd", "", 404, "no_such_route", ""),
    ("POST", "/status", "", 405, "wrong_method", ""),
    ("PATCH", "/config", "{}", 405, "wrong_method", ""),
    ("BREW", "/config", "", 405, "wrong_method", ""),
    ("POST", "/config", "{\"name\":\"n\"}", 400, "already_configured", ""),
    ("PUT", "/config", "", 400, "invalid_configuration", "this is not JSON"),
    ("PUT", "/config", "[]", 400, "invalid_configuration", "not a mapping"),
    ("PUT", "/config", "null", 400, "invalid_configuration", "empty"),
    ("PUT", "/config", "{\"name\":", 400, "invalid_configuration", "this is not JSON"),
    ("PUT", "/config", "{\"name\":\"n\"}{}", 400, "invalid_configuration", "trailing"),
    ("PUT", "/config", "{\"name\":\"n\",\"name\":\"m\"}", 400, "invalid_configuration", "appears twice"),
    ("PUT", "/config", "name: yaml", 400, "invalid_configuration", "this is not JSON"),
    ("PUT", "/config", "{\"name\":\"n\",\"nmae\":1}", 400, "invalid_configuration", "unknown key `nmae`"),
    ("PUT", "/config", "{\"name\":\"${HOME}\"}", 400, "invalid_configuration", "no name"),
    (
        "PUT",
        "/config",
        "{\"name\":\"n\",\"databases\":[{\"path\":\"../x\"}]}",
        400,
        "invalid_configuration",
        "inside the home",
    ),
    (
        "PUT",
        "/config",
        "{\"name\":\"n\",\"lease\":{\"primary\":\"other\"}}",
        400,
        "invalid_configuration",
        "another node",
    ),
    ("PUT", "/config", "{\"name\":\"\\ud800\"}", 400, "invalid_configuration", "this is not JSON"),
    ("PUT", "/config", "{\"name\":1e999}", 400, "invalid_configuration", "this is not JSON"),
    ("POST", "/checkpoint", "[]", 400, "malformed", "no JSON object"),
    ("POST", "/checkpoint", "\"x\"", 400, "malformed", "no JSON object"),
    ("POST", "/checkpoint", "{\"id\":5}", 400, "malformed", "not as expected"),
    ("POST", "/checkpoint", "{\"name\":\"x\"}", 400, "malformed", "unknown field"),
    ("POST", "/checkpoint", "{\"id\":\"a\",\"id\":\"b\"}", 400, "malformed", "duplicate"),
    ("POST", "/checkpoint", "{\"id\":\"../x\"}", 400, "bad_checkpoint_id", ""),
    ("POST", "/checkpoint", "{\"id\":\"\"}", 400, "bad_checkpoint_id", ""),
    ("POST", "/checkpoint", "{\"id\":\".hidden\"}", 400, "bad_checkpoint_id", ""),
    ("POST", "/checkpoint", "{\"id\":\"a\\u0000b\"}", 400, "bad_checkpoint_id", ""),
    ("POST", "/checkpoint", "{\"id\":\"\u{e4}\"}", 400, "bad_checkpoint_id", ""),
    ("GET", "/checkpoint/none", "", 404, "no_such_checkpoint", ""),
    ("GET", "/checkpoint/..%2f..%2fconfig.json", "", 400, "bad_checkpoint_id", ""),
    ("GET", "/checkpoint/%00", "", 400, "bad_checkpoint_id", ""),
    ("GET", "/checkpoint/%ff", "", 400, "malformed", ""),
    ("DELETE", "/checkpoint/none", "", 404, "no_such_checkpoint", ""),
    ("POST", "/restore", "{}", 400, "malformed", "where to"),
    ("POST", "/restore", "{\"id\":\"a\",\"undo\":true}", 400, "malformed", "where to"),
    ("POST", "/restore", "{\"id\":\"none\"}", 404, "no_such_checkpoint", ""),
    ("POST", "/restore", "{\"id\":\"../x\"}", 400, "bad_checkpoint_id", ""),
    ("POST", "/restore", "{\"time\":\"yesterday\"}", 400, "malformed", "no time"),
    ("POST", "/restore", "{\"time\":\"2001-01-01T00:00:00Z\"}", 404, "nothing_there", ""),
    ("POST", "/restore", "{\"time\":-9223372036854775808}", 400, "malformed", "no time"),
    ("POST", "/restore", "{\"time\":1e3}", 400, "malformed", "no time"),
    ("POST", "/restore", "{\"time\":\"9999-01-01T00:00:00Z\"}", 400, "malformed", "still to come"),
    ("POST", "/restore", "{\"undo\":true}", 404, "nothing_there", ""),
    ("POST", "/restore", "{\"undo\":\"yes\"}", 400, "malformed", ""),
    ("POST", "/app", "{}", 400, "malformed", "action"),
    ("POST", "/app", "{\"action\":\"dance\"}", 400, "malformed", "unknown variant"),
    ("POST", "/app", "{\"action\":\"start\"}", 409, "not_now", "no app"),
    ("GET", "/databases/data/none.db", "", 404, "no_such_database", ""),
    ("GET", "/databases/../tmp/config.json", "", 400, "malformed", ""),
    ("GET", "/databases/..%2f..%2fetc%2fpasswd", "", 400, "malformed", ""),
    ("GET", "/databases//etc/passwd", "", 400, "malformed", ""),
    ("GET", "/databases/data/%00.db", "", 400, "malformed", ""),
    ("GET", "/databases/data/%ff.db", "", 400, "malformed", ""),
    ("GET", "/databases/data/database.sqlite?view=moon", "", 400, "malformed", "no view"),
    ("GET", "/databases/data/database.sqlite?view=image&txid=-1", "", 400, "malformed", ""),
    (
        "GET",
        "/databases/data/database.sqlite?view=image&txid=18446744073709551615",
        "",
        404,
        "nothing_there",
        "",
    ),
    ("GET", "/databases/data/database.sqlite?view=image&time=soon", "", 400, "malformed", "no time"),
    ("POST", "/databases/data/database.sqlite", "{}", 400, "malformed", "action"),
    ("POST", "/databases/data/database.sqlite", "{\"action\":\"drop\"}", 400, "malformed", "unknown variant"),
    ("POST", "/databases/data/database.sqlite", "{\"action\":\"query\"}", 400, "malformed", "sql"),
    (
        "POST",
        "/databases/data/database.sqlite",
        "{\"action\":\"query\",\"sql\":\"\"}",
        400,
        "sql_error",
        "no statement",
    ),
    (
        "POST",
        "/databases/data/database.sqlite",
        "{\"action\":\"query\",\"sql\":\"DROP TABLE t\"}",
        400,
        "sql_error",
        "",
    ),
    (
        "POST",
        "/databases/data/database.sqlite",
        "{\"action\":\"query\",\"sql\":\"ATTACH '/etc/passwd' AS p\"}",
        400,
        "sql_error",
        "",
    ),
    (
        "POST",
        "/databases/tmp/config.json",
        "{\"action\":\"query\",\"sql\":\"SELECT 1\"}",
        404,
        "no_such_database",
        "",
    ),
    ("GET", "/logs?lines=many", "", 400, "malformed", ""),
    ("GET", "/logs?stream=stdin", "", 400, "malformed", ""),
    ("GET", "/logs?nonsense=1", "", 400, "malformed", ""),
];

/// Bytes that are no request; the node answers 400 or ends the connection, and nothing else.
const NOISE: &[&[u8]] = &[
    b"\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"POST /checkpoint HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
    b"POST /checkpoint HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
    b"POST /checkpoint HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
];

fn noise(home: &Home, bytes: &[u8]) {
    let mut stream = TcpStream::connect(home.socket_address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    // A reset is an answer too, and may come before the end is said.
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let refused = ["HTTP/1.1 4", "HTTP/1.0 4", "HTTP/1.1 505"].iter().any(|start| answer.starts_with(start));
    assert!(answer.is_empty() || refused, "{:?}: {answer}", String::from_utf8_lossy(bytes));
}

#[test]
fn every_bad_request_is_refused_and_the_node_is_as_well_as_before() {
    assert!(FILES.len() + REQUESTS.len() + NOISE.len() >= 110);
    let home = Home::new();
    let node = Node::configured(&home, &config());
    home.db(DATABASE).insert_rows(5);
    node.until_sealed(DATABASE);
    let before = node.get("/config").ok();
    // A body that does not come, while everything else goes on.
    let mut slow = TcpStream::connect(home.socket_address()).unwrap();
    slow.write_all(b"POST /checkpoint HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{").unwrap();
    let began = Instant::now();

    for (method, path, body, status, code, says) in REQUESTS {
        let error = node.request(method, path, body);
        let shown = String::from_utf8_lossy(&error.body).into_owned();
        assert_eq!(error.status, *status, "{method} {path} {body}: {shown}");
        let error = error.json()["error"].clone();
        assert_eq!(error["code"], *code, "{method} {path} {body}: {shown}");
        assert!(shown.contains(says), "{method} {path} {body}: {shown}");
    }
    let huge = format!("{{\"name\": \"{}\"}}", "n".repeat(1024 * 1024));
    for path in ["/config", "/checkpoint", "/databases/data/database.sqlite"] {
        let method = if path == "/config" { "PUT" } else { "POST" };
        // The node may end the connection before it has read all of it.
        if let Ok(answer) = request(home.socket_address(), method, path, &huge) {
            answer.refused(413, "body_too_large");
        }
    }
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = format!("{}1{}", open.repeat(10_000), close.repeat(10_000));
        assert_eq!(node.request("PUT", "/config", &deep).status, 400);
        assert_eq!(node.request("POST", "/checkpoint", &deep).status, 400);
    }
    for bytes in NOISE {
        noise(&home, bytes);
    }
    let long = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(1024 * 1024));
    noise(&home, &long.as_bytes()[..200_000]);

    slow.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    let mut late = String::new();
    slow.read_to_string(&mut late).unwrap();
    assert!(late.starts_with("HTTP/1.1 408 "), "after {:?}: {late}", began.elapsed());

    assert_eq!(node.get("/config").ok(), before);
    assert_eq!(node.get("/checkpoint").ok()["checkpoints"], Value::Array(Vec::new()));
    home.db(DATABASE).insert_rows(1);
    node.until_sealed(DATABASE);
    node.verify(DATABASE);
    node.until_well();
}
