//! Asking an app over the network whether it is ready: one connection, one request, within a limit.
//!
//! A question waits for the network, so it has a thread of its own; an answer is text for people. Only the status line
//! of an HTTP answer is read.

use crate::readiness::Question;
use base::{Clock, SystemClock};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

/// How long one question may take.
pub const PROBE_LIMIT: Duration = Duration::from_secs(5);
/// The longest status line.
const STATUS_LINE_BYTES_MAX: usize = 1024;

/// Asks; what is wrong with the answer where it is no good one. Questions that are not for the network are refused.
pub fn ask(question: &Question) -> Result<(), String> {
    let until = SystemClock.boottime() + PROBE_LIMIT;
    match question {
        Question::Tcp { address } => connect(address, until).map(drop).map_err(shown),
        Question::Http { address, path } => {
            let line = connect(address, until)
                .and_then(|stream| status_line(stream, address, path, until))
                .map_err(shown)?;
            judge(&line)
        }
        Question::Command { .. } | Question::Notify => Err("this is not asked over the network".into()),
    }
}

fn left(until: Duration) -> io::Result<Duration> {
    let left = until.saturating_sub(SystemClock.boottime());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// Every address of the name is tried.
fn connect(address: &str, until: Duration) -> io::Result<TcpStream> {
    let mut error = io::Error::new(io::ErrorKind::NotFound, "this name has no address");
    for target in address.to_socket_addrs()? {
        let target: SocketAddr = target;
        match TcpStream::connect_timeout(&target, left(until)?) {
            Ok(stream) => return Ok(stream),
            Err(failed) => error = failed,
        }
    }
    Err(error)
}

fn status_line(mut stream: TcpStream, host: &str, path: &str, until: Duration) -> io::Result<String> {
    stream.set_write_timeout(Some(left(until)?))?;
    let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: stead\r\nAccept: */*\r\n");
    stream.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes())?;
    let mut line = Vec::new();
    let mut buffer = [0; 256];
    while !line.contains(&b'\n') && line.len() < STATUS_LINE_BYTES_MAX {
        stream.set_read_timeout(Some(left(until)?))?;
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => line.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(String::from_utf8_lossy(line).trim_end().to_owned())
}

/// A status of 200 to 399 is good.
fn judge(line: &str) -> Result<(), String> {
    let mut words = line.splitn(3, ' ');
    let is_http = words.next().is_some_and(|word| word.starts_with("HTTP/"));
    let code = words.next().and_then(|word| word.parse::<u16>().ok()).filter(|_| is_http);
    match code {
        Some(200..=399) => Ok(()),
        Some(code) => {
            Err(format!("answered {code} {}", words.next().unwrap_or_default()).trim_end().to_owned())
        }
        None if line.is_empty() => Err("closed the connection without an answer".into()),
        None => Err("answered, and not in HTTP".into()),
    }
}

fn shown(error: io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
            format!("no answer within {} s", PROBE_LIMIT.as_secs())
        }
        io::ErrorKind::ConnectionRefused => "connection refused".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// Answers one connection with these bytes.
    fn answering(bytes: &'static str) -> (String, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut buffer = [0; 1024];
            while !request.ends_with(b"\r\n\r\n") {
                let count = stream.read(&mut buffer).unwrap();
                request.extend_from_slice(&buffer[..count]);
            }
            stream.write_all(bytes.as_bytes()).unwrap();
            String::from_utf8(request).unwrap()
        });
        (address, server)
    }

    #[test]
    fn the_status_line_decides() {
        for (bytes, answer) in [
            ("HTTP/1.1 200 OK\r\n\r\n", Ok(())),
            ("HTTP/1.0 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n", Ok(())),
            ("HTTP/1.1 204\r\n\r\n", Ok(())),
            ("HTTP/1.1 503 Service Unavailable\r\n\r\n", Err("answered 503 Service Unavailable")),
            ("HTTP/1.1 404\r\n\r\n", Err("answered 404")),
            ("HTTP/1.1 199 odd\r\n\r\n", Err("answered 199 odd")),
            ("SSH-2.0-x\r\n", Err("answered, and not in HTTP")),
            ("", Err("closed the connection without an answer")),
        ] {
            let (address, server) = answering(bytes);
            let question = Question::Http { address: address.clone(), path: "/health?a=1".into() };
            assert_eq!(ask(&question), answer.map_err(str::to_owned), "{bytes}");
            let request = server.join().unwrap();
            assert!(request.starts_with("GET /health?a=1 HTTP/1.1\r\n"), "{request}");
            assert!(request.contains(&format!("\r\nHost: {address}\r\n")), "{request}");
        }
    }

    #[test]
    fn a_connection_is_enough_where_nothing_more_is_asked() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        assert_eq!(ask(&Question::Tcp { address: address.clone() }), Ok(()));
        drop(listener);
        assert_eq!(ask(&Question::Tcp { address }), Err("connection refused".into()));
    }
}
