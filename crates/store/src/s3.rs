//! A bucket as a store, by the S3 protocol.
//!
//! ```text
//! S3 (threads wait) ─► Write, Upload (tries, outcomes) ─► Client (one request) ─► object_store ─► Wire ─► server
//! ```
//!
//! Calls come from plain threads, many at once, and wait; a small runtime with one thread of its own does the I/O.
//! **Never call from within a task of a tokio runtime: it would panic.** Its threads for blocking work are fine.
//!
//! Keys are used byte for byte. Every request has an end, every call a budget for tries; what each of them means is in
//! `write.rs` for conditional writes. All else is asked again after a passing error.

mod answer;
mod client;
mod credentials;
mod documents;
mod patience;
mod place;
mod traffic;
mod upload;
mod wire;
mod write;

use crate::{
    About, ErrorKind, Fill, Key, Layout, Listed, Objects, Outcome, Piece, S3Options, StoreError, Tag,
};
use answer::Fault;
use base::disk::{self, Disk};
use base::{Random, SystemRandom};
use bytes::Bytes;
use client::{Client, Mark};
use credentials::Credentials;
pub use credentials::Environment;
use futures_util::{StreamExt, TryStreamExt};
use object_store::RetryConfig;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use patience::Patience;
pub use patience::{PAUSE_FIRST, PAUSE_MAX, RETRY_BUDGET, TRIES_MAX};
use place::Place;
use std::fmt;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
pub use traffic::{Traffic, Verb};
use upload::{Content, Upload};
pub use upload::{PART_BYTES, PARTS_IN_FLIGHT, PARTS_MAX};
pub use wire::{CREDENTIALS_LIMIT, DOCUMENT_BYTES_MAX, STALL_LIMIT};
use wire::{Connector, Wire};
use write::{Condition, Write};

/// Objects removed with one request, by the rules of S3.
pub const REMOVED_AT_ONCE: usize = 1000;

/// Threads that read from it at once, at most: each holds what it waits for.
const READERS_MAX: usize = 8;

/// Bytes of a file of certificates.
const CA_BYTES_MAX: u64 = 4 << 20;

/// A bucket, or a prefix of one.
pub struct S3 {
    shared: Arc<Shared>,
    url: String,
    readers: usize,
    /// Whether the server knows no removal of many objects at once.
    one_by_one: AtomicBool,
    runtime: Option<Runtime>,
}

/// What tasks of the runtime need, too.
struct Shared {
    client: Client,
    traffic: Arc<Traffic>,
    parts: Arc<Semaphore>,
}

impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3({})", self.url)
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl S3 {
    /// The store below a prefix of a bucket. Nothing is asked of it yet; what options lack comes from the environment.
    ///
    /// An error names what is wrong with the options.
    pub fn new(
        bucket: &str,
        prefix: &str,
        options: &S3Options,
        disk: &dyn Disk,
        environment: Environment<'_>,
    ) -> Result<S3, StoreError> {
        let url = crate::url_of_bucket(bucket, prefix);
        let error = |kind, reason: String| StoreError::new(kind, &url, None, reason);
        let profile = credentials::profile(disk, options, environment)
            .map_err(|reason| error(ErrorKind::Credentials, reason))?;
        let place = Place::find(bucket, options, &profile, environment)
            .map_err(|reason| error(ErrorKind::Unreachable, reason))?;
        let credentials = credentials::find(options, &profile, environment)
            .map_err(|reason| error(ErrorKind::Credentials, reason))?;
        let authorities =
            authorities(options, disk, environment).map_err(|reason| error(ErrorKind::Tls, reason))?;
        let (client, nearby) = wire::clients(authorities, options.connections, options.connect_timeout)
            .map_err(|reason| error(ErrorKind::Tls, answer::one_line(&reason)))?;
        let traffic = Arc::new(Traffic::default());
        let connector = Connector(Arc::new(Wire {
            authority: place.authority.clone(),
            client,
            nearby,
            permits: Semaphore::new(options.connections.max(1)),
            request_timeout: options.request_timeout,
            connect_timeout: options.connect_timeout,
            traffic: Arc::clone(&traffic),
        }));
        let library = |one_by_one| {
            library(bucket, &place, &credentials, &connector, one_by_one)
                .map_err(|why| error(ErrorKind::Answer, answer::one_line(&why.to_string())))
        };
        let client = Client {
            s3: Arc::new(library(false)?),
            one_by_one: Arc::new(library(true)?),
            bucket: bucket.to_owned(),
            url: url.clone(),
            root: if prefix.is_empty() { String::new() } else { format!("{prefix}/") },
        };
        let runtime =
            Builder::new_multi_thread().worker_threads(1).thread_name("store-s3").enable_all().build();
        let runtime = runtime
            .map_err(|why| error(ErrorKind::Unreachable, format!("no thread for the client: {why}")))?;
        let parts = Arc::new(Semaphore::new(PARTS_IN_FLIGHT));
        let shared = Arc::new(Shared { client, traffic, parts });
        let readers = options.connections.clamp(1, READERS_MAX);
        Ok(S3 { shared, url, readers, one_by_one: AtomicBool::default(), runtime: Some(runtime) })
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("invariant: the runtime is taken only when the store is dropped")
    }

    fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime().block_on(work)
    }

    /// Asks, and asks again after a passing error.
    fn asking<T>(
        &self,
        key: Option<&Key>,
        attempt: impl AsyncFnMut() -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        self.wait(self.shared.retrying(attempt)).map_err(|fault| self.shared.client.error(key, fault))
    }

    fn mark(about: Option<About>) -> Mark {
        let number = format!("{:016x}{:016x}", SystemRandom.next_u64(), SystemRandom.next_u64());
        Mark { number, moment: about.map(|about| about.moment) }
    }

    fn write<'a>(
        &'a self,
        key: &'a Key,
        path: &'a Path,
        mark: &'a Mark,
        condition: Condition<'a>,
    ) -> Write<'a> {
        let Shared { client, traffic, .. } = &*self.shared;
        Write { client, traffic, key, path, mark, condition }
    }

    fn create_whole(&self, write: &Write<'_>, bytes: &Bytes) -> Result<Outcome, StoreError> {
        let Write { client, path, mark, .. } = write;
        self.wait(write.run(async || client.put(path, bytes.clone(), mark, None).await))
    }

    fn create_of_parts(
        &self,
        write: &Write<'_>,
        upload: &mut Upload,
        id: &String,
        parts: &[object_store::multipart::PartId],
    ) -> Result<Outcome, StoreError> {
        let Write { client, path, mark, .. } = write;
        // Not every server knows the condition at the end of an upload: look first.
        let there = self.asking(Some(write.key), async || client.whose(path, mark).await);
        let outcome = match there {
            Ok(client::Whose::Nobodys) => {
                // The answer's ETag is escaped in one way or another; that of the object is asked for.
                self.wait(write.run(async || client.complete(path, id, parts.to_vec()).await.map(|()| None)))
            }
            Ok(_) => Ok(Outcome::Lost),
            Err(error) => Err(error),
        };
        if matches!(outcome, Ok(Outcome::Lost) | Err(_)) {
            upload.give_up();
        }
        outcome
    }

    fn remove_one_by_one(&self, keys: &[(Key, Path)]) -> Result<(), StoreError> {
        let Shared { client, .. } = &*self.shared;
        let removals = futures_util::stream::iter(keys).map(|(key, path)| async move {
            let done = self.shared.retrying(async || client.delete(path).await).await;
            done.map_err(|fault| client.error(Some(key), fault))
        });
        self.wait(removals.buffer_unordered(PARTS_IN_FLIGHT).try_collect())
    }
}

impl Shared {
    async fn retrying<T>(&self, mut attempt: impl AsyncFnMut() -> Result<T, Fault>) -> Result<T, Fault> {
        let mut patience = Patience::new();
        loop {
            match attempt().await {
                Err(fault) if self.again(&fault, &mut patience).await => {}
                done => return done,
            }
        }
    }

    /// Counts what failed; whether it is asked once more.
    async fn again(&self, fault: &Fault, patience: &mut Patience) -> bool {
        self.traffic.count_error(fault.kind);
        let again = fault.kind.is_passing() && patience.again().await;
        if again {
            self.traffic.count_retry();
        }
        again
    }
}

impl Objects for S3 {
    fn url(&self) -> &str {
        &self.url
    }

    fn layout(&self) -> Layout {
        Layout::Flat
    }

    fn readers(&self) -> usize {
        self.readers
    }

    fn traffic(&self) -> Option<&Arc<Traffic>> {
        Some(&self.shared.traffic)
    }

    fn create(&self, key: &Key, about: About, fill: &mut Fill<'_>) -> Result<Outcome, StoreError> {
        let path = self.shared.client.path(key)?;
        let mark = S3::mark(Some(about));
        let mut upload =
            Upload::new(&self.shared, self.runtime().handle(), path.clone(), mark.clone(), about.bytes);
        let error = |fault: Fault| self.shared.client.error(Some(key), fault);
        if let Err(cause) = fill(&mut upload) {
            let failed = upload.failed.clone().map_or_else(
                || StoreError::new(ErrorKind::Content, &self.url, Some(key), cause.to_string()),
                error,
            );
            upload.give_up();
            return Err(failed);
        }
        let write = self.write(key, &path, &mark, Condition::Absent);
        match upload.finish() {
            Ok(Content::Whole(bytes)) => self.create_whole(&write, &bytes),
            Ok(Content::Parts(id, parts)) => self.create_of_parts(&write, &mut upload, &id, &parts),
            Err(fault) => {
                upload.failed = Some(fault.clone());
                upload.give_up();
                Err(error(fault))
            }
        }
    }

    fn replace(&self, key: &Key, bytes: &[u8], was: &Tag) -> Result<Outcome, StoreError> {
        let path = self.shared.client.path(key)?;
        let mark = S3::mark(None);
        let bytes = Bytes::copy_from_slice(bytes);
        let write = self.write(key, &path, &mark, Condition::Still(was));
        let client = &self.shared.client;
        self.wait(write.run(async || client.put(&path, bytes.clone(), &mark, Some(was)).await))
    }

    fn read(&self, key: &Key, from: u64, bytes_max: usize) -> Result<Option<Piece>, StoreError> {
        let path = self.shared.client.path(key)?;
        self.asking(Some(key), async || self.shared.client.get(&path, from, bytes_max).await)
    }

    fn remove(&self, keys: &[Key]) -> Result<(), StoreError> {
        let client = &self.shared.client;
        let paths: Result<Vec<_>, _> =
            keys.iter().map(|key| client.path(key).map(|path| (key.clone(), path))).collect();
        for some in paths?.chunks(REMOVED_AT_ONCE) {
            if some.len() == 1 || self.one_by_one.load(Ordering::Relaxed) {
                self.remove_one_by_one(some)?;
                continue;
            }
            let paths: Vec<_> = some.iter().map(|(_, path)| path.clone()).collect();
            match self.asking(None, async || client.delete_many(&paths).await) {
                Ok(()) => {}
                Err(error) if matches!(error.kind, ErrorKind::Unsupported | ErrorKind::Answer) => {
                    self.remove_one_by_one(some)?;
                    self.one_by_one.store(true, Ordering::Relaxed);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn list(
        &self,
        below: Option<&Key>,
        each: &mut dyn FnMut(Listed) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let client = &self.shared.client;
        let prefix = below.map_or_else(|| client.root.clone(), |below| format!("{}{below}/", client.root));
        let mut token = None;
        loop {
            let page = self.asking(below, async || client.list(&prefix, token.clone()).await)?;
            for object in page.objects {
                if each(object).is_break() {
                    return Ok(());
                }
            }
            match page.next {
                None => return Ok(()),
                next if next == token => {
                    let reason = "its listing does not go on";
                    return Err(StoreError::new(ErrorKind::Answer, &self.url, below, reason));
                }
                next => token = next,
            }
        }
    }
}

/// The certificates of `ca_file`, else of `AWS_CA_BUNDLE`.
fn authorities(
    options: &S3Options,
    disk: &dyn Disk,
    environment: Environment<'_>,
) -> Result<Vec<reqwest::Certificate>, String> {
    let named = || credentials::variable(environment, "AWS_CA_BUNDLE").map(PathBuf::from);
    let Some(path) = options.ca_file.clone().or_else(named) else { return Ok(Vec::new()) };
    let named = |why: &dyn fmt::Display| format!("the certificates of {}: {why}", path.display());
    let pem = disk::read(disk, &path, CA_BYTES_MAX).map_err(|why| named(&why))?;
    let found = reqwest::Certificate::from_pem_bundle(&pem).map_err(|why| named(&why))?;
    if found.is_empty() {
        return Err(named(&"it holds none in PEM"));
    }
    Ok(found)
}

/// The client library for a bucket. It never tries again by itself: what a failure means is decided here.
fn library(
    bucket: &str,
    place: &Place,
    credentials: &Credentials,
    connector: &Connector,
    one_by_one: bool,
) -> object_store::Result<AmazonS3> {
    let retry = RetryConfig { max_retries: 0, ..RetryConfig::default() };
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region(&place.region)
        // The URL holds the bucket already, so this is right for both styles.
        .with_endpoint(&place.bucket_url)
        .with_virtual_hosted_style_request(true)
        .with_allow_http(true)
        .with_retry(retry)
        .with_disable_bulk_delete(one_by_one)
        .with_http_connector(connector.clone());
    match credentials {
        Credentials::Keys { id, secret, token } => {
            builder = builder.with_access_key_id(id).with_secret_access_key(secret);
            if let Some(token) = token {
                builder = builder.with_token(token);
            }
        }
        Credentials::Fetched(settings) => {
            for (setting, value) in settings {
                builder = builder.with_config(setting.parse()?, value);
            }
        }
    }
    builder.build()
}
