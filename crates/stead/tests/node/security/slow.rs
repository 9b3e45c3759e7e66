//! Clients that hold on to what they have: whatever they do, the node answers others, and what they held is free again.

use super::{TOKEN, visible_home};
use crate::support::{DEADLINE, Home, Node, until};
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Longer than the node waits for a head or a body.
const LIMIT: Duration = Duration::from_secs(90);

fn connect(home: &Home, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(home.socket_address()).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(bytes).unwrap();
    stream
}

/// A request's head up to its last empty line; `H` stands for the node's address.
fn head(home: &Home, text: &str) -> Vec<u8> {
    text.replace("H\r\n", &format!("{}\r\n", home.address())).into_bytes()
}

/// Everything that comes until the node closes.
fn answer(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset after the answer is as good as its end.
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn descriptors(node: &Node<'_>) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", node.node_pid())).unwrap().count()
}

/// The node answers, and after its clients have gone it holds no more than before.
fn well_and_back_to(node: &Node<'_>, before: usize) {
    assert_eq!(node.get("/api/health/live").status, 200);
    until("the descriptors are closed", || (descriptors(node) <= before).then_some(()));
}

/// What a client does, and how the answer begins; an empty one is a connection that is closed without a word.
#[test]
fn what_is_no_proper_request_is_answered_or_refused_cleanly() {
    let home = Home::new();
    let node = Node::configured(&home, &json!({ "name": "mine" }));
    node.get("/");
    let before = descriptors(&node);
    let long = "x".repeat(300 << 10);
    let many: String = (0..200).map(|n| format!("X-{n}: y\r\n")).collect();
    let chunks = "2000\r\n".to_owned() + &" ".repeat(0x2000) + "\r\n";
    for (what, request, begins) in [
        ("pipelined", "GET /status HTTP/1.1\r\nHost: H\r\n\r\n".repeat(20) + "GET / HTTP/1.1\r\nHost: H\r\nConnection: close\r\n\r\n", "HTTP/1.1 200"),
        ("huge header", format!("GET / HTTP/1.1\r\nHost: H\r\nX: {long}\r\n\r\n"), "HTTP/1.1 431"),
        ("many headers", format!("GET / HTTP/1.1\r\nHost: H\r\n{many}\r\n"), "HTTP/1.1 431"),
        ("long address", format!("GET /{long}{long} HTTP/1.1\r\nHost: H\r\n\r\n"), "HTTP/1.1 4"),
        ("no method", "\u{1}\u{2} / HTTP/1.1\r\nHost: H\r\n\r\n".into(), "HTTP/1.1 400"),
        ("a space in a name", "GET / HTTP/1.1\r\nHost : H\r\n\r\n".into(), "HTTP/1.1 400"),
        ("two lengths", "POST /promote HTTP/1.1\r\nHost: H\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}".into(), "HTTP/1.1 400"),
        ("chunks without end", "POST /config HTTP/1.1\r\nHost: H\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned() + &chunks.repeat(200), "HTTP/1.1 4"),
        ("Expect", "POST /promote HTTP/1.1\r\nHost: H\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}".into(), "HTTP/1.1 "),
        ("HTTP/1.0", "GET /status HTTP/1.0\r\n\r\n".into(), "HTTP/1.0 200"),
        ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), ""),
        ("HTTP/3", "GET / HTTP/3.0\r\nHost: H\r\n\r\n".into(), ""),
    ] {
        let got = until(what, || {
            let mut stream = TcpStream::connect(home.socket_address()).unwrap();
            stream.set_read_timeout(Some(LIMIT)).unwrap();
            // A node that refuses before it has read all closes while this still writes.
            let _ = stream.write_all(&head(&home, &request));
            let text = answer(stream);
            // The reset that follows such a refusal may overtake the answer.
            (!text.is_empty() || begins.is_empty() || what.contains("chunks") || what.contains("long")).then_some(text)
        });
        let fits = got.starts_with(begins) || (got.is_empty() && matches!(what, "chunks without end" | "long address"));
        assert!(fits, "{what}: {}", &got[..got.len().min(300)]);
        if what == "pipelined" {
            assert_eq!(got.matches("HTTP/1.1 200").count(), 21);
        }
    }
    assert_eq!(node.status()["state"], "primary");
    well_and_back_to(&node, before);
}

#[test]
fn more_connections_than_there_are_places_keep_nobody_out() {
    let home = Home::new();
    let node = Node::configured(&home, &json!({ "name": "mine" }));
    node.get("/");
    let before = descriptors(&node);
    // Nothing, half a head, and a connection that was used once and is kept.
    let kept = "GET /api/health/live HTTP/1.1\r\nHost: H\r\n\r\n";
    let kinds = ["", "POST /config HTTP/1.1\r\nHost: x\r\nContent-Le", kept];
    let held: Vec<TcpStream> =
        (0..600).map(|n| connect(&home, &head(&home, kinds[n % kinds.len()]))).collect();
    let asked = Instant::now();
    for _ in 0..10 {
        assert_eq!(node.get("/api/health/live").status, 200);
    }
    assert!(asked.elapsed() < DEADLINE, "they had to wait for a limit to pass");
    assert!(home.stead(&["status"]).status.success(), "the socket answers as well");
    assert!(descriptors(&node) < before + 300, "{}", descriptors(&node));
    drop(held);
    well_and_back_to(&node, before);
}

#[test]
fn a_head_or_a_body_that_does_not_come_is_not_waited_for() {
    let home = visible_home();
    let node = Node::configured(&home, &json!({ "name": "mine", "token": TOKEN }));
    node.get("/");
    let before = descriptors(&node);
    let half = connect(&home, b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow");
    let silent = connect(&home, b"");
    let body = format!(
        "POST /config HTTP/1.1\r\nHost: H\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 100\r\n\r\n{{"
    );
    let body = connect(&home, &head(&home, &body));
    let ended = [half, silent, body].map(|stream| std::thread::spawn(move || answer(stream)));
    let [half, silent, body] = ended.map(|thread| thread.join().unwrap());
    assert_eq!((half.as_str(), silent.as_str()), ("", ""), "closed without a word");
    assert!(body.starts_with("HTTP/1.1 408"), "{body}");
    assert!(body.contains("body_too_slow"), "{body}");
    well_and_back_to(&node, before);
}

#[test]
fn answers_that_are_not_read_hold_nothing_once_their_clients_are_gone() {
    let home = Home::new();
    let node = Node::configured(&home, &json!({ "name": "mine", "storage": { "sync_interval": "20ms" } }));
    let db = home.db("data/database.sqlite");
    for _ in 0..40 {
        db.try_blob(1 << 20).unwrap();
    }
    drop(db);
    node.until_sealed("data/database.sqlite");
    node.get("/");
    let before = descriptors(&node);
    let image = "GET /databases/data/database.sqlite?view=image HTTP/1.1\r\nHost: H\r\n\r\n";
    let events = "GET /events HTTP/1.1\r\nHost: H\r\n\r\n";
    let mut held: Vec<TcpStream> = Vec::new();
    // As many of both as there may be.
    for request in [image; 4].into_iter().chain([events; 16]) {
        let mut stream = connect(&home, &head(&home, request));
        let mut first = [0; 12];
        stream.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        held.push(stream);
    }
    node.get("/events").refused(503, "too_many_readers");
    node.get("/databases/data/database.sqlite?view=image").refused(503, "too_many_images");
    assert_eq!(node.status()["state"], "primary");
    node.checkpoint("beside-slow-readers");
    assert_eq!(
        home.list("tmp").iter().filter(|name| name.contains("export")).count(),
        0,
        "no image has a name"
    );
    drop(held);
    well_and_back_to(&node, before);
    assert_eq!(node.get("/databases/data/database.sqlite?view=image").status, 200);
}
