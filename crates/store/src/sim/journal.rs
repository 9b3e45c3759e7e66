//! What was asked of a simulated store and what came of it: the same seed leaves the same lines.

use super::faults::{Call, Fault, Verb};
use crate::{Key, Outcome};
use std::collections::BTreeMap;
use std::time::Duration;

/// Requests and bytes, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Calls of [`crate::Objects::create`].
    pub creates: u64,
    /// Calls of [`crate::Objects::replace`].
    pub replaces: u64,
    /// Calls of [`crate::Objects::read`].
    pub reads: u64,
    /// Calls of [`crate::Objects::remove`].
    pub removes: u64,
    /// Calls of [`crate::Objects::list`].
    pub lists: u64,
    /// Bytes of objects that were sent, arrived or not.
    pub sent_bytes: u64,
    /// Bytes of objects that were answered.
    pub fetched_bytes: u64,
}

impl Traffic {
    /// All requests.
    pub fn requests(&self) -> u64 {
        self.creates + self.replaces + self.reads + self.removes + self.lists
    }

    fn add(&mut self, other: &Traffic) {
        self.creates += other.creates;
        self.replaces += other.replaces;
        self.reads += other.reads;
        self.removes += other.removes;
        self.lists += other.lists;
        self.sent_bytes += other.sent_bytes;
        self.fetched_bytes += other.fetched_bytes;
    }
}

#[derive(Debug, Default)]
pub(super) struct Journal {
    lines: Vec<String>,
    traffic: BTreeMap<String, Traffic>,
}

impl Journal {
    pub(super) fn count(&mut self, call: &Call<'_>) {
        let traffic = self.of(call.machine);
        let counter = match call.verb {
            Verb::Create => &mut traffic.creates,
            Verb::Replace => &mut traffic.replaces,
            Verb::Read => &mut traffic.reads,
            Verb::Remove => &mut traffic.removes,
            Verb::List => &mut traffic.lists,
        };
        *counter += 1;
    }

    pub(super) fn sent(&mut self, machine: &str, bytes: usize) {
        self.of(machine).sent_bytes += bytes as u64;
    }

    pub(super) fn fetched(&mut self, machine: &str, bytes: usize) {
        self.of(machine).fetched_bytes += bytes as u64;
    }

    fn of(&mut self, machine: &str) -> &mut Traffic {
        self.traffic.entry(machine.to_owned()).or_default()
    }

    pub(super) fn note(&mut self, now: Duration, call: &Call<'_>, fault: Option<Fault>, what: &str) {
        let (ms, machine, verb) = (now.as_millis(), call.machine, call.verb.word());
        let key = call.key.map_or("", Key::as_str);
        let fault = fault.map_or(String::new(), |fault| format!(" [{fault:?}]"));
        self.lines.push(format!("{ms} {machine} {verb} {key} {what}{fault}"));
    }

    pub(super) fn note_late(&mut self, machine: &str, verb: Verb, key: &Key, outcome: &Outcome) {
        self.lines.push(format!("{machine} {} {key} arrived late: {outcome:?}", verb.word()));
    }

    pub(super) fn lines(&self) -> &[String] {
        &self.lines
    }

    /// Of one machine, or of all.
    pub(super) fn traffic(&self, machine: Option<&str>) -> Traffic {
        let mut sum = Traffic::default();
        let meant = |name: &str| machine.is_none_or(|machine| machine == name);
        self.traffic.iter().filter(|(name, _)| meant(name)).for_each(|(_, one)| sum.add(one));
        sum
    }
}
