//! Who is at the other end of a connection.
//!
//! A local TCP peer's uid is found in the kernel's table of connections. Only a connection that is established and
//! still belongs to a process counts: one whose process has gone shows as root's.

use crate::limits::PEER_TABLE_BYTES_MAX;
use base::proc::{TcpSocket, tcp_sockets};
use std::net::SocketAddr;
use std::path::Path;

/// The other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Over TCP.
    Tcp {
        /// The client's address.
        peer: SocketAddr,
        /// The address it reached.
        local: SocketAddr,
    },
    /// Over the home's socket; the kernel says who.
    Unix {
        /// The user; `None` where the kernel does not say.
        uid: Option<u32>,
    },
}

/// Whether a uid may do what the node itself may: root, and the node's own user.
pub fn may_act_as_node(uid: Option<u32>) -> bool {
    uid.is_some_and(|uid| uid == 0 || uid == rustix::process::geteuid().as_raw())
}

/// The uid behind a TCP peer on this machine; `None` where it cannot be told.
pub fn uid_of(peer: SocketAddr, local: SocketAddr) -> Option<u32> {
    base::proc::TCP.iter().find_map(|table| {
        let text = base::proc::text(Path::new(table), PEER_TABLE_BYTES_MAX).ok()?;
        find(&text, peer, local)
    })
}

/// The uid of the line whose own end is the peer's and whose far end is ours.
fn find(table: &str, peer: SocketAddr, local: SocketAddr) -> Option<u32> {
    let (peer, local) = (canonical(peer), canonical(local));
    let owned = |socket: &TcpSocket| socket.state == TcpSocket::ESTABLISHED && socket.inode != 0;
    let found = tcp_sockets(table).find(|socket| owned(socket) && (socket.own, socket.far) == (peer, local));
    found.map(|socket| socket.uid)
}

/// IPv4 written as IPv6 is IPv4.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

    fn line(own: &str, far: &str, state: &str, uid: u32, inode: u32) -> String {
        format!(
            "   0: {own} {far} {state} 00000000:00000000 00:00000000 00000000  {uid}        0 {inode} 1 0 20 4\n"
        )
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_line_counts_only_while_established_and_owned() {
        let (peer, local) = ("127.0.0.1:40000".parse().unwrap(), "127.0.0.1:8080".parse().unwrap());
        let (own, far) = ("0100007F:9C40", "0100007F:1F90");
        for (table, uid) in [
            (line(own, far, "01", 1000, 55), Some(1000)),
            (line(far, own, "01", 1000, 55), None),
            (line(own, far, "06", 0, 0), None),
            (line(own, far, "05", 0, 0), None),
            (line(own, far, "01", 0, 0), None),
            (
                line(
                    "0000000000000000FFFF00000100007F:9C40",
                    "0000000000000000FFFF00000100007F:1F90",
                    "01",
                    7,
                    5,
                ),
                Some(7),
            ),
            ("garbage\nmore".to_owned(), None),
        ] {
            assert_eq!(find(&format!("{HEAD}{table}"), peer, local), uid, "{table}");
        }
    }

    #[test]
    fn a_real_connection_of_this_process_is_its_users() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, peer) = listener.accept().unwrap();
        let found = uid_of(peer, server.local_addr().unwrap());
        assert_eq!(found, Some(rustix::process::geteuid().as_raw()));
        assert!(may_act_as_node(found));
        drop(client);
        assert!(!may_act_as_node(uid_of(peer, server.local_addr().unwrap())));
    }
}
