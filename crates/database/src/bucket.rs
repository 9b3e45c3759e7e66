//! A volume's part of a store: who may write there, and which objects are history.
//!
//! ```text
//! open ── read the manifest ── owner is this node, or it is taken over ── epoch + 1, by compare-and-set ──▶ held
//! held ── publish: levels changed ── compare-and-set ──▶ held
//!            └── lost, and another run wrote it ──▶ fenced: nothing is written any more, and the node is told
//! ```
//! Whoever starts, even on the same home, takes a new epoch: a copy of it that still runs somewhere is fenced by that.
//! An answer that did not come is settled by reading the manifest again: each carries the number of its run and its own.

mod adopt;
mod error;

pub use error::{BucketError, Holder};

use crate::history::{History, Remote, Stored};
use base::{Clock, Epoch, Random, Timestamp};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use store::{
    Key, Layout, MANIFEST_BYTES_MAX, MANIFEST_KEY, Manifest, Objects, Outcome, StoreError, StoredFile, Tag,
};

/// How often a manifest is tried to be written where others write it too.
const TRIES: u32 = 16;

/// How long after its manifest was written or read a store counts as this run's without a look.
const HELD_FOR_SURE: Duration = Duration::from_secs(1);

/// Who this node is, for the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its identity, which its home keeps.
    pub id: u64,
    /// A number that this run of it made up.
    pub run: u64,
    /// Its name, for people.
    pub node: String,
    /// The volume's name.
    pub volume: String,
}

/// Under which condition a store is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is this node's already, or nobody's.
    Own,
    /// Also if its owner has ended after everything was there.
    Released,
    /// Whoever's it is.
    TakeOver,
}

/// A store that this run may write to.
#[derive(Debug)]
pub struct Bucket {
    objects: Arc<dyn Objects>,
    owner: Owner,
    clock: Arc<dyn Clock>,
    epoch: Epoch,
    state: Mutex<State>,
    /// What no list is to name any more, as long as no manifest says so.
    shed: Mutex<BTreeSet<Key>>,
    /// Held while a manifest is written, or what none lists is removed; nobody who only reads the state waits for that.
    writing: Mutex<()>,
    fenced: OnceLock<Holder>,
    /// When (boot time) its manifest was last asked, or written, that said that it is this run's.
    held_at: Mutex<Duration>,
}

/// Which rights to write a home has had.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rights {
    /// The last one that this very store gave; `None`: it is not the one that the home had last.
    pub here: Option<Epoch>,
    /// The highest of any store. The files of the home carry it, so that a new one is above it.
    pub anywhere: Epoch,
}

#[derive(Clone, Debug)]
struct State {
    /// As it is written next: what it says is to go, and went, it does not say any more.
    manifest: Manifest,
    tag: Tag,
    /// What the one in the store says is to go: whoever opens it removes that.
    doomed: BTreeSet<Key>,
}

impl Bucket {
    /// Takes the store: the manifest says so when this returns. One that does not keep its promises is refused, and so is
    /// one that has not come as far as it had when it gave the last right to write.
    pub fn open(
        objects: Arc<dyn Objects>,
        owner: Owner,
        claim: Claim,
        had: Rights,
        clock: Arc<dyn Clock>,
        random: &dyn Random,
    ) -> Result<Bucket, BucketError> {
        if let Some(epoch) = had.here {
            read_again(&*objects, epoch)?;
        }
        // A directory's own lock and names keep what is asked of a server here.
        if objects.layout() == Layout::Flat {
            store::probe(&*objects, random)?;
        }
        for _ in 0..TRIES {
            let (mut manifest, tag) = match read(&*objects)? {
                Some((found, tag)) => {
                    let may = match claim {
                        Claim::Own => found.owner == owner.id,
                        Claim::Released => found.owner == owner.id || found.released,
                        Claim::TakeOver => true,
                    };
                    if !may {
                        return Err(BucketError::taken(&*objects, &found));
                    }
                    (found, Some(tag))
                }
                None => (Manifest { histories: listed(&objects, None)?, ..Manifest::default() }, None),
            };
            manifest.epoch = Epoch(manifest.epoch.max(had.anywhere).0 + 1);
            manifest.sequence += 1;
            manifest.written = clock.now();
            (manifest.owner, manifest.run) = (owner.id, owner.run);
            (manifest.node, manifest.volume) = (owner.node.clone(), owner.volume.clone());
            manifest.released = false;
            let asked = clock.boottime();
            if let Some(tag) = write(&*objects, &manifest, tag.as_ref())? {
                objects.tidy()?;
                let epoch = manifest.epoch;
                let state = Mutex::new(State { doomed: doomed_by(&manifest), manifest, tag });
                let (shed, writing, fenced) = Default::default();
                let held_at = Mutex::new(asked);
                let bucket = Bucket { objects, owner, clock, epoch, state, shed, writing, fenced, held_at };
                // What was to go is no seal that follows a list.
                bucket.sweep()?;
                return Ok(bucket);
            }
        }
        Err(BucketError::Unknown { store: objects.url().to_owned() })
    }

    /// The store.
    pub fn objects(&self) -> &Arc<dyn Objects> {
        &self.objects
    }

    /// The right to write.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Who has taken it since, if that is known.
    pub fn fenced(&self) -> Option<&Holder> {
        self.fenced.get()
    }

    /// The keys of the histories that it lists.
    pub fn histories(&self) -> BTreeSet<String> {
        self.lock().manifest.histories.keys().cloned().collect()
    }

    /// Whether a history is listed.
    pub fn knows(&self, base: &str) -> bool {
        self.lock().manifest.histories.contains_key(base)
    }

    /// When the last file was sealed that is listed of a history.
    pub fn sealed(&self, base: &str) -> Option<Timestamp> {
        self.lock().manifest.histories.get(base)?.iter().map(|file| file.sealed).max()
    }

    /// What is there of a history: what is listed, and the seals that follow. Of one that no list knows, whatever lies
    /// there was left by somebody before it was anybody's.
    pub fn stored(&self, base: &str) -> Result<Stored, StoreError> {
        let listed = self.lock().manifest.histories.get(base).cloned();
        match listed.filter(|files| !files.is_empty()) {
            Some(listed) => self.remote(base).follow(listed),
            None => Ok(self.remote(base).unknown()),
        }
    }

    /// Where a history lies.
    pub fn remote(&self, base: &str) -> Remote {
        Remote { objects: Arc::clone(&self.objects), base: Key::new(base) }
    }

    /// Whether the manifest lists exactly these files of a history.
    pub fn lists_just(&self, base: &str, listing: &[StoredFile]) -> bool {
        self.lock().manifest.histories.get(base).is_some_and(|listed| listed == listing)
    }

    /// Whether the manifest lists a history so; a list that only lacks seals whose names can be asked for is as good.
    pub fn lists(&self, base: &str, listing: &[StoredFile]) -> bool {
        let state = self.lock();
        let Some(listed) = state.manifest.histories.get(base) else { return false };
        if listed == listing {
            return true;
        }
        let end = listed.iter().map(|file| file.max).max();
        let named = |file: &&StoredFile| file.named_level == 0 && file.level == 0 && Some(file.min) > end;
        let (was, is): (HashSet<_>, HashSet<_>) = (listed.iter().collect(), listing.iter().collect());
        let news: Vec<&StoredFile> = is.difference(&was).copied().collect();
        was.is_subset(&is) && news.iter().all(named) && news.len() < SEALS_UNLISTED_MAX
    }

    /// Lists a history as it is now; objects that it names no more go afterwards. Durable.
    pub fn list(&self, base: &str, history: &History, shed: Vec<Key>) -> Result<(), BucketError> {
        let listing = history.listing().unwrap_or_default();
        // It may have been listed by a write whose answer was lost.
        if !shed.is_empty() || !self.lists_just(base, &listing) {
            self.publish(BTreeMap::from([(base.to_owned(), listing.clone())]), shed)?;
        }
        history.was_listed(&listing);
        Ok(())
    }

    /// Lists these histories anew; objects that no list names any more go afterwards. Durable.
    ///
    /// What a list still names waits until that history is listed anew.
    pub fn publish(
        &self,
        listings: BTreeMap<String, Vec<StoredFile>>,
        shed: Vec<Key>,
    ) -> Result<(), BucketError> {
        let waiting = || self.shed.lock().unwrap_or_else(PoisonError::into_inner);
        waiting().extend(shed);
        let all = waiting().clone();
        let mut shed = BTreeSet::new();
        self.swap(|next| {
            next.histories.extend(listings.clone());
            // Of one without any, the first seal that lies there would count, whoever's it is.
            next.histories.retain(|_, files| !files.is_empty());
            shed.clone_from(&all);
            let listed = self.listed_beside(next, &shed);
            shed.retain(|key| !listed.contains(key));
            let known: BTreeSet<&Key> = next.doomed.iter().collect();
            let new: Vec<Key> = shed.iter().filter(|key| !known.contains(key)).cloned().collect();
            next.doomed.extend(new);
        })?;
        waiting().retain(|key| !shed.contains(key));
        Ok(())
    }

    /// What a manifest lists of the histories that these objects belong to.
    fn listed_beside(&self, manifest: &Manifest, objects: &BTreeSet<Key>) -> BTreeSet<Key> {
        let base_of = |key: &Key| Remote::base_of(self.objects.layout(), key);
        let bases: BTreeSet<String> = objects.iter().filter_map(base_of).collect();
        let keys = |base: &String| {
            let remote = self.remote(base);
            let files = manifest.histories.get(base).into_iter().flatten();
            files.map(|file| remote.listed_key(file)).collect::<Vec<Key>>()
        };
        bases.iter().flat_map(keys).collect()
    }

    /// Removes what no list names any more; the manifest forgets it when it is next written.
    pub fn sweep(&self) -> Result<usize, BucketError> {
        self.check_held()?;
        if self.lock().manifest.doomed.is_empty() {
            return Ok(0);
        }
        // What is removed here is gone before anybody goes on, and can be sent again then.
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let doomed = self.lock().manifest.doomed.clone();
        if doomed.is_empty() {
            return Ok(0);
        }
        self.check_to_remove()?;
        self.objects.remove(&doomed)?;
        let gone: BTreeSet<Key> = doomed.into_iter().collect();
        self.lock().manifest.doomed.retain(|key| !gone.contains(key));
        Ok(gone.len())
    }

    /// Says that this run has ended after everything was there.
    pub fn release(&self) -> Result<(), BucketError> {
        self.swap(|next| next.released = true)
    }

    /// Looks whether another run has taken it.
    pub fn check(&self) -> Result<(), BucketError> {
        self.check_held()?;
        let (asked, written) = (self.clock.boottime(), self.lock().manifest.sequence);
        let is_ours = |bytes: &[u8]| Manifest::decode(bytes).is_ok_and(|found| found.run == self.owner.run);
        self.objects.look_again(&Key::new(MANIFEST_KEY), MANIFEST_BYTES_MAX, &is_ours);
        let (found, _) = read(&*self.objects)?.ok_or_else(|| self.gone())?;
        if found.run != self.owner.run {
            return Err(self.not_ours(&found));
        }
        if found.sequence < written {
            return Err(self.turned_back());
        }
        self.hold(asked);
        Ok(())
    }

    /// Another run wrote this manifest: one that has the store now, or one of this node from before, of which a copy was
    /// put back.
    fn not_ours(&self, found: &Manifest) -> BucketError {
        if found.epoch < self.epoch && found.owner == self.owner.id {
            let store = self.objects.url().to_owned();
            return BucketError::Older { store, found: found.epoch, epoch: self.epoch };
        }
        self.fence(found)
    }

    /// Looks whether another run has taken it, where its manifest has not said for so long that it is this run's.
    pub fn check_after(&self, limit: Duration) -> Result<(), BucketError> {
        if self.clock.boottime() >= self.held_at() + limit { self.check() } else { self.check_held() }
    }

    /// The same before anything is removed: whoever stood still since may have lost the store, and a name may be another's
    /// by now.
    pub fn check_to_remove(&self) -> Result<(), BucketError> {
        self.check_after(HELD_FOR_SURE)
    }

    /// Sees to it that an object of this name stays once it is created: a manifest that says it is to go says so to
    /// whoever opens the store next.
    pub fn claim_name(&self, key: &Key) -> Result<(), BucketError> {
        for _ in 0..TRIES {
            if !self.lock().doomed.contains(key) {
                return Ok(());
            }
            self.sweep()?;
            // It may go on from one that says so once more.
            self.swap(|_| ())?;
        }
        Err(self.unknown())
    }

    /// When (boot time) its manifest was last asked, or written, that said that it is this run's.
    pub fn held_at(&self) -> Duration {
        *self.held_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer may be read long after it was given.
    fn hold(&self, asked: Duration) {
        *self.held_at.lock().unwrap_or_else(PoisonError::into_inner) = asked;
    }

    fn check_held(&self) -> Result<(), BucketError> {
        match self.fenced.get() {
            Some(holder) => Err(self.fenced_by(holder)),
            None => Ok(()),
        }
    }

    fn swap(&self, mut change: impl FnMut(&mut Manifest)) -> Result<(), BucketError> {
        self.check_held()?;
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..TRIES {
            let State { manifest: mut next, tag, .. } = self.lock().clone();
            change(&mut next);
            next.sequence += 1;
            next.written = self.clock.now();
            // Whether it is written is not known where this fails.
            self.lock().doomed.extend(doomed_by(&next));
            let asked = self.clock.boottime();
            if let Some(tag) = write(&*self.objects, &next, Some(&tag))? {
                *self.lock() = State { doomed: doomed_by(&next), manifest: next, tag };
                self.hold(asked);
                return Ok(());
            }
            match read(&*self.objects)? {
                Some((manifest, tag)) if manifest.run == self.owner.run => {
                    let mut state = self.lock();
                    if manifest.sequence < state.manifest.sequence {
                        return Err(self.turned_back());
                    }
                    // A write of this run whose answer was lost: the next one goes on from it.
                    *state = State { doomed: doomed_by(&manifest), manifest, tag };
                }
                Some((found, _)) => return Err(self.not_ours(&found)),
                None => return Err(self.gone()),
            }
        }
        Err(self.unknown())
    }

    fn fence(&self, found: &Manifest) -> BucketError {
        self.fenced_by(self.fenced.get_or_init(|| Holder::of(found)))
    }

    fn fenced_by(&self, holder: &Holder) -> BucketError {
        BucketError::Fenced { store: self.objects.url().to_owned(), holder: Box::new(holder.clone()) }
    }

    fn unknown(&self) -> BucketError {
        BucketError::Unknown { store: self.objects.url().to_owned() }
    }

    /// What else was put back with it is not known.
    fn turned_back(&self) -> BucketError {
        BucketError::TurnedBack { store: self.objects.url().to_owned() }
    }

    fn gone(&self) -> BucketError {
        let found = "what this run has sent".to_owned();
        BucketError::Missing { store: self.objects.url().to_owned(), found }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is replaced as a whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Seals that may follow what a manifest lists before it is written for their sake alone: each costs whoever looks for
/// them a question. Where more follow all the same, the rest is not asked for one by one.
pub(crate) const SEALS_UNLISTED_MAX: usize = 64;

/// What a manifest says is to go.
fn doomed_by(manifest: &Manifest) -> BTreeSet<Key> {
    manifest.doomed.iter().cloned().collect()
}

/// The manifest of a store that gave a right to write before: refused where it has not come as far as that.
pub fn read_again(objects: &dyn Objects, epoch: Epoch) -> Result<Option<(Manifest, Tag)>, BucketError> {
    let store = objects.url().to_owned();
    let error = match read(objects)? {
        None => BucketError::Vanished { store, epoch },
        Some((found, _)) if found.epoch < epoch => BucketError::Older { store, found: found.epoch, epoch },
        known => return Ok(known),
    };
    objects.look_afresh();
    Err(error)
}

/// The manifest of a store, and its version.
pub fn read(objects: &dyn Objects) -> Result<Option<(Manifest, Tag)>, BucketError> {
    let key = Key::new(MANIFEST_KEY);
    let Some((bytes, tag)) = store::read_whole(objects, &key, MANIFEST_BYTES_MAX)? else { return Ok(None) };
    let manifest = Manifest::decode(&bytes)
        .map_err(|reason| BucketError::Manifest { store: objects.url().to_owned(), reason })?;
    // Whoever wrote it may have died before its name was durable.
    objects.settle(&key)?;
    Ok(Some((manifest, tag)))
}

/// The histories of a store: those that its manifest lists; where it has none, those that others wrote.
pub fn listed(
    objects: &Arc<dyn Objects>,
    found: Option<&Manifest>,
) -> Result<BTreeMap<String, Vec<StoredFile>>, BucketError> {
    found.map_or_else(|| adopt::histories(objects), |found| Ok(found.histories.clone()))
}

/// Writes a manifest in the place of the one that was read; `None`: another is there.
///
/// An answer that did not come is settled by looking: what is there is this manifest, or not.
fn write(objects: &dyn Objects, manifest: &Manifest, was: Option<&Tag>) -> Result<Option<Tag>, BucketError> {
    let key = Key::new(MANIFEST_KEY);
    let bytes = manifest.encode();
    let outcome = match was {
        Some(tag) => objects.replace(&key, &bytes, tag)?,
        None => store::create_from(objects, &key, manifest.written, &bytes)?,
    };
    match outcome {
        Outcome::Won(tag) => Ok(Some(tag)),
        Outcome::Lost | Outcome::Unknown => {
            let found = store::read_whole(objects, &key, MANIFEST_BYTES_MAX)?;
            let Some((found, tag)) = found else { return Ok(None) };
            if found != bytes {
                return Ok(None);
            }
            objects.settle(&key)?;
            Ok(Some(tag))
        }
    }
}
