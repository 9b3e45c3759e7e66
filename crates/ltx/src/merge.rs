//! Several files into one that does the same to a database.
//!
//! A k-way walk over the inputs' ascending pages: of every page number the newest input's page is taken. A page is
//! dropped where a later input leaves the database shorter than it. Memory: a buffer and a page per input.
//! Pages that are LZ4 frames already are copied as they are, after they were unpacked to verify their file.

use crate::decode::Decoder;
use crate::encode::{Encoder, Finished};
use crate::error::MergeError;
use crate::header::Header;
use base::{Checksum, Pgno};
use std::io::{Read, Write};

/// The header of the file that a merge of these files gives, oldest first.
///
/// Their TXIDs must be contiguous or overlap, each reaching further than the one before.
pub fn merged_header(headers: &[Header]) -> Result<Header, MergeError> {
    let (Some(first), Some(last)) = (headers.first(), headers.last()) else {
        return Err(MergeError::NoInput);
    };
    for (input, pair) in (1..).zip(headers.windows(2)) {
        let [older, newer] = pair else { continue };
        if older.page_size != newer.page_size {
            return Err(MergeError::PageSize { input });
        }
        let touches = newer.min_txid.previous() <= older.max_txid;
        if !touches || newer.max_txid <= older.max_txid || newer.min_txid < first.min_txid {
            return Err(MergeError::NotContiguous { input });
        }
        let (expected, found) = (newer.checksum_before, older.checksum_after);
        let known = expected != Checksum::NONE && found != Checksum::NONE;
        if known && newer.min_txid.previous() == older.max_txid && expected != found {
            return Err(MergeError::Chain { input, expected, found });
        }
    }
    Ok(Header { min_txid: first.min_txid, checksum_before: first.checksum_before, ..*last })
}

/// One file on its way into the merge.
struct Source<R: Read> {
    decoder: Decoder<R>,
    page: Vec<u8>,
    /// The page in `page`; `None` after the last.
    pgno: Option<Pgno>,
    /// Pages beyond this were cut off by this input or a later one.
    limit: u32,
}

/// Merges files, oldest first, into one.
///
/// The newest version of every page wins; pages beyond what a later file leaves are dropped. The header is that of
/// [`merged_header`]. Every input is verified to its end before the output is finished.
pub fn merge<R: Read, W: Write>(inputs: Vec<Decoder<R>>, out: W) -> Result<(W, Finished), MergeError> {
    let headers: Vec<Header> = inputs.iter().map(|decoder| *decoder.header()).collect();
    let header = merged_header(&headers)?;
    let mut encoder = Encoder::new(out, header)?;
    let mut sources = Vec::with_capacity(inputs.len());
    for (input, decoder) in inputs.into_iter().enumerate() {
        let limit = headers[input..].iter().map(|later| later.commit).min().unwrap_or(0);
        let page = vec![0; header.page_size as usize];
        let mut source = Source { decoder, page, pgno: None, limit };
        source.advance(input)?;
        sources.push(source);
    }
    while let Some(pgno) = sources.iter().filter_map(|source| source.pgno).min() {
        let mut taken = false;
        for (input, source) in sources.iter_mut().enumerate().rev() {
            if source.pgno != Some(pgno) {
                continue;
            }
            if !taken && pgno.0 <= source.limit {
                taken = true;
                match source.decoder.packed_body() {
                    Some(body) => encoder.packed_page(pgno, &source.page, body)?,
                    None => encoder.page(pgno, &source.page)?,
                }
            }
            source.advance(input)?;
        }
    }
    for (input, source) in sources.into_iter().enumerate() {
        source.decoder.finish().map_err(|source| MergeError::Input { input, source })?;
    }
    Ok(encoder.finish()?)
}

impl<R: Read> Source<R> {
    fn advance(&mut self, input: usize) -> Result<(), MergeError> {
        self.pgno =
            self.decoder.next_page(&mut self.page).map_err(|source| MergeError::Input { input, source })?;
        Ok(())
    }
}
