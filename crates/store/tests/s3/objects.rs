//! What every server must do, asked of each kind that there is.

use super::support::{Kind, Server};
use super::{MOMENT, create, key, listed, open, whole, won};
use std::sync::{Arc, Barrier};
use store::{About, Objects, Outcome, S3};

fn with_each_kind(story: fn(&Server)) {
    for kind in Kind::each() {
        let server = Server::start(*kind);
        server.make_bucket("notes");
        story(&server);
    }
}

fn store(server: &Server) -> S3 {
    open(&server.options(), "notes", "a prefix/ü%40@2")
}

#[test]
fn an_object_is_created_once_and_read_in_pieces() {
    with_each_kind(|server| {
        let store = store(server);
        let tag = won(create(&store, "data/x.ltx", b"0123456789"));
        assert_eq!(create(&store, "data/x.ltx", b"other"), Outcome::Lost);

        let piece = store.read(&key("data/x.ltx"), 2, 3).unwrap().unwrap();
        assert_eq!((piece.bytes.as_slice(), piece.len, &piece.tag), (&b"234"[..], 10, &tag));
        let end = store.read(&key("data/x.ltx"), 8, 100).unwrap().unwrap();
        assert_eq!((end.bytes.as_slice(), end.len), (&b"89"[..], 10));
        for from in [10, 11, 1 << 40] {
            let beyond = store.read(&key("data/x.ltx"), from, 100).unwrap().unwrap();
            assert_eq!((beyond.bytes.len(), beyond.len, &beyond.tag), (0, 10, &tag), "{from}");
        }
        let none = store.read(&key("data/x.ltx"), 0, 0).unwrap().unwrap();
        assert_eq!((none.bytes.len(), none.len), (0, 10));
        assert_eq!(store.read(&key("data/absent"), 0, 10).unwrap(), None);
    });
}

#[test]
fn an_empty_object_is_an_object() {
    with_each_kind(|server| {
        let store = store(server);
        let tag = won(create(&store, "empty", b""));
        let piece = store.read(&key("empty"), 0, 100).unwrap().unwrap();
        assert_eq!((piece.bytes.len(), piece.len, piece.tag), (0, 0, tag));
        assert_eq!(create(&store, "empty", b""), Outcome::Lost);
        let error = b"<Error><Code>InternalError</Code></Error>";
        won(create(&store, "like an error", error));
        assert_eq!(whole(&store, "like an error").unwrap(), error);
    });
}

#[test]
fn an_object_is_replaced_only_by_whoever_read_it() {
    with_each_kind(|server| {
        let store = store(server);
        let manifest = key("manifest");
        let first = won(create(&store, "manifest", b"one"));
        let second = won(store.replace(&manifest, b"two", &first).unwrap());
        assert_eq!(store.replace(&manifest, b"three", &first).unwrap(), Outcome::Lost);
        assert_eq!(whole(&store, "manifest").unwrap(), b"two");
        assert_eq!(store.read(&manifest, 0, 10).unwrap().unwrap().tag, second);
        store.remove(std::slice::from_ref(&manifest)).unwrap();
        assert_eq!(store.replace(&manifest, b"four", &second).unwrap(), Outcome::Lost);
        assert_eq!(whole(&store, "manifest"), None);
    });
}

#[test]
fn keys_are_used_byte_for_byte() {
    with_each_kind(|server| {
        let store = store(server);
        let names = [
            "a b/c",
            "app.db@2/0000/x.ltx",
            "plus+and&<>'\"",
            "tilde~",
            "umlaut ü/ß",
            "%40",
            "@",
            "100%/%zz",
            " x ",
        ];
        for name in names {
            won(create(&store, name, name.as_bytes()));
        }
        for name in names {
            assert_eq!(whole(&store, name).as_deref(), Some(name.as_bytes()), "{name}");
        }
        let mut expected: Vec<_> = names.iter().map(|name| ((*name).to_owned(), name.len() as u64)).collect();
        expected.sort();
        assert_eq!(listed(&store, None), expected);
        store.remove(&names.map(key)).unwrap();
        assert_eq!(listed(&store, None), []);
    });
}

#[test]
fn a_listing_goes_on_over_its_pages_and_stops_when_told() {
    with_each_kind(|server| {
        let store = store(server);
        std::thread::scope(|threads| {
            for worker in 0..8 {
                let store = &store;
                threads.spawn(move || {
                    for number in (worker..1050).step_by(8) {
                        won(create(store, &format!("many/{number:04}"), b"x"));
                    }
                });
            }
        });
        won(create(&store, "many-not/1", b"x"));
        let found = listed(&store, Some("many"));
        assert_eq!(found.len(), 1050);
        assert_eq!(found[1049].0, "many/1049");
        let mut seen = 0;
        store
            .list(None, &mut |_| {
                seen += 1;
                if seen == 3 { std::ops::ControlFlow::Break(()) } else { std::ops::ControlFlow::Continue(()) }
            })
            .unwrap();
        assert_eq!(seen, 3);

        let keys: Vec<_> = found.iter().map(|(name, _)| key(name)).collect();
        store.remove(&keys).unwrap();
        store.remove(&keys).unwrap();
        assert_eq!(listed(&store, None), [("many-not/1".to_owned(), 1)]);
    });
}

#[test]
fn a_large_object_goes_in_parts_and_is_created_once() {
    with_each_kind(|server| {
        let store = store(server);
        let bytes: Vec<u8> = (0..20_u32 << 20).map(|at| (at % 251) as u8).collect();
        let tag = won(create(&store, "large", &bytes));
        assert!(whole(&store, "large").unwrap() == bytes);
        assert_eq!(store.read(&key("large"), 5, 1).unwrap().unwrap().tag, tag);
        assert_eq!(create(&store, "large", &bytes), Outcome::Lost);

        let about = About { moment: MOMENT, bytes: 20 << 20 };
        let failed = store.create(&key("broken"), about, &mut |out| {
            out.write_all(&bytes)?;
            Err(std::io::Error::other("the source ended"))
        });
        let failed = failed.unwrap_err();
        assert_eq!((failed.kind, failed.reason.as_str()), (store::ErrorKind::Content, "the source ended"));
        assert_eq!(whole(&store, "broken"), None);
    });
}

#[test]
fn of_eight_who_create_one_wins() {
    with_each_kind(|server| {
        let store = Arc::new(store(server));
        for round in 0..20 {
            let won = race(|number| {
                let bytes = format!("{number}");
                matches!(create(&*store, &format!("race/{round}"), bytes.as_bytes()), Outcome::Won(_))
            });
            assert_eq!(won.len(), 1, "round {round}: {won:?}");
            assert_eq!(whole(&*store, &format!("race/{round}")).unwrap(), won[0].to_string().as_bytes());
        }
    });
}

#[test]
fn of_eight_who_replace_one_wins() {
    with_each_kind(|server| {
        let store = Arc::new(store(server));
        let mut tag = super::won(create(&*store, "manifest", b"first"));
        for round in 0..20 {
            let won = race(|number| {
                let bytes = format!("{round} {number}");
                let outcome = store.replace(&key("manifest"), bytes.as_bytes(), &tag).unwrap();
                matches!(outcome, Outcome::Won(_))
            });
            assert_eq!(won.len(), 1, "round {round}: {won:?}");
            let now = store.read(&key("manifest"), 0, 100).unwrap().unwrap();
            assert_eq!(now.bytes, format!("{round} {}", won[0]).as_bytes());
            tag = now.tag;
        }
    });
}

/// Runs eight threads from one start; the numbers of those that say they won.
fn race(contender: impl Fn(usize) -> bool + Sync) -> Vec<usize> {
    let start = Barrier::new(8);
    std::thread::scope(|threads| {
        let running: Vec<_> = (0..8)
            .map(|number| {
                let (start, contender) = (&start, &contender);
                threads.spawn(move || {
                    start.wait();
                    contender(number)
                })
            })
            .collect();
        let won: Vec<_> = running.into_iter().map(|thread| thread.join().unwrap()).collect();
        (0..8).filter(|number| won[*number]).collect()
    })
}
