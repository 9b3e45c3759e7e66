//! `/databases`: what there is, its history, and its contents as they were.

use super::checkpoint::parse_time;
use super::{Shared, bad_query, blocking};
use crate::body;
use crate::error::{ApiError, no_database};
use crate::limits::{IMAGE_CHUNK_BYTES, IMAGE_CHUNKS_WAITING_MAX, IMAGES_MAX};
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use base::{DatabasePath, Disk, DiskFile, LocalDisk, Open, Txid};
use node::control::{CheckpointId, DatabaseError, Moment, Question};
use serde::Deserialize;
use serde_json::{Value, json};
use std::io;
use std::sync::Arc;
use tokio_stream::wrappers::ReceiverStream;

/// A path parameter, or why it is none.
type Name = Result<Path<String>, PathRejection>;

fn parse_path(name: Name) -> Result<DatabasePath, ApiError> {
    let Path(text) = name.map_err(|rejection| ApiError::malformed(rejection.body_text()))?;
    DatabasePath::parse(&text).map_err(|bad| ApiError::malformed(bad.to_string()))
}

pub async fn list(State(shared): State<Shared>) -> Result<Json<Value>, ApiError> {
    let databases = blocking(move || shared.control.status().databases).await?;
    Ok(Json(json!({ "databases": databases })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct View {
    view: Option<String>,
    txid: Option<u64>,
    time: Option<String>,
    checkpoint: Option<String>,
}

pub async fn show(
    State(shared): State<Shared>,
    name: Name,
    query: Result<Query<View>, QueryRejection>,
) -> Result<Response, ApiError> {
    let path = parse_path(name)?;
    let Query(View { view, txid, time, checkpoint }) = query.map_err(|rejection| bad_query(&rejection))?;
    let moment = match (txid, time, checkpoint) {
        (None, None, None) => Moment::Now,
        (Some(txid), None, None) => Moment::Txid(Txid(txid)),
        (None, Some(time), None) => Moment::Time(parse_time(&time)?),
        (None, None, Some(id)) => Moment::Checkpoint(CheckpointId::parse(&id)?),
        _ => return Err(ApiError::malformed("say one of `txid`, `time` and `checkpoint`")),
    };
    match (view.as_deref(), moment) {
        (None, Moment::Now) => one(shared, path).await,
        (Some("log"), Moment::Now) => {
            let shown = path.clone();
            let files = blocking(move || shared.control.history(&path)).await??;
            Ok(Json(json!({ "path": shown, "files": files })).into_response())
        }
        (Some("image"), moment) => image(shared, path, moment).await,
        (Some("log") | None, _) => {
            Err(ApiError::malformed("`txid`, `time` and `checkpoint` go with `view=image`"))
        }
        (Some(other), _) => Err(ApiError::malformed(format!("`{other}` is no view: use log or image"))),
    }
}

async fn one(shared: Shared, path: DatabasePath) -> Result<Response, ApiError> {
    let status = blocking(move || shared.control.status()).await?;
    if !status.configured {
        return Err(DatabaseError::Unconfigured.into());
    }
    let found = status.databases.into_iter().find(|database| database.path == path);
    let found = found.ok_or_else(|| no_database(DatabaseError::NotFound(path.to_string()).to_string()))?;
    Ok(Json(found).into_response())
}

async fn image(shared: Shared, path: DatabasePath, moment: Moment) -> Result<Response, ApiError> {
    let Ok(permit) = Arc::clone(&shared.images).try_acquire_owned() else {
        return Err(ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too_many_images",
            format!("{IMAGES_MAX} images of databases are being written or sent already"),
        )
        .hint("try again when one of them is done"));
    };
    // The permit goes where the copy goes: a client that leaves ends neither.
    let (file, len, permit) = blocking(move || {
        let exported = shared.control.export(&path, moment)?;
        let opened = LocalDisk.open(&exported, Open::Read).and_then(|file| Ok((file.len()?, file)));
        // The open file stays readable; its name must not outlive this request, whatever becomes of it.
        if let Err(error) = LocalDisk.remove_file(&exported) {
            tracing::warn!(event = "leftover stays", %error, path = %exported.display(), "an exported database");
        }
        let (len, file) =
            opened.map_err(|error| DatabaseError::Failed(format!("the image cannot be read: {error}")))?;
        Ok::<_, ApiError>((file, len, permit))
    })
    .await??;
    let (sender, receiver) = tokio::sync::mpsc::channel(IMAGE_CHUNKS_WAITING_MAX);
    tokio::task::spawn_blocking(move || {
        send_chunks(file.as_ref(), len, &sender);
        // First: whoever sees the file closed may ask again.
        drop(permit);
        drop(file);
    });
    let headers = [(CONTENT_TYPE, "application/octet-stream".to_owned()), (CONTENT_LENGTH, len.to_string())];
    Ok((StatusCode::OK, headers, Body::from_stream(ReceiverStream::new(receiver))).into_response())
}

fn send_chunks(file: &dyn DiskFile, len: u64, sender: &tokio::sync::mpsc::Sender<io::Result<Bytes>>) {
    let mut offset = 0;
    while offset < len {
        let rest = usize::try_from(len - offset).unwrap_or(usize::MAX);
        let mut chunk = vec![0; IMAGE_CHUNK_BYTES.min(rest)];
        let read = file.read_exact_at(&mut chunk, offset);
        offset += chunk.len() as u64;
        let failed = read.is_err();
        if sender.blocking_send(read.map(|()| Bytes::from(chunk))).is_err() || failed {
            return;
        }
    }
}

#[derive(Deserialize)]
#[serde(tag = "action", rename_all = "lowercase", deny_unknown_fields)]
enum Act {
    Verify {},
    Query {
        sql: String,
        time: Option<String>,
        txid: Option<u64>,
        #[serde(default)]
        write: bool,
    },
}

pub async fn act(State(shared): State<Shared>, name: Name, body: Body) -> Result<Response, ApiError> {
    let path = parse_path(name)?;
    match body::json(body).await? {
        Act::Verify {} => {
            let verified = blocking(move || shared.control.verify(&path)).await??;
            Ok(Json(verified).into_response())
        }
        Act::Query { sql, time, txid, write } => {
            let moment = match (txid, time) {
                (None, None) => Moment::Now,
                (Some(txid), None) => Moment::Txid(Txid(txid)),
                (None, Some(time)) => Moment::Time(parse_time(&time)?),
                _ => return Err(ApiError::malformed("say one of `txid` and `time`")),
            };
            if write && !matches!(moment, Moment::Now) {
                return Err(ApiError::malformed(
                    "what was cannot be changed: leave `write` or the moment out",
                ));
            }
            let asked =
                blocking(move || shared.control.ask(&path, Question { sql, moment, write })).await??;
            Ok(Json(asked).into_response())
        }
    }
}
