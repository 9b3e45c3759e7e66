//! What must be true: for each file the states it has been in, and which of them may no longer be lost.

use crate::content::{Content, StateId};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// The state of every file at one moment.
pub type Moment = BTreeMap<String, StateId>;

/// One file from its creation on.
#[derive(Clone, Debug)]
pub struct FileModel {
    /// Acknowledged commits, oldest first.
    log: Vec<StateId>,
    /// How many of them survive a power loss for certain.
    safe: usize,
    /// How many of them are sealed: all that comes back of a file that is deleted.
    sealed: usize,
    /// Commits that failed, and yet may be there after the next recovery.
    maybe: Vec<StateId>,
}

/// All files.
#[derive(Clone, Debug, Default)]
pub struct Model {
    contents: HashMap<StateId, Arc<Content>>,
    files: BTreeMap<String, FileModel>,
    /// Files that were deleted or replaced, oldest first. The engine brings back the last one that it knew.
    gone: BTreeMap<String, Vec<FileModel>>,
    moments: Vec<Moment>,
    ids: i64,
    half_made: BTreeMap<String, BTreeSet<StateId>>,
    /// Files that came or went since the engine last looked.
    pub unnoticed: BTreeSet<String>,
}

impl Model {
    pub fn fresh_id(&mut self) -> StateId {
        self.ids += 1;
        StateId(self.ids)
    }

    pub fn names(&self) -> Vec<String> {
        self.files.keys().cloned().collect()
    }

    pub fn gone(&self) -> Vec<String> {
        self.gone.keys().cloned().collect()
    }

    pub fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    pub fn last(&self, name: &str) -> Option<StateId> {
        self.files.get(name)?.log.last().copied()
    }

    pub fn content(&self, id: StateId) -> Arc<Content> {
        Arc::clone(self.contents.get(&id).unwrap_or_else(|| panic!("state {id:?} was never written")))
    }

    /// The newest content of a file.
    pub fn now(&self, name: &str) -> Content {
        let id = self.last(name).unwrap_or_else(|| panic!("{name} is not there"));
        (*self.content(id)).clone()
    }

    /// Where everything stands, as far as is known for certain.
    pub fn moment(&self) -> Moment {
        self.files.iter().filter_map(|(name, file)| Some((name.clone(), *file.log.last()?))).collect()
    }

    pub fn mark(&mut self) -> usize {
        self.moments.push(self.moment());
        self.moments.len() - 1
    }

    /// Whether all files stood so together at some moment since the mark.
    pub fn stood_so_since(&self, mark: usize, found: &Moment) -> bool {
        self.moments[mark..].iter().any(|moment| found.iter().all(|(name, id)| moment.get(name) == Some(id)))
    }

    /// Whether a commit of unknown outcome led there.
    pub fn may_be(&self, name: &str, id: StateId) -> bool {
        self.files.get(name).is_some_and(|file| file.maybe.contains(&id))
    }

    pub fn created(&mut self, name: &str, content: Content) {
        let file = FileModel { log: vec![content.id], safe: 0, sealed: 0, maybe: Vec::new() };
        self.contents.insert(content.id, Arc::new(content));
        self.files.insert(name.to_owned(), file);
        self.unnoticed.insert(name.to_owned());
        self.mark();
    }

    /// A creation failed; it may be there all the same.
    pub fn maybe_created(&mut self, name: &str, content: Content) {
        self.half_made.entry(name.to_owned()).or_default().insert(content.id);
        self.contents.insert(content.id, Arc::new(content));
    }

    /// A file that the model does not have turned out to be there.
    pub fn adopt(&mut self, name: &str, id: StateId) -> Result<(), String> {
        if !self.half_made.get(name).is_some_and(|made| made.contains(&id)) {
            return self.saw_returned(name, Some(id));
        }
        let content = (*self.content(id)).clone();
        self.created(name, content);
        Ok(())
    }

    pub fn deleted(&mut self, name: &str) {
        if let Some(file) = self.files.remove(name) {
            self.gone.entry(name.to_owned()).or_default().push(file);
        }
        self.unnoticed.insert(name.to_owned());
        self.mark();
    }

    /// One transaction over one file or several was acknowledged.
    pub fn committed(&mut self, all: Vec<(String, Content, bool)>) {
        for (name, content, durable) in all {
            let file = self.files.get_mut(&name).unwrap_or_else(|| panic!("{name} is not there"));
            file.log.push(content.id);
            file.maybe.clear();
            if durable {
                file.safe = file.log.len();
            }
            self.contents.insert(content.id, Arc::new(content));
        }
        self.mark();
    }

    /// A transaction failed at its commit.
    pub fn uncertain(&mut self, name: &str, content: Content) {
        if let Some(file) = self.files.get_mut(name) {
            file.maybe.push(content.id);
        }
        self.contents.insert(content.id, Arc::new(content));
    }

    /// How many commits of each file were acknowledged.
    pub fn lengths(&self) -> BTreeMap<String, usize> {
        self.files.iter().map(|(name, file)| (name.clone(), file.log.len())).collect()
    }

    /// The first `count` commits of a file are sealed.
    pub fn sealed(&mut self, name: &str, count: usize) {
        if let Some(file) = self.files.get_mut(name) {
            file.sealed = file.sealed.max(count.min(file.log.len()));
            file.safe = file.safe.max(file.sealed);
        }
    }

    /// Somebody saw this state in a file that nothing happened to: it must be the last one.
    pub fn saw(&mut self, name: &str, found: Option<StateId>) -> Result<(), String> {
        let Some(file) = self.files.get_mut(name) else {
            return Err(format!("{name} should not be there, and is at {found:?}"));
        };
        if file.log.last().copied() == found {
            return Ok(());
        }
        match found {
            Some(id) if file.maybe.contains(&id) => {
                file.log.push(id);
                file.maybe.clear();
                self.mark();
                Ok(())
            }
            _ => {
                let (last, maybe) = (file.log.last(), &file.maybe);
                Err(format!("{name} is at {found:?}; the last commit was {last:?}, uncertain are {maybe:?}"))
            }
        }
    }

    /// What is left of a file after a power loss: any state from what was safe on, or an uncertain one.
    pub fn saw_after_power_loss(&mut self, name: &str, found: Option<StateId>) -> Result<(), String> {
        let Some(file) = self.files.get_mut(name) else {
            return match found {
                None => Ok(()),
                Some(id) => self.adopt(name, id),
            };
        };
        let from = file.safe.saturating_sub(1);
        let at =
            found.and_then(|id| file.log.iter().skip(from).rposition(|one| *one == id).map(|at| at + from));
        match (at, found) {
            (Some(at), _) => {
                file.log.truncate(at + 1);
                file.safe = file.safe.min(at + 1);
                file.sealed = file.sealed.min(at + 1);
            }
            (None, Some(id)) if file.maybe.contains(&id) => file.log.push(id),
            (None, None) if file.safe == 0 => {
                self.files.remove(name);
                self.mark();
                return Ok(());
            }
            _ => {
                let log = &file.log[from..];
                return Err(format!(
                    "{name} is at {found:?} after a power loss; possible were {log:?}, {:?}",
                    file.maybe
                ));
            }
        }
        file.maybe.clear();
        self.mark();
        Ok(())
    }

    /// A file that had been deleted came back with the engine, which had not noticed.
    pub fn saw_returned(&mut self, name: &str, found: Option<StateId>) -> Result<(), String> {
        let found_in = |file: &FileModel| {
            let from = file.sealed.saturating_sub(1);
            let at = file.log.iter().skip(from).rposition(|one| Some(*one) == found)?;
            Some((file.clone(), at + from))
        };
        let gone = self.gone.get(name).into_iter().flatten();
        let Some((mut file, at)) = gone.rev().find_map(found_in) else {
            return Err(format!("{name} came back at {found:?}, which no deleted file of that name was at"));
        };
        file.log.truncate(at + 1);
        (file.safe, file.sealed) = (file.safe.min(at + 1), file.sealed.min(at + 1));
        file.maybe.clear();
        self.files.insert(name.to_owned(), file);
        self.mark();
        Ok(())
    }

    /// The model of another machine that goes on from what this one knew: no state that either makes from now on has
    /// a number of the other's.
    pub fn heir(&self) -> Model {
        const STATES_OF_A_MACHINE: i64 = 1 << 32;
        let ids = (self.ids / STATES_OF_A_MACHINE + 1) * STATES_OF_A_MACHINE;
        Model { ids, unnoticed: BTreeSet::new(), half_made: BTreeMap::new(), ..self.clone() }
    }

    /// Whether any file was ever in this state.
    pub fn knows(&self, id: StateId) -> bool {
        self.contents.contains_key(&id)
    }

    /// Everything was turned to these states, durably.
    pub fn turned(&mut self, target: &Moment) {
        let names: Vec<String> = self.files.keys().cloned().collect();
        for name in names.into_iter().filter(|name| !target.contains_key(name)) {
            if let Some(file) = self.files.remove(&name) {
                self.gone.entry(name).or_default().push(file);
            }
        }
        for (name, id) in target {
            let file = self.files.entry(name.clone()).or_insert_with(|| FileModel {
                log: Vec::new(),
                safe: 0,
                sealed: 0,
                maybe: Vec::new(),
            });
            if file.log.last() != Some(id) {
                file.log.push(*id);
            }
            (file.safe, file.sealed) = (file.log.len(), file.log.len());
            file.maybe.clear();
        }
        self.mark();
    }
}
