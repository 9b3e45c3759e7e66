//! Tables of the kernel under `/proc`: files without a length, and the lines of the one that lists TCP sockets.

use crate::{Disk, LocalDisk, Open};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// The tables of TCP sockets.
pub const TCP: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];

/// What is read of a table at first.
const FIRST_BYTES: usize = 64 << 10;

/// The text of a table, up to a limit.
pub fn text(path: &Path, bytes_max: usize) -> io::Result<String> {
    let file = LocalDisk.open(path, Open::Read)?;
    let mut bytes = vec![0; FIRST_BYTES.min(bytes_max)];
    let mut got = 0;
    loop {
        let more = file.read_at(&mut bytes[got..], got as u64)?;
        got += more;
        if more == 0 || got >= bytes_max {
            bytes.truncate(got);
            return Ok(String::from_utf8_lossy(&bytes).into_owned());
        }
        if got == bytes.len() {
            bytes.resize((bytes.len() * 2).min(bytes_max), 0);
        }
    }
}

/// A TCP socket, as proc_pid_net(5) has it. IPv4 written as IPv6 is IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpSocket {
    /// Its own end.
    pub own: SocketAddr,
    /// The other end.
    pub far: SocketAddr,
    /// Its state.
    pub state: u8,
    /// Its user; root where nobody has it any more.
    pub uid: u32,
    /// Its inode; 0 where nobody has it any more.
    pub inode: u64,
}

impl TcpSocket {
    /// Both ends are there.
    pub const ESTABLISHED: u8 = 0x01;
    /// It waits for connections.
    pub const LISTENING: u8 = 0x0a;
}

/// The sockets of such a table; what is not understood is left out.
pub fn tcp_sockets(table: &str) -> impl Iterator<Item = TcpSocket> {
    table.lines().skip(1).filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        Some(TcpSocket {
            own: address(words.next()?)?,
            far: address(words.next()?)?,
            state: u8::from_str_radix(words.next()?, 16).ok()?,
            uid: words.nth(3)?.parse().ok()?,
            inode: words.nth(1)?.parse().ok()?,
        })
    })
}

/// Words of the machine's byte order in hex, a colon, the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |index: usize| {
        let hex = address.get(index * 8..index * 8 + 8)?;
        u32::from_str_radix(hex, 16).ok().map(u32::to_ne_bytes)
    };
    let ip = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (index, part) in bytes.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(index)?);
            }
            IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn a_line_is_a_socket_and_ipv4_in_ipv6_is_ipv4() {
        let line = |own: &str, far: &str| {
            format!(
                "head\n   0: {own} {far} 0A 00000000:00000000 00:00000000 00000000  1000        0 55 1 0 20 4\n"
            )
        };
        let socket = TcpSocket {
            own: "127.0.0.1:40000".parse().unwrap(),
            far: "127.0.0.1:8080".parse().unwrap(),
            state: TcpSocket::LISTENING,
            uid: 1000,
            inode: 55,
        };
        for (own, far) in [
            ("0100007F:9C40", "0100007F:1F90"),
            ("0000000000000000FFFF00000100007F:9C40", "0000000000000000FFFF00000100007F:1F90"),
        ] {
            assert_eq!(tcp_sockets(&line(own, far)).collect::<Vec<_>>(), [socket]);
        }
        for garbage in ["", "head\ngarbage", &line("0100007F", "x"), &line("0100007:9C40", "0100007F:1F90")] {
            assert_eq!(tcp_sockets(garbage).count(), 0, "{garbage}");
        }
    }

    #[test]
    fn a_table_is_read_to_its_end_or_its_limit() {
        let all = text(Path::new("/proc/self/limits"), 1 << 20).unwrap();
        assert!(all.ends_with('\n') && all.contains("Max open files"), "{all}");
        assert_eq!(text(Path::new("/proc/self/limits"), 5).unwrap(), all[..5]);
    }
}
