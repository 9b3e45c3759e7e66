//! The way to the server: every request of the client goes through here.
//!
//! ```text
//! call ─► object_store builds and signs ─► Wire ─► reqwest ─► server
//!   ▲                                       │
//!   └──────────── Seen (task-local) ◄───────┘
//! ```
//!
//! The client library folds an answer into errors that hide what happened. So whatever came of a request is noted
//! beside it, whole, for the call that it belongs to; the library only builds, signs and sends. Each request is
//! counted, has its turn (a limit of requests at once) and an end: to connect, and where nothing moves for so long, on the
//! way there or back. Requests to anything but the store's own host are for credentials.

use super::answer::{Answer, Fault, element, one_line};
use super::traffic::{Traffic, Verb};
use crate::ErrorKind;
use bytes::{Bytes, BytesMut};
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Method, StatusCode};
use http_body_util::BodyExt;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
    HttpService,
};
use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// How long an answer may pause in the middle.
pub const STALL_LIMIT: Duration = Duration::from_secs(10);
/// A longer word is no code.
const CODE_BYTES_MAX: usize = 64;
/// How long one request for credentials may take.
pub const CREDENTIALS_LIMIT: Duration = Duration::from_secs(3);
/// Bytes of an answer that is no object: a page of a listing, an error.
pub const DOCUMENT_BYTES_MAX: usize = 16 << 20;
/// What a body that was handed over and waits in the kernel is given time for: nobody sees how much of it has left.
pub const SLOWEST_BYTES_PER_SECOND: u64 = 128 << 10;
/// How often it is looked whether anything has moved, within the time in which something must.
const LOOKS: u32 = 8;
/// Bytes of a body that are handed over at once; a shorter one is no more than that.
const PIECE_BYTES: usize = 256 << 10;
/// How long a connection without requests is kept.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

/// What came of the last request of a call.
#[derive(Clone, Debug)]
pub(super) enum Seen {
    Answer(Answer),
    Fault(Fault),
}

/// What a call tells the wire, and the wire the call.
struct Call {
    body_bytes_max: usize,
    create_only: bool,
    seen: Mutex<Option<Seen>>,
}

tokio::task_local! {
    static CALL: Arc<Call>;
}

/// What is special about a request.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Special {
    /// Bytes of an object that are asked for.
    pub object_bytes: usize,
    /// The end of an upload in parts must not replace anything: the library cannot say so.
    pub create_only: bool,
}

/// Does one request through the library and says what came of it: with the library's own result, where it understood
/// the answer.
pub(super) async fn ask<T>(
    special: Special,
    work: impl Future<Output = object_store::Result<T>>,
) -> (Option<T>, Option<Seen>) {
    let call = Arc::new(Call {
        body_bytes_max: DOCUMENT_BYTES_MAX.max(special.object_bytes),
        create_only: special.create_only,
        seen: Mutex::default(),
    });
    let done = CALL.scope(Arc::clone(&call), work).await;
    let seen = call.seen.lock().unwrap_or_else(PoisonError::into_inner).take();
    let seen = seen.or_else(|| {
        // The library gave up before it had asked: only credentials can be missing then.
        let why = done.as_ref().err().map(|error| one_line(&error.to_string()))?;
        Some(Seen::Fault(Fault::unanswered(ErrorKind::Credentials, why, false)))
    });
    (done.ok(), seen)
}

/// How requests travel.
pub(super) struct Wire {
    /// `host:port` of the store.
    pub authority: String,
    pub client: reqwest::Client,
    /// For the instance's own services, which are reached directly and quickly, or not at all.
    pub nearby: reqwest::Client,
    pub permits: Semaphore,
    pub request_timeout: Duration,
    pub connect_timeout: Duration,
    pub traffic: Arc<Traffic>,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wire({})", self.authority)
    }
}

/// Hands the one wire to everything that the library makes.
#[derive(Clone, Debug)]
pub(super) struct Connector(pub Arc<Wire>);

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait::async_trait]
impl HttpService for Connector {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let call = CALL.try_with(Arc::clone).ok();
        let note = |seen: Seen| {
            if let Some(call) = &call {
                *call.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
            }
        };
        let for_store =
            request.uri().authority().is_some_and(|authority| authority.as_str() == self.0.authority);
        if !for_store {
            return match self.0.for_credentials(request).await {
                Ok(answer) => Ok(answer.into_response(None)),
                Err(fault) => {
                    let error =
                        HttpError::new(HttpErrorKind::Unknown, io::Error::other(fault.reason.clone()));
                    note(Seen::Fault(fault));
                    Err(error)
                }
            };
        }
        let create_only = call.as_ref().is_some_and(|call| call.create_only);
        let body_bytes_max = call.as_ref().map_or(DOCUMENT_BYTES_MAX, |call| call.body_bytes_max);
        let removal = request.method() == Method::POST && request.uri().query() == Some("delete");
        match self.0.for_store(request, create_only, body_bytes_max).await {
            Ok(answer) => {
                note(Seen::Answer(answer.clone()));
                // Whom the server could not remove is read from what was noted; the library's reader is strict.
                let shown = (removal && answer.status.is_success())
                    .then(|| Bytes::from_static(b"<DeleteResult></DeleteResult>"));
                Ok(answer.into_response(shown))
            }
            Err(fault) => {
                let error = HttpError::new(HttpErrorKind::Unknown, io::Error::other(fault.reason.clone()));
                note(Seen::Fault(fault));
                Err(error)
            }
        }
    }
}

impl Answer {
    fn into_response(self, shown: Option<Bytes>) -> HttpResponse {
        let mut response = HttpResponse::new(HttpResponseBody::from(shown.unwrap_or(self.body)));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

impl Wire {
    async fn for_store(
        &self,
        mut request: HttpRequest,
        create_only: bool,
        body_bytes_max: usize,
    ) -> Result<Answer, Fault> {
        if create_only {
            // Not signed, which S3 asks only of `x-amz-` headers; the library sends it so with PUT, too.
            request.headers_mut().insert(http::header::IF_NONE_MATCH, HeaderValue::from_static("*"));
        }
        let turn = timeout(self.request_timeout, self.permits.acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            let reason = "every connection to the store is taken by a request that is not answered";
            return Err(Fault::unanswered(ErrorKind::Timeout, reason, false));
        };
        self.traffic.count_request(verb(&request), request.body().content_length() as u64);
        let moved = Moved::default();
        let in_kernel =
            Duration::from_secs(request.body().content_length() as u64 / SLOWEST_BYTES_PER_SECOND);
        let limit = self.request_timeout + in_kernel;
        let exchange = std::pin::pin!(self.exchange(&self.client, request, body_bytes_max, &moved));
        let answer = moved.watch(limit, exchange).await.unwrap_or_else(|| {
            let reason = format!("no answer within {}", seconds(limit));
            Err(Fault::unanswered(ErrorKind::Timeout, reason, true))
        })?;
        self.traffic.count_answer(answer.body.len() as u64);
        Ok(answer)
    }

    async fn for_credentials(&self, request: HttpRequest) -> Result<Answer, Fault> {
        let host = request.uri().host().unwrap_or_default().to_owned();
        let source = source_of_credentials(request.uri());
        let missing = |why: String| {
            let reason = format!("no credentials from {} ({source}): {why}", one_line(&host));
            Fault::unanswered(ErrorKind::Credentials, reason, false)
        };
        let client = if request.uri().scheme_str() == Some("https") { &self.client } else { &self.nearby };
        let moved = Moved::default();
        let exchange = self.exchange(client, request, DOCUMENT_BYTES_MAX, &moved);
        let answer = timeout(CREDENTIALS_LIMIT, exchange)
            .await
            .map_err(|_| missing(format!("no answer within {}", seconds(CREDENTIALS_LIMIT))))?
            .map_err(|fault| missing(fault.reason))?;
        // The caller reads the answer; one that says no ends there, so it is told as what it is.
        if answer.status.is_client_error() || answer.status.is_server_error() {
            let code = code_in(&answer.body).map(|code| format!(", {code}")).unwrap_or_default();
            return Err(missing(format!("it answered {}{code}", answer.status)));
        }
        Ok(answer)
    }

    async fn exchange(
        &self,
        client: &reqwest::Client,
        request: HttpRequest,
        body_bytes_max: usize,
        moved: &Moved,
    ) -> Result<Answer, Fault> {
        let (parts, body) = request.into_parts();
        let is_head = parts.method == Method::HEAD;
        let url = parts.uri.to_string().parse().map_err(|_| Fault::garbled("a URL that cannot be"))?;
        let mut request = reqwest::Request::new(parts.method, url);
        *request.headers_mut() = parts.headers;
        *request.body_mut() = Some(match body.as_bytes() {
            Some(bytes) if bytes.len() > PIECE_BYTES => {
                reqwest::Body::wrap(Watched { left: bytes.clone(), moved: moved.clone() })
            }
            Some(bytes) => bytes.clone().into(),
            None => reqwest::Body::wrap(body),
        });
        let response = client.execute(request).await.map_err(|error| self.broken(&error))?;
        let (parts, mut body) = http::Response::<reqwest::Body>::from(response).into_parts();
        // What the server says how much comes is a hint, and bounded.
        let hint =
            parts.headers.get(CONTENT_LENGTH).and_then(|text| text.to_str().ok()?.parse().ok()).unwrap_or(0);
        let mut bytes = BytesMut::with_capacity(if is_head { 0 } else { body_bytes_max.min(hint) });
        loop {
            let frame = timeout(STALL_LIMIT, body.frame()).await.map_err(|_| {
                let reason = format!("the answer stopped in the middle for {}", seconds(STALL_LIMIT));
                Fault::unanswered(ErrorKind::Timeout, reason, true)
            })?;
            let Some(frame) = frame else { break };
            let Ok(data) = frame.map_err(|error| self.broken(&error))?.into_data() else { continue };
            if bytes.len() + data.len() > body_bytes_max {
                return Err(Fault::garbled(format!("an answer of more than {body_bytes_max} bytes")));
            }
            bytes.extend_from_slice(&data);
            moved.add(data.len());
        }
        Ok(Answer { status: parts.status, headers: parts.headers, body: bytes.freeze() })
    }

    /// No whole answer: why, and whether the request may have arrived.
    fn broken(&self, error: &reqwest::Error) -> Fault {
        let before = error.is_connect();
        let links = chain(error);
        if let Some(reason) = links.iter().find_map(|link| tls(*link)) {
            return Fault::unanswered(ErrorKind::Tls, one_line(&reason), !before);
        }
        if error.is_timeout() {
            let limit = if before { self.connect_timeout } else { self.request_timeout };
            let what = if before { "no connection" } else { "no answer" };
            let kind = if before { ErrorKind::Unreachable } else { ErrorKind::Timeout };
            return Fault::unanswered(kind, format!("{what} within {}", seconds(limit)), !before);
        }
        let last = links.last().map(ToString::to_string).unwrap_or_default();
        let what = if before { "no connection" } else { "the connection broke" };
        Fault::unanswered(ErrorKind::Unreachable, format!("{what}: {}", one_line(&last)), !before)
    }
}

/// Bytes of a body that moved, there or back.
#[derive(Clone, Debug, Default)]
struct Moved(Arc<AtomicUsize>);

impl Moved {
    fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Waits for an exchange; `None`: nothing has moved for that long.
    async fn watch<T>(&self, limit: Duration, mut exchange: impl Future<Output = T> + Unpin) -> Option<T> {
        let (mut seen, mut idle) = (0, 0);
        while idle < LOOKS {
            if let Ok(done) = timeout(limit / LOOKS, &mut exchange).await {
                return Some(done);
            }
            let moved = self.0.load(Ordering::Relaxed);
            idle = if moved == seen { idle + 1 } else { 0 };
            seen = moved;
        }
        None
    }
}

/// A body that goes in pieces, each as the one before is on its way.
struct Watched {
    left: Bytes,
    moved: Moved,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        if self.left.is_empty() {
            return Poll::Ready(None);
        }
        let bytes = self.left.len().min(PIECE_BYTES);
        let piece = self.left.split_to(bytes);
        self.moved.add(bytes);
        Poll::Ready(Some(Ok(http_body::Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.left.len() as u64)
    }
}

/// An error and what is behind it, also inside of I/O errors, which do not show it.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> Vec<&'a (dyn Error + 'static)> {
    let mut links = vec![error];
    let mut last = error;
    loop {
        let inner = last.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let inner = inner.map(|inner| inner as &(dyn Error + 'static));
        let Some(next) = inner.or_else(|| last.source()) else { return links };
        links.push(next);
        last = next;
    }
}

fn tls(error: &(dyn Error + 'static)) -> Option<String> {
    let error = error.downcast_ref::<rustls::Error>()?;
    Some(match error {
        rustls::Error::InvalidCertificate(why) => format!("its certificate is not trusted: {why:?}"),
        rustls::Error::InvalidMessage(_) => "the server does not speak TLS".to_owned(),
        other => format!("no TLS: {other}"),
    })
}

fn seconds(limit: Duration) -> String {
    format!("{} s", limit.as_secs_f64())
}

fn verb(request: &HttpRequest) -> Verb {
    match *request.method() {
        Method::PUT => Verb::Put,
        Method::HEAD => Verb::Head,
        Method::DELETE => Verb::Delete,
        Method::POST => Verb::Post,
        _ if request.uri().query().is_some_and(|query| query.contains("list-type=2")) => Verb::List,
        _ => Verb::Get,
    }
}

/// The client: one for the store, one for the instance's services.
pub(super) fn clients(
    authorities: Vec<reqwest::Certificate>,
    connections: usize,
    connect_timeout: Duration,
) -> Result<(reqwest::Client, reqwest::Client), String> {
    let build = |builder: reqwest::ClientBuilder| builder.build().map_err(|error| error.to_string());
    let store = reqwest::Client::builder()
        .http1_only()
        .connect_timeout(connect_timeout)
        .pool_max_idle_per_host(connections)
        .pool_idle_timeout(IDLE_LIMIT)
        .tcp_nodelay(true)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .tls_certs_merge(authorities);
    let nearby = reqwest::Client::builder()
        .http1_only()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never());
    Ok((build(store)?, build(nearby)?))
}

/// Whether an answer is a piece of an object, the whole of it, or nothing because there is no more.
pub(super) fn is_beyond_end(status: StatusCode) -> bool {
    status == StatusCode::RANGE_NOT_SATISFIABLE
}

/// Who is asked for credentials, by what is asked; the request itself holds secrets.
fn source_of_credentials(uri: &http::Uri) -> &'static str {
    match (uri.query().unwrap_or_default(), uri.path()) {
        (query, _) if query.contains("AssumeRoleWithWebIdentity") => {
            "web identity: AWS_ROLE_ARN, AWS_WEB_IDENTITY_TOKEN_FILE"
        }
        (_, path) if path.starts_with("/latest/") => "the instance's role",
        _ => "the container's role: AWS_CONTAINER_CREDENTIALS_…",
    }
}

/// The code of an error that a token service answers, where it is a word.
fn code_in(body: &[u8]) -> Option<String> {
    let code = element(&String::from_utf8_lossy(body), "Code")?;
    let is_word = code.len() <= CODE_BYTES_MAX && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (is_word && !code.is_empty()).then_some(code)
}
