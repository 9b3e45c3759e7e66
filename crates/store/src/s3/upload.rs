//! The content of a new object on its way: in memory while it fits one part, else in parts, a few at a time.

use super::Shared;
use super::answer::Fault;
use super::client::Mark;
use super::patience::Patience;
use crate::ErrorKind;
use bytes::Bytes;
use object_store::multipart::PartId;
use object_store::path::Path;
use std::io::{self, Write};
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

/// Bytes of a part; what fits one is sent with a single request.
pub const PART_BYTES: usize = 8 << 20;
/// Parts under way at once, of all objects of a store together: with what is being filled, the memory of uploads.
pub const PARTS_IN_FLIGHT: usize = 4;
/// Parts of one object, by the rules of S3.
pub const PARTS_MAX: usize = 10_000;

/// An object that is being filled.
pub(super) struct Upload {
    shared: Arc<Shared>,
    runtime: Handle,
    path: Path,
    mark: Mark,
    part_bytes: usize,
    buffer: Vec<u8>,
    id: Option<String>,
    sent: usize,
    parts: JoinSet<Result<(usize, PartId), Fault>>,
    done: Vec<(usize, PartId)>,
    /// Why the store took no more.
    pub failed: Option<Fault>,
}

/// All of the content.
pub(super) enum Content {
    Whole(Bytes),
    Parts(String, Vec<PartId>),
}

impl Upload {
    pub fn new(shared: &Arc<Shared>, runtime: &Handle, path: Path, mark: Mark, bytes: u64) -> Upload {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        // Twice the hint, at most, fits.
        let part_bytes = PART_BYTES.max((bytes / (PARTS_MAX / 2)).next_multiple_of(1 << 20));
        Upload {
            shared: Arc::clone(shared),
            runtime: runtime.clone(),
            path,
            mark,
            part_bytes,
            buffer: Vec::with_capacity(bytes.min(part_bytes)),
            id: None,
            sent: 0,
            parts: JoinSet::new(),
            done: Vec::new(),
            failed: None,
        }
    }

    /// Gives up what was sent, as far as the server can still be told.
    pub fn give_up(&mut self) {
        let Some(id) = self.id.take() else { return };
        let away = |fault: &Fault| matches!(fault.kind, ErrorKind::Unreachable | ErrorKind::Timeout);
        if self.failed.as_ref().is_some_and(away) {
            return;
        }
        let aborted = self.runtime.block_on(async {
            // A part that is still under way would arrive after the end, and stay.
            while self.parts.join_next().await.is_some() {}
            self.shared.client.abort(&self.path, &id).await
        });
        if let Err(fault) = aborted {
            tracing::debug!(event = "upload left", path = %self.path, reason = %fault.reason, "parts of an upload may be left");
        }
    }

    /// Everything is filled in.
    pub fn finish(&mut self) -> Result<Content, Fault> {
        if self.id.is_none() {
            return Ok(Content::Whole(std::mem::take(&mut self.buffer).into()));
        }
        if !self.buffer.is_empty() {
            self.send_part()?;
        }
        let mut parts = std::mem::take(&mut self.done);
        while let Some(part) = self.runtime.block_on(self.parts.join_next()) {
            parts.push(joined(part)?);
        }
        parts.sort_by_key(|(index, _)| *index);
        let id = self.id.clone().unwrap_or_default();
        Ok(Content::Parts(id, parts.into_iter().map(|(_, part)| part).collect()))
    }

    fn send_part(&mut self) -> Result<(), Fault> {
        if self.sent == PARTS_MAX {
            let reason = format!("it has more than {PARTS_MAX} parts of {} bytes", self.part_bytes);
            return Err(Fault::unanswered(ErrorKind::TooLarge, reason, false));
        }
        let id = match &self.id {
            Some(id) => id.clone(),
            None => {
                let begun =
                    self.shared.retrying(async || self.shared.client.begin(&self.path, &self.mark).await);
                let id = self.runtime.block_on(begun)?;
                self.id.insert(id).clone()
            }
        };
        let turn = self.runtime.block_on(Arc::clone(&self.shared.parts).acquire_owned());
        let turn = turn.map_err(|_| Fault::garbled("the store is closed"))?;
        while let Some(part) = self.parts.try_join_next() {
            self.done.push(joined(part)?);
        }
        let bytes = Bytes::from(std::mem::replace(&mut self.buffer, Vec::with_capacity(self.part_bytes)));
        let (shared, path, index) = (Arc::clone(&self.shared), self.path.clone(), self.sent);
        self.parts.spawn_on(
            async move {
                let mut patience = Patience::new();
                let part = loop {
                    match shared.client.part(&path, &id, index, bytes.clone()).await {
                        Err(fault) if shared.again(&fault, &mut patience).await => {}
                        done => break done,
                    }
                };
                drop(turn);
                part.map(|part| (index, part))
            },
            &self.runtime,
        );
        self.sent += 1;
        Ok(())
    }
}

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Only when more comes: what fits exactly is still one part.
        if self.buffer.len() == self.part_bytes {
            self.send_part().map_err(|fault| {
                let told = io::Error::other(fault.reason.clone());
                self.failed = Some(fault);
                told
            })?;
        }
        let taken = bytes.len().min(self.part_bytes - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn joined(
    part: Result<Result<(usize, PartId), Fault>, tokio::task::JoinError>,
) -> Result<(usize, PartId), Fault> {
    part.map_err(|_| Fault::garbled("sending a part ended unexpectedly"))?
}
