//! What a node costs while nothing happens, and while somebody asks for its status all the time.

use crate::node::Node;
use crate::{Plan, ms};
use base::proc::{TcpSocket, tcp_sockets};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Requests a second.
const RATE: u32 = 500;
/// How long they are sent.
const ASKED: Duration = Duration::from_secs(20);
/// How long an idle node is watched.
const WATCHED: Duration = Duration::from_secs(120);

/// Processor time and memory of a supervisor and its node.
pub fn cost(plan: &Plan) {
    let (node, _conn) = Node::at_rest();
    let pids = node.pids();
    let watched = if plan.is_small() { WATCHED / 10 } else { WATCHED };
    let before: Vec<Duration> = pids.iter().map(|pid| used(*pid)).collect();
    std::thread::sleep(watched);
    for ((name, pid), before) in ["supervisor", "node"].into_iter().zip(&pids).zip(before) {
        println!(
            "{name}: {:.3} % of a core while idle (bound 0.1), private memory {} KiB{}",
            share(used(*pid) - before, watched),
            private_kib(*pid),
            if name == "supervisor" { " (bound 2048)" } else { "" },
        );
    }
    let address = address(&node);
    let pid = pids[1];
    let kept = TcpStream::connect(&address).unwrap();
    ask(pid, "GET / on one connection", || get(&kept, "keep-alive"));
    ask(pid, "GET / on a connection each", || get(&TcpStream::connect(&address).unwrap(), "close"));
}

fn ask(pid: u32, what: &str, mut request: impl FnMut() -> usize) {
    let (before, began) = (used(pid), Instant::now());
    let (mut sent, mut bytes) = (0, 0);
    while began.elapsed() < ASKED {
        bytes = request();
        sent += 1;
        std::thread::sleep((Duration::from_secs(1) * sent / RATE).saturating_sub(began.elapsed()));
    }
    let took = began.elapsed();
    println!(
        "{what}: {:.1} % of a core for {:.0} requests/s of {bytes} bytes (bound 5 at 500/s)",
        share(used(pid) - before, took),
        f64::from(sent) / took.as_secs_f64(),
    );
}

/// One request; the length of its body.
fn get(stream: &TcpStream, connection: &str) -> usize {
    let mut stream = stream;
    // In one write: several would wait for each other's acknowledgement.
    let head = format!("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    reader.read_line(&mut line).unwrap();
    assert!(line.starts_with("HTTP/1.1 200"), "{line}");
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line).unwrap();
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    length
}

/// Where a node listens that was told to choose a port: the kernel knows.
fn address(node: &Node) -> String {
    let pid = node.pids()[1];
    let inodes: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .flatten()
        .filter_map(|fd| std::fs::read_link(fd.path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let listens = |socket: &TcpSocket| {
        socket.state == TcpSocket::LISTENING && inodes.contains(&socket.inode.to_string())
    };
    tcp_sockets(&table).find(listens).unwrap().own.to_string()
}

/// Percent of a core.
pub fn share(used: Duration, of: Duration) -> f64 {
    ms(used) / ms(of) * 100.0
}

/// Processor time of a process, that of its ended threads too.
pub fn used(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks = |index: usize| fields[index].parse::<u64>().unwrap();
    Duration::from_millis((ticks(11) + ticks(12)) * 1000 / rustix::param::clock_ticks_per_second())
}

/// Memory that nobody else has.
fn private_kib(pid: u32) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let private = rollup.lines().filter(|line| line.starts_with("Private_"));
    private.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum()
}
