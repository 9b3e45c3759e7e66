//! A proxy on loopback before a server: it passes requests on, or does to them what a test says.
#![allow(dead_code, reason = "each test uses what it needs of it")]

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request on its way.
pub struct Request {
    /// Request line and headers, without the empty line.
    pub head: String,
    pub body: Vec<u8>,
}

impl Request {
    pub fn is(&self, method: &str) -> bool {
        self.head.starts_with(&format!("{method} "))
    }

    /// The rest of the request line.
    pub fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or("")
    }

    pub fn has(&self, header: &str) -> bool {
        let prefix = format!("{}:", header.to_ascii_lowercase());
        self.head.lines().any(|line| line.to_ascii_lowercase().starts_with(&prefix))
    }
}

/// What becomes of a request.
pub enum Act {
    Pass,
    /// The server does it, and the answer is lost.
    LoseAnswer,
    /// The server gets it twice, and the second answer counts.
    Twice,
    /// The server never sees it.
    LoseRequest,
    /// Answered here, with a status line and a body.
    Answer(&'static str, &'static str),
    /// The same with a body that was made for it.
    Tell(String),
    /// Answered here with yes, as by a server that looks at no condition.
    Yes,
    /// The server's answer comes so many bytes at a time, with a pause between.
    Slowly(usize, Duration),
    /// The first bytes of the server's answer, then nothing more while the proxy lives.
    Stall(usize),
}

type Rule = Box<dyn FnMut(&mut Request) -> Act + Send>;

/// A proxy that runs until it is dropped.
pub struct Proxy {
    address: SocketAddr,
    inner: Arc<Inner>,
}

struct Inner {
    server: SocketAddr,
    rule: Mutex<Rule>,
    requests: AtomicUsize,
    over: AtomicBool,
    stalled: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    pub fn before(server: SocketAddr) -> Proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Inner {
            server,
            rule: Mutex::new(Box::new(|_| Act::Pass)),
            requests: AtomicUsize::default(),
            over: AtomicBool::default(),
            stalled: Mutex::default(),
        });
        let shared = Arc::clone(&inner);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if shared.over.load(Ordering::SeqCst) {
                    break;
                }
                let shared = Arc::clone(&shared);
                // A connection that breaks is what tests are about.
                std::thread::spawn(move || client.and_then(|client| shared.serve(client)));
            }
        });
        Proxy { address, inner }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on, every request goes through this.
    pub fn rule(&self, rule: impl FnMut(&mut Request) -> Act + Send + 'static) {
        *self.inner.rule.lock().unwrap() = Box::new(rule);
    }

    /// The first request that this says something of has it done; all others pass.
    pub fn once(&self, mut rule: impl FnMut(&mut Request) -> Option<Act> + Send + 'static) {
        let mut done = false;
        self.rule(move |request| match rule(request).filter(|_| !done) {
            Some(act) => {
                done = true;
                act
            }
            None => Act::Pass,
        });
    }

    /// Requests that came.
    pub fn requests(&self) -> usize {
        self.inner.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.inner.over.store(true, Ordering::SeqCst);
        // Wakes the listener.
        let _ = TcpStream::connect(self.address);
    }
}

impl Inner {
    /// One request a connection.
    fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        let Some(mut request) = read_request(&mut client)? else { return Ok(()) };
        self.requests.fetch_add(1, Ordering::SeqCst);
        let act = (self.rule.lock().unwrap())(&mut request);
        match act {
            Act::LoseRequest => Ok(()),
            Act::Answer(status, body) => {
                let body = if request.is("HEAD") { "" } else { body };
                let head = format!(
                    "HTTP/1.1 {status}\r\ncontent-type: application/xml\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                client.write_all(head.as_bytes())?;
                client.write_all(body.as_bytes())
            }
            Act::Tell(body) => {
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                client.write_all(head.as_bytes())?;
                client.write_all(body.as_bytes())
            }
            Act::Yes => client.write_all(
                b"HTTP/1.1 200 OK\r\netag: \"0123456789abcdef0123456789abcdef\"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            ),
            Act::Pass => client.write_all(&self.ask(&request)?),
            Act::Twice => {
                self.ask(&request)?;
                client.write_all(&self.ask(&request)?)
            }
            Act::LoseAnswer => self.ask(&request).map(drop),
            Act::Slowly(bytes, pause) => {
                for some in self.ask(&request)?.chunks(bytes) {
                    client.write_all(some)?;
                    std::thread::sleep(pause);
                }
                Ok(())
            }
            Act::Stall(bytes) => {
                let answer = self.ask(&request)?;
                client.write_all(&answer[..bytes.min(answer.len())])?;
                self.stalled.lock().unwrap().push(client);
                Ok(())
            }
        }
    }

    fn ask(&self, request: &Request) -> io::Result<Vec<u8>> {
        let mut server = TcpStream::connect(self.server)?;
        server.write_all(request.head.as_bytes())?;
        server.write_all(b"\r\nconnection: close\r\n\r\n")?;
        server.write_all(&request.body)?;
        let mut answer = Vec::new();
        server.read_to_end(&mut answer)?;
        Ok(answer)
    }
}

fn read_request(client: &mut TcpStream) -> io::Result<Option<Request>> {
    let mut bytes = Vec::new();
    let mut some = [0; 64 << 10];
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        match client.read(&mut some)? {
            0 => return Ok(None),
            count => bytes.extend_from_slice(&some[..count]),
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
    let mut body = bytes.split_off(head_end + 4);
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let length = length.unwrap_or(0);
    while body.len() < length {
        match client.read(&mut some)? {
            0 => return Ok(None),
            count => body.extend_from_slice(&some[..count]),
        }
    }
    Ok(Some(Request { head, body }))
}

/// The part of Amazon's token service that knows web identities: it gives everyone a key until a moment.
pub fn token_service(key: (&str, &str), expiration: &str) -> String {
    format!(
        "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
         <AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>{}</AccessKeyId>\
         <SecretAccessKey>{}</SecretAccessKey><SessionToken></SessionToken><Expiration>{expiration}</Expiration>\
         </Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>",
        key.0, key.1
    )
}
