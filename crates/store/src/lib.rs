//! Where history is kept besides this machine: a directory, or an object store.
//!
//! A conditional write has one of three outcomes: [`Outcome::Won`], [`Outcome::Lost`], [`Outcome::Unknown`]. Whoever
//! writes must treat the third as such: look, then ask again, never assume. Objects are created only; what is replaced
//! (the manifest, and little else) is replaced by whoever has read what is there.

mod around;
mod directory;
mod error;
mod key;
mod manifest;
mod objects;
mod options;
mod probe;
mod ranged;
pub mod s3;
#[cfg(feature = "sim")]
pub mod sim;
mod url;

pub use around::{Around, Asked};
pub use directory::Directory;
pub use error::{AGAIN, ErrorKind, StoreError};
pub use key::{BadKey, KEY_BYTES_MAX, Key};
pub use manifest::{BadManifest, MANIFEST_BYTES_MAX, MANIFEST_KEY, Manifest, StoredFile};
pub use objects::{About, Fill, Layout, Listed, Objects, Outcome, Piece, Tag, create_from, read_whole};
pub use options::S3Options;
pub use probe::probe;
pub use ranged::{open, open_ends, read_exact};
pub use s3::{S3, Traffic, Verb};
pub use url::{url_of_bucket, url_of_directory};
