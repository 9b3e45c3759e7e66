//! Request bodies: JSON whatever the content type, bounded in size and time.

use crate::error::ApiError;
use crate::limits::{BODY_BYTES_MAX, BODY_WAIT};
use axum::body::{Body, Bytes, HttpBody};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;

const BODY_HINT: &str = "send a JSON object; docs/reference/http.md lists the keys of each route";

/// The whole body; 413 beyond the limit, 408 when it does not come.
pub async fn bytes(body: Body) -> Result<Bytes, ApiError> {
    let too_large = || {
        ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_too_large",
            format!("a body may have {BODY_BYTES_MAX} bytes"),
        )
    };
    if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
        return Err(too_large());
    }
    let read = axum::body::to_bytes(body, BODY_BYTES_MAX);
    match tokio::time::timeout(BODY_WAIT, read).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => {
            let inner = std::error::Error::source(&error);
            let limit = inner.is_some_and(|inner| inner.to_string().contains("length limit"));
            Err(if limit { too_large() } else { ApiError::malformed(format!("the body broke off: {error}")) })
        }
        Err(_) => Err(ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "body_too_slow",
            format!("the body did not come within {} s", BODY_WAIT.as_secs()),
        )),
    }
}

/// The body as JSON; an empty one is `{}`.
pub async fn json<T: DeserializeOwned>(body: Body) -> Result<T, ApiError> {
    let bytes = bytes(body).await?;
    let text: &[u8] = if bytes.trim_ascii().is_empty() { b"{}" } else { &bytes };
    // A list would be read as the fields in their order, which nobody means.
    if !text.trim_ascii_start().starts_with(b"{") {
        return Err(ApiError::malformed("the body is no JSON object").hint(BODY_HINT));
    }
    serde_json::from_slice(text)
        .map_err(|error| ApiError::malformed(format!("the body is not as expected: {error}")).hint(BODY_HINT))
}
