//! Who has a store, and why one cannot be written to.

use base::{Epoch, Timestamp};
use store::{BadManifest, MANIFEST_KEY, Manifest, Objects, StoreError};

/// Who has a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The node's name.
    pub node: String,
    /// Its identity.
    pub id: u64,
    /// The volume's name.
    pub volume: String,
    /// Its right to write.
    pub epoch: Epoch,
    /// When it wrote the manifest last.
    pub written: Timestamp,
    /// Whether it ended after everything was there.
    pub released: bool,
}

impl Holder {
    pub(super) fn of(manifest: &Manifest) -> Holder {
        Holder {
            node: manifest.node.clone(),
            id: manifest.owner,
            volume: manifest.volume.clone(),
            epoch: manifest.epoch,
            written: manifest.written,
            released: manifest.released,
        }
    }
}

/// Why a store cannot be written to.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BucketError {
    /// It did not answer, or refused: try again.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It did not say whether the manifest was written: try again.
    #[error("{store} did not say whether the manifest was written")]
    Unknown {
        /// The store.
        store: String,
    },
    /// Something else lies below the prefix: choose another, or remove it.
    #[error("{store} holds something that is no history: {found}")]
    Foreign {
        /// The store.
        store: String,
        /// What lies there.
        found: String,
    },
    /// The manifest cannot be used; nothing was written.
    #[error("{store}/{MANIFEST_KEY}: {reason}")]
    Manifest {
        /// The store.
        store: String,
        /// Why not.
        reason: BadManifest,
    },
    /// The manifest is gone, and other parts are there: bring it back, or remove them.
    #[error("{store}/{MANIFEST_KEY} is missing, though {found} is there")]
    Missing {
        /// The store.
        store: String,
        /// What else is there.
        found: String,
    },
    /// No manifest is there, though this node has sent there: a disk that is not mounted, a bucket that was emptied. Bring
    /// it back, or begin a new store on purpose.
    #[error("{store} has no {MANIFEST_KEY}, and this node had it last under epoch {}", epoch.0)]
    Vanished {
        /// The store.
        store: String,
        /// The last right to write that it gave.
        epoch: Epoch,
    },
    /// What is there is older than what this node has sent there: another disk, a copy that was put back. Bring back what
    /// was there last, or go on with a new store on purpose.
    #[error("{store} is at epoch {}, and this node had it last under epoch {}", found.0, epoch.0)]
    Older {
        /// The store.
        store: String,
        /// The right to write that was given last there.
        found: Epoch,
        /// The last one that this node has had.
        epoch: Epoch,
    },
    /// An older version of what this very run has written was put back: what else is older, nobody knows. A restart goes on
    /// from what is there.
    #[error("{store}/{MANIFEST_KEY} is an older version than this run has written")]
    TurnedBack {
        /// The store.
        store: String,
    },
    /// It belongs to another node: take it over on purpose, or choose another prefix.
    #[error("{store} belongs to node `{}` (volume `{}`)", holder.node, holder.volume)]
    Taken {
        /// The store.
        store: String,
        /// To whom it belongs.
        holder: Box<Holder>,
    },
    /// Another run has taken it since: stop writing.
    #[error("{store} was taken over by node `{}`, epoch {}", holder.node, holder.epoch.0)]
    Fenced {
        /// The store.
        store: String,
        /// By whom.
        holder: Box<Holder>,
    },
}

impl BucketError {
    /// What mends it for whoever asks once and ends: a command, or a start from a store alone.
    pub fn hint_once(&self) -> &'static str {
        match self {
            BucketError::Store(error) => error.kind.hint_once(),
            BucketError::Unknown { .. } | BucketError::Fenced { .. } => "try again",
            BucketError::Foreign { .. } => "name the right prefix: what lies there is not Stead's",
            BucketError::Manifest { reason: BadManifest::Newer { .. }, .. } => {
                "use the version of Stead that wrote it, or a newer one"
            }
            BucketError::Manifest { .. } => {
                "bring a former version of that object back: a bucket with versions has it"
            }
            BucketError::Missing { .. } => "bring that object back: a bucket with versions has it",
            BucketError::Vanished { .. } | BucketError::Older { .. } | BucketError::TurnedBack { .. } => {
                "bring back what was there last: a disk that is not mounted, objects that were removed or put back"
            }
            BucketError::Taken { .. } => "name another store, or stop that node first",
        }
    }

    /// It belongs to whom its manifest names.
    pub fn taken(objects: &dyn Objects, found: &Manifest) -> BucketError {
        BucketError::Taken { store: objects.url().to_owned(), holder: Box::new(Holder::of(found)) }
    }
}
