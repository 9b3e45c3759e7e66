//! What a store keeps of a configuration: what an expansion made is never in it.

use super::*;

const TEXT: &str = "{name: n, token: '${TOKEN}', checkpoints: {keep: '${COUNT}'},
    storage: {url: 's3://bucket/p', access_key_id: AKIA, secret_access_key: '${TOKEN}'},
    app: {command: [./a, '--key=${TOKEN}', '$${PLAIN}'], before: ['./b ${TOKEN}'],
          env: {KEY: '${TOKEN}', MIXED: 'x${TOKEN}', LITERAL: hunter2}}}";

/// As it was posted by whoever had read it from a file.
fn posted(config: &Config) -> Config {
    Config::from_json(config.to_posted_json().to_string().as_bytes()).unwrap()
}

/// As the home has it after a restart.
fn restarted(config: &Config) -> Config {
    let document = document::from_json(config.to_saved_json().as_bytes()).unwrap();
    Config::assemble(document, &|_| None, &Overrides::default()).unwrap()
}

#[test]
fn a_store_keeps_no_secret_whichever_way_the_configuration_came() {
    let file = from_yaml(TEXT).unwrap();
    let posted = posted(&file);
    assert_eq!((&posted.app, &posted.token), (&file.app, &file.token));
    for config in [&file, &posted, &restarted(&posted)] {
        let kept = config.to_kept_json();
        let text = kept.to_string();
        assert!(!text.contains("s3cret") && !text.contains("hunter2") && !text.contains("AKIA"), "{text}");
        let document = &kept["configuration"];
        assert_eq!(document["app"]["command"], json!(["./a", "--key=${TOKEN}", "$${PLAIN}"]));
        assert_eq!(document["app"]["before"], json!(["./b ${TOKEN}"]));
        assert_eq!(
            (&document["token"], &document["checkpoints"]["keep"]),
            (&json!("${TOKEN}"), &json!("${COUNT}"))
        );
        assert_eq!(
            document["app"]["env"],
            json!({"KEY": "${TOKEN}", "MIXED": "${MIXED}", "LITERAL": "${LITERAL}"})
        );
        assert!(document.get("written_as").is_none(), "{text}");
        let left_out = kept["left_out"].to_string();
        for name in ["app.env.MIXED", "app.env.LITERAL", "storage.access_key_id", "storage.secret_access_key"]
        {
            assert!(left_out.contains(name), "{left_out}");
        }
        assert!(!left_out.contains("token"), "it is kept as it was written: {left_out}");
        assert_eq!(config.variables_of_store_secrets(), ["TOKEN"]);
    }
}

#[test]
fn what_a_store_kept_is_the_same_configuration_where_the_variables_are_set() {
    let file = from_yaml(TEXT).unwrap();
    let kept = posted(&file).to_kept_json().to_string();
    let text = Config::from_kept_json(kept.as_bytes(), "s3://other/q").unwrap();
    let variables = |name: &str| match name {
        "MIXED" => Some("xs3cret".to_owned()),
        "LITERAL" => Some("hunter2".to_owned()),
        name => environment(name),
    };
    let document = document::from_json(text.as_bytes()).unwrap();
    let again = Config::assemble(document, &variables, &Overrides::default()).unwrap();
    assert_eq!((again.app, again.token), (file.app, file.token));
    assert_eq!(again.storage.url, Some(StoreUrl::parse("s3://other/q").unwrap()));
}

#[test]
fn what_was_posted_is_shown_as_it_was_written_too() {
    let config = posted(&from_yaml(TEXT).unwrap());
    let shown = config.redacted_json();
    assert!(!shown.to_string().contains("s3cret"), "{shown}");
    assert_eq!(shown["app"]["command"][1], "--key=${TOKEN}");
    assert_eq!(shown["app"]["env"]["KEY"], "${TOKEN}");
    assert_eq!(config.before_as_written(0), Some(vec!["./b ${TOKEN}".to_owned()]));
    assert_eq!(config.before_as_written(1), None);
    let sly = br#"{"name": "n", "token": "hunter2", "written_as": {"token": "hunter2${X}"}}"#;
    let sly = Config::from_json(sly).unwrap();
    for shown in [sly.redacted_json(), sly.to_kept_json()] {
        assert!(!shown.to_string().contains("hunter2"), "{shown}");
    }
}

#[test]
fn a_flag_that_takes_the_place_of_a_value_takes_that_of_its_text() {
    let saved = posted(&from_yaml(TEXT).unwrap()).to_saved_json();
    let flags = Overrides { command: vec!["./other".to_owned()], ..Overrides::default() };
    let config = Config::assemble(document::from_json(saved.as_bytes()).unwrap(), &|_| None, &flags).unwrap();
    assert_eq!(config.to_kept_json()["configuration"]["app"]["command"], json!(["./other"]));
    assert_eq!(config.to_kept_json()["configuration"]["app"]["before"], json!(["./b ${TOKEN}"]));
}
