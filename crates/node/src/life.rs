//! The life of a node as a pure state machine: events go in, the next state or a refusal comes out.
//!
//! ```text
//!  unconfigured --configure--> starting --ready--> primary <--promote--- replica
//!       ^                         |                   | ------release------> |
//!       |                         +------- drain -----+--------- drain ------+
//!       |                                    v
//!       +-------------cleared------------ draining --drained--> stopped
//! ```
//! `drain` is either "forget the configuration", which ends in `unconfigured`, or "the process ends", which ends in
//! `stopped`; an unconfigured node goes straight to draining when the process ends. A part that failed to start does
//! not move the node: it stays `starting`, and the reason says what is tried again. Every transition has a reason
//! and the last hundred are kept.

use crate::control::{State, Transition};
use base::Timestamp;
use std::collections::VecDeque;

/// Transitions kept for `status` and diagnosis; older ones are forgotten.
pub const TRANSITIONS_KEPT: usize = 100;

/// What can happen to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifeEvent {
    /// A configuration was taken.
    Configure,
    /// Everything that must run before the app does.
    Ready,
    /// The right to write was given away.
    Release,
    /// The right to write was taken.
    Promote,
    /// The parts are being stopped.
    Drain,
    /// Nothing runs any more and the configuration is gone.
    Cleared,
    /// Nothing runs any more and the process ends.
    Drained,
}

/// An event that means nothing in this state. The caller must not act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{event:?} has no meaning while {state:?}")]
pub struct Refused {
    /// The state.
    pub state: State,
    /// The event.
    pub event: LifeEvent,
}

/// Where an event leads, or nothing where it has no meaning.
pub fn next(state: State, event: LifeEvent) -> Option<State> {
    use LifeEvent::*;
    match (state, event) {
        (State::Unconfigured, Configure) => Some(State::Starting),
        (State::Starting, Ready) => Some(State::Primary),
        (State::Primary, Release) => Some(State::Replica),
        (State::Replica, Promote) => Some(State::Primary),
        (State::Unconfigured | State::Starting | State::Primary | State::Replica, Drain) => {
            Some(State::Draining)
        }
        (State::Draining, Cleared) => Some(State::Unconfigured),
        (State::Draining, Drained) => Some(State::Stopped),
        _ => None,
    }
}

/// The state of a node, why and since when, and how it came there.
#[derive(Debug)]
pub struct Life {
    state: State,
    since: Timestamp,
    reason: String,
    transitions: VecDeque<Transition>,
}

impl Life {
    /// A node that waits for its configuration.
    pub fn new(at: Timestamp) -> Life {
        Life {
            state: State::Unconfigured,
            since: at,
            reason: "no configuration yet".to_owned(),
            transitions: VecDeque::with_capacity(TRANSITIONS_KEPT),
        }
    }

    /// The state.
    pub fn state(&self) -> State {
        self.state
    }

    /// Since when.
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// Why.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Moves the node, or says why the event means nothing now.
    pub fn apply(&mut self, event: LifeEvent, reason: &str, at: Timestamp) -> Result<Transition, Refused> {
        let to = next(self.state, event).ok_or(Refused { state: self.state, event })?;
        let transition = Transition { time: at, from: self.state, to, reason: reason.to_owned() };
        self.state = to;
        self.since = at;
        reason.clone_into(&mut self.reason);
        if self.transitions.len() == TRANSITIONS_KEPT {
            self.transitions.pop_front();
        }
        self.transitions.push_back(transition.clone());
        Ok(transition)
    }

    /// Gives a better reason for the state the node stays in.
    pub fn explain(&mut self, reason: &str) {
        reason.clone_into(&mut self.reason);
    }

    /// The transitions kept, oldest first.
    pub fn transitions(&self) -> Vec<Transition> {
        self.transitions.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [LifeEvent; 7] = [
        LifeEvent::Configure,
        LifeEvent::Ready,
        LifeEvent::Release,
        LifeEvent::Promote,
        LifeEvent::Drain,
        LifeEvent::Cleared,
        LifeEvent::Drained,
    ];

    #[test]
    fn a_whole_life_is_told_with_reasons() {
        let mut life = Life::new(Timestamp(1));
        for (at, event, to) in [
            (2, LifeEvent::Configure, State::Starting),
            (3, LifeEvent::Ready, State::Primary),
            (4, LifeEvent::Release, State::Replica),
            (5, LifeEvent::Promote, State::Primary),
            (6, LifeEvent::Drain, State::Draining),
            (7, LifeEvent::Drained, State::Stopped),
        ] {
            let made = life.apply(event, &format!("reason {at}"), Timestamp(at)).unwrap();
            assert_eq!((made.to, made.time), (to, Timestamp(at)));
        }
        assert_eq!((life.state(), life.since(), life.reason()), (State::Stopped, Timestamp(7), "reason 7"));
        assert_eq!(life.transitions().len(), 6);
        assert_eq!(life.transitions()[0].from, State::Unconfigured);
    }

    #[test]
    fn a_forgotten_node_can_be_configured_again() {
        let mut life = Life::new(Timestamp(0));
        for event in [LifeEvent::Configure, LifeEvent::Drain, LifeEvent::Cleared, LifeEvent::Configure] {
            life.apply(event, "x", Timestamp(0)).unwrap();
        }
        assert_eq!(life.state(), State::Starting);
    }

    #[test]
    fn a_better_reason_is_no_transition() {
        let mut life = Life::new(Timestamp(0));
        life.explain("tmp/config.json was invalid");
        assert_eq!(life.reason(), "tmp/config.json was invalid");
        assert!(life.transitions().is_empty());
    }

    proptest! {
        #[test]
        fn no_event_leaves_the_drawing(events in prop::collection::vec(0..ALL.len(), 0..400)) {
            let mut life = Life::new(Timestamp(0));
            for (at, index) in events.into_iter().enumerate() {
                let before = life.state();
                match life.apply(ALL[index], "x", Timestamp(at as i64)) {
                    Ok(made) => {
                        prop_assert_eq!(made.from, before);
                        prop_assert_ne!(before, State::Stopped);
                        if made.to == State::Primary {
                            prop_assert!(matches!(before, State::Starting | State::Replica));
                        }
                    }
                    Err(refused) => prop_assert_eq!((refused.state, life.state()), (before, before)),
                }
                prop_assert!(life.transitions().len() <= TRANSITIONS_KEPT);
            }
        }
    }
}
