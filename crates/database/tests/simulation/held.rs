//! Transactions that applications leave open: reads that keep their snapshot, writes that wait for their commit.

use crate::app::{Apps, Open, is_wal};
use crate::content::{self, Content};
use rusqlite::{Connection, OpenFlags};

impl Apps {
    pub fn begin_read(&mut self, which: usize, name: &str) {
        if self.apps[which].reads.len() >= 2 {
            return;
        }
        let process = self.apps[which].process;
        let begin = || -> rusqlite::Result<(Connection, Option<Content>)> {
            let conn = self.open(process, name, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
            if is_wal(&conn)? {
                conn.execute_batch("BEGIN")?;
            }
            let content = content::read(&conn)?;
            Ok((conn, content))
        };
        match begin() {
            Ok((conn, content)) => {
                let found = content.as_ref().map(|content| content.id);
                self.model.saw(name, found).unwrap_or_else(|problem| panic!("{problem}"));
                if !conn.is_autocommit() {
                    self.apps[which].reads.push((name.to_owned(), conn, content));
                }
            }
            Err(error) => self.failed("reading", name, &error),
        }
    }

    pub fn end_read(&mut self, which: usize) {
        let Some((name, conn, was)) = self.apps[which].reads.pop() else { return };
        match content::read(&conn) {
            Ok(now) => assert!(now == was, "a read transaction of {name} did not keep its snapshot"),
            Err(error) => self.failed("reading again", &name, &error),
        }
    }

    pub fn leave_open(&mut self, which: usize, name: &str) {
        if self.apps[which].open.is_some() || self.in_use(name) || !self.connect(which, name) {
            return;
        }
        let Some(conn) = self.apps[which].connections.remove(name) else { return };
        let begun = is_wal(&conn).and_then(|wal| {
            if !wal {
                return Ok(None);
            }
            conn.execute_batch("BEGIN IMMEDIATE")?;
            self.write(&conn, "main", name, None).map(Some)
        });
        match begun {
            Ok(None) => {}
            Ok(Some(after)) => self.apps[which].open = Some(Open { name: name.to_owned(), after }),
            Err(error) => {
                self.failed("writing", name, &error);
                let _ = conn.execute_batch("ROLLBACK");
            }
        }
        self.apps[which].connections.insert(name.to_owned(), conn);
    }

    pub fn finish_open(&mut self, which: usize) {
        let Some(open) = self.apps[which].open.take() else { return };
        let Some(conn) = self.apps[which].connections.remove(&open.name) else { return };
        if conn.is_autocommit() {
            // An I/O error in it has rolled it back.
        } else if self.chance(70) {
            self.commit(&conn, vec![(open.name.clone(), "main", open.after)]);
        } else {
            let _ = conn.execute_batch("ROLLBACK");
        }
        self.apps[which].connections.insert(open.name, conn);
    }
}
