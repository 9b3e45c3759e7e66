//! What an empty machine finds in the bucket alone, held against what engines had said and applications had done.

use crate::checks::content_of;
use crate::content::Content;
use crate::model::Moment;
use crate::reports::Which;
use crate::world::{HOME, World, unused_name};
use base::sim::{SimDisk, SimRandom, SimVfs};
use base::{Checksum, Clock, DatabasePath, Disk, Open, Position, Txid};
use database::bucket;
use database::engine::LEDGER_PATH;
use database::history::{History, Imaged, Remote, local_base, parse_store_key};
use database::ledger::{Ledger, Vector};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use store::sim::SimBucket;
use store::{Key, Objects};

/// Points of each history that are restored in one examination, besides its end and what the ledger names.
const POINTS: u64 = 2;

/// A bucket, as a machine sees it that has nothing else.
pub struct Found {
    disk: SimDisk,
    vfs: SimVfs,
    pub histories: BTreeMap<Which, History>,
    /// The newest one, where the store has one.
    pub ledger: Option<Ledger>,
}

impl Found {
    pub fn of(bucket: &SimBucket, world: &World) -> Result<Found, String> {
        let disk = SimDisk::new(world.clock.clone(), SimRandom::new(1));
        disk.create_dir_all(&Path::new(HOME).join(".stead")).map_err(|error| error.to_string())?;
        let vfs = SimVfs::register(&disk, &unused_name()).map_err(|error| error.to_string())?;
        let objects: Arc<dyn Objects> = Arc::new(bucket.store_of("examiner", &disk));
        let mut found = Found { disk, vfs, histories: BTreeMap::new(), ledger: None };
        let manifest = bucket::read(&*objects).map_err(|error| error.to_string())?;
        let Some((manifest, _)) = manifest else { return Ok(found) };
        for (key, files) in manifest.histories {
            let Some(which) = parse_store_key(&key) else { return Err(format!("{key} is no history's key")) };
            let remote = Remote { objects: Arc::clone(&objects), base: Key::new(key) };
            let stored = remote.follow(files).map_err(|error| error.to_string())?;
            let local = local_base(&Path::new(HOME).join(which.0.as_str()), which.1);
            let history = History::open(Arc::new(found.disk.clone()), local, Some(stored));
            found.histories.insert(which, history.map_err(|error| error.to_string())?);
        }
        found.open_ledger()?;
        Ok(found)
    }

    fn open_ledger(&mut self) -> Result<(), String> {
        let of_ledger = |(path, _): &&Which| path.as_str() == LEDGER_PATH;
        let Some(which) = self.histories.keys().rfind(of_ledger).cloned() else { return Ok(()) };
        let history = &self.histories[&which];
        let Some(last) = history.last() else { return Ok(()) };
        let file = Path::new(HOME).join(LEDGER_PATH);
        let out = self.disk.open(&file, Open::Create { private: true }).map_err(|error| error.to_string())?;
        history.image(last.header.max_txid, &*out, &mut |_, _| {}).map_err(|error| error.to_string())?;
        drop(out);
        let ledger = Ledger::open(&file, Some(self.vfs.name())).map_err(|error| error.to_string())?;
        self.ledger = Some(ledger);
        Ok(())
    }

    pub fn content(&self, which: &Which, txid: Txid) -> Result<(Option<Content>, Imaged), String> {
        let history = self.histories.get(which).ok_or_else(|| format!("{which:?} has no history"))?;
        content_of(history, txid, &self.disk, &self.vfs)
            .map_err(|error| format!("restoring {which:?} at {txid}: {error}"))
    }

    pub fn end(&self, which: &Which) -> Txid {
        let last = self.histories.get(which).and_then(History::last);
        last.map_or(Txid::ZERO, |last| last.header.max_txid)
    }

    /// Whether it may be gone whole: the ledger says that another file lives there, or none.
    fn may_have_forgotten(&self, (path, incarnation): &Which) -> Result<bool, String> {
        let gone = !self.histories.contains_key(&(path.clone(), *incarnation));
        let Some(ledger) = self.ledger.as_ref().filter(|_| gone) else { return Ok(false) };
        let known = ledger.current(path).map_err(|error| error.to_string())?;
        Ok(known.is_some_and(|known| *incarnation < known.incarnation || known.deleted))
    }

    fn sum_at_end(&self, which: &Which) -> Option<Checksum> {
        let last = self.histories.get(which).and_then(History::last);
        last.map(|last| last.header.checksum_after)
    }

    /// Where each history ends.
    pub fn ends(&self) -> BTreeMap<Which, Txid> {
        self.histories.keys().map(|which| (which.clone(), self.end(which))).collect()
    }

    /// The states that a vector leads to.
    pub fn moment(&self, world: &World, vector: &Vector) -> Result<Moment, String> {
        let mut moment = Moment::new();
        for (path, at) in vector {
            let which = (path.clone(), at.incarnation);
            let (content, imaged) = self.content(&which, at.txid)?;
            if imaged.checksum != at.checksum {
                return Err(format!("{which:?} at {}: {at:?} became {imaged:?}", at.txid));
            }
            if let Some(content) = content {
                world.known(path, &content)?;
                moment.insert(path.as_str().to_owned(), content.id);
            }
        }
        Ok(moment)
    }
}

pub fn is_database(path: &DatabasePath) -> bool {
    !path.as_str().starts_with(".stead/")
}

impl World {
    /// Whether rows are those of the state that they say they are.
    pub fn known(&self, path: &DatabasePath, content: &Content) -> Result<(), String> {
        let apps = self.apps.borrow();
        if !apps.model.knows(content.id) || *apps.model.content(content.id) != *content {
            return Err(format!("{path} says that it is at {:?}, but its rows are others", content.id));
        }
        Ok(())
    }

    /// Holds what the bucket has against everything that was ever said of it.
    pub fn examine(&self) {
        let found = self.found();
        self.check_promises(&found).unwrap_or_else(|problem| panic!("{problem}"));
        self.check_points(&found).unwrap_or_else(|problem| panic!("{problem}"));
        self.check_ledger(&found).unwrap_or_else(|problem| panic!("{problem}"));
    }

    /// Whatever was called stored is there.
    pub fn check_promises(&self, found: &Found) -> Result<(), String> {
        for (which, stored) in self.reports.stored() {
            let end = found.end(&which);
            if end < stored && !found.may_have_forgotten(&which)? {
                return Err(format!(
                    "{which:?} was stored up to {stored}, and the bucket has it up to {end}"
                ));
            }
        }
        Ok(())
    }

    /// The end of each history and some points before it are what they were.
    fn check_points(&self, found: &Found) -> Result<(), String> {
        for (which, history) in found.histories.iter().filter(|((path, _), _)| is_database(path)) {
            // What a former owner left in the way of the next seal leads nowhere.
            let end = found.end(which);
            let points: Vec<Txid> = history.restorable().into_iter().filter(|txid| *txid <= end).collect();
            let drawn = |_| points.get(self.random.below(points.len() as u64) as usize).copied();
            for txid in (0..POINTS).filter_map(drawn).chain(points.last().copied()) {
                let (content, imaged) = found.content(which, txid)?;
                if let Some(seen) = self.reports.seen(which, txid).filter(|seen| *seen != imaged.checksum) {
                    return Err(format!("{which:?} at {txid} was {seen:?}, and is {imaged:?}"));
                }
                content.map_or(Ok(()), |content| self.known(&which.0, &content))?;
            }
        }
        Ok(())
    }

    /// The ledger names nothing that is not there.
    fn check_ledger(&self, found: &Found) -> Result<(), String> {
        let Some(ledger) = &found.ledger else { return Ok(()) };
        let Some((at, mut newest)) = ledger.newest_moment().map_err(|error| error.to_string())? else {
            return Ok(());
        };
        // It was the newest as that was sent, and history has forgotten it since.
        let keep = i64::try_from(self.setup.keep.as_millis()).unwrap();
        let outlived = self.clock.now().0 - at.0 > keep;
        // What an owner's end changed nothing of is as good at that end.
        newest.retain(|path, at| found.sum_at_end(&(path.clone(), at.incarnation)) != Some(at.checksum));
        let there = found.moment(self, &newest).map_err(|problem| format!("the newest moment: {problem}"));
        if !self.reports.may_lack(&newest) && !outlived {
            there?;
        }
        for checkpoint in ledger.checkpoints().map_err(|error| error.to_string())? {
            let made = self.saved.get(&checkpoint.id).or_else(|| self.unsure.get(&checkpoint.id));
            // What was removed meanwhile may be gone.
            let Some(made) = made else { continue };
            let moment = match found.moment(self, &checkpoint.vector) {
                Ok(moment) => moment,
                Err(_) if self.reports.may_lack(&checkpoint.vector) => continue,
                Err(problem) => return Err(format!("{}: {problem}", checkpoint.id)),
            };
            if moment != made.moment {
                return Err(format!("{} was {:?}, and is {moment:?}", checkpoint.id, made.moment));
            }
        }
        Ok(())
    }

    /// Nothing was in the way of the store for a while: it has everything.
    pub fn check_all_is_stored(&mut self) {
        for info in self.with_engine(false, |engine| engine.databases()) {
            if let Some(Position { txid, .. }) = info.position {
                assert_eq!(info.stored_txid, Some(txid), "{} is not stored to its end", info.path);
            }
        }
        let found = self.found();
        let ledger = found.ledger.unwrap_or_else(|| panic!("the store has no ledger"));
        let kept = ledger.checkpoints().unwrap_or_else(|error| panic!("{error}"));
        let kept: Vec<&String> = kept.iter().map(|checkpoint| &checkpoint.id).collect();
        for id in self.saved.keys() {
            assert!(kept.contains(&id), "the store has {kept:?}, and not {id}");
        }
    }
}
