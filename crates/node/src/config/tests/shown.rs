//! What is shown of a configuration, and what is not.

use super::*;

#[test]
fn a_literal_secret_is_saved_but_never_shown() {
    let config = Config::from_json(br#"{"name": "n", "token": "hunter2"}"#).unwrap();
    assert!(config.to_saved_json().contains("hunter2"));
    assert_eq!(config.redacted_json()["token"], "***");
    for shown in [config.redacted_json().to_string(), serde_json::to_string(&config).unwrap()] {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn the_secrets_of_a_store_are_saved_as_written_and_never_shown() {
    let text = "{name: n, storage: {url: 's3://bucket/p', access_key_id: AKIA, secret_access_key: '${TOKEN}', \
                session_token: hunter2}}";
    let config = from_yaml(text).unwrap();
    let storage = &config.redacted_json()["storage"];
    assert_eq!((&storage["secret_access_key"], &storage["session_token"]), (&json!("***"), &json!("***")));
    assert_eq!(storage["access_key_id"], "AKIA");
    let saved = config.to_saved_json();
    assert!(saved.contains("${TOKEN}") && saved.contains("hunter2") && !saved.contains("s3cret"), "{saved}");
    let posted = config.to_posted_json();
    assert_eq!(posted["storage"]["secret_access_key"], "s3cret");
    assert_eq!(Config::from_json(posted.to_string().as_bytes()).unwrap().storage, config.storage);
    for shown in [format!("{config:?}"), serde_json::to_string(&config).unwrap()] {
        assert!(!shown.contains("hunter2") && !shown.contains("s3cret"), "{shown}");
    }
    assert_eq!(config.variables_of_store_secrets(), ["TOKEN"]);
}

#[test]
fn debug_output_holds_no_secret() {
    let config = Config::from_json(br#"{"name": "n", "token": "hunter2"}"#).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn of_the_apps_variables_only_the_names_of_others_show() {
    let config = from_yaml("{name: n, app: {command: a, env: {KEY: \"${TOKEN}\", PLAIN: x}}}").unwrap();
    let shown = config.redacted_json();
    assert_eq!(&shown["app"]["env"], &json!({"KEY": "${TOKEN}", "PLAIN": HIDDEN}));
    for mixed in
        ["postgres://u:hunter2@${TOKEN}/x", "${TOKEN:-hunter2}", "${TOKEN}${TOKEN}hunter2", "$${TOKEN}"]
    {
        let config =
            from_yaml(&format!("{{name: n, app: {{command: a, env: {{URL: \"{mixed}\"}}}}}}")).unwrap();
        assert_eq!(config.redacted_json()["app"]["env"]["URL"], HIDDEN, "{mixed}");
    }
}

#[test]
fn what_else_of_the_app_is_made_of_variables_is_shown_as_it_was_written() {
    let text = "{name: n, app: {command: \"./a --key ${TOKEN}\", before: [[./b, \"${TOKEN}\"]], exit: true,
                 ready: {http: \"http://127.0.0.1:1/?key=${TOKEN}\"}, env: {A: \"$${x}\"}}}";
    let app = from_yaml(text).unwrap().redacted_json()["app"].clone();
    assert_eq!(app["command"], "./a --key ${TOKEN}");
    assert_eq!((&app["before"], &app["exit"]), (&json!([["./b", "${TOKEN}"]]), &json!(true)));
    assert_eq!(app["ready"]["http"], "http://127.0.0.1:1/?key=${TOKEN}");

    let flags = Overrides { command: vec!["./c".to_owned()], ..Overrides::default() };
    let (config, _) = from_yaml(text).unwrap().under(&flags);
    assert_eq!(config.redacted_json()["app"]["command"], json!(["./c"]));
    let posted = Config::from_json(br#"{"name": "n", "app": {"command": ["./a", "${TOKEN}"]}}"#).unwrap();
    assert_eq!(
        posted.redacted_json()["app"]["command"],
        json!(["./a", "${TOKEN}"]),
        "it is no variable there"
    );
}

#[test]
fn what_is_shown_is_a_valid_configuration_again_once_its_secrets_are_given() {
    let config = from_yaml(&Config::example().replace("${STEAD_TOKEN:-}", "")).unwrap();
    let mut shown = config.redacted_json();
    for value in shown["app"]["env"].as_object_mut().unwrap().values_mut().filter(|value| **value == HIDDEN) {
        *value = json!("given again");
    }
    let again = Config::from_json(shown.to_string().as_bytes()).unwrap();
    assert_eq!(again.redacted_json(), config.redacted_json());
}

#[test]
fn without_an_app_none_is_shown() {
    assert_eq!(from_yaml("{name: n}").unwrap().redacted_json().get("app"), None);
}
