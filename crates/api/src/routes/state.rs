//! What the node is and does: status, health, lease, app.

use super::{Shared, bad_query, blocking};
use crate::access::Sees;
use crate::error::ApiError;
use crate::limits::{LOG_LINES, LOG_LINES_MAX};
use crate::{body, health, metrics, page};
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header::{ACCEPT, CONTENT_SECURITY_POLICY, CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use node::control::{self, AppAction, Status};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// The status: a page for a browser, JSON for everyone else.
pub async fn overview(State(shared): State<Shared>, headers: HeaderMap) -> Result<Response, ApiError> {
    let status = read(&shared).await?;
    let accepts = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
    if !accepts.contains("text/html") {
        return Ok(([(VARY, "Accept")], Json(status)).into_response());
    }
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
        (VARY, "Accept"),
    ];
    Ok((headers, page::render(&status)).into_response())
}

pub async fn status(State(shared): State<Shared>) -> Result<Json<Status>, ApiError> {
    read(&shared).await.map(Json)
}

async fn read(shared: &Shared) -> Result<Status, ApiError> {
    if let Some(status) = shared.control.status_at_once() {
        return Ok(status);
    }
    let control = Arc::clone(&shared.control);
    blocking(move || control.status()).await
}

pub async fn metrics(State(shared): State<Shared>) -> Result<Response, ApiError> {
    let status = read(&shared).await?;
    let control = Arc::clone(&shared.control);
    let measured = blocking(move || control.measured()).await?;
    let history_limit_bytes = shared.control.config().map(|config| config.retention.local.0);
    let sources = metrics::Sources {
        status: &status,
        measured: &measured,
        history_limit_bytes,
        requests: &shared.requests,
    };
    Ok(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::render(&sources)).into_response())
}

/// A body without keys.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

pub async fn release_lease(State(shared): State<Shared>, body: Body) -> Result<Json<Value>, ApiError> {
    let Nothing {} = body::json(body).await?;
    blocking(move || shared.control.release_lease()).await??;
    Ok(Json(json!({ "released": true })))
}

pub async fn promote(State(shared): State<Shared>, body: Body) -> Result<Json<Value>, ApiError> {
    let Nothing {} = body::json(body).await?;
    blocking(move || shared.control.promote()).await??;
    Ok(Json(json!({ "promoted": true })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct App {
    action: AppAction,
}

pub async fn app(State(shared): State<Shared>, body: Body) -> Result<Json<Value>, ApiError> {
    let App { action } = body::json(body).await?;
    let process = blocking(move || {
        shared.control.app(action)?;
        Ok::<_, ApiError>(shared.control.status().process)
    })
    .await??;
    Ok(Json(json!({ "action": action, "process": process })))
}

pub async fn history(State(shared): State<Shared>) -> Result<Json<Value>, ApiError> {
    let transitions = blocking(move || shared.control.transitions()).await?;
    Ok(Json(json!({ "transitions": transitions })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Logs {
    lines: Option<usize>,
    stream: Option<String>,
}

pub async fn logs(
    State(shared): State<Shared>,
    query: Result<Query<Logs>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let Query(Logs { lines, stream }) = query.map_err(|rejection| bad_query(&rejection))?;
    if let Some(other) = stream.as_deref().filter(|name| !matches!(*name, "stdout" | "stderr")) {
        return Err(ApiError::malformed(format!("`{other}` is no stream: use stdout or stderr")));
    }
    let lines = lines.unwrap_or(LOG_LINES).min(LOG_LINES_MAX);
    let lines = blocking(move || shared.control.logs(lines, stream.as_deref())).await??;
    Ok(Json(json!({ "lines": lines })))
}

pub async fn live() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

#[derive(Deserialize)]
pub struct Ready {
    verbose: Option<String>,
}

pub async fn ready(
    State(shared): State<Shared>,
    Extension(sees): Extension<Sees>,
    query: Result<Query<Ready>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(Ready { verbose }) = query.map_err(|rejection| bad_query(&rejection))?;
    let status = read(&shared).await?;
    let readiness = health::readiness(&status, shared.control.looked().as_ref());
    let code = if readiness.ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = match verbose.as_deref() {
        Some("1" | "true" | "") if sees == Sees::Verdicts => readiness.verdicts(),
        Some("1" | "true" | "") => json!(readiness),
        _ => json!({ "status": readiness.status }),
    };
    Ok((code, Json(body)).into_response())
}

pub async fn primary(State(shared): State<Shared>) -> Result<Response, ApiError> {
    let status = read(&shared).await?;
    let holds = status.lease.as_ref().is_some_and(|lease| lease.state == "held");
    // No traffic for an app that cannot do its work yet.
    let serves = status.components.app.is_none() || status.process.ready;
    Ok(role(status.state == control::State::Primary && holds && serves, &status))
}

pub async fn replica(State(shared): State<Shared>) -> Result<Response, ApiError> {
    let status = read(&shared).await?;
    Ok(role(status.state == control::State::Replica, &status))
}

fn role(is: bool, status: &Status) -> Response {
    let code = if is { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(json!({ "node": status.node, "state": status.state, "role": status.role }))).into_response()
}
