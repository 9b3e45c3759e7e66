//! The routes as a browser meets them.

use super::*;
use axum::body::{Body, to_bytes};
use tower::ServiceExt;

struct Visit {
    _directory: tempfile::TempDir,
    router: Router,
}

struct Seen {
    status: StatusCode,
    headers: axum::http::HeaderMap,
    body: String,
}

impl Visit {
    fn to_an_empty_book() -> Visit {
        let directory = tempfile::tempdir().unwrap();
        let book = Book::open(&directory.path().join("book.sqlite")).unwrap();
        Visit { _directory: directory, router: router(book) }
    }

    async fn ask(&self, request: Request) -> Seen {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, 1 << 20).await.unwrap();
        Seen { status: parts.status, headers: parts.headers, body: String::from_utf8(body.into()).unwrap() }
    }

    async fn get(&self, uri: &str) -> Seen {
        self.ask(Request::builder().uri(uri).body(Body::empty()).unwrap()).await
    }

    async fn post(&self, form: String) -> Seen {
        let request = Request::builder()
            .method("POST")
            .uri("/sign")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from(form))
            .unwrap();
        self.ask(request).await
    }
}

#[tokio::test]
async fn a_signature_redirects_and_is_then_listed_newest_first() {
    let visit = Visit::to_an_empty_book();
    assert!(visit.get("/").await.body.contains("Nobody has written here yet."));
    for form in ["name=Ada&message=first+words", "name=Grace&message=%3Cb%3Elater%3C%2Fb%3E"] {
        let seen = visit.post(form.into()).await;
        assert_eq!(
            (seen.status, &seen.headers[header::LOCATION]),
            (StatusCode::SEE_OTHER, &"/".parse().unwrap())
        );
    }
    let seen = visit.get("/").await;
    assert_eq!(seen.status, StatusCode::OK);
    assert!(seen.body.contains("2 entries"));
    assert!(seen.body.contains("&lt;b&gt;later&lt;/b&gt;"));
    let (newer, older) = (seen.body.find("Grace").unwrap(), seen.body.find("Ada").unwrap());
    assert!(newer < older);
}

#[tokio::test]
async fn what_is_over_the_limits_is_refused_and_kept_in_the_form() {
    let visit = Visit::to_an_empty_book();
    let seen = visit.post(format!("name={}&message=kept+words", "n".repeat(81))).await;
    assert_eq!(seen.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(seen.body.contains("81 characters") && seen.body.contains("kept words</textarea>"));
    let seen = visit.post("name=Ada".into()).await;
    assert_eq!(seen.status, StatusCode::UNPROCESSABLE_ENTITY);
    let seen = visit.post(format!("name=Ada&message={}", "m".repeat(FORM_BYTES_MAX))).await;
    assert_eq!(seen.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(visit.get("/").await.body.contains("0 entries"));
}

#[tokio::test]
async fn the_longest_entry_fits_however_it_is_encoded() {
    let visit = Visit::to_an_empty_book();
    let letter = "%F0%9F%93%96";
    let seen = visit.post(format!("name={}&message={}", letter.repeat(80), letter.repeat(2000))).await;
    assert_eq!(seen.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn older_entries_are_a_link_away() {
    let visit = Visit::to_an_empty_book();
    for n in 1..=LEAF_ENTRIES_MAX + 1 {
        visit.post(format!("name=Ada&message=entry-{n}.")).await;
    }
    let seen = visit.get("/").await;
    assert!(seen.body.contains("<a href=\"/?before=2\">") && !seen.body.contains("entry-1."));
    let seen = visit.get("/?before=2").await;
    assert!(seen.body.contains("entry-1.") && !seen.body.contains("<form"));
    assert_eq!(visit.get("/?before=x").await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn every_reply_carries_the_policy() {
    let visit = Visit::to_an_empty_book();
    for uri in ["/", "/style.css", "/health", "/nowhere"] {
        let seen = visit.get(uri).await;
        let policy = seen.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{uri}");
        assert!(!seen.body.contains("<script") && !seen.body.contains("style="), "{uri}");
    }
}

#[tokio::test]
async fn health_says_whether_the_database_answers() {
    let visit = Visit::to_an_empty_book();
    let seen = visit.get("/health").await;
    assert_eq!((seen.status, seen.body.as_str()), (StatusCode::OK, "ok\n"));

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("book.sqlite");
    let book = Book::open(&path).unwrap();
    rusqlite::Connection::open(&path).unwrap().execute_batch("DROP TABLE entry").unwrap();
    let visit = Visit { _directory: directory, router: router(book) };
    assert_eq!(visit.get("/health").await.status, StatusCode::SERVICE_UNAVAILABLE);
}
