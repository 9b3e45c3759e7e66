//! One machine: its tree, its open files, its script, under one mutex. Everything that a handle can do.

use super::clock::SimClock;
use super::contents::Contents;
use super::locks::{Handle, HandleId, Handles, Level, Shm};
use super::memory::{Mapping, Memory};
use super::names::Ino;
use super::process::Process;
use super::random::SimRandom;
use super::script::{Gone, Op, Script};
use super::tree::{Node, Times, Tree, errno};
use crate::disk::sibling;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Debug)]
pub(super) struct Machine {
    pub(super) clock: SimClock,
    pub(super) random: SimRandom,
    state: Mutex<State>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) tree: Tree,
    pub(super) handles: Handles,
    pub(super) script: Script,
    pub(super) capacity_bytes: u64,
    clock: SimClock,
}

/// How a file is opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Access {
    pub(super) write: bool,
    pub(super) create: bool,
    /// The name must be new.
    pub(super) exclusive: bool,
    pub(super) truncate: bool,
}

impl Machine {
    pub(super) fn new(clock: SimClock, random: SimRandom) -> Machine {
        let state = State {
            tree: Tree::new(clock.wall_ns()),
            handles: Handles::default(),
            script: Script::default(),
            capacity_bytes: u64::MAX,
            clock: clock.clone(),
        };
        Machine { clock, random, state: Mutex::new(state) }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    pub(super) fn now_ns(&self) -> i128 {
        self.clock.wall_ns()
    }

    pub(super) fn open(&mut self, path: &Path, access: Access, process: Process) -> io::Result<HandleId> {
        let name = path.to_string_lossy();
        self.script.enter(Op::Open, &name)?;
        let now = self.now_ns();
        let found = match self.tree.lookup(path) {
            Err(error) if access.create && error.raw_os_error() == Some(libc::ENOENT) => None,
            other => Some(other?),
        };
        let ino = match found {
            Some(_) if access.exclusive => return Err(errno(libc::EEXIST)),
            Some(ino) if access.write && self.tree.get(ino)?.is_dir() => return Err(errno(libc::EISDIR)),
            Some(ino) => {
                if access.truncate && self.tree.get(ino)?.len() > 0 {
                    self.script.enter(Op::Truncate, &name)?;
                    self.resize(ino, 0)?;
                }
                ino
            }
            None => {
                let (dir, name) = self.tree.lookup_parent(path)?;
                self.tree.create(&mut self.script, dir, name, Node::File(Contents::default()), now)?
            }
        };
        Ok(self.add_handle(ino, path, access.write, process))
    }

    /// A file without a name, gone when it is closed.
    pub(super) fn open_nameless(&mut self, process: Process) -> io::Result<HandleId> {
        self.script.enter(Op::Open, "")?;
        let now = self.now_ns();
        let ino = self.tree.add(Node::File(Contents::default()), now);
        Ok(self.add_handle(ino, Path::new(""), true, process))
    }

    fn add_handle(&mut self, ino: Ino, path: &Path, writable: bool, process: Process) -> HandleId {
        let path = path.to_owned();
        self.handles.add(Handle { ino, path, process, writable, level: Level::None, shm: None })
    }

    pub(super) fn close(&mut self, id: HandleId) {
        if let Some(handle) = self.handles.remove(id)
            && handle.path.as_os_str().is_empty()
        {
            self.tree.inodes.remove(&handle.ino);
        }
    }

    /// The handle, alive, on a machine that is alive.
    pub(super) fn handle(&self, id: HandleId) -> Result<&Handle, Gone> {
        self.script.alive()?;
        self.handles.get(id).ok_or(Gone::Handle)
    }

    /// The file behind a handle, once the script lets the operation through.
    fn enter(&mut self, id: HandleId, op: Op) -> io::Result<Ino> {
        let handle = self.handle(id)?;
        let (ino, writable, name) = (handle.ino, handle.writable, handle.path.to_string_lossy().into_owned());
        match op {
            Op::Write if !writable => return Err(errno(libc::EBADF)),
            Op::Truncate if !writable => return Err(errno(libc::EINVAL)),
            Op::Read if self.tree.get(ino)?.is_dir() => return Err(errno(libc::EISDIR)),
            _ => {}
        }
        self.script.enter(op, &name)?;
        Ok(ino)
    }

    pub(super) fn read(&mut self, id: HandleId, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let ino = self.enter(id, Op::Read)?;
        match &self.tree.get(ino)?.node {
            Node::Directory(_) => Err(errno(libc::EISDIR)),
            Node::File(contents) => Ok(contents.read(buffer, offset)),
            Node::Memory(memory) => memory.read(buffer, offset),
        }
    }

    /// Writes all; on a full disk what still fits, and fails.
    pub(super) fn write(&mut self, id: HandleId, bytes: &[u8], offset: u64) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let ino = self.enter(id, Op::Write)?;
        let end = self.tree.get(ino)?.len().saturating_add(self.free_bytes());
        let fits = end.saturating_sub(offset).min(bytes.len() as u64) as usize;
        let now = self.now_ns();
        match &mut self.tree.get_mut(ino)?.node {
            Node::Directory(_) => return Err(errno(libc::EISDIR)),
            Node::File(contents) => contents.write(&bytes[..fits], offset),
            Node::Memory(memory) => memory.write(&bytes[..fits], offset)?,
        }
        self.tree.touch(ino, now);
        if fits < bytes.len() { Err(errno(libc::ENOSPC)) } else { Ok(()) }
    }

    pub(super) fn set_len(&mut self, id: HandleId, len: u64) -> io::Result<()> {
        let ino = self.enter(id, Op::Truncate)?;
        self.resize(ino, len)
    }

    fn resize(&mut self, ino: Ino, len: u64) -> io::Result<()> {
        let (old, free, now) = (self.tree.get(ino)?.len(), self.free_bytes(), self.now_ns());
        if len.saturating_sub(old) > free {
            return Err(errno(libc::ENOSPC));
        }
        let inode = self.tree.get_mut(ino)?;
        match &mut inode.node {
            Node::Directory(_) => return Err(errno(libc::EISDIR)),
            Node::File(contents) => contents.resize(len),
            // A mapped file must not shrink under its users; a new one takes its place.
            Node::Memory(memory) if len < memory.len() => {
                let smaller = Memory::new()?;
                smaller.grow(len)?;
                inode.node = Node::Memory(Arc::new(smaller));
            }
            Node::Memory(memory) => memory.grow(len)?,
        }
        self.tree.touch(ino, now);
        Ok(())
    }

    pub(super) fn len(&self, id: HandleId) -> io::Result<u64> {
        Ok(self.tree.get(self.handle(id)?.ino)?.len())
    }

    pub(super) fn sync(&mut self, id: HandleId) -> io::Result<()> {
        let ino = self.handle(id)?.ino;
        if self.tree.get(ino)?.is_dir() {
            return self.sync_names(ino, id);
        }
        let ino = self.enter(id, Op::Sync)?;
        self.tree.get_mut(ino)?.sync();
        Ok(())
    }

    fn sync_names(&mut self, ino: Ino, id: HandleId) -> io::Result<()> {
        self.enter(id, Op::SyncDir)?;
        self.tree.sync_dir(ino);
        Ok(())
    }

    pub(super) fn sync_dir(&mut self, path: &Path, op: Op) -> io::Result<()> {
        self.script.alive()?;
        let ino = self.tree.lookup(path)?;
        self.script.enter(op, &path.to_string_lossy())?;
        if !self.tree.get(ino)?.is_dir() {
            self.tree.get_mut(ino)?.sync();
            return Ok(());
        }
        self.tree.sync_dir(ino);
        let held = self.held();
        self.tree.collect(&held);
        Ok(())
    }

    pub(super) fn set_modified(&mut self, id: HandleId, modified_ns: i128) -> io::Result<()> {
        let (ino, changed_ns) = (self.handle(id)?.ino, self.now_ns());
        self.tree.get_mut(ino)?.times = Times { modified_ns, changed_ns };
        Ok(())
    }

    /// Inodes that somebody has open.
    pub(super) fn held(&self) -> BTreeSet<Ino> {
        self.handles
            .iter()
            .flat_map(|handle| [Some(handle.ino), handle.shm.as_ref().map(|shm| shm.ino)])
            .flatten()
            .collect()
    }

    pub(super) fn free_bytes(&self) -> u64 {
        if self.capacity_bytes == u64::MAX {
            return i64::MAX as u64;
        }
        self.capacity_bytes.saturating_sub(self.tree.used_bytes(&self.held()))
    }

    /// One region of the wal-index of a database, mapped; none where it is not there and not to be made.
    pub(super) fn shm_map(
        &mut self,
        id: HandleId,
        region: usize,
        bytes: usize,
        extend: bool,
    ) -> io::Result<Option<Arc<Mapping>>> {
        self.attach_shm(id)?;
        let free = self.free_bytes();
        let handle = self.handles.get_mut(id).ok_or(Gone::Handle)?;
        let shm = handle.shm.as_mut().ok_or(Gone::Handle)?;
        let end = (region as u64 + 1) * bytes as u64;
        let missing = end.saturating_sub(shm.memory.len());
        if missing > 0 && !extend {
            return Ok(None);
        }
        if missing > free {
            return Err(errno(libc::ENOSPC));
        }
        shm.memory.grow(end)?;
        while shm.mappings.len() <= region {
            let offset = shm.mappings.len() as u64 * bytes as u64;
            shm.mappings.push(Arc::new(Mapping::new(&shm.memory, offset, bytes)?));
        }
        Ok(shm.mappings.get(region).cloned())
    }

    /// Finds or makes the `-shm` file. Whoever is the first to have it open starts with an empty one, as SQLite does.
    fn attach_shm(&mut self, id: HandleId) -> io::Result<()> {
        let handle = self.handle(id)?;
        if handle.shm.is_some() {
            return Ok(());
        }
        let path = sibling(&handle.path, "-shm");
        let mine =
            self.handles.iter().filter(|other| other.ino == handle.ino && other.process == handle.process);
        let known = mine.filter_map(|other| other.shm.as_ref()).map(|shm| shm.ino).next();
        let process = handle.process;
        let ino = match known {
            Some(ino) => ino,
            None => {
                let access = Access { write: true, create: true, exclusive: false, truncate: false };
                let opened = self.open(&path, access, process)?;
                let ino = self.handle(opened)?.ino;
                self.close(opened);
                ino
            }
        };
        let in_use = self.handles.iter().any(|other| other.shm.as_ref().is_some_and(|shm| shm.ino == ino));
        let inode = self.tree.get_mut(ino)?;
        let memory = match &inode.node {
            Node::Memory(memory) if in_use => Arc::clone(memory),
            _ => Arc::new(Memory::new()?),
        };
        inode.node = Node::Memory(Arc::clone(&memory));
        let handle = self.handles.get_mut(id).ok_or(Gone::Handle)?;
        handle.shm = Some(Shm { ino, memory, mappings: Vec::new(), shared: 0, exclusive: 0 });
        Ok(())
    }

    /// Lets the wal-index go; the last handle of its process also removes the file where that is asked for.
    pub(super) fn shm_unmap(&mut self, id: HandleId, delete: bool) -> io::Result<()> {
        let Some(handle) = self.handles.get_mut(id) else { return Ok(()) };
        let Some(shm) = handle.shm.take() else { return Ok(()) };
        let (process, path) = (handle.process, sibling(&handle.path, "-shm"));
        let shares = |other: &Handle| other.shm.as_ref().is_some_and(|other| other.ino == shm.ino);
        if delete && !self.handles.iter().any(|other| other.process == process && shares(other)) {
            let now = self.now_ns();
            self.tree.unlink(&mut self.script, &path, false, now)?;
        }
        Ok(())
    }
}
