//! One database whose mark is let go: what happens to its log meanwhile is followed, or compared.

use super::path;
use base::sim::SimClock;
use base::{Epoch, Incarnation, LocalDisk, Txid};
use database::history::History;
use database::live::{Limits, Live, Place, Wake};
use database::machine::Machine;
use rusqlite::Connection;
use std::sync::Arc;
use std::time::Duration;

/// Frames at which the application's WAL checkpoint is expected.
const EXPECTED: u32 = 10;

struct World {
    dir: tempfile::TempDir,
    clock: SimClock,
    history: Arc<History>,
    app: Connection,
    live: Live,
    limits: Limits,
}

impl World {
    /// A database that is followed, whose application's log is about as long as is expected.
    fn with_log_let_go() -> World {
        World::new().let_go()
    }

    fn new() -> World {
        World::sealing_each(Duration::from_secs(3600))
    }

    fn sealing_each(sync_interval: Duration) -> World {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.db");
        let app = Connection::open(&file).unwrap();
        app.execute_batch("PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; CREATE TABLE t(x)").unwrap();
        let clock = SimClock::default();
        let machine = Machine { clock: Arc::new(clock.clone()), ..Machine::real() };
        let history = History::open(Arc::new(LocalDisk), dir.path().join("ltx"), None).unwrap();
        let history = Arc::new(history);
        let place =
            Place { path: path("a.db"), file, incarnation: Incarnation(1), state: dir.path().join("state") };
        let limits =
            Limits { sync_interval, wal_limit_bytes: 1 << 30, checkpoint_frames: EXPECTED, epoch: Epoch(1) };
        let mut live = Live::join(place, Arc::clone(&history), machine, limits).unwrap().live;
        live.seal_difference().unwrap();
        World { dir, clock, history, app, live, limits }
    }

    fn machine(&self) -> Machine {
        Machine { clock: Arc::new(self.clock.clone()), ..Machine::real() }
    }

    /// Until the log is about as long as is expected.
    fn let_go(mut self) -> World {
        for _ in 0..8 {
            self.insert(1);
            self.look(Duration::from_millis(2));
        }
        self
    }

    fn insert(&self, rows: u32) {
        for _ in 0..rows {
            self.app.execute("INSERT INTO t VALUES(hex(randomblob(20)))", []).unwrap();
        }
    }

    fn look(&mut self, after: Duration) -> Wake {
        self.clock.advance(after);
        self.live.service().unwrap()
    }

    /// The application's own WAL checkpoint; `true`: the next commit starts the log over.
    fn checkpoint(&self) -> bool {
        let (log, done): (i64, i64) = self
            .app
            .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| Ok((row.get(1)?, row.get(2)?)))
            .unwrap();
        log == done
    }

    /// The application's WAL checkpoint, and a commit that starts the log over.
    fn start_over(&self) {
        assert!(self.checkpoint(), "no mark is in the way");
        self.insert(1);
    }

    fn salts(&self) -> Vec<u8> {
        self.log()[16..24].to_vec()
    }

    fn log(&self) -> Vec<u8> {
        std::fs::read(self.dir.path().join("a.db-wal")).unwrap()
    }

    fn rows(conn: &Connection) -> Vec<String> {
        let mut all = conn.prepare("SELECT x FROM t ORDER BY rowid").unwrap();
        all.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    /// Seals to the end: history then holds what the application wrote.
    fn verify(&mut self) {
        let end = self.live.index().unwrap().end;
        if !self.live.seal_to(end).unwrap() {
            self.live.seal_difference().unwrap();
        }
        let out = self.dir.path().join("out.db");
        let file = base::Disk::open(&LocalDisk, &out, base::Open::Create { private: false }).unwrap();
        self.history.image(self.live.position().txid, &*file, &mut |_, _| {}).unwrap();
        assert!(World::pages(&Connection::open(out).unwrap()) == World::pages(&self.app));
    }

    fn pages(conn: &Connection) -> Vec<Vec<u8>> {
        let mut all = conn.prepare("SELECT data FROM sqlite_dbpage ORDER BY pgno").unwrap();
        all.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    /// Stead is killed, and joins again.
    fn join_again(&mut self) {
        let (machine, limits, place) = (self.machine(), self.limits, self.live.place().clone());
        self.live = Live::join(place, Arc::clone(&self.history), machine, limits).unwrap().live;
    }
}

// semantics: wal-bounded
#[test]
fn a_log_that_is_expected_to_start_over_is_let_go_and_followed_into_the_next() {
    let mut world = World::with_log_let_go();
    for round in 0..20 {
        let before = world.salts();
        // Nobody looks before the log has started over.
        world.insert(2);
        assert!(world.checkpoint(), "round {round}: no mark is in the way");
        world.insert(3);
        assert_ne!(world.salts(), before);
        world.look(Duration::from_millis(1));
        assert_eq!(world.live.difference_due(), None, "round {round}");
        assert!(world.checkpoint());
        let before = world.salts();
        world.insert(1);
        assert_eq!(world.salts(), before, "round {round}: the new log is marked");
        for _ in 0..8 {
            world.insert(1);
            world.look(Duration::from_millis(2));
        }
    }
    assert_eq!(world.live.position().txid, Txid(1), "nothing needed to be sealed meanwhile");
    world.verify();
    assert_eq!(world.live.position().txid, Txid(2));
}

#[test]
fn commits_that_the_new_log_has_grown_over_are_found_by_page_diff() {
    let mut world = World::with_log_let_go();
    world.insert(2);
    assert!(world.checkpoint());
    world.insert(40);
    world.look(Duration::from_millis(1));
    assert!(world.live.difference_due().unwrap().contains("before all of it was read"));
    world.verify();
}

#[test]
fn a_log_that_started_over_twice_is_found_by_page_diff() {
    let mut world = World::with_log_let_go();
    world.insert(1);
    world.start_over();
    world.start_over();
    world.look(Duration::from_millis(1));
    assert!(world.live.difference_due().is_some());
    world.verify();
}

/// Nothing of the old log is left to be read, and what the log between held cannot be read any more: only the count tells.
#[test]
fn a_log_of_which_nothing_is_left_is_missed() {
    let mut world = World::with_log_let_go();
    world.start_over();
    world.start_over();
    world.look(Duration::from_millis(1));
    assert!(world.live.difference_due().is_some());
    world.verify();
}

#[test]
fn what_was_missed_is_found_by_the_next_start_too() {
    let mut world = World::sealing_each(Duration::ZERO).let_go();
    world.start_over();
    world.start_over();
    world.look(Duration::from_millis(1));
    assert!(world.live.difference_due().is_some());
    world.join_again();
    world.verify();
}

#[test]
fn a_log_that_was_followed_into_the_next_is_followed_by_the_next_start_too() {
    let mut world = World::sealing_each(Duration::ZERO).let_go();
    world.start_over();
    world.look(Duration::from_millis(1));
    assert_eq!(world.live.difference_due(), None);
    world.join_again();
    assert_eq!(world.live.difference_due(), None);
    world.verify();
}

#[test]
fn what_is_too_much_to_be_kept_is_read_under_a_mark() {
    let mut world = World::with_log_let_go();
    let before = world.salts();
    world.app.execute_batch("CREATE TABLE big AS SELECT randomblob(20000000) AS x").unwrap();
    world.look(Duration::from_millis(1));
    assert_eq!(world.live.difference_due(), None);
    world.checkpoint();
    world.insert(1);
    assert_eq!(world.salts(), before, "it is marked");
    world.verify();
    assert_eq!(world.live.position().txid, Txid(2));
}

/// The index that a dying writer left half-written is rebuilt, and SQLite's counter begins anew.
#[test]
fn a_counter_that_began_anew_proves_nothing() {
    let mut world = World::with_log_let_go();
    world.insert(1);
    let mut index = std::fs::read(world.dir.path().join("a.db-shm")).unwrap();
    index[8..12].fill(0xff);
    std::fs::write(world.dir.path().join("a.db-shm"), index).unwrap();
    world.start_over();
    world.look(Duration::from_millis(1));
    assert!(world.live.difference_due().is_some());
    world.verify();
}

#[test]
fn frames_that_were_never_committed_are_not_taken_for_a_transaction() {
    let mut world = World::with_log_let_go();
    world.app.execute_batch("PRAGMA cache_size=2; BEGIN").unwrap();
    let before = world.log().len();
    world.app.execute_batch("CREATE TABLE big AS SELECT randomblob(100000) AS x; ROLLBACK").unwrap();
    assert!(world.log().len() > before, "pages were spilled");
    world.start_over();
    world.look(Duration::from_millis(1));
    assert_eq!(world.live.difference_due(), None);
    world.verify();
}

/// As where the disk fails as a commit is synced: its frames are in the log, whole, and it did not take place.
#[test]
fn a_transaction_whose_frames_are_there_but_that_did_not_take_place_is_noticed() {
    let mut world = World::with_log_let_go();
    let index = std::fs::read(world.dir.path().join("a.db-shm")).unwrap();
    world.insert(1);
    std::fs::write(world.dir.path().join("a.db-shm"), index).unwrap();
    let lost = World::rows(&world.app).len();
    world.start_over();
    assert_eq!(World::rows(&world.app).len(), lost + 1);
    world.look(Duration::from_millis(1));
    assert!(world.live.difference_due().is_some());
    world.verify();
}

#[test]
fn a_log_that_nobody_starts_over_is_marked_again_and_left_alone_for_a_while() {
    let mut world = World::with_log_let_go();
    world.insert(20);
    world.look(Duration::from_millis(5));
    let before = world.salts();
    for _ in 0..20 {
        world.insert(1);
        world.look(Duration::from_millis(2));
        world.checkpoint();
    }
    assert_eq!(world.salts(), before, "it is marked");
    for _ in 0..120 {
        world.insert(1);
        world.look(Duration::from_millis(10));
        world.checkpoint();
    }
    assert_ne!(world.salts(), before, "it was let go again");
    world.verify();
}

#[test]
fn a_writer_that_pauses_finds_its_log_marked_and_let_go_when_it_goes_on() {
    let mut world = World::with_log_let_go();
    world.look(Duration::from_millis(300));
    let before = world.salts();
    world.start_over();
    assert_eq!(world.salts(), before, "it is marked");
    world.look(Duration::from_millis(5));
    world.insert(1);
    world.look(Duration::from_millis(5));
    world.start_over();
    assert_ne!(world.salts(), before, "it was let go at once");
    world.look(Duration::from_millis(1));
    assert_eq!(world.live.difference_due(), None);
    world.verify();
}

#[test]
fn whatever_else_is_asked_of_a_database_marks_its_log_first() {
    let asked: [fn(&mut Live); 4] = [
        |live| drop(database::live::sealed_reader(live).unwrap()),
        |live| assert!(live.index().is_some()),
        |live| {
            assert!(live.lock().unwrap());
            live.unlock();
        },
        |live| assert!(live.seal_difference().is_ok()),
    ];
    for ask in asked {
        let mut world = World::with_log_let_go();
        let before = world.salts();
        ask(&mut world.live);
        world.insert(1);
        world.checkpoint();
        world.insert(1);
        assert_eq!(world.salts(), before, "it is marked");
        world.verify();
    }
}
