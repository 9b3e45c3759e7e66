//! Where history is kept besides this machine: a directory now, an object store by its URL.
//!
//! A store's answers are one of three: [`Outcome::Won`], [`Outcome::Lost`], [`Outcome::Unknown`]. Whoever writes must
//! treat the third as such: ask again, never assume. Objects are created only, never replaced; what is in the way of
//! an object is set aside under another name, so that nothing disappears silently.

mod directory;
mod outcome;
mod url;

pub use directory::{Directory, Leftover, ProbeError, PutError};
pub use outcome::Outcome;
pub use url::{BadStoreUrl, StoreUrl};
