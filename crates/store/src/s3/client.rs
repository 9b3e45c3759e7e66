//! One request at a time: what is asked, and the answer or the fault that came of it. Nothing here tries again.

use super::answer::{Answer, Fault};
use super::documents::Page;
use super::wire::{Seen, Special, ask, is_beyond_end};
use crate::{ErrorKind, Key, Piece, StoreError, Tag};
use base::Timestamp;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use object_store::aws::AmazonS3;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    Attribute, AttributeValue, Attributes, GetOptions, GetRange, ObjectStore, PutMode, PutMultipartOptions,
    PutOptions, UpdateVersion,
};
use std::sync::Arc;

/// User metadata: the moment of a history file's commit, as Litestream writes and reads it.
const MOMENT_METADATA: &str = "litestream-timestamp";
/// User metadata: a random number of the write, by which its author knows it again.
const WRITE_METADATA: &str = "stead-write";

/// Whose object is there.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Whose {
    Ours(Tag),
    Others(Tag),
    /// There is one, but the server does not say what it was written with.
    Unsure(Option<Tag>),
    Nobodys,
}

/// What is written with an object, to know it again.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    pub number: String,
    pub moment: Option<Timestamp>,
}

impl Mark {
    fn attributes(&self) -> Attributes {
        let metadata = |name: &'static str, value: String| {
            (Attribute::Metadata(name.into()), AttributeValue::from(value))
        };
        let moment = self.moment.and_then(|moment| jiff::Timestamp::from_millisecond(moment.0).ok());
        let moment = moment.map(|moment| metadata(MOMENT_METADATA, format!("{moment:.9}")));
        moment.into_iter().chain([metadata(WRITE_METADATA, self.number.clone())]).collect()
    }
}

/// The requests that a bucket is asked.
#[derive(Clone)]
pub(super) struct Client {
    pub s3: Arc<AmazonS3>,
    /// The same, which removes objects one by one.
    pub one_by_one: Arc<AmazonS3>,
    pub bucket: String,
    pub url: String,
    /// What every key begins with: empty, or with a slash at its end.
    pub root: String,
}

impl Client {
    /// The error of a fault.
    pub fn error(&self, key: Option<&Key>, fault: Fault) -> StoreError {
        StoreError::new(fault.kind, &self.url, key, fault.reason)
    }

    /// The path of a key, byte for byte.
    pub fn path(&self, key: &Key) -> Result<Path, StoreError> {
        let text = format!("{}{key}", self.root);
        let path = Path::parse(&text).ok().filter(|path| path.as_ref() == text);
        path.ok_or_else(|| {
            let reason = "a name with control characters cannot be kept in an object store";
            StoreError::new(ErrorKind::Name, &self.url, Some(key), reason)
        })
    }

    async fn ask<T>(
        &self,
        special: Special,
        work: impl Future<Output = object_store::Result<T>>,
    ) -> Result<(Option<T>, Answer), Fault> {
        match ask(special, work).await {
            (done, Some(Seen::Answer(answer))) => Ok((done, answer.checked(&self.bucket)?)),
            (_, Some(Seen::Fault(fault))) => Err(fault),
            (_, None) => Err(Fault::garbled("nothing was asked")),
        }
    }

    /// Writes an object, if the condition holds. No tag: the server did not say.
    pub async fn put(
        &self,
        path: &Path,
        bytes: Bytes,
        mark: &Mark,
        was: Option<&Tag>,
    ) -> Result<Option<Tag>, Fault> {
        let mode = match was {
            None => PutMode::Create,
            Some(tag) => PutMode::Update(UpdateVersion { e_tag: Some(tag.0.clone()), version: None }),
        };
        let options = PutOptions { mode, attributes: mark.attributes(), ..PutOptions::default() };
        let work = self.s3.put_opts(path, bytes.into(), options);
        Ok(self.ask(Special::default(), work).await?.1.tag())
    }

    async fn head(&self, path: &Path) -> Result<Option<Answer>, Fault> {
        let options = GetOptions { head: true, ..GetOptions::default() };
        match self.ask(Special::default(), self.s3.get_opts(path, options)).await {
            Ok((_, answer)) => Ok(Some(answer)),
            // An answer without a body cannot say what is not there.
            Err(fault) if fault.status == Some(404) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// Looks whose object is there.
    pub async fn whose(&self, path: &Path, mark: &Mark) -> Result<Whose, Fault> {
        let Some(answer) = self.head(path).await? else { return Ok(Whose::Nobodys) };
        Ok(match (answer.header("x-amz-meta-stead-write"), answer.tag()) {
            (Some(number), Some(tag)) if number == mark.number => Whose::Ours(tag),
            (Some(_), Some(tag)) => Whose::Others(tag),
            (_, tag) => Whose::Unsure(tag),
        })
    }

    /// Reads a piece. `None`: there is no such object.
    pub async fn get(&self, path: &Path, from: u64, bytes_max: usize) -> Result<Option<Piece>, Fault> {
        // At least one byte: nobody can be asked for none, and whether there is a bucket is told with a body only.
        let until = from.saturating_add(bytes_max.max(1) as u64);
        let special = Special { object_bytes: bytes_max, ..Special::default() };
        let options = GetOptions { range: Some(GetRange::Bounded(from..until)), ..GetOptions::default() };
        let (done, seen) = ask(special, self.s3.get_opts(path, options)).await;
        // It holds the body, too: what is alone in holding it is not copied.
        drop(done);
        let answer = match seen {
            Some(Seen::Answer(answer)) => answer,
            Some(Seen::Fault(fault)) => return Err(fault),
            None => return Err(Fault::garbled("nothing was asked")),
        };
        if is_beyond_end(answer.status) {
            return self.beyond_end(path, from).await;
        }
        // The content of an object may look like anything, also like an error.
        if answer.status.is_success() {
            return piece(answer, from, bytes_max).map(Some);
        }
        match answer.checked(&self.bucket) {
            Err(fault) if !fault.is_absence() => Err(fault),
            _ => Ok(None),
        }
    }

    async fn beyond_end(&self, path: &Path, from: u64) -> Result<Option<Piece>, Fault> {
        let Some(answer) = self.head(path).await? else { return Ok(None) };
        let len = answer.header("content-length").and_then(|text| text.parse().ok());
        let len: u64 = len.ok_or_else(|| Fault::garbled("it does not say how long an object is"))?;
        let tag = answer.tag().ok_or_else(no_tag)?;
        if len > from {
            let reason = "an object was replaced while it was read";
            return Err(Fault::unanswered(ErrorKind::Server, reason, false));
        }
        Ok(Some(Piece { bytes: Vec::new(), len, tag }))
    }

    /// One page of a listing.
    pub async fn list(&self, below: &str, token: Option<String>) -> Result<Page, Fault> {
        let options = PaginatedListOptions { page_token: token, ..PaginatedListOptions::default() };
        let prefix = (!below.is_empty()).then_some(below);
        let (_, answer) = self.ask(Special::default(), self.s3.list_paginated(prefix, options)).await?;
        let document = String::from_utf8_lossy(&answer.body);
        Page::parse(&document, &self.root)
            .ok_or_else(|| Fault::garbled("it answered with something that is no listing"))
    }

    /// Removes one object.
    pub async fn delete(&self, path: &Path) -> Result<(), Fault> {
        let paths = futures_util::stream::iter([Ok(path.clone())]).boxed();
        let work = self.one_by_one.delete_stream(paths).try_collect::<Vec<_>>();
        match self.ask(Special::default(), work).await {
            Err(fault) if fault.is_absence() => Ok(()),
            done => done.map(drop),
        }
    }

    /// Removes many objects (at most 1,000) with one request.
    pub async fn delete_many(&self, paths: &[Path]) -> Result<(), Fault> {
        let paths: Vec<_> = paths.iter().cloned().map(Ok).collect();
        let work = self.s3.delete_stream(futures_util::stream::iter(paths).boxed()).try_collect::<Vec<_>>();
        let (_, answer) = self.ask(Special::default(), work).await?;
        answer.kept(&self.bucket).map_or(Ok(()), Err)
    }

    /// Begins an upload in parts.
    pub async fn begin(&self, path: &Path, mark: &Mark) -> Result<String, Fault> {
        let options = PutMultipartOptions { attributes: mark.attributes(), ..PutMultipartOptions::default() };
        let (id, _) = self.ask(Special::default(), self.s3.create_multipart_opts(path, options)).await?;
        id.ok_or_else(|| Fault::garbled("it began an upload without a name"))
    }

    /// Sends a part.
    pub async fn part(
        &self,
        path: &Path,
        upload: &String,
        index: usize,
        bytes: Bytes,
    ) -> Result<PartId, Fault> {
        let work = self.s3.put_part(path, upload, index, bytes.into());
        self.ask(Special::default(), work).await?.0.ok_or_else(no_tag)
    }

    /// Makes an object of the parts, unless one is there.
    pub async fn complete(&self, path: &Path, upload: &String, parts: Vec<PartId>) -> Result<(), Fault> {
        let special = Special { create_only: true, ..Special::default() };
        let (done, _) = self.ask(special, self.s3.complete_multipart(path, upload, parts)).await?;
        done.map(drop)
            .ok_or_else(|| Fault::garbled("it ended an upload with an answer that is not understood"))
    }

    /// Gives an upload up.
    pub async fn abort(&self, path: &Path, upload: &String) -> Result<(), Fault> {
        self.ask(Special::default(), self.s3.abort_multipart(path, upload)).await.map(drop)
    }
}

fn no_tag() -> Fault {
    Fault::garbled("it gave no ETag")
}

/// The piece that an answer holds: of a range (206), or of a whole object (200) from a server that knows no ranges.
fn piece(answer: Answer, from: u64, bytes_max: usize) -> Result<Piece, Fault> {
    let tag = answer.tag().ok_or_else(no_tag)?;
    let range = answer.header("content-range").and_then(content_range);
    let status = answer.status;
    let mut bytes = Vec::from(answer.body);
    if status == http::StatusCode::OK {
        let len = bytes.len() as u64;
        let skipped = usize::try_from(from.min(len)).unwrap_or(usize::MAX);
        bytes.drain(..skipped);
        bytes.truncate(bytes_max);
        return Ok(Piece { bytes, len, tag });
    }
    let (first, last, len) = range.ok_or_else(|| Fault::garbled("it does not say which piece it sent"))?;
    let whole = last.checked_sub(first).and_then(|more| more.checked_add(1));
    if first != from || whole != Some(bytes.len() as u64) || last >= len {
        return Err(Fault::garbled("it sent another piece than was asked for"));
    }
    if bytes.len() > bytes_max.max(1) {
        return Err(Fault::garbled("it sent more than was asked for"));
    }
    bytes.truncate(bytes_max);
    Ok(Piece { bytes, len, tag })
}

/// First byte, last byte and length of `bytes 0-9/100`.
fn content_range(text: &str) -> Option<(u64, u64, u64)> {
    let (range, len) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    Some((first.trim().parse().ok()?, last.trim().parse().ok()?, len.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_read_strictly() {
        assert_eq!(content_range("bytes 0-9/100"), Some((0, 9, 100)));
        for bad in ["bytes */100", "0-9/100", "bytes 0-9/*", "bytes 9", ""] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_moment_is_written_as_litestream_reads_it() {
        let mark = Mark { number: "1f".to_owned(), moment: Some(Timestamp(1_763_798_400_123)) };
        let attributes = mark.attributes();
        let get = |name: &'static str| {
            attributes.get(&Attribute::Metadata(name.into())).map(|value| value.as_ref())
        };
        assert_eq!(get(MOMENT_METADATA), Some("2025-11-22T08:00:00.123000000Z"));
        assert_eq!(get(WRITE_METADATA), Some("1f"));
    }
}
