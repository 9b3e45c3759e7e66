//! Answered requests, counted by route, method and status: as many numbers as there are routes, never one for a client.

use axum::http::{Method, StatusCode};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// The route of a request that none is for.
const NO_ROUTE: &str = "none";

/// The methods that are told apart; a client may make up others.
const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"];

/// Route, method and status.
type Key = (String, &'static str, u16);

/// How often each was answered.
#[derive(Debug, Default)]
pub struct Requests(Mutex<BTreeMap<Key, u64>>);

impl Requests {
    /// One was answered; `route` as the table of routes has it.
    pub fn count(&self, route: Option<&str>, method: &Method, status: StatusCode) {
        let known = METHODS.into_iter().find(|known| *known == method.as_str());
        let route = route.unwrap_or(NO_ROUTE).replace("{*", "{");
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((route, known.unwrap_or("other"), status.as_u16())).or_default() += 1;
    }

    /// All of them.
    pub fn counted(&self) -> Vec<(Key, u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|(key, count)| (key.clone(), *count)).collect()
    }
}
