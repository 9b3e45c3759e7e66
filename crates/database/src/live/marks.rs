//! Two connections that take turns holding a read transaction, so that there is never a moment without one.

use super::Began;
use crate::sqlite::Participant;
use crate::wal::WalPosition;

/// The two readers.
#[derive(Debug)]
pub struct Marks {
    readers: [Participant; 2],
    held: usize,
    began: Began,
}

impl Marks {
    /// Opens the first read transaction.
    pub fn begin(mut readers: [Participant; 2]) -> rusqlite::Result<Marks> {
        let began = begin(&mut readers[0])?;
        Ok(Marks { readers, held: 0, began })
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

    /// Where the held mark began.
    pub fn at(&self) -> WalPosition {
        self.began.at
    }

    /// Everything was in the database file when the mark was taken, so the log may start over under it, once.
    pub fn may_be_zero(&self) -> bool {
        self.began.may_be_zero
    }

    /// Opens a read transaction on the free reader; both hold one now.
    pub fn begin_other(&mut self) -> rusqlite::Result<Began> {
        begin(&mut self.readers[1 - self.held])
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
    }

    /// Ends whatever is held and hands the readers back, for closing.
    pub fn into_readers(self) -> [Participant; 2] {
        self.readers[0].end_read();
        self.readers[1].end_read();
        self.readers
    }
}

fn begin(reader: &mut Participant) -> rusqlite::Result<Began> {
    let at = reader.begin_read()?;
    // Read after the transaction began: what was in the file by then can only have grown.
    let may_be_zero =
        reader.wal_index().is_none_or(|index| index.end.salts != at.salts || index.backfilled >= at.frame);
    Ok(Began { at, may_be_zero })
}
