//! `/config`: the configuration, shown without its secrets.

use super::{Shared, blocking};
use crate::body;
use crate::error::{ApiError, already_configured, not_configured};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use node::config::Config;
use node::control::{ConfigureError, Status};
use serde_json::{Value, json};

pub async fn show(State(shared): State<Shared>) -> Result<Json<Value>, ApiError> {
    let config = blocking(move || shared.control.config()).await?;
    let config = config.ok_or_else(|| not_configured(ConfigureError::Unconfigured.to_string()))?;
    Ok(Json(config.redacted_json()))
}

pub async fn configure(State(shared): State<Shared>, body: Body) -> Result<Json<Status>, ApiError> {
    let bytes = body::bytes(body).await?;
    let status = blocking(move || {
        if shared.control.config().is_some() {
            return Err(already_configured());
        }
        let config = accept(&shared, &bytes)?;
        Ok(shared.control.configure(config)?)
    })
    .await??;
    Ok(Json(status))
}

pub async fn change(State(shared): State<Shared>, body: Body) -> Result<Json<Value>, ApiError> {
    let bytes = body::bytes(body).await?;
    let changed = blocking(move || {
        if shared.control.config().is_none() {
            return Err(ConfigureError::Unconfigured.into());
        }
        let config = accept(&shared, &bytes)?;
        Ok::<_, ApiError>(shared.control.reconfigure(config)?)
    })
    .await??;
    Ok(Json(json!({
        "changed": true,
        "after_restart": changed.after_restart,
        "kept_by_flags": changed.kept_by_flags,
    })))
}

pub async fn forget(State(shared): State<Shared>) -> Result<Json<Value>, ApiError> {
    blocking(move || shared.control.forget()).await??;
    Ok(Json(json!({ "configured": false })))
}

fn accept(shared: &Shared, bytes: &[u8]) -> Result<Config, ApiError> {
    let config = Config::from_json(bytes)?;
    config.check_primary(&shared.control.status().node)?;
    Ok(config)
}
