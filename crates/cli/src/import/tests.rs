//! Samples as people have them, and what they become.

use super::*;
use node::config::{Config, Overrides};

const SAMPLES: [(&str, &str, Program); 6] = [
    ("litefs-fly", include_str!("samples/litefs-fly.yml"), Program::LiteFs),
    ("litefs-static", include_str!("samples/litefs-static.yml"), Program::LiteFs),
    ("litefs-full", include_str!("samples/litefs-full.yml"), Program::LiteFs),
    ("litestream-s3", include_str!("samples/litestream-s3.yml"), Program::Litestream),
    ("litestream-file", include_str!("samples/litestream-file.yml"), Program::Litestream),
    ("litestream-full", include_str!("samples/litestream-full.yml"), Program::Litestream),
];

fn read(text: &str) -> Imported {
    import(text.as_bytes(), "source.yml").unwrap()
}

#[test]
fn every_sample_becomes_what_was_published() {
    for (name, text, program) in SAMPLES {
        let imported = read(text);
        assert_eq!(imported.source, program, "{name}");
        insta::assert_snapshot!(name, imported.config);
    }
}

#[test]
fn every_result_is_a_valid_configuration() {
    for (name, text, _) in SAMPLES {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("stead.yaml");
        let config = read(text).config;
        base::disk::write_atomic(&base::LocalDisk, &file, config.as_bytes(), true).unwrap();
        let set = |_: &str| Some("x".to_owned());
        let loaded = Config::load_file(&base::LocalDisk, &file, &set, &Overrides::default());
        assert!(loaded.is_ok(), "{name}: {loaded:?}\n{config}");
    }
}

/// A value is in the result, or its key is in a note: nothing is dropped silently.
#[test]
fn every_key_of_a_sample_is_taken_over_or_told() {
    for (name, text, _) in SAMPLES {
        let imported = read(text);
        let document = Document::from_yaml(text.as_bytes()).unwrap();
        for leaf in leaves(&document) {
            let told = imported.notes.iter().any(|note| note.key == leaf.path);
            let value = leaf.text();
            let last = value.rsplit('/').next().unwrap_or("").trim_start_matches('$');
            let within_another =
                ["type", "recursive", "path", "bucket", "debug"].iter().any(|key| leaf.path.ends_with(key));
            assert!(told || imported.config.contains(last) || within_another, "{name}: {}", leaf.path);
        }
    }
}

#[test]
fn a_literal_secret_is_carried_over_but_never_told() {
    let imported = read(
        "access-key-id: AKIALITERAL\nsecret-access-key: hunter2\ndbs:\n  - path: /srv/a.db\n    replica:\n      \
         url: sftp://me:passw0rd@box/backup\n",
    );
    assert!(imported.config.contains("#   secret_access_key: hunter2"), "{}", imported.config);
    assert!(imported.config.contains("is for an s3:// store only"), "{}", imported.config);
    let told = serde_json::to_string(&imported.notes).unwrap();
    for secret in ["hunter2", "AKIALITERAL", "passw0rd"] {
        assert!(!told.contains(secret), "{told}");
    }
}

#[test]
fn variables_stay_variables() {
    let imported =
        read("exec: ./app --port $PORT --host ${HOST}\nlog: {format: $FORMAT}\nfuse: {dir: /litefs}\n");
    assert!(imported.config.contains("command: ./app --port ${PORT} --host ${HOST}"), "{}", imported.config);
    assert!(imported.config.contains("format: ${FORMAT}"), "{}", imported.config);
    let compared = read("lease: {type: static, hostname: x}\nexec: \"./app ${A == 'b'}\"\n");
    assert!(
        compared.notes.iter().any(|note| note.message.contains("write the value")),
        "{:?}",
        compared.notes
    );
}

#[test]
fn an_unknown_key_is_told_with_its_line() {
    let imported = read("fuse:\n  dir: /litefs\nlease:\n  typo: 5\nsomething: else\n");
    let at = |key: &str| imported.notes.iter().find(|note| note.key == key).map(|note| note.line);
    assert_eq!((at("something"), at("fuse.dir")), (Some(Some(5)), Some(Some(2))));
}

#[test]
fn what_is_neither_is_refused() {
    for text in ["name: stead", "a: b", "exec: x"] {
        assert!(matches!(import(text.as_bytes(), "x"), Err(ImportError::Unknown)), "{text}");
    }
    for text in ["", "[a", "- a"] {
        assert!(matches!(import(text.as_bytes(), "x"), Err(ImportError::Unreadable(_))), "{text}");
    }
}

/// The source may come from anybody: no text of it is a line of the result.
#[test]
fn nothing_of_the_source_becomes_a_line_of_its_own() {
    for text in [
        "dbs:\n  - path: /srv/a.db\n\"a\\napp:\\n  command: touch /tmp/x\\n#\": 1\n",
        "dbs:\n  - path: /srv/a.db\n    replica: {url: file:///b, sync-interval: \"x\\nlisten: 127.0.0.1:6666\\n#\"}\n",
        "fuse: {dir: /litefs}\nlease: {type: \"static\\r\\nlisten: 127.0.0.1:6666\\u2028token: a\"}\n",
    ] {
        let config = import(text.as_bytes(), "a\nlisten: 127.0.0.1:6666\n#").unwrap().config;
        let lines: Vec<&str> = config.split(['\n', '\r', '\u{2028}']).collect();
        for begun in ["app:", "listen:", "token:", "  command"] {
            assert!(!lines.iter().any(|line| line.starts_with(begun)), "{begun}: {config}");
        }
        let read =
            Config::from_json(Document::from_yaml(config.as_bytes()).unwrap().value.to_string().as_bytes());
        assert!(read.is_ok_and(|config| config.app.is_none()), "{config}");
    }
}

#[test]
fn every_command_of_litefs_has_its_place() {
    let imported =
        read("fuse: {dir: /litefs}\nexec:\n  - cmd: ./step1 $A\n  - cmd: ./step2\n  - cmd: ./server\n");
    assert!(imported.config.contains("before: [\"./step1 ${A}\",\"./step2\"]"), "{}", imported.config);
    assert!(imported.config.contains("command: ./server"), "{}", imported.config);
    assert!(!imported.notes.iter().any(|note| note.message.contains("already")), "{:?}", imported.notes);
}

#[test]
fn a_store_that_can_be_used_wins_over_one_that_cannot() {
    let imported = read(
        "dbs:\n  - path: /srv/a.db\n    replica: {url: gs://b/a}\n  - path: /srv/b.db\n    replica: {type: file, path: \
         /backup/b}\n",
    );
    assert!(imported.config.contains("\n  url: file:///backup/b"), "{}", imported.config);
    assert!(imported.notes.iter().any(|note| note.key == "dbs[0].replica.url"), "{:?}", imported.notes);
}

#[test]
fn a_store_in_a_bucket_is_taken_over_whole() {
    let imported = read(
        "access-key-id: $KEY\nsecret-access-key: ${SECRET}\nshutdown-sync-timeout: 10s\ndbs:\n  - path: /srv/a.db\n    \
         replica:\n      type: s3\n      bucket: backups\n      path: /a/b/\n      region: eu-1\n      endpoint: \
         minio:9000\n      force-path-style: true\n",
    );
    for line in [
        "storage:",
        "  url: s3://backups/a/b",
        "  endpoint: https://minio:9000",
        "  region: eu-1",
        "  access_key_id: ${KEY}",
        "  secret_access_key: ${SECRET}",
        "  path_style: true",
        "  stop_timeout: 10s",
    ] {
        assert!(imported.config.lines().any(|found| found == line), "{line}: {}", imported.config);
    }
    assert!(imported.notes.is_empty(), "{:?}", imported.notes);
}

#[test]
fn half_a_key_is_a_comment() {
    let imported =
        read("access-key-id: AKIA\ndbs:\n  - path: /srv/a.db\n    replica: {url: s3://backups/a}\n");
    assert!(
        imported.config.contains("#   access_key_id: AKIA  # needs its other half"),
        "{}",
        imported.config
    );
    let text = Document::from_yaml(imported.config.as_bytes()).unwrap().value.to_string();
    assert!(Config::from_json(text.as_bytes()).is_ok(), "{}", imported.config);
}
