//! What every store promises, as functions over [`Objects`].
//!
//! A new kind of store calls [`check_all`] with a function that makes an empty one for each check, such as a prefix of
//! the check's name in a bucket.

use base::Timestamp;
use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use store::{About, ErrorKind, Key, Listed, Objects, Outcome, Tag, create_from, read_whole};

/// Larger than one request or buffer of any store.
const LARGE_BYTES: usize = 20 << 20;

/// Writers that race.
const RACERS: u8 = 8;

type Check = fn(&Arc<dyn Objects>);

const CHECKS: [(&str, Check); 14] = [
    ("an-object-is-created-once", an_object_is_created_once),
    ("an-object-may-be-empty", an_object_may_be_empty),
    ("of-many-creators-one-wins", of_many_creators_one_wins),
    ("only-who-has-read-what-is-there-replaces-it", only_who_has_read_what_is_there_replaces_it),
    ("of-many-replacers-one-wins", of_many_replacers_one_wins),
    ("what-is-gone-is-not-replaced", what_is_gone_is_not_replaced),
    ("what-is-gone-is-created-again", what_is_gone_is_created_again),
    ("a-piece-says-how-long-the-whole-is", a_piece_says_how_long_the_whole_is),
    ("every-read-tells-the-same-version", every_read_tells_the_same_version),
    ("what-is-removed-is-gone", what_is_removed_is_gone),
    ("a-listing-shows-what-lies-below", a_listing_shows_what_lies_below),
    ("content-that-fails-leaves-nothing", content_that_fails_leaves_nothing),
    ("a-large-object-is-whole", a_large_object_is_whole),
    ("names-are-kept-as-they-are", names_are_kept_as_they_are),
];

/// Runs every check, each with an empty store.
pub fn check_all(make: &dyn Fn(&str) -> Arc<dyn Objects>) {
    for (name, check) in CHECKS {
        // Shown if it fails.
        println!("check: {name}");
        check(&make(name));
    }
}

fn key(text: &str) -> Key {
    Key::parse(text).unwrap()
}

fn create(store: &Arc<dyn Objects>, name: &str, bytes: &[u8]) -> Outcome {
    create_from(store.as_ref(), &key(name), Timestamp(1_767_225_600_123), bytes).unwrap()
}

fn won(outcome: Outcome) -> Tag {
    match outcome {
        Outcome::Won(tag) => tag,
        other => panic!("{other:?} instead of won"),
    }
}

fn whole(store: &Arc<dyn Objects>, name: &str) -> Option<(Vec<u8>, Tag)> {
    read_whole(store.as_ref(), &key(name), LARGE_BYTES).unwrap()
}

fn contents(store: &Arc<dyn Objects>, name: &str) -> Vec<u8> {
    whole(store, name).unwrap().0
}

/// Names and lengths; a store may show them in any order, but each once.
fn listed(store: &Arc<dyn Objects>, below: Option<&str>) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    let mut each = |one: Listed| {
        assert_eq!(found.insert(one.key.to_string(), one.len), None, "{} is shown twice", one.key);
        ControlFlow::Continue(())
    };
    store.list(below.map(key).as_ref(), &mut each).unwrap();
    found
}

fn names(store: &Arc<dyn Objects>, below: Option<&str>) -> Vec<String> {
    listed(store, below).into_keys().collect()
}

/// How many of the racers won; nobody may remain in doubt where nothing fails.
fn race(write: impl Fn(u8) -> Outcome + Sync) -> Vec<u8> {
    std::thread::scope(|scope| {
        let write = &write;
        let racers: Vec<_> = (0..RACERS).map(|n| (n, scope.spawn(move || write(n)))).collect();
        let outcomes = racers.into_iter().map(|(n, racer)| (n, racer.join().unwrap()));
        outcomes
            .filter_map(|(n, outcome)| match outcome {
                Outcome::Won(_) => Some(n),
                Outcome::Lost => None,
                Outcome::Unknown => panic!("racer {n} is in doubt"),
            })
            .collect()
    })
}

fn an_object_is_created_once(store: &Arc<dyn Objects>) {
    assert_eq!(whole(store, "a/b/one"), None);
    let tag = won(create(store, "a/b/one", b"first"));
    assert_eq!(create(store, "a/b/one", b"second"), Outcome::Lost);
    assert_eq!(create(store, "a/b/one", b"first"), Outcome::Lost, "equal bytes are no excuse");
    assert_eq!(whole(store, "a/b/one"), Some((b"first".to_vec(), tag)));
    store.settle(&key("a/b/one")).unwrap();
}

fn an_object_may_be_empty(store: &Arc<dyn Objects>) {
    let tag = won(create(store, "empty", b""));
    assert_eq!(create(store, "empty", b"x"), Outcome::Lost);
    assert_eq!(whole(store, "empty"), Some((Vec::new(), tag.clone())));
    let tag = won(store.replace(&key("empty"), b"full", &tag).unwrap());
    won(store.replace(&key("empty"), b"", &tag).unwrap());
    assert_eq!(listed(store, None), BTreeMap::from([("empty".to_owned(), 0)]));
}

fn of_many_creators_one_wins(store: &Arc<dyn Objects>) {
    for round in 0..4 {
        let name = format!("race/{round}");
        let winners = race(|n| create(store, &name, &[n; 1000]));
        assert_eq!(winners.len(), 1, "round {round}: {winners:?}");
        assert_eq!(contents(store, &name), [winners[0]; 1000], "round {round}");
    }
}

fn only_who_has_read_what_is_there_replaces_it(store: &Arc<dyn Objects>) {
    let first = won(create(store, "x", b"one"));
    assert_eq!(whole(store, "x").unwrap().1, first, "a reader has the same version as the writer");
    let second = won(store.replace(&key("x"), b"two", &first).unwrap());
    assert_ne!(first, second);
    assert_eq!(store.replace(&key("x"), b"three", &first).unwrap(), Outcome::Lost);
    assert_eq!(whole(store, "x"), Some((b"two".to_vec(), second.clone())));
    won(store.replace(&key("x"), b"a longer one", &second).unwrap());
    assert_eq!(contents(store, "x"), b"a longer one");
}

fn of_many_replacers_one_wins(store: &Arc<dyn Objects>) {
    let mut tag = won(create(store, "x", b"start"));
    for round in 0..4u8 {
        let winners = race(|n| store.replace(&key("x"), &[round, n], &tag).unwrap());
        assert_eq!(winners.len(), 1, "round {round}: {winners:?}");
        let found = whole(store, "x").unwrap();
        assert_eq!(found.0, [round, winners[0]], "round {round}");
        tag = found.1;
    }
}

fn what_is_gone_is_not_replaced(store: &Arc<dyn Objects>) {
    let tag = won(create(store, "x", b"one"));
    store.remove(&[key("x")]).unwrap();
    assert_eq!(store.replace(&key("x"), b"two", &tag).unwrap(), Outcome::Lost);
    assert_eq!(store.replace(&key("never/there"), b"two", &tag).unwrap(), Outcome::Lost);
    assert!(names(store, None).is_empty());
}

fn what_is_gone_is_created_again(store: &Arc<dyn Objects>) {
    won(create(store, "x", b"one"));
    store.remove(&[key("x")]).unwrap();
    assert_eq!(whole(store, "x"), None);
    won(create(store, "x", b"two"));
    assert_eq!(contents(store, "x"), b"two");
}

fn a_piece_says_how_long_the_whole_is(store: &Arc<dyn Objects>) {
    let tag = won(create(store, "x", b"0123456789"));
    for (from, max, bytes) in
        [(0, 3, "012"), (0, 10, "0123456789"), (0, 99, "0123456789"), (9, 1, "9"), (8, 5, "89"), (3, 0, "")]
    {
        let piece = store.read(&key("x"), from, max).unwrap().unwrap();
        assert_eq!((piece.bytes.as_slice(), piece.len), (bytes.as_bytes(), 10), "{max} from {from}");
        assert_eq!(piece.tag, tag, "{max} from {from}");
    }
    for beyond in [10, 11, 1 << 40] {
        let piece = store.read(&key("x"), beyond, 5).unwrap().unwrap();
        assert_eq!((piece.bytes.as_slice(), piece.len), (&b""[..], 10), "from {beyond}");
    }
    assert_eq!(store.read(&key("y"), 0, 5).unwrap(), None);
    assert_eq!(store.read(&key("y"), 99, 5).unwrap(), None);
    let too_large = read_whole(store.as_ref(), &key("x"), 9).unwrap_err();
    assert_eq!(too_large.kind, ErrorKind::TooLarge, "{too_large}");
}

fn every_read_tells_the_same_version(store: &Arc<dyn Objects>) {
    won(create(store, "x", b"0123456789"));
    let tags: Vec<_> = (0..5).map(|at| store.read(&key("x"), at, 2).unwrap().unwrap().tag).collect();
    assert!(tags.windows(2).all(|pair| pair[0] == pair[1]), "{tags:?}");
}

fn what_is_removed_is_gone(store: &Arc<dyn Objects>) {
    for name in ["a/1", "a/2", "b"] {
        won(create(store, name, b"x"));
    }
    store.remove(&[key("a/1"), key("never"), key("never/there"), key("b")]).unwrap();
    store.remove(&[key("a/1")]).unwrap();
    store.remove(&[]).unwrap();
    assert_eq!(names(store, None), ["a/2"]);
    assert_eq!(whole(store, "b"), None);
}

fn a_listing_shows_what_lies_below(store: &Arc<dyn Objects>) {
    assert!(names(store, None).is_empty());
    assert!(names(store, Some("a")).is_empty());
    for (name, len) in [("a/b/1", 1), ("a/b/c/2", 2), ("a/bc/3", 3), ("ab/4", 4), ("five", 5)] {
        won(create(store, name, &vec![7; len]));
    }
    let below: Vec<_> = listed(store, Some("a/b")).into_iter().collect();
    assert_eq!(below, [("a/b/1".to_owned(), 1), ("a/b/c/2".to_owned(), 2)], "whole parts count");
    assert_eq!(names(store, Some("a")), ["a/b/1", "a/b/c/2", "a/bc/3"]);
    assert_eq!(listed(store, None).values().sum::<u64>(), 15);
    assert!(names(store, Some("five")).is_empty(), "nothing is below an object");
    assert!(names(store, Some("a/b/c/2/3")).is_empty());
    let mut shown = 0;
    let mut each = |_: Listed| {
        shown += 1;
        ControlFlow::Break(())
    };
    store.list(None, &mut each).unwrap();
    assert_eq!(shown, 1, "told to stop");
}

fn content_that_fails_leaves_nothing(store: &Arc<dyn Objects>) {
    let about = About { moment: Timestamp(0), bytes: 4 };
    let failed = store.create(&key("x"), about, &mut |out| {
        out.write_all(b"half")?;
        Err(io::Error::other("the source is gone"))
    });
    let failed = failed.unwrap_err();
    assert_eq!(failed.kind, ErrorKind::Content, "{failed}");
    assert!(failed.to_string().contains("the source is gone"), "{failed}");
    assert!(names(store, None).is_empty());
    won(create(store, "x", b"whole"));
    assert_eq!(contents(store, "x"), b"whole");
}

fn a_large_object_is_whole(store: &Arc<dyn Objects>) {
    let bytes: Vec<u8> = (0..LARGE_BYTES as u64).map(|n| (n * 7 + n / 251) as u8).collect();
    // The length beforehand is a hint only.
    let about = About { moment: Timestamp(0), bytes: 1000 };
    let outcome = store.create(&key("large"), about, &mut |out| {
        bytes.chunks(100_000).try_for_each(|part| out.write_all(part))
    });
    won(outcome.unwrap());
    assert!(contents(store, "large") == bytes, "the large object is another");
    let (from, len) = (LARGE_BYTES - 12_345, 20_000);
    let end = store.read(&key("large"), from as u64, len).unwrap().unwrap();
    assert!(end.bytes == bytes[from..], "its end is another");
    assert_eq!(listed(store, None), BTreeMap::from([("large".to_owned(), LARGE_BYTES as u64)]));
    assert_eq!(create(store, "large", &bytes), Outcome::Lost);
}

fn names_are_kept_as_they_are(store: &Arc<dyn Objects>) {
    let strange = [
        ".stead/manifest",
        "data/app%40.db/0000/1.ltx",
        "data/app.db@2/0000/1.ltx",
        "data/with space/x",
        "data/plus+and&amp=?#/x",
        "data/über/ß",
        "data/u\u{308}ber/x",
        "data/%2e%2E/%/x",
        "data/a'b\"c/<x>",
        "data/UPPER/Upper",
        "data/$!()*,;:~/x",
    ];
    for (n, name) in (0u8..).zip(strange) {
        won(create(store, name, &[n]));
    }
    for (n, name) in (0u8..).zip(strange) {
        assert_eq!(contents(store, name), [n], "{name}");
        assert_eq!(create(store, name, b"again"), Outcome::Lost, "{name}");
    }
    let mut expected = strange.map(str::to_owned);
    expected.sort();
    assert_eq!(names(store, None), expected);
    assert_eq!(names(store, Some("data/with space")), ["data/with space/x"]);
    assert_eq!(names(store, Some("data/app%40.db")), ["data/app%40.db/0000/1.ltx"]);
    store.remove(&strange.map(key)).unwrap();
    assert!(names(store, None).is_empty());
}
