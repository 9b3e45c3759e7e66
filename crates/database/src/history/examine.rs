//! Files read to their end, before something is built on them or when somebody asks.

use super::files::{FileInfo, Unusable};
use super::{History, HistoryError};
use base::Txid;

/// Up to this size a file is read whole before history's end is built on it; a larger one is when it is restored.
const PROVEN_BYTES_MAX: u64 = 1 << 20;

impl History {
    /// The copies found damaged so far.
    pub fn damaged(&self) -> Vec<FileInfo> {
        self.files().into_iter().filter(|file| file.damage.is_some()).collect()
    }

    /// What is wrong with a file, read to its end now, here or in the store.
    pub fn examine(&self, file: &FileInfo) -> Option<String> {
        let entry = self.inner.lock().entries.get(&(file.key, file.place)).cloned()?;
        let reason = match entry.read_to_end(&*self.inner.disk) {
            Ok(()) => return None,
            Err(Unusable::Damaged) => entry.damage().unwrap_or("damaged").to_owned(),
            Err(Unusable::Unavailable(cause)) => cause.to_string(),
        };
        Some(format!("{}: {reason}", file.path.display()))
    }

    /// Reads the files beyond a TXID to their ends and verifies them; history ends before the first that is damaged then.
    /// Of a large one only the end is read, which a file that was cut off does not have.
    pub fn prove_after(&self, txid: Txid) -> Result<(), HistoryError> {
        for entry in self.inner.usable(None).into_iter().filter(|entry| entry.key.max > txid) {
            let proven = match entry.bytes <= PROVEN_BYTES_MAX {
                true => entry.prove(&*self.inner.disk),
                false => entry.index(&*self.inner.disk).map(drop),
            };
            if let Err(Unusable::Unavailable(cause)) = proven {
                return Err(self.inner.not_found(entry.path.clone(), cause));
            }
        }
        let last = self.inner.find_last(None)?;
        self.inner.lock().last = last;
        Ok(())
    }
}
