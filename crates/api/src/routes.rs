//! The routes. Each handler decodes a request, asks the node on a thread that may block, and encodes the answer.

use crate::access::{Doors, Keys, Sees, check_hosts, is_guarded};
use crate::error::ApiError;
use crate::metrics::Requests;
use crate::peer::Peer;
use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{CACHE_CONTROL, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use node::config::Secret;
use node::control::Control;
use row::Row;
use std::sync::Arc;
use tokio::sync::{Semaphore, watch};

mod checkpoint;
mod config;
mod database;
mod description;
mod events;
mod row;
mod state;

/// What every handler needs.
#[derive(Clone)]
pub struct Shared {
    /// The node.
    pub control: Arc<dyn Control>,
    /// The token while no configuration names one.
    pub token: Option<Secret>,
    /// Who may come in.
    pub doors: Arc<Doors>,
    /// Readers of events.
    pub event_readers: Arc<Semaphore>,
    /// Images of databases that are written or sent.
    pub images: Arc<Semaphore>,
    /// Answered requests.
    pub requests: Arc<Requests>,
    /// True once the node stops.
    pub stopping: watch::Receiver<bool>,
}

/// All routes: the one list of them, which the description is held against.
fn table() -> Vec<Row> {
    vec![
        Row::at("/").get(state::overview),
        Row::at("/status").get(state::status),
        Row::at("/config")
            .get(config::show)
            .post(config::configure)
            .put(config::change)
            .delete(config::forget),
        Row::at("/checkpoint").get(checkpoint::list).post(checkpoint::create),
        Row::at("/checkpoint/{id}").get(checkpoint::show).delete(checkpoint::remove),
        Row::at("/restore").post(checkpoint::restore),
        Row::at("/release-lease").post(state::release_lease),
        Row::at("/promote").post(state::promote),
        Row::at("/app").post(state::app),
        Row::at("/databases").get(database::list),
        Row::at("/databases/{*path}").get(database::show).post(database::act),
        Row::at("/history").get(state::history),
        Row::at("/logs").get(state::logs),
        Row::at("/events").get(events::stream),
        Row::at("/api/health/live").get(state::live),
        Row::at("/api/health/ready").get(state::ready),
        Row::at("/primary").get(state::primary),
        Row::at("/replica").get(state::replica),
        Row::at("/metrics").get(state::metrics),
        Row::at("/openapi.json").get(description::show),
    ]
}

/// The routes, with what stands around each of them.
pub fn router(shared: Shared) -> Router {
    let routes = table().into_iter().fold(Router::new(), |routes, row| {
        let (path, methods) = row.finish();
        routes.route(path, methods)
    });
    routes
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(shared.clone(), guard))
        .with_state(shared)
}

/// Lets a request pass or not, counts it, and marks every answer as not to be kept or guessed at.
async fn guard(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    let requests = Arc::clone(&shared.requests);
    let (method, route) = (head.method.clone(), head.extensions.get::<MatchedPath>().cloned());
    let allowed = if is_guarded(&head.method, &head.uri) {
        let (shared, head) = (shared, head.clone());
        blocking(move || let_in(&shared, &head)).await.and_then(|allowed| allowed)
    } else {
        let_in(&shared, &head)
    };
    let mut response = match allowed {
        Ok(sees) => {
            let mut request = Request::from_parts(head, body);
            request.extensions_mut().insert(sees);
            next.run(request).await
        }
        Err(error) => error.into_response(),
    };
    requests.count(route.as_ref().map(MatchedPath::as_str), &method, response.status());
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn let_in(shared: &Shared, head: &Parts) -> Result<Sees, ApiError> {
    let Some(peer) = head.extensions.get::<Peer>().copied() else {
        return Err(ApiError::new(StatusCode::FORBIDDEN, "forbidden", "the peer is not known"));
    };
    check_hosts(head.version, &head.headers)?;
    let config = shared.control.config();
    let config = config.as_deref();
    let token = config.and_then(|config| config.token.as_ref()).or(shared.token.as_ref());
    let hosts = config.map_or(&[][..], |config| &config.hosts);
    shared.doors.check((&head.method, &head.uri, &head.headers), peer, Keys { token, hosts })
}

async fn unknown_route(uri: Uri) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "no_such_route", format!("there is no route {}", uri.path()))
        .hint("GET / shows the node's status")
}

async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "wrong_method",
        format!("{method} is not for {}", uri.path()),
    )
    .hint("the header Allow lists what is")
}

/// Runs a call that may block where it may.
pub async fn blocking<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(call).await.map_err(|error| {
        tracing::error!(event = "bug", %error, "a request ended in a panic");
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "bug", "the node failed in an unforeseen way")
            .hint("its log says where; please report it")
    })
}

/// A query that is not as expected.
fn bad_query(rejection: &axum::extract::rejection::QueryRejection) -> ApiError {
    let text = rejection.body_text();
    let cause = text.rsplit_once("query string: ").map_or(text.as_str(), |(_, cause)| cause);
    ApiError::malformed(format!("the query is not as expected: {cause}"))
        .hint("docs/reference/http.md lists the parameters of each route")
}
