//! The stream of events, as a client of `GET /events` reads it.

use super::DEADLINE;
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};

/// An open stream.
pub struct Events {
    lines: BufReader<TcpStream>,
    /// What came so far, for the message of a test that waits in vain.
    seen: Vec<String>,
}

impl Events {
    /// Asks for the stream; it is open when this returns.
    pub fn open(address: SocketAddr) -> Events {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        write!(stream, "GET /events HTTP/1.1\r\nHost: {address}\r\nAccept: text/event-stream\r\n\r\n")
            .unwrap();
        let mut events = Events { lines: BufReader::new(stream), seen: Vec::new() };
        let head: Vec<String> =
            std::iter::from_fn(|| Some(events.line()).filter(|line| !line.is_empty())).collect();
        assert!(head[0].contains(" 200 "), "{head:?}");
        let is_stream = |line: &String| line.to_lowercase() == "content-type: text/event-stream";
        assert!(head.iter().any(is_stream), "{head:?}");
        events
    }

    /// Reads on; whether the stream has come to its end.
    pub fn ended(&mut self) -> bool {
        matches!(self.lines.read_line(&mut String::new()), Ok(0) | Err(_))
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        let read = self.lines.read_line(&mut line);
        assert!(matches!(read, Ok(1..)), "{read:?} after {:#?}", self.seen);
        line.trim_end().to_owned()
    }

    /// The next event: its name, and its data with the time taken for granted.
    pub fn next(&mut self) -> (String, Value) {
        let (mut name, mut data) = (String::new(), Value::Null);
        // Chunk sizes and comments stand between the lines that count; an empty line ends an event.
        loop {
            let line = self.line();
            if let Some(text) = line.strip_prefix("event: ") {
                name = text.to_owned();
            } else if let Some(text) = line.strip_prefix("data: ") {
                data = serde_json::from_str(text).unwrap();
            } else if line.is_empty() && !name.is_empty() {
                self.seen.push(format!("{name}: {data}"));
                assert!(data["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{data:#}");
                return (name, data["data"].clone());
            }
        }
    }

    /// Reads on to an event of that name whose data is as wanted.
    pub fn until(&mut self, name: &str, is: impl Fn(&Value) -> bool) -> Value {
        loop {
            let (found, data) = self.next();
            if found == name && is(&data) {
                return data;
            }
        }
    }
}
