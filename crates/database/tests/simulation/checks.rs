//! What must hold of a world: exports, checkpoints, live files against history.

use crate::content::{self, Content, StateId};
use crate::model::Moment;
use crate::world::{Crash, HOME, Saved, World};
use base::sim::{SimDisk, SimVfs};
use base::{DatabasePath, Disk, Open, Position, Txid};
use database::history::{FileInfo, History, Imaged, Place, Remote, Stored, local_base, store_key};
use database::ledger::Vector;
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Where an image is written that is only looked at.
const OUT: &str = "/stead-simulation/out.db";

impl World {
    pub fn history(&self, path: &DatabasePath, at: Position) -> Result<History, String> {
        let local = local_base(&Path::new(HOME).join(path.as_str()), at.incarnation);
        let stored = self.stored(path, at)?;
        History::open(Arc::new(self.disk.clone()), local, stored).map_err(|error| error.to_string())
    }

    /// What whoever looks into the store finds there.
    fn stored(&self, path: &DatabasePath, at: Position) -> Result<Option<Stored>, String> {
        let Some(objects) = self.calm_store() else { return Ok(None) };
        let manifest = database::bucket::read(&*objects).map_err(|error| error.to_string())?;
        let key = store_key(path, at.incarnation);
        let listed = manifest.and_then(|(manifest, _)| manifest.histories.get(&key).cloned());
        let remote = Remote { objects, base: store::Key::new(key) };
        remote.follow(listed.unwrap_or_default()).map(Some).map_err(|error| error.to_string())
    }

    /// The image at a position, checked against it and by SQLite.
    pub fn export(&self, path: &DatabasePath, at: Position) -> Result<Content, String> {
        let history = self.history(path, at)?;
        let (content, imaged) = content_of(&history, at.txid, &self.disk, &self.vfs)
            .map_err(|error| format!("exporting {path} at {at:?}: {error}"))?;
        if (imaged.checksum, imaged.txid) != (at.checksum, at.txid) {
            return Err(format!("exporting {path} at {at:?}: the image is at {imaged:?}"));
        }
        content.ok_or_else(|| format!("exporting {path} at {at:?}: it is empty"))
    }

    /// The states that a vector leads to.
    pub fn export_all(&self, vector: &Vector) -> Result<Moment, String> {
        let mut moment = Moment::new();
        for (path, at) in vector {
            let content = self.export(path, *at)?;
            if *self.apps.borrow().model.content(content.id) != content {
                return Err(format!("{path} at {at:?} says {:?}, but its rows are others", content.id));
            }
            moment.insert(path.as_str().to_owned(), content.id);
        }
        Ok(moment)
    }

    /// Cuts, and holds the cut against what the applications had done.
    pub fn cut(&mut self, others: bool) -> Option<Saved> {
        self.notice();
        let followed = self.followed();
        let mark = self.apps.borrow_mut().model.mark();
        self.apps.borrow_mut().may_be_locked = true;
        let cut = self.with_engine(others, |engine| engine.cut(Duration::from_millis(60)));
        self.apps.borrow_mut().may_be_locked = self.setup.wal_limit_bytes < 1 << 30;
        let cut = match cut {
            Ok(cut) => cut,
            Err(error) => {
                self.note(format!("no cut: {error}"));
                return None;
            }
        };
        self.note(format!("cut {:?}", positions(&cut.vector)));
        if self.halted() || self.apps.borrow().faulty {
            return None;
        }
        let mut moment = self.export_all(&cut.vector).unwrap_or_else(|problem| panic!("{problem}"));
        let whole = moment.clone();
        let apps = self.apps.borrow();
        moment.retain(|name, _| !apps.model.unnoticed.contains(name));
        let mut uncertain = false;
        moment.retain(|name, id| {
            uncertain |= apps.model.may_be(name, *id);
            !apps.model.may_be(name, *id)
        });
        assert!(
            apps.model.stood_so_since(mark, &moment) || uncertain,
            "the cut is no moment: {moment:?}; now {:?}",
            apps.model.moment()
        );
        for name in followed.iter().filter(|name| !apps.model.unnoticed.contains(*name)) {
            assert!(moment.contains_key(name) || uncertain, "{name} is followed and not in the cut");
        }
        // A file that nobody has noticed to be gone is history already.
        let certain = whole.len() == moment.len();
        certain.then_some(Saved { vector: cut.vector, moment })
    }

    pub fn followed(&self) -> Vec<String> {
        let engine = self.engine.as_ref().expect("invariant: it runs");
        let infos = engine.databases();
        infos.iter().filter(|info| info.mode == "wal").map(|info| info.path.as_str().to_owned()).collect()
    }

    /// Every checkpoint of the ledger is one that was made, and exports to what it was made of.
    pub fn check_checkpoints(&mut self) {
        let ledger = Arc::clone(self.ledger.as_ref().expect("invariant: it runs"));
        let mut found = ledger.checkpoints().unwrap_or_else(|error| panic!("{error}"));
        found.retain(|it| !self.may_return.contains(&it.id) && !self.broken.contains(&it.id));
        for checkpoint in &found {
            if let Some(saved) = self.unsure.remove(&checkpoint.id) {
                self.saved.insert(checkpoint.id.clone(), saved);
            }
            let saved =
                self.saved.get(&checkpoint.id).unwrap_or_else(|| panic!("{} was not made", checkpoint.id));
            assert_eq!(checkpoint.vector, saved.vector, "checkpoint {}", checkpoint.id);
            let moment = self.export_all(&checkpoint.vector).unwrap_or_else(|problem| panic!("{problem}"));
            assert_eq!(moment, saved.moment, "checkpoint {}", checkpoint.id);
        }
        self.unsure.clear();
        assert_eq!(found.len(), self.saved.len(), "checkpoints were lost");
    }

    /// What every file holds now, against what it must hold after a crash (none: nothing happened).
    pub fn check_files(&mut self, crash: Option<Crash>) {
        let mut names = self.apps.borrow().model.names();
        names.extend(self.apps.borrow().model.gone());
        names.extend(
            ["data/a.db", "data/b.db", "data/c.db", "data/d.db", crate::app::SHARED].map(String::from),
        );
        names.sort();
        names.dedup();
        let mut found: Vec<(String, Option<StateId>)> = Vec::new();
        for name in names {
            let state = self.apps.borrow_mut().look(&name).unwrap_or_else(|problem| panic!("{problem}"));
            found.push((name, state));
        }
        // Whoever looks at a database has its index rebuilt.
        self.apps.borrow_mut().one_died = false;
        if let Some((_, target)) = self.turning.take() {
            let turned: Moment =
                found.iter().filter_map(|(name, state)| Some((name.clone(), (*state)?))).collect();
            if turned == target {
                self.note("the interrupted turn is finished");
                self.apps.borrow_mut().model.turned(&target);
                return;
            }
            self.note("the interrupted turn did not happen");
        }
        let mut apps = self.apps.borrow_mut();
        for (name, state) in found {
            let result = match (crash, apps.model.has(&name), state) {
                (_, false, None) => Ok(()),
                (Some(Crash::Power), ..) => apps.model.saw_after_power_loss(&name, state),
                (_, false, Some(id)) => apps.model.adopt(&name, id),
                _ => apps.model.saw(&name, state),
            };
            result.unwrap_or_else(|problem| panic!("{problem}"));
        }
    }

    /// Seals to a cut, and finds live files, history and the engine's own verification in agreement.
    pub fn check_all(&mut self) {
        let saved = (0..5).find_map(|_| {
            let cut = self.cut(false);
            if cut.is_none() {
                self.pass(Duration::from_millis(1500));
            }
            cut
        });
        let saved = saved.unwrap_or_else(|| panic!("nothing acts, and there is no cut"));
        for (path, at) in &saved.vector {
            let live =
                self.apps.borrow_mut().look(path.as_str()).unwrap_or_else(|problem| panic!("{problem}"));
            assert_eq!(live, saved.moment.get(path.as_str()).copied(), "{path}: live and history");
            let check = self.with_engine(false, |engine| engine.verify(path));
            let check = check.unwrap_or_else(|error| panic!("{path}: {error}"));
            assert_eq!(check.problems, Vec::<String>::new(), "{path}");
            let last = self.history(path, *at).unwrap().last().expect("invariant: it was exported");
            assert_eq!(last.header.checksum_after, at.checksum, "{path}: the last file");
        }
        self.check_well();
        self.check_checkpoints();
    }

    /// Nothing is wrong with any database, but that another machine never sent what the ledger says of it.
    pub fn check_well(&mut self) {
        for info in self.with_engine(false, |engine| engine.databases()) {
            let may_lack = self.reports.may_lack_of(&info.path);
            let trouble = info.trouble.filter(|it| !(may_lack && it.code == "history_damaged"));
            assert_eq!(trouble, None, "{} has trouble", info.path);
        }
    }

    /// A seal holds no page that did not change.
    pub fn check_seal(&self, path: &DatabasePath, before: Position, after: Position) {
        if after.txid != before.txid.next()
            || before.txid == Txid::ZERO
            || after.incarnation != before.incarnation
        {
            return;
        }
        let history = self.history(path, after).unwrap();
        let sealed = |file: &&FileInfo| {
            file.place == Place::Local && file.key.min == after.txid && file.key.max == after.txid
        };
        let Some(file) = history.files().iter().find(sealed).cloned() else { return };
        let source = self.disk.open(&file.path, Open::Read).unwrap();
        let (_, index) = ltx::Index::read(&source).unwrap();
        let (old, new) = (history.plan(before.txid).unwrap(), history.plan(after.txid).unwrap());
        let (old, new) = (old.reader().unwrap(), new.reader().unwrap());
        let mut page = vec![0; new.page_size() as usize];
        let mut was = page.clone();
        for (pgno, _) in index.iter() {
            assert!(new.read(pgno, &mut page).unwrap());
            let known = pgno.0 <= old.commit() && old.read(pgno, &mut was).unwrap();
            let same = known && ltx::page_checksum(pgno, &was) == ltx::page_checksum(pgno, &page);
            assert!(!same, "{path}: page {pgno} did not change and was sealed at {}", after.txid);
        }
    }
}

/// What a history holds at a position, written to a disk and read by SQLite; `None`: a database without the schema.
pub fn content_of(
    history: &History,
    txid: Txid,
    disk: &SimDisk,
    vfs: &SimVfs,
) -> Result<(Option<Content>, Imaged), String> {
    let out = disk.open(Path::new(OUT), Open::Create { private: false }).map_err(|e| e.to_string())?;
    let imaged = history.image(txid, &*out, &mut |_, _| {}).map_err(|e| e.to_string())?;
    drop(out);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let uri = format!("file://{OUT}?immutable=1");
    let read = || -> rusqlite::Result<(Option<Content>, String)> {
        let conn = Connection::open_with_flags_and_vfs(&uri, flags, vfs.name())?;
        Ok((content::read(&conn)?, content::integrity(&conn)?))
    };
    let (found, integrity) = read().map_err(|e| e.to_string())?;
    if integrity != "ok" {
        return Err(integrity);
    }
    Ok((found, imaged))
}

fn positions(vector: &Vector) -> Vec<String> {
    vector.iter().map(|(path, at)| format!("{path}@{}:{}", at.incarnation.0, at.txid)).collect()
}
