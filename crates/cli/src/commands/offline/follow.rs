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
use base::{Clock, Disk, LocalDisk, SystemClock, Txid, disk};
use database::history::{self, History};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Keeps a file as the newest state of a database, until it is ended or something is in the way that does not pass.
pub fn follow(source: Source<'_>, file: &Path, every: Duration, json: bool) -> Outcome {
    let _alone = Alone::at(file)?;
    let mut followed = Followed { source, file, found: None, at: None };
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
    at: Option<Txid>,
}

impl Followed<'_> {
    /// Brings the file up to what the history has; `None`: it is there already.
    fn look(&mut self) -> Result<Option<Txid>, Failure> {
        self.has_changed()?;
        for _ in 1..MANIFEST_TRIES {
            let looked = self.look_once();
            // The node that has the store may have merged what was just about to be read.
            if looked.is_ok() || !self.has_changed()? {
                return looked;
            }
        }
        self.look_once()
    }

    fn look_once(&mut self) -> Result<Option<Txid>, Failure> {
        let history = self.history()?;
        let newest = target(&history, &MomentArgs { time: None, txid: None }, self.source.name)?;
        if self.at == Some(newest) {
            return Ok(None);
        }
        self.begin_with_what_is_there(&history)?;
        if self.at != Some(newest) {
            write(&history, newest, self.file)?;
            self.at = Some(newest);
        }
        Ok(Some(newest))
    }

    /// Has the next state begin with the file, where that is an earlier one.
    fn begin_with_what_is_there(&mut self, history: &History) -> Result<(), Failure> {
        if LocalDisk.metadata(self.file).is_err() {
            return Ok(());
        }
        let unread = |error: std::io::Error| {
            Failure::system(
                format!("{} cannot be read", self.file.display()),
                error,
                "check its owner and mode",
            )
        };
        let written = |suffix: &str| {
            LocalDisk.metadata(&disk::sibling(self.file, suffix)).is_ok_and(|beside| beside.len > 0)
        };
        let known = match written("-wal") || written("-journal") {
            true => None,
            false => history.recognise(self.file).map_err(unread)?,
        };
        match known {
            Some((sums, at)) => {
                if Some(at) == history.last().map(|last| last.header.max_txid) {
                    self.at = Some(at);
                    return Ok(());
                }
                let part = history::beside(self.file);
                history::begin_with(&LocalDisk, self.file, &part, &(sums, at)).map_err(unread)
            }
            // Another file of this name lives in the store now.
            None if self.at.is_some() && !written("-wal") && !written("-journal") => Ok(()),
            None => Err(Failure::system(
                format!("{} is no state of {}", self.file.display(), self.source.name),
                "somebody else has written to it, or it is another database",
                "name a file that does not exist; open what is followed for reading only",
            )),
        }
    }

    fn history(&mut self) -> Result<History, Failure> {
        if self.found.is_none() {
            self.found = Some(match stored::find(self.source)? {
                Some(stored) => Found::Stored(stored),
                None => Found::Here(find(self.source.home, self.source.name)?),
            });
        }
        match &self.found {
            Some(Found::Stored(stored)) => {
                let nowhere = disk::sibling(self.file, NOWHERE_SUFFIX);
                open_history(self.source, nowhere, Some(stored.open()?))
            }
            Some(Found::Here(base)) => open_history(self.source, base.clone(), None),
            None => unreachable!("it was found"),
        }
    }

    /// Whether the manifest is another since: which history it is, is asked anew.
    fn has_changed(&mut self) -> Result<bool, Failure> {
        let changed = match &mut self.found {
            Some(Found::Stored(stored)) => stored.has_changed()?,
            Some(Found::Here(_)) | None => false,
        };
        if changed {
            self.found = None;
        }
        Ok(changed)
    }

    fn shown(&self) -> String {
        match &self.found {
            Some(Found::Stored(stored)) => stored.shown(),
            Some(Found::Here(base)) => base.display().to_string(),
            None => self.source.name.to_owned(),
        }
    }
}
