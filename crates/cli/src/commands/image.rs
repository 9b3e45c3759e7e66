//! Databases as files: written beside their place, made durable, then renamed.

use crate::client::Client;
use crate::failure::Failure;
use crate::progress::{self, Progress};
use base::{Disk, LocalDisk, Open, Random, SystemRandom};
use futures_util::StreamExt;
use reqwest::Method;
use std::io;
use std::path::{Path, PathBuf};

/// A name beside a target that nobody else uses.
pub fn beside(target: &Path) -> PathBuf {
    base::disk::sibling(target, &format!(".{:08x}.tmp", SystemRandom.next_u64() & 0xffff_ffff))
}

/// Refuses a target that exists: nothing is overwritten.
pub fn refuse_existing(target: &Path) -> Result<(), Failure> {
    match LocalDisk.metadata(target) {
        Ok(_) => Err(Failure::system(
            format!("{} exists", target.display()),
            "nothing is overwritten",
            "name a file that does not exist",
        )),
        Err(_) => Ok(()),
    }
}

/// Downloads a route's bytes into a new file.
pub async fn download(client: &Client, route: &str, target: &Path) -> Result<(), Failure> {
    let preparing = format!("preparing {}", target.display());
    let response = progress::during(preparing, client.send(Method::GET, route, None)).await?;
    let total = response.content_length().unwrap_or(0);
    let failed = |error: io::Error| unwritable(target, &error);
    let part = beside(target);
    let written = async {
        let file = LocalDisk.open(&part, Open::Create { private: true }).map_err(failed)?;
        let mut progress = Progress::new(target.display().to_string());
        let mut offset = 0;
        let mut chunks = response.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| client.broke_off(&error))?;
            file.write_at(&chunk, offset).map_err(failed)?;
            offset += chunk.len() as u64;
            progress.at(offset, total);
        }
        if offset != total {
            let short =
                io::Error::new(io::ErrorKind::UnexpectedEof, format!("{offset} of {total} bytes came"));
            return Err(client.broke_off(&short));
        }
        file.sync().map_err(failed)?;
        publish(&part, target)
    }
    .await;
    if written.is_err() {
        // The half-written file must not stay; the first error is the one to report.
        let _ = LocalDisk.remove_file(&part);
    }
    written
}

/// Gives a finished file its name.
pub fn publish(part: &Path, target: &Path) -> Result<(), Failure> {
    LocalDisk
        .rename(part, target)
        .and_then(|()| LocalDisk.sync_dir(base::disk::parent(target)))
        .map_err(|error| unwritable(target, &error))
}

/// A target that cannot be written.
pub fn unwritable(target: &Path, error: &io::Error) -> Failure {
    Failure::system(
        format!("{} cannot be written", target.display()),
        error,
        "make room, or name another file",
    )
}
