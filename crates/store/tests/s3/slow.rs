//! A line so slow that a large request takes longer than a server may be silent.

use super::support::Server;
use super::{create, key, open, whole, won};
use base::{Clock, SystemClock};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};
use store::{Objects, S3Options};

const PIECE_BYTES: usize = 64 << 10;

/// The way of one connection: at most so many bytes a second.
fn relay(mut from: TcpStream, mut to: TcpStream, bytes_per_second: usize) {
    let mut piece = vec![0; PIECE_BYTES];
    while let Ok(bytes @ 1..) = from.read(&mut piece) {
        SystemClock.sleep(Duration::from_secs(1) * bytes as u32 / bytes_per_second as u32);
        if to.write_all(&piece[..bytes]).is_err() {
            return;
        }
    }
}

/// Another address of a server, at the end of a slow line; each connection has its own.
fn slow_line(to: SocketAddr, (there, back): (usize, usize)) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((client, _)) = listener.accept() {
            let server = TcpStream::connect(to).unwrap();
            let (answers, asker) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || relay(client, server, there));
            std::thread::spawn(move || relay(answers, asker, back));
        }
    });
    address
}

/// What goes on arrives, however long it takes: a slow line is no silent server.
#[test]
fn a_slow_line_is_no_silent_server() {
    const LIMIT: Duration = Duration::from_secs(4);
    let server: Server = super::trouble::server();
    let slow = 1 << 20;
    let line = slow_line(server.address(), (slow, slow));
    let options = S3Options { request_timeout: LIMIT, ..server.options() };
    let store = open(&S3Options { endpoint: Some(format!("http://{line}")), ..options }, "notes", "p");
    let large: Vec<u8> = (0..12_u32 << 20).map(|at| (at / 7) as u8).collect();
    let began = Instant::now();
    won(create(&store, "large", &large));
    assert!(began.elapsed() > LIMIT * 2 - LIMIT / 2, "it was no slow line: {:?}", began.elapsed());
    let began = Instant::now();
    let piece = store.read(&key("large"), 0, 8 << 20).unwrap().unwrap();
    assert!(began.elapsed() > LIMIT, "{:?}", began.elapsed());
    assert!(piece.bytes == large[..8 << 20]);
    assert!(whole(&open(&server.options(), "notes", "p"), "large").unwrap() == large);
}
