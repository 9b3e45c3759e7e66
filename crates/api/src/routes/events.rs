//! `GET /events`: what happens, as it happens.

use super::Shared;
use crate::error::ApiError;
use crate::limits::{EVENT_KEEP_ALIVE, EVENT_POLL, EVENT_READERS_MAX, EVENTS_WAITING_MAX};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use node::control::Event;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use tokio_stream::wrappers::ReceiverStream;

pub async fn stream(State(shared): State<Shared>) -> Result<Response, ApiError> {
    let Ok(permit) = Arc::clone(&shared.event_readers).try_acquire_owned() else {
        return Err(ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too_many_readers",
            format!("{EVENT_READERS_MAX} clients read events already"),
        ));
    };
    let (sender, receiver) = tokio::sync::mpsc::channel(EVENTS_WAITING_MAX);
    // Before the answer's head: whoever has that misses nothing from then on.
    let events = shared.control.events();
    tokio::task::spawn_blocking(move || {
        let _permit = permit;
        while !sender.is_closed() && !*shared.stopping.borrow() {
            match events.recv_timeout(EVENT_POLL) {
                // A reader that is too slow is cut off: it sees the end and can begin again.
                Ok(event) if sender.try_send(encode(&event)).is_err() => return,
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    });
    let stream =
        Sse::new(ReceiverStream::new(receiver)).keep_alive(KeepAlive::new().interval(EVENT_KEEP_ALIVE));
    Ok(stream.into_response())
}

fn encode(event: &Event) -> Result<Sent, Infallible> {
    let data = serde_json::json!({ "time": event.time, "data": event.data });
    Ok(Sent::default().event(event.event).data(data.to_string()))
}
