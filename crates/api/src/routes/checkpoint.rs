//! `/checkpoint` and `/restore`.

use super::{Shared, blocking};
use crate::body;
use crate::error::ApiError;
use axum::Json;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use base::Timestamp;
use node::control::{
    Checkpoint, CheckpointError, CheckpointId, CheckpointMade, RestoreRequest, Restored, Target,
};
use serde::Deserialize;
use serde_json::{Value, json};

/// A path parameter, or why it is none.
type Id = Result<Path<String>, PathRejection>;

fn parse_id(id: Id) -> Result<CheckpointId, ApiError> {
    let Path(text) = id.map_err(|rejection| ApiError::malformed(rejection.body_text()))?;
    Ok(CheckpointId::parse(&text)?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    id: Option<String>,
    comment: Option<String>,
}

pub async fn create(State(shared): State<Shared>, body: Body) -> Result<Json<CheckpointMade>, ApiError> {
    let Create { id, comment } = body::json(body).await?;
    let id = id.map(|id| CheckpointId::parse(&id)).transpose()?;
    let made = blocking(move || shared.control.checkpoint(id, comment)).await??;
    Ok(Json(made))
}

pub async fn list(State(shared): State<Shared>) -> Result<Json<Value>, ApiError> {
    let checkpoints = blocking(move || shared.control.checkpoints()).await??;
    Ok(Json(json!({ "checkpoints": checkpoints })))
}

pub async fn show(State(shared): State<Shared>, id: Id) -> Result<Json<Checkpoint>, ApiError> {
    let id = parse_id(id)?;
    let checkpoints = blocking(move || shared.control.checkpoints()).await??;
    let found = checkpoints.into_iter().find(|checkpoint| checkpoint.id == id);
    found.map(Json).ok_or_else(|| CheckpointError::NotFound(id).into())
}

pub async fn remove(State(shared): State<Shared>, id: Id) -> Result<Json<Value>, ApiError> {
    let id = parse_id(id)?;
    let removed = id.clone();
    blocking(move || shared.control.remove_checkpoint(&id)).await??;
    Ok(Json(json!({ "removed": removed })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Restore {
    id: Option<String>,
    time: Option<Value>,
    #[serde(default)]
    undo: bool,
    #[serde(default)]
    dry_run: bool,
}

pub async fn restore(State(shared): State<Shared>, body: Body) -> Result<Json<Restored>, ApiError> {
    let Restore { id, time, undo, dry_run } = body::json(body).await?;
    let target = match (id, time, undo) {
        (Some(id), None, false) => Target::Checkpoint(CheckpointId::parse(&id)?),
        (None, Some(time), false) => Target::Time(moment(&time)?),
        (None, None, true) => Target::Undo,
        _ => {
            return Err(ApiError::malformed("say where to: one of `id`, `time` and `undo`")
                .hint(r#"{"id": "before-upgrade"}, {"time": "2026-11-21T10:00:00Z"} or {"undo": true}"#));
        }
    };
    let restored = blocking(move || shared.control.restore(RestoreRequest { target, dry_run })).await??;
    Ok(Json(restored))
}

/// A moment as a body has it: RFC 3339, or milliseconds since 1970.
fn moment(given: &Value) -> Result<Timestamp, ApiError> {
    if let Some(text) = given.as_str() {
        return parse_time(text);
    }
    let time = given.as_i64().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    time.and_then(in_writing).ok_or_else(|| no_time(&given.to_string()))
}

/// An RFC 3339 time.
pub fn parse_time(text: &str) -> Result<Timestamp, ApiError> {
    text.parse().ok().and_then(in_writing).ok_or_else(|| no_time(&format!("`{text}`")))
}

/// A time that RFC 3339 can write: its years have four digits and no sign.
fn in_writing(time: jiff::Timestamp) -> Option<Timestamp> {
    let year = time.to_zoned(jiff::tz::TimeZone::UTC).year();
    (0..=9999).contains(&year).then_some(Timestamp(time.as_millisecond()))
}

fn no_time(given: &str) -> ApiError {
    ApiError::malformed(format!("{given} is no time"))
        .hint("write RFC 3339, such as 2026-11-21T10:00:00Z, or whole milliseconds since 1970 in a body")
}
