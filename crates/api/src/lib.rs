//! The node over HTTP: routes, who may use them, and how answers and errors look.
//!
//! ```text
//! TCP `listen` ─┐                 ┌─ access: token, peer's uid, Origin, Host
//!               ├─► server ─► ────┤
//! .stead/api.sock ┘               └─► routes ─► node::control::Control ─► JSON
//! ```
//!
//! Handlers only decode and encode. Every error a client can see is made in [`error`]; every limit is in [`limits`].

mod access;
mod body;
mod error;
mod health;
mod limits;
mod metrics;
mod page;
mod patient;
mod peer;
mod routes;
mod seats;
mod server;

pub use server::{BindError, Bound, bind, serve};
