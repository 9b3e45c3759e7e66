//! What goes wrong on the way to a simulated store: outages first, then the script, then chance.
//!
//! A refusal that speaks of another writer (412) is never made up: it would be a lie that no store tells.

use crate::{ErrorKind, Key};
use base::sim::SimRandom;
use std::ops::Range;
use std::time::Duration;

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// [`crate::Objects::create`].
    Create,
    /// [`crate::Objects::replace`].
    Replace,
    /// [`crate::Objects::read`].
    Read,
    /// [`crate::Objects::remove`].
    Remove,
    /// [`crate::Objects::list`].
    List,
}

impl Verb {
    /// Its word in the log.
    pub fn word(self) -> &'static str {
        match self {
            Verb::Create => "create",
            Verb::Replace => "replace",
            Verb::Read => "read",
            Verb::Remove => "remove",
            Verb::List => "list",
        }
    }

    /// Whether it has an [`crate::Outcome`].
    pub fn is_conditional(self) -> bool {
        matches!(self, Verb::Create | Verb::Replace)
    }
}

/// What goes wrong with one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is done, and the answer takes this long.
    Slow(Duration),
    /// Nothing is done, and the caller knows: 403, 500, 503, no room, no bucket, no connection.
    Error(ErrorKind),
    /// 409: nothing is done. A conditional write is [`crate::Outcome::Unknown`], anything else an error.
    Conflict,
    /// Nothing is done, and nobody says so: a conditional write is unknown, anything else timed out.
    RequestLost,
    /// It is done, and nobody says so. Of several removals only some are.
    ReplyLost,
    /// As [`Fault::RequestLost`], but a conditional write arrives so many calls later, if it still may.
    Late(u64),
    /// The content is asked for twice, as a store does that has to send it again.
    Again,
    /// The listing is as it was so many changes ago.
    OldListing(usize),
    /// The listing leaves out some objects, by the seed.
    GappyListing,
}

impl Fault {
    fn fits(self, verb: Verb) -> bool {
        match self {
            Fault::Slow(_) | Fault::Error(_) | Fault::RequestLost | Fault::ReplyLost => true,
            Fault::Conflict | Fault::Late(_) => verb.is_conditional(),
            Fault::Again => verb == Verb::Create,
            Fault::OldListing(_) | Fault::GappyListing => verb == Verb::List,
        }
    }

    /// Whether the caller hears nothing until its patience ends.
    pub(super) fn is_silent(self) -> bool {
        match self {
            Fault::RequestLost | Fault::ReplyLost | Fault::Late(_) => true,
            Fault::Error(kind) => kind == ErrorKind::Timeout,
            _ => false,
        }
    }
}

/// A fault of the script: which calls it befalls. Without more words, the next call.
#[derive(Clone, Debug)]
pub struct Rule {
    fault: Fault,
    verb: Option<Verb>,
    machine: Option<String>,
    key_part: String,
    skip: u64,
    times: u64,
}

impl Rule {
    /// The next call that the rule is for fails so.
    pub fn new(fault: Fault) -> Rule {
        Rule { fault, verb: None, machine: None, key_part: String::new(), skip: 0, times: 1 }
    }

    /// Only calls of this kind.
    #[must_use]
    pub fn on(self, verb: Verb) -> Rule {
        Rule { verb: Some(verb), ..self }
    }

    /// Only calls of this machine.
    #[must_use]
    pub fn from(self, machine: &str) -> Rule {
        Rule { machine: Some(machine.to_owned()), ..self }
    }

    /// Only objects with this in their name (a removal or listing is known by its first key, or none).
    #[must_use]
    pub fn keys_with(self, part: &str) -> Rule {
        Rule { key_part: part.to_owned(), ..self }
    }

    /// Lets so many pass first.
    #[must_use]
    pub fn after(self, calls: u64) -> Rule {
        Rule { skip: calls, ..self }
    }

    /// So many of them, one after another.
    #[must_use]
    pub fn times(self, times: u64) -> Rule {
        Rule { times, ..self }
    }

    fn is_due(&mut self, call: &Call<'_>) -> bool {
        let key = call.key.map_or("", Key::as_str);
        let is_meant = self.times > 0
            && self.fault.fits(call.verb)
            && self.verb.is_none_or(|verb| verb == call.verb)
            && self.machine.as_deref().is_none_or(|machine| machine == call.machine)
            && key.contains(&self.key_part);
        if is_meant && self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        self.times -= u64::from(is_meant);
        is_meant
    }
}

/// How often chance strikes, in thousandths of the calls that a fault fits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chances {
    /// [`Fault::Slow`].
    pub slow: u64,
    /// [`Fault::Error`] with no connection, no answer, 403, 500, 503, throttling or a full store.
    pub error: u64,
    /// [`Fault::Conflict`].
    pub conflict: u64,
    /// [`Fault::RequestLost`].
    pub request_lost: u64,
    /// [`Fault::ReplyLost`].
    pub reply_lost: u64,
    /// [`Fault::Late`].
    pub late: u64,
    /// [`Fault::Again`].
    pub again: u64,
    /// [`Fault::OldListing`] and [`Fault::GappyListing`].
    pub bad_listing: u64,
}

/// The longest delay that chance brings.
const SLOW_MAX: Duration = Duration::from_secs(20);
/// The most calls by which chance makes a write late.
const LATE_CALLS_MAX: u64 = 30;
/// The most changes by which chance makes a listing old.
const OLD_CHANGES_MAX: u64 = 30;

const ERRORS: [ErrorKind; 7] = [
    ErrorKind::Unreachable,
    ErrorKind::Timeout,
    ErrorKind::Denied,
    ErrorKind::Server,
    ErrorKind::Server,
    ErrorKind::Throttled,
    ErrorKind::Full,
];

impl Chances {
    /// Everything, now and then: one call in four goes wrong.
    pub fn storm() -> Chances {
        Chances {
            slow: 50,
            error: 60,
            conflict: 30,
            request_lost: 30,
            reply_lost: 40,
            late: 20,
            again: 30,
            bad_listing: 300,
        }
    }

    fn draw(&self, verb: Verb, random: &SimRandom) -> Option<Fault> {
        if *self == Chances::default() {
            return None;
        }
        let (mut at, size) = (random.below(1000), random.below(u64::MAX));
        let one_up_to = |most: u64| 1 + size % most;
        let listing = if size.is_multiple_of(2) {
            Fault::OldListing(usize::try_from(one_up_to(OLD_CHANGES_MAX)).unwrap_or(1))
        } else {
            Fault::GappyListing
        };
        let error = usize::try_from(size % ERRORS.len() as u64).unwrap_or(0);
        let slow_ms = one_up_to(SLOW_MAX.as_millis().try_into().unwrap_or(u64::MAX));
        let faults = [
            (self.slow, Fault::Slow(Duration::from_millis(slow_ms))),
            (self.error, Fault::Error(ERRORS[error])),
            (self.conflict, Fault::Conflict),
            (self.request_lost, Fault::RequestLost),
            (self.reply_lost, Fault::ReplyLost),
            (self.late, Fault::Late(one_up_to(LATE_CALLS_MAX))),
            (self.again, Fault::Again),
            (self.bad_listing, listing),
        ];
        for (thousandths, fault) in faults.into_iter().filter(|(_, fault)| fault.fits(verb)) {
            match at.checked_sub(thousandths) {
                None => return Some(fault),
                Some(left) => at = left,
            }
        }
        None
    }
}

/// One call, as the faults see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call<'a> {
    pub(super) machine: &'a str,
    pub(super) verb: Verb,
    pub(super) key: Option<&'a Key>,
}

#[derive(Debug)]
struct Outage {
    machine: Option<String>,
    /// By the boot time of the machine that asks.
    when: Range<Duration>,
    kind: ErrorKind,
}

/// All that is to go wrong.
#[derive(Debug, Default)]
pub(super) struct Faults {
    rules: Vec<Rule>,
    chances: Chances,
    outages: Vec<Outage>,
}

impl Faults {
    pub(super) fn script(&mut self, rule: Rule) {
        self.rules.push(rule);
    }

    pub(super) fn set_chances(&mut self, chances: Chances) {
        self.chances = chances;
    }

    pub(super) fn outage(&mut self, machine: Option<&str>, when: Range<Duration>, kind: ErrorKind) {
        self.outages.push(Outage { machine: machine.map(str::to_owned), when, kind });
    }

    /// What befalls a call that a machine makes at this boot time.
    pub(super) fn befalls(&mut self, call: &Call<'_>, now: Duration, random: &SimRandom) -> Option<Fault> {
        let chance = self.chances.draw(call.verb, random);
        let meets = |outage: &&Outage| {
            outage.when.contains(&now)
                && outage.machine.as_deref().is_none_or(|machine| machine == call.machine)
        };
        if let Some(outage) = self.outages.iter().find(meets) {
            return Some(Fault::Error(outage.kind));
        }
        self.rules.iter_mut().find_map(|rule| rule.is_due(call).then_some(rule.fault)).or(chance)
    }
}
