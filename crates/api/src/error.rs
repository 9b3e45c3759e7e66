//! The one form of an error, and the tables from what the node says to HTTP status and code.
//!
//! Each table is a `match` without a wildcard: a new variant does not compile until it has its status.

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::{HeaderValue, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};
use node::config::{Problem, Problems};
use node::control::{
    ActionError, AskError, BadCheckpointId, CheckpointError, ConfigureError, DatabaseError, LogsError,
    QueryError, RestoreError,
};
use serde::Serialize;

/// An error as the client sees it: `{"error": {"code", "message", …}}`.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct ApiError(Box<Detail>);

#[derive(Debug, Serialize)]
struct Detail {
    #[serde(skip)]
    status: StatusCode,
    code: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<Problem>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pids: Vec<u32>,
}

impl ApiError {
    /// Puts status, code and message together.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> ApiError {
        ApiError(Box::new(Detail {
            status,
            code,
            message: message.into(),
            path: None,
            hint: None,
            problems: Vec::new(),
            pids: Vec::new(),
        }))
    }

    /// A request that cannot be understood.
    pub fn malformed(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "malformed", message)
    }

    /// Adds what mends it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> ApiError {
        self.0.hint = Some(hint.into());
        self
    }

    fn path(mut self, path: impl ToString) -> ApiError {
        self.0.path = Some(path.to_string());
        self
    }

    fn pids(mut self, pids: impl IntoIterator<Item = u32>) -> ApiError {
        self.0.pids = pids.into_iter().collect();
        self
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.0.status;
        let mut response = (status, Json(serde_json::json!({ "error": self }))).into_response();
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

const CONFIGURE_HINT: &str = "configure it: `stead config apply FILE` or POST /config";
const FAILED_HINT: &str = "mend the cause and try again; the node's log says more";
const SQL_HINT: &str =
    "mend the SQL; only `write` may change rows, and other files and settings are out of reach";
const DISK_HINT: &str = "make room on the node's disk";

fn unconfigured(message: String) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "unconfigured", message).hint(CONFIGURE_HINT)
}

/// 507 where the disk is full, else 500.
fn failed(message: String, disk_full: bool) -> ApiError {
    if disk_full {
        ApiError::new(StatusCode::INSUFFICIENT_STORAGE, "disk_full", message).hint(DISK_HINT)
    } else {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", message).hint(FAILED_HINT)
    }
}

/// A restore is neither done nor rolled back: 507 where the disk is full, else 503.
fn unfinished(message: String, disk_full: bool) -> ApiError {
    if disk_full {
        return failed(message, true);
    }
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "restore_unfinished", message)
        .hint("mend the cause; it is tried again by itself, and `stead status` shows when it is done")
}

impl From<Problems> for ApiError {
    fn from(Problems(problems): Problems) -> ApiError {
        let message = match problems.as_slice() {
            [one] => format!("the configuration is not valid: {one}"),
            several => format!("the configuration has {} problems", several.len()),
        };
        let first = problems.first().filter(|_| problems.len() == 1);
        let (path, hint) = first.map(|one| (one.path.clone(), one.hint.clone())).unzip();
        let mut error = ApiError::new(StatusCode::BAD_REQUEST, "invalid_configuration", message);
        error.0.path = path.filter(|path| !path.is_empty());
        error.0.hint = hint;
        error.0.problems = problems;
        error
    }
}

impl From<BadCheckpointId> for ApiError {
    fn from(bad: BadCheckpointId) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "bad_checkpoint_id", bad.to_string())
            .hint("choose a name such as before-upgrade")
    }
}

impl From<CheckpointError> for ApiError {
    fn from(error: CheckpointError) -> ApiError {
        let message = error.to_string();
        match error {
            CheckpointError::Unconfigured => unconfigured(message),
            CheckpointError::Taken(id) => ApiError::new(StatusCode::CONFLICT, "checkpoint_exists", message)
                .hint(format!("choose another id, or remove it: stead checkpoint remove {id}")),
            CheckpointError::NotFound(_) => no_checkpoint(message),
            CheckpointError::Restoring => {
                ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "restore_running", message)
                    .hint("try again when it is done; `stead status` shows the app running again then")
            }
            CheckpointError::NoCut { pid, .. } => {
                let hint = pid.map_or_else(
                    || "try again".to_owned(),
                    |pid| format!("try again when process {pid} has ended its transaction"),
                );
                ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "no_cut", message).hint(hint).pids(pid)
            }
            CheckpointError::Unfinished { disk_full, .. } => unfinished(message, disk_full),
            CheckpointError::Failed { disk_full, .. } => failed(message, disk_full),
        }
    }
}

fn no_checkpoint(message: String) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "no_such_checkpoint", message)
        .hint("`stead checkpoint list` shows those there are")
}

impl From<RestoreError> for ApiError {
    fn from(error: RestoreError) -> ApiError {
        let message = error.to_string();
        match error {
            RestoreError::Unconfigured => unconfigured(message),
            RestoreError::NotFound(_) => no_checkpoint(message),
            RestoreError::NothingThere(_) => ApiError::new(StatusCode::NOT_FOUND, "nothing_there", message)
                .hint("`stead checkpoint list` shows what can be restored"),
            RestoreError::ToCome(..) => ApiError::malformed(message)
                .hint("a restore turns to what was: name a time that has been, or a checkpoint"),
            RestoreError::NotPrimary(_) => ApiError::new(StatusCode::CONFLICT, "not_primary", message)
                .hint("`stead promote` takes the right to write"),
            RestoreError::Running => ApiError::new(StatusCode::CONFLICT, "restore_running", message)
                .hint("wait for it to end; `stead status` shows it"),
            RestoreError::Held { path, pids, .. } => {
                let list: Vec<_> = pids.iter().map(u32::to_string).collect();
                let hint = match list.is_empty() {
                    true => "mend what the message names, or end the process that has it open".to_owned(),
                    false => format!("end the processes that have it open: kill {}", list.join(" ")),
                };
                ApiError::new(StatusCode::CONFLICT, "database_held", message).path(path).pids(pids).hint(hint)
            }
            RestoreError::History { path, .. } => {
                ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "history_damaged", message)
                    .hint(format!("`stead db verify {path}` names every damaged file"))
                    .path(path)
            }
            RestoreError::AppNotStopped => {
                ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "app_not_stopped", message)
                    .hint("the log says what is in the way; end the app's processes and restore again")
            }
            RestoreError::Unfinished { disk_full, .. } => unfinished(message, disk_full),
            RestoreError::NotBegun { disk_full, .. } | RestoreError::Failed { disk_full, .. } => {
                failed(message, disk_full)
            }
        }
    }
}

impl From<ConfigureError> for ApiError {
    fn from(error: ConfigureError) -> ApiError {
        let message = error.to_string();
        match error {
            ConfigureError::AlreadyConfigured => already_configured(),
            ConfigureError::Unconfigured => not_configured(message),
            ConfigureError::NotSaved(_) => failed(message, false).hint(DISK_HINT),
        }
    }
}

/// There is a configuration already.
pub fn already_configured() -> ApiError {
    ApiError::new(
        StatusCode::BAD_REQUEST,
        "already_configured",
        ConfigureError::AlreadyConfigured.to_string(),
    )
    .hint("PUT /config changes it; DELETE /config forgets it, never the data")
}

/// There is no configuration to show, change or forget.
pub fn not_configured(message: String) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "unconfigured", message).hint(CONFIGURE_HINT)
}

impl From<ActionError> for ApiError {
    fn from(error: ActionError) -> ApiError {
        let message = error.to_string();
        match error {
            ActionError::Unconfigured => unconfigured(message),
            ActionError::NotNow(_) => ApiError::new(StatusCode::CONFLICT, "not_now", message)
                .hint("`stead status` shows the node's state"),
            ActionError::Unfinished { disk_full, .. } => unfinished(message, disk_full),
            ActionError::Failed(_) => failed(message, false),
        }
    }
}

impl From<DatabaseError> for ApiError {
    fn from(error: DatabaseError) -> ApiError {
        let message = error.to_string();
        match error {
            DatabaseError::Unconfigured => unconfigured(message),
            DatabaseError::NotFound(_) => no_database(message),
            DatabaseError::NothingThere(_) => ApiError::new(StatusCode::NOT_FOUND, "nothing_there", message)
                .hint("`stead db log PATH` shows how far its history reaches"),
            DatabaseError::Damaged(_) => {
                ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "history_damaged", message)
                    .hint("`stead db verify PATH` names every damaged file")
            }
            DatabaseError::Failed(_) => failed(message, false),
        }
    }
}

impl From<LogsError> for ApiError {
    fn from(error: LogsError) -> ApiError {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "no_lines", error.to_string()).hint("try again")
    }
}

impl From<AskError> for ApiError {
    fn from(error: AskError) -> ApiError {
        let message = error.to_string();
        let unavailable = |code, hint: &str| {
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, code, message.clone()).hint(hint)
        };
        match error {
            AskError::Database(error) => error.into(),
            AskError::NotPrimary(_) => ApiError::new(StatusCode::CONFLICT, "not_primary", message)
                .hint("`stead promote` takes the right to write"),
            AskError::NotNow(_) => unavailable("database_busy", "try again when it is done"),
            AskError::Ended(_) => {
                unavailable("query_ended", "look whether the changes are there, then ask again")
            }
            AskError::TooMany(_) => unavailable("too_many_queries", "try again when one of them has ended"),
            AskError::Query(QueryError::Sql(_)) => {
                ApiError::new(StatusCode::BAD_REQUEST, "sql_error", message).hint(SQL_HINT)
            }
            AskError::Query(QueryError::Slow) => {
                unavailable("query_too_slow", "ask for less, or export the database and ask the copy")
            }
            AskError::Query(QueryError::Busy) => unavailable("database_busy", "try again"),
            AskError::Query(QueryError::Failed(_)) => failed(message, false),
        }
    }
}

/// There is no such database.
pub fn no_database(message: String) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "no_such_database", message)
        .hint("`stead db list` shows those there are")
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::DatabasePath;
    use node::control::CheckpointId;

    fn id() -> CheckpointId {
        CheckpointId::parse("c1").unwrap()
    }

    fn path() -> DatabasePath {
        DatabasePath::parse("data/a.db").unwrap()
    }

    #[test]
    fn every_error_has_its_status_and_code() {
        let held = || RestoreError::Held { path: path(), reason: "pid 7".into(), pids: vec![7] };
        let table: Vec<(ApiError, u16, &str)> = vec![
            (CheckpointError::Unconfigured.into(), 400, "unconfigured"),
            (CheckpointError::Taken(id()).into(), 409, "checkpoint_exists"),
            (CheckpointError::NotFound(id()).into(), 404, "no_such_checkpoint"),
            (CheckpointError::Restoring.into(), 503, "restore_running"),
            (CheckpointError::NoCut { limit_ms: 5, reason: "x".into(), pid: Some(7) }.into(), 503, "no_cut"),
            (CheckpointError::Failed { reason: "x".into(), disk_full: false }.into(), 500, "failed"),
            (CheckpointError::Failed { reason: "x".into(), disk_full: true }.into(), 507, "disk_full"),
            (BadCheckpointId("../x".into()).into(), 400, "bad_checkpoint_id"),
            (RestoreError::Unconfigured.into(), 400, "unconfigured"),
            (RestoreError::NotFound(id()).into(), 404, "no_such_checkpoint"),
            (RestoreError::NothingThere("x".into()).into(), 404, "nothing_there"),
            (RestoreError::ToCome(base::Timestamp(2), base::Timestamp(1)).into(), 400, "malformed"),
            (RestoreError::NotPrimary("x".into()).into(), 409, "not_primary"),
            (RestoreError::Running.into(), 409, "restore_running"),
            (held().into(), 409, "database_held"),
            (RestoreError::History { path: path(), reason: "x".into() }.into(), 500, "history_damaged"),
            (RestoreError::AppNotStopped.into(), 500, "app_not_stopped"),
            (RestoreError::NotBegun { reason: "x".into(), disk_full: false }.into(), 500, "failed"),
            (RestoreError::NotBegun { reason: "x".into(), disk_full: true }.into(), 507, "disk_full"),
            (RestoreError::Failed { reason: "x".into(), disk_full: false }.into(), 500, "failed"),
            (RestoreError::Failed { reason: "x".into(), disk_full: true }.into(), 507, "disk_full"),
            (
                RestoreError::Unfinished { reason: "x".into(), disk_full: false }.into(),
                503,
                "restore_unfinished",
            ),
            (RestoreError::Unfinished { reason: "x".into(), disk_full: true }.into(), 507, "disk_full"),
            (ConfigureError::AlreadyConfigured.into(), 400, "already_configured"),
            (ConfigureError::Unconfigured.into(), 404, "unconfigured"),
            (ConfigureError::NotSaved("x".into()).into(), 500, "failed"),
            (ActionError::Unconfigured.into(), 400, "unconfigured"),
            (ActionError::NotNow("x".into()).into(), 409, "not_now"),
            (ActionError::Failed("x".into()).into(), 500, "failed"),
            (DatabaseError::Unconfigured.into(), 400, "unconfigured"),
            (DatabaseError::NotFound("x".into()).into(), 404, "no_such_database"),
            (DatabaseError::NothingThere("x".into()).into(), 404, "nothing_there"),
            (DatabaseError::Damaged("x".into()).into(), 500, "history_damaged"),
            (DatabaseError::Failed("x".into()).into(), 500, "failed"),
            (AskError::Database(DatabaseError::Unconfigured).into(), 400, "unconfigured"),
            (AskError::NotPrimary("x".into()).into(), 409, "not_primary"),
            (LogsError::NoAnswer.into(), 503, "no_lines"),
            (LogsError::Busy.into(), 503, "no_lines"),
            (AskError::TooMany(4).into(), 503, "too_many_queries"),
            (AskError::Query(QueryError::Sql("x".into())).into(), 400, "sql_error"),
            (AskError::Query(QueryError::Slow).into(), 503, "query_too_slow"),
            (AskError::Query(QueryError::Busy).into(), 503, "database_busy"),
            (AskError::NotNow("x".into()).into(), 503, "database_busy"),
            (AskError::Ended("x".into()).into(), 503, "query_ended"),
            (AskError::Query(QueryError::Failed("x".into())).into(), 500, "failed"),
            (Problems(vec![Problem::new("a", "b", "c")]).into(), 400, "invalid_configuration"),
        ];
        for (error, status, code) in table {
            assert_eq!((error.0.status.as_u16(), error.0.code), (status, code), "{}", error.0.message);
        }
        let held: ApiError = held().into();
        assert_eq!(held.0.pids, [7]);
        assert_eq!(held.0.path.as_deref(), Some("data/a.db"));
        assert!(held.0.hint.unwrap().contains("kill 7"));
    }
}
