//! Two machines that want one prefix, request by request in an order that the seed draws: one chain, whole, and whoever
//! loses is told by whom.
//!
//! Each machine is a thread; only the one whose turn it is runs, and each request gives the turn away. A machine opens
//! the store, sends seals that continue what is there, lists them and goes on until it is done or told.

use base::sim::{SimClock, SimDisk, SimRandom};
use base::{Checksum, Clock, Pgno, Timestamp, Txid};
use database::{Bucket, BucketError, Claim, Owner, Rights};
use ltx::{Encoder, Header};
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use store::sim::{Chances, SimBucket, SimStore};
use store::{Around, Asked, Key, Objects, Outcome, StoreError, StoredFile};

/// Races in an ordinary run.
const RACES: u64 = 300;
/// Seals that each machine sends, if nobody stops it.
const SEALS: u64 = 6;
/// How often a machine tries what failed for a moment.
const TRIES: u32 = 40;
const BASE: &str = "data/a.db";
const PAGE_BYTES: usize = 512;

/// Whose turn it is.
#[derive(Debug)]
struct Turns {
    random: SimRandom,
    state: Mutex<(usize, [bool; 2])>,
    changed: Condvar,
}

impl Turns {
    /// Gives the turn to either, and waits until it is back.
    fn give(&self, me: usize) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let other = 1 - me;
        if state.1[other] && self.random.below(2) == 0 {
            state.0 = other;
            self.changed.notify_all();
        }
        while state.0 != me {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn begin(&self, me: usize) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.0 != me {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn end(&self, me: usize) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.1[me] = false;
        state.0 = 1 - me;
        self.changed.notify_all();
    }
}

/// The turn ends with its machine, whatever becomes of that.
struct Ends<'a>(&'a Turns, usize);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.end(self.1);
    }
}

/// The store of one machine, which gives the turn away before each request.
#[derive(Debug)]
struct Raced {
    store: SimStore,
    turns: Arc<Turns>,
    me: usize,
}

impl Around for Raced {
    fn inner(&self) -> &dyn Objects {
        &self.store
    }
    fn pass(&self, _asked: Asked<'_>) -> Result<(), StoreError> {
        self.turns.give(self.me);
        Ok(())
    }
}

/// What became of a machine.
#[derive(Debug)]
struct Ended {
    /// Everything that it was told to be listed: the key and its bytes.
    listed: Vec<(Key, Vec<u8>)>,
    /// Why it ended, if not because it was done.
    told: Option<BucketError>,
    /// Its right to write, if it ever had one.
    epoch: u64,
}

struct Racer {
    objects: Arc<dyn Objects>,
    claim: Claim,
    number: u64,
    random: SimRandom,
}

/// Whether the same may succeed later.
fn passes(error: &BucketError) -> bool {
    matches!(error, BucketError::Store(_) | BucketError::Unknown { .. })
}

impl Racer {
    fn run(&self) -> Ended {
        let mut ended = Ended { listed: Vec::new(), told: None, epoch: 0 };
        ended.told = self.write(&mut ended).err();
        ended
    }

    fn again<T>(&self, mut act: impl FnMut() -> Result<T, BucketError>) -> Result<T, BucketError> {
        let mut tries = 0;
        loop {
            match act() {
                Err(error) if passes(&error) && tries < TRIES => tries += 1,
                done => return done,
            }
        }
    }

    fn write(&self, ended: &mut Ended) -> Result<(), BucketError> {
        let owner = Owner {
            id: self.number,
            run: self.number,
            node: format!("machine-{}", self.number),
            volume: "test".into(),
        };
        let clock: Arc<dyn Clock> = Arc::new(SimClock::default());
        let bucket = self.again(|| {
            let (objects, clock) = (Arc::clone(&self.objects), Arc::clone(&clock));
            Bucket::open(objects, owner.clone(), self.claim, Rights::default(), clock, &self.random)
        })?;
        ended.epoch = bucket.epoch().0;
        for _ in 0..SEALS {
            let mut files = self.again(|| Ok(bucket.stored(BASE)?))?.files;
            let last = files.iter().max_by_key(|file| file.max).copied();
            let (key, bytes, file) = self.seal(&bucket, last);
            let outcome =
                self.again(|| match store::create_from(&*self.objects, &key, Timestamp(0), &bytes)? {
                    Outcome::Unknown => Ok(store::read_whole(&*self.objects, &key, 1 << 16)?.map_or(
                        Outcome::Unknown,
                        |(there, tag)| {
                            if there == bytes { Outcome::Won(tag) } else { Outcome::Lost }
                        },
                    )),
                    outcome => Ok(outcome),
                })?;
            let Outcome::Won(_) = outcome else {
                // Whose it is says the manifest.
                self.again(|| bucket.check())?;
                continue;
            };
            files.push(file);
            let listing = BTreeMap::from([(BASE.to_owned(), files)]);
            self.again(|| bucket.publish(listing.clone(), Vec::new()))?;
            ended.listed.push((key, bytes));
        }
        if self.random.below(2) == 0 {
            self.again(|| bucket.release())?;
        }
        Ok(())
    }

    /// A seal that continues the last one.
    fn seal(&self, bucket: &Bucket, last: Option<StoredFile>) -> (Key, Vec<u8>, StoredFile) {
        let txid = last.map_or(Txid(1), |last| last.max.next());
        let mut page = vec![0; PAGE_BYTES];
        page[..8].copy_from_slice(&(self.number << 32 | txid.0).to_le_bytes());
        let after = Checksum(ltx::page_checksum(Pgno::ONE, &page).0 | 1 << 63);
        let header = Header {
            page_size: PAGE_BYTES as u32,
            commit: 1,
            min_txid: txid,
            max_txid: txid,
            timestamp: Timestamp(1),
            wal_offset: 0,
            wal_size: 0,
            wal_salt1: 0,
            wal_salt2: 0,
            epoch: bucket.epoch(),
            checksum_after: after,
            checksum_before: last.map_or(Checksum::NONE, |last| last.after),
            wal_frame_checksum: 0,
        };
        let mut encoder = Encoder::new(Vec::new(), header).unwrap();
        encoder.page(Pgno::ONE, &page).unwrap();
        let bytes = encoder.finish().unwrap().0;
        let file = StoredFile {
            level: 0,
            named_level: 0,
            min: txid,
            max: txid,
            bytes: bytes.len() as u64,
            page_size: header.page_size,
            commit: 1,
            sealed: header.timestamp,
            epoch: header.epoch,
            before: header.checksum_before,
            after,
        };
        (bucket.remote(BASE).seal_key(txid), bytes, file)
    }
}

/// One race; the claims are the seed's.
pub fn run(seed: u64) {
    let random = SimRandom::new(seed ^ 0x4ace);
    let bucket = SimBucket::new(SimRandom::new(random.below(u64::MAX)));
    if random.below(2) == 0 {
        bucket.set_chances(Chances { bad_listing: 0, ..Chances::storm() });
    }
    let turns = Arc::new(Turns {
        random: SimRandom::new(random.below(u64::MAX)),
        state: Mutex::new((0, [true; 2])),
        changed: Condvar::new(),
    });
    let claims = [Claim::Own, Claim::Released, Claim::TakeOver];
    let racers = [0usize, 1].map(|me| {
        let store = bucket.store_of(&format!("machine-{me}"), &SimDisk::default());
        let objects: Arc<dyn Objects> = Arc::new(Raced { store, turns: Arc::clone(&turns), me });
        let claim = claims[random.below(3) as usize];
        Racer { objects, claim, number: me as u64 + 1, random: SimRandom::new(random.below(u64::MAX)) }
    });
    let ended: Vec<Ended> = std::thread::scope(|scope| {
        let run = |me: usize| {
            let (turns, racer) = (&turns, &racers[me]);
            move || {
                turns.begin(me);
                let _ends = Ends(turns, me);
                racer.run()
            }
        };
        let threads = [scope.spawn(run(0)), scope.spawn(run(1))];
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    bucket.land_late_writes();
    check(&bucket, &ended).unwrap_or_else(|problem| {
        bucket.log().iter().for_each(|line| eprintln!("    {line}"));
        panic!("seed {seed}: {problem}; {ended:?}; STEAD_SIM_SEED={seed} runs it");
    });
}

fn check(bucket: &SimBucket, ended: &[Ended]) -> Result<(), String> {
    let calm = bucket.calm_copy();
    let objects: Arc<dyn Objects> = Arc::new(calm.store_of("looker", &SimDisk::default()));
    let Some((manifest, _)) = database::bucket::read(&*objects).map_err(|error| error.to_string())? else {
        return ended.iter().all(|one| one.epoch == 0).then_some(()).ok_or("the manifest is gone".into());
    };
    // Both have ended; whoever wrote last was never told that it had lost.
    let owner = &ended[manifest.owner as usize - 1];
    if matches!(owner.told, Some(BucketError::Fenced { .. })) {
        return Err("the owner was told that it had lost".into());
    }
    for one in ended.iter().filter(|one| !std::ptr::eq(*one, owner) && one.epoch > 0) {
        let gave_up = one.told.as_ref().is_some_and(passes);
        let told = matches!(&one.told, Some(BucketError::Fenced { .. }));
        if !told && !gave_up && one.listed.len() < SEALS as usize && one.told.is_some() {
            return Err("the loser was told something else".into());
        }
    }
    for (key, bytes) in ended.iter().flat_map(|one| &one.listed) {
        if calm.object(key).as_ref() != Some(bytes) {
            return Err(format!("{key} was listed, and is another's"));
        }
    }
    let files = manifest.histories.get(BASE).cloned().unwrap_or_default();
    let mut before = Checksum::NONE;
    for (at, file) in files.iter().enumerate() {
        if file.min != Txid(at as u64 + 1) || file.before != before {
            return Err(format!("the chain breaks at {file:?}"));
        }
        before = file.after;
    }
    let listed: u64 = ended.iter().map(|one| one.listed.len() as u64).sum();
    (files.len() as u64 >= listed).then_some(()).ok_or_else(|| format!("{listed} were listed: {files:?}"))
}

#[test]
fn two_machines_on_one_prefix_leave_one_chain() {
    crate::worlds(RACES, run);
}
