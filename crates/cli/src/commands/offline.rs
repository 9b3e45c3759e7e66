//! `stead db restore`, `stead db follow` and `stead db export --offline`: to a file, without a node.
//!
//! A node may be writing the same history. Here it is only read: what the engine would tidy up when it opens one is
//! left alone, and a store is not taken. What an interrupted command had fetched lies beside the output, and the next one
//! goes on with it.

mod export;
mod follow;
mod stored;

pub use export::export;
pub use follow::follow;

use super::{Outcome, image, said};
use crate::args::MomentArgs;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::moment;
use crate::progress::Progress;
use base::disk::{Entry, Metadata};
use base::{Clock, DatabasePath, Disk, DiskFile, Incarnation, LocalDisk, Open, SystemClock, Txid};
use database::history::{self, History, ImageError, Imaged, Stored, local_base, store_key};
use jiff::tz::TimeZone;
use node::config::StoreUrl;
use serde_json::json;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How often it is begun anew, at most, where the node that has the store merges its files meanwhile.
const MANIFEST_TRIES: u32 = 8;
/// Damaged files that are named.
const NAMED_MAX: usize = 3;
/// What is held while a file is written, so that two commands do not write the same.
const LOCK_SUFFIX: &str = ".stead-restore.lock.tmp";
/// A name at which nothing lies.
const NOWHERE_SUFFIX: &str = ".stead-restore.none.tmp";
/// How many incarnations of one path are looked for beyond the last one found.
const GAP_MAX: u32 = 16;

/// What is named as the source.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The home that relative names count from.
    pub home: &'a Path,
    /// A database, its history's directory, or a database's URL in a store.
    pub name: &'a str,
    /// The server of a bucket, where the environment does not say it.
    pub endpoint: Option<&'a str>,
}

/// Writes a database as it was into a new file.
pub fn restore(source: Source<'_>, output: &Path, at: &MomentArgs, json: bool) -> Outcome {
    image::refuse_existing(output)?;
    let alone = Alone::at(output)?;
    let restored = image::refuse_existing(output).and_then(|()| restore_alone(source, output, at));
    drop(alone);
    let (history, imaged) = restored?;
    let answer = json!({
        "history": history, "file": output.display().to_string(),
        "txid": imaged.txid, "checksum": imaged.checksum,
    });
    let name = source.name;
    Ok(said(&answer, json, &format!("{} holds {name} as of TXID {}", output.display(), imaged.txid)))
}

/// Nobody else is on its way to the same file: it would write into what this one has proven.
struct Alone {
    lock: PathBuf,
    _held: Box<dyn std::fmt::Debug>,
}

impl Alone {
    fn at(output: &Path) -> Result<Alone, Failure> {
        let lock = base::disk::sibling(output, LOCK_SUFFIX);
        let held = LocalDisk.lock(&lock).map_err(|error| image::unwritable(output, &error))?;
        Ok(Alone { lock, _held: held })
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        // A lock that stays does no harm.
        let _ = LocalDisk.remove_file(&self.lock);
    }
}

fn open_history(source: Source<'_>, local: PathBuf, stored: Option<Stored>) -> Result<History, Failure> {
    History::open(Arc::new(Onlooker), local, stored).map_err(|error| {
        let what = format!("the history of {} cannot be read", source.name);
        if error.of_store {
            return Failure::new(Exit::Unavailable, what, error, store::AGAIN);
        }
        Failure::system(what, error, "check its owner and mode")
    })
}

fn restore_alone(source: Source<'_>, output: &Path, at: &MomentArgs) -> Result<(String, Imaged), Failure> {
    let stored = stored::find(source)?;
    let Some(mut stored) = stored else {
        let base = find(source.home, source.name)?;
        let history = open_history(source, base.clone(), None)?;
        let imaged = write(&history, target(&history, at, source.name)?, output)?;
        return Ok((base.display().to_string(), imaged));
    };
    // Nothing of it lies on this machine.
    let nowhere = base::disk::sibling(output, NOWHERE_SUFFIX);
    let mut tries = 0;
    loop {
        let history = open_history(source, nowhere.clone(), Some(stored.open()?))?;
        let written = target(&history, at, source.name).and_then(|target| write(&history, target, output));
        tries += 1;
        match written {
            // The node that has the store may have merged what was just about to be read.
            Err(_) if tries < MANIFEST_TRIES && stored.has_changed()? => {}
            written => return Ok((stored.shown(), written?)),
        }
    }
}

/// The directory of a history: a URL in a store, a database's path, or the directory itself, from the home. The newest
/// incarnation.
fn find(home: &Path, source: &str) -> Result<PathBuf, Failure> {
    let usage = |cause: String, hint: String| {
        Failure::new(Exit::Usage, format!("`{source}` names no history"), cause, hint)
    };
    if source.is_empty() {
        let hint = "name a database, its history's directory, or file:///STORE/PATH";
        return Err(usage("it is empty".to_owned(), hint.to_owned()));
    }
    let base_of: Box<dyn Fn(Incarnation) -> PathBuf> = if source.contains("://") {
        let url = StoreUrl::parse(source).map_err(|fault| usage(fault.message, fault.hint))?;
        let Some(path) = url.directory().map(Path::to_owned) else {
            let what = format!("no history of {source} was found");
            let cause = "there is no .stead/manifest at any prefix of it, and no history at that name";
            return Err(Failure::system(
                what,
                cause,
                "name a database of the store: s3://BUCKET/PREFIX/PATH",
            ));
        };
        if has_history(&path) {
            return Ok(path);
        }
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let root = base::disk::parent(&path).to_owned();
        let name = DatabasePath::parse(&name).map_err(|bad| {
            usage(bad.to_string(), "name a database of the store: file:///STORE/PATH".to_owned())
        })?;
        Box::new(move |incarnation| root.join(store_key(&name, incarnation)))
    } else {
        let path = home.join(source);
        if has_history(&path) {
            return Ok(path);
        }
        Box::new(move |incarnation| local_base(&path, incarnation))
    };
    let (mut newest, mut n) = (None, 1);
    while n <= newest.as_ref().map_or(0, |(found, _)| *found) + GAP_MAX {
        let base = base_of(Incarnation(n));
        if has_history(&base) {
            newest = Some((n, base));
        }
        n += 1;
    }
    newest.map(|(_, base)| base).ok_or_else(|| {
        let expected = base_of(Incarnation(1)).join("ltx");
        let cause = match LocalDisk.metadata(&expected) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                format!("{}: {error}", expected.display())
            }
            _ => format!("{} does not exist", expected.display()),
        };
        Failure::system(
            format!("no history of {source} was found"),
            cause,
            "name a database of the home (--home DIR), its history's directory, or file:///STORE/PATH",
        )
    })
}

fn has_history(base: &Path) -> bool {
    LocalDisk.metadata(&base.join("ltx")).is_ok_and(|found| found.is_dir)
}

/// The seal that a moment means.
fn target(history: &History, at: &MomentArgs, source: &str) -> Result<Txid, Failure> {
    let nothing = |cause: String| {
        Failure::new(Exit::Failed, format!("{source} is not kept as of then"), cause, "choose a later moment")
    };
    let last = history.last().map(|last| last.header.max_txid);
    let meant = match (at.txid, &at.time) {
        (Some(txid), _) => return Ok(Txid(txid)),
        (None, Some(time)) => {
            let time = moment::parse(time, SystemClock.now(), &TimeZone::system())?;
            let files = history.files();
            let sealed = files
                .iter()
                .filter_map(|file| history.header(file))
                .filter(|header| header.timestamp <= time);
            sealed
                .map(|header| header.max_txid)
                .max()
                .ok_or_else(|| nothing(format!("nothing was sealed by {time}")))?
        }
        (None, None) => last.unwrap_or_default(),
    };
    // An earlier state must not pass for the one that was asked for.
    let end = history.files().iter().map(|file| file.key.max).max();
    if meant >= last.unwrap_or_default() && last < end {
        let damaged = history
            .damaged()
            .into_iter()
            .map(|file| format!("{}: {}", file.path.display(), file.damage.as_deref().unwrap_or("damaged")));
        let named: Vec<String> = damaged.take(NAMED_MAX).collect();
        let cause =
            if named.is_empty() { "files are missing before its end".to_owned() } else { named.join("; ") };
        let hint = match last {
            Some(last) => format!("bring good copies back; --txid {last} is the newest that can be restored"),
            None => "bring good copies back: nothing of it can be restored".to_owned(),
        };
        return Err(Failure::new(Exit::Failed, format!("the end of {source} is damaged"), cause, hint));
    }
    if last.is_none() {
        return Err(nothing("the history is empty or has a gap at its start".to_owned()));
    }
    Ok(meant)
}

fn write(history: &History, target: Txid, output: &Path) -> Result<Imaged, Failure> {
    let failed = |error: io::Error| image::unwritable(output, &error);
    let part = history::beside(output);
    let mut progress = Progress::new(output.display().to_string());
    let restored = history.restore(target, (&LocalDisk, &part), &mut |done, total| progress.at(done, total));
    let restored = restored.map_err(|error| {
        let what = format!("{} was not written", output.display());
        if error.is_passing() {
            return Failure::new(Exit::Unavailable, what, error, store::AGAIN);
        }
        // What is left is of no use; the first error is the one to report.
        let _ = history::abandon(&LocalDisk, &part);
        match error {
            ImageError::Output(error) => failed(error),
            error => {
                let hint = "another copy may be whole: try the store's, or another --txid";
                Failure::new(Exit::Failed, what, error, hint)
            }
        }
    })?;
    let published = restored.file.sync().map_err(failed).and_then(|()| image::publish(&part, output));
    published.inspect_err(|_| drop(history::abandon(&LocalDisk, &part)))?;
    Ok(restored.image)
}

/// The machine's disk for one who only looks: nothing is made, moved or removed.
#[derive(Debug)]
struct Onlooker;

impl Disk for Onlooker {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>> {
        match how {
            Open::Read => LocalDisk.open(path, how),
            _ => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
        }
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        LocalDisk.metadata(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<Entry>> {
        LocalDisk.read_dir(path)
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn remove_file(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn remove_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        LocalDisk.free_bytes(path)
    }

    fn readers(&self) -> usize {
        LocalDisk.readers()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::{Checksum, DatabasePath, Epoch, Pgno, Timestamp};
    use ltx::{Header, Rolling, page_checksum};

    const PAGE_BYTES: u32 = 512;

    /// A history of one page, sealed once for each byte that fills it, a second apart.
    fn seal(base: &Path, fills: &[u8]) {
        let history = History::open(Arc::new(LocalDisk), base.to_owned(), None).unwrap();
        let mut before = Checksum::NONE;
        for (index, fill) in fills.iter().enumerate() {
            let page = vec![*fill; PAGE_BYTES as usize];
            let mut rolling = Rolling::default();
            rolling.toggle(page_checksum(Pgno::ONE, &page));
            let txid = Txid(index as u64 + 1);
            let mut file = history
                .begin(Header {
                    page_size: PAGE_BYTES,
                    commit: 1,
                    min_txid: txid,
                    max_txid: txid,
                    timestamp: Timestamp(1_000_000_000_000 + 1000 * index as i64),
                    wal_offset: 0,
                    wal_size: 0,
                    wal_salt1: 0,
                    wal_salt2: 0,
                    epoch: Epoch(1),
                    checksum_after: rolling.value(),
                    checksum_before: before,
                    wal_frame_checksum: 0,
                })
                .unwrap();
            file.page(Pgno::ONE, &page).unwrap();
            file.publish().unwrap();
            before = rolling.value();
        }
    }

    fn restore(home: &Path, name: &str, output: &Path, at: &MomentArgs, json: bool) -> Outcome {
        super::restore(Source { home, name, endpoint: None }, output, at, json)
    }

    fn at(txid: Option<u64>, time: Option<&str>) -> MomentArgs {
        MomentArgs { time: time.map(str::to_owned), txid }
    }

    fn fill_of(file: &Path) -> u8 {
        let bytes = base::disk::read(&LocalDisk, file, 10_000).unwrap();
        assert_eq!(bytes.len(), PAGE_BYTES as usize);
        bytes[200]
    }

    #[test]
    fn a_database_comes_back_as_it_was_and_the_newest_file_of_the_name_counts() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("a.db");
        seal(&local_base(&database, Incarnation(1)), &[9, 9]);
        seal(&local_base(&database, Incarnation(2)), &[1, 2, 3]);
        let source = database.display().to_string();
        for (name, moment, fill) in [
            ("last", at(None, None), 3),
            ("second", at(Some(2), None), 2),
            ("then", at(None, Some("2001-09-09T01:46:41.5Z")), 2),
        ] {
            let out = dir.path().join(name);
            assert_eq!(restore(Path::new("."), &source, &out, &moment, true), Ok(Exit::Done), "{name}");
            assert_eq!(fill_of(&out), fill, "{name}");
            assert_eq!(
                restore(Path::new("."), &source, &out, &moment, true).unwrap_err().exit,
                Exit::System,
                "overwrites {name}"
            );
        }
        for (name, moment) in [("none", at(Some(4), None)), ("early", at(None, Some("2001-09-09T01:46:39Z")))]
        {
            let out = dir.path().join(name);
            assert_eq!(
                restore(Path::new("."), &source, &out, &moment, true).unwrap_err().exit,
                Exit::Failed,
                "{name}"
            );
            assert!(LocalDisk.metadata(&out).is_err());
        }
        assert!(LocalDisk.read_dir(dir.path()).unwrap().iter().all(|entry| !entry.name.ends_with(".tmp")));
    }

    #[test]
    fn a_relative_name_counts_from_the_home() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        let database = home.join("data/a.db");
        seal(&local_base(&database, Incarnation(1)), &[7]);
        for (n, source) in ["data/a.db", "data/a.db-litestream"].into_iter().enumerate() {
            let out = dir.path().join(n.to_string());
            assert_eq!(restore(&home, source, &out, &at(None, None), true), Ok(Exit::Done), "{source}");
            assert_eq!(fill_of(&out), 7);
        }
        let elsewhere = restore(dir.path(), "data/a.db", &dir.path().join("x"), &at(None, None), true);
        let failure = elsewhere.unwrap_err();
        assert_eq!(failure.exit, Exit::System);
        assert!(failure.hint.contains("--home"), "{failure}");
    }

    #[test]
    fn a_store_is_named_by_its_url() {
        let dir = tempfile::tempdir().unwrap();
        let path = DatabasePath::parse("data/a.db").unwrap();
        seal(&dir.path().join(store_key(&path, Incarnation(1))), &[5]);
        let out = dir.path().join("out");
        let source = format!("file://{}/data/a.db", dir.path().display());
        assert_eq!(restore(Path::new("."), &source, &out, &at(None, None), true), Ok(Exit::Done));
        assert_eq!(fill_of(&out), 5);
        for (source, exit) in [
            (format!("{source}x"), Exit::System),
            ("s3://b/data/a.db".to_owned(), Exit::Usage),
            ("file://relative".to_owned(), Exit::Usage),
        ] {
            assert_eq!(
                restore(Path::new("."), &source, &dir.path().join("x"), &at(None, None), true)
                    .unwrap_err()
                    .exit,
                exit
            );
        }
    }

    #[test]
    fn a_history_in_use_is_only_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("a.db");
        let base = local_base(&database, Incarnation(1));
        seal(&base, &[1]);
        let unfinished = base.join("ltx/0/being-written.tmp");
        LocalDisk.open(&unfinished, Open::CreateNew).unwrap();
        restore(
            Path::new("."),
            &database.display().to_string(),
            &dir.path().join("out"),
            &at(None, None),
            true,
        )
        .unwrap();
        assert!(LocalDisk.metadata(&unfinished).is_ok());
        let absent = dir.path().join("none.db");
        assert!(
            restore(
                Path::new("."),
                &absent.display().to_string(),
                &dir.path().join("y"),
                &at(None, None),
                true
            )
            .is_err()
        );
        assert_eq!(LocalDisk.read_dir(dir.path()).unwrap().len(), 2, "nothing was made");
    }
}
