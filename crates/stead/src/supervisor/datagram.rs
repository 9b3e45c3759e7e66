//! A datagram and who sent it, as the kernel says.
//!
//! recvmsg(2) by hand: a sender of an outer pid namespace has the pid 0 here, for which the safe form has no value.
#![allow(unsafe_code, reason = "recvmsg(2) with credentials whose pid may be 0")]

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// The most bytes of one datagram; more are cut off.
const BYTES_MAX: usize = 4096;
/// Room for credentials and 16 descriptors; of more, the kernel closes the rest.
const CONTROL_BYTES: usize = 128;

/// A datagram.
#[derive(Debug)]
pub struct Datagram {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The process and user that sent it; none where the process has no number here.
    pub sender: Option<(u32, u32)>,
}

/// As the kernel wants it aligned.
#[repr(C, align(8))]
struct Control([u8; CONTROL_BYTES]);

/// The next datagram of a socket that passes credentials and does not wait; descriptors that came along are closed,
/// which is what a barrier waits for.
#[allow(clippy::unnecessary_cast, reason = "with another libc the lengths are 32 bits wide")]
pub fn receive(socket: &OwnedFd) -> Option<Datagram> {
    let mut bytes = vec![0_u8; BYTES_MAX];
    let mut control = Control([0; CONTROL_BYTES]);
    let mut sender = None;
    // SAFETY: the header points to buffers of this frame with their sizes. The macros stay within what the kernel has
    // written there, the data are read unaligned and within their length, and a descriptor that came is nobody else's.
    unsafe {
        let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: BYTES_MAX };
        let mut header: libc::msghdr = mem::zeroed();
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        header.msg_control = (&raw mut control).cast();
        header.msg_controllen = CONTROL_BYTES as _;
        let count = loop {
            let count = libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC);
            if count >= 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                break count;
            }
        };
        bytes.truncate(usize::try_from(count).ok()?);
        let mut next = libc::CMSG_FIRSTHDR(&raw const header);
        while let Some(message) = next.as_ref() {
            let data = libc::CMSG_DATA(next);
            let length = (message.cmsg_len as usize).saturating_sub(libc::CMSG_LEN(0) as usize);
            match (message.cmsg_level, message.cmsg_type) {
                (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                    for index in 0..length / size_of::<i32>() {
                        drop(OwnedFd::from_raw_fd(data.cast::<i32>().add(index).read_unaligned()));
                    }
                }
                (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if length >= size_of::<libc::ucred>() => {
                    sender = named(&data.cast::<libc::ucred>().read_unaligned());
                }
                _ => {}
            }
            next = libc::CMSG_NXTHDR(&raw const header, next);
        }
    }
    bytes.shrink_to_fit();
    Some(Datagram { bytes, sender })
}

fn named(who: &libc::ucred) -> Option<(u32, u32)> {
    u32::try_from(who.pid).ok().filter(|pid| *pid != 0).map(|pid| (pid, who.uid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::sockopt;
    use std::os::unix::net::UnixDatagram;

    fn credentials(pid: i32) -> libc::ucred {
        libc::ucred { pid, uid: 7, gid: 8 }
    }

    /// Ours and theirs.
    fn sockets() -> (OwnedFd, UnixDatagram) {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        sockopt::set_socket_passcred(&ours, true).unwrap();
        (OwnedFd::from(ours), theirs)
    }

    #[test]
    fn a_sender_without_a_number_here_is_nobody() {
        assert_eq!(named(&credentials(0)), None);
        assert_eq!(named(&credentials(-1)), None);
        assert_eq!(named(&credentials(42)), Some((42, 7)));
    }

    #[test]
    fn a_datagram_comes_with_its_sender_and_closes_what_it_brings() {
        let (ours, theirs) = sockets();
        assert!(receive(&ours).is_none());
        let (reader, writer) = std::io::pipe().unwrap();
        let mut space = [mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = rustix::net::SendAncillaryBuffer::new(&mut space);
        let descriptors = [std::os::fd::AsFd::as_fd(&writer)];
        assert!(control.push(rustix::net::SendAncillaryMessage::ScmRights(&descriptors)));
        let text = [io::IoSlice::new(b"READY=1")];
        let flags = rustix::net::SendFlags::empty();
        rustix::net::sendmsg(&theirs, &text, &mut control, flags).unwrap();
        drop(writer);
        let own = (std::process::id(), rustix::process::getuid().as_raw());
        let datagram = receive(&ours).unwrap();
        assert_eq!((&datagram.bytes[..], datagram.sender), (&b"READY=1"[..], Some(own)));
        assert_eq!(io::read_to_string(reader).unwrap(), "", "nobody has the other end any more");
        theirs.send(&[b'x'; 2 * BYTES_MAX]).unwrap();
        assert_eq!(receive(&ours).unwrap().bytes.len(), BYTES_MAX);
    }
}
