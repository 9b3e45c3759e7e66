//! What engines have said of their databases and of the store. It must stay true, whatever becomes of the machine.

use base::{Checksum, DatabasePath, Incarnation, Txid};
use database::engine::DatabaseInfo;
use database::ledger::Vector;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Which file lived under a path.
pub type Which = (DatabasePath, Incarnation);

/// What was said.
#[derive(Clone, Debug, Default)]
pub struct Reports {
    /// What a database added up to at each position that was shown, as this machine knows it.
    seen: BTreeMap<(Which, Txid), Checksum>,
    /// The furthest position of each that was called stored, by whichever machine.
    stored: Rc<RefCell<BTreeMap<Which, Txid>>>,
    /// Databases that the ledger in the store was once sent without.
    unsendable: BTreeSet<DatabasePath>,
}

impl Reports {
    /// Takes what an engine shows.
    pub fn hear(&mut self, shown: &[DatabaseInfo], unsendable: Vec<DatabasePath>) {
        self.unsendable.extend(unsendable);
        for info in shown {
            let Some(at) = info.position else { continue };
            let which = (info.path.clone(), at.incarnation);
            let before = self.seen.insert((which.clone(), at.txid), at.checksum);
            assert!(
                before.is_none_or(|before| before == at.checksum),
                "{} was {before:?} at {}, and is said to be {:?}",
                info.path,
                at.txid,
                at.checksum
            );
            let Some(stored) = info.stored_txid.filter(|stored| *stored > Txid::ZERO) else { continue };
            assert!(stored <= at.txid, "{} is at {at:?}, and {stored} is called stored", info.path);
            let mut known = self.stored.borrow_mut();
            let known = known.entry(which).or_default();
            *known = stored.max(*known);
        }
    }

    /// Whether the store's ledger may name what is not there of any of these.
    pub fn may_lack(&self, vector: &Vector) -> bool {
        vector.keys().any(|path| self.may_lack_of(path))
    }

    /// The same of one of them.
    pub fn may_lack_of(&self, path: &DatabasePath) -> bool {
        self.unsendable.contains(path)
    }

    /// What a file added up to at a position, if that was ever shown.
    pub fn seen(&self, which: &Which, txid: Txid) -> Option<Checksum> {
        self.seen.get(&(which.clone(), txid)).copied()
    }

    /// The furthest position of each file that was called stored.
    pub fn stored(&self) -> BTreeMap<Which, Txid> {
        self.stored.borrow().clone()
    }

    /// What another machine starts from: the same promises, and nothing of what lies beyond the ends that the histories
    /// had before it ended them.
    pub fn heir(&self, ends: &BTreeMap<Which, Txid>) -> Reports {
        let mut seen = self.seen.clone();
        seen.retain(|(which, txid), _| ends.get(which).is_some_and(|end| txid <= end));
        Reports { seen, stored: Rc::clone(&self.stored), unsendable: self.unsendable.clone() }
    }
}
