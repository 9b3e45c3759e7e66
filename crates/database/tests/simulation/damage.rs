//! A copy of the bucket in which objects are damaged: what comes back is an error, or what was there before.

use crate::examine::{Found, is_database};
use crate::fleet::NAMES;
use crate::reports::Which;
use crate::world::World;
use base::Txid;
use database::Claim;
use database::bucket;
use database::history::Remote;
use std::sync::Arc;
use store::sim::SimBucket;
use store::{Key, MANIFEST_KEY, Objects};

/// Objects damaged at once, at most.
const DAMAGED_MAX: u64 = 3;

impl World {
    /// Looks at the bucket with damaged objects, and has another machine start from it.
    pub fn examine_damaged(&mut self) {
        let Some(bucket) = self.bucket.clone() else { return };
        let (whole, copy) = (bucket.calm_copy(), bucket.calm_copy());
        if self.chance(15) {
            return self.examine_damaged_manifest(&copy);
        }
        let keys = self.keys_to_damage(&whole);
        if keys.is_empty() {
            return;
        }
        for _ in 0..=self.random.below(DAMAGED_MAX) {
            self.damage(&copy, &keys);
        }
        let whole = Found::of(&whole, self).unwrap_or_else(|problem| panic!("{problem}"));
        if let Ok(found) = Found::of(&copy, self) {
            self.compare_points(&whole, &found);
        }
        if self.chance(30) {
            self.start_from_damaged(&whole, copy);
        }
    }

    fn keys_to_damage(&self, bucket: &SimBucket) -> Vec<Key> {
        let objects: Arc<dyn Objects> = Arc::new(bucket.store_of("damage", &self.disk));
        let manifest = bucket::read(&*objects).unwrap_or_else(|error| panic!("{error}"));
        let mut keys = Vec::new();
        for (base, files) in manifest.map(|(manifest, _)| manifest.histories).into_iter().flatten() {
            let remote = Remote { objects: Arc::clone(&objects), base: Key::new(base) };
            keys.extend(files.iter().map(|file| remote.listed_key(file)));
        }
        keys
    }

    fn damage(&self, bucket: &SimBucket, keys: &[Key]) {
        let drawn = || &keys[self.random.below(keys.len() as u64) as usize];
        let key = drawn();
        let len = bucket.object(key).map_or(0, |bytes| bytes.len() as u64);
        let at = self.random.below(len) as usize;
        match self.random.below(4) {
            0 => drop(bucket.flip(key, at, 1 << self.random.below(8))),
            1 => drop(bucket.truncate(key, at)),
            2 => drop(bucket.take_away(key)),
            _ => drop(bucket.swap(key, drawn())),
        }
        self.note(format!("damaged {key}"));
    }

    /// Each point is what it is in the whole bucket, or an error.
    fn compare_points(&self, whole: &Found, found: &Found) {
        for (which, history) in found.histories.iter().filter(|((path, _), _)| is_database(path)) {
            let end = whole.end(which);
            let shorter = found.end(which) < end;
            assert!(!shorter || !history.damaged().is_empty(), "{which:?} ends early, and nobody says so");
            let points: Vec<Txid> = whole.histories[which].restorable().into_iter().collect();
            let drawn = points.get(self.random.below(points.len() as u64) as usize).copied();
            for txid in drawn.into_iter().chain((end > Txid::ZERO).then_some(end)) {
                self.compare(which, txid, whole, found);
            }
        }
    }

    fn compare(&self, which: &Which, txid: Txid, whole: &Found, found: &Found) {
        let Ok((content, imaged)) = found.content(which, txid) else { return };
        let was = whole.content(which, txid).unwrap_or_else(|problem| panic!("{problem}"));
        assert!(imaged.checksum == was.1.checksum, "{which:?} at {txid} became {imaged:?}");
        assert!(content == was.0, "{which:?} at {txid} has other rows");
    }

    /// A machine that starts from it has what was there, or none of it.
    fn start_from_damaged(&mut self, whole: &Found, copy: SimBucket) {
        let mut heir = self.heir();
        heir.bucket = Some(copy);
        heir.restless = false;
        heir.apps().trace.clone_from(&self.apps().trace);
        let model = self.apps().model.heir();
        heir.apps().model = model;
        let recovered = match heir.try_recover(Claim::TakeOver) {
            Ok(recovered) => recovered,
            Err(error) => return heir.note(format!("refused: {error}")),
        };
        if !recovered.ledger {
            return;
        }
        let mut target = heir.aim(&recovered);
        for (path, at) in &mut target {
            // What ended a history for the new owner changed nothing.
            at.txid = at.txid.min(whole.end(&(path.clone(), at.incarnation)));
        }
        let moment = whole.moment(&heir, &target).unwrap_or_else(|problem| panic!("{problem}"));
        if let Err(error) = heir.try_start() {
            return heir.note(format!("no start: {error}"));
        }
        heir.pass(std::time::Duration::from_millis(1500));
        // Where one of them cannot be had as of that moment, all come up at their own ends.
        let done = heir.ledger.as_ref().is_some_and(|ledger| ledger.last_restore_is_done().unwrap_or(true));
        let moment = match target == recovered.databases || done {
            true => moment,
            false => {
                let mut ends = recovered.databases.clone();
                ends.iter_mut()
                    .for_each(|(path, at)| at.txid = at.txid.min(whole.end(&(path.clone(), at.incarnation))));
                whole.moment(&heir, &ends).unwrap_or_else(|problem| panic!("{problem}"))
            }
        };
        for name in NAMES {
            let found = heir.apps().look(name).unwrap_or_else(|problem| panic!("{problem}"));
            assert!(
                found.is_none() || found == moment.get(name).copied(),
                "{name} is at {found:?}, and {moment:?} was to come back"
            );
        }
    }

    fn examine_damaged_manifest(&mut self, copy: &SimBucket) {
        let key = Key::new(MANIFEST_KEY);
        let Some(bytes) = copy.object(&key) else { return };
        let at = self.random.below(bytes.len() as u64) as usize;
        match self.random.below(3) {
            0 => drop(copy.flip(&key, at, 1 << self.random.below(8))),
            1 => drop(copy.truncate(&key, at)),
            _ if copy.keys().iter().any(|key| key.as_str().starts_with(".stead/ledger")) => {
                copy.take_away(&key);
            }
            _ => return,
        }
        let mut heir = self.heir();
        heir.bucket = Some(copy.clone());
        assert!(heir.try_recover(Claim::TakeOver).is_err(), "the manifest is damaged at {at}");
    }
}
