//! One HTTP request on a connection of its own.

use serde_json::Value;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A node that says nothing for this long hangs.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// What a node answered.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

/// Asks, and reads the answer to its end.
pub fn request(address: SocketAddr, method: &str, path: &str, body: &str) -> io::Result<Answer> {
    // What `curl -d` sends: the node reads JSON whatever it is called.
    let kind = if body.is_empty() { "" } else { "Content-Type: application/x-www-form-urlencoded\r\n" };
    exchange(address, &format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nAccept: */*\r\n{kind}"), body)
}

/// Asks with headers of one's own, `Host` included.
pub fn request_with(address: &str, method: &str, path: &str, headers: &str) -> Answer {
    exchange(address.parse().unwrap(), &format!("{method} {path} HTTP/1.1\r\n{headers}"), "").unwrap()
}

fn exchange(address: SocketAddr, head: &str, body: &str) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    write!(stream, "{head}Connection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.ok_or_else(|| io::Error::other("the answer broke off in its head"))?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("no HTTP: {head}")))?;
    Ok(Answer { status, head, body: bytes[end + 4..].to_vec() })
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {}\n{text}", self.head))
    }

    /// The body of a 200.
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        self.json()
    }

    /// The error of an answer with this status and code.
    pub fn refused(&self, status: u16, code: &str) -> Value {
        let error = self.json()["error"].clone();
        assert_eq!((self.status, error["code"].as_str()), (status, Some(code)), "{error:#}");
        assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{error:#}");
        error
    }
}
