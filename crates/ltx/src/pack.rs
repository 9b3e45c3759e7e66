//! Pages packed in batches, by a helper thread beside the one that brings them.
//!
//! ```text
//! caller: fill a batch ─▶ hand over ─▶ (queue full: packs it itself) ─▶ take back, in the order of handing over
//! helper:                    └──▶ pack ──▶ done ──────────────────────────┘
//! ```
//!
//! Each page is a frame of its own, so packing knows no order, and what comes back does not depend on which thread was
//! quicker. Memory is bounded by [`PACK_BATCHES_MAX`].

use crate::checksum::{Advance, Crc, CrcPart, page_checksum, page_checksum_by_part};
use crate::frame::{Compressor, room_for_frame};
use crate::limits::{PACK_BATCH_BYTES, PACK_BATCHES_MAX, PACK_QUEUE_BATCHES_MAX};
use base::{Checksum, Pgno};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel};
use std::thread::{Builder, JoinHandle};

/// A page that was packed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packed<'a> {
    pub(crate) pgno: Pgno,
    /// The checksum that was announced.
    pub(crate) announced: Option<Checksum>,
    /// Its checksum.
    pub(crate) sum: Checksum,
    /// What it contributes to the checksum of the file.
    pub(crate) part: CrcPart,
    /// Its frame.
    pub(crate) frame: &'a [u8],
}

#[derive(Clone, Copy)]
struct Item {
    pgno: Pgno,
    announced: Option<Checksum>,
    sum: Checksum,
    part: CrcPart,
    frame_end: usize,
}

/// Some pages on their way into a file.
#[derive(Default)]
pub(crate) struct Batch {
    items: Vec<Item>,
    pages: Vec<u8>,
    frames: Vec<u8>,
}

impl Batch {
    fn new(page_bytes: usize) -> Batch {
        let count = pages_per_batch(page_bytes);
        Batch {
            items: Vec::with_capacity(count),
            pages: Vec::with_capacity(count * page_bytes),
            frames: vec![0; count * room_for_frame(page_bytes)],
        }
    }

    /// The pages, as they came.
    pub(crate) fn packed(&self) -> impl Iterator<Item = Packed<'_>> {
        let mut from = 0;
        self.items.iter().map(move |item| {
            let frame = &self.frames[std::mem::replace(&mut from, item.frame_end)..item.frame_end];
            Packed { pgno: item.pgno, announced: item.announced, sum: item.sum, part: item.part, frame }
        })
    }
}

fn pages_per_batch(page_bytes: usize) -> usize {
    (PACK_BATCH_BYTES / page_bytes).max(1)
}

/// What a thread needs to pack.
struct Packer {
    compressor: Compressor,
    advance: Arc<Advance>,
    page_bytes: usize,
}

impl Packer {
    fn pack(&mut self, batch: &mut Batch) {
        let mut end = 0;
        for (item, page) in batch.items.iter_mut().zip(batch.pages.chunks_exact(self.page_bytes)) {
            item.part = Crc::part(page);
            item.sum = match item.pgno {
                Pgno::ONE => page_checksum(item.pgno, page),
                other => page_checksum_by_part(other, &self.advance, item.part),
            };
            end += self.compressor.write(&mut batch.frames[end..], item.pgno.0, page);
            item.frame_end = end;
        }
    }
}

/// The batches of one file and the thread that packs them.
pub(crate) struct Packing {
    packer: Packer,
    filling: Batch,
    free: Vec<Batch>,
    /// Oldest first; `None` is one that the helper has.
    under_way: VecDeque<Option<Batch>>,
    /// `None` only while this is dropped: the helper ends.
    queue: Option<SyncSender<Batch>>,
    done: Receiver<Batch>,
    helper: Option<JoinHandle<()>>,
}

impl Packing {
    /// Starts the helper; fails where the system gives no thread.
    pub(crate) fn start(page_bytes: usize) -> io::Result<Packing> {
        let (queue, waiting) = sync_channel::<Batch>(PACK_QUEUE_BATCHES_MAX);
        let (packed, done) = channel();
        let advance = Arc::new(Advance::over(page_bytes));
        let packer = || Packer { compressor: Compressor::new(), advance: advance.clone(), page_bytes };
        let mut beside = packer();
        let helper = Builder::new().name("ltx pack".into()).spawn(move || {
            for mut batch in waiting {
                beside.pack(&mut batch);
                if packed.send(batch).is_err() {
                    break;
                }
            }
        })?;
        Ok(Packing {
            packer: packer(),
            filling: Batch::new(page_bytes),
            free: (1..PACK_BATCHES_MAX).map(|_| Batch::new(page_bytes)).collect(),
            under_way: VecDeque::with_capacity(PACK_BATCHES_MAX),
            queue: Some(queue),
            done,
            helper: Some(helper),
        })
    }

    /// What a page does to the state of a CRC before it.
    pub(crate) fn advance(&self) -> &Advance {
        &self.packer.advance
    }

    /// Adds a page; `true` when the batch is full and must be handed over.
    pub(crate) fn put(&mut self, pgno: Pgno, page: &[u8], announced: Option<Checksum>) -> bool {
        let item = Item { pgno, announced, sum: Checksum::NONE, part: CrcPart::default(), frame_end: 0 };
        self.filling.items.push(item);
        self.filling.pages.extend_from_slice(page);
        self.filling.items.len() == pages_per_batch(self.packer.page_bytes)
    }

    /// Hands the batch over; the next page may come when a batch is free, see [`Packing::take`].
    pub(crate) fn hand_over(&mut self) -> io::Result<()> {
        let batch = std::mem::take(&mut self.filling);
        let queue = self.queue.as_ref().expect("invariant: present until dropped");
        match queue.try_send(batch) {
            Ok(()) => self.under_way.push_back(None),
            Err(TrySendError::Full(mut batch)) => {
                self.packer.pack(&mut batch);
                self.under_way.push_back(Some(batch));
            }
            Err(TrySendError::Disconnected(_)) => return Err(helper_lost()),
        }
        Ok(())
    }

    /// The oldest batch, when it is packed; waits for it where `all` are wanted or none is free to be filled.
    pub(crate) fn take(&mut self, all: bool) -> io::Result<Option<Batch>> {
        let Some(oldest) = self.under_way.front_mut() else { return Ok(None) };
        let batch = match oldest.take() {
            Some(batch) => batch,
            None if all || self.free.is_empty() => self.done.recv().map_err(|_| helper_lost())?,
            None => match self.done.try_recv() {
                Ok(batch) => batch,
                Err(std::sync::mpsc::TryRecvError::Empty) => return Ok(None),
                Err(std::sync::mpsc::TryRecvError::Disconnected) => return Err(helper_lost()),
            },
        };
        self.under_way.pop_front();
        Ok(Some(batch))
    }

    /// Gives a batch back that was taken.
    pub(crate) fn give_back(&mut self, mut batch: Batch) {
        batch.items.clear();
        batch.pages.clear();
        self.free.push(batch);
    }

    /// Begins the next batch.
    pub(crate) fn refill(&mut self) {
        self.filling = self.free.pop().expect("invariant: taking waits until one is free");
    }
}

fn helper_lost() -> io::Error {
    io::Error::other("the packing thread ended early")
}

impl Drop for Packing {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(helper) = self.helper.take() {
            // What it packed is not wanted any more, nor is how it ended.
            let _ = helper.join();
        }
    }
}
