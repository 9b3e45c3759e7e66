//! `stead db follow`: a file that is kept as the history of a database has it last, without a node.
//!
//! ```text
//! look ─▶ nothing new: wait ─▶ look
//!   └──▶ something new: a copy of the file, the pages that changed since ─▶ proven ─▶ in the place of the file
//! ```
//! Whoever has the file open keeps what it opened: it is replaced, never written to. A file that is none of the history's
//! states, or that somebody else writes to, is left alone.

use super::stored::{self, InStore};
use super::{Alone, MANIFEST_TRIES, NOWHERE_SUFFIX, Source, find, open_history, target, write};
use crate::args::MomentArgs;
use crate::commands::Outcome;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::{harmless, render};
use base::{Checksum, Clock, Disk, LocalDisk, SystemClock, Txid, disk};
use database::history::{self, History};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Keeps a file as the newest state of a database, until it is ended or something is in the way that does not pass.
pub fn follow(source: Source<'_>, file: &Path, every: Duration, json: bool) -> Outcome {
    let _alone = Alone::at(file)?;
    let mut followed = Followed { source, file, found: None, at: None, left: None };
    let mut away = false;
    loop {
        match followed.look() {
            Ok(Some(txid)) => {
                let answer =
                    json!({ "history": followed.shown(), "file": file.display().to_string(), "txid": txid });
                match json {
                    true => render::line(harmless::json(answer.to_string())),
                    false => {
                        render::line(format!("{} holds {} as of TXID {txid}", file.display(), source.name))
                    }
                }
                away = false;
            }
            Ok(None) => away = false,
            // A store that was there is waited for.
            Err(failure) if failure.exit == Exit::Unavailable && followed.at.is_some() => {
                if !std::mem::replace(&mut away, true) {
                    crate::show(&failure, json);
                }
            }
            Err(failure) => return Err(failure),
        }
        if !render::is_read() {
            return Ok(Exit::Done);
        }
        SystemClock.sleep(every);
    }
}

/// Where the history lies.
enum Found {
    Stored(InStore),
    Here(PathBuf),
}

struct Followed<'a> {
    source: Source<'a>,
    file: &'a Path,
    found: Option<Found>,
    /// What the file holds, once that is known.
    at: Option<State>,
    /// The file as it was left then: file system, inode, bytes, when it changed.
    left: Option<(u64, u64, u64, i128)>,
}

/// A state of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    /// Of which history.
    history: String,
    txid: Txid,
    checksum: Checksum,
}

impl Followed<'_> {
    /// Brings the file up to what the history has; `None`: it is there already.
    fn look(&mut self) -> Result<Option<Txid>, Failure> {
        self.find_anew()?;
        for _ in 1..MANIFEST_TRIES {
            let looked = self.look_once();
            // The node that has the store may have merged what was just about to be read.
            if looked.is_ok() || !self.find_anew()? {
                return looked;
            }
        }
        self.look_once()
    }

    fn look_once(&mut self) -> Result<Option<Txid>, Failure> {
        let history = self.history()?;
        let txid = target(&history, &MomentArgs { time: None, txid: None }, self.source.name)?;
        let checksum = history.last().map_or(Checksum::NONE, |last| last.header.checksum_after);
        let newest = State { history: self.shown(), txid, checksum };
        if self.at.as_ref() == Some(&newest) {
            return Ok(None);
        }
        if !self.is_there_already(&history, txid)? {
            write(&history, txid, self.file)?;
        }
        self.at = Some(newest);
        self.left = self.identity();
        Ok(Some(txid))
    }

    /// Whether the file holds the newest state already; has the next one begin with it, where it is an earlier one.
    fn is_there_already(&self, history: &History, newest: Txid) -> Result<bool, Failure> {
        let Some(identity) = self.identity() else { return Ok(false) };
        let is_ours = self.left == Some(identity);
        let is_alone = ["-wal", "-journal"]
            .iter()
            .all(|suffix| LocalDisk.metadata(&disk::sibling(self.file, suffix)).map_or(0, |at| at.len) == 0);
        let unread = |error: std::io::Error| {
            Failure::system(
                format!("{} cannot be read", self.file.display()),
                error,
                "check its owner and mode",
            )
        };
        let known = match is_alone && (is_ours || self.left.is_none()) {
            true => history.recognise(self.file).map_err(unread)?,
            false => None,
        };
        match known {
            Some((_, at)) if at == newest => Ok(true),
            Some((sums, at)) => {
                let part = history::beside(self.file);
                history::begin_with(&LocalDisk, self.file, &part, &(sums, at)).map_err(unread)?;
                Ok(false)
            }
            // It was written here, and history knows it no more: another file lives there, or what it was is merged.
            None if is_alone && is_ours => Ok(false),
            None => Err(Failure::system(
                format!(
                    "{} is no state that the history of {} still has",
                    self.file.display(),
                    self.source.name
                ),
                "somebody else has written to it, it is another database, or older than what is kept",
                "remove it, or name a file that does not exist; open what is followed for reading only",
            )),
        }
    }

    fn identity(&self) -> Option<(u64, u64, u64, i128)> {
        let found = LocalDisk.metadata(self.file).ok()?;
        Some((found.device, found.inode, found.len, found.changed_ns))
    }

    fn history(&mut self) -> Result<History, Failure> {
        let found = match self.found.take() {
            Some(found) => found,
            None => match stored::find(self.source)? {
                Some(stored) => Found::Stored(stored),
                None => Found::Here(find(self.source.home, self.source.name)?),
            },
        };
        match self.found.insert(found) {
            Found::Stored(stored) => {
                let nowhere = disk::sibling(self.file, NOWHERE_SUFFIX);
                open_history(self.source, nowhere, Some(stored.open()?))
            }
            Found::Here(base) => open_history(self.source, base.clone(), None),
        }
    }

    /// Whether which history it is has to be asked anew: the manifest is another, or there is none to ask.
    fn find_anew(&mut self) -> Result<bool, Failure> {
        let anew = match &self.found {
            Some(Found::Stored(stored)) => !stored.is_as_it_was()?,
            Some(Found::Here(_)) => true,
            None => return Ok(true),
        };
        if anew {
            self.found = None;
        }
        Ok(anew)
    }

    fn shown(&self) -> String {
        match &self.found {
            Some(Found::Stored(stored)) => stored.shown(),
            Some(Found::Here(base)) => base.display().to_string(),
            None => self.source.name.to_owned(),
        }
    }
}
