//! Whether the API's address is free, and who has it where it is not.

use super::Code;
use super::finding::{Check, Finding};
use super::mounts::table;
use super::plan::Plan;
use base::proc::{TcpSocket, tcp_sockets};
use base::{Disk, LocalDisk};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

/// A process, with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its pid.
    pub pid: u32,
    /// What it calls itself.
    pub name: String,
}

/// Tries the address of a plan, if there is one to try.
pub fn check(plan: &Plan) -> Option<Check> {
    let address = plan.listen?;
    let finding = TcpListener::bind(address).err().and_then(|error| finding(address, &error, plan));
    let check = Check::of("port", "listen", finding.into_iter().collect());
    Some(Check { path: Some(address.to_string()), ..check })
}

/// What is wrong with an address; nothing where this home's own node has it.
fn finding(address: SocketAddr, error: &io::Error, plan: &Plan) -> Option<Finding> {
    let holder = (error.kind() == io::ErrorKind::AddrInUse).then(|| holder(address)).flatten();
    if holder.as_ref().is_some_and(|holder| Some(holder.pid) == plan.node) {
        return None;
    }
    let at = address.to_string();
    Some(match (holder, error.kind()) {
        (Some(Holder { pid, name }), _) => {
            let message = format!("{address} is taken by pid {pid} ({name})");
            Finding::error(Code::PortTaken, message, format!("sudo kill {pid}")).at(at)
        }
        (None, io::ErrorKind::AddrInUse) => {
            let message = format!("{address} is taken by a process that this user cannot see");
            let fix = format!("sudo ss -ltnp 'sport = :{}'", address.port());
            Finding::error(Code::PortTaken, message, fix).at(at)
        }
        (None, io::ErrorKind::PermissionDenied) => {
            let message = format!("this user may not listen on port {}: {error}", address.port());
            let fix = format!("sudo sysctl -w net.ipv4.ip_unprivileged_port_start={}", address.port());
            Finding::error(Code::PortRefused, message, fix).at(at)
        }
        (None, io::ErrorKind::AddrNotAvailable) => {
            let message = format!("{} is no address of this machine", address.ip());
            Finding::error(Code::AddressUnknown, message, "ip address show").at(at)
        }
        (None, _) => Finding::error(
            Code::PortUnusable,
            format!("{address} cannot be listened on: {error}"),
            "ip address show",
        )
        .at(at),
    })
}

/// Who listens on an address, as far as this user may see.
pub fn holder(address: SocketAddr) -> Option<Holder> {
    let tables = base::proc::TCP.map(|path| table(Path::new(path)).unwrap_or_default());
    let inodes: Vec<u64> = tables.iter().flat_map(|text| listeners(text, address)).collect();
    let names: Vec<PathBuf> = inodes.iter().map(|inode| PathBuf::from(format!("socket:[{inode}]"))).collect();
    let processes = LocalDisk.read_dir(Path::new("/proc")).ok()?;
    let pids = processes.iter().filter_map(|entry| entry.name.parse::<u32>().ok());
    let holds = |pid: &u32| {
        let dir = PathBuf::from(format!("/proc/{pid}/fd"));
        let open = LocalDisk.read_dir(&dir).unwrap_or_default();
        open.iter().filter_map(|fd| std::fs::read_link(dir.join(&fd.name)).ok()).any(|to| names.contains(&to))
    };
    let pid = pids.into_iter().find(holds)?;
    let name = table(&PathBuf::from(format!("/proc/{pid}/comm"))).unwrap_or_default();
    Some(Holder { pid, name: name.trim_end().to_owned() })
}

/// The sockets of a table that listen where the address does.
fn listeners(text: &str, address: SocketAddr) -> Vec<u64> {
    let overlap = |held: SocketAddr| {
        held.port() == address.port()
            && (held.ip() == address.ip() || held.ip().is_unspecified() || address.ip().is_unspecified())
    };
    let listening = |socket: &TcpSocket| socket.state == TcpSocket::LISTENING && overlap(socket.own);
    tcp_sockets(text).filter(listening).map(|socket| socket.inode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(holder(address).unwrap().pid, std::process::id());
        let anywhere = SocketAddr::from(([0, 0, 0, 0], address.port()));
        assert_eq!(holder(anywhere).unwrap().pid, std::process::id());
        drop(listener);
        assert_eq!(holder(address), None);
    }
}
