//! Two connections that take turns holding a read transaction, so that there is no moment without one unless it is let go.

use super::{Began, Reads};
use crate::machine::Locks;
use crate::sqlite::{Participant, Snapshot};
use crate::wal::WalPosition;

/// The two readers.
#[derive(Debug)]
pub struct Marks {
    readers: [Participant; 2],
    held: usize,
    began: Began,
    /// Neither holds one, for a moment (see `loose`).
    let_go: bool,
}

impl Marks {
    /// Opens the first read transaction.
    pub fn begin(mut readers: [Participant; 2]) -> rusqlite::Result<Marks> {
        let began = begin(&mut readers[0], None)?;
        Ok(Marks { readers, held: 0, began, let_go: false })
    }

    /// The reader that holds the mark.
    pub fn held(&self) -> &Participant {
        &self.readers[self.held]
    }

    /// The reader that holds the mark.
    pub fn held_mut(&mut self) -> &mut Participant {
        &mut self.readers[self.held]
    }

    /// The reader that is free.
    pub fn idle(&self) -> &Participant {
        &self.readers[1 - self.held]
    }

    /// Gives the mark up.
    pub fn let_go(&mut self) {
        self.readers[self.held].end_read();
        self.let_go = true;
    }

    /// Nothing is held.
    pub fn is_let_go(&self) -> bool {
        self.let_go
    }

    /// Where the held mark began.
    pub fn at(&self) -> WalPosition {
        self.began.at
    }

    /// Everything was in the database file when the mark was taken, so the log may start over under it, once.
    pub fn may_be_zero(&self) -> bool {
        !self.let_go && self.began.reads != Reads::Log
    }

    /// The mark keeps nobody from starting the log over.
    pub fn is_zero(&self) -> bool {
        !self.let_go && self.began.reads == Reads::File
    }

    /// Opens a read transaction on the free reader; both hold one now.
    pub fn begin_other(&mut self, locks: &dyn Locks) -> rusqlite::Result<Began> {
        let index = self.held_mut().wal_index().filter(|index| index.backfilled >= index.end.frame);
        // Until a checkpointer that has just copied the last frame lets go, SQLite still gives out marks in the log.
        let settled = index.filter(|_| locks.checkpointer().is_none());
        begin(&mut self.readers[1 - self.held], settled.map(|index| index.end))
    }

    /// Gives the free reader's transaction back, keeping the held one.
    pub fn cancel_other(&mut self) {
        self.readers[1 - self.held].end_read();
    }

    /// Makes the newer transaction the held one and ends the older.
    pub fn switch(&mut self, began: Began) {
        self.readers[self.held].end_read();
        self.held = 1 - self.held;
        self.began = began;
        self.let_go = false;
    }

    /// Ends whatever is held and hands the readers back, for closing.
    pub fn into_readers(self) -> [Participant; 2] {
        self.readers[0].end_read();
        self.readers[1].end_read();
        self.readers
    }
}

/// `in_file`: an end of the log up to which everything is in the database file, and nobody copies any more.
fn begin(reader: &mut Participant, in_file: Option<WalPosition>) -> rusqlite::Result<Began> {
    let Snapshot { at, change } = reader.begin_read()?;
    if in_file == Some(at) {
        return Ok(Began { at, change, reads: Reads::File });
    }
    // Read after the transaction began: what was in the file by then can only have grown.
    let may_be_zero =
        reader.wal_index().is_none_or(|index| index.end.salts != at.salts || index.backfilled >= at.frame);
    Ok(Began { at, change, reads: if may_be_zero { Reads::Unknown } else { Reads::Log } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Holder;

    #[derive(Debug)]
    struct Checkpointer(Option<Holder>);

    impl Locks for Checkpointer {
        fn writer(&self) -> Option<Holder> {
            None
        }

        fn checkpointer(&self) -> Option<Holder> {
            self.0
        }

        fn others(&self) -> Option<Holder> {
            self.0
        }
    }

    #[test]
    fn a_mark_taken_while_somebody_copies_is_not_taken_for_one_in_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let app = rusqlite::Connection::open(&path).unwrap();
        app.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x)").unwrap();
        let open = || Participant::open(&path, None).unwrap();
        let mut marks = Marks::begin([open(), open()]).unwrap();
        assert_eq!(marks.begin_other(&Checkpointer(None)).unwrap().reads, Reads::Log);
        marks.cancel_other();
        app.execute_batch("PRAGMA wal_checkpoint(PASSIVE)").unwrap();
        // It may have copied the last frame and not let go of the file yet: then the mark is one in the log.
        assert_eq!(marks.begin_other(&Checkpointer(Some(Holder(1)))).unwrap().reads, Reads::Unknown);
        marks.cancel_other();
        assert_eq!(marks.begin_other(&Checkpointer(None)).unwrap().reads, Reads::File);
    }
}
