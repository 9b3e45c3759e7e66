//! Events to whoever listens: one bounded queue a listener; who falls behind is cut off and must read status again.

use crate::control::Event;
use base::Timestamp;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

/// Events that a listener may be behind; beyond it the listener is cut off.
pub const EVENTS_QUEUED: usize = 256;
/// Listeners at a time; a further one takes the place of the oldest.
pub const LISTENERS: usize = 64;

/// The listeners of a node.
#[derive(Debug, Default)]
pub struct Events {
    listeners: Mutex<Vec<SyncSender<Event>>>,
}

impl Events {
    /// Events from now on.
    pub fn subscribe(&self) -> Receiver<Event> {
        let (sender, receiver) = sync_channel(EVENTS_QUEUED);
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        if listeners.len() == LISTENERS {
            listeners.remove(0);
        }
        listeners.push(sender);
        receiver
    }

    /// Tells everyone; never waits.
    pub fn tell(&self, event: &'static str, time: Timestamp, data: serde_json::Value) {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|listener| listener.try_send(Event { event, time, data: data.clone() }).is_ok());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::mpsc::TryRecvError;

    #[test]
    fn a_listener_that_falls_behind_is_cut_off_and_the_others_are_not() {
        let events = Events::default();
        let (slow, quick) = (events.subscribe(), events.subscribe());
        for n in 0..=EVENTS_QUEUED {
            events.tell("app", Timestamp(n as i64), json!({ "n": n }));
            assert_eq!(quick.recv().unwrap().time, Timestamp(n as i64));
        }
        let got = std::iter::from_fn(|| slow.try_recv().ok()).count();
        assert_eq!(got, EVENTS_QUEUED);
        assert_eq!(slow.try_recv().unwrap_err(), TryRecvError::Disconnected);
    }

    #[test]
    fn the_number_of_listeners_is_bounded() {
        let events = Events::default();
        let all: Vec<_> = (0..=LISTENERS).map(|_| events.subscribe()).collect();
        events.tell("app", Timestamp(1), json!({}));
        assert!(all[0].try_recv().is_err());
        assert!(all[1].try_recv().is_ok());
    }
}
