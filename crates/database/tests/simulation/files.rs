//! Databases that applications make, delete and replace.

use crate::app::{Apps, OBSERVER};
use crate::content::{self, Content, StateId};
use base::sim::Process;
use base::{Disk, disk};
use rusqlite::OpenFlags;

const CREATE: OpenFlags = OpenFlags::SQLITE_OPEN_READ_WRITE.union(OpenFlags::SQLITE_OPEN_CREATE);

impl Apps {
    pub fn create(&mut self, which: usize, name: &str) {
        let process = self.apps[which].process;
        let found = match self.found(process, name) {
            Ok(found) => found,
            Err(error) => return self.failed("creating", name, &error),
        };
        if let Some(id) = found {
            return self.model.adopt(name, id).unwrap_or_else(|problem| panic!("{problem}"));
        }
        self.note(format!("create {name}"));
        let content = Content::fresh(self.model.fresh_id());
        match self.make(process, name, content.id) {
            Ok(()) => self.model.created(name, content),
            Err(error) => {
                self.failed("creating", name, &error);
                // Whether it is there will be seen.
                self.model.maybe_created(name, content);
            }
        }
    }

    fn found(&self, process: Process, name: &str) -> rusqlite::Result<Option<StateId>> {
        if self.disk.metadata(&self.file(name)).is_err() {
            return Ok(None);
        }
        let conn = self.open(process, name, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        content::state(&conn, "main")
    }

    fn make(&self, process: Process, name: &str, id: StateId) -> rusqlite::Result<()> {
        let conn = self.open(process, name, CREATE)?;
        let size = [512, 1024, 4096][self.random.below(3) as usize];
        conn.execute_batch(&format!("PRAGMA page_size={size}; BEGIN IMMEDIATE; {}", content::SCHEMA))?;
        conn.execute("INSERT INTO meta VALUES(0, ?1, 0)", [id.0])?;
        conn.execute_batch("COMMIT")?;
        if self.chance(60) {
            conn.query_row("PRAGMA journal_mode=WAL", [], |_| Ok(()))?;
        }
        Ok(())
    }

    fn let_go(&mut self, name: &str) {
        for app in &mut self.apps {
            app.forget(name);
        }
    }

    pub fn delete(&mut self, name: &str) {
        self.note(format!("delete {name}"));
        self.let_go(name);
        for suffix in ["", "-wal", "-shm", "-journal"] {
            let _ = self.disk.remove_file(&disk::sibling(&self.file(name), suffix));
        }
        let _ = self.disk.sync_dir(disk::parent(&self.file(name)));
        self.model.deleted(name);
    }

    pub fn replace(&mut self, name: &str) {
        if self.faulty {
            return;
        }
        self.note(format!("replace {name}"));
        self.let_go(name);
        let beside = "data/replacement.tmp";
        let content = Content::fresh(self.model.fresh_id());
        self.make(OBSERVER, beside, content.id).unwrap_or_else(|error| panic!("replacement: {error}"));
        for suffix in ["-wal", "-shm", "-journal"] {
            let _ = self.disk.remove_file(&disk::sibling(&self.file(name), suffix));
        }
        self.disk
            .rename(&self.file(beside), &self.file(name))
            .unwrap_or_else(|error| panic!("replacing: {error}"));
        let _ = self.disk.sync_dir(disk::parent(&self.file(name)));
        self.model.deleted(name);
        self.model.created(name, content);
    }
}
