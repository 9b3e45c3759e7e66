//! Places for connections: a fixed number, and whoever only waits makes room for whoever comes.
//!
//! A connection is busy from a request's head to the end of its answer. Where all places are taken, the oldest that is not
//! busy (half a head, nothing, or kept for a next request) is closed. So nobody keeps others out by holding
//! connections open; busy ones are bounded in time by the limits of body and answer.

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// The places of one door.
pub struct Seats {
    free: Arc<Semaphore>,
    taken: Vec<Weak<Seat>>,
}

/// One connection's place; free again when dropped.
pub struct Seat {
    requests: AtomicUsize,
    leave: Notify,
    _permit: OwnedSemaphorePermit,
}

impl Seats {
    /// So many free places.
    pub fn new(count: usize) -> Seats {
        Seats { free: Arc::new(Semaphore::new(count)), taken: Vec::new() }
    }

    /// A place, as soon as there is one.
    pub async fn take(&mut self) -> Option<Arc<Seat>> {
        self.taken.retain(|seat| seat.strong_count() > 0);
        let permit = match Arc::clone(&self.free).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                let waiting = self.taken.iter().filter_map(Weak::upgrade);
                if let Some(seat) = waiting.into_iter().find(|seat| seat.requests.load(Ordering::SeqCst) == 0)
                {
                    seat.leave.notify_one();
                }
                Arc::clone(&self.free).acquire_owned().await.ok()?
            }
        };
        let seat = Arc::new(Seat { requests: AtomicUsize::new(0), leave: Notify::new(), _permit: permit });
        self.taken.push(Arc::downgrade(&seat));
        Some(seat)
    }
}

impl Seat {
    /// Until somebody else needs the place.
    pub async fn until_needed(&self) {
        self.leave.notified().await;
    }

    /// A request has come; it lasts until what is returned is dropped.
    pub fn begin(self: &Arc<Seat>) -> Busy {
        self.requests.fetch_add(1, Ordering::SeqCst);
        Busy(Arc::clone(self))
    }
}

/// A request that has not been answered to its end.
pub struct Busy(Arc<Seat>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::SeqCst);
    }
}

/// An answer's body; the connection is busy until it is gone.
pub struct BusyBody {
    body: Body,
    _busy: Busy,
}

impl BusyBody {
    /// The same body.
    pub fn new(body: Body, busy: Busy) -> BusyBody {
        BusyBody { body, _busy: busy }
    }
}

impl HttpBody for BusyBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_only_waits_makes_room_and_whoever_is_busy_does_not() {
        let mut seats = Seats::new(2);
        let busy = seats.take().await.unwrap();
        let _request = busy.begin();
        let idle = seats.take().await.unwrap();
        let leaves = tokio::spawn(async move { idle.until_needed().await });
        let third = seats.take().await.unwrap();
        leaves.await.unwrap();
        drop(third);
        assert!(seats.take().await.is_some());
    }
}
