//! The inodes of a machine and the paths to them. Errors are those of Linux, in its order.
//!
//! There are no links of either kind, no owners and no modes. Relative paths start at `/`.

use super::contents::Contents;
use super::memory::Memory;
use super::names::{Ino, MoveId, NameChange, Names};
use super::script::{Op, Script};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path};
use std::sync::Arc;

pub(super) const ROOT: Ino = Ino(1);

#[derive(Debug)]
pub(super) enum Node {
    Directory(Names),
    File(Contents),
    /// A wal-index: memory of the machine under a name. Nothing of it outlives the power.
    Memory(Arc<Memory>),
}

/// Nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) modified_ns: i128,
    pub(super) changed_ns: i128,
}

#[derive(Debug)]
pub(super) struct Inode {
    pub(super) node: Node,
    pub(super) times: Times,
    pub(super) durable_times: Times,
    /// A name stands for it now.
    pub(super) linked: bool,
}

impl Inode {
    pub(super) fn len(&self) -> u64 {
        match &self.node {
            Node::Directory(_) => 4096,
            Node::File(contents) => contents.len(),
            Node::Memory(memory) => memory.len(),
        }
    }

    pub(super) fn is_dir(&self) -> bool {
        matches!(self.node, Node::Directory(_))
    }

    /// Makes the contents durable.
    pub(super) fn sync(&mut self) {
        if let Node::File(contents) = &mut self.node {
            contents.sync();
        }
        self.durable_times = self.times;
    }
}

#[derive(Debug)]
pub(super) struct Tree {
    pub(super) inodes: BTreeMap<Ino, Inode>,
    last_ino: u64,
    last_move: u64,
}

pub(super) fn errno(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

/// The parts of a path, `.` and `..` resolved by name.
pub(super) fn parts(path: &Path) -> io::Result<Vec<&str>> {
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => parts.push(name.to_str().ok_or_else(|| errno(libc::EILSEQ))?),
            Component::ParentDir => drop(parts.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Ok(parts)
}

impl Tree {
    pub(super) fn new(now_ns: i128) -> Tree {
        let mut tree = Tree { inodes: BTreeMap::new(), last_ino: 0, last_move: 0 };
        let root = tree.add(Node::Directory(Names::default()), now_ns);
        debug_assert_eq!(root, ROOT, "the first inode is the root");
        tree.set_linked(root, true);
        tree
    }

    /// An inode that no name stands for yet.
    pub(super) fn add(&mut self, node: Node, now_ns: i128) -> Ino {
        self.last_ino += 1;
        let times = Times { modified_ns: now_ns, changed_ns: now_ns };
        let inode = Inode { node, times, durable_times: times, linked: false };
        self.inodes.insert(Ino(self.last_ino), inode);
        Ino(self.last_ino)
    }

    pub(super) fn get(&self, ino: Ino) -> io::Result<&Inode> {
        self.inodes.get(&ino).ok_or_else(|| errno(libc::ESTALE))
    }

    pub(super) fn get_mut(&mut self, ino: Ino) -> io::Result<&mut Inode> {
        self.inodes.get_mut(&ino).ok_or_else(|| errno(libc::ESTALE))
    }

    pub(super) fn names(&self, ino: Ino) -> io::Result<&Names> {
        match &self.get(ino)?.node {
            Node::Directory(names) => Ok(names),
            Node::File(_) | Node::Memory(_) => Err(errno(libc::ENOTDIR)),
        }
    }

    pub(super) fn names_mut(&mut self, ino: Ino) -> io::Result<&mut Names> {
        match &mut self.get_mut(ino)?.node {
            Node::Directory(names) => Ok(names),
            Node::File(_) | Node::Memory(_) => Err(errno(libc::ENOTDIR)),
        }
    }

    /// The inodes along a path, the root first.
    fn walk(&self, parts: &[&str]) -> io::Result<Vec<Ino>> {
        let mut along = vec![ROOT];
        let mut at = ROOT;
        for part in parts {
            at = self.names(at)?.get(part).ok_or_else(|| errno(libc::ENOENT))?;
            along.push(at);
        }
        Ok(along)
    }

    pub(super) fn lookup(&self, path: &Path) -> io::Result<Ino> {
        let along = self.walk(&parts(path)?)?;
        along.last().copied().ok_or_else(|| errno(libc::ENOENT))
    }

    /// The directory that a path's last part lies in, and that part; the part itself need not exist.
    pub(super) fn lookup_parent<'a>(&self, path: &'a Path) -> io::Result<(Ino, &'a str)> {
        let mut parts = parts(path)?;
        let name = parts.pop().ok_or_else(|| errno(libc::EBUSY))?;
        let dir = self.walk(&parts)?.last().copied().unwrap_or(ROOT);
        self.names(dir)?;
        Ok((dir, name))
    }

    pub(super) fn create(
        &mut self,
        script: &mut Script,
        dir: Ino,
        name: &str,
        node: Node,
        now_ns: i128,
    ) -> io::Result<Ino> {
        script.enter(Op::Create, name)?;
        let ino = self.add(node, now_ns);
        self.names_mut(dir)?.change(NameChange::Set { name: name.to_owned(), ino });
        self.set_linked(ino, true);
        self.touch(dir, now_ns);
        Ok(ino)
    }

    pub(super) fn create_dir_all(
        &mut self,
        script: &mut Script,
        path: &Path,
        now_ns: i128,
    ) -> io::Result<()> {
        let mut at = ROOT;
        let parts = parts(path)?;
        for (depth, part) in parts.iter().enumerate() {
            let next = self.names(at)?.get(part);
            at = match next {
                Some(found) if self.get(found)?.is_dir() => found,
                Some(_) if depth + 1 == parts.len() => return Err(errno(libc::EEXIST)),
                Some(_) => return Err(errno(libc::ENOTDIR)),
                None => self.create(script, at, part, Node::Directory(Names::default()), now_ns)?,
            };
        }
        Ok(())
    }

    pub(super) fn unlink(
        &mut self,
        script: &mut Script,
        path: &Path,
        directory: bool,
        now_ns: i128,
    ) -> io::Result<()> {
        let (dir, name) = self.lookup_parent(path)?;
        let ino = self.names(dir)?.get(name).ok_or_else(|| errno(libc::ENOENT))?;
        match (&self.get(ino)?.node, directory) {
            (Node::Directory(_), false) => return Err(errno(libc::EISDIR)),
            (Node::Directory(names), true) if !names.live().is_empty() => return Err(errno(libc::ENOTEMPTY)),
            (Node::Directory(_), true) | (_, false) => {}
            (_, true) => return Err(errno(libc::ENOTDIR)),
        }
        script.enter(Op::Unlink, name)?;
        self.names_mut(dir)?.change(NameChange::Remove { name: name.to_owned() });
        self.set_linked(ino, false);
        self.touch(dir, now_ns);
        Ok(())
    }

    pub(super) fn rename(
        &mut self,
        script: &mut Script,
        from: &Path,
        to: &Path,
        replace: bool,
        now_ns: i128,
    ) -> io::Result<()> {
        let (from_dir, from_name) = self.lookup_parent(from)?;
        let (to_dir, to_name) = self.lookup_parent(to)?;
        let ino = self.names(from_dir)?.get(from_name).ok_or_else(|| errno(libc::ENOENT))?;
        let replaced = self.names(to_dir)?.get(to_name);
        if replaced.is_some() && !replace {
            return Err(errno(libc::EEXIST));
        }
        if self.walk(&parts(to)?).or_else(|_| self.walk_parent(to))?.contains(&ino) && from_dir != to_dir {
            return Err(errno(libc::EINVAL));
        }
        if replaced.is_some_and(|replaced| replaced != ino) {
            self.may_replace(from, ino, replaced)?;
        }
        if replaced == Some(ino) {
            return Ok(());
        }
        script.enter(Op::Rename, from_name)?;
        if from_dir == to_dir {
            let change = NameChange::Rename { from: from_name.to_owned(), to: to_name.to_owned(), ino };
            self.names_mut(from_dir)?.change(change);
        } else {
            self.last_move += 1;
            let (id, whole) = (MoveId(self.last_move), self.get(ino)?.is_dir());
            let name = to_name.to_owned();
            self.names_mut(to_dir)?.change(NameChange::MovedIn { id, name, ino, other: from_dir, whole });
            let name = from_name.to_owned();
            self.names_mut(from_dir)?.change(NameChange::MovedOut { id, name, other: to_dir });
        }
        if let Some(replaced) = replaced {
            self.set_linked(replaced, false);
        }
        self.get_mut(ino)?.times.changed_ns = now_ns;
        self.touch(from_dir, now_ns);
        self.touch(to_dir, now_ns);
        Ok(())
    }

    fn walk_parent(&self, path: &Path) -> io::Result<Vec<Ino>> {
        let mut parts = parts(path)?;
        parts.pop();
        self.walk(&parts)
    }

    fn may_replace(&self, from: &Path, ino: Ino, replaced: Option<Ino>) -> io::Result<()> {
        let Some(replaced) = replaced else { return Ok(()) };
        if self.walk_parent(from)?.contains(&replaced) {
            return Err(errno(libc::ENOTEMPTY));
        }
        match (self.get(ino)?.is_dir(), &self.get(replaced)?.node) {
            (true, Node::Directory(names)) if !names.live().is_empty() => Err(errno(libc::ENOTEMPTY)),
            (true, Node::Directory(_)) => Ok(()),
            (true, _) => Err(errno(libc::ENOTDIR)),
            (false, Node::Directory(_)) => Err(errno(libc::EISDIR)),
            (false, _) => Ok(()),
        }
    }

    pub(super) fn set_linked(&mut self, ino: Ino, linked: bool) {
        if let Some(inode) = self.inodes.get_mut(&ino) {
            inode.linked = linked;
        }
    }

    /// Notes a change of contents.
    pub(super) fn touch(&mut self, ino: Ino, now_ns: i128) {
        if let Some(inode) = self.inodes.get_mut(&ino) {
            inode.times = Times { modified_ns: now_ns, changed_ns: now_ns };
        }
    }

    /// Bytes of all files that a name stands for, or that `held` says are open.
    pub(super) fn used_bytes(&self, held: &BTreeSet<Ino>) -> u64 {
        let counts = |(ino, inode): &(&Ino, &Inode)| !inode.is_dir() && (inode.linked || held.contains(ino));
        self.inodes.iter().filter(counts).map(|(_, inode)| inode.len()).sum()
    }

    /// Forgets what no name can lead to any more, now or after a power loss, and nobody holds.
    pub(super) fn collect(&mut self, held: &BTreeSet<Ino>) {
        let mut reachable = held.clone();
        reachable.insert(ROOT);
        // A directory that was removed, but not durably, still leads to what was in it.
        for inode in self.inodes.values() {
            if let Node::Directory(names) = &inode.node {
                names.reachable(&mut reachable);
            }
        }
        self.inodes.retain(|ino, _| reachable.contains(ino));
    }
}
