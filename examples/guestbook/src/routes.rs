//! Routes: each decodes a request, asks the book, and encodes a page.
//!
//! `GET /[?before=ID]` lists · `POST /sign` adds and redirects · `GET /health` · `GET /style.css`.
//! SQLite blocks, so that it runs beside the event loop. Every reply carries a policy under which a page can load
//! its own style sheet and post its own form, and nothing else.

use crate::book::{Book, Leaf};
use crate::entry::Inscription;
use crate::page::{self, Draft, Place};
use axum::Router;
use axum::extract::{DefaultBodyLimit, Form, Query, Request, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use serde::Deserialize;

/// The most bytes of a posted form: the longest entry, each byte written as `%XX`, fits twice.
const FORM_BYTES_MAX: usize = 2 * 3 * 4 * (crate::entry::NAME_CHARS_MAX + crate::entry::MESSAGE_CHARS_MAX);
/// Entries on one page.
const LEAF_ENTRIES_MAX: u32 = 50;

const HEADERS: [(HeaderName, &str); 4] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "same-origin"),
    (header::CACHE_CONTROL, "no-store"),
];

/// All routes over one book.
pub fn router(book: Book) -> Router {
    Router::new()
        .route("/", get(show))
        .route("/sign", post(sign))
        .route("/health", get(health))
        .route(
            "/style.css",
            get(|| async { ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], page::STYLE) }),
        )
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .layer(middleware::from_fn(with_headers))
        .with_state(book)
}

#[derive(Deserialize)]
struct Wanted {
    before: Option<i64>,
}

#[derive(Deserialize)]
struct Posted {
    #[serde(default)]
    name: String,
    #[serde(default)]
    message: String,
}

async fn show(State(book): State<Book>, Query(wanted): Query<Wanted>) -> Response {
    match blocking(move || book.leaf(wanted.before, LEAF_ENTRIES_MAX)).await {
        Ok(leaf) => page(StatusCode::OK, &leaf, &Draft::default(), wanted.before.is_none()),
        Err(failed) => failed.into_response(),
    }
}

async fn sign(State(book): State<Book>, Form(posted): Form<Posted>) -> Response {
    let inscription = match Inscription::new(&posted.name, &posted.message) {
        Ok(inscription) => inscription,
        Err(unfit) => {
            let draft =
                Draft { problem: Some(unfit.to_string()), name: posted.name, message: posted.message };
            return match blocking(move || book.leaf(None, LEAF_ENTRIES_MAX)).await {
                Ok(leaf) => page(StatusCode::UNPROCESSABLE_ENTITY, &leaf, &draft, true),
                Err(failed) => failed.into_response(),
            };
        }
    };
    match blocking(move || book.sign(&inscription)).await {
        Ok(()) => Redirect::to("/").into_response(),
        Err(failed) => failed.into_response(),
    }
}

async fn health(State(book): State<Book>) -> Response {
    match blocking(move || book.check()).await {
        Ok(()) => "ok\n".into_response(),
        Err(failed) => failed.into_response(),
    }
}

fn page(status: StatusCode, leaf: &Leaf, draft: &Draft, newest: bool) -> Response {
    let place = Place { newest, node: std::env::var("STEAD_NODE").ok() };
    (status, Html(page::render(leaf, draft, &place))).into_response()
}

/// The database could not be asked. The visitor tries again; the reason is for the log.
struct Failed;

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            [(header::RETRY_AFTER, "1")],
            "The book is not at hand; try again.\n",
        )
            .into_response()
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> rusqlite::Result<T> + Send + 'static,
) -> Result<T, Failed> {
    let failed = match tokio::task::spawn_blocking(work).await {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(e)) => e.to_string(),
        Err(e) => e.to_string(),
    };
    eprintln!("guestbook: the database: {failed}");
    Err(Failed)
}

async fn with_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, axum::http::HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests;
