//! The line of every problem, wherever it comes from.

use super::*;

#[test]
fn every_problem_of_a_yaml_file_has_its_line() {
    let found = problems(
        "# a comment\n\nnmae: notes\nlisten: ${NOPE}\nstorage:\n  sync_interval: soon\ndatabases:\n  - path: /a\n  \
         - {}\n  - dir: data\n    pattern: |\n      [a\nstorage:\n  url: x\napp:\n  env: {A=B: x, C: 5}\n  \
         directory: \"a\"\n  directory: \"b\"\n",
    );
    let expected = [
        "3:1 nmae",
        "3:1 name",
        "4:1 listen",
        "6:3 storage.sync_interval",
        "8:5 databases[0].path",
        "9:5 databases[1].path",
        "11:5 databases[2].pattern",
        "13:1 storage",
        "15:1 app.command",
        "16:17 app.env.C",
        "18:3 app.directory",
    ];
    assert_eq!(places_of(&found), expected, "{found:#?}");
    assert_eq!(found[7].message, "the key `storage` appears twice");
    assert_eq!(found[7].hint, "line 5 has it already: leave one of them out");
    assert_eq!(found[4].in_file("s.yaml"), "s.yaml:8: databases[0].path: `/a` is not a path inside the home");
}

#[test]
fn every_problem_of_a_json_document_has_its_line() {
    let body = "{\n  \"nmae\": \"n\", \"\u{fc}\": 1,\n  \"app\": {\"exit\": 1,\n    \"env\": [1]},\n  \"databases\": \
                [{\"path\": \"a\"},\n    {\"path\": 2}],\n  \"app\": {}\n}";
    let found = Config::from_json(body.as_bytes()).unwrap_err().0;
    let expected = [
        "2:3 nmae",
        "2:16 \u{fc}",
        "2:3 name",
        "3:3 app.command",
        "3:11 app.exit",
        "4:5 app.env",
        "6:6 databases[1].path",
        "7:3 app",
    ];
    let mut places = places_of(&found);
    places.sort();
    let mut expected = expected.map(str::to_owned).to_vec();
    expected.sort();
    assert_eq!(places, expected, "{found:#?}");
    assert!(found.is_sorted_by_key(|problem| problem.line));
}

#[test]
fn aliases_and_merged_keys_stand_where_they_are_used() {
    let found =
        problems("x: &x {keep: nothing}\nname: n\nretention: *x\ncheckpoints:\n  <<: *x\n  every: 1h\n");
    assert_eq!(places_of(&found), ["1:1 x", "3:12 retention.keep", "5:7 checkpoints.keep"], "{found:#?}");
}

#[test]
fn documents_that_cannot_be_read_have_the_line_too() {
    for (text, place) in [("name: n\napp: [a\nb: c", "3:2 "), ("name: n\n\nlisten: *x", "3:9 "), ("", "1:1 ")]
    {
        let found = problems(text);
        assert_eq!(places_of(&found), [place], "{found:?}");
        assert!(!found[0].message.contains("line"), "{found:?}");
    }
    let json = Config::from_json(b"{\"name\":\n \"n\",\n}").unwrap_err().0;
    assert_eq!(places_of(&json), ["3:1 "], "{json:?}");
    let bytes = document::from_file(b"name: n\napp: \xff", false).unwrap_err().0;
    assert_eq!(places_of(&bytes), ["2:1 "], "{bytes:?}");
}

#[test]
fn what_a_flag_says_stands_in_no_line() {
    let document = document::from_file(b"name: n\nstorage: {url: 'file:///a'}\n", false).unwrap();
    let flags = Overrides { store: Some("s3://x".to_owned()), ..Overrides::default() };
    let found = Config::assemble(document, &environment, &flags).unwrap_err().0;
    assert_eq!(places_of(&found), ["-:- storage.url"]);
}
