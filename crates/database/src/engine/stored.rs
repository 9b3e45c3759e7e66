//! The store as the engine has it: taken, away, or somebody else's; and how far it is behind.

use super::schedule::Task;
use super::send::{Failed, STORE_HINT, STORE_RETRY, clear_store_trouble, show_store_trouble, store_hint};
use super::slot::{Slot, State};
use super::tenure::rights_had;
use super::{Engine, Notice, Settings, Shared, StartError};
use crate::bucket::{Bucket, BucketError};
use crate::history::{History, HistoryError, Stored, parse_store_key, store_key};
use base::{DatabasePath, Epoch, Incarnation, Timestamp};
use std::collections::BTreeSet;
use std::io;
use std::sync::mpsc::channel;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use store::{BadManifest, ErrorKind, Key, Objects, Outcome, StoreError};

/// Where the configuration lies in a store.
pub const CONFIGURATION_KEY: &str = ".stead/configuration";
/// The most bytes of it that are read.
pub const CONFIGURATION_BYTES_MAX: usize = 4 << 20;

/// How long a start waits for a store that does not answer.
pub const FIRST_ANSWER_WAIT_MAX: Duration = Duration::from_secs(5);

/// What is known of the store as a whole.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Since when it does not do what it is asked, and what it said last.
    outage: Option<Outage>,
    /// How often that was so, and how long altogether but for the present time.
    outages: (u64, Duration),
    /// What failed and was not done since.
    failing: BTreeSet<Task>,
    /// Whoever may not write there any more stops: said once.
    refused: Option<Arc<BucketError>>,
    /// The store has the configuration.
    configured: bool,
    /// The configuration that it is to keep, where it has changed since the start.
    changed: Option<serde_json::Value>,
}

#[derive(Clone, Debug)]
struct Outage {
    /// Since when (boot time).
    since: Duration,
    /// What it said last.
    error: Arc<BucketError>,
    /// When somebody may ask it again.
    ask_at: Duration,
}

/// How the store is.
#[derive(Clone, Debug)]
pub enum StoreState {
    /// This run writes to it.
    Held,
    /// It does not do what it is asked; what it lacks is kept here.
    Away {
        /// Since when (boot time).
        since: Duration,
        /// What it says.
        error: Arc<BucketError>,
    },
    /// This run may not write to it.
    Refused {
        /// Why.
        error: Arc<BucketError>,
    },
}

/// What is shown of the store.
#[derive(Clone, Debug)]
pub struct StoreInfo {
    /// Where it is, without secrets.
    pub url: String,
    /// How it is.
    pub state: StoreState,
    /// The right to write that this run has; `None` while the store has not given it.
    pub epoch: Option<Epoch>,
    /// How often it was away since the start.
    pub outages: u64,
    /// How long altogether, the present time with it.
    pub away: Duration,
}

impl Engine {
    /// How the store is; `None` without one.
    pub fn store(&self) -> Option<StoreInfo> {
        let settings = self.shared.settings.store.as_ref()?;
        let known = self.shared.known_store();
        let state = match (&known.refused, &known.outage) {
            (Some(error), _) => StoreState::Refused { error: Arc::clone(error) },
            (None, Some(Outage { since, error, .. })) => {
                StoreState::Away { since: *since, error: Arc::clone(error) }
            }
            (None, None) => StoreState::Held,
        };
        let (outages, ended) = known.outages;
        let present = known.outage.as_ref().map(|outage| self.shared.now().saturating_sub(outage.since));
        drop(known);
        let epoch = self.shared.bucket().map(|bucket| bucket.epoch());
        let away = ended + present.unwrap_or_default();
        Some(StoreInfo { url: settings.objects.url().to_owned(), state, epoch, outages, away })
    }

    /// Has the store keep another configuration than the one that this started with; it is sent at once.
    pub fn keep_configuration(&self, configuration: serde_json::Value) {
        {
            let mut known = self.shared.known_store();
            (known.changed, known.configured) = (Some(configuration), false);
        }
        self.shared.ledger_changed();
    }
}

impl Shared {
    fn known_store(&self) -> std::sync::MutexGuard<'_, Known> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store, while it is this run's.
    pub(super) fn bucket(&self) -> Option<Arc<Bucket>> {
        self.bucket.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The right to write: the store's, where it has given one.
    pub(super) fn epoch(&self) -> Epoch {
        self.bucket().map_or(self.settings.epoch, |bucket| bucket.epoch())
    }

    /// Takes the store before anything starts. One that is away is gone on without.
    pub(super) fn take_store(&self) -> Result<(), StartError> {
        match self.try_take_store() {
            Err(error) if !self.is_passing(&error) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// The same, but where it does not answer for so long it is gone on without, and taken when it does.
    pub(super) fn take_store_in_time(shared: &Arc<Shared>) -> Result<(), StartError> {
        let Some(store) = &shared.settings.store else { return Ok(()) };
        let (answer, answered) = channel();
        let taking = Arc::clone(shared);
        let spawned = std::thread::Builder::new().name("stead-take".to_owned()).spawn(move || {
            // Whoever starts may have gone on.
            let _ = answer.send(taking.take_store());
        });
        if spawned.is_err() {
            return shared.take_store();
        }
        answered.recv_timeout(FIRST_ANSWER_WAIT_MAX).unwrap_or_else(|_| {
            let waited = FIRST_ANSWER_WAIT_MAX.as_secs();
            let reason = format!("it has not answered for {waited} s");
            let error = StoreError::new(ErrorKind::Timeout, store.objects.url(), None, reason);
            shared.store_failed(&error.into());
            Ok(())
        })
    }

    /// Takes the store, if it is not taken yet.
    pub(super) fn try_take_store(&self) -> Result<(), BucketError> {
        // To take it twice would be to fence oneself.
        let _taking = self.taking.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(settings) = self.settings.store.as_ref().filter(|_| self.bucket().is_none()) else {
            return Ok(());
        };
        let (clock, random) = (Arc::clone(&self.settings.machine.clock), &*self.settings.machine.random);
        let objects = Arc::clone(&settings.objects);
        let had = rights_had(&*self.settings.machine.disk, &self.settings.home, objects.url());
        match Bucket::open(objects, settings.owner.clone(), settings.claim, had, clock, random) {
            // It was given up meanwhile, and may have a successor.
            Ok(_) if self.is_over() => Err(BucketError::Unknown { store: settings.objects.url().to_owned() }),
            Ok(bucket) => {
                let epoch = bucket.epoch();
                self.remember_store(settings.objects.url(), epoch);
                tracing::info!(event = "store taken", store = settings.objects.url(), epoch = epoch.0);
                *self.bucket.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(bucket));
                for slot in self.slots() {
                    if let State::Live(live) = &mut *slot.lock() {
                        live.set_epoch(epoch);
                    }
                }
                self.store_answers();
                Ok(())
            }
            Err(error) => {
                self.store_failed(&error);
                Err(error)
            }
        }
    }

    /// Notes that the store does what it is asked.
    fn store_answers(&self) {
        let mut known = self.known_store();
        let Some(outage) = known.outage.take() else { return };
        let lasted = self.now().saturating_sub(outage.since);
        known.outages.1 += lasted;
        drop(known);
        tracing::info!(event = "store back", seconds = lasted.as_secs(), "what it lacked is sent");
        self.notice(Notice::StoreBack { after: lasted });
        self.slots().iter().for_each(|slot| slot.was_sent());
        self.send_all();
    }

    /// What became of a task. The store is back once nothing fails any more.
    pub(super) fn tried(&self, task: &Task, failed: Option<Failed>) {
        let now = self.now();
        let mut known = self.known_store();
        if failed != Some(Failed::Store) {
            known.failing.remove(task);
        } else if known.outage.is_some() {
            known.failing.insert(task.clone());
        }
        if failed.is_some() {
            return;
        }
        // Whoever else waits need not, until one fails again.
        if let Some(outage) = &mut known.outage {
            outage.ask_at = now;
        }
        let failing: Vec<Task> = known.failing.iter().cloned().collect();
        drop(known);
        if failing.is_empty() {
            self.store_answers();
        }
        failing.into_iter().for_each(|task| self.ask(task, now));
    }

    /// While the store is away: when the next one may ask it. Whoever is told `None` does.
    pub(super) fn waits_for_store(&self) -> Option<Duration> {
        let now = self.now();
        let mut known = self.known_store();
        let outage = known.outage.as_mut()?;
        if now < outage.ask_at {
            return Some(outage.ask_at);
        }
        outage.ask_at = now + STORE_RETRY;
        None
    }

    /// Whether the same may succeed later, by itself. What is damaged in a store that this home has may be mended; one
    /// that it never had is another's, as far as anybody knows.
    fn is_passing(&self, error: &BucketError) -> bool {
        match error {
            BucketError::Store(error) => error.kind != ErrorKind::Unsupported,
            BucketError::Unknown { .. }
            | BucketError::Vanished { .. }
            | BucketError::Older { .. }
            | BucketError::TurnedBack { .. } => true,
            BucketError::Manifest { reason: BadManifest::Newer { .. }, .. } => false,
            BucketError::Manifest { .. } | BucketError::Missing { .. } => {
                self.bucket().is_some() || self.has_had_store()
            }
            BucketError::Foreign { .. } | BucketError::Taken { .. } | BucketError::Fenced { .. } => false,
        }
    }

    /// Whether this home had the very store before.
    fn has_had_store(&self) -> bool {
        let Settings { machine, home, store, .. } = &self.settings;
        let url = store.as_ref().map(|store| store.objects.url());
        url.is_some_and(|url| rights_had(&*machine.disk, home, url).here.is_some())
    }

    /// Notes that it does not do what it is asked, and whether this run may go on at all.
    pub(super) fn store_failed(&self, error: &BucketError) {
        if self.is_over() {
            return;
        }
        let ask_at = self.now() + STORE_RETRY;
        let mut known = self.known_store();
        if self.is_passing(error) {
            let error = Arc::new(error.clone());
            let news = match &mut known.outage {
                Some(outage) => {
                    (outage.error, outage.ask_at) = (error, ask_at);
                    None
                }
                None => {
                    tracing::error!(event = "store away", %error, "what it lacks is kept here and sent by itself");
                    known.outage = Some(Outage { since: self.now(), error: Arc::clone(&error), ask_at });
                    known.outages.0 += 1;
                    Some(error)
                }
            };
            drop(known);
            if let Some(error) = news {
                self.notice(Notice::StoreAway { error });
            }
            self.ask(Task::SendLedger, ask_at);
            return;
        }
        if known.refused.is_none() {
            tracing::error!(event = "store refused", %error, "nothing is sent there any more");
            known.refused = Some(Arc::new(error.clone()));
            drop(known);
            // What it lacked is not sent by itself any more.
            self.slots().iter().for_each(|slot| clear_store_trouble(slot));
            self.notice(Notice::StoreRefused { error: Arc::new(error.clone()) });
        }
    }

    /// Whether it does not do what it is asked.
    pub(super) fn store_is_away(&self) -> bool {
        self.known_store().outage.is_some()
    }

    /// Whether nothing may be written to the store any more.
    pub(super) fn store_is_refused(&self) -> bool {
        self.known_store().refused.is_some()
    }

    /// Has the store keep the configuration, for a machine that has nothing else.
    pub(super) fn keep_configuration(&self, bucket: &Bucket) -> Result<(), Failed> {
        let wanted = {
            let known = self.known_store();
            let started_with = || self.settings.store.as_ref()?.configuration.clone();
            if known.configured { None } else { known.changed.clone().or_else(started_with) }
        };
        let Some(wanted) = wanted else { return Ok(()) };
        let bytes = wanted.to_string().into_bytes();
        let put = bucket.check_to_remove().and_then(|()| {
            put(&**bucket.objects(), &bytes, self.settings.machine.clock.now()).map_err(BucketError::from)
        });
        match put {
            Ok(there) => {
                let mut known = self.known_store();
                // Another one may be wanted by now; its task is on the way.
                let is_newest = known.changed.as_ref().is_none_or(|changed| *changed == wanted);
                known.configured = there && is_newest;
                if there { Ok(()) } else { Err(Failed::Store) }
            }
            Err(error) => {
                self.store_failed(&error);
                Err(Failed::Store)
            }
        }
    }

    /// What the store has of one incarnation; `None` without a store.
    pub(super) fn stored(
        &self,
        path: &DatabasePath,
        incarnation: Incarnation,
    ) -> Result<Option<Stored>, HistoryError> {
        let Some(settings) = &self.settings.store else { return Ok(None) };
        let failed =
            |cause: io::Error| HistoryError { path: settings.objects.url().into(), cause, of_store: true };
        let Some(bucket) = self.bucket() else {
            let reason = self.known_store().outage.as_ref().map(|outage| outage.error.to_string());
            return Err(failed(io::Error::other(reason.unwrap_or_else(|| "it is away".to_owned()))));
        };
        let stored = bucket.stored(&store_key(path, incarnation)).map_err(|error| {
            self.store_failed(&error.clone().into());
            failed(error.into())
        })?;
        // What a later owner has ended is not gone on with, where this one was not told of it yet. Its own may be of a
        // later epoch too: from another store, that this home had before.
        if stored.files.iter().any(|file| file.epoch > bucket.epoch()) {
            bucket.check().map_err(|error| {
                self.store_failed(&error);
                failed(io::Error::other(error.to_string()))
            })?;
        }
        Ok(Some(stored))
    }

    /// The histories of databases that the store lists.
    pub(super) fn stored_histories(&self) -> Vec<(DatabasePath, Incarnation)> {
        let histories = self.all_stored_histories().into_iter();
        histories.filter(|(path, _)| !path.as_str().starts_with(".stead/")).collect()
    }

    /// All of them, Stead's own with them.
    pub(super) fn all_stored_histories(&self) -> Vec<(DatabasePath, Incarnation)> {
        let Some(bucket) = self.bucket() else { return Vec::new() };
        bucket.histories().iter().filter_map(|key| parse_store_key(key)).collect()
    }

    /// Where the history of one incarnation lies in the store, for people.
    pub(super) fn stored_at(&self, path: &DatabasePath, incarnation: Incarnation) -> Option<String> {
        let objects = &self.settings.store.as_ref()?.objects;
        Some(objects.shown(&store::Key::new(store_key(path, incarnation))))
    }

    /// Goes on with the store for a database whose history was opened without it.
    pub(super) fn find_store(&self, slot: &Slot, history: &History) -> bool {
        let Some(incarnation) = history.incarnation() else { return true };
        // Whoever seals does not wait for a store that hangs.
        let found = self.stored(&slot.path, incarnation);
        match found.and_then(|stored| stored.map_or(Ok(()), |stored| history.attach_store(&stored))) {
            Ok(()) => {
                if slot.history().is_some_and(|now| now.is_same(history)) {
                    self.tell_parted(slot, history);
                }
                true
            }
            Err(error) => {
                let away = self.known_store().outage.as_ref().map(|outage| Arc::clone(&outage.error));
                if !self.store_is_refused() {
                    let hint = away.map_or(STORE_HINT, |error| store_hint(&error));
                    show_store_trouble(slot, &error.to_string(), hint);
                }
                false
            }
        }
    }
}

/// Puts the configuration into a store; `false`: it is not known whether it is there.
fn put(objects: &dyn Objects, bytes: &[u8], now: Timestamp) -> Result<bool, StoreError> {
    let key = Key::new(CONFIGURATION_KEY);
    let outcome = match store::read_whole(objects, &key, CONFIGURATION_BYTES_MAX)? {
        Some((there, _)) if there == bytes => return Ok(true),
        Some((_, tag)) => objects.replace(&key, bytes, &tag)?,
        None => store::create_from(objects, &key, now, bytes)?,
    };
    Ok(matches!(outcome, Outcome::Won(_)))
}
