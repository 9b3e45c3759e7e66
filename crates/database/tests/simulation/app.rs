//! The applications: processes with SQLite connections, which do what applications do.

use crate::content::{self, Change, Content, StateId};
use crate::machine::NODE;
use crate::model::Model;
use base::Disk;
use base::sim::{Process, SimDisk, SimRandom, SimVfs};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The two whose balances add up to zero; only the first application writes them.
pub const PAIR: [&str; 2] = ["data/a.db", "data/b.db"];
/// Only the second application writes these, and it also deletes and replaces them.
pub const COMES_AND_GOES: [&str; 2] = ["data/c.db", "data/d.db"];
/// Everybody writes this one.
pub const SHARED: &str = "data/main.sqlite";

/// Who looks at files from outside.
pub const OBSERVER: Process = Process(99);

/// One application.
pub struct App {
    pub process: Process,
    pub connections: BTreeMap<String, Connection>,
    pub reads: Vec<(String, Connection, Option<Content>)>,
    transfer: Option<Connection>,
    pub open: Option<Open>,
}

/// A transaction that is still open.
pub struct Open {
    pub name: String,
    pub after: Content,
}

/// All of them, and what they must find.
pub struct Apps {
    pub disk: SimDisk,
    pub home: PathBuf,
    vfs: String,
    pub random: SimRandom,
    pub model: Model,
    pub apps: Vec<App>,
    /// Operations may fail: something is broken on purpose.
    pub faulty: bool,
    /// The engine may hold a write lock for a moment.
    pub may_be_locked: bool,
    /// One was killed, perhaps as it committed: the engine may hold a write lock while an index is rebuilt.
    pub one_died: bool,
    pub trace: Vec<String>,
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// In rollback mode readers and writers exclude each other, so nobody stays in a transaction there.
pub fn is_wal(conn: &Connection) -> rusqlite::Result<bool> {
    conn.query_row("PRAGMA journal_mode", [], |row| Ok(row.get::<_, String>(0)? == "wal"))
}

impl App {
    fn new(number: u32) -> App {
        App {
            process: Process(NODE.0 + 1 + number),
            connections: BTreeMap::new(),
            reads: Vec::new(),
            transfer: None,
            open: None,
        }
    }

    pub fn forget(&mut self, name: &str) {
        self.connections.remove(name);
        self.reads.retain(|(read, ..)| read != name);
        self.open.take_if(|open| open.name == name);
        if PAIR.contains(&name) {
            self.transfer = None;
        }
    }
}

impl Apps {
    pub fn new(disk: &SimDisk, home: &Path, vfs: &str, random: SimRandom, count: u32) -> Apps {
        Apps {
            disk: disk.clone(),
            home: home.to_owned(),
            vfs: vfs.to_owned(),
            random,
            model: Model::default(),
            apps: (0..count).map(App::new).collect(),
            faulty: false,
            may_be_locked: false,
            one_died: false,
            trace: Vec::new(),
        }
    }

    pub fn note(&mut self, text: impl Into<String>) {
        self.trace.push(text.into());
    }

    pub fn chance(&self, percent: u64) -> bool {
        self.random.below(100) < percent
    }

    /// Ends all of them without ceremony; what they had open is closed as SQLite closes it.
    pub fn close_all(&mut self) {
        for app in &mut self.apps {
            *app = App::new(app.process.0 - NODE.0 - 1);
        }
    }

    /// Kills one, or another.
    pub fn kill_one(&mut self) {
        let which = self.random.below(self.apps.len() as u64) as usize;
        self.note(format!("app {which} is killed"));
        let process = self.apps[which].process;
        self.disk.crash_process(process);
        self.apps[which] = App::new(which as u32);
        self.one_died = true;
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.home.join(name)
    }

    pub fn open(&self, process: Process, name: &str, flags: OpenFlags) -> rusqlite::Result<Connection> {
        let path = self.file(name);
        let conn = SimVfs::as_process(process, || {
            Connection::open_with_flags_and_vfs(path, flags, self.vfs.as_str())
        })?;
        conn.busy_timeout(Duration::ZERO)?;
        Ok(conn)
    }

    /// What an outsider finds in a file: none, an empty one, or one in this state.
    pub fn look(&mut self, name: &str) -> Result<Option<StateId>, String> {
        if self.disk.metadata(&self.file(name)).is_err() {
            return Ok(None);
        }
        let read = || -> rusqlite::Result<(Option<Content>, String)> {
            let conn = self.open(OBSERVER, name, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
            conn.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
            SimVfs::as_process(OBSERVER, || Ok((content::read(&conn)?, content::integrity(&conn)?)))
        };
        let (found, integrity) = read().map_err(|error| format!("{name} cannot be read: {error}"))?;
        if integrity != "ok" {
            return Err(format!("{name}: {integrity}"));
        }
        let Some(found) = found else { return Ok(None) };
        if *self.model.content(found.id) != found {
            return Err(format!("{name} says that it is at {:?}, but its rows are others", found.id));
        }
        Ok(Some(found.id))
    }

    /// The first application writes one transaction, and makes the database where it is missing.
    pub fn commit_to(&mut self, name: &str, full: bool) {
        let process = self.apps[0].process;
        SimVfs::as_process(process, || {
            if !self.model.has(name) {
                self.create(0, name);
            }
            if self.connect(0, name)
                && let Some(conn) = self.apps[0].connections.get(name)
            {
                let level = if full { "FULL" } else { "NORMAL" };
                let _ = conn.execute_batch(&format!("PRAGMA synchronous={level}"));
            }
            self.transact(0, name);
        });
    }

    /// The first application makes tables, and many rows in them.
    pub fn grow(&mut self, name: &str) {
        let mut content = self.model.now(name);
        let table = format!("t{}", content.tables.len());
        let mut changes = vec![Change::Create(table.clone())];
        changes.extend((0..40).map(|row| Change::Put { table: table.clone(), row, value: (row, 5000) }));
        content.id = self.model.fresh_id();
        let Some(conn) = self.apps[0].connections.get(name) else { panic!("{name} is not open") };
        let written = conn.execute_batch("BEGIN IMMEDIATE").and_then(|()| {
            changes.iter().try_for_each(|change| {
                content.apply(change);
                content::execute(conn, "main", change)
            })?;
            content::stamp(conn, "main", content.id)?;
            conn.execute_batch("COMMIT")
        });
        written.unwrap_or_else(|error| panic!("growing {name}: {error}"));
        self.model.committed(vec![(name.to_owned(), content, false)]);
    }

    /// The first application writes one transaction over two databases.
    pub fn transfer_once(&mut self) {
        let process = self.apps[0].process;
        SimVfs::as_process(process, || self.transfer());
    }

    /// Does one thing that applications do.
    pub fn act(&mut self) {
        let which = self.random.below(self.apps.len() as u64) as usize;
        let process = self.apps[which].process;
        SimVfs::as_process(process, || self.act_as(which));
    }

    fn act_as(&mut self, which: usize) {
        let name = self.pick(which);
        if !self.model.has(&name) {
            return self.create(which, &name);
        }
        match self.random.below(100) {
            0..45 => self.transact(which, &name),
            45..55 if which == 0 => self.transfer(),
            55..62 => self.begin_read(which, &name),
            62..70 => self.end_read(which),
            70..74 => self.vacuum(which, &name),
            74..83 => self.checkpoint(which, &name),
            83..88 => self.leave_open(which, &name),
            88..93 => self.finish_open(which),
            93..96 => self.reopen(which, &name),
            96..98 if COMES_AND_GOES.contains(&name.as_str()) => self.delete(&name),
            98..100 if COMES_AND_GOES.contains(&name.as_str()) => self.replace(&name),
            _ => self.transact(which, &name),
        }
    }

    fn pick(&self, which: usize) -> String {
        let name = match (which, self.random.below(3)) {
            (0, at @ 0..2) => PAIR[at as usize],
            (1, at @ 0..2) => COMES_AND_GOES[at as usize],
            _ => SHARED,
        };
        name.to_owned()
    }

    /// An error that nothing explains is a finding.
    pub fn failed(&self, what: &str, name: &str, error: &rusqlite::Error) {
        if self.faulty {
            return;
        }
        let owned_alone = name != SHARED;
        assert!(
            is_busy(error) && (!owned_alone || self.may_be_locked || self.one_died),
            "{what} in {name} failed without a reason: {error:?}"
        );
    }

    pub fn in_use(&self, name: &str) -> bool {
        self.apps.iter().any(|app| app.open.as_ref().is_some_and(|open| open.name == name))
    }

    pub fn connect(&mut self, which: usize, name: &str) -> bool {
        if self.apps[which].connections.contains_key(name) {
            return true;
        }
        let process = self.apps[which].process;
        let setup = || {
            let conn = self.open(process, name, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
            let level = if self.chance(40) { "FULL" } else { "NORMAL" };
            let pages = [1000, 20, 0][self.random.below(3) as usize];
            conn.execute_batch(&format!(
                "PRAGMA synchronous={level}; PRAGMA wal_autocheckpoint={pages}; PRAGMA cache_size=8"
            ))?;
            Ok(conn)
        };
        match setup() {
            Ok(conn) => {
                self.apps[which].connections.insert(name.to_owned(), conn);
                true
            }
            Err(error) => {
                self.failed("opening", name, &error);
                false
            }
        }
    }

    fn changes(&self, content: &Content) -> Vec<Change> {
        let count = if self.chance(8) { 60 } else { 1 + self.random.below(4) };
        let mut changes = Vec::new();
        let mut tables: BTreeSet<String> = content.tables.keys().cloned().collect();
        for _ in 0..count {
            let names: Vec<&String> = tables.iter().collect();
            let table = names[self.random.below(names.len() as u64) as usize].clone();
            let row = self.random.below(60) as i64;
            let len = [10, 100, 900, 5000][self.random.below(4) as usize];
            let value = (self.random.below(1 << 40) as i64, len);
            changes.push(match self.random.below(30) {
                0 if tables.len() < 4 => {
                    let table = format!("t{}", tables.len());
                    if !tables.insert(table.clone()) {
                        continue;
                    }
                    Change::Create(table)
                }
                1 if table != "t0" => {
                    tables.remove(&table);
                    Change::Drop(table)
                }
                2..10 => Change::Remove { table, row },
                _ => Change::Put { table, row, value },
            });
        }
        changes
    }

    fn durable(conn: &Connection, schema: &str) -> rusqlite::Result<bool> {
        let level: i64 = conn.query_row(&format!("PRAGMA {schema}.synchronous"), [], |row| row.get(0))?;
        let mode: String = conn.query_row(&format!("PRAGMA {schema}.journal_mode"), [], |row| row.get(0))?;
        Ok(level >= 2 && mode == "wal")
    }

    /// Writes a transaction but for its commit: what it leads to.
    pub fn write(
        &mut self,
        conn: &Connection,
        schema: &str,
        name: &str,
        balance: Option<i64>,
    ) -> rusqlite::Result<Content> {
        let found = content::state(conn, schema)?;
        self.model.saw(name, found).unwrap_or_else(|problem| panic!("{problem}"));
        let mut content = self.model.now(name);
        let mut changes = self.changes(&content);
        changes.extend(balance.map(Change::Balance));
        for change in &changes {
            content::execute(conn, schema, change)?;
            content.apply(change);
        }
        content.id = self.model.fresh_id();
        content::stamp(conn, schema, content.id)?;
        Ok(content)
    }

    fn transact(&mut self, which: usize, name: &str) {
        if self.in_use(name) || !self.connect(which, name) {
            return;
        }
        let Some(conn) = self.apps[which].connections.remove(name) else { return };
        let kept = self.transact_on(&conn, name);
        if kept || self.chance(50) {
            self.apps[which].connections.insert(name.to_owned(), conn);
        }
    }

    /// Whether the connection is as before.
    fn transact_on(&mut self, conn: &Connection, name: &str) -> bool {
        let begun = conn.execute_batch("BEGIN IMMEDIATE").and_then(|()| self.write(conn, "main", name, None));
        match begun {
            Ok(after) => self.commit(conn, vec![(name.to_owned(), "main", after)]),
            Err(error) => {
                self.failed("writing", name, &error);
                let _ = conn.execute_batch("ROLLBACK");
                false
            }
        }
    }

    pub fn commit(&mut self, conn: &Connection, all: Vec<(String, &str, Content)>) -> bool {
        let durable: Vec<bool> =
            all.iter().map(|(_, schema, _)| Apps::durable(conn, schema).unwrap_or(false)).collect();
        match conn.execute_batch("COMMIT") {
            Ok(()) => {
                let names: Vec<String> = all
                    .iter()
                    .zip(&durable)
                    .map(|((name, _, to), full)| {
                        format!("{name} → {}{}", to.id.0, if *full { " full" } else { "" })
                    })
                    .collect();
                self.note(format!("commit {}", names.join(", ")));
                let all = all
                    .into_iter()
                    .zip(durable)
                    .map(|((name, _, to), durable)| (name, to, durable))
                    .collect();
                self.model.committed(all);
                true
            }
            Err(error) => {
                self.note(format!("commit failed: {error}"));
                for (name, _, after) in all {
                    self.failed("committing", &name, &error);
                    self.model.uncertain(&name, after);
                }
                let _ = conn.execute_batch("ROLLBACK");
                false
            }
        }
    }

    /// One transaction over two databases.
    fn transfer(&mut self) {
        if PAIR.iter().any(|name| !self.model.has(name) || self.in_use(name)) {
            return;
        }
        let conn = match self.apps[0].transfer.take() {
            Some(conn) => conn,
            None => match self.open_transfer() {
                Ok(conn) => conn,
                Err(error) => return self.failed("attaching", PAIR[0], &error),
            },
        };
        let amount = self.random.below(1000) as i64;
        let begun = conn.execute_batch("BEGIN IMMEDIATE").and_then(|()| {
            let one = self.write(&conn, "main", PAIR[0], Some(amount))?;
            Ok((one, self.write(&conn, "other", PAIR[1], Some(-amount))?))
        });
        let kept = match begun {
            Ok((one, two)) => {
                let all = vec![(PAIR[0].to_owned(), "main", one), (PAIR[1].to_owned(), "other", two)];
                self.commit(&conn, all)
            }
            Err(error) => {
                self.failed("transferring", PAIR[0], &error);
                let _ = conn.execute_batch("ROLLBACK");
                false
            }
        };
        if kept {
            self.apps[0].transfer = Some(conn);
        }
    }

    fn open_transfer(&self) -> rusqlite::Result<Connection> {
        let conn = self.open(self.apps[0].process, PAIR[0], OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        conn.execute("ATTACH ?1 AS other", [self.file(PAIR[1]).to_string_lossy()])?;
        let level = if self.chance(40) { "FULL" } else { "NORMAL" };
        conn.execute_batch(&format!("PRAGMA main.synchronous={level}; PRAGMA other.synchronous={level}"))?;
        Ok(conn)
    }

    fn vacuum(&mut self, which: usize, name: &str) {
        if self.in_use(name) || !self.connect(which, name) {
            return;
        }
        self.note(format!("vacuum {name}"));
        let Some(conn) = self.apps[which].connections.get(name) else { return };
        // Without WAL mode SQLite removes the journal and then cuts the file. A disk that keeps the cut and loses the
        // removal leaves a journal without the pages that were cut off; only EXTRA syncs the directory in between.
        let vacuum = || -> rusqlite::Result<()> {
            let level: i64 = conn.query_row("PRAGMA synchronous", [], |row| row.get(0))?;
            conn.execute_batch("PRAGMA synchronous=EXTRA")?;
            let done = conn.execute_batch("VACUUM");
            conn.execute_batch(&format!("PRAGMA synchronous={level}"))?;
            done
        };
        if let Err(error) = vacuum() {
            self.failed("VACUUM", name, &error);
        }
    }

    fn checkpoint(&mut self, which: usize, name: &str) {
        if self.in_use(name) || !self.connect(which, name) {
            return;
        }
        let mode = ["PASSIVE", "FULL", "RESTART", "TRUNCATE"][self.random.below(4) as usize];
        self.note(format!("checkpoint {mode} {name}"));
        let Some(conn) = self.apps[which].connections.get(name) else { return };
        if let Err(error) = conn.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(())) {
            self.failed("a WAL checkpoint", name, &error);
        }
    }

    fn reopen(&mut self, which: usize, name: &str) {
        self.apps[which].open.take_if(|open| open.name == name);
        self.apps[which].connections.remove(name);
    }
}
