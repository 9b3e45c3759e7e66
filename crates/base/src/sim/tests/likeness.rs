//! Held against the real one: the same operations on [`LocalDisk`] and [`SimDisk`] give the same results.

use super::super::SimDisk;
use crate::disk::{Disk, DiskFile, LocalDisk, Open};
use proptest::prelude::*;
use std::io;
use std::path::{Path, PathBuf};

const NAMES: [&str; 8] = ["a", "b", "d", "d/a", "d/e", "d/e/a", "a/x", "./d//b"];

#[derive(Clone, Debug)]
enum Op {
    Open(usize, usize, u8),
    Close(usize),
    Write(usize, u16, Vec<u8>),
    Read(usize, u16, u16),
    Resize(usize, u16),
    Sync(usize),
    SetModified(usize, u32),
    Rename(usize, usize),
    RenameNew(usize, usize),
    RemoveFile(usize),
    RemoveDir(usize),
    MakeDir(usize),
    SyncDir(usize),
    List(usize),
    Look(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let name = 0..NAMES.len();
    let slot = 0..3usize;
    prop_oneof![
        4 => (slot.clone(), name.clone(), 0..4u8).prop_map(|(s, n, how)| Op::Open(s, n, how)),
        1 => slot.clone().prop_map(Op::Close),
        4 => (slot.clone(), 0..9000u16, proptest::collection::vec(any::<u8>(), 0..5000))
            .prop_map(|(s, at, bytes)| Op::Write(s, at, bytes)),
        3 => (slot.clone(), 0..9000u16, 0..9000u16).prop_map(|(s, at, count)| Op::Read(s, at, count)),
        2 => (slot.clone(), 0..9000u16).prop_map(|(s, len)| Op::Resize(s, len)),
        1 => slot.clone().prop_map(Op::Sync),
        1 => (slot, any::<u32>()).prop_map(|(s, ms)| Op::SetModified(s, ms)),
        3 => (name.clone(), name.clone()).prop_map(|(from, to)| Op::Rename(from, to)),
        1 => (name.clone(), name.clone()).prop_map(|(from, to)| Op::RenameNew(from, to)),
        2 => name.clone().prop_map(Op::RemoveFile),
        1 => name.clone().prop_map(Op::RemoveDir),
        2 => name.clone().prop_map(Op::MakeDir),
        1 => name.clone().prop_map(Op::SyncDir),
        1 => name.clone().prop_map(Op::List),
        2 => name.prop_map(Op::Look),
    ]
}

/// One disk under test, with what is open on it.
struct Side<'a> {
    disk: &'a dyn Disk,
    home: PathBuf,
    open: [Option<Box<dyn DiskFile>>; 3],
}

impl Side<'_> {
    /// The outcome as text: the value, or the error number.
    fn carry_out(&mut self, op: &Op) -> String {
        let at = |name: &usize| self.home.join(NAMES[*name]);
        let file = |slot: &usize| self.open[*slot].as_deref().ok_or_else(|| io::Error::other("nothing open"));
        let done = match op {
            Op::Open(slot, name, how) => {
                let how = match how {
                    0 => Open::Read,
                    1 => Open::Write,
                    2 => Open::Create { private: false },
                    _ => Open::CreateNew,
                };
                self.disk.open(&at(name), how).map(|opened| {
                    self.open[*slot] = Some(opened);
                    String::new()
                })
            }
            Op::Close(slot) => {
                self.open[*slot] = None;
                Ok(String::new())
            }
            Op::Write(slot, at, bytes) => {
                file(slot).and_then(|f| f.write_at(bytes, u64::from(*at))).map(text)
            }
            Op::Read(slot, at, count) => {
                let mut buffer = vec![0; usize::from(*count)];
                file(slot)
                    .and_then(|f| f.read_at(&mut buffer, u64::from(*at)))
                    .map(|got| text(&buffer[..got]))
            }
            Op::Resize(slot, len) => {
                // The length of a directory is the file system's own affair.
                file(slot).and_then(|f| f.set_len(u64::from(*len)).and_then(|()| f.len())).map(text)
            }
            Op::Sync(slot) => file(slot).and_then(|f| f.sync()).map(text),
            Op::SetModified(slot, ms) => file(slot).and_then(|f| f.set_modified(i64::from(*ms))).map(text),
            Op::Rename(from, to) => self.disk.rename(&at(from), &at(to)).map(text),
            // A directory into itself: the real one then tries a link, which says the same in another number.
            Op::RenameNew(from, to) if at(to).starts_with(at(from)) => Ok(String::new()),
            Op::RenameNew(from, to) => self.disk.rename_new(&at(from), &at(to)).map(text),
            Op::RemoveFile(name) => self.disk.remove_file(&at(name)).map(text),
            Op::RemoveDir(name) => self.disk.remove_dir(&at(name)).map(text),
            Op::MakeDir(name) => self.disk.create_dir_all(&at(name)).map(text),
            Op::SyncDir(name) => self.disk.sync_dir(&at(name)).map(text),
            Op::List(name) => self.disk.read_dir(&at(name)).map(text),
            Op::Look(name) => {
                self.disk.metadata(&at(name)).map(|m| text((m.is_dir, if m.is_dir { 0 } else { m.len })))
            }
        };
        done.unwrap_or_else(|error| format!("{:?} {:?}", error.raw_os_error(), error.kind()))
    }
}

fn text(value: impl std::fmt::Debug) -> String {
    format!("{value:?}")
}

/// All paths with what lies there.
fn everything(disk: &dyn Disk, dir: &Path, found: &mut Vec<String>) {
    for entry in disk.read_dir(dir).unwrap() {
        let path = dir.join(&entry.name);
        if entry.is_dir {
            found.push(format!("{}/", entry.name));
            everything(disk, &path, found);
        } else {
            found.push(format!("{} {:?}", entry.name, crate::disk::read(disk, &path, 1 << 20).unwrap()));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn the_simulated_disk_does_what_the_real_one_does(ops in proptest::collection::vec(op(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let simulated = SimDisk::default();
        simulated.create_dir_all(Path::new("/home")).unwrap();
        let mut real = Side { disk: &LocalDisk, home: dir.path().to_owned(), open: [None, None, None] };
        let mut sim = Side { disk: &simulated, home: PathBuf::from("/home"), open: [None, None, None] };
        for (n, op) in ops.iter().enumerate() {
            prop_assert_eq!(real.carry_out(op), sim.carry_out(op), "operation {}: {:?}", n, op);
        }
        let (mut there, mut here) = (Vec::new(), Vec::new());
        everything(&LocalDisk, dir.path(), &mut there);
        everything(&simulated, Path::new("/home"), &mut here);
        prop_assert_eq!(there, here);
    }
}
