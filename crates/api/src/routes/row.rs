//! One route: a path, its methods, and what answers each.
//!
//! `HEAD` is answered wherever `GET` is, without the body, and `OPTIONS` everywhere, with what `Allow` may name.

use super::Shared;
use axum::handler::Handler;
use axum::http::header::{ALLOW, HeaderValue};
use axum::http::{Method, StatusCode};
use axum::routing::MethodRouter;

/// A path with its methods.
pub struct Row {
    path: &'static str,
    methods: Vec<Method>,
    router: MethodRouter<Shared>,
}

impl Row {
    /// A path that nothing answers yet.
    pub fn at(path: &'static str) -> Row {
        Row { path, methods: Vec::new(), router: MethodRouter::new() }
    }

    pub fn get<H: Handler<T, Shared>, T: 'static>(self, handler: H) -> Row {
        self.with(Method::GET, |router| router.get(handler))
    }

    pub fn post<H: Handler<T, Shared>, T: 'static>(self, handler: H) -> Row {
        self.with(Method::POST, |router| router.post(handler))
    }

    pub fn put<H: Handler<T, Shared>, T: 'static>(self, handler: H) -> Row {
        self.with(Method::PUT, |router| router.put(handler))
    }

    pub fn delete<H: Handler<T, Shared>, T: 'static>(self, handler: H) -> Row {
        self.with(Method::DELETE, |router| router.delete(handler))
    }

    fn with(mut self, method: Method, add: impl FnOnce(MethodRouter<Shared>) -> MethodRouter<Shared>) -> Row {
        self.methods.push(method);
        Row { router: add(self.router), ..self }
    }

    /// Path and method, for each method.
    #[cfg(test)]
    pub fn operations(&self) -> impl Iterator<Item = (String, String)> {
        self.methods.iter().map(|method| (method.to_string(), self.path.replace("{*", "{")))
    }

    /// What the router takes.
    pub fn finish(self) -> (&'static str, MethodRouter<Shared>) {
        let mut allowed: Vec<&str> = self.methods.iter().map(Method::as_str).collect();
        if self.methods.contains(&Method::GET) {
            allowed.push("HEAD");
        }
        allowed.push("OPTIONS");
        let allow = HeaderValue::from_str(&allowed.join(",")).unwrap_or(HeaderValue::from_static("OPTIONS"));
        let answer = move || async move { (StatusCode::NO_CONTENT, [(ALLOW, allow)]) };
        (self.path, self.router.options(answer))
    }
}
