//! The two doors, TCP and the home's socket, and the connections through them.
//!
//! Binding is apart from serving, so that a port in use is known before anything else starts.

use crate::access::Doors;
use crate::limits::{
    ACCEPT_PAUSE, ANSWER_WAIT, CLIENT_SILENCE_MAX, CONNECTIONS_MAX, DRAIN_WAIT, EVENT_READERS_MAX,
    HEAD_BYTES_MAX, HEAD_WAIT, IMAGES_MAX, SOCKET_CONNECTIONS_MAX,
};
use crate::patient::Patient;
use crate::peer::Peer;
use crate::routes::{Shared, router};
use crate::seats::{BusyBody, Seat, Seats};
use axum::Router;
use axum::body::Body;
use base::{Disk, LocalDisk};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use node::config::Secret;
use node::control::Control;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tower::ServiceExt;

/// A door that could not be opened. Choose another address, or end who holds it.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {place}: {error}")]
pub struct BindError {
    /// The address or the socket's path.
    pub place: String,
    /// What the system said.
    #[source]
    pub error: io::Error,
}

/// Both doors, open: the kernel queues clients from here on.
#[derive(Debug)]
pub struct Bound {
    tcp: std::net::TcpListener,
    address: SocketAddr,
    unix: std::os::unix::net::UnixListener,
    socket: PathBuf,
}

/// Opens both doors. A socket file that is left from before is replaced: the home's lock says that nobody uses it.
pub fn bind(listen: SocketAddr, socket: &Path) -> Result<Bound, BindError> {
    let tcp_error = |error| BindError { place: listen.to_string(), error };
    let tcp = std::net::TcpListener::bind(listen).map_err(tcp_error)?;
    tcp.set_nonblocking(true).map_err(tcp_error)?;
    let address = tcp.local_addr().map_err(tcp_error)?;
    let unix =
        bind_socket(socket).map_err(|error| BindError { place: socket.display().to_string(), error })?;
    Ok(Bound { tcp, address, unix, socket: socket.to_owned() })
}

/// A socket that only its owner can reach, from its first moment: its mode is set before it listens.
fn bind_socket(socket: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    const QUEUE: i32 = 128;
    match LocalDisk.remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // A socket's address holds 107 bytes; the way through the directory's descriptor is always short enough.
    let directory = rustix::fs::openat(
        CWD,
        base::disk::parent(socket),
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let name = socket.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let short = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    let fd = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    rustix::net::bind(&fd, &SocketAddrUnix::new(&short)?)?;
    rustix::fs::chmodat(&directory, name, Mode::RUSR | Mode::WUSR, rustix::fs::AtFlags::empty())?;
    rustix::net::listen(&fd, QUEUE)?;
    Ok(fd.into())
}

/// Opens both doors and serves until `shutdown` is ready.
pub async fn serve(
    control: Arc<dyn Control>,
    listen: SocketAddr,
    socket: &Path,
    token: Option<Secret>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), BindError> {
    bind(listen, socket)?.serve(control, token, shutdown).await
}

impl Bound {
    /// The TCP address, with the port that the kernel chose where none was given.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` is ready, then lets running requests end.
    ///
    /// `token` holds while no configuration names one.
    pub async fn serve(
        self,
        control: Arc<dyn Control>,
        token: Option<Secret>,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), BindError> {
        let failed = |place: String| move |error| BindError { place, error };
        let tcp = tokio::net::TcpListener::from_std(self.tcp).map_err(failed(self.address.to_string()))?;
        let unix = tokio::net::UnixListener::from_std(self.unix)
            .map_err(failed(self.socket.display().to_string()))?;
        let (stop, stopping) = watch::channel(false);
        let routes = router(Shared {
            control,
            token,
            doors: Arc::new(Doors::new(self.address)),
            event_readers: Arc::new(Semaphore::new(EVENT_READERS_MAX)),
            images: Arc::new(Semaphore::new(IMAGES_MAX)),
            requests: Arc::default(),
            stopping: stopping.clone(),
        });
        let connections = accept_until(shutdown, &tcp, &unix, &routes, &stopping).await;
        drop((tcp, unix));
        // Another node may have taken the home only after this one ended: the name is still this node's.
        let _ = LocalDisk.remove_file(&self.socket);
        stop.send_replace(true);
        drain(connections).await;
        Ok(())
    }
}

async fn accept_until(
    shutdown: impl Future<Output = ()>,
    tcp: &tokio::net::TcpListener,
    unix: &tokio::net::UnixListener,
    routes: &Router,
    stopping: &watch::Receiver<bool>,
) -> [JoinSet<()>; 2] {
    let (mut far, mut near) = (JoinSet::new(), JoinSet::new());
    let doors = async {
        tokio::join!(
            accept(tcp, CONNECTIONS_MAX, &mut far, (routes, stopping)),
            accept(unix, SOCKET_CONNECTIONS_MAX, &mut near, (routes, stopping)),
        )
    };
    tokio::select! {
        () = shutdown => {}
        _ = doors => {}
    }
    [far, near]
}

/// One door. A place is looked for once somebody stands there, so that nobody leaves for nobody.
async fn accept<D: Door>(
    door: &D,
    places: usize,
    connections: &mut JoinSet<()>,
    (routes, stopping): (&Router, &watch::Receiver<bool>),
) {
    let mut seats = Seats::new(places);
    loop {
        match door.next().await {
            Ok((stream, peer)) => {
                let Some(seat) = seats.take().await else { return };
                let (routes, stopping) = (routes.clone(), stopping.clone());
                connections.spawn(converse(stream, peer, seat, routes, stopping));
            }
            Err(error) => {
                // Out of descriptors, most likely: a pause lets connections end instead of spinning.
                tracing::warn!(event = "connection not accepted", %error);
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

/// Where clients come in.
trait Door: Sync {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next client.
    fn next(&self) -> impl Future<Output = io::Result<(Self::Stream, Peer)>> + Send;
}

impl Door for tokio::net::TcpListener {
    type Stream = tokio::net::TcpStream;

    async fn next(&self) -> io::Result<(Self::Stream, Peer)> {
        let (stream, peer) = self.accept().await?;
        let local = stream.local_addr()?;
        bound_silence(&stream);
        Ok((stream, Peer::Tcp { peer, local }))
    }
}

impl Door for tokio::net::UnixListener {
    type Stream = tokio::net::UnixStream;

    async fn next(&self) -> io::Result<(Self::Stream, Peer)> {
        let (stream, _) = self.accept().await?;
        let uid = stream.peer_cred().ok().map(|cred| cred.uid());
        Ok((stream, Peer::Unix { uid }))
    }
}

/// A client that acknowledges nothing is dropped by the kernel.
fn bound_silence(stream: &tokio::net::TcpStream) {
    let ms = u32::try_from(CLIENT_SILENCE_MAX.as_millis()).unwrap_or(u32::MAX);
    let set = rustix::net::sockopt::set_tcp_user_timeout(stream, ms)
        .and_then(|()| rustix::net::sockopt::set_tcp_nodelay(stream, true));
    if let Err(error) = set {
        tracing::debug!(%error, "socket options could not be set");
    }
}

/// One connection, request after request.
async fn converse<S>(
    stream: S,
    peer: Peer,
    seat: Arc<Seat>,
    routes: Router,
    mut stopping: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let place = Arc::clone(&seat);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let busy = place.begin();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        let answer = routes.clone().oneshot(request);
        async move { answer.await.map(|response| response.map(|body| BusyBody::new(body, busy))) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WAIT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(Patient::new(stream, ANSWER_WAIT)), service);
    tokio::pin!(connection);
    let told_to_stop = async { drop(stopping.wait_for(|stop| *stop).await) };
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = told_to_stop => None,
        () = seat.until_needed() => return,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.as_mut().await
        }
    };
    if let Err(error) = ended {
        tracing::trace!(%error, "a connection broke off");
    }
}

async fn drain(mut connections: [JoinSet<()>; 2]) {
    let [far, near] = &mut connections;
    let all = async {
        while far.join_next().await.is_some() {}
        while near.join_next().await.is_some() {}
    };
    if tokio::time::timeout(DRAIN_WAIT, all).await.is_err() {
        tracing::warn!(event = "requests broken off", "requests that did not end in time were broken off");
    }
}
