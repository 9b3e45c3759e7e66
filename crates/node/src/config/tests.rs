//! The configuration as people write it: what is taken, and what is said about the rest.

use super::*;
use base::{LocalDisk, Open};
use std::time::Duration;

mod kept;
mod lines;
mod shown;

/// What `environment` knows.
fn environment(name: &str) -> Option<String> {
    match name {
        "PORT" => Some("9000".to_owned()),
        "COUNT" => Some("7".to_owned()),
        "TOKEN" => Some("s3cret".to_owned()),
        "ARGS" => Some("[./a, --b]".to_owned()),
        "EMPTY" => Some(String::new()),
        "YES" => Some("true".to_owned()),
        _ => None,
    }
}

fn from_yaml(text: &str) -> Result<Config, Problems> {
    Config::assemble(document::from_file(text.as_bytes(), false)?, &environment, &Overrides::default())
}

fn problems(text: &str) -> Vec<Problem> {
    from_yaml(text).unwrap_err().0
}

#[test]
fn only_the_name_is_required() {
    let config = from_yaml("name: notes").unwrap();
    assert_eq!(config.name.as_str(), "notes");
    assert_eq!(config.listen.0.to_string(), "127.0.0.1:8080");
    assert_eq!(config.storage.sync_interval.0, Duration::from_secs(1));
    assert_eq!(config.retention.local.0, 10 << 30);
    assert_eq!(config.databases, default_databases());
    assert_eq!(config.databases.len(), 1);
    assert!(config.app.is_none());
}

#[test]
fn the_example_is_valid_and_names_every_key() {
    let config = from_yaml(Config::example()).unwrap();
    assert_eq!(config.app.as_ref().unwrap().command.words(), ["./server", "--port", "3000"]);
    let example = document::from_file(Config::example().as_bytes(), false).unwrap().value;
    for (section, schema) in Config::schema()["properties"].as_object().unwrap() {
        assert!(example.get(section).is_some(), "the example lacks {section}");
        for key in schema["properties"].as_object().into_iter().flatten().map(|(key, _)| key) {
            let optional = section == "lease" && key == "primary";
            assert!(optional || example[section].get(key).is_some(), "the example lacks {section}.{key}");
        }
    }
}

#[test]
fn the_schema_is_the_one_that_was_published() {
    insta::assert_json_snapshot!("schema", Config::schema());
}

#[test]
fn the_schema_names_only_formats_that_are_checked() {
    fn formats_of(schema: &Value, into: &mut BTreeSet<String>) {
        match schema {
            Value::Object(fields) => {
                if let (Some(format), true) =
                    (fields.get("format").and_then(Value::as_str), fields.contains_key("type"))
                {
                    into.insert(format.to_owned());
                }
                fields.values().for_each(|field| formats_of(field, into));
            }
            Value::Array(items) => items.iter().for_each(|item| formats_of(item, into)),
            _ => {}
        }
    }
    let mut named = BTreeSet::new();
    formats_of(Config::schema(), &mut named);
    named.remove("uint32");
    let checked: BTreeSet<String> = check::formats().iter().map(|(format, _)| (*format).to_owned()).collect();
    assert_eq!(named, checked);
}

/// Each: a YAML document, and the path and message of every problem with it.
const INVALID: &[(&str, &[(&str, &str)])] = &[
    ("", &[("", "the configuration is empty")]),
    ("- a", &[("", "the configuration is not a mapping of keys to values")]),
    ("just text", &[("", "the configuration is not a mapping of keys to values")]),
    ("{}", &[("name", "`name` is required")]),
    ("invalid: true", &[("invalid", "unknown key `invalid`"), ("name", "`name` is required")]),
    ("nmae: x", &[("nmae", "unknown key `nmae`"), ("name", "`name` is required")]),
    ("name: ''", &[("name", "`` is no name for a volume")]),
    ("name: a/b", &[("name", "`a/b` is no name for a volume")]),
    ("name: .a", &[("name", "`.a` is no name for a volume")]),
    ("name: 12", &[("name", "this is a whole number, not a text")]),
    ("name: [a]", &[("name", "this is a list, not a text")]),
    ("name: null", &[("name", "this is nothing, not a text")]),
    ("{name: n, listen: 8080}", &[("listen", "this is a whole number, not a text")]),
    ("{name: n, listen: ':8080'}", &[("listen", "`:8080` is no address to listen on")]),
    ("{name: n, listen: '127.0.0.1'}", &[("listen", "`127.0.0.1` is no address to listen on")]),
    ("{name: n, listen: '127.0.0.1:99999'}", &[("listen", "`127.0.0.1:99999` is no address to listen on")]),
    ("{name: n, listen: 'example.org:80'}", &[("listen", "`example.org:80` is no address to listen on")]),
    ("{name: n, token: '***'}", &[("token", "`***` stands for a secret that is not shown")]),
    (
        "{name: n, token: 'a b'}",
        &[(
            "token",
            "a secret that travels in a header is made of printable ASCII characters without spaces",
        )],
    ),
    ("{name: n, storage: yes}", &[("storage", "this is a text, not a mapping")]),
    ("{name: n, storage: {url: 's3://b/p'}}", &[("storage.url", "`s3://b/p` names no bucket")]),
    (
        "{name: n, storage: {url: 's3://me:hunter2@bucket/p'}}",
        &[("storage.url", "the URL of a store holds neither credentials nor a port")],
    ),
    (
        "{name: n, storage: {url: 's3://bucket/p?region=x'}}",
        &[("storage.url", "the URL of a store holds no parameters")],
    ),
    (
        "{name: n, storage: {url: 's3://bucket/a//b'}}",
        &[("storage.url", "`s3://bucket/a//b` names no prefix plainly")],
    ),
    (
        "{name: n, storage: {url: 'file:///a', endpoint: 'http://x', path_style: true, connections: 9}}",
        &[
            ("storage.endpoint", "`storage.endpoint` is for an s3:// store only"),
            ("storage.path_style", "`storage.path_style` is for an s3:// store only"),
            ("storage.connections", "`storage.connections` is for an s3:// store only"),
        ],
    ),
    (
        "{name: n, storage: {ca_file: a, connect_timeout: 1s, request_timeout: 1s}}",
        &[
            ("storage.ca_file", "`storage.ca_file` needs a store"),
            ("storage.connect_timeout", "`storage.connect_timeout` needs a store"),
            ("storage.request_timeout", "`storage.request_timeout` needs a store"),
        ],
    ),
    (
        "{name: n, storage: {url: 's3://bucket', access_key_id: a}}",
        &[("storage.access_key_id", "`storage.access_key_id` has no `storage.secret_access_key` beside it")],
    ),
    (
        "{name: n, storage: {url: 's3://bucket', secret_access_key: a}}",
        &[(
            "storage.secret_access_key",
            "`storage.secret_access_key` has no `storage.access_key_id` beside it",
        )],
    ),
    (
        "{name: n, storage: {url: 's3://bucket', session_token: a}}",
        &[("storage.session_token", "`storage.session_token` has no `storage.access_key_id` beside it")],
    ),
    (
        "{name: n, storage: {url: 's3://bucket', profile: p, access_key_id: a, secret_access_key: b}}",
        &[("storage.profile", "there is a profile and a key too")],
    ),
    (
        "{name: n, storage: {url: 's3://bucket', access_key_id: 'hun/ter2', secret_access_key: 'a b'}}",
        &[
            ("storage.access_key_id", "this is no name of a key"),
            (
                "storage.secret_access_key",
                "a store's secret is made of printable ASCII characters without spaces",
            ),
        ],
    ),
    (
        "{name: n, storage: {url: 's3://bucket', session_token: '***'}}",
        &[("storage.session_token", "`***` stands for a secret that is not shown")],
    ),
    (
        "{name: n, storage: {url: 's3://bucket', endpoint: 'minio:9000'}}",
        &[("storage.endpoint", "`minio:9000` is no URL of a server")],
    ),
    (
        "{name: n, storage: {url: 's3://bucket', region: 'eu west'}}",
        &[("storage.region", "`eu west` is no such name")],
    ),
    (
        "{name: n, storage: {url: 's3://bucket', path_style: 'maybe'}}",
        &[("storage.path_style", "this is a text, not true or false")],
    ),
    (
        "{name: n, storage: {url: 's3://bucket', ca_file: '../ca.pem'}}",
        &[("storage.ca_file", "`../ca.pem` leads out of the home")],
    ),
    (
        "{name: n, storage: {url: 's3://bucket', connections: 0}}",
        &[("storage.connections", "0 is out of range")],
    ),
    (
        "{name: n, storage: {url: 's3://bucket', connections: 65}}",
        &[("storage.connections", "65 is out of range")],
    ),
    (
        "{name: n, storage: {url: 's3://bucket', connect_timeout: 1ms, request_timeout: 1h}}",
        &[
            ("storage.connect_timeout", "`1ms` is less than 100ms"),
            ("storage.request_timeout", "`1h` is more than 10m"),
        ],
    ),
    ("{name: n, storage: {stop_timeout: 2h}}", &[("storage.stop_timeout", "`2h` is more than 1h")]),
    // What is wrong with the URL says all there is to say.
    ("{name: n, storage: {url: 'gs://b', region: r}}", &[("storage.url", "`gs://b` is no URL of a store")]),
    (
        "{name: n, storage: {url: 'file://b/p'}}",
        &[("storage.url", "the path in `file://b/p` is not absolute")],
    ),
    (
        "{name: n, storage: {url: 'file:///a/../b'}}",
        &[("storage.url", "`file:///a/../b` names no directory plainly")],
    ),
    ("{name: n, storage: {url: 'file:///'}}", &[("storage.url", "`file:///` names no directory plainly")]),
    ("{name: n, storage: {url: /backups}}", &[("storage.url", "`/backups` is no URL of a store")]),
    ("{name: n, storage: {ulr: 'file:///a'}}", &[("storage.ulr", "unknown key `storage.ulr`")]),
    ("{name: n, storage: {region: r}}", &[("storage.region", "`storage.region` needs a store")]),
    ("{name: n, storage: {sync_interval: 5}}", &[("storage.sync_interval", "`5` is no duration")]),
    ("{name: n, storage: {sync_interval: -1}}", &[("storage.sync_interval", "`-1` is no duration")]),
    (
        "{name: n, storage: {sync_interval: 0.5}}",
        &[("storage.sync_interval", "this is a number with a fraction, not a text")],
    ),
    ("{name: n, storage: {sync_interval: 2h}}", &[("storage.sync_interval", "`2h` is more than 1h")]),
    ("{name: n, retention: {keep: forever}}", &[("retention.keep", "`forever` is no duration")]),
    ("{name: n, retention: {keep: 1s}}", &[("retention.keep", "`1s` is less than 1m")]),
    ("{name: n, retention: {local: 10G}}", &[("retention.local", "`10G` is no size")]),
    ("{name: n, retention: {local: 1kB}}", &[("retention.local", "`1kB` is less than 1MiB")]),
    ("{name: n, databases: []}", &[("databases", "this list is empty")]),
    ("{name: n, databases: data/x}", &[("databases", "this is a text, not a list")]),
    ("{name: n, databases: [data/x]}", &[("databases[0]", "this is a text, not a mapping")]),
    (
        "{name: n, databases: [{path: /etc/x}]}",
        &[("databases[0].path", "`/etc/x` is not a path inside the home")],
    ),
    (
        "{name: n, databases: [{path: ../x}]}",
        &[("databases[0].path", "`../x` is not a path inside the home")],
    ),
    (
        "{name: n, databases: [{path: tmp/x}]}",
        &[("databases[0].path", "`tmp/x` lies in tmp/, which is Stead's own")],
    ),
    (
        "{name: n, databases: [{path: .stead/x}]}",
        &[("databases[0].path", "`.stead/x` lies in .stead/, which is Stead's own")],
    ),
    (
        "{name: n, databases: [{path: data/x-wal}]}",
        &[("databases[0].path", "`data/x-wal` is the name of a file beside a database")],
    ),
    ("{name: n, databases: [{}]}", &[("databases[0].path", "`databases[0].path` is required")]),
    (
        "{name: n, databases: [{path: a, schema: ../s}]}",
        &[("databases[0].schema", "`../s` leads out of the home")],
    ),
    (
        "{name: n, databases: [{dir: data}]}",
        &[("databases[0].pattern", "`databases[0].pattern` is required")],
    ),
    (
        "{name: n, databases: [{dir: data, pattern: '[a'}]}",
        &[("databases[0].pattern", "`[a` is no pattern: unclosed character class; missing ']'")],
    ),
    (
        "{name: n, databases: [{dir: data, pattern: ../*}]}",
        &[("databases[0].pattern", "`../*` matches nothing inside the directory")],
    ),
    (
        "{name: n, databases: [{dir: /var, pattern: '*'}]}",
        &[("databases[0].dir", "`/var` is not a path inside the home")],
    ),
    (
        "{name: n, databases: [{path: a, pattern: '*'}]}",
        &[("databases[0].pattern", "`pattern` does not go together with `path`")],
    ),
    (
        "{name: n, databases: [{path: a}, {path: b, shcema: s}]}",
        &[("databases[1].shcema", "unknown key `databases[1].shcema`")],
    ),
    ("{name: n, databases: [{path: a}, {path: a}]}", &[("databases[1]", "this entry is there twice")]),
    ("{name: n, checkpoints: {every: 0}}", &[("checkpoints.every", "`0` is less than 1s")]),
    ("{name: n, checkpoints: {keep: 0}}", &[("checkpoints.keep", "0 is out of range")]),
    (
        "{name: n, checkpoints: {keep: 1.5}}",
        &[("checkpoints.keep", "this is a number with a fraction, not a whole number")],
    ),
    ("{name: n, checkpoints: {keep: '24'}}", &[("checkpoints.keep", "this is a text, not a whole number")]),
    ("{name: n, app: {}}", &[("app.command", "`app.command` is required")]),
    ("{name: n, app: {command: ''}}", &[("app.command", "the command is empty")]),
    ("{name: n, app: {command: []}}", &[("app.command", "this list is empty")]),
    ("{name: n, app: {command: [a, 1]}}", &[("app.command[1]", "this is a whole number, not a text")]),
    ("{name: n, app: {command: 'a \"b'}}", &[("app.command", "a quote in `a \"b` is not closed")]),
    ("{name: n, app: {command: 5}}", &[("app.command", "this is a whole number, not a text")]),
    (
        "{name: n, app: {command: a, ready: {}}}",
        &[("app.ready", "nothing says how it is found out that the app is ready")],
    ),
    (
        "{name: n, app: {command: a, ready: {notify: true, tcp: 'a:1'}}}",
        &[("app.ready", "there is more than one way to find out that the app is ready")],
    ),
    (
        "{name: n, app: {command: a, ready: {http: 'https://a/'}}}",
        &[("app.ready.http", "`https://a/` is no URL of an app")],
    ),
    ("{name: n, app: {command: a, ready: {tcp: 'a'}}}", &[("app.ready.tcp", "`a` is no host and port")]),
    ("{name: n, app: {command: a, ready: {command: []}}}", &[("app.ready.command", "this list is empty")]),
    (
        "{name: n, app: {command: a, ready: {notify: true, timeout: 1ms}}}",
        &[("app.ready.timeout", "`1ms` is less than 100ms")],
    ),
    ("{name: n, app: {command: a, before: b}}", &[("app.before", "this is a text, not a list")]),
    ("{name: n, app: {command: a, before: [b, []]}}", &[("app.before[1]", "this list is empty")]),
    (
        "{name: n, app: {command: a, before: [\"b 'c\"]}}",
        &[("app.before[0]", "a quote in `b 'c` is not closed")],
    ),
    ("{name: n, app: {command: a, run_on: primry}}", &[("app.run_on", "`primry` is none of primary, any")]),
    ("{name: n, app: {command: a, user: root}}", &[("app.user", "`root` is no user and group")]),
    ("{name: n, app: {command: a, user: '1000'}}", &[("app.user", "`1000` is no user and group")]),
    (
        "{name: n, app: {command: a, user: '4294967295:0'}}",
        &[("app.user", "`4294967295:0` is no user and group")],
    ),
    ("{name: n, app: {command: a, env: [A=1]}}", &[("app.env", "this is a list, not a mapping")]),
    (
        "{name: n, app: {command: a, env: {PORT: 3000}}}",
        &[("app.env.PORT", "this is a whole number, not a text")],
    ),
    (
        "{name: n, app: {command: a, env: {'A=B': x}}}",
        &[("app.env.A=B", "`A=B` cannot be the name of a variable")],
    ),
    (
        "{name: n, app: {command: a, env: {my-key: x, 1st: x, '': x}}}",
        &[
            ("app.env.", "`` cannot be the name of a variable"),
            ("app.env.1st", "`1st` cannot be the name of a variable"),
            ("app.env.my-key", "`my-key` cannot be the name of a variable"),
        ],
    ),
    (
        "{name: n, app: {command: a}, written_as: {app.command: plain, app.env.X: '$${X}', 'app.command[0': '$${X}'}}",
        &[
            ("written_as.app.command", "this text holds no variable"),
            ("written_as.app.command[0", "there is no value at `app.command[0`"),
            ("written_as.app.env.X", "there is no value at `app.env.X`"),
        ],
    ),
    ("{name: n, app: {command: a, directory: ..}}", &[("app.directory", "`..` leads out of the home")]),
    ("{name: n, app: {command: a, restart_delay: 2m}}", &[("app.restart_delay", "`2m` is more than 1m")]),
    (
        "{name: n, app: {command: a, stop_signal: SIGFOO}}",
        &[("app.stop_signal", "`SIGFOO` is no signal to stop with")],
    ),
    ("{name: n, app: {command: a, stop_timeout: 2h}}", &[("app.stop_timeout", "`2h` is more than 1h")]),
    ("{name: n, app: {command: a, exit: 1}}", &[("app.exit", "this is a whole number, not true or false")]),
    ("{name: n, lease: {type: consul}}", &[("lease.type", "`lease.type: consul` is not in this version")]),
    ("{name: n, lease: {type: magic}}", &[("lease.type", "`magic` is none of static")]),
    ("{name: n, lease: {ttl: 10s}}", &[("lease.ttl", "`lease.ttl` is not in this version")]),
    ("{name: n, mount: {path: mount}}", &[("mount", "`mount` is not in this version")]),
    (
        "{name: n, preflight: {directories: [{}]}}",
        &[("preflight.directories[0].path", "`preflight.directories[0].path` is required")],
    ),
    (
        "{name: n, preflight: {directories: [{path: /a, crate: true}]}}",
        &[("preflight.directories[0].crate", "unknown key `preflight.directories[0].crate`")],
    ),
    (
        "{name: n, preflight: {directories: [{path: /a, owner: root}]}}",
        &[("preflight.directories[0].owner", "`root` is no user and group")],
    ),
    (
        "{name: n, preflight: {directories: [{path: /a/x}, {path: /b/x}]}}",
        &[("preflight.directories[1].name", "two directories are called `x`")],
    ),
    ("{name: n, cluster: {}}", &[("cluster", "`cluster` is not in this version")]),
    (
        "{name: n, proxy: {}, register: {}}",
        &[("proxy", "`proxy` is not in this version"), ("register", "`register` is not in this version")],
    ),
    ("{name: n, log: {level: loud}}", &[("log.level", "`loud` is none of error, warn, info, debug, trace")]),
    ("name: '${NOPE}'", &[("name", "the environment variable NOPE is not set")]),
    ("name: '${PORT'", &[("name", "`${PORT` has no closing brace")]),
    (
        "{name: n, checkpoints: {keep: '${TOKEN}'}}",
        &[("checkpoints.keep", "this is a text, not a whole number")],
    ),
    (
        "{nam: n, listen: x, storage: {sync_interval: soon}, databases: [{path: /a}, {path: b}], app: {exit: true}}",
        &[
            ("app.command", "`app.command` is required"),
            ("databases[0].path", "`/a` is not a path inside the home"),
            ("listen", "`x` is no address to listen on"),
            ("nam", "unknown key `nam`"),
            ("storage.sync_interval", "`soon` is no duration"),
            ("name", "`name` is required"),
        ],
    ),
];

#[test]
fn every_problem_is_named_at_once_with_its_place() {
    assert!(INVALID.len() >= 80);
    for (text, expected) in INVALID {
        let found = problems(text);
        let said: Vec<(&str, &str)> = found.iter().map(|p| (p.path.as_str(), p.message.as_str())).collect();
        assert_eq!(&said, expected, "{text}");
        assert!(found.iter().all(|problem| !problem.hint.is_empty()), "{text} lacks a hint");
    }
}

#[test]
fn a_hint_names_the_nearest_key_or_those_there_are() {
    let hint = |text: &str| problems(text).remove(0).hint;
    assert_eq!(hint("{name: n, databse: []}"), "did you mean `databases`?");
    assert_eq!(hint("{name: n, storage: {syncinterval: 1s}}"), "did you mean `sync_interval`?");
    assert_eq!(hint("{name: n, retention: {zzz: 1}}"), "known here: keep, local");
    assert_eq!(hint("name: 12"), "put it in quotes: \"12\"");
    assert_eq!(hint("{name: n, app: {command: a, run_on: anny}}"), "did you mean `any`?");
    assert_eq!(hint("name: '${NOPE}'"), "set NOPE, or give a default: ${NOPE:-default}");
}

#[test]
fn broken_documents_say_where() {
    let yaml = problems("name: [a\nb: c");
    assert!(yaml[0].message.starts_with("this is not YAML: "), "{yaml:?}");
    let json = Config::from_json(b"{\"name\": ").unwrap_err().0;
    assert!(json[0].message.starts_with("this is not JSON: EOF"), "{json:?}");
    let trailing = Config::from_json(b"{\"name\": \"n\"} x").unwrap_err().0;
    assert!(trailing[0].message.contains("trailing characters"), "{trailing:?}");
    assert!(Config::from_json(&[0xff, 0xfe]).is_err());
    let huge = vec![b' '; usize::try_from(limits::DOCUMENT_BYTES_MAX).unwrap() + 1];
    assert!(
        Config::from_json(&huge).unwrap_err().0[0].message.contains("more than a configuration may have")
    );
    let deep = "[".repeat(100_000);
    assert!(Config::from_json(deep.as_bytes()).is_err());
    assert!(from_yaml(&deep).is_err());
}

/// Each problem's place and path, as `12:5 app.comand`.
fn places_of(problems: &[Problem]) -> Vec<String> {
    let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    problems.iter().map(|p| format!("{}:{} {}", number(p.line), number(p.column), p.path)).collect()
}

#[test]
fn variables_are_typed_as_if_written_there() {
    let config = from_yaml(
        "name: v${PORT}\nlisten: 127.0.0.1:${PORT}\ntoken: ${EMPTY}\ncheckpoints:\n  keep: ${COUNT}\n  every: ${NOPE:-5m}\n\
         app:\n  command: ${ARGS}\n  exit: ${YES}\n  env: {PORT: \"${PORT}\"}\n",
    )
    .unwrap();
    assert_eq!(config.name.as_str(), "v9000");
    assert_eq!(config.listen.0.port(), 9000);
    assert_eq!(config.token, None);
    assert_eq!(
        (config.checkpoints.keep, config.checkpoints.every),
        (7, Some(Period(Duration::from_secs(300))))
    );
    let app = config.app.unwrap();
    assert!(app.exit);
    assert_eq!(app.env["PORT"], "9000");
    assert_eq!(app.command.words(), ["[./a,", "--b]"]);
}

#[test]
fn what_is_saved_is_unexpanded_and_reads_back_the_same() {
    let config = from_yaml("name: n\ntoken: ${TOKEN}\napp: {command: ./a}").unwrap();
    assert_eq!(config.token.as_ref().unwrap().reveal(), "s3cret");
    let saved = config.to_saved_json();
    assert!(saved.contains("${TOKEN}") && !saved.contains("s3cret"), "{saved}");
    let again =
        Config::assemble(document::from_json(saved.as_bytes()).unwrap(), &environment, &Overrides::default());
    assert_eq!(again.unwrap(), config);
}

#[test]
fn a_posted_body_is_never_expanded_not_even_after_a_restart() {
    let body =
        br#"{"name": "n", "app": {"command": ["./a", "${TOKEN}", "$${x}"], "env": {"A": "${TOKEN}"}}}"#;
    let config = Config::from_json(body).unwrap();
    assert_eq!(config.app.as_ref().unwrap().command.words()[1..], ["${TOKEN}", "$${x}"]);
    let saved = config.to_saved_json();
    let again =
        Config::assemble(document::from_json(saved.as_bytes()).unwrap(), &environment, &Overrides::default());
    assert_eq!(again.unwrap(), config);
}

#[test]
fn flags_override_their_keys_and_configure_by_themselves() {
    let flags = Overrides {
        listen: Some("127.0.0.1:1".to_owned()),
        store: Some("file:///b".to_owned()),
        command: vec!["./x".to_owned(), "${TOKEN}".to_owned()],
    };
    let config = Config::from_overrides(Path::new("/srv/my notes"), &flags).unwrap();
    assert_eq!(config.name.as_str(), "my-notes");
    assert_eq!(config.app.as_ref().unwrap().command.words(), ["./x", "${TOKEN}"]);
    assert_eq!(config.storage.url.as_ref().unwrap().directory(), Some(Path::new("/b")));

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stead.yaml");
    let file = LocalDisk.open(&path, Open::CreateNew).unwrap();
    file.write_at(b"name: n\nstorage: {sync_interval: 5s}\napp: {command: ./y, exit: true}\n", 0).unwrap();
    let config = Config::load_file(&LocalDisk, &path, &environment, &flags).unwrap();
    assert_eq!(config.listen.0.port(), 1);
    assert!(!config.to_saved_json().contains("listen"), "it counts for this run only");
    assert!(config.to_saved_json().contains("./x"));
    assert_eq!(config.storage.sync_interval.0, Duration::from_secs(5));
    assert!(config.app.as_ref().unwrap().exit);
    assert_eq!(config.app.as_ref().unwrap().command.words()[0], "./x");

    assert!(flags.configure());
    assert!(!Overrides { listen: flags.listen, ..Overrides::default() }.configure());
    let bad = Overrides { store: Some("s3://x".to_owned()), ..Overrides::default() };
    assert_eq!(Config::from_overrides(Path::new("/"), &bad).unwrap_err().0[0].path, "storage.url");
}

#[test]
fn a_file_that_cannot_be_read_is_no_invalid_one() {
    let dir = tempfile::tempdir().unwrap();
    for path in [dir.path().join("missing.yaml"), dir.path().to_owned()] {
        let result = Config::load_file(&LocalDisk, &path, &environment, &Overrides::default());
        assert!(matches!(result, Err(LoadError::Read { .. })), "{result:?}");
    }
}

#[test]
fn a_static_primary_must_be_this_node() {
    let config = from_yaml("{name: n, lease: {type: static, primary: a}}").unwrap();
    config.check_primary("a").unwrap();
    assert_eq!(places_of(&config.check_primary("b").unwrap_err().0), ["1:33 lease.primary"]);
    from_yaml("name: n").unwrap().check_primary("b").unwrap();
}
